//! The table of sessions: which numbers were applied, and which replies may still be asked for.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use mainstay_model::{Nonce, RequestNumber, SessionId};

/// Bounds of the table. Part of the replicated behaviour: every replica must use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// How many sessions there may be before the leader is asked to end idle ones.
    pub sessions_max: u32,
    /// How many kept replies one session may have; beyond, its requests are refused until the
    /// client acknowledges.
    pub replies_max: u32,
    /// How many bytes of kept replies one session may have.
    pub reply_bytes_max: u64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { sessions_max: 4096, replies_max: 65_536, reply_bytes_max: 256 << 20 }
    }
}

/// The sessions of a group, in the order in which they were last used (log order).
#[derive(Clone, Debug)]
pub struct SessionTable {
    _limits: SessionLimits,
    _sessions: BTreeMap<SessionId, Session>,
    _by_nonce: HashMap<Nonce, SessionId>,
}

#[derive(Clone, Debug)]
struct Session {
    _nonce: Nonce,
    _applied_upto: RequestNumber,
    _acknowledged_upto: RequestNumber,
    _replies: BTreeMap<RequestNumber, Bytes>,
}
