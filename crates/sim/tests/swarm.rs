//! Fixed seeds, each run twice: every property holds, and both runs are the same event by event.

use mainstay_sim::meter::{INSTANT_MAX, Most, RUN_MAX, WHILE_MAX};
use mainstay_sim::{Subject, explain, run_many, scenario};

const SEEDS: u64 = 150;

#[test]
fn every_property_holds_and_every_run_is_reproducible() {
    let mut hashes = Vec::new();
    let mut most = Most::default();
    let first = run_many(Subject::Swarm, 1, SEEDS, 2, |report| {
        hashes.push(report.trace_hash);
        most.run = most.run.max(report.most.run);
        most.instant = most.instant.max(report.most.instant);
        most.node = most.node.max(report.most.node);
        if let Some(violation) = &report.violation {
            let trace = explain(Subject::Swarm, report.seed);
            let tail = trace[trace.len().saturating_sub(40)..].join("\n");
            panic!("seed {}: {violation}\n{tail}", report.seed);
        }
        true
    });
    assert_eq!((first.seeds, first.failures, first.exit_code), (SEEDS, 0, 0), "{first}");
    assert!(
        first.unjudged * 50 <= SEEDS,
        "nearly every history could be judged: {}",
        first.unjudged
    );
    // What is too rare for so few seeds is played by a scenario of its own.
    let fire = scenario::by_name("transfer-under-fire").expect("a scenario of that name");
    let fire = run_many(Subject::Scenario(fire), 1, 20, 2, |report| report.violation.is_none());
    assert!(fire.counts.resumed > 0, "no fetch went on where an earlier process had stopped");
    let full = scenario::by_name("full-voter").expect("a scenario of that name");
    let full = run_many(Subject::Scenario(full), 1, 8, 2, |report| report.violation.is_none());
    assert!(full.counts.unwritten > 0, "no disk took back what found no room: {}", full.counts);
    let rare = ["resumed", "unwritten"];
    for (name, count) in first.counts.all().into_iter().filter(|(name, _)| !rare.contains(name)) {
        assert!(count > 0, "no {name} in {SEEDS} seeds: {}", first.counts);
    }
    println!("{}", first.counts);
    println!("{most:?}");
    assert!(most.run * 4 < RUN_MAX, "a bound that runs come near would be luck: {most:?}");
    assert!(most.instant * 4 < INSTANT_MAX, "likewise: {most:?}");
    assert!(most.node * 4 < WHILE_MAX, "likewise: {most:?}");
    let mut again = hashes.iter();
    let second = run_many(Subject::Swarm, 1, SEEDS, 1, |report| {
        let expected = again.next().copied();
        assert_eq!(Some(report.trace_hash), expected, "seed {} ran differently", report.seed);
        true
    });
    assert_eq!(first.trace_hash, second.trace_hash, "nor does the number of threads matter");
}

/// Seeds that once found something. One a line: the seed, then what it found.
#[test]
fn seeds_that_found_something_once_hold_now() {
    let lines = include_str!("regressions/seeds.txt");
    let mut count = 0;
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let (seed, found) = line.split_once(' ').expect("a seed and what it found");
        let seed = seed.parse().expect("a seed is a number");
        let report = Subject::Swarm.run(seed, false);
        assert_eq!(report.violation, None, "seed {seed}, which once found: {found}");
        count += 1;
    }
    assert!(count >= 5, "the seeds are there");
}

#[test]
fn keeping_the_trace_does_not_change_the_run() {
    for seed in 1..=5 {
        let (kept, not) = (Subject::Swarm.run(seed, true), Subject::Swarm.run(seed, false));
        assert_eq!(kept.trace_hash, not.trace_hash, "seed {seed}");
        assert_eq!(kept.trace.len() as u64, kept.events, "one line an event");
        assert!(not.trace.is_empty(), "not kept");
    }
}
