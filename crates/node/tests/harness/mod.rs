//! A cluster of real nodes in one process: loopback sockets, ephemeral ports, real folders, a small
//! service and a client protocol of text lines.

#![allow(dead_code, unreachable_pub, reason = "every test file uses another part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use mainstay_model::hello::RejectCode;
use mainstay_model::{ClusterId, Configuration, ConfigurationId, Epoch, GroupId, ReplicaId};
use mainstay_node::front::{Front, Outcome, Parsed, View};
use mainstay_node::{
    ExitReport, NodeConfig, NodeError, NodeStatus, PeerAddress, Sockets, StopHandle, Store, status,
};
use mainstay_service::{Apply, Context, Plain, QueryContext};
use mainstay_storage::{CheckpointOptions, Disk, LogOptions, RealDisk};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Long enough for anything that should happen at all.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How many replicas have carried out `differ`.
static DIFFERED: AtomicUsize = AtomicUsize::new(0);

/// Whether `gate` waits.
pub static GATE_CLOSED: AtomicBool = AtomicBool::new(false);

/// How often `get gone` was carried out.
pub static GONE_READ: AtomicUsize = AtomicUsize::new(0);

/// Makes every value different that `unlike` sets.
static UNLIKE: AtomicUsize = AtomicUsize::new(0);

/// Registers by name. What the register `checkpoint` says happens to those who write one: it `fails`
/// or `panics`, half-way.
#[derive(Clone, Debug, Default)]
pub struct Registers(BTreeMap<String, String>);

/// Whether no checkpoint can be restored.
pub static RESTORES_FAIL: AtomicBool = AtomicBool::new(false);

impl<'de> Deserialize<'de> for Registers {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if RESTORES_FAIL.load(Ordering::Relaxed) {
            return Err(serde::de::Error::custom("asked to fail"));
        }
        BTreeMap::deserialize(from).map(Self)
    }
}

/// Whether no checkpoint can be written.
pub static WRITES_FAIL: AtomicBool = AtomicBool::new(false);

impl Serialize for Registers {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if WRITES_FAIL.load(Ordering::Relaxed) {
            return Err(serde::ser::Error::custom("asked to fail"));
        }
        let mut map = to.serialize_map(Some(self.0.len()))?;
        for (number, (name, value)) in self.0.iter().enumerate() {
            match self.0.get("checkpoint").map(String::as_str) {
                Some("fails") if number > 0 => {
                    return Err(serde::ser::Error::custom("asked to fail"));
                }
                Some("panics") if number > 0 => panic!("asked to"),
                _ => map.serialize_entry(name, value)?,
            }
        }
        map.end()
    }
}

impl Apply for Registers {
    fn apply(&mut self, _: &Context, request: &[u8], reply: &mut Vec<u8>) {
        let request = String::from_utf8_lossy(request);
        let mut words = request.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("set"), Some(name), Some(value)) => {
                self.0.insert(name.into(), value.into());
                reply.extend_from_slice(b"ok");
            }
            (Some("add"), Some(name), None) => {
                let value = self.0.entry(name.into()).or_default();
                *value = (value.parse::<u64>().unwrap_or(0) + 1).to_string();
                reply.extend_from_slice(value.as_bytes());
            }
            (Some("nap"), ms, None) => {
                let ms = ms.and_then(|ms| ms.parse().ok()).unwrap_or(10);
                thread::sleep(Duration::from_millis(ms));
                reply.extend_from_slice(b"ok");
            }
            (Some("gate"), ..) => {
                while GATE_CLOSED.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                }
                reply.extend_from_slice(b"ok");
            }
            (Some("long"), Some(len), None) => reply.resize(len.parse().unwrap_or(0), b'x'),
            (Some("panic"), ..) => panic!("asked to"),
            (Some("differ"), Some(name), None) => {
                // Not what a service may do: whoever comes first has another state from then on.
                let first = DIFFERED.fetch_add(1, Ordering::Relaxed) == 0;
                self.0.insert(name.into(), if first { "wrong" } else { "right" }.into());
                reply.extend_from_slice(b"ok");
            }
            (Some("unlike"), Some(name), None) => {
                // Nor is this: no two replicas have the same state from then on.
                let value = UNLIKE.fetch_add(1, Ordering::Relaxed).to_string();
                self.0.insert(name.into(), value);
                reply.extend_from_slice(b"ok");
            }
            _ => reply.extend_from_slice(b"what?"),
        }
    }

    fn query(&self, _: &QueryContext, request: &[u8], reply: &mut Vec<u8>) {
        let request = String::from_utf8_lossy(request);
        let name = request.strip_prefix("get ").unwrap_or_default();
        GONE_READ.fetch_add(usize::from(name == "gone"), Ordering::Relaxed);
        reply.extend_from_slice(self.0.get(name).map_or("nil", String::as_str).as_bytes());
    }
}

