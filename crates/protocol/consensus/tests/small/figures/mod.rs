//! Every figure of Chai, "Performance Engineering of a Lightweight Fault Tolerance Framework" (2009),
//! that shows a run of a protocol, run by ours; and the cases in which the protocols of that text lose
//! what was decided. Each is a script in this folder: see [`script`].

mod script;

use mainstay_consensus::{Body, Message};

use crate::node::World;
use script::play;

/// Three replicas. What only says that somebody lives is left out of the figures.
fn three() -> World {
    let lost = |message: &Message| match &message.body {
        Body::Follow(_) => true,
        Body::Lead(lead) => lead.round > 0,
        _ => false,
    };
    World { lost, ..World::new(3) }
}

#[test]
fn figure_1a_a_request_is_ordered() {
    play("1a-ordering.txt", three());
}

#[test]
fn figure_1b_a_request_is_ordered_although_a_follower_is_down() {
    play("1b-ordering-with-one-down.txt", three());
}

#[test]
fn figure_2_another_replica_leads() {
    play("2-leader-change.txt", three());
}

#[test]
fn figure_5_a_request_and_its_way_through_the_components() {
    play("5-round-trip.txt", three());
}

#[test]
fn what_only_the_dead_leader_knew_as_decided_stays_decided() {
    play("lost-a-decided-at-the-dead-leader-only.txt", three());
}

#[test]
fn of_two_reported_values_the_one_of_the_higher_ballot_counts() {
    play("lost-b-two-values-reported.txt", three());
}

#[test]
fn a_vote_of_an_older_ballot_does_not_count() {
    play("lost-c-vote-of-an-older-ballot.txt", three());
}

#[test]
fn nothing_is_promised_before_it_is_durable() {
    // Signs of life are not left out: a leader sends again to those of whom it hears.
    play("lost-d-crash-before-the-sync.txt", World::new(3));
}

#[test]
fn slots_are_accepted_in_any_order() {
    play("lost-e-slots-out-of-order.txt", three());
}
