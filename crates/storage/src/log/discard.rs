//! Giving up what a checkpoint covers: whole segments, after what they promised was written anew.

use mainstay_model::{Ballot, GroupId, Plant, Plants, Slot};

use super::{Log, write_failed};
use crate::disk::Disk;
use crate::error::{AppendError, SyncError};
use crate::layout::{RECORDS_START, STATE_VALUE_LEN, record_len, segment_name};
use crate::open::{Closed, Highest};

impl<D: Disk, P: Plants> Log<D, P> {
    /// Gives up slots of `group` up to `upto`, which a durable checkpoint covers: whole segments, the
    /// oldest first, that hold nothing above (in any group, each up to where it was allowed), for as
    /// long as more than `keep_bytes` of records remain. What they promised and what is gone is written
    /// anew and synced. Returns the names of files that are no part of the log any more: whoever asked
    /// removes them, in any order and at any time; [`Log::open`] removes what is left of them. How far
    /// that went is told by [`Log::truncated_upto`]. Cheap when there is nothing to do; else one sync
    /// of the log.
    ///
    /// # Errors
    /// See [`AppendError`]; all but [`AppendError::NoRoom`] are final.
    pub fn give_up(
        &mut self,
        group: GroupId,
        upto: Slot,
        keep_bytes: u64,
    ) -> Result<Vec<String>, AppendError> {
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        let Some(known) = self.groups.get_mut(&group) else { return Ok(Vec::new()) };
        known.covered_upto = upto;
        let result = self.give_up_covered(keep_bytes);
        self.poisoned |= matches!(result, Err(AppendError::Failed { .. }));
        Ok(result?.into_iter().map(segment_name).collect())
    }

    /// [`Log::give_up`], and removes the files; one sync of the folder more. Returns the truncation
    /// point: every slot up to it is gone, or may be, and is not read back any more.
    ///
    /// # Errors
    /// As for [`Log::give_up`].
    pub fn discard(
        &mut self,
        group: GroupId,
        upto: Slot,
        keep_bytes: u64,
    ) -> Result<Slot, AppendError> {
        let names = self.give_up(group, upto, keep_bytes)?;
        let removed = self.remove(&names);
        self.poisoned |= removed.is_err();
        removed?;
        Ok(self.truncated_upto(group))
    }

