//! The disk thread: owns the log. Takes all that is queued, appends it with one write, syncs once,
//! and answers once.

use std::sync::Arc;
use std::time::Duration;

use mainstay_consensus::ReadPurpose;
use mainstay_model::{Entry, GroupId, Mark, Record, Slot};
use mainstay_storage::{AppendError, Disk, Log};

use crate::executor::Executed;
use crate::queue::{Inbox, Queue, Taken};

/// How often a full disk is looked at again.
const ROOM_INTERVAL: Duration = Duration::from_millis(200);

/// What the disk thread is asked for.
#[derive(Debug)]
pub(crate) enum DiskTask {
    /// Write these records and sync.
    Persist { mark: Mark, records: Vec<Record> },
    /// Read these slots back.
    Read { from: Slot, upto: Slot, bytes_max: usize, purpose: ReadPurpose },
}

/// What the other threads tell the protocol thread.
#[derive(Debug)]
pub(crate) enum Event {
    /// Everything up to this mark is durable.
    Durable(Mark),
    /// What was read back.
    LogRead { from: Slot, purpose: ReadPurpose, entries: Vec<Entry> },
    /// The log's size, and whether it has room for entries.
    Log(LogState),
    /// A decided record that the executor needs cannot be read back; the sentence says how.
    LogDamaged(String),
    /// The log failed for good; the sentence says how.
    DiskFailed(String),
    /// What the executor did.
    Executed(Executed),
    /// A thread ended, expectedly or not.
    Ended(&'static str),
}

/// What is known of the log on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogState {
    pub(crate) bytes: u64,
    pub(crate) segments: u64,
    pub(crate) has_room: bool,
}

/// Owns the log until the queue is closed and empty, or a write fails.
pub(crate) struct DiskThread<D: Disk> {
    log: Log<D>,
    tasks: Arc<Queue<DiskTask>>,
    inbox: Arc<Inbox<Event>>,
    /// Appended in vain for want of room: nothing later may be appended before these.
    stuck: Vec<Record>,
    stuck_mark: Option<Mark>,
    told: LogState,
}

impl<D: Disk> DiskThread<D> {
    pub(crate) fn new(
        log: Log<D>,
        tasks: Arc<Queue<DiskTask>>,
        inbox: Arc<Inbox<Event>>,
        told: LogState,
    ) -> Self {
        Self { log, tasks, inbox, stuck: Vec::new(), stuck_mark: None, told }
    }

    /// What the log says about itself.
    pub(crate) fn state_of(log: &Log<D>) -> LogState {
        LogState { bytes: log.bytes(), segments: log.segments(), has_room: log.has_room() }
    }

    /// The thread's body. Returns what failed, if anything did.
    pub(crate) fn run(mut self) -> Option<String> {
        let mut tasks = Vec::new();
        loop {
            let room = self.told.has_room && self.stuck_mark.is_none();
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
        let mut reads = Vec::new();
        for task in tasks.drain(..) {
            match task {
                DiskTask::Persist { mark, mut records } => {
                    if self.stuck.is_empty() {
                        self.stuck = records;
                    } else {
                        self.stuck.append(&mut records);
                    }
                    self.stuck_mark = Some(mark);
                }
                DiskTask::Read { from, upto, bytes_max, purpose } => {
                    reads.push((from, upto, bytes_max, purpose));
                }
            }
        }
        self.persist()?;
        for (from, upto, bytes_max, purpose) in reads {
            self.read(from, upto, bytes_max, purpose);
        }
        self.log.prepare().map_err(|error| error.to_string())?;
        self.tell();
        Ok(())
    }

    fn persist(&mut self) -> Result<(), String> {
        let Some(mark) = self.stuck_mark else { return Ok(()) };
        match self.log.append(&self.stuck) {
            Ok(()) => {}
            Err(error @ AppendError::NoRoom { .. }) => {
                if self.told.has_room {
                    tracing::warn!("{error}");
                }
                return Ok(());
            }
            Err(error) => return Err(error.to_string()),
        }
        self.log.sync().map_err(|error| error.to_string())?;
        self.stuck.clear();
        self.stuck_mark = None;
        self.inbox.push(Event::Durable(mark), 0);
        Ok(())
    }

    fn read(&self, from: Slot, upto: Slot, bytes_max: usize, purpose: ReadPurpose) {
        let entries = match self.log.read(GroupId::FIRST, from, upto, bytes_max) {
            Ok(entries) => entries,
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
        state.has_room &= self.stuck_mark.is_none();
        let grown = state.bytes.abs_diff(self.told.bytes) >= 1 << 16;
        if grown || state.has_room != self.told.has_room || state.segments != self.told.segments {
            self.told = state;
            self.inbox.push(Event::Log(state), 0);
        }
    }
}
