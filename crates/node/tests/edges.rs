//! Bad input on either port, strangers of every kind, limits: refused with a reason, never more
//! memory, never a panic, and the cluster goes on.

mod harness;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use harness::{Cluster, Lines, PATIENCE, Registers, logged, loopback, replica, until_logged};
use mainstay_model::frame::{self, Frame};
use mainstay_model::hello::{HELLO, Hello, MAGIC, REJECT, Reject, RejectCode, Role};
use mainstay_model::{ClusterId, ConfigurationId, Epoch, GroupId, ReplicaId};
use mainstay_node::{Lobby, NodeError, Sockets, StateName, status};
use mainstay_service::Plain;
use mainstay_service::native::PREFACE;

/// A connection that speaks frames, well or badly.
struct Raw {
    stream: TcpStream,
    input: BytesMut,
}

impl Raw {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a listening node");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, input: BytesMut::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        // The other side may have closed in the middle of it, as it should.
        let _ = self.stream.write_all(bytes);
    }

    fn frame(&mut self, kind: u16, group: GroupId, epoch: u32, body: &[u8]) {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, kind, group, epoch, |out| out.extend_from_slice(body));
        self.send(&bytes);
    }

    fn hello(&mut self, hello: &Hello) {
        let mut body = Vec::new();
        hello.encode(&mut body);
        self.frame(HELLO, GroupId::NODE, hello.replica.epoch.counter, &body);
    }

    /// The next frame; none once the connection is closed.
    fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frame::decode(&mut self.input, 1 << 20).expect("a frame") {
                return Some(frame);
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(len) => self.input.extend_from_slice(&bytes[..len]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer in time: {error}"),
            }
        }
    }

    /// The reason for which this connection is refused and closed.
    fn refusal(mut self) -> Reject {
        let frame = self.next().expect("a reject");
        assert_eq!(frame.kind, REJECT);
        assert_eq!(self.next(), None);
        Reject::decode(frame.body).expect("a reject")
    }
}

fn peer_hello(cluster: &Cluster, index: u16) -> Hello {
    let config = &cluster.configs[0];
    Hello {
        version_min: 1,
        version_max: 1,
        role: Role::Peer,
        cluster: config.cluster,
        replica: replica(index),
        configuration: ConfigurationId(1),
        service_version: 1,
        body_len_max: 1 << 20,
        process: 100 + u64::from(index),
        peer_port: 7500 + index,
    }
}

/// A connection that is let in as this replica, which must not run: it would come back, and the
/// last to come is the one that is kept.
fn as_peer(cluster: &Cluster, index: u16) -> Raw {
    let mut raw = Raw::connect(peer_port(cluster));
    raw.hello(&peer_hello(cluster, index));
    assert_eq!(raw.next().expect("a hello").kind, HELLO);
    raw
}

fn peer_port(cluster: &Cluster) -> SocketAddr {
    cluster.peer_port(0)
}

#[test]
fn garbage_on_either_port_is_refused_and_changes_nothing() {
    let cluster = Cluster::start();
    let garbage: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 4096],
        vec![0; 4096],
        (0..=255).collect(),
        PREFACE.to_vec(),
    ];
    for bytes in &garbage {
        let mut raw = Raw::connect(peer_port(&cluster));
        raw.send(bytes);
        let _ = raw.stream.shutdown(Shutdown::Write);
        while raw.next().is_some() {}
        // The client port takes the ones that begin with a zero byte for its native protocol; the
        // front's own protocol takes the rest.
        let mut raw = Raw::connect(cluster.clients[0]);
        raw.send(bytes);
        let _ = raw.stream.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = raw.stream.read_to_end(&mut rest);
    }
    let mut raw = Raw::connect(cluster.clients[0]);
    raw.send(b"\0main but not ours");
    assert_eq!(raw.refusal().code, RejectCode::Malformed);
    assert_eq!(cluster.client(0).call("set a 1"), "+ok");
}

