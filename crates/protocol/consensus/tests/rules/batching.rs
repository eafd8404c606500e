//! When a leader proposes what waits, and what it does not propose twice.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use mainstay_consensus::message::{Forward, Request};
use mainstay_consensus::{Batching, Body, Input, Settings, Window};
use mainstay_model::{Batch, RequestId, RequestNumber, Slot, Token};

use crate::alone::Alone;
use crate::{accepted, leader_with, proposed};

pub(crate) fn request(client: u128, number: u64) -> Request {
    let id = Some(RequestId { client, number: RequestNumber(number) });
    Request { id, client: 0, bytes: Bytes::from(format!("{client}/{number}")) }
}

pub(crate) fn submit(a: &mut Alone, client: u128, number: u64) {
    let request = request(client, number);
    a.step(Input::Submit { token: Token(number), request });
}

/// What each batch proposed since the last look holds.
pub(crate) fn batches(a: &mut Alone) -> Vec<Vec<String>> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    let batch = |(_, value)| Batch::decode(&value).expect("a batch").requests;
    let all = proposed(&a.sent()).into_iter().map(batch);
    all.map(|requests| requests.into_iter().map(text).collect()).collect()
}

fn fixed(requests: usize, wait_ms: u64) -> Settings {
    let wait = Duration::from_millis(wait_ms);
    Settings { batching: Batching::Fixed { requests, wait }, ..Settings::default() }
}

#[test]
fn a_fixed_batch_leaves_when_it_is_full_or_its_timer_runs_out() {
    // Chai 2009, section 4.1, with the batch of its figure 7 and a timer of 20 ms.
    let (mut a, _) = leader_with(fixed(3, 20));
    for client in 1..=2 {
        submit(&mut a, client, 1);
    }
    a.pass(19);
    assert!(batches(&mut a).is_empty(), "two of three, and the timer runs");
    a.pass(1);
    assert_eq!(batches(&mut a), [["1/1", "2/1"]], "the timer ran out");
    for client in 1..=3 {
        submit(&mut a, client, 2);
    }
    a.end_turn();
    assert_eq!(batches(&mut a), [["1/2", "2/2", "3/2"]], "full");
}

#[test]
fn a_fixed_batch_holds_at_most_one_request_of_a_client() {
    let (mut a, _) = leader_with(fixed(3, 20));
    for number in 1..=3 {
        submit(&mut a, 1, number);
    }
    submit(&mut a, 2, 1);
    a.end_turn();
    assert!(batches(&mut a).is_empty(), "four requests of two clients fill no batch of three");
    a.pass(20);
    assert_eq!(batches(&mut a), [["1/1", "2/1"]]);
    a.pass(20);
    assert_eq!(batches(&mut a), [["1/2"]]);
    submit(&mut a, 3, 1);
    submit(&mut a, 2, 2);
    a.end_turn();
    assert_eq!(batches(&mut a), [["1/3", "3/1", "2/2"]], "each in the order of its numbers");
}

/// Requests of connections to the replicas of a group: those of one replica are of one session.
#[test]
fn a_fixed_batch_counts_the_connections_of_a_front_and_not_its_session() {
    let (mut a, _) = leader_with(fixed(4, 20));
    let submit = |a: &mut Alone, session: u128, number: u64, client: u64| {
        let request = Request { client, ..request(session, number) };
        a.step(Input::Submit { token: Token(number), request });
    };
    for connection in 1..=4 {
        submit(&mut a, 1, connection, connection);
    }
    a.end_turn();
    assert_eq!(batches(&mut a), [["1/1", "1/2", "1/3", "1/4"]], "full, at once");
    // The second connection asks twice: what comes behind that in its session keeps its place.
    for (number, connection) in [(5, 1), (6, 2), (7, 2), (8, 3)] {
        submit(&mut a, 1, number, connection);
    }
    submit(&mut a, 2, 1, 9);
    a.end_turn();
    assert!(batches(&mut a).is_empty(), "three of four clients could be in it");
    submit(&mut a, 3, 1, 10);
    a.end_turn();
    assert_eq!(batches(&mut a), [["1/5", "2/1", "3/1", "1/6"]]);
    a.pass(20);
    assert_eq!(batches(&mut a), [["1/7", "1/8"]]);
}

