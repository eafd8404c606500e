//! The way to the leader, for a replica that does not hear it. Where two replicas do not reach one another,
//! and a third reaches both and follows one of them, the other hears no leader and yet cannot unseat it: it
//! asks the others, and they do hear one (the chained case of Ng et al., "Omni-Paxos", 2023). Whoever says so
//! passes on what the clients of that replica want: one hop more, and never two, since only what is sent by
//! whom it comes from is passed on.

use mainstay_model::{Ballot, Instant, Plants, ReplicaId};

use crate::door::Observation;
use crate::message::ProbeReply;
use crate::replica::{Cx, Office, Replica};

/// One who hears a leader, and says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Relay {
    who: ReplicaId,
    /// What it has promised: the leader it hears is that ballot's, or of one before.
    ballot: Ballot,
    told_at: Instant,
}

/// Where requests and questions for the leader go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Way {
    pub(crate) to: ReplicaId,
    pub(crate) ballot: Ballot,
    /// It is to pass them on.
    pub(crate) relay: bool,
}

impl<P: Plants> Replica<P> {
    /// How the leader is reached, if it is.
    pub(crate) fn way_to_leader(&self) -> Option<Way> {
        if let Some(ballot) = self.election.leader {
            return Some(Way { to: ballot.leader, ballot, relay: false });
        }
        let Relay { who, ballot, .. } = self.election.relay?;
        Some(Way { to: who, ballot, relay: true })
    }

    /// Through whom the leader is reached that is not heard here.
    pub(crate) fn relay(&self) -> Option<ReplicaId> {
        let relay = self.election.relay.filter(|_| self.election.leader.is_none());
        relay.map(|relay| relay.who)
    }

    /// One who was asked says whether it hears a leader.
    pub(crate) fn note_relay(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: &ProbeReply) {
        let known = self.election.relay;
        let other = known.is_some_and(|known| known.who != from);
        if self.election.leader.is_some() || !matches!(self.office, Office::Follower) || other {
            return;
        }
        let told = Relay { who: from, ballot: m.ballot, told_at: cx.now.monotonic };
        self.election.relay = m.hears_leader.then_some(told);
        if known.is_some() != m.hears_leader {
            self.relay_changed(cx);
        }
    }

    /// That replica does not pass anything on.
    pub(crate) fn forget_relay_of(&mut self, cx: &mut Cx<'_>, who: ReplicaId) {
        if self.election.relay.take_if(|relay| relay.who == who).is_some() {
            self.relay_changed(cx);
        }
    }

    /// What one says is true for a time-out.
    pub(crate) fn forget_old_relay(&mut self, cx: &mut Cx<'_>) {
        let (now, timeout) = (cx.now.monotonic, self.election_timeout());
        let old = |relay: &mut Relay| now >= relay.told_at.after(timeout);
        if self.election.relay.take_if(old).is_some() {
            self.relay_changed(cx);
        }
    }

    fn relay_changed(&mut self, cx: &mut Cx<'_>) {
        self.flush_due = true;
        cx.observe(Observation::Relay(self.election.relay.map(|relay| relay.who)));
    }

    /// Whom this replica asks on behalf of `from`.
    pub(crate) fn relays_to(&self, from: ReplicaId) -> Option<ReplicaId> {
        let follows = matches!(self.office, Office::Follower);
        let leader = self.election.leader.filter(|_| follows)?.leader;
        (leader != from).then_some(leader)
    }
}
