//! Holds back whatever promises something until what it promises is durable.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use mainstay_model::{Ballot, Mark, ReplicaId, Slot};

use crate::message::{Body, Message};

/// Something that waits for durability.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Held {
    /// A message that promises something.
    Message(ReplicaId, Message),
    /// The candidate's promise to itself.
    OwnPromise(Ballot),
    /// The leader's vote for its own proposal.
    OwnVote(Ballot, Slot),
}

impl Held {
    /// Whether this replica says it as a candidate.
    fn is_candidacy(&self) -> bool {
        let Self::Message(_, message) = self else { return matches!(self, Self::OwnPromise(_)) };
        matches!(message.body, Body::Prepare(_))
    }

    /// The ballot that is promised or asked to be, if that is what it says.
    fn promises(&self) -> Option<Ballot> {
        match self {
            Self::OwnPromise(ballot) => Some(*ballot),
            Self::Message(_, Message { body: Body::Promise(m), .. }) => Some(m.ballot),
            Self::Message(_, Message { body: Body::Prepare(m), .. }) => Some(m.ballot),
            Self::Message(..) | Self::OwnVote(..) => None,
        }
    }
}

/// Invariant: `durable ≤ issued`; everything held waits for a mark above `durable`, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Outbox {
    issued: Mark,
    durable: Mark,
    held: VecDeque<(Mark, Held)>,
}

impl Outbox {
    /// The mark that the records of the present step will get.
    pub(crate) fn next_mark(&self) -> Mark {
        self.issued.next()
    }

    /// Uses up that mark.
    pub(crate) fn issue(&mut self) -> Mark {
        self.issued = self.issued.next();
        self.issued
    }

    /// Everything up to here is durable.
    pub(crate) fn durable(&self) -> Mark {
        self.durable
    }

    /// Whether something was written that is not durable.
    pub(crate) fn owes(&self) -> bool {
        self.durable < self.issued
    }

    /// Notes durability; false for a mark that was never issued.
    pub(crate) fn on_durable(&mut self, mark: Mark) -> bool {
        if mark > self.issued {
            return false;
        }
        self.durable = self.durable.max(mark);
        true
    }

    /// Holds `what` until every record issued so far is durable.
    pub(crate) fn hold(&mut self, what: Held) {
        self.held.push_back((self.issued, what));
    }

    /// The records of these marks and above will not be durable. Votes that waited for them are dropped:
    /// whoever wants them asks again. Returns what is said in a ballot of its own, which has to wait for
    /// another record of that ballot; others ask again for what they were promised. With `all`, returns
    /// everything.
    pub(crate) fn unwritten(&mut self, from: Mark, all: bool) -> Vec<Held> {
        let at = self.held.partition_point(|(mark, _)| *mark < from);
        let lost = self.held.split_off(at).into_iter().map(|(_, held)| held);
        lost.filter(|held| all || held.is_candidacy()).collect()
    }

    /// Drops promises and candidacies below `promised`: by the time they could leave, nobody has a
    /// use for them. So a disk that stands still has only the latest wait for it.
    pub(crate) fn forget_below(&mut self, promised: Ballot) {
        self.held.retain(|(_, held)| held.promises().is_none_or(|ballot| ballot >= promised));
    }

    /// Whether a promise of `ballot` to `to` waits already.
    pub(crate) fn holds_promise(&self, to: ReplicaId, ballot: Ballot) -> bool {
        self.held.iter().any(|(_, held)| match held {
            Held::Message(peer, Message { body: Body::Promise(m), .. }) => {
                *peer == to && m.ballot == ballot
            }
            _ => false,
        })
    }

    /// Takes what needs to wait no longer (`all`: everything, whether durable or not). Neighbouring
    /// acknowledgements of one ballot to one replica become one.
    pub(crate) fn release(&mut self, all: bool) -> Vec<Held> {
        let mut released: Vec<Held> = Vec::new();
        while let Some((mark, _)) = self.held.front() {
            if *mark > self.durable && !all {
                break;
            }
            let Some((_, held)) = self.held.pop_front() else { break };
            if !released.last_mut().is_some_and(|last| join(last, &held)) {
                released.push(held);
            }
        }
        released
    }
}

/// Lets an acknowledgement swallow the one that follows it; false where they do not fit together.
fn join(last: &mut Held, next: &Held) -> bool {
    let (Held::Message(to, message), Held::Message(next_to, next)) = (last, next) else {
        return false;
    };
    let (Body::Accepted(a), Body::Accepted(b)) = (&mut message.body, &next.body) else {
        return false;
    };
    let fits = to == next_to
        && message.configuration == next.configuration
        && a.ballot == b.ballot
        && a.slots.last.next() == b.slots.first;
    if fits {
        a.slots.last = b.slots.last;
        a.applied_upto = a.applied_upto.max(b.applied_upto);
    }
    fits
}
