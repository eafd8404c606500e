//! Measures a store with a large state: what a checkpoint costs while it is made, how long a restart
//! takes, and how long a replica that lost its folder takes to come back while the others serve.
//!
//! ```console
//! $ cargo build --release -p mainstay-cli --bins --examples
//! $ target/release/examples/large_state 1024
//! $ target/release/examples/large_state 1024 fetch_rate=33554432
//! ```
//!
//! The number is the size of the state in MiB: as many thousand values of 1 KiB, written over and over
//! by fifty connections. Three replicas, each a process of its own; default settings, but for what is
//! named of the table `checkpoint` of their configurations. `watch=SECONDS` is for how long the cost of
//! checkpoints is watched, 90 if not told.

#[path = "../tests/world/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the end-to-end tests use the rest")]
mod world;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use world::by_hand::ByHand;
use world::cluster::REPLICAS;
use world::crowd::{Crowd, Habits};
use world::pause;

const VALUE_LEN: usize = 1024;
/// How many connections fill the store, and how many commands each sends at once.
const FILLERS: u64 = 4;
const PIPELINE: u64 = 64;
/// How often it is looked whether a checkpoint is being written.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// For how many seconds speed is watched, if that is not told.
const WATCHED: u64 = 90;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(900);

fn main() {
    let mebibytes: u64 =
        std::env::args().nth(1).map_or(1024, |size| size.parse().expect("a number of MiB"));
    let keys = mebibytes << 10;
    let mut group = ByHand::init(&program());
    let (watch, settings): (Vec<_>, Vec<_>) =
        std::env::args().skip(2).partition(|setting| setting.starts_with("watch="));
    let watched = watch
        .first()
        .map_or(WATCHED, |watch| watch["watch=".len()..].parse().expect("a number of seconds"));
    configure(&group, &settings);
    (0..REPLICAS).for_each(|index| group.start(index));
    let leader = group.wait_until_whole();
    let began = Instant::now();
    fill(group.clients_at(leader), keys);
    println!("{mebibytes} MiB written in {:.1} s", began.elapsed().as_secs_f64());
    let first = |status: &world::cluster::Status| {
        (0..REPLICAS).all(|index| status.slot(index, "checkpoint") > 0)
    };
    group.wait_until("every replica has a checkpoint", PATIENCE, first);
    watch_checkpoints(&group, leader, keys, Duration::from_secs(watched));
    restart(&mut group);
    let leader = group.wait_until_whole();
    come_back(&mut group, leader, keys);
}

/// Adds settings to the configuration of every replica.
fn configure(group: &ByHand, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    for index in 0..REPLICAS {
        let path = group.folder(index).with_extension("toml");
        let text = fs::read_to_string(&path).expect("a configuration");
        let added = format!("{text}\n[checkpoint]\n{}\n", lines.join("\n"));
        fs::write(path, added).expect("a configuration");
    }
}

fn habits(group: &ByHand, leader: usize, keys: u64) -> Habits {
    let addresses = vec![group.clients_at(leader)];
    Habits { clients: 50, addresses, keys, value_len: VALUE_LEN, reads_percent: 0 }
}

/// Throughput while a checkpoint is being written at any replica, and while none is.
fn watch_checkpoints(group: &ByHand, leader: usize, keys: u64, watched: Duration) {
    let mut crowd = Crowd::start(habits(group, leader, keys));
    crowd.watch(Duration::from_secs(5));
    let (mut with, mut without) = (crowd.take(), crowd.take());
    let until = Instant::now() + watched;
    while Instant::now() < until {
        let before = is_writing(group);
        let span = crowd.watch(LOOK_INTERVAL);
        // Where it began or ended in between, it belongs to neither.
        if before == is_writing(group) {
            let seen = if before { &mut with } else { &mut without };
            seen.add(&span);
        }
    }
    for (how, span) in [("without", &without), ("with", &with)] {
        println!(
            "{how:>8} a checkpoint under way: {:>8.0} a second, p99 {:.2} ms, longest {:.0} ms, over \
             {:.1} s",
            span.speed(),
            span.millis(0.99),
            span.millis(1.0),
            span.time.as_secs_f64()
        );
    }
    println!(
        "throughput with one under way: {:.2} of that without",
        with.speed() / without.speed()
    );
    let status = group.status();
    for index in 0..REPLICAS {
        println!("replica {index}: {}", status.replica(index));
    }
}

/// Whether some replica is writing a checkpoint.
fn is_writing(group: &ByHand) -> bool {
    (0..REPLICAS).any(|index| {
        let files = fs::read_dir(group.folder(index)).into_iter().flatten().flatten();
        files.into_iter().any(|file| {
            let name = file.file_name().to_string_lossy().into_owned();
            name.starts_with("checkpoint-") && name.ends_with(".tmp")
        })
    })
}

