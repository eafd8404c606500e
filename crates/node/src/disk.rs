//! The disk thread: owns the log. Takes all that is queued, appends it with one write, syncs once,
//! and answers once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_consensus::ReadPurpose;
use mainstay_model::{CheckpointId, Entry, GroupId, Mark, Record, ReplicaId, Slot};
use mainstay_storage::{AppendError, Disk, Log};

use crate::config::KeepSettings;
use crate::executor::Executed;
use crate::queue::{Inbox, Queue, Taken};
use crate::restart::Restored;
use crate::restoring::Unfit;
use crate::transfers::TransferTask;

/// How often a full disk is looked at again.
const ROOM_INTERVAL: Duration = Duration::from_millis(200);

/// For how long what found no room keeps smaller requests from being taken.
const WANTED_TIME: Duration = Duration::from_secs(2);

/// What the disk thread is asked for.
#[derive(Debug)]
pub(crate) enum DiskTask {
    /// Write these records and sync; not if, since they were asked for, others found no room.
    Persist { mark: Mark, records: Vec<Record>, refusals: u64 },
    /// Read these slots back.
    Read { from: Slot, upto: Slot, bytes_max: usize, purpose: ReadPurpose },
    /// Give up what need not be kept.
    Discard { upto: Slot, wanted_above: Option<Slot> },
    /// Go on after this checkpoint, which stands.
    BeginAfter(CheckpointId),
    /// Make durable that this slot is decided and stands in the log; not if, since it was asked for,
    /// records found no room.
    NoteDecided { note: Note, refusals: u64 },
}

/// A checkpoint of this slot is written, and takes its place once the log knows the slot as decided.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) slot: Slot,
    /// Whom to tell.
    done: SyncSender<Noted>,
}

impl Note {
    pub(crate) fn new(slot: Slot, done: SyncSender<Noted>) -> Self {
        Self { slot, done }
    }

    pub(crate) fn answer(&self, noted: Noted) {
        // Whoever asked may have been told to end meanwhile.
        let _ = self.done.try_send(noted);
    }
}

/// What came of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// The log knows the slot as decided.
    Durable,
    /// The log does not hold all of it, for want of room, or has none for the note.
    NoRoom,
}

/// What the protocol thread knows of what the log has no room for.
#[derive(Debug, Default)]
pub(crate) struct Roomless {
    /// How often records found no room.
    pub(crate) refusals: u64,
    /// Checkpoints that are written.
    pub(crate) notes: Vec<Note>,
}

/// What the other threads tell the protocol thread.
#[derive(Debug)]
pub(crate) enum Event {
    /// Everything up to this mark is durable.
    Durable(Mark),
    /// There was no room for the records from this mark on, and nothing that was asked for before this
    /// is taken in will be written.
    Unwritten { from: Mark },
    /// This is to be noted if the log holds all of it.
    Note(Note),
    /// What was read back.
    LogRead { from: Slot, purpose: ReadPurpose, entries: Vec<Entry> },
    /// The log's size, and whether it has room for entries.
    Log(LogState),
    /// A decided record that the executor needs cannot be read back; the sentence says how.
    LogDamaged(String),
    /// The log failed for good; the sentence says how.
    DiskFailed(String),
    /// The log no longer holds the slots up to here.
    Discarded(Slot),
    /// The log goes on after this checkpoint.
    BegunAfter(CheckpointId),
    /// What the executor did.
    Executed(Executed),
    /// The executor has its first state; the sentence says why nothing can be executed.
    Restored(Result<Restored, String>),
    /// A checkpoint of a state of this generation is durable, with so many bytes.
    Checkpointed { generation: u64, checkpoint: CheckpointId, bytes: u64 },
    /// A checkpoint is not held any more.
    CheckpointGone(CheckpointId),
    /// A checkpoint could not be written; the sentence says why.
    CheckpointFailed { slot: Slot, why: String },
    /// A piece of a checkpoint for another replica; of no bytes in all if it is not here.
    ChunkRead { to: ReplicaId, checkpoint: CheckpointId, chunk: u32, total: u64, bytes: Bytes },
    /// Whether a fetched piece is kept; the sentence says why not.
    ChunkStored { checkpoint: CheckpointId, chunk: u32, stored: Result<(), String> },
    /// A fetched checkpoint of so many bytes stands on disk, and its state waits for the executor; or
    /// why not.
    Fetched { checkpoint: CheckpointId, installed: Result<u64, Unfit> },
    /// What the name of a peer's host stands for, or why it stands for nothing.
    Found { peer: ReplicaId, addresses: Result<Vec<SocketAddr>, String> },
    /// A thread ended, expectedly or not.
    Ended(&'static str),
}

/// What is known of the log on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogState {
    pub(crate) bytes: u64,
    pub(crate) segments: u64,
    pub(crate) has_room: bool,
    /// Why it has none, in a sentence.
    pub(crate) no_room: Option<String>,
    /// The most that it may hold.
    pub(crate) bytes_max: Option<u64>,
}

