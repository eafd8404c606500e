//! One run: a plan carried out, first under faults, then healed, then judged.

use std::time::Duration;

use mainstay_model::{Plant, Prng};
use mainstay_storage::LogOptions;

use crate::context::Cx;
use crate::counts::Counts;
use crate::drive::boot::GroupBoot;
use crate::fault::Fault;
use crate::meter::Most;
use crate::network::Network;
use crate::plan::Plan;
use crate::workload::{PlainClient, SessionClient};
use crate::world::{Boot, NodeId, Parts, Picture, Process, Violation, World};

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// A bug to plant.
    pub plant: Option<Plant>,
    /// Whether the trace is kept.
    pub keep_trace: bool,
}

/// Exit codes of a program that runs seeds.
pub mod exit {
    /// Everything held.
    pub const HELD: u8 = 0;
    /// A process under test broke an invariant of its own.
    pub const CRASH: u8 = 10;
    /// Something false was decided, applied or told.
    pub const SAFETY: u8 = 11;
    /// Something did not come about in time.
    pub const LIVENESS: u8 = 12;
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// The seed.
    pub seed: u64,
    /// The hash over the whole trace: equal for equal seeds and equal code.
    pub trace_hash: u64,
    /// How many events the trace has.
    pub events: u64,
    /// How much virtual time passed.
    pub simulated: Duration,
    /// How many operations clients asked for.
    pub operations: usize,
    /// The last slot that any replica applied.
    pub slots: u64,
    /// In scenarios: the longest time without a request carried out, from the fault on.
    pub longest_gap: Duration,
    /// Whether it could be told if what clients saw is linearizable.
    pub judged: bool,
    /// How often what happened.
    pub counts: Counts,
    /// How much happened at once and in all: what the bounds of [`crate::meter`] are there for.
    pub most: Most,
    /// The first property that did not hold, if any.
    pub violation: Option<Violation>,
    /// The trace, if it was kept.
    pub trace: Vec<String>,
}

impl RunReport {
    /// The exit code for this run.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.violation.as_ref().map(|violation| violation.property) {
            None => exit::HELD,
            Some("invariant") => exit::CRASH,
            Some("liveness") => exit::LIVENESS,
            Some(_) => exit::SAFETY,
        }
    }
}

struct Booter {
    group: GroupBoot,
    plan: Plan,
}

impl Boot for Booter {
    fn boot(&mut self, cx: &mut Cx<'_>) -> Result<Box<dyn Process>, String> {
        let Plan { replicas, plain_clients, workload, .. } = self.plan;
        let node = cx.node().0;
        if node < replicas {
            return self.group.boot(cx);
        }
        Ok(if node < replicas + plain_clients {
            Box::new(PlainClient::new(cx, workload))
        } else {
            Box::new(SessionClient::new(cx, workload))
        })
    }
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, options: &RunOptions) -> RunReport {
    carry_out(seed, &Plan::of_seed(seed, options.plant), options.keep_trace)
}

/// Builds the world of a plan.
#[must_use]
pub fn build(seed: u64, plan: &Plan, keep_trace: bool) -> World {
    let mut prng = Prng::new(seed);
    let parts = Parts {
        replicas: plan.replicas,
        clients: plan.plain_clients + plan.session_clients,
        network: Network::new(plan.network, prng.split()),
        drift_ppm_max: plan.drift_ppm_max,
        link_notice_max: plan.link_notice_max,
        late_frames: plan.late_frames,
        damaged_max: plan.damaged_max,
        keep_trace,
        prng: prng.split(),
    };
    let made = vec![false; usize::from(plan.replicas)];
    let group = GroupBoot { group: plan.group.clone(), made };
    let mut world = World::new(parts, Box::new(Booter { group, plan: plan.clone() }));
    for (time, fault) in &plan.faults {
        world.core.plan(*time, fault.clone());
    }
    world
}

/// Carries a plan out.
#[must_use]
pub fn carry_out(seed: u64, plan: &Plan, keep_trace: bool) -> RunReport {
    let mut world = build(seed, plan, keep_trace);
    world.run_until(plan.heal_at);
    let damaged = world.core.budget.damaged.clone();
    let core = plan.core(&damaged, &mut world.core.prng);
    let judged = conclude(&mut world, plan, &core);
    report(seed, judged, world)
}

