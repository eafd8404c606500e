//! Sessions, decided time and service, applied as one.

use bytes::Bytes;
use mainstay_model::{NoPlants, Nonce, Plants, RequestNumber, SessionId, Slot, Timestamp, Value};

use crate::contract::Service;
use crate::session::{SessionLimits, SessionTable};

/// What came of one command of a batch. A world hands it to whoever of its own clients waits for
/// it; at every other replica nobody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// A session stands (new, or the same nonce registered again).
    Registered {
        /// Whose registration.
        nonce: Nonce,
        /// Its session.
        session: SessionId,
    },
    /// A registration was refused: the table is full until the leader has trimmed it.
    RegistrationRefused {
        /// Whose registration.
        nonce: Nonce,
    },
    /// A request was carried out now, or had been before and its reply was kept.
    Replied {
        /// Whose.
        session: SessionId,
        /// Which.
        number: RequestNumber,
        /// What the service answered.
        reply: Bytes,
        /// Whether this is a kept reply.
        repeated: bool,
    },
    /// A request came before the one in front of it; it changed nothing and must be sent again.
    Gap {
        /// Whose.
        session: SessionId,
        /// Which came.
        number: RequestNumber,
        /// Which is due.
        expected: RequestNumber,
    },
    /// A request changed nothing because the session keeps too many unacknowledged replies.
    WindowFull {
        /// Whose.
        session: SessionId,
        /// Which.
        number: RequestNumber,
    },
    /// A request of a session that does not exist (any more): whether it was carried out before
    /// the session ended cannot be told.
    UnknownSession {
        /// Whose.
        session: SessionId,
        /// Which.
        number: RequestNumber,
    },
    /// A session was ended by the leader's command.
    Ended {
        /// Which.
        session: SessionId,
    },
}

/// Why a batch could not be applied. The replica stops executing; ordering and voting go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// The value is no batch.
    Batch(Slot),
    /// The slot is not the next one.
    Order {
        /// The slot that is due.
        expected: Slot,
        /// The slot that came.
        got: Slot,
    },
    /// The service panicked.
    Panic {
        /// In which slot.
        slot: Slot,
        /// At which request of the slot.
        position: u32,
        /// What the panic said.
        message: String,
    },
}

/// Owns the replicated state of one group at one replica: the service, the table of sessions and
/// the decided time.
#[derive(Debug)]
pub struct Applier<S, P = NoPlants> {
    _service: S,
    _sessions: SessionTable,
    _time: Timestamp,
    _applied_upto: Slot,
    _plants: P,
}

impl<S: Service, P: Plants> Applier<S, P> {
    /// Starts from an empty log with `service` as its first state. `cluster_seed` (from the cluster
    /// id) makes the seeds of the contexts.
    pub fn new(_service: S, _limits: SessionLimits, _cluster_seed: u64, _plants: P) -> Self {
        unimplemented!()
    }

    /// Applies the decided value of the next slot and appends what came of its commands to `out`,
    /// in order. A panic of the service is caught.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing may be applied afterwards.
    pub fn apply(
        &mut self,
        _slot: Slot,
        _value: &Value,
        _out: &mut Vec<Applied>,
    ) -> Result<(), ApplyError> {
        unimplemented!()
    }

    /// Answers a read-only request from the state as it is; a panic of the service is caught.
    ///
    /// # Errors
    /// What the panic said.
    pub fn query(&self, _request: &[u8], _reply: &mut Vec<u8>) -> Result<(), String> {
        unimplemented!()
    }

    /// The last slot applied.
    pub fn applied_upto(&self) -> Slot {
        self._applied_upto
    }

    /// Up to which number the requests of `session` have been applied; `None` for no such session.
    pub fn session_applied_upto(&self, _session: SessionId) -> Option<RequestNumber> {
        unimplemented!()
    }

    /// How many sessions have to go: non-zero asks the leader to order a
    /// [`crate::Command::TrimSessions`].
    pub fn sessions_over(&self) -> u32 {
        unimplemented!()
    }

    /// A digest over service, sessions, replies and time: equal at every replica that has applied
    /// the same slots.
    pub fn digest(&mut self) -> u64 {
        unimplemented!()
    }
}