#[test]
fn a_request_does_not_wait_when_nothing_is_in_flight_and_shares_a_batch_when_the_window_is_full() {
    let settings = Settings { window: Window::Fixed(2), ..Settings::default() };
    let (mut a, own) = leader_with(settings);
    for number in 1..=5 {
        submit(&mut a, 1, number);
        a.end_turn();
    }
    assert_eq!(batches(&mut a), [["1/1"], ["1/2"]], "the window holds two");
    a.hear(1, accepted(own, 2));
    a.sync();
    assert_eq!(batches(&mut a), [["1/3", "1/4", "1/5"]]);
}

#[test]
fn no_window_lets_more_be_open_than_the_configuration_allows() {
    // The configuration of these tests has an α of 64.
    for window in [Window::Fixed(1_000), Window::Adaptive] {
        let mut a = Alone::with(0, 3, Settings { window, ..Settings::default() });
        let own = crate::lead_group(&mut a);
        a.pass(100);
        a.hear(1, accepted(own, 1));
        a.answer_rounds();
        let (mut decided, mut most) = (1, 0);
        for number in 1..=4_000 {
            submit(&mut a, 1, number);
            a.end_turn();
            let open = a.replica.status().accepted.0 - a.replica.status().decided.0;
            assert!(open <= 64, "{open} are open");
            most = most.max(open);
            if number % 70 == 0 {
                // What is open is decided after a tenth of a second, all at once.
                a.pass(100);
                let upto = a.replica.status().accepted.0;
                for slot in decided + 1..=upto {
                    a.hear_only(1, accepted(own, slot));
                }
                decided = upto;
                a.sync();
                a.answer_rounds();
            }
        }
        assert!(most > 32, "over a long path the window opens: {window:?}, {most}");
    }
}

#[test]
fn a_request_that_is_sent_again_is_ordered_once() {
    let settings = Settings { window: Window::Fixed(1), ..Settings::default() };
    let (mut a, own) = leader_with(settings);
    a.executes = false;
    let forward = |number: u64, applied_upto: u64| {
        let applied_upto = Slot(applied_upto);
        let forward = Forward { number, relay: false, applied_upto, requests: vec![request(7, 1)] };
        Body::Forward(forward)
    };
    a.hear(1, forward(1, 1));
    assert_eq!(batches(&mut a), [["7/1"]]);
    // While it is in flight, and while it is decided but the sender has not carried it out.
    a.hear(1, forward(2, 1));
    a.hear(1, accepted(own, 2));
    a.sync();
    a.hear(1, forward(3, 1));
    submit(&mut a, 7, 1);
    a.end_turn();
    assert!(batches(&mut a).is_empty(), "its outcome will show where it was sent");
    // Whoever has applied that slot and asks all the same has missed the outcome.
    a.hear(2, forward(4, 2));
    assert_eq!(batches(&mut a), [["7/1"]]);
    // While it waits in the queue.
    for number in [2, 2, 2] {
        submit(&mut a, 8, number);
        a.end_turn();
    }
    a.hear(1, accepted(own, 3));
    a.sync();
    assert_eq!(batches(&mut a), [["8/2"]]);
}

#[test]
fn what_came_before_its_turn_is_taken_again_in_order() {
    let (mut a, _) = leader_with(Settings::default());
    // Number 1 was lost on its way; then everything is sent again.
    submit(&mut a, 1, 2);
    submit(&mut a, 1, 3);
    a.end_turn();
    for number in 1..=3 {
        submit(&mut a, 1, number);
    }
    a.end_turn();
    assert_eq!(batches(&mut a), [vec!["1/2", "1/3"], vec!["1/1", "1/2", "1/3"]]);
}

#[test]
fn requests_without_a_name_are_all_different() {
    let (mut a, _) = leader_with(Settings::default());
    for token in 0..3 {
        a.step(Input::Submit { token: Token(token), request: "same".into() });
    }
    a.end_turn();
    assert_eq!(batches(&mut a), [["same", "same", "same"]]);
}

#[test]
fn what_waits_at_a_new_leader_is_ordered_once() {
    let mut a = Alone::new(0, 3);
    for _ in 0..3 {
        submit(&mut a, 1, 1);
        submit(&mut a, 1, 2);
    }
    let own = crate::lead_group(&mut a);
    a.end_turn();
    assert!(
        batches(&mut a).concat().is_empty(),
        "what time it is shows once all taken over is decided"
    );
    a.hear(1, accepted(own, 1));
    let ordered: Vec<String> = batches(&mut a).concat();
    assert_eq!(ordered, ["1/1", "1/2"]);
    let once: BTreeSet<&String> = ordered.iter().collect();
    assert_eq!(once.len(), ordered.len());
}
