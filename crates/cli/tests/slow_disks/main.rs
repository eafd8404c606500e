//! Real processes whose disks become slow or stand still under load.
//!
//! This binary is its own program: called with a command of `mainstay`, it is that program on a disk
//! that can be slowed down; called by `cargo test`, it runs the tests below.

#[path = "../world/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the end-to-end tests use the rest")]
mod world;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mainstay_kv::{RedisFront, Store};
use world::by_hand::ByHand;
use world::cluster::{REPLICAS, Status};
use world::counters::Counters;
use world::crowd::{Crowd, Habits};
use world::own_program::{Test, run_tests};
use world::slow_disk::{SlowDisk, slow_down};
use world::{DEADLINE, pause};

const TESTS: &[Test] = &[
    ("a_leader_whose_disk_is_much_slower_hands_over_and_no_command_fails", slow_leader),
    ("a_leader_whose_disk_stands_still_hands_over_and_no_command_fails", stalled_leader),
    ("a_slow_disk_at_a_follower_changes_no_leader", slow_follower),
    ("disks_that_are_all_slow_change_no_leader", all_slow),
];

/// A hundred times what a sync here takes.
const SLOW: Duration = Duration::from_millis(100);
/// As good as never.
const STALLED: Duration = Duration::from_secs(3600);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some("replica" | "init" | "status") = arguments.first().map(String::as_str) {
        return mainstay_cli::run_over::<Store, RedisFront, _>(SlowDisk::new);
    }
    run_tests(TESTS)
}

/// Three replicas on disks that can be slowed down.
struct Group {
    replicas: ByHand,
}

impl Group {
    fn start() -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        let mut replicas = ByHand::init(&program);
        (0..REPLICAS).for_each(|index| replicas.start(index));
        replicas.wait_until_whole();
        Self { replicas }
    }

    /// Who leads, and in which round.
    fn leader(&self) -> (usize, u64) {
        let leader = self.replicas.wait_until_whole();
        (leader, self.replicas.status().ballot())
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        (0..REPLICAS).map(|index| self.replicas.clients_at(index)).collect()
    }

    fn slow_down(&self, index: usize, delay: Duration) {
        slow_down(&self.replicas.folder(index), delay);
    }

    fn wait_until(&self, what: &str, holds: impl Fn(&Status) -> bool) -> Duration {
        self.replicas.wait_until(what, DEADLINE, holds)
    }
}

/// Redis connections that write as fast as they are answered, at every replica.
fn crowd(group: &Group) -> Crowd {
    Crowd::start(Habits {
        clients: 12,
        addresses: group.addresses(),
        keys: 1_000,
        value_len: 100,
        reads_percent: 20,
    })
}

/// The leader's disk becomes as slow as `delay` under load: another one leads, and nobody is refused.
fn leader_hands_over(delay: Duration) {
    let group = Group::start();
    let (leader, _) = group.leader();
    let mut crowd = crowd(&group);
    let counters = Counters::start_at(group.addresses(), 10);
    counters.wait_for_replies(50);
    // A leader is not judged by its first seconds.
    pause(Duration::from_secs(6));
    let began = Instant::now();
    group.slow_down(leader, delay);
    group
        .wait_until("another one leads", |status| status.leader().is_some_and(|now| now != leader));
    let moved = began.elapsed();
    counters.wait_for_replies(50);
    let (next, round) = group.leader();
    // It follows as slowly as its disk is, and does not come back.
    pause(Duration::from_secs(3));
    assert_eq!(group.leader(), (next, round), "one change is enough");
    group.slow_down(leader, Duration::ZERO);
    let decided = group.replicas.status().slot(next, "decided");
    group.wait_until("it has caught up", |status| status.slot(leader, "applied") >= decided);
    counters.wait_for_replies(50);
    let span = crowd.take();
    println!(
        "another one leads after {moved:?}; longest wait of a client {:.0} ms",
        span.millis(1.0)
    );
    assert_eq!(span.failed, 0, "refused, or left without an answer: {:?}", span.failure);
    drop(crowd);
    println!("{} counted, each once", counters.finish().done());
}

/// etcd#7312, #9544, #13587: slow syncs at the leader, and what everybody is told is to buy a disk.
fn slow_leader() {
    leader_hands_over(SLOW);
}

/// hashicorp/raft#503: the log store of the leader hangs, its heartbeats go on, nobody else ever leads.
fn stalled_leader() {
    leader_hands_over(STALLED);
}

/// etcd#14501, #11531: does one slow member slow the cluster?
fn slow_follower() {
    let group = Group::start();
    let before = group.leader();
    let mut crowd = crowd(&group);
    let follower = (before.0 + 1) % REPLICAS;
    for delay in [SLOW, STALLED, Duration::ZERO] {
        group.slow_down(follower, delay);
        let span = crowd.watch(Duration::from_secs(4));
        let speed = span.speed();
        println!("{delay:?}: {speed:.0} a second, p99 {:.1} ms", span.millis(0.99));
        assert_eq!(span.failed, 0, "refused, or left without an answer: {:?}", span.failure);
        assert_eq!(group.replicas.status().leader(), Some(before.0));
    }
    let decided = group.replicas.status().slot(before.0, "decided");
    group.wait_until("it has caught up", |status| status.slot(follower, "applied") >= decided);
    assert_eq!(group.leader(), before, "nobody was accused");
}

/// A leader is measured against what the others could do: where everybody is slow nobody is.
fn all_slow() {
    let group = Group::start();
    let before = group.leader();
    let counters = Counters::start_at(group.addresses(), 10);
    counters.wait_for_replies(20);
    (0..REPLICAS).for_each(|index| group.slow_down(index, SLOW));
    pause(Duration::from_secs(12));
    counters.wait_for_replies(20);
    assert_eq!(group.leader(), before, "leaders change for nothing");
    (0..REPLICAS).for_each(|index| group.slow_down(index, Duration::ZERO));
    println!("{} counted, each once", counters.finish().done());
}
