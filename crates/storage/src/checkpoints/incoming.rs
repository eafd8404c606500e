//! A checkpoint being fetched: chunks in any order, checked again after a crash.

use std::io;

use mainstay_model::{CheckpointId, Slot};

use super::layout::{Head, block_bytes_for, incoming_name};
use super::{CheckpointError, Checkpoints, Content, Life, SYNC_BYTES, failed};
use crate::disk::{Disk, DiskFile};

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

/// A checkpoint being fetched. It survives a crash, and being dropped; chunks come in any order.
#[derive(Debug)]
pub struct Incoming<D: Disk> {
    checkpoints: Checkpoints<D>,
    /// `None` once the file is closed.
    file: Option<D::File>,
    name: String,
    head: Head,
    /// A bit a chunk: whether it is complete.
    complete: Vec<u64>,
    complete_count: u64,
    unsynced: u64,
}

impl<D: Disk> Checkpoints<D> {
    /// Removes what was fetched of a checkpoint up to `slot`, where nobody goes on with it: a state that
    /// is further makes it useless, and its file has all its space reserved.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn forget_partial(&self, slot: Slot) -> Result<(), CheckpointError> {
        let Some(head) = self.lock().partial.take_if(|head| head.id.slot <= slot) else {
            return Ok(());
        };
        self.remove_file(&incoming_name(head.id))
    }
}

impl<D: Disk> Incoming<D> {
    /// Begins a file that has room for everything; its head is durable when this returns.
    pub(super) fn begin(
        checkpoints: Checkpoints<D>,
        id: CheckpointId,
        total: u64,
        chunk_bytes: u32,
    ) -> Result<Self, CheckpointError> {
        let head = checkpoints.options().head(id, total, block_bytes_for(chunk_bytes), chunk_bytes);
        let name = incoming_name(id);
        let mut file = checkpoints.create(&name)?;
        let written = loop {
            match file.allocate(head.file_len()).and_then(|()| file.write_at(0, &head.encode())) {
                Err(source) if crate::error::is_no_room(&source) && checkpoints.make_way()? => {}
                result => break result,
            }
        };
        let begun = written
            .and_then(|()| file.sync())
            .map_err(|source| failed(&name, "write", source))
            .and_then(|()| checkpoints.sync_folder());
        let incoming = Self::new(checkpoints, file, name, head);
        match begun {
            Ok(()) => Ok(incoming),
            Err(error) => {
                incoming.abandon()?;
                Err(error)
            }
        }
    }

    fn new(checkpoints: Checkpoints<D>, file: D::File, name: String, head: Head) -> Self {
        let chunks = head.total.div_ceil(u64::from(head.chunk_bytes));
        let complete = vec![0; chunks.div_ceil(64) as usize];
        Self { checkpoints, file: Some(file), name, head, complete, complete_count: 0, unsynced: 0 }
    }

    /// Goes on with a file that an earlier transfer left: every chunk of it is checked, and written
    /// anew, because bytes that can be read need not be on the disk.
    pub(super) fn resume(checkpoints: Checkpoints<D>, file: D::File, head: Head) -> Self {
        let mut incoming = Self::new(checkpoints, file, incoming_name(head.id), head);
        let mut content = Vec::new();
        for chunk in 0..incoming.chunks() {
            let (first, end) = incoming.blocks_of(chunk);
            content.clear();
            let Some(file) = &mut incoming.file else { break };
            // What cannot be read or written is fetched once more.
            if head.read_blocks(file, &incoming.name, first..end, &mut content).is_ok() {
                let mut blocks = Vec::with_capacity(content.len() + content.len() / 64 + 8);
                head.put_blocks(first, &content, &mut blocks);
                if file.write_at(head.place(first), &blocks).is_ok() {
                    incoming.set_complete(chunk);
                }
            }
        }
        incoming
    }

    /// Which one it is, and how much is there.
    #[must_use]
    pub fn partial(&self) -> Partial {
        let Head { id, total, chunk_bytes, .. } = self.head;
        Partial { id, total, chunk_bytes, complete: self.complete_count }
    }

    /// Whether what was fetched is still there; it goes where it cannot be synced.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// How many chunks the whole has; none if it is empty.
    #[must_use]
    pub fn chunks(&self) -> u64 {
        self.head.total.div_ceil(u64::from(self.head.chunk_bytes))
    }

    /// The first chunk from `from` on that is missing.
    #[must_use]
    pub fn next_missing(&self, from: u64) -> Option<u64> {
        let mut chunk = from;
        while chunk < self.chunks() {
            let later = !self.complete[(chunk / 64) as usize] >> (chunk % 64);
            if later != 0 {
                let missing = chunk + u64::from(later.trailing_zeros());
                return (missing < self.chunks()).then_some(missing);
            }
            chunk = (chunk / 64 + 1) * 64;
        }
        None
    }

