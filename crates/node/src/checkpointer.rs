//! The checkpoint thread: writes what the executor hands out, while that goes on executing.
//!
//! Two states at most are out of the executor's hands: one being written, one waiting. A third has to
//! wait until the first is done, and so has execution; ordering and voting go on. One that cannot be
//! written is tried again, and nothing waits for it ([`Unwritten`]).

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mainstay_model::{CheckpointId, NoPlants, Slot};
use mainstay_service::{ApplierCheckpoint, Checkpoint, Unwritten};
use mainstay_storage::{CheckpointError, Checkpoints, Disk, Life};

use crate::disk::{Event, Note, Noted};
use crate::queue::Inbox;

/// How often it is looked whether what waits is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long until one is tried again that found no room.
const ROOM_PAUSE: Duration = Duration::from_millis(200);
/// How long, at first and at most, until one is tried again that failed otherwise.
const FAILURE_PAUSE_MIN: Duration = Duration::from_secs(1);
const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(60);

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
    /// Which life of the executor's state it comes from, for the protocol thread,
    pub(crate) generation: u64,
    /// and for the folder.
    pub(crate) life: Life,
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

/// Tells which checkpoints are not held any more; to be called after whatever may have removed one.
pub(crate) fn tell_gone<D: Disk>(checkpoints: &Checkpoints<D>, inbox: &Inbox<Event>) {
    for checkpoint in checkpoints.take_gone() {
        inbox.push(Event::CheckpointGone(checkpoint), 0);
    }
}

/// The states between the executor and the checkpoint thread.
struct Between<C> {
    unwritten: Unwritten<ToWrite<C>>,
    /// Nobody can hand out anything more.
    is_closed: bool,
}

struct Shared<C> {
    between: Mutex<Between<C>>,
    changed: Condvar,
}

impl<C> Shared<C> {
    fn lock(&self) -> MutexGuard<'_, Between<C>> {
        self.between.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        between: MutexGuard<'a, Between<C>>,
        longest: Duration,
    ) -> MutexGuard<'a, Between<C>> {
        let waited = self.changed.wait_timeout(between, longest);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// The executor's end: hands states out. Dropped, it ends the checkpoint thread.
pub(crate) struct HandOut<C>(Arc<Shared<C>>);

/// The checkpoint thread's end.
pub(crate) struct States<C>(Arc<Shared<C>>);

/// The way to the checkpoint thread.
pub(crate) fn channel<C>() -> (HandOut<C>, States<C>) {
    let between = Between { unwritten: Unwritten::new(NoPlants), is_closed: false };
    let shared = Arc::new(Shared { between: Mutex::new(between), changed: Condvar::new() });
    (HandOut(Arc::clone(&shared)), States(shared))
}

impl<C> HandOut<C> {
    /// Hands a state out; gives it back if it has to wait.
    pub(crate) fn offer(&self, state: ToWrite<C>) -> Option<ToWrite<C>> {
        let offered = self.0.lock().unwritten.offer(state);
        self.0.changed.notify_all();
        offered.err()
    }

    /// Waits until a state can be handed out, as long as anything is wanted.
    pub(crate) fn wait_to_offer(&self, mut state: ToWrite<C>, wanted: &Wanted) {
        let mut between = self.0.lock();
        while !wanted.is_ended() {
            match between.unwritten.offer(state) {
                Ok(()) => break,
                Err(back) => state = back,
            }
            between = self.0.wait(between, LOOK_INTERVAL);
        }
        self.0.changed.notify_all();
    }
}

impl<C> Drop for HandOut<C> {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl<C> States<C> {
    /// The state to write next, once there is one; `None` once there will be none.
    pub(crate) fn next(&self) -> Option<ToWrite<C>> {
        let mut between = self.0.lock();
        loop {
            if let Some(state) = between.unwritten.take() {
                self.0.changed.notify_all();
                return Some(state);
            }
            if between.is_closed {
                return None;
            }
            between = self.0.wait(between, LOOK_INTERVAL);
        }
    }

    /// The same, without waiting; the one before is done.
    #[cfg(test)]
    pub(crate) fn try_next(&self) -> Option<ToWrite<C>> {
        let mut between = self.0.lock();
        between.unwritten.end();
        between.unwritten.take()
    }

    /// Waits for the time of a pause. Whether the one at work, which failed, is wanted after it.
    fn pause(&self, pause: Duration, wanted: impl Fn() -> bool) -> bool {
        let until = Instant::now() + pause;
        let mut between = self.0.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if between.unwritten.is_given_up() || between.is_closed || !wanted() {
                return false;
            }
            if left.is_zero() {
                return true;
            }
            between = self.0.wait(between, left.min(LOOK_INTERVAL));
        }
    }

    /// The one at work is not done for now, and execution does not wait for it. Whether it is tried
    /// again after a pause.
    fn failed(&self, pause: Duration, wanted: impl Fn() -> bool) -> bool {
        let tried_again = self.0.lock().unwritten.failed();
        self.0.changed.notify_all();
        tried_again && self.pause(pause, wanted)
    }

