//! What the service can be asked, and its encoding: the body of a request.
//!
//! One byte for the operation, then its fields, little endian. Keys and values are a length (4) and
//! the bytes; lists are a count (4) and the items.
//!
//! | code | operation | fields | orders or asks |
//! |---|---|---|---|
//! | 1 | get | key | asks |
//! | 2 | set | condition (1): 0 always, 1 if absent, 2 if present; answer (1): 0 how it went, 1 the old value, 2 as a number; key; value | orders |
//! | 3 | delete | keys | orders |
//! | 4 | exists | keys | asks |
//! | 5 | add | summand (8); key | orders |
//! | 6 | append | key; value | orders |
//! | 7 | length | key | asks |
//! | 8 | get many | keys | asks |
//! | 9 | set many | key and value in turn | orders |
//! | 10 | count | | asks |
//! | 11 | clear | | orders |
//! | 12 | set with an expiry | condition (1) and answer (1), as for 2; lifetime, not endless; key; value | orders |
//! | 13 | expire | condition (1): 0 always, 1 if absent, 2 if present, 3 if later, 4 if earlier, 5 if present and earlier; moment; key | orders |
//! | 14 | persist | key | orders |
//! | 15 | expiry | form (1): 0 seconds left, 1 milliseconds left, 2 second, 3 millisecond; key | asks |
//! | 16 | get and expire | lifetime; key | orders |
//! | 17 | get and delete | key | orders |
//! | 18 | set many if all are absent | key and value in turn | orders |
//! | 19 | get range | first (8); last (8); key | asks |
//! | 20 | set range | offset (8); key; value | orders |
//! | 21 | add a fraction | key; summand, as text | orders |
//! | 22 | type | key | asks |
//! | 23 | random key | draw (8) | asks |
//! | 24 | scan | cursor (8); count (8); pattern, or not; type, or not | asks |
//! | 25 | keys | pattern | asks |
//! | 26 | rename | only if absent (1): 0, 1; from; to | orders |
//! | 27 | copy | replaces (1): 0, 1; from; to | orders |
//! | 28 | describe | text in front | asks |
//!
//! A lifetime is 0 (endless), 1 (unchanged) or a moment; a moment is 2 (after so long) or 3 (at),
//! and milliseconds (8). What may be there or not is 0, or 1 and the bytes.

use bytes::Bytes;
use mainstay_model::codec::{DecodeError, Put};

use crate::expiry::{ExpiryCondition, ExpiryForm, Lifetime, Moment};
use crate::fields::Fields;
use crate::glob::PATTERN_LEN_MAX;
use crate::{ARGUMENTS_MAX, VALUE_LEN_MAX};

