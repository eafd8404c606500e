//! The messages of catch-up, of checkpoints and of their transfer.

use alloc::vec::Vec;

use mainstay_model::Slot;
use mainstay_model::codec::{DecodeError, Put, Reader};

use super::{ENTRY_LEN_MIN, Wire, list, put_list};
use crate::message::{
    CatchUp, CheckpointAsk, CheckpointIs, Chunk, ChunkAsk, ChunkRefusal, ChunkRefused, Decided,
    Report,
};

impl Wire for CatchUp {
    fn put(&self, out: &mut impl Put) {
        out.put_slot(self.from);
        out.put_slot(self.upto);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { from: r.slot()?, upto: r.slot()? })
    }
}

impl Wire for Decided {
    fn put(&self, out: &mut impl Put) {
        out.put_slot(self.from);
        out.put_slot(self.decided_upto);
        out.put_slot(self.truncated_upto);
        put_list(out, &self.entries);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        let (from, decided_upto, truncated_upto) = (r.slot()?, r.slot()?, r.slot()?);
        let entries: Vec<_> = list(r, ENTRY_LEN_MIN)?;
        if from == Slot::NONE || from.0.checked_add(entries.len() as u64).is_none() {
            return Err(DecodeError::BadValue("slot"));
        }
        Ok(Self { from, entries, decided_upto, truncated_upto })
    }
}

impl Wire for Report {
    fn put(&self, out: &mut impl Put) {
        out.put_slot(self.accepted_upto);
        out.put_slot(self.decided_upto);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { accepted_upto: r.slot()?, decided_upto: r.slot()? })
    }
}

impl Wire for CheckpointAsk {
    fn put(&self, out: &mut impl Put) {
        out.put_u8(u8::from(self.wanted_above.is_some()));
        out.put_slot(self.wanted_above.unwrap_or(Slot::NONE));
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        let (wants, above) = (r.flag("wants")?, r.slot()?);
        if !wants && above != Slot::NONE {
            return Err(DecodeError::BadValue("slot"));
        }
        Ok(Self { wanted_above: wants.then_some(above) })
    }
}

impl Wire for CheckpointIs {
    fn put(&self, out: &mut impl Put) {
        out.put_slot(self.truncated_upto);
        out.put_u32(self.load);
        out.put_u8(self.stable.len() as u8);
        self.stable.iter().for_each(|stable| stable.put(out));
        put_list(out, &self.held);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        let (truncated_upto, load) = (r.slot()?, r.u32()?);
        let count = match r.u8()? {
            count @ ..=2 => count,
            _ => return Err(DecodeError::BadValue("stable")),
        };
        let stable = (0..count).map(|_| Wire::read(r)).collect::<Result<_, _>>()?;
        Ok(Self { held: list(r, 16)?, stable, truncated_upto, load })
    }
}

impl Wire for ChunkAsk {
    fn put(&self, out: &mut impl Put) {
        self.checkpoint.put(out);
        out.put_u32(self.chunk);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { checkpoint: Wire::read(r)?, chunk: r.u32()? })
    }
}

impl Wire for Chunk {
    fn put(&self, out: &mut impl Put) {
        self.checkpoint.put(out);
        out.put_u32(self.chunk);
        out.put_u64(self.total);
        out.put_shared(&self.bytes);
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { checkpoint: Wire::read(r)?, chunk: r.u32()?, total: r.u64()?, bytes: r.bytes()? })
    }
}

impl Wire for ChunkRefused {
    fn put(&self, out: &mut impl Put) {
        self.checkpoint.put(out);
        out.put_u32(self.chunk);
        out.put_u8(match self.reason {
            ChunkRefusal::Gone => 1,
            ChunkRefusal::Unstable => 2,
            ChunkRefusal::Busy => 3,
        });
    }

    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        let (checkpoint, chunk) = (Wire::read(r)?, r.u32()?);
        let reason = match r.u8()? {
            1 => ChunkRefusal::Gone,
            2 => ChunkRefusal::Unstable,
            3 => ChunkRefusal::Busy,
            _ => return Err(DecodeError::BadValue("reason of refusal")),
        };
        Ok(Self { checkpoint, chunk, reason })
    }
}
