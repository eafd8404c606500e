//! What a checkpoint costs a store that goes on executing: the pause while it is taken, the longest
//! single apply while it is written, the throughput with and without one under way, and the memory.
//!
//! ```text
//! cargo run --release -p mainstay-kv --example checkpoint_pause -- [GIGABYTES] [VALUE BYTES] [MB/S] [ROUNDS]
//! ```
//!
//! Fills a store with that much (keys, values and nothing else counted; default 1, values of 100
//! bytes) and a full table of sessions. Then, in each of the rounds (default 5), overwrites random keys,
//! each in a slot of its own: for five seconds without a checkpoint, and then from before one is taken
//! until it is written to a file in the current folder, at most at the rate given (default 200 MB/s).
//! Tells least, median and most over the rounds. Needs some three times the memory.
//!
//! Times are those of the clock; once more without what the thread waited for a processor that others
//! had, as the operating system tells it (`/proc/thread-self/schedstat`); and those of the processor alone.
//! On a machine that is busy with something else only the last say anything about the store: what is
//! between them and the second may be a wait for memory that another thread holds up.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_kv::expiry::Lifetime;
use mainstay_kv::{Answer, Condition, Operation, Store};
use mainstay_model::{Batch, NoPlants, Nonce, Prng, RequestNumber, SessionId, Slot, Timestamp};
use mainstay_service::{Applier, ApplierCheckpoint, Command, SessionLimits};
use rustix::time::{ClockId, clock_gettime};
use tikv_jemallocator::Jemalloc;

/// As the program's.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const KEY_LEN: u64 = 16;
const SESSIONS: u32 = 4096;
const RUN: Duration = Duration::from_secs(5);

struct Bench {
    applier: Applier<Store>,
    numbers: Vec<u64>,
    slot: u64,
    value_len: usize,
    keys: u64,
    prng: Prng,
    waiting: Waiting,
}

/// For how long this thread was ready and had no processor.
struct Waiting {
    told: File,
}

impl Waiting {
    fn new() -> io::Result<Self> {
        Ok(Self { told: File::open("/proc/thread-self/schedstat")? })
    }

    fn so_far(&self) -> Duration {
        let mut bytes = [0; 64];
        let len = self.told.read_at(&mut bytes, 0).unwrap_or_default();
        let text = std::str::from_utf8(&bytes[..len]).unwrap_or_default();
        let nanos = text.split(' ').nth(1).and_then(|field| field.parse().ok());
        Duration::from_nanos(nanos.unwrap_or_default())
    }
}

/// Of a processor, by this thread so far.
fn used() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// How long something took.
#[derive(Clone, Copy, Default)]
struct Took {
    /// By the clock.
    clock: Duration,
    /// The same without waiting for a processor.
    ready: Duration,
    /// Of a processor.
    used: Duration,
}

/// What a stretch of writes showed.
#[derive(Default)]
struct Stretch {
    applies: u32,
    all: Took,
    longest: Took,
    /// How many took above a millisecond of a processor.
    above_1_ms: u32,
}

impl Stretch {
    fn add(&mut self, took: Took) {
        self.applies += 1;
        let Took { clock, ready, used } = took;
        let (all, longest) = (&mut self.all, &mut self.longest);
        *all = Took { clock: all.clock + clock, ready: all.ready + ready, used: all.used + used };
        *longest = Took {
            clock: longest.clock.max(clock),
            ready: longest.ready.max(ready),
            used: longest.used.max(used),
        };
        self.above_1_ms += u32::from(used > Duration::from_millis(1));
    }

    fn rate(&self) -> f64 {
        f64::from(self.applies) / self.all.clock.as_secs_f64()
    }

    /// Microseconds of a processor.
    fn each(&self) -> f64 {
        self.all.used.as_secs_f64() * 1e6 / f64::from(self.applies)
    }
}

/// What one round showed.
struct Round {
    without: Stretch,
    with: Stretch,
    taken: Took,
    written: Duration,
}

