//! What becomes of what a replica asks its world for.

use bytes::Bytes;
use mainstay_consensus::{Discard, Effect, Input, Installed, Message};
use mainstay_model::{CheckpointId, Mark, Record, ReplicaId, Slot, Timestamp, Value};

use super::{Cluster, MS, time_of};

impl Cluster {
    pub(super) fn carry_out(&mut self, index: u16, effect: Effect) {
        let at = usize::from(index);
        match effect {
            Effect::Persist { mark, records } => self.persist(index, mark, records),
            Effect::Send { to, message } => self.send(index, to, &message),
            Effect::ReadLog { from, upto, bytes_max: _, purpose } => {
                let entries = self.nodes[at].disk.read_log(from, upto);
                self.step(index, Input::LogRead { from, purpose, entries });
            }
            Effect::Deliver { slot, value } => self.deliver(index, slot, value),
            Effect::Discard(discard) => self.discard(index, discard),
            Effect::ReadChunk { to, checkpoint, chunk } => {
                self.read_chunk(index, to, checkpoint, chunk);
            }
            Effect::StoreChunk { checkpoint, total, chunk, bytes } => {
                self.store_chunk(index, (checkpoint, total), chunk, bytes);
            }
            Effect::Install { checkpoint } => self.install(index, checkpoint),
            Effect::StopExecuting { at: _, right } => {
                self.stopped.insert(index);
                self.nodes[at].disk.checkpoints.retain(|own| Some(*own) <= right);
                self.forget_unwritten(index);
            }
            Effect::ReadAt { token, slot, time } => {
                self.reads.insert(token, slot);
                self.shown.insert(token, time);
            }
            Effect::Rejected { token, reason } => self.rejected.push((token, reason)),
            Effect::Instructed { instruction, outcome } => {
                self.instructed.push((instruction, outcome));
            }
            Effect::Observe(observation) => self.observed.push((index, observation)),
        }
    }

    /// Where there is no room for requests, what comes behind them is not written either.
    fn persist(&mut self, index: u16, mark: Mark, records: Vec<Record>) {
        if self.unkept.refused.contains_key(&index) {
            return;
        }
        if self.roomless.contains(&index) && records.iter().any(Record::has_requests) {
            self.unkept.refused.insert(index, mark);
            if self.nodes[usize::from(index)].disk.pending.is_empty() {
                self.tell_later(index, MS, Input::Unwritten { from: mark });
            }
            return;
        }
        let slow = self.slow_disk.get(&index).copied().unwrap_or(0);
        let ready = self.now + slow + self.prng.below(self.sync_max);
        let disk = &mut self.nodes[usize::from(index)].disk;
        disk.records.extend(records);
        let len = disk.records.len();
        disk.pending.push((ready, mark, len));
    }

    /// What was written before is durable: now it is told what was not.
    pub(super) fn tell_refused(&mut self, index: u16) {
        let Some(from) = self.unkept.refused.get(&index) else { return };
        if self.nodes[usize::from(index)].disk.pending.is_empty() {
            self.tell_later(index, 0, Input::Unwritten { from: *from });
        }
    }

