//! Checkpoints of this replica's own: taken when they are due, written piece by piece while
//! execution goes on, and read back at start.

use std::io::Write;

use mainstay_check::Observation;
use mainstay_consensus::{Input, PartialCheckpoint};
use mainstay_model::plant::Planted;
use mainstay_model::{CheckpointId, GroupId, Plant, Plants, ReplicaId, Slot};
use mainstay_service::checkpoint::identify;
use mainstay_service::{Applier, ApplierCheckpoint, Unwritten};
use mainstay_storage::{
    CheckpointError, CheckpointOptions, CheckpointWriter, Checkpoints, Content, Disk, Incoming,
    Life,
};

use super::{Job, ReplicaProcess, State, WRITER};
use crate::context::Cx;
use crate::disk::SimDisk;
use crate::drive::boot::GroupOptions;
use crate::registers::Registers;

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
    /// It could not be written, and is tried again.
    failed: bool,
    /// Later ones have taken its place.
    given_up: bool,
    /// It is of a state that is no longer this replica's: whoever was at it when that turned out goes on to
    /// the end.
    overtaken: bool,
}

/// The checkpoints of a replica, on disk and on the way there.
pub(super) struct Keeping {
    pub(super) held: Checkpoints<SimDisk>,
    /// Which life of the state in the folder the executor has.
    pub(super) life: Life,
    /// How far the state before this one had come: a later answer must not show less than an earlier one did.
    pub(super) shown_upto: Slot,
    unwritten: Unwritten<ApplierCheckpoint<Registers>, Planted>,
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
    /// Opens the checkpoints of a folder and reads the newest one back that can be restored. The log
    /// begins after `truncated_upto`.
    ///
    /// # Errors
    /// A sentence: there is no state to go on from.
    pub(crate) fn open(
        cx: &mut Cx<'_>,
        group: &GroupOptions,
        me: ReplicaId,
        disk: SimDisk,
        truncated_upto: Slot,
    ) -> Result<Self, String> {
        let options = CheckpointOptions {
            content_max: 1 << 20,
            ..CheckpointOptions::new(group.cluster, GroupId::FIRST, 1)
        };
        let opened = Checkpoints::open(disk.clone(), options);
        let (held, reports) = opened.map_err(|error| error.to_string())?;
        for report in reports {
            cx.line(format_args!("{report}"));
            cx.damage_found(&report.to_string());
        }
        let (mut state, mut refused) = (None, None);
        for id in held.held().into_iter().rev() {
            let program = Program { plants: group.plants, refuses: cx.refuses() };
            match program.restore(id, || held.open_content(id)) {
                Ok(applier) => {
                    state = Some((id, applier));
                    break;
                }
                Err(Unfit::Refused(what)) if !group.plants.has(Plant::RefusedRemoved) => {
                    cx.line(format_args!("checkpoint of slot {} is refused: {what}", id.slot));
                    refused.get_or_insert(what);
                }
                Err(Unfit::Refused(what)) => {
                    cx.line(format_args!("checkpoint of slot {} is removed: {what}", id.slot));
                    held.note_damaged(id);
                    remove_file(&disk, id);
                }
                Err(Unfit::Damaged(what)) => {
                    cx.line(format_args!("checkpoint of slot {} is of no use: {what}", id.slot));
                    cx.damage_found(&what);
                    held.note_damaged(id);
                }
            }
        }
        for checkpoint in held.held() {
            cx.observe(&Observation::Found { replica: me, checkpoint });
        }
        let checkpoint = state.as_ref().map(|(id, _)| *id);
        let reached = checkpoint.map_or(Slot::NONE, |id| id.slot);
        if let Some(refused) = refused.filter(|_| reached < truncated_upto) {
            return Err(refused);
        }
        let fresh = || {
            let sessions = group.sessions;
            Applier::new(Registers::default(), sessions, group.plants)
        };
        let state = state.map_or_else(fresh, |(_, applier)| applier);
        let (incoming, partial) = Self::partial(&held, group).map_err(|error| error.to_string())?;
        let (life, unwritten) = (held.life(), Unwritten::new(group.plants));
        let (shown_upto, writing) = (Slot::NONE, None);
        let keeping = Keeping { held, life, shown_upto, unwritten, writing, incoming };
        Ok(Self { keeping, state, checkpoint, partial })
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

/// Why no state is made of a checkpoint.
pub(super) enum Unfit {
    /// It is not what its name says.
    Damaged(String),
    /// It is, and this program makes nothing of it.
    Refused(String),
}

/// What makes states of checkpoints.
#[derive(Clone, Copy)]
pub(super) struct Program {
    pub(super) plants: Planted,
    /// It can restore none.
    pub(super) refuses: bool,
}

impl Program {
    /// Reads a state back and compares it with what its name says.
    pub(super) fn restore(
        self,
        id: CheckpointId,
        open: impl Fn() -> Result<Content<SimDisk>, CheckpointError>,
    ) -> Result<State, Unfit> {
        let opened = || open().map_err(|error| Unfit::Damaged(error.to_string()));
        let why = match Applier::restore(&mut opened()?, self.plants) {
            _ if self.refuses => "this program restores none".to_owned(),
            Err(error) => error.to_string(),
            Ok(mut state) => {
                let (slot, digest) = (state.applied_upto(), state.digest());
                let as_named = (slot, digest) == (id.slot, Some(id.digest));
                if as_named || self.plants.has(Plant::InstalledUnchecked) {
                    return Ok(state);
                }
                format!(
                    "it says slot {} and digest {:016x}, and holds slot {slot} and {digest:x?}",
                    id.slot, id.digest
                )
            }
        };
        match identify(&mut opened()?) {
            Ok(found) if found == id => Err(Unfit::Refused(why)),
            Ok(_) => Err(Unfit::Damaged(why)),
            Err(error) => Err(Unfit::Damaged(error.to_string())),
        }
    }
}

fn remove_file(disk: &SimDisk, id: CheckpointId) {
    let beginning = format!("checkpoint-{:020}-", id.slot.0);
    for name in disk.list().unwrap_or_default() {
        if name.starts_with(&beginning) {
            let _ = disk.remove(&name);
        }
    }
}

impl Keeping {
    /// Forgets what was taken of a state that is no longer this replica's.
    pub(super) fn forget_taken(&mut self, plants: Planted) {
        self.unwritten.forget();
        match &mut self.writing {
            Some(writing) if writing.writer.is_some() => {
                writing.overtaken = true;
                if plants.has(Plant::OvertakenPutInPlace) {
                    self.life = self.held.life();
                    writing.writer = None;
                }
            }
            _ => self.end_writing(),
        }
    }

    fn end_writing(&mut self) {
        if self.writing.take().is_some() {
            self.unwritten.end();
        }
    }
}

impl ReplicaProcess {
    /// Takes the checkpoint that is due, unless too many wait to be written: then execution does, too.
    pub(super) fn take_checkpoint(&mut self, cx: &mut Cx<'_>) {
        if !self.owes_checkpoint {
            return;
        }
        let plants = self.group.plants;
        let full = self.keeping.unwritten.is_full();
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
        if self.keeping.unwritten.offer(taken).is_err() {
            cx.violated("invariant", "a checkpoint was taken before it could wait".to_owned());
        }
        if self.keeping.unwritten.is_given_up() {
            self.tell_given_up(cx);
        }
        self.begin_writing(cx);
    }

    fn begin_writing(&mut self, cx: &mut Cx<'_>) {
        if self.keeping.writing.is_some() {
            return;
        }
        let Some(taken) = self.keeping.unwritten.take() else { return };
        let slot = taken.slot();
        let mut content = Vec::new();
        match taken.write(&mut content) {
            Ok(digest) => {
                let (writer, written) = (None, 0);
                let (failed, given_up, overtaken) = (false, false, false);
                let writing =
                    Writing { slot, digest, content, writer, written, failed, given_up, overtaken };
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
        if let Some(writing) = &mut self.keeping.writing
            && std::mem::take(&mut writing.failed)
            && !self.keeping.unwritten.try_again()
        {
            return self.give_up_writing(cx);
        }
        match self.keeping.write_piece() {
            Ok(true) => {
                let nanos = self.disk_takes(cx);
                cx.timer_in(nanos, WRITER);
            }
            Ok(false) => {
                let Some(writing) = &self.keeping.writing else { return };
                let slot = writing.slot;
                if writing.overtaken {
                    self.finish_checkpoint(cx, slot);
                } else if self.keeps(slot) && !self.stuck {
                    self.jobs.push_back(Job::NoteDecided(slot));
                    self.work(cx);
                } else {
                    self.note_later(cx);
                }
            }
            Err(error) => {
                cx.line(format_args!("{error}"));
                self.write_again(cx);
            }
        }
    }

    /// What could not be written is tried again.
    pub(super) fn write_again(&mut self, cx: &mut Cx<'_>) {
        let Some(writing) = &mut self.keeping.writing else { return };
        writing.writer = None;
        if writing.overtaken {
            self.keeping.end_writing();
            return self.begin_writing(cx);
        }
        if self.try_later(cx, RETRY_NANOS) {
            cx.recorder().counts.retried += 1;
        }
    }

    /// What is being written is not done for now, and execution does not wait for it. Whether it is
    /// tried again.
    pub(super) fn try_later(&mut self, cx: &mut Cx<'_>, nanos: u64) -> bool {
        let keeping = &mut self.keeping;
        let Some(writing) = &mut keeping.writing else { return false };
        writing.failed = true;
        let again = keeping.unwritten.failed();
        if again {
            cx.timer_in(nanos, WRITER);
            self.take_checkpoint(cx);
            self.execute(cx);
        } else {
            self.give_up_writing(cx);
        }
        again
    }

    fn tell_given_up(&mut self, cx: &mut Cx<'_>) {
        let dropped = self.group.plants.has(Plant::CheckpointGivenUp);
        let Some(writing) = &mut self.keeping.writing else { return };
        if !std::mem::replace(&mut writing.given_up, true) && !dropped && !writing.overtaken {
            let slot = writing.slot;
            cx.line(format_args!("checkpoint of {slot} given up"));
            cx.observe(&Observation::GivenUp { replica: self.me, slot });
        }
    }

    /// Later ones take the place of what could not be written.
    fn give_up_writing(&mut self, cx: &mut Cx<'_>) {
        self.tell_given_up(cx);
        self.keeping.end_writing();
        self.begin_writing(cx);
        self.execute(cx);
    }

    /// All of the checkpoint of `slot` is written, and the log knows the slot as decided.
    pub(super) fn finish_checkpoint(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        let overtaken = self.keeping.writing.as_ref().is_some_and(|writing| writing.overtaken);
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
        if overtaken {
            return self.begin_writing(cx);
        }
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
            writing.writer = Some(self.held.writer(writing.slot, self.life)?);
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
        self.end_writing();
        Ok(Some(id))
    }
}
