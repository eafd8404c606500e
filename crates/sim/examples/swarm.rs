//! Runs seeds from FIRST on, COUNT of them, and every scenario with a tenth as many: what
//! `cargo xtask coverage` measures. Fails where a property does not hold.
//!
//! ```text
//! cargo run --release -p mainstay-sim --example swarm -- FIRST COUNT
//! ```

use std::process::ExitCode;

use mainstay_sim::{SCENARIOS, Subject, run_many};

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let (Some(Ok(first)), Some(Ok(count)), None) = (numbers.next(), numbers.next(), numbers.next())
    else {
        eprintln!("usage: swarm FIRST COUNT");
        return ExitCode::from(2);
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let scenarios = SCENARIOS.iter().map(|scenario| (Subject::Scenario(scenario), count / 10 + 1));
    let mut failures = 0;
    for (subject, count) in [(Subject::Swarm, count)].into_iter().chain(scenarios) {
        let totals = run_many(subject, first, count, threads, |report| {
            if let Some(violation) = &report.violation {
                println!("seed {}: {violation}\n{}", report.seed, subject.replay(report.seed));
            }
            true
        });
        failures += totals.failures;
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
