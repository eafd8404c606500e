//! Checkpoints of this replica's own: taken when they are due, written piece by piece while
//! execution goes on, and read back at start.

use std::collections::VecDeque;
use std::io::Write;

use mainstay_check::Observation;
use mainstay_consensus::{Input, PartialCheckpoint};
use mainstay_model::plant::Planted;
use mainstay_model::{CheckpointId, GroupId, Plant, Plants, ReplicaId, Slot};
use mainstay_service::{Applier, ApplierCheckpoint, RestoreError};
use mainstay_storage::{
    CheckpointError, CheckpointOptions, CheckpointWriter, Checkpoints, Content, Incoming,
};

use super::{Job, ReplicaProcess, State, WRITER};
use crate::context::Cx;
use crate::disk::SimDisk;
use crate::drive::boot::GroupOptions;
use crate::registers::Registers;

/// How many checkpoints may be taken and not durable yet; at the next one execution waits.
const TAKEN_MAX: usize = 2;
/// How much of one is written at a time.
const PIECE: usize = 512;
/// How long until a write that failed is tried again, in nanoseconds.
const RETRY_NANOS: u64 = 100_000_000;

/// One being written.
struct Writing {
    slot: Slot,
    digest: u64,
    content: Vec<u8>,
    /// `None` until it is begun (anew).
    writer: Option<CheckpointWriter<SimDisk>>,
    written: usize,
}

/// The checkpoints of a replica, on disk and on the way there.
pub(super) struct Keeping {
    pub(super) held: Checkpoints<SimDisk>,
    taken: VecDeque<ApplierCheckpoint<Registers>>,
    writing: Option<Writing>,
    /// The one that is being fetched.
    pub(super) incoming: Option<Incoming<SimDisk>>,
}

/// What a replica starts from.
pub(crate) struct Kept {
    pub(super) keeping: Keeping,
    pub(super) state: State,
    /// The checkpoint that `state` is of.
    pub(crate) checkpoint: Option<CheckpointId>,
    /// What was fetched of another one.
    pub(crate) partial: Option<PartialCheckpoint>,
}

impl Kept {
    /// Opens the checkpoints of a folder and reads the newest intact one back.
    pub(crate) fn open(
        cx: &mut Cx<'_>,
        group: &GroupOptions,
        me: ReplicaId,
        disk: SimDisk,
    ) -> Result<Self, CheckpointError> {
        let options = CheckpointOptions {
            content_max: 1 << 20,
            ..CheckpointOptions::new(group.cluster, GroupId::FIRST, 1)
        };
        let (held, reports) = Checkpoints::open(disk, options)?;
        for report in reports {
            cx.line(format_args!("{report}"));
            cx.damage_found(&report.to_string());
        }
        let mut state = None;
        while let Some(id) = held.latest().filter(|_| state.is_none()) {
            match held.open_content(id).map(|content| read_back(content, id, group.plants)) {
                Ok(Ok(applier)) => state = Some((id, applier)),
                Ok(Err(error)) => Self::damaged(cx, &held, id, &error.to_string())?,
                Err(error) => Self::damaged(cx, &held, id, &error.to_string())?,
            }
        }
        for checkpoint in held.held() {
            cx.observe(&Observation::Found { replica: me, checkpoint });
        }
        let checkpoint = state.as_ref().map(|(id, _)| *id);
        let fresh = || {
            let sessions = group.sessions;
            Applier::new(Registers::default(), sessions, group.plants)
        };
        let state = state.map_or_else(fresh, |(_, applier)| applier);
        let (incoming, partial) = Self::partial(&held, group)?;
        let keeping = Keeping { held, taken: VecDeque::new(), writing: None, incoming };
        Ok(Self { keeping, state, checkpoint, partial })
    }

    fn damaged(
        cx: &mut Cx<'_>,
        held: &Checkpoints<SimDisk>,
        id: CheckpointId,
        what: &str,
    ) -> Result<(), CheckpointError> {
        cx.line(format_args!("checkpoint of slot {} is of no use: {what}", id.slot));
        cx.damage_found(what);
        held.remove(id)
    }

    /// Goes on with what an earlier process fetched.
    fn partial(
        held: &Checkpoints<SimDisk>,
        group: &GroupOptions,
    ) -> Result<(Option<Incoming<SimDisk>>, Option<PartialCheckpoint>), CheckpointError> {
        let chunk_bytes = group.ordering.chunk_bytes;
        let Some(left) = held.partial().filter(|left| left.chunk_bytes == chunk_bytes) else {
            return Ok((None, None));
        };
        let incoming = held.incoming(left.id, left.total, chunk_bytes)?;
        let chunks = incoming.next_missing(0).unwrap_or(incoming.chunks());
        let chunks = u32::try_from(chunks).unwrap_or(u32::MAX);
        let partial = PartialCheckpoint { checkpoint: left.id, total: left.total, chunks };
        Ok((Some(incoming), Some(partial)))
    }
}

/// Reads a state back and compares it with what its name says.
pub(super) fn read_back(
    mut content: Content<SimDisk>,
    id: CheckpointId,
    plants: Planted,
) -> Result<State, RestoreError> {
    let mut state = Applier::restore(&mut content, plants)?;
    let (slot, digest) = (state.applied_upto(), state.digest());
    if plants.has(Plant::InstalledUnchecked) || (slot, digest) == (id.slot, Some(id.digest)) {
        return Ok(state);
    }
    Err(RestoreError::Invalid(format!(
        "it says slot {} and digest {:016x}, and holds slot {slot} and {digest:x?}",
        id.slot, id.digest
    )))
}