/// Heals the replicas of `core`, demands that everything completes, and judges what clients saw;
/// whether that could be judged is returned.
pub(crate) fn conclude(world: &mut World, plan: &Plan, core: &[NodeId]) -> bool {
    if world.core.violation.is_none() {
        let time = world.core.time;
        world.core.plan(time, Fault::Heal { core: core.to_vec() });
        finish(world, plan, core, time + plan.liveness_bound);
    }
    if world.core.violation.is_none() {
        let replicas = &plan.group.configuration.replicas;
        let live: Vec<_> = core.iter().map(|node| replicas[usize::from(node.0)]).collect();
        let time = world.core.time;
        let found = world.core.recorder.finish(time, &live);
        world.core.found(found);
    }
    let (found, judged) = world.core.recorder.judge();
    world.core.found(found);
    judged
}

/// Runs until all clients have finished and all replicas of `core` agree, or until `bound`.
fn finish(world: &mut World, plan: &Plan, core: &[NodeId], bound: u64) {
    let step = 100_000_000;
    while world.core.violation.is_none() {
        let time = world.core.time() + step;
        world.run_until(time);
        if world.core.violation.is_some() || unfinished(world, plan, core).is_none() {
            return;
        }
        if time >= bound {
            if let Some(what) = unfinished(world, plan, core) {
                world.core.violated("liveness", what);
            }
            return;
        }
    }
}

/// What is still missing, if anything.
fn unfinished(world: &mut World, plan: &Plan, core: &[NodeId]) -> Option<String> {
    let replicas = world.core.replicas;
    let clients = world.processes.len() as u16 - replicas;
    for client in (replicas..replicas + clients).map(NodeId) {
        let open = world.picture(client).map_or(0, |picture| picture.open);
        if open > 0 {
            return Some(format!("client c{} still waits for {open}", client.0 - replicas));
        }
    }
    let closing = world.core.closing.unwrap_or_default().0;
    let mut pictures = Vec::new();
    for &node in core {
        let Some(picture) = world.picture(node) else {
            return Some(format!("replica {} does not run", node.0));
        };
        if let Some(what) = unsettled(&picture, closing, plan.group.checkpoints.keep_bytes) {
            return Some(format!("replica {} {what}", node.0));
        }
        pictures.push((node, picture));
    }
    let (first, expected) = *pictures.first()?;
    let decided = world.core.recorder.decided_upto();
    if expected.applied < decided.0 {
        let applied = expected.applied;
        return Some(format!("replica {} has applied {applied} of {decided} slots", first.0));
    }
    pictures.iter().find(|(_, p)| (p.applied, p.digest) != (expected.applied, expected.digest)).map(
        |(node, picture)| {
            format!(
                "replica {} has applied {} (digest {:x}), replica {} {} ({:x})",
                first.0, expected.applied, expected.digest, node.0, picture.applied, picture.digest
            )
        },
    )
}

/// What is still missing at a replica so that its disk is bounded by what it holds.
fn unsettled(picture: &Picture, closing: u64, keep_bytes: u64) -> Option<String> {
    let Picture { stable, log_bytes, checkpoints, .. } = *picture;
    if stable < closing {
        return Some(format!(
            "knows a stable checkpoint of {stable}, and none of {closing} or later"
        ));
    }
    if picture.fetches {
        return Some("still fetches a checkpoint".to_owned());
    }
    // What is kept on purpose, the last interval, and whole segments around that.
    if log_bytes > keep_bytes + 4 * LogOptions::SEGMENT_BYTES_MIN {
        return Some(format!("has a log of {log_bytes} bytes and should keep {keep_bytes}"));
    }
    (checkpoints > 2).then(|| format!("holds {checkpoints} checkpoints"))
}

pub(crate) fn report(seed: u64, judged: bool, world: World) -> RunReport {
    let core = world.core;
    RunReport {
        seed,
        trace_hash: core.trace.hash(),
        events: core.trace.events(),
        simulated: Duration::from_nanos(core.time),
        operations: core.recorder.operations(),
        slots: core.recorder.decided_upto().0,
        judged,
        longest_gap: Duration::ZERO,
        counts: core.recorder.counts,
        most: core.meter.most(),
        violation: core.violation,
        trace: core.trace.into_lines(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_tell_what_was_violated() {
        let held = run(1, &RunOptions::default());
        assert_eq!(held.exit_code(), exit::HELD, "{:?}", held.violation);
        let code = |property| {
            let violation = Some(Violation { property, time: 0, detail: String::new() });
            RunReport { violation, ..held.clone() }.exit_code()
        };
        let properties = ["invariant", "agreement", "linearizable", "liveness"];
        assert_eq!(properties.map(code), [10, 11, 11, 12]);
    }
}
