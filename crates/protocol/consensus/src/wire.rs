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
pub(crate) const PROMISE: u16 = KIND_FIRST + 1;
/// The kind of a page of decided values.
pub(crate) const DECIDED: u16 = KIND_FIRST + 11;
/// The last frame kind of this protocol.
pub const KIND_LAST: u16 = KIND_FIRST + 24;

/// The least bytes of an entry.
const ENTRY_LEN_MIN: usize = 24;

/// What stands on the wire as its fields, one after the other.
trait Wire: Sized {
    /// Appends the fields to `out`.
    fn put(&self, out: &mut impl Put);

    /// Reads them back; what can never have been sent is refused.
    fn read(r: &mut Reader) -> Result<Self, DecodeError>;
}

impl Message {
    /// The kind of its frame.
    #[must_use]
    pub const fn kind(&self) -> u16 {
        KIND_FIRST
            + match self.body {
                Body::Prepare(_) => 0,
                Body::Promise(_) => PROMISE - KIND_FIRST,
                Body::Accept(_) => 2,
                Body::Accepted(_) => 3,
                Body::Refused(_) => 4,
                Body::Lead(_) => 5,
                Body::Follow(_) => 6,
                Body::Probe(_) => 7,
                Body::ProbeReply(_) => 8,
                Body::StepDown(_) => 9,
                Body::CatchUp(_) => 10,
                Body::Decided(_) => DECIDED - KIND_FIRST,
                Body::Forward(_) => 12,
                Body::NotLeader(_) => 13,
                Body::ReadAsk(_) => 14,
                Body::ReadSlot(_) => 15,
                Body::CheckpointAsk(_) => 16,
                Body::CheckpointIs(_) => 17,
                Body::ChunkAsk(_) => 18,
                Body::Chunk(_) => 19,
                Body::Learned(_) => 20,
                Body::Instruct(_) => 21,
                Body::Instructed(_) => 22,
                Body::ChunkRefused(_) => 23,
                Body::Report(_) => 24,
            }
    }

    /// What it is called in a trace.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.body {
            Body::Prepare(_) => "prepare",
            Body::Promise(_) => "promise",
            Body::Accept(_) => "accept",
            Body::Accepted(_) => "accepted",
            Body::Refused(_) => "refused",
            Body::Lead(_) => "lead",
            Body::Follow(_) => "follow",
            Body::Probe(_) => "probe",
            Body::ProbeReply(_) => "probe-reply",
            Body::StepDown(_) => "step-down",
            Body::CatchUp(_) => "catch-up",
            Body::Decided(_) => "decided",
            Body::Forward(_) => "forward",
            Body::NotLeader(_) => "not-leader",
            Body::ReadAsk(_) => "read-ask",
            Body::ReadSlot(_) => "read-slot",
            Body::CheckpointAsk(_) => "checkpoint-ask",
            Body::CheckpointIs(_) => "checkpoint-is",
            Body::ChunkAsk(_) => "chunk-ask",
            Body::Chunk(_) => "chunk",
            Body::Learned(_) => "learned",
            Body::Instruct(_) => "instruct",
            Body::Instructed(_) => "instructed",
            Body::ChunkRefused(_) => "chunk-refused",
            Body::Report(_) => "report",
        }
    }

    /// Appends the body of its frame to `out`.
    pub fn encode(&self, out: &mut impl Put) {
        out.put_u64(self.configuration.0);
        match &self.body {
            Body::Prepare(m) => m.put(out),
            Body::Promise(m) => m.put(out),
            Body::Accept(m) => m.put(out),
            Body::Accepted(m) => m.put(out),
            Body::Refused(m) => m.put(out),
            Body::Lead(m) => m.put(out),
            Body::Follow(m) => m.put(out),
            Body::Probe(m) => m.put(out),
            Body::ProbeReply(m) => m.put(out),
            Body::StepDown(m) => m.put(out),
            Body::CatchUp(m) => m.put(out),
            Body::Decided(m) => m.put(out),
            Body::Forward(m) => m.put(out),
            Body::NotLeader(m) => m.put(out),
            Body::ReadAsk(m) => m.put(out),
            Body::ReadSlot(m) => m.put(out),
            Body::CheckpointAsk(m) => m.put(out),
            Body::CheckpointIs(m) => m.put(out),
            Body::ChunkAsk(m) => m.put(out),
            Body::Chunk(m) => m.put(out),
            Body::Learned(m) => m.put(out),
            Body::Instruct(m) => m.put(out),
            Body::Instructed(m) => m.put(out),
            Body::ChunkRefused(m) => m.put(out),
            Body::Report(m) => m.put(out),
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
            0 => Body::Prepare(Wire::read(r)?),
            1 => Body::Promise(Wire::read(r)?),
            2 => Body::Accept(Wire::read(r)?),
            3 => Body::Accepted(Wire::read(r)?),
            4 => Body::Refused(Wire::read(r)?),
            5 => Body::Lead(Wire::read(r)?),
            6 => Body::Follow(Wire::read(r)?),
            7 => Body::Probe(Wire::read(r)?),
            8 => Body::ProbeReply(Wire::read(r)?),
            9 => Body::StepDown(Wire::read(r)?),
            10 => Body::CatchUp(Wire::read(r)?),
            11 => Body::Decided(Wire::read(r)?),
            12 => Body::Forward(Wire::read(r)?),
            13 => Body::NotLeader(Wire::read(r)?),
            14 => Body::ReadAsk(Wire::read(r)?),
            15 => Body::ReadSlot(Wire::read(r)?),
            16 => Body::CheckpointAsk(Wire::read(r)?),
            17 => Body::CheckpointIs(Wire::read(r)?),
            18 => Body::ChunkAsk(Wire::read(r)?),
            19 => Body::Chunk(Wire::read(r)?),
            20 => Body::Learned(Wire::read(r)?),
            21 => Body::Instruct(Wire::read(r)?),
            22 => Body::Instructed(Wire::read(r)?),
            23 => Body::ChunkRefused(Wire::read(r)?),
            24 => Body::Report(Wire::read(r)?),
            _ => return Err(DecodeError::BadValue("frame kind")),
        };
        reader.finish()?;
        Ok(Self { configuration, body })
    }
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
