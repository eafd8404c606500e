//! Checkpoints in the folder of a replica: written while the log goes on, handed out in chunks,
//! received in chunks.
//!
//! What a checkpoint says is for its service; here it is bytes. Files, life cycle and failure cases
//! stand in docs/protocols/checkpoints.md.

mod content;
mod decode;
mod error;
mod incoming;
mod layout;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use mainstay_model::{CheckpointId, ClusterId, GroupId, Slot};

use crate::disk::{Disk, DiskFile};
use crate::error::is_no_room;
pub use content::Content;
pub(crate) use decode::decode_any;
pub use error::CheckpointError;
pub use incoming::{Incoming, Partial};
use layout::{
    Fault, Head, file_name, id_of, incoming_id_of, incoming_name, is_temporary, stable_id_of,
    stable_name,
};
pub use writer::CheckpointWriter;

/// After how many bytes a file that is written or fetched is synced. Every piece of it is on its way to
/// the disk as soon as it is written, so that little is left to do then, even on a slow disk; a sync
/// of every piece would make those of the log, on the same disk, wait for their turn far more often.
const SYNC_BYTES: u64 = 32 << 20;
/// How many of the newest checkpoints are kept.
const KEPT: usize = 2;

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

#[derive(Debug)]
struct Folder<D> {
    disk: D,
    options: CheckpointOptions,
    /// The durable ones.
    held: BTreeMap<CheckpointId, Head>,
    /// Damaged ones: they go with the ones they are older than.
    damaged: Vec<CheckpointId>,
    /// How many holds there are on each.
    holds: BTreeMap<CheckpointId, u64>,
    /// What was fetched of one, as long as nobody goes on with it.
    partial: Option<Head>,
    /// The newest one that was noted as stable.
    stable: Option<CheckpointId>,
    is_writing: bool,
    is_fetching: bool,
}

/// Keeps a checkpoint while it lives.
#[derive(Debug)]
pub struct Hold<D: Disk> {
    checkpoints: Checkpoints<D>,
    id: CheckpointId,
}

