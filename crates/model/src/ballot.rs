//! Ballots: who may propose, and in which order proposers outrank one another.

use core::fmt;

use crate::ReplicaId;

/// A numbered claim to leadership. Ordered by round, then by the leader's index, then by its epoch,
/// so that no two replicas, and no two incarnations of one, ever share a ballot (Lamport, "Paxos
/// Made Simple", 2001, section 2.2; the epoch after Jehl and Meling).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ballot {
    /// Counts attempts to lead. 0 is below every ballot that anyone ever leads in.
    pub round: u64,
    /// The replica that leads in this ballot.
    pub leader: ReplicaId,
}

impl Ballot {
    /// Below every ballot that anyone leads in.
    pub const ZERO: Self = Self {
        round: 0,
        leader: ReplicaId { index: 0, epoch: crate::Epoch { counter: 0, instance: 0 } },
    };

    /// The lowest ballot of `leader` that outranks `self`, whoever leads in `self`.
    #[must_use]
    pub const fn next_for(self, leader: ReplicaId) -> Self {
        Self { round: self.round + 1, leader }
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.round, self.leader)
    }
}