/// Owns the log until the queue is closed and empty, or a write fails.
pub(crate) struct DiskThread<D: Disk> {
    log: Log<D>,
    tasks: Arc<Queue<DiskTask>>,
    inbox: Arc<Inbox<Event>>,
    /// To whoever removes files.
    transfers: Arc<Queue<TransferTask>>,
    /// What waits to be written, and where in it the records of each mark end. It is there for longer
    /// than a turn only where not even the reserve has room.
    waiting: Vec<Record>,
    marks: Vec<(Mark, usize)>,
    /// How often records found no room.
    refusals: u64,
    /// The longest value that found no room, and when: before there is some for it there is none for
    /// requests, or whoever has a large one to write would unseat one leader after the other.
    wanted: Option<(usize, Instant)>,
    /// What could not be read back for want of a file descriptor.
    reads: Vec<(Slot, Slot, usize, ReadPurpose)>,
    /// To begin after this could not be written yet, for want of room.
    begins_after: Option<CheckpointId>,
    /// Likewise that this need not be kept.
    discards: Option<(Slot, Option<Slot>)>,
    keep: KeepSettings,
    told: LogState,
}

impl<D: Disk> DiskThread<D> {
    pub(crate) fn new(
        log: Log<D>,
        tasks: Arc<Queue<DiskTask>>,
        inbox: Arc<Inbox<Event>>,
        transfers: Arc<Queue<TransferTask>>,
        keep: KeepSettings,
    ) -> Self {
        let told = Self::state_of(&log);
        let keep = log.bytes_max().map_or(keep, |max| keep.within(max));
        Self {
            log,
            tasks,
            inbox,
            transfers,
            waiting: Vec::new(),
            marks: Vec::new(),
            refusals: 0,
            wanted: None,
            reads: Vec::new(),
            begins_after: None,
            discards: None,
            keep,
            told,
        }
    }

    /// What the log says about itself.
    pub(crate) fn state_of(log: &Log<D>) -> LogState {
        LogState {
            bytes: log.bytes(),
            segments: log.segments(),
            has_room: log.has_room(),
            no_room: log.no_room().map(str::to_owned),
            bytes_max: log.bytes_max(),
        }
    }

    /// The thread's body. Returns what failed, if anything did.
    pub(crate) fn run(mut self) -> Option<String> {
        let mut tasks = Vec::new();
        loop {
            let waits = !self.marks.is_empty()
                || self.begins_after.is_some()
                || self.discards.is_some()
                || self.wanted.is_some()
                || !self.reads.is_empty();
            let room = self.told.has_room && !waits;
            let taken = self.tasks.take(&mut tasks, (!room).then_some(ROOM_INTERVAL));
            let result = self.turn(&mut tasks);
            if let Err(failure) = result {
                self.inbox.push(Event::DiskFailed(failure.clone()), 0);
                return Some(failure);
            }
            if taken == Taken::Closed {
                return None;
            }
        }
    }