#[test]
fn a_peer_of_another_cluster_epoch_or_version_is_refused_by_name() {
    let cluster = Cluster::start();
    let good = peer_hello(&cluster, 1);
    let older = ReplicaId { index: 1, epoch: Epoch { counter: 1, instance: 5 } };
    let cases = [
        (Hello { cluster: ClusterId(78), ..good }, RejectCode::Cluster),
        (Hello { replica: older, ..good }, RejectCode::Epoch),
        (Hello { replica: replica(3), ..good }, RejectCode::NotListed),
        (Hello { replica: replica(0), ..good }, RejectCode::WrongReplica),
        (Hello { version_min: 2, version_max: 3, ..good }, RejectCode::Version),
        (Hello { service_version: 9, ..good }, RejectCode::Service),
    ];
    for (hello, code) in cases {
        let mut raw = Raw::connect(peer_port(&cluster));
        raw.hello(&hello);
        let reject = raw.refusal();
        assert_eq!(reject.code, code);
        until_logged(&[&reject.sentence]);
    }
    let mut raw = Raw::connect(cluster.clients[0]);
    raw.send(&PREFACE);
    raw.hello(&good);
    assert_eq!(raw.refusal().code, RejectCode::Role);

    // A frame of another wire version, with everything else in order.
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, HELLO, GroupId::NODE, 1, |body| good.encode(body));
    bytes[8] = 2;
    let checksum = crc32fast::hash(&bytes[8..]);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    let mut raw = Raw::connect(peer_port(&cluster));
    raw.send(&bytes);
    assert_eq!(raw.refusal().code, RejectCode::Version);
}

#[test]
fn two_clusters_that_name_one_another_say_so_in_both_logs_and_once() {
    let mut cluster = Cluster::prepare(3);
    // Replica 1 believes in another cluster.
    cluster.configs[1].cluster = ClusterId(0xbad);
    (0..3).for_each(|index| cluster.run(index));
    // The one that is refused, and the one that refuses, each in the words of its own.
    let foreign = ClusterId(0xbad).to_string();
    until_logged(&["it refuses this replica", &foreign]);
    until_logged(&["refused connection to the peer port", &foreign]);
    let status = cluster.until(1, |s| s.warnings.iter().any(|w| w.contains(&foreign)));
    assert_eq!(status.replica.state, StateName::Starting);
    // The others have gone on; they are asked again twice a second, and say nothing new.
    assert_eq!(cluster.client(0).call("set a 1"), "+ok");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        assert_eq!(cluster.client(2).call("add n").chars().next(), Some('+'));
    }
    assert!(logged(&["refused connection to the peer port", &foreign]) <= 4);
    assert!(logged(&["it refuses this replica", &foreign]) <= 6);
}

#[test]
fn an_oversized_frame_is_refused_before_it_is_read() {
    let mut cluster = Cluster::prepare(3);
    cluster.run(0);
    let mut raw = Raw::connect(peer_port(&cluster));
    raw.send(&u32::MAX.to_le_bytes());
    assert_eq!(raw.refusal().code, RejectCode::Malformed);

    let mut raw = as_peer(&cluster, 1);
    raw.send(&u32::MAX.to_le_bytes());
    assert_eq!(raw.next(), None);
    until_logged(&["closed replica 1e1", "4294967295 bytes"]);
}

#[test]
fn a_peer_that_sends_what_it_may_not_is_cut_off() {
    let mut cluster = Cluster::prepare(3);
    cluster.run(0);
    cluster.run(1);
    let cases: [(u16, GroupId, u32, &[u8]); 6] = [
        (16, GroupId::FIRST, 1, b"no message"),
        (63, GroupId::FIRST, 1, b""),
        (16, GroupId(9), 1, b""),
        (3, GroupId::NODE, 1, b"a heartbeat has no body"),
        (3, GroupId::NODE, 2, b""),
        (64, GroupId::FIRST, 1, b""),
    ];
    for (kind, group, epoch, body) in cases {
        let mut raw = as_peer(&cluster, 2);
        raw.frame(kind, group, epoch, body);
        assert_eq!(raw.next(), None, "kind {kind}");
    }
    cluster.run(2);
    let mut client = cluster.client(0);
    assert_eq!(client.call("set a 1"), "+ok");
    cluster.until(2, |s| s.replica.state == StateName::Active);
}

