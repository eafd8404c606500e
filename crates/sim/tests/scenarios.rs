//! Every scenario over many seeds of delays: progress within four election time-outs.

use mainstay_sim::scenario::{SCENARIOS, by_name};
use mainstay_sim::{Subject, run_many};

fn play(name: &str, seeds: u64) {
    let scenario = by_name(name).expect("a scenario of that name");
    let subject = Subject::Scenario(scenario);
    let mut longest = std::time::Duration::ZERO;
    let totals = run_many(subject, 1, seeds, 2, |report| {
        if let Some(violation) = &report.violation {
            panic!("{violation} -- {}", subject.replay(report.seed));
        }
        longest = longest.max(report.longest_gap);
        true
    });
    println!("{name}: {totals}; longest gap {longest:?}");
    assert_eq!((totals.seeds, totals.failures), (seeds, 0), "{totals}");
    assert!(longest > std::time::Duration::ZERO, "the gap was measured");
}

#[test]
fn quorum_loss() {
    play("quorum-loss", 200);
}

#[test]
fn constrained_election() {
    play("constrained-election", 200);
}

#[test]
fn chained() {
    play("chained", 200);
}

#[test]
fn the_others() {
    let partitions = ["quorum-loss", "constrained-election", "chained"];
    let others = SCENARIOS.iter().filter(|scenario| !partitions.contains(&scenario.name));
    let mut count = 0;
    for scenario in others {
        play(scenario.name, 40);
        count += 1;
    }
    assert!(count >= 3, "leader-kill, all-down and more");
}
