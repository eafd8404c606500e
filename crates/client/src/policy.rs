//! Whose reply counts, and what is told of replicas whose replies differ.

use std::collections::BTreeMap;

use mainstay_model::{ReplicaId, RequestNumber, SessionId};

/// The most disagreements that are kept one by one.
const LATEST_MAX: usize = 256;
/// The most replicas whose disagreements are counted one by one.
const REPLICAS_MAX: usize = 64;

/// Whose reply to a request counts.
///
/// Every replica carries out every request and has a reply of its own; those of a deterministic
/// service are equal. The policies differ in how fast a reply comes, in what they cost, and in what
/// they find out about a service that is not (Chai, "PFT", 2009, section on its client; the last is
/// its voting). All of them carry out each request once, whatever crashes. Queries are answered by
/// one replica under each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ReplyPolicy {
    /// That of the one replica which the client is connected to: the leader where it can be reached,
    /// any other where not. One connection, no reply twice.
    #[default]
    Reached,
    /// The first that comes, of whichever replica. The client is connected to all of them, so that
    /// the crash of one costs no reply that another has; each reply is sent once by every replica.
    First,
    /// The leader's, and no other: that of a replica that said it leads, and has named no other
    /// leader since. One connection; nothing is done while the leader is out of reach.
    Leader,
    /// One that a quorum of the replicas gave, byte for byte. The client is connected to all of them
    /// and compares; who answers differently is told by [`crate::Client::disagreements`]. Needs the
    /// addresses of a quorum at least; those of all replicas expose every one that differs.
    Majority,
}

impl ReplyPolicy {
    /// Whether replies of every replica are wanted.
    pub(crate) const fn hears_all(self) -> bool {
        matches!(self, Self::First | Self::Majority)
    }
}

/// A replica whose reply differs. Digests are XXH3-128 of the bytes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Disagreement {
    /// Which replica.
    pub replica: ReplicaId,
    /// In which session of this client.
    pub session: SessionId,
    /// At which request of it.
    pub number: RequestNumber,
    /// The digest of its reply.
    pub digest: u128,
    /// The digest of the reply that a quorum gave; `None` where no quorum gave the same.
    pub accepted: Option<u128>,
}

/// The disagreements that a client has found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disagreements {
    /// How many there were.
    pub total: u64,
    /// How many of each replica, of the first 64 replicas.
    pub by_replica: BTreeMap<ReplicaId, u64>,
    /// The latest 256, oldest first.
    pub latest: Vec<Disagreement>,
    /// How many replies came so late that what they are to be compared with was forgotten: more than
    /// 4096 requests after theirs had been answered.
    pub unchecked: u64,
}

impl Disagreements {
    pub(crate) fn add(&mut self, disagreement: Disagreement) {
        self.total += 1;
        let known = self.by_replica.contains_key(&disagreement.replica);
        if known || self.by_replica.len() < REPLICAS_MAX {
            *self.by_replica.entry(disagreement.replica).or_default() += 1;
        }
        if self.latest.len() == LATEST_MAX {
            self.latest.remove(0);
        }
        self.latest.push(disagreement);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_model::Epoch;

    #[test]
    fn counts_go_on_when_there_is_no_room_for_details() {
        let mut all = Disagreements::default();
        let of = |replica: u64| Disagreement {
            replica: ReplicaId { index: 0, epoch: Epoch { counter: replica as u32, instance: 0 } },
            session: SessionId::default(),
            number: RequestNumber(replica),
            digest: 1,
            accepted: None,
        };
        (0..1000).for_each(|replica| all.add(of(replica)));
        all.add(of(0));
        assert_eq!((all.total, all.latest.len(), all.by_replica.len()), (1001, 256, 64));
        assert_eq!(all.latest[254].number, RequestNumber(999));
        assert_eq!(all.by_replica[&of(0).replica], 2);
    }
}
