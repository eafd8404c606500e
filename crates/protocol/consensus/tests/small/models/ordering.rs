//! One leader, its followers, and requests.

use mainstay_check::explore::Links;
use mainstay_model::Plant;
use mainstay_model::plant::Planted;

use super::model::{Goal, Model, allowed};
use super::{TWO_DECIDED, chatter, fails, holds};
use crate::node::{Stage, World};

/// Two requests in two slots, on their way at once; a follower crashes and comes back.
fn two_slots(planted: Option<Plant>) -> Model {
    let begins = Stage::led(World {
        planted: Planted(planted),
        sync_at_once: false,
        lost: chatter,
        ..World::new(3)
    });
    Model {
        submits: allowed(2, &[0]),
        restarts: allowed(1, &[1]),
        goals: vec![Goal {
            name: "both are decided everywhere",
            holds: |nodes| super::decided_everywhere(nodes, 3),
        }],
        ..Model::new(begins)
    }
}

/// One request; messages overtake one another and arrive twice; anybody crashes, the leader too.
fn any_order(planted: Option<Plant>, repeats: u8, restarts: u8) -> Model {
    Model {
        submits: allowed(1, &[0]),
        restarts: allowed(restarts, &[0, 1, 2]),
        links: Links::Any,
        repeats,
        goals: vec![TWO_DECIDED],
        ..two_slots(planted)
    }
}

#[test]
fn two_slots_with_a_follower_that_crashes() {
    let large = || Model { restarts: allowed(1, &[0, 1, 2]), ..two_slots(None) };
    holds("ordering, two slots", || two_slots(None), large);
}

#[test]
fn messages_in_any_order_and_twice() {
    holds("ordering, any order", || any_order(None, 1, 1), || any_order(None, 2, 2));
}

#[test]
fn planted_bugs_are_found() {
    let plant = Plant::DecidedOverHole;
    fails(plant, two_slots(Some(plant)));
    let plant = Plant::PromiseBeforeDurable;
    fails(plant, any_order(Some(plant), 0, 1));
}
