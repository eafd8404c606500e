//! Clients of the native protocol: sessions of their own, through any replica.

mod harness;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::{Bytes, BytesMut};
use harness::{Cluster, PATIENCE};
use mainstay_model::frame;
use mainstay_model::hello::{HELLO, Hello, Role};
use mainstay_model::{GroupId, Nonce, RequestNumber, SessionId, Slot};
use mainstay_node::StateName;
use mainstay_service::native::{
    ClientMessage, KEPT_BYTES_MAX, PREFACE, Refusal, ReplicaMessage, Subject, Watching,
};
use mainstay_service::{Applied, Command};

struct Native {
    stream: TcpStream,
    input: BytesMut,
}

impl Native {
    /// Connects to the client port; returns who answered, too.
    fn connect(address: SocketAddr) -> (Self, Hello) {
        Self::connect_with(address, &PREFACE)
    }

    fn connect_with(address: SocketAddr, preface: &[u8]) -> (Self, Hello) {
        let mut stream = TcpStream::connect(address).expect("a listening node");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut bytes = preface.to_vec();
        let hello = Hello::of_client(Role::Client, 1 << 20);
        frame::encode(&mut bytes, HELLO, GroupId::NODE, 0, |body| hello.encode(body));
        stream.write_all(&bytes).unwrap();
        let mut native = Self { stream, input: BytesMut::new() };
        let frame = native.frame();
        assert_eq!(frame.kind, HELLO);
        (native, Hello::decode(frame.body).expect("a hello"))
    }

