//! What a replica of the small world has on disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_consensus::PartialCheckpoint;
use mainstay_model::{CheckpointId, Entry, Mark, Record, RecordKind, Recovered, Slot};

use super::MS;

/// For how long a checkpoint that was given away is kept at least.
const HOLD: u64 = 10_000 * MS;

/// What a disk holds: records up to `durable` survive a crash.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) records: Vec<Record>,
    pub(super) durable: usize,
    pub(super) pending: Vec<(u64, Mark, usize)>,
    pub(super) truncated_upto: Slot,
    /// Ascending; the last two, the last stable one, and those that are being given away.
    pub(super) checkpoints: Vec<CheckpointId>,
    /// The last one that was noted as stable.
    pub(super) stable: Option<CheckpointId>,
    /// When a piece of a checkpoint was last given away.
    pub(super) given: BTreeMap<CheckpointId, u64>,
    /// Pieces of a checkpoint that is being fetched.
    pub(super) pieces: Vec<Bytes>,
    pub(super) fetched: Option<(CheckpointId, u64)>,
    /// When the last piece is stored.
    pub(super) stored_at: u64,
}

impl Disk {
    /// What was not durable is gone.
    pub(super) fn crash(&mut self) {
        self.records.truncate(self.durable);
        self.pending.clear();
    }

    pub(super) fn checkpoint(&self) -> Option<CheckpointId> {
        self.checkpoints.last().copied()
    }

    pub(super) fn partial(&self) -> Option<PartialCheckpoint> {
        let chunks = self.pieces.len() as u32;
        let partial = |(checkpoint, total)| PartialCheckpoint { checkpoint, total, chunks };
        self.fetched.map(partial)
    }

    /// Returns which ones are not held any more.
    pub(super) fn add(&mut self, checkpoint: CheckpointId, now: u64) -> Vec<CheckpointId> {
        self.checkpoints.push(checkpoint);
        let older = self.checkpoints.len().saturating_sub(2);
        let goes = |checkpoint: &CheckpointId| {
            let given = self.given.get(checkpoint).is_some_and(|given| given + HOLD > now);
            !given && Some(*checkpoint) != self.stable
        };
        let gone: Vec<_> = self.checkpoints[..older].iter().copied().filter(goes).collect();
        self.checkpoints.retain(|checkpoint| !gone.contains(checkpoint));
        gone
    }

    /// The last entry of every slot.
    fn entries(&self) -> BTreeMap<Slot, Entry> {
        let entry = |record: &Record| match &record.kind {
            RecordKind::Accept { slot, entry } | RecordKind::Learn { slot, entry } => {
                Some((*slot, entry.clone()))
            }
            _ => None,
        };
        self.records.iter().filter_map(entry).collect()
    }

    pub(super) fn recovered(&self) -> Recovered {
        let truncated_upto = self.truncated_upto;
        let mut recovered = Recovered { truncated_upto, ..Recovered::default() };
        recovered.decided_upto = truncated_upto;
        for record in &self.records {
            recovered.promised = recovered.promised.max(record.promised);
            recovered.decided_upto = recovered.decided_upto.max(record.decided_upto);
        }
        let times = self.entries().into_values().map(|entry| entry.value.time());
        recovered.time = times.max().unwrap_or_default();
        recovered.accepted = self.entries().split_off(&recovered.decided_upto.next());
        recovered
    }

    pub(super) fn read_log(&self, from: Slot, upto: Slot) -> Vec<Entry> {
        let mut latest = self.entries();
        latest.retain(|slot, _| *slot > self.truncated_upto);
        let wanted = (from.0..=upto.0).map(Slot);
        wanted.map_while(|slot| latest.get(&slot).cloned()).collect()
    }
}
