//! The simulator's own test: bugs planted on purpose, each of which must be found.
//!
//! Most show themselves under the plans of ordinary seeds. Some need a rare coincidence first; for
//! these the plan is aimed, so that the coincidence is likely, and the rest is left to the seed.

use mainstay_model::Plant;

use crate::division::Division;
use crate::fault::{Fault, Target};
use crate::network::Delay;
use crate::plan::Plan;
use crate::run::{RunOptions, RunReport, carry_out};
use crate::scenario;
use crate::workload::WorkloadOptions;
use crate::world::{Harm, Violation};

const MILLI: u64 = 1_000_000;

/// How a planted bug was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// By which seed.
    pub seed: u64,
    /// What it broke: one of the properties that the plant expects.
    pub violation: Violation,
}

/// Runs `count` seeds from `first` on until a property that `plant` expects is violated.
#[must_use]
pub fn hunt(plant: Plant, first: u64, count: u64) -> Option<Found> {
    (first..first + count).find_map(|seed| {
        let violation = run(plant, seed, false).violation?;
        let expected = plant.expected().split('|').any(|property| property == violation.property);
        expected.then_some(Found { seed, violation })
    })
}

/// Runs a seed with a planted bug.
#[must_use]
pub fn run(plant: Plant, seed: u64, keep_trace: bool) -> RunReport {
    let script = match plant {
        Plant::AppliedNotLookedAt => scenario::by_name("hanging-service"),
        Plant::NoStepDown => scenario::by_name("deaf-leader"),
        Plant::UncertainCounted | Plant::DamageTakenForTail => scenario::by_name("damaged-copy"),
        Plant::UncertainLeftOutOfTop | Plant::ReadOvertakes => scenario::by_name("damaged-end"),
        Plant::HighestBallotIgnored => scenario::by_name("two-ballots"),
        Plant::UndecidedGivenAway => scenario::by_name("stale-donor"),
        Plant::AmnesiacVotes => scenario::by_name("wiped-copy"),
        Plant::OldBallotResumed => scenario::by_name("resumed-ballot"),
        Plant::StaleBallotAccepted => scenario::by_name("stale-acceptor"),
        Plant::SegmentWithPromiseDiscarded => scenario::by_name("forgotten-promise"),
        Plant::UnwrittenVotedFor => scenario::by_name("full-voter"),
        Plant::LeadsOnUnwritten => scenario::by_name("full-disks"),
        Plant::QuestionKeepsNumber => scenario::by_name("late-answer"),
        Plant::RefusedStaysUnderWay => scenario::by_name("refused-for-a-while"),
        Plant::OvertakenPutInPlace => scenario::by_name("diverged-while-writing"),
        Plant::InstalledUnchecked => scenario::by_name("wrong-pieces"),
        Plant::LogNotToldOfInstalled => scenario::by_name("transfer-under-fire"),
        Plant::FullLogStays => scenario::by_name("full-of-little"),
        Plant::PassedTakenForKept => scenario::by_name("full-follower"),
        Plant::DigestNotCompared => scenario::by_name("diverged"),
        Plant::UnconfirmedKept | Plant::DivergenceForgotten => scenario::by_name("diverged-late"),
        Plant::RefusedRemoved => scenario::by_name("other-program"),
        Plant::CheckpointGivenUp => scenario::by_name("no-checkpoints"),
        Plant::PendingLeftOutOfPromise => scenario::by_name("pending-acceptor"),
        Plant::IdleTimeForgotten => scenario::by_name("idle-hours"),
        Plant::ClockNotRaised => scenario::by_name("lagging-candidate"),
        Plant::TimeForgottenAtRestart => scenario::by_name("year-ahead"),
        Plant::ReadBeforeTakeover => scenario::by_name("late-successor"),
        Plant::CeilingIgnored => scenario::by_name("shown-time"),
        _ => None,
    };
    if let Some(script) = script {
        return script.run(seed, &RunOptions { plant: Some(plant), keep_trace });
    }
    carry_out(seed, &plan(plant, seed), keep_trace)
}

/// The plan of a seed, aimed at a plant where ordinary ones rarely meet what it needs.
#[must_use]
pub fn plan(plant: Plant, seed: u64) -> Plan {
    let mut plan = Plan::of_seed(seed, Some(plant));
    if plant == Plant::ReadUnconfirmed {
        read_from_the_deposed(seed, &mut plan);
    }
    if matches!(plant, Plant::ReadTiedToWriteBefore | Plant::ReadTiedTooLate) {
        plan.workload = WorkloadOptions { depth: 6, keys: 2, ..busy(plan.workload) };
        plan.workload.read_percent = 50;
        plan.workload.think_max = MILLI;
        (plan.plain_clients, plan.session_clients) = (6, 0);
    }
    if plant == Plant::ReadAfterStateWentBack {
        read_while_states_go_back(seed, &mut plan);
    }
    plan
}

/// Reads take as long as several checkpoints on a slow network, and one state goes wrong again and again.
fn read_while_states_go_back(seed: u64, plan: &mut Plan) {
    let workload = WorkloadOptions { depth: 8, read_percent: 60, ..busy(plan.workload) };
    *plan = Plan { workload, ..Plan::calm(seed, 3, plan.group.plants.0) };
    plan.workload.think_max = 10 * MILLI;
    (plan.plain_clients, plan.session_clients) = (6, 0);
    plan.network.delay = Delay::Uniform { low: 5 * MILLI, high: 60 * MILLI };
    plan.network.reorder = true;
    plan.group.ordering.batch_requests_max = 1;
    (plan.group.checkpoints.requests_min, plan.group.checkpoints.requests_max) = (3, 6);
    plan.damaged_max = 1;
    for at in 1..9 {
        let harm = Fault::Harm { target: Target::Any, harm: Harm::Spoil };
        plan.faults.push((at * 400 * MILLI, harm));
    }
}

/// The leader is cut off from its peers, not from its clients, and does not know it yet.
fn read_from_the_deposed(seed: u64, plan: &mut Plan) {
    let workload = WorkloadOptions { depth: 4, read_percent: 80, keys: 2, ..busy(plan.workload) };
    *plan = Plan { workload, ..Plan::calm(seed, 5, plan.group.plants.0) };
    plan.session_clients = 6;
    plan.plain_clients = 0;
    plan.link_notice_max = MILLI;
    plan.drift_ppm_max = 250_000;
    for at in 1..5 {
        let division = Division::LeaderAlone;
        plan.faults.push((at * 600 * MILLI, Fault::Divide { division, length: 400 * MILLI }));
    }
}

/// Many operations on one register.
fn busy(workload: WorkloadOptions) -> WorkloadOptions {
    WorkloadOptions {
        operations: 100,
        keys: 1,
        read_percent: 10,
        depth: 1,
        think_max: 15 * MILLI,
        patience: 2_000 * MILLI,
        ..workload
    }
}
