//! What a request may meet when it is applied, and that nothing of it depends on anything but the
//! log.

use std::io;

use crate::world::{Journal, LIMITS, Replica, replied, request};
use bytes::Bytes;
use mainstay_model::plant::Planted;
use mainstay_model::{
    Batch, NoPlants, Nonce, Plant, RequestNumber, SessionId, Slot, Timestamp, Value,
};
use mainstay_service::{
    Applied, Applier, ApplyError, Checkpoint, Command, Context, Plain, QueryContext, RestoreError,
    Secret, Service, SessionLimits,
};

#[test]
fn a_request_is_carried_out_once_and_answered_as_often_as_it_comes() {
    let mut replica = Replica::new();
    let session = replica.open(1);
    assert_eq!(replica.ask(session, 1, "a"), [replied(session, 1, "1", false)]);
    assert_eq!(replica.ask(session, 1, "a"), [replied(session, 1, "1", true)]);
    assert_eq!(replica.ask(session, 2, "b"), [replied(session, 2, "2", false)]);
    assert_eq!(replica.ask(session, 1, "a"), [replied(session, 1, "1", true)]);
    assert_eq!(replica.query("count"), "2");
    assert_eq!(replica.applier.session_applied_upto(session), Some(RequestNumber(2)));
}

#[test]
fn duplicates_inside_one_batch_are_told_apart_too() {
    let mut replica = Replica::new();
    let session = replica.open(1);
    let commands = [1, 2, 1, 2, 3].map(|number| request(session, number, 0, "x").encode());
    let out = replica.batch(0, commands.to_vec());
    assert_eq!(
        out,
        [
            replied(session, 1, "1", false),
            replied(session, 2, "2", false),
            replied(session, 1, "1", true),
            replied(session, 2, "2", true),
            replied(session, 3, "3", false),
        ]
    );
}

#[test]
fn a_gap_changes_nothing_and_names_what_is_due() {
    let mut replica = Replica::new();
    let session = replica.open(1);
    let (number, expected) = (RequestNumber(2), RequestNumber(1));
    assert_eq!(replica.ask(session, 2, "b"), [Applied::Gap { session, number, expected }]);
    assert_eq!(replica.query("count"), "0");
    assert_eq!(replica.ask(session, 1, "a"), [replied(session, 1, "1", false)]);
    assert_eq!(replica.ask(session, 2, "b"), [replied(session, 2, "2", false)]);
}

#[test]
fn a_reply_is_kept_until_acknowledged_and_then_the_request_is_ignored() {
    let mut replica = Replica::new();
    let session = replica.open(1);
    replica.ask(session, 1, "a");
    replica.ask(session, 2, "b");
    assert_eq!(
        replica.one(&request(session, 3, 1, "c")),
        [replied(session, 3, "3", false)],
        "acknowledges the first"
    );
    assert_eq!(replica.ask(session, 1, "a"), []);
    assert_eq!(replica.ask(session, 2, "b"), [replied(session, 2, "2", true)]);
    assert_eq!(replica.ask(session, 0, "z"), [], "there is no request 0");
    assert_eq!(replica.query("count"), "3");
}

#[test]
fn more_than_was_applied_cannot_be_acknowledged() {
    let mut replica = Replica::new();
    let session = replica.open(1);
    replica.one(&request(session, 1, u64::MAX, "a"));
    assert_eq!(replica.ask(session, 1, "a"), [replied(session, 1, "1", true)]);
    replica.one(&request(session, 2, u64::MAX, "b"));
    assert_eq!(replica.ask(session, 1, "a"), []);
    assert_eq!(replica.ask(session, 2, "b"), [replied(session, 2, "2", true)]);
}

#[test]
fn too_many_kept_replies_hold_requests_back_until_some_are_acknowledged() {
    let mut replica = Replica::new();
    let session = replica.open(1);
    for number in 1..=4 {
        replica.ask(session, number, "x");
    }
    let number = RequestNumber(5);
    assert_eq!(replica.ask(session, 5, "x"), [Applied::WindowFull { session, number }]);
    let behind = Applied::Gap { session, number: RequestNumber(6), expected: number };
    assert_eq!(replica.ask(session, 6, "x"), [behind]);
    assert_eq!(replica.ask(session, 4, "x"), [replied(session, 4, "4", true)], "still kept");
    assert_eq!(replica.one(&request(session, 5, 1, "x")), [replied(session, 5, "5", false)]);
    assert_eq!(replica.query("count"), "5");
}

