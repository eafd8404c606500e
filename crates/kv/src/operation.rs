//! What the service can be asked, and its encoding: the body of a request.
//!
//! One byte for the operation, then its fields, little endian. Keys and values are a length (4) and
//! the bytes; lists are a count (4) and the items.
//!
//! | code | operation | fields | orders or asks |
//! |---|---|---|---|
//! | 1 | get | key | asks |
//! | 2 | set | condition (1): 0 always, 1 if absent, 2 if present; wants the old value (1): 0, 1; key; value | orders |
//! | 3 | delete | keys | orders |
//! | 4 | exists | keys | asks |
//! | 5 | add | summand (8); key | orders |
//! | 6 | append | key; value | orders |
//! | 7 | length | key | asks |
//! | 8 | get many | keys | asks |
//! | 9 | set many | key and value in turn | orders |
//! | 10 | count | | asks |
//! | 11 | clear | | orders |
//! | 12 | set with an expiry | condition (1) and wants the old value (1), as for 2; lifetime, not endless; key; value | orders |
//! | 13 | expire | condition (1): 0 always, 1 if absent, 2 if present, 3 if later, 4 if earlier, 5 if present and earlier; moment; key | orders |
//! | 14 | persist | key | orders |
//! | 15 | expiry | form (1): 0 seconds left, 1 milliseconds left, 2 second, 3 millisecond; key | asks |
//! | 16 | get and expire | lifetime; key | orders |
//! | 17 | get and delete | key | orders |
//!
//! A lifetime is 0 (endless), 1 (unchanged) or a moment; a moment is 2 (after so long) or 3 (at),
//! and milliseconds (8).

use bytes::Bytes;
use mainstay_model::codec::{DecodeError, Put};

use crate::expiry::{ExpiryCondition, ExpiryForm, Lifetime, Moment};
use crate::fields::Fields;
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
        /// Whether to answer with the value that was there before.
        previous: bool,
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
        pairs: Vec<(&'a [u8], &'a [u8])>,
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
}

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
        )
    }

    /// The body of the request. Every key and value is at most [`VALUE_LEN_MAX`] bytes long and
    /// every list at most [`ARGUMENTS_MAX`] items, or the service answers an error.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_len());
        match self {
            Self::Get { key } => put(GET, &[key], &mut out),
            Self::Set { key, value, condition, previous, lifetime } => {
                let code = if *lifetime == Lifetime::Endless { SET } else { SET_WITH_EXPIRY };
                out.put(&[code, *condition as u8, u8::from(*previous)]);
                if code == SET_WITH_EXPIRY {
                    lifetime.encode(&mut out);
                }
                out.put_bytes(key);
                out.put_bytes(value);
            }
            Self::Delete { keys } => put_list(DELETE, keys, &mut out),
            Self::Exists { keys } => put_list(EXISTS, keys, &mut out),
            Self::Add { key, summand } => {
                out.put_u8(ADD);
                out.put(&summand.to_le_bytes());
                out.put_bytes(key);
            }
            Self::Append { key, value } => put(APPEND, &[key, value], &mut out),
            Self::Length { key } => put(LENGTH, &[key], &mut out),
            Self::GetMany { keys } => put_list(GET_MANY, keys, &mut out),
            Self::SetMany { pairs } => {
                out.put_u8(SET_MANY);
                put_count(pairs.len(), &mut out);
                for (key, value) in pairs {
                    out.put_bytes(key);
                    out.put_bytes(value);
                }
            }
            Self::Count => out.put_u8(COUNT),
            Self::Clear => out.put_u8(CLEAR),
            Self::Expire { key, until, condition } => {
                out.put(&[EXPIRE, *condition as u8]);
                until.encode(&mut out);
                out.put_bytes(key);
            }
            Self::Persist { key } => put(PERSIST, &[key], &mut out),
            Self::Expiry { key, form } => {
                out.put(&[EXPIRY, *form as u8]);
                out.put_bytes(key);
            }
            Self::GetAndExpire { key, lifetime } => {
                out.put_u8(GET_AND_EXPIRE);
                lifetime.encode(&mut out);
                out.put_bytes(key);
            }
            Self::GetAndDelete { key } => put(GET_AND_DELETE, &[key], &mut out),
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
            | Self::GetAndDelete { key } => key.len(),
            Self::Set { key, value, .. } | Self::Append { key, value } => key.len() + value.len(),
            Self::Delete { keys } | Self::Exists { keys } | Self::GetMany { keys } => list(keys),
            Self::SetMany { pairs } => {
                pairs.iter().map(|(key, value)| 8 + key.len() + value.len()).sum()
            }
            Self::Count | Self::Clear => 0,
        };
        fields + 13 + Lifetime::ENCODED_LEN_MAX
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
            SET_MANY => {
                let count = fields.count(ARGUMENTS_MAX, 8)?;
                let pairs = (0..count)
                    .map(|_| Ok((text(fields)?, text(fields)?)))
                    .collect::<Result<_, DecodeError>>()?;
                Self::SetMany { pairs }
            }
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
        let previous = match fields.u8()? {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::BadValue("wants the old value")),
        };
        let lifetime = match code {
            SET => Lifetime::Endless,
            _ => match Lifetime::read(fields)? {
                // There is one encoding for each operation.
                Lifetime::Endless => return Err(DecodeError::BadValue("lifetime")),
                other => other,
            },
        };
        Ok(Self::Set { key: text(fields)?, value: text(fields)?, condition, previous, lifetime })
    }
}

