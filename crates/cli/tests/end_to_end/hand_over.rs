//! A leader that is asked to end hands over.

use rustix::process::Signal;

use crate::load::WRITERS;
use crate::world::cluster::signal;
use crate::world::{Cluster, Counters, Writers};

#[test]
fn a_leader_asked_to_end_hands_over_and_no_command_fails() {
    const ROUNDS: usize = 5;
    let cluster = Cluster::start(&[]);
    let writers = Writers::start(&cluster, WRITERS);
    let counters = Counters::start(&cluster, WRITERS);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        writers.wait_for_replies(20);
        counters.wait_for_replies(20);
        let (leader, pid, _) = cluster.leader();
        let from = writers.now();
        signal(pid, Signal::TERM);
        cluster.wait_for_status("another one leads", |status| {
            status.leader().is_some_and(|index| index != leader)
        });
        writers.wait_for_replies(20);
        times.push((from, writers.now()));
        cluster.wait_until_back(leader, pid);
        let log = cluster.log_of(leader);
        assert!(log.contains("asked to stop: handing over"), "{log}");
        assert!(log.contains("ended with exit code 0"), "{log}");
    }
    counters.finish();
    let seen = writers.finish(&cluster);
    assert!(seen.not_done.is_empty(), "refused: {:?}", seen.not_done);
    assert_eq!(seen.uncertain, 0, "the outcome was not told");
    let mut gaps: Vec<_> =
        times.iter().map(|&(from, upto)| seen.longest_silence(from, upto)).collect();
    gaps.sort_unstable();
    println!("nobody was served for {gaps:?}");
    // Without a hand-over it takes the followers an election time-out, 300 ms, to do something.
    assert!(gaps[ROUNDS / 2].as_millis() < 300, "{gaps:?}");
}
