//! Where the latest record of every slot stands, in eight bytes a slot.

use std::collections::BTreeMap;

use mainstay_model::Slot;

use crate::layout::ALIGNMENT;

const CHUNK_LEN: u64 = 512;

/// The place of a record: segment, and offset in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: u64,
}

impl Location {
    const fn pack(self) -> u64 {
        ((self.segment as u64) << 32) | (self.offset / ALIGNMENT)
    }

    const fn unpack(packed: u64) -> Option<Self> {
        if packed == 0 {
            return None;
        }
        Some(Self {
            segment: (packed >> 32) as u32,
            offset: (packed & u32::MAX as u64) * ALIGNMENT,
        })
    }
}

/// Maps slots to locations. Chunks of 512 slots, so that a few far-off slots cost little.
#[derive(Debug, Default)]
pub(crate) struct SlotIndex {
    chunks: BTreeMap<u64, Box<[u64; CHUNK_LEN as usize]>>,
}

impl SlotIndex {
    pub(crate) fn insert(&mut self, slot: Slot, location: Location) {
        let chunk = self
            .chunks
            .entry(slot.0 / CHUNK_LEN)
            .or_insert_with(|| Box::new([0; CHUNK_LEN as usize]));
        chunk[(slot.0 % CHUNK_LEN) as usize] = location.pack();
    }

    pub(crate) fn remove(&mut self, slot: Slot) {
        if let Some(chunk) = self.chunks.get_mut(&(slot.0 / CHUNK_LEN)) {
            chunk[(slot.0 % CHUNK_LEN) as usize] = 0;
        }
    }

    /// Forgets every slot up to `upto`, and frees their memory, chunk by chunk.
    pub(crate) fn forget(&mut self, upto: Slot) {
        let boundary = upto.next().0 / CHUNK_LEN;
        self.chunks = self.chunks.split_off(&boundary);
        if let Some(chunk) = self.chunks.get_mut(&boundary) {
            chunk[..(upto.next().0 % CHUNK_LEN) as usize].fill(0);
        }
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<Location> {
        let chunk = self.chunks.get(&(slot.0 / CHUNK_LEN))?;
        Location::unpack(chunk[(slot.0 % CHUNK_LEN) as usize])
    }

    /// Every slot from `from` on that has a location, ascending.
    pub(crate) fn from(&self, from: Slot) -> impl Iterator<Item = (Slot, Location)> + '_ {
        self.chunks.range(from.0 / CHUNK_LEN..).flat_map(move |(&number, chunk)| {
            let slots = (number * CHUNK_LEN..).zip(chunk.iter());
            slots.filter_map(move |(slot, &packed)| {
                let location = Location::unpack(packed)?;
                (slot >= from.0).then_some((Slot(slot), location))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgotten_slots_take_no_memory() {
        let mut index = SlotIndex::default();
        let location = Location { segment: 1, offset: 8192 };
        for slot in 1..=10 * CHUNK_LEN {
            index.insert(Slot(slot), location);
        }
        for upto in [0, 1, CHUNK_LEN - 2, CHUNK_LEN - 1, CHUNK_LEN, 7 * CHUNK_LEN + 3] {
            index.forget(Slot(upto));
            assert_eq!(index.from(Slot::NONE).next(), Some((Slot(upto + 1), location)));
        }
        assert_eq!(index.chunks.len(), 4, "chunks 7 to 9, and the one that holds slot 5120");
        index.forget(Slot(10 * CHUNK_LEN));
        assert_eq!(index.from(Slot::NONE).next(), None);
        index.forget(Slot(u64::MAX >> 1));
        assert!(index.chunks.is_empty());
    }
}
