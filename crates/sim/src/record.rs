//! What is noted down during a run for the checkers.

use std::collections::BTreeMap;

use mainstay_model::{RequestNumber, SessionId, Slot, Value};
use mainstay_service::Applied;

use crate::registers::{Answer, Request};
use crate::world::NodeId;

/// Names an operation of a client in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub usize);

/// How an operation reached the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Through a replica's own session.
    Front,
    /// In the client's session.
    Session,
}

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing is known yet, or never will be.
    Unknown,
    /// It was certainly not carried out.
    NotDone,
    /// It was answered.
    Done {
        /// When the answer came, in nanoseconds of virtual time.
        time: u64,
        /// What it said.
        answer: Answer,
    },
}

/// An operation of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Who asked.
    pub client: NodeId,
    /// How.
    pub origin: Origin,
    /// What.
    pub request: Request,
    /// When, in nanoseconds of virtual time.
    pub time: u64,
    /// What became of it.
    pub fate: Fate,
}

/// Everything that checkers look at.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The history of the clients.
    pub history: Vec<Invocation>,
    decided: BTreeMap<Slot, Value>,
    digests: BTreeMap<Slot, u64>,
}

impl Recorder {
    /// A client asks something.
    pub fn invoked(
        &mut self,
        client: NodeId,
        origin: Origin,
        request: &Request,
        time: u64,
    ) -> OperationId {
        let request = request.clone();
        self.history.push(Invocation { client, origin, request, time, fate: Fate::Unknown });
        OperationId(self.history.len() - 1)
    }

    /// It was answered.
    pub fn done(&mut self, operation: OperationId, time: u64, answer: Answer) {
        self.history[operation.0].fate = Fate::Done { time, answer };
    }

    /// It was certainly not carried out.
    pub fn not_done(&mut self, operation: OperationId) {
        self.history[operation.0].fate = Fate::NotDone;
    }

    /// Nobody will ever know.
    pub fn unknown(&mut self, operation: OperationId) {
        self.history[operation.0].fate = Fate::Unknown;
    }

    /// A client has the reply to a request of its session.
    pub fn acknowledged(&mut self, _session: SessionId, _number: RequestNumber) {}

    /// A replica holds the value of a slot for decided.
    pub(crate) fn delivered(&mut self, node: NodeId, slot: Slot, value: &Value) -> Option<String> {
        let first = self.decided.entry(slot).or_insert_with(|| value.clone());
        (first != value).then(|| {
            format!("slot {slot} is {value:?} at replica {} and {first:?} elsewhere", node.0)
        })
    }

    /// The last slot that anyone delivered.
    #[must_use]
    pub fn decided_upto(&self) -> Slot {
        self.decided.last_key_value().map_or(Slot::NONE, |(slot, _)| *slot)
    }

    /// A replica has applied a slot.
    pub(crate) fn applied(
        &mut self,
        node: NodeId,
        slot: Slot,
        _applied: &[Applied],
        digest: u64,
    ) -> Option<String> {
        let first = *self.digests.entry(slot).or_insert(digest);
        (first != digest).then(|| {
            format!("after slot {slot} the digest is {digest:x} at {} and was {first:x}", node.0)
        })
    }
}
