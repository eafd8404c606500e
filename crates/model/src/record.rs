//! What a machine asks its log to keep, and what the log gives back at start.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::{Ballot, ConfigurationId, GroupId, Slot, Timestamp, Value};

/// What a slot holds at one replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The ballot in which the value was accepted; for a value learned as decided, the ballot under
    /// which its donor kept it.
    pub ballot: Ballot,
    /// The value.
    pub value: Value,
}

/// The kinds of record that a machine writes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// A promise: no ballot below [`Record::promised`] is answered any more. A replica's own ballot
    /// is a promise to itself.
    Promise,
    /// A value accepted in a slot.
    Accept {
        /// The slot.
        slot: Slot,
        /// What was accepted, and in which ballot.
        entry: Entry,
    },
    /// A value fetched from another replica that knows it as decided.
    Learn {
        /// The slot.
        slot: Slot,
        /// What was decided.
        entry: Entry,
    },
}

/// One line of the log. A later record for a slot supersedes an earlier one. Every record carries
/// the promise and the decided watermark as of its writing, so that neither needs a write of its
/// own beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// The group it belongs to.
    pub group: GroupId,
    /// The configuration of its slot (for a promise, the one in force).
    pub configuration: ConfigurationId,
    /// The promised ballot once this record is written. Never decreases along the log.
    pub promised: Ballot,
    /// Every slot up to here is decided, and stands in the log before this record. Never decreases
    /// along the log.
    pub decided_upto: Slot,
    /// What it says.
    pub kind: RecordKind,
}

impl Record {
    /// Length of its value in bytes.
    #[must_use]
    pub fn value_len(&self) -> usize {
        match &self.kind {
            RecordKind::Promise => 0,
            RecordKind::Accept { entry, .. } | RecordKind::Learn { entry, .. } => entry.value.len(),
        }
    }

    /// Whether it keeps requests: such records may find no room, and never use the reserve that is there
    /// for all others.
    #[must_use]
    pub fn has_requests(&self) -> bool {
        match &self.kind {
            RecordKind::Promise => false,
            RecordKind::Accept { entry, .. } | RecordKind::Learn { entry, .. } => {
                entry.value.request_count() > 0
            }
        }
    }
}

/// Names a checkpoint: the state after a slot, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CheckpointId {
    /// The last slot whose effects it holds.
    pub slot: Slot,
    /// The digest over the whole replicated state after that slot, equal at every replica.
    pub digest: u64,
}

/// An inclusive range of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotRange {
    /// The first slot of the range.
    pub first: Slot,
    /// The last slot of the range.
    pub last: Slot,
}

impl SlotRange {
    /// Whether `slot` lies in the range.
    #[must_use]
    pub fn contains(&self, slot: Slot) -> bool {
        self.first <= slot && slot <= self.last
    }
}

/// What a log holds for one group when it is opened. All of it is durable: the log has been
/// classified, rewritten without its torn tail, and synced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Recovered {
    /// The highest promise.
    pub promised: Ballot,
    /// Every slot up to here is decided; their entries are read back with `ReadLog`.
    pub decided_upto: Slot,
    /// Every slot up to here has been discarded.
    pub truncated_upto: Slot,
    /// What was accepted above `decided_upto`.
    pub accepted: BTreeMap<Slot, Entry>,
    /// Slots whose records are damaged: the replica cannot say what it accepted there.
    pub uncertain: Vec<SlotRange>,
    /// The latest time of any value that the log holds, or was accepted and superseded.
    pub time: Timestamp,
}
