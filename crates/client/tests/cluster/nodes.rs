//! Three replicas of a counter on the loopback.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mainstay_model::{ClusterId, Configuration, ConfigurationId, Epoch, GroupId, ReplicaId};
use mainstay_node::front::{Front, Outcome, Parsed, View};
use mainstay_node::{
    ExitReport, NodeConfig, NodeError, PeerAddress, Sockets, StopHandle, Store, status,
};
use mainstay_service::contract::Apply;
use mainstay_service::{Context, Plain, QueryContext};
use mainstay_storage::{CheckpointOptions, LogOptions, RealDisk};
use serde::{Deserialize, Serialize};

/// The largest request that these replicas take.
pub(crate) const REQUEST_BYTES_MAX: usize = 1 << 20;

/// Long enough for anything that should happen at all.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Counter {
    count: u64,
    /// What this replica adds to each reply, and no other does.
    #[serde(skip)]
    off_by: u64,
}

impl Apply for Counter {
    fn apply(&mut self, _: &Context, request: &[u8], reply: &mut Vec<u8>) {
        self.count += u64::from(request == b"add");
        reply.extend_from_slice(&(self.count + self.off_by).to_le_bytes());
    }

    fn query(&self, _: &QueryContext, _: &[u8], reply: &mut Vec<u8>) {
        reply.extend_from_slice(&self.count.to_le_bytes());
    }
}

/// No other protocol than the native one.
struct NoFront;

impl Front for NoFront {
    type Connection = ();

    fn connect(&mut self, _: u64, _: SocketAddr) {}

    fn read(
        &mut self,
        (): &mut (),
        _: &View,
        input: &mut BytesMut,
        _: usize,
        parsed: &mut Vec<Parsed>,
    ) {
        input.clear();
        parsed.push(Parsed::Close("what?".into()));
    }

    fn write(&mut self, _: u64, _: Outcome<'_>, _: &mut Vec<u8>) {}
}

struct Running {
    stop: StopHandle,
    thread: JoinHandle<Result<ExitReport, NodeError>>,
}

pub(crate) struct Nodes {
    configs: Vec<NodeConfig>,
    clients: Vec<SocketAddr>,
    sockets: Vec<Option<Sockets>>,
    running: Vec<Option<Running>>,
    off_by: [u64; 3],
    folder: tempfile::TempDir,
}

impl Nodes {
    /// Three replicas, running.
    pub(crate) fn start() -> Self {
        Self::start_off_by([0; 3])
    }

    /// Three replicas, each of which adds so much to its replies.
    pub(crate) fn start_off_by(off_by: [u64; 3]) -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bind = |_| Sockets::bind(any, any).expect("ports are free");
        let sockets: Vec<_> = (0..3).map(bind).collect();
        let peers: Vec<PeerAddress> =
            sockets.iter().map(|sockets| sockets.peer_address().into()).collect();
        let replica = |index| ReplicaId { index, epoch: Epoch { counter: 1, instance: 7 } };
        let replicas: Vec<_> = (0..3).map(replica).collect();
        let configuration =
            Configuration { id: ConfigurationId(1), replicas: replicas.clone(), alpha: 64 };
        let configs = replicas.into_iter().map(|me| {
            let mut config =
                NodeConfig::new(ClusterId(7), me, configuration.clone(), peers.clone());
            config.stop_on_signals = false;
            config.limits.request_bytes_max = REQUEST_BYTES_MAX;
            config
        });
        let mut nodes = Self {
            configs: configs.collect(),
            clients: sockets.iter().map(Sockets::client_address).collect(),
            sockets: sockets.into_iter().map(Some).collect(),
            running: (0..3).map(|_| None).collect(),
            off_by,
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
        };
        (0..3).for_each(|index| nodes.run(index));
        nodes
    }

    /// Where clients connect.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.clients.iter().map(ToString::to_string).collect()
    }

    fn peer_port(&self, index: usize) -> SocketAddr {
        self.configs[index].peers[index].socket().expect("an address")
    }

    /// Starts a replica that does not run.
    pub(crate) fn run(&mut self, index: usize) {
        let config = self.configs[index].clone();
        let (peer, client) = (self.peer_port(index), self.clients[index]);
        let sockets = self.sockets[index]
            .take()
            .unwrap_or_else(|| Sockets::bind(peer, client).expect("the ports of before are free"));
        let stop = StopHandle::new();
        let (handle, folder) = (stop.clone(), self.folder.path().join(index.to_string()));
        let counter = Counter { count: 0, off_by: self.off_by[index] };
        let thread = thread::spawn(move || serve(&config, sockets, folder, counter, &handle));
        self.running[index] = Some(Running { stop, thread });
    }

    /// Stops a replica and waits for its end.
    pub(crate) fn stop(&mut self, index: usize) {
        let running = self.running[index].take().expect("it runs");
        running.stop.stop();
        running.thread.join().expect("no panic").expect("a clean end");
    }

    /// Who leads; waits until somebody does.
    pub(crate) fn leader(&self) -> usize {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let leader = status::ask(self.peer_port(0), PATIENCE).map(|status| status.leader);
            if let Ok(Some(leader)) = leader {
                return usize::from(leader);
            }
            thread::yield_now();
        }
        panic!("nobody leads");
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for running in self.running.iter_mut().filter_map(Option::take) {
            running.stop.stop();
            let ended = running.thread.join();
            if !thread::panicking() {
                ended.expect("no panic").expect("a clean end");
            }
        }
    }
}

fn serve(
    config: &NodeConfig,
    sockets: Sockets,
    folder: PathBuf,
    counter: Counter,
    stop: &StopHandle,
) -> Result<ExitReport, NodeError> {
    let disk = RealDisk::create(&folder).expect("the folder can be made");
    let log = LogOptions::new(config.cluster, config.me);
    let checkpoints = CheckpointOptions::new(config.cluster, GroupId::FIRST, 1);
    let store = Store::open(disk, log, checkpoints).expect("the folder can be opened");
    mainstay_node::run(config, sockets, store, Plain(counter), NoFront, stop)
}
