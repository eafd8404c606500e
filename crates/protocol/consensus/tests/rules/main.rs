//! The rules of safety at one replica, message by message; the test plays the others. Sections
//! are those of Lamport, "Paxos Made Simple" (2001).

mod alone;
mod batching;
mod flow;
mod learning;
mod pace;
mod passing;
mod ticks;

use alone::{Alone, MS, accept, ballot, decided, id, lead, prepare, promise, value};
use mainstay_consensus::message::{Accepted, Follow, ReadSlot, Refused, RefusedReason, StepDown};
use mainstay_consensus::{Body, Input, Message, Rejection, Role, Settings};
use mainstay_model::{
    Ballot, ConfigurationId, Entry, Recovered, Slot, SlotRange, Timestamp, Token, Value,
};

fn entry(ballot: Ballot, value: &Value) -> Entry {
    Entry { ballot, value: value.clone() }
}

fn promised(sent: &[(u16, Body)]) -> Vec<Ballot> {
    let promise = |(_, body): &(u16, Body)| match body {
        Body::Promise(promise) => Some(promise.ballot),
        _ => None,
    };
    sent.iter().filter_map(promise).collect()
}

/// What was proposed to replica 1, by slot.
fn proposed(sent: &[(u16, Body)]) -> Vec<(Slot, Value)> {
    let accept = |(to, body): &(u16, Body)| match body {
        Body::Accept(accept) if *to == 1 => Some((accept.slot, accept.value.clone())),
        _ => None,
    };
    sent.iter().filter_map(accept).collect()
}

/// Replica 0 of three becomes leader with the promise of 1; 2 is silent.
fn leader() -> (Alone, Ballot) {
    let mut a = Alone::new(0, 3);
    let own = lead_group(&mut a);
    (a, own)
}

/// The same, with these settings; what it proposes at first is decided, and nothing of it is left to
/// look at.
fn leader_with(settings: Settings) -> (Alone, Ballot) {
    let mut a = Alone::with(0, 3, settings);
    let own = lead_group(&mut a);
    a.hear(1, accepted(own, 1));
    a.sent();
    (a, own)
}

fn lead_group(a: &mut Alone) -> Ballot {
    let own = a.stand();
    a.hear(1, Body::Promise(promise(own, 0, Vec::new())));
    a.sync();
    assert_eq!(a.replica.status().role, Role::Leader);
    own
}

fn accepted(ballot: Ballot, slot: u64) -> Body {
    let slots = SlotRange { first: Slot(slot), last: Slot(slot) };
    Body::Accepted(Accepted { ballot, slots, applied_upto: Slot::NONE })
}

#[test]
fn a_promise_learned_from_an_accept_is_durable_before_it_is_told() {
    let mut a = Alone::new(0, 3);
    let (low, high) = (ballot(1, 1), ballot(2, 2));
    a.hear(1, accept(low, 1, &value(b"x"), 0));
    a.hear(1, lead(low, 1));
    a.sync();
    a.sent();
    // Nothing is accepted in a decided slot, yet the ballot is the highest from now on.
    a.hear(2, accept(high, 1, &value(b"x"), 0));
    a.hear(2, prepare(high, 1));
    let told = !promised(&a.sent()).is_empty();
    a.restart();
    assert!(!told || a.replica.status().ballot == high, "a promise was told and lost");
}

