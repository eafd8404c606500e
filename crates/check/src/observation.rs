//! What the properties are told about a run, and what they say when it breaks them.

use std::fmt;

use mainstay_model::{ReplicaId, RequestNumber, SessionId, Slot};

/// Where a command stands in the log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The slot.
    pub slot: Slot,
    /// Its position among the commands of the slot, from 0.
    pub position: u32,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.position)
    }
}

/// Something that happened at a replica or at a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The executor of a replica begins, with the state as of this slot: at every start of its
    /// process, and whenever it takes over a state that was transferred.
    Started {
        /// Where.
        replica: ReplicaId,
        /// The last slot that the state covers; 0 for the empty state.
        applied_upto: Slot,
    },
    /// A replica holds a slot for decided.
    Decided {
        /// Where.
        replica: ReplicaId,
        /// Which.
        slot: Slot,
        /// Checksum of the value.
        checksum: u32,
    },
    /// A replica's executor was given the value of a slot.
    Applied {
        /// Where.
        replica: ReplicaId,
        /// Which slot.
        slot: Slot,
        /// Checksum of the value.
        checksum: u32,
    },
    /// The service of a replica carried out a request (not: its kept reply was given again).
    Executed {
        /// Where.
        replica: ReplicaId,
        /// Where in the log the request stands.
        place: Place,
        /// Whose request.
        session: SessionId,
        /// Which of its requests.
        number: RequestNumber,
        /// Checksum of what the service was asked.
        checksum: u32,
    },
    /// A client was told the reply to a request.
    Acknowledged {
        /// Whose request.
        session: SessionId,
        /// Which of its requests.
        number: RequestNumber,
        /// Checksum of what the client asked.
        checksum: u32,
    },
    /// A replica computed the digest of its state as of a slot.
    Digest {
        /// Where.
        replica: ReplicaId,
        /// As of which slot.
        slot: Slot,
        /// The digest.
        digest: u64,
    },
}

/// A property does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: one of the names that planted bugs are expected to be found by.
    pub property: &'static str,
    /// When it showed, in nanoseconds since the run began.
    pub at: u64,
    /// What was seen, in a sentence.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.at / 1_000_000_000, self.at % 1_000_000_000 / 1_000);
        write!(f, "{} violated at {seconds}.{micros:06}s: {}", self.property, self.detail)
    }
}

impl std::error::Error for Violation {}