/// All replicas are killed and started again.
fn restart(group: &mut ByHand) {
    (0..REPLICAS).for_each(|index| group.kill(index));
    let began = Instant::now();
    (0..REPLICAS).for_each(|index| group.start(index));
    group.wait_until("somebody leads", PATIENCE, |status| status.leader().is_some());
    let led = began.elapsed();
    group.wait_until("every replica is active", PATIENCE, |status| {
        (0..REPLICAS).all(|index| status.state(index) == "active")
    });
    println!(
        "restart of all after kill -9: a leader after {:.2} s, every replica active after {:.2} s",
        led.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
}

/// A follower loses its folder and comes back, while the others serve.
fn come_back(group: &mut ByHand, leader: usize, keys: u64) {
    let lost = (leader + 1) % REPLICAS;
    let alone = Copied::of(&group.folder(leader));
    let mut crowd = Crowd::start(habits(group, leader, keys));
    crowd.watch(Duration::from_secs(5));
    let undisturbed = crowd.watch(Duration::from_secs(20));
    group.kill(lost);
    group.lose(lost, leader);
    crowd.watch(Duration::from_secs(2));
    let loaded = Copied::of(&group.folder(leader));
    let two = crowd.watch(Duration::from_secs(20));
    let target = group.status().slot(leader, "decided");
    let began = Instant::now();
    group.start(lost);
    let (mut fetched, mut fetching) = (0, None);
    let took = loop {
        let status = group.status();
        let replica = status.replica(lost);
        fetched = replica["transfer"]["total"].as_u64().unwrap_or(0).max(fetched);
        if fetching.is_none() && status.slot(lost, "checkpoint") > 0 {
            fetching = Some((began.elapsed(), crowd.take()));
        }
        if status.slot(lost, "applied") >= target {
            break began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "it does not come back: {replica}");
        pause(LOOK_INTERVAL);
    };
    let following = crowd.take();
    let (in_place, fetching) = fetching.unwrap_or_else(|| (took, following.clone()));
    println!(
        "an empty replica has caught up after {:.2} s; a checkpoint of {} MiB was in place after {:.2} s",
        took.as_secs_f64(),
        fetched >> 20,
        in_place.as_secs_f64(),
    );
    for (how, copied) in [("while nobody writes", alone), ("while the clients write", loaded)] {
        // What was fetched need not be what was copied.
        let same = copied.time.as_secs_f64() * fetched as f64 / copied.bytes as f64;
        println!(
            "copying a file of {} MiB {how} takes {:.2} s: the ratio is {:.1}",
            copied.bytes >> 20,
            copied.time.as_secs_f64(),
            took.as_secs_f64() / same
        );
    }
    let mut during = fetching.clone();
    during.add(&following);
    for (when, span) in [
        ("three replicas", &undisturbed),
        ("two", &two),
        ("meanwhile", &during),
        ("while it fetches", &fetching),
        ("while it follows", &following),
    ] {
        println!(
            "{when:>16}: {:>8.0} a second, p50 {:.2} ms, p99 {:.2} ms, longest {:.0} ms",
            span.speed(),
            span.millis(0.5),
            span.millis(0.99),
            span.millis(1.0)
        );
    }
    println!("p99 meanwhile: {:.2} of undisturbed", during.millis(0.99) / undisturbed.millis(0.99));
}

/// A plain copy of a checkpoint to the same disk, until it is durable.
#[derive(Clone, Copy)]
struct Copied {
    bytes: u64,
    time: Duration,
}

impl Copied {
    /// Copies the newest checkpoint of a folder.
    fn of(folder: &Path) -> Self {
        // It may make way for a newer one between two steps.
        let (mut from, path) = world::wait_for("a checkpoint", || {
            let path = newest_checkpoint(folder)?;
            File::open(&path).ok().map(|file| (file, path))
        });
        let copy = path.with_extension("copy");
        let began = Instant::now();
        let mut to = File::create(&copy).expect("room");
        let bytes = io::copy(&mut from, &mut to).expect("it is copied");
        to.sync_all().expect("it is copied");
        let time = began.elapsed();
        fs::remove_file(copy).expect("the copy goes");
        Self { bytes, time }
    }
}

fn newest_checkpoint(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.flatten().map(|file| file.path());
    let held = files.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("checkpoint-") && name.ends_with(".ms")
    });
    held.max()
}

/// Writes every key once.
fn fill(address: SocketAddr, keys: u64) {
    thread::scope(|scope| {
        for filler in 0..FILLERS {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).expect("a connection");
                let mut mine = (0..keys).filter(|key| key % FILLERS == filler).peekable();
                while mine.peek().is_some() {
                    fill_some(&mut stream, &mut mine).expect("the values are taken");
                }
            });
        }
    });
}

fn fill_some(stream: &mut TcpStream, keys: &mut impl Iterator<Item = u64>) -> io::Result<()> {
    let mut commands = Vec::new();
    let mut count = 0;
    for key in keys.take(PIPELINE as usize) {
        let head = format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:{key:012}\r\n${VALUE_LEN}\r\n");
        commands.extend(head.into_bytes());
        commands.resize(commands.len() + VALUE_LEN, b'x');
        commands.extend(b"\r\n");
        count += 1;
    }
    stream.write_all(&commands)?;
    let mut replies = vec![0; count * "+OK\r\n".len()];
    stream.read_exact(&mut replies)?;
    if replies.contains(&b'-') {
        return Err(io::Error::other(String::from_utf8_lossy(&replies).into_owned()));
    }
    Ok(())
}

/// The program lies beside the folder of the examples.
fn program() -> PathBuf {
    let example = std::env::current_exe().expect("the path of this program");
    let folder = example.parent().and_then(|examples| examples.parent()).expect("a folder");
    folder.join("mainstay")
}
