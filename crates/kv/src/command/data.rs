//! Commands for the service: from arguments to an operation.

use super::{Refusal, expiry};
use crate::expiry::Lifetime;
use crate::integer;
use crate::operation::{Condition, Operation};
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

pub(super) fn del(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Delete { keys: arguments.from(1).collect() })
}

pub(super) fn exists(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Exists { keys: arguments.from(1).collect() })
}

pub(super) fn mget(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::GetMany { keys: arguments.from(1).collect() })
}

pub(super) fn dbsize(_: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Count)
}

pub(super) fn mset(arguments: Arguments<'_>) -> Built<'_> {
    if arguments.len().is_multiple_of(2) {
        return Err(Refusal::new("ERR wrong number of arguments for 'mset' command"));
    }
    let keys = arguments.from(1).step_by(2);
    Ok(Operation::SetMany { pairs: keys.zip(arguments.from(2).step_by(2)).collect() })
}

pub(super) fn set(arguments: Arguments<'_>) -> Built<'_> {
    let (mut condition, mut previous) = (Condition::Always, false);
    let mut lifetime = expiry::Options::default();
    let mut options = arguments.from(3);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"NX" if condition != Condition::Present => condition = Condition::Absent,
            b"XX" if condition != Condition::Absent => condition = Condition::Present,
            b"GET" => previous = true,
            b"KEEPTTL" => lifetime.take_unchanged()?,
            name => lifetime.take(name, &mut options)?,
        }
    }
    let lifetime = lifetime.finish("set", Lifetime::Endless)?;
    let (key, value) = (arguments.at(1), arguments.at(2));
    Ok(Operation::Set { key, value, condition, previous, lifetime })
}

pub(super) fn getset(arguments: Arguments<'_>) -> Built<'_> {
    let (key, value, condition) = (arguments.at(1), arguments.at(2), Condition::Always);
    Ok(Operation::Set { key, value, condition, previous: true, lifetime: Lifetime::Endless })
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

pub(super) fn flush(arguments: Arguments<'_>) -> Built<'_> {
    let mode = arguments.at(1);
    match arguments.len() {
        1 => Ok(Operation::Clear),
        2 if mode.eq_ignore_ascii_case(b"ASYNC") || mode.eq_ignore_ascii_case(b"SYNC") => {
            Ok(Operation::Clear)
        }
        _ => Err(Refusal::syntax()),
    }
}
