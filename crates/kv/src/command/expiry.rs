//! Commands and options about when keys go. What Redis refuses for the numbers alone is refused here;
//! the service takes every number.

use super::Refusal;
use crate::expiry::{ExpiryCondition, ExpiryForm, Lifetime, Moment, TIME_MAX_MS};
use crate::integer;
use crate::operation::{Answer, Condition, Operation};
use crate::resp::Arguments;

type Built<'a> = Result<Operation<'a>, Refusal>;

/// The client's unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// From when it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Now,
    Epoch,
}

/// EX, PX, EXAT, PXAT.
type Clock = (Unit, Origin);

const EX: Clock = (Unit::Seconds, Origin::Now);
const PX: Clock = (Unit::Milliseconds, Origin::Now);
const EXAT: Clock = (Unit::Seconds, Origin::Epoch);
const PXAT: Clock = (Unit::Milliseconds, Origin::Epoch);

/// The moment of `amount` on a clock. Which relative ones are beyond all range must not depend on
/// decided time here: the latest there can be counts.
fn moment(clock: Clock, amount: i64, command: &str) -> Result<Moment, Refusal> {
    let factor = if clock.0 == Unit::Seconds { 1000 } else { 1 };
    let ms = amount.checked_mul(factor).ok_or_else(|| Refusal::invalid_expiry(command))?;
    match clock.1 {
        Origin::Epoch => Ok(Moment::At(ms)),
        Origin::Now if ms <= i64::MAX - TIME_MAX_MS => Ok(Moment::After(ms)),
        Origin::Now => Err(Refusal::invalid_expiry(command)),
    }
}

/// The same where only a positive amount makes sense.
fn positive_moment(clock: Clock, amount: &[u8], command: &str) -> Result<Moment, Refusal> {
    let amount = integer::parse(amount).ok_or_else(Refusal::not_an_integer)?;
    if amount <= 0 {
        return Err(Refusal::invalid_expiry(command));
    }
    moment(clock, amount, command)
}

/// The options of SET and GETEX that are about the expiry: one kind of them at most.
#[derive(Debug, Default)]
pub(super) struct Options<'a> {
    without_amount: Option<Lifetime>,
    amount: Option<(Clock, &'a [u8])>,
}

impl<'a> Options<'a> {
    /// KEEPTTL.
    pub(super) fn take_unchanged(&mut self) -> Result<(), Refusal> {
        self.take_without_amount(Lifetime::Unchanged)
    }

    fn take_without_amount(&mut self, lifetime: Lifetime) -> Result<(), Refusal> {
        if self.amount.is_some() {
            return Err(Refusal::syntax());
        }
        self.without_amount = Some(lifetime);
        Ok(())
    }

    /// The option `name`, in upper case, whose amount is the next of `options`. As in Redis, the same
    /// option may come again, and the last one counts.
    pub(super) fn take(
        &mut self,
        name: &[u8],
        options: &mut impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Refusal> {
        let clock = match name {
            b"EX" => EX,
            b"PX" => PX,
            b"EXAT" => EXAT,
            b"PXAT" => PXAT,
            _ => return Err(Refusal::syntax()),
        };
        if self.without_amount.is_some() || self.amount.is_some_and(|(other, _)| other != clock) {
            return Err(Refusal::syntax());
        }
        self.amount = Some((clock, options.next().ok_or_else(Refusal::syntax)?));
        Ok(())
    }

    /// What they say together; `otherwise` if there are none.
    pub(super) fn finish(self, command: &str, otherwise: Lifetime) -> Result<Lifetime, Refusal> {
        match self.amount {
            Some((clock, amount)) => positive_moment(clock, amount, command).map(Lifetime::Until),
            None => Ok(self.without_amount.unwrap_or(otherwise)),
        }
    }
}

pub(super) fn getex(arguments: Arguments<'_>) -> Built<'_> {
    let mut lifetime = Options::default();
    let mut options = arguments.from(2);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"PERSIST" => lifetime.take_without_amount(Lifetime::Endless)?,
            name => lifetime.take(name, &mut options)?,
        }
    }
    let lifetime = lifetime.finish("getex", Lifetime::Unchanged)?;
    Ok(Operation::GetAndExpire { key: arguments.at(1), lifetime })
}

pub(super) fn setex(arguments: Arguments<'_>) -> Built<'_> {
    set_for(arguments, EX, "setex")
}

pub(super) fn psetex(arguments: Arguments<'_>) -> Built<'_> {
    set_for(arguments, PX, "psetex")
}

fn set_for<'a>(arguments: Arguments<'a>, clock: Clock, command: &str) -> Built<'a> {
    let lifetime = Lifetime::Until(positive_moment(clock, arguments.at(2), command)?);
    let (key, value, condition) = (arguments.at(1), arguments.at(3), Condition::Always);
    Ok(Operation::Set { key, value, condition, answer: Answer::Done, lifetime })
}

pub(super) fn expire(arguments: Arguments<'_>) -> Built<'_> {
    expire_on(arguments, EX, "expire")
}

pub(super) fn pexpire(arguments: Arguments<'_>) -> Built<'_> {
    expire_on(arguments, PX, "pexpire")
}

pub(super) fn expireat(arguments: Arguments<'_>) -> Built<'_> {
    expire_on(arguments, EXAT, "expireat")
}

pub(super) fn pexpireat(arguments: Arguments<'_>) -> Built<'_> {
    expire_on(arguments, PXAT, "pexpireat")
}

/// An amount below zero is taken: it removes the key.
fn expire_on<'a>(arguments: Arguments<'a>, clock: Clock, command: &str) -> Built<'a> {
    let condition = condition(arguments)?;
    let amount = integer::parse(arguments.at(2)).ok_or_else(Refusal::not_an_integer)?;
    let until = moment(clock, amount, command)?;
    Ok(Operation::Expire { key: arguments.at(1), until, condition })
}

fn condition(arguments: Arguments<'_>) -> Result<ExpiryCondition, Refusal> {
    let (mut absent, mut present, mut later, mut earlier) = (false, false, false, false);
    for option in arguments.from(3) {
        match option.to_ascii_uppercase().as_slice() {
            b"NX" => absent = true,
            b"XX" => present = true,
            b"GT" => later = true,
            b"LT" => earlier = true,
            _ => return Err(Refusal::unsupported_option(option)),
        }
    }
    if absent && (present || later || earlier) {
        return Err(Refusal::new(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if later && earlier {
        return Err(Refusal::new("ERR GT and LT options at the same time are not compatible"));
    }
    Ok(match (present, earlier) {
        _ if absent => ExpiryCondition::Absent,
        // A key without an expiry has one that nothing is later than: present or not, it fails.
        _ if later => ExpiryCondition::Later,
        (true, true) => ExpiryCondition::PresentAndEarlier,
        (true, false) => ExpiryCondition::Present,
        (false, true) => ExpiryCondition::Earlier,
        (false, false) => ExpiryCondition::Always,
    })
}

pub(super) fn ttl(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Expiry { key: arguments.at(1), form: ExpiryForm::SecondsLeft })
}

pub(super) fn pttl(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Expiry { key: arguments.at(1), form: ExpiryForm::MillisecondsLeft })
}

pub(super) fn expiretime(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Expiry { key: arguments.at(1), form: ExpiryForm::Second })
}

pub(super) fn pexpiretime(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Expiry { key: arguments.at(1), form: ExpiryForm::Millisecond })
}

pub(super) fn persist(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Persist { key: arguments.at(1) })
}