#[test]
fn too_many_bytes_of_kept_replies_do_the_same() {
    let mut replica = Replica::new();
    let session = replica.open(1);
    replica.ask(session, 1, "size 1000");
    let number = RequestNumber(2);
    assert_eq!(replica.ask(session, 2, "x"), [Applied::WindowFull { session, number }]);
    assert_eq!(replica.one(&request(session, 2, 1, "x")), [replied(session, 2, "2", false)]);
}

#[test]
fn limits_of_nothing_still_let_one_request_through() {
    let limits = SessionLimits { sessions_max: 1, replies_max: 0, reply_bytes_max: 0, ..LIMITS };
    let applier = Applier::new(Plain(Journal::default()), limits, NoPlants);
    let mut replica = Replica { applier, next: Slot::FIRST };
    let session = replica.open(1);
    for number in 1..10 {
        let out = replica.one(&request(session, number, number - 1, "x"));
        assert_eq!(out, [replied(session, number, &number.to_string(), false)]);
    }
}

/// tigerbeetle#2153: a registration that is ordered again must not make a second session.
#[test]
fn a_nonce_has_one_session_however_often_it_registers() {
    let mut replica = Replica::new();
    let session = replica.open(7);
    assert_eq!(session, SessionId { slot: Slot(1), position: 0 });
    replica.ask(session, 1, "a");
    assert_eq!(replica.open(7), session);
    let nonce = Nonce(7);
    let again = Command::Register { nonce }.encode();
    let standing = Applied::Registered { nonce, session };
    assert_eq!(replica.batch(0, vec![again.clone(), again]), [standing.clone(), standing]);
    assert_eq!(replica.ask(session, 1, "a"), [replied(session, 1, "1", true)]);
    let other =
        replica.batch(0, vec![Bytes::new(), Command::Register { nonce: Nonce(8) }.encode()]);
    let session = SessionId { slot: replica.applier.applied_upto(), position: 1 };
    assert_eq!(other, [Applied::Registered { nonce: Nonce(8), session }], "named by its place");
}

#[test]
fn an_unknown_session_is_an_error_and_never_silently_a_new_one() {
    let mut replica = Replica::new();
    let session = SessionId { slot: Slot(9), position: 9 };
    let number = RequestNumber(1);
    assert_eq!(replica.ask(session, 1, "a"), [Applied::UnknownSession { session, number }]);
    assert_eq!(replica.query("count"), "0");
    assert_eq!(replica.applier.session_applied_upto(session), None);
}

#[test]
fn a_full_table_refuses_and_asks_for_the_idlest_to_be_ended() {
    let mut replica = Replica::new();
    let [first, second, third] = [1, 2, 3].map(|nonce| replica.open(nonce));
    assert_eq!(
        (replica.applier.sessions_over(), replica.applier.trim()),
        (0, None),
        "full is fine"
    );
    replica.ask(first, 1, "a");
    assert_eq!(replica.open(2), second, "to register again is use as well");

    let refused = [Applied::RegistrationRefused { nonce: Nonce(4) }];
    for _ in 0..5 {
        assert_eq!(replica.one(&Command::Register { nonce: Nonce(4) }), refused);
    }
    assert_eq!(replica.applier.sessions_over(), 1, "one client, however often it asked");
    let trim = replica.applier.trim().unwrap();
    assert_eq!(replica.one(&trim), [Applied::Ended { session: third }]);
    assert_eq!(replica.one(&trim), [], "a repeated trim ends nothing more");
    assert_eq!(replica.applier.sessions_over(), 0);

    let number = RequestNumber(1);
    let gone = Applied::UnknownSession { session: third, number };
    assert_eq!(replica.ask(third, 1, "late"), [gone]);
    assert_eq!(replica.ask(first, 1, "a"), [replied(first, 1, "1", true)], "kept over the trim");
    let fourth = replica.open(4);
    assert!(fourth > third);
    assert_ne!(replica.one(&Command::Register { nonce: Nonce(3) }), [], "refused, not revived");
    assert_eq!(replica.applier.sessions_over(), 1);
}

#[test]
fn sessions_end_in_the_order_of_their_last_use_in_the_log() {
    let mut replica = Replica::new();
    let [first, second, third] = [1, 2, 3].map(|nonce| replica.open(nonce));
    replica.ask(second, 1, "x");
    replica.ask(first, 5, "a gap");
    let ended = [third, second, first].map(|session| Applied::Ended { session });
    refuse_three(&mut replica);
    assert_eq!(replica.one(&Command::TrimSessions { keep: 0 }), ended);

    let [first, second, third] = [1, 2, 3].map(|nonce| replica.open(nonce));
    replica.batch(0, [third, second].map(|id| request(id, 1, 0, "x").encode()).to_vec());
    let ended = [first, second, third].map(|session| Applied::Ended { session });
    refuse_three(&mut replica);
    assert_eq!(replica.one(&Command::TrimSessions { keep: 0 }), ended, "by age inside a slot");
}

