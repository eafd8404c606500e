//! What is handed over, tied, answered, in which order.

use mainstay_model::{Prng, Slot};
use proptest::prelude::*;

use super::*;

const SESSION: SessionId = SessionId { slot: Slot(1), position: 0 };

fn write(body: &'static str) -> Parsed {
    Parsed::Write { body: body.into(), shape: 1, large: false }
}

fn read(body: &'static str) -> Parsed {
    Parsed::Read { body: body.into(), shape: 2 }
}

fn pipeline(commands: impl IntoIterator<Item = Parsed>) -> Pipeline {
    let mut pipeline = Pipeline::new();
    commands.into_iter().for_each(|command| pipeline.push(command, Instant(0)));
    pipeline
}

fn stale(body: &'static str) -> Parsed {
    Parsed::ReadStale { body: body.into(), shape: 2 }
}

/// Hands the due write over under a number; the positions of the reads that are tied to it.
fn hand_over_write(p: &mut Pipeline, number: u64) -> Vec<u64> {
    let tied = p.write_handed_over(SESSION, RequestNumber(number));
    tied.into_iter().map(|(position, _)| position).collect()
}

/// What is asked once the leader has told something of a read.
fn asked(p: &mut Pipeline, position: u64) -> Vec<Asked> {
    let mut asked = Vec::new();
    p.ask(position, &mut asked);
    asked
}

#[test]
fn a_read_of_which_the_leader_tells_first_takes_those_before_it_along() {
    let mut p = pipeline([read("a"), read("b"), read("c"), read("d")]);
    for _ in 0..4 {
        p.due();
        p.read_handed_over();
    }
    p.answer(0, Err(Failure::Unavailable));
    let positions = |asked: Vec<Asked>| asked.iter().map(|read| read.0).collect::<Vec<_>>();
    assert_eq!(positions(asked(&mut p, 2)), [1, 2], "in the order in which they came");
    assert!(asked(&mut p, 1).is_empty(), "it was asked with the other");
    assert_eq!(positions(asked(&mut p, 3)), [3]);
}

#[test]
fn reads_with_a_write_behind_them_are_tied_to_it() {
    let mut p = pipeline([write("a"), read("b"), read("c"), write("d"), read("e")]);
    assert_eq!(p.due(), Some((0, Due::Write(&"a".into()))));
    assert!(hand_over_write(&mut p, 1).is_empty());
    assert_eq!(p.due(), Some((3, Due::Write(&"d".into()))));
    assert_eq!(hand_over_write(&mut p, 2), [1, 2]);
    assert!(asked(&mut p, 1).is_empty(), "it is not asked by itself");
    assert_eq!(p.due(), Some((4, Due::Read(&"e".into()))));
    p.read_handed_over();
    assert_eq!(asked(&mut p, 4), [(4, "e".into(), Some((SESSION, RequestNumber(2))))]);
    assert_eq!(p.due(), None);
    for (position, reply) in [(4, "E"), (0, "A"), (2, "C"), (1, "B"), (3, "D")] {
        p.answer(position, Ok(reply.into()));
    }
    let replies = std::iter::from_fn(|| p.turn()).map(|turn| match turn {
        Turn::Reply { reply, .. } => reply,
        other => panic!("{other:?}"),
    });
    assert_eq!(replies.collect::<Vec<_>>(), ["A", "B", "C", "D", "E"]);
}

#[test]
fn a_read_that_was_asked_by_itself_is_tied_to_the_write_that_comes_later() {
    let mut p = pipeline([read("a"), read("b")]);
    for position in 0..2 {
        assert!(matches!(p.due(), Some((at, Due::Read(_))) if at == position));
        p.read_handed_over();
    }
    p.answer(0, Ok("A".into()));
    p.push(write("c"), Instant(0));
    p.push(write("d"), Instant(0));
    assert_eq!(p.due(), Some((2, Due::Write(&"c".into()))));
    assert_eq!(hand_over_write(&mut p, 1), [1], "what is answered is not tied");
    assert!(asked(&mut p, 1).is_empty(), "the leader's answer comes too late");
    assert_eq!(p.due(), Some((3, Due::Write(&"d".into()))));
    assert!(hand_over_write(&mut p, 2).is_empty(), "each is tied once");
    p.answer(1, Ok("B".into()));
    p.answer(1, Ok("again".into()));
    p.turn();
    assert_eq!(p.turn(), Some(Turn::Reply { shape: 2, reply: "B".into() }));
}

