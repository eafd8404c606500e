//! Checkpoints are made, become stable, and let the log go.

use mainstay_model::plant::Planted;
use mainstay_model::{Plant, Slot};

use super::model::{Goal, Model, allowed};
use super::{all_but_phases, chatter, fails, holds};
use crate::node::{Stage, World};

const ALL_DISCARDED: Goal = Goal {
    name: "all have discarded their logs",
    holds: |nodes| nodes.iter().all(|node| node.disk.truncated_upto == Slot(2)),
};

const HEALED: Goal = Goal {
    name: "a state that went wrong is replaced",
    holds: |nodes| nodes.iter().any(|node| !node.past.installed.is_empty()),
};

/// Every slot has a checkpoint, which takes time to write. That of slot 1 is there; slot 2 is about to
/// be decided.
pub(super) fn one_checkpoint(planted: Option<Plant>) -> Model {
    let mut begins = Stage::led(World {
        planted: Planted(planted),
        checkpoint_slots: 1,
        checkpoint_at_once: false,
        lost: chatter,
        ..World::new(3)
    });
    for at in 0..3 {
        begins.at(at, |world, node, sent| world.write_checkpoint(node, sent));
    }
    begins.settle(|_| false);
    Model {
        submits: allowed(1, &[0]),
        recover_every: 200,
        goals: vec![ALL_DISCARDED],
        ..Model::new(begins)
    }
}

fn with_a_crash(planted: Option<Plant>) -> Model {
    Model { restarts: allowed(1, &[0, 1, 2]), ..one_checkpoint(planted) }
}

/// The state of a replica goes wrong on the way there.
fn with_a_wrong_state(planted: Option<Plant>) -> Model {
    Model {
        diverges: allowed(1, &[2]),
        goals: vec![ALL_DISCARDED, HEALED],
        ..one_checkpoint(planted)
    }
}

/// Another replica stands when slot 2 has the first checkpoint.
fn with_a_leader_change(planted: Option<Plant>) -> Model {
    let begins = Stage::led(World {
        planted: Planted(planted),
        checkpoint_slots: 2,
        lost: all_but_phases,
        ..World::new(3)
    });
    Model {
        submits: allowed(1, &[0]),
        stands: allowed(1, &[1]),
        recover_every: 400,
        goals: vec![ALL_DISCARDED],
        ..Model::new(begins)
    }
}

#[test]
fn a_checkpoint_lets_the_log_go_and_anybody_crashes() {
    let large = || Model { restarts: allowed(2, &[0, 1, 2]), ..one_checkpoint(None) };
    holds("checkpoints, one", || with_a_crash(None), large);
}

#[test]
fn a_state_that_went_wrong_is_found_and_replaced() {
    let large = || Model { restarts: allowed(1, &[2]), ..with_a_wrong_state(None) };
    holds("checkpoints, a wrong state", || with_a_wrong_state(None), large);
}

#[test]
fn promises_outlive_the_log() {
    let large = || Model { restarts: allowed(1, &[2]), ..with_a_leader_change(None) };
    holds("checkpoints, another leads", || with_a_leader_change(None), large);
}

#[test]
fn planted_bugs_are_found() {
    type Built = fn(Option<Plant>) -> Model;
    let bugs: [(Plant, Built); 4] = [
        (Plant::DiscardedAboveOwnCheckpoint, one_checkpoint),
        (Plant::CheckpointToldBeforeDurable, one_checkpoint),
        (Plant::DigestNotCompared, with_a_wrong_state),
        (Plant::SegmentWithPromiseDiscarded, with_a_leader_change),
    ];
    for (plant, model) in bugs {
        fails(plant, model(Some(plant)));
    }
}
