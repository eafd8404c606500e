//! Random histories: the table of sessions against a twin that forgets nothing, and both halves of
//! a session over a line that loses, repeats and reorders.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mainstay_model::{Nonce, Prng, RequestNumber, SessionId, Slot};
use mainstay_service::{Applied, ClientSession, Command, SessionEvent};
use proptest::prelude::*;

use crate::checkpoint::written;
use crate::world::{LIMITS, Replica, request};

/// Every session there ever was, with every reply it was ever given.
#[derive(Default)]
struct Twin {
    sessions: Vec<TwinSession>,
    /// Who was refused one since the last trim.
    refused: BTreeSet<Nonce>,
    executed: u64,
}

struct TwinSession {
    nonce: Nonce,
    id: SessionId,
    alive: bool,
    last_use: Slot,
    acknowledged_upto: u64,
    replies: Vec<Bytes>,
}

impl Twin {
    fn alive(&mut self, id: SessionId) -> Option<&mut TwinSession> {
        self.sessions.iter_mut().find(|session| session.alive && session.id == id)
    }

    fn apply(&mut self, at: SessionId, command: &Command) -> Vec<Applied> {
        match *command {
            Command::Register { nonce } => vec![self.register(at, nonce)],
            Command::Request { session, number, acknowledged_upto, ref body } => {
                self.request(at, session, number.0, acknowledged_upto.0, body).into_iter().collect()
            }
            Command::TrimSessions { keep } => self.trim(keep as usize),
            Command::EndSession { nonce } => {
                let standing = self.sessions.iter_mut().find(|s| s.alive && s.nonce == nonce);
                let ended = standing.map(|session| {
                    session.alive = false;
                    Applied::Ended { session: session.id }
                });
                ended.into_iter().collect()
            }
            Command::SetCheckpointInterval(_) | Command::Begin { .. } => Vec::new(),
        }
    }

    fn register(&mut self, at: SessionId, nonce: Nonce) -> Applied {
        let standing = self.sessions.iter_mut().find(|s| s.alive && s.nonce == nonce);
        if let Some(session) = standing {
            session.last_use = at.slot;
            return Applied::Registered { nonce, session: session.id };
        }
        if self.sessions.iter().filter(|s| s.alive).count() == LIMITS.sessions_max as usize {
            self.refused.insert(nonce);
            return Applied::RegistrationRefused { nonce };
        }
        self.refused.remove(&nonce);
        let replies = Vec::new();
        let session = TwinSession {
            nonce,
            id: at,
            alive: true,
            last_use: at.slot,
            acknowledged_upto: 0,
            replies,
        };
        self.sessions.push(session);
        Applied::Registered { nonce, session: at }
    }

    fn request(
        &mut self,
        at: SessionId,
        id: SessionId,
        number: u64,
        acknowledged_upto: u64,
        body: &Bytes,
    ) -> Option<Applied> {
        let executed = self.executed;
        let (session, wire) = (id, RequestNumber(number));
        let Some(twin) = self.alive(id) else {
            return Some(Applied::UnknownSession { session, number: wire });
        };
        twin.last_use = at.slot;
        let applied_upto = twin.replies.len() as u64;
        twin.acknowledged_upto = twin.acknowledged_upto.max(acknowledged_upto.min(applied_upto));
        if number <= applied_upto {
            let reply = twin.replies[number.checked_sub(1)? as usize].clone();
            let wanted = number > twin.acknowledged_upto;
            return wanted.then_some(Applied::Replied {
                session,
                number: wire,
                reply,
                repeated: true,
            });
        }
        if number > applied_upto + 1 {
            let expected = RequestNumber(applied_upto + 1);
            return Some(Applied::Gap { session, number: wire, expected });
        }
        let kept = &twin.replies[twin.acknowledged_upto as usize..];
        let bytes: u64 = kept.iter().map(|reply| reply.len() as u64).sum();
        let full = kept.len() >= LIMITS.replies_max as usize || bytes >= LIMITS.reply_bytes_max;
        if full && !kept.is_empty() {
            return Some(Applied::WindowFull { session, number: wire });
        }
        let reply = match std::str::from_utf8(body).unwrap().strip_prefix("size ") {
            Some(size) => Bytes::from(vec![b'x'; size.parse().unwrap()]),
            None => Bytes::from((executed + 1).to_string()),
        };
        twin.replies.push(reply.clone());
        self.executed += 1;
        Some(Applied::Replied { session, number: wire, reply, repeated: false })
    }

    fn trim(&mut self, keep: usize) -> Vec<Applied> {
        let mut ended = Vec::new();
        let alive = self.sessions.iter().filter(|s| s.alive).count();
        let wanted = self.refused.len().saturating_sub(LIMITS.sessions_max as usize - alive);
        self.refused.clear();
        for _ in 0..wanted.min(alive.saturating_sub(keep)) {
            let idle =
                self.sessions.iter_mut().filter(|s| s.alive).min_by_key(|s| (s.last_use, s.id));
            let idle = idle.unwrap();
            idle.alive = false;
            ended.push(Applied::Ended { session: idle.id });
        }
        ended
    }
}

