//! Checkpoints in the folder of a replica: written while the log goes on, handed out in chunks,
//! received in chunks.
//!
//! What a checkpoint says is for its service; here it is bytes. Files, life cycle and failure cases
//! stand in docs/protocols/checkpoints.md.

mod error;

use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::num::NonZeroU64;

use bytes::Bytes;
use mainstay_model::{CheckpointId, ClusterId, GroupId, Slot};

use crate::disk::Disk;
pub use error::CheckpointError;

/// How the checkpoints of a group are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// The cluster they belong to.
    pub cluster: ClusterId,
    /// The group they belong to.
    pub group: GroupId,
    /// The version of the service's state; others are not read.
    pub service_version: u32,
    /// The most bytes a second that are written of a checkpoint; `None` for as fast as the disk goes.
    pub write_rate: Option<NonZeroU64>,
    /// The most bytes of a checkpoint that is fetched.
    pub content_max: u64,
}

impl CheckpointOptions {
    /// The default of [`CheckpointOptions::content_max`]: 1 TiB.
    pub const CONTENT_MAX: u64 = 1 << 40;

    /// The options of a group, all others at their defaults.
    #[must_use]
    pub const fn new(cluster: ClusterId, group: GroupId, service_version: u32) -> Self {
        let content_max = Self::CONTENT_MAX;
        Self { cluster, group, service_version, write_rate: None, content_max }
    }
}

/// The checkpoints of one group. Clones are handles on the same ones, for other threads.
#[derive(Debug)]
pub struct Checkpoints<D: Disk>(PhantomData<D>);

impl<D: Disk> Clone for Checkpoints<D> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

/// A checkpoint that was fetched in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partial {
    /// Which one.
    pub id: CheckpointId,
    /// Bytes of the whole content.
    pub total: u64,
    /// Bytes of a chunk.
    pub chunk_bytes: u32,
    /// How many chunks are complete.
    pub complete: u64,
}

impl<D: Disk> Checkpoints<D> {
    /// The smallest chunk of a transfer; every size is a multiple of it.
    pub const CHUNK_BYTES_MIN: u32 = 512;
    /// The largest chunk of a transfer.
    pub const CHUNK_BYTES_MAX: u32 = 16 << 20;

    /// Opens what is held: deletes files that were not finished, other than what was fetched.
    /// Returns as well why others are not used: damaged, foreign, of another version.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn open(
        _disk: D,
        _options: CheckpointOptions,
    ) -> Result<(Self, Vec<CheckpointError>), CheckpointError> {
        unimplemented!("signature only")
    }

    /// The newest durable checkpoint.
    #[must_use]
    pub fn latest(&self) -> Option<CheckpointId> {
        unimplemented!("signature only")
    }

    /// All durable checkpoints, oldest first: the two newest, and those on hold.
    #[must_use]
    pub fn held(&self) -> Vec<CheckpointId> {
        unimplemented!("signature only")
    }

    /// Bytes of the content of a checkpoint that is held.
    #[must_use]
    pub fn content_len(&self, _id: CheckpointId) -> Option<u64> {
        unimplemented!("signature only")
    }

    /// Begins to write the checkpoint after `slot`. One at a time; what is not finished goes.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn writer(&self, _slot: Slot) -> Result<CheckpointWriter<D>, CheckpointError> {
        unimplemented!("signature only")
    }

    /// Reads the content of a checkpoint from front to back; every block is checked.
    ///
    /// # Errors
    /// See [`CheckpointError`]; when reading, `InvalidData` with a [`CheckpointError::Damaged`].
    pub fn open_content(&self, _id: CheckpointId) -> Result<Content<D>, CheckpointError> {
        unimplemented!("signature only")
    }

    /// Chunk `index`, from 0, of the content cut into pieces of `chunk_bytes`; with it, how many bytes
    /// the whole content has.
    ///
    /// # Errors
    /// [`CheckpointError::Gone`] if it is not held, [`CheckpointError::BadChunk`] if there is no such
    /// chunk; others as for reading.
    pub fn read_chunk(
        &self,
        _id: CheckpointId,
        _index: u64,
        _chunk_bytes: u32,
    ) -> Result<(u64, Bytes), CheckpointError> {
        unimplemented!("signature only")
    }

    /// Keeps a checkpoint, as long as the hold lives, although newer ones come; `None` if it is not
    /// held.
    #[must_use]
    pub fn hold(&self, _id: CheckpointId) -> Option<Hold<D>> {
        unimplemented!("signature only")
    }

    /// Removes a checkpoint for good: its digest was contradicted by a quorum, or it is damaged.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn remove(&self, _id: CheckpointId) -> Result<(), CheckpointError> {
        unimplemented!("signature only")
    }

    /// What an earlier transfer left, every chunk of it checked again.
    #[must_use]
    pub fn partial(&self) -> Option<Partial> {
        unimplemented!("signature only")
    }

    /// Begins to fetch a checkpoint of `total` bytes in chunks of `chunk_bytes`, or goes on with what
    /// [`Checkpoints::partial`] names if all of that is the same; any other partial one goes.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn incoming(
        &self,
        _id: CheckpointId,
        _total: u64,
        _chunk_bytes: u32,
    ) -> Result<Incoming<D>, CheckpointError> {
        unimplemented!("signature only")
    }
}

