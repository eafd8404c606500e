//! Many runs, one after the other or side by side.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mainstay_model::Plant;
use xxhash_rust::xxh3::xxh3_64;

use crate::counts::Counts;
use crate::run::{RunOptions, RunReport, exit, run};
use crate::scenario::Scenario;

/// What came of many runs.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// How many seeds were run.
    pub seeds: u64,
    /// How many of them violated a property.
    pub failures: u64,
    /// How much virtual time passed.
    pub simulated: Duration,
    /// The hash over the hashes of all runs, in the order of their seeds.
    pub trace_hash: u64,
    /// The exit code: that of the first run that failed.
    pub exit_code: u8,
    /// How often what happened.
    pub counts: Counts,
    /// The histories of how many runs were too hard to judge.
    pub unjudged: u64,
}

impl Totals {
    /// Adds a run. Runs are to be added in the order of their seeds.
    pub fn add(&mut self, report: &RunReport) {
        self.seeds += 1;
        self.failures += u64::from(report.violation.is_some());
        self.simulated += report.simulated;
        self.counts += report.counts;
        let pair = [self.trace_hash.to_le_bytes(), report.trace_hash.to_le_bytes()].concat();
        self.trace_hash = xxh3_64(&pair);
        if self.exit_code == exit::HELD {
            self.exit_code = report.exit_code();
        }
        self.unjudged += u64::from(!report.judged);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seeds, failures, simulated, trace_hash, .. } = self;
        let hours = simulated.as_secs_f64() / 3600.0;
        write!(
            f,
            "{seeds} seeds, {hours:.2} simulated hours, {failures} failures, trace {trace_hash:016x}"
        )
    }
}

/// What is run for each seed.
#[derive(Clone, Copy, Debug, Default)]
pub enum Subject {
    /// The plan of the seed.
    #[default]
    Swarm,
    /// A scenario.
    Scenario(&'static Scenario),
    /// The hunt for a planted bug.
    Plant(Plant),
}

impl Subject {
    /// Runs a seed.
    #[must_use]
    pub fn run(&self, seed: u64, keep_trace: bool) -> RunReport {
        match self {
            Self::Swarm => run(seed, &RunOptions { plant: None, keep_trace }),
            Self::Scenario(scenario) => scenario.run(seed, &RunOptions { plant: None, keep_trace }),
            Self::Plant(plant) => crate::planted::run(*plant, seed, keep_trace),
        }
    }

    /// The command that runs a seed of it again and prints every event.
    #[must_use]
    pub fn replay(&self, seed: u64) -> String {
        let what = match self {
            Self::Swarm => String::new(),
            Self::Scenario(scenario) => format!(" --scenario {}", scenario.name),
            Self::Plant(plant) => format!(" --plants {}", plant.name()),
        };
        format!("cargo run --release -- sim --seed {seed}{what} --trace")
    }
}

/// Runs `count` seeds from `first` on, on as many threads as asked for, and hands each report to
/// `done`, in the order of the seeds; `done` returns whether to go on.
pub fn run_many(
    subject: Subject,
    first: u64,
    count: u64,
    threads: usize,
    mut done: impl FnMut(&RunReport) -> bool,
) -> Totals {
    let threads = threads.max(1) as u64;
    let stop = AtomicBool::new(false);
    let mut totals = Totals::default();
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..threads)
            .map(|lane| {
                let (sender, receiver) = mpsc::sync_channel(64);
                let stop = &stop;
                scope.spawn(move || {
                    let seeds = (first + lane..first + count).step_by(threads as usize);
                    for seed in seeds.take_while(|_| !stop.load(Ordering::Relaxed)) {
                        if sender.send(subject.run(seed, false)).is_err() {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        for offset in 0..count {
            let lane = (offset % threads) as usize;
            let Ok(report) = lanes[lane].recv() else { break };
            totals.add(&report);
            if !done(&report) {
                stop.store(true, Ordering::Relaxed);
                break;
            }
        }
    });
    totals
}

/// Runs a seed once more and returns its trace, one line an event, and what was violated.
#[must_use]
pub fn explain(subject: Subject, seed: u64) -> Vec<String> {
    let report = subject.run(seed, true);
    let mut lines = report.trace;
    let end = report.violation.map_or_else(|| "every property held".to_owned(), |v| v.to_string());
    lines.push(format!("{end} -- replay: {}", subject.replay(seed)));
    lines
}
