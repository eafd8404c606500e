//! How messages stand on the wire: a kind for the frame, and a body of fixed-width fields that
//! begins with the configuration.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use mainstay_model::codec::{DecodeError, Put, Reader};
use mainstay_model::time::nanos;
use mainstay_model::{
    CheckpointId, ConfigurationId, Entry, RequestId, RequestNumber, Slot, SlotRange, Timestamp,
    Value,
};

use crate::door::{Instruction, Refusal};
use crate::message::{
    Accept, Accepted, Body, CatchUp, CheckpointAsk, CheckpointIs, Chunk, ChunkAsk, ChunkRefusal,
    ChunkRefused, Decided, Follow, Forward, Instruct, Instructed, Lead, Learned, Message,
    NotLeader, Prepare, Probe, ProbeReply, Promise, ReadAsk, ReadSlot, Refused, RefusedReason,
    Report, Request, StepDown,
};

/// The frame kinds of this protocol: from here on, in the order of [`Body`].
pub const KIND_FIRST: u16 = 16;
/// The last frame kind of this protocol.
pub const KIND_LAST: u16 = KIND_FIRST + 24;

const ENTRY_LEN_MIN: usize = 24;

impl Message {
    /// The kind of its frame.
    #[must_use]
    pub const fn kind(&self) -> u16 {
        KIND_FIRST
            + match self.body {
                Body::Prepare(_) => 0,
                Body::Promise(_) => 1,
                Body::Accept(_) => 2,
                Body::Accepted(_) => 3,
                Body::Refused(_) => 4,
                Body::Lead(_) => 5,
                Body::Follow(_) => 6,
                Body::Probe(_) => 7,
                Body::ProbeReply(_) => 8,
                Body::StepDown(_) => 9,
                Body::CatchUp(_) => 10,
                Body::Decided(_) => 11,
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
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.configuration.0);
        match &self.body {
            Body::Prepare(m) => {
                out.put_ballot(m.ballot);
                out.put_slot(m.from);
            }
            Body::Promise(m) => put_promise(out, m),
            Body::Accept(m) => {
                out.put_ballot(m.ballot);
                out.put_slot(m.slot);
                out.put_slot(m.decided_upto);
                out.put_bytes(m.value.bytes());
            }
            Body::Accepted(m) => {
                out.put_ballot(m.ballot);
                put_range(out, m.slots);
                out.put_slot(m.applied_upto);
            }
            Body::Refused(m) => put_refused(out, m),
            Body::Lead(m) => put_lead(out, m),
            Body::Follow(m) => put_follow(out, m),
            Body::Probe(m) => {
                out.put_u64(m.number);
                out.put_ballot(m.ballot);
            }
            Body::ProbeReply(m) => {
                out.put_u64(m.number);
                out.put_u8(u8::from(m.hears_leader));
                out.put_ballot(m.ballot);
                out.put_slot(m.decided_upto);
                out.put_u64(nanos(m.disk));
            }
            Body::StepDown(m) => {
                out.put_ballot(m.ballot);
                out.put_u32(m.successor.map_or(u32::MAX, u32::from));
                out.put_slot(m.decided_upto);
            }
            Body::CatchUp(m) => {
                out.put_slot(m.from);
                out.put_slot(m.upto);
            }
            Body::Decided(m) => {
                out.put_slot(m.from);
                out.put_slot(m.decided_upto);
                out.put_slot(m.truncated_upto);
                out.put_u32(count(m.entries.len()));
                for entry in &m.entries {
                    put_entry(out, entry);
                }
            }
            Body::Forward(m) => {
                out.put_u64(m.number);
                out.put_slot(m.applied_upto);
                out.put_u32(count(m.requests.len()));
                for request in &m.requests {
                    put_request(out, request);
                }
            }
            Body::NotLeader(m) => {
                out.put_ballot(m.ballot);
                out.put_u8(u8::from(m.leads));
                out.put_u64(m.number);
            }
            Body::ReadAsk(m) => out.put_u64(m.number),
            Body::ReadSlot(m) => {
                out.put_u64(m.number);
                out.put_slot(m.slot);
            }
            Body::CheckpointAsk(m) => {
                out.put_u8(u8::from(m.wanted_above.is_some()));
                out.put_slot(m.wanted_above.unwrap_or(Slot::NONE));
            }
            Body::CheckpointIs(m) => put_checkpoint_is(out, m),
            Body::ChunkAsk(m) => {
                put_checkpoint(out, m.checkpoint);
                out.put_u32(m.chunk);
            }
            Body::Chunk(m) => {
                put_checkpoint(out, m.checkpoint);
                out.put_u32(m.chunk);
                out.put_u64(m.total);
                out.put_bytes(&m.bytes);
            }
            Body::Learned(m) => {
                out.put_ballot(m.ballot);
                out.put_slot(m.decided_upto);
            }
            Body::Instruct(m) => put_instruct(out, *m),
            Body::Instructed(m) => {
                out.put_u64(m.number);
                out.put_u8(m.outcome.map_or_else(refusal_tag, |()| 0));
            }
            Body::ChunkRefused(m) => {
                put_checkpoint(out, m.checkpoint);
                out.put_u32(m.chunk);
                out.put_u8(match m.reason {
                    ChunkRefusal::Gone => 1,
                    ChunkRefusal::Unstable => 2,
                    ChunkRefusal::Busy => 3,
                });
            }
            Body::Report(m) => {
                out.put_slot(m.accepted_upto);
                out.put_slot(m.decided_upto);
            }
        }
    }

