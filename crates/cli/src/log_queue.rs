//! The log of a process, written by a thread of its own: a pipe or terminal that stands still, or a slow
//! disk behind it, holds up nobody who has something to say. Lines that find no room are dropped, and
//! how many is told.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The most bytes of lines that wait to be written.
const BYTES_MAX: usize = 1 << 20;
/// What is told of lines that were dropped, behind their number.
const MISSING: &str = "lines of this log are missing here: they were not taken fast enough";
/// How long the end of the process waits for what is not written.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// Lines on their way to where they are written. Each clone is another way to the same place.
#[derive(Clone, Debug)]
pub(crate) struct LogQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How many lines were dropped behind the last of `lines`.
    dropped: u64,
    writing: bool,
}

impl LogQueue {
    /// Starts the thread that writes to `sink`.
    pub(crate) fn start(sink: impl Write + Send + 'static) -> io::Result<Self> {
        let queue = Self(Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() }));
        let writing = queue.clone();
        thread::Builder::new().name("log".into()).spawn(move || writing.write_all_to(sink))?;
        Ok(queue)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A list of lines is valid after every statement that changes it.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line with its end. Never waits for who reads it.
    pub(crate) fn line(&self, line: &[u8]) {
        let mut state = self.lock();
        // What comes behind a line that was dropped is dropped too, until that is told.
        if state.dropped > 0 || state.bytes + line.len() > BYTES_MAX {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        self.0.changed.notify_all();
    }

    /// Waits a little for what is not written yet.
    pub(crate) fn flush(&self) {
        let until = Instant::now() + LAST_PATIENCE;
        let mut state = self.lock();
        while state.writing || !state.lines.is_empty() || state.dropped > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What is to be written next: lines, and how many are missing behind them.
    fn next(&self) -> (VecDeque<Vec<u8>>, u64) {
        let mut state = self.lock();
        state.writing = false;
        self.0.changed.notify_all();
        while state.lines.is_empty() && state.dropped == 0 {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.writing = true;
        state.bytes = 0;
        (std::mem::take(&mut state.lines), std::mem::take(&mut state.dropped))
    }

    /// The thread's body. A sink that fails takes nothing, and nobody is left to be told so.
    fn write_all_to(&self, mut sink: impl Write) {
        loop {
            let (lines, dropped) = self.next();
            for line in lines {
                let _ = sink.write_all(&line);
            }
            if dropped > 0 {
                let told = format!("{dropped} {MISSING}\n");
                let _ = sink.write_all(told.as_bytes());
            }
            let _ = sink.flush();
        }
    }
}

/// One event's way into the queue: it is written in one piece.
impl Write for LogQueue {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says something on standard error at the end of the process, and waits no longer than a moment for it to
/// be taken.
pub(crate) fn say_last(sentence: &str) {
    let line = format!("{sentence}\n");
    match LogQueue::start(io::stderr()) {
        Ok(queue) => {
            queue.line(line.as_bytes());
            queue.flush();
        }
        // Without a thread it is said all the same.
        Err(_) => drop(io::stderr().write_all(line.as_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    /// Takes nothing until it is allowed to.
    struct Stalled {
        allowed: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.allowed.recv();
            let _ = self.written.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_sink_that_stands_still_holds_up_nobody_and_what_is_missing_is_told() {
        const LINES: usize = 100_000;
        let ((allow, allowed), (written, taken)) = (mpsc::channel(), mpsc::channel());
        let queue = LogQueue::start(Stalled { allowed, written }).expect("a thread");
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let began = Instant::now();
        (0..LINES).for_each(|_| queue.line(&line));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(queue.lock().bytes <= BYTES_MAX);
        // From now on it takes everything.
        drop(allow);
        let (mut lines, mut missing) = (0, 0);
        while lines + missing < LINES {
            let text = taken.recv_timeout(Duration::from_secs(60)).expect("more is written");
            let text = String::from_utf8(text).expect("text");
            match text.split_once(&format!(" {MISSING}")) {
                Some((count, _)) => missing += count.parse::<usize>().expect("a number"),
                None => lines += usize::from(text.starts_with('x')),
            }
        }
        assert!(missing > 0 && lines >= BYTES_MAX / line.len(), "{lines} {missing}");
        queue.line(b"again\n");
        queue.flush();
        assert_eq!(taken.iter().next().as_deref(), Some(&b"again\n"[..]));
    }
}
