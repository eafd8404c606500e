//! Measures what a slow disk at one replica costs the group: at a follower, and at the leader.
//!
//! ```console
//! $ cargo build --release -p mainstay-cli --bins --examples
//! $ target/release/examples/slow_disk 5
//! ```
//!
//! Three replicas, each a process of its own whose syncs can be made slower while it runs; fifty
//! connections that write as fast as they are answered. Spans without and with a follower whose syncs
//! take 100 ms longer alternate. Then the same befalls the leader's disk: how long until another one
//! leads, and how long nobody was answered.

#[path = "../tests/world/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the end-to-end tests use the rest")]
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use world::by_hand::ByHand;
use world::cluster::REPLICAS;
use world::crowd::{Crowd, Habits, Span};
use world::pause;
use world::slow_disk::slow_down;

/// How much longer a sync of the slow disk takes.
const DELAY: Duration = Duration::from_millis(100);
/// How long each span is that is compared, and the time before it that is not.
const SPAN: Duration = Duration::from_secs(8);
const SETTLING: Duration = Duration::from_secs(2);

fn main() {
    let rounds: usize =
        std::env::args().nth(1).map_or(5, |rounds| rounds.parse().expect("a number of rounds"));
    let mut group = ByHand::init(&program());
    (0..REPLICAS).for_each(|index| group.start(index));
    let leader = group.wait_until_whole();
    let follower = (leader + 1) % REPLICAS;
    let mut crowd = Crowd::start(Habits {
        clients: 50,
        addresses: vec![group.clients_at(leader)],
        keys: 100_000,
        value_len: 100,
        reads_percent: 0,
    });
    pause(SETTLING);
    println!(
        "{:>5} {:>10} {:>9} {:>8} {:>8} {:>8}",
        "round", "follower", "per s", "p50 ms", "p99 ms", "max ms"
    );
    let (mut undisturbed, mut disturbed) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        for (delay, seen) in [(Duration::ZERO, &mut undisturbed), (DELAY, &mut disturbed)] {
            slow_down(&group.folder(follower), delay);
            pause(SETTLING);
            let span = crowd.watch(SPAN);
            print(round, if delay.is_zero() { "well" } else { "slow" }, &span);
            seen.push(span);
        }
    }
    slow_down(&group.folder(follower), Duration::ZERO);
    println!(
        "with a slow follower: throughput {:.2} of undisturbed, p99 {:.2} of undisturbed (medians)",
        ratio(&disturbed, &undisturbed, Span::speed),
        ratio(&disturbed, &undisturbed, |span| span.millis(0.99)),
    );
    drop(crowd);
    (0..rounds).for_each(|round| leader_slows_down(&group, round + 1));
}

/// Makes the leader's disk slow under load, until another replica leads.
fn leader_slows_down(group: &ByHand, round: usize) {
    let leader = group.wait_until_whole();
    let addresses = (0..REPLICAS).map(|i| group.clients_at((leader + 1 + i) % REPLICAS)).collect();
    let mut crowd = Crowd::start(Habits {
        clients: 50,
        addresses,
        keys: 100_000,
        value_len: 100,
        reads_percent: 0,
    });
    pause(SETTLING);
    crowd.take();
    let began = Instant::now();
    slow_down(&group.folder(leader), DELAY);
    let patience = Duration::from_secs(60);
    group.wait_until("another replica leads", patience, |status| {
        status.leader().is_some_and(|now| now != leader)
    });
    let moved = began.elapsed();
    pause(SETTLING);
    let span = crowd.take();
    println!(
        "round {round}: another replica leads {:.0} ms after the leader's disk became slow; longest \
         wait of a client {:.0} ms, {} refused or lost",
        moved.as_secs_f64() * 1000.0,
        span.millis(1.0),
        span.failed,
    );
    slow_down(&group.folder(leader), Duration::ZERO);
}

fn print(round: usize, how: &str, span: &Span) {
    println!(
        "{round:>5} {how:>10} {:>9.0} {:>8.2} {:>8.2} {:>8.0}",
        span.speed(),
        span.millis(0.5),
        span.millis(0.99),
        span.millis(1.0)
    );
}

fn ratio(of: &[Span], to: &[Span], what: impl Fn(&Span) -> f64) -> f64 {
    let median = |spans: &[Span]| {
        let mut numbers: Vec<f64> = spans.iter().map(&what).collect();
        numbers.sort_by(f64::total_cmp);
        numbers[numbers.len() / 2]
    };
    median(of) / median(to)
}

/// The program whose disk can be slow lies beside this one.
fn program() -> PathBuf {
    let example = std::env::current_exe().expect("the path of this program");
    example.with_file_name("slow_disk_replica")
}
