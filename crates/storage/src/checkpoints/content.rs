//! Reading a checkpoint from front to back.

use std::io::{self, Read};

use super::CheckpointError;
use super::layout::Head;
use crate::disk::Disk;

/// About how much is read at a time.
const READ_BYTES: u64 = 1 << 20;

/// The content of a checkpoint, front to back. Goes on although the checkpoint is removed meanwhile, on
/// file systems that keep open files.
#[derive(Debug)]
pub struct Content<D: Disk> {
    file: D::File,
    name: String,
    head: Head,
    next_block: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was handed out.
    taken: usize,
}

impl<D: Disk> Content<D> {
    pub(super) fn new(file: D::File, name: String, head: Head) -> Self {
        Self { file, name, head, next_block: 0, buffer: Vec::new(), taken: 0 }
    }

    fn refill(&mut self) -> Result<(), CheckpointError> {
        self.buffer.clear();
        self.taken = 0;
        let step = READ_BYTES / u64::from(self.head.block_bytes);
        let end = self.head.blocks().min(self.next_block + step);
        let blocks = self.next_block..end;
        self.head.read_blocks(&self.file, &self.name, blocks, &mut self.buffer)?;
        self.next_block = end;
        Ok(())
    }
}

impl<D: Disk> Read for Content<D> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.buffer.len() && self.next_block < self.head.blocks() {
            self.refill().map_err(CheckpointError::into_io)?;
        }
        let len = to.len().min(self.buffer.len() - self.taken);
        to[..len].copy_from_slice(&self.buffer[self.taken..self.taken + len]);
        self.taken += len;
        Ok(len)
    }
}
