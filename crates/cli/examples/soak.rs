//! A soak: a cluster under load for a long time, while replicas are killed and come back, with default
//! settings. It should end as it began: in speed, in memory, in space on disk.
//!
//! ```console
//! $ cargo build --release -p mainstay-cli --bins --examples
//! $ target/release/examples/soak 30
//! ```
//!
//! Fifty connections write and read as fast as they are answered; four clients of our own count, so
//! that what is lost or done twice shows. Every twenty seconds one replica is killed, each in its
//! turn; every fifth time all three at once.

#[path = "../tests/world/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the end-to-end tests use the rest")]
mod world;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use world::cluster::{REPLICAS, memory_of, signal};
use world::crowd::{Crowd, Habits, Span};
use world::{Cluster, Counters, pause};

/// How many connections there are, and how many clients that count.
const CLIENTS: usize = 50;
const COUNTERS: usize = 4;
/// What they write.
const KEYS: u64 = 200_000;
const VALUE_LEN: usize = 100;
/// Between two kills.
const KILL_INTERVAL: Duration = Duration::from_secs(20);
/// The bound of a log with default settings: three intervals of checkpoints, and files that are allocated
/// ahead (docs/operating.md).
const LOG_BYTES_MAX: u64 = 3 * (256 << 20) + 4 * (64 << 20);
/// Every so many times all replicas are killed.
const ALL_EVERY: usize = 5;

/// One minute.
struct Minute {
    span: Span,
    /// Of each replica, in bytes.
    memory: [u64; REPLICAS],
    disk: [u64; REPLICAS],
}

fn main() {
    let minutes: usize =
        std::env::args().nth(1).map_or(30, |minutes| minutes.parse().expect("a number of minutes"));
    let mut cluster = Cluster::prepare(&program(), &[]);
    println!("ready after {:.0} ms", cluster.up().as_secs_f64() * 1000.0);
    let counters = Counters::start(&cluster, COUNTERS);
    let mut crowd = Crowd::start(Habits {
        clients: CLIENTS,
        addresses: cluster.addresses(),
        keys: KEYS,
        value_len: VALUE_LEN,
        reads_percent: 10,
    });
    println!(
        "{:>6} {:>9} {:>8} {:>8} {:>8} {:>7} {:>5}  {:<24} disk MiB",
        "minute", "per s", "p50 ms", "p99 ms", "max ms", "failed", "kills", "memory MiB"
    );
    let mut seen = Vec::new();
    let mut kills = 0;
    for number in 1..=minutes {
        let before = kills;
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            let next = Instant::now() + KILL_INTERVAL;
            kills += kill(&cluster, kills);
            pause(next.saturating_duration_since(Instant::now()));
        }
        let minute = Minute {
            span: crowd.take(),
            memory: of_each(|index| memory_of(cluster.pid(index)).unwrap_or(0)),
            disk: of_each(|index| bytes_in(&cluster.replica_folder(index))),
        };
        minute.print(number, kills - before);
        seen.push(minute);
    }
    drop(crowd);
    cluster.wait_until_whole();
    let status = cluster.status();
    let bytes = |index| status.slot(index, "checkpoint_bytes");
    let checkpoint_bytes = (0..REPLICAS).map(bytes).max().unwrap_or(0);
    let (lost, twice) = { counters.end().lost_and_twice() };
    println!("acknowledged counts lost: {lost}, done twice: {twice}");
    assert_eq!((lost, twice), (0, 0), "every count is done once");
    compare(&seen, checkpoint_bytes);
}

/// Kills the next replica, or all of them, if all are up; returns whether it did.
fn kill(cluster: &Cluster, kills: usize) -> usize {
    cluster.wait_until_whole();
    let all = (kills + 1).is_multiple_of(ALL_EVERY);
    let victims = if all { REPLICAS } else { 1 };
    let pids: Vec<_> = (0..victims).map(|i| cluster.pid((kills + i) % REPLICAS)).collect();
    pids.into_iter().for_each(|pid| signal(pid, Signal::KILL));
    1
}

impl Minute {
    fn print(&self, number: usize, kills: usize) {
        let span = &self.span;
        println!(
            "{number:>6} {:>9.0} {:>8.2} {:>8.2} {:>8.0} {:>7} {kills:>5}  {:<24} {}",
            span.speed(),
            span.millis(0.5),
            span.millis(0.99),
            span.millis(1.0),
            span.failed,
            mebibytes(&self.memory),
            mebibytes(&self.disk),
        );
    }
}

/// Minutes 5 to 10 against the last five; ends with a failure if these are worse.
fn compare(minutes: &[Minute], checkpoint_bytes: u64) {
    if minutes.len() < 15 {
        println!("too short to compare minutes 5 to 10 with the last five");
        return;
    }
    let (early, late) = (&minutes[4..10], &minutes[minutes.len() - 5..]);
    let speed = |of: &[Minute]| median(of.iter().map(|minute| minute.span.speed()).collect());
    let most = |of: &[Minute], what: fn(&Minute) -> &[u64]| {
        of.iter().flat_map(what).max().copied().unwrap_or(0)
    };
    let ratio = speed(late) / speed(early);
    let memory = (most(early, |m| &m.memory), most(late, |m| &m.memory));
    let disk = (most(early, |m| &m.disk), most(late, |m| &m.disk));
    let disk_max = 2 * checkpoint_bytes + LOG_BYTES_MAX;
    println!(
        "minutes 5 to 10 against the last five: {:.0} and {:.0} a second (ratio {ratio:.2}); memory at \
         most {} and {} MiB; disk at most {} and {} MiB, of {} MiB that two checkpoints and the log may have",
        speed(early),
        speed(late),
        memory.0 >> 20,
        memory.1 >> 20,
        disk.0 >> 20,
        disk.1 >> 20,
        disk_max >> 20,
    );
    assert!(ratio >= 0.9, "it has become slower");
    assert!(memory.1 <= memory.0 + memory.0 / 10, "memory has grown");
    assert!(disk.1 <= disk_max, "the disk holds more than it should");
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn of_each(what: impl Fn(usize) -> u64) -> [u64; REPLICAS] {
    std::array::from_fn(what)
}

fn mebibytes(bytes: &[u64]) -> String {
    bytes.iter().map(|bytes| format!("{} ", bytes >> 20)).collect()
}

/// The files of a folder, as long as they are.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|file| file.len()).sum()
}

/// The program lies beside the folder of the examples.
fn program() -> PathBuf {
    let example = std::env::current_exe().expect("the path of this program");
    let folder = example.parent().and_then(|examples| examples.parent()).expect("a folder");
    folder.join("mainstay")
}