/// Keeps a checkpoint while it lives.
#[derive(Debug)]
pub struct Hold<D: Disk>(PhantomData<D>);

/// A checkpoint being written. Dropped without [`CheckpointWriter::finish`] it leaves nothing.
#[derive(Debug)]
pub struct CheckpointWriter<D: Disk>(PhantomData<D>);

impl<D: Disk> Write for CheckpointWriter<D> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        unimplemented!("signature only")
    }
    fn flush(&mut self) -> io::Result<()> {
        unimplemented!("signature only")
    }
}

impl<D: Disk> CheckpointWriter<D> {
    /// Makes the checkpoint durable under its name; only then the third newest goes.
    ///
    /// # Errors
    /// See [`CheckpointError`]; the unfinished file is removed.
    pub fn finish(self, _digest: u64) -> Result<CheckpointId, CheckpointError> {
        unimplemented!("signature only")
    }
}

/// The content of a checkpoint, front to back.
#[derive(Debug)]
pub struct Content<D: Disk>(PhantomData<D>);

impl<D: Disk> Read for Content<D> {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        unimplemented!("signature only")
    }
}

/// A checkpoint being fetched. It survives a crash; chunks come in any order.
#[derive(Debug)]
pub struct Incoming<D: Disk>(PhantomData<D>);

impl<D: Disk> Incoming<D> {
    /// Which one it is, and how much is there.
    #[must_use]
    pub fn partial(&self) -> Partial {
        unimplemented!("signature only")
    }

    /// How many chunks the whole has.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        unimplemented!("signature only")
    }

    /// The first chunk from `from` on that is missing.
    #[must_use]
    pub fn next_missing(&self, _from: u64) -> Option<u64> {
        unimplemented!("signature only")
    }

    /// Writes a chunk; one that is there already is ignored. Synced every so many bytes.
    ///
    /// # Errors
    /// [`CheckpointError::BadChunk`] for an index or a length that cannot be; others are final for
    /// this transfer.
    pub fn append_chunk(&mut self, _index: u64, _bytes: &[u8]) -> Result<(), CheckpointError> {
        unimplemented!("signature only")
    }

    /// Reads what was fetched, once complete, to restore and check it before it is installed.
    ///
    /// # Errors
    /// [`CheckpointError::Incomplete`]; others as for [`Checkpoints::open_content`].
    pub fn open_content(&self) -> Result<Content<D>, CheckpointError> {
        unimplemented!("signature only")
    }

    /// Makes it one of the held checkpoints, durably; it replaces another of the same slot.
    ///
    /// # Errors
    /// [`CheckpointError::Incomplete`], and others.
    pub fn install(self) -> Result<CheckpointId, CheckpointError> {
        unimplemented!("signature only")
    }

    /// Gives the transfer up and removes what was fetched.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn abandon(self) -> Result<(), CheckpointError> {
        unimplemented!("signature only")
    }
}
