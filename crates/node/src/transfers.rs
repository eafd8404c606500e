//! The transfer thread: hands out pieces of checkpoints, takes in those that are fetched, makes a state
//! of the whole, and removes what is not wanted any more. None of that delays the log or the protocol.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_model::{CheckpointId, NoPlants, ReplicaId, Slot};
use mainstay_service::{Applier, Service};
use mainstay_storage::{CheckpointError, Checkpoints, Disk, Hold, Incoming};

use crate::checkpointer::Wanted;
use crate::disk::{DiskTask, Event};
use crate::queue::{Inbox, Queue, Taken};

/// How long a checkpoint is kept after a piece of it was last asked for.
const HOLD_TIME: Duration = Duration::from_secs(30);
/// After a failure to store what is fetched, how long until this is told, so that a disk that does not
/// work is not tried without a pause.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// What the transfer thread is asked for.
#[derive(Debug)]
pub(crate) enum TransferTask {
    /// Read a piece for another replica.
    Read { to: ReplicaId, checkpoint: CheckpointId, chunk: u32 },
    /// Keep a piece that was fetched.
    Store { checkpoint: CheckpointId, total: u64, chunk: u32, bytes: Bytes },
    /// All of it is there: restore it, compare it, give it its name.
    Install { checkpoint: CheckpointId },
    /// These hold a state that is not the group's.
    Remove(Vec<CheckpointId>),
    /// Note what is stable; then the log may give these slots up.
    Discard { upto: Slot, wanted_above: Option<Slot>, stable: Option<CheckpointId> },
    /// The log has given these up; the oldest first.
    RemoveFiles(Vec<String>),
}

impl TransferTask {
    /// Bytes that the task holds on to, or that its answer will, if a piece has so many.
    pub(crate) fn bytes(&self, chunk_bytes: u32) -> usize {
        match self {
            Self::Read { .. } => chunk_bytes as usize,
            Self::Store { bytes, .. } => bytes.len(),
            Self::Install { .. } | Self::Discard { .. } => 0,
            Self::Remove(_) | Self::RemoveFiles(_) => 0,
        }
    }
}

/// How a state is made out of the content of a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Restoring {
    pub(crate) cluster_seed: u64,
    pub(crate) wanted: Arc<Wanted>,
}

/// Where a restored state waits for the executor.
pub(crate) type Handover<S> = Arc<Mutex<Option<Applier<S>>>>;

/// Reads as long as that is wanted.
struct Interruptible<'a, R> {
    from: R,
    wanted: &'a Wanted,
}

impl<R: Read> Read for Interruptible<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.wanted.is_ended() {
            return Err(io::Error::other("the node ends"));
        }
        self.from.read(to)
    }
}

impl Restoring {
    /// Restores `checkpoint` and compares slot and digest of what came of it with its name. An error
    /// says in one sentence why that is not the state it should be.
    pub(crate) fn restore<S: Service>(
        &self,
        checkpoint: CheckpointId,
        content: impl Read,
    ) -> Result<Applier<S>, String> {
        let mut from = Interruptible { from: content, wanted: &self.wanted };
        let mut applier = Applier::restore(&mut from, self.cluster_seed, NoPlants)
            .map_err(|error| error.to_string())?;
        let slot = applier.applied_upto();
        if slot != checkpoint.slot {
            return Err(format!("it holds the state of slot {slot}"));
        }
        match applier.digest() {
            Some(digest) if digest == checkpoint.digest => Ok(applier),
            Some(digest) => Err(format!(
                "the digest of what was restored is {digest:016x}, not {:016x}: the checkpoint is \
                 another one, or the service does not restore all of what it wrote",
                checkpoint.digest
            )),
            None => Err("the service panicked over what was restored".to_owned()),
        }
    }
}

/// Owns what is being fetched, until the queue is closed.
pub(crate) struct TransferThread<S: Service, D: Disk> {
    pub(crate) tasks: Arc<Queue<TransferTask>>,
    pub(crate) inbox: Arc<Inbox<Event>>,
    /// To the disk thread.
    pub(crate) log: Arc<Queue<DiskTask>>,
    pub(crate) checkpoints: Checkpoints<D>,
    /// The folder.
    pub(crate) disk: D,
    /// The length of a piece.
    pub(crate) chunk_bytes: u32,
    pub(crate) incoming: Option<Incoming<D>>,
    pub(crate) restoring: Restoring,
    pub(crate) handover: Handover<S>,
    /// What is being given to others, and when it was last asked for.
    pub(crate) holds: BTreeMap<CheckpointId, (Hold<D>, Instant)>,
}

impl<S: Service, D: Disk> TransferThread<S, D> {
    /// The thread's body.
    pub(crate) fn run(mut self) {
        let mut tasks = Vec::new();
        loop {
            let patience = (!self.holds.is_empty()).then_some(HOLD_TIME);
            let taken = self.tasks.take(&mut tasks, patience);
            for task in tasks.drain(..) {
                if !self.restoring.wanted.is_ended() {
                    self.carry_out(task);
                }
            }
            self.let_go();
            if taken == Taken::Closed {
                return;
            }
        }
    }