/// Lines of text; a reply begins with `+`, a failure with `-`.
pub struct Lines;

impl Front for Lines {
    type Connection = ();

    fn connect(&mut self, _: u64, _: SocketAddr) {}

    fn refuse(&mut self, _: RejectCode, sentence: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("-{sentence}\n").as_bytes());
    }

    fn read(
        &mut self,
        (): &mut (),
        view: &View,
        input: &mut BytesMut,
        commands_max: usize,
        parsed: &mut Vec<Parsed>,
    ) {
        for _ in 0..commands_max {
            let Some(end) = input.iter().position(|&byte| byte == b'\n') else { return };
            let line = input.split_to(end).freeze();
            input.advance(1);
            parsed.push(match &line[..] {
                b"ping" => Parsed::Answer("+pong\n".into()),
                b"quit" => Parsed::Close("+bye\n".into()),
                b"clients" => Parsed::Answer(format!("+{}\n", view.clients).into()),
                line_bytes if line_bytes.starts_with(b"get ") => {
                    Parsed::Read { body: line.clone(), shape: 2 }
                }
                line_bytes if line_bytes.starts_with(b"stale get ") => {
                    Parsed::ReadStale { body: line.slice(6..), shape: 2 }
                }
                _ => Parsed::Write { body: line.clone(), shape: 1, large: false },
            });
        }
    }

    fn write(&mut self, _: u64, outcome: Outcome<'_>, out: &mut Vec<u8>) {
        match outcome {
            Outcome::Reply(reply) => {
                out.push(b'+');
                out.extend_from_slice(reply);
                out.push(b'\n');
            }
            Outcome::Failed(failure) => out.extend_from_slice(format!("-{failure:?}\n").as_bytes()),
        }
    }
}

/// Where a replica keeps its log.
#[derive(Clone)]
pub enum Place {
    Folder(PathBuf),
    Memory(mainstay_storage::MemoryDisk),
}

/// A node on a thread of its own.
pub struct Running {
    pub stop: StopHandle,
    pub thread: JoinHandle<Result<ExitReport, NodeError>>,
}

/// Three replicas, each running or not.
pub struct Cluster {
    pub configs: Vec<NodeConfig>,
    pub clients: Vec<SocketAddr>,
    pub places: Vec<Place>,
    pub nodes: Vec<Option<Running>>,
    pub segment_bytes: u64,
    pub checkpoint_write_rate: Option<NonZeroU64>,
    pub log_bytes_max: Option<u64>,
    sockets: Vec<Option<Sockets>>,
    _folder: tempfile::TempDir,
}

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub fn replica(index: u16) -> ReplicaId {
    ReplicaId { index, epoch: Epoch { counter: 1, instance: 1000 + u32::from(index) } }
}

impl Cluster {
    /// Takes ports and folders for `size` replicas; none of them runs yet.
    pub fn prepare(size: u16) -> Self {
        log();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let sockets: Vec<_> = (0..size)
            .map(|_| Sockets::bind(loopback(), loopback()).expect("ephemeral ports"))
            .collect();
        let peers: Vec<PeerAddress> =
            sockets.iter().map(|sockets| sockets.peer_address().into()).collect();
        let clients = sockets.iter().map(Sockets::client_address).collect();
        let replicas: Vec<_> = (0..size).map(replica).collect();
        let configuration =
            Configuration { id: ConfigurationId(1), replicas: replicas.clone(), alpha: 256 };
        let configs = replicas
            .iter()
            .map(|&me| {
                let cluster = ClusterId(77);
                let mut config = NodeConfig::new(cluster, me, configuration.clone(), peers.clone());
                config.stop_on_signals = false;
                config
            })
            .collect();
        let places = (0..size).map(|i| Place::Folder(folder.path().join(i.to_string()))).collect();
        Self {
            configs,
            clients,
            places,
            nodes: (0..size).map(|_| None).collect(),
            segment_bytes: 1 << 20,
            checkpoint_write_rate: None,
            log_bytes_max: None,
            sockets: sockets.into_iter().map(Some).collect(),
            _folder: folder,
        }
    }

    /// Three replicas, running.
    pub fn start() -> Self {
        let mut cluster = Self::prepare(3);
        (0..3).for_each(|index| cluster.run(index));
        cluster
    }

    /// Starts a replica that does not run.
    pub fn run(&mut self, index: usize) {
        let config = self.configs[index].clone();
        let peer = self.peer_port(index);
        let client = self.clients[index];
        let sockets = self.sockets[index].take();
        let sockets =
            sockets.unwrap_or_else(|| Sockets::bind(peer, client).expect("the ports of before"));
        let stop = StopHandle::new();
        let handle = stop.clone();
        let place = self.places[index].clone();
        let bounds = (self.segment_bytes, self.log_bytes_max, self.checkpoint_write_rate);
        let thread = thread::spawn(move || match place {
            Place::Folder(path) => {
                let disk = RealDisk::create(&path).expect("a folder");
                go(&config, sockets, open(disk, &config, bounds), &handle)
            }
            Place::Memory(disk) => go(&config, sockets, open(disk, &config, bounds), &handle),
        });
        self.nodes[index] = Some(Running { stop, thread });
    }