fn put(code: u8, fields: &[&[u8]], out: &mut Vec<u8>) {
    out.put_u8(code);
    fields.iter().for_each(|field| out.put_bytes(field));
}

fn put_list(code: u8, items: &[&[u8]], out: &mut Vec<u8>) {
    out.put_u8(code);
    put_count(items.len(), out);
    items.iter().for_each(|item| out.put_bytes(item));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_operation_comes_back() {
        let keys = || vec![&b"a"[..], b"", b"a"];
        let mut all = vec![
            Operation::Get { key: b"k" },
            Operation::Delete { keys: keys() },
            Operation::Exists { keys: keys() },
            Operation::Add { key: b"k", summand: i64::MIN },
            Operation::Append { key: b"k", value: b"v" },
            Operation::Length { key: b"" },
            Operation::GetMany { keys: keys() },
            Operation::SetMany { pairs: vec![(b"a", b"1"), (b"b", b"")] },
            Operation::Count,
            Operation::Clear,
            Operation::Persist { key: b"k" },
            Operation::GetAndDelete { key: b"k" },
        ];
        let moments = [Moment::After(i64::MIN), Moment::After(1), Moment::At(i64::MAX)];
        let lifetimes = [Lifetime::Endless, Lifetime::Unchanged];
        for lifetime in lifetimes.into_iter().chain(moments.map(Lifetime::Until)) {
            for condition in [Condition::Always, Condition::Absent, Condition::Present] {
                for previous in [false, true] {
                    let (key, value) = (&b"k"[..], &b"v"[..]);
                    all.push(Operation::Set { key, value, condition, previous, lifetime });
                }
            }
            all.push(Operation::GetAndExpire { key: b"k", lifetime });
        }
        for condition in [
            ExpiryCondition::Always,
            ExpiryCondition::Absent,
            ExpiryCondition::Present,
            ExpiryCondition::Later,
            ExpiryCondition::Earlier,
            ExpiryCondition::PresentAndEarlier,
        ] {
            let expire = |until| Operation::Expire { key: b"k", until, condition };
            all.extend(moments.map(expire));
        }
        for form in [
            ExpiryForm::SecondsLeft,
            ExpiryForm::MillisecondsLeft,
            ExpiryForm::Second,
            ExpiryForm::Millisecond,
        ] {
            all.push(Operation::Expiry { key: b"k", form });
        }
        for operation in all {
            let bytes = operation.encode();
            assert!(bytes.len() <= operation.encoded_len());
            assert_eq!(Operation::decode(&bytes), Ok(operation));
            for len in 0..bytes.len() {
                assert_eq!(Operation::decode(&bytes[..len]), Err(DecodeError::Truncated));
            }
            let longer = [&bytes[..], &[0]].concat();
            assert_eq!(Operation::decode(&longer), Err(DecodeError::TrailingBytes));
        }
    }

    #[test]
    fn limits_hold_for_every_sender() {
        let long = vec![0; VALUE_LEN_MAX + 1];
        let bytes = Operation::Get { key: &long }.encode();
        assert_eq!(Operation::decode(&bytes), Err(DecodeError::TooLarge));
        assert_eq!(Operation::decode(&[DELETE, 1, 0, 16, 0]), Err(DecodeError::TooLarge));
        assert_eq!(Operation::decode(&[DELETE, 0, 0, 16, 0]), Err(DecodeError::Truncated));
    }

    #[test]
    fn an_operation_has_one_encoding() {
        let endless = [SET_WITH_EXPIRY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Operation::decode(&endless), Err(DecodeError::BadValue("lifetime")));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(0u8..20, 0..60)) {
            crate::decode_any::operation(&bytes);
        }
    }
}
