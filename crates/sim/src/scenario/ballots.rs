//! Scenarios in which ballots meet: several leaders one after the other, each with proposals under way.

use super::{MILLI, Stage, all_in_the_log, followers, many_in_flight};
use crate::fault::{Fault, Target};
use crate::plan::Plan;
use crate::world::NodeId;

pub(super) fn resumed_ballot(stage: &mut Stage) {
    let leader = stage.leader();
    let (first, second) = followers(stage, leader);
    let between = |x, y| move |a: NodeId, b: NodeId| (a, b) == (x, y) || (b, a) == (x, y);
    let target = Target::Node(leader);
    let factor = 100 * MILLI / stage.disk_latency;
    stage.now(Fault::SlowDisk { target, length: 60 * MILLI, factor });
    stage.link_only(between(leader, first));
    stage.run_for(60 * MILLI);
    stage.now(Fault::PowerLoss { target, down: MILLI });
    stage.link_only(between(leader, second));
    let more = 1 + stage.world.core.prng.below(6);
    stage.run_until_decided(more);
    // What is on its way is decided, and nobody else is told.
    stage.now(Fault::Cut(vec![(leader, second)]));
    stage.run_for(20 * MILLI);
    stage.now(Fault::Kill { target, down: 2_000 * MILLI });
    stage.link_only(between(first, second));
    stage.run_for(2 * stage.timeout);
    stage.now(Fault::Mend);
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

pub(super) fn two_ballots(stage: &mut Stage) {
    let leader = stage.leader();
    stage.link_only(|a, b| a != leader && b != leader);
    let Some(successor) = stage.wait_for_leader_but(leader) else { return };
    let between = |x, y| move |a: NodeId, b: NodeId| (a, b) == (x, y) || (b, a) == (x, y);
    let Some(last) = (0..3).map(NodeId).find(|&node| node != leader && node != successor) else {
        return;
    };
    let more = 1 + stage.world.core.prng.below(6);
    stage.run_until_decided(more);
    // What is on its way is decided, and nobody else is told.
    stage.now(Fault::Cut(vec![(successor, last)]));
    stage.run_for(20 * MILLI);
    stage.now(Fault::Kill { target: Target::Node(successor), down: 1_500 * MILLI });
    stage.link_only(between(leader, last));
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

/// Clocks that run at very different rates: a leader may believe in its office for long after
/// others have given it up.
pub(super) fn drifting(plan: &mut Plan) {
    many_in_flight(plan);
    plan.drift_ppm_max = 250_000;
    plan.link_notice_max = MILLI;
}

/// The same, and many messages are lost.
pub(super) fn lossy(plan: &mut Plan) {
    drifting(plan);
    plan.network.loss_ppm = 250_000;
}

pub(super) fn stale_acceptor(stage: &mut Stage) {
    for _ in 0..16 {
        let leader = stage.leader();
        let (shared, successor) = followers(stage, leader);
        // The others see their connections break before the leader gives up.
        stage.link_only(|a, b| (a, b) == (shared, successor) || (b, a) == (shared, successor));
        let silence = stage.timeout / 3 + stage.world.core.prng.below(stage.timeout / 2);
        stage.run_for(silence);
        stage.link_only(|a, b| (a, b) != (leader, successor) && (b, a) != (leader, successor));
        stage.run_for(stage.timeout / 2);
        stage.now(Fault::Mend);
        stage.run_for(stage.timeout);
    }
    stage.world.core.network.calm();
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

pub(super) fn pending_acceptor(stage: &mut Stage) {
    for _ in 0..4 {
        let leader = stage.leader();
        let (shared, successor) = followers(stage, leader);
        let (target, length) = (Target::Node(shared), 2 * stage.timeout);
        let factor = stage.timeout / 2 / stage.disk_latency;
        stage.now(Fault::SlowDisk { target, length, factor });
        stage.run_for(stage.timeout / 2);
        // The shared follower is heard, and does not hear.
        let cuts = vec![(leader, shared), (leader, successor), (successor, leader)];
        stage.now(Fault::Cut(cuts));
        stage.run_for(2 * stage.timeout);
        stage.now(Fault::Mend);
        stage.run_for(2 * stage.timeout);
    }
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

/// Everybody reads and writes the same two registers. Nothing is discarded, and whoever lags learns a few
/// entries at a time: it takes over before it has them. No lease ends: a read would wait for that as well.
pub(super) fn reading_much(plan: &mut Plan) {
    all_in_the_log(plan);
    plan.group.checkpoints.keep_bytes = 1 << 20;
    plan.group.ordering.page_bytes_max = 100;
    plan.workload.keys = 2;
    plan.workload.read_percent = 60;
    plan.workload.lease_percent = 0;
    plan.workload.operations = 300;
}

pub(super) fn late_successor(stage: &mut Stage) {
    let leader = stage.leader();
    let late = stage.first_in_line(leader);
    stage.link_only(|a, b| a != late && b != late);
    let missed = stage.world.core.prng.between(200, 700) * MILLI;
    stage.run_for(missed);
    stage.now(Fault::Kill { target: Target::Node(leader), down: 2_000 * MILLI });
    stage.now(Fault::Mend);
    stage.wait_for_leader_but(leader);
    // What it lacks takes as long as it takes; then requests are carried out again.
    let time = stage.world.core.time();
    let goes_on = stage.run_until(10_000 * MILLI, |stage| {
        stage.all_asked() || stage.world.core.recorder.progress_after(time).is_some()
    });
    stage.demand(goes_on, "nothing is carried out after what was missed is learned");
}