    fn is_complete(&self, chunk: u64) -> bool {
        self.complete[(chunk / 64) as usize] >> (chunk % 64) & 1 == 1
    }

    fn set_complete(&mut self, chunk: u64) {
        self.complete[(chunk / 64) as usize] |= 1 << (chunk % 64);
        self.complete_count += 1;
    }

    /// The blocks of a chunk: the first one, and the one after the last.
    fn blocks_of(&self, chunk: u64) -> (u64, u64) {
        let blocks = u64::from(self.head.chunk_bytes / self.head.block_bytes);
        (chunk * blocks, ((chunk + 1) * blocks).min(self.head.blocks()))
    }

    /// Writes a chunk; one that is there already is ignored. Synced every so many bytes.
    ///
    /// # Errors
    /// [`CheckpointError::BadChunk`] for an index or a length that cannot be: nothing changes. After
    /// any other this transfer has failed.
    pub fn append_chunk(&mut self, index: u64, bytes: &[u8]) -> Result<(), CheckpointError> {
        let bad = |found| CheckpointError::BadChunk { id: self.head.id, index, found };
        if index >= self.chunks() {
            return Err(bad("it has no such chunk"));
        }
        let chunk_bytes = u64::from(self.head.chunk_bytes);
        let len = (self.head.total - index * chunk_bytes).min(chunk_bytes);
        if bytes.len() as u64 != len {
            return Err(bad("it has another length"));
        }
        if self.is_complete(index) {
            return Ok(());
        }
        let Some(file) = &mut self.file else { return Err(self.has_failed()) };
        let first = index * u64::from(self.head.chunk_bytes / self.head.block_bytes);
        let mut blocks = Vec::with_capacity(bytes.len() + bytes.len() / 64 + 8);
        self.head.put_blocks(first, bytes, &mut blocks);
        let place = self.head.place(first);
        let written = file.write_at(place, &blocks);
        written.map_err(|source| failed(&self.name, "write", source))?;
        file.write_behind(place, blocks.len() as u64);
        self.set_complete(index);
        self.unsynced += len;
        if self.unsynced >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    /// Makes durable what was fetched. After an error all of it goes: it would look as if it were.
    fn sync(&mut self) -> Result<(), CheckpointError> {
        self.unsynced = 0;
        let Some(file) = &mut self.file else { return Err(self.has_failed()) };
        let Err(source) = file.sync() else { return Ok(()) };
        self.file = None;
        self.checkpoints.remove_file(&self.name)?;
        Err(failed(&self.name, "sync", source))
    }

    fn has_failed(&self) -> CheckpointError {
        failed(&self.name, "write", io::Error::other("syncing it failed before"))
    }

    /// Reads what was fetched, once complete, to restore and check it before it is installed.
    ///
    /// # Errors
    /// [`CheckpointError::Incomplete`]; others as for [`Checkpoints::open_content`].
    pub fn open_content(&self) -> Result<Content<D>, CheckpointError> {
        self.refuse_incomplete()?;
        if self.file.is_none() {
            return Err(self.has_failed());
        }
        let file = self.checkpoints.open_file(&self.name)?;
        Ok(Content::new(file, self.name.clone(), self.head))
    }

    fn refuse_incomplete(&self) -> Result<(), CheckpointError> {
        match self.chunks() - self.complete_count {
            0 => Ok(()),
            missing => Err(CheckpointError::Incomplete { id: self.head.id, missing }),
        }
    }

    /// Makes it one of the held checkpoints, durably; it replaces another of the same slot. Whoever
    /// does so has compared its digest with that of a quorum, so it is noted as stable. A life of the
    /// state begins with it, and nothing of the one before is put in place any more.
    ///
    /// # Errors
    /// [`CheckpointError::Incomplete`], and others. What was fetched stays, unless it could not be
    /// synced, and may be installed later.
    pub fn install(&mut self) -> Result<Life, CheckpointError> {
        self.refuse_incomplete()?;
        self.sync()?;
        let life = self.checkpoints.lock().install(&self.name, self.head)?;
        self.file = None;
        Ok(life)
    }

    /// Gives the transfer up and removes what was fetched.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn abandon(mut self) -> Result<(), CheckpointError> {
        match self.file.take() {
            Some(_) => self.checkpoints.remove_file(&self.name),
            None => Ok(()),
        }
    }
}

impl<D: Disk> Drop for Incoming<D> {
    fn drop(&mut self) {
        let left = self.file.is_some().then_some(self.head);
        self.checkpoints.fetching_ended(left);
    }
}
