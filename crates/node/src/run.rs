//! Starting the threads of a node, and seeing them end.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use mainstay_consensus::{Replica, Start};
use mainstay_detect::Detector;
use mainstay_model::{NoPlants, Nonce, Prng, Recovered};
use mainstay_service::{Applier, Service};
use mainstay_storage::{Disk, Log};
use mio::net::TcpListener;
use mio::{Interest, Poll, Waker};

use crate::config::NodeConfig;
use crate::disk::{DiskTask, DiskThread, Event, LogState};
use crate::executor::{ExecutorTask, ExecutorThread};
use crate::front::Front;
use crate::greet::Greeter;
use crate::machines::Machines;
use crate::node::{CLIENT_PORT, Node, PEER_PORT, Parts, WAKER};
use crate::queue::{Inbox, Queue};
use crate::sockets::Sockets;
use crate::stop::StopHandle;
use crate::wire::FRAME_SLACK;
use crate::{ExitReport, NodeError, clock, system};

/// Files that a node opens besides its clients' connections.
const FILES_BESIDES: usize = 512;

/// Runs one replica until it is stopped or cannot go on, on the calling thread and two more. `log`
/// and `recovered` come from [`Log::open`]; `service` is the state of an empty log.
///
/// # Errors
/// [`NodeError`]; its `exit_code` is what the process should end with.
///
/// # Panics
/// If the ordering machine finds one of its invariants broken: then nothing it would say could be
/// trusted.
pub fn run<S: Service, F: Front, D: Disk>(
    config: &NodeConfig,
    sockets: Sockets,
    log: Log<D>,
    recovered: Recovered,
    service: S,
    front: F,
    stop: &StopHandle,
) -> Result<ExitReport, NodeError> {
    let mut config = config.clone();
    if let Some(fault) = config.fault() {
        return Err(NodeError::Config(fault));
    }
    system::survive_file_size_limit().map_err(failed("handling the file-size signal"))?;
    fit_clients(&mut config);

    let mut poll = Poll::new().map_err(failed("waiting for events"))?;
    let waker = Waker::new(poll.registry(), WAKER).map_err(failed("making a waker"))?;
    let waker = Arc::new(waker);
    stop.attach(Arc::clone(&waker));
    let mut signals = match config.stop_on_signals {
        true => Some(system::stop_signals(poll.registry()).map_err(failed("handling signals"))?),
        false => None,
    };
    let port = sockets.client_address().port();
    let (peer_port, client_port) = listen(&poll, sockets)?;
    let (nonce, mut prng) = random()?;

    let log_state = DiskThread::state_of(&log);
    let machines = machines(&config, recovered, prng.split());
    let mut threads = Threads::new(Inbox::new(waker, config.limits.backlog_bytes_max));
    threads.start_disk(log, log_state)?;
    threads.start_executor(service, &config)?;
    let parts = Parts {
        front,
        registry: poll.registry().try_clone().map_err(failed("waiting for events"))?,
        peer_port,
        client_port,
        machines,
        greeter: greeter::<S>(&config),
        nonce,
        prng,
        disk: Arc::clone(&threads.disk_queue),
        executor: Arc::clone(&threads.executor_queue),
        inbox: Arc::clone(&threads.inbox),
        log: log_state,
        port,
    };
    let mut node = Node::new(config, parts);
    let result = node.run(&mut poll, stop, &mut signals);
    // Sockets close before the log is done with: nobody is told anything after this.
    drop(node);
    let ended = threads.end();
    match (result, ended) {
        (Ok(report), Ok(())) => Ok(report),
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
    }
}

const fn failed(what: &'static str) -> impl Fn(io::Error) -> NodeError {
    move |error| NodeError::System { what, error }
}

fn listen(poll: &Poll, sockets: Sockets) -> Result<(TcpListener, TcpListener), NodeError> {
    let mut peer = TcpListener::from_std(sockets.peer);
    let mut client = TcpListener::from_std(sockets.client);
    for (listener, token) in [(&mut peer, PEER_PORT), (&mut client, CLIENT_PORT)] {
        let registered = poll.registry().register(listener, token, Interest::READABLE);
        registered.map_err(failed("listening"))?;
    }
    Ok((peer, client))
}

/// The nonce of the front's first session, and a generator that differs with every start.
fn random() -> Result<(Nonce, Prng), NodeError> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|error| NodeError::System {
        what: "drawing random numbers",
        error: io::Error::other(error.to_string()),
    })?;
    let (nonce, seed) = bytes.split_at(16);
    let nonce = Nonce(nonce.iter().fold(0, |n, &byte| n << 8 | u128::from(byte)));
    Ok((nonce, Prng::new(seed.iter().fold(0, |n, &byte| n << 8 | u64::from(byte)))))
}