/// Three more clients want a session, and the table is full.
fn refuse_three(replica: &mut Replica) {
    for nonce in [11, 12, 13].map(Nonce) {
        let refused = [Applied::RegistrationRefused { nonce }];
        assert_eq!(replica.one(&Command::Register { nonce }), refused);
    }
}

#[test]
fn the_same_trim_ordered_twice_ends_no_session_that_took_the_room() {
    let mut replica = Replica::new();
    let [first, second, third] = [1, 2, 3].map(|nonce| replica.open(nonce));
    replica.ask(first, 1, "a");
    replica.one(&Command::Register { nonce: Nonce(4) });
    let trim = replica.applier.trim().unwrap();
    assert_eq!(replica.one(&trim), [Applied::Ended { session: second }]);
    // Who was refused takes the room, and then the leader's command comes once more.
    let fourth = replica.open(4);
    assert_eq!(replica.one(&trim), []);
    for session in [first, third, fourth] {
        assert!(replica.applier.session_applied_upto(session).is_some(), "{session}");
    }
}

#[test]
fn a_client_that_goes_ends_its_session_and_only_its_own() {
    let mut replica = Replica::new();
    let [first, second, _] = [1, 2, 3].map(|nonce| replica.open(nonce));
    replica.ask(first, 1, "size 90");
    let end = Command::EndSession { nonce: Nonce(1) };
    assert_eq!(Command::decode(end.encode()), Ok(end.clone()));
    assert_eq!(replica.one(&end), [Applied::Ended { session: first }]);
    assert_eq!(replica.one(&end), [], "once");
    assert_eq!(replica.one(&Command::EndSession { nonce: Nonce(9) }), [], "nobody's");
    assert_eq!((replica.applier.sessions_len(), replica.applier.kept_bytes()), (2, 0));
    let number = RequestNumber(2);
    assert_eq!(replica.ask(first, 2, "late"), [Applied::UnknownSession { session: first, number }]);
    assert_eq!(replica.ask(second, 1, "a"), [replied(second, 1, "2", false)]);
    // There is room for another one at once.
    assert!(replica.open(4) > second);
}

/// Replies of a thousand clients that came, asked once, and went without a word.
#[test]
fn clients_that_went_without_a_word_keep_no_more_than_a_bound_and_end_nobody_who_keeps_little() {
    const ALL: u64 = 1 << 20;
    let limits = SessionLimits {
        sessions_max: 2_000,
        replies_max: 1_000,
        reply_bytes_max: 1 << 18,
        reply_bytes_all_max: ALL,
        ..LIMITS
    };
    let applier = Applier::new(Plain(Journal::default()), limits, NoPlants);
    let mut replica = Replica { applier, next: Slot::FIRST };
    let quiet: Vec<SessionId> = (0..100).map(|nonce| replica.open(nonce)).collect();
    for session in &quiet {
        replica.ask(*session, 1, "a");
    }
    let (mut most, mut ended) = (0, Vec::new());
    for nonce in 1_000..2_000 {
        let session = replica.open(nonce);
        for applied in replica.ask(session, 1, "size 16384") {
            if let Applied::Ended { session } = applied {
                ended.push(session);
            }
        }
        most = most.max(replica.applier.kept_bytes());
    }
    assert!(most <= ALL, "{most} bytes");
    assert!(ended.is_sorted() && ended.len() > 900, "{} ended", ended.len());
    for session in &quiet {
        assert_eq!(replica.ask(*session, 1, "a").len(), 1, "kept, and answered from what is kept");
    }
    let before = replica.applier.kept_bytes();
    let mut restored = Vec::new();
    replica.applier.checkpoint().unwrap().write(&mut restored).unwrap();
    assert_eq!(Replica::restore(&restored).unwrap().applier.kept_bytes(), before);
}

#[test]
fn empty_replies_are_bounded_as_well() {
    let limits = SessionLimits { replies_max: 10_000, reply_bytes_all_max: 64_000, ..LIMITS };
    let applier = Applier::new(Plain(Journal::default()), limits, NoPlants);
    let mut replica = Replica { applier, next: Slot::FIRST };
    let [first, second] = [1, 2].map(|nonce| replica.open(nonce));
    for number in 1..=900 {
        assert_eq!(replica.ask(first, number, "size 0").len(), 1);
    }
    let mut ended = Vec::new();
    for number in 1..=400 {
        ended.extend(replica.ask(second, number, "size 0").into_iter().skip(1));
    }
    assert_eq!(ended, [Applied::Ended { session: first }]);
    assert_eq!(replica.applier.kept_bytes(), 400 * 64);
}