    fn turn(&mut self, tasks: &mut Vec<DiskTask>) -> Result<(), String> {
        let mut reads = std::mem::take(&mut self.reads);
        let mut decided = None;
        for task in tasks.drain(..) {
            match task {
                DiskTask::Persist { refusals, .. } if refusals < self.refusals => {}
                DiskTask::Persist { mark, mut records, .. } => {
                    if self.waiting.is_empty() {
                        self.waiting = records;
                    } else {
                        self.waiting.append(&mut records);
                    }
                    self.marks.push((mark, self.waiting.len()));
                }
                DiskTask::Read { from, upto, bytes_max, purpose } => {
                    reads.push((from, upto, bytes_max, purpose));
                }
                DiskTask::Discard { upto, wanted_above } => {
                    self.discards = Some((upto, wanted_above));
                }
                DiskTask::BeginAfter(checkpoint) => self.begins_after = Some(checkpoint),
                DiskTask::NoteDecided { note, refusals } => decided = Some((note, refusals)),
            }
        }
        self.persist()?;
        for (from, upto, bytes_max, purpose) in reads {
            self.read(from, upto, bytes_max, purpose);
        }
        self.begin_after()?;
        if let Some((note, refusals)) = decided {
            self.note_decided(&note, refusals)?;
        }
        if let Some((upto, wanted_above)) = self.discards.take() {
            self.discard(upto, wanted_above)?;
        }
        self.prepare()?;
        self.tell();
        Ok(())
    }

    fn persist(&mut self) -> Result<(), String> {
        if self.marks.is_empty() {
            return Ok(());
        }
        let written = match self.log.append(&self.waiting) {
            Ok(()) => self.marks.len(),
            Err(error @ AppendError::NoRoom { .. }) => {
                if self.told.has_room {
                    tracing::warn!("{error}");
                }
                self.append_one_by_one()?
            }
            Err(error) => return Err(error.to_string()),
        };
        if written > 0 {
            self.log.sync().map_err(|error| error.to_string())?;
            self.inbox.push(Event::Durable(self.marks[written - 1].0), 0);
        }
        if written == self.marks.len() {
            self.waiting.clear();
            self.marks.clear();
        } else {
            self.keep_waiting(written);
        }
        Ok(())
    }