#[test]
fn pages_of_two_pictures_make_no_promise() {
    let (old, older) = (ballot(2, 1), ballot(1, 2));
    let small = [value(b"1"), value(b"2"), value(b"3"), value(b"4"), value(b"5"), value(b"6")];
    let big = value(b"a value of another ballot that is as long as two of the others are");
    let page_bytes_max = 2 * small[0].len();
    let settings = Settings { page_bytes_max, ..Settings::default() };
    assert!(big.len() >= page_bytes_max);

    // Replica 0 voted in slot 4, and its record of that is damaged.
    let mut leader = Alone::with(0, 3, settings);
    let all = (1..).map(Slot).zip(small.iter().map(|value| entry(older, value)));
    let mut held: std::collections::BTreeMap<_, _> = all.collect();
    held.remove(&Slot(4));
    held.insert(Slot(1), entry(old, &big));
    leader.restart_from(Recovered {
        promised: old,
        accepted: held,
        uncertain: vec![SlotRange { first: Slot(4), last: Slot(4) }],
        ..Recovered::default()
    });
    let own = leader.stand();
    leader.hear(2, Body::Promise(promise(own, 0, Vec::new())));
    leader.sync();
    assert_eq!(leader.replica.status().blocked, Some(Slot(4)));

    // Replica 1 holds what was decided there. It answers twice, and accepts in between.
    let mut follower = Alone::with(1, 3, settings);
    for (slot, value) in (1..).zip(&small) {
        follower.hear(2, accept(older, slot, value, 0));
    }
    let mut pages = |ballot| {
        follower.hear(0, prepare(ballot, 1));
        follower.sync();
        let pages = follower.sent().into_iter().filter_map(|(_, body)| match body {
            Body::Promise(page) => Some(page),
            _ => None,
        });
        let pages: Vec<_> = pages.collect();
        follower.hear(0, accept(ballot, 1, &big, 0));
        pages
    };
    let (first, second) = (pages(own), pages(own));
    leader.sent();
    for page in [&first[2], &second[0], &second[1]] {
        leader.hear(1, Body::Promise(page.clone()));
    }
    let wrong = proposed(&leader.sent()).into_iter().any(|(slot, v)| slot.0 == 4 && v != small[3]);
    assert!(!wrong, "a slot that no page spoke of was taken for free");
    // All pages of one picture are a promise, in whatever order.
    for page in second.iter().rev() {
        leader.hear(1, Body::Promise(page.clone()));
    }
    assert!(proposed(&leader.sent()).contains(&(Slot(4), small[3].clone())));
}

#[test]
fn a_leader_that_learns_a_slot_beyond_its_own_is_deposed() {
    let (mut a, own) = leader();
    let later = ballot(own.round + 1, 2);
    a.hear(1, accepted(own, 1));
    let step_down = StepDown { ballot: later, successor: None, decided_upto: Slot(3) };
    a.hear(2, Body::StepDown(step_down));
    let entries = vec![entry(later, &value(b"2")), entry(later, &value(b"3"))];
    a.hear(1, decided(2, entries));
    a.hear(2, decided(2, vec![entry(later, &value(b"2")), entry(later, &value(b"3"))]));
    assert_eq!(a.delivered.len(), 3);
    a.step(Input::Submit { token: Token(1), request: "x".into() });
    a.end_turn();
    assert_ne!(a.replica.status().role, Role::Leader);
}

#[test]
fn an_answer_to_a_read_of_an_earlier_start_is_not_believed() {
    let mut a = Alone::new(0, 3);
    let asked = |a: &mut Alone, token| {
        a.hear(2, lead(ballot(1, 2), 0));
        a.step(Input::Read { token: Token(token) });
        a.end_turn();
        let numbers = a.sent().into_iter().filter_map(|(_, body)| match body {
            Body::ReadAsk(ask) => Some(ask.number),
            _ => None,
        });
        numbers.last().expect("asks its leader")
    };
    let before = asked(&mut a, 1);
    a.now += MS;
    a.restart();
    asked(&mut a, 2);
    // The answer to the first question, with a slot from before the second read arrived.
    a.hear(2, Body::ReadSlot(ReadSlot { number: before, slot: Slot::NONE, time: Timestamp(0) }));
    assert!(a.reads.is_empty(), "a read was told a slot from before it arrived");
}