#[test]
fn decided_time_never_goes_back_and_seeds_differ_by_place_and_secret() {
    let run = |secret| {
        let mut replica = Replica::new();
        replica.one(&Command::Begin { secret: Secret(secret) });
        let session = replica.open(1);
        let mut seen = Vec::new();
        for (number, time) in (1..).zip([5, 9, 3, 10]) {
            let acknowledged = request(session, number, number - 1, "x");
            replica.batch(time, vec![acknowledged.encode()]);
            seen.push(replica.query("last"));
        }
        assert_eq!(replica.applier.time(), Timestamp(10));
        seen
    };
    let seen = run(1);
    let times: Vec<&str> = seen.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(times, ["5", "9", "9", "10"]);
    let seeds = |seen: &[String]| -> Vec<String> {
        seen.iter().map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect()
    };
    let mut all = seeds(&seen);
    assert_eq!(all, seeds(&run(1)), "the same at every replica");
    all.extend(seeds(&run(2)));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 8);
}

/// Told of each beginning of its log.
#[derive(Debug, Default)]
struct Beginnings(Vec<Secret>);

struct Nothing;

impl Checkpoint for Nothing {
    fn write(&self, _: &mut dyn io::Write) -> io::Result<()> {
        Ok(())
    }
}

impl Service for Beginnings {
    type Checkpoint = Nothing;

    fn begin(&mut self, secret: Secret) {
        self.0.push(secret);
    }

    fn apply(&mut self, _: &Context, _: &[u8], _: &mut Vec<u8>) {}

    fn query(&self, _: &QueryContext, _: &[u8], reply: &mut Vec<u8>) {
        reply.extend(self.0.iter().flat_map(|secret| secret.0.to_le_bytes()));
    }

    fn checkpoint(&mut self) -> Nothing {
        Nothing
    }

    fn restore(_: &mut dyn io::Read) -> Result<Self, RestoreError> {
        Ok(Self::default())
    }

    fn version() -> u32 {
        1
    }
}

#[test]
fn a_log_begins_once_and_nowhere_but_at_its_beginning() {
    let begin = |secret| Command::Begin { secret: Secret(secret) }.encode();
    let run = |slots: [Vec<Bytes>; 2]| {
        let mut applier = Applier::new(Beginnings::default(), LIMITS, NoPlants);
        for (slot, requests) in (1..).zip(slots) {
            let value = Batch { time: Timestamp(slot), requests }.encode();
            applier.apply(Slot(slot), &value, &mut Vec::new()).unwrap();
        }
        let mut told = Vec::new();
        applier.query(Timestamp(0), b"", &mut told).unwrap();
        (told, applier.digest())
    };
    let (once, digest) = run([vec![begin(7)], vec![]]);
    assert_eq!(once, 7u128.to_le_bytes());
    let (told, _) = run([vec![begin(7), begin(8)], vec![begin(9)]]);
    assert_eq!(told, once, "elsewhere it means nothing");
    assert_eq!(run([vec![], vec![begin(9)]]).0, [], "in a log that began without one, too");
    assert_ne!(digest, run([vec![begin(8)], vec![]]).1, "it is part of the digest");
}

#[test]
fn bytes_that_are_no_command_are_skipped() {
    let mut replica = Replica::new();
    let session = replica.open(1);
    let garbage = [&b""[..], b"\xff", b"\x01short", b"\x02short"].map(Bytes::from_static);
    let mut requests = garbage.to_vec();
    requests.push(request(session, 1, 0, "a").encode());
    assert_eq!(replica.batch(0, requests), [replied(session, 1, "1", false)]);
    assert_eq!(replica.applier.undecodable(), 4);
}

