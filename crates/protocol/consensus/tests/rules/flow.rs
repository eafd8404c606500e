//! What a follower is sent that answers slowly, or not at all.

use mainstay_consensus::message::{Accept, Lead, Learned};
use mainstay_consensus::{Body, Input, Settings};
use mainstay_model::{Ballot, Slot, Token};

use crate::alone::{Alone, MS, follow, id};
use crate::{accepted, leader_with};

/// One request of a thousand bytes.
const REQUEST: &str = match str::from_utf8(&[b'x'; 1_000]) {
    Ok(text) => text,
    Err(_) => "",
};
const BOUND: usize = 10_000;
const PAGE: usize = 4_000;

fn settings() -> Settings {
    Settings { follower_bytes_max: BOUND, page_bytes_max: PAGE, ..Settings::default() }
}

fn accepts(sent: &[(u16, Body)], to: u16) -> Vec<Accept> {
    let accept = |(at, body): &(u16, Body)| match body {
        Body::Accept(accept) if *at == to => Some(accept.clone()),
        _ => None,
    };
    sent.iter().filter_map(accept).collect()
}

fn bytes(accepts: &[Accept]) -> usize {
    accepts.iter().map(|accept| accept.value.len()).sum()
}

fn last_lead(sent: &[(u16, Body)]) -> Option<Lead> {
    let lead = |(_, body): &(u16, Body)| match body {
        Body::Lead(lead) if lead.round > 0 => Some(*lead),
        _ => None,
    };
    sent.iter().filter_map(lead).last()
}

/// One request is proposed; follower 1 accepts whatever it is sent. Returns what 2 was sent.
fn propose(a: &mut Alone, own: Ballot, token: u64) -> Vec<Accept> {
    a.step(Input::Submit { token: Token(token), request: REQUEST.into() });
    a.end_turn();
    let sent = a.sent();
    for accept in accepts(&sent, 1) {
        a.hear_only(1, accepted(own, accept.slot.0));
    }
    a.sync();
    [accepts(&sent, 2), accepts(&a.sent(), 2)].concat()
}

/// Follower 1 answers rounds, so that the leader goes on leading; returns what 2 was sent meanwhile.
fn pass(a: &mut Alone, ms: u64) -> Vec<Accept> {
    let mut all = Vec::new();
    for _ in 0..ms / 10 {
        a.pass(10);
        let sent = a.sent();
        if let Some(lead) = last_lead(&sent) {
            let decided = a.replica.status().decided.0;
            a.hear(1, follow(&lead, decided, decided));
        }
        all.extend(accepts(&sent, 2));
        all.extend(accepts(&a.sent(), 2));
    }
    all
}

/// Follower 2 answers the next round, saying that it knows what is decided up to `decided`.
fn two_answers(a: &mut Alone, decided: u64) -> Vec<Accept> {
    a.pass(50);
    let lead = last_lead(&a.sent()).expect("it shows itself");
    a.hear(1, follow(&lead, a.replica.status().decided.0, lead.decided_upto.0));
    a.sent();
    a.hear(2, follow(&lead, decided, decided));
    accepts(&a.sent(), 2)
}

#[test]
fn a_silent_follower_is_sent_its_bound_and_slows_nobody() {
    // etcd#14501, tigerbeetle#2739: a slow or dead member outside the quorum costs nothing.
    let (mut a, own) = leader_with(settings());
    let mut sent = Vec::new();
    for token in 0..500 {
        let before = a.replica.status().decided;
        sent.extend(propose(&mut a, own, token));
        assert_eq!(a.replica.status().decided, before.next(), "decided without it, at once");
    }
    assert!(bytes(&sent) <= BOUND, "{} bytes are on their way", bytes(&sent));
    assert!(bytes(&sent) > BOUND / 2, "it is sent what it may be: {}", bytes(&sent));
    assert_eq!(pass(&mut a, 60_000), [], "and nothing again, however long it is silent");
}

#[test]
fn a_follower_that_was_away_is_taken_up_again_without_a_new_leader() {
    // hashicorp/raft#612: a disk that stalled wedged replication until the leader was restarted.
    let (mut a, own) = leader_with(settings());
    for token in 0..100 {
        propose(&mut a, own, token);
    }
    pass(&mut a, 10_000);
    let decided = a.replica.status().decided.0;
    assert_eq!(two_answers(&mut a, decided), [], "nothing is open");
    let sent = propose(&mut a, own, 100);
    assert_eq!(sent.len(), 1, "it is sent what is proposed from now on");
    assert_eq!(sent[0].slot, Slot(decided + 1));
}

