//! A leader that is alive and stuck: its executor has stopped, hangs, or has another state than the others,
//! or its disk makes nothing durable any more. Requests are still ordered, since a quorum of others does
//! that, but it carries none out, orders no tick, and answers none of its clients.
//!
//! Every `Lead` carries how far the leader itself is. Where that stands still for a stall time-out, and a
//! follower has got further in the meantime, the follower doubts the leader, asks the others, and stands only
//! if a quorum finds the same; a stuck leader that is asked says so, too. Where nobody gets further, as when
//! all services trip over the same request, there is nobody better, and the leader stays.

use mainstay_model::{Instant, Plant, Plants, Slot};

use crate::message::Lead;
use crate::replica::{Office, Replica};

/// Since when a watermark has stood still below another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Standstill {
    /// The highest that it was seen at.
    at: Slot,
    since: Option<Instant>,
}

impl Standstill {
    /// The watermark is `shown`, and the one it is compared with `other`.
    pub(crate) fn note(&mut self, shown: Slot, other: Slot, now: Instant) {
        if other <= shown {
            self.since = None;
        } else if shown > self.at {
            self.since = Some(now);
        } else {
            self.since.get_or_insert(now);
        }
        self.at = self.at.max(shown);
    }

    /// It stands still from now on at the earliest.
    fn begin_anew(&mut self, now: Instant) {
        self.since = self.since.map(|_| now);
    }

    fn lasts(&self, now: Instant, patience: core::time::Duration) -> bool {
        self.since.is_some_and(|since| now >= since.after(patience))
    }
}

/// How a leader's watermarks stand beside those of a replica that follows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Compared {
    durable: Standstill,
    applied: Standstill,
}

impl<P: Plants> Replica<P> {
    /// Every slot up to here is applied to a state that is that of the others; none where it is not, or
    /// where one is being fetched.
    pub(crate) fn executed_upto(&self) -> Slot {
        let executes = !self.checkpoints.diverged() && !self.transfers();
        if executes { self.log.applied_upto } else { Slot::NONE }
    }

    /// At a follower: compares what its leader shows of itself with what is known here.
    pub(crate) fn compare_progress(&mut self, now: Instant, m: &Lead) {
        // What was accepted here and never decided says nothing against a leader without it.
        let durable_upto = self.log.durable_upto.min(self.log.decided_upto);
        let executed_upto = self.executed_upto();
        let compared = &mut self.election.compared;
        compared.durable.note(m.durable_upto, durable_upto, now);
        compared.applied.note(m.applied_upto, executed_upto, now);
        // Whoever doubts its leader asks, although signs of life keep coming.
        self.flush_due |= self.finds_stuck(now);
    }

    /// Another leader, or a pause: nothing that was seen before counts.
    pub(crate) fn compare_anew(&mut self, now: Instant) {
        let compared = &mut self.election.compared;
        compared.durable.begin_anew(now);
        compared.applied.begin_anew(now);
    }

    /// Whether the leader that is followed shows no progress of its own, and this replica makes some.
    pub(crate) fn finds_stuck(&self, now: Instant) -> bool {
        let patience = self.stall_timeout();
        let Compared { durable, applied } = &self.election.compared;
        let applied = applied.lasts(now, patience) && !self.plants.has(Plant::AppliedNotLookedAt);
        matches!(self.office, Office::Follower)
            && self.election.leader.is_some()
            && (applied || durable.lasts(now, patience))
    }

    /// At a leader: looks whether it stands still while one of those who answer gets further.
    pub(crate) fn compare_itself(&mut self, now: Instant) {
        let (timeout, executed_upto) = (self.election_timeout(), self.executed_upto());
        let Office::Leader(leader) = &mut self.office else { return };
        let heard = leader.peers.values().filter(|peer| now < peer.heard_at.after(timeout));
        let farthest = heard.map(|peer| peer.progress.applied_upto()).max().unwrap_or_default();
        leader.stands.note(executed_upto, farthest, now);
    }

    /// At a leader: whether it would say so if it was asked.
    pub(crate) fn finds_itself_stuck(&self, now: Instant) -> bool {
        let Office::Leader(leader) = &self.office else { return false };
        leader.stands.lasts(now, self.stall_timeout())
            && !self.plants.has(Plant::AppliedNotLookedAt)
    }

    /// The end of a step: notes whether this replica carries out what is decided.
    pub(crate) fn note_execution(&mut self, now: Instant) {
        let (executed_upto, decided_upto) = (self.executed_upto(), self.log.decided_upto);
        self.execution.note(executed_upto, decided_upto, now);
    }

    /// Whether this replica carries out nothing of what is decided, and has not for a while.
    pub(crate) fn stands_still(&self, now: Instant) -> bool {
        self.execution.lasts(now, self.stall_timeout())
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    #[test]
    fn standing_still_means_that_another_gets_further_meanwhile() {
        let patience = Duration::from_nanos(10);
        let mut stands = Standstill::default();
        stands.note(Slot(5), Slot(5), Instant(0));
        stands.note(Slot(5), Slot(5), Instant(90));
        assert!(!stands.lasts(Instant(99), patience), "there was nothing to do");
        stands.note(Slot(5), Slot(6), Instant(100));
        stands.note(Slot(5), Slot(7), Instant(109));
        assert!(!stands.lasts(Instant(109), patience));
        assert!(stands.lasts(Instant(110), patience));
        stands.note(Slot::NONE, Slot(7), Instant(111));
        assert!(stands.lasts(Instant(111), patience), "another state is no progress");
        stands.note(Slot(6), Slot(9), Instant(112));
        assert!(!stands.lasts(Instant(121), patience), "it moves");
        assert!(stands.lasts(Instant(122), patience));
    }
}
