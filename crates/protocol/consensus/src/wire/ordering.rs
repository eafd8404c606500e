//! The messages of ordering and of leader change.

use core::time::Duration;

use mainstay_model::codec::{DecodeError, Put, Reader};
use mainstay_model::time::nanos;
use mainstay_model::{Entry, Slot, Timestamp, Value};

use super::{ENTRY_LEN_MIN, Wire, list, put_list};
use crate::message::{
    Accept, Accepted, Follow, Lead, Learned, Prepare, Probe, ProbeReply, Promise, Refused,
    RefusedReason, StepDown,
};

impl Wire for Prepare {
    fn put(&self, out: &mut impl Put) {
        out.put_ballot(self.ballot);
        out.put_slot(self.from);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { ballot: r.ballot()?, from: r.slot()? })
    }
}

impl Wire for Promise {
    fn put(&self, out: &mut impl Put) {
        out.put_ballot(self.ballot);
        out.put_u32(self.page);
        out.put_u8(u8::from(self.last));
        out.put_slot(self.after);
        out.put_slot(self.decided_upto);
        out.put_slot(self.truncated_upto);
        out.put_u64(self.clock.0);
        out.put_u64(self.time.0);
        put_list(out, &self.uncertain);
        put_list(out, &self.accepted);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            ballot: r.ballot()?,
            page: r.u32()?,
            last: r.flag("last page")?,
            after: r.slot()?,
            decided_upto: r.slot()?,
            truncated_upto: r.slot()?,
            clock: Timestamp(r.u64()?),
            time: Timestamp(r.u64()?),
            uncertain: list(r, 16)?,
            accepted: list(r, 8 + ENTRY_LEN_MIN)?,
        })
    }
}

impl Wire for (Slot, Entry) {
    fn put(&self, out: &mut impl Put) {
        out.put_slot(self.0);
        self.1.put(out);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok((r.slot()?, Entry::read(r)?))
    }
}

impl Wire for Accept {
    fn put(&self, out: &mut impl Put) {
        out.put_ballot(self.ballot);
        out.put_slot(self.slot);
        out.put_slot(self.decided_upto);
        out.put_shared(self.value.bytes());
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            ballot: r.ballot()?,
            slot: r.slot()?,
            decided_upto: r.slot()?,
            value: Value::new(r.bytes()?),
        })
    }
}

impl Wire for Accepted {
    fn put(&self, out: &mut impl Put) {
        out.put_ballot(self.ballot);
        self.slots.put(out);
        out.put_slot(self.applied_upto);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { ballot: r.ballot()?, slots: Wire::read(r)?, applied_upto: r.slot()? })
    }
}

impl Wire for Refused {
    fn put(&self, out: &mut impl Put) {
        out.put_ballot(self.ballot);
        match self.reason {
            RefusedReason::Promised(ballot) => {
                out.put_u8(1);
                out.put_ballot(ballot);
            }
            RefusedReason::Decided(upto) => {
                out.put_u8(2);
                out.put_slot(upto);
            }
            RefusedReason::NoRoom => out.put_u8(3),
            RefusedReason::Behind { slot, decided_upto } => {
                out.put_u8(4);
                out.put_slot(slot);
                out.put_slot(decided_upto);
            }
        }
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        let ballot = r.ballot()?;
        let reason = match r.u8()? {
            1 => RefusedReason::Promised(r.ballot()?),
            2 => RefusedReason::Decided(r.slot()?),
            3 => RefusedReason::NoRoom,
            4 => RefusedReason::Behind { slot: r.slot()?, decided_upto: r.slot()? },
            _ => return Err(DecodeError::BadValue("reason of refusal")),
        };
        Ok(Self { ballot, reason })
    }
}

impl Wire for Lead {
    fn put(&self, out: &mut impl Put) {
        out.put_ballot(self.ballot);
        out.put_slot(self.decided_upto);
        out.put_slot(self.proposed_upto);
        out.put_slot(self.durable_upto);
        out.put_slot(self.applied_upto);
        out.put_u8(u8::from(self.room));
        out.put_u64(self.round);
        out.put_u64(self.time.0);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            ballot: r.ballot()?,
            decided_upto: r.slot()?,
            proposed_upto: r.slot()?,
            durable_upto: r.slot()?,
            applied_upto: r.slot()?,
            room: r.flag("room")?,
            round: r.u64()?,
            time: Timestamp(r.u64()?),
        })
    }
}

impl Wire for Follow {
    fn put(&self, out: &mut impl Put) {
        out.put_ballot(self.ballot);
        out.put_u64(self.round);
        out.put_slot(self.decided_upto);
        out.put_slot(self.durable_upto);
        out.put_slot(self.applied_upto);
        out.put_u8(u8::from(self.room));
        out.put_u64(self.clock.0);
        out.put_u64(nanos(self.disk));
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            ballot: r.ballot()?,
            round: r.u64()?,
            decided_upto: r.slot()?,
            durable_upto: r.slot()?,
            applied_upto: r.slot()?,
            room: r.flag("room")?,
            clock: Timestamp(r.u64()?),
            disk: Duration::from_nanos(r.u64()?),
        })
    }
}

impl Wire for Learned {
    fn put(&self, out: &mut impl Put) {
        out.put_ballot(self.ballot);
        out.put_slot(self.decided_upto);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { ballot: r.ballot()?, decided_upto: r.slot()? })
    }
}

impl Wire for Probe {
    fn put(&self, out: &mut impl Put) {
        out.put_u64(self.number);
        out.put_ballot(self.ballot);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { number: r.u64()?, ballot: r.ballot()? })
    }
}

impl Wire for ProbeReply {
    fn put(&self, out: &mut impl Put) {
        out.put_u64(self.number);
        out.put_u8(u8::from(self.hears_leader));
        out.put_ballot(self.ballot);
        out.put_slot(self.decided_upto);
        out.put_u64(nanos(self.disk));
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            number: r.u64()?,
            hears_leader: r.flag("hears leader")?,
            ballot: r.ballot()?,
            decided_upto: r.slot()?,
            disk: Duration::from_nanos(r.u64()?),
        })
    }
}

impl Wire for StepDown {
    fn put(&self, out: &mut impl Put) {
        out.put_ballot(self.ballot);
        out.put_u32(self.successor.map_or(u32::MAX, u32::from));
        out.put_slot(self.decided_upto);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { ballot: r.ballot()?, successor: successor(r.u32()?)?, decided_upto: r.slot()? })
    }
}

fn successor(index: u32) -> Result<Option<u16>, DecodeError> {
    match u16::try_from(index) {
        Ok(index) if usize::from(index) < mainstay_model::quorum::REPLICAS_MAX => Ok(Some(index)),
        _ if index == u32::MAX => Ok(None),
        _ => Err(DecodeError::BadValue("successor")),
    }
}