#[test]
fn reads_go_on_alone_where_the_write_behind_them_is_refused() {
    let mut p = pipeline([read("a"), write("b"), read("c"), write("d"), read("e")]);
    assert_eq!(p.due(), Some((1, Due::Write(&"b".into()))));
    p.refuse(Failure::NoRoom);
    assert_eq!(p.due(), Some((3, Due::Write(&"d".into()))));
    p.refuse(Failure::NoRoom);
    for position in [0, 2, 4] {
        assert!(matches!(p.due(), Some((at, Due::Read(_))) if at == position));
        p.read_handed_over();
    }
    assert_eq!(p.due(), None);
}

#[test]
fn a_stale_read_waits_for_no_write_and_no_write_for_it() {
    let mut p = pipeline([write("a"), read("b"), stale("c"), write("d")]);
    assert_eq!(p.due(), Some((0, Due::Write(&"a".into()))));
    assert!(hand_over_write(&mut p, 1).is_empty());
    assert_eq!(p.due(), Some((1, Due::Read(&"b".into()))));
    p.read_handed_over();
    assert_eq!(p.due(), Some((2, Due::ReadStale(&"c".into()))));
    p.stale_read_handed_over();
    assert_eq!(p.due(), Some((3, Due::Write(&"d".into()))));
    assert_eq!(hand_over_write(&mut p, 2), [1]);
    p.answer(2, Ok("C".into()));
    assert_eq!(p.turn(), None, "answers leave in order");
    p.answer(0, Ok("A".into()));
    assert_eq!(p.turn(), Some(Turn::Reply { shape: 1, reply: "A".into() }));
}

#[test]
fn answers_leave_in_the_order_of_the_commands() {
    let mut p = pipeline([read("a"), Parsed::Answer("x".into()), read("b")]);
    p.due();
    p.read_handed_over();
    assert_eq!(p.due(), Some((2, Due::Read(&"b".into()))));
    p.read_handed_over();
    p.answer(2, Ok("B".into()));
    assert_eq!(p.turn(), None);
    assert_eq!(p.held_bytes(), 2);
    p.answer(0, Err(Failure::Unavailable));
    assert_eq!(p.turn(), Some(Turn::Failed { shape: 2, failure: Failure::Unavailable }));
    assert_eq!(p.turn(), Some(Turn::Answer("x".into())));
    assert_eq!(p.turn(), Some(Turn::Reply { shape: 2, reply: "B".into() }));
    assert_eq!((p.turn(), p.len(), p.held_bytes()), (None, 0, 0));
}

#[test]
fn an_open_write_given_up_is_uncertain_and_its_late_reply_is_dropped() {
    let mut p = pipeline([write("a"), read("b")]);
    p.due();
    p.write_handed_over(SESSION, RequestNumber(1));
    let patience = Duration::from_secs(10);
    p.give_up_overdue(Instant(9_999_999_999), patience);
    assert_eq!(p.turn(), None);
    p.give_up_overdue(Instant(10_000_000_000), patience);
    assert_eq!(p.turn(), Some(Turn::Failed { shape: 1, failure: Failure::Uncertain }));
    p.answer(0, Ok("late".into()));
    assert_eq!(p.turn(), None);
    p.due();
    p.read_handed_over();
    assert_eq!(asked(&mut p, 1), [(1, "b".into(), None)]);
}

#[test]
fn nothing_is_given_up_while_something_is_answered() {
    let patience = Duration::from_secs(10);
    let at = |seconds: u64| Instant(seconds * 1_000_000_000);
    let mut p = pipeline([write("aa"), write("b"), write("c")]);
    assert_eq!(p.asked_bytes, 4);
    for number in 1..=2 {
        p.due();
        p.write_handed_over(SESSION, RequestNumber(number));
    }
    p.answer(0, Ok("A".into()));
    assert!(!p.give_up_overdue(at(11), patience));
    assert!(p.due().is_some() && !p.is_due_overdue(at(12), patience));
    p.turn();
    assert_eq!(p.asked_bytes, 2);
    assert!(!p.give_up_overdue(at(20), patience));
    assert!(p.give_up_overdue(at(21), patience));
    assert!(p.is_due_overdue(at(21), patience));
}

#[test]
fn a_refused_command_is_answered_in_its_turn() {
    let mut p = pipeline([read("a"), write("b")]);
    assert_eq!(p.due(), Some((1, Due::Write(&"b".into()))));
    p.refuse(Failure::Unavailable);
    assert_eq!(p.due(), Some((0, Due::Read(&"a".into()))));
    p.refuse(Failure::Loading);
    assert_eq!(p.due(), None);
    assert_eq!(p.turn(), Some(Turn::Failed { shape: 2, failure: Failure::Loading }));
    assert_eq!(p.turn(), Some(Turn::Failed { shape: 1, failure: Failure::Unavailable }));
    assert!(!p.is_due_overdue(Instant(u64::MAX), Duration::ZERO));
}

