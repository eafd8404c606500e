//! The transfer thread: hands out pieces of checkpoints, takes in those that are fetched, makes a state
//! of the whole, and removes what is not wanted any more. None of that delays the log or the protocol.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_consensus::Discard;
use mainstay_model::{CheckpointId, ReplicaId};
use mainstay_service::{Applier, Service};
use mainstay_storage::{CheckpointError, Checkpoints, Disk, Hold, Incoming, Life};

use crate::checkpointer::{folder_failure, tell_gone};
use crate::disk::{DiskTask, Event};
use crate::overdue::{OVERDUE_PAUSE, Overdue};
use crate::queue::{Inbox, Queue, Taken};
use crate::restoring::{Restoring, Unfit};

/// How long a checkpoint is kept after a piece of it was last asked for.
const HOLD_TIME: Duration = Duration::from_secs(30);
/// After a failure to store what is fetched, how long until this is told and anything else is stored, so
/// that a disk that does not work is not tried without a pause.
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
    /// The state of this replica is not the group's: of its checkpoints only those up to `right` are.
    Distrust { right: Option<CheckpointId> },
    /// Note what is stable; then the log may give these slots up.
    Discard(Discard),
    /// The log has given these up; the oldest first.
    RemoveFiles(Vec<String>),
}

/// What is told of a failure once the pause is over.
pub(crate) struct Pausing {
    until: Instant,
    why: String,
    events: Vec<Event>,
}

/// Where a restored state waits for the executor, with its life in the folder.
pub(crate) type Handover<S> = Arc<Mutex<Option<(Applier<S>, Life)>>>;

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
    pub(crate) overdue: Overdue,
    /// Nothing is stored at present; all else goes on.
    pub(crate) pausing: Option<Pausing>,
}

impl<S: Service, D: Disk> TransferThread<S, D> {
    /// The thread's body.
    pub(crate) fn run(mut self) {
        let mut tasks = Vec::new();
        loop {
            let hold = (!self.holds.is_empty()).then_some(HOLD_TIME);
            let pausing = self.pausing.as_ref();
            let pause = pausing.map(|p| p.until.saturating_duration_since(Instant::now()));
            let overdue = self.overdue.is_some().then_some(OVERDUE_PAUSE);
            let wake = hold.into_iter().chain(pause).chain(overdue).min();
            let taken = self.tasks.take(&mut tasks, wake);
            for task in tasks.drain(..) {
                if !self.restoring.wanted.is_ended() {
                    self.carry_out(task);
                }
            }
            self.let_go();
            self.catch_up();
            tell_gone(&self.checkpoints, &self.inbox);
            self.tell_after_pause();
            if taken == Taken::Closed {
                return;
            }
        }
    }

    fn carry_out(&mut self, task: TransferTask) {
        match task {
            TransferTask::Read { to, checkpoint, chunk } => self.read(to, checkpoint, chunk),
            TransferTask::Store { checkpoint, total, chunk, bytes } => {
                if let Some(pausing) = &mut self.pausing {
                    let stored = Err(pausing.why.clone());
                    pausing.events.push(Event::ChunkStored { checkpoint, chunk, stored });
                    return;
                }
                let stored = self.store(checkpoint, total, chunk, &bytes).map_err(|error| {
                    tracing::error!("what is fetched cannot be kept: {error}");
                    self.incoming = None;
                    self.look_at(&error);
                    error.to_string()
                });
                let why = stored.clone().err();
                self.tell_fetched(Event::ChunkStored { checkpoint, chunk, stored }, why);
            }
            TransferTask::Install { checkpoint } => {
                let installed = self.install(checkpoint);
                let why = match &installed {
                    Ok(_) | Err(Unfit::Unwanted) => None,
                    Err(Unfit::Damaged(why)) => {
                        tracing::error!(
                            "the fetched checkpoint of slot {} is not used, and is fetched anew: {why}",
                            checkpoint.slot
                        );
                        Some(why.clone())
                    }
                    Err(Unfit::Refused(why)) => {
                        tracing::error!(
                            "the fetched checkpoint of slot {} is whole, and not used yet: {why}",
                            checkpoint.slot
                        );
                        Some(why.clone())
                    }
                };
                self.tell_fetched(Event::Fetched { checkpoint, installed }, why);
            }
            TransferTask::Distrust { right } => {
                self.overdue.distrust = Some(right);
                self.catch_up();
            }
            TransferTask::Discard(discard) => {
                self.overdue.discard = Some(discard);
                self.catch_up();
            }
            TransferTask::RemoveFiles(mut names) => {
                self.overdue.files.append(&mut names);
                self.catch_up();
            }
        }
    }

