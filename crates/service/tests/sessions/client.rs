//! The client's half of a session: what it sends, when it sends it again, and what it believes.

use bytes::Bytes;
use mainstay_model::plant::Planted;
use mainstay_model::{Nonce, Plant, Plants, RequestNumber, SessionId, Slot};
use mainstay_service::{Applied, ClientSession, Command, SessionEvent};

use crate::world::{replied, request};

const ID: SessionId = SessionId { slot: Slot(4), position: 2 };
const NONCE: Nonce = Nonce(7);

fn unsent<P: Plants>(client: &mut ClientSession<P>) -> Vec<Command> {
    let announced = client.has_unsent();
    let mut out = Vec::new();
    client.take_unsent(&mut out);
    assert_eq!(announced, !out.is_empty());
    assert!(!client.has_unsent());
    out.into_iter().map(|bytes| Command::decode(bytes).unwrap()).collect()
}

fn begin<P: Plants>(client: &mut ClientSession<P>, body: &str) -> u64 {
    client.begin(Bytes::copy_from_slice(body.as_bytes())).unwrap().0
}

fn registered(session: SessionId) -> Applied {
    Applied::Registered { nonce: NONCE, session }
}

/// A session that stands, with requests `a`, `b`, … sent and open.
fn opened(bodies: &[&str]) -> ClientSession {
    let mut client = ClientSession::new(NONCE, 8, 100);
    assert_eq!(unsent(&mut client), [Command::Register { nonce: NONCE }]);
    assert_eq!(client.on_applied(&registered(ID)), Some(SessionEvent::Opened(ID)));
    for (number, body) in (1..).zip(bodies) {
        assert_eq!(begin(&mut client, body), number);
    }
    unsent(&mut client);
    client
}

fn reply<P: Plants>(client: &mut ClientSession<P>, number: u64) -> Option<SessionEvent> {
    client.on_applied(&replied(ID, number, "r", false))
}

fn gap(number: u64, expected: u64) -> Applied {
    let (number, expected) = (RequestNumber(number), RequestNumber(expected));
    Applied::Gap { session: ID, number, expected }
}

#[test]
fn the_registration_goes_first_and_alone() {
    let mut client = ClientSession::new(NONCE, 8, 100);
    begin(&mut client, "a");
    assert_eq!(unsent(&mut client), [Command::Register { nonce: NONCE }]);
    begin(&mut client, "b");
    assert_eq!(unsent(&mut client), []);
    client.send_again();
    assert_eq!(unsent(&mut client), [Command::Register { nonce: NONCE }]);
    assert_eq!(client.id(), None);
    assert_eq!(client.on_applied(&registered(ID)), Some(SessionEvent::Opened(ID)));
    assert_eq!(client.id(), Some(ID));
    assert_eq!(unsent(&mut client), [request(ID, 1, 0, "a"), request(ID, 2, 0, "b")]);
    assert_eq!(client.on_applied(&registered(ID)), None, "registered again: nothing new");
}

#[test]
fn what_is_about_others_is_nothing() {
    let mut client = opened(&["a"]);
    let (session, number) = (SessionId::default(), RequestNumber(1));
    for applied in [
        Applied::Registered { nonce: Nonce(8), session },
        Applied::RegistrationRefused { nonce: Nonce(8) },
        replied(session, 1, "r", false),
        Applied::Gap { session, number, expected: number },
        Applied::WindowFull { session, number },
        Applied::UnknownSession { session, number },
        Applied::Ended { session },
    ] {
        assert_eq!(client.on_applied(&applied), None);
    }
    assert_eq!((client.id(), client.open_len()), (Some(ID), 1));
}

#[test]
fn a_refused_registration_is_repeated_when_asked_to_send_again() {
    let mut client = ClientSession::new(NONCE, 8, 100);
    unsent(&mut client);
    let refused = Applied::RegistrationRefused { nonce: NONCE };
    assert_eq!(client.on_applied(&refused), Some(SessionEvent::Refused));
    assert_eq!(unsent(&mut client), [], "no busy loop");
    client.send_again();
    assert_eq!(unsent(&mut client), [Command::Register { nonce: NONCE }]);
    assert_eq!(client.on_applied(&registered(ID)), Some(SessionEvent::Opened(ID)));
    assert_eq!(client.on_applied(&refused), None, "an old refusal");
}

#[test]
fn requests_carry_what_is_acknowledged_when_they_are_sent() {
    let mut client = opened(&["a", "b", "c"]);
    assert_eq!(
        reply(&mut client, 1),
        Some(SessionEvent::Reply(RequestNumber(1), Bytes::from_static(b"r")))
    );
    assert_eq!(reply(&mut client, 1), None, "a kept reply that came again");
    client.send_again();
    assert_eq!(unsent(&mut client), [request(ID, 2, 1, "b"), request(ID, 3, 1, "c")]);
    // A reply whose predecessor's got lost acknowledges nothing yet.
    assert!(reply(&mut client, 3).is_some());
    assert_eq!(client.acknowledged_upto(), RequestNumber(1));
    client.send_again();
    assert_eq!(unsent(&mut client), [request(ID, 2, 1, "b")]);
    assert!(reply(&mut client, 2).is_some());
    assert_eq!((client.acknowledged_upto(), client.open_len()), (RequestNumber(3), 0));
    assert_eq!(begin(&mut client, "d"), 4);
    assert_eq!(unsent(&mut client), [request(ID, 4, 3, "d")]);
}

