//! Scenarios about states: checkpoints, their transfer, and the clocks they depend on.

use mainstay_consensus::Window;

use super::{MILLI, Stage, followers, many_in_flight};
use crate::fault::{Ended, Fault, Target};
use crate::plan::{Plan, SHORT_LOG};
use crate::world::{Harm, NodeId};

/// Many requests, and checkpoints in quick succession.
pub(super) fn busy(plan: &mut Plan) {
    plan.workload.operations = 150;
    plan.workload.think_max = 60 * MILLI;
    plan.workload.depth = 3;
    plan.group.ordering.batch_requests_max = 2;
    plan.group.checkpoints.requests_min = 6;
    plan.group.checkpoints.requests_max = 20;
    plan.group.checkpoints.keep_bytes = 0;
    plan.group.checkpoints.wanted_bytes_max = 100_000;
}

/// The same, and pieces are slow to read and to write.
pub(super) fn many_pieces(plan: &mut Plan) {
    busy(plan);
    plan.workload.operations = 250;
    plan.group.disk_latency = 3 * MILLI;
}

/// The same, and much of the log is kept for whoever lags.
pub(super) fn long_memory(plan: &mut Plan) {
    busy(plan);
    plan.workload.operations = 400;
    plan.group.checkpoints.keep_bytes = 200_000;
}

/// The same, and enough of the log is kept for one that follows without room, and so without checkpoints:
/// where the others give up a log after two round trips, it cannot.
pub(super) fn followed_from_logs(plan: &mut Plan) {
    busy(plan);
    plan.group.checkpoints.keep_bytes = 200_000;
}

/// Many requests, and the log may not be long.
pub(super) fn short_log(plan: &mut Plan) {
    busy(plan);
    plan.workload.operations = 600;
    plan.group.log_bytes_max = Some(SHORT_LOG);
}

/// Many leases, and clocks that run a tenth too fast or too slow.
pub(super) fn leases(plan: &mut Plan) {
    many_in_flight(plan);
    plan.drift_ppm_max = 100_000;
    plan.workload.lease_percent = 50;
    plan.workload.lease_millis_max = 500;
    plan.group.checkpoints.requests_min = 6;
    plan.group.checkpoints.requests_max = 20;
}

/// A checkpoint after every request, and pauses in which nothing lies behind the last one.
pub(super) fn all_covered(plan: &mut Plan) {
    plan.session_clients = 3;
    plan.workload.operations = 200;
    plan.workload.think_max = 150 * MILLI;
    plan.workload.read_percent = 5;
    plan.group.ordering.batch_requests_max = 1;
    plan.group.checkpoints.requests_min = 1;
    plan.group.checkpoints.requests_max = 1;
    plan.group.checkpoints.keep_bytes = 0;
    plan.link_notice_max = MILLI;
}

/// A hundred times slower than usual, and at most a fifth of a second a write.
fn slow(stage: &Stage, target: Target, length: u64) -> Fault {
    let factor = 100.min(200 * MILLI / stage.disk_latency);
    Fault::SlowDisk { target, length, factor }
}

