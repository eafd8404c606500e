//! Encoded fields of which the long ones are shared: a value of many megabytes goes into a message,
//! and from there to the sockets of all peers, without a copy.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::codec::Put;

/// Bytes at least this long are shared; shorter ones are copied together.
const SHARE_LEN_MIN: usize = 8 << 10;

/// Bytes in parts, written at the end and taken from the front.
#[derive(Clone, Debug, Default)]
pub struct Rope {
    parts: VecDeque<Bytes>,
    /// Behind the parts. Nothing is taken while it holds anything.
    tail: Vec<u8>,
    len: usize,
}

impl Rope {
    /// How many bytes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes the first `len` bytes, or all where there are fewer.
    pub fn take(&mut self, len: usize) -> Vec<Bytes> {
        self.seal();
        let mut taken = Vec::new();
        let mut missing = len.min(self.len);
        self.len -= missing;
        while missing > 0
            && let Some(first) = self.parts.front_mut()
        {
            let part = first.split_to(missing.min(first.len()));
            missing -= part.len();
            if first.is_empty() {
                self.parts.pop_front();
            }
            taken.push(part);
        }
        taken
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push_back(Bytes::from(core::mem::take(&mut self.tail)));
        }
    }
}

impl Put for Rope {
    fn put(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_LEN_MIN {
            return self.put_bytes(bytes);
        }
        self.put_u32(u32::try_from(bytes.len()).expect("fields are below 4 GiB"));
        self.seal();
        self.parts.push_back(bytes.clone());
        self.len += bytes.len();
    }
}
