//! Frames, batches and fields: what is written can be read, and garbage is refused.

use bytes::{Bytes, BytesMut};
use mainstay_model::codec::{DecodeError, Put, Reader};
use mainstay_model::frame::{self, FRAME_HEAD_LEN, FrameError};
use mainstay_model::{Batch, GroupId, Prng, ReplicaSet, Timestamp, Value};
use proptest::prelude::*;

const BODY_MAX: usize = 1 << 16;

fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode(&mut out, 18, GroupId(7), 5, |out| out.put(body));
    out
}

#[test]
fn the_bytes_of_a_frame_are_those_of_version_1() {
    let hex: String = framed(b"body").iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "1800000015a4518701001200000000000700000005000000626f6479");
}

#[test]
fn a_frame_reads_back_however_it_arrives() {
    let bytes = framed(b"body");
    for cut in 0..bytes.len() {
        let mut buffer = BytesMut::from(&bytes[..cut]);
        assert_eq!(frame::decode(&mut buffer, BODY_MAX), Ok(None), "not complete at {cut}");
        assert_eq!(frame::needs(&buffer), if cut < 4 { 0 } else { bytes.len() }, "at {cut}");
        buffer.extend_from_slice(&bytes[cut..]);
        let frame = frame::decode(&mut buffer, BODY_MAX).expect("intact").expect("complete");
        assert_eq!((frame.kind, frame.group, frame.epoch), (18, GroupId(7), 5));
        assert_eq!(&frame.body[..], b"body");
        assert!(buffer.is_empty());
    }
}

#[test]
fn each_kind_of_damage_has_its_name() {
    let decode = |bytes: &[u8]| frame::decode(&mut BytesMut::from(bytes), BODY_MAX);
    let change = |at: usize, byte: u8| {
        let mut bytes = framed(b"body");
        bytes[at] = byte;
        bytes
    };
    assert!(matches!(decode(&change(0, 3)), Err(FrameError::Length { len: 3, .. })));
    assert!(matches!(decode(&[0xff; 8]), Err(FrameError::Length { .. })), "seen from 4 bytes on");
    assert_eq!(decode(&change(FRAME_HEAD_LEN, 0)), Err(FrameError::Checksum));
    let resealed = |at: usize, byte: u8| {
        let mut bytes = change(at, byte);
        let checksum = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        bytes
    };
    assert_eq!(decode(&resealed(8, 2)), Err(FrameError::Version(2)));
    assert_eq!(decode(&resealed(12, 1)), Err(FrameError::Flags(1)));
}

#[test]
fn a_body_above_the_limit_is_refused_before_it_arrives() {
    let bytes = framed(&[0; 100]);
    let mut buffer = BytesMut::from(&bytes[..4]);
    assert!(matches!(frame::decode(&mut buffer, 99), Err(FrameError::Length { .. })));
    assert_eq!(frame::decode(&mut buffer, 100), Ok(None));
}

#[test]
fn a_no_op_is_an_empty_batch() {
    let value = Value::no_op(Timestamp(9));
    assert_eq!((value.time(), value.request_count()), (Timestamp(9), 0));
    assert_eq!(Batch::decode(&value), Ok(Batch { time: Timestamp(9), requests: Vec::new() }));
}

#[test]
fn a_count_that_the_bytes_cannot_hold_reserves_nothing() {
    let mut bytes = Vec::new();
    bytes.put_u64(1);
    bytes.put_u32(u32::MAX - 1);
    assert_eq!(Batch::decode(&Value::new(Bytes::from(bytes))), Err(DecodeError::Truncated));
}

#[test]
fn the_generator_draws_what_its_paper_says() {
    // The first numbers of SplitMix64 from seed 1234567, as its reference implementation has them.
    let mut prng = Prng::new(1_234_567);
    let drawn: Vec<u64> = (0..3).map(|_| prng.next_u64()).collect();
    let known = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
    assert_eq!(drawn, known);
}

proptest! {
    #[test]
    fn a_batch_reads_back(
        time in any::<u64>(),
        requests in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
    ) {
        let requests = requests.into_iter().map(Bytes::from).collect();
        let batch = Batch { time: Timestamp(time), requests };
        let value = batch.encode();
        prop_assert_eq!(value.request_count(), batch.requests.len());
        prop_assert_eq!(Batch::decode(&value), Ok(batch));
    }

    #[test]
    fn garbage_is_no_frame_and_no_batch_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = frame::decode(&mut BytesMut::from(&bytes[..]), BODY_MAX);
        let value = Value::new(Bytes::from(bytes.clone()));
        if let Ok(batch) = Batch::decode(&value) {
            let again = batch.encode();
            prop_assert_eq!(&again.bytes()[..], &bytes[..]);
        }
        let mut reader = Reader::new(Bytes::from(bytes));
        let _ = (reader.ballot(), reader.bytes(), reader.flag("flag"), reader.count(4));
    }

    #[test]
    fn a_set_of_replicas_is_a_set(indices in prop::collection::vec(0u16..64, 0..100)) {
        let twin: std::collections::BTreeSet<u16> = indices.iter().copied().collect();
        let mut set: ReplicaSet = indices.iter().copied().collect();
        prop_assert_eq!(set.len(), twin.len());
        prop_assert!(set.iter().eq(twin.iter().copied()));
        for index in indices {
            prop_assert!(set.contains(index) == set.remove(index));
        }
        prop_assert!(set.is_empty());
    }

    #[test]
    fn numbers_stay_below_their_bound(seed in any::<u64>(), bound in 1u64..1000) {
        let mut prng = Prng::new(seed);
        for _ in 0..100 {
            prop_assert!(prng.below(bound) < bound);
        }
    }
}
