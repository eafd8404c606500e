//! Scenarios about replicas that lose or damage what they promised.

use super::{MILLI, Stage, all_in_the_log, followers};
use crate::fault::{Fault, Target};
use crate::plan::Plan;
use crate::world::NodeId;

pub(super) fn damaged_copy(stage: &mut Stage) {
    let leader = stage.leader();
    let (late, damaged) = followers(stage, leader);
    stage.link_only(|a, b| a != late && b != late);
    // The leader's slow disk lets the other follower accept much that it does not know as decided.
    let (target, length) = (Target::Node(leader), 2_000 * MILLI);
    let factor = 100 * MILLI / stage.disk_latency;
    stage.now(Fault::SlowDisk { target, length, factor });
    stage.run_for(150 * MILLI);
    stage.run_until_decided(3);
    stage.world.core.budget.damaged_max = 1;
    stage.now(Fault::Rot { target: Target::Node(damaged), last: true });
    stage.now(Fault::Kill { target: Target::Node(leader), down: 2_000 * MILLI });
    stage.now(Fault::Mend);
    stage.run_for(2_000 * MILLI);
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

/// Many requests a slot, so that most of a record is its value: damage there leaves in doubt what was accepted,
/// and nothing else.
pub(super) fn large_batches(plan: &mut Plan) {
    all_in_the_log(plan);
    plan.workload.depth = 6;
    plan.group.ordering.batch_requests_max = 100;
    plan.group.disk_latency = 4 * MILLI;
    plan.link_notice_max = MILLI;
}

pub(super) fn damaged_end(stage: &mut Stage) {
    stage.world.core.budget.damaged_max = 1;
    let leader = stage.leader();
    let (late, damaged) = followers(stage, leader);
    stage.link_only(|a, b| a != late && b != late);
    stage.run_until_decided(2);
    // What is on its way to the leader is decided and answered, and the follower does not hear of it.
    stage.now(Fault::Cut(vec![(leader, damaged)]));
    stage.run_for(20 * MILLI);
    stage.now(Fault::Kill { target: Target::Node(leader), down: 3_000 * MILLI });
    stage.link_only(|a, b| a != leader && b != leader);
    // A candidate has its promise written, and the other one its own; it is never told of it. So what
    // the follower accepted last is not what it wrote last.
    for _ in 0..4 {
        let Some(candidate) = wait_for_candidate(stage, [late, damaged]) else { return };
        let other = if candidate == late { damaged } else { late };
        stage.now(Fault::Cut(vec![(other, candidate)]));
        stage.run_for(stage.timeout);
        stage.now(Fault::Mend);
    }
    stage.now(Fault::Rot { target: Target::Node(damaged), last: true });
    stage.run_for(3_000 * MILLI);
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

/// Runs until one of these wants to lead; `None` if none does in three time-outs.
fn wait_for_candidate(stage: &mut Stage, nodes: [NodeId; 2]) -> Option<NodeId> {
    let until = stage.world.core.time() + 3 * stage.timeout;
    while stage.goes_on_until(until) {
        let campaigns = |node: &NodeId| stage.world.picture(*node).is_some_and(|p| p.campaigns);
        if let Some(node) = nodes.into_iter().find(campaigns) {
            return Some(node);
        }
        stage.run_for(MILLI / 10);
    }
    None
}

pub(super) fn wiped_copy(stage: &mut Stage) {
    let leader = stage.leader();
    let (late, wiped) = followers(stage, leader);
    stage.link_only(|a, b| a != late && b != late);
    stage.run_for(100 * MILLI);
    stage.world.core.budget.damaged_max = 1;
    let target = Target::Node(wiped);
    stage.now(Fault::Wipe { target, down: 10 * MILLI });
    // It has come back, and restarts once more.
    stage.run_for(30 * MILLI);
    stage.now(Fault::Kill { target, down: 10 * MILLI });
    stage.now(Fault::Kill { target: Target::Node(leader), down: 2_000 * MILLI });
    stage.now(Fault::Mend);
    stage.run_for(2_000 * MILLI);
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

pub(super) fn stale_donor(stage: &mut Stage) {
    let leader = stage.leader();
    stage.link_only(|a, b| a != leader && b != leader);
    stage.run_for(3 * stage.timeout);
    let successor = stage.leader();
    let Some(wiped) = (0..3).map(NodeId).find(|&node| node != leader && node != successor) else {
        return;
    };
    stage.world.core.budget.damaged_max = 1;
    stage.now(Fault::Wipe { target: Target::Node(wiped), down: 5 * MILLI });
    stage.link_only(|a, b| a == wiped || b == wiped);
    stage.run_for(stage.timeout);
    stage.now(Fault::Mend);
    let time = stage.world.core.time();
    stage.expect_progress(time);
}
