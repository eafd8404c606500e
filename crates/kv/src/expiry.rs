//! When keys go.
//!
//! Everything is in whole milliseconds since 1970, as Redis has it, and by decided time alone: a key
//! with an expiry of `e` is there while decided time is within millisecond `e` or before it, and gone
//! from the next one on. Clients ask for relative times, too; they are made absolute when the request
//! is applied, from the decided time of its slot, so every replica comes to the same.

use std::num::NonZeroU64;

use mainstay_model::Timestamp;
use mainstay_model::codec::{DecodeError, Put};

use crate::fields::Fields;

const NANOS_PER_MS: u64 = 1_000_000;
/// The last millisecond that decided time can reach.
pub(crate) const TIME_MAX_MS: i64 = (u64::MAX / NANOS_PER_MS) as i64;

/// The millisecond in which decided time is.
pub(crate) const fn milliseconds(time: Timestamp) -> i64 {
    (time.0 / NANOS_PER_MS) as i64
}

/// The last millisecond in which a key is there; at most `i64::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Expiry(NonZeroU64);

impl Expiry {
    /// `None` for what is no time after 1970 began, or is beyond `i64::MAX`.
    pub(crate) fn from_ms(ms: u64) -> Option<Self> {
        i64::try_from(ms).ok()?;
        NonZeroU64::new(ms).map(Self)
    }

    pub(crate) const fn ms(self) -> u64 {
        self.0.get()
    }

    /// Whether a key that had it is gone in the millisecond `now`.
    pub(crate) const fn is_past(self, now: i64) -> bool {
        (self.0.get() as i64) < now
    }

    /// The first moment without the key; `None` if decided time cannot get there.
    pub(crate) fn gone_at(self) -> Option<Timestamp> {
        Some(Timestamp((self.0.get() + 1).checked_mul(NANOS_PER_MS)?))
    }
}

/// A moment that a client names, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long after the decided time at which the request is applied.
    After(i64),
    /// Since 1970.
    At(i64),
}

impl Moment {
    /// As milliseconds since 1970, when asked for in the millisecond `now`; saturates.
    pub(crate) const fn ms(self, now: i64) -> i64 {
        match self {
            Self::After(ms) => now.saturating_add(ms),
            Self::At(ms) => ms,
        }
    }
}

/// What becomes of a key's expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// It has none from now on.
    #[default]
    Endless,
    /// It stays as it is.
    Unchanged,
    /// It is this moment.
    Until(Moment),
}

/// When an expiry is set. A key without one counts as one that never expires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiryCondition {
    /// In any case.
    #[default]
    Always,
    /// Only if the key has none.
    Absent,
    /// Only if the key has one.
    Present,
    /// Only if it becomes later.
    Later,
    /// Only if it becomes earlier.
    Earlier,
    /// Only if the key has one and it becomes earlier.
    PresentAndEarlier,
}

impl ExpiryCondition {
    /// Whether an expiry of `new` may replace the `old` one.
    pub(crate) fn is_met(self, old: Option<Expiry>, new: i64) -> bool {
        let old = old.map(|expiry| expiry.ms() as i64);
        match self {
            Self::Always => true,
            Self::Absent => old.is_none(),
            Self::Present => old.is_some(),
            Self::Later => old.is_some_and(|old| new > old),
            Self::Earlier => old.is_none_or(|old| new < old),
            Self::PresentAndEarlier => old.is_some_and(|old| new < old),
        }
    }
}

/// How an expiry is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpiryForm {
    /// How many seconds are left, rounded.
    SecondsLeft,
    /// How many milliseconds are left.
    MillisecondsLeft,
    /// In seconds since 1970, rounded.
    Second,
    /// In milliseconds since 1970.
    Millisecond,
}

impl ExpiryForm {
    /// The number to answer with in the millisecond `now`.
    pub(crate) fn of(self, expiry: Expiry, now: i64) -> i64 {
        let at = expiry.ms() as i64;
        match self {
            Self::SecondsLeft => rounded_seconds((at - now).max(0)),
            Self::MillisecondsLeft => (at - now).max(0),
            Self::Second => rounded_seconds(at),
            Self::Millisecond => at,
        }
    }
}