    /// Reads the body of a frame of `kind`.
    ///
    /// # Errors
    /// Any [`DecodeError`]; an unknown kind is a bad value, never skipped.
    pub fn decode(kind: u16, body: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(body);
        let configuration = ConfigurationId(r.u64()?);
        let body = match kind.wrapping_sub(KIND_FIRST) {
            0 => Body::Prepare(Prepare { ballot: r.ballot()?, from: r.slot()? }),
            1 => Body::Promise(promise(&mut r)?),
            2 => Body::Accept(Accept {
                ballot: r.ballot()?,
                slot: r.slot()?,
                decided_upto: r.slot()?,
                value: Value::new(r.bytes()?),
            }),
            3 => Body::Accepted(Accepted {
                ballot: r.ballot()?,
                slots: range(&mut r)?,
                applied_upto: r.slot()?,
            }),
            4 => Body::Refused(refused(&mut r)?),
            5 => Body::Lead(Lead {
                ballot: r.ballot()?,
                decided_upto: r.slot()?,
                proposed_upto: r.slot()?,
                durable_upto: r.slot()?,
                applied_upto: r.slot()?,
                room: r.flag("room")?,
                round: r.u64()?,
            }),
            6 => Body::Follow(Follow {
                ballot: r.ballot()?,
                round: r.u64()?,
                decided_upto: r.slot()?,
                durable_upto: r.slot()?,
                applied_upto: r.slot()?,
                room: r.flag("room")?,
                clock: Timestamp(r.u64()?),
                disk: Duration::from_nanos(r.u64()?),
            }),
            7 => Body::Probe(Probe { number: r.u64()?, ballot: r.ballot()? }),
            8 => Body::ProbeReply(ProbeReply {
                number: r.u64()?,
                hears_leader: r.flag("hears leader")?,
                ballot: r.ballot()?,
                decided_upto: r.slot()?,
                disk: Duration::from_nanos(r.u64()?),
            }),
            9 => Body::StepDown(StepDown {
                ballot: r.ballot()?,
                successor: successor(r.u32()?)?,
                decided_upto: r.slot()?,
            }),
            10 => Body::CatchUp(CatchUp { from: r.slot()?, upto: r.slot()? }),
            11 => Body::Decided(decided(&mut r)?),
            12 => Body::Forward(forward(&mut r)?),
            13 => Body::NotLeader(NotLeader {
                ballot: r.ballot()?,
                leads: r.flag("leads")?,
                number: r.u64()?,
            }),
            14 => Body::ReadAsk(ReadAsk { number: r.u64()? }),
            15 => Body::ReadSlot(ReadSlot { number: r.u64()?, slot: r.slot()? }),
            16 => Body::CheckpointAsk(checkpoint_ask(&mut r)?),
            17 => Body::CheckpointIs(checkpoint_is(&mut r)?),
            18 => Body::ChunkAsk(ChunkAsk { checkpoint: checkpoint(&mut r)?, chunk: r.u32()? }),
            19 => Body::Chunk(Chunk {
                checkpoint: checkpoint(&mut r)?,
                chunk: r.u32()?,
                total: r.u64()?,
                bytes: r.bytes()?,
            }),
            20 => Body::Learned(Learned { ballot: r.ballot()?, decided_upto: r.slot()? }),
            21 => Body::Instruct(instruct(&mut r)?),
            22 => Body::Instructed(Instructed { number: r.u64()?, outcome: outcome(r.u8()?)? }),
            23 => Body::ChunkRefused(ChunkRefused {
                checkpoint: checkpoint(&mut r)?,
                chunk: r.u32()?,
                reason: match r.u8()? {
                    1 => ChunkRefusal::Gone,
                    2 => ChunkRefusal::Unstable,
                    3 => ChunkRefusal::Busy,
                    _ => return Err(DecodeError::BadValue("reason of refusal")),
                },
            }),
            24 => Body::Report(Report { accepted_upto: r.slot()?, decided_upto: r.slot()? }),
            _ => return Err(DecodeError::BadValue("frame kind")),
        };
        r.finish()?;
        Ok(Self { configuration, body })
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("messages are bounded in count")
}

fn put_range(out: &mut Vec<u8>, range: SlotRange) {
    out.put_slot(range.first);
    out.put_slot(range.last);
}

fn range(r: &mut Reader) -> Result<SlotRange, DecodeError> {
    let range = SlotRange { first: r.slot()?, last: r.slot()? };
    if range.first == Slot::NONE || range.first > range.last {
        return Err(DecodeError::BadValue("slot range"));
    }
    Ok(range)
}

fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    out.put_ballot(entry.ballot);
    out.put_bytes(entry.value.bytes());
}

