//! Reading segments from front to back: which records stand there, and where they end.

use std::io;

use mainstay_model::value::BATCH_HEAD_LEN;
use mainstay_model::{Timestamp, Value};

use crate::disk::DiskFile;
use crate::layout::{
    ALIGNMENT, HeadFault, Kind, RECORD_HEAD_LEN, RECORD_MAGIC, RECORDS_START, RecordHead,
    STATE_VALUE_LEN, Salt,
};

/// How much is read at a time.
const CHUNK_LEN: usize = 256 << 10;

/// A file read through a buffer.
#[derive(Debug)]
pub(crate) struct Window<'a, F> {
    file: &'a F,
    start: u64,
    held: usize,
    buffer: Vec<u8>,
}

impl<'a, F: DiskFile> Window<'a, F> {
    pub(crate) fn new(file: &'a F) -> Self {
        Self { file, start: 0, held: 0, buffer: vec![0; CHUNK_LEN] }
    }

    /// The bytes from `offset` on, at most `len` and at most [`CHUNK_LEN`]; fewer at the end.
    fn get(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let len = len.min(CHUNK_LEN);
        let inside = offset >= self.start && offset + len as u64 <= self.start + self.held as u64;
        if !inside {
            self.start = offset;
            self.held = self.file.read_at(offset, &mut self.buffer)?;
        }
        let from = (offset - self.start) as usize;
        Ok(&self.buffer[from..self.held.min(from + len)])
    }

    /// The head of the record at `offset`. Bytes past the end of the file count as zeros.
    fn head(
        &mut self,
        salt: &Salt,
        offset: u64,
    ) -> io::Result<Result<(RecordHead, u32), HeadFault>> {
        let bytes = self.get(offset, RECORD_HEAD_LEN)?;
        let mut head = [0; RECORD_HEAD_LEN];
        head[..bytes.len()].copy_from_slice(bytes);
        Ok(RecordHead::decode(&head, salt, offset))
    }

    /// Whether the value of the record at `offset` has the checksum that its head names.
    fn value_intact(&mut self, head: &RecordHead, offset: u64) -> io::Result<bool> {
        let mut hasher = crc32fast::Hasher::new();
        let mut at = offset + RECORD_HEAD_LEN as u64;
        let end = at + u64::from(head.value_len);
        while at < end {
            let bytes = self.get(at, (end - at).min(CHUNK_LEN as u64) as usize)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            hasher.update(bytes);
            at += bytes.len() as u64;
        }
        Ok(hasher.finalize() == head.value_checksum)
    }
}

/// What stands at one place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A record whose head is intact and continues the one before it, and the time of its value.
    Record { head: RecordHead, checksum: u32, time: Timestamp, value_intact: bool },
    /// No such record.
    Nothing(HeadFault),
}

/// Walks the records of one segment for as long as each continues the one before it.
#[derive(Debug)]
pub(crate) struct Walk<'a, F> {
    window: Window<'a, F>,
    salt: Salt,
    /// Where the next record begins.
    pub(crate) offset: u64,
    /// Its sequence.
    pub(crate) sequence: u64,
    /// The checksum of the record before it.
    pub(crate) previous: u32,
}

impl<'a, F: DiskFile> Walk<'a, F> {
    pub(crate) fn new(file: &'a F, salt: Salt, sequence: u64, previous: u32) -> Self {
        Self { window: Window::new(file), salt, offset: RECORDS_START, sequence, previous }
    }

    /// What stands at the present place; does not move.
    pub(crate) fn look(&mut self) -> io::Result<Found> {
        let (head, checksum) = match self.window.head(&self.salt, self.offset)? {
            Ok(read) => read,
            Err(fault) => return Ok(Found::Nothing(fault)),
        };
        if head.sequence != self.sequence || head.previous != self.previous {
            return Ok(Found::Nothing(HeadFault::Bad));
        }
        // First: what follows may move the window far from the head.
        let time = self.time(&head)?;
        let value_intact = self.window.value_intact(&head, self.offset)?;
        Ok(Found::Record { head, checksum, time, value_intact })
    }

    /// The time of the value of the record at the present place; zero if it has none.
    fn time(&mut self, head: &RecordHead) -> io::Result<Timestamp> {
        if !matches!(head.kind, Kind::Accept | Kind::Learn) {
            return Ok(Timestamp(0));
        }
        let place = self.offset + RECORD_HEAD_LEN as u64;
        let bytes = self.window.get(place, (head.value_len as usize).min(BATCH_HEAD_LEN))?;
        Ok(Value::new(bytes.to_vec().into()).time())
    }

    /// The value of the state record at the present place, if it has one: the number of the first
    /// segment of the log.
    pub(crate) fn first_segment(&mut self, head: &RecordHead) -> io::Result<Option<u64>> {
        if head.kind != Kind::State || head.value_len as usize != STATE_VALUE_LEN {
            return Ok(None);
        }
        let place = self.offset + RECORD_HEAD_LEN as u64;
        let mut value = [0; STATE_VALUE_LEN];
        let bytes = self.window.get(place, STATE_VALUE_LEN)?;
        value[..bytes.len()].copy_from_slice(bytes);
        Ok(Some(u64::from_le_bytes(value)))
    }

    /// Moves past the record that [`Walk::look`] found.
    pub(crate) fn pass(&mut self, head: &RecordHead, checksum: u32) {
        self.offset += head.len();
        self.sequence += 1;
        self.previous = checksum;
    }
}

/// The highest `synced_upto` of any intact record head of a segment, wherever it stands: behind
/// damage, behind a tail. Sequence and chain do not matter here, only that the head was written
/// at this place of this log.
pub(crate) fn evidence<F: DiskFile>(file: &F, salt: &Salt) -> io::Result<Result<u64, HeadFault>> {
    let mut window = Window::new(file);
    let len = file.len()?;
    let (mut offset, mut synced_upto) = (RECORDS_START, 0);
    while offset < len {
        match window.head(salt, offset)? {
            Ok((head, _)) => {
                synced_upto = synced_upto.max(head.synced_upto);
                offset += head.len();
            }
            Err(HeadFault::Newer(found)) => return Ok(Err(HeadFault::Newer(found))),
            Err(HeadFault::Blank | HeadFault::Bad) => {
                offset = next_magic(&mut window, offset + ALIGNMENT)?.unwrap_or(len);
            }
        }
    }
    Ok(Ok(synced_upto))
}

/// The first place from `offset` on at which a record may begin.
fn next_magic<F: DiskFile>(window: &mut Window<'_, F>, offset: u64) -> io::Result<Option<u64>> {
    let mut at = offset;
    loop {
        let bytes = window.get(at, CHUNK_LEN)?;
        let step = ALIGNMENT as usize;
        let found = bytes.chunks(step).position(|place| place.starts_with(&RECORD_MAGIC));
        if let Some(position) = found {
            return Ok(Some(at + (position * step) as u64));
        }
        if bytes.len() < CHUNK_LEN {
            return Ok(None);
        }
        at += bytes.len() as u64;
    }
}