#[test]
fn what_a_leader_queues_is_not_given_up_for_want_of_a_leader() {
    let mut a = Alone::new(0, 3);
    a.end_turn();
    a.step(Input::Submit { token: Token(1), request: "early".into() });
    let own = a.stand();
    a.hear(1, Body::Promise(promise(own, 0, Vec::new())));
    a.sync();
    a.pass(1);
    let mut round = 1;
    // It works without pause, and something waits in its queue at every moment.
    for token in 2..1_000 {
        a.step(Input::Submit { token: Token(token), request: "later".into() });
        for (to, body) in a.sent() {
            if let Body::Lead(lead) = body {
                round = lead.round.max(round);
                let slot = Slot::NONE;
                let follow = Follow {
                    clock: Timestamp(0),
                    disk: std::time::Duration::ZERO,
                    ballot: own,
                    round,
                    decided_upto: slot,
                    durable_upto: slot,
                    applied_upto: slot,
                    room: true,
                };
                a.hear_only(to, Body::Follow(follow));
            }
        }
        a.pass(1);
        a.sync();
        assert_eq!(a.replica.status().role, Role::Leader);
    }
    assert_eq!(a.rejected, []);
}

#[test]
fn reads_that_wait_are_bounded_at_every_replica() {
    let settings = Settings { queue_requests_max: 10, ..Settings::default() };
    let mut a = Alone::with(0, 3, settings);
    let own = a.stand();
    a.hear(1, Body::Promise(promise(own, 0, Vec::new())));
    a.sync();
    for token in 0..100 {
        a.step(Input::Read { token: Token(token) });
        a.end_turn();
    }
    assert_eq!(a.rejected.len(), 90, "of a leader that cannot answer them yet");
    assert!(a.rejected.iter().all(|(_, reason)| *reason == Rejection::Busy));

    let mut a = Alone::with(0, 3, settings);
    for token in 0..100 {
        a.hear(2, lead(ballot(token + 1, 2), 0));
        a.step(Input::Read { token: Token(token) });
        a.end_turn();
    }
    assert_eq!(a.rejected.len(), 90, "of a follower whose leaders do not answer");
}

#[test]
fn a_question_asked_again_waits_once() {
    let settings = Settings { queue_requests_max: 10, ..Settings::default() };
    let mut a = Alone::with(0, 3, settings);
    let own = a.stand();
    a.hear(1, Body::Promise(promise(own, 0, Vec::new())));
    a.sync();
    for _ in 0..100 {
        let ask = mainstay_consensus::message::ReadAsk { number: 7, relay: false };
        a.hear(1, Body::ReadAsk(ask));
    }
    a.sent();
    a.step(Input::Read { token: Token(1) });
    a.end_turn();
    assert_eq!(a.rejected, [], "its own clients find room");
}

#[test]
fn a_disk_that_stands_still_lets_nothing_pile_up() {
    let mut a = Alone::new(0, 3);
    let high = ballot(9, 2);
    for _ in 0..1_000 {
        a.hear(2, prepare(high, 1));
    }
    for round in 10..1_000 {
        a.hear(1, prepare(ballot(round, 1), 1));
    }
    assert!(a.sent().is_empty(), "nothing is told before it is durable");
    a.sync();
    assert_eq!(promised(&a.sent()), [ballot(999, 1)]);

    let mut a = Alone::new(0, 3);
    a.stand();
    a.sent();
    a.restart();
    a.pass(60_000);
    a.sent();
    a.sync();
    let prepares = a.sent().iter().filter(|(_, body)| matches!(body, Body::Prepare(_))).count();
    assert!(prepares <= 4, "{prepares} of them");
}