/// What the service is asked; it borrows keys and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation<'a> {
    /// The value of a key.
    Get {
        /// Whose value.
        key: &'a [u8],
    },
    /// Gives a key a value.
    Set {
        /// Which key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
        /// When at all.
        condition: Condition,
        /// With what to answer.
        answer: Answer,
        /// How long it is there.
        lifetime: Lifetime,
    },
    /// Removes keys; answers how many were there.
    Delete {
        /// Which.
        keys: Vec<&'a [u8]>,
    },
    /// How many of the keys are there; one named twice counts twice.
    Exists {
        /// Which.
        keys: Vec<&'a [u8]>,
    },
    /// Adds to the number that a key holds; an absent key holds 0. Answers the sum.
    Add {
        /// Which key.
        key: &'a [u8],
        /// What is added.
        summand: i64,
    },
    /// Appends to the value of a key, or gives it one. Answers the new length.
    Append {
        /// Which key.
        key: &'a [u8],
        /// What is appended.
        value: &'a [u8],
    },
    /// The length of the value of a key; 0 for an absent key.
    Length {
        /// Which key.
        key: &'a [u8],
    },
    /// The values of several keys.
    GetMany {
        /// Which.
        keys: Vec<&'a [u8]>,
    },
    /// Gives several keys values, all at once.
    SetMany {
        /// Keys and their values.
        pairs: Vec<Pair<'a>>,
    },
    /// How many keys there are.
    Count,
    /// Removes every key.
    Clear,
    /// Gives a key an expiry; one that is not in the future removes it. Answers 1, or 0 if the key is
    /// absent or the condition not met.
    Expire {
        /// Which key.
        key: &'a [u8],
        /// Its expiry.
        until: Moment,
        /// When at all.
        condition: ExpiryCondition,
    },
    /// Takes the expiry of a key away; answers 1 if it had one, or else 0.
    Persist {
        /// Which key.
        key: &'a [u8],
    },
    /// When a key goes: -2 for an absent one, -1 for one without an expiry.
    Expiry {
        /// Which key.
        key: &'a [u8],
        /// How it is told.
        form: ExpiryForm,
    },
    /// The value of a key, whose expiry is then changed; one that is not in the future removes it.
    GetAndExpire {
        /// Whose value.
        key: &'a [u8],
        /// What becomes of its expiry.
        lifetime: Lifetime,
    },
    /// The value of a key, which is then removed.
    GetAndDelete {
        /// Whose value.
        key: &'a [u8],
    },
    /// Gives several keys values, all at once, if none of them is there. Answers 1, or 0 and nothing is
    /// done.
    SetManyAbsent {
        /// Keys and their values.
        pairs: Vec<Pair<'a>>,
    },
    /// A part of the value of a key; places below 0 are counted from its end, at -1.
    GetRange {
        /// Whose value.
        key: &'a [u8],
        /// The first byte of the part.
        first: i64,
        /// The last one.
        last: i64,
    },
    /// Writes over a part of the value of a key, which grows with zeros as far as needed. Answers the
    /// new length.
    SetRange {
        /// Which key.
        key: &'a [u8],
        /// Where the part begins.
        offset: u64,
        /// What is written.
        value: &'a [u8],
    },
    /// Adds to the number with a fraction that a key holds; an absent key holds 0. Answers the sum.
    AddFloat {
        /// Which key.
        key: &'a [u8],
        /// What is added, as text.
        summand: &'a [u8],
    },
    /// Of which type the value of a key is, or that there is none.
    Type {
        /// Whose value.
        key: &'a [u8],
    },
    /// Any key, each with the same chance.
    RandomKey {
        /// A random number, drawn by whoever asks.
        draw: u64,
    },
    /// A part of an iteration over all keys. Answers the next cursor, 0 at the end, and the keys.
    Scan {
        /// Where the last part ended; 0 for the first.
        cursor: u64,
        /// How many keys to look at, about.
        count: u64,
        /// What the keys given have to match.
        pattern: Option<&'a [u8]>,
        /// Of which type their values have to be.
        kind: Option<&'a [u8]>,
    },
    /// All keys that match a pattern.
    Keys {
        /// The pattern.
        pattern: &'a [u8],
    },
    /// Gives what a key holds, expiry included, another key. Answers `OK`, or 1 or 0 with `absent`.
    Rename {
        /// The key that is there now.
        from: &'a [u8],
        /// Its new name.
        to: &'a [u8],
        /// Whether nothing is done if the new name is taken.
        absent: bool,
    },
    /// Gives what a key holds, expiry included, to another key as well. Answers 1, or 0 if nothing was
    /// done.
    Copy {
        /// The key that is there.
        from: &'a [u8],
        /// The other one.
        to: &'a [u8],
        /// Whether that may be there already.
        replace: bool,
    },
    /// What this replica can tell of its state, as text for people.
    Describe {
        /// Text to put in front of it.
        before: &'a [u8],
    },
}

/// With what a key that is set, or not, is answered for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// `OK`, or no value if it was not set.
    #[default]
    Done,
    /// The value that was there before.
    Previous,
    /// 1, or 0 if it was not set.
    Number,
}

/// A key and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// When a key is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    #[default]
    Always,
    /// Only if the key is absent.
    Absent,
    /// Only if the key is present.
    Present,
}

const GET: u8 = 1;
const SET: u8 = 2;
const DELETE: u8 = 3;
const EXISTS: u8 = 4;
const ADD: u8 = 5;
const APPEND: u8 = 6;
const LENGTH: u8 = 7;
const GET_MANY: u8 = 8;
const SET_MANY: u8 = 9;
const COUNT: u8 = 10;
const CLEAR: u8 = 11;
const SET_WITH_EXPIRY: u8 = 12;
const EXPIRE: u8 = 13;
const PERSIST: u8 = 14;
const EXPIRY: u8 = 15;
const GET_AND_EXPIRE: u8 = 16;
const GET_AND_DELETE: u8 = 17;
const SET_MANY_ABSENT: u8 = 18;
const GET_RANGE: u8 = 19;
const SET_RANGE: u8 = 20;
const ADD_FLOAT: u8 = 21;
const TYPE: u8 = 22;
const RANDOM_KEY: u8 = 23;
const SCAN: u8 = 24;
const KEYS: u8 = 25;
const RENAME: u8 = 26;
const COPY: u8 = 27;
const DESCRIBE: u8 = 28;

