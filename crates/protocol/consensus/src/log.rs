//! The part of the log that stays in memory, and the watermarks.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use mainstay_model::{Entry, Mark, Recovered, Slot, Timestamp};

/// An entry and the mark of the record that keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kept {
    pub(crate) entry: Entry,
    pub(crate) mark: Mark,
}

/// Slots and watermarks of one replica.
///
/// Where `truncated_upto` is above `delivered_upto`, nothing can be delivered before a checkpoint was
/// fetched.
///
/// Invariant: `applied_upto ≤ delivered_upto ≤ decided_upto`; `decided_upto` never decreases, the
/// other two only where a fetched checkpoint takes the place of a diverged state; every entry above
/// `decided_upto` that was accepted is in `kept`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    kept: BTreeMap<Slot, Kept>,
    /// Bytes of the values in `kept`, and of those above `decided_upto`.
    bytes: usize,
    undecided_bytes: usize,
    /// Every slot up to here is decided.
    pub(crate) decided_upto: Slot,
    /// Every slot up to here has been handed to the executor.
    pub(crate) delivered_upto: Slot,
    /// Every slot up to here has been applied by the executor.
    pub(crate) applied_upto: Slot,
    /// Every slot up to here has been discarded from the log.
    pub(crate) truncated_upto: Slot,
    /// The highest slot in which anything was accepted.
    pub(crate) accepted_upto: Slot,
    /// The highest time of any value that was ever here, decided or not.
    pub(crate) time: Timestamp,
    /// Decided time at `decided_upto`; earlier than that where not all below has been looked at since
    /// the start.
    pub(crate) decided_time: Timestamp,
    /// The highest slot whose record is known to be durable.
    pub(crate) durable_upto: Slot,
}

impl Log {
    /// What was recovered, with everything up to the slot of `applied` held by a checkpoint, at which
    /// decided time was that.
    pub(crate) fn new(recovered: Recovered, applied: (Slot, Timestamp)) -> Self {
        let Recovered { decided_upto, truncated_upto, mut accepted, time, .. } = recovered;
        let (applied_upto, decided_time) = applied;
        let decided_upto = decided_upto.max(applied_upto).max(truncated_upto);
        let accepted = accepted.split_off(&decided_upto.next());
        let accepted_upto = accepted.keys().next_back().copied().unwrap_or(decided_upto);
        let mut log = Self {
            kept: BTreeMap::new(),
            bytes: 0,
            undecided_bytes: 0,
            decided_upto,
            delivered_upto: applied_upto,
            applied_upto,
            truncated_upto,
            accepted_upto: accepted_upto.max(decided_upto),
            time: time.max(decided_time),
            decided_time,
            durable_upto: accepted_upto.max(decided_upto),
        };
        for (slot, entry) in accepted {
            log.insert(slot, entry, Mark(0));
        }
        log
    }

    /// A checkpoint holds everything up to `slot`: delivering goes on after it, also backwards.
    pub(crate) fn restart_after(&mut self, slot: Slot) {
        while let Some(first) = self.kept.first_entry() {
            if *first.key() > slot {
                break;
            }
            let (at, kept) = first.remove_entry();
            self.bytes -= kept.entry.value.len();
            if at > self.decided_upto {
                self.undecided_bytes -= kept.entry.value.len();
            }
        }
        if slot > self.decided_upto {
            self.decided_upto = slot;
            self.accepted_upto = self.accepted_upto.max(slot);
        }
        self.delivered_upto = slot;
        self.applied_upto = slot;
    }

    /// Whether slots were discarded that were not delivered: the checkpoint that held them is gone.
    pub(crate) fn begins_too_late(&self) -> bool {
        self.truncated_upto > self.delivered_upto
    }

    /// Decided time has reached `time` at a slot that is decided.
    pub(crate) fn note_time(&mut self, time: Timestamp) {
        self.time = self.time.max(time);
        self.decided_time = self.decided_time.max(time);
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Kept> {
        self.kept.get(&slot)
    }

    /// Keeps `entry` in `slot`, in place of what was there.
    pub(crate) fn insert(&mut self, slot: Slot, entry: Entry, mark: Mark) {
        let len = entry.value.len();
        self.time = self.time.max(entry.value.time());
        let replaced = self.kept.insert(slot, Kept { entry, mark });
        let freed = replaced.map_or(0, |kept| kept.entry.value.len());
        self.bytes = self.bytes + len - freed;
        if slot > self.decided_upto {
            self.undecided_bytes = self.undecided_bytes + len - freed;
        }
        self.accepted_upto = self.accepted_upto.max(slot);
    }

    /// Moves the decided watermark by one slot, which must be kept unless it is only learned.
    pub(crate) fn decide(&mut self, slot: Slot) {
        assert!(slot == self.decided_upto.next(), "slots are decided in order");
        if let Some(kept) = self.kept.get(&slot) {
            self.undecided_bytes -= kept.entry.value.len();
            self.decided_time = self.decided_time.max(kept.entry.value.time());
        }
        self.decided_upto = slot;
        self.accepted_upto = self.accepted_upto.max(slot);
    }

    /// Bytes of values accepted and not known as decided.
    pub(crate) fn undecided_bytes(&self) -> usize {
        self.undecided_bytes
    }

    /// Everything kept above `slot`, ascending.
    pub(crate) fn above(&self, slot: Slot) -> impl Iterator<Item = (Slot, &Kept)> {
        self.kept.range(slot.next()..).map(|(slot, kept)| (*slot, kept))
    }

    /// The first kept slot at or above `slot`.
    pub(crate) fn first_kept_from(&self, slot: Slot) -> Option<Slot> {
        self.kept.range(slot..).next().map(|(slot, _)| *slot)
    }

    /// Entries from `from` to `upto` as far as they are kept without a hole, until they reach
    /// `bytes_max`; at least one if it is there.
    pub(crate) fn page(&self, from: Slot, upto: Slot, bytes_max: usize) -> Vec<Entry> {
        let mut entries = Vec::new();
        let (mut slot, mut bytes) = (from, 0);
        while slot <= upto && (entries.is_empty() || bytes < bytes_max) {
            let Some(kept) = self.kept.get(&slot) else { break };
            bytes += kept.entry.value.len();
            entries.push(kept.entry.clone());
            slot = slot.next();
        }
        entries
    }

    /// Bytes of the values above `from` up to `upto`, if all of them are kept.
    pub(crate) fn bytes_between(&self, from: Slot, upto: Slot) -> Option<usize> {
        if from >= upto {
            return Some(0);
        }
        let (mut slots, mut bytes) = (0, 0);
        for kept in self.kept.range(from.next()..=upto).map(|(_, kept)| kept) {
            slots += 1;
            bytes += kept.entry.value.len();
        }
        (slots == upto.0 - from.0).then_some(bytes)
    }

    /// Forgets decided and durable entries, the lowest first, until at most `bytes_max` are kept.
    pub(crate) fn evict(&mut self, bytes_max: usize, durable: Mark) {
        while self.bytes > bytes_max {
            let Some(first) = self.kept.first_entry() else { break };
            if *first.key() > self.decided_upto || first.get().mark > durable {
                break;
            }
            self.bytes -= first.remove().entry.value.len();
        }
    }
}
