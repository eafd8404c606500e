//! Sessions, time and service written as one, and read back.
//!
//! A checkpoint begins with a mark, the version of this format and the version of the service (4
//! bytes each). Its content follows in pieces: length (4 bytes), XXH3 of the bytes (8), the bytes; so
//! nothing damaged reaches a service. An empty piece ends it, and its checksum is instead the one
//! over the whole content: the digest of the state.
//!
//! The content is the slot, the time and the slot of the last request executed (8 bytes each), the secret
//! (16), the interval and what was counted towards the
//! next one (see `interval.rs`), the sessions (see `session.rs`) and what the service wrote.

use std::io::{self, Read, Write};

use mainstay_model::{CheckpointId, Slot, Timestamp};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::contract::{Checkpoint, RestoreError, Secret};
use crate::fields;
use crate::interval::Counting;
use crate::session::SessionTable;

/// "MSTA" in the file.
const MARK: u32 = u32::from_le_bytes(*b"MSTA");
const FORMAT: u32 = 2;
/// Bytes in a piece at most.
const PIECE_MAX: usize = 64 << 10;

/// A copy of the replicated state as of one slot, to be written while applying goes on.
#[derive(Debug)]
pub struct ApplierCheckpoint<C> {
    pub(crate) head: Head,
    pub(crate) sessions: SessionTable,
    pub(crate) service: C,
    pub(crate) service_version: u32,
}

/// What stands in front of sessions and service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) slot: Slot,
    pub(crate) time: Timestamp,
    /// The slot of the last request that the service executed.
    pub(crate) executed_upto: Slot,
    pub(crate) secret: Secret,
    pub(crate) counting: Counting,
}

impl<C: Checkpoint> ApplierCheckpoint<C> {
    /// The last slot that it covers.
    pub const fn slot(&self) -> Slot {
        self.head.slot
    }

    /// Writes everything and returns the digest, the same as [`crate::Applier::digest`] as of the
    /// slot. Equal states write equal bytes.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<u64> {
        for field in [MARK, FORMAT, self.service_version] {
            fields::put_u32(to, field)?;
        }
        let mut pieces = Pieces { to, buffer: Vec::with_capacity(PIECE_MAX), hash: Xxh3::new() };
        write_content(&mut pieces, self.head, &self.sessions, &self.service)?;
        pieces.end()
    }
}

/// Writes what a checkpoint holds and a digest covers.
pub(crate) fn write_content(
    to: &mut dyn Write,
    head: Head,
    sessions: &SessionTable,
    service: &impl Checkpoint,
) -> io::Result<()> {
    fields::put_u64(to, head.slot.0)?;
    fields::put_u64(to, head.time.0)?;
    fields::put_u64(to, head.executed_upto.0)?;
    fields::put_u128(to, head.secret.0)?;
    head.counting.write(to)?;
    sessions.write(to)?;
    service.write(to)
}

/// What stands in a checkpoint.
pub(crate) struct Content<S> {
    pub(crate) head: Head,
    pub(crate) sessions: SessionTable,
    pub(crate) service: S,
}

/// Reads a checkpoint of any service from front to back, and tells what it is of: the slot and the
/// digest of its content. What cannot be restored from it is then not for want of any byte.
///
/// # Errors
/// [`RestoreError`]: it cannot be read, or is not what was written.
pub fn identify(source: &mut dyn Read) -> Result<CheckpointId, RestoreError> {
    read_head(source)?;
    let mut pieces = PieceReader::new(source);
    let slot = Slot(fields::u64(&mut pieces)?);
    io::copy(&mut pieces, &mut io::sink())?;
    Ok(CheckpointId { slot, digest: pieces.hash.digest() })
}

/// Reads what stands before the pieces; returns the version of the service.
fn read_head(source: &mut dyn Read) -> Result<u32, RestoreError> {
    let invalid = |how: String| Err(RestoreError::Invalid(how));
    if fields::u32(source)? != MARK {
        return invalid("it does not begin like a checkpoint".to_owned());
    }
    let format = fields::u32(source)?;
    if format != FORMAT {
        return invalid(format!("its format is {format}, this program reads format {FORMAT}"));
    }
    Ok(fields::u32(source)?)
}

