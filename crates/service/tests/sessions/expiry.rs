//! Sessions that end because nobody uses them: by decided time, at every replica at the same slot.

use std::time::Duration;

use mainstay_model::{Batch, NoPlants, Nonce, Prng, RequestNumber, SessionId, Slot, Timestamp};
use mainstay_service::{Applied, Applier, Command, Plain, SessionLimits};

use crate::checkpoint::written;
use crate::world::{IDLE_MAX, Journal, LIMITS, Replica, replied, request};

const IDLE: u64 = IDLE_MAX.as_nanos() as u64;

fn register(nonce: u128) -> bytes::Bytes {
    Command::Register { nonce: Nonce(nonce) }.encode()
}

fn ended(session: SessionId) -> Applied {
    Applied::Ended { session }
}

fn unknown(session: SessionId, number: u64) -> Applied {
    Applied::UnknownSession { session, number: RequestNumber(number) }
}

#[test]
fn a_session_ends_at_the_first_slot_at_which_it_was_idle_for_long_enough() {
    let mut replica = Replica::new();
    let [idle, used] = [1, 2].map(|nonce| replica.open(nonce));
    assert_eq!(
        replica.batch(IDLE - 1, vec![request(used, 1, 0, "a").encode()]),
        [replied(used, 1, "1", false)]
    );
    assert_eq!(replica.batch(IDLE, vec![]), [ended(idle)], "a tick for whatever reason does it");
    assert_eq!(replica.ask(idle, 1, "b"), [unknown(idle, 1)]);
    assert_eq!(replica.batch(2 * IDLE - 2, vec![]), []);
    // A repeated request is a use, and so is one that was not due.
    let again = request(used, 1, 0, "a").encode();
    assert_eq!(replica.batch(2 * IDLE - 2, vec![again]), [replied(used, 1, "1", true)]);
    let gap = replica.batch(3 * IDLE - 3, vec![request(used, 7, 0, "g").encode()]);
    assert!(matches!(gap[..], [Applied::Gap { .. }]));
    assert_eq!(replica.batch(4 * IDLE - 4, vec![]), []);
    assert_eq!(replica.batch(4 * IDLE - 3, vec![]), [ended(used)]);
    assert_eq!(replica.batch(u64::MAX, vec![]), [], "nobody is left");
}

#[test]
fn a_request_in_the_slot_in_which_its_session_would_end_keeps_it() {
    let mut replica = Replica::new();
    let [first, second] = [1, 2].map(|nonce| replica.open(nonce));
    let out = replica.batch(5 * IDLE, vec![request(second, 1, 0, "a").encode()]);
    assert_eq!(out, [replied(second, 1, "1", false), ended(first)]);
}

/// atomix#330, atomix#982: the clock of a new leader is far behind or ahead of the last one's. A
/// session lives from the decided time at its registration, which never goes back.
#[test]
fn a_session_is_never_idle_before_it_is_registered_whatever_the_leaders_clock_says() {
    let mut replica = Replica::new();
    replica.batch(100 * IDLE, vec![]);
    let opened = replica.batch(3, vec![register(1)]);
    let [Applied::Registered { session, .. }] = opened[..] else { panic!("{opened:?}") };
    assert_eq!(replica.batch(4, vec![]), []);
    assert_eq!(replica.batch(101 * IDLE - 1, vec![]), [], "counted from the decided time");
    assert_eq!(replica.batch(101 * IDLE, vec![]), [ended(session)]);

    // Registered by a leader whose clock is ahead by an age, in one slot with that jump.
    let opened = replica.batch(900 * IDLE, vec![register(2), register(2)]);
    let [Applied::Registered { session, .. }, _] = opened[..] else { panic!("{opened:?}") };
    let asked = request(session, 1, 0, "a").encode();
    assert_eq!(replica.batch(5, vec![asked]), [replied(session, 1, "1", false)]);
}

