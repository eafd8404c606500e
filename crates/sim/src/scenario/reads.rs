//! Scenarios about reads that other replicas than the leader answer.

use super::{MILLI, Stage, many_in_flight};
use crate::fault::Fault;
use crate::plan::Plan;
use crate::world::NodeId;

/// By how much a delay grows at a time, and after how long: so slowly that nobody is taken for dead.
const STEP: u64 = 25 * MILLI;

/// Many clients of fronts, half of whose operations are reads.
pub(super) fn reading_and_writing(plan: &mut Plan) {
    many_in_flight(plan);
    plan.plain_clients = 8;
    plan.workload.depth = 2;
    plan.workload.think_max = 40 * MILLI;
    plan.workload.read_percent = 50;
    plan.workload.operations = 300;
    plan.workload.keys = 2;
    // They wait where they are.
    plan.workload.patience = 4_000 * MILLI;
    plan.late_frames = true;
}

pub(super) fn late_answer(stage: &mut Stage) {
    let leader = stage.leader();
    let successor = stage.first_in_line(leader);
    let others: Vec<NodeId> = (0..5).map(NodeId).filter(|node| *node != leader).collect();
    let reader = others[0];
    let steps = stage.world.core.prng.between(30, 100);
    let longest = stage.world.core.prng.between(200 * MILLI, 1_000 * MILLI);
    for by in (1..=steps).map(|step| step * STEP) {
        stage.world.core.network.delay(leader, reader, by);
        stage.world.core.network.delay(successor, reader, by.min(longest));
        stage.run_for(STEP);
    }
    // What the leader has answered is on its way, and it still hears and is heard by the one that asked.
    let cut_off = others.iter().filter(|node| **node != reader);
    stage.now(Fault::Cut(cut_off.flat_map(|&node| [(leader, node), (node, leader)]).collect()));
    stage.run_for(4_000 * MILLI);
    stage.now(Fault::Mend);
    stage.now(Fault::OnTime);
    // Clients whose requests went to the old leader wait for seconds; that all have an answer in the end is
    // what every scenario demands.
    stage.run_for(1_000 * MILLI);
}