#[test]
fn a_leader_that_lags_and_has_no_room_lets_another_try() {
    let mut a = Alone::new(0, 3);
    a.step(Input::Room { entries: false });
    let own = a.stand();
    a.hear(1, Body::Promise(promise(own, 50, Vec::new())));
    a.sync();
    for _ in 0..40 {
        a.pass(50);
        a.sync();
        for (to, body) in a.sent() {
            match body {
                Body::StepDown(_) => return,
                Body::Prepare(m) => a.hear(to, Body::Promise(promise(m.ballot, 50, Vec::new()))),
                Body::Lead(m) => {
                    let (round, decided_upto) = (m.round, Slot(50));
                    let (durable_upto, applied_upto) = (decided_upto, decided_upto);
                    let ballot = m.ballot;
                    let follow = Follow {
                        clock: Timestamp(0),
                        disk: std::time::Duration::ZERO,
                        ballot,
                        round,
                        decided_upto,
                        durable_upto,
                        applied_upto,
                        room: true,
                    };
                    a.hear(to, Body::Follow(follow));
                }
                _ => {}
            }
        }
    }
    panic!("it goes from ballot to ballot: {}", a.replica.status().ballot);
}

#[test]
fn refused_and_other_strays_are_used() {
    let (mut a, own) = leader();
    let refused =
        Refused { ballot: own, reason: RefusedReason::Promised(ballot(own.round + 5, 2)) };
    a.hear(2, Body::Refused(refused));
    assert_eq!(a.replica.status().role, Role::Follower);
    let next = a.stand();
    assert!(next > ballot(own.round + 5, 2), "above whatever it was refused for");
    assert_eq!(next.leader, id(0));
}

#[test]
fn a_decided_slot_is_not_repaired_by_what_a_deposed_leader_proposes() {
    // Slot 2 was learned as decided, and its record is damaged.
    let mut a = Alone::new(0, 3);
    let (old, deposed, later) = (ballot(1, 1), ballot(2, 2), ballot(3, 1));
    a.restart_from(Recovered {
        promised: old,
        decided_upto: Slot(2),
        uncertain: vec![SlotRange { first: Slot(1), last: Slot(2) }],
        ..Recovered::default()
    });
    a.hear(2, accept(deposed, 2, &value(b"never decided"), 0));
    a.sync();
    a.hear(1, decided(1, vec![entry(old, &value(b"1")), entry(later, &value(b"decided"))]));
    assert_eq!(a.delivered.get(&Slot(2)), Some(&value(b"decided")));
}

#[test]
fn p1_the_first_proposal_is_accepted() {
    // "An acceptor must accept the first proposal that it receives" (section 2.1), however late
    // the slot and whatever it has not heard of before; and only what it has not promised away (P1a).
    let mut a = Alone::new(0, 3);
    a.hear(1, accept(ballot(1, 1), 9, &value(b"x"), 0));
    a.sync();
    assert!(a.sent().contains(&(1, accepted(ballot(1, 1), 9))));
    a.hear(2, prepare(ballot(2, 2), 1));
    a.sync();
    a.sent();
    a.hear(1, accept(ballot(1, 1), 10, &value(b"y"), 0));
    a.sync();
    let reason = RefusedReason::Promised(ballot(2, 2));
    let refused = Refused { ballot: ballot(1, 1), reason };
    assert_eq!(a.sent(), [(1, Body::Refused(refused))]);
    a.hear(2, accept(ballot(2, 2), 9, &value(b"z"), 0));
    a.sync();
    assert!(a.sent().contains(&(2, accepted(ballot(2, 2), 9))), "an equal ballot is not refused");
}