#[test]
fn a_number_is_bound_to_its_bytes_for_ever() {
    let mut client = opened(&["a", "b"]);
    for _ in 0..3 {
        client.send_again();
        begin(&mut client, "more");
        let sent = unsent(&mut client);
        assert_eq!(sent[..2], [request(ID, 1, 0, "a"), request(ID, 2, 0, "b")]);
    }
    assert_eq!(client.open_numbers().map(|n| n.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

#[test]
fn a_gap_sends_again_from_what_is_due_and_once_only() {
    let mut client = opened(&["a", "b", "c", "d"]);
    reply(&mut client, 1);
    // The second got lost: the third and the fourth are both rejected.
    assert_eq!(client.on_applied(&gap(3, 2)), Some(SessionEvent::SendAgain(RequestNumber(2))));
    assert_eq!(client.on_applied(&gap(4, 2)), None);
    let again = [request(ID, 2, 1, "b"), request(ID, 3, 1, "c"), request(ID, 4, 1, "d")];
    assert_eq!(unsent(&mut client), again);
    assert_eq!(client.on_applied(&gap(4, 2)), None, "the same rejection, late");
    reply(&mut client, 2);
    assert_eq!(client.on_applied(&gap(4, 3)), Some(SessionEvent::SendAgain(RequestNumber(3))));
    assert_eq!(unsent(&mut client).len(), 2);
    // It was lost again: the time-out's turn, and the next rejection counts again.
    client.send_again();
    assert_eq!(unsent(&mut client).len(), 2);
    assert_eq!(client.on_applied(&gap(4, 3)), Some(SessionEvent::SendAgain(RequestNumber(3))));
}

#[test]
fn gaps_of_the_past_or_of_nonsense_change_nothing() {
    let mut client = opened(&["a", "b"]);
    reply(&mut client, 1);
    for expected in [0, 1, 3, u64::MAX] {
        assert_eq!(client.on_applied(&gap(2, expected)), None, "{expected}");
    }
    assert_eq!(unsent(&mut client), []);
}

#[test]
fn a_full_window_at_the_replica_sends_again_with_more_acknowledged() {
    let mut client = opened(&["a", "b", "c"]);
    reply(&mut client, 1);
    let full = Applied::WindowFull { session: ID, number: RequestNumber(2) };
    assert_eq!(client.on_applied(&full), Some(SessionEvent::SendAgain(RequestNumber(2))));
    assert_eq!(client.on_applied(&gap(3, 2)), None);
    assert_eq!(unsent(&mut client), [request(ID, 2, 1, "b"), request(ID, 3, 1, "c")]);
}

#[test]
fn the_window_is_bounded_in_count_and_bytes() {
    let mut client = ClientSession::new(NONCE, 3, 10);
    for body in ["aaa", "bbb", "ccc"] {
        begin(&mut client, body);
    }
    assert_eq!(client.begin(Bytes::new()), None, "three are open");
    unsent(&mut client);
    client.on_applied(&registered(ID));
    reply(&mut client, 2);
    assert_eq!(client.begin(Bytes::new()), None, "what is open must not span more than three");
    reply(&mut client, 1);
    assert_eq!(client.begin(Bytes::from_static(b"12345678")), None, "3 + 8 bytes");
    assert_eq!(begin(&mut client, "1234567"), 4);
    reply(&mut client, 3);
    reply(&mut client, 4);
    assert_eq!(begin(&mut client, "far above the limit of ten bytes"), 5);
    assert_eq!(client.begin(Bytes::from_static(b"x")), None);
}

#[test]
fn a_lost_session_says_so_once_and_stays_lost() {
    let number = RequestNumber(1);
    for applied in [Applied::UnknownSession { session: ID, number }, Applied::Ended { session: ID }]
    {
        let mut client = opened(&["a", "b"]);
        assert_eq!(client.on_applied(&applied), Some(SessionEvent::Lost));
        assert_eq!(client.on_applied(&applied), None);
        assert!(client.is_lost());
        assert_eq!((client.id(), client.open_len()), (None, 2));
        client.send_again();
        assert_eq!(unsent(&mut client), []);
        assert_eq!(client.begin(Bytes::new()), None);
        assert_eq!(client.on_applied(&registered(ID)), None);
        assert_eq!(reply(&mut client, 1), None);
    }
}

#[test]
fn a_later_session_of_the_same_nonce_means_that_the_first_was_ended() {
    let later = SessionId { slot: Slot(9), position: 0 };
    let mut client = opened(&["a"]);
    assert_eq!(client.on_applied(&registered(SessionId::default())), None, "news from the past");
    assert_eq!(client.on_applied(&registered(later)), Some(SessionEvent::Lost));
    assert_eq!(unsent(&mut client), []);
}

#[test]
fn the_planted_bug_gives_a_number_to_another_request() {
    let plant = Planted(Some(Plant::NumberReused));
    let mut client = ClientSession::with_plants(NONCE, 8, 100, plant);
    unsent(&mut client);
    client.on_applied(&registered(ID));
    begin(&mut client, "a");
    begin(&mut client, "b");
    assert_eq!(unsent(&mut client), [request(ID, 1, 0, "a"), request(ID, 2, 0, "b")]);
    client.send_again();
    assert_eq!(unsent(&mut client), [request(ID, 1, 0, "b"), request(ID, 2, 0, "a")]);
}
