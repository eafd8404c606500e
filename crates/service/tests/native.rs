//! The native client protocol: golden bytes, and decoders that take anything.

use bytes::Bytes;
use mainstay_model::{ConfigurationId, Nonce, RequestNumber, SessionId, Slot, Timestamp};
use mainstay_service::Applied;
use mainstay_service::native::{ClientMessage, Refusal, ReplicaMessage, Subject, Watching};
use proptest::prelude::*;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/native-1.txt");

const SESSION: SessionId = SessionId { slot: Slot(0x0102), position: 3 };
const NUMBER: RequestNumber = RequestNumber(0x0405);

fn client_messages() -> Vec<ClientMessage> {
    vec![
        ClientMessage::Submit { command: "command".into() },
        ClientMessage::Query { id: 6, after: None, body: "body".into() },
        ClientMessage::Query { id: 6, after: Some((SESSION, NUMBER)), body: Bytes::new() },
        ClientMessage::WhoLeads,
        ClientMessage::Watch { session: SESSION, after: NUMBER },
        ClientMessage::QueryStale { id: 6, body: "body".into() },
    ]
}

const fn watching(applied_upto: Option<RequestNumber>) -> Watching {
    Watching {
        session: SESSION,
        applied_upto,
        told_upto: RequestNumber(0x0404),
        configuration: ConfigurationId(0x0e0f),
        replicas: 5,
        quorum: 3,
        votes: true,
    }
}

fn replica_messages() -> Vec<ReplicaMessage> {
    let nonce = Nonce(0x1112);
    let outcomes = [
        Applied::Registered { nonce, session: SESSION },
        Applied::RegistrationRefused { nonce },
        Applied::Replied {
            session: SESSION,
            number: NUMBER,
            reply: "reply".into(),
            repeated: true,
        },
        Applied::Gap { session: SESSION, number: NUMBER, expected: RequestNumber(2) },
        Applied::WindowFull { session: SESSION, number: NUMBER },
        Applied::UnknownSession { session: SESSION, number: NUMBER },
        Applied::Ended { session: SESSION },
    ];
    let subjects = [
        Subject::Register(nonce),
        Subject::Request(SESSION, NUMBER),
        Subject::Query(7),
        Subject::Unreadable,
        Subject::Watch(SESSION),
    ];
    let refused = subjects.into_iter().map(|subject| ReplicaMessage::Refused {
        subject,
        reason: Refusal::NoLeader,
        leader: None,
    });
    let reasons = Refusal::ALL.iter().map(|&reason| ReplicaMessage::Refused {
        subject: Subject::Query(1),
        reason,
        leader: Some(2),
    });
    let others = [
        ReplicaMessage::Answer { id: 8, reply: "reply".into() },
        ReplicaMessage::Leader(None),
        ReplicaMessage::Leader(Some(1)),
        ReplicaMessage::Watching(watching(Some(NUMBER))),
        ReplicaMessage::Watching(watching(None)),
        ReplicaMessage::StaleAnswer {
            id: 8,
            slot: Slot(0x0a0b),
            time: Timestamp(0x0c0d),
            reply: "reply".into(),
        },
    ];
    let outcomes = outcomes.into_iter().map(ReplicaMessage::Outcome);
    outcomes.chain(refused).chain(reasons).chain(others).collect()
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    bytes.into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A change here is a change of the wire format: it needs another version. `UPDATE=1` rewrites the
/// file.
#[test]
fn the_bytes_are_the_golden_ones() {
    let mut text = String::new();
    for message in client_messages() {
        text += &format!("{} {}\n", message.kind(), hex(&encoded(|out| message.encode(out))));
    }
    for message in replica_messages() {
        text += &format!("{} {}\n", message.kind(), hex(&encoded(|out| message.encode(out))));
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(GOLDEN, &text).expect("the golden file can be written");
    }
    assert_eq!(text, std::fs::read_to_string(GOLDEN).expect("the golden file is there"));
}

#[test]
fn what_was_encoded_is_read_back_and_shorter_bytes_are_not() {
    for message in client_messages() {
        let bytes = encoded(|out| message.encode(out));
        assert_eq!(ClientMessage::decode(message.kind(), bytes), Ok(message));
    }
    for message in replica_messages() {
        let bytes = encoded(|out| message.encode(out));
        assert_eq!(ReplicaMessage::decode(message.kind(), bytes.clone()), Ok(message.clone()));
        let cut = ReplicaMessage::decode(message.kind(), bytes.slice(..bytes.len() - 1));
        assert_ne!(cut.as_ref(), Ok(&message));
        // Only what ends in a reply can lose its last byte and still be something.
        let ends_in_reply = matches!(
            message,
            ReplicaMessage::Answer { .. }
                | ReplicaMessage::StaleAnswer { .. }
                | ReplicaMessage::Outcome(Applied::Replied { .. })
        );
        assert_eq!(cut.is_ok(), ends_in_reply, "{message:?}");
    }
}

#[test]
fn a_quorum_that_is_none_is_refused() {
    for (replicas, quorum) in [(3, 1), (3, 0), (4, 2), (3, 4), (0, 0)] {
        let watching = Watching { replicas, quorum, ..watching(None) };
        let message = ReplicaMessage::Watching(watching);
        let bytes = encoded(|out| message.encode(out));
        assert!(ReplicaMessage::decode(message.kind(), bytes).is_err(), "{replicas} {quorum}");
    }
}

#[test]
fn a_message_has_one_encoding() {
    let nobody_leads = ReplicaMessage::Leader(None);
    let mut body = encoded(|out| nobody_leads.encode(out)).to_vec();
    *body.last_mut().unwrap() = 1;
    assert!(ReplicaMessage::decode(nobody_leads.kind(), body.into()).is_err());
    let after_nothing = ClientMessage::Query { id: 6, after: None, body: Bytes::new() };
    let mut body = encoded(|out| after_nothing.encode(out)).to_vec();
    *body.last_mut().unwrap() = 1;
    assert!(ClientMessage::decode(after_nothing.kind(), body.into()).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(
        kind in 60u16..84,
        bytes in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let bytes = Bytes::from(bytes);
        if let Ok(message) = ClientMessage::decode(kind, bytes.clone()) {
            prop_assert_eq!(message.kind(), kind);
        }
        if let Ok(message) = ReplicaMessage::decode(kind, bytes) {
            prop_assert_eq!(message.kind(), kind);
            let again = encoded(|out| message.encode(out));
            prop_assert_eq!(ReplicaMessage::decode(kind, again), Ok(message));
        }
    }
}