    /// Tells what came of something fetched; of a failure only after a pause.
    fn tell_fetched(&mut self, event: Event, why: Option<String>) {
        match (&mut self.pausing, why) {
            (Some(pausing), _) => pausing.events.push(event),
            (None, None) => self.inbox.push(event, 0),
            (None, Some(why)) => {
                let until = Instant::now() + FAILURE_PAUSE;
                self.pausing = Some(Pausing { until, why, events: vec![event] });
            }
        }
    }

    fn tell_after_pause(&mut self) {
        let over = |pausing: &mut Pausing| pausing.until <= Instant::now();
        for event in self.pausing.take_if(over).into_iter().flat_map(|pausing| pausing.events) {
            self.inbox.push(event, 0);
        }
    }

    /// Ends the node where the log cannot trust its folder any more.
    pub(crate) fn look_at(&self, error: &CheckpointError) {
        if let Some(failure) = folder_failure(error) {
            self.inbox.push(failure, 0);
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
                error => {
                    tracing::error!("a piece cannot be given to replica {to}: {error}");
                    if matches!(error, CheckpointError::Damaged { .. }) {
                        // Others are told of it no more.
                        self.checkpoints.note_damaged(checkpoint);
                    }
                }
            }
            (self.checkpoints.content_len(checkpoint).unwrap_or(0), Bytes::new())
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
    fn install(&mut self, checkpoint: CheckpointId) -> Result<u64, Unfit> {
        // Else, after a crash, what is wrong here could be taken for right.
        self.distrust().map_err(|error| Unfit::Refused(error.to_string()))?;
        let incoming = self.incoming.take().filter(|incoming| incoming.partial().id == checkpoint);
        let Some(mut incoming) = incoming else {
            return Err(Unfit::Damaged("its pieces are not here".to_owned()));
        };
        let unfit = match self.restoring.restore(checkpoint, || incoming.open_content()) {
            Ok(applier) => match incoming.install() {
                Ok(life) => {
                    let bytes = incoming.partial().total;
                    let handover =
                        &mut *self.handover.lock().unwrap_or_else(PoisonError::into_inner);
                    *handover = Some((applier, life));
                    return Ok(bytes);
                }
                Err(error) => {
                    self.look_at(&error);
                    match incoming.is_kept() {
                        true => Unfit::Refused(error.to_string()),
                        false => Unfit::Damaged(error.to_string()),
                    }
                }
            },
            Err(unfit) => unfit,
        };
        match unfit {
            Unfit::Refused(_) => self.incoming = Some(incoming),
            Unfit::Damaged(_) => {
                if let Err(error) = incoming.abandon() {
                    tracing::error!("what was fetched is still there: {error}");
                    self.look_at(&error);
                }
            }
            Unfit::Unwanted => {}
        }
        Err(unfit)
    }

    /// Lets go of what nobody has asked for lately.
    fn let_go(&mut self) {
        let before = self.holds.len();
        self.holds.retain(|_, (_, asked)| asked.elapsed() < HOLD_TIME);
        if self.holds.len() < before {
            self.tidy();
        }
    }

    pub(crate) fn tidy(&self) {
        if let Err(error) = self.checkpoints.tidy() {
            tracing::warn!("an older checkpoint is still there: {error}");
            self.look_at(&error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};

    use super::*;
    use crate::checkpointer::Wanted;

    use mainstay_model::{ClusterId, GroupId, NoPlants, Slot};
    use mainstay_service::{Checkpoint, Context, QueryContext, RestoreError};
    use mainstay_storage::{CheckpointOptions, DiskFile, MemoryDisk};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Of 16 MiB; the node ends once a part of it was written, if told so.
    struct Large;

    /// What ends then, and how much of it was written since.
    static WRITTEN: Mutex<(Option<Arc<Wanted>>, u64)> = Mutex::new((None, 0));

    impl Service for Large {
        type Checkpoint = Self;

        fn apply(&mut self, _: &Context, _: &[u8], _: &mut Vec<u8>) {}

        fn query(&self, _: &QueryContext, _: &[u8], _: &mut Vec<u8>) {}

        fn checkpoint(&mut self) -> Self {
            Self
        }

        fn restore(source: &mut dyn Read) -> Result<Self, RestoreError> {
            io::copy(source, &mut io::sink())?;
            Ok(Self)
        }

        fn version() -> u32 {
            1
        }
    }

    impl Checkpoint for Large {
        fn write(&self, to: &mut dyn Write) -> io::Result<()> {
            let mut written = WRITTEN.lock().unwrap();
            let piece = vec![7; 1 << 20];
            for _ in 0..16 {
                to.write_all(&piece)?;
                if let (Some(wanted), count) = &mut *written {
                    *count += 1;
                    wanted.end();
                }
            }
            Ok(())
        }
    }

    type Thread = TransferThread<Large, MemoryDisk>;

    fn thread(disk: &MemoryDisk) -> Thread {
        let poll = mio::Poll::new().expect("a poll");
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).expect("a waker");
        let options = CheckpointOptions::new(ClusterId(1), GroupId::FIRST, 1);
        TransferThread {
            tasks: Queue::new(),
            inbox: Inbox::new(Arc::new(waker), 1 << 20),
            log: Queue::new(),
            checkpoints: Checkpoints::open(disk.clone(), options).expect("a folder").0,
            disk: disk.clone(),
            chunk_bytes: 512,
            incoming: None,
            restoring: Restoring { wanted: Arc::default() },
            handover: Arc::default(),
            holds: BTreeMap::new(),
            overdue: Overdue::default(),
            pausing: None,
        }
    }

    fn told(inbox: &Inbox<Event>) -> Vec<Event> {
        let mut events = Vec::new();
        inbox.take(&mut events);
        events
    }

    const fn id(slot: u64) -> CheckpointId {
        CheckpointId { slot: Slot(slot), digest: 1 }
    }

    fn store(chunk: u32) -> TransferTask {
        let bytes = Bytes::from_static(&[1; 512]);
        TransferTask::Store { checkpoint: id(9), total: 1024, chunk, bytes }
    }

    const fn discard(slot: u64) -> TransferTask {
        let (upto, stable) = (Slot(slot), Some(id(slot)));
        TransferTask::Discard(Discard { upto, wanted_above: None, stable })
    }

    fn write(thread: &Thread, slot: u64) {
        let writer =
            thread.checkpoints.writer(Slot(slot), thread.checkpoints.life()).expect("a writer");
        writer.finish(1).expect("it is written");
    }

    /// A full disk refuses what is fetched; what would make room for it must not wait for that.
    #[test]
    fn a_failure_to_store_delays_nothing_but_what_is_stored_next() {
        let disk = MemoryDisk::default();
        let mut thread = thread(&disk);
        write(&thread, 5);
        disk.fail_writes(1);
        for task in [store(0), store(1), discard(5)] {
            thread.carry_out(task);
        }
        assert_eq!(thread.log.len(), 1, "the log may be given up");
        assert_eq!(told(&thread.inbox).len(), 0, "the failure is told later");
        let (inbox, tasks, began) =
            (Arc::clone(&thread.inbox), Arc::clone(&thread.tasks), Instant::now());
        let running = std::thread::spawn(move || thread.run());
        let mut events = Vec::new();
        while events.len() < 2 {
            assert!(began.elapsed() < PATIENCE, "it is never told");
            events.append(&mut told(&inbox));
            std::thread::yield_now();
        }
        for (event, expected) in events.iter().zip(0..) {
            let Event::ChunkStored { chunk, stored: Err(_), .. } = event else {
                panic!("{event:?}");
            };
            assert_eq!(*chunk, expected);
        }
        tasks.close();
        running.join().expect("no panic");
    }

    /// After a crash nothing else would tell that they are wrong.
    #[test]
    fn nothing_is_installed_before_what_is_wrong_is_put_aside() {
        let disk = MemoryDisk::default();
        let mut thread = thread(&disk);
        write(&thread, 5);
        write(&thread, 8);
        disk.fail_after(Some(0));
        thread.carry_out(TransferTask::Distrust { right: Some(id(5)) });
        thread.carry_out(TransferTask::Install { checkpoint: id(9) });
        let told = thread.pausing.as_ref().map(|pausing| &pausing.events[..]);
        let Some([Event::Fetched { installed: Err(Unfit::Refused(_)), .. }]) = told else {
            panic!("{told:?}");
        };
        assert_eq!(thread.checkpoints.held(), [id(5), id(8)], "the disk refuses");
        disk.fail_after(None);
        thread.catch_up();
        assert_eq!(thread.checkpoints.held(), [id(5)]);
        assert!(!thread.overdue.is_some());
    }

    /// Nothing else would ever ask for it: a full log accepts nothing that makes another checkpoint due.
    #[test]
    fn what_the_disk_refused_is_done_later() {
        let disk = MemoryDisk::with_files([("log-0000000001", Vec::new())]);
        let mut thread = thread(&disk);
        write(&thread, 5);
        disk.fail_after(Some(0));
        thread.carry_out(discard(5));
        thread.carry_out(TransferTask::RemoveFiles(vec!["log-0000000001".to_owned()]));
        assert_eq!((thread.log.len(), thread.checkpoints.stable()), (0, None));
        disk.fail_after(None);
        thread.catch_up();
        assert_eq!((thread.log.len(), thread.checkpoints.stable()), (1, Some(id(5))));
        assert!(!disk.list().unwrap().contains(&"log-0000000001".to_owned()));
        assert!(!thread.overdue.is_some());
    }

    #[test]
    fn a_node_ends_although_it_pauses_after_a_failure() {
        let disk = MemoryDisk::default();
        let mut thread = thread(&disk);
        disk.fail_writes(1);
        thread.carry_out(store(0));
        let pausing = thread.pausing.as_mut().expect("a pause");
        // Longer than any machine may take over the rest.
        pausing.until += Duration::from_secs(3600);
        let until = pausing.until;
        thread.tasks.close();
        thread.run();
        assert!(Instant::now() < until, "it waited");
    }

    /// The machine counts what it asked to be read until it is told: what is not there is told, too.
    #[test]
    fn every_piece_that_is_asked_for_is_answered() {
        let mut thread = thread(&MemoryDisk::default());
        let mut writer =
            thread.checkpoints.writer(Slot(5), thread.checkpoints.life()).expect("a writer");
        writer.write_all(&[3; 600]).expect("written");
        writer.finish(1).expect("it is written");
        let to = ReplicaId::default();
        let asked = (0..50).map(|chunk| (id(5), chunk)).chain([(id(6), 0)]);
        for (checkpoint, chunk) in asked.clone() {
            thread.carry_out(TransferTask::Read { to, checkpoint, chunk });
        }
        let told = told(&thread.inbox);
        assert_eq!(told.len(), asked.clone().count());
        for (event, asked) in told.iter().zip(asked) {
            let Event::ChunkRead { checkpoint, chunk, total, bytes, .. } = event else {
                panic!("{event:?}");
            };
            assert_eq!((*checkpoint, *chunk), asked);
            let there = asked.0 == id(5) && asked.1 < 2;
            assert_eq!((*total > 0, !bytes.is_empty()), (asked.0 == id(5), there));
        }
    }

    /// A replica that went on telling of it would be asked for it without end.
    #[test]
    fn a_checkpoint_with_a_rotten_piece_is_held_no_longer() {
        let disk = MemoryDisk::default();
        let before = thread(&disk);
        write(&before, 5);
        let mut writer =
            before.checkpoints.writer(Slot(8), before.checkpoints.life()).expect("a writer");
        writer.write_all(&[3; 600]).expect("written");
        writer.finish(1).expect("it is written");
        let files = disk.list().unwrap().into_iter().map(|name| {
            let file = disk.open(&name).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
            if let Some(at) = bytes.windows(64).position(|window| window == [3; 64]) {
                bytes[at] ^= 1;
            }
            (name, bytes)
        });
        let mut thread = thread(&MemoryDisk::with_files(files));
        assert_eq!(thread.checkpoints.held(), [id(5), id(8)]);
        thread.carry_out(TransferTask::Read {
            to: ReplicaId::default(),
            checkpoint: id(8),
            chunk: 0,
        });
        let told = told(&thread.inbox);
        assert!(matches!(&told[..], [Event::ChunkRead { total: 0, .. }]), "{told:?}");
        assert_eq!(thread.checkpoints.held(), [id(5)]);
    }

    #[test]
    fn what_was_fetched_goes_once_the_own_state_is_further() {
        let disk = MemoryDisk::default();
        let mut thread = thread(&disk);
        thread.carry_out(store(0));
        let is_there = || disk.list().unwrap().iter().any(|name| name.starts_with("incoming-"));
        for slot in [5, 9] {
            assert!(is_there());
            write(&thread, slot);
            thread.carry_out(discard(slot));
        }
        assert!(thread.incoming.is_none() && !is_there());
    }

    /// See `what_made_way_is_not_noted_as_stable` in the tests of checkpoints.
    #[test]
    fn the_log_is_kept_where_its_checkpoint_made_way() {
        let disk = MemoryDisk::default();
        let mut thread = thread(&disk);
        write(&thread, 5);
        write(&thread, 8);
        thread.checkpoints.note_damaged(id(8));
        thread.carry_out(discard(8));
        assert_eq!(thread.log.len(), 0);
        thread.carry_out(discard(5));
        assert_eq!(thread.log.len(), 1);
    }

    /// The system tells of a failed sync once: if nobody told the log, its names might not last.
    #[test]
    fn a_folder_that_cannot_be_synced_ends_the_node_whoever_notices() {
        let tasks = [
            TransferTask::RemoveFiles(vec!["log-0000000001".to_owned()]),
            TransferTask::Distrust { right: Some(id(5)) },
        ];
        for task in tasks.into_iter().chain([discard(8)]) {
            let disk = MemoryDisk::default();
            let mut thread = thread(&disk);
            write(&thread, 5);
            write(&thread, 8);
            // Removing a file, or making one, comes first.
            disk.fail_after(Some(1));
            thread.carry_out(task);
            disk.fail_after(None);
            let told = told(&thread.inbox);
            assert!(matches!(told[..], [Event::DiskFailed(_)]), "{told:?}");
        }
    }

    #[test]
    fn a_node_ends_while_the_digest_of_a_large_state_is_worked_out() {
        let disk = MemoryDisk::default();
        let thread = thread(&disk);
        let mut applier = Applier::new(Large, Default::default(), NoPlants);
        let mut writer =
            thread.checkpoints.writer(Slot::NONE, thread.checkpoints.life()).expect("a writer");
        let digest = applier.checkpoint().expect("a state").write(&mut writer).expect("written");
        let checkpoint = writer.finish(digest).expect("it is written");
        *WRITTEN.lock().unwrap() = (Some(Arc::clone(&thread.restoring.wanted)), 0);
        let open = || thread.checkpoints.open_content(checkpoint);
        let restored = thread.restoring.restore::<Large, _>(checkpoint, open);
        assert_eq!(restored.err(), Some(Unfit::Unwanted));
        let written = WRITTEN.lock().unwrap().1;
        assert!((1..16).contains(&written), "{written}");
    }
}
