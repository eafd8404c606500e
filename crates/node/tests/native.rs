//! Clients of the native protocol: sessions of their own, through any replica.

mod harness;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::{Bytes, BytesMut};
use harness::{Cluster, PATIENCE};
use mainstay_model::frame;
use mainstay_model::hello::{HELLO, Hello, Role};
use mainstay_model::{GroupId, Nonce, RequestNumber, SessionId, Slot};
use mainstay_node::StateName;
use mainstay_service::native::{ClientMessage, PREFACE, Refusal, ReplicaMessage, Subject};
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
            let len = self.stream.read(&mut bytes).expect("an answer in time");
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
    let (mut other, _) = Native::connect_with(cluster.configs[1].peers[1], &[]);
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