#[test]
fn a_panic_stops_the_executor_and_names_slot_and_request() {
    let mut replica = Replica::new();
    let session = replica.open(1);
    let bodies = ["fine", "panic", "never"];
    let requests =
        (1..).zip(bodies).map(|(n, body)| request(session, n, 0, body).encode()).collect();
    let value = Batch { time: Timestamp(0), requests }.encode();
    let mut out = Vec::new();
    let error = replica.applier.apply(Slot(2), &value, &mut out).unwrap_err();
    let message = "asked to".to_owned();
    assert_eq!(error, ApplyError::Panic { slot: Slot(2), position: Some(1), message });
    assert_eq!(error.to_string(), "the service panicked in slot 2 at request 1: asked to");
    assert_eq!(out, [replied(session, 1, "1", false)], "what stood before it was carried out");

    let no_op = Value::no_op(Timestamp(0));
    assert_eq!(replica.applier.apply(Slot(2), &no_op, &mut out), Err(error.clone()));
    assert_eq!(replica.applier.apply(Slot(3), &no_op, &mut out), Err(error.clone()));
    assert_eq!(replica.applier.applied_upto(), Slot(1));
    assert_eq!(replica.applier.stopped(), Some(&error));
    assert_eq!(
        replica.applier.query(Timestamp(0), b"count", &mut Vec::new()),
        Err(error.to_string())
    );
    assert_eq!(replica.applier.digest(), None);
    assert_eq!(replica.applier.wake(), None);
}

#[test]
fn a_panic_in_a_query_fails_that_query_only() {
    let mut replica = Replica::new();
    let session = replica.open(1);
    let mut reply = b"before ".to_vec();
    assert_eq!(
        replica.applier.query(Timestamp(0), b"panic", &mut reply),
        Err("asked to".to_owned())
    );
    assert_eq!(reply, b"before ");
    assert_eq!(replica.ask(session, 1, "a"), [replied(session, 1, "1", false)]);
    assert_eq!(replica.query("count"), "1");
}

#[test]
fn slots_are_applied_in_order_without_holes() {
    for got in [0, 2, 3, u64::MAX].map(Slot) {
        let mut replica = Replica::new();
        let error = ApplyError::Order { expected: Slot(1), got };
        let no_op = Value::no_op(Timestamp(0));
        assert_eq!(replica.applier.apply(got, &no_op, &mut Vec::new()), Err(error.clone()));
        assert_eq!(replica.applier.apply(Slot(1), &no_op, &mut Vec::new()), Err(error));
    }
}

#[test]
fn a_value_that_is_no_batch_stops_the_executor() {
    let mut replica = Replica::new();
    let value = Value::new(Bytes::from_static(b"nonsense"));
    let error = ApplyError::Batch(Slot(1));
    assert_eq!(replica.applier.apply(Slot(1), &value, &mut Vec::new()), Err(error));
}

#[test]
fn equal_logs_have_equal_digests_and_everything_replicated_shows_in_it() {
    type Step = fn(&mut Replica, SessionId);
    let digest_after = |steps: &[Step]| {
        let mut replica = Replica::new();
        let session = replica.open(1);
        steps.iter().for_each(|step| step(&mut replica, session));
        let digest = replica.applier.digest().unwrap();
        assert_eq!(replica.applier.digest(), Some(digest), "to look changes nothing");
        digest
    };
    let steps: [&[Step]; 9] = [
        &[],
        &[|r, _| drop(r.batch(0, vec![]))],
        &[|r, _| drop(r.batch(1, vec![]))],
        &[|r, s| drop(r.ask(s, 1, "a"))],
        &[|r, s| drop(r.ask(s, 1, "b"))],
        &[|r, s| drop(r.ask(s, 1, "a")), |r, s| drop(r.ask(s, 1, "a"))],
        &[|r, s| drop(r.ask(s, 1, "a")), |r, s| drop(r.one(&request(s, 1, 1, "a")))],
        &[|r, _| assert_ne!(r.open(2), SessionId::default())],
        &[|r, _| drop(r.one(&Command::EndSession { nonce: Nonce(1) }))],
    ];
    let mut digests: Vec<u64> = steps.iter().map(|steps| digest_after(steps)).collect();
    assert_eq!(digests, steps.iter().map(|steps| digest_after(steps)).collect::<Vec<_>>());
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), steps.len(), "each of them leads to another state");
}

#[test]
fn planted_bugs_do_what_their_names_say() {
    let mut replica = Replica::planted(Planted(Some(Plant::DuplicateApplied)));
    let session = replica.open(1);
    replica.ask(session, 1, "a");
    assert_eq!(replica.ask(session, 1, "a"), [replied(session, 1, "2", false)]);

    let mut replica = Replica::planted(Planted(Some(Plant::ReplyLost)));
    let session = replica.open(1);
    replica.ask(session, 1, "a");
    assert_eq!(replica.ask(session, 1, "a"), [replied(session, 1, "", true)]);

    let mut replica = Replica::planted(Planted(Some(Plant::GapApplied)));
    let session = replica.open(1);
    assert_eq!(replica.ask(session, 3, "c"), [replied(session, 3, "1", false)]);
    assert_eq!(replica.ask(session, 2, "b"), [replied(session, 2, "", true)], "never carried out");
}