#[test]
fn p2c_the_value_of_the_highest_ballot_is_proposed() {
    // "v is the value of the highest-numbered proposal among all proposals numbered less than n
    // accepted by the acceptors in S", or there is none (section 2.1).
    let mut a = Alone::new(0, 5);
    a.hear(4, accept(ballot(2, 4), 1, &value(b"own, middle"), 0));
    a.sync();
    let own = a.stand();
    let (low, high) = (ballot(1, 4), ballot(3, 3));
    let of_1 = vec![
        (Slot(1), entry(high, &value(b"highest"))),
        (Slot(4), entry(low, &value(b"low alone"))),
    ];
    let of_2 = vec![(Slot(1), entry(low, &value(b"lowest"))), (Slot(2), entry(low, &value(b"2")))];
    a.hear(1, Body::Promise(promise(own, 0, of_1)));
    assert_eq!(proposed(&a.sent()), [], "two of five are no quorum");
    a.hear(2, Body::Promise(promise(own, 0, of_2)));
    let proposed = proposed(&a.sent());
    let [one, two, three, four, five] = &proposed[..] else { panic!("{proposed:?}") };
    assert_eq!(*one, (Slot(1), value(b"highest")));
    assert_eq!(*two, (Slot(2), value(b"2")));
    assert_eq!((three.0, three.1.request_count()), (Slot(3), 0), "nobody accepted anything");
    assert_eq!(*four, (Slot(4), value(b"low alone")));
    assert_eq!((five.0, five.1.request_count()), (Slot(5), 0), "its own, behind all");
}

#[test]
fn a_promise_carries_entries_whose_records_are_pending() {
    let mut a = Alone::new(0, 3);
    a.hear(1, accept(ballot(1, 1), 1, &value(b"x"), 0));
    a.hear(2, prepare(ballot(2, 2), 1));
    assert_eq!(a.sent(), [], "neither the vote nor the promise is durable");
    a.sync();
    let sent = a.sent();
    let pictures = sent.iter().filter_map(|(_, body)| match body {
        Body::Promise(promise) => Some(&promise.accepted),
        _ => None,
    });
    let accepted: Vec<_> = pictures.flatten().collect();
    assert_eq!(accepted, [&(Slot(1), entry(ballot(1, 1), &value(b"x")))]);
}

#[test]
fn two_leaders_never_share_a_ballot() {
    let mut seen = std::collections::BTreeSet::new();
    for index in 0..3 {
        let mut a = Alone::new(index, 3);
        for _ in 0..5 {
            let own = a.stand();
            assert_eq!(own.leader, id(index));
            assert!(seen.insert(own), "{own} twice");
            // Its Prepare has left, so the ballot is durable: no later start may use it again.
            a.now += MS;
            a.restart();
        }
    }
    // A ballot that did not become durable was never told to anyone.
    let mut a = Alone::new(0, 3);
    let own = a.stand();
    a.hear(1, prepare(ballot(own.round + 1, 1), 1));
    assert_eq!(promised(&a.sent()), [], "not before it is durable");
}

#[test]
fn a_blocked_slot_waits_for_replicas_that_are_certain() {
    let mut a = Alone::new(0, 5);
    let own = a.stand();
    let lost = vec![SlotRange { first: Slot(2), last: Slot(2) }];
    let voted = vec![(Slot(2), entry(ballot(1, 4), &value(b"voted for")))];
    let mut damaged = promise(own, 0, Vec::new());
    damaged.uncertain = lost;
    a.hear(1, Body::Promise(damaged.clone()));
    a.hear(2, Body::Promise(damaged));
    assert_eq!(a.replica.status().role, Role::Leader);
    assert_eq!(a.replica.status().blocked, Some(Slot(2)));
    let slots = |sent: &[(u16, Body)]| proposed(sent).iter().map(|p| p.0).collect::<Vec<_>>();
    assert_eq!(slots(&a.sent()), [Slot(1), Slot(3)], "neither value nor no-op in slot 2");
    a.hear(3, Body::Promise(promise(own, 0, Vec::new())));
    assert_eq!(slots(&a.sent()), [], "two of five are certain");
    a.hear(4, Body::Promise(promise(own, 0, voted)));
    assert_eq!(proposed(&a.sent()), [(Slot(2), value(b"voted for"))]);
    assert_eq!(a.replica.status().blocked, None);
}

