//! A connection's bytes: read what is there, write what is queued, never block.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use mainstay_model::GroupId;
use mainstay_model::frame::{self, Frame, FrameError};
use mio::net::TcpStream;

use crate::behind::{Behind, PIECE_LEN};

/// Slices handed to one vectored write.
const SLICES_MAX: usize = 64;
/// Bytes at least this long are queued as they are; shorter ones are copied together.
const SHARE_LEN_MIN: usize = 8 << 10;
/// A buffer that grew beyond this is given back once it is empty: thousands of connections may be idle.
const KEEP_LEN_MAX: usize = 1 << 10;
/// A buffer that holds less than this part of what it once held, and was larger than a page or two, is
/// exchanged for one that fits.
const SPARSE: usize = 4;
const SPARSE_LEN_MIN: usize = 64 << 10;
/// What comes while more than this waits to be understood goes to the end of the line, in pieces: a buffer
/// that grows takes up to twice what it holds.
const INPUT_LEN_MAX: usize = 1 << 20;

/// A non-blocking connection with what was read and not yet understood, and what is to be written.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) socket: TcpStream,
    pub(crate) input: BytesMut,
    /// The memory that `input` takes: the largest capacity since it was last exchanged, since what was
    /// split off its front still holds the same.
    input_peak: usize,
    /// What came behind `input`: the rest of a request that is not complete, or what has to wait.
    behind: Behind,
    /// How many bytes `input` must hold until there is more to understand, as far as that is known.
    needs: usize,
    pub(crate) output: Output,
    /// Whether reading may give something; events come only once.
    pub(crate) readable: bool,
    /// Whether writing may take something.
    pub(crate) writable: bool,
    /// Whether the system said that the other side has ended its half: then reading goes on until
    /// it says so itself.
    pub(crate) ending: bool,
}

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// So many bytes; `readable` tells whether there may be more.
    Bytes(usize),
    /// The other side has ended its half, after so many bytes.
    End(usize),
}