    /// The one at work, which failed, is tried again; false if it has been given up meanwhile.
    fn try_again(&self) -> bool {
        self.0.lock().unwritten.try_again()
    }

    fn is_given_up(&self) -> bool {
        self.0.lock().unwritten.is_given_up()
    }

    fn end(&self) {
        self.0.lock().unwritten.end();
        self.0.changed.notify_all();
    }
}

/// Writes until nobody can hand out anything more.
pub(crate) struct CheckpointThread<C, D: Disk> {
    pub(crate) states: States<C>,
    pub(crate) checkpoints: Checkpoints<D>,
    pub(crate) inbox: Arc<Inbox<Event>>,
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
        while let Some(state) = self.states.next() {
            self.keep_trying(&state);
            self.states.end();
        }
    }

    /// Writes a state until it is durable, not wanted any more, or has to make way for later ones.
    fn keep_trying(&self, to_write: &ToWrite<C>) {
        let ToWrite { generation, state, .. } = to_write;
        let (generation, slot) = (*generation, state.slot());
        let wanted = || self.wanted.wants(generation);
        let (mut bytes, mut told, mut pause_next) = (0, String::new(), FAILURE_PAUSE_MIN);
        while wanted() {
            let written = self.write(to_write, &mut bytes);
            if let Ok(checkpoint) = written {
                let bytes = self.checkpoints.content_len(checkpoint).unwrap_or(0);
                self.inbox.push(Event::Checkpointed { generation, checkpoint, bytes }, 0);
            }
            tell_gone(&self.checkpoints, &self.inbox);
            let error = match written {
                Ok(_) => return,
                Err(CheckpointError::Overtaken(_)) => return,
                Err(_) if !wanted() || self.states.is_given_up() => return,
                Err(error) => error,
            };
            if let Some(failure) = folder_failure(&error) {
                return self.inbox.push(failure, 0);
            }
            let why = error.to_string();
            if why != told {
                told.clone_from(&why);
                self.inbox.push(Event::CheckpointFailed { slot, why }, 0);
            }
            let pause = match error {
                CheckpointError::NoRoom { .. } => ROOM_PAUSE,
                _ => pause_next,
            };
            pause_next = FAILURE_PAUSE_MAX.min(pause_next * 2);
            if !self.states.failed(pause, wanted) || !self.states.try_again() {
                return;
            }
        }
    }

    /// Writes a state once. `bytes` is how many it needs at least, as far as that is known from before.
    fn write(
        &self,
        to_write: &ToWrite<C>,
        bytes: &mut u64,
    ) -> Result<CheckpointId, CheckpointError> {
        let ToWrite { generation, life, state } = to_write;
        let (generation, slot) = (*generation, state.slot());
        let mut writer = self.checkpoints.writer(slot, *life)?;
        // What found no room before is not written all over again to find that out.
        writer.reserve(*bytes)?;
        let mut to = Interruptible { to: &mut writer, wanted: &self.wanted, generation };
        // What the service panics over here is a copy; its state is not touched.
        let written = catch_unwind(AssertUnwindSafe(|| state.write(&mut to)))
            .unwrap_or_else(|_| Err(io::Error::other("the service panicked over it")));
        *bytes = writer.bytes().max(*bytes);
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
    /// as decided counts as fetched at the next start, and takes the place of the log before it. Asked of
    /// the protocol thread, which knows whether the log was given everything up to the slot: where the
    /// disk has no room, what is executed may not stand there yet. Execution does not wait for that.
    fn note_decided(&self, generation: u64, slot: Slot) -> Result<(), CheckpointError> {
        let wanted = || self.wanted.wants(generation);
        let mut waited = false;
        loop {
            match self.ask_to_note(generation, slot) {
                Some(Noted::Durable) if !waited || self.states.try_again() => return Ok(()),
                Some(Noted::NoRoom) => {
                    if !std::mem::replace(&mut waited, true) {
                        let why = "the log has no room for what it covers".to_owned();
                        self.inbox.push(Event::CheckpointFailed { slot, why }, 0);
                    }
                    if self.states.failed(ROOM_PAUSE, wanted) {
                        continue;
                    }
                }
                _ => {}
            }
            return Err(CheckpointError::Io {
                file: format!("the checkpoint of slot {slot}"),
                tried: "finish",
                source: io::Error::other("it is not wanted any more"),
            });
        }
    }

    /// What came of a note; `None` if the checkpoint is not wanted any more.
    fn ask_to_note(&self, generation: u64, slot: Slot) -> Option<Noted> {
        let (done, told) = sync_channel(1);
        self.inbox.push(Event::Note(Note::new(slot, done)), 0);
        loop {
            match told.recv_timeout(LOOK_INTERVAL) {
                Ok(noted) => return Some(noted),
                Err(RecvTimeoutError::Timeout) if self.wanted.wants(generation) => {}
                Err(_) => return None,
            }
        }
    }
}