fn greeter<S: Service>(config: &NodeConfig) -> Greeter {
    Greeter {
        cluster: config.cluster,
        me: config.me,
        configuration: config.configuration.clone(),
        service_version: S::version(),
        body_len_max: u32::try_from(config.limits.request_bytes_max + FRAME_SLACK)
            .unwrap_or(u32::MAX),
    }
}

/// Sees to it that the limit on clients is one that the system lets this process keep.
fn fit_clients(config: &mut NodeConfig) {
    let files = system::raise_file_limit();
    let fitting = files.saturating_sub(FILES_BESIDES).max(1);
    if fitting < config.limits.clients_max {
        tracing::info!(
            "the system lets this process open {files} files, so {fitting} clients are served at \
             most instead of {}: raise the limit (ulimit -n) for more",
            config.limits.clients_max
        );
        config.limits.clients_max = fitting;
    }
}

fn machines(config: &NodeConfig, recovered: Recovered, prng: Prng) -> Machines {
    let now = clock::now();
    let start = Start {
        me: config.me,
        configuration: config.configuration.clone(),
        votes: config.votes,
        recovered,
        checkpoint: None,
        partial: None,
        prng,
    };
    let replica = Replica::new(start, config.ordering, now, NoPlants);
    let peers = config.configuration.replicas.iter().copied().filter(|peer| *peer != config.me);
    let detector = Detector::new(peers, config.detection, now.monotonic);
    Machines::new(replica, detector, now)
}

/// The threads besides the calling one. Dropped early, it ends them.
struct Threads {
    disk: Option<JoinHandle<Option<String>>>,
    executor: Option<JoinHandle<()>>,
    disk_queue: Arc<Queue<DiskTask>>,
    executor_queue: Arc<Queue<ExecutorTask>>,
    inbox: Arc<Inbox<Event>>,
}

impl Threads {
    fn new(inbox: Arc<Inbox<Event>>) -> Self {
        let (disk_queue, executor_queue) = (Queue::new(), Queue::new());
        Self { disk: None, executor: None, disk_queue, executor_queue, inbox }
    }

    fn start_disk<D: Disk>(&mut self, log: Log<D>, state: LogState) -> Result<(), NodeError> {
        let queue = Arc::clone(&self.disk_queue);
        let disk = DiskThread::new(log, queue, Arc::clone(&self.inbox), state);
        self.disk = Some(spawn("disk", &self.inbox, move || disk.run())?);
        Ok(())
    }

    fn start_executor<S: Service>(
        &mut self,
        service: S,
        config: &NodeConfig,
    ) -> Result<(), NodeError> {
        let cluster_seed = (config.cluster.0 as u64) ^ (config.cluster.0 >> 64) as u64;
        let applier = Applier::new(service, config.sessions, cluster_seed, NoPlants);
        let patience = config.limits.outcome_timeout * 2;
        let queue = Arc::clone(&self.executor_queue);
        let executor = ExecutorThread::new(applier, queue, Arc::clone(&self.inbox), patience);
        self.executor = Some(spawn("executor", &self.inbox, move || executor.run())?);
        Ok(())
    }

    /// Lets the threads finish what is queued, and waits for them.
    fn end(&mut self) -> Result<(), NodeError> {
        self.inbox.close();
        self.disk_queue.close();
        self.executor_queue.close();
        let disk = self.disk.take().map(JoinHandle::join);
        let executor = self.executor.take().map(JoinHandle::join);
        match (disk, executor) {
            (Some(Ok(Some(what))), _) => Err(NodeError::Disk { what }),
            (Some(Err(_)), _) => Err(NodeError::Panic("disk")),
            (_, Some(Err(_))) => Err(NodeError::Panic("executor")),
            _ => Ok(()),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // What they failed with was either reported by the protocol thread, or it is panicking.
        let _ = self.end();
    }
}

/// Tells the protocol thread when a thread ends, whyever it does.
struct Farewell(&'static str, Arc<Inbox<Event>>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.1.push(Event::Ended(self.0), 0);
    }
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    inbox: &Arc<Inbox<Event>>,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, NodeError> {
    let farewell = Farewell(name, Arc::clone(inbox));
    let thread = thread::Builder::new().name(name.into());
    let spawned = thread.spawn(move || {
        let farewell = farewell;
        let result = body();
        drop(farewell);
        result
    });
    spawned.map_err(|error| NodeError::System { what: "starting a thread", error })
}
