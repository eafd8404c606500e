//! What came of a request or query.

use std::fmt;

use bytes::Bytes;
use mainstay_model::{ReplicaId, Slot, Timestamp};

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a request that was not done may be wanted again"]
pub enum Outcome {
    /// It was carried out, exactly once; the service's reply.
    Done(Bytes),
    /// It was not carried out and never will be.
    NotDone(Trouble),
    /// It was or will be carried out once, or not at all: that could not be learned. With
    /// [`TroubleKind::NoAgreement`] it was carried out, and which reply is right could not be learned.
    Unknown(Trouble),
}

impl Outcome {
    /// The reply of a request that was carried out.
    ///
    /// # Errors
    /// Why there is none. Whether the request was carried out is lost by this.
    pub fn reply(self) -> Result<Bytes, Trouble> {
        match self {
            Self::Done(reply) => Ok(reply),
            Self::NotDone(trouble) | Self::Unknown(trouble) => Err(trouble),
        }
    }
}

/// The answer to a stale query, and how old it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaleReply {
    /// What the service said.
    pub reply: Bytes,
    /// The last slot that the replica had applied.
    pub slot: Slot,
    /// The decided time at that slot: nanoseconds since 1970, by the group's common clock. In a group
    /// that is idle it stands still, so that an old time alone does not mean an old state.
    pub time: Timestamp,
    /// Which replica answered.
    pub replica: ReplicaId,
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// For programs.
    pub kind: TroubleKind,
    /// For people: what the last attempt ran into, where that is known.
    pub detail: Option<String>,
}

/// The kinds of [`Trouble`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TroubleKind {
    /// No reply came in time.
    TimedOut,
    /// It is larger than the replicas take.
    TooLarge,
    /// The replica cannot make a request out of it.
    Refused,
    /// Too much has no outcome yet in this client.
    Busy,
    /// The session ended before the reply was known: it lay idle too long, or longest among too many.
    SessionLost,
    /// It was carried out, once; no quorum of the replicas gave the same reply. Only with
    /// [`crate::ReplyPolicy::Majority`].
    NoAgreement,
    /// The runtime that the client was made in has ended.
    Closed,
}

impl From<TroubleKind> for Trouble {
    fn from(kind: TroubleKind) -> Self {
        Self { kind, detail: None }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            TroubleKind::TimedOut => "no reply came in time",
            TroubleKind::TooLarge => "it is larger than the replicas take",
            TroubleKind::Refused => "the replica cannot read it as a request",
            TroubleKind::Busy => "too many requests of this client have no outcome yet",
            TroubleKind::SessionLost => "the session ended before the reply was known",
            TroubleKind::NoAgreement => {
                "it was carried out, but no quorum of the replicas gave the same reply"
            }
            TroubleKind::Closed => "the client's runtime has ended",
        })?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Trouble {}
