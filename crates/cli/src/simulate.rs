//! `mainstay sim`: the simulator.

use std::io::{self, Write};
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mainstay_model::Plant;
use mainstay_sim::{RunOptions, RunReport, Violation};

use crate::arguments::SimOptions;
use crate::failure::Failure;

/// A run ended by a panic: a broken invariant.
const CRASH: u8 = 10;
/// A run violated a property of safety.
const SAFETY: u8 = 11;
/// A run made no progress after everything was healed.
const LIVENESS: u8 = 12;

/// How many seeds each planted bug is looked for in.
const PLANT_SEEDS: u64 = 1000;
/// How many lines of a failing run's trace are printed without `--trace`.
const TRACE_TAIL: usize = 80;

/// Carries the command out.
pub(crate) fn run(options: &SimOptions) -> Result<(), Failure> {
    match options.plants.as_deref() {
        None => seeds(options),
        Some("list") => {
            list_plants();
            Ok(())
        }
        Some("run") => find_plants(options, Plant::ALL),
        Some(name) => {
            let plant = Plant::ALL.iter().find(|plant| plant.name() == name).ok_or_else(|| {
                Failure::usage(format!("no plant is called `{name}`; --plants list names them"))
            })?;
            if options.trace { seeds(options) } else { find_plants(options, &[*plant]) }
        }
    }
}

/// What came of many seeds, in their order.
#[derive(Debug, Default)]
struct Tally {
    seeds: u64,
    simulated: Duration,
    failures: Vec<RunReport>,
    hash: Option<u64>,
}

impl Tally {
    fn add(&mut self, report: RunReport) {
        self.seeds += 1;
        self.simulated += report.simulated;
        // Of one run its own hash; of several a hash over theirs, in order (FNV-1a).
        self.hash =
            Some(match self.hash {
                None => report.trace_hash,
                Some(hash) => report.trace_hash.to_le_bytes().iter().fold(hash, |hash, &byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
                }),
            });
        if report.violation.is_some() {
            self.failures.push(report);
        }
    }

    fn last_line(&self) -> String {
        format!(
            "{} seeds, {:.2} simulated hours, {} failures, trace {:016x}",
            self.seeds,
            self.simulated.as_secs_f64() / 3600.0,
            self.failures.len(),
            self.hash.unwrap_or_default()
        )
    }
}

/// Runs the seeds asked for and judges them.
fn seeds(options: &SimOptions) -> Result<(), Failure> {
    let job = Job::of(options)?;
    let runs = options.runs.unwrap_or(1);
    let bar = progress(runs);
    let tally = Mutex::new((Tally::default(), Vec::<RunReport>::new()));
    let next = AtomicU64::new(0);
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let offset = next.fetch_add(1, Ordering::Relaxed);
                    let Some(seed) = options.seed.checked_add(offset) else { return };
                    if offset >= runs {
                        return;
                    }
                    let report = job.run(seed, options.trace);
                    let mut held = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    held.1.push(report);
                    in_order(options, &job, &mut held);
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let (tally, _) = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    say(&tally.last_line());
    match tally.failures.first().and_then(|report| report.violation.as_ref()) {
        None => Ok(()),
        Some(violation) => Err(Failure { code: exit_code(violation), sentence: String::new() }),
    }
}

/// Takes the reports whose turn it is, and tells of them.
fn in_order(options: &SimOptions, job: &Job, held: &mut (Tally, Vec<RunReport>)) {
    let (tally, waiting) = held;
    while let Some(at) = waiting.iter().position(|report| report.seed == options.seed + tally.seeds)
    {
        let report = waiting.swap_remove(at);
        if options.trace {
            say(&report.trace.join("\n"));
        }
        if let Some(violation) = &report.violation {
            let told =
                format!("seed {}: {violation}\nreplay: {}", report.seed, job.replay(report.seed));
            if tally.failures.is_empty() && !options.trace {
                let again = job.run(report.seed, true);
                let from = again.trace.len().saturating_sub(TRACE_TAIL);
                say(&format!("{}\n{told}", again.trace[from..].join("\n")));
            } else {
                say(&told);
            }
        }
        tally.add(report);
    }
}

