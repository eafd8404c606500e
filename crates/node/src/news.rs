//! What the other threads tell the protocol thread, and what follows from it.

use mainstay_consensus::{Input, Role as OrderingRole};
use mainstay_model::Nonce;

use crate::NodeError;
use crate::disk::Event;
use crate::executor::{Executed, ExecutorTask};
use crate::front::{Failure, Front};
use crate::front_session::Change;
use crate::node::{Node, TRIM_INTERVAL, TRIM_TOKEN};

impl<F: Front> Node<F> {
    /// Takes in what the other threads have to say.
    pub(crate) fn take_in_news(&mut self) {
        let mut news = Vec::new();
        self.inbox.take(&mut news);
        for event in news {
            self.breathe();
            match event {
                Event::Durable(mark) => self.machines.step(Input::Durable { mark }),
                Event::Unwritten { from } => {
                    // What was asked for until now goes with it.
                    self.carry_out();
                    self.roomless.refusals += 1;
                    self.machines.step(Input::Unwritten { from });
                }
                Event::Note(note) => self.roomless.notes.push(note),
                Event::LogRead { from, purpose, entries } => self.log_read(from, purpose, entries),
                Event::Log(log) => {
                    if log.has_room != self.log.has_room {
                        self.machines.step(Input::Room { entries: log.has_room });
                    }
                    self.log = log;
                }
                Event::LogDamaged(what) => self.failure = Some(NodeError::Damaged { what }),
                Event::DiskFailed(what) => self.failure = Some(NodeError::Disk { what }),
                Event::Executed(executed) => self.executed(executed),
                Event::Discarded(upto) => self.machines.step(Input::Discarded { upto }),
                Event::Restored(restored) => self.restored(restored),
                Event::Checkpointed { generation, checkpoint, bytes } => {
                    self.checkpointed(generation, checkpoint, bytes);
                }
                Event::CheckpointGone(checkpoint) => {
                    self.machines.step(Input::CheckpointGone { checkpoint });
                }
                Event::CheckpointFailed { slot, why } => self.checkpoint_failed(slot, why),
                Event::ChunkRead { to, checkpoint, chunk, total, bytes } => {
                    self.machines.step(Input::ChunkRead { to, checkpoint, chunk, total, bytes });
                }
                Event::ChunkStored { checkpoint, chunk, stored } => {
                    self.chunk_stored(checkpoint, chunk, stored);
                }
                Event::Fetched { checkpoint, installed } => self.fetched(checkpoint, installed),
                Event::BegunAfter(checkpoint) => self.begun_after(checkpoint),
                Event::Found { peer, addresses } => {
                    self.links.found(peer, addresses, &mut self.machines);
                }
                Event::Ended(thread) => {
                    // Threads end by themselves only by a panic; a failed write came before this.
                    self.failure.get_or_insert(NodeError::Panic(thread));
                }
            }
        }
    }

    fn executed(&mut self, executed: Executed) {
        let now = self.machines.now.monotonic;
        if let Some(checkpoint) = executed.adopted {
            self.adopted(checkpoint);
        }
        let is_first = self.checkpointing.interval.is_none();
        self.checkpointing.note(&executed);
        if is_first {
            // Before the log can be full of what clients write.
            self.order_interval();
        }
        if executed.applied > self.applied || executed.adopted.is_some() {
            self.applied = executed.applied;
            let Executed { applied: upto, time, wake, .. } = executed;
            self.machines.step(Input::Applied { upto, time, wake });
        }
        let mut changes = Vec::new();
        for outcome in executed.outcomes {
            self.session.applied(now, &outcome, &mut changes);
            self.tell_native(outcome);
        }
        for answer in executed.answers {
            self.answer_query(answer);
        }
        for kept in executed.kept {
            self.tell_kept(kept);
        }
        for (connection, session) in executed.not_kept {
            self.tell_not_kept(connection, session);
        }
        if let Some(stopped) = executed.stopped {
            self.stopped = Some(stopped);
            self.session.give_up(&mut changes);
        }
        for change in changes {
            self.session_changed(change);
        }
        if let Some(trim) = executed.trim
            && self.machines.replica.status().role == OrderingRole::Leader
            && self.trimmed_at.is_none_or(|at| now.since(at) >= TRIM_INTERVAL)
        {
            self.trimmed_at = Some(now);
            self.machines.step(Input::Submit { token: TRIM_TOKEN, request: trim.into() });
        }
    }

    /// There is a write for the session of this replica's front: opens another one where none stands,
    /// or where the one that does may have been ended as idle.
    pub(crate) fn want_session(&mut self) {
        if let Some(change) = self.session.want(self.machines.now.monotonic) {
            self.session_changed(change);
        }
    }

    fn session_changed(&mut self, change: Change) {
        match change {
            Change::Replied(owner, reply) => self.answer_write(owner, Ok(reply)),
            Change::Uncertain(owner) => {
                self.answer_write(owner, Err(Failure::Uncertain));
            }
            Change::Opened => tracing::info!("writes pass: this replica has its session"),
            Change::Lost(session) => {
                tracing::info!("this replica opens another session: the last was ended or unused");
                let nonce = self.random_nonce();
                self.executor.add(ExecutorTask::UnwatchNonce(self.session.nonce()), 0);
                if let Some(session) = session {
                    self.executor.add(ExecutorTask::Unwatch(session), 0);
                }
                self.session.restart(nonce);
                self.executor.add(ExecutorTask::WatchNonce(nonce), 0);
            }
        }
    }

    /// Unpredictable where the system has random numbers to give; unlikely to repeat in any case.
    fn random_nonce(&mut self) -> Nonce {
        let mut bytes = [0; 16];
        if getrandom::fill(&mut bytes).is_ok() {
            return Nonce(u128::from_le_bytes(bytes));
        }
        let (high, low) = (self.prng.next_u64(), self.prng.next_u64());
        Nonce(u128::from(high) << 64 | u128::from(low))
    }
}
