//! How messages stand on the wire: a kind for the frame, and a body of fixed-width fields that
//! begins with the configuration.

use alloc::vec::Vec;

use bytes::Bytes;
use mainstay_model::codec::{DecodeError, Put, Reader};
use mainstay_model::{CheckpointId, ConfigurationId, Entry, Slot, SlotRange, Value};

use crate::message::{Body, Message};

mod catch_up;
mod clients;
mod ordering;

/// The frame kinds of this protocol: from here on, in the order of [`Body`].
pub const KIND_FIRST: u16 = 16;
/// The kind of a page of a promise.
pub(crate) const PROMISE: u16 = KIND_FIRST + Number::Promise as u16;
/// The kind of a page of decided values.
pub(crate) const DECIDED: u16 = KIND_FIRST + Number::Decided as u16;

/// The least bytes of an entry.
const ENTRY_LEN_MIN: usize = 24;

/// What stands on the wire as its fields, one after the other.
trait Wire: Sized {
    /// Appends the fields to `out`.
    fn put(&self, out: &mut impl Put);

    /// Reads them back; what can never have been sent is refused.
    fn read(r: &mut Reader) -> Result<Self, DecodeError>;
}

/// Everything that depends on which messages there are: each with its number and its name in a trace.
macro_rules! messages {
    ($($number:literal $body:ident $name:literal,)*) => {
        /// How many kinds after the first one each is.
        enum Number {
            $($body = $number,)*
        }

        /// The last frame kind of this protocol.
        pub const KIND_LAST: u16 = KIND_FIRST + [$($number),*].len() as u16 - 1;

        impl Message {
            /// The kind of its frame.
            #[must_use]
            pub const fn kind(&self) -> u16 {
                KIND_FIRST
                    + match self.body {
                        $(Body::$body(_) => Number::$body as u16,)*
                    }
            }

            /// What it is called in a trace.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self.body {
                    $(Body::$body(_) => $name,)*
                }
            }

            /// Appends the body of its frame to `out`.
            pub fn encode(&self, out: &mut impl Put) {
                out.put_u64(self.configuration.0);
                match &self.body {
                    $(Body::$body(m) => m.put(out),)*
                }
            }

            /// Reads the body of a frame of `kind`.
            ///
            /// # Errors
            /// Any [`DecodeError`]; an unknown kind is a bad value, never skipped.
            pub fn decode(kind: u16, body: Bytes) -> Result<Self, DecodeError> {
                let mut reader = Reader::new(body);
                let r = &mut reader;
                let configuration = ConfigurationId(r.u64()?);
                let body = match kind.wrapping_sub(KIND_FIRST) {
                    $($number => Body::$body(Wire::read(r)?),)*
                    _ => return Err(DecodeError::BadValue("frame kind")),
                };
                reader.finish()?;
                Ok(Self { configuration, body })
            }
        }
    };
}

messages! {
    0 Prepare "prepare",
    1 Promise "promise",
    2 Accept "accept",
    3 Accepted "accepted",
    4 Refused "refused",
    5 Lead "lead",
    6 Follow "follow",
    7 Probe "probe",
    8 ProbeReply "probe-reply",
    9 StepDown "step-down",
    10 CatchUp "catch-up",
    11 Decided "decided",
    12 Forward "forward",
    13 NotLeader "not-leader",
    14 ReadAsk "read-ask",
    15 ReadSlot "read-slot",
    16 CheckpointAsk "checkpoint-ask",
    17 CheckpointIs "checkpoint-is",
    18 ChunkAsk "chunk-ask",
    19 Chunk "chunk",
    20 Learned "learned",
    21 Instruct "instruct",
    22 Instructed "instructed",
    23 ChunkRefused "chunk-refused",
    24 Report "report",
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("messages are bounded in count")
}

/// Appends a count and the items.
fn put_list<T: Wire>(out: &mut impl Put, items: &[T]) {
    out.put_u32(count(items.len()));
    items.iter().for_each(|item| item.put(out));
}

/// Reads items of at least `len_min` bytes each; a count that what is left cannot hold is refused.
fn list<T: Wire>(r: &mut Reader, len_min: usize) -> Result<Vec<T>, DecodeError> {
    let len = r.count(len_min)?;
    (0..len).map(|_| T::read(r)).collect()
}

impl Wire for SlotRange {
    fn put(&self, out: &mut impl Put) {
        out.put_slot(self.first);
        out.put_slot(self.last);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        let range = Self { first: r.slot()?, last: r.slot()? };
        if range.first == Slot::NONE || range.first > range.last {
            return Err(DecodeError::BadValue("slot range"));
        }
        Ok(range)
    }
}

impl Wire for Entry {
    fn put(&self, out: &mut impl Put) {
        out.put_ballot(self.ballot);
        out.put_shared(self.value.bytes());
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { ballot: r.ballot()?, value: Value::new(r.bytes()?) })
    }
}

impl Wire for CheckpointId {
    fn put(&self, out: &mut impl Put) {
        out.put_slot(self.slot);
        out.put_u64(self.digest);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { slot: r.slot()?, digest: r.u64()? })
    }
}
