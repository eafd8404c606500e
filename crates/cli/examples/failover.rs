//! Measures how long clients wait when processes are killed without warning, with default settings:
//! the leader, then all three replicas at once.
//!
//! ```console
//! $ cargo build --release -p mainstay-cli --bins --examples
//! $ target/release/examples/failover 20
//! ```
//!
//! Ten writers with a Redis client and ten clients of our own that count run without a pause. What
//! the first saw must be linearizable; the sum of the others tells what was lost or done twice. A
//! gap is the longest time in which one client got no acknowledgement, of all clients of its kind.

#[path = "../tests/world/mod.rs"]
#[allow(dead_code, reason = "the end-to-end tests use the rest")]
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use world::cluster::{REPLICAS, signal};
use world::{Cluster, Counters, Writers};

/// How many clients of each kind there are.
const CLIENTS: usize = 10;
/// How many replies each of them gets before the fault, and after.
const REPLIES: u64 = 100;

/// How long every replica has been running before the fault, in seconds: `up` makes one that dies
/// sooner wait before it is started again.
const SETTLED_S: u64 = 3;

/// What one fault cost.
struct Cost {
    /// The longest gap of a Redis client, of a client of our own, and of all together.
    redis: Duration,
    native: Duration,
    group: Duration,
    /// Acknowledged requests of our own clients that left no trace, and those that left two.
    lost: i64,
    twice: i64,
    /// Until every replica was active again.
    whole: Duration,
}

fn main() {
    let runs: usize = std::env::args().nth(1).map_or(20, |runs| runs.parse().expect("a number"));
    let program = program();
    let mut cluster = Cluster::prepare(&program, &[]);
    println!("{}: ready after {:.0} ms", program.display(), millis(cluster.up()));
    for (what, victims) in [("the leader", 1), ("all three replicas", REPLICAS)] {
        println!("\nkill -9 of {what} under {CLIENTS} + {CLIENTS} writers, {runs} times");
        println!(
            "{:>4} {:>10} {:>10} {:>10} {:>6} {:>6} {:>10}",
            "run", "redis ms", "own ms", "all ms", "lost", "twice", "whole ms"
        );
        let costs: Vec<Cost> = (1..=runs).map(|run| measure(&cluster, run, victims)).collect();
        summarize(&costs);
    }
}

/// The program lies beside the folder of the examples.
fn program() -> PathBuf {
    let example = std::env::current_exe().expect("the path of this program");
    let folder = example.parent().and_then(|examples| examples.parent()).expect("a folder");
    folder.join("mainstay")
}

fn measure(cluster: &Cluster, run: usize, victims: usize) -> Cost {
    let leader = cluster.wait_until_whole();
    cluster.wait_for_status("all have been running for a while", |status| {
        (0..REPLICAS).all(|index| status.replica(index)["uptime_s"].as_u64() >= Some(SETTLED_S))
    });
    let indices = (0..REPLICAS).cycle().skip(leader).take(victims);
    let victims: Vec<_> = indices.map(|index| (index, cluster.pid(index))).collect();
    let writers = Writers::start_with(cluster, CLIENTS, Duration::ZERO);
    let counters = Counters::start(cluster, CLIENTS);
    let replies = || {
        writers.wait_for_replies(REPLIES);
        counters.wait_for_replies(REPLIES);
    };
    replies();
    let (from, counted_from, began) = (writers.now(), counters.now(), Instant::now());
    victims.iter().for_each(|&(_, pid)| signal(pid, Signal::KILL));
    replies();
    let (upto, counted_upto) = (writers.now(), counters.now());
    victims.iter().for_each(|&(index, pid)| cluster.wait_until_back(index, pid));
    let whole = began.elapsed();
    let counted = counters.end();
    let seen = writers.finish(cluster);
    let (lost, twice) = counted.lost_and_twice();
    let cost = Cost {
        redis: seen.longest_gap(from, upto),
        native: counted.longest_gap(counted_from, counted_upto),
        group: seen.longest_silence(from, upto),
        lost,
        twice,
        whole,
    };
    println!(
        "{run:>4} {:>10.0} {:>10.0} {:>10.0} {lost:>6} {twice:>6} {:>10.0}",
        millis(cost.redis),
        millis(cost.native),
        millis(cost.group),
        millis(whole)
    );
    cost
}

fn summarize(costs: &[Cost]) {
    type Column = (&'static str, fn(&Cost) -> Duration);
    let columns: [Column; 4] = [
        ("gap of a Redis client", |cost| cost.redis),
        ("gap of a client of our own", |cost| cost.native),
        ("time without any acknowledgement", |cost| cost.group),
        ("time until every replica is active", |cost| cost.whole),
    ];
    for (name, column) in columns {
        let mut times: Vec<Duration> = costs.iter().map(column).collect();
        times.sort_unstable();
        let (Some(median), Some(worst)) = (times.get(times.len() / 2), times.last()) else {
            return;
        };
        println!("{name:>36}: median {:.0} ms, worst {:.0} ms", millis(*median), millis(*worst));
    }
    let lost: i64 = costs.iter().map(|cost| cost.lost).sum();
    let twice: i64 = costs.iter().map(|cost| cost.twice).sum();
    println!("{:>36}: {lost}, done twice: {twice}", "acknowledged writes lost");
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