/// Commands over few sessions and small numbers, so that they meet; three sessions stand at first.
fn commands() -> impl Strategy<Value = Vec<Vec<Command>>> {
    let place = |(slot, position)| SessionId { slot: Slot(slot), position };
    let session = prop_oneof![
        5 => (Just(1u64), 0u32..3).prop_map(place),
        1 => (1u64..12, 0u32..3).prop_map(place),
    ];
    let body = prop_oneof![
        4 => Just("x".to_owned()),
        1 => (0usize..80).prop_map(|size| format!("size {size}")),
    ];
    let register = |nonce| Command::Register { nonce: Nonce(nonce) };
    let command = prop_oneof![
        3 => (0u128..6).prop_map(register),
        60 => (session, 0u64..9, 0u64..6, body).prop_map(|(session, number, acknowledged, body)| {
            request(session, number, acknowledged, &body)
        }),
        1 => (0u32..4).prop_map(|keep| Command::TrimSessions { keep }),
        1 => (0u128..6).prop_map(|nonce| Command::EndSession { nonce: Nonce(nonce) }),
    ];
    prop::collection::vec(prop::collection::vec(command, 0..6), 0..60).prop_map(
        move |mut batches| {
            batches.insert(0, (0..3).map(register).collect());
            batches
        },
    )
}

proptest! {
    #[test]
    fn the_table_does_what_a_twin_that_forgets_nothing_does(batches in commands()) {
        let (mut replica, mut other, mut twin) = (Replica::new(), Replica::new(), Twin::default());
        for commands in batches {
            let slot = replica.next;
            let expected: Vec<Applied> = (0..)
                .zip(&commands)
                .flat_map(|(position, command)| twin.apply(SessionId { slot, position }, command))
                .collect();
            let encoded: Vec<Bytes> = commands.iter().map(Command::encode).collect();
            prop_assert_eq!(replica.batch(slot.0, encoded.clone()), expected);
            other.batch(slot.0, encoded);
        }
        prop_assert_eq!(replica.query("count"), twin.executed.to_string());
        prop_assert_eq!(replica.applier.digest(), other.applier.digest());
        let bytes = written(&mut replica);
        prop_assert_eq!(written(&mut Replica::restore(&bytes).unwrap()), bytes);
    }

    #[test]
    fn every_request_is_carried_out_once_in_order_whatever_the_line_does(
        seed in any::<u64>(), count in 1u64..40, window in 1usize..8,
    ) {
        unreliable_line(seed, count, window)?;
    }
}

/// One client sends `count` requests to a replica over a line that loses a quarter of what passes
/// either way, repeats some and lets some overtake others.
fn unreliable_line(seed: u64, count: u64, window: usize) -> Result<(), TestCaseError> {
    let mut prng = Prng::new(seed);
    let mut replica = Replica::new();
    let mut client = ClientSession::new(Nonce(u128::from(seed)), window, 64);
    let mut replies = BTreeMap::new();
    let (mut to_replica, mut to_client) = (Vec::new(), Vec::new());
    for _round in 0..100_000 {
        if replies.len() as u64 == count {
            break;
        }
        while client.last_number().0 < count
            && client.begin(Bytes::from(format!("{}", client.last_number().0 + 1))).is_some()
        {
        }
        let mut sent = Vec::new();
        client.take_unsent(&mut sent);
        pass(&mut prng, sent, &mut to_replica);
        let arrived = to_replica.split_off(prng.below(to_replica.len() as u64 + 1) as usize);
        let applied = replica.batch(0, arrived);
        pass(&mut prng, applied, &mut to_client);
        for applied in to_client.drain(..) {
            if let Some(SessionEvent::Reply(number, reply)) = client.on_applied(&applied) {
                let before = replies.insert(number, reply);
                prop_assert_eq!(before, None, "a reply is told once");
            }
        }
        if prng.chance(1, 4) {
            client.send_again();
        }
    }
    // The journal answers with how many it carried out: each exactly once, in order.
    let expected: Vec<Bytes> = (1..=count).map(|n| Bytes::from(n.to_string())).collect();
    prop_assert_eq!(replies.into_values().collect::<Vec<_>>(), expected);
    prop_assert_eq!(replica.query("count"), count.to_string());
    prop_assert_eq!(client.open_len(), 0);
    Ok(())
}

fn pass<T: Clone>(prng: &mut Prng, sent: Vec<T>, line: &mut Vec<T>) {
    for item in sent {
        if prng.chance(1, 4) {
            continue;
        }
        let place = if prng.chance(1, 4) { prng.below(line.len() as u64 + 1) as usize } else { 0 };
        if prng.chance(1, 4) {
            line.insert(0, item.clone());
        }
        line.insert(place, item);
    }
}
