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
        let mut reader = Reader::new(self.bytes.clone());
        match (reader.u64(), reader.u32()) {
            (Ok(_), Ok(count)) => count as usize,
            _ => 0,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "value({} requests, {} B, {:08x})",
            self.request_count(),
            self.len(),
            self.checksum
        )
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
    /// Bytes: time (8), count (4), then each request with its length (4) in front.
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

    /// Reads a batch back; its requests share the value's bytes.
    ///
    /// # Errors
    /// Any [`DecodeError`]: the bytes are no encoded batch.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value.bytes.clone());
        let time = Timestamp(reader.u64()?);
        let count = reader.count(REQUEST_HEAD_LEN)?;
        let mut requests = Vec::with_capacity(count);
        for _ in 0..count {
            requests.push(reader.bytes()?);
        }
        reader.finish()?;
        Ok(Self { time, requests })
    }
}
