//! More than one replica wants to lead.

use mainstay_check::explore::Links;
use mainstay_consensus::{Body, Message, Role};
use mainstay_model::plant::Planted;
use mainstay_model::{Plant, Slot};

use super::model::{Goal, Model, allowed};
use super::{TWO_DECIDED, all_but_phases, chatter, fails, holds};
use crate::node::{Stage, World};

const LED_ANEW: Goal = Goal {
    name: "another leads and has decided all it took over",
    holds: |nodes| {
        let leads = |at: usize| nodes[at].role() == Role::Leader;
        (1..nodes.len()).any(|at| leads(at) && nodes[at].past.told.len() > 1)
    },
};

fn world(planted: Option<Plant>, lost: fn(&Message) -> bool) -> World {
    World { planted: Planted(planted), lost, ..World::new(3) }
}

/// Only slot 2 is fought for: what is proposed above it never arrives.
fn one_slot(message: &Message) -> bool {
    match &message.body {
        Body::Accept(accept) => accept.slot > Slot(2),
        _ => all_but_phases(message),
    }
}

/// A request is on its way while replica 1 takes over from replica 0, which may crash.
fn taken_over(planted: Option<Plant>) -> Model {
    let slow = World { sync_at_once: false, ..world(planted, all_but_phases) };
    Model {
        submits: allowed(1, &[0]),
        stands: allowed(1, &[1]),
        restarts: allowed(1, &[0]),
        goals: vec![TWO_DECIDED, LED_ANEW],
        ..Model::new(Stage::led(slow))
    }
}

/// The same, with everything that is said: refusals, catching up.
fn all_is_heard(planted: Option<Plant>) -> Model {
    Model {
        submits: allowed(1, &[0]),
        stands: allowed(1, &[1]),
        goals: vec![TWO_DECIDED, LED_ANEW],
        ..Model::new(Stage::led(world(planted, chatter)))
    }
}

/// The leader has just proposed in slot 2 when two further candidacies begin.
fn rivals(planted: Option<Plant>, sync_at_once: bool) -> Model {
    let mut begins = Stage::led(World { sync_at_once, ..world(planted, one_slot) });
    begins.at(0, |world, node, sent| world.submit(0, node, sent));
    Model { stands: allowed(2, &[0, 1, 2]), goals: vec![TWO_DECIDED], ..Model::new(begins) }
}

/// That, and anybody may crash.
fn rivals_that_crash(planted: Option<Plant>) -> Model {
    Model { stands: allowed(2, &[1, 2]), restarts: allowed(1, &[0, 1, 2]), ..rivals(planted, true) }
}

#[test]
fn a_request_on_its_way_is_taken_over() {
    let large = || Model { restarts: allowed(1, &[0, 1, 2]), ..taken_over(None) };
    holds("leader change, taken over", || taken_over(None), large);
}

#[test]
fn with_all_that_is_said() {
    let large = || Model { restarts: allowed(1, &[0]), ..all_is_heard(None) };
    holds("leader change, all is heard", || all_is_heard(None), large);
}

#[test]
fn rivals_with_slow_disks() {
    let large = || Model { stands: allowed(3, &[0, 1, 2]), ..rivals(None, false) };
    holds("leader change, rivals with slow disks", || rivals(None, false), large);
}

#[test]
fn rivals_of_whom_one_crashes() {
    let large = || Model { stands: allowed(3, &[0, 1, 2]), ..rivals_that_crash(None) };
    holds("leader change, rivals that crash", || rivals_that_crash(None), large);
}

#[test]
fn messages_that_overtake_one_another() {
    let any = || Model { links: Links::Any, ..rivals(None, true) };
    let large = || Model { repeats: 1, ..any() };
    holds("leader change, any order", any, large);
}

/// The leader crashes with a proposal that only others have kept, and leads again.
fn back_in_office(planted: Option<Plant>) -> Model {
    let slow = World { sync_at_once: false, ..world(planted, one_slot) };
    Model {
        submits: allowed(1, &[0]),
        stands: allowed(1, &[0]),
        restarts: allowed(1, &[0]),
        goals: vec![TWO_DECIDED],
        ..Model::new(Stage::led(slow))
    }
}

#[test]
fn a_leader_that_crashes_and_leads_again() {
    let large = || Model { stands: allowed(2, &[0, 1]), ..back_in_office(None) };
    holds("leader change, back in office", || back_in_office(None), large);
}

#[test]
fn planted_bugs_are_found() {
    type Built = fn(Option<Plant>) -> Model;
    let bugs: [(Plant, Built); 7] = [
        (Plant::StaleBallotAccepted, rivals_that_crash),
        (Plant::PromiseBeforeDurable, taken_over),
        (Plant::PendingLeftOutOfPromise, taken_over),
        (Plant::HighestBallotIgnored, rivals_that_crash),
        (Plant::RangeBoundedByDecided, taken_over),
        (Plant::ForeignWatermarkBelieved, all_is_heard),
        (Plant::OldBallotResumed, back_in_office),
    ];
    for (plant, model) in bugs {
        fails(plant, model(Some(plant)));
    }
}
