//! Pieces of checkpoints given to others, those fetched from others, and taking over what was fetched.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use mainstay_check::Observation;
use mainstay_consensus::{Input, Installed};
use mainstay_model::{CheckpointId, GroupId, Plant, Plants, ReplicaId, Slot};
use mainstay_storage::{CheckpointError, Hold};

use super::checkpoints::{Program, Unfit};
use super::{ReplicaProcess, State, TRANSFER};
use crate::context::Cx;
use crate::disk::SimDisk;

/// How long a checkpoint is kept for who has fetched a piece of it, in nanoseconds.
const HOLD_NANOS: u64 = 2_000_000_000;

/// What waits for the thread that reads and writes pieces.
#[derive(Debug)]
pub(super) enum Piece {
    Read { to: ReplicaId, checkpoint: CheckpointId, chunk: u32 },
    Store { checkpoint: CheckpointId, total: u64, chunk: u32, bytes: Bytes },
    Install { checkpoint: CheckpointId },
}

/// Pieces on their way.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    waiting: VecDeque<Piece>,
    busy: bool,
    /// What others fetch, and when a piece of it was last read.
    holds: BTreeMap<CheckpointId, (Hold<SimDisk>, u64)>,
    /// How many more times the content of another checkpoint is given than the one asked for.
    pub(super) wrong: u32,
    /// From where on a fetch may go on that an earlier process began.
    resumable: Option<(CheckpointId, u32)>,
}

impl Pieces {
    pub(super) fn new(resumable: Option<(CheckpointId, u32)>) -> Self {
        Self { resumable, ..Self::default() }
    }
}

impl ReplicaProcess {
    pub(super) fn on_piece(&mut self, cx: &mut Cx<'_>, piece: Piece) {
        if matches!(piece, Piece::Install { .. }) {
            self.installing = true;
        }
        self.pieces.waiting.push_back(piece);
        self.next_piece(cx);
    }

    fn next_piece(&mut self, cx: &mut Cx<'_>) {
        if !self.pieces.busy && !self.pieces.waiting.is_empty() {
            self.pieces.busy = true;
            let nanos = self.disk_takes(cx);
            cx.timer_in(nanos, TRANSFER);
        }
    }

    pub(super) fn on_transfer(&mut self, cx: &mut Cx<'_>) {
        self.pieces.busy = false;
        match self.pieces.waiting.pop_front() {
            Some(Piece::Read { to, checkpoint, chunk }) => {
                self.read_piece(cx, to, checkpoint, chunk)
            }
            Some(Piece::Store { checkpoint, total, chunk, bytes }) => {
                let begins = self.keeping.incoming.is_none();
                let stored = self.store(checkpoint, total, chunk, &bytes);
                if let Err(error) = &stored {
                    cx.line(format_args!("{error}"));
                }
                self.count_resumed(cx, checkpoint, chunk, begins);
                let stored = stored.is_ok();
                self.step(cx, Input::ChunkStored { checkpoint, chunk, stored });
            }
            Some(Piece::Install { checkpoint }) => self.install(cx, checkpoint),
            None => {}
        }
        self.next_piece(cx);
    }

    fn count_resumed(
        &mut self,
        cx: &mut Cx<'_>,
        checkpoint: CheckpointId,
        chunk: u32,
        begins: bool,
    ) {
        if let Some((resumable, from)) = self.pieces.resumable.take()
            && resumable == checkpoint
            && from == chunk
            && !begins
        {
            cx.line(format_args!("goes on with what was fetched before, from piece {from} on"));
            cx.recorder().counts.resumed += 1;
        }
    }

    fn read_piece(&mut self, cx: &mut Cx<'_>, to: ReplicaId, checkpoint: CheckpointId, chunk: u32) {
        let chunk_bytes = self.group.ordering.chunk_bytes;
        let held = &self.keeping.held;
        let mut asked = checkpoint;
        if self.pieces.wrong > 0
            && let Some(other) = held.held().into_iter().find(|id| *id != checkpoint)
        {
            self.pieces.wrong -= 1;
            asked = other;
        }
        if let Some(hold) = held.hold(checkpoint) {
            self.pieces.holds.insert(checkpoint, (hold, cx.time()));
        }
        let (total, bytes) = match held.read_chunk(asked, u64::from(chunk), chunk_bytes) {
            Ok(read) => read,
            Err(error) => {
                cx.line(format_args!("{error}"));
                if matches!(error, CheckpointError::Damaged { .. }) {
                    cx.damage_found(&error.to_string());
                    // It is not given to anybody.
                    held.note_damaged(asked);
                }
                (held.content_len(checkpoint).unwrap_or(0), Bytes::new())
            }
        };
        self.step(cx, Input::ChunkRead { to, checkpoint, chunk, total, bytes });
    }

