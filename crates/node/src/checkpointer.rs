//! The checkpoint thread: writes what the executor hands out, while that goes on executing.
//!
//! Two states at most are out of the executor's hands: one being written, one waiting. A third has to
//! wait until the first is done, and so has execution; ordering and voting go on.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use mainstay_model::{CheckpointId, Slot};
use mainstay_service::{ApplierCheckpoint, Checkpoint};
use mainstay_storage::{CheckpointError, Checkpoints, Disk};

use crate::disk::{DiskTask, Event};
use crate::queue::{Inbox, Queue};

/// How many states wait to be written, besides the one that is being written.
const WAITING_MAX: usize = 1;
/// How often it is looked whether what waits for the disk is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// What tells slow work that nobody wants it any more.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    ended: AtomicBool,
    /// States of an earlier generation are not those of the group.
    generation: AtomicU64,
}

impl Wanted {
    /// The node ends: nothing is wanted.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// States from this generation on are wanted, earlier ones are not.
    pub(crate) fn begin(&self, generation: u64) {
        self.generation.fetch_max(generation, Ordering::Relaxed);
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    fn wants(&self, generation: u64) -> bool {
        !self.is_ended() && generation >= self.generation.load(Ordering::Relaxed)
    }
}

/// A state to be written.
pub(crate) struct ToWrite<C> {
    /// Which life of the executor's state it comes from.
    pub(crate) generation: u64,
    pub(crate) state: ApplierCheckpoint<C>,
}

/// What a failed sync of the folder means. It is also that of the log: the system tells of such a failure
/// once, so the log's next sync may succeed although its names do not last.
pub(crate) fn folder_failure(error: &CheckpointError) -> Option<Event> {
    match error {
        CheckpointError::Io { file, tried: "sync", source } if file.is_empty() => {
            Some(Event::DiskFailed(format!("the folder could not be synced: {source}")))
        }
        _ => None,
    }
}

/// The way to the checkpoint thread.
pub(crate) fn channel<C>() -> (SyncSender<ToWrite<C>>, Receiver<ToWrite<C>>) {
    sync_channel(WAITING_MAX)
}

/// Writes until nobody can hand out anything more.
pub(crate) struct CheckpointThread<C, D: Disk> {
    pub(crate) states: Receiver<ToWrite<C>>,
    pub(crate) checkpoints: Checkpoints<D>,
    pub(crate) inbox: Arc<Inbox<Event>>,
    /// To the owner of the log.
    pub(crate) disk: Arc<Queue<DiskTask>>,
    pub(crate) wanted: Arc<Wanted>,
}

/// Writes as long as that is wanted.
struct Interruptible<'a, W> {
    to: W,
    wanted: &'a Wanted,
    generation: u64,
}

impl<W: Write> Write for Interruptible<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.wanted.wants(self.generation) {
            return Err(io::Error::other("it is not wanted any more"));
        }
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<C: Checkpoint, D: Disk> CheckpointThread<C, D> {
    /// The thread's body.
    pub(crate) fn run(self) {
        while let Ok(ToWrite { generation, state }) = self.states.recv() {
            let slot = state.slot();
            if !self.wanted.wants(generation) {
                continue;
            }
            let event = match self.write(generation, state) {
                Ok(checkpoint) => {
                    let bytes = self.checkpoints.content_len(checkpoint).unwrap_or(0);
                    Event::Checkpointed { generation, checkpoint, bytes }
                }
                Err(_) if !self.wanted.wants(generation) => continue,
                Err(error) => folder_failure(&error)
                    .unwrap_or_else(|| Event::CheckpointFailed { slot, why: error.to_string() }),
            };
            self.inbox.push(event, 0);
        }
    }

    fn write(
        &self,
        generation: u64,
        state: ApplierCheckpoint<C>,
    ) -> Result<CheckpointId, CheckpointError> {
        let slot = state.slot();
        let mut writer = self.checkpoints.writer(slot)?;
        let mut to = Interruptible { to: &mut writer, wanted: &self.wanted, generation };
        // What the service panics over here is a copy, which goes; its state is not touched.
        let written = catch_unwind(AssertUnwindSafe(|| state.write(&mut to)))
            .unwrap_or_else(|_| Err(io::Error::other("the service panicked over it")));
        match written {
            Ok(digest) => {
                self.note_decided(generation, slot)?;
                writer.finish(digest)
            }
            Err(error) => Err(error.downcast().unwrap_or_else(|source| CheckpointError::Io {
                file: format!("the checkpoint of slot {slot}"),
                tried: "write",
                source,
            })),
        }
    }

    /// Has the log make durable that `slot` is decided: a checkpoint that is above what the log knows
    /// as decided counts as fetched at the next start, and takes the place of the log before it.
    /// Every record that was issued before the slot was applied is in the queue already.
    fn note_decided(&self, generation: u64, slot: Slot) -> Result<(), CheckpointError> {
        let (done, told) = sync_channel(1);
        self.disk.push(&mut vec![DiskTask::NoteDecided { slot, done }], 0);
        loop {
            match told.recv_timeout(LOOK_INTERVAL) {
                Ok(()) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if self.wanted.wants(generation) => {}
                Err(_) => {
                    return Err(CheckpointError::Io {
                        file: format!("the checkpoint of slot {slot}"),
                        tried: "finish",
                        source: io::Error::other("it is not wanted any more"),
                    });
                }
            }
        }
    }
}