    fn carry_out(&mut self, task: TransferTask) {
        match task {
            TransferTask::Read { to, checkpoint, chunk } => self.read(to, checkpoint, chunk),
            TransferTask::Store { checkpoint, total, chunk, bytes } => {
                let stored = self.store(checkpoint, total, chunk, &bytes);
                if let Err(error) = &stored {
                    tracing::error!("what is fetched cannot be kept: {error}");
                    self.incoming = None;
                    std::thread::sleep(FAILURE_PAUSE);
                }
                let stored = stored.map_err(|error| error.to_string());
                self.inbox.push(Event::ChunkStored { checkpoint, chunk, stored }, 0);
            }
            TransferTask::Install { checkpoint } => {
                let installed = self.install(checkpoint);
                if let Err(why) = &installed {
                    tracing::error!(
                        "the fetched checkpoint of slot {} is not used, and is fetched anew: {why}",
                        checkpoint.slot
                    );
                    std::thread::sleep(FAILURE_PAUSE);
                }
                let installed = installed.ok();
                self.inbox.push(Event::Fetched { checkpoint, installed }, 0);
            }
            TransferTask::Discard { upto, wanted_above, stable } => {
                match stable.map_or(Ok(()), |stable| self.checkpoints.note_stable(stable)) {
                    Ok(()) => {
                        self.log.push(&mut vec![DiskTask::Discard { upto, wanted_above }], 0);
                    }
                    // Tried again with the next checkpoint; until then the log is longer.
                    Err(error) => tracing::warn!("the log is kept: {error}"),
                }
                self.tidy();
            }
            TransferTask::RemoveFiles(names) => {
                let removed = names.iter().try_for_each(|name| self.disk.remove(name));
                if let Err(error) = removed.and_then(|()| self.disk.sync_folder()) {
                    tracing::warn!(
                        "what the log has given up is still there, and goes at the next start: {error}"
                    );
                }
            }
            TransferTask::Remove(wrong) => {
                for checkpoint in wrong {
                    if let Err(error) = self.checkpoints.remove(checkpoint) {
                        tracing::error!(
                            "the wrong checkpoint of slot {} is still there: {error}",
                            checkpoint.slot
                        );
                    }
                }
            }
        }
    }

    fn read(&mut self, to: ReplicaId, checkpoint: CheckpointId, chunk: u32) {
        let hold = match self.holds.remove(&checkpoint) {
            Some((hold, _)) => Some(hold),
            None => self.checkpoints.hold(checkpoint),
        };
        if let Some(hold) = hold {
            self.holds.insert(checkpoint, (hold, Instant::now()));
        }
        let read = self.checkpoints.read_chunk(checkpoint, chunk.into(), self.chunk_bytes);
        let (total, bytes) = read.unwrap_or_else(|error| {
            match error {
                CheckpointError::Gone(_) | CheckpointError::BadChunk { .. } => {
                    tracing::info!("replica {to} asked for a piece that is not here: {error}");
                }
                error => tracing::error!("a piece cannot be given to replica {to}: {error}"),
            }
            (0, Bytes::new())
        });
        let len = bytes.len();
        self.inbox.push(Event::ChunkRead { to, checkpoint, chunk, total, bytes }, len);
    }

    fn store(
        &mut self,
        checkpoint: CheckpointId,
        total: u64,
        chunk: u32,
        bytes: &[u8],
    ) -> Result<(), CheckpointError> {
        let is_same = |incoming: &mut Incoming<D>| {
            let partial = incoming.partial();
            (partial.id, partial.total) == (checkpoint, total)
        };
        let mut incoming = match self.incoming.take_if(is_same) {
            Some(incoming) => incoming,
            None => {
                if let Some(other) = self.incoming.take() {
                    other.abandon()?;
                }
                self.checkpoints.incoming(checkpoint, total, self.chunk_bytes)?
            }
        };
        incoming.append_chunk(chunk.into(), bytes)?;
        self.incoming = Some(incoming);
        Ok(())
    }

    /// Returns how many bytes the checkpoint has.
    fn install(&mut self, checkpoint: CheckpointId) -> Result<u64, String> {
        let incoming = self.incoming.take().filter(|incoming| incoming.partial().id == checkpoint);
        let Some(incoming) = incoming else {
            return Err("its pieces are not here".to_owned());
        };
        let content = incoming.open_content().map_err(|error| error.to_string())?;
        match self.restoring.restore(checkpoint, content) {
            Ok(applier) => {
                let bytes = incoming.partial().total;
                incoming.install().map_err(|error| error.to_string())?;
                *self.handover.lock().unwrap_or_else(PoisonError::into_inner) = Some(applier);
                Ok(bytes)
            }
            Err(why) if self.restoring.wanted.is_ended() => Err(why),
            Err(why) => {
                if let Err(error) = incoming.abandon() {
                    tracing::error!("what was fetched is still there: {error}");
                }
                Err(why)
            }
        }
    }

    /// Lets go of what nobody has asked for lately.
    fn let_go(&mut self) {
        let before = self.holds.len();
        self.holds.retain(|_, (_, asked)| asked.elapsed() < HOLD_TIME);
        if self.holds.len() < before {
            self.tidy();
        }
    }

    fn tidy(&self) {
        if let Err(error) = self.checkpoints.tidy() {
            tracing::warn!("an older checkpoint is still there: {error}");
        }
    }
}