    fn store(
        &mut self,
        checkpoint: CheckpointId,
        total: u64,
        chunk: u32,
        bytes: &[u8],
    ) -> Result<(), CheckpointError> {
        let keeping = &mut self.keeping;
        if keeping.incoming.as_ref().is_none_or(|incoming| incoming.partial().id != checkpoint) {
            keeping.incoming = None;
            let chunk_bytes = self.group.ordering.chunk_bytes;
            keeping.incoming = Some(keeping.held.incoming(checkpoint, total, chunk_bytes)?);
        }
        let Some(incoming) = &mut keeping.incoming else { return Ok(()) };
        let appended = incoming.append_chunk(u64::from(chunk), bytes);
        if appended.is_err() {
            keeping.incoming = None;
        }
        appended
    }

    /// Checks what was fetched; if it is what its name says, everything goes on from it.
    fn install(&mut self, cx: &mut Cx<'_>, checkpoint: CheckpointId) {
        let program = Program { plants: self.group.plants, refuses: cx.refuses() };
        let state = match self.take_over(program, checkpoint) {
            Ok(state) => state,
            Err(unfit) => {
                let (why, outcome) = match unfit {
                    Unfit::Damaged(why) => (why, Installed::Spoiled),
                    Unfit::Refused(why) => (why, Installed::Refused),
                };
                cx.recorder().counts.refused += 1;
                cx.line(format_args!("checkpoint of {} not installed: {why}", checkpoint.slot));
                self.installing = false;
                self.step(cx, Input::Installed { checkpoint, outcome });
                return self.execute(cx);
            }
        };
        if !self.group.plants.has(Plant::LogNotToldOfInstalled)
            && let Err(error) = self.log.begin_after(GroupId::FIRST, checkpoint.slot)
        {
            // At the next start the log is told.
            return cx.stop(format!("begin after {}: {error}", checkpoint.slot));
        }
        cx.line(format_args!("goes on from the checkpoint of {}", checkpoint.slot));
        if !self.group.plants.has(Plant::ReadAfterStateWentBack) {
            let shown_upto = self.applier.applied_upto();
            self.keeping.shown_upto = self.keeping.shown_upto.max(shown_upto);
        }
        self.applier = state;
        self.deliveries.clear();
        self.keeping.forget_taken(self.group.plants);
        (self.owes_checkpoint, self.stopped, self.installing) = (false, false, false);
        let (replica, quorum) = (self.me, self.quorum());
        cx.observe(&Observation::Installed { replica, checkpoint, quorum });
        let applied_upto = self.applier.applied_upto();
        cx.observe(&Observation::Started { replica, applied_upto });
        self.observe_state(cx);
        self.step(cx, Input::Installed { checkpoint, outcome: Installed::Stands });
        self.tell_applied(cx);
        // What is open here may have been carried out within what was skipped.
        self.retry_soon(cx);
        self.answer_reads(cx);
        self.execute(cx);
    }

    fn take_over(&mut self, program: Program, checkpoint: CheckpointId) -> Result<State, Unfit> {
        let damaged = |error: CheckpointError| Unfit::Damaged(error.to_string());
        let nothing = || Unfit::Damaged("nothing was fetched".to_owned());
        let mut incoming = self.keeping.incoming.take().ok_or_else(nothing)?;
        match program.restore(checkpoint, || incoming.open_content()) {
            Ok(state) => {
                self.keeping.life = incoming.install().map_err(damaged)?;
                Ok(state)
            }
            Err(refused @ Unfit::Refused(_)) => {
                self.keeping.incoming = Some(incoming);
                Err(refused)
            }
            Err(unfit @ Unfit::Damaged(_)) => {
                incoming.abandon().map_err(damaged)?;
                Err(unfit)
            }
        }
    }

    /// This replica's state is not that of the others: nothing is applied until another one came, and
    /// what may be wrong is noted.
    pub(super) fn stop_executing(
        &mut self,
        cx: &mut Cx<'_>,
        at: Slot,
        right: Option<CheckpointId>,
    ) {
        cx.recorder().counts.diverged += 1;
        cx.line(format_args!("has diverged at {at}: stops executing; right is {right:?}"));
        self.stopped = true;
        self.owes_checkpoint = false;
        self.deliveries.clear();
        if !self.group.plants.has(Plant::DivergenceForgotten)
            && let Err(error) = self.keeping.held.distrust_after(right)
        {
            return cx.stop(format!("distrust: {error}"));
        }
        self.keeping.forget_taken(self.group.plants);
        cx.observe(&Observation::Diverged { replica: self.me });
    }

    /// Lets go of checkpoints that nobody fetches any more.
    pub(super) fn tidy_checkpoints(&mut self, cx: &mut Cx<'_>) {
        let time = cx.time();
        let count = self.pieces.holds.len();
        self.pieces.holds.retain(|_, (_, used)| time - *used < HOLD_NANOS);
        if self.pieces.holds.len() < count
            && let Err(error) = self.keeping.held.tidy()
        {
            cx.line(format_args!("{error}"));
        }
    }
}
