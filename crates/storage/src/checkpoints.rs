//! Checkpoints in the folder of a replica: written while the log goes on, handed out in chunks,
//! received in chunks.
//!
//! What a checkpoint says is for its service; here it is bytes. Files, life cycle and failure cases
//! stand in docs/protocols/checkpoints.md.

mod content;
mod decode;
mod error;
mod folder;
mod incoming;
mod layout;
mod unusable;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mainstay_model::{CheckpointId, ClusterId, GroupId, Slot};

use crate::disk::Disk;
pub use content::Content;
pub(crate) use decode::decode_any;
pub use error::CheckpointError;
use folder::{Folder, failed};
pub use incoming::{Incoming, Partial};
use layout::{Head, file_name, incoming_name};
pub use writer::CheckpointWriter;

/// After how many bytes a file that is written or fetched is synced. Every piece of it is on its way to
/// the disk as soon as it is written, so that little is left to do then, even on a slow disk; a sync
/// of every piece would make those of the log, on the same disk, wait for their turn far more often.
const SYNC_BYTES: u64 = 32 << 20;

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

    fn head(&self, id: CheckpointId, total: u64, block_bytes: u32, chunk_bytes: u32) -> Head {
        let Self { cluster, group, service_version, .. } = *self;
        Head { cluster, group, service_version, id, total, block_bytes, chunk_bytes }
    }
}

/// The checkpoints of one group. Clones are handles on the same ones, for other threads.
#[derive(Debug)]
pub struct Checkpoints<D: Disk> {
    folder: Arc<Mutex<Folder<D>>>,
}

/// Which life of the replica's state something comes from: another one begins when the state turns
/// out wrong, and when that of a fetched checkpoint takes its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life(u64);

impl Life {
    fn begin_next(&mut self) -> Self {
        self.0 += 1;
        *self
    }
}

/// Keeps a checkpoint while it lives.
#[derive(Debug)]
pub struct Hold<D: Disk> {
    checkpoints: Checkpoints<D>,
    id: CheckpointId,
}

impl<D: Disk> Clone for Checkpoints<D> {
    fn clone(&self) -> Self {
        Self { folder: Arc::clone(&self.folder) }
    }
}

impl<D: Disk> Checkpoints<D> {
    /// The smallest chunk of a transfer; every size is a multiple of it.
    pub const CHUNK_BYTES_MIN: u32 = 512;
    /// The largest chunk of a transfer.
    pub const CHUNK_BYTES_MAX: u32 = 16 << 20;

