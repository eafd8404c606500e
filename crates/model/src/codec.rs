//! Fixed-width little-endian fields, written to a growing buffer and read back with every length
//! checked. The encodings of log, wire and checkpoint are all built from these.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::{Ballot, Epoch, ReplicaId, SessionId, Slot};

/// Why bytes could not be read as what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end before the field does.
    Truncated,
    /// Bytes are left over after the last field.
    TrailingBytes,
    /// A length or count is above what its field allows.
    TooLarge,
    /// A field holds a value that is not one of those defined; the field is named.
    BadValue(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the bytes end in the middle of a field"),
            Self::TrailingBytes => f.write_str("bytes are left over after the last field"),
            Self::TooLarge => f.write_str("a length is above its limit"),
            Self::BadValue(field) => write!(f, "the field '{field}' holds an undefined value"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Appends fields to a buffer.
pub trait Put {
    /// Appends raw bytes, without a length.
    fn put(&mut self, bytes: &[u8]);

    /// One byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }
    /// Two bytes, little endian.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }
    /// Four bytes, little endian.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }
    /// Eight bytes, little endian.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }
    /// Sixteen bytes, little endian.
    fn put_u128(&mut self, value: u128) {
        self.put(&value.to_le_bytes());
    }
    /// A length in four bytes, then the bytes. Panics above 4 GiB, which no limit allows.
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_u32(u32::try_from(bytes.len()).expect("fields are below 4 GiB"));
        self.put(bytes);
    }
    /// As [`Put::put_bytes`]; a buffer that can, shares long bytes instead of copying them.
    fn put_shared(&mut self, bytes: &Bytes) {
        self.put_bytes(bytes);
    }
    /// A slot, 8 bytes.
    fn put_slot(&mut self, slot: Slot) {
        self.put_u64(slot.0);
    }
    /// A replica, 12 bytes: index (in four), epoch counter, epoch instance.
    fn put_replica(&mut self, replica: ReplicaId) {
        self.put_u32(u32::from(replica.index));
        self.put_u32(replica.epoch.counter);
        self.put_u32(replica.epoch.instance);
    }
    /// A ballot, 20 bytes: round, leader.
    fn put_ballot(&mut self, ballot: Ballot) {
        self.put_u64(ballot.round);
        self.put_replica(ballot.leader);
    }
    /// A session, 12 bytes: slot, position.
    fn put_session(&mut self, session: SessionId) {
        self.put_slot(session.slot);
        self.put_u32(session.position);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Reads fields from the front of a reference-counted buffer: byte fields are slices of it, not
/// copies.
#[derive(Clone, Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Reads from `bytes`.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Fails unless everything has been read.
    ///
    /// # Errors
    /// [`DecodeError::TrailingBytes`].
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }

    /// The next `len` bytes, shared with the buffer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] where there are fewer.
    pub fn take(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        if len > self.rest.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(self.rest.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&bytes);
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], as for every reader below.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }
    /// Two bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }
    /// Four bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }
    /// Eight bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
    /// Sixteen bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn u128(&mut self) -> Result<u128, DecodeError> {
        Ok(u128::from_le_bytes(self.array()?))
    }
    /// A length in four bytes, then that many bytes.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.u32()? as usize;
        self.take(len)
    }
    /// A count in four bytes of items that take at least `item_len_min` bytes each: a count that
    /// the bytes left cannot hold is refused before anything is reserved for it.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn count(&mut self, item_len_min: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count.saturating_mul(item_len_min.max(1)) > self.rest.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(count)
    }
    /// A flag: 0 or 1.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::BadValue`].
    pub fn flag(&mut self, name: &'static str) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::BadValue(name)),
        }
    }
    /// A slot.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn slot(&mut self) -> Result<Slot, DecodeError> {
        Ok(Slot(self.u64()?))
    }
    /// A replica.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::BadValue`] for an index that no configuration
    /// can hold.
    pub fn replica(&mut self) -> Result<ReplicaId, DecodeError> {
        let index = self.u32()?;
        if index as usize >= crate::quorum::REPLICAS_MAX {
            return Err(DecodeError::BadValue("replica index"));
        }
        let epoch = Epoch { counter: self.u32()?, instance: self.u32()? };
        Ok(ReplicaId { index: index as u16, epoch })
    }
    /// A ballot.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], [`DecodeError::BadValue`].
    pub fn ballot(&mut self) -> Result<Ballot, DecodeError> {
        Ok(Ballot { round: self.u64()?, leader: self.replica()? })
    }
    /// A session.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`].
    pub fn session(&mut self) -> Result<SessionId, DecodeError> {
        Ok(SessionId { slot: self.slot()?, position: self.u32()? })
    }
}
