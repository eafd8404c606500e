//! What reads bytes from outside, one harness each.
//!
//! A harness takes any bytes and panics if the decoder under it does what it may not: panic, hang,
//! reserve memory that the bytes do not hold, or read the same bytes in two ways. The targets of
//! cargo-fuzz in `fuzz/fuzz_targets` call them, and so do the property tests of this crate, in every
//! run of the checks. Both start from the golden bytes of the formats.

#![forbid(unsafe_code)]

mod seeds;

use bytes::{Bytes, BytesMut};
use mainstay_consensus::Message;
use mainstay_model::frame::{self, Frame};
use mainstay_model::hello::{Hello, Reject};
use mainstay_model::piece::Assembly;
use mainstay_service::Command;
use mainstay_service::native::{ClientMessage, ReplicaMessage};

/// The longest body of a frame here.
const BODY_LEN_MAX: usize = 1 << 16;

/// A decoder under a name.
pub struct Harness {
    /// The name of its target and of its corpus.
    pub name: &'static str,
    /// Panics if the decoder does with these bytes what it may not.
    pub run: fn(&[u8]),
    golden: fn() -> Vec<Vec<u8>>,
}

impl Harness {
    /// Bytes that the decoder understands.
    #[must_use]
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        (self.golden)()
    }
}

/// All of them.
pub const HARNESSES: &[Harness] = &[
    Harness { name: "frames", run: frames, golden: seeds::frames },
    Harness { name: "peers", run: peers, golden: seeds::peers },
    Harness { name: "clients", run: clients, golden: seeds::clients },
    Harness { name: "redis", run: redis, golden: seeds::redis },
    Harness { name: "disk", run: mainstay_storage::decode_any, golden: seeds::disk },
    Harness { name: "store", run: store, golden: seeds::store },
    Harness {
        name: "configuration",
        run: mainstay_cli::decode_configuration,
        golden: seeds::configuration,
    },
];

/// Runs the harness of that name.
///
/// # Panics
/// If there is none, or as the harness does.
pub fn run(name: &str, bytes: &[u8]) {
    let harness = HARNESSES.iter().find(|harness| harness.name == name);
    (harness.expect("a harness of that name").run)(bytes);
}

/// Frames of any connection, the greetings in them, and the long ones that they are pieces of. However the bytes are cut, they are read alike.
pub fn frames(bytes: &[u8]) {
    let piece_len = bytes.first().map_or(1, |&byte| usize::from(byte % 16) + 1);
    let whole = read_frames(bytes, bytes.len().max(1));
    assert_eq!(whole, read_frames(bytes, piece_len));
    let mut assembly = Assembly::default();
    for frame in whole.0 {
        if let Ok(Some(long)) = assembly.add(&frame, BODY_LEN_MAX) {
            assert!(long.body.len() <= bytes.len());
        }
        let mut again = Vec::new();
        frame::encode(&mut again, frame.kind, frame.group, frame.epoch, |body| {
            body.extend_from_slice(&frame.body);
        });
        assert_eq!(read_frames(&again, again.len()).0, vec![frame.clone()]);
        let _ = Hello::decode(frame.body.clone());
        let _ = Reject::decode(frame.body);
    }
    let _ = Hello::decode(Bytes::copy_from_slice(bytes));
    let _ = Reject::decode(Bytes::copy_from_slice(bytes));
}

/// Every frame, and what ends them.
fn read_frames(bytes: &[u8], piece_len: usize) -> (Vec<Frame>, Option<String>) {
    let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece_len) {
        buffer.extend_from_slice(piece);
        loop {
            match frame::decode(&mut buffer, BODY_LEN_MAX) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error.to_string())),
            }
        }
    }
    (frames, None)
}

/// A kind in two bytes, and the rest.
fn kind_and_body(bytes: &[u8]) -> Option<(u16, Bytes)> {
    let (kind, body) = bytes.split_first_chunk()?;
    Some((u16::from_le_bytes(*kind), Bytes::copy_from_slice(body)))
}

/// A message of ordering: its kind in two bytes, then its body. What is read encodes to the same bytes.
pub fn peers(bytes: &[u8]) {
    let Some((kind, body)) = kind_and_body(bytes) else { return };
    if let Ok(read) = Message::decode(kind, body.clone()) {
        let mut again = Vec::new();
        read.encode(&mut again);
        assert_eq!((read.kind(), again), (kind, body.to_vec()));
    }
}

/// A message of the native client protocol, likewise, from either end; and a command of a session.
pub fn clients(bytes: &[u8]) {
    let Some((kind, body)) = kind_and_body(bytes) else { return };
    if let Ok(read) = ClientMessage::decode(kind, body.clone()) {
        let mut again = Vec::new();
        read.encode(&mut again);
        assert_eq!((read.kind(), again), (kind, body.to_vec()));
    }
    if let Ok(read) = ReplicaMessage::decode(kind, body.clone()) {
        let mut again = Vec::new();
        read.encode(&mut again);
        assert_eq!((read.kind(), again), (kind, body.to_vec()));
    }
    let _ = Command::decode(body);
}

/// Requests of the Redis protocol, and the operations and replies that they become.
pub fn redis(bytes: &[u8]) {
    mainstay_kv::decode_any::requests(bytes);
    mainstay_kv::decode_any::operation(bytes);
    mainstay_kv::decode_any::reply(bytes);
}

/// A checkpoint of the store.
pub fn store(bytes: &[u8]) {
    mainstay_kv::decode_any::checkpoint(bytes);
}
