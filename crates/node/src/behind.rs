//! What came before it can be understood: of a long request whose rest is not there, or of many whose turn has
//! not come.

use std::collections::VecDeque;

use bytes::BytesMut;

/// All pieces have this length, so that what one request gives back another can take: buffers that grow
/// leave behind as much again of outgrown ones, which fit nobody.
pub(crate) const PIECE_LEN: usize = 64 << 10;

/// Bytes in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    pieces: VecDeque<Vec<u8>>,
    len: usize,
}

impl Behind {
    /// How many bytes there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that they take.
    pub(crate) fn held(&self) -> usize {
        self.pieces.len() * PIECE_LEN
    }

    /// Adds bytes.
    pub(crate) fn put(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len();
        while !bytes.is_empty() {
            if self.pieces.back().is_none_or(|last| last.len() == PIECE_LEN) {
                self.pieces.push_back(Vec::with_capacity(PIECE_LEN));
            }
            let Some(last) = self.pieces.back_mut() else { return };
            let (now, rest) = bytes.split_at(bytes.len().min(PIECE_LEN - last.len()));
            last.extend_from_slice(now);
            bytes = rest;
        }
    }

    /// Moves the first piece to the end of `to`, and as many more as make `to` hold `len` bytes.
    pub(crate) fn move_to(&mut self, to: &mut BytesMut, len: usize) {
        while let Some(piece) = self.pieces.pop_front() {
            self.len -= piece.len();
            to.extend_from_slice(&piece);
            if to.len() >= len {
                return;
            }
        }
    }

    /// Throws them away.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_put_comes_out_in_order_and_takes_little_more(
            lens in proptest::collection::vec(0usize..200_000, 0..12),
            step in 0usize..300_000,
        ) {
            let (mut behind, mut expected) = (Behind::default(), Vec::new());
            for (n, len) in lens.into_iter().enumerate() {
                let bytes = vec![n as u8; len];
                behind.put(&bytes);
                expected.extend_from_slice(&bytes);
                prop_assert_eq!(behind.len(), expected.len());
                prop_assert!(behind.held() < expected.len() + PIECE_LEN);
            }
            let mut whole = BytesMut::new();
            while behind.len() > 0 {
                let (before, left) = (whole.len(), behind.len());
                behind.move_to(&mut whole, before + step);
                let moved = whole.len() - before;
                prop_assert!(moved > 0 && moved < step + PIECE_LEN && moved >= step.min(left));
                prop_assert!(behind.held() < behind.len() + PIECE_LEN);
            }
            prop_assert_eq!(&whole[..], &expected[..]);
            prop_assert_eq!(behind.held(), 0);
        }
    }
}
