//! The replies to each number, by their digests: which one a quorum gave, and who gave another.
//!
//! No reply is held: the one that completes a quorum is at hand when it does.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_model::{ConfigurationId, ReplicaId, RequestNumber, SessionId};
use mainstay_service::native::Watching;

use crate::policy::Disagreement;

/// For how many answered numbers what was accepted is remembered, for replies that come later.
const SETTLED_MAX: usize = 4096;

/// The votes on the requests of one session.
#[derive(Clone, Debug, Default)]
pub(super) struct Votes {
    electorate: Option<Electorate>,
    open: BTreeMap<RequestNumber, BTreeMap<u16, Vote>>,
    settled: BTreeMap<RequestNumber, Settled>,
}

/// Who votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Electorate {
    configuration: ConfigurationId,
    replicas: usize,
    quorum: usize,
}

#[derive(Clone, Copy, Debug)]
struct Vote {
    replica: ReplicaId,
    digest: u128,
    counts: bool,
}

#[derive(Clone, Debug)]
struct Settled {
    accepted: Option<u128>,
    heard: BTreeSet<u16>,
}

/// What a vote led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More replies are needed.
    Open,
    /// A quorum gave this reply; these replicas gave another.
    Accepted(Vec<Disagreement>),
    /// No quorum can give the same reply any more; these are all that came.
    Split(Vec<Disagreement>),
}

/// What a reply to a number that was answered before is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// Nothing new.
    Nothing,
    /// It differs.
    Differs(Disagreement),
    /// What it is to be compared with is forgotten.
    Unchecked,
}

impl Votes {
    /// A replica told who votes; the newest configuration counts.
    pub(super) fn learn(&mut self, watching: &Watching) {
        let newer =
            self.electorate.is_none_or(|known| known.configuration < watching.configuration);
        if newer {
            self.electorate = Some(Electorate {
                configuration: watching.configuration,
                replicas: watching.replicas.into(),
                quorum: watching.quorum.into(),
            });
        }
    }

    /// Another session begins.
    pub(super) fn clear(&mut self) {
        self.open.clear();
        self.settled.clear();
    }

    /// A replica's reply to an open number; `counts` if the replica votes in its configuration.
    pub(super) fn vote(
        &mut self,
        replica: ReplicaId,
        counts: bool,
        (session, number): (SessionId, RequestNumber),
        digest: u128,
    ) -> Verdict {
        let votes = self.open.entry(number).or_default();
        votes.insert(replica.index, Vote { replica, digest, counts });
        let Some(electorate) = self.electorate else { return Verdict::Open };
        let (mut equal, mut counted) = (BTreeMap::<u128, usize>::new(), 0);
        for vote in votes.values().filter(|vote| vote.counts) {
            *equal.entry(vote.digest).or_default() += 1;
            counted += 1;
        }
        let most = equal.values().copied().max().unwrap_or(0);
        let accepted = if equal.get(&digest).is_some_and(|&count| count >= electorate.quorum) {
            Some(digest)
        } else if most + electorate.replicas.saturating_sub(counted) < electorate.quorum {
            None
        } else {
            return Verdict::Open;
        };
        let votes = self.open.remove(&number).unwrap_or_default();
        let differ = votes.values().filter(|vote| Some(vote.digest) != accepted);
        let differ = differ.map(|vote| Disagreement {
            replica: vote.replica,
            session,
            number,
            digest: vote.digest,
            accepted,
        });
        let differ = differ.collect();
        let heard = votes.keys().copied().collect();
        self.settled.insert(number, Settled { accepted, heard });
        if self.settled.len() > SETTLED_MAX {
            self.settled.pop_first();
        }
        if accepted.is_some() { Verdict::Accepted(differ) } else { Verdict::Split(differ) }
    }

    /// A replica's reply to a number that was answered before.
    pub(super) fn late(
        &mut self,
        replica: ReplicaId,
        (session, number): (SessionId, RequestNumber),
        digest: u128,
    ) -> Late {
        let Some(settled) = self.settled.get_mut(&number) else { return Late::Unchecked };
        let accepted = settled.accepted;
        if !settled.heard.insert(replica.index) || accepted == Some(digest) {
            return Late::Nothing;
        }
        Late::Differs(Disagreement { replica, session, number, digest, accepted })
    }

