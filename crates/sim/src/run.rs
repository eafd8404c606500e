//! One run: a plan carried out, first under faults, then healed, then judged.

use std::time::Duration;

use mainstay_model::{Plant, Prng};

use crate::drive::consensus::GroupBoot;
use crate::fault::Fault;
use crate::network::Network;
use crate::plan::Plan;
use crate::workload::{PlainClient, SessionClient};
use crate::world::{Boot, Cx, NodeId, Parts, Process, Violation, World};

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// A bug to plant.
    pub plant: Option<Plant>,
    /// Whether the trace is kept.
    pub keep_trace: bool,
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
    /// Whether it could be told if what clients saw is linearizable.
    pub judged: bool,
    /// The first property that did not hold, if any.
    pub violation: Option<Violation>,
    /// The trace, if it was kept.
    pub trace: Vec<String>,
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
    if world.core.violation.is_none() {
        let damaged = world.core.budget.damaged.clone();
        let core = plan.core(&damaged, &mut world.core.prng);
        world.core.plan(plan.heal_at, Fault::Heal { core: core.clone() });
        finish(&mut world, &core, plan.heal_at + plan.liveness_bound);
        if world.core.violation.is_none() {
            let live: Vec<_> = core
                .iter()
                .map(|node| plan.group.configuration.replicas[usize::from(node.0)])
                .collect();
            let time = world.core.time;
            let found = world.core.recorder.finish(time, &live);
            world.core.found(found);
        }
    }
    // Also where something else was violated before: what clients saw counts more.
    let (found, judged) = world.core.recorder.judge();
    world.core.found(found);
    report(seed, judged, world)
}

/// Runs until all clients have finished and all replicas of `core` agree, or until `bound`.
fn finish(world: &mut World, core: &[NodeId], bound: u64) {
    let step = 100_000_000;
    while world.core.violation.is_none() {
        let time = world.core.time() + step;
        world.run_until(time);
        if world.core.violation.is_some() || unfinished(world, core).is_none() {
            return;
        }
        if time >= bound {
            if let Some(what) = unfinished(world, core) {
                world.core.violated("liveness", what);
            }
            return;
        }
    }
}

/// What is still missing, if anything.
fn unfinished(world: &mut World, core: &[NodeId]) -> Option<String> {
    let replicas = world.core.replicas;
    let clients = world.processes.len() as u16 - replicas;
    for client in (replicas..replicas + clients).map(NodeId) {
        let open = world.picture(client).map_or(0, |picture| picture.open);
        if open > 0 {
            return Some(format!("client c{} still waits for {open}", client.0 - replicas));
        }
    }
    let mut pictures = Vec::new();
    for &node in core {
        let Some(picture) = world.picture(node) else {
            return Some(format!("replica {} does not run", node.0));
        };
        pictures.push((node, picture));
    }
    let (first, expected) = *pictures.first()?;
    let (decided, _) = world.core.recorder.decided_upto();
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

fn report(seed: u64, judged: bool, world: World) -> RunReport {
    let core = world.core;
    RunReport {
        seed,
        trace_hash: core.trace.hash(),
        events: core.trace.events(),
        simulated: Duration::from_nanos(core.time),
        operations: core.recorder.operations(),
        slots: core.recorder.decided_upto().0.0,
        judged,
        violation: core.violation,
        trace: core.trace.into_lines(),
    }
}
