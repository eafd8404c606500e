//! The envelope of every message between nodes, and between nodes and native clients.
//!
//! A frame is a fixed head of 24 bytes and a body, all little endian:
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | length of what follows these four bytes (20 + body) |
//! | 4..8 | CRC-32 over everything after these four bytes |
//! | 8..10 | version of the wire format |
//! | 10..12 | kind |
//! | 12..16 | flags, none defined yet: a set one is refused |
//! | 16..20 | group; 0 is the node itself |
//! | 20..24 | epoch counter of the sender |
//!
//! Kinds are dealt out by crate: 1 to 15 `node` (hello, reject, heartbeat, administration, pieces),
//! 16 to 63 `consensus`, 64 to 79 native clients. An unknown kind is refused, never skipped.

use alloc::vec::Vec;
use core::fmt;

use bytes::{Bytes, BytesMut};

use crate::GroupId;
use crate::codec::Put;

/// The version of the wire format that this code speaks.
pub const WIRE_VERSION: u16 = 1;
/// Length of the head of a frame.
pub const FRAME_HEAD_LEN: usize = 24;

/// A decoded frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: u16,
    /// Which group it is for.
    pub group: GroupId,
    /// The sender's epoch counter.
    pub epoch: u32,
    /// The body, shared with the buffer it was read from.
    pub body: Bytes,
}

/// Why bytes are no frame. After any of these the stream cannot be trusted any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The length field is below the head's own or above the limit.
    Length {
        /// What the field says.
        len: u32,
        /// What is allowed.
        len_max: u32,
    },
    /// The checksum does not fit the bytes.
    Checksum,
    /// Another version of the wire format.
    Version(u16),
    /// A flag that this version does not define.
    Flags(u32),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { len, len_max } => {
                write!(f, "a frame claims {len} bytes; between 20 and {len_max} are allowed")
            }
            Self::Checksum => f.write_str("the checksum of a frame does not fit its bytes"),
            Self::Version(version) => {
                write!(f, "wire version {version}, but this program speaks version {WIRE_VERSION}")
            }
            Self::Flags(flags) => write!(f, "undefined flags {flags:#x} in a frame"),
        }
    }
}

impl core::error::Error for FrameError {}

/// Appends a frame to `out`; `body` writes the body in place.
pub fn encode(
    out: &mut Vec<u8>,
    kind: u16,
    group: GroupId,
    epoch: u32,
    body: impl FnOnce(&mut Vec<u8>),
) {
    encode_before(out, kind, group, epoch, &[], body);
}

/// Appends the beginning of a frame to `out`: its head and what `body` writes of its body, sealed for
/// a body that goes on with `rest`, which the caller sends right behind it.
pub fn encode_before(
    out: &mut Vec<u8>,
    kind: u16,
    group: GroupId,
    epoch: u32,
    rest: &[Bytes],
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.put(&[0; 8]);
    out.put_u16(WIRE_VERSION);
    out.put_u16(kind);
    out.put_u32(0);
    out.put_u32(group.0);
    out.put_u32(epoch);
    body(out);
    let mut len = out.len() - start - 4;
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&out[start + 8..]);
    for bytes in rest {
        len += bytes.len();
        checksum.update(bytes);
    }
    let len = u32::try_from(len).expect("frames are below 4 GiB");
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&checksum.finalize().to_le_bytes());
}

/// How many bytes a buffer must hold for the frame at its front to be complete; 0 while that is not known.
#[must_use]
pub fn needs(buffer: &[u8]) -> usize {
    buffer.first_chunk().map_or(0, |len| 4 + u32::from_le_bytes(*len) as usize)
}

/// Takes one frame from the front of `buffer`; `None` while it is not complete. `body_len_max`
/// bounds the body; a longer one is refused as soon as its length is seen.
///
/// # Errors
/// See [`FrameError`]; the connection is then of no further use.
pub fn decode(buffer: &mut BytesMut, body_len_max: usize) -> Result<Option<Frame>, FrameError> {
    if buffer.len() < 4 {
        return Ok(None);
    }
    let field = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&buffer[at..at + 4]);
        u32::from_le_bytes(bytes)
    };
    let len = field(0);
    let head_rest = FRAME_HEAD_LEN as u32 - 4;
    let len_max = u32::try_from(body_len_max).unwrap_or(u32::MAX).saturating_add(head_rest);
    if len < head_rest || len > len_max {
        return Err(FrameError::Length { len, len_max });
    }
    if buffer.len() < 4 + len as usize {
        return Ok(None);
    }
    let (version, kind) = (field(8) as u16, (field(8) >> 16) as u16);
    let (checksum, flags, group, epoch) = (field(4), field(12), field(16), field(20));
    if checksum != crc32fast::hash(&buffer[8..4 + len as usize]) {
        return Err(FrameError::Checksum);
    }
    if version != WIRE_VERSION {
        return Err(FrameError::Version(version));
    }
    if flags != 0 {
        return Err(FrameError::Flags(flags));
    }
    let body = buffer.split_to(4 + len as usize).freeze().slice(FRAME_HEAD_LEN..);
    Ok(Some(Frame { kind, group: GroupId(group), epoch, body }))
}