#[test]
fn the_silent_and_the_half_open_are_told_and_closed() {
    let mut cluster = Cluster::prepare(3);
    for config in &mut cluster.configs {
        config.limits.handshake_timeout = Duration::from_millis(200);
    }
    (0..3).for_each(|index| cluster.run(index));
    let silent = Raw::connect(peer_port(&cluster));
    let mut half = Raw::connect(peer_port(&cluster));
    half.send(&[44, 0, 0]);
    let mut native = Raw::connect(cluster.clients[0]);
    native.send(&PREFACE[..3]);
    for raw in [silent, half, native] {
        assert_eq!(raw.refusal().code, RejectCode::Timeout);
    }
    assert_eq!(cluster.client(0).call("set a 1"), "+ok");
}

#[test]
fn one_client_too_many_is_told_so() {
    let mut cluster = Cluster::prepare(3);
    cluster.configs[0].limits.clients_max = 2;
    (0..3).for_each(|index| cluster.run(index));
    let mut first = cluster.client(0);
    let mut second = cluster.client(0);
    assert_eq!((first.call("ping"), second.call("ping")), ("+pong".into(), "+pong".into()));
    let mut third = cluster.client(0);
    let answer = third.call("ping");
    assert!(answer.starts_with("-replica 0e1 serves 2 clients already"), "{answer}");
    assert!(third.is_closed());
    let mut native = Raw::connect(peer_port(&cluster));
    native.hello(&Hello::of_client(Role::Client, 1 << 20));
    assert_eq!(native.refusal().code, RejectCode::TooMany);
    drop(first);
    let started = Instant::now();
    while cluster.client(0).call("ping") != "+pong" {
        assert!(started.elapsed() < PATIENCE);
    }
}

#[test]
fn clients_may_connect_ahead_of_use_and_stay_silent() {
    let mut cluster = Cluster::prepare(3);
    cluster.configs[0].limits.strangers_max = 4;
    cluster.configs[0].limits.handshake_timeout = Duration::from_millis(100);
    cluster.configs[0].limits.clients_max = 20;
    (0..3).for_each(|index| cluster.run(index));
    let mut idle: Vec<_> = (0..19).map(|_| cluster.client(0)).collect();
    let mut client = cluster.client(0);
    assert_eq!(client.call("ping"), "+pong");
    // One more is not even asked what it wants: it is told in the front's own words.
    let mut late = cluster.client(0);
    let told = late.line();
    assert!(told.starts_with("-replica 0e1 serves 20 clients"), "{told}");
    for client in &mut idle {
        assert_eq!(client.call("ping"), "+pong");
    }
}

#[test]
fn many_strangers_are_closed_and_the_cluster_goes_on() {
    let mut cluster = Cluster::prepare(3);
    cluster.configs[0].limits.strangers_max = 8;
    (0..3).for_each(|index| cluster.run(index));
    assert_eq!(cluster.client(0).call("set a 1"), "+ok");
    let strangers: Vec<_> = (0..40).map(|_| Raw::connect(peer_port(&cluster))).collect();
    until_logged(&["closed connection to the peer port", "others from there have not said"]);
    assert_eq!(cluster.client(1).call("set a 2"), "+ok");
    drop(strangers);
    let started = Instant::now();
    while !matches!(cluster.status(0), Ok(status) if status.replica.applied > 0) {
        assert!(started.elapsed() < PATIENCE);
    }
}

#[test]
fn a_client_that_takes_nothing_is_held_back_and_the_others_are_served() {
    let mut cluster = Cluster::prepare(3);
    for config in &mut cluster.configs {
        config.limits.unsent_bytes_max = 1 << 20;
        config.limits.stalled_timeout = Duration::from_millis(500);
    }
    (0..3).for_each(|index| cluster.run(index));
    let mut client = cluster.client(0);
    assert_eq!(client.call(&format!("set big {}", "x".repeat(256 << 10))), "+ok");
    let greedy = cluster.client(0);
    let questions = "get big\n".repeat(2000);
    let writer = greedy.stream.get_ref().try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        let mut writer = writer;
        while writer.write_all(questions.as_bytes()).is_ok() {}
    });
    until_logged(&["closed client", "it takes no replies", "and sends more commands"]);
    writing.join().unwrap();
    assert_eq!(client.call("set a 1"), "+ok");
}