impl Stream {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            input: BytesMut::new(),
            input_peak: 0,
            behind: Behind::default(),
            needs: 0,
            output: Output::default(),
            readable: true,
            writable: true,
            ending: false,
        }
    }

    /// Reads at most `budget` bytes, by way of `scratch`, until there are no more.
    pub(crate) fn fill(&mut self, scratch: &mut [u8], budget: usize) -> io::Result<Filled> {
        let mut count = 0;
        while count < budget {
            match self.socket.read(scratch) {
                Ok(0) => {
                    self.readable = false;
                    return Ok(Filled::End(count));
                }
                Ok(len) => {
                    self.take_in(&scratch[..len]);
                    count += len;
                    if len < scratch.len() && !self.ending {
                        // The system says when there is more.
                        self.readable = false;
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Filled::Bytes(count))
    }

    /// Takes in bytes that came. What is known to be a part of a long request waits until the rest is there.
    fn take_in(&mut self, bytes: &[u8]) {
        let len = self.input.len();
        if self.behind.len() > 0 || len + bytes.len() < self.needs || len >= INPUT_LEN_MAX {
            return self.behind.put(bytes);
        }
        self.input.extend_from_slice(bytes);
        self.input_peak = self.input_peak.max(self.input.capacity());
    }

    /// Moves some of what waits behind `input` to its end, where nothing is left in it that can be
    /// understood before it holds `needs` bytes (0: that is not known). Returns whether there was enough.
    pub(crate) fn bring(&mut self, needs: usize) -> bool {
        self.needs = needs;
        if self.behind.len() == 0 || self.input.len() + self.behind.len() < needs {
            return false;
        }
        self.needs = 0;
        if needs > self.input.len() {
            let mut whole = BytesMut::with_capacity(needs + PIECE_LEN);
            whole.extend_from_slice(&self.input);
            self.input = whole;
        }
        self.behind.move_to(&mut self.input, needs);
        self.input_peak = self.input_peak.max(self.input.capacity());
        true
    }

    /// Takes the next frame off what came, if it is complete.
    pub(crate) fn next_frame(&mut self, body_len_max: usize) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = frame::decode(&mut self.input, body_len_max)? {
                return Ok(Some(frame));
            }
            if !self.bring(frame::needs(&self.input)) {
                return Ok(None);
            }
        }
    }

    /// How many bytes came that are not understood yet.
    pub(crate) fn input_len(&self) -> usize {
        self.input.len() + self.behind.len()
    }

    /// Throws away what came and was not understood.
    pub(crate) fn forget_input(&mut self) {
        self.input.clear();
        self.behind.clear();
        self.needs = 0;
    }

    /// Gives back memory that a large request of before has left behind.
    pub(crate) fn let_go(&mut self) {
        let (len, peak) = (self.input.len(), self.input_peak);
        if len == 0 && peak > KEEP_LEN_MAX || peak > SPARSE_LEN_MIN && len < peak / SPARSE {
            self.input = BytesMut::from(&self.input[..]);
            self.input_peak = self.input.capacity();
        }
    }

    /// Bytes of memory that it takes.
    pub(crate) fn held(&self) -> usize {
        self.input_peak + self.behind.held() + self.output.held()
    }

    /// Writes what is queued, as far as the system takes it, until it took `budget` bytes or more. Returns
    /// how many it took.
    pub(crate) fn flush(&mut self, budget: usize) -> io::Result<usize> {
        let mut count = 0;
        while self.writable && self.output.len() > 0 && count < budget {
            match self.output.write_to(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => count += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(count)
    }

    /// Queues a frame whose body `body` writes.
    pub(crate) fn frame(
        &mut self,
        kind: u16,
        group: GroupId,
        epoch: u32,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        frame::encode(self.output.tail(), kind, group, epoch, body);
    }
}

/// What waits to be written: shared pieces, then bytes written in place.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pieces: VecDeque<Bytes>,
    pieces_len: usize,
    tail: Vec<u8>,
    /// How much of the tail is written already.
    tail_done: usize,
}

impl Output {
    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.pieces_len + self.tail.len() - self.tail_done
    }

    /// Bytes of memory that they take.
    pub(crate) fn held(&self) -> usize {
        self.pieces_len + self.tail.capacity()
    }

    /// Where to append bytes in place.
    pub(crate) const fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends bytes, without copying them where they are long.
    pub(crate) fn push(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_LEN_MIN {
            self.tail.extend_from_slice(bytes);
            return;
        }
        if self.tail.len() > self.tail_done {
            let mut tail = Bytes::from(std::mem::take(&mut self.tail));
            tail.advance(std::mem::take(&mut self.tail_done));
            self.pieces_len += tail.len();
            self.pieces.push_back(tail);
        }
        self.pieces_len += bytes.len();
        self.pieces.push_back(bytes.clone());
    }

    fn write_to(&mut self, to: &mut impl Write) -> io::Result<usize> {
        let pieces = self.pieces.len().min(SLICES_MAX - 1);
        let mut slices: Vec<IoSlice<'_>> =
            self.pieces.iter().take(pieces).map(|piece| IoSlice::new(piece)).collect();
        if pieces == self.pieces.len() && self.tail.len() > self.tail_done {
            slices.push(IoSlice::new(&self.tail[self.tail_done..]));
        }
        let len = to.write_vectored(&slices)?;
        self.advance(len);
        Ok(len)
    }

    fn advance(&mut self, mut len: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let step = len.min(piece.len());
            self.pieces_len -= step;
            len -= step;
            if step < piece.len() {
                piece.advance(step);
                return;
            }
            self.pieces.pop_front();
        }
        self.tail_done += len;
        if self.tail_done == self.tail.len() {
            self.tail_done = 0;
            self.tail.clear();
            self.tail.shrink_to(KEEP_LEN_MAX);
        } else if self.tail_done >= SHARE_LEN_MIN && self.tail_done > self.tail.len() / 2 {
            // A busy connection may never be written empty. More bytes go than are moved.
            self.tail.drain(..std::mem::take(&mut self.tail_done));
            if self.tail.len() < self.tail.capacity() / SPARSE {
                self.tail.shrink_to(self.tail.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Takes a few bytes at a time.
    struct Trickle(Vec<u8>, usize);

    impl Write for Trickle {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let len = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..len]);
            Ok(len)
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut count = 0;
            for slice in slices {
                let len = slice.len().min(self.1 - count);
                self.0.extend_from_slice(&slice[..len]);
                count += len;
            }
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_written_is_let_go_even_if_something_always_waits() {
        let mut output = Output::default();
        output.tail().push(0);
        for _ in 0..10_000 {
            output.tail().extend_from_slice(&[0; 1000]);
            let mut to = Trickle(Vec::new(), 1000);
            while to.0.len() < 1000 {
                output.write_to(&mut to).unwrap();
            }
            assert_eq!(output.len(), 1);
        }
        assert!(output.tail.capacity() <= 4 * SHARE_LEN_MIN, "{}", output.tail.capacity());
    }

    proptest! {
        #[test]
        fn frames_come_out_in_order_however_they_came_and_whenever_they_are_taken(
            lens in proptest::collection::vec(0usize..400_000, 1..20),
            step in 1usize..300_000,
            pauses in proptest::collection::vec(any::<bool>(), 1..40),
        ) {
            let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let mut stream = Stream::new(TcpStream::connect(address).unwrap());
            let mut sent = Vec::new();
            for (n, len) in lens.iter().enumerate() {
                frame::encode(&mut sent, 7, GroupId::FIRST, n as u32, |body| {
                    body.resize(body.len() + len, n as u8);
                });
            }
            let mut came = Vec::new();
            let mut pauses = pauses.into_iter().cycle();
            let mut waiting = 0;
            for bytes in sent.chunks(step) {
                stream.take_in(bytes);
                waiting += bytes.len();
                prop_assert_eq!(stream.input_len(), waiting);
                let held = stream.input_peak + stream.behind.held();
                prop_assert!(held <= waiting + 3 * INPUT_LEN_MAX + 2 * step, "{held} for {waiting}");
                while pauses.next() == Some(false)
                    && let Some(frame) = stream.next_frame(1 << 20).unwrap()
                {
                    waiting = stream.input_len();
                    came.push(frame);
                }
                stream.let_go();
            }
            while let Some(frame) = stream.next_frame(1 << 20).unwrap() {
                came.push(frame);
            }
            prop_assert_eq!(stream.input_len(), 0);
            prop_assert_eq!(came.len(), lens.len());
            for (n, (frame, len)) in came.iter().zip(lens).enumerate() {
                prop_assert_eq!((frame.epoch as usize, frame.body.len()), (n, len));
                prop_assert!(frame.body.iter().all(|byte| *byte == n as u8));
            }
        }

        #[test]
        fn output_is_written_in_order_whatever_the_pieces(
            lens in proptest::collection::vec((0usize..20_000, any::<bool>()), 1..20),
            step in 1usize..30_000,
            between in any::<bool>(),
        ) {
            let mut output = Output::default();
            let mut to = Trickle(Vec::new(), step);
            let mut expected = Vec::new();
            for (n, (len, shared)) in lens.into_iter().enumerate() {
                let bytes = vec![n as u8; len];
                if shared {
                    output.push(&Bytes::from(bytes.clone()));
                } else {
                    output.tail().extend_from_slice(&bytes);
                }
                expected.extend_from_slice(&bytes);
                if between && output.len() > 0 {
                    output.write_to(&mut to).unwrap();
                }
                prop_assert_eq!(output.len(), expected.len() - to.0.len());
            }
            while output.len() > 0 {
                output.write_to(&mut to).unwrap();
            }
            prop_assert_eq!(to.0, expected);
        }
    }
}