fn entry(r: &mut Reader) -> Result<Entry, DecodeError> {
    Ok(Entry { ballot: r.ballot()?, value: Value::new(r.bytes()?) })
}

fn put_lead(out: &mut Vec<u8>, m: &Lead) {
    out.put_ballot(m.ballot);
    out.put_slot(m.decided_upto);
    out.put_slot(m.proposed_upto);
    out.put_slot(m.durable_upto);
    out.put_slot(m.applied_upto);
    out.put_u8(u8::from(m.room));
    out.put_u64(m.round);
}

fn put_follow(out: &mut Vec<u8>, m: &Follow) {
    out.put_ballot(m.ballot);
    out.put_u64(m.round);
    out.put_slot(m.decided_upto);
    out.put_slot(m.durable_upto);
    out.put_slot(m.applied_upto);
    out.put_u8(u8::from(m.room));
    out.put_u64(m.clock.0);
    out.put_u64(nanos(m.disk));
}

fn put_promise(out: &mut Vec<u8>, m: &Promise) {
    out.put_ballot(m.ballot);
    out.put_u32(m.page);
    out.put_u8(u8::from(m.last));
    out.put_slot(m.after);
    out.put_slot(m.decided_upto);
    out.put_slot(m.truncated_upto);
    out.put_u64(m.clock.0);
    out.put_u32(count(m.uncertain.len()));
    for range in &m.uncertain {
        put_range(out, *range);
    }
    out.put_u32(count(m.accepted.len()));
    for (slot, entry) in &m.accepted {
        out.put_slot(*slot);
        put_entry(out, entry);
    }
}

fn promise(r: &mut Reader) -> Result<Promise, DecodeError> {
    let ballot = r.ballot()?;
    let (page, last) = (r.u32()?, r.flag("last page")?);
    let after = r.slot()?;
    let (decided_upto, truncated_upto) = (r.slot()?, r.slot()?);
    let clock = Timestamp(r.u64()?);
    let len = r.count(16)?;
    let mut uncertain = Vec::with_capacity(len);
    for _ in 0..len {
        uncertain.push(range(r)?);
    }
    let len = r.count(8 + ENTRY_LEN_MIN)?;
    let mut accepted = Vec::with_capacity(len);
    for _ in 0..len {
        accepted.push((r.slot()?, entry(r)?));
    }
    Ok(Promise {
        ballot,
        page,
        last,
        after,
        decided_upto,
        truncated_upto,
        clock,
        uncertain,
        accepted,
    })
}

fn put_refused(out: &mut Vec<u8>, m: &Refused) {
    out.put_ballot(m.ballot);
    match m.reason {
        RefusedReason::Promised(ballot) => {
            out.put_u8(1);
            out.put_ballot(ballot);
        }
        RefusedReason::Decided(upto) => {
            out.put_u8(2);
            out.put_slot(upto);
        }
        RefusedReason::NoRoom => out.put_u8(3),
    }
}

fn refused(r: &mut Reader) -> Result<Refused, DecodeError> {
    let ballot = r.ballot()?;
    let reason = match r.u8()? {
        1 => RefusedReason::Promised(r.ballot()?),
        2 => RefusedReason::Decided(r.slot()?),
        3 => RefusedReason::NoRoom,
        _ => return Err(DecodeError::BadValue("reason of refusal")),
    };
    Ok(Refused { ballot, reason })
}

fn successor(index: u32) -> Result<Option<u16>, DecodeError> {
    match u16::try_from(index) {
        Ok(index) if usize::from(index) < mainstay_model::quorum::REPLICAS_MAX => Ok(Some(index)),
        _ if index == u32::MAX => Ok(None),
        _ => Err(DecodeError::BadValue("successor")),
    }
}

