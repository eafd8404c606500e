//! `mainstay sim`: the simulator.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};
use mainstay_model::Plant;
use mainstay_sim::planted;
use mainstay_sim::{RunReport, SCENARIOS, Subject, Totals};

use crate::arguments::SimOptions;
use crate::failure::Failure;
use crate::parallel::in_order;

/// How many seeds each planted bug is looked for in.
const PLANT_SEEDS: u64 = 1000;
/// How many lines of a failing run's trace are printed without `--trace`.
const TRACE_TAIL: usize = 80;

/// Carries the command out.
pub(crate) fn run(options: &SimOptions) -> Result<(), Failure> {
    match options.plants.as_deref() {
        None if options.scenario.as_deref() == Some("list") => {
            list_scenarios();
            Ok(())
        }
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

/// Runs the seeds asked for and judges them.
fn seeds(options: &SimOptions) -> Result<(), Failure> {
    let subject = subject(options)?;
    // Seeds end where their numbers do.
    let runs = options.runs.unwrap_or(1).min(u64::MAX - options.seed);
    let bar = progress(runs);
    let mut totals = Totals::default();
    in_order(
        runs,
        |offset| subject.run(options.seed + offset, options.trace),
        |_, report| {
            bar.suspend(|| tell(options, subject, &report, totals.failures == 0));
            totals.add(&report);
            bar.inc(1);
        },
    );
    bar.finish_and_clear();
    say(&totals.counts.to_string());
    say(&totals.to_string());
    match totals.exit_code {
        0 => Ok(()),
        code => Err(Failure { code, sentence: String::new() }),
    }
}

/// Tells of a run: its trace if asked for; of one that failed, why and how to run it again.
fn tell(options: &SimOptions, subject: Subject, report: &RunReport, is_first: bool) {
    if options.trace {
        say(&report.trace.join("\n"));
    }
    let Some(violation) = &report.violation else { return };
    if is_first && !options.trace {
        let again = subject.run(report.seed, true);
        let from = again.trace.len().saturating_sub(TRACE_TAIL);
        say(&again.trace[from..].join("\n"));
    }
    say(&format!("seed {}: {violation}\nreplay: {}", report.seed, subject.replay(report.seed)));
}

/// What each seed is run as.
fn subject(options: &SimOptions) -> Result<Subject, Failure> {
    if let Some(name) = &options.scenario {
        let names = || SCENARIOS.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name.as_str());
        return scenario.map(Subject::Scenario).ok_or_else(|| {
            Failure::usage(format!("no scenario is called `{name}`; there are {}", names()))
        });
    }
    let named = |plant: &&Plant| Some(plant.name()) == options.plants.as_deref();
    Ok(Plant::ALL.iter().find(named).map_or(Subject::Swarm, |plant| Subject::Plant(*plant)))
}

fn list_scenarios() {
    for scenario in SCENARIOS {
        say(&format!("{:22} {}", scenario.name, scenario.about));
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
            bar.suspend(|| say(&format!("{:32} {:18} {told}", plant.name(), plant.part())));
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
    planted::hunt(plant, first, seeds).map(|found| (found.seed, found.violation.property))
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
    fn names_that_are_none_are_refused() {
        let plant = SimOptions { plants: Some("none".into()), ..options() };
        let scenario = SimOptions { scenario: Some("none".into()), ..options() };
        for options in [plant, scenario] {
            let failure = run(&options).unwrap_err();
            assert_eq!(failure.code, crate::failure::USAGE);
        }
    }
}