impl Keeping {
    fn is_full(&self) -> bool {
        self.taken.len() + usize::from(self.writing.is_some()) >= TAKEN_MAX
    }

    /// Forgets what was taken of a state that is no longer this replica's.
    pub(super) fn forget_taken(&mut self) {
        self.taken.clear();
        self.writing = None;
    }
}

impl ReplicaProcess {
    /// Takes the checkpoint that is due, unless too many wait to be written: then execution does, too.
    pub(super) fn take_checkpoint(&mut self, cx: &mut Cx<'_>) {
        if !self.owes_checkpoint {
            return;
        }
        let plants = self.group.plants;
        let full = self.keeping.is_full();
        if full && !plants.has(Plant::LateCheckpointSkipped) {
            return cx.line(format_args!("execution waits for checkpoints to be written"));
        }
        self.owes_checkpoint = false;
        let Some(taken) = self.applier.checkpoint() else { return };
        if full {
            return;
        }
        if plants.has(Plant::CheckpointToldBeforeDurable)
            && let Some(digest) = self.applier.digest()
        {
            let checkpoint = CheckpointId { slot: taken.slot(), digest };
            self.step(cx, Input::Checkpointed { checkpoint });
        }
        cx.line(format_args!("checkpoint of {} taken", taken.slot()));
        self.keeping.taken.push_back(taken);
        self.begin_writing(cx);
    }

    fn begin_writing(&mut self, cx: &mut Cx<'_>) {
        if self.keeping.writing.is_some() {
            return;
        }
        let Some(taken) = self.keeping.taken.pop_front() else { return };
        let slot = taken.slot();
        let mut content = Vec::new();
        match taken.write(&mut content) {
            Ok(digest) => {
                let writing = Writing { slot, digest, content, writer: None, written: 0 };
                self.keeping.writing = Some(writing);
                let nanos = self.disk_takes(cx);
                cx.timer_in(nanos, WRITER);
            }
            Err(error) => {
                cx.violated("invariant", format!("a checkpoint cannot be written: {error}"))
            }
        }
    }

    /// Writes the next piece.
    pub(super) fn on_writer(&mut self, cx: &mut Cx<'_>) {
        match self.keeping.write_piece() {
            Ok(true) => {
                let nanos = self.disk_takes(cx);
                cx.timer_in(nanos, WRITER);
            }
            Ok(false) => {
                if let Some(writing) = &self.keeping.writing {
                    self.jobs.push_back(Job::NoteDecided(writing.slot));
                    self.work(cx);
                }
            }
            Err(error) => {
                cx.line(format_args!("{error}"));
                self.write_again(cx);
            }
        }
    }

    /// Begins anew to write what could not be written.
    pub(super) fn write_again(&mut self, cx: &mut Cx<'_>) {
        if self.group.plants.has(Plant::CheckpointGivenUp) {
            self.keeping.writing = None;
            return self.begin_writing(cx);
        }
        if let Some(writing) = &mut self.keeping.writing {
            writing.writer = None;
            cx.recorder().counts.retried += 1;
            cx.timer_in(RETRY_NANOS, WRITER);
        }
    }

    /// All of the checkpoint of `slot` is written, and the log knows the slot as decided.
    pub(super) fn finish_checkpoint(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let checkpoint = match self.keeping.finish(slot) {
            Ok(Some(checkpoint)) => checkpoint,
            Ok(None) => return,
            Err(error) => {
                cx.line(format_args!("{error}"));
                return self.write_again(cx);
            }
        };
        cx.line(format_args!("checkpoint of {slot} durable: {:016x}", checkpoint.digest));
        cx.observe(&Observation::Checkpointed { replica: self.me, checkpoint });
        self.step(cx, Input::Checkpointed { checkpoint });
        self.discard(cx);
        if let Err(error) = self.keeping.held.tidy() {
            cx.line(format_args!("{error}"));
        }
        self.take_checkpoint(cx);
        self.begin_writing(cx);
        self.execute(cx);
    }
}

impl Keeping {
    /// Writes a piece of what is being written; false once there is no more.
    fn write_piece(&mut self) -> Result<bool, CheckpointError> {
        let Some(writing) = &mut self.writing else { return Ok(false) };
        let Some(writer) = &mut writing.writer else {
            writing.written = 0;
            writing.writer = Some(self.held.writer(writing.slot)?);
            return Ok(true);
        };
        let end = writing.content.len().min(writing.written + PIECE);
        // An error shows again when it is finished.
        let written = writer.write_all(&writing.content[writing.written..end]);
        writing.written = end;
        Ok(written.is_ok() && end < writing.content.len())
    }

    /// Makes the checkpoint of `slot` durable, unless it is no longer the one being written.
    fn finish(&mut self, slot: Slot) -> Result<Option<CheckpointId>, CheckpointError> {
        let Some(writing) = self.writing.as_mut().filter(|writing| writing.slot == slot) else {
            return Ok(None);
        };
        let Some(writer) = writing.writer.take() else { return Ok(None) };
        let id = writer.finish(writing.digest)?;
        self.writing = None;
        Ok(Some(id))
    }
}
