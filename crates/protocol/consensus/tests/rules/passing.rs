//! Long messages on their way: while pieces of one pass, nothing that waits for it is asked for or sent
//! again, and nobody is found to stand still. Each test also shows what comes of it without the pieces.

use mainstay_consensus::message::{Decided, Lead, Probe};
use mainstay_consensus::{Body, Input, Request, Role, Settings};
use mainstay_model::{Ballot, Entry, Recovered, Slot, SlotRange, Token};

use crate::alone::{Alone, accept, ballot, decided, follow, id, lead, prepare, promise, value};
use crate::{accepted, lead_group, leader_with};

/// Between two pieces, in milliseconds.
const GAP: u64 = 50;

/// A piece of a page comes from `peer`, or one of a promise goes there.
fn piece(a: &mut Alone, peer: u16, coming: bool) {
    let body = match coming {
        true => decided(1, Vec::new()),
        false => Body::Promise(promise(ballot(1, 1), 0, Vec::new())),
    };
    pass(a, peer, coming, Alone::kind_of(body));
}

fn pass(a: &mut Alone, peer: u16, coming: bool, kind: u16) {
    a.step(Input::Passing { peer: id(peer), coming, kind });
    a.end_turn();
}

fn count(sent: &[(u16, Body)], is: impl Fn(&Body) -> bool) -> usize {
    sent.iter().filter(|(_, body)| is(body)).count()
}

/// A sign of life of a leader that has work open.
fn works(ballot: Ballot, decided_upto: u64) -> Body {
    let Body::Lead(lead) = lead(ballot, decided_upto) else { unreachable!("a lead") };
    Body::Lead(Lead { proposed_upto: Slot(decided_upto + 1), ..lead })
}

/// Whether replica 0 says that it hears of a leader.
fn hears(a: &mut Alone, asked: Ballot) -> bool {
    a.sent();
    a.hear(2, Body::Probe(Probe { number: 7, ballot: asked }));
    let replies = a.sent().into_iter().find_map(|(_, body)| match body {
        Body::ProbeReply(reply) => Some(reply.hears_leader),
        _ => None,
    });
    replies.expect("an answer")
}

#[test]
fn what_comes_in_pieces_is_not_asked_for() {
    let low = ballot(1, 1);
    let is_question = |body: &Body| matches!(body, Body::CatchUp(_));
    for passes in [true, false] {
        let mut a = Alone::new(0, 3);
        a.hear(1, lead(low, 0));
        a.sent();
        let mut asked = 0;
        for _ in 0..8 {
            if passes {
                piece(&mut a, 1, true);
            }
            // Known as decided before it is here: the sign of life has overtaken it.
            a.hear(1, lead(low, 1));
            a.pass(GAP);
            asked += count(&a.sent(), is_question);
        }
        assert_eq!(asked > 0, !passes, "{asked} questions");
        if passes {
            // It did not come after all, though the leader goes on sending.
            for _ in 0..40 {
                piece(&mut a, 1, true);
                a.hear(1, lead(low, 1));
                a.pass(GAP);
            }
            assert!(count(&a.sent(), is_question) > 0, "it is asked for in the end");
        }
    }
}

/// Its leader knows that this replica had it, and sends what is new only.
#[test]
fn what_is_damaged_here_is_asked_for_although_pieces_come() {
    let low = ballot(1, 1);
    let mut a = Alone::new(0, 3);
    a.restart_from(Recovered {
        promised: low,
        decided_upto: Slot(2),
        uncertain: vec![SlotRange { first: Slot(1), last: Slot(1) }],
        ..Recovered::default()
    });
    let mut asked = 0;
    for slot in 3..103 {
        piece(&mut a, 1, true);
        a.hear(1, accept(low, slot, &value(b"new"), slot - 1));
        a.sync();
        a.hear(1, lead(low, slot));
        a.pass(GAP);
        let sent = a.sent();
        asked += count(&sent, |body| matches!(body, Body::CatchUp(m) if m.from == Slot(1)));
    }
    // The first question is lost.
    assert!(asked > 1, "nothing is asked for any more as long as something comes");
}

