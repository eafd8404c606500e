//! Writing a checkpoint while the log goes on.

use std::io::{self, Write};
use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use mainstay_model::{CheckpointId, Slot};

use super::layout::{BLOCK_BYTES, Head, temporary_name};
use super::{CheckpointError, Checkpoints, Life, SYNC_BYTES, failed};
use crate::disk::{Disk, DiskFile};
use crate::error::is_no_room;

/// How much content is written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// A checkpoint being written. Dropped without [`CheckpointWriter::finish`] it leaves nothing.
#[derive(Debug)]
pub struct CheckpointWriter<D: Disk> {
    checkpoints: Checkpoints<D>,
    /// `None` once the file is closed.
    file: Option<D::File>,
    name: String,
    life: Life,
    /// Its length is that of the blocks written so far.
    head: Head,
    buffer: Vec<u8>,
    unsynced: u64,
    pace: Option<Pace>,
    has_failed: bool,
}

/// Keeps writing below a rate.
#[derive(Debug)]
struct Pace {
    rate: NonZeroU64,
    begun: Instant,
    bytes: u64,
}

impl Pace {
    /// For how long to wait at a time: whoever writes may not want to go on.
    const STEP: Duration = Duration::from_millis(50);

    /// How many bytes to take at a time.
    fn piece(&self) -> usize {
        ((self.rate.get() as f64 * Self::STEP.as_secs_f64()) as usize).max(1)
    }

    /// Waits for as long as `bytes` more take.
    fn wait(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        let due = Duration::from_secs_f64(self.bytes as f64 / self.rate.get() as f64);
        thread::sleep(due.saturating_sub(self.begun.elapsed()));
    }
}

impl<D: Disk> CheckpointWriter<D> {
    /// Begins a file; the caller has made sure that no other is being written.
    pub(super) fn begin(
        checkpoints: Checkpoints<D>,
        slot: Slot,
        life: Life,
    ) -> Result<Self, CheckpointError> {
        let options = checkpoints.options();
        let name = temporary_name(slot);
        let file = checkpoints.create(&name)?;
        let rate = options.write_rate;
        let pace = rate.map(|rate| Pace { rate, begun: Instant::now(), bytes: 0 });
        let id = CheckpointId { slot, digest: 0 };
        Ok(Self {
            checkpoints,
            file: Some(file),
            name,
            life,
            head: options.head(id, 0, BLOCK_BYTES, 0),
            buffer: Vec::with_capacity(WRITE_BYTES),
            unsynced: 0,
            pace,
            has_failed: false,
        })
    }

    /// How many bytes its file needs at least, as far as it was given its content.
    pub fn bytes(&self) -> u64 {
        self.head.file_len() + self.buffer.len() as u64
    }

    /// Reserves so many bytes for its file: fails at once where writing them would fail later.
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn reserve(&mut self, bytes: u64) -> Result<(), CheckpointError> {
        let Self { file: Some(file), name, checkpoints, .. } = self else { return Ok(()) };
        loop {
            match file.allocate(bytes) {
                Ok(()) => return Ok(()),
                Err(source) if is_no_room(&source) && checkpoints.make_way()? => {}
                Err(source) => return Err(failed(name, "write", source)),
            }
        }
    }

    /// Writes what is buffered.
    fn write_out(&mut self) -> Result<(), CheckpointError> {
        let mut blocks = Vec::with_capacity(self.buffer.len() + 1024);
        let first = self.head.blocks();
        self.head.put_blocks(first, &self.buffer, &mut blocks);
        let place = self.head.file_len();
        self.write_at(place, &blocks)?;
        if let Some(file) = &self.file {
            file.write_behind(place, blocks.len() as u64);
        }
        self.head.total += self.buffer.len() as u64;
        self.unsynced += self.buffer.len() as u64;
        self.buffer.clear();
        if self.unsynced >= SYNC_BYTES {
            self.sync()?;
        }
        Ok(())
    }

    /// Writes; where there is no room, an older checkpoint makes way.
    fn write_at(&mut self, place: u64, bytes: &[u8]) -> Result<(), CheckpointError> {
        let Self { file: Some(file), name, checkpoints, .. } = self else { return Ok(()) };
        loop {
            match file.write_at(place, bytes) {
                Ok(()) => return Ok(()),
                Err(source) if is_no_room(&source) && checkpoints.make_way()? => {}
                Err(source) => return Err(failed(name, "write", source)),
            }
        }
    }

    fn sync(&mut self) -> Result<(), CheckpointError> {
        self.unsynced = 0;
        let Some(file) = &mut self.file else { return Ok(()) };
        let Err(source) = file.sync() else { return Ok(()) };
        if is_no_room(&source) {
            // What was not written may be forgotten by now; but the next one finds room.
            self.checkpoints.make_way()?;
        }
        Err(failed(&self.name, "sync", source))
    }

    /// Makes the checkpoint durable under its name; only then the third newest goes.
    ///
    /// # Errors
    /// [`CheckpointError::Overtaken`] if the state is of an earlier life; others see
    /// [`CheckpointError`]. The unfinished file is removed.
    pub fn finish(mut self, digest: u64) -> Result<CheckpointId, CheckpointError> {
        if self.has_failed {
            let source = io::Error::other("writing it failed before");
            return Err(failed(&self.name, "finish", source));
        }
        if !self.buffer.is_empty() {
            self.write_out()?;
        }
        self.head.id.digest = digest;
        let head = self.head.encode();
        self.write_at(0, &head)?;
        self.sync()?;
        self.file = None;
        let id = self.head.id;
        self.checkpoints.put_in_place(&self.name, self.head, self.life)?;
        self.name.clear();
        Ok(id)
    }
}

impl<D: Disk> Write for CheckpointWriter<D> {
    /// After an error, a [`CheckpointError`] inside, nothing more is taken.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.has_failed {
            return Err(io::Error::other("writing the checkpoint failed before"));
        }
        let piece = self.pace.as_ref().map_or(WRITE_BYTES, Pace::piece);
        let len = bytes.len().min(WRITE_BYTES - self.buffer.len()).min(piece);
        self.buffer.extend_from_slice(&bytes[..len]);
        if self.buffer.len() == WRITE_BYTES
            && let Err(error) = self.write_out()
        {
            self.has_failed = true;
            return Err(error.into_io());
        }
        if let Some(pace) = &mut self.pace {
            pace.wait(len);
        }
        Ok(len)
    }

    /// Does nothing: only [`CheckpointWriter::finish`] makes anything durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<D: Disk> Drop for CheckpointWriter<D> {
    fn drop(&mut self) {
        self.file = None;
        self.checkpoints.writing_ended(&self.name);
    }
}
