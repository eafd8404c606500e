//! Scenarios in which some directions are cut, and others are not.

use super::{MILLI, Stage};
use crate::fault::Fault;
use crate::world::NodeId;

pub(super) fn quorum_loss(stage: &mut Stage) {
    let leader = stage.leader();
    let hub = NodeId((leader.0 + 1 + stage.world.core.prng.below(4) as u16) % 5);
    stage.link_only(|a, _| a == hub);
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

pub(super) fn constrained_election(stage: &mut Stage) {
    let leader = stage.leader();
    let late = NodeId((leader.0 + 1 + stage.world.core.prng.below(4) as u16) % 5);
    stage.link_only(|a, b| a != late && b != late);
    stage.run_for(200 * MILLI);
    stage.link_only(|a, b| a == late && b != leader);
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

pub(super) fn chained(stage: &mut Stage) {
    let leader = stage.leader();
    let other = NodeId((leader.0 + 1 + stage.world.core.prng.below(2) as u16) % 3);
    stage.link_only(|a, b| (a, b) != (leader, other) && (a, b) != (other, leader));
    let time = stage.world.core.time();
    stage.expect_progress(time);
}

pub(super) fn deaf_leader(stage: &mut Stage) {
    let leader = stage.leader();
    let others = (0..3).map(NodeId).filter(|&node| node != leader);
    let cuts = others.map(|from| (from, leader)).collect();
    stage.now(Fault::Cut(cuts));
    let time = stage.world.core.time();
    stage.expect_progress(time);
}