/// The answer need not be among the long messages of whoever was asked: it may be lost, or it came and
/// did not help.
#[test]
fn pieces_do_not_put_a_question_off_for_ever() {
    let low = ballot(1, 1);
    for answers in [true, false] {
        let mut a = Alone::new(0, 3);
        a.hear(1, lead(low, 1));
        a.sent();
        let (mut asked, mut wants_checkpoint) = (0, 0);
        for _ in 0..600 {
            a.pass(GAP);
            for (to, body) in a.sent() {
                match body {
                    Body::CatchUp(question) if answers => {
                        let (from, truncated_upto) = (question.from, Slot(1));
                        let decided_upto = truncated_upto;
                        let entries = Vec::new();
                        let nothing = Decided { from, entries, decided_upto, truncated_upto };
                        a.hear(to, Body::Decided(nothing));
                    }
                    Body::CatchUp(_) => asked += usize::from(to == 1),
                    Body::CheckpointAsk(_) => wants_checkpoint += 1,
                    _ => {}
                }
            }
            piece(&mut a, 1, true);
            a.hear(1, lead(low, 1));
        }
        if answers {
            assert!(wants_checkpoint > 0, "the logs of all others begin too late");
        } else {
            assert!(asked > 1, "the leader was asked {asked} times");
        }
    }
}

/// What passes is something else: the answer may wait behind it, but not for long.
#[test]
fn pieces_of_what_is_no_page_put_a_question_off_for_a_while_only() {
    let low = ballot(1, 1);
    let first_again = |is_page: bool| {
        let mut a = Alone::new(0, 3);
        a.hear(1, lead(low, 1));
        let other = match is_page {
            true => decided(1, Vec::new()),
            false => accept(low, 2, &value(b"other"), 1),
        };
        let kind = Alone::kind_of(other);
        let mut asked = 0;
        for turn in 0..600 {
            [1, 2].into_iter().for_each(|peer| pass(&mut a, peer, true, kind));
            a.hear(1, lead(low, 1));
            a.pass(GAP);
            asked += count(&a.sent(), |body| matches!(body, Body::CatchUp(_)));
            if asked > 1 {
                return turn;
            }
        }
        panic!("it is never asked for again");
    };
    let (pages, others) = (first_again(true), first_again(false));
    assert!(others > 5 && others * 2 < pages, "{others} and {pages} turns");
}

#[test]
fn a_leader_whose_pieces_come_makes_progress() {
    let low = ballot(1, 1);
    for passes in [true, false] {
        let (mut a, mut believed) = (Alone::new(0, 3), true);
        // Longer than a leader with work may show no progress.
        for _ in 0..100 {
            a.hear(1, works(low, 0));
            if passes {
                piece(&mut a, 1, true);
            }
            a.pass(GAP);
            believed &= hears(&mut a, low);
        }
        assert_eq!(believed, passes);
    }
}

#[test]
fn a_proposal_is_not_sent_again_while_its_pieces_leave() {
    for passes in [true, false] {
        let (mut a, _) = leader_with(Settings::default());
        a.step(Input::Submit { token: Token(1), request: "a long one".into() });
        a.end_turn();
        a.sync();
        let mut sent = count(&a.sent(), |body| matches!(body, Body::Accept(_)));
        assert_eq!(sent, 2, "one to each");
        for _ in 0..20 {
            for peer in [1, 2] {
                if passes {
                    piece(&mut a, peer, false);
                }
            }
            a.pass(GAP);
            let said = a.sent();
            sent += count(&said, |body| matches!(body, Body::Accept(_)));
            let rounds = said.iter().rev().find_map(|(_, body)| match body {
                Body::Lead(lead) if lead.round > 0 => Some(*lead),
                _ => None,
            });
            for peer in [1, 2] {
                rounds.iter().for_each(|lead| a.hear(peer, follow(lead, 1, 1)));
            }
        }
        assert_eq!(sent > 2, !passes, "{sent} proposals");
        assert_eq!(a.replica.status().role, Role::Leader);
    }
}

