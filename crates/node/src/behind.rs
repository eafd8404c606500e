//! What came of a long request before the rest of it is there.

use bytes::BytesMut;

/// All pieces have this length, so that what one request gives back another can take: buffers that grow
/// leave behind as much again of outgrown ones, which fit nobody.
const PIECE_LEN: usize = 64 << 10;

/// Bytes in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    pieces: Vec<Vec<u8>>,
    len: usize,
}

impl Behind {
    /// How many bytes there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that they take.
    pub(crate) const fn held(&self) -> usize {
        self.pieces.len() * PIECE_LEN
    }

    /// Adds bytes.
    pub(crate) fn put(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len();
        while !bytes.is_empty() {
            if self.pieces.last().is_none_or(|last| last.len() == PIECE_LEN) {
                self.pieces.push(Vec::with_capacity(PIECE_LEN));
            }
            let Some(last) = self.pieces.last_mut() else { return };
            let (now, rest) = bytes.split_at(bytes.len().min(PIECE_LEN - last.len()));
            last.extend_from_slice(now);
            bytes = rest;
        }
    }

    /// Moves all of them to the end of `to`.
    pub(crate) fn move_to(&mut self, to: &mut BytesMut) {
        self.len = 0;
        self.pieces.drain(..).for_each(|piece| to.extend_from_slice(&piece));
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
            behind.move_to(&mut whole);
            prop_assert_eq!(&whole[..], &expected[..]);
            prop_assert_eq!((behind.len(), behind.held()), (0, 0));
        }
    }
}
