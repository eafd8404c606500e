//! What a checkpoint costs a store that goes on executing: the pause while it is taken, the longest
//! single apply while it is written, the throughput with and without one under way, and the memory.
//!
//! ```text
//! cargo run --release -p mainstay-kv --example checkpoint_pause -- [GIGABYTES] [VALUE BYTES] [MB/S]
//! ```
//!
//! Fills a store with that much (keys, values and nothing else counted; default 1, values of 100
//! bytes) and a full table of sessions, then overwrites random keys, each in a slot of its own, for ten
//! seconds; then once more while a checkpoint is written to a file in the current folder, at most at
//! the rate given (default 200 MB/s). Needs some three times the memory.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_kv::expiry::Lifetime;
use mainstay_kv::{Condition, Operation, Store};
use mainstay_model::{Batch, NoPlants, Nonce, Prng, RequestNumber, SessionId, Slot, Timestamp};
use mainstay_service::{Applier, ApplierCheckpoint, Command, SessionLimits};

const KEY_LEN: u64 = 16;
const SESSIONS: u32 = 4096;
const RUN: Duration = Duration::from_secs(10);

struct Bench {
    applier: Applier<Store>,
    numbers: Vec<u64>,
    slot: u64,
    value_len: usize,
    keys: u64,
    prng: Prng,
}

/// What a stretch of writes showed.
#[derive(Default)]
struct Stretch {
    applies: Vec<Duration>,
    elapsed: Duration,
}

impl Stretch {
    fn rate(&self) -> f64 {
        self.applies.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn tell(mut self, name: &str) {
        let rate = self.rate();
        self.applies.sort_unstable();
        let at = |share: f64| self.applies[((self.applies.len() - 1) as f64 * share) as usize];
        println!(
            "{name}: {rate:.0} applies/s; p50 {:?}, p99 {:?}, p99.99 {:?}, longest {:?}",
            at(0.5),
            at(0.99),
            at(0.9999),
            at(1.0)
        );
    }
}

impl Bench {
    fn new(bytes: u64, value_len: usize) -> Self {
        let applier = Applier::new(Store::default(), SessionLimits::default(), 1, NoPlants);
        let keys = bytes / (KEY_LEN + value_len as u64);
        let numbers = vec![0; SESSIONS as usize];
        let mut bench = Self { applier, numbers, slot: 0, value_len, keys, prng: Prng::new(1) };
        let registers = (0..SESSIONS).map(|nonce| Command::Register { nonce: Nonce(nonce.into()) });
        bench.apply(registers.map(|command| command.encode()).collect());
        for first in (0..keys).step_by(256) {
            let batch = (first..keys.min(first + 256)).map(|key| bench.set(key)).collect();
            bench.apply(batch);
            if bench.applier.checkpoint_due() {
                drop(bench.applier.checkpoint());
            }
        }
        bench
    }

    /// A request that sets a key; each session keeps up to sixteen replies.
    fn set(&mut self, key: u64) -> Bytes {
        let position = self.prng.below(SESSIONS.into()) as usize;
        self.numbers[position] += 1;
        let number = self.numbers[position];
        let session = SessionId { slot: Slot(1), position: position as u32 };
        let value = vec![self.prng.next_u64() as u8; self.value_len];
        let operation = Operation::Set {
            key: format!("{key:016x}").as_bytes(),
            value: &value,
            condition: Condition::Always,
            previous: false,
            lifetime: Lifetime::Endless,
        }
        .encode();
        let acknowledged_upto = RequestNumber(number.saturating_sub(16));
        let number = RequestNumber(number);
        Command::Request { session, number, acknowledged_upto, body: operation }.encode()
    }

    fn apply(&mut self, requests: Vec<Bytes>) -> Duration {
        self.slot += 1;
        let value = Batch { time: Timestamp(self.slot), requests }.encode();
        let mut out = Vec::new();
        let begun = Instant::now();
        self.applier.apply(Slot(self.slot), &value, &mut out).expect("applies");
        begun.elapsed()
    }

    /// Writes to random keys while `go_on` says so.
    fn stretch(&mut self, mut go_on: impl FnMut() -> bool) -> Stretch {
        let mut stretch = Stretch::default();
        while go_on() {
            let key = self.prng.below(self.keys);
            let set = self.set(key);
            stretch.applies.push(self.apply(vec![set]));
            if self.applier.checkpoint_due() {
                drop(self.applier.checkpoint());
            }
        }
        stretch.elapsed = stretch.applies.iter().sum();
        stretch
    }
}

/// A file that takes so many bytes a second.
struct Slowed {
    file: File,
    begun: Instant,
    written: u64,
    rate: f64,
}

impl Write for Slowed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        let due = Duration::from_secs_f64(self.written as f64 / self.rate);
        std::thread::sleep(due.saturating_sub(self.begun.elapsed()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn write<C: mainstay_service::Checkpoint>(
    checkpoint: ApplierCheckpoint<C>,
    rate: f64,
) -> io::Result<(u64, Duration)> {
    let path = "checkpoint_pause.tmp";
    let begun = Instant::now();
    let mut to = Slowed { file: File::create(path)?, begun, written: 0, rate };
    checkpoint.write(&mut to)?;
    to.file.sync_all()?;
    std::fs::remove_file(path)?;
    Ok((to.written, begun.elapsed()))
}

/// Resident memory in MiB: now, and the most there ever was.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let mib = |name| field(name).unwrap_or_default() >> 10;
    (mib("VmRSS:"), mib("VmHWM:"))
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: f64| {
        arguments.next().map_or(default, |text| text.parse().expect("the arguments are numbers"))
    };
    let (gigabytes, value_len, rate) = (argument(1.0), argument(100.0), argument(200.0));
    let begun = Instant::now();
    let mut bench = Bench::new((gigabytes * 1e9) as u64, value_len as usize);
    println!("{} keys in {:?}, {} MiB resident", bench.keys, begun.elapsed(), memory().0);

    let until = Instant::now() + RUN;
    let without = bench.stretch(|| Instant::now() < until);
    let before = memory().0;
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        let checkpoint = bench.applier.checkpoint();
        pauses.push(begun.elapsed());
        drop(checkpoint);
        // So that the next one finds caches and sessions as they are in use.
        let until = Instant::now() + RUN / 100;
        bench.stretch(|| Instant::now() < until);
    }
    println!("pause of checkpoint(): longest of {} {:?}", pauses.len(), pauses.iter().max());
    let checkpoint = bench.applier.checkpoint().expect("the service stands");
    let writer = std::thread::spawn(move || write(checkpoint, rate * 1e6));
    let until = Instant::now() + RUN / 10;
    let first = bench.stretch(|| Instant::now() < until && !writer.is_finished());
    let rest = bench.stretch(|| !writer.is_finished());
    let peak = memory().1;
    let (written, took) = writer.join().expect("does not panic")?;
    let all = (first.applies.len() + rest.applies.len()) as f64
        / (first.elapsed + rest.elapsed).as_secs_f64();
    println!("{} MB written in {took:?}", written / 1_000_000);
    println!("throughput while it was written: {:.2} x", all / without.rate());
    println!("memory: {before} MiB before, {peak} MiB at most");
    without.tell("without a checkpoint");
    first.tell("its first second");
    rest.tell("the rest");
    Ok(())
}