#[test]
fn a_request_without_end_is_cut_off() {
    let mut cluster = Cluster::prepare(3);
    cluster.configs[0].limits.request_bytes_max = 1 << 20;
    (0..3).for_each(|index| cluster.run(index));
    let mut client = cluster.client(0);
    assert_eq!(client.call(&format!("set a {}", "x".repeat(1 << 20))), "-TooLarge");
    let mut writer = client.stream.get_ref().try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        let endless = vec![b'x'; 1 << 20];
        while writer.write_all(&endless).is_ok() {}
    });
    until_logged(&["closed client", "its request is longer than"]);
    writing.join().unwrap();
    assert_eq!(cluster.client(0).call("set a 1"), "+ok");
}

#[test]
fn a_client_that_goes_away_in_the_middle_leaves_nothing_behind() {
    let cluster = Cluster::start();
    let mut witness = cluster.client(0);
    for _ in 0..50 {
        let mut client = cluster.client(0);
        client.send("add n\nget n\nadd n\nget");
        drop(client);
    }
    let started = Instant::now();
    while witness.call("clients") != "+1" {
        assert!(started.elapsed() < PATIENCE);
    }
    assert_eq!(witness.call("set a 1"), "+ok");
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind(loopback()).unwrap();
    let address = taken.local_addr().unwrap();
    for (peer, client, name) in
        [(address, loopback(), "peer port"), (loopback(), address, "client port")]
    {
        let error = Sockets::bind(peer, client).expect_err("a taken port");
        assert!(matches!(error, NodeError::Listen { .. }));
        // Whatever holds it may let go.
        assert_eq!(error.exit_code(), 1);
        let text = error.to_string();
        assert!(text.contains(name) && text.contains(&address.to_string()), "{text}");
    }
}

#[test]
fn asking_something_that_is_no_replica_fails_in_time() {
    let silent = TcpListener::bind(loopback()).unwrap();
    let started = Instant::now();
    let error = status::ask(silent.local_addr().unwrap(), Duration::from_millis(200))
        .expect_err("no answer");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(started.elapsed() < PATIENCE);

    let web = TcpListener::bind(loopback()).unwrap();
    let address = web.local_addr().unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = web.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let error = status::ask(address, PATIENCE).expect_err("no replica");
    assert!(error.to_string().contains("no replica"), "{error}");
    answering.join().unwrap();
    assert_eq!(MAGIC.to_le_bytes(), *b"MAINSTAY");
}

/// While the log is read, which may take long.
#[test]
fn a_replica_that_is_not_ready_says_so_and_does_not_look_dead() {
    let cluster = Cluster::prepare(3);
    let config = &cluster.configs[0];
    let sockets = Sockets::bind(loopback(), loopback()).expect("free ports");
    let (peers, clients) = (sockets.peer_address(), sockets.client_address());
    let lobby = Lobby::open::<Plain<Registers>, Lines>(config, &sockets, Lines).expect("a thread");
    // Whoever says nothing holds the others up for a moment only.
    let silent = Raw::connect(peers);
    for _ in 0..3 {
        let told = status::ask(peers, PATIENCE).expect("an answer");
        assert_eq!((told.replica.state, told.replica.index), (StateName::Starting, 0));
        assert_eq!(told.replica.client, clients.to_string());
        assert_eq!(told.configuration.expect("the members").members.len(), 3);
    }
    drop(silent);
    let mut raw = Raw::connect(peers);
    raw.hello(&peer_hello(&cluster, 1));
    assert_eq!(raw.refusal().code, RejectCode::Starting);
    let mut raw = Raw::connect(peers);
    raw.hello(&Hello { cluster: ClusterId(78), ..peer_hello(&cluster, 1) });
    assert_eq!(raw.refusal().code, RejectCode::Cluster);
    let mut told = String::new();
    Raw::connect(clients).stream.read_to_string(&mut told).expect("a line, and the end");
    assert!(told.contains("is starting"), "{told}");
    drop(lobby);
    // The ports are free for whoever takes over, and nobody is turned away any more.
    sockets_take_over(sockets);
}

fn sockets_take_over(sockets: Sockets) {
    let (address, waits) = (sockets.peer_address(), Duration::from_millis(1));
    let mut raw = Raw::connect(address);
    raw.send(b"for the node");
    raw.stream.set_read_timeout(Some(waits)).expect("a time-out");
    let error = raw.stream.read(&mut [0]).expect_err("nobody answers or closes");
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}