/// The first of two was lost: pieces that leave are not of it.
#[test]
fn a_proposal_that_a_later_one_overtook_is_sent_again_although_pieces_leave() {
    for overtakes in [true, false] {
        let (mut a, own) = leader_with(Settings::default());
        for token in 1..=2 {
            a.step(Input::Submit { token: Token(token), request: "one".into() });
            a.end_turn();
            a.sync();
            a.pass(1);
        }
        let slots = a.sent().into_iter().filter_map(|(to, body)| match body {
            Body::Accept(accept) if to == 1 => Some(accept.slot),
            _ => None,
        });
        assert_eq!(slots.collect::<Vec<_>>(), [Slot(2), Slot(3)]);
        if overtakes {
            a.hear(1, accepted(own, 3));
        }
        let mut again = 0;
        // As long as pieces that leave may put it off, and no longer.
        for _ in 0..8 {
            [1, 2].into_iter().for_each(|peer| piece(&mut a, peer, false));
            a.pass(GAP);
            for (to, body) in a.sent() {
                match body {
                    Body::Accept(accept) => again += usize::from(to == 1 && accept.slot == Slot(2)),
                    Body::Lead(lead) if lead.round > 0 => a.hear(to, follow(&lead, 1, 1)),
                    _ => {}
                }
            }
        }
        assert_eq!(again > 0, overtakes, "sent again {again} times");
    }
}

/// The pieces that came were of the page, and say nothing about the next one.
#[test]
fn the_page_after_one_that_came_in_pieces_is_asked_for_at_once() {
    let low = ballot(1, 1);
    let mut a = Alone::new(0, 3);
    a.hear(1, lead(low, 3));
    a.sent();
    piece(&mut a, 1, true);
    let entry = Entry { ballot: low, value: value(b"one") };
    a.hear(
        1,
        Body::Decided(Decided {
            from: Slot(1),
            entries: vec![entry],
            decided_upto: Slot(3),
            truncated_upto: Slot::NONE,
        }),
    );
    let asked = a.sent().into_iter().find_map(|(_, body)| match body {
        Body::CatchUp(question) => Some(question.from),
        _ => None,
    });
    assert_eq!(asked, Some(Slot(2)));
}

/// It may be lost, and what leaves be something else.
#[test]
fn a_proposal_is_sent_again_in_the_end_whatever_leaves() {
    let (mut a, _) = leader_with(Settings::default());
    a.step(Input::Submit { token: Token(1), request: "a lost one".into() });
    a.end_turn();
    a.sync();
    a.sent();
    let mut again = 0;
    for _ in 0..400 {
        [1, 2].into_iter().for_each(|peer| piece(&mut a, peer, false));
        a.pass(GAP);
        for (to, body) in a.sent() {
            match body {
                Body::Accept(_) => again += 1,
                Body::Lead(lead) if lead.round > 0 => a.hear(to, follow(&lead, 1, 1)),
                _ => {}
            }
        }
    }
    assert!(again > 0);
}

#[test]
fn a_candidate_waits_for_a_promise_in_pieces_and_asks_no_more() {
    for passes in [true, false] {
        let mut a = Alone::new(0, 3);
        let own = a.stand();
        a.sent();
        for _ in 0..40 {
            if passes {
                piece(&mut a, 1, true);
            }
            a.pass(GAP);
        }
        assert_eq!(a.replica.status().role == Role::Candidate, passes);
        if passes {
            assert_eq!(count(&a.sent(), |body| matches!(body, Body::Prepare(_))), 0);
            a.hear(1, Body::Promise(promise(own, 0, Vec::new())));
            a.sync();
            assert_eq!(a.replica.status().role, Role::Leader);
        }
    }
}