#[test]
fn large_replies_narrow_the_commands_that_are_open_at_once() {
    let count = |p: &mut Pipeline| {
        let mut open = 0;
        while p.due().is_some() {
            p.read_handed_over();
            open += 1;
        }
        open
    };
    let mut p = pipeline((0..200).map(|_| read("a")));
    let first = count(&mut p);
    assert_eq!(first, 16);
    p.answer(0, Ok(vec![0; 16 << 20].into()));
    p.answer(1, Ok(vec![0; 16 << 20].into()));
    assert_eq!(count(&mut p), 0, "there is no room for another one of that size");
    (2..first).for_each(|n| p.answer(n, Ok("small".into())));
    assert!((2..200).contains(&count(&mut p)));

    let mut p = pipeline((0..200).map(|_| write("a")));
    let mut number = 0;
    let mut hand_over = |p: &mut Pipeline| {
        let before = number;
        while p.due().is_some() {
            number += 1;
            hand_over_write(p, number);
        }
        number - before
    };
    assert_eq!(hand_over(&mut p), 200, "writes are answered with little");
    p.answer(0, Ok(vec![0; 16 << 20].into()));
    (0..10).for_each(|_| p.push(write("b"), Instant(0)));
    assert_eq!(hand_over(&mut p), 0, "until they are not");
}

#[test]
fn more_reads_than_there_is_room_for_do_not_wait_for_the_write_behind_them() {
    let mut p = pipeline((0..100).map(|_| read("a")).chain([write("b")]));
    let mut open = 0;
    while let Some((_, due)) = p.due() {
        assert!(matches!(due, Due::Read(_)));
        p.read_handed_over();
        open += 1;
    }
    assert_eq!(open, 16);
    (0..16).for_each(|n| p.answer(n, Ok("small".into())));
    assert!(matches!(p.due(), Some((100, Due::Write(_)))), "the rest fits");
    assert_eq!(hand_over_write(&mut p, 1), (16..100).collect::<Vec<_>>());
}

#[test]
fn what_is_held_is_counted_and_given_back() {
    let answer = || Parsed::Answer(vec![0; 1000].into());
    let mut p = pipeline((0..100).flat_map(|_| [write("some"), answer()]));
    assert_eq!((p.asked_bytes, p.held_bytes()), (400, 100_000));
    assert_eq!(p.held(), 100_400 + 200 * COMMAND_BYTES);
    for number in 0..100 {
        p.due();
        hand_over_write(&mut p, 1 + number);
        p.answer(2 * number, Ok("done".into()));
    }
    assert_eq!(std::iter::from_fn(|| p.turn()).count(), 200);
    assert_eq!((p.held(), p.commands.capacity()), (0, 0));
}

proptest! {
    /// Whatever comes, is answered or given up, in whichever order: each read is tied to the first write
    /// behind it that is handed over, or was answered before that.
    #[test]
    fn every_read_is_answered_or_tied_before_the_next_write(seed in any::<u64>()) {
        let mut prng = Prng::new(seed);
        let mut p = Pipeline::new();
        let mut number = 0;
        // Of each command: whether it is a read, and whether it is settled: answered, tied, or refused.
        let mut commands: Vec<(bool, bool)> = Vec::new();
        for _ in 0..500 {
            match prng.below(10) {
                0..4 => {
                    let is_read = prng.chance(1, 2);
                    p.push(if is_read { read("r") } else { write("w") }, Instant(0));
                    commands.push((is_read, false));
                }
                4..7 => {
                    let Some((position, due)) = p.due() else { continue };
                    let at = position as usize;
                    if prng.chance(1, 10) {
                        p.refuse(Failure::NoRoom);
                        commands[at].1 = true;
                    } else if matches!(due, Due::Read(_)) {
                        p.read_handed_over();
                    } else {
                        number += 1;
                        for position in hand_over_write(&mut p, number) {
                            let (is_read, settled) = &mut commands[position as usize];
                            prop_assert!(*is_read && !*settled, "tied twice, or too late");
                            *settled = true;
                        }
                        let open = commands[..at].iter().position(|(read, settled)| *read && !settled);
                        prop_assert_eq!(open, None, "before the write at {}", at);
                    }
                }
                7..9 => {
                    let position = p.first + prng.below(p.len() as u64 + 1);
                    let open = p.command(position).is_some_and(|command| {
                        matches!(command.stage, Stage::ReadOpen(..) | Stage::ReadGone | Stage::WriteOpen)
                    });
                    p.answer(position, Ok("reply".into()));
                    if open {
                        commands[position as usize].1 = true;
                    }
                }
                _ => while p.turn().is_some() {},
            }
        }
    }
}