    fn remove(&self, names: &[String]) -> Result<(), AppendError> {
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            let removed = self.disk.remove(name);
            removed.map_err(|source| AppendError::Failed { file: name.clone(), source })?;
        }
        let synced = self.disk.sync_folder();
        synced.map_err(|source| write_failed(self.current.number, source))
    }

    /// Goes on after `slot`, up to which an installed checkpoint replaces the log: nothing up to it is
    /// read back any more, and what is missing there is not uncertain; entries above it stay. Durable
    /// when this returns, with everything appended before. Later records may carry a lower or a higher
    /// `decided_upto`; one for a slot up to `slot` counts for nothing.
    ///
    /// # Errors
    /// As for [`Log::discard`].
    pub fn begin_after(&mut self, group: GroupId, slot: Slot) -> Result<(), AppendError> {
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        if slot <= self.truncated_upto(group) {
            return Ok(());
        }
        self.room_for_states(self.groups.len() + 1)?;
        self.groups.entry(group).or_default().truncate(slot);
        let result = self.write_states();
        self.poisoned |= result.is_err();
        result
    }

    /// Makes durable that every slot of `group` up to `upto` is decided and stands in the log, with
    /// everything appended before. A checkpoint is put in its place only after this was said of its
    /// slot: then one that is above the log's `decided_upto` at start was fetched, and the log has to be
    /// told ([`Log::begin_after`]); one that the replica made itself never is, and must not take slots
    /// from the log that others may still want. Cheap if it was said already. Whoever calls this has
    /// appended every record that was issued before slot `upto` was applied.
    ///
    /// # Errors
    /// As for [`Log::discard`].
    pub fn note_decided(&mut self, group: GroupId, upto: Slot) -> Result<(), AppendError> {
        if self.poisoned {
            return Err(AppendError::Poisoned);
        }
        let known = self.groups.get(&group).map_or(Slot::NONE, |group| group.known_upto());
        let result = if upto <= known {
            self.sync_current().map_err(failed)
        } else {
            self.room_for_states(self.groups.len() + 1)?;
            self.groups.entry(group).or_default().decided_upto = upto;
            self.write_states()
        };
        self.poisoned |= result.is_err();
        result
    }

    /// Every slot of `group` up to here has been given up.
    #[must_use]
    pub fn truncated_upto(&self, group: GroupId) -> Slot {
        self.groups.get(&group).map_or(Slot::NONE, |group| group.truncated_upto)
    }

    /// Returns the numbers of the segments that are no part of the log any more.
    fn give_up_covered(&mut self, keep_bytes: u64) -> Result<Vec<u32>, AppendError> {
        if self.plants.has(Plant::SegmentWithPromiseDiscarded) && self.is_covered(&self.highest) {
            if self.prepared.is_empty() {
                self.prepare_one(self.options.segment_bytes)?;
            }
            let mut states = Vec::new();
            self.roll(&mut states)?;
            self.write_out(0, &states)?;
        }
        let mut remain = self.bytes();
        let is_free = |segment: &&Closed| {
            remain -= segment.bytes;
            remain > keep_bytes && self.is_covered(&segment.highest)
        };
        let free = self.closed.iter().take_while(is_free).count();
        if free == 0 {
            return Ok(Vec::new());
        }
        self.room_for_states(self.groups.len())?;
        let mut numbers = Vec::with_capacity(free);
        for segment in self.closed.drain(..free) {
            numbers.push(segment.number);
            self.bytes_before -= segment.bytes;
            self.allocated_before -= segment.allocated;
            for (group, highest) in segment.highest {
                self.groups.entry(group).or_default().truncate(highest);
            }
        }
        self.write_states()?;
        Ok(numbers)
    }

    /// Whether checkpoints cover every record of a segment.
    fn is_covered(&self, highest: &Highest) -> bool {
        highest.iter().all(|(group, &slot)| {
            let known = self.groups.get(group);
            known.is_some_and(|known| slot <= known.covered_upto.max(known.truncated_upto))
        })
    }

    /// Makes sure that the states of `groups` groups can be written.
    fn room_for_states(&mut self, groups: usize) -> Result<(), AppendError> {
        let states = groups as u64 * record_len(STATE_VALUE_LEN as u64);
        if self.current.end + states <= self.current.capacity {
            return Ok(());
        }
        let needed = RECORDS_START + states;
        if self.prepared.is_empty() {
            self.prepare_one(needed)?;
        }
        self.widen(0, needed).map(|_| ())
    }

    /// Writes and syncs the states of all groups, for which there is room.
    fn write_states(&mut self) -> Result<(), AppendError> {
        let mut buffer = Vec::new();
        let mut start = self.current.end;
        let states = self.groups.len() as u64 * record_len(STATE_VALUE_LEN as u64);
        if self.current.end + states > self.current.capacity {
            self.roll(&mut buffer)?;
            start = 0;
        } else {
            self.put_states(&mut buffer);
        }
        self.write_out(start, &buffer)?;
        self.sync_current().map_err(failed)
    }

    /// Encodes the states of all groups; takes note of them.
    pub(super) fn put_states(&mut self, buffer: &mut Vec<u8>) {
        let value = self.state_value();
        let states: Vec<_> = self.groups.iter().map(|(&id, group)| (id, group.state())).collect();
        for (group, mut state) in states {
            state.group = group;
            state.previous = self.previous;
            state.sequence = self.sequence;
            state.synced_upto = self.synced_upto;
            state.value_len = value.len() as u32;
            state.value_checksum = crc32fast::hash(&value);
            if self.plants.has(Plant::SegmentWithPromiseDiscarded) {
                state.promised = Ballot::ZERO;
                state.ballot = Ballot::ZERO;
            }
            self.put(&state, buffer);
            buffer.extend_from_slice(&value);
        }
    }

    /// The value of the state records: nothing as long as the log begins with the first segment.
    fn state_value(&self) -> Vec<u8> {
        match self.closed.front().map_or(self.current.number, |segment| segment.number) {
            1 => Vec::new(),
            first => u64::from(first).to_le_bytes().to_vec(),
        }
    }

    /// Bytes of a state record.
    pub(super) fn state_len(&self) -> u64 {
        record_len(self.state_value().len() as u64)
    }
}

pub(super) fn failed(error: SyncError) -> AppendError {
    match error {
        SyncError::Failed { file, source } => AppendError::Failed { file, source },
        SyncError::Poisoned => AppendError::Poisoned,
    }
}