    fn send(&mut self, index: u16, to: ReplicaId, message: &Message) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let again = Message::decode(message.kind(), Bytes::from(bytes));
        assert_eq!(again.as_ref(), Ok(message), "what is sent can be read");
        *self.sent.entry(message.name()).or_default() += 1;
        let from = self.configuration.replicas[usize::from(index)];
        let carries = ["accept", "decided"].contains(&message.name());
        let lost = self.cut_values.contains(&(index, to.index)) && carries;
        let lost = lost
            || self.cut.contains(&(index, to.index))
            || self.lost.contains(&(index, message.name()));
        if lost || self.prng.chance(self.loss, 100) {
            return;
        }
        let copies = if self.prng.chance(self.duplication, 100) { 2 } else { 1 };
        for _ in 0..copies {
            self.sequence += 1;
            let slow = self.slow_links.get(&index).copied().unwrap_or(0)
                + self.slow_ways.get(&(index, to.index)).copied().unwrap_or(0);
            let delay = self.delay_min + self.prng.below(self.delay_max);
            let arrival = self.now + slow + delay;
            let key = (arrival, self.sequence);
            self.wire.insert(key, (to.index, from, message.clone()));
        }
    }

    fn deliver(&mut self, index: u16, slot: Slot, value: Value) {
        let at = usize::from(index);
        assert_eq!(slot, self.nodes[at].applied.next(), "delivered in order");
        self.nodes[at].applied = slot;
        let known = self.decided.entry(slot).or_insert_with(|| value.clone());
        assert_eq!(*known, value, "two values decided in slot {slot}");
        if self.stopped.contains(&index) {
            return;
        }
        let wrong = self.wrong == Some((index, slot));
        self.delivered[at].push(if wrong { Value::no_op(Timestamp(0)) } else { value });
        if let Some(nanos) = self.slow_service.get(&index) {
            let to_apply = &mut self.nodes[at].to_apply;
            let begun = to_apply.back().map_or(self.now, |(ready, _)| *ready);
            return to_apply.push_back((begun.saturating_add(*nanos), slot));
        }
        let time = time_of(&self.delivered[at]);
        self.step(index, Input::Applied { upto: slot, time, wake: self.wake });
        let asked = self.delivered[at].last().is_some_and(Value::makes_checkpoint_due);
        let due =
            self.checkpoint_slots > 0 && slot.0.is_multiple_of(self.checkpoint_slots) || asked;
        if due && !self.stopped.contains(&index) {
            self.make_checkpoint(index, slot);
        }
    }

    fn discard(&mut self, index: u16, Discard { upto, wanted_above, stable }: Discard) {
        let at = usize::from(index);
        let own = self.nodes[at].disk.checkpoint().map_or(Slot::NONE, |own| own.slot);
        assert!(upto <= own, "the log goes only below the own checkpoint");
        let less = |slots: u64| upto.0.saturating_sub(slots);
        let wanted = wanted_above.unwrap_or(upto).0.min(less(self.log_slots_min));
        let kept = wanted.max(less(self.log_slots_max.max(self.log_slots_min)));
        let disk = &mut self.nodes[at].disk;
        disk.stable = disk.stable.max(stable);
        disk.truncated_upto = disk.truncated_upto.max(Slot(kept).min(upto));
        let upto = disk.truncated_upto;
        self.step(index, Input::Discarded { upto });
    }

    fn store_chunk(
        &mut self,
        index: u16,
        (checkpoint, total): (CheckpointId, u64),
        chunk: u32,
        bytes: Bytes,
    ) {
        let stored = !self.full.contains(&index);
        let disk = &mut self.nodes[usize::from(index)].disk;
        if chunk == 0 {
            disk.pieces.clear();
            disk.fetched = Some((checkpoint, total));
        }
        assert_eq!(disk.fetched, Some((checkpoint, total)), "one checkpoint at a time");
        if stored {
            assert_eq!(chunk as usize, disk.pieces.len(), "pieces come in order");
            disk.pieces.push(bytes);
        }
        *self.stored.entry(index).or_default() += 1;
        let storing = self.storing.entry(index).or_default();
        *storing += 1;
        assert!(*storing <= 8, "a receiver's memory is bounded");
        let slow = self.slow_disk.get(&index).copied().unwrap_or(0);
        let ready = disk.stored_at.max(self.now) + slow + self.prng.below(self.sync_max);
        disk.stored_at = ready;
        let after = ready - self.now;
        self.tell_later(index, after, Input::ChunkStored { checkpoint, chunk, stored });
    }

    fn install(&mut self, index: u16, checkpoint: CheckpointId) {
        let at = usize::from(index);
        *self.installs.entry(index).or_default() += 1;
        let whole = self.nodes[at].disk.pieces.concat() == self.bytes_of(checkpoint);
        if whole && self.refuses.contains(&index) {
            let outcome = Installed::Refused;
            return self.step(index, Input::Installed { checkpoint, outcome });
        }
        self.nodes[at].disk.pieces.clear();
        self.nodes[at].disk.fetched = None;
        if whole {
            let now = self.now;
            let disk = &mut self.nodes[at].disk;
            disk.checkpoints.retain(|other| other.slot < checkpoint.slot);
            disk.stable = Some(checkpoint);
            disk.add(checkpoint, now);
            disk.truncated_upto = disk.truncated_upto.max(checkpoint.slot);
            self.nodes[at].applied = checkpoint.slot;
            self.nodes[at].to_apply.clear();
            self.delivered[at] = self.contents[&checkpoint].clone();
            self.stopped.remove(&index);
            self.forget_unwritten(index);
        }
        let outcome = if whole { Installed::Stands } else { Installed::Spoiled };
        self.step(index, Input::Installed { checkpoint, outcome });
        if whole {
            let (upto, time) = (checkpoint.slot, time_of(&self.delivered[at]));
            self.step(index, Input::Applied { upto, time, wake: self.wake });
        }
    }

    /// Of the state before nothing is told any more.
    fn forget_unwritten(&mut self, index: u16) {
        self.later.retain(|_, (to, _, input)| {
            *to != index || !matches!(input, Input::Checkpointed { .. })
        });
    }

    /// The content of a checkpoint: every piece another one.
    fn bytes_of(&self, checkpoint: CheckpointId) -> Bytes {
        let byte = |at: u64| (checkpoint.digest ^ checkpoint.slot.0 ^ (at >> 10)) as u8;
        (0..self.checkpoint_bytes).map(byte).collect()
    }

    fn read_chunk(&mut self, index: u16, to: ReplicaId, checkpoint: CheckpointId, chunk: u32) {
        *self.gave.entry(index).or_default() += 1;
        let reading = self.reading.entry(index).or_default();
        *reading += 1;
        assert!(*reading <= 16, "a donor's memory is bounded");
        let now = self.now;
        let disk = &mut self.nodes[usize::from(index)].disk;
        let held = disk.checkpoints.contains(&checkpoint);
        if held {
            disk.given.insert(checkpoint, now);
        }
        let mut all = if held { self.bytes_of(checkpoint) } else { Bytes::new() };
        if self.longer.contains(&index) && held {
            all = [&all[..], b"and what another version writes besides"].concat().into();
        }
        let (total, len) = (all.len() as u64, u64::from(self.settings.chunk_bytes));
        let start = (u64::from(chunk) * len).min(total);
        let mut bytes = all.slice(start as usize..(start + len).min(total) as usize).to_vec();
        if self.damaged.contains(&index) && !bytes.is_empty() {
            bytes[0] ^= 1;
        }
        if self.odd_pieces.contains(&index) {
            bytes.truncate(bytes.len().div_ceil(2));
        }
        let after = self.read_time.get(&index).copied().unwrap_or(0);
        let bytes = Bytes::from(bytes);
        let input = Input::ChunkRead { to, checkpoint, chunk, total, bytes };
        self.tell_later(index, after, input);
    }

    fn make_checkpoint(&mut self, index: u16, slot: Slot) {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let at = usize::from(index);
        let mut hasher = DefaultHasher::new();
        self.delivered[at].hash(&mut hasher);
        let checkpoint = CheckpointId { slot, digest: hasher.finish() };
        self.contents.insert(checkpoint, self.delivered[at].clone());
        self.tell_later(index, self.checkpoint_time, Input::Checkpointed { checkpoint });
    }

    /// Whether what a checkpoint covers does not stand in the log yet.
    pub(super) fn waits_for_its_log(&mut self, index: u16, input: &Input) -> bool {
        let Input::Checkpointed { checkpoint } = input else { return false };
        let noted = (index, checkpoint.slot);
        let earlier = |(to, _, input): &(u16, u64, Input)| {
            let Input::Checkpointed { checkpoint: other } = input else { return false };
            *to == index && other.slot < checkpoint.slot
        };
        if self.later.values().any(earlier) {
            return true;
        }
        if checkpoint.slot > self.status(index).decided || self.unkept.refused.contains_key(&index)
        {
            self.unkept.noted.remove(&noted);
            return true;
        }
        let disk = &self.nodes[usize::from(index)].disk;
        let records = *self.unkept.noted.entry(noted).or_insert(disk.records.len());
        records > disk.durable
    }

    /// What takes its time and is done now.
    pub(super) fn note_done(&mut self, index: u16, input: &Input) {
        let (now, disk) = (self.now, &mut self.nodes[usize::from(index)].disk);
        let count = match input {
            Input::ChunkRead { .. } => self.reading.get_mut(&index),
            Input::ChunkStored { .. } => self.storing.get_mut(&index),
            Input::Unwritten { .. } => {
                self.unkept.refused.remove(&index);
                None
            }
            Input::Checkpointed { checkpoint } => {
                for checkpoint in disk.add(*checkpoint, now) {
                    self.tell_later(index, 0, Input::CheckpointGone { checkpoint });
                }
                None
            }
            _ => None,
        };
        if let Some(count) = count {
            *count -= 1;
        }
    }
}