#[test]
fn a_follower_that_lacks_much_is_sent_no_values_until_it_lacks_little() {
    // cockroach#83851: what is not needed for the quorum is not sent to who cannot take it.
    let (mut a, own) = leader_with(settings());
    for token in 0..100 {
        propose(&mut a, own, token);
    }
    let decided = a.replica.status().decided.0;
    let far = decided - BOUND as u64 / 1_000;
    two_answers(&mut a, far);
    assert_eq!(propose(&mut a, own, 200), [], "it lacks as much as may be on its way to it");
    let near = decided - 2;
    two_answers(&mut a, near);
    assert_eq!(propose(&mut a, own, 201).len(), 1, "it has nearly caught up");
}

#[test]
fn a_follower_that_is_needed_gets_what_is_open_again_ever_more_seldom() {
    let (mut a, _) = leader_with(settings());
    for token in 0..50 {
        a.step(Input::Submit { token: Token(token), request: REQUEST.into() });
        a.end_turn();
    }
    a.sync();
    let first = bytes(&accepts(&a.sent(), 1));
    assert!(first > 0 && first <= BOUND, "{first}");
    // It answers rounds for a minute, and its disk stands still.
    let (mut again, mut times) = (0, 0);
    for _ in 0..6_000 {
        a.pass(10);
        let sent = a.sent();
        let bytes = bytes(&accepts(&sent, 1));
        assert!(bytes <= PAGE, "a page at a time: {bytes}");
        again += bytes;
        times += u32::from(bytes > 0);
        if let Some(lead) = last_lead(&sent) {
            a.hear(1, follow(&lead, 1, 1));
            let bytes = self::bytes(&accepts(&a.sent(), 1));
            assert!(bytes <= PAGE, "a page at a time: {bytes}");
            again += bytes;
            times += u32::from(bytes > 0);
        }
    }
    assert!((10..40).contains(&times), "sent {times} times, {again} bytes");
}

#[test]
fn what_was_lost_on_its_way_is_sent_again_alone() {
    let (mut a, own) = leader_with(settings());
    for token in 0..3 {
        a.step(Input::Submit { token: Token(token), request: REQUEST.into() });
        a.end_turn();
    }
    a.sync();
    a.sent();
    // The first of the three was lost; something is answered all the time.
    let mut again = Vec::new();
    for turn in 0..20 {
        a.hear(1, accepted(own, 3 + turn % 2));
        a.pass(10);
        again.extend(accepts(&a.sent(), 1));
    }
    let slots: Vec<Slot> = again.iter().map(|accept| accept.slot).collect();
    assert_eq!(slots, [Slot(2)]);
}

#[test]
fn a_proposal_larger_than_the_bound_is_sent_by_itself() {
    let (mut a, own) = leader_with(Settings { follower_bytes_max: 10, ..settings() });
    for token in 0..4 {
        let sent = propose(&mut a, own, token);
        assert!(sent.len() <= 1);
        for accept in sent {
            a.hear(2, accepted(own, accept.slot.0));
        }
        a.sent();
    }
    assert_eq!(a.replica.status().decided, Slot(5));
}

#[test]
fn a_connection_that_comes_back_begins_anew_at_once() {
    let (mut a, own) = leader_with(settings());
    a.step(Input::Submit { token: Token(1), request: REQUEST.into() });
    a.end_turn();
    a.sync();
    a.sent();
    a.step(Input::Link { peer: id(1), up: true });
    a.end_turn();
    let lead = last_lead(&a.sent()).expect("told at once who leads");
    a.hear(1, follow(&lead, 1, 1));
    assert_eq!(accepts(&a.sent(), 1).len(), 1, "sent again with no time-out");
    a.hear(1, accepted(own, 2));
    assert_eq!(a.replica.status().decided, Slot(2));
}

#[test]
fn a_learner_says_how_far_it_is_so_that_it_is_sent_more() {
    let (mut a, own) = leader_with(settings());
    let mut sent = 0;
    for token in 0..200 {
        sent += propose(&mut a, own, token).len();
        let learned = Learned { ballot: own, decided_upto: a.replica.status().decided };
        a.hear(2, Body::Learned(learned));
        a.sent();
    }
    assert_eq!(sent, 200);
    // It counts nowhere: with follower 1 silent the leader hears no quorum.
    let end = a.now + 2_000 * MS;
    while a.now < end && a.replica.status().leader.is_some() {
        a.pass(20);
        let learned = Learned { ballot: own, decided_upto: a.replica.status().decided };
        a.hear(2, Body::Learned(learned));
    }
    assert_eq!(a.replica.status().leader, None, "led by learners");
}
