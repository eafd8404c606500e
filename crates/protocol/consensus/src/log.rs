//! The part of the log that stays in memory, and the watermarks.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use mainstay_model::{Entry, Mark, Recovered, Slot, Timestamp};

/// An entry and the mark of the record that keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kept {
    pub(crate) entry: Entry,
    pub(crate) mark: Mark,
    /// The slot was known as decided when this took the place of a damaged record.
    repairs: bool,
    /// Nobody could tell before this what was accepted in the slot.
    was_uncertain: bool,
    /// What stands in the log before it, until its own record is durable: the latest last.
    earlier: Vec<Self>,
}

/// Slots and watermarks of one replica.
///
/// Where `truncated_upto` is above `delivered_upto`, nothing can be delivered before a checkpoint was
/// fetched.
///
/// Invariant: `applied_upto ≤ delivered_upto`, and `delivered_upto ≤ decided_upto` unless values were
/// passed on; `decided_upto` decreases only where the disk had no room for a record, the other two only
/// where a fetched checkpoint takes the place of the state; every entry above `decided_upto` that was
/// accepted is in `kept`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    kept: BTreeMap<Slot, Kept>,
    /// Bytes of the values in `kept`, and of those above `decided_upto`.
    bytes: usize,
    undecided_bytes: usize,
    /// Every slot up to here is decided, and stands in this replica's log or in a checkpoint of it.
    pub(crate) decided_upto: Slot,
    /// Every slot up to here has been handed to the executor.
    pub(crate) delivered_upto: Slot,
    /// The first slot whose value was passed on to the executor without being kept, for want of room
    /// on disk, and is not in the log yet.
    pub(crate) passed_from: Option<Slot>,
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
            passed_from: None,
            applied_upto,
            truncated_upto,
            accepted_upto: accepted_upto.max(decided_upto),
            time: time.max(decided_time),
            decided_time,
            durable_upto: accepted_upto.max(decided_upto),
        };
        for (slot, entry) in accepted {
            log.insert(slot, entry, (Mark(0), Mark(0)), false);
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
        self.passed_from = None;
        self.applied_upto = slot;
    }

    /// Every slot up to here is in the hands of the executor and in the log: what a replica that has
    /// room must not lack.
    pub(crate) fn settled_upto(&self) -> Slot {
        self.passed_from.map_or(self.delivered_upto, Slot::previous)
    }

    /// The value of `slot` is handed to the executor and not kept.
    pub(crate) fn pass(&mut self, slot: Slot) {
        assert!(slot == self.delivered_upto.next(), "values are passed on in order");
        self.passed_from.get_or_insert(slot);
        self.delivered_upto = slot;
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

    /// Keeps `entry` in `slot`, in place of what was there: the record of these marks keeps it, and up to
    /// which all are durable. `was_uncertain`: nobody could tell before what was accepted there.
    pub(crate) fn insert(
        &mut self,
        slot: Slot,
        entry: Entry,
        (mark, durable): (Mark, Mark),
        was_uncertain: bool,
    ) {
        let len = entry.value.len();
        self.time = self.time.max(entry.value.time());
        let repairs = slot <= self.decided_upto;
        let mut kept = Kept { entry, mark, repairs, was_uncertain, earlier: Vec::new() };
        let mut freed = 0;
        if let Some(mut replaced) = self.kept.remove(&slot) {
            freed = replaced.entry.value.len();
            kept.earlier = core::mem::take(&mut replaced.earlier);
            kept.earlier.push(replaced);
            // Of what is durable the last one is enough.
            let last = kept.earlier.iter().rposition(|earlier| earlier.mark <= durable);
            kept.earlier.drain(..last.unwrap_or(0));
        }
        self.kept.insert(slot, kept);
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

    /// The disk had no room for the records of these marks and above: what they were to keep is taken
    /// back, as if the replica had been started again. What was decided there does not stand in the log
    /// any more. Returns the slots about which nobody can tell again what was accepted.
    pub(crate) fn unwritten(&mut self, from: Mark) -> Vec<Slot> {
        let lost = self.kept.iter().filter(|(_, kept)| kept.mark >= from);
        let lost: Vec<Slot> = lost.map(|(slot, _)| *slot).collect();
        let (mut uncertain, mut first) = (Vec::new(), None);
        for slot in lost {
            let Some(mut kept) = self.kept.remove(&slot) else { continue };
            let mut earlier = core::mem::take(&mut kept.earlier);
            let mut left = Some(kept);
            while let Some(kept) = left.take_if(|kept| kept.mark >= from) {
                if kept.was_uncertain {
                    uncertain.push(slot);
                }
                if !kept.repairs {
                    first.get_or_insert(slot);
                }
                left = earlier.pop();
            }
            if let Some(kept) = left {
                self.kept.insert(slot, Kept { earlier, ..kept });
            }
        }
        if let Some(first) = first.filter(|first| *first <= self.decided_upto) {
            // All from there on is kept: nothing is forgotten behind a record that is not durable.
            self.decided_upto = first.previous();
        }
        if self.delivered_upto > self.decided_upto {
            let next = self.decided_upto.next();
            self.passed_from = Some(self.passed_from.map_or(next, |passed| passed.min(next)));
        }
        let len = |(_, kept): (&Slot, &Kept)| kept.entry.value.len();
        self.bytes = self.kept.iter().map(len).sum();
        self.undecided_bytes = self.kept.range(self.decided_upto.next()..).map(len).sum();
        uncertain
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
