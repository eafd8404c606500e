//! Commands about keys, whatever they hold: from arguments to an operation.

use super::{Refusal, pattern};
use crate::glob::PATTERN_LEN_MAX;
use crate::integer;
use crate::operation::Operation;
use crate::resp::Arguments;

type Built<'a> = Result<Operation<'a>, Refusal>;

/// How many keys a part of an iteration looks at if nothing else is said.
const SCAN_COUNT: u64 = 10;

pub(super) fn del(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Delete { keys: arguments.from(1).collect() })
}

pub(super) fn exists(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Exists { keys: arguments.from(1).collect() })
}

pub(super) fn dbsize(_: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Count)
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

pub(super) fn kind(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Type { key: arguments.at(1) })
}

pub(super) fn randomkey(_: Arguments<'_>) -> Built<'_> {
    let draw = getrandom::u64()
        .map_err(|_| Refusal::new("ERR the system has no random numbers at present"))?;
    Ok(Operation::RandomKey { draw })
}

pub(super) fn keys(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Keys { pattern: pattern(arguments.at(1))? })
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`, each as often as one likes; the last counts.
pub(super) fn scan(arguments: Arguments<'_>) -> Built<'_> {
    let cursor = cursor(arguments.at(1)).ok_or_else(|| Refusal::new("ERR invalid cursor"))?;
    let (mut count, mut matching, mut kind) = (SCAN_COUNT, None, None);
    let mut options = arguments.from(2);
    while let Some(option) = options.next() {
        let value = options.next().ok_or_else(Refusal::syntax)?;
        match option.to_ascii_uppercase().as_slice() {
            b"COUNT" => {
                let number = integer::parse(value).ok_or_else(Refusal::not_an_integer)?;
                count = u64::try_from(number)
                    .ok()
                    .filter(|count| *count > 0)
                    .ok_or_else(Refusal::syntax)?;
            }
            b"MATCH" => matching = Some(pattern(value)?),
            // No type has so long a name.
            b"TYPE" => kind = Some(&value[..value.len().min(PATTERN_LEN_MAX)]),
            _ => return Err(Refusal::syntax()),
        }
    }
    // Everything matches this one, without a look.
    let pattern = matching.filter(|pattern| *pattern != b"*");
    Ok(Operation::Scan { cursor, count, pattern, kind })
}

/// A number as `strtoul` reads it to its end.
fn cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] | rest => (false, rest),
    };
    if text.is_empty() {
        return Some(0);
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if negative { number.wrapping_neg() } else { number })
}

pub(super) fn rename(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Rename { from: arguments.at(1), to: arguments.at(2), absent: false })
}

pub(super) fn renamenx(arguments: Arguments<'_>) -> Built<'_> {
    Ok(Operation::Rename { from: arguments.at(1), to: arguments.at(2), absent: true })
}

/// `COPY source destination [DB 0] [REPLACE]`.
pub(super) fn copy(arguments: Arguments<'_>) -> Built<'_> {
    let (from, to) = (arguments.at(1), arguments.at(2));
    let mut replace = false;
    let mut options = arguments.from(3);
    while let Some(option) = options.next() {
        match option.to_ascii_uppercase().as_slice() {
            b"REPLACE" => replace = true,
            b"DB" if options.len() >= 1 => {
                let database = options.next().and_then(integer::parse);
                match database.ok_or_else(Refusal::not_an_integer)? {
                    0 => {}
                    other => return Err(Refusal::database(other)),
                }
            }
            _ => return Err(Refusal::syntax()),
        }
    }
    if from == to {
        return Err(Refusal::new("ERR source and destination objects are the same"));
    }
    Ok(Operation::Copy { from, to, replace })
}
