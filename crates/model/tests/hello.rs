//! Hello and reject: golden bytes, and decoders that take anything.

use bytes::{Bytes, BytesMut};
use mainstay_model::frame;
use mainstay_model::hello::{HELLO_LEN_MAX, Hello, Reject, RejectCode, Role, SENTENCE_LEN_MAX};
use mainstay_model::{ClusterId, ConfigurationId, Epoch, ReplicaId};
use proptest::prelude::*;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/hello-1.txt");

fn hello() -> Hello {
    Hello {
        version_min: 1,
        version_max: 2,
        role: Role::Peer,
        cluster: ClusterId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        replica: ReplicaId { index: 2, epoch: Epoch { counter: 3, instance: 4 } },
        configuration: ConfigurationId(5),
        service_version: 6,
        body_len_max: 7,
        process: 8,
        peer_port: 9,
    }
}

fn reject() -> Reject {
    Reject { code: RejectCode::Epoch, sentence: "not this one".into() }
}

fn hex(encode: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A change here is a change of the wire format: it needs another version. `UPDATE=1` rewrites the
/// file.
#[test]
fn the_bytes_are_the_golden_ones() {
    let text = format!(
        "hello {}\nreject {}\n",
        hex(|out| hello().encode(out)),
        hex(|out| reject().encode(out))
    );
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(GOLDEN, &text).expect("the golden file can be written");
    }
    assert_eq!(text, std::fs::read_to_string(GOLDEN).expect("the golden file is there"));
}

#[test]
fn what_was_encoded_is_read_back() {
    for role in [Role::Peer, Role::Client, Role::Admin] {
        let hello = Hello { role, ..hello() };
        let mut bytes = Vec::new();
        hello.encode(&mut bytes);
        assert!(bytes.len() <= HELLO_LEN_MAX);
        assert_eq!(Hello::decode(bytes.into()), Ok(hello));
    }
    for &code in RejectCode::ALL.iter().chain(&[RejectCode::Other(999)]) {
        let reject = Reject { code, ..reject() };
        let mut bytes = Vec::new();
        reject.encode(&mut bytes);
        assert_eq!(Reject::decode(bytes.into()), Ok(reject));
    }
}

#[test]
fn later_versions_may_say_more_in_a_hello() {
    let mut bytes = Vec::new();
    hello().encode(&mut bytes);
    bytes.extend_from_slice(b"more");
    assert_eq!(Hello::decode(bytes.into()), Ok(hello()));
}

#[test]
fn a_sentence_that_is_too_long_is_cut_between_characters() {
    let reject = Reject { code: RejectCode::Cluster, sentence: "ä".repeat(SENTENCE_LEN_MAX) };
    let mut bytes = Vec::new();
    reject.encode(&mut bytes);
    assert!(bytes.len() <= HELLO_LEN_MAX);
    let cut = Reject::decode(bytes.into()).expect("a reject");
    assert_eq!(cut.sentence, "ä".repeat(SENTENCE_LEN_MAX / 2));
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let bytes = Bytes::from(bytes);
        if let Ok(hello) = Hello::decode(bytes.clone()) {
            let mut again = Vec::new();
            hello.encode(&mut again);
            prop_assert_eq!(&again[..], &bytes[..again.len()]);
        }
        if let Ok(reject) = Reject::decode(bytes.clone()) {
            let mut again = Vec::new();
            reject.encode(&mut again);
            prop_assert_eq!(again, bytes.to_vec());
        }
    }

    #[test]
    fn a_hello_with_any_field_changed_is_read_or_refused(at in 0usize..71, to in any::<u8>()) {
        let mut bytes = Vec::new();
        hello().encode(&mut bytes);
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(read) = Hello::decode(bytes.clone().into()) {
            let mut again = Vec::new();
            read.encode(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }

    /// However a stream of frames is cut, and whatever comes after them, they are read whole or
    /// refused, and nothing is reserved for a length that is merely claimed.
    #[test]
    fn frames_survive_any_cut(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..8),
        garbage in proptest::collection::vec(any::<u8>(), 0..64),
        step in 1usize..100,
    ) {
        let mut stream = Vec::new();
        for (kind, body) in (1u16..).zip(&bodies) {
            frame::encode(&mut stream, kind, mainstay_model::GroupId(7), 9, |out| {
                out.extend_from_slice(body);
            });
        }
        stream.extend_from_slice(&garbage);
        let mut input = BytesMut::new();
        let mut read = Vec::new();
        'stream: for piece in stream.chunks(step) {
            input.extend_from_slice(piece);
            loop {
                match frame::decode(&mut input, 256) {
                    Ok(Some(frame)) => read.push(frame),
                    Ok(None) => break,
                    Err(_) => break 'stream,
                }
            }
        }
        prop_assert!(read.len() >= bodies.len());
        for ((kind, body), frame) in (1u16..).zip(&bodies).zip(&read) {
            prop_assert_eq!(frame.kind, kind);
            prop_assert_eq!(&frame.body[..], &body[..]);
        }
        prop_assert!(input.capacity() <= 4096);
    }
}
