//! Learning what was decided elsewhere, from logs and from checkpoints.

use mainstay_consensus::message::{
    CatchUp, CheckpointIs, ChunkAsk, ChunkRefusal, ChunkRefused, Decided,
};
use mainstay_consensus::{Body, CatchUpPolicy, Input, Settings};
use mainstay_model::{CheckpointId, Slot, Token};

use crate::alone::{Alone, ballot, follow, lead};
use crate::{accepted, leader_with};

/// A replica without any log, which has found out that nobody else's goes back that far.
fn without_a_log_to_follow() -> Alone {
    let mut a = Alone::new(0, 3);
    a.hear(2, lead(ballot(1, 2), 20));
    for _ in 0..2 {
        let (to, from) = a
            .sent()
            .into_iter()
            .find_map(|(to, body)| match body {
                Body::CatchUp(question) => Some((to, question.from)),
                _ => None,
            })
            .expect("a question");
        let entries = Vec::new();
        let (decided_upto, truncated_upto) = (Slot(20), Slot(20));
        a.hear(to, Body::Decided(Decided { from, entries, decided_upto, truncated_upto }));
        a.pass(100);
    }
    a
}

fn asked_for_a_piece((to, body): (u16, Body)) -> Option<(u16, ChunkAsk)> {
    match body {
        Body::ChunkAsk(ask) => Some((to, ask)),
        _ => None,
    }
}

/// All who could tell a donor that a quorum held its checkpoint may be gone, but for the one that asks.
#[test]
fn whoever_is_refused_what_a_quorum_held_says_so() {
    let mut a = without_a_log_to_follow();
    let checkpoint = CheckpointId { slot: Slot(20), digest: 7 };
    let told =
        CheckpointIs { held: vec![checkpoint], stable: vec![], truncated_upto: Slot(20), load: 0 };
    for who in [1, 2] {
        a.hear(who, Body::CheckpointIs(told.clone()));
    }
    let asked = a.sent().into_iter().find_map(asked_for_a_piece);
    let (to, ask) = asked.expect("a question for a piece");
    assert_eq!(ask.checkpoint, checkpoint);
    let reason = ChunkRefusal::Unstable;
    a.hear(to, Body::ChunkRefused(ChunkRefused { checkpoint, chunk: ask.chunk, reason }));
    let says = |(who, body): (u16, Body)| match body {
        Body::CheckpointIs(is) if who == to => is.stable.last().copied(),
        _ => None,
    };
    assert_eq!(a.sent().into_iter().find_map(says), Some(checkpoint));
}

/// The later one that is stable elsewhere is of no use: nobody who is there holds it.
#[test]
fn what_is_fetched_is_what_is_held_although_a_later_one_is_stable() {
    let mut a = without_a_log_to_follow();
    let checkpoint = CheckpointId { slot: Slot(20), digest: 7 };
    let later = CheckpointId { slot: Slot(25), digest: 8 };
    let (held, stable) = (vec![checkpoint], vec![checkpoint, later]);
    a.hear(2, Body::CheckpointIs(CheckpointIs { held, stable, truncated_upto: Slot(20), load: 0 }));
    // The leader is spared at first, if somebody else could give it.
    a.pass(200);
    let asked = a.sent().into_iter().find_map(asked_for_a_piece);
    assert_eq!(asked.map(|(to, ask)| (to, ask.checkpoint)), Some((2, checkpoint)));
}

/// Whoever lacks much, and is helped by nobody else, would wait for every page.
#[test]
fn a_leader_that_was_asked_along_with_others_gives_at_once_what_follows_what_it_gave() {
    let catch_up = CatchUpPolicy::MULTICAST;
    let settings = Settings { catch_up, page_bytes_max: 1, ..Settings::default() };
    let (mut a, own) = leader_with(settings);
    for slot in 2..=3 {
        a.step(Input::Submit { token: Token(slot), request: "r".into() });
        a.sync();
        a.hear(1, accepted(own, slot));
    }
    let given = |a: &mut Alone, from| {
        a.sent();
        a.hear(2, Body::CatchUp(CatchUp { from: Slot(from), upto: Slot(3) }));
        a.sent()
            .into_iter()
            .any(|(_, body)| matches!(body, Body::Decided(m) if m.from == Slot(from)))
    };
    assert!(!given(&mut a, 1), "others are asked, too");
    a.pass(100);
    assert!(given(&mut a, 1), "none of them helped");
    assert!(given(&mut a, 2), "it alone is asked now");
    assert!(given(&mut a, 3), "and again");
}

/// All are asked, the leader among them, which answers only where the question comes again; then it gives the pages
/// that follow, also on a path on which each takes longer than the pause between two questions.
#[test]
fn a_leader_that_was_asked_with_all_gives_the_pages_that_follow_at_once_and_not_for_ever() {
    let settings = Settings { catch_up: CatchUpPolicy::MULTICAST, ..Settings::default() };
    let (timeout, (mut a, own)) = (settings.election_timeout, leader_with(settings));
    for token in 1..=3 {
        a.step(Input::Submit { token: Token(token), request: "x".into() });
        a.end_turn();
        a.sync();
        a.hear(1, accepted(own, 1 + token));
    }
    a.sent();
    let gives = |a: &mut Alone, from| {
        a.hear(2, Body::CatchUp(CatchUp { from: Slot(from), upto: Slot(4) }));
        a.sent().iter().any(|(to, body)| *to == 2 && matches!(body, Body::Decided(_)))
    };
    let follows = |a: &mut Alone, millis: u64| {
        for _ in 0..millis / 10 {
            a.pass(10);
            for (to, body) in a.sent() {
                if let Body::Lead(lead) = body {
                    a.hear(to, follow(&lead, 4, 4));
                }
            }
        }
    };
    assert!(!gives(&mut a, 1), "others were asked, too");
    follows(&mut a, 100);
    assert!(gives(&mut a, 1));
    follows(&mut a, 150);
    assert!(gives(&mut a, 2), "it follows, on a slow path");
    follows(&mut a, 2 * timeout.as_millis() as u64 + 200);
    assert!(!gives(&mut a, 3), "all were asked anew long ago");
}
