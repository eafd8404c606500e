//! Checkpoints and their transfer as the protocol thread sees them: which state the executor has, what
//! follows what when it gets another one, and what an operator is told.
//!
//! A fetched checkpoint takes the place of the state in this order: the transfer thread restores it,
//! compares it and gives it its name; the disk thread makes the log begin after it; the executor goes
//! on from it; only then the ordering machine hears of it. What the machine delivered meanwhile was
//! for the state before, and is passed over.

use std::sync::Arc;
use std::time::Duration;

use mainstay_consensus::{Discard, Input, Installed, ReadPurpose, Role};
use mainstay_model::{CheckpointId, Entry, Instant, Slot};
use mainstay_service::{CheckpointInterval, Command};

use crate::NodeError;
use crate::checkpointer::Wanted;
use crate::disk::DiskTask;
use crate::executor::{Executed, ExecutorTask};
use crate::front::Front;
use crate::node::{INTERVAL_TOKEN, Node};
use crate::restart::Restored;
use crate::restoring::Unfit;
use crate::stretch::Stretch;
use crate::transfers::TransferTask;

/// How long until an interval is ordered again that is still not in force.
const INTERVAL_ORDERED_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What is known of checkpoints here.
#[derive(Debug)]
pub(crate) struct Checkpointing {
    wanted: Arc<Wanted>,
    /// Which life of the executor's state what is delivered now is for.
    pub(crate) generation: u64,
    /// The executor has no state yet.
    pub(crate) restoring: bool,
    /// The state is not one to answer from, and another one is being fetched; as of the last turn.
    pub(crate) fetching: bool,
    /// A fetched checkpoint stands, and the executor has not told yet that it goes on from it.
    installing: bool,
    /// The log goes on after this one; the executor is told once it has its first state.
    begun_after: Option<CheckpointId>,
    /// What the log could not read back since; asked for before.
    late_reads: Vec<Slot>,
    /// Bytes of the newest checkpoint.
    pub(crate) bytes: u64,
    /// How often execution had to wait for checkpoints to be written.
    waits: u64,
    /// By how much the interval is lengthened.
    stretch: Stretch,
    /// The interval in force, once anything was applied.
    pub(crate) interval: Option<CheckpointInterval>,
    interval_ordered_at: Option<Instant>,
    /// The longest that execution stood still to hand out a checkpoint.
    pub(crate) pause_max: Duration,
    /// Why the last checkpoint could not be written.
    pub(crate) trouble: Option<String>,
    /// Why the last piece that was fetched could not be kept.
    pub(crate) fetch_trouble: Option<String>,
    /// Why the last checkpoint that was fetched is not used.
    pub(crate) unused: Option<Unfit>,
    /// Why a checkpoint of its own is not used, though all of it is there.
    pub(crate) refused: Option<String>,
}

impl Checkpointing {
    pub(crate) fn new(wanted: Arc<Wanted>) -> Self {
        Self {
            wanted,
            generation: 0,
            restoring: true,
            fetching: false,
            installing: false,
            begun_after: None,
            late_reads: Vec::new(),
            bytes: 0,
            waits: 0,
            stretch: Stretch::default(),
            interval: None,
            interval_ordered_at: None,
            pause_max: Duration::ZERO,
            trouble: None,
            fetch_trouble: None,
            unused: None,
            refused: None,
        }
    }

    /// Takes note of what the executor tells with every report.
    pub(crate) fn note(&mut self, executed: &Executed) {
        self.pause_max = executed.pause_max;
        self.interval = Some(executed.interval);
        if executed.waits > self.waits {
            self.waits = executed.waits;
            self.stretch.was_late();
        }
    }
}

impl<F: Front> Node<F> {
    pub(crate) fn transfer(&mut self, task: TransferTask) {
        // Nobody asks how much waits there: the ordering machine has only so many pieces on their way.
        self.transfers.add(task, 0);
    }

    /// A leader orders the interval that its settings ask for, and a longer one where the state is large
    /// or checkpoints are late: writing them is not to cost more than writing the log. Never one that its
    /// log has no room for: nothing would be decided any more, no checkpoint due, and nothing given up.
    pub(crate) fn order_interval(&mut self) {
        let now = self.machines.now.monotonic;
        let checkpointing = &mut self.checkpointing;
        let Some(interval) = checkpointing.interval else { return };
        let mut wanted = checkpointing.stretch.apply(self.config.interval, checkpointing.bytes);
        if let Some(max) = self.log.bytes_max {
            wanted.bytes = wanted.bytes.min(max / 4).max(CheckpointInterval::MIN.bytes);
        }
        let waits = checkpointing
            .interval_ordered_at
            .is_some_and(|at| now.since(at) < INTERVAL_ORDERED_AGAIN_AFTER);
        if wanted == interval || waits || self.machines.replica.status().role != Role::Leader {
            return;
        }
        tracing::info!(
            "checkpoints will be due every {} requests or {} bytes",
            wanted.requests,
            wanted.bytes
        );
        checkpointing.interval_ordered_at = Some(now);
        let request = Command::SetCheckpointInterval(wanted).encode().into();
        self.machines.step(Input::Submit { token: INTERVAL_TOKEN, request });
    }

    /// The log is kept until it is known that the state can be restored.
    pub(crate) fn discard(&mut self, discard: Discard) {
        if !self.checkpointing.restoring {
            self.transfer(TransferTask::Discard(discard));
        }
    }

