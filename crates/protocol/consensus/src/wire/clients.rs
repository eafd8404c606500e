//! The messages that carry what clients and operators ask for.

use mainstay_model::codec::{DecodeError, Put, Reader};
use mainstay_model::{RequestId, RequestNumber, Timestamp};

use super::{Wire, list, put_list};
use crate::door::{Instruction, Refusal};
use crate::message::{Forward, Instruct, Instructed, NotLeader, ReadAsk, ReadSlot, Request};

impl Wire for Forward {
    fn put(&self, out: &mut impl Put) {
        out.put_u64(self.number);
        out.put_u8(u8::from(self.relay));
        out.put_slot(self.applied_upto);
        put_list(out, &self.requests);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        let (number, relay) = (r.u64()?, r.flag("relay")?);
        Ok(Self { number, relay, applied_upto: r.slot()?, requests: list(r, 13)? })
    }
}

impl Wire for Request {
    fn put(&self, out: &mut impl Put) {
        out.put_u8(u8::from(self.id.is_some()));
        if let Some(id) = self.id {
            out.put_u128(id.client);
            out.put_u64(id.number.0);
        }
        out.put_u64(self.client);
        out.put_shared(&self.bytes);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        let id = if r.flag("request has a name")? {
            Some(RequestId { client: r.u128()?, number: RequestNumber(r.u64()?) })
        } else {
            None
        };
        Ok(Self { id, client: r.u64()?, bytes: r.bytes()? })
    }
}

impl Wire for NotLeader {
    fn put(&self, out: &mut impl Put) {
        out.put_ballot(self.ballot);
        out.put_u8(u8::from(self.leads));
        out.put_u64(self.number);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { ballot: r.ballot()?, leads: r.flag("leads")?, number: r.u64()? })
    }
}

impl Wire for ReadAsk {
    fn put(&self, out: &mut impl Put) {
        out.put_u64(self.number);
        out.put_u8(u8::from(self.relay));
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { number: r.u64()?, relay: r.flag("relay")? })
    }
}

impl Wire for ReadSlot {
    fn put(&self, out: &mut impl Put) {
        out.put_u64(self.number);
        out.put_slot(self.slot);
        out.put_u64(self.time.0);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { number: r.u64()?, slot: r.slot()?, time: Timestamp(r.u64()?) })
    }
}

impl Wire for Instruct {
    fn put(&self, out: &mut impl Put) {
        out.put_u64(self.number);
        let (tag, to) = match self.instruction {
            Instruction::LeaderMove { to } => (1, to),
            Instruction::ConfirmClockJump => (2, 0),
        };
        out.put_u8(tag);
        out.put_u16(to);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        let (number, tag, to) = (r.u64()?, r.u8()?, r.u16()?);
        let instruction = match (tag, to) {
            (1, to) => Instruction::LeaderMove { to },
            (2, 0) => Instruction::ConfirmClockJump,
            _ => return Err(DecodeError::BadValue("instruction")),
        };
        Ok(Self { number, instruction })
    }
}

impl Wire for Instructed {
    fn put(&self, out: &mut impl Put) {
        out.put_u64(self.number);
        out.put_u8(self.outcome.map_or_else(refusal_tag, |()| 0));
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { number: r.u64()?, outcome: outcome(r.u8()?)? })
    }
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
