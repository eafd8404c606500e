//! What the service answers, in an encoding that knows nothing of client protocols.
//!
//! One byte for the kind, then its fields, little endian:
//!
//! | kind | reply | fields |
//! |---|---|---|
//! | 1 | status | length (4), text |
//! | 2 | error | length (4), text |
//! | 3 | integer | value (8) |
//! | 4 | bytes | length (4), bytes |
//! | 5 | no value | |
//! | 6 | array | count (4), that many replies |
//! | 7 | map | count (4), that many pairs of replies |

use mainstay_model::codec::{DecodeError, Put};

use crate::fields::Fields;

/// A reply; it borrows the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// How it went, in a word.
    Status(&'a [u8]),
    /// Nothing was done; the first word of the text is the kind of error, as Redis has them.
    Error(&'a [u8]),
    /// A whole number.
    Integer(i64),
    /// Bytes.
    Bulk(&'a [u8]),
    /// No value.
    Nil,
    /// Several replies.
    Array(Vec<Self>),
    /// Several pairs of replies.
    Map(Vec<(Self, Self)>),
}

const STATUS: u8 = 1;
const ERROR: u8 = 2;
const INTEGER: u8 = 3;
const BULK: u8 = 4;
const NIL: u8 = 5;
const ARRAY: u8 = 6;
const MAP: u8 = 7;

/// How deep arrays and maps may lie in one another.
const DEPTH_MAX: u32 = 8;

impl<'a> Reply<'a> {
    /// The reply of everything that has nothing else to say.
    pub const OK: Reply<'static> = Reply::Status(b"OK");

    /// Appends the encoding to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Status(text) => encode_bytes(STATUS, text, out),
            Self::Error(text) => encode_bytes(ERROR, text, out),
            Self::Integer(value) => {
                out.put_u8(INTEGER);
                out.put(&value.to_le_bytes());
            }
            Self::Bulk(bytes) => encode_bytes(BULK, bytes, out),
            Self::Nil => out.put_u8(NIL),
            Self::Array(items) => {
                out.put_u8(ARRAY);
                encode_count(items.len(), out);
                items.iter().for_each(|item| item.encode(out));
            }
            Self::Map(pairs) => {
                out.put_u8(MAP);
                encode_count(pairs.len(), out);
                for (key, value) in pairs {
                    key.encode(out);
                    value.encode(out);
                }
            }
        }
    }

    /// Reads a reply back.
    ///
    /// # Errors
    /// Any [`DecodeError`]: the bytes are no reply.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(bytes);
        let reply = Self::read(&mut fields, DEPTH_MAX)?;
        fields.finish()?;
        Ok(reply)
    }

    fn read(fields: &mut Fields<'a>, depth: u32) -> Result<Self, DecodeError> {
        Ok(match fields.u8()? {
            STATUS => Self::Status(fields.bytes(usize::MAX)?),
            ERROR => Self::Error(fields.bytes(usize::MAX)?),
            INTEGER => Self::Integer(fields.i64()?),
            BULK => Self::Bulk(fields.bytes(usize::MAX)?),
            NIL => Self::Nil,
            ARRAY | MAP if depth == 0 => return Err(DecodeError::TooLarge),
            ARRAY => {
                let count = fields.count(crate::ARGUMENTS_MAX, 1)?;
                (0..count)
                    .map(|_| Self::read(fields, depth - 1))
                    .collect::<Result<_, _>>()
                    .map(Self::Array)?
            }
            MAP => {
                let count = fields.count(crate::ARGUMENTS_MAX, 2)?;
                (0..count)
                    .map(|_| Ok((Self::read(fields, depth - 1)?, Self::read(fields, depth - 1)?)))
                    .collect::<Result<_, _>>()
                    .map(Self::Map)?
            }
            _ => return Err(DecodeError::BadValue("kind of reply")),
        })
    }
}

fn encode_bytes(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.put_u8(kind);
    out.put_bytes(bytes);
}

fn encode_count(count: usize, out: &mut Vec<u8>) {
    out.put_u32(u32::try_from(count).expect("replies are bounded in count"));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_kind_comes_back() {
        let reply = Reply::Array(vec![
            Reply::OK,
            Reply::Error(b"ERR no"),
            Reply::Integer(i64::MIN),
            Reply::Bulk(b"\r\n\0"),
            Reply::Nil,
            Reply::Array(vec![]),
            Reply::Map(vec![(Reply::Bulk(b"k"), Reply::Integer(1))]),
        ]);
        let mut bytes = Vec::new();
        reply.encode(&mut bytes);
        assert_eq!(Reply::decode(&bytes), Ok(reply));
        for len in 0..bytes.len() {
            assert_eq!(Reply::decode(&bytes[..len]), Err(DecodeError::Truncated));
        }
        bytes.push(0);
        assert_eq!(Reply::decode(&bytes), Err(DecodeError::TrailingBytes));
    }

    #[test]
    fn a_deep_or_huge_reply_is_refused() {
        let deep = [ARRAY, 1, 0, 0, 0].repeat(1000);
        assert_eq!(Reply::decode(&deep), Err(DecodeError::TooLarge));
        assert_eq!(Reply::decode(&[ARRAY, 255, 255, 255, 255]), Err(DecodeError::TooLarge));
        assert_eq!(Reply::decode(&[BULK, 255, 255, 255, 255]), Err(DecodeError::Truncated));
        assert_eq!(Reply::decode(&[9]), Err(DecodeError::BadValue("kind of reply")));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(0u8..12, 0..100)) {
            crate::decode_any::reply(&bytes);
        }
    }
}
