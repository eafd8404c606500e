//! The leader's clock for the group.
//!
//! Time is decided: every batch carries the leader's, and the time at a slot is the larger of the
//! batch's and the one before. The leader's clock runs with its monotonic clock, slewed by at most a
//! tenth towards the lower median of the replicas' calendar clocks; it never stops and never goes
//! back. Only when an office is taken may it jump, forward, to the lower median of the clocks of those
//! who promised; a jump above a bound is not made, and `status` says so.

use alloc::vec::Vec;
use core::time::Duration;

use mainstay_model::{Instant, Now, Timestamp, time::nanos};

/// By at most one part in so many the clock runs faster or slower than the monotonic one.
const SLEW: u64 = 10;

/// A clock that runs from a decided time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DecidedClock {
    time: Timestamp,
    at: Instant,
    /// The jump that taking the office asked for and that was above the bound.
    refused: Option<Duration>,
    /// An operator confirmed a jump.
    confirmed: bool,
}

/// A calendar clock of a replica, as read when its message came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reading {
    pub(crate) wall: Timestamp,
    pub(crate) at: Instant,
}

impl Reading {
    /// What that clock shows now, if it runs evenly.
    fn shows(&self, now: Instant) -> Timestamp {
        Timestamp(self.wall.0.saturating_add(nanos(now.since(self.at))))
    }
}

/// The lower median of what the clocks show: of two, the earlier.
pub(crate) fn lower_median(readings: impl Iterator<Item = Reading>, now: Instant) -> Timestamp {
    let mut shown: Vec<Timestamp> = readings.map(|reading| reading.shows(now)).collect();
    shown.sort_unstable();
    let middle = shown.len().saturating_sub(1) / 2;
    shown.get(middle).copied().unwrap_or_default()
}

impl DecidedClock {
    /// A clock that takes over from `last`, the highest time that may be decided, where the clocks of
    /// those who promised show `median`.
    pub(crate) fn take_over(
        last: Timestamp,
        median: Timestamp,
        now: Instant,
        jump_max: Duration,
    ) -> Self {
        let jump = Duration::from_nanos(median.0.saturating_sub(last.0));
        // From nothing to the first time is no jump.
        let allowed = last == Timestamp(0) || jump <= jump_max;
        let time = if allowed { last.max(median) } else { last };
        Self { time, at: now, refused: (!allowed).then_some(jump), confirmed: false }
    }

    /// Runs on to `now`, slewed towards `median`, and says what time it is. Never below `floor`, the
    /// highest time that was proposed.
    pub(crate) fn read(&mut self, now: Now, median: Timestamp, floor: Timestamp) -> Timestamp {
        let elapsed = nanos(now.monotonic.since(self.at));
        let due = self.time.0.saturating_add(elapsed);
        let slew = elapsed / SLEW;
        let time = if self.refused.is_some() {
            due
        } else {
            median.0.clamp(due - slew.min(due), due.saturating_add(slew))
        };
        self.at = self.at.max(now.monotonic);
        self.time = Timestamp(time.max(self.time.0)).max(floor);
        self.time
    }

    /// The operator confirms the jump that was refused: it is made now, forward to `median`. False if
    /// none was refused, nor confirmed before.
    pub(crate) fn confirm(&mut self, median: Timestamp) -> bool {
        if self.refused.take().is_some() {
            self.time = self.time.max(median);
            self.confirmed = true;
        }
        self.confirmed
    }

    /// The jump that was not made, if one was asked for.
    pub(crate) fn refused(&self) -> Option<Duration> {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn now(seconds: u64) -> Now {
        Now { monotonic: Instant(seconds * S), wall: Timestamp(0) }
    }

    fn reading(wall: u64) -> Reading {
        Reading { wall: Timestamp(wall), at: Instant(0) }
    }

    #[test]
    fn of_two_clocks_the_earlier_counts_and_of_three_the_middle_one() {
        let median = |walls: &[u64]| lower_median(walls.iter().map(|w| reading(*w)), Instant(0));
        assert_eq!(median(&[7, 5]), Timestamp(5));
        assert_eq!(median(&[9, 1, 5]), Timestamp(5));
        assert_eq!(median(&[4, 3, 2, 1]), Timestamp(2));
        assert_eq!(median(&[]), Timestamp(0));
    }

    #[test]
    fn taking_over_jumps_forward_only_and_not_too_far() {
        let hour = Duration::from_secs(3600);
        let take = |last, median| {
            DecidedClock::take_over(Timestamp(last * S), Timestamp(median * S), Instant(0), hour)
        };
        assert_eq!(take(100, 200).time, Timestamp(200 * S));
        assert_eq!(take(200, 100).time, Timestamp(200 * S));
        assert_eq!(take(0, 1_000_000).time, Timestamp(1_000_000 * S), "the first time of all");
        let far = take(100, 100 + 3601);
        assert_eq!(far.time, Timestamp(100 * S));
        assert_eq!(far.refused(), Some(Duration::from_secs(3601)));
    }

    #[test]
    fn a_refused_jump_is_made_once_an_operator_confirms_it() {
        let (last, median) = (Timestamp(100 * S), Timestamp(9_000 * S));
        let mut clock = DecidedClock::take_over(last, median, Instant(0), Duration::from_secs(60));
        assert_eq!(clock.read(now(10), median, Timestamp(0)), Timestamp(110 * S), "runs evenly");
        assert!(clock.confirm(Timestamp(9_010 * S)));
        assert_eq!(clock.refused(), None);
        assert_eq!(clock.read(now(10), median, Timestamp(0)), Timestamp(9_010 * S));
        assert!(clock.confirm(Timestamp(20_000 * S)), "told a second time");
        assert_eq!(clock.read(now(10), median, Timestamp(0)), Timestamp(9_010 * S), "jumps once");
        let mut calm = DecidedClock::take_over(last, last, Instant(0), Duration::from_secs(60));
        assert!(!calm.confirm(median), "nothing was refused");
        assert_eq!(calm.read(now(0), last, Timestamp(0)), last);
    }

    #[test]
    fn it_is_slewed_by_a_tenth_at_most_and_never_stops_or_goes_back() {
        let mut clock = DecidedClock::take_over(
            Timestamp(1_000 * S),
            Timestamp(1_000 * S),
            Instant(0),
            Duration::ZERO,
        );
        let ahead = clock.read(now(10), Timestamp(5_000 * S), Timestamp(0));
        assert_eq!(ahead, Timestamp(1_011 * S));
        let behind = clock.read(now(20), Timestamp(0), Timestamp(0));
        assert_eq!(behind, Timestamp(1_020 * S));
        let near = clock.read(now(30), Timestamp(1_030 * S + S / 2), Timestamp(0));
        assert_eq!(near, Timestamp(1_030 * S + S / 2));
        let floor = clock.read(now(30), Timestamp(0), Timestamp(2_000 * S));
        assert_eq!(floor, Timestamp(2_000 * S));
    }
}