pub(super) fn slow_follower_disk(stage: &mut Stage) {
    let leader = stage.leader();
    let (slowed, _) = followers(stage, leader);
    let fault = slow(stage, Target::Node(slowed), 3_000 * MILLI);
    stage.now(fault);
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

/// More proposals are open at once than a segment holds, each with a request of its own.
pub(super) fn much_in_flight(plan: &mut Plan) {
    many_in_flight(plan);
    plan.workload.depth = 16;
    plan.workload.think_max = 2 * MILLI;
    plan.workload.keys = 8;
    plan.group.ordering.window = Window::Fixed(64);
}

pub(super) fn full_voter(stage: &mut Stage) {
    let leader = stage.leader();
    let (full, other) = followers(stage, leader);
    stage.link_only(|a, b| a != other && b != other);
    let (target, length) = (Target::Node(full), 3_000 * MILLI);
    let factor = 50 * MILLI / stage.disk_latency;
    stage.now(Fault::SlowDisk { target, length, factor });
    stage.now(Fault::FullDisk { target, length });
    stage.run_for(1_500 * MILLI);
    stage.now(Fault::Kill { target: Target::Node(leader), down: 2_500 * MILLI });
    stage.link_only(|a, b| a != leader && b != leader);
    stage.run_for(2_500 * MILLI);
    stage.now(Fault::Mend);
    let time = stage.world.core.time() + 1_000 * MILLI;
    stage.expect_progress(time);
}

pub(super) fn full_disks(stage: &mut Stage) {
    let leader = stage.leader();
    let length = 3_000 * MILLI;
    let factor = 50 * MILLI / stage.disk_latency;
    for node in (0..3).map(NodeId) {
        // The last to find out is the leader.
        let factor = if node == leader { 2 * factor } else { factor };
        stage.now(Fault::SlowDisk { target: Target::Node(node), length, factor });
    }
    stage.now(Fault::FullDisks { length });
    stage.run_for(length);
    let time = stage.world.core.time() + 1_000 * MILLI;
    stage.expect_progress(time);
}

/// Few requests, none of which makes a checkpoint due, and the log may not be long.
pub(super) fn few_requests(plan: &mut Plan) {
    plan.workload.operations = 10;
    plan.group.checkpoints.requests_min = 1_000;
    plan.group.checkpoints.requests_max = 1_000;
    plan.group.log_bytes_max = Some(SHORT_LOG);
}

pub(super) fn full_of_little(stage: &mut Stage) {
    let target = Target::Node(NodeId(0));
    for _ in 0..150 {
        stage.run_until_decided(1);
        if stage.world.picture(NodeId(0)).is_some_and(|picture| !picture.has_room) {
            break;
        }
        // It knows something as decided, and has written nothing since.
        stage.now(Fault::Kill { target, down: MILLI });
    }
    let time = stage.world.core.time() + 1_000 * MILLI;
    stage.expect_progress(time);
}

pub(super) fn full_follower(stage: &mut Stage) {
    let leader = stage.leader();
    let (full, _) = followers(stage, leader);
    let target = Target::Node(full);
    stage.now(Fault::FullDisk { target, length: 4_000 * MILLI });
    let before = stage.world.core.recorder.counts.passed;
    let follows = stage
        .run_until(3_500 * MILLI, |stage| stage.world.core.recorder.counts.passed >= before + 20);
    stage.demand(follows, "a replica without room executes nothing");
    // What it knows only in memory is gone.
    stage.now(Fault::Kill { target, down: 20 * MILLI });
    stage.run_for(300 * MILLI);
    stage.now(Fault::Kill { target: Target::Leader, down: 1_000 * MILLI });
    let time = stage.world.core.time() + 4_000 * MILLI;
    stage.expect_progress(time);
}

pub(super) fn slow_leader_disk(stage: &mut Stage) {
    let leader = stage.leader();
    let fault = slow(stage, Target::Node(leader), 3_000 * MILLI);
    stage.now(fault);
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

/// Who is away, and up to which slot the others have nothing but a checkpoint.
struct Away(NodeId, u64);

/// Ends a follower, and waits until the others have discarded what it has not seen.
fn send_away(stage: &mut Stage) -> Away {
    let leader = stage.leader();
    let replicas = stage.world.core.replicas;
    let step = 1 + stage.world.core.prng.below(u64::from(replicas) - 1) as u16;
    let away = NodeId((leader.0 + step) % replicas);
    // What it has accepted it need not fetch: that much may have been proposed and not decided yet.
    let seen = stage.world.core.recorder.decided_upto().0 + 20;
    let others = move || (0..replicas).map(NodeId).filter(move |&node| node != away);
    stage.now(Fault::Kill { target: Target::Node(away), down: 60_000 * MILLI });
    let gone = stage.run_until(20_000 * MILLI, |stage| {
        others().all(|node| stage.world.picture(node).is_some_and(|p| p.truncated > seen))
    });
    stage.demand(gone, "the others discard nothing while one is away");
    let truncated = others().filter_map(|node| stage.world.picture(node).map(|p| p.truncated));
    Away(away, truncated.min().unwrap_or(seen))
}

fn come_back(stage: &mut Stage, away: &Away) {
    stage.world.start_in(away.0, 0);
    stage.run_for(MILLI);
}

/// Whether it has what only a checkpoint of the others could give it. It may have taken that over
/// when it started again, in the middle of doing so.
fn has_taken_over(stage: &mut Stage, away: &Away) -> bool {
    stage.world.picture(away.0).is_some_and(|picture| picture.applied >= away.1)
}

/// Waits until it has taken a state over, which must be soon.
fn expect_takeover(stage: &mut Stage, away: &Away) {
    let took = stage.run_until(20_000 * MILLI, |stage| has_taken_over(stage, away));
    stage.demand(took, "who was away takes over no state");
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

pub(super) fn away_for_long(stage: &mut Stage) {
    let away = send_away(stage);
    come_back(stage, &away);
    expect_takeover(stage, &away);
}

pub(super) fn refused_for_a_while(stage: &mut Stage) {
    let away = send_away(stage);
    come_back(stage, &away);
    let before = stage.world.core.recorder.counts.refused;
    let length = 60_000 * MILLI;
    stage.now(Fault::NoRestore { target: Target::Node(away.0), length });
    let refused = stage
        .run_until(20_000 * MILLI, |stage| stage.world.core.recorder.counts.refused > before + 1);
    stage.demand(refused, "what is refused is not tried again");
    stage.now(Fault::End(away.0, Ended::NoRestore));
    expect_takeover(stage, &away);
}

pub(super) fn lone_holder(stage: &mut Stage) {
    let away = send_away(stage);
    let mut others = (0..3).map(NodeId).filter(|&node| node != away.0);
    let (Some(first), Some(second)) = (others.next(), others.next()) else { return };
    let swap = stage.world.core.prng.chance(1, 2);
    let (gone, holder) = if swap { (first, second) } else { (second, first) };
    stage.world.core.node(gone).held_down = true;
    stage.now(Fault::Kill { target: Target::Node(gone), down: MILLI });
    stage.now(Fault::PowerLoss { target: Target::Node(holder), down: 100 * MILLI });
    come_back(stage, &away);
    expect_takeover(stage, &away);
}

pub(super) fn transfer_under_fire(stage: &mut Stage) {
    let away = send_away(stage);
    come_back(stage, &away);
    for round in 0..6 {
        let fetches = stage.run_until(3_000 * MILLI, |stage| {
            has_taken_over(stage, &away)
                || stage.world.picture(away.0).is_some_and(|picture| picture.fetches)
        });
        if !fetches || has_taken_over(stage, &away) {
            break;
        }
        let soon = stage.world.core.prng.between(MILLI, 40 * MILLI);
        stage.run_for(soon);
        let replicas = u64::from(stage.world.core.replicas);
        let other = 1 + stage.world.core.prng.below(replicas - 1) as u16;
        let other = NodeId((away.0.0 + other) % replicas as u16);
        let hit = if round % 2 == 0 { away.0 } else { other };
        let target = Target::Node(hit);
        let fault = if stage.world.core.prng.chance(1, 2) {
            Fault::Kill { target, down: 20 * MILLI }
        } else {
            Fault::PowerLossInside { target, changes: stage.world.core.prng.below(8) }
        };
        stage.now(fault);
    }
    expect_takeover(stage, &away);
}

pub(super) fn wrong_pieces(stage: &mut Stage) {
    let away = send_away(stage);
    let others = (0..3).map(NodeId).filter(|&node| node != away.0);
    for node in others {
        stage.now(Fault::Harm { target: Target::Node(node), harm: Harm::WrongPieces(12) });
    }
    come_back(stage, &away);
    expect_takeover(stage, &away);
}

pub(super) fn diverged(stage: &mut Stage) {
    let leader = stage.leader();
    let (follower, _) = followers(stage, leader);
    let hit = if stage.world.core.prng.chance(1, 2) { leader } else { follower };
    stage.world.core.budget.damaged_max = 1;
    let before = stage.world.core.recorder.counts;
    stage.now(Fault::Harm { target: Target::Node(hit), harm: Harm::Spoil });
    let found = stage.run_until(10_000 * MILLI, |stage| {
        stage.world.core.recorder.counts.diverged > before.diverged
    });
    stage.demand(found, "a state that differs is not found");
    let healed = stage.run_until(10_000 * MILLI, |stage| {
        stage.world.core.recorder.counts.installs > before.installs
    });
    stage.demand(healed, "who has diverged takes over no state");
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

/// The others make several checkpoints that one does not hear of; then its state is spoiled, and it goes
/// through their log.
pub(super) fn diverged_late(stage: &mut Stage) {
    let leader = stage.leader();
    let (hit, other) = followers(stage, leader);
    stage.world.core.budget.damaged_max = 1;
    let stable = |stage: &mut Stage, node| stage.world.picture(node).map_or(0, |p| p.stable);
    let begun = stage.run_until(10_000 * MILLI, |stage| stable(stage, hit) > 0);
    stage.demand(begun, "no checkpoint becomes stable");
    stage.link_only(|a, b| a != hit && b != hit);
    for _ in 0..4 {
        let last = stable(stage, other);
        stage.run_until(3_000 * MILLI, |stage| stable(stage, other) > last);
    }
    let before = stage.world.core.recorder.counts;
    stage.now(Fault::Harm { target: Target::Node(hit), harm: Harm::Spoil });
    stage.now(Fault::Mend);
    let found = stage.run_until(10_000 * MILLI, |stage| {
        stage.world.core.recorder.counts.diverged > before.diverged
    });
    if !found {
        // It was so far behind that it was given the state of the others, and nothing to spoil.
        return;
    }
    if stage.world.core.prng.chance(1, 3) {
        stage.now(Fault::Kill { target: Target::Node(hit), down: 20 * MILLI });
    }
    let healed = stage.run_until(10_000 * MILLI, |stage| {
        stage.world.core.recorder.counts.installs > before.installs
    });
    if healed {
        stage.now(Fault::RotCheckpoint { target: Target::Node(hit) });
    }
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

pub(super) fn other_program(stage: &mut Stage) {
    let all = || (0..3).map(NodeId);
    let given_up = stage.run_until(20_000 * MILLI, |stage| {
        all().all(|node| stage.world.picture(node).is_some_and(|picture| picture.truncated > 0))
    });
    stage.demand(given_up, "nobody gives anything of its log up");
    let length = 600 * MILLI;
    all().for_each(|node| stage.now(Fault::OtherProgram { target: Target::Node(node), length }));
    stage.run_for(length + 400 * MILLI);
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

pub(super) fn no_checkpoints(stage: &mut Stage) {
    let all = || (0..3).map(NodeId);
    let length = 60_000 * MILLI;
    all().for_each(|node| stage.now(Fault::NoCheckpoints { target: Target::Node(node), length }));
    // Where two of three have no room, no request is taken that could fill the third.
    let full = stage.run_until(30_000 * MILLI, |stage| {
        let mut is_full = |node| stage.world.picture(node).is_some_and(|picture| !picture.has_room);
        all().filter(|node| is_full(*node)).count() >= 2
    });
    stage.demand(full, "a bounded log without checkpoints is never full");
    all().for_each(|node| stage.now(Fault::End(node, Ended::NoCheckpoints)));
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

pub(super) fn restarts(stage: &mut Stage) {
    for round in 0..12 {
        let time = stage.world.core.time();
        let target = if round % 3 == 0 { Target::Leader } else { Target::Any };
        let down = stage.world.core.prng.between(5 * MILLI, 100 * MILLI);
        let fault = match stage.world.core.prng.below(3) {
            0 => Fault::PowerLoss { target, down },
            1 => Fault::PowerLossInside { target, changes: stage.world.core.prng.below(20) },
            _ => Fault::Kill { target, down },
        };
        stage.now(fault);
        let next = time + stage.world.core.prng.between(50 * MILLI, 400 * MILLI);
        stage.world.run_until(next);
    }
    stage.world.core.plan(stage.world.core.time(), Fault::Mend);
    let time = stage.world.core.time() + 200 * MILLI;
    stage.expect_progress(time);
}

pub(super) fn untold_checkpoint(stage: &mut Stage) {
    let replicas = stage.world.core.replicas;
    for round in 0..2 * replicas {
        let node = NodeId(round % replicas);
        let boot = stage.world.core.node(node).boot;
        stage.now(Fault::PowerLossAtCheckpoint { target: Target::Node(node) });
        stage.run_until(2_000 * MILLI, |stage| stage.world.core.node(node).boot > boot);
        stage.run_for(200 * MILLI);
    }
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

pub(super) fn forgotten_promise(stage: &mut Stage) {
    for _ in 0..4 {
        let leader = stage.leader();
        let between = |x, y| move |a: NodeId, b: NodeId| (a, b) == (x, y) || (b, a) == (x, y);
        // Both followers hold nothing that their checkpoints do not cover.
        stage.run_until(500 * MILLI, |stage| {
            let decided = stage.world.core.recorder.decided_upto().0;
            (0..3).map(NodeId).all(|node| {
                stage.world.picture(node).is_some_and(|picture| picture.stable == decided)
            })
        });
        stage.link_only(|a, b| a != leader && b != leader);
        let Some(successor) = stage.wait_for_leader_but(leader) else { return };
        let shared = NodeId(3 - leader.0 - successor.0);
        // The successor has the promise, and nothing of what it proposes arrives yet.
        stage.link_only(|_, _| false);
        stage.now(Fault::Kill { target: Target::Node(shared), down: 5 * MILLI });
        stage.run_for(6 * MILLI);
        stage.link_only(between(leader, shared));
        stage.run_until_decided(1);
        stage.link_only(between(successor, shared));
        stage.run_for(stage.timeout / 2);
        stage.now(Fault::Mend);
        stage.run_for(2 * stage.timeout);
    }
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

pub(super) fn clocks(stage: &mut Stage) {
    let hour = 3_600_000 * MILLI as i64;
    for round in 0..8 {
        let by = stage.world.core.prng.below(6 * hour as u64) as i64 - 3 * hour;
        stage.now(Fault::JumpWall { target: Target::Any, by });
        let pause = stage.world.core.prng.between(50 * MILLI, 300 * MILLI);
        stage.run_for(pause);
        let time = stage.world.core.time();
        match round % 3 {
            0 => stage.now(Fault::Kill { target: Target::Leader, down: 50 * MILLI }),
            1 => stage.now(Fault::Pause { target: Target::Leader, length: 200 * MILLI }),
            _ => {}
        }
        stage.world.run_until(time + 2 * stage.timeout);
    }
    let time = stage.world.core.time();
    stage.expect_progress(time);
}
