//! Every figure of Chai, "Performance Engineering of a Lightweight Fault Tolerance Framework" (2009),
//! that shows a run of a protocol, run by ours; and the cases in which the protocols of that text lose
//! what was decided. Each is a script in this folder: see [`script`].

mod script;

use std::time::Duration;

use mainstay_consensus::{Body, CatchUpPolicy, Message, Settings};

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

/// A checkpoint that is near is waited for.
fn with_transfer() -> World {
    let world = three();
    let checkpoint_wait_max = Duration::from_nanos(100);
    World { settings: Settings { checkpoint_wait_max, ..world.settings }, ..world }
}

/// Catching up by a question to all in every interval, which is far shorter than any time-out.
fn with_multicast() -> World {
    let world = three();
    let interval = Duration::from_millis(1);
    let settings = Settings {
        catch_up: CatchUpPolicy::Multicast { interval },
        resend_interval: interval * 3,
        lead_interval: interval * 2,
        election_timeout: interval * 8,
        election_timeout_min: interval * 8,
        election_timeout_max: interval * 8,
        ..world.settings
    };
    World { settings, ..world }
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
fn figure_3_a_state_is_transferred_at_once_soon_after_a_checkpoint() {
    play("3-state-transfer-at-once.txt", with_transfer());
}

#[test]
fn figure_3_a_state_is_transferred_after_the_next_checkpoint_if_that_is_near() {
    play("3-state-transfer-delayed.txt", with_transfer());
}

#[test]
fn primary_based_query_a_gap_is_asked_for_at_once() {
    play("pbq-a-gap.txt", three());
}

#[test]
fn multicasting_based_query_a_gap_is_asked_for_when_the_interval_is_over() {
    play("mbq-a-gap.txt", with_multicast());
}

#[test]
fn multicasting_based_query_who_knows_of_no_gap_tells_how_far_it_is() {
    play("mbq-no-gap-known.txt", with_multicast());
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