fn failed(file: &str, tried: &'static str, source: io::Error) -> CheckpointError {
    let file = file.to_owned();
    if is_no_room(&source) {
        CheckpointError::NoRoom { file, source }
    } else {
        CheckpointError::Io { file, tried, source }
    }
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
            holds: BTreeMap::new(),
            partial: None,
            stable: None,
            is_writing: false,
            is_fetching: false,
        };
        let reports = folder.read_names()?;
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

    /// Begins to write the checkpoint after `slot`.
    ///
    /// # Errors
    /// [`CheckpointError::Busy`] while another is being written; others see [`CheckpointError`].
    pub fn writer(&self, slot: Slot) -> Result<CheckpointWriter<D>, CheckpointError> {
        if std::mem::replace(&mut self.lock().is_writing, true) {
            return Err(CheckpointError::Busy("written"));
        }
        let writer = CheckpointWriter::begin(self.clone(), slot);
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

    /// Removes a checkpoint for good, on hold or not: its digest was contradicted by a quorum, or it is
    /// damaged.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn remove(&self, id: CheckpointId) -> Result<(), CheckpointError> {
        self.lock().remove(&[id])
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

    /// Gives a file that is synced the name of its checkpoint, durably; then older ones go.
    fn put_in_place(&self, from: &str, to: &str, head: Head) -> Result<(), CheckpointError> {
        let mut folder = self.lock();
        let same_slot = folder.held.keys().filter(|held| held.slot == head.id.slot);
        let replaced: Vec<_> = same_slot.filter(|&&held| held != head.id).copied().collect();
        folder.remove(&replaced)?;
        let renamed = folder.disk.rename(from, to);
        renamed.map_err(|source| failed(from, "rename", source))?;
        folder.sync()?;
        folder.held.insert(head.id, head);
        // The new one is durable, whatever becomes of the old ones: the next one tries again.
        let _ = folder.tidy(Some(head.id));
        Ok(())
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

impl<D: Disk> Folder<D> {
    fn sync(&self) -> Result<(), CheckpointError> {
        self.disk.sync_folder().map_err(|source| failed("", "sync", source))
    }

    /// Takes note of every file; returns why some are not used.
    fn read_names(&mut self) -> Result<Vec<CheckpointError>, CheckpointError> {
        let names = self.disk.list().map_err(|source| failed("", "list", source))?;
        let mut reports = Vec::new();
        let mut unwanted = Vec::new();
        for name in names {
            if let Some(id) = id_of(&name) {
                match self.read_head(&name, id) {
                    Ok(Some(head)) => {
                        self.held.insert(id, head);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        if matches!(error, CheckpointError::Damaged { .. }) {
                            self.damaged.push(id);
                        }
                        reports.push(error);
                    }
                }
            } else if let Some(id) = incoming_id_of(&name) {
                // Names ascend: the last one is the newest.
                match self.read_head(&name, id) {
                    Ok(Some(head)) if head.chunk_bytes > 0 => {
                        unwanted.extend(self.partial.map(|older| incoming_name(older.id)));
                        self.partial = Some(head);
                    }
                    Ok(None) => {}
                    _ => unwanted.push(name),
                }
            } else if let Some(id) = stable_id_of(self.options.group, &name) {
                // Likewise.
                let group = self.options.group;
                unwanted.extend(self.stable.map(|older| stable_name(group, older)));
                self.stable = Some(id);
            } else if is_temporary(&name) {
                unwanted.push(name);
            }
        }
        for name in unwanted {
            self.disk.remove(&name).map_err(|source| failed(&name, "remove", source))?;
        }
        // A name that can be read need not be durable yet.
        self.sync()?;
        Ok(reports)
    }

    /// The head of a file that should hold `id`; `None` if it belongs to another group.
    fn read_head(&self, name: &str, id: CheckpointId) -> Result<Option<Head>, CheckpointError> {
        let file = || name.to_owned();
        let damaged = |offset, found| CheckpointError::Damaged { file: file(), offset, found };
        let opened = self.disk.open(name).map_err(|source| failed(name, "open", source))?;
        let read = Head::read(&opened).map_err(|source| failed(name, "read", source))?;
        let head = match read {
            Ok(head) => head,
            Err(Fault::Bad) => return Err(damaged(0, "its head is unreadable")),
            Err(Fault::Newer(found)) => {
                let known = u32::from(layout::VERSION);
                return Err(CheckpointError::NewerFormat { file: file(), found, known });
            }
        };
        let options = self.options;
        let (found, expected) = (head.service_version, options.service_version);
        if head.cluster != options.cluster {
            let found = (head.cluster, head.group);
            let expected = (options.cluster, options.group);
            return Err(CheckpointError::Foreign { file: file(), found, expected });
        }
        if head.group != options.group {
            return Ok(None);
        }
        if found != expected {
            return Err(CheckpointError::OtherService { file: file(), found, expected });
        }
        if head.id != id {
            return Err(damaged(0, "it holds another checkpoint than its name says"));
        }
        let len = opened.len().map_err(|source| failed(name, "read", source))?;
        if len < head.file_len() {
            return Err(damaged(len, "it is cut off"));
        }
        Ok(Some(head))
    }

    /// Removes checkpoints, whether there are any such or not.
    fn remove(&mut self, ids: &[CheckpointId]) -> Result<(), CheckpointError> {
        let mut is_changed = false;
        for id in ids {
            let is_damaged = self.damaged.contains(id);
            if is_damaged || self.held.contains_key(id) {
                let name = file_name(*id);
                self.disk.remove(&name).map_err(|source| failed(&name, "remove", source))?;
                self.held.remove(id);
                self.damaged.retain(|damaged| damaged != id);
                is_changed = true;
            }
        }
        if is_changed { self.sync() } else { Ok(()) }
    }

    fn note_stable(&mut self, id: CheckpointId) -> Result<(), CheckpointError> {
        if self.stable.is_some_and(|stable| stable >= id) {
            return Ok(());
        }
        if !self.held.contains_key(&id) {
            return Err(CheckpointError::Gone(id));
        }
        let name = stable_name(self.options.group, id);
        match self.disk.create(&name) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(failed(&name, "make", source)),
        }
        self.sync()?;
        if let Some(older) = self.stable.replace(id) {
            // If it stays, or comes back, the later one counts.
            let _ = self.disk.remove(&stable_name(self.options.group, older));
        }
        Ok(())
    }

    /// Removes all but the newest, what is stable or on hold, and `kept`.
    fn tidy(&mut self, kept: Option<CheckpointId>) -> Result<(), CheckpointError> {
        let older = self.held.keys().rev().skip(KEPT);
        let is_free = |id: &&CheckpointId| {
            !self.holds.contains_key(id) && Some(**id) != kept && Some(**id) != self.stable
        };
        let newest = self.held.keys().next_back();
        let is_older = |damaged: &&CheckpointId| newest.is_some_and(|newest| *damaged < newest);
        let damaged = self.damaged.iter().filter(is_older);
        let free: Vec<_> = older.filter(is_free).chain(damaged).copied().collect();
        self.remove(&free)
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
