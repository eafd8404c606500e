//! A replica was away until the others had discarded their logs.

use mainstay_check::explore::Envelope;
use mainstay_consensus::{Body, Message};
use mainstay_model::plant::Planted;
use mainstay_model::{Plant, Slot};

use super::model::{Goal, Model, allowed};
use super::{fails, holds};
use crate::node::{Letter, Stage, World};

/// Who was away.
const AWAY: usize = 2;

const BACK: Goal = Goal {
    name: "who was away has the state and all that follows",
    holds: |nodes| {
        let back = nodes[AWAY];
        !back.past.installed.is_empty() && back.executor.applied >= Slot(4)
    },
};

const NEWER: Goal = Goal {
    name: "who was away fetches the newer checkpoint",
    holds: |nodes| nodes[AWAY].past.installed.iter().any(|installed| installed.slot == Slot(4)),
};

/// What only says that somebody lives, but for the leader: of it, who was away hears what it lacks.
fn answers_only(message: &Message) -> bool {
    matches!(message.body, Body::Probe(_) | Body::ProbeReply(_) | Body::Follow(_))
}

/// Replica 2 has heard of nothing between slot 1 and slot 4. The others have a checkpoint of slot 2, in
/// two pieces, which is stable, have discarded the log before it, and are about to write that of slot
/// 4. Replica 2 has just found that nobody's log reaches back far enough.
pub(super) fn away(planted: Option<Plant>) -> Model {
    away_with(planted, 16)
}

fn away_with(planted: Option<Plant>, checkpoint_bytes: u64) -> Model {
    let mut begins = Stage::led(World {
        planted: Planted(planted),
        checkpoint_slots: 2,
        checkpoint_bytes,
        checkpoint_at_once: false,
        lost: answers_only,
        ..World::new(3)
    });
    for _ in 0..3 {
        begins.at(0, |world, node, sent| world.submit(0, node, sent));
        begins.settle(|envelope| envelope.to == AWAY);
        for at in 0..AWAY {
            if begins.nodes[at].disk.checkpoints.is_empty() {
                begins.at(at, |world, node, sent| world.write_checkpoint(node, sent));
            }
        }
        begins.settle(|envelope| envelope.to == AWAY);
    }
    for node in &begins.nodes[..AWAY] {
        assert!(node.disk.truncated_upto == Slot(2) && node.checkpoint_is_due());
    }
    begins.at(0, |world, node, sent| world.wait(node, sent));
    while !begins.on_the_way.iter().any(|envelope| envelope.message.0.name() == "checkpoint-ask") {
        if begins.on_the_way.is_empty() {
            begins.at(AWAY, |world, node, sent| world.wait(node, sent));
        } else {
            begins.hand_over(0);
        }
    }
    Model { recover_every: 200, goals: vec![BACK, NEWER], ..Model::new(begins) }
}

/// The checkpoints of one donor are not what their names say.
fn from_a_rotten_disk(planted: Option<Plant>) -> Model {
    Model { rots: allowed(1, &[1]), ..away(planted) }
}

/// Somebody crashes. To keep it small the state is in one piece, the leader has nothing more to write,
/// and what it tells the other one has arrived.
fn with_a_crash(at: &'static [usize]) -> Model {
    let mut model = away_with(None, 8);
    model.begins.at(0, |world, node, sent| world.write_checkpoint(node, sent));
    let to_other = |envelope: &Envelope<Letter>| envelope.to == 1 && envelope.from == 0;
    let place = model.begins.on_the_way.iter().position(to_other).expect("it tells of it");
    model.begins.hand_over(place);
    Model { restarts: allowed(1, at), recover_every: 500, goals: vec![BACK], ..model }
}

#[test]
fn a_replica_that_was_away_fetches_the_state() {
    let large = || Model { restarts: allowed(1, &[AWAY]), waits: allowed(1, &[0]), ..away(None) };
    holds("transfer, undisturbed", || away(None), large);
}

#[test]
fn pieces_that_rotted_are_not_installed() {
    let large = || Model { waits: allowed(1, &[AWAY]), ..from_a_rotten_disk(None) };
    holds("transfer, rotten pieces", || from_a_rotten_disk(None), large);
}

#[test]
fn the_only_one_that_knows_what_is_stable_crashes() {
    let large = || Model { restarts: allowed(1, &[1]), ..away(None) };
    holds("transfer, a donor crashes", || with_a_crash(&[1]), large);
}

#[test]
fn the_leader_crashes_while_another_fetches() {
    let large = || Model { restarts: allowed(1, &[0]), ..away(None) };
    holds("transfer, the leader crashes", || with_a_crash(&[0]), large);
}

#[test]
fn a_receiver_that_crashes_goes_on() {
    let large = || Model { restarts: allowed(1, &[AWAY]), ..away(None) };
    holds("transfer, the receiver crashes", || with_a_crash(&[AWAY]), large);
}

#[test]
fn planted_bugs_are_found() {
    type Built = fn(Option<Plant>) -> Model;
    let bugs: [(Plant, Built); 2] = [
        (Plant::UnstableCheckpointTransferred, away),
        (Plant::InstalledUnchecked, from_a_rotten_disk),
    ];
    for (plant, model) in bugs {
        fails(plant, model(Some(plant)));
    }
}
