//! Scenarios in which services execute nothing although their processes live.

use super::{MILLI, Stage};
use crate::fault::{Ended, Fault, Target};
use crate::plan::Plan;
use crate::world::NodeId;

/// By when a leader that executes nothing is replaced: a stall time-out, twice what an election takes, and
/// what passes until there is something to execute.
const REPLACED_WITHIN: u64 = 6_000 * MILLI;

/// There is always somebody who asks something.
pub(super) fn steady(plan: &mut Plan) {
    plan.workload.operations = 250;
    plan.workload.read_percent = 10;
}

/// Longer than any of these scenarios: it ends when they say so.
const LONG: u64 = 60_000 * MILLI;

fn hang(stage: &mut Stage, node: NodeId) {
    stage.now(Fault::Hang { target: Target::Node(node), length: LONG });
}

/// Waits until somebody else leads, which must be soon, and demands that it goes on leading.
fn expect_replaced(stage: &mut Stage, old: NodeId) {
    let leads = |stage: &mut Stage| stage.world.leader().filter(|node| *node != old);
    let replaced = stage.run_until(REPLACED_WITHIN, |stage| leads(stage).is_some());
    stage.demand(replaced, "a leader that executes nothing keeps its office");
    let time = stage.world.core.time();
    stage.expect_progress(time);
    let ballot = stage.ballot();
    stage.run_for(4_000 * MILLI);
    let kept = stage.ballot() == ballot;
    stage.demand(kept, "leaders change again although the new one executes");
}

pub(super) fn hanging_service(stage: &mut Stage) {
    let leader = stage.leader();
    hang(stage, leader);
    expect_replaced(stage, leader);
    stage.now(Fault::End(leader, Ended::Hang));
}

pub(super) fn panicking_service(stage: &mut Stage) {
    let leader = stage.leader();
    stage.now(Fault::Panic { target: Target::Node(leader), length: LONG });
    expect_replaced(stage, leader);
    stage.now(Fault::End(leader, Ended::Panic));
    stage.run_for(20 * MILLI);
}

pub(super) fn no_service_executes(stage: &mut Stage) {
    let all: Vec<NodeId> = (0..stage.world.core.replicas).map(NodeId).collect();
    for node in &all {
        hang(stage, *node);
    }
    let (leader, ballot) = (stage.leader(), stage.ballot());
    stage.run_for(12_000 * MILLI);
    let stays = (stage.leader(), stage.ballot()) == (leader, ballot);
    stage.demand(stays, "leaders change although no service executes");
    for node in &all {
        stage.now(Fault::End(*node, Ended::Hang));
    }
    let time = stage.world.core.time();
    stage.expect_progress(time);
}