    /// What is still wanted for a number, for people.
    pub(super) fn wanted(&self, number: RequestNumber) -> Option<String> {
        let electorate = self.electorate?;
        let came: Vec<_> = self.open.get(&number)?.keys().map(ToString::to_string).collect();
        Some(format!(
            "{} equal replies of {} replicas are wanted, and replies came from replica {} only",
            electorate.quorum,
            electorate.replicas,
            came.join(" and ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_model::Epoch;

    const AT: (SessionId, RequestNumber) =
        (SessionId { slot: mainstay_model::Slot(1), position: 0 }, RequestNumber(1));

    fn replica(index: u16) -> ReplicaId {
        ReplicaId { index, epoch: Epoch { counter: 1, instance: 1 } }
    }

    fn votes(replicas: u16) -> Votes {
        let mut votes = Votes::default();
        votes.learn(&Watching {
            session: AT.0,
            applied_upto: None,
            told_upto: RequestNumber(0),
            configuration: ConfigurationId(1),
            replicas,
            quorum: replicas / 2 + 1,
            votes: true,
        });
        votes
    }

    fn differs(index: u16, digest: u128, accepted: Option<u128>) -> Disagreement {
        Disagreement { replica: replica(index), session: AT.0, number: AT.1, digest, accepted }
    }

    #[test]
    fn a_quorum_of_equal_replies_is_accepted_and_who_differs_is_named() {
        let mut v = votes(3);
        assert_eq!(v.vote(replica(0), true, AT, 7), Verdict::Open);
        assert_eq!(v.vote(replica(0), true, AT, 7), Verdict::Open, "one replica is one vote");
        assert_eq!(v.vote(replica(1), true, AT, 8), Verdict::Open);
        assert_eq!(
            v.vote(replica(2), true, AT, 7),
            Verdict::Accepted(vec![differs(1, 8, Some(7))])
        );
        assert_eq!(v.late(replica(1), AT, 8), Late::Nothing, "it was named");
    }

    #[test]
    fn a_reply_after_the_quorum_is_compared_once() {
        let mut v = votes(3);
        v.vote(replica(0), true, AT, 7);
        assert_eq!(v.vote(replica(1), true, AT, 7), Verdict::Accepted(vec![]));
        assert_eq!(v.late(replica(2), AT, 9), Late::Differs(differs(2, 9, Some(7))));
        assert_eq!(v.late(replica(2), AT, 9), Late::Nothing);
        assert_eq!(v.late(replica(2), (AT.0, RequestNumber(2)), 9), Late::Unchecked);
    }

    #[test]
    fn where_no_quorum_is_left_all_are_named() {
        let mut v = votes(3);
        v.vote(replica(0), true, AT, 7);
        v.vote(replica(1), true, AT, 8);
        let all = vec![differs(0, 7, None), differs(1, 8, None), differs(2, 9, None)];
        assert_eq!(v.vote(replica(2), true, AT, 9), Verdict::Split(all));
        // Of five, two pairs are not yet without hope; a fifth reply of its own is the end of it.
        let mut v = votes(5);
        for (index, digest) in [(0, 7), (1, 7), (2, 8), (3, 8)] {
            assert_eq!(v.vote(replica(index), true, AT, digest), Verdict::Open);
        }
        assert!(matches!(v.vote(replica(4), true, AT, 9), Verdict::Split(all) if all.len() == 5));
    }

    #[test]
    fn who_does_not_vote_is_heard_and_not_counted() {
        let mut v = votes(3);
        assert_eq!(v.vote(replica(0), true, AT, 7), Verdict::Open);
        assert_eq!(v.vote(replica(2), false, AT, 7), Verdict::Open);
        assert_eq!(v.vote(replica(1), true, AT, 7), Verdict::Accepted(vec![]));
        let mut v = votes(3);
        v.vote(replica(2), false, AT, 8);
        v.vote(replica(0), true, AT, 7);
        let named = vec![differs(2, 8, Some(7))];
        assert_eq!(v.vote(replica(1), true, AT, 7), Verdict::Accepted(named));
    }

    #[test]
    fn before_it_is_known_who_votes_nothing_is_accepted() {
        let mut v = Votes::default();
        for index in 0..3 {
            assert_eq!(v.vote(replica(index), true, AT, 7), Verdict::Open);
        }
        assert_eq!(v.wanted(AT.1), None);
        v.electorate = votes(3).electorate;
        assert!(v.wanted(AT.1).unwrap().starts_with("2 equal replies of 3"));
        assert_eq!(v.vote(replica(0), true, AT, 7), Verdict::Accepted(vec![]));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut v = votes(1);
        for number in 1..=5000 {
            let at = (AT.0, RequestNumber(number));
            assert_eq!(v.vote(replica(0), true, at, 7), Verdict::Accepted(vec![]));
        }
        assert_eq!(v.settled.len(), SETTLED_MAX);
        assert!(v.open.is_empty());
    }
}
