//! What a slot decides: a batch of requests with the time at which its leader formed it.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::Timestamp;
use crate::codec::{DecodeError, Put, Reader};

/// Bytes in front of the requests of a batch: its time and its count.
pub const BATCH_HEAD_LEN: usize = 12;
/// Bytes in front of each request of a batch: its length.
pub const REQUEST_HEAD_LEN: usize = 4;

/// What stands for the count of a batch without requests after which a checkpoint is due.
const CHECKPOINT_DUE: u32 = u32::MAX;

/// An encoded [`Batch`] with the checksum of its bytes: encoded once, by the leader that formed it,
/// then shared. Replicas compare values by checksum and length first.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Value {
    bytes: Bytes,
    checksum: u32,
}

impl Value {
    /// Takes bytes that are, or claim to be, an encoded batch.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        let checksum = crc32fast::hash(&bytes);
        Self { bytes, checksum }
    }

    /// The value that fills a slot without asking the service for anything.
    #[must_use]
    pub fn no_op(time: Timestamp) -> Self {
        Batch { time, requests: Vec::new() }.encode()
    }

    /// A no-op after which every replica makes a checkpoint, whatever else would make one due.
    #[must_use]
    pub fn checkpoint(time: Timestamp) -> Self {
        let mut bytes = Vec::with_capacity(BATCH_HEAD_LEN);
        bytes.put_u64(time.0);
        bytes.put_u32(CHECKPOINT_DUE);
        Self::new(Bytes::from(bytes))
    }

    /// Whether a checkpoint is due after it: [`Value::checkpoint`].
    #[must_use]
    pub fn makes_checkpoint_due(&self) -> bool {
        self.bytes.len() == BATCH_HEAD_LEN && self.count() == Some(CHECKPOINT_DUE)
    }

    /// What its head says for its count; `None` where the bytes are too short.
    fn count(&self) -> Option<u32> {
        let mut reader = Reader::new(self.bytes.clone());
        let _time = reader.u64().ok()?;
        reader.u32().ok()
    }

    /// The encoded batch.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// CRC-32 of the encoded batch: equal at every replica.
    #[must_use]
    pub const fn checksum(&self) -> u32 {
        self.checksum
    }

    /// Length of the encoded batch in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no bytes at all, which no encoded batch has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The time of the batch, read from its head; the epoch where the bytes are too short.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Reader::new(self.bytes.clone()).u64().map_or(Timestamp(0), Timestamp)
    }

    /// How many requests the batch holds, read from its head; 0 where the bytes are too short.
    #[must_use]
    pub fn request_count(&self) -> usize {
        self.count().filter(|_| !self.makes_checkpoint_due()).map_or(0, |count| count as usize)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.makes_checkpoint_due() {
            write!(f, "value(checkpoint due, {} B, {:08x})", self.len(), self.checksum)
        } else {
            write!(
                f,
                "value({} requests, {} B, {:08x})",
                self.request_count(),
                self.len(),
                self.checksum
            )
        }
    }
}

/// Requests that are ordered together, opaque to everything below the service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Batch {
    /// The leader's time when it formed the batch.
    pub time: Timestamp,
    /// The requests, in order. None makes a no-op.
    pub requests: Vec<Bytes>,
}

impl Batch {
    /// Bytes: time (8), count (4), then each request with its length (4) in front. A count of 2³² - 1 with nothing
    /// behind it is that of [`Value::checkpoint`].
    #[must_use]
    pub fn encode(&self) -> Value {
        let len = BATCH_HEAD_LEN
            + self.requests.iter().map(|r| REQUEST_HEAD_LEN + r.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(len);
        bytes.put_u64(self.time.0);
        bytes.put_u32(u32::try_from(self.requests.len()).expect("a batch is bounded in count"));
        for request in &self.requests {
            bytes.put_bytes(request);
        }
        Value::new(Bytes::from(bytes))
    }

    /// Reads a batch back; its requests share the value's bytes. That of [`Value::checkpoint`] has none.
    ///
    /// # Errors
    /// Any [`DecodeError`]: the bytes are no encoded batch.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value.bytes.clone());
        let time = Timestamp(reader.u64()?);
        if value.makes_checkpoint_due() {
            return Ok(Self { time, requests: Vec::new() });
        }
        let count = reader.count(REQUEST_HEAD_LEN)?;
        let mut requests = Vec::with_capacity(count);
        for _ in 0..count {
            requests.push(reader.bytes()?);
        }
        reader.finish()?;
        Ok(Self { time, requests })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_after_which_a_checkpoint_is_due_holds_no_requests() {
        let due = Value::checkpoint(Timestamp(7));
        assert!(due.makes_checkpoint_due());
        assert_eq!((due.time(), due.request_count(), due.len()), (Timestamp(7), 0, BATCH_HEAD_LEN));
        assert_eq!(Batch::decode(&due), Ok(Batch { time: Timestamp(7), requests: Vec::new() }));
        assert!(!Value::no_op(Timestamp(7)).makes_checkpoint_due());
        let mut longer = due.bytes().to_vec();
        longer.push(0);
        let longer = Value::new(Bytes::from(longer));
        assert!(!longer.makes_checkpoint_due() && Batch::decode(&longer).is_err());
    }
}