impl<'a> Operation<'a> {
    /// Whether it leaves the state as it is, so that it may be sent as a query.
    #[must_use]
    pub const fn is_query(&self) -> bool {
        matches!(
            self,
            Self::Get { .. }
                | Self::Exists { .. }
                | Self::Length { .. }
                | Self::GetMany { .. }
                | Self::Count
                | Self::Expiry { .. }
                | Self::GetRange { .. }
                | Self::Type { .. }
                | Self::RandomKey { .. }
                | Self::Scan { .. }
                | Self::Keys { .. }
                | Self::Describe { .. }
        )
    }

    /// Whether it may change the state and is answered with a value, so that the reply may be large.
    #[must_use]
    pub const fn is_answered_with_value(&self) -> bool {
        matches!(
            self,
            Self::Set { answer: Answer::Previous, .. }
                | Self::GetAndExpire { .. }
                | Self::GetAndDelete { .. }
        )
    }

    /// The body of the request. Every key and value is at most [`VALUE_LEN_MAX`] bytes long and
    /// every list at most [`ARGUMENTS_MAX`] items, or the service answers an error.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len());
        match self {
            Self::Get { key } => put(GET, &[key], &mut out),
            Self::Set { key, value, condition, answer, lifetime } => {
                let code = if *lifetime == Lifetime::Endless { SET } else { SET_WITH_EXPIRY };
                out.put(&[code, *condition as u8, *answer as u8]);
                if code == SET_WITH_EXPIRY {
                    lifetime.encode(&mut out);
                }
                out.put_bytes(key);
                out.put_bytes(value);
            }
            Self::Delete { keys } => put_list(DELETE, keys, &mut out),
            Self::Exists { keys } => put_list(EXISTS, keys, &mut out),
            Self::Add { key, summand } => {
                put_with(&[&[ADD], &summand.to_le_bytes()], &[key], &mut out);
            }
            Self::Append { key, value } => put(APPEND, &[key, value], &mut out),
            Self::Length { key } => put(LENGTH, &[key], &mut out),
            Self::GetMany { keys } => put_list(GET_MANY, keys, &mut out),
            Self::SetMany { pairs } => put_pairs(SET_MANY, pairs, &mut out),
            Self::SetManyAbsent { pairs } => put_pairs(SET_MANY_ABSENT, pairs, &mut out),
            Self::Count => out.put_u8(COUNT),
            Self::Clear => out.put_u8(CLEAR),
            Self::Expire { key, until, condition } => {
                out.put(&[EXPIRE, *condition as u8]);
                until.encode(&mut out);
                out.put_bytes(key);
            }
            Self::Persist { key } => put(PERSIST, &[key], &mut out),
            Self::Expiry { key, form } => put_with(&[&[EXPIRY, *form as u8]], &[key], &mut out),
            Self::GetAndExpire { key, lifetime } => {
                out.put_u8(GET_AND_EXPIRE);
                lifetime.encode(&mut out);
                out.put_bytes(key);
            }
            Self::GetAndDelete { key } => put(GET_AND_DELETE, &[key], &mut out),
            Self::GetRange { key, first, last } => {
                let head = [&[GET_RANGE][..], &first.to_le_bytes(), &last.to_le_bytes()];
                put_with(&head, &[key], &mut out);
            }
            Self::SetRange { key, offset, value } => {
                put_with(&[&[SET_RANGE], &offset.to_le_bytes()], &[key, value], &mut out);
            }
            Self::AddFloat { key, summand } => put(ADD_FLOAT, &[key, summand], &mut out),
            Self::Type { key } => put(TYPE, &[key], &mut out),
            Self::RandomKey { draw } => {
                put_with(&[&[RANDOM_KEY], &draw.to_le_bytes()], &[], &mut out);
            }
            Self::Scan { cursor, count, pattern, kind } => {
                let head = [&[SCAN][..], &cursor.to_le_bytes(), &count.to_le_bytes()];
                put_with(&head, &[], &mut out);
                put_optional(*pattern, &mut out);
                put_optional(*kind, &mut out);
            }
            Self::Keys { pattern } => put(KEYS, &[pattern], &mut out),
            Self::Rename { from, to, absent } => {
                put_with(&[&[RENAME, u8::from(*absent)]], &[from, to], &mut out);
            }
            Self::Copy { from, to, replace } => {
                put_with(&[&[COPY, u8::from(*replace)]], &[from, to], &mut out);
            }
            Self::Describe { before } => put(DESCRIBE, &[before], &mut out),
        }
        Bytes::from(out)
    }

    fn encoded_len(&self) -> usize {
        let list = |keys: &[&[u8]]| keys.iter().map(|key| 4 + key.len()).sum();
        let fields: usize = match self {
            Self::Get { key }
            | Self::Length { key }
            | Self::Add { key, .. }
            | Self::Expire { key, .. }
            | Self::Persist { key }
            | Self::Expiry { key, .. }
            | Self::GetAndExpire { key, .. }
            | Self::GetAndDelete { key }
            | Self::GetRange { key, .. }
            | Self::Type { key } => key.len(),
            Self::Set { key, value, .. }
            | Self::Append { key, value }
            | Self::SetRange { key, value, .. }
            | Self::AddFloat { key, summand: value }
            | Self::Rename { from: key, to: value, .. }
            | Self::Copy { from: key, to: value, .. } => key.len() + value.len(),
            Self::Scan { pattern, kind, .. } => {
                [pattern, kind].iter().map(|text| 5 + text.map_or(0, <[u8]>::len)).sum()
            }
            Self::Keys { pattern: text } | Self::Describe { before: text } => text.len(),
            Self::Delete { keys } | Self::Exists { keys } | Self::GetMany { keys } => list(keys),
            Self::SetMany { pairs } | Self::SetManyAbsent { pairs } => {
                pairs.iter().map(|(key, value)| 8 + key.len() + value.len()).sum()
            }
            Self::Count | Self::Clear | Self::RandomKey { .. } => 0,
        };
        fields + 25 + Lifetime::ENCODED_LEN_MAX
    }

    /// Reads an operation back.
    ///
    /// # Errors
    /// Any [`DecodeError`]: the bytes are no operation, or exceed a limit.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(bytes);
        let operation = Self::read(&mut fields)?;
        fields.finish()?;
        Ok(operation)
    }

    fn read(fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        Ok(match fields.u8()? {
            GET => Self::Get { key: text(fields)? },
            code @ (SET | SET_WITH_EXPIRY) => Self::read_set(code, fields)?,
            DELETE => Self::Delete { keys: list(fields)? },
            EXISTS => Self::Exists { keys: list(fields)? },
            ADD => {
                let summand = fields.i64()?;
                Self::Add { key: text(fields)?, summand }
            }
            APPEND => Self::Append { key: text(fields)?, value: text(fields)? },
            LENGTH => Self::Length { key: text(fields)? },
            GET_MANY => Self::GetMany { keys: list(fields)? },
            SET_MANY => Self::SetMany { pairs: pairs(fields)? },
            COUNT => Self::Count,
            CLEAR => Self::Clear,
            EXPIRE => {
                let condition = ExpiryCondition::read(fields)?;
                let until = Moment::read(fields)?;
                Self::Expire { key: text(fields)?, until, condition }
            }
            PERSIST => Self::Persist { key: text(fields)? },
            EXPIRY => {
                let form = ExpiryForm::read(fields)?;
                Self::Expiry { key: text(fields)?, form }
            }
            GET_AND_EXPIRE => {
                let lifetime = Lifetime::read(fields)?;
                Self::GetAndExpire { key: text(fields)?, lifetime }
            }
            GET_AND_DELETE => Self::GetAndDelete { key: text(fields)? },
            SET_MANY_ABSENT => Self::SetManyAbsent { pairs: pairs(fields)? },
            GET_RANGE => {
                let (first, last) = (fields.i64()?, fields.i64()?);
                Self::GetRange { key: text(fields)?, first, last }
            }
            SET_RANGE => {
                let offset = fields.u64()?;
                Self::SetRange { key: text(fields)?, offset, value: text(fields)? }
            }
            ADD_FLOAT => Self::AddFloat { key: text(fields)?, summand: text(fields)? },
            TYPE => Self::Type { key: text(fields)? },
            RANDOM_KEY => Self::RandomKey { draw: fields.u64()? },
            SCAN => {
                let (cursor, count) = (fields.u64()?, fields.u64()?);
                let (pattern, kind) = (optional(fields)?, optional(fields)?);
                Self::Scan { cursor, count, pattern, kind }
            }
            KEYS => Self::Keys { pattern: fields.bytes(PATTERN_LEN_MAX)? },
            RENAME => {
                let absent = flag(fields)?;
                Self::Rename { from: text(fields)?, to: text(fields)?, absent }
            }
            COPY => {
                let replace = flag(fields)?;
                Self::Copy { from: text(fields)?, to: text(fields)?, replace }
            }
            DESCRIBE => Self::Describe { before: text(fields)? },
            _ => return Err(DecodeError::BadValue("operation")),
        })
    }

    /// What follows the code of one that sets.
    fn read_set(code: u8, fields: &mut Fields<'a>) -> Result<Self, DecodeError> {
        let condition = match fields.u8()? {
            0 => Condition::Always,
            1 => Condition::Absent,
            2 => Condition::Present,
            _ => return Err(DecodeError::BadValue("condition")),
        };
        let answer = match fields.u8()? {
            0 => Answer::Done,
            1 => Answer::Previous,
            2 => Answer::Number,
            _ => return Err(DecodeError::BadValue("answer")),
        };
        let lifetime = match code {
            SET => Lifetime::Endless,
            _ => match Lifetime::read(fields)? {
                // There is one encoding for each operation.
                Lifetime::Endless => return Err(DecodeError::BadValue("lifetime")),
                other => other,
            },
        };
        Ok(Self::Set { key: text(fields)?, value: text(fields)?, condition, answer, lifetime })
    }
}

