//! Long frames in pieces. Between replicas no frame is longer than a piece: what is longer is cut, and
//! short frames go between the pieces, so that a sign of life never waits for a value of many
//! megabytes. There is one connection all the same: a heartbeat vouches for the path that the values
//! take, too.
//!
//! A piece is a frame of kind [`PIECE`], with the group and the epoch of the long frame. Its body:
//! number of the long frame (8), its kind (2), the length of its body (4), how much of that body came
//! before (4), and then this piece of it, to the end. The pieces of one long frame come in order and
//! without those of another between them. The first one begins a long frame; one begun before and not
//! ended is given up. Numbers tell long frames apart where a connection was replaced by another.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::codec::{DecodeError, Put, Reader};
use crate::frame::{self, Frame};
use crate::{GroupId, Rope};

/// Kind of the frame that holds a piece.
pub const PIECE: u16 = 8;
/// Bytes in front of a piece in its frame's body.
pub const PIECE_HEAD_LEN: usize = 18;
/// The most bytes of a piece: on a path of 10 MB/s a heartbeat waits 7 ms for one.
pub const PIECE_LEN_MAX: usize = 64 << 10;

/// A frame that leaves in pieces.
#[derive(Clone, Debug)]
pub struct LongFrame {
    number: u64,
    kind: u16,
    group: GroupId,
    epoch: u32,
    total: u32,
    rest: Rope,
}

impl LongFrame {
    /// A frame with the given body; `number` is another one for each on a connection.
    ///
    /// # Panics
    /// If the body has 4 GiB or more, which no limit allows.
    #[must_use]
    pub fn new(number: u64, kind: u16, group: GroupId, epoch: u32, body: Rope) -> Self {
        let total = u32::try_from(body.len()).expect("frames are below 4 GiB");
        Self { number, kind, group, epoch, total, rest: body }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> u16 {
        self.kind
    }

    /// How many bytes of the body have not left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether all of it has left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Cuts the next piece off, of at most `len_max` bytes: appends the beginning of its frame to
    /// `head`, and returns what follows that.
    pub fn cut(&mut self, len_max: usize, head: &mut Vec<u8>) -> Vec<Bytes> {
        let offset = self.total as usize - self.rest.len();
        let piece = self.rest.take(len_max);
        frame::encode_before(head, PIECE, self.group, self.epoch, &piece, |body| {
            body.put_u64(self.number);
            body.put_u16(self.kind);
            body.put_u32(self.total);
            // Below the total, which fits.
            body.put_u32(offset as u32);
        });
        piece
    }
}

/// Why a piece does not fit what came before. After any of these what was begun is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceError {
    /// Its body cannot be read.
    Decode(DecodeError),
    /// The long frame claims more bytes than are allowed, or is itself a piece.
    Claim {
        /// Its kind.
        kind: u16,
        /// How many bytes it claims.
        total: u32,
    },
    /// It is not the next one of what was begun.
    Gap {
        /// How many bytes it says came before.
        offset: u32,
    },
}

impl fmt::Display for PieceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Decode(error) => write!(f, "a piece of a frame cannot be read: {error}"),
            Self::Claim { kind, total } => {
                write!(f, "a frame of kind {kind} in pieces claims {total} bytes")
            }
            Self::Gap { offset } => {
                write!(f, "a piece at {offset} does not follow what came of its frame")
            }
        }
    }
}

impl core::error::Error for PieceError {}

#[derive(Debug)]
struct Begun {
    number: u64,
    kind: u16,
    group: GroupId,
    epoch: u32,
    total: u32,
    bytes: Vec<u8>,
}

/// Puts the long frames of one connection together again.
#[derive(Debug, Default)]
pub struct Assembly {
    begun: Option<Begun>,
}

impl Assembly {
    /// Bytes held of a frame that is not complete.
    #[must_use]
    pub fn len(&self) -> usize {
        self.begun.as_ref().map_or(0, |begun| begun.bytes.len())
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The kind of the frame that is not complete.
    #[must_use]
    pub fn kind(&self) -> Option<u16> {
        self.begun.as_ref().map(|begun| begun.kind)
    }

    /// Adds a frame of kind [`PIECE`]; returns the long frame if it is complete by that.
    /// `body_len_max` bounds the body of the long frame, for which room is made with its first piece.
    ///
    /// # Errors
    /// See [`PieceError`].
    pub fn add(&mut self, piece: &Frame, body_len_max: usize) -> Result<Option<Frame>, PieceError> {
        let result = self.add_checked(piece, body_len_max);
        if result.is_err() {
            self.begun = None;
        }
        result
    }

    fn add_checked(
        &mut self,
        piece: &Frame,
        body_len_max: usize,
    ) -> Result<Option<Frame>, PieceError> {
        let mut reader = Reader::new(piece.body.clone());
        let mut head = || Ok((reader.u64()?, reader.u16()?, reader.u32()?, reader.u32()?));
        let (number, kind, total, offset) = head().map_err(PieceError::Decode)?;
        let bytes = reader.take(reader.remaining()).map_err(PieceError::Decode)?;
        if total as usize > body_len_max || kind == PIECE {
            return Err(PieceError::Claim { kind, total });
        }
        let (group, epoch) = (piece.group, piece.epoch);
        if offset == 0 {
            self.begun = Some(Begun { number, kind, group, epoch, total, bytes: Vec::new() });
        }
        let gap = PieceError::Gap { offset };
        let begun = self.begun.as_mut().ok_or(gap)?;
        let same = (begun.number, begun.kind, begun.group, begun.epoch, begun.total)
            == (number, kind, group, epoch, total);
        // Of what was begun: a piece of another frame may claim less than has come.
        let room = begun.total as usize - begun.bytes.len();
        if !same || begun.bytes.len() != offset as usize || bytes.is_empty() || bytes.len() > room {
            return Err(gap);
        }
        // At once: to grow piece by piece would copy all of it again and again.
        begun.bytes.reserve_exact(room);
        begun.bytes.extend_from_slice(&bytes);
        if begun.bytes.len() < total as usize {
            return Ok(None);
        }
        let whole = self.begun.take();
        Ok(whole.map(|whole| Frame { kind, group, epoch, body: Bytes::from(whole.bytes) }))
    }
}
