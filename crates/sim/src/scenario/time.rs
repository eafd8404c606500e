//! Scenarios about decided time: what a takeover makes of it after hours without an entry, what a start
//! remembers of it, and what clients are shown. In some of them the bound on jumps is two seconds in
//! place of an hour: seconds are hours to them.

use super::{MILLI, Stage, followers, many_in_flight, states};
use crate::clock::WALL_START;
use crate::fault::{Fault, Target};
use crate::plan::Plan;
use crate::world::NodeId;

/// In place of an hour.
const BOUND: std::time::Duration = std::time::Duration::from_secs(2);
const YEAR: i64 = 365 * 86_400_000 * MILLI as i64;

/// A few requests, and then nothing that would be written.
pub(super) fn soon_idle(plan: &mut Plan) {
    plan.workload.operations = 10;
    plan.group.ordering.clock_jump_max = BOUND;
    plan.group.checkpoints.is_changed = false;
}

pub(super) fn idle_hours(stage: &mut Stage) {
    let clients = stage.world.core.replicas..stage.seeking.end;
    let idle = stage.run_until(20_000 * MILLI, |stage| {
        clients.clone().all(|client| {
            stage.world.picture(NodeId(client)).is_some_and(|picture| picture.open == 0)
        })
    });
    stage.demand(idle, "clients still ask");
    let hours = stage.world.core.prng.between(6_000, 15_000) * MILLI;
    stage.run_for(hours);
    let leader = stage.leader();
    stage.now(Fault::Kill { target: Target::Node(leader), down: 2_000 * MILLI });
    expect_right_time(stage, leader);
}

/// Nothing is discarded, and clients ask for as long as it takes. Whoever lags learns a few entries at a
/// time: it takes over before it has them.
pub(super) fn working_for_hours(plan: &mut Plan) {
    many_in_flight(plan);
    plan.group.checkpoints.keep_bytes = 1 << 20;
    plan.group.ordering.page_bytes_max = 100;
    plan.workload.operations = 250;
    plan.workload.think_max = 100 * MILLI;
    plan.group.ordering.clock_jump_max = BOUND;
}

pub(super) fn lagging_candidate(stage: &mut Stage) {
    let leader = stage.leader();
    let late = stage.first_in_line(leader);
    stage.link_only(|a, b| a != late && b != late);
    let hours = stage.world.core.prng.between(5_000, 8_000) * MILLI;
    stage.run_for(hours);
    if stage.world.core.prng.chance(1, 2) {
        // What it remembered of the leader's clock is gone, too.
        stage.now(Fault::Kill { target: Target::Node(late), down: 5 * MILLI });
        stage.run_for(10 * MILLI);
    }
    stage.now(Fault::Kill { target: Target::Node(leader), down: 3_000 * MILLI });
    stage.now(Fault::Mend);
    expect_right_time(stage, leader);
    // That may be what it learned. From now on time passes by its own clock.
    stage.run_for(2_000 * MILLI);
    expect_right_time(stage, leader);
    // What it lacks takes as long as it takes; then requests are carried out again.
    let time = stage.world.core.time();
    let goes_on = stage.run_until(20_000 * MILLI, |stage| {
        stage.all_asked() || stage.world.core.recorder.progress_after(time).is_some()
    });
    stage.demand(goes_on, "nothing is carried out after what was missed is learned");
}

/// Another replica leads, and its clock shows what time it is, to within what is shown ahead.
fn expect_right_time(stage: &mut Stage, old: NodeId) {
    let longest = 8 * stage.timeout;
    let right = stage.run_until(longest, |stage| {
        let wall = WALL_START + stage.world.core.time();
        let others = (0..stage.world.core.replicas).map(NodeId).filter(|&node| node != old);
        let mut leaders = others.filter_map(|node| stage.world.picture(node)).filter(|p| p.leads);
        leaders.any(|picture| picture.time + 500 * MILLI >= wall)
    });
    stage.demand(right, "the clocks are right, and decided time stays behind them");
}

pub(super) fn leases_at_the_tip(plan: &mut Plan) {
    states::all_covered(plan);
    plan.workload.lease_percent = 30;
    plan.workload.lease_millis_max = 20_000;
}

pub(super) fn year_ahead(stage: &mut Stage) {
    for _ in 0..3 {
        // Nothing lies behind the last checkpoint.
        stage.run_until(2_000 * MILLI, |stage| {
            let decided = stage.world.core.recorder.decided_upto().0;
            (0..3).map(NodeId).all(|node| {
                stage.world.picture(node).is_some_and(|picture| picture.stable == decided)
            })
        });
        for node in (0..3).map(NodeId) {
            stage.now(Fault::JumpWall { target: Target::Node(node), by: YEAR });
        }
        stage.now(Fault::PowerLossOfAll { down: 50 * MILLI });
        stage.run_for(2 * stage.timeout);
    }
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

/// Many ask what time it is, and nothing is written for seconds.
pub(super) fn asking_for_time(plan: &mut Plan) {
    plan.workload.operations = 60;
    plan.workload.think_max = 900 * MILLI;
    plan.workload.lease_percent = 95;
    plan.workload.lease_millis_max = 3_000;
    plan.group.checkpoints.is_changed = false;
}

pub(super) fn shown_time(stage: &mut Stage) {
    for node in (0..3).map(NodeId) {
        // Decided time is ahead of every clock: whoever takes over cannot learn it from those.
        stage.now(Fault::JumpWall { target: Target::Node(node), by: -(60_000 * MILLI as i64) });
    }
    for round in 0..6 {
        let pause = stage.world.core.prng.between(500, 3_000) * MILLI;
        stage.run_for(pause);
        let leader = stage.leader();
        let (follower, _) = followers(stage, leader);
        match round % 3 {
            0 => stage.now(Fault::PowerLossOfAll { down: 20 * MILLI }),
            1 => stage.now(Fault::Kill { target: Target::Node(leader), down: 300 * MILLI }),
            _ => {
                stage.link_only(|a, b| a != leader && b != leader);
                stage.run_for(2 * stage.timeout);
                stage.now(Fault::Kill { target: Target::Node(follower), down: 5 * MILLI });
                stage.now(Fault::Mend);
            }
        }
        stage.run_for(2 * stage.timeout);
    }
    let time = stage.world.core.time();
    stage.expect_progress(time);
}
