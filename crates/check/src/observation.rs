//! What the properties are told about a run, and what they say when it breaks them.

use std::fmt;

use mainstay_model::{CheckpointId, ReplicaId, RequestNumber, SessionId, Slot, Timestamp};

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
    /// Decided time at a replica, once a slot was applied or a state as of it was taken over.
    Time {
        /// Where.
        replica: ReplicaId,
        /// As of which slot.
        slot: Slot,
        /// The time.
        time: Timestamp,
        /// When it was seen, in nanoseconds of an observer's clock.
        at: u64,
    },
    /// A replica leads from now on.
    TookOffice {
        /// Which.
        replica: ReplicaId,
        /// How far decided time may jump on that account, in nanoseconds.
        jump_max: u64,
    },
    /// An operator confirmed a jump of decided time.
    JumpConfirmed {
        /// How far it goes, in nanoseconds.
        jump: u64,
    },
    /// A client asks something whose answer shows what time it is.
    Asked {
        /// Which question.
        question: u64,
    },
    /// A client was told an answer that shows a time; one whose question was not observed counts for
    /// those that are asked later.
    Shown {
        /// Which question.
        question: u64,
        /// The time.
        time: Timestamp,
    },
    /// A replica ended a session.
    SessionEnded {
        /// Where.
        replica: ReplicaId,
        /// In which slot.
        slot: Slot,
        /// Which session.
        session: SessionId,
    },
    /// After applying a slot a replica owes a checkpoint of it.
    Due {
        /// Where.
        replica: ReplicaId,
        /// The slot.
        slot: Slot,
    },
    /// A checkpoint that a replica made of its own state is durable.
    Checkpointed {
        /// Where.
        replica: ReplicaId,
        /// Which.
        checkpoint: CheckpointId,
    },
    /// At its start a replica finds this checkpoint on its disk, intact. An earlier process made or fetched
    /// it, and may have ended before it could tell.
    Found {
        /// Where.
        replica: ReplicaId,
        /// Which.
        checkpoint: CheckpointId,
    },
    /// A replica gave a checkpoint up that it owed: it could not be written, and later ones wait.
    GivenUp {
        /// Where.
        replica: ReplicaId,
        /// The slot.
        slot: Slot,
    },
    /// A replica took over a checkpoint of others, and holds it durably.
    Installed {
        /// Where.
        replica: ReplicaId,
        /// Which.
        checkpoint: CheckpointId,
        /// How many replicas make a quorum.
        quorum: usize,
    },
    /// The log of a replica no longer holds the slots up to here.
    Discarded {
        /// Where.
        replica: ReplicaId,
        /// The highest such slot.
        upto: Slot,
        /// How many replicas make a quorum.
        quorum: usize,
    },
    /// What no program guards against has changed the state of a replica. It holds a state of its own
    /// from now on, until it takes over another one.
    Spoiled {
        /// Where.
        replica: ReplicaId,
    },
    /// A replica has found out that its state is not that of the others, and that is noted. From now on
    /// it goes on from nothing that it made of a wrong state.
    Diverged {
        /// Where.
        replica: ReplicaId,
    },
    /// A client was told what a key with an expiry holds. Nobody but that client writes the key.
    Seen {
        /// The key.
        key: u64,
        /// What it last set the key to expire at; `None` if it never has, or cannot know.
        set: Option<Timestamp>,
        /// What it read: when the key expires; `None` for no such key.
        found: Option<Timestamp>,
        /// The decided time at which it was read.
        time: Timestamp,
        /// A decided time that somebody had reached before the read was asked for.
        time_before: Timestamp,
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