/// copycat#232: whoever comes when an idle session was due to end finds its place free.
#[test]
fn an_idle_session_makes_way_for_a_registration_in_the_slot_in_which_it_is_due() {
    let mut replica = Replica::new();
    let [first, second, third] = [1, 2, 3].map(|nonce| replica.open(nonce));
    replica.batch(IDLE - 1, vec![request(second, 1, 0, "a").encode()]);
    assert_eq!(
        replica.batch(IDLE - 1, vec![register(4)]),
        [Applied::RegistrationRefused { nonce: Nonce(4) }]
    );
    let session = SessionId { slot: Slot(6), position: 0 };
    let nonce = Nonce(4);
    assert_eq!(
        replica.batch(IDLE, vec![register(4)]),
        [Applied::Registered { nonce, session }, ended(first), ended(third),]
    );
    assert_eq!(replica.applier.sessions_over(), 0, "nobody waits for room any more");
}

/// tigerbeetle#2153: a registration that is ordered again after its session ended opens another
/// session; the requests of the first one never reach it.
#[test]
fn a_registration_that_comes_again_after_the_end_does_not_revive_the_session() {
    let mut replica = Replica::new();
    let first = replica.open(1);
    replica.ask(first, 1, "a");
    assert_eq!(replica.batch(IDLE, vec![]), [ended(first)]);
    let opened = replica.batch(IDLE, vec![register(1), request(first, 1, 0, "a").encode()]);
    let [Applied::Registered { session, .. }, ref other] = opened[..] else { panic!("{opened:?}") };
    assert_ne!(session, first);
    assert_eq!(*other, unknown(first, 1), "carried out once, and not again");
    assert_eq!(replica.query("count"), "1");
}

#[test]
fn one_slot_ends_a_bounded_number_and_the_next_ones_end_the_others() {
    let limits = SessionLimits { sessions_max: 1000, ..LIMITS };
    let mut applier = Applier::new(Plain(Journal::default()), limits, NoPlants);
    let mut apply = |slot: u64, time: u64, requests: Vec<bytes::Bytes>| {
        let mut out = Vec::new();
        let value = Batch { time: Timestamp(time), requests }.encode();
        applier.apply(Slot(slot), &value, &mut out).unwrap();
        out
    };
    apply(1, 0, (0..150).map(register).collect());
    let all: Vec<_> = (2..6)
        .flat_map(|slot| {
            let ended = apply(slot, IDLE, vec![]);
            assert!(ended.len() <= 64);
            ended
        })
        .collect();
    let expected = (0..150).map(|position| ended(SessionId { slot: Slot(1), position }));
    assert!(all.into_iter().eq(expected));
}

#[test]
fn without_a_bound_on_idleness_nothing_ends() {
    let limits = SessionLimits { idle_max: Duration::MAX, ..LIMITS };
    let applier = Applier::new(Plain(Journal::default()), limits, NoPlants);
    let mut replica = Replica { applier, next: Slot::FIRST };
    replica.open(1);
    assert_eq!(replica.batch(u64::MAX - 1, vec![]), []);
}

/// The limits under which a group began go with its checkpoint; what a program has by default does
/// not matter any more.
#[test]
fn whoever_goes_on_from_a_checkpoint_ends_the_same_sessions_at_the_same_slots() {
    for seed in 0..200 {
        let mut prng = Prng::new(seed);
        let mut straight = Replica::new();
        let mut restored = Replica::new();
        let (mut time, mut sessions) = (0, Vec::new());
        for _ in 0..100 {
            time += prng.below(IDLE / 2);
            let requests = (0..prng.below(3)).map(|_| match prng.pick(&sessions) {
                Some(&session) if prng.chance(3, 4) => {
                    request(session, 1 + prng.below(3), prng.below(2), "x").encode()
                }
                _ => register(u128::from(prng.below(5))),
            });
            let requests: Vec<_> = requests.collect();
            let out = straight.batch(time, requests.clone());
            assert_eq!(restored.batch(time, requests), out, "seed {seed}");
            sessions.extend(out.into_iter().filter_map(|applied| match applied {
                Applied::Registered { session, .. } => Some(session),
                _ => None,
            }));
            if prng.chance(1, 5) {
                restored = Replica::restore(&written(&mut restored)).unwrap();
            }
            assert_eq!(straight.applier.digest(), restored.applier.digest(), "seed {seed}");
        }
    }
}