const fn rounded_seconds(ms: i64) -> i64 {
    ms / 1000 + (ms % 1000 >= 500) as i64
}

const ENDLESS: u8 = 0;
const UNCHANGED: u8 = 1;
const AFTER: u8 = 2;
const AT: u8 = 3;

impl Lifetime {
    /// How many bytes its encoding has at most.
    pub(crate) const ENCODED_LEN_MAX: usize = 9;

    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::Endless => out.put_u8(ENDLESS),
            Self::Unchanged => out.put_u8(UNCHANGED),
            Self::Until(moment) => moment.encode(out),
        }
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        match fields.u8()? {
            ENDLESS => Ok(Self::Endless),
            UNCHANGED => Ok(Self::Unchanged),
            kind => Moment::read_kind(kind, fields).map(Self::Until),
        }
    }
}

impl Moment {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        let (kind, ms) = match self {
            Self::After(ms) => (AFTER, ms),
            Self::At(ms) => (AT, ms),
        };
        out.put_u8(kind);
        out.put(&ms.to_le_bytes());
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let kind = fields.u8()?;
        Self::read_kind(kind, fields)
    }

    fn read_kind(kind: u8, fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        match kind {
            AFTER => Ok(Self::After(fields.i64()?)),
            AT => Ok(Self::At(fields.i64()?)),
            _ => Err(DecodeError::BadValue("kind of moment")),
        }
    }
}

impl ExpiryCondition {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(match fields.u8()? {
            0 => Self::Always,
            1 => Self::Absent,
            2 => Self::Present,
            3 => Self::Later,
            4 => Self::Earlier,
            5 => Self::PresentAndEarlier,
            _ => return Err(DecodeError::BadValue("condition on the expiry")),
        })
    }
}

impl ExpiryForm {
    pub(crate) fn read(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(match fields.u8()? {
            0 => Self::SecondsLeft,
            1 => Self::MillisecondsLeft,
            2 => Self::Second,
            3 => Self::Millisecond,
            _ => return Err(DecodeError::BadValue("form of the expiry")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_there_through_the_millisecond_of_its_expiry() {
        let expiry = Expiry::from_ms(5).expect("is a time");
        assert_eq!(expiry.gone_at(), Some(Timestamp(6_000_000)));
        let is_past = |nanos| expiry.is_past(milliseconds(Timestamp(nanos)));
        assert!(!is_past(5_000_000) && !is_past(5_999_999) && is_past(6_000_000));
    }

    #[test]
    fn the_ends_of_the_range_do_not_overflow() {
        assert_eq!((Expiry::from_ms(0), Expiry::from_ms(1 << 63)), (None, None));
        let last = Expiry::from_ms(i64::MAX as u64).expect("is a time");
        assert_eq!(last.gone_at(), None);
        assert!(!last.is_past(TIME_MAX_MS));
        assert_eq!(ExpiryForm::Second.of(last, 0), i64::MAX / 1000 + 1);
        assert_eq!(ExpiryForm::SecondsLeft.of(last, TIME_MAX_MS), (i64::MAX - TIME_MAX_MS) / 1000);
        let latest = Expiry::from_ms(TIME_MAX_MS as u64 - 1).expect("is a time");
        assert_eq!(latest.gone_at(), Some(Timestamp(TIME_MAX_MS as u64 * 1_000_000)));
        assert_eq!(Moment::After(i64::MAX).ms(1), i64::MAX);
        assert_eq!(Moment::After(i64::MIN).ms(1), i64::MIN + 1);
    }

    #[test]
    fn what_is_told_is_rounded_as_redis_rounds_it() {
        let expiry = Expiry::from_ms(10_500).expect("is a time");
        for (now, seconds, ms) in [(0, 11, 10_500), (1, 10, 10_499), (10_500, 0, 0), (11_000, 0, 0)]
        {
            assert_eq!(ExpiryForm::SecondsLeft.of(expiry, now), seconds);
            assert_eq!(ExpiryForm::MillisecondsLeft.of(expiry, now), ms);
            assert_eq!(ExpiryForm::Second.of(expiry, now), 11);
            assert_eq!(ExpiryForm::Millisecond.of(expiry, now), 10_500);
        }
    }
}