/// What each seed is run as.
struct Job {
    plant: Option<Plant>,
}

impl Job {
    fn of(options: &SimOptions) -> Result<Self, Failure> {
        if let Some(name) = &options.scenario {
            return Err(Failure::usage(format!("no scenario is called `{name}`")));
        }
        let named = |plant: &&Plant| Some(plant.name()) == options.plants.as_deref();
        Ok(Self { plant: Plant::ALL.iter().find(named).copied() })
    }

    fn run(&self, seed: u64, keep_trace: bool) -> RunReport {
        mainstay_sim::run(seed, &RunOptions { plant: self.plant, keep_trace })
    }

    /// The command that runs this seed again and prints every event.
    fn replay(&self, seed: u64) -> String {
        let plant = self.plant.map_or(String::new(), |plant| format!(" --plants {}", plant.name()));
        format!("cargo run --release -- sim --seed {seed}{plant} --trace")
    }
}

fn list_plants() {
    let width = Plant::ALL.iter().map(|plant| plant.name().len()).max().unwrap_or(0);
    for plant in Plant::ALL {
        say(&format!("{:width$}  {:18}  {}", plant.name(), plant.part(), plant.expected()));
    }
}

/// Looks for each planted bug until an expected property finds it.
fn find_plants(options: &SimOptions, plants: &[Plant]) -> Result<(), Failure> {
    let seeds = options.runs.unwrap_or(PLANT_SEEDS);
    let bar = progress(plants.len() as u64);
    let mut missed = 0;
    for plant in plants {
        let expected: Vec<&str> = plant.expected().split('|').collect();
        let found = (0..seeds).find_map(|offset| {
            let seed = options.seed.checked_add(offset)?;
            let report =
                mainstay_sim::run(seed, &RunOptions { plant: Some(*plant), keep_trace: false });
            let violation = report.violation?;
            expected.contains(&violation.property).then_some((offset + 1, seed, violation.property))
        });
        bar.inc(1);
        let told = match found {
            Some((after, seed, property)) => {
                format!("found by {property} after {after} seeds (seed {seed})")
            }
            None => {
                missed += 1;
                format!("NOT FOUND in {seeds} seeds")
            }
        };
        bar.suspend(|| say(&format!("{:28} {:18} {told}", plant.name(), plant.part())));
    }
    bar.finish_and_clear();
    say(&format!("{} plants, {} found, {missed} missed", plants.len(), plants.len() - missed));
    if missed == 0 {
        return Ok(());
    }
    Err(Failure::failed("a checker that does not find a planted bug proves nothing"))
}

fn exit_code(violation: &Violation) -> u8 {
    match violation.property {
        "liveness" => LIVENESS,
        "invariant" => CRASH,
        _ => SAFETY,
    }
}

/// A progress bar on a terminal, nothing elsewhere.
fn progress(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}, {elapsed}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// A line on standard output; whoever closed it does not want it.
fn say(line: &str) {
    let _ = writeln!(io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> SimOptions {
        SimOptions { seed: 1, runs: None, scenario: None, plants: None, trace: false }
    }

    #[test]
    fn exit_codes_tell_what_was_violated() {
        let code = |property| exit_code(&Violation { property, time: 0, detail: String::new() });
        assert_eq!(["invariant", "agreement", "liveness"].map(code), [10, 11, 12]);
    }

    #[test]
    fn names_that_are_none_are_refused() {
        let plant = SimOptions { plants: Some("none".into()), ..options() };
        let scenario = SimOptions { scenario: Some("none".into()), ..options() };
        for options in [plant, scenario] {
            let failure = run(&options).unwrap_err();
            assert_eq!(failure.code, crate::failure::USAGE);
        }
    }
}
