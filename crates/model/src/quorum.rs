//! Configurations and the quorums they form.

use alloc::vec::Vec;
use core::fmt;

use crate::{ConfigurationId, ReplicaId};

/// The most replicas one configuration may list.
pub const REPLICAS_MAX: usize = 64;

/// The replicas that vote, and how many slots may be open at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Configuration {
    /// Which configuration this is.
    pub id: ConfigurationId,
    /// Its replicas; the one with index i stands at position i.
    pub replicas: Vec<ReplicaId>,
    /// How many slots past the decided ones may be proposed (Lamport's α).
    pub alpha: u64,
}

impl Configuration {
    /// How many replicas a majority needs.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.replicas.len() / 2 + 1
    }

    /// Whether `set` holds a majority of this configuration.
    #[must_use]
    pub fn is_quorum(&self, set: ReplicaSet) -> bool {
        set.len() >= self.majority()
    }

    /// Whether the replicas for whose indices `counts` holds are a quorum.
    #[must_use]
    pub fn quorum(&self, counts: impl Fn(u16) -> bool) -> bool {
        let indices = self.replicas.iter().map(|replica| replica.index);
        self.is_quorum(indices.filter(|index| counts(*index)).collect())
    }

    /// Of values with the index of the replica that each is from: the first one at which those that came are a
    /// quorum; `None` if all together are none.
    pub fn quorum_at<T>(&self, values: impl IntoIterator<Item = (T, u16)>) -> Option<T> {
        let mut set = ReplicaSet::EMPTY;
        let mut values = values.into_iter();
        let last = values.find(|(_, index)| {
            set.insert(*index);
            self.is_quorum(set)
        });
        last.map(|(value, _)| value)
    }

    /// Whether exactly this incarnation is listed.
    #[must_use]
    pub fn lists(&self, replica: ReplicaId) -> bool {
        self.replicas.get(usize::from(replica.index)) == Some(&replica)
    }
}

/// A set of indices of one configuration, at most [`REPLICAS_MAX`] of them.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaSet(u64);

impl ReplicaSet {
    /// No replica.
    pub const EMPTY: Self = Self(0);

    /// Adds `index`; true if it was not there.
    pub fn insert(&mut self, index: u16) -> bool {
        let bit = 1 << index;
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }

    /// Removes `index`; true if it was there.
    pub fn remove(&mut self, index: u16) -> bool {
        let bit = 1 << index;
        let was = self.0 & bit != 0;
        self.0 &= !bit;
        was
    }

    /// Whether `index` is in the set.
    #[must_use]
    pub const fn contains(self, index: u16) -> bool {
        self.0 & (1 << index) != 0
    }

    /// How many there are.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The indices, ascending.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        (0..REPLICAS_MAX as u16).filter(move |&index| self.contains(index))
    }
}

impl FromIterator<u16> for ReplicaSet {
    fn from_iter<I: IntoIterator<Item = u16>>(indices: I) -> Self {
        let mut set = Self::EMPTY;
        for index in indices {
            set.insert(index);
        }
        set
    }
}

impl fmt::Debug for ReplicaSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
