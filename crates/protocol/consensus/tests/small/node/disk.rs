//! The disk of a node: its log, and its checkpoints.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use mainstay_model::plant::Planted;
use mainstay_model::{
    Ballot, CheckpointId, Entry, Mark, Plant, Plants, Record, RecordKind, Recovered, Slot, Value,
};

/// What survives a crash, and what does not yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Disk {
    pub(crate) promised: Ballot,
    decided_upto: Slot,
    pub(crate) entries: BTreeMap<Slot, Entry>,
    pub(crate) truncated_upto: Slot,
    /// Written, and lost by a crash.
    pub(super) pending: VecDeque<(Mark, Vec<Record>)>,
    /// Durable, ascending: the two newest, and the one that is noted as stable.
    pub(crate) checkpoints: Vec<CheckpointId>,
    pub(super) stable: Option<CheckpointId>,
    /// Pieces of one that is being fetched.
    pub(super) incoming: Option<(CheckpointId, Vec<Bytes>)>,
}

impl Disk {
    pub(super) fn read(&self, from: Slot, upto: Slot) -> Vec<Entry> {
        let mut latest = self.entries.clone();
        for record in self.pending.iter().flat_map(|(_, records)| records) {
            if let RecordKind::Accept { slot, entry } | RecordKind::Learn { slot, entry } =
                &record.kind
            {
                latest.insert(*slot, entry.clone());
            }
        }
        let wanted = (from.0..=upto.0).map(Slot).filter(|slot| *slot > self.truncated_upto);
        wanted.map_while(|slot| latest.get(&slot).cloned()).collect()
    }

    /// The oldest write becomes durable.
    pub(super) fn sync_one(&mut self) -> Option<Mark> {
        let (mark, records) = self.pending.pop_front()?;
        for record in records {
            self.promised = self.promised.max(record.promised);
            self.decided_upto = self.decided_upto.max(record.decided_upto);
            if let RecordKind::Accept { slot, entry } | RecordKind::Learn { slot, entry } =
                record.kind
                && slot > self.truncated_upto
            {
                self.entries.insert(slot, entry);
            }
        }
        Some(mark)
    }

    /// A further record has carried the watermark.
    pub(crate) fn knows_decided(&mut self, upto: Slot) {
        self.decided_upto = self.decided_upto.max(upto);
    }

    /// The log begins after `upto`. What it promised is written anew before the records go that say so.
    pub(super) fn truncate(&mut self, upto: Slot, planted: Planted) {
        self.truncated_upto = self.truncated_upto.max(upto);
        self.entries = self.entries.split_off(&upto.next());
        if planted.has(Plant::SegmentWithPromiseDiscarded) {
            let left = self.entries.values().map(|entry| entry.ballot).max();
            self.promised = left.unwrap_or(Ballot::ZERO);
        }
    }

    /// Notes what is stable, then gives up the slots up to `upto`.
    pub(super) fn discard(&mut self, upto: Slot, stable: Option<CheckpointId>, planted: Planted) {
        self.stable = self.stable.max(stable);
        self.truncate(upto, planted);
    }

    /// Returns which ones are not held any more.
    pub(super) fn put_checkpoint(&mut self, checkpoint: CheckpointId) -> Vec<CheckpointId> {
        self.checkpoints.push(checkpoint);
        let older = self.checkpoints.len().saturating_sub(2);
        let stable = self.stable;
        let older = self.checkpoints[..older].iter().copied();
        let gone: Vec<_> = older.filter(|held| Some(*held) != stable).collect();
        self.checkpoints.retain(|held| !gone.contains(held));
        gone
    }

    /// What was fetched takes the place of everything up to its slot.
    pub(super) fn install(&mut self, checkpoint: CheckpointId, planted: Planted) {
        self.checkpoints = vec![checkpoint];
        self.stable = self.stable.max(Some(checkpoint));
        self.truncate(checkpoint.slot, planted);
    }

    pub(super) fn recovered(&self) -> Recovered {
        let decided_upto = self.decided_upto.max(self.truncated_upto);
        Recovered {
            promised: self.promised,
            decided_upto,
            truncated_upto: self.truncated_upto,
            accepted: self.entries.clone().split_off(&decided_upto.next()),
            uncertain: Vec::new(),
            time: self.entries.values().map(|entry| entry.value.time()).max().unwrap_or_default(),
        }
    }

    /// Whether `value` of `slot` is safe here: itself, or in a checkpoint of the state `right` at its
    /// slot.
    pub(crate) fn keeps(
        &self,
        slot: Slot,
        value: &Value,
        right: impl Fn(&CheckpointId) -> bool,
    ) -> bool {
        self.entries.get(&slot).is_some_and(|entry| entry.value == *value)
            || self.checkpoints.iter().any(|held| held.slot >= slot && right(held))
    }
}