    /// Appends as much of what waits as there is room for. Returns of how many marks.
    fn append_one_by_one(&mut self) -> Result<usize, String> {
        let mut from = 0;
        for (written, &(_, upto)) in self.marks.iter().enumerate() {
            match self.log.append(&self.waiting[from..upto]) {
                Ok(()) => from = upto,
                Err(AppendError::NoRoom { .. }) => return Ok(written),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(self.marks.len())
    }

    /// There is no room for what follows the first `written` marks. Requests are refused, and with them
    /// what stands behind them: the machine says anew what it still wants written. Where even the
    /// reserve has none, everything waits.
    fn keep_waiting(&mut self, written: usize) {
        let start = written.checked_sub(1).map_or(0, |last| self.marks[last].1);
        let (from, upto) = self.marks[written];
        let refused = &self.waiting[start..upto];
        if refused.iter().any(Record::has_requests) {
            self.wanted =
                refused.iter().map(Record::value_len).max().map(|len| (len, Instant::now()));
            self.refusals += 1;
            self.inbox.push(Event::Unwritten { from }, 0);
            self.waiting.clear();
            self.marks.clear();
            return;
        }
        self.waiting.drain(..start);
        self.marks.drain(..written);
        self.marks.iter_mut().for_each(|(_, upto)| *upto -= start);
    }

    /// Allocates ahead, and looks whether there is room by now for what found none.
    fn prepare(&mut self) -> Result<(), String> {
        self.log.prepare().map_err(|error| error.to_string())?;
        if let Some((len, since)) = self.wanted {
            match self.log.prepare_for(len) {
                Ok(()) => self.wanted = None,
                // Perhaps there never will be any for that one, and there is for others.
                Err(AppendError::NoRoom { .. }) if since.elapsed() >= WANTED_TIME => {
                    self.wanted = None;
                }
                Err(AppendError::NoRoom { .. }) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Makes the log begin after an installed checkpoint; where there is no room to write that, it is
    /// tried again.
    fn begin_after(&mut self) -> Result<(), String> {
        let Some(checkpoint) = self.begins_after else { return Ok(()) };
        match self.log.begin_after(GroupId::FIRST, checkpoint.slot) {
            Ok(()) => {}
            Err(AppendError::NoRoom { .. }) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
        self.begins_after = None;
        self.inbox.push(Event::BegunAfter(checkpoint), 0);
        Ok(())
    }

    /// Makes durable that a slot is decided, behind everything that was queued before. What it rests on
    /// may be among what found no room since it was asked for.
    fn note_decided(&mut self, note: &Note, refusals: u64) -> Result<(), String> {
        if !self.marks.is_empty() || refusals < self.refusals {
            note.answer(Noted::NoRoom);
            return Ok(());
        }
        match self.log.note_decided(GroupId::FIRST, note.slot) {
            Ok(()) => note.answer(Noted::Durable),
            Err(AppendError::NoRoom { .. }) => note.answer(Noted::NoRoom),
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    /// Gives up whole segments: first what nobody wants, but for what is kept for whoever lags; then,
    /// beyond the cap, also what a transfer wants.
    fn discard(&mut self, upto: Slot, wanted_above: Option<Slot>) -> Result<(), String> {
        let before = self.log.truncated_upto(GroupId::FIRST);
        let last = upto;
        let unwanted = wanted_above.map_or(upto, |above| above.min(upto));
        let mut unwanted_files = Vec::new();
        let keep = self.keep;
        let cap = keep.transfer_bytes.max(keep.lagging_bytes);
        for (upto, keep_bytes) in [(unwanted, keep.lagging_bytes), (upto, cap)] {
            match self.log.give_up(GroupId::FIRST, upto, keep_bytes) {
                Ok(mut names) => unwanted_files.append(&mut names),
                // Tried again; until then the log is longer.
                Err(AppendError::NoRoom { .. }) => self.discards = Some((last, wanted_above)),
                Err(error) => return Err(error.to_string()),
            }
        }
        if !unwanted_files.is_empty() {
            // Freeing large files takes long, and the next sync is not to wait for it.
            self.transfers.push(&mut vec![TransferTask::RemoveFiles(unwanted_files)], 0);
        }
        let truncated_upto = self.log.truncated_upto(GroupId::FIRST);
        if truncated_upto > before {
            tracing::debug!("the log begins after slot {truncated_upto}");
            self.inbox.push(Event::Discarded(truncated_upto), 0);
        }
        Ok(())
    }

    fn read(&mut self, from: Slot, upto: Slot, bytes_max: usize, purpose: ReadPurpose) {
        let entries = match self.log.read(GroupId::FIRST, from, upto, bytes_max) {
            Ok(entries) => entries,
            Err(error) if error.passes() && purpose == ReadPurpose::Deliver => {
                tracing::warn!("{error}; it is tried again");
                return self.reads.push((from, upto, bytes_max, purpose));
            }
            Err(error) if purpose == ReadPurpose::Deliver => {
                self.inbox.push(Event::LogDamaged(error.to_string()), 0);
                return;
            }
            Err(error) => {
                // Another replica asked; it is told that this log cannot give them, and asks
                // elsewhere.
                tracing::error!("slots {from} to {upto} could not be read back: {error}");
                Vec::new()
            }
        };
        let bytes = entries.iter().map(|entry| entry.value.len()).sum();
        self.inbox.push(Event::LogRead { from, purpose, entries }, bytes);
    }

    /// Tells when room came or went, and when the log has grown noticeably.
    fn tell(&mut self) {
        let mut state = Self::state_of(&self.log);
        state.has_room &= self.marks.is_empty() && self.wanted.is_none();
        let grown = state.bytes.abs_diff(self.told.bytes) >= 1 << 16;
        if grown || state.has_room != self.told.has_room || state.segments != self.told.segments {
            self.told = state.clone();
            self.inbox.push(Event::Log(state), 0);
        }
    }
}