impl Bench {
    fn new(bytes: u64, value_len: usize) -> io::Result<Self> {
        let applier = Applier::new(Store::default(), SessionLimits::default(), NoPlants);
        let keys = bytes / (KEY_LEN + value_len as u64);
        let numbers = vec![0; SESSIONS as usize];
        let waiting = Waiting::new()?;
        let mut bench =
            Self { applier, numbers, slot: 0, value_len, keys, prng: Prng::new(1), waiting };
        let registers = (0..SESSIONS).map(|nonce| Command::Register { nonce: Nonce(nonce.into()) });
        bench.apply(registers.map(|command| command.encode()).collect());
        for first in (0..keys).step_by(256) {
            let batch = (first..keys.min(first + 256)).map(|key| bench.set(key)).collect();
            bench.apply(batch);
            if bench.applier.checkpoint_due() {
                drop(bench.applier.checkpoint());
            }
        }
        Ok(bench)
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
            answer: Answer::Done,
            lifetime: Lifetime::Endless,
        }
        .encode();
        let acknowledged_upto = RequestNumber(number.saturating_sub(16));
        let number = RequestNumber(number);
        Command::Request { session, number, acknowledged_upto, body: operation }.encode()
    }

    /// Times something that is done to the applier.
    fn time<T>(&mut self, run: impl FnOnce(&mut Applier<Store>) -> T) -> (Took, T) {
        let waited = self.waiting.so_far();
        let (begun, before) = (Instant::now(), used());
        let value = run(&mut self.applier);
        let (clock, used) = (begun.elapsed(), used() - before);
        let waited = self.waiting.so_far() - waited;
        (Took { clock, ready: clock.saturating_sub(waited), used }, value)
    }

    fn apply(&mut self, requests: Vec<Bytes>) -> Took {
        self.slot += 1;
        let slot = Slot(self.slot);
        let value = Batch { time: Timestamp(self.slot), requests }.encode();
        let mut out = Vec::new();
        let (took, applied) = self.time(|applier| applier.apply(slot, &value, &mut out));
        applied.expect("applies");
        took
    }

    /// Writes to random keys while `go_on` says so.
    fn stretch(&mut self, stretch: &mut Stretch, mut go_on: impl FnMut() -> bool) {
        while go_on() {
            let key = self.prng.below(self.keys);
            let set = self.set(key);
            stretch.add(self.apply(vec![set]));
            if self.applier.checkpoint_due() {
                let (took, checkpoint) = self.time(Applier::checkpoint);
                drop(checkpoint);
                stretch.add(took);
            }
        }
    }

    fn round(&mut self, rate: f64) -> io::Result<Round> {
        let (mut without, mut with) = (Stretch::default(), Stretch::default());
        let until = Instant::now() + RUN;
        self.stretch(&mut without, || Instant::now() < until);
        let (taken, checkpoint) = self.time(Applier::checkpoint);
        let checkpoint = checkpoint.expect("the service stands");
        with.add(taken);
        let writer = std::thread::spawn(move || write(checkpoint, rate * 1e6));
        self.stretch(&mut with, || !writer.is_finished());
        let written = writer.join().expect("does not panic")?;
        Ok(Round { without, with, taken, written })
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
) -> io::Result<Duration> {
    let path = &format!("checkpoint_pause-{}.tmp", std::process::id());
    let begun = Instant::now();
    let mut to = Slowed { file: File::create(path)?, begun, written: 0, rate };
    checkpoint.write(&mut to)?;
    to.file.sync_all()?;
    std::fs::remove_file(path)?;
    Ok(begun.elapsed())
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

/// Least, median and most over the rounds.
fn tell(name: &str, rounds: &[Round], of: impl Fn(&Round) -> f64) {
    let mut figures: Vec<f64> = rounds.iter().map(of).collect();
    figures.sort_unstable_by(f64::total_cmp);
    let [least, median, most] = [0, figures.len() / 2, figures.len() - 1].map(|at| figures[at]);
    println!("{name:<58} {least:>10.2} {median:>10.2} {most:>10.2}");
}

fn tell_took(name: &str, rounds: &[Round], of: impl Fn(&Round) -> Took) {
    tell(name, rounds, |round| ms(of(round).clock));
    tell("  less waiting for a processor", rounds, |round| ms(of(round).ready));
    tell("  of a processor", rounds, |round| ms(of(round).used));
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: f64| {
        arguments.next().map_or(default, |text| text.parse().expect("the arguments are numbers"))
    };
    let (gigabytes, value_len, rate) = (argument(1.0), argument(100.0), argument(200.0));
    let count = argument(5.0).max(1.0) as usize;
    let begun = Instant::now();
    let mut bench = Bench::new((gigabytes * 1e9) as u64, value_len as usize)?;
    println!("{} keys in {:?}, {} MiB resident", bench.keys, begun.elapsed(), memory().0);
    let rounds = (0..count).map(|_| bench.round(rate)).collect::<io::Result<Vec<_>>>()?;
    let (now, most) = memory();
    println!("after {count} rounds {now} MiB resident, {most} MiB at most\n");
    println!("{:<58} {:>10} {:>10} {:>10}", "", "least", "median", "most");
    tell("applies a second, without a checkpoint", &rounds, |round| round.without.rate());
    tell("applies a second, while one is written", &rounds, |round| round.with.rate());
    tell("the latter as a share", &rounds, |round| round.with.rate() / round.without.rate());
    tell("processor time an apply, without (us)", &rounds, |round| round.without.each());
    tell("processor time an apply, while one is written (us)", &rounds, |r| r.with.each());
    tell_took("taking it (ms)", &rounds, |round| round.taken);
    tell_took("longest apply, without (ms)", &rounds, |round| round.without.longest);
    tell_took("longest apply, while one is written (ms)", &rounds, |round| round.with.longest);
    tell("applies above 1 ms in a million, without", &rounds, |round| {
        f64::from(round.without.above_1_ms) * 1e6 / f64::from(round.without.applies)
    });
    tell("applies above 1 ms in a million, while one is written", &rounds, |round| {
        f64::from(round.with.above_1_ms) * 1e6 / f64::from(round.with.applies)
    });
    tell("writing it (s)", &rounds, |round| round.written.as_secs_f64());
    Ok(())
}