    /// Opens what is held, once a process, before anything is written: deletes files that were not
    /// finished, other than the newest one that was being fetched. Returns as well why others are
    /// not used: damaged, foreign, of another version. Those of other groups are left alone.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn open(
        disk: D,
        options: CheckpointOptions,
    ) -> Result<(Self, Vec<CheckpointError>), CheckpointError> {
        let mut folder = Folder {
            disk,
            options,
            held: BTreeMap::new(),
            damaged: Vec::new(),
            gone: Vec::new(),
            unusable: Vec::new(),
            distrust_after: None,
            life: Life::default(),
            holds: BTreeMap::new(),
            partial: None,
            stable: None,
            is_writing: false,
            is_fetching: false,
        };
        let reports = folder.read_names()?;
        folder.distrust()?;
        Ok((Self { folder: Arc::new(Mutex::new(folder)) }, reports))
    }

    fn lock(&self) -> MutexGuard<'_, Folder<D>> {
        self.folder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn options(&self) -> CheckpointOptions {
        self.lock().options
    }

    /// The newest durable checkpoint.
    #[must_use]
    pub fn latest(&self) -> Option<CheckpointId> {
        self.lock().held.keys().next_back().copied()
    }

    /// The newest checkpoint that [`Checkpoints::note_stable`] was told of, now or by an earlier process,
    /// still held or not.
    #[must_use]
    pub fn stable(&self) -> Option<CheckpointId> {
        self.lock().stable
    }

    /// Makes durable that a quorum held `id`. To be called before the log gives up anything that it
    /// covers: after a restart this replica may be the only one left that knows it, and can give it to
    /// others; so it stays until a later one is noted. Cheap for one that is not later than the last.
    ///
    /// # Errors
    /// [`CheckpointError::Gone`] if it is not held, as where it made way; others see [`CheckpointError`].
    pub fn note_stable(&self, id: CheckpointId) -> Result<(), CheckpointError> {
        self.lock().note_stable(id)
    }

    /// All durable checkpoints, oldest first: the two newest, the newest one noted as stable, and
    /// those on hold.
    #[must_use]
    pub fn held(&self) -> Vec<CheckpointId> {
        self.lock().held.keys().copied().collect()
    }

    /// Bytes of the content of a checkpoint that is held.
    #[must_use]
    pub fn content_len(&self, id: CheckpointId) -> Option<u64> {
        self.lock().held.get(&id).map(|head| head.total)
    }

    /// Begins to write the checkpoint after `slot`, of the state of this life.
    ///
    /// # Errors
    /// [`CheckpointError::Busy`] while another is being written; others see [`CheckpointError`].
    pub fn writer(&self, slot: Slot, life: Life) -> Result<CheckpointWriter<D>, CheckpointError> {
        if std::mem::replace(&mut self.lock().is_writing, true) {
            return Err(CheckpointError::Busy("written"));
        }
        let writer = CheckpointWriter::begin(self.clone(), slot, life);
        if writer.is_err() {
            self.lock().is_writing = false;
        }
        writer
    }

    /// Reads the content of a checkpoint from front to back; every block is checked.
    ///
    /// # Errors
    /// See [`CheckpointError`]; when reading, `InvalidData` with a [`CheckpointError::Damaged`] inside.
    pub fn open_content(&self, id: CheckpointId) -> Result<Content<D>, CheckpointError> {
        let (file, head) = self.open_held(id)?;
        Ok(Content::new(file, file_name(id), head))
    }

    /// Chunk `index`, from 0, of the content cut into pieces of `chunk_bytes`; with it, how many bytes
    /// the whole content has. Chunk 0 of an empty content is empty.
    ///
    /// # Errors
    /// [`CheckpointError::Gone`] if it is not held, [`CheckpointError::BadChunk`] if there is no such
    /// chunk; others as for reading.
    pub fn read_chunk(
        &self,
        id: CheckpointId,
        index: u64,
        chunk_bytes: u32,
    ) -> Result<(u64, Bytes), CheckpointError> {
        let (file, head) = self.open_held(id)?;
        let start = index
            .checked_mul(u64::from(chunk_bytes))
            .filter(|_| (Self::CHUNK_BYTES_MIN..=Self::CHUNK_BYTES_MAX).contains(&chunk_bytes));
        let bad = |found| CheckpointError::BadChunk { id, index, found };
        let start = start.ok_or_else(|| bad("no chunks have such a size"))?;
        if start >= head.total && index > 0 {
            return Err(bad("it has no such chunk"));
        }
        let end = head.total.min(start + u64::from(chunk_bytes));
        let block_bytes = u64::from(head.block_bytes);
        let first = start / block_bytes;
        let mut content = Vec::new();
        let blocks = first..end.div_ceil(block_bytes);
        head.read_blocks(&file, &file_name(id), blocks, &mut content)?;
        let before = first * block_bytes;
        let range = (start - before) as usize..(end - before) as usize;
        Ok((head.total, Bytes::from(content).slice(range)))
    }

    /// Keeps a checkpoint, as long as the hold lives, although newer ones come; `None` if it is not
    /// held.
    #[must_use]
    pub fn hold(&self, id: CheckpointId) -> Option<Hold<D>> {
        let mut folder = self.lock();
        folder.held.contains_key(&id).then(|| {
            *folder.holds.entry(id).or_default() += 1;
            Hold { checkpoints: self.clone(), id }
        })
    }

    /// A checkpoint turned out to be damaged: it is not held any more. Its file goes once there is a
    /// later one.
    pub fn note_damaged(&self, id: CheckpointId) {
        let mut folder = self.lock();
        if folder.held.remove(&id).is_some() {
            folder.damaged.push(id);
            folder.gone.push(id);
        }
    }

    /// The checkpoints that stopped being held since this was asked last: they made way for others, or turned out
    /// damaged. To be asked after each change by whoever tells others what is held.
    #[must_use]
    pub fn take_gone(&self) -> Vec<CheckpointId> {
        let mut folder = self.lock();
        let mut gone = std::mem::take(&mut folder.gone);
        gone.retain(|id| !folder.held.contains_key(id));
        gone
    }

    /// Removes older checkpoints that were on hold, and no longer are. Making a new one does so, too.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn tidy(&self) -> Result<(), CheckpointError> {
        self.lock().tidy(None)
    }

    /// What an earlier transfer left. Reads all of it, to check every chunk.
    #[must_use]
    pub fn partial(&self) -> Option<Partial> {
        Some(self.resume()?.partial())
    }

    /// Goes on with what an earlier transfer left, if it left anything. Reads all of it, to check every
    /// chunk.
    #[must_use]
    pub fn resume(&self) -> Option<Incoming<D>> {
        let head = self.lock().partial?;
        if !self.begin_fetching() {
            return None;
        }
        let resumed = self.resume_at(head);
        if resumed.is_err() {
            self.fetching_ended(None);
        }
        resumed.ok()
    }

    /// Begins to fetch a checkpoint of `total` bytes in chunks of `chunk_bytes`, or goes on with what
    /// [`Checkpoints::partial`] names if all of that is the same; any other partial one goes. Room for
    /// all of it is reserved.
    ///
    /// # Errors
    /// [`CheckpointError::Busy`], [`CheckpointError::TooLarge`], [`CheckpointError::BadChunk`] for a
    /// size of chunks that cannot be, and others.
    pub fn incoming(
        &self,
        id: CheckpointId,
        total: u64,
        chunk_bytes: u32,
    ) -> Result<Incoming<D>, CheckpointError> {
        let max = self.options().content_max;
        if total > max {
            return Err(CheckpointError::TooLarge { id, total, max });
        }
        if !chunk_bytes.is_multiple_of(Self::CHUNK_BYTES_MIN)
            || !(Self::CHUNK_BYTES_MIN..=Self::CHUNK_BYTES_MAX).contains(&chunk_bytes)
        {
            let found = "no chunks have such a size";
            return Err(CheckpointError::BadChunk { id, index: 0, found });
        }
        if !self.begin_fetching() {
            return Err(CheckpointError::Busy("fetched"));
        }
        let incoming = self.begin_incoming(id, total, chunk_bytes);
        if incoming.is_err() {
            self.fetching_ended(None);
        }
        incoming
    }

    fn begin_incoming(
        &self,
        id: CheckpointId,
        total: u64,
        chunk_bytes: u32,
    ) -> Result<Incoming<D>, CheckpointError> {
        let left = self.lock().partial.take();
        match left {
            Some(head) if (head.id, head.total, head.chunk_bytes) == (id, total, chunk_bytes) => {
                return self.resume_at(head);
            }
            Some(head) => self.remove_file(&incoming_name(head.id))?,
            None => {}
        }
        Incoming::begin(self.clone(), id, total, chunk_bytes)
    }

    fn resume_at(&self, head: Head) -> Result<Incoming<D>, CheckpointError> {
        let file = self.open_file(&incoming_name(head.id))?;
        Ok(Incoming::resume(self.clone(), file, head))
    }

    fn begin_fetching(&self) -> bool {
        !std::mem::replace(&mut self.lock().is_fetching, true)
    }
}