fn put(code: u8, fields: &[&[u8]], out: &mut Vec<u8>) {
    put_with(&[&[code]], fields, out);
}

/// What is of fixed width first, then the fields with their lengths.
fn put_with(head: &[&[u8]], fields: &[&[u8]], out: &mut Vec<u8>) {
    head.iter().for_each(|bytes| out.put(bytes));
    fields.iter().for_each(|field| out.put_bytes(field));
}

fn put_list(code: u8, items: &[&[u8]], out: &mut Vec<u8>) {
    out.put_u8(code);
    put_count(items.len(), out);
    items.iter().for_each(|item| out.put_bytes(item));
}

fn put_pairs(code: u8, pairs: &[Pair<'_>], out: &mut Vec<u8>) {
    out.put_u8(code);
    put_count(pairs.len(), out);
    for (key, value) in pairs {
        out.put_bytes(key);
        out.put_bytes(value);
    }
}

fn put_optional(text: Option<&[u8]>, out: &mut Vec<u8>) {
    out.put_u8(u8::from(text.is_some()));
    if let Some(text) = text {
        out.put_bytes(text);
    }
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    out.put_u32(u32::try_from(count).expect("requests are bounded in count"));
}

fn text<'a>(fields: &mut Fields<'a>) -> Result<&'a [u8], DecodeError> {
    fields.bytes(VALUE_LEN_MAX)
}

fn list<'a>(fields: &mut Fields<'a>) -> Result<Vec<&'a [u8]>, DecodeError> {
    let count = fields.count(ARGUMENTS_MAX, 4)?;
    (0..count).map(|_| text(fields)).collect()
}

fn pairs<'a>(fields: &mut Fields<'a>) -> Result<Vec<Pair<'a>>, DecodeError> {
    let count = fields.count(ARGUMENTS_MAX, 8)?;
    (0..count).map(|_| Ok((text(fields)?, text(fields)?))).collect()
}

fn flag(fields: &mut Fields<'_>) -> Result<bool, DecodeError> {
    match fields.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::BadValue("flag")),
    }
}

/// A pattern or a name.
fn optional<'a>(fields: &mut Fields<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    flag(fields)?.then(|| fields.bytes(PATTERN_LEN_MAX)).transpose()
}

#[cfg(test)]
mod tests;
