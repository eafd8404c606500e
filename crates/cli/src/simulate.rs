//! `mainstay sim`: the simulator.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mainstay_model::Plant;
use mainstay_sim::{RunOptions, RunReport, Violation};

use crate::arguments::SimOptions;
use crate::failure::Failure;
use crate::parallel::in_order;

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
    failures: u64,
    /// The first violation.
    first: Option<Violation>,
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
        if let Some(violation) = report.violation {
            self.failures += 1;
            self.first.get_or_insert(violation);
        }
    }

    fn last_line(&self) -> String {
        format!(
            "{} seeds, {:.2} simulated hours, {} failures, trace {:016x}",
            self.seeds,
            self.simulated.as_secs_f64() / 3600.0,
            self.failures,
            self.hash.unwrap_or_default()
        )
    }
}

/// Runs the seeds asked for and judges them.
fn seeds(options: &SimOptions) -> Result<(), Failure> {
    let job = Job::of(options)?;
    // Seeds end where their numbers do.
    let runs = options.runs.unwrap_or(1).min(u64::MAX - options.seed);
    let bar = progress(runs);
    let mut tally = Tally::default();
    in_order(
        runs,
        |offset| job.run(options.seed + offset, options.trace),
        |_, report| {
            bar.suspend(|| tell(options, &job, &report, tally.failures == 0));
            tally.add(report);
            bar.inc(1);
        },
    );
    bar.finish_and_clear();
    say(&tally.last_line());
    match tally.first {
        None => Ok(()),
        Some(violation) => Err(Failure { code: exit_code(&violation), sentence: String::new() }),
    }
}

/// Tells of a run: its trace if asked for; of one that failed, why and how to run it again.
fn tell(options: &SimOptions, job: &Job, report: &RunReport, is_first: bool) {
    if options.trace {
        say(&report.trace.join("\n"));
    }
    let Some(violation) = &report.violation else { return };
    if is_first && !options.trace {
        let again = job.run(report.seed, true);
        let from = again.trace.len().saturating_sub(TRACE_TAIL);
        say(&again.trace[from..].join("\n"));
    }
    say(&format!("seed {}: {violation}\nreplay: {}", report.seed, job.replay(report.seed)));
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
    let seeds = options.runs.unwrap_or(PLANT_SEEDS).min(u64::MAX - options.seed);
    let bar = progress(plants.len() as u64);
    let mut missed = 0;
    in_order(
        plants.len() as u64,
        |index| find(plants[index as usize], options.seed, seeds),
        |index, found| {
            let plant = plants[index as usize];
            let told = match found {
                Some((seed, property)) => {
                    let after = seed - options.seed + 1;
                    format!("found by {property} after {after} seeds")
                }
                None => {
                    missed += 1;
                    format!("NOT FOUND in {seeds} seeds")
                }
            };
            bar.suspend(|| say(&format!("{:28} {:18} {told}", plant.name(), plant.part())));
            bar.inc(1);
        },
    );
    bar.finish_and_clear();
    say(&format!("{} plants, {} found, {missed} missed", plants.len(), plants.len() - missed));
    if missed == 0 {
        return Ok(());
    }
    Err(Failure::failed("a checker that does not find a planted bug proves nothing"))
}

/// The first seed in which an expected property finds a bug, and that property.
fn find(plant: Plant, first: u64, seeds: u64) -> Option<(u64, &'static str)> {
    let options = RunOptions { plant: Some(plant), keep_trace: false };
    (first..first + seeds).find_map(|seed| {
        let property = mainstay_sim::run(seed, &options).violation?.property;
        plant.expected().split('|').any(|expected| expected == property).then_some((seed, property))
    })
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