/// It lost what it stood in, as with its folder: it does not ask who leads, either, since it does not vote.
#[test]
fn whoever_promised_a_candidate_that_knows_nothing_of_it_is_told_and_waits_no_more() {
    let mut a = Alone::new(0, 3);
    let lost = ballot(7, 0);
    a.hear(1, Body::Promise(promise(lost, 0, Vec::new())));
    let told = a.sent().into_iter().find(|(_, body)| matches!(body, Body::StepDown(_)));
    let Some((1, told)) = told else { panic!("{told:?}") };

    let mut b = Alone::new(1, 3);
    b.hear(0, prepare(lost, 1));
    b.sync();
    assert!(hears(&mut b, lost));
    b.hear(0, told);
    assert!(!hears(&mut b, lost));
}

/// A candidate that was started again follows, and is sent much: that is no reason to go on waiting for it.
#[test]
fn whoever_sends_a_candidate_something_else_does_not_wait_for_it() {
    let high = ballot(2, 1);
    let mut a = Alone::new(0, 3);
    a.hear(1, prepare(high, 1));
    a.sync();
    for _ in 0..40 {
        pass(&mut a, 1, false, Alone::kind_of(decided(1, Vec::new())));
        a.pass(GAP);
    }
    assert!(!hears(&mut a, high));
}

#[test]
fn whoever_sends_its_promise_in_pieces_waits_for_the_candidate() {
    let high = ballot(2, 1);
    for passes in [true, false] {
        let mut a = Alone::new(0, 3);
        a.hear(1, prepare(high, 1));
        a.sync();
        for _ in 0..40 {
            if passes {
                piece(&mut a, 1, false);
            }
            a.pass(GAP);
        }
        assert_eq!(hears(&mut a, high), passes);
    }
}

#[test]
fn a_disk_has_time_for_what_is_long() {
    for long in [true, false] {
        let (mut a, _) = leader_with(Settings::default());
        let len = if long { 16 << 20 } else { 1_000 };
        let request = Request { id: None, client: 0, bytes: vec![7; len].into() };
        a.step(Input::Submit { token: Token(1), request });
        a.end_turn();
        // Longer than a disk may owe anything, and the others' disks have nothing to do.
        for _ in 0..30 {
            a.pass(GAP);
            a.answer_rounds();
        }
        let leads = a.replica.status().role == Role::Leader;
        assert_eq!(leads, long, "with {len} bytes on the way to the disk");
    }
}

#[test]
fn what_is_long_is_no_measure_of_what_is_short() {
    let low = ballot(1, 1);
    let settings = Settings { long_value_bytes: 1_000, ..Settings::default() };
    let request = |len| {
        let requests = vec![vec![7; len].into()];
        mainstay_model::Batch { time: mainstay_model::Timestamp(1), requests }.encode()
    };
    for (len, follows) in [(2_000, false), (500, true)] {
        let mut a = Alone::with(0, 3, settings);
        let mut decided = 0;
        for slot in 1..=10 {
            a.hear(1, accept(low, slot, &request(len), decided));
            a.sync();
            // What waits behind it takes as long.
            a.hear(1, accept(low, 100 + slot, &value(b"short"), decided));
            for _ in 0..10 {
                a.pass(100);
                a.hear(1, works(low, decided));
            }
            decided = slot;
            a.hear(1, lead(low, decided));
        }
        let usual = a.replica.leader_timeout();
        assert_eq!(usual > settings.election_timeout, follows, "{usual:?}");
    }
}

#[test]
fn pieces_of_strangers_are_ignored() {
    let mut a = Alone::new(0, 3);
    let own = lead_group(&mut a);
    let before = a.replica.status().ignored;
    piece(&mut a, 0, true);
    pass(&mut a, 9, false, Alone::kind_of(decided(1, Vec::new())));
    assert_eq!(a.replica.status().ignored, before + 2);
    assert_eq!(a.replica.status().ballot, own);
}
