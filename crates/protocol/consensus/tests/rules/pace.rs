//! A leader does not run ahead of those who carry out what it orders.

use std::time::Duration;

use mainstay_consensus::{Input, Rejection, Settings};
use mainstay_model::{Slot, Timestamp};

use crate::alone::{Alone, follow};
use crate::batching::{batches, submit};
use crate::{accepted, leader_with};

const AHEAD: u64 = 10;

fn settings() -> Settings {
    let stall_timeout = Duration::from_secs(30);
    let (ahead_slots_max, queue_requests_max) = (AHEAD, 50);
    Settings { ahead_slots_max, queue_requests_max, stall_timeout, ..Settings::default() }
}

/// A leader whose executor, and those of the others, have applied slot 1 and stand there.
fn slow_leader(settings: Settings) -> (Alone, mainstay_model::Ballot) {
    let (mut a, own) = leader_with(settings);
    a.executes = false;
    (a, own)
}

/// Everything proposed is decided; the others have applied what `applied` says.
fn decide(a: &mut Alone, own: mainstay_model::Ballot, applied: u64) {
    a.end_turn();
    let accepted_upto = a.replica.status().accepted.0;
    for slot in a.replica.status().decided.0 + 1..=accepted_upto {
        a.hear_only(1, accepted(own, slot));
    }
    a.sync();
    a.pass(50);
    rounds(a, applied);
}

fn rounds(a: &mut Alone, applied: u64) {
    let decided = a.replica.status().decided.0;
    let lead = a.sent().into_iter().filter_map(|(_, body)| match body {
        mainstay_consensus::Body::Lead(lead) if lead.round > 0 => Some(lead),
        _ => None,
    });
    if let Some(lead) = lead.last() {
        for peer in 1..=2 {
            a.hear(peer, follow(&lead, decided, applied));
        }
    }
}

#[test]
fn ordering_waits_for_a_slow_service_and_clients_are_told() {
    let (mut a, own) = slow_leader(settings());
    for number in 1..=100 {
        submit(&mut a, 1, number);
        decide(&mut a, own, 1);
    }
    assert_eq!(a.replica.status().decided, Slot(1 + AHEAD));
    let busy = a.rejected.iter().filter(|(_, reason)| *reason == Rejection::Busy).count();
    assert_eq!(busy as u64, 100 - AHEAD - 50, "what finds no place in the queue is refused");
    // The service carries on; what waits goes in one batch.
    a.sent();
    a.step(Input::Applied { upto: Slot(2), time: Timestamp(0), wake: None });
    a.pass(50);
    assert!(batches(&mut a).is_empty(), "of the others nobody has");
    a.pass(50);
    rounds(&mut a, 2);
    assert_eq!(batches(&mut a).iter().map(Vec::len).collect::<Vec<_>>(), [50]);
}

#[test]
fn bytes_that_wait_for_a_service_are_bounded() {
    let ahead_bytes_max = 100;
    let (mut a, own) =
        slow_leader(Settings { ahead_bytes_max, ahead_slots_max: 1_000, ..settings() });
    for number in 1..=100 {
        submit(&mut a, 1, number);
        decide(&mut a, own, 1);
    }
    let proposed: usize =
        (2..=a.replica.status().decided.0).map(|slot| a.delivered[&Slot(slot)].len()).sum();
    assert!((ahead_bytes_max..ahead_bytes_max + 50).contains(&proposed), "{proposed}");
}

#[test]
fn one_slow_service_of_three_does_not_hold_up_the_others() {
    // aeron#1601: all members stood still when the service of one looped.
    let (mut a, own) = leader_with(settings());
    for number in 1..=100 {
        submit(&mut a, 1, number);
        a.end_turn();
        let slot = a.replica.status().accepted.0;
        a.hear_only(1, accepted(own, slot));
        a.sync();
        a.pass(50);
        let lead = a.sent().into_iter().filter_map(|(_, body)| match body {
            mainstay_consensus::Body::Lead(lead) if lead.round > 0 => Some(lead),
            _ => None,
        });
        if let Some(lead) = lead.last() {
            a.hear(1, follow(&lead, slot, slot));
            a.hear(2, follow(&lead, slot, 1));
        }
    }
    assert_eq!(a.replica.status().decided, Slot(101));
}

#[test]
fn a_service_that_stands_still_holds_nobody_up_for_long() {
    // The others go on; the leader's own executor has stopped.
    let (mut a, own) = slow_leader(settings());
    submit(&mut a, 1, 1);
    decide(&mut a, own, 2);
    a.step(Input::Applied { upto: Slot(2), time: Timestamp(0), wake: None });
    for number in 2..=2 * AHEAD {
        submit(&mut a, 1, number);
        let applied = a.replica.status().decided.0;
        decide(&mut a, own, applied);
    }
    assert_eq!(a.replica.status().decided, Slot(2 + AHEAD));
    let patience = settings().stall_timeout;
    for _ in 0..patience.as_millis() / 50 + 2 {
        let applied = a.replica.status().decided.0;
        decide(&mut a, own, applied);
    }
    assert_eq!(a.replica.status().accepted, a.replica.status().decided);
    assert!(a.replica.status().decided > Slot(2 + AHEAD), "ordering goes on");
}

#[test]
fn a_new_leader_orders_while_it_still_carries_out_what_is_old() {
    let mut a = Alone::with(0, 3, settings());
    a.executes = false;
    let own = a.stand();
    let old: Vec<_> = (1..=30)
        .map(|slot| (Slot(slot), crate::entry(crate::ballot(1, 1), &crate::value(b"old"))))
        .collect();
    a.hear(1, mainstay_consensus::Body::Promise(crate::promise(own, 0, old)));
    a.sync();
    for slot in 1..=31 {
        a.hear_only(1, accepted(own, slot));
    }
    a.sync();
    a.pass(50);
    rounds(&mut a, 31);
    a.sent();
    submit(&mut a, 1, 1);
    a.end_turn();
    assert_eq!(batches(&mut a), [["1/1"]], "the others have carried it out");
}
