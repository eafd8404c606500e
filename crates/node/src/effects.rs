//! Carrying out what the ordering machine asks for.

use mainstay_consensus::{Effect, Observation, Rejection};
use mainstay_model::{Record, RecordKind, Token};

use crate::disk::{DiskTask, Noted};
use crate::executor::ExecutorTask;
use crate::front::Front;
use crate::node::{FRONT_TOKEN, INTERVAL_TOKEN, Node, READS_AGAIN_AFTER, TRIM_TOKEN};
use crate::transfers::TransferTask;

impl<F: Front> Node<F> {
    /// Carries out what the ordering machine asked for, in order, until it asks for nothing more.
    pub(crate) fn carry_out(&mut self) {
        while !self.machines.effects.is_empty() {
            let mut effects = std::mem::take(&mut self.machines.effects);
            for effect in effects.drain(..) {
                self.carry_out_one(effect);
            }
            if self.machines.effects.is_empty() {
                self.machines.effects = effects;
            }
        }
        for peer in std::mem::take(&mut self.machines.heartbeats) {
            self.links.heartbeat(peer);
        }
        self.pass_notes();
    }

    /// Has the log note what it holds all of: every record up to there was handed over before this.
    fn pass_notes(&mut self) {
        let (keeps_upto, refusals) = (self.machines.replica.keeps_upto(), self.roomless.refusals);
        for note in self.roomless.notes.drain(..) {
            if note.slot <= keeps_upto {
                self.disk.add(DiskTask::NoteDecided { note, refusals }, 0);
            } else {
                note.answer(Noted::NoRoom);
            }
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Persist { mark, records } => {
                let bytes = records.iter().map(record_bytes).sum();
                let refusals = self.roomless.refusals;
                self.disk.add(DiskTask::Persist { mark, records, refusals }, bytes);
            }
            Effect::Send { to, message } => self.links.send(to, &message),
            Effect::ReadLog { from, upto, bytes_max, purpose } => {
                self.disk.add(DiskTask::Read { from, upto, bytes_max, purpose }, 0);
            }
            Effect::Deliver { slot, value } => {
                let generation = self.checkpointing.generation;
                let task = ExecutorTask::Deliver { generation, slot, value };
                let bytes = task.bytes();
                self.executor.add(task, bytes);
            }
            Effect::ReadAt { token, slot, time } => {
                if let Some(group) = self.read_groups.remove(&token.0) {
                    self.ask(slot, time, group.askers);
                }
            }
            Effect::Rejected { token, reason } => self.rejected(token, reason),
            Effect::ReadChunk { to, checkpoint, chunk } => {
                self.transfer(TransferTask::Read { to, checkpoint, chunk });
            }
            Effect::StoreChunk { checkpoint, total, chunk, bytes } => {
                self.transfer(TransferTask::Store { checkpoint, total, chunk, bytes });
            }
            Effect::Install { checkpoint } => {
                self.transfer(TransferTask::Install { checkpoint });
            }
            Effect::Discard(discard) => self.discard(discard),
            Effect::StopExecuting { at, right } => self.stop_executing(at, right),
            Effect::Instructed { instruction, outcome } => self.instructed(instruction, outcome),
            Effect::Observe(observation) => self.observe(observation),
        }
    }

    fn rejected(&mut self, token: Token, reason: Rejection) {
        let now = self.machines.now.monotonic;
        match token {
            FRONT_TOKEN => self.session.rejected(now, reason),
            TRIM_TOKEN | INTERVAL_TOKEN => {}
            token => {
                if let Some(mut group) = self.read_groups.remove(&token.0) {
                    self.reads.append(&mut group.askers);
                    self.reads_at = now.after(READS_AGAIN_AFTER);
                } else {
                    self.native_rejected(token, reason);
                }
            }
        }
    }

    fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::Role { role, ballot } => {
                tracing::info!("this replica is {role:?} in ballot {ballot}");
            }
            Observation::Leader(Some(ballot)) => {
                tracing::info!("replica {} leads in ballot {ballot}", ballot.leader);
                self.session.leader_changed(self.machines.now.monotonic);
                self.tell_natives_who_leads(ballot.leader.index);
            }
            Observation::Leader(None) => tracing::info!("this replica hears no leader"),
            Observation::Relay(Some(relay)) => {
                tracing::info!(
                    "the leader is not heard here, and is reached through replica {relay}"
                );
                self.session.leader_changed(self.machines.now.monotonic);
            }
            Observation::Relay(None) => tracing::debug!("no leader is reached through another one"),
            Observation::Ignored(reason) => tracing::debug!("ignored: {reason}"),
            Observation::Diverged { at, times } => tracing::error!(
                "a quorum has another state than this replica at slot {at}; its checkpoint is \
                 fetched ({times} times in a row: if this goes on, the service does not do the \
                 same on all replicas)"
            ),
            Observation::TransferWaits { after } => {
                tracing::info!("the checkpoint that follows slot {after} is near and waited for");
            }
            Observation::JumpConfirmed { jump } => {
                tracing::warn!("decided time jumps by {jump:?}, as an operator confirmed");
            }
            Observation::Transferred { slot } => {
                tracing::info!("the checkpoint of slot {slot} was fetched");
            }
            Observation::TransferOutrun { slot, times } => tracing::warn!(
                "the log after slot {slot} was gone before its checkpoint was fetched ({times} \
                 times in a row): let the others keep more of it"
            ),
            Observation::Behind { peer, behind: true } => {
                tracing::debug!("replica {peer} is behind: it is sent no values for now");
            }
            Observation::Behind { peer, behind: false } => {
                tracing::debug!("replica {peer} is close enough to be sent values");
            }
            Observation::Transfer { slot } => {
                tracing::info!("the checkpoint of slot {slot} is being fetched");
            }
            Observation::Blocked { slot } => {
                tracing::warn!(
                    "slot {slot} cannot be taken over until a replica that is certain about it \
                     answers"
                );
            }
        }
    }
}

/// Bytes that a record keeps in memory.
fn record_bytes(record: &Record) -> usize {
    match &record.kind {
        RecordKind::Promise => 64,
        RecordKind::Accept { entry, .. } | RecordKind::Learn { entry, .. } => {
            64 + entry.value.len()
        }
    }
}