fn decided(r: &mut Reader) -> Result<Decided, DecodeError> {
    let (from, decided_upto, truncated_upto) = (r.slot()?, r.slot()?, r.slot()?);
    let len = r.count(ENTRY_LEN_MIN)?;
    let mut entries = Vec::with_capacity(len);
    for _ in 0..len {
        entries.push(entry(r)?);
    }
    if from == Slot::NONE || from.0.checked_add(len as u64).is_none() {
        return Err(DecodeError::BadValue("slot"));
    }
    Ok(Decided { from, entries, decided_upto, truncated_upto })
}

fn forward(r: &mut Reader) -> Result<Forward, DecodeError> {
    let (number, applied_upto) = (r.u64()?, r.slot()?);
    let len = r.count(5)?;
    let mut requests = Vec::with_capacity(len);
    for _ in 0..len {
        requests.push(request(r)?);
    }
    Ok(Forward { number, applied_upto, requests })
}

fn put_request(out: &mut Vec<u8>, request: &Request) {
    out.put_u8(u8::from(request.id.is_some()));
    if let Some(id) = request.id {
        out.put_u128(id.client);
        out.put_u64(id.number.0);
    }
    out.put_bytes(&request.bytes);
}

fn request(r: &mut Reader) -> Result<Request, DecodeError> {
    let id = if r.flag("request has a name")? {
        Some(RequestId { client: r.u128()?, number: RequestNumber(r.u64()?) })
    } else {
        None
    };
    Ok(Request { id, bytes: r.bytes()? })
}

fn put_checkpoint(out: &mut Vec<u8>, checkpoint: CheckpointId) {
    out.put_slot(checkpoint.slot);
    out.put_u64(checkpoint.digest);
}

fn checkpoint(r: &mut Reader) -> Result<CheckpointId, DecodeError> {
    Ok(CheckpointId { slot: r.slot()?, digest: r.u64()? })
}

fn checkpoint_ask(r: &mut Reader) -> Result<CheckpointAsk, DecodeError> {
    let (wants, above) = (r.flag("wants")?, r.slot()?);
    if !wants && above != Slot::NONE {
        return Err(DecodeError::BadValue("slot"));
    }
    Ok(CheckpointAsk { wanted_above: wants.then_some(above) })
}

fn put_checkpoint_is(out: &mut Vec<u8>, m: &CheckpointIs) {
    out.put_slot(m.truncated_upto);
    out.put_u32(m.load);
    out.put_u8(u8::from(m.stable.is_some()));
    if let Some(stable) = m.stable {
        put_checkpoint(out, stable);
    }
    out.put_u32(count(m.held.len()));
    for checkpoint in &m.held {
        put_checkpoint(out, *checkpoint);
    }
}

fn checkpoint_is(r: &mut Reader) -> Result<CheckpointIs, DecodeError> {
    let (truncated_upto, load) = (r.slot()?, r.u32()?);
    let stable = if r.flag("stable")? { Some(checkpoint(r)?) } else { None };
    let len = r.count(16)?;
    let mut held = Vec::with_capacity(len);
    for _ in 0..len {
        held.push(checkpoint(r)?);
    }
    Ok(CheckpointIs { held, stable, truncated_upto, load })
}

fn put_instruct(out: &mut Vec<u8>, m: Instruct) {
    out.put_u64(m.number);
    let (tag, to) = match m.instruction {
        Instruction::LeaderMove { to } => (1, to),
        Instruction::ConfirmClockJump => (2, 0),
    };
    out.put_u8(tag);
    out.put_u16(to);
}

fn instruct(r: &mut Reader) -> Result<Instruct, DecodeError> {
    let (number, tag, to) = (r.u64()?, r.u8()?, r.u16()?);
    let instruction = match (tag, to) {
        (1, to) => Instruction::LeaderMove { to },
        (2, 0) => Instruction::ConfirmClockJump,
        _ => return Err(DecodeError::BadValue("instruction")),
    };
    Ok(Instruct { number, instruction })
}

/// How refusals stand on the wire; 0 means that the instruction was carried out.
const REFUSALS: [Refusal; 8] = [
    Refusal::UnknownReplica,
    Refusal::NoLeader,
    Refusal::NotVoting,
    Refusal::Lagging,
    Refusal::NoDisk,
    Refusal::Busy,
    Refusal::NotTaken,
    Refusal::NothingToConfirm,
];

fn refusal_tag(refusal: Refusal) -> u8 {
    (1..).zip(REFUSALS).find(|(_, known)| *known == refusal).map_or(u8::MAX, |(tag, _)| tag)
}

fn outcome(tag: u8) -> Result<Result<(), Refusal>, DecodeError> {
    let Some(at) = usize::from(tag).checked_sub(1) else { return Ok(Ok(())) };
    REFUSALS.get(at).map(|refusal| Err(*refusal)).ok_or(DecodeError::BadValue("refusal"))
}