#[test]
fn the_watermark_of_another_ballot_decides_nothing() {
    let mut a = Alone::new(0, 3);
    a.hear(1, accept(ballot(1, 1), 1, &value(b"of 1"), 0));
    a.hear(2, lead(ballot(2, 2), 1));
    assert!(a.delivered.is_empty(), "accepted in ballot 1, and ballot 2 says decided");
    // An older leader's word comes too late to count for its own entries, too: they may have been
    // superseded since. What it misses it asks for.
    a.hear(2, prepare(ballot(3, 2), 1));
    a.hear(1, lead(ballot(1, 1), 1));
    assert!(a.delivered.is_empty(), "the leader of ballot 1 is deposed");
    assert!(a.sent().iter().any(|(_, body)| matches!(body, Body::CatchUp(_))));
    a.hear(1, decided(1, vec![entry(ballot(2, 2), &value(b"of 2"))]));
    a.hear(2, decided(1, vec![entry(ballot(2, 2), &value(b"of 2"))]));
    assert_eq!(a.delivered.get(&Slot(1)), Some(&value(b"of 2")));
}

#[test]
fn a_leader_that_learns_another_value_is_deposed_and_announces_nothing() {
    let (mut a, own) = leader();
    a.step(Input::Submit { token: Token(1), request: "mine".into() });
    a.end_turn();
    a.sync();
    a.sent();
    let later = ballot(own.round + 1, 2);
    let entries = vec![entry(later, &value(b"1")), entry(later, &value(b"theirs"))];
    a.hear(1, decided(1, entries));
    assert_eq!(a.replica.status().role, Role::Follower);
    assert_eq!(a.delivered.get(&Slot(2)), Some(&value(b"theirs")));
    a.pass(50);
    let announces = |(_, body): &(u16, Body)| matches!(body, Body::Lead(_) | Body::Accept(_));
    assert!(!a.sent().iter().any(announces), "nothing more in a ballot that is over");
    // The votes that come now are for something that was not decided.
    a.hear(1, accepted(own, 2));
    assert_eq!(a.delivered.get(&Slot(2)), Some(&value(b"theirs")));
}

#[test]
fn a_learner_answers_nothing_that_would_count() {
    let mut a = Alone::learner(0, 3);
    let leads = ballot(4, 2);
    a.hear(2, prepare(leads, 1));
    a.hear(2, accept(leads, 1, &value(b"x"), 0));
    let mut shown = lead(leads, 1);
    if let Body::Lead(lead) = &mut shown {
        lead.round = 3;
    }
    a.hear(2, shown);
    let probe = mainstay_consensus::message::Probe { number: 1, ballot: leads };
    a.hear(1, Body::Probe(probe));
    a.sync();
    a.pass(60_000);
    a.sync();
    let mut sent = a.sent();
    sent.retain(|(_, body)| !matches!(body, Body::Learned(_)));
    assert_eq!(sent, [], "no promise, vote, answer to a round or a question, no candidacy");
    assert_eq!(a.delivered.len(), 1, "and yet it learns");
}

#[test]
fn strangers_are_not_heard() {
    let mut a = Alone::new(0, 3);
    let body = || prepare(ballot(9, 2), 1);
    let mut other = id(2);
    other.epoch.counter = 2;
    let own = ConfigurationId(1);
    let strangers = [(id(7), own), (other, own), (id(0), own), (id(2), ConfigurationId(2))];
    for (from, configuration) in strangers {
        let message = Message { configuration, body: body() };
        a.step(Input::Message { from, message });
    }
    // In another's name: a ballot belongs to its leader.
    a.hear(1, body());
    a.hear(1, accept(ballot(9, 2), 1, &value(b"x"), 0));
    a.hear(1, lead(ballot(9, 2), 1));
    a.sync();
    assert_eq!(a.replica.status().ballot, Ballot::ZERO);
    assert_eq!(a.replica.status().ignored, 7);
    assert!(promised(&a.sent()).is_empty());
}