    fn frame(&mut self) -> frame::Frame {
        loop {
            if let Some(frame) = frame::decode(&mut self.input, 1 << 24).expect("a frame") {
                return frame;
            }
            let mut bytes = [0; 4096];
            let len = match self.stream.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.expect("an answer in time"),
            };
            assert_ne!(len, 0, "the connection was closed");
            self.input.extend_from_slice(&bytes[..len]);
        }
    }

    fn send(&mut self, message: &ClientMessage) {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, message.kind(), GroupId::FIRST, 0, |body| message.encode(body));
        self.stream.write_all(&bytes).unwrap();
    }

    fn next(&mut self) -> ReplicaMessage {
        let frame = self.frame();
        ReplicaMessage::decode(frame.kind, frame.body).expect("a message")
    }

    fn submit(&mut self, command: &Command) -> ReplicaMessage {
        self.send(&ClientMessage::Submit { command: command.encode() });
        self.next()
    }

    /// Registers a session, again while there is no leader.
    fn register(&mut self, nonce: u128) -> SessionId {
        loop {
            match self.submit(&Command::Register { nonce: Nonce(nonce) }) {
                ReplicaMessage::Outcome(Applied::Registered { session, .. }) => return session,
                ReplicaMessage::Refused { subject, .. } => {
                    assert_eq!(subject, Subject::Register(Nonce(nonce)));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn request(session: SessionId, number: u64, body: &'static str) -> Command {
    Command::Request {
        session,
        number: RequestNumber(number),
        acknowledged_upto: RequestNumber(number - 1),
        body: Bytes::from_static(body.as_bytes()),
    }
}

/// A request of a client that has not taken note of any reply.
fn unacknowledged(session: SessionId, number: u64, body: &'static str) -> Command {
    Command::Request {
        session,
        number: RequestNumber(number),
        acknowledged_upto: RequestNumber(0),
        body: Bytes::from_static(body.as_bytes()),
    }
}

fn ready() -> Cluster {
    let cluster = Cluster::start();
    for index in 0..3 {
        cluster.until(index, |s| s.replica.state == StateName::Active);
    }
    cluster
}

#[test]
fn a_request_repeated_through_another_replica_is_carried_out_once() {
    let cluster = ready();
    let (mut first, hello) = Native::connect(cluster.clients[0]);
    assert_eq!(hello.replica, harness::replica(0));
    assert_eq!(hello.cluster, cluster.configs[0].cluster);
    let session = first.register(7);
    let add = request(session, 1, "add n");
    let replied = |repeated| {
        ReplicaMessage::Outcome(Applied::Replied {
            session,
            number: RequestNumber(1),
            reply: "1".into(),
            repeated,
        })
    };
    assert_eq!(first.submit(&add), replied(false));
    assert_eq!(first.submit(&add), replied(true));
    let (mut other, _) = Native::connect_with(cluster.peer_port(1), &[]);
    assert_eq!(other.register(7), session);
    assert_eq!(other.submit(&add), replied(true));
    assert_eq!(cluster.client(2).call("get n"), "+1");
}

#[test]
fn queries_wait_for_their_number_and_gaps_are_told() {
    let cluster = ready();
    let (mut client, _) = Native::connect(cluster.clients[2]);
    let session = client.register(8);
    client.send(&ClientMessage::Query {
        id: 5,
        after: Some((session, RequestNumber(1))),
        body: "get q".into(),
    });
    client.send(&ClientMessage::Submit { command: request(session, 1, "set q 1").encode() });
    let mut seen = [client.next(), client.next()];
    seen.sort_by_key(|message| matches!(message, ReplicaMessage::Answer { .. }));
    assert!(matches!(&seen[0], ReplicaMessage::Outcome(Applied::Replied { .. })), "{seen:?}");
    assert_eq!(seen[1], ReplicaMessage::Answer { id: 5, reply: "1".into() });

    let gap = client.submit(&request(session, 3, "set q 3"));
    let expected = RequestNumber(2);
    assert_eq!(
        gap,
        ReplicaMessage::Outcome(Applied::Gap { session, number: RequestNumber(3), expected })
    );
}

#[test]
fn what_is_not_known_or_not_allowed_is_refused() {
    let cluster = ready();
    let (mut client, _) = Native::connect(cluster.clients[1]);
    let unknown = SessionId { slot: Slot(999_999), position: 0 };
    assert_eq!(
        client.submit(&request(unknown, 1, "add n")),
        ReplicaMessage::Outcome(Applied::UnknownSession {
            session: unknown,
            number: RequestNumber(1)
        })
    );
    client.send(&ClientMessage::Query {
        id: 1,
        after: Some((unknown, RequestNumber(1))),
        body: "get n".into(),
    });
    assert!(matches!(
        client.next(),
        ReplicaMessage::Refused { subject: Subject::Query(1), reason: Refusal::UnknownSession, .. }
    ));
    for bytes in [Command::TrimSessions { keep: 0 }.encode(), "nonsense".into(), Bytes::new()] {
        client.send(&ClientMessage::Submit { command: bytes });
        assert!(matches!(
            client.next(),
            ReplicaMessage::Refused {
                subject: Subject::Unreadable,
                reason: Refusal::BadCommand,
                ..
            }
        ));
    }
    client.send(&ClientMessage::WhoLeads);
    let leader = cluster.leader() as u16;
    assert_eq!(client.next(), ReplicaMessage::Leader(Some(leader)));
}

#[test]
fn without_a_leader_a_submission_is_refused_and_a_query_runs_out() {
    let mut cluster = Cluster::prepare(3);
    cluster.configs[0].limits.outcome_timeout = std::time::Duration::from_millis(300);
    cluster.run(0);
    cluster.until(0, |s| s.replica.state == StateName::Starting);
    let (mut client, _) = Native::connect(cluster.clients[0]);
    let refused = client.submit(&Command::Register { nonce: Nonce(1) });
    assert_eq!(
        refused,
        ReplicaMessage::Refused {
            subject: Subject::Register(Nonce(1)),
            reason: Refusal::NoLeader,
            leader: None
        }
    );
    client.send(&ClientMessage::Query { id: 9, after: None, body: "get n".into() });
    assert_eq!(
        client.next(),
        ReplicaMessage::Refused {
            subject: Subject::Query(9),
            reason: Refusal::Timeout,
            leader: None
        }
    );
    client.send(&ClientMessage::WhoLeads);
    assert_eq!(client.next(), ReplicaMessage::Leader(None));
}

#[test]
fn a_connection_with_too_many_sessions_keeps_those_it_has() {
    let mut cluster = Cluster::prepare(3);
    cluster.run(0);
    cluster.until(0, |s| s.replica.state == StateName::Starting);
    let (mut client, _) = Native::connect(cluster.clients[0]);
    let mut refusals = |nonces: Vec<u128>| {
        for &nonce in &nonces {
            let command = Command::Register { nonce: Nonce(nonce) }.encode();
            client.send(&ClientMessage::Submit { command });
        }
        let reasons = nonces.iter().map(|_| match client.next() {
            ReplicaMessage::Refused { reason, .. } => reason,
            other => panic!("{other:?}"),
        });
        reasons.filter(|reason| *reason == Refusal::Busy).count()
    };
    assert_eq!(refusals((1..=1100).collect()), 1100 - 1024);
    assert_eq!(refusals(vec![1]), 0);
}

#[test]
fn a_query_asked_twice_at_once_ends_the_connection() {
    let mut cluster = Cluster::prepare(3);
    cluster.run(0);
    cluster.until(0, |s| s.replica.state == StateName::Starting);
    let (mut client, _) = Native::connect(cluster.clients[0]);
    for _ in 0..2 {
        client.send(&ClientMessage::Query { id: 9, after: None, body: "get n".into() });
    }
    let mut rest = Vec::new();
    assert_eq!(client.stream.read_to_end(&mut rest).expect("a closed connection"), 0);
}

/// Watches; returns what it is told of the session and the numbers of the replies that follow.
fn watch(client: &mut Native, session: SessionId, after: u64) -> (Watching, Vec<u64>) {
    client.send(&ClientMessage::Watch { session, after: RequestNumber(after) });
    let ReplicaMessage::Watching(watching) = client.next() else { panic!("not watching") };
    let numbers = (after..watching.told_upto.0).map(|_| match client.next() {
        ReplicaMessage::Outcome(Applied::Replied { number, repeated: true, .. }) => number.0,
        other => panic!("{other:?}"),
    });
    let numbers = numbers.collect();
    (watching, numbers)
}

#[test]
fn every_replica_that_is_watched_tells_its_own_reply() {
    let cluster = ready();
    let (mut first, _) = Native::connect(cluster.clients[0]);
    let session = first.register(7);
    for number in 1..=3 {
        first.submit(&unacknowledged(session, number, "add n"));
    }
    let mut others: Vec<_> = (1..3).map(|i| Native::connect(cluster.clients[i]).0).collect();
    for other in &mut others {
        // It may not have applied all of it yet; then the rest comes unasked.
        let (watching, mut numbers) = watch(other, session, 1);
        assert_eq!((watching.replicas, watching.quorum, watching.votes), (3, 2, true));
        assert_eq!(watching.session, session);
        while numbers.last().is_none_or(|&last| last < 3) {
            match other.next() {
                ReplicaMessage::Outcome(Applied::Replied { number, .. }) => numbers.push(number.0),
                message => panic!("{message:?}"),
            }
        }
        assert_eq!(numbers, [2, 3]);
    }
    first.submit(&request(session, 4, "add n"));
    for other in &mut others {
        assert_eq!(
            other.next(),
            ReplicaMessage::Outcome(Applied::Replied {
                session,
                number: RequestNumber(4),
                reply: "4".into(),
                repeated: false,
            })
        );
    }
    let (watching, numbers) = watch(&mut others[0], session, 4);
    assert_eq!((watching.applied_upto, numbers.len()), (Some(RequestNumber(4)), 0));
    let unknown = SessionId { slot: Slot(999_999), position: 0 };
    let (watching, numbers) = watch(&mut others[0], unknown, 0);
    assert_eq!((watching.applied_upto, numbers.len()), (None, 0));
}

#[test]
fn kept_replies_come_in_parts_and_one_watch_at_a_time() {
    let cluster = ready();
    let (mut client, _) = Native::connect(cluster.clients[1]);
    let session = client.register(9);
    for number in 1..=5 {
        client.submit(&unacknowledged(session, number, "long 600000"));
    }
    const { assert!(KEPT_BYTES_MAX > 600_000 && KEPT_BYTES_MAX < 2 * 600_000) };
    let mut parts = Vec::new();
    let mut after = 0;
    while after < 5 {
        let (watching, numbers) = watch(&mut client, session, after);
        assert_eq!(watching.applied_upto, Some(RequestNumber(5)));
        after = watching.told_upto.0;
        parts.push(numbers);
    }
    assert_eq!(parts, [vec![1, 2], vec![3, 4], vec![5]]);
    // Two at once: the second is refused, unless the first was answered already.
    for _ in 0..2 {
        client.send(&ClientMessage::Watch { session, after: RequestNumber(5) });
    }
    let mut seen = [client.next(), client.next()];
    seen.sort_by_key(|message| matches!(message, ReplicaMessage::Watching(_)));
    let busy = |m: &ReplicaMessage| {
        matches!(
            m,
            ReplicaMessage::Refused { subject: Subject::Watch(_), reason: Refusal::Busy, .. }
        )
    };
    let told = matches!(&seen[1], ReplicaMessage::Watching(_));
    assert!(
        told && (busy(&seen[0]) || matches!(&seen[0], ReplicaMessage::Watching(_))),
        "{seen:?}"
    );
}

#[test]
fn a_stale_query_tells_how_old_its_answer_is() {
    let mut cluster = ready();
    let mut client = cluster.client(0);
    assert_eq!(client.call("set q 1"), "+ok");
    drop(client);
    cluster.stop(1).expect("a clean end");
    cluster.stop(2).expect("a clean end");
    let applied = cluster.until(0, |s| s.replica.applied > 0).replica.applied;
    let (mut client, _) = Native::connect(cluster.clients[0]);
    client.send(&ClientMessage::QueryStale { id: 5, body: "get q".into() });
    let answer = loop {
        match client.next() {
            ReplicaMessage::Leader(_) => {}
            answer => break answer,
        }
    };
    let ReplicaMessage::StaleAnswer { id: 5, slot, time, reply } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!((slot, &reply[..]), (Slot(applied), &b"1"[..]));
    assert!(time.0 > 1_577_836_800_000_000_000, "{time:?} is before 2020");
}

/// A proxy opens sessions for others all day; those that are over make room for more.
#[test]
fn a_connection_may_open_any_number_of_sessions_one_after_another() {
    let mut cluster = Cluster::prepare(1);
    cluster.places[0] = harness::Place::Memory(Default::default());
    cluster.configs[0].sessions.sessions_max = 4;
    cluster.configs[0].sessions.idle_max = std::time::Duration::from_nanos(1);
    cluster.run(0);
    cluster.until(0, |s| s.leader.is_some());
    let (mut native, _) = Native::connect(cluster.clients[0]);
    for nonce in 1..=1100 {
        let command = Command::Register { nonce: Nonce(nonce) };
        native.send(&ClientMessage::Submit { command: command.encode() });
        loop {
            match native.next() {
                ReplicaMessage::Outcome(Applied::Registered { .. }) => break,
                ReplicaMessage::Outcome(Applied::Ended { .. }) | ReplicaMessage::Leader(_) => {}
                other => panic!("at the {nonce}th: {other:?}"),
            }
        }
    }
}

/// Clients that ask for what takes long, and go, leave nothing behind.
#[test]
fn a_query_of_a_client_that_is_gone_is_forgotten() {
    let cluster = ready();
    let at = cluster.clients[0];
    let (mut native, _) = Native::connect(at);
    let session = native.register(77);
    let clients = cluster.until(0, |s| s.replica.clients > 0).replica.clients;
    let (mut leaving, _) = Native::connect(at);
    let query = |id, after| ClientMessage::Query {
        id,
        after: Some((session, RequestNumber(after))),
        body: "get gone".into(),
    };
    leaving.send(&query(1, 1));
    leaving.send(&query(2, 0));
    // The second is answered, so the first waits for its request. Whoever goes without having read the
    // answer resets the connection: it does not only end its own half.
    assert_eq!(leaving.stream.peek(&mut [0]).expect("an answer"), 1);
    assert_eq!(harness::GONE_READ.load(std::sync::atomic::Ordering::Relaxed), 1);
    cluster.until(0, |s| s.replica.clients == clients + 1);
    drop(leaving);
    cluster.until(0, |s| s.replica.clients == clients);
    native.submit(&request(session, 1, "add n"));
    native.send(&query(3, 1));
    assert_eq!(native.next(), ReplicaMessage::Answer { id: 3, reply: "nil".into() });
    assert_eq!(harness::GONE_READ.load(std::sync::atomic::Ordering::Relaxed), 2);
}
