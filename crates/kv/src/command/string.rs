//! Commands about values that are strings: from arguments to an operation.

use super::{Refusal, expiry};
use crate::expiry::Lifetime;
use crate::float::Float;
use crate::integer;
use crate::operation::{Answer, Condition, Operation, Pair};
use crate::resp::Arguments;

type Built<'a> = Result<Operation<'a>, Refusal>;

pub(super) fn get(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Get { key: arguments.at(1) })
}

pub(super) fn strlen(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Length { key: arguments.at(1) })
}

pub(super) fn append(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Append { key: arguments.at(1), value: arguments.at(2) })
}

pub(super) fn mget(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::GetMany { keys: arguments.from(1).collect() })
}

pub(super) fn mset(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::SetMany { pairs: pairs(arguments, "mset")? })
}

pub(super) fn msetnx(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::SetManyAbsent { pairs: pairs(arguments, "msetnx")? })
}

fn pairs<'a>(arguments: Arguments<'a>, command: &str) -> Result<Vec<Pair<'a>>, Refusal> {
    if arguments.len().is_multiple_of(2) {
        return Err(Refusal::new(format_args!(
            "ERR wrong number of arguments for '{command}' command"
        )));
    }
    Ok(arguments.from(1).step_by(2).zip(arguments.from(2).step_by(2)).collect())
}

pub(super) fn setnx(arguments: Arguments<'_>) -> Built<'_> {
    let (key, value, condition) = (arguments.at(1), arguments.at(2), Condition::Absent);
    let (answer, lifetime) = (Answer::Number, Lifetime::Endless);
    Ok(Operation::Set { key, value, condition, answer, lifetime })
}

pub(super) fn getrange(arguments: Arguments<'_>) -> Built<'_> {
    let [first, last] = [2, 3].map(|at| integer::parse(arguments.at(at)));
    let first = first.ok_or_else(Refusal::not_an_integer)?;
    let last = last.ok_or_else(Refusal::not_an_integer)?;
    Ok(Operation::GetRange { key: arguments.at(1), first, last })
}

pub(super) fn setrange(arguments: Arguments<'_>) -> Built<'_> {
    let offset = integer::parse(arguments.at(2)).ok_or_else(Refusal::not_an_integer)?;
    let offset = u64::try_from(offset).map_err(|_| Refusal::new("ERR offset is out of range"))?;
    Ok(Operation::SetRange { key: arguments.at(1), offset, value: arguments.at(3) })
}

pub(super) fn incrbyfloat(arguments: Arguments<'_>) -> Built<'_> {
    let summand = arguments.at(2);
    if Float::parse(summand).is_none() {
        return Err(Refusal::new("ERR value is not a valid float"));
    }
    Ok(Operation::AddFloat { key: arguments.at(1), summand })
}

pub(super) fn set(arguments: Arguments<'_>) -> Built<'_> {
    let (mut condition, mut answer) = (Condition::Always, Answer::Done);
    let mut lifetime = expiry::Options::default();
    let mut options = arguments.from(3);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"NX" if condition != Condition::Present => condition = Condition::Absent,
            b"XX" if condition != Condition::Absent => condition = Condition::Present,
            b"GET" => answer = Answer::Previous,
            b"KEEPTTL" => lifetime.take_unchanged()?,
            name => lifetime.take(name, &mut options)?,
        }
    }
    let lifetime = lifetime.finish("set", Lifetime::Endless)?;
    let (key, value) = (arguments.at(1), arguments.at(2));
    Ok(Operation::Set { key, value, condition, answer, lifetime })
}

pub(super) fn getset(arguments: Arguments<'_>) -> Built<'_> {
    let (key, value, condition) = (arguments.at(1), arguments.at(2), Condition::Always);
    let (answer, lifetime) = (Answer::Previous, Lifetime::Endless);
    Ok(Operation::Set { key, value, condition, answer, lifetime })
}

pub(super) fn getdel(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::GetAndDelete { key: arguments.at(1) })
}

pub(super) fn incr(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Add { key: arguments.at(1), summand: 1 })
}

pub(super) fn decr(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Add { key: arguments.at(1), summand: -1 })
}

pub(super) fn incrby(arguments: Arguments<'_>) -> Built<'_> {
    let summand = integer::parse(arguments.at(2)).ok_or_else(Refusal::not_an_integer)?;
    Ok(Operation::Add { key: arguments.at(1), summand })
}

pub(super) fn decrby(arguments: Arguments<'_>) -> Built<'_> {
    let amount = integer::parse(arguments.at(2)).ok_or_else(Refusal::not_an_integer)?;
    let summand =
        amount.checked_neg().ok_or_else(|| Refusal::new("ERR decrement would overflow"))?;
    Ok(Operation::Add { key: arguments.at(1), summand })
}