/// Reads what [`ApplierCheckpoint::write`] wrote; `restore` reads the service's part.
pub(crate) fn read<S>(
    source: &mut dyn Read,
    service_version: u32,
    restore: impl FnOnce(&mut dyn Read) -> Result<S, RestoreError>,
) -> Result<Content<S>, RestoreError> {
    let version = read_head(source)?;
    if version != service_version {
        return Err(RestoreError::Invalid(format!(
            "it was written by version {version} of the service, this is version {service_version}"
        )));
    }
    let mut pieces = PieceReader::new(source);
    let slot = Slot(fields::u64(&mut pieces)?);
    let time = Timestamp(fields::u64(&mut pieces)?);
    let executed_upto = Slot(fields::u64(&mut pieces)?);
    let secret = Secret(fields::u128(&mut pieces)?);
    let counting = Counting::read(&mut pieces)?;
    let sessions = SessionTable::read(&mut pieces)?;
    let service = restore(&mut pieces)?;
    // What the service left unread still has to be whole.
    io::copy(&mut pieces, &mut io::sink())?;
    let head = Head { slot, time, executed_upto, secret, counting };
    Ok(Content { head, sessions, service })
}

/// Decided time as of a checkpoint, from its beginning alone; for whoever needs it before the whole is
/// restored.
///
/// # Errors
/// [`RestoreError`]: reading failed, or the beginning is damaged or none of a checkpoint.
pub fn time_of(source: &mut dyn Read) -> Result<Timestamp, RestoreError> {
    let (mark, format, _) = (fields::u32(source)?, fields::u32(source)?, fields::u32(source)?);
    if (mark, format) != (MARK, FORMAT) {
        return Err(RestoreError::Invalid("it does not begin like a checkpoint".to_owned()));
    }
    let mut pieces =
        PieceReader { source, piece: Vec::new(), at: 0, hash: Xxh3::new(), ended: false };
    let _slot = fields::u64(&mut pieces)?;
    Ok(Timestamp(fields::u64(&mut pieces)?))
}

struct Pieces<'a> {
    to: &'a mut dyn Write,
    buffer: Vec<u8>,
    hash: Xxh3,
}

impl Pieces<'_> {
    fn put_piece(&mut self) -> io::Result<()> {
        let len = u32::try_from(self.buffer.len()).expect("pieces are bounded");
        fields::put_u32(self.to, len)?;
        fields::put_u64(self.to, xxh3_64(&self.buffer))?;
        self.to.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn end(mut self) -> io::Result<u64> {
        if !self.buffer.is_empty() {
            self.put_piece()?;
        }
        let digest = self.hash.digest();
        fields::put_u32(self.to, 0)?;
        fields::put_u64(self.to, digest)?;
        Ok(digest)
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(PIECE_MAX - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..len]);
        self.hash.update(&bytes[..len]);
        if self.buffer.len() == PIECE_MAX {
            self.put_piece()?;
        }
        Ok(len)
    }

    /// Pieces are cut by length alone, so that equal states write equal bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct PieceReader<'a> {
    source: &'a mut dyn Read,
    piece: Vec<u8>,
    at: usize,
    hash: Xxh3,
    ended: bool,
}

impl<'a> PieceReader<'a> {
    fn new(source: &'a mut dyn Read) -> Self {
        Self { source, piece: Vec::new(), at: 0, hash: Xxh3::new(), ended: false }
    }

    fn next_piece(&mut self) -> io::Result<()> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let len = fields::u32(self.source)? as usize;
        let checksum = fields::u64(self.source)?;
        if len > PIECE_MAX {
            return Err(damaged("a piece of it is longer than any can be: it is damaged"));
        }
        self.at = 0;
        self.piece.resize(len, 0);
        self.source.read_exact(&mut self.piece)?;
        self.ended = len == 0;
        let whole = if self.ended { self.hash.digest() } else { xxh3_64(&self.piece) };
        if whole != checksum {
            return Err(damaged("a checksum does not match: it is damaged"));
        }
        self.hash.update(&self.piece);
        Ok(())
    }
}

impl Read for PieceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !self.ended && !buffer.is_empty() {
            self.next_piece()?;
        }
        let left = &self.piece[self.at..];
        let len = left.len().min(buffer.len());
        buffer[..len].copy_from_slice(&left[..len]);
        self.at += len;
        Ok(len)
    }
}
