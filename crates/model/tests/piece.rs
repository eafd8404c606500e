//! Long frames in pieces: what is cut comes together again, and what does not fit is refused.

use bytes::{Bytes, BytesMut};
use mainstay_model::codec::{DecodeError, Put};
use mainstay_model::frame::{self, Frame};
use mainstay_model::piece::{Assembly, LongFrame, PIECE, PIECE_HEAD_LEN, PieceError};
use mainstay_model::{GroupId, Rope};
use proptest::prelude::*;

const BODY_MAX: usize = 1 << 20;

fn rope(parts: &[&'static [u8]]) -> Rope {
    let mut rope = Rope::default();
    parts.iter().for_each(|part| rope.put_shared(&Bytes::from_static(part)));
    rope
}

/// The bytes of every piece of a frame.
fn pieces(mut long: LongFrame, len_max: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while !long.is_empty() {
        let mut bytes = Vec::new();
        let rest = long.cut(len_max, &mut bytes);
        rest.iter().for_each(|part| bytes.extend_from_slice(part));
        all.push(bytes);
    }
    all
}

fn read(bytes: &[u8]) -> Frame {
    let mut buffer = BytesMut::from(bytes);
    let frame = frame::decode(&mut buffer, BODY_MAX).expect("intact").expect("complete");
    assert!(buffer.is_empty());
    frame
}

fn long(number: u64, body: &'static [u8]) -> LongFrame {
    LongFrame::new(number, 18, GroupId(7), 5, rope(&[body]))
}

#[test]
fn the_bytes_of_a_piece_are_those_of_version_1() {
    let all = pieces(long(3, b"body"), 6);
    let hex: Vec<String> =
        all.iter().map(|one| one.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    let golden: Vec<&str> = include_str!("golden/pieces.txt").lines().collect();
    assert_eq!(hex, golden);
}

#[test]
fn what_does_not_follow_is_refused_and_ends_what_was_begun() {
    let all: Vec<Frame> = pieces(long(3, b"0123456789"), 5).iter().map(|one| read(one)).collect();
    let other: Vec<Frame> = pieces(long(4, b"abcdefghij"), 5).iter().map(|one| read(one)).collect();
    assert_eq!(all.len(), 3);
    let gap = |offset| Err(PieceError::Gap { offset });
    let mut assembly = Assembly::default();
    assert_eq!(assembly.add(&all[1], BODY_MAX), gap(5), "nothing was begun");
    assert_eq!(assembly.add(&all[0], BODY_MAX), Ok(None));
    assert_eq!(assembly.add(&other[1], BODY_MAX), gap(5), "of another frame");
    assert_eq!(assembly.add(&all[1], BODY_MAX), gap(5), "what was begun is given up");
    let shorter = read(&pieces(long(5, b"ab"), 1)[1]);
    all[..2].iter().for_each(|piece| assert_eq!(assembly.add(piece, BODY_MAX), Ok(None)));
    assert_eq!(assembly.add(&shorter, BODY_MAX), gap(1), "of one that is shorter than what came");
    for skipped in [vec![0, 2], vec![0, 1, 1]] {
        let (last, before) = skipped.split_last().unwrap();
        before.iter().for_each(|&at| assert_eq!(assembly.add(&all[at], BODY_MAX), Ok(None)));
        assert!(matches!(assembly.add(&all[*last], BODY_MAX), Err(PieceError::Gap { .. })));
        assert!(assembly.is_empty());
    }
    assert_eq!(assembly.add(&all[0], BODY_MAX), Ok(None));
    for piece in &other[..2] {
        assert_eq!(assembly.add(piece, BODY_MAX), Ok(None), "a first piece begins anew");
    }
    let whole = assembly.add(&other[2], BODY_MAX).unwrap().expect("complete");
    assert_eq!((whole.kind, whole.group, whole.epoch), (18, GroupId(7), 5));
    assert_eq!(&whole.body[4..], b"abcdefghij");
    assert!(assembly.is_empty());
}

#[test]
fn claims_are_refused_before_anything_is_held() {
    let first = read(&pieces(long(3, b"0123456789"), 5)[0]);
    let mut assembly = Assembly::default();
    assert_eq!(assembly.add(&first, 13), Err(PieceError::Claim { kind: 18, total: 14 }));
    let nested = pieces(LongFrame::new(1, PIECE, GroupId(7), 5, rope(&[b"abc"])), 5);
    let refused = assembly.add(&read(&nested[0]), BODY_MAX);
    assert_eq!(refused, Err(PieceError::Claim { kind: PIECE, total: 7 }));
    let cut = Frame { body: first.body.slice(..PIECE_HEAD_LEN - 1), ..first.clone() };
    assert_eq!(assembly.add(&cut, 14), Err(PieceError::Decode(DecodeError::Truncated)));
    let empty = Frame { body: first.body.slice(..PIECE_HEAD_LEN), ..first };
    assert_eq!(assembly.add(&empty, 14), Err(PieceError::Gap { offset: 0 }));
    assert!(assembly.is_empty());
}

proptest! {
    #[test]
    fn what_is_cut_comes_together(
        lens in prop::collection::vec(0usize..30_000, 1..6),
        len_max in 1usize..20_000,
    ) {
        let mut rope = Rope::default();
        let mut plain = Vec::new();
        for (n, len) in lens.into_iter().enumerate() {
            let bytes = Bytes::from(vec![n as u8; len]);
            rope.put_u16(n as u16);
            rope.put_shared(&bytes);
            plain.put_u16(n as u16);
            plain.put_bytes(&bytes);
        }
        prop_assert_eq!(rope.len(), plain.len());
        let all = pieces(LongFrame::new(1, 18, GroupId(7), 5, rope), len_max);
        let (last, before) = all.split_last().unwrap();
        let mut assembly = Assembly::default();
        for piece in before {
            prop_assert_eq!(assembly.add(&read(piece), BODY_MAX), Ok(None));
        }
        let whole = assembly.add(&read(last), BODY_MAX).unwrap().expect("complete");
        prop_assert_eq!(&whole.body[..], &plain[..]);
    }

    #[test]
    fn garbage_is_no_piece_and_never_a_panic(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..5)) {
        let mut assembly = Assembly::default();
        for body in bodies {
            let frame = Frame { kind: PIECE, group: GroupId(1), epoch: 1, body: body.into() };
            let _ = assembly.add(&frame, BODY_MAX);
            prop_assert!(assembly.len() <= 60);
        }
    }
}