/// What writing, reading and fetching do to the folder.
impl<D: Disk> Checkpoints<D> {
    /// Makes a file, in place of one that an earlier attempt left.
    fn create(&self, name: &str) -> Result<D::File, CheckpointError> {
        let folder = self.lock();
        let file = match folder.disk.create(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                folder.disk.remove(name).and_then(|()| folder.disk.create(name))
            }
            result => result,
        };
        file.map_err(|source| failed(name, "make", source))
    }

    fn open_file(&self, name: &str) -> Result<D::File, CheckpointError> {
        self.lock().disk.open(name).map_err(|source| failed(name, "open", source))
    }

    fn open_held(&self, id: CheckpointId) -> Result<(D::File, Head), CheckpointError> {
        let folder = self.lock();
        let head = *folder.held.get(&id).ok_or(CheckpointError::Gone(id))?;
        let name = file_name(id);
        let file = folder.disk.open(&name).map_err(|source| failed(&name, "open", source))?;
        Ok((file, head))
    }

    /// Removes a file that is no checkpoint yet.
    fn remove_file(&self, name: &str) -> Result<(), CheckpointError> {
        let folder = self.lock();
        folder.disk.remove(name).map_err(|source| failed(name, "remove", source))?;
        folder.sync()
    }

    fn sync_folder(&self) -> Result<(), CheckpointError> {
        self.lock().sync()
    }

    /// Gives up a checkpoint where there is no room for the next one: the oldest but the one noted as
    /// stable, or, where there is none such, but the newest. False if there is none, or it is on hold.
    fn make_way(&self) -> Result<bool, CheckpointError> {
        let mut folder = self.lock();
        let newest = folder.held.keys().next_back().copied();
        let stays = folder.stable.filter(|stable| folder.held.contains_key(stable)).or(newest);
        let older = folder.held.keys().find(|id| Some(**id) != stays).copied();
        let Some(older) = older.filter(|older| !folder.holds.contains_key(older)) else {
            return Ok(false);
        };
        folder.remove(&[older])?;
        Ok(true)
    }

    /// Puts one of this replica's own in place, unless another state has taken the place of the one
    /// that it is of.
    fn put_in_place(&self, from: &str, head: Head, life: Life) -> Result<(), CheckpointError> {
        let mut folder = self.lock();
        if life != folder.life {
            return Err(CheckpointError::Overtaken(head.id));
        }
        folder.put_in_place(from, head)
    }

    /// Nothing is being written any more; `temporary` is not wanted, if it is still there.
    fn writing_ended(&self, temporary: &str) {
        let mut folder = self.lock();
        folder.is_writing = false;
        if !temporary.is_empty() {
            // What cannot be removed now goes at the next start.
            let _ = folder.disk.remove(temporary);
        }
    }

    /// Nothing is being fetched any more; `left` can be gone on with.
    fn fetching_ended(&self, left: Option<Head>) {
        let mut folder = self.lock();
        folder.is_fetching = false;
        folder.partial = left;
    }
}

impl<D: Disk> Hold<D> {
    /// What is kept.
    #[must_use]
    pub fn id(&self) -> CheckpointId {
        self.id
    }
}

impl<D: Disk> Drop for Hold<D> {
    fn drop(&mut self) {
        let mut folder = self.checkpoints.lock();
        if let Some(count) = folder.holds.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                folder.holds.remove(&self.id);
            }
        }
    }
}
