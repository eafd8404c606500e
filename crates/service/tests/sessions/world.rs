//! A replica with the log that leads to its state, around a service that remembers everything.

use std::time::Duration;

use bytes::Bytes;
use mainstay_model::{Batch, NoPlants, Nonce, Plants, RequestNumber, SessionId, Slot, Timestamp};
use mainstay_service::{
    Applied, Applier, Apply, Command, Context, Plain, QueryContext, RestoreError, SessionLimits,
};
use serde::{Deserialize, Serialize};

/// Remembers what it carried out, with the time and the seed it was told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Journal {
    pub(crate) lines: Vec<(String, u64, u64)>,
}

impl Apply for Journal {
    /// Answers with how many requests were carried out so far; `size N` with N bytes.
    fn apply(&mut self, cx: &Context, request: &[u8], reply: &mut Vec<u8>) {
        assert!(request != b"panic", "asked to");
        let text = String::from_utf8_lossy(request).into_owned();
        match text.strip_prefix("size ").map(str::parse) {
            Some(Ok(size)) => reply.resize(size, b'x'),
            _ => reply.extend_from_slice((self.lines.len() + 1).to_string().as_bytes()),
        }
        self.lines.push((text, cx.time.0, cx.seed));
    }

    /// `last` is answered with the last request, anything else with how many there were.
    fn query(&self, _: &QueryContext, request: &[u8], reply: &mut Vec<u8>) {
        match (request, self.lines.last()) {
            (b"panic", _) => {
                reply.extend_from_slice(b"half a reply");
                panic!("asked to");
            }
            (b"last", Some((text, time, seed))) => {
                reply.extend_from_slice(format!("{text} {time} {seed:x}").as_bytes());
            }
            _ => reply.extend_from_slice(self.lines.len().to_string().as_bytes()),
        }
    }
}

/// Of decided time.
pub(crate) const IDLE_MAX: Duration = Duration::from_nanos(1_000);

pub(crate) const LIMITS: SessionLimits = SessionLimits {
    sessions_max: 3,
    replies_max: 4,
    reply_bytes_max: 100,
    reply_bytes_all_max: 1 << 20,
    idle_max: IDLE_MAX,
};

#[derive(Debug)]
pub(crate) struct Replica<P = NoPlants> {
    pub(crate) applier: Applier<Plain<Journal>, P>,
    pub(crate) next: Slot,
}

impl Replica {
    /// A replica that goes on from a checkpoint.
    pub(crate) fn restore(mut bytes: &[u8]) -> Result<Self, RestoreError> {
        let applier = Applier::restore(&mut bytes, NoPlants)?;
        let next = applier.applied_upto().next();
        Ok(Self { applier, next })
    }

    pub(crate) fn new() -> Self {
        Self::planted(NoPlants)
    }
}

impl<P: Plants> Replica<P> {
    pub(crate) fn planted(plants: P) -> Self {
        let applier = Applier::new(Plain(Journal::default()), LIMITS, plants);
        Self { applier, next: Slot::FIRST }
    }

    pub(crate) fn batch(&mut self, time: u64, requests: Vec<Bytes>) -> Vec<Applied> {
        let mut out = Vec::new();
        let value = Batch { time: Timestamp(time), requests }.encode();
        self.applier.apply(self.next, &value, &mut out).unwrap();
        self.next = self.next.next();
        out
    }

    /// Applies one command in a slot of its own.
    pub(crate) fn one(&mut self, command: &Command) -> Vec<Applied> {
        self.batch(0, vec![command.encode()])
    }

    pub(crate) fn open(&mut self, nonce: u128) -> SessionId {
        match self.one(&Command::Register { nonce: Nonce(nonce) })[..] {
            [Applied::Registered { session, .. }] => session,
            ref other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ask(&mut self, session: SessionId, number: u64, body: &str) -> Vec<Applied> {
        self.one(&request(session, number, 0, body))
    }

    pub(crate) fn query(&self, request: &str) -> String {
        let mut reply = Vec::new();
        self.applier.query(Timestamp(0), request.as_bytes(), &mut reply).unwrap();
        String::from_utf8(reply).unwrap()
    }
}

pub(crate) fn request(
    session: SessionId,
    number: u64,
    acknowledged_upto: u64,
    body: &str,
) -> Command {
    Command::Request {
        session,
        number: RequestNumber(number),
        acknowledged_upto: RequestNumber(acknowledged_upto),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

pub(crate) fn replied(session: SessionId, number: u64, reply: &str, repeated: bool) -> Applied {
    Applied::Replied {
        session,
        number: RequestNumber(number),
        reply: Bytes::copy_from_slice(reply.as_bytes()),
        repeated,
    }
}
