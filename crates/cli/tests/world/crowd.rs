//! A crowd: many Redis connections, each of which asks again as soon as it is answered; what is
//! measured of them is speed and waiting times, not order.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mainstay_model::Prng;

use crate::world::pause;

/// How long a replica may leave a client without a reply until the client goes to another one. A replica
/// says of itself long before that it cannot serve, or that an outcome is uncertain; only the machine's
/// own disk may be slower than that.
const PATIENCE: Duration = Duration::from_secs(20);
/// Before a client that found nobody tries again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// What a crowd asks for.
#[derive(Clone, Debug)]
pub(crate) struct Habits {
    /// How many connections.
    pub(crate) clients: usize,
    /// Where they go; one that is not served tries the next.
    pub(crate) addresses: Vec<SocketAddr>,
    /// How many keys they write to, drawn evenly.
    pub(crate) keys: u64,
    /// The length of a value in bytes.
    pub(crate) value_len: usize,
    /// How many of 100 commands read.
    pub(crate) reads_percent: u64,
}

/// What was seen in a span of time.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    /// How long it was.
    pub(crate) time: Duration,
    /// How long each command took, in microseconds.
    pub(crate) latencies: Histogram<u32>,
    /// Commands that were refused, or whose outcome is unknown.
    pub(crate) failed: u64,
    /// What the first of them was told, or how its connection ended.
    pub(crate) failure: Option<String>,
}

impl Span {
    fn new() -> Self {
        // Five digits of microseconds and a minute are plenty.
        let latencies = Histogram::new_with_bounds(1, 60_000_000, 3).expect("good bounds");
        Self { time: Duration::ZERO, latencies, failed: 0, failure: None }
    }

    /// Takes another span into this one.
    pub(crate) fn add(&mut self, other: &Self) {
        self.time += other.time;
        self.latencies.add(&other.latencies).expect("equal bounds");
        self.failed += other.failed;
        self.failure = self.failure.take().or_else(|| other.failure.clone());
    }

    /// Commands a second.
    pub(crate) fn speed(&self) -> f64 {
        self.latencies.len() as f64 / self.time.as_secs_f64()
    }

    /// How long the given share of the commands took at most, in milliseconds.
    pub(crate) fn millis(&self, share: f64) -> f64 {
        self.latencies.value_at_quantile(share) as f64 / 1000.0
    }
}

/// A crowd at work; it stops when this is dropped.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    since: Instant,
}

struct Shared {
    habits: Habits,
    stop: AtomicBool,
    /// One a client, so that they do not wait for one another.
    spans: Vec<Mutex<Span>>,
}

impl Crowd {
    /// Starts it.
    pub(crate) fn start(habits: Habits) -> Self {
        let spans = (0..habits.clients).map(|_| Mutex::new(Span::new())).collect();
        let shared = Arc::new(Shared { habits, stop: AtomicBool::new(false), spans });
        let threads = (0..shared.habits.clients)
            .map(|number| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.live(number))
            })
            .collect();
        Self { shared, threads, since: Instant::now() }
    }

    /// What was seen since the start, or since the last call of this.
    pub(crate) fn take(&mut self) -> Span {
        let mut all = Span::new();
        for span in &self.shared.spans {
            let span = {
                let mut held = span.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::replace(&mut *held, Span::new())
            };
            all.add(&span);
        }
        let now = Instant::now();
        all.time = now - std::mem::replace(&mut self.since, now);
        all
    }

    /// What is seen in a span of so long from now.
    pub(crate) fn watch(&mut self, time: Duration) -> Span {
        self.take();
        pause(time);
        self.take()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A client that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn live(&self, number: usize) {
        let mut prng = Prng::new(number as u64 + 1);
        let addresses = &self.habits.addresses;
        let mut turn = number;
        while !self.stop.load(Ordering::Relaxed) {
            if self.talk(number, addresses[turn % addresses.len()], &mut prng).is_err() {
                pause(RETRY_PAUSE);
            }
            turn += 1;
        }
    }

    /// Asks over one connection, until that breaks, a command fails, or all is over.
    fn talk(&self, number: usize, address: SocketAddr, prng: &mut Prng) -> io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut buffer = vec![0; self.habits.value_len + 256];
        while !self.stop.load(Ordering::Relaxed) {
            let command = self.command(prng);
            let began = Instant::now();
            let done = stream.write_all(&command).and_then(|()| reply(&mut stream, &mut buffer));
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            let mut span = self.spans[number].lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = done {
                span.failed += 1;
                span.failure.get_or_insert_with(|| format!("at {address}: {error}"));
                return Err(error);
            }
            span.latencies.saturating_record(took);
        }
        Ok(())
    }

    fn command(&self, prng: &mut Prng) -> Vec<u8> {
        let key = format!("key:{:012}", prng.below(self.habits.keys));
        if prng.below(100) < self.habits.reads_percent {
            return format!("*2\r\n$3\r\nGET\r\n$16\r\n{key}\r\n").into_bytes();
        }
        let len = self.habits.value_len;
        let mut command = format!("*3\r\n$3\r\nSET\r\n$16\r\n{key}\r\n${len}\r\n").into_bytes();
        let letter = b'a' + prng.below(26) as u8;
        command.resize(command.len() + len, letter);
        command.extend(b"\r\n");
        command
    }
}

/// Reads one reply, a line or a string; one that refuses is an error.
fn reply(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    let mut len = 0;
    loop {
        let read = match stream.read(&mut buffer[len..]) {
            // A read with a time-out is not begun again by the system.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        len += read;
        let bytes = &buffer[..len];
        let Some(line) = bytes.windows(2).position(|pair| pair == b"\r\n") else { continue };
        let rest = match bytes[0] {
            b'+' | b':' | b'_' => 0,
            b'$' if bytes[1] == b'-' => 0,
            b'$' => {
                let text = std::str::from_utf8(&bytes[1..line]).ok();
                text.and_then(|text| text.parse::<usize>().ok()).map_or(0, |value| value + 2)
            }
            _ => return Err(io::Error::other(String::from_utf8_lossy(bytes).into_owned())),
        };
        if len >= line + 2 + rest {
            return Ok(());
        }
    }
}
