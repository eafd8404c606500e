//! Long frames on their way to a peer. They leave in pieces, one after the other; whatever is short goes
//! between the pieces.

use std::collections::VecDeque;

use mainstay_model::piece::{LongFrame, PIECE_LEN_MAX};
use mainstay_model::{GroupId, Rope};

use crate::stream::Output;

/// What waits to be cut.
#[derive(Debug, Default)]
pub(crate) struct LongFrames {
    frames: VecDeque<LongFrame>,
    /// Bytes of `frames`.
    len: usize,
    made: u64,
}

impl LongFrames {
    /// Bytes that were not cut off yet.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Queues a frame.
    pub(crate) fn push(&mut self, kind: u16, group: GroupId, epoch: u32, body: Rope) {
        self.len += body.len();
        self.frames.push_back(LongFrame::new(self.made, kind, group, epoch, body));
        self.made += 1;
    }

    /// Moves the next piece to `output`. Returns of which kind it was a piece; `None` if there was none.
    pub(crate) fn cut(&mut self, output: &mut Output) -> Option<u16> {
        let frame = self.frames.front_mut()?;
        let kind = frame.kind();
        for part in frame.cut(PIECE_LEN_MAX, output.tail()) {
            self.len -= part.len();
            output.push(&part);
        }
        if frame.is_empty() {
            self.frames.pop_front();
        }
        Some(kind)
    }

    /// Forgets everything: the connection is gone.
    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.len = 0;
    }
}