    /// Stops a replica and waits for its end.
    pub fn stop(&mut self, index: usize) -> Result<ExitReport, NodeError> {
        let running = self.nodes[index].take().expect("a running replica");
        running.stop.stop();
        running.thread.join().expect("no panic")
    }

    /// Waits for a replica that ends by itself.
    pub fn wait(&mut self, index: usize) -> Result<ExitReport, NodeError> {
        self.nodes[index].take().expect("a running replica").thread.join().expect("no panic")
    }

    /// Where a replica listens to its peers.
    pub fn peer_port(&self, index: usize) -> SocketAddr {
        self.configs[index].peers[index].socket().expect("an address")
    }

    pub fn status(&self, index: usize) -> std::io::Result<NodeStatus> {
        status::ask(self.peer_port(index), Duration::from_secs(5))
    }

    /// Waits until a replica's status is as wanted.
    pub fn until(&self, index: usize, wanted: impl Fn(&NodeStatus) -> bool) -> NodeStatus {
        let started = Instant::now();
        let mut last = None;
        while started.elapsed() < PATIENCE {
            match self.status(index) {
                Ok(status) if wanted(&status) => return status,
                other => last = Some(other),
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("replica {index} never came to it: {last:?}");
    }

    /// Waits until somebody leads; returns who.
    pub fn leader(&self) -> usize {
        let running = self.nodes.iter().position(Option::is_some).expect("a running replica");
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(leader) = self.until(running, |s| s.leader.is_some()).leader
                && self.nodes[usize::from(leader)].is_some()
            {
                return usize::from(leader);
            }
        }
        panic!("nobody leads");
    }

    pub fn client(&self, index: usize) -> Client {
        Client::connect(self.clients[index])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for running in self.nodes.iter_mut().filter_map(Option::take) {
            running.stop.stop();
            let ended = running.thread.join();
            if !thread::panicking() {
                ended.expect("no panic").expect("a clean end");
            }
        }
    }
}

/// Opens log and checkpoints of a replica; told are the bytes of a segment, those of the log, and how fast
/// checkpoints are written.
pub fn open<D: Disk + Clone>(
    disk: D,
    config: &NodeConfig,
    (segment_bytes, log_bytes_max, checkpoint_write_rate): (u64, Option<u64>, Option<NonZeroU64>),
) -> Store<D> {
    let mut log = LogOptions::new(config.cluster, config.me);
    log.segment_bytes = segment_bytes;
    log.bytes_max = log_bytes_max;
    let mut checkpoints = CheckpointOptions::new(config.cluster, GroupId::FIRST, 1);
    checkpoints.write_rate = checkpoint_write_rate;
    Store::open(disk, log, checkpoints).expect("a log")
}

fn go<D: Disk + Clone>(
    config: &NodeConfig,
    sockets: Sockets,
    store: Store<D>,
    stop: &StopHandle,
) -> Result<ExitReport, NodeError> {
    let service = Plain(Registers::default());
    mainstay_node::run(config, sockets, store, service, Lines, stop)
}

/// A client of the line protocol.
pub struct Client {
    pub stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a listening node");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).expect("an open connection");
    }

    /// The next line, without its end; empty once the connection is closed.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("an answer in time");
        line.trim_end().to_owned()
    }

    pub fn call(&mut self, command: &str) -> String {
        self.send(&format!("{command}\n"));
        self.line()
    }

    /// Whether the other side closes the connection.
    pub fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// What all nodes of this process have logged so far.
pub fn log() -> Arc<Mutex<Vec<u8>>> {
    #[derive(Clone)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    static LOG: OnceLock<Sink> = OnceLock::new();
    let sink = LOG.get_or_init(|| {
        let sink = Sink(Arc::default());
        let writer = sink.clone();
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .with_writer(move || writer.clone())
            .init();
        sink
    });
    Arc::clone(&sink.0)
}

/// How many lines of the log hold all of `words`.
pub fn logged(words: &[&str]) -> usize {
    let log = log();
    let log = log.lock().unwrap();
    let text = String::from_utf8_lossy(&log);
    text.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

/// Waits until a line of the log holds all of `words`.
pub fn until_logged(words: &[&str]) {
    let started = Instant::now();
    while logged(words) == 0 {
        assert!(started.elapsed() < PATIENCE, "no line with {words:?} in:\n{}", log_text());
        thread::sleep(Duration::from_millis(5));
    }
}

pub fn log_text() -> String {
    String::from_utf8_lossy(&log().lock().unwrap()).into_owned()
}