    /// The state of this replica is not that of the others.
    pub(crate) fn stop_executing(&mut self, at: Slot, right: Option<CheckpointId>) {
        tracing::error!(
            "the state of this replica is not that of the others: they agree on another digest of \
             the checkpoint at slot {at}; it executes nothing more, goes on voting, and fetches \
             their state"
        );
        // What is being written now is wrong, too.
        self.checkpointing.wanted.begin(self.checkpointing.generation + 1);
        self.executor.add(ExecutorTask::Stop, 0);
        self.transfer(TransferTask::Distrust { right });
    }

    /// The executor has another state than the one before. What was delivered until now was for that one.
    fn begin_generation(&mut self) {
        self.carry_out();
        self.checkpointing.generation += 1;
        self.checkpointing.wanted.begin(self.checkpointing.generation);
    }

    /// The executor has its first state.
    pub(crate) fn restored(&mut self, restored: Result<Restored, String>) {
        let Restored { from, is_expected, refused } = match restored {
            Ok(restored) => restored,
            Err(what) => {
                self.failure = Some(NodeError::NoState { what });
                return;
            }
        };
        self.checkpointing.restoring = false;
        self.checkpointing.refused = refused;
        if let Some((_, bytes)) = from {
            self.checkpointing.bytes = bytes;
        }
        if !is_expected {
            self.begin_generation();
            self.machines.step(Input::Unrestored { instead: from.map(|(from, _)| from) });
        }
        if let Some(checkpoint) = self.checkpointing.begun_after.take() {
            self.begun_after(checkpoint);
        }
    }

    pub(crate) fn checkpointed(&mut self, generation: u64, checkpoint: CheckpointId, bytes: u64) {
        if generation != self.checkpointing.generation
            || self.machines.replica.status().diverged.is_some()
        {
            // What is wrong of it is on the way out, see `TransferTask::Distrust`; and of the same name
            // there may be a right one by now.
            return tracing::debug!("the checkpoint of slot {} came too late", checkpoint.slot);
        }
        tracing::info!("the checkpoint of slot {} is durable: {bytes} bytes", checkpoint.slot);
        self.checkpointing.bytes = bytes;
        (self.checkpointing.trouble, self.checkpointing.refused) = (None, None);
        // Whoever executes needs nothing of the others.
        (self.checkpointing.fetch_trouble, self.checkpointing.unused) = (None, None);
        self.checkpointing.stretch.was_written();
        self.machines.step(Input::Checkpointed { checkpoint });
    }

    pub(crate) fn checkpoint_failed(&mut self, slot: Slot, why: String) {
        tracing::error!(
            "the checkpoint of slot {slot} was not written, and the log is kept; it is tried again: \
             {why}"
        );
        self.checkpointing.trouble = Some(why);
    }

    /// A fetched piece is kept, or not.
    pub(crate) fn chunk_stored(
        &mut self,
        checkpoint: CheckpointId,
        chunk: u32,
        stored: Result<(), String>,
    ) {
        self.checkpointing.fetch_trouble = stored.err();
        let stored = self.checkpointing.fetch_trouble.is_none();
        self.machines.step(Input::ChunkStored { checkpoint, chunk, stored });
    }

    /// A fetched checkpoint stands, or is not what it should be.
    pub(crate) fn fetched(&mut self, checkpoint: CheckpointId, installed: Result<u64, Unfit>) {
        match installed {
            Ok(bytes) => {
                self.checkpointing.bytes = bytes;
                self.checkpointing.installing = true;
                self.disk.add(DiskTask::BeginAfter(checkpoint), 0);
            }
            Err(unfit) => {
                let outcome = match unfit {
                    Unfit::Refused(_) => Installed::Refused,
                    Unfit::Damaged(_) | Unfit::Unwanted => Installed::Spoiled,
                };
                self.checkpointing.unused = Some(unfit);
                self.machines.step(Input::Installed { checkpoint, outcome });
            }
        }
    }

    pub(crate) fn begun_after(&mut self, checkpoint: CheckpointId) {
        if self.checkpointing.restoring {
            self.checkpointing.begun_after = Some(checkpoint);
            return;
        }
        let generation = self.checkpointing.generation + 1;
        self.executor.add(ExecutorTask::Adopt { generation, checkpoint }, 0);
    }

    /// The executor goes on from a fetched checkpoint.
    pub(crate) fn adopted(&mut self, checkpoint: CheckpointId) {
        tracing::info!("the state of slot {} was fetched and is in place", checkpoint.slot);
        self.begin_generation();
        self.checkpointing.installing = false;
        self.checkpointing.unused = None;
        self.stopped = None;
        self.machines.step(Input::Installed { checkpoint, outcome: Installed::Stands });
        for from in std::mem::take(&mut self.checkpointing.late_reads) {
            let (purpose, entries) = (ReadPurpose::Deliver, Vec::new());
            self.machines.step(Input::LogRead { from, purpose, entries });
        }
        // What came of open requests may stand in what was passed over: their kept replies tell.
        self.session.leader_changed(self.machines.now.monotonic);
    }

    /// What was read back. While a fetched checkpoint is put in place, the log may have given up what
    /// was asked for before; the machine is told once it knows of the checkpoint.
    pub(crate) fn log_read(&mut self, from: Slot, purpose: ReadPurpose, entries: Vec<Entry>) {
        let late =
            self.checkpointing.installing && purpose == ReadPurpose::Deliver && entries.is_empty();
        if late {
            self.checkpointing.late_reads.push(from);
        } else {
            self.machines.step(Input::LogRead { from, purpose, entries });
        }
    }
}
