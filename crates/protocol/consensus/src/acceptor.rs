//! The acceptor: the hundred lines that safety rests on (Lamport, "Paxos Made Simple", 2001,
//! section 2.2).

use alloc::vec::Vec;

use mainstay_model::{Ballot, Entry, Now, Plant, Plants, RecordKind, ReplicaId, Slot, SlotRange};

use crate::message::{Accept, Accepted, Body, Prepare, Promise, Refused, RefusedReason};
use crate::replica::{Cx, Replica};

/// What an acceptor has promised, and where it is not sure what it accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Acceptor {
    /// No lower ballot is answered. Never decreases.
    pub(crate) promised: Ballot,
    /// Slots whose records are damaged; ascending, without overlap.
    pub(crate) uncertain: Vec<SlotRange>,
    /// Whether the disk has room for entries.
    pub(crate) room: bool,
}

impl Acceptor {
    pub(crate) fn is_uncertain(&self, slot: Slot) -> bool {
        self.uncertain.iter().any(|range| range.contains(slot))
    }

    /// The lowest uncertain slot at or above `from`.
    pub(crate) fn first_uncertain(&self, from: Slot) -> Option<Slot> {
        self.uncertain.iter().filter(|range| range.last >= from).map(|r| r.first.max(from)).min()
    }

    /// What told what was accepted there was not written.
    pub(crate) fn uncertain_again(&mut self, slot: Slot) {
        let at = self.uncertain.partition_point(|range| range.first < slot);
        self.uncertain.insert(at, SlotRange { first: slot, last: slot });
    }

    /// A checkpoint covers everything up to `slot`.
    pub(crate) fn certain_upto(&mut self, slot: Slot) {
        self.uncertain.retain(|range| range.last > slot);
        for range in &mut self.uncertain {
            range.first = range.first.max(slot.next());
        }
    }

    /// What stands in `slot` is known again.
    pub(crate) fn certain_again(&mut self, slot: Slot) {
        let Some(at) = self.uncertain.iter().position(|range| range.contains(slot)) else { return };
        let range = self.uncertain.remove(at);
        if slot < range.last {
            self.uncertain.insert(at, SlotRange { first: slot.next(), last: range.last });
        }
        if range.first < slot {
            self.uncertain.insert(at, SlotRange { first: range.first, last: slot.previous() });
        }
    }
}

impl<P: Plants> Replica<P> {
    pub(crate) fn on_prepare(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Prepare) {
        if !self.votes {
            return self.ignore(cx, "prepare at a learner");
        }
        if m.ballot.leader != from {
            return self.ignore(cx, "prepare in another's ballot");
        }
        self.election.note_ballot(m.ballot);
        if m.ballot < self.acceptor.promised {
            return self.refuse_promised(cx, from, m.ballot);
        }
        if m.ballot > self.acceptor.promised {
            self.leave_office(cx);
            self.acceptor.promised = m.ballot;
            self.outbox.forget_below(m.ballot);
            self.record(cx, RecordKind::Promise);
            self.expect_leader(cx, m.ballot);
        }
        if self.outbox.holds_promise(from, m.ballot) {
            // It leaves once the disk has caught up; another one would only pile up behind it.
            return;
        }
        for page in self.promise_pages(cx.now, m.ballot, m.from) {
            self.send_held(cx, from, Body::Promise(page));
        }
    }

    /// A picture of this step: everything accepted, whether durable yet or not (its records stand in
    /// front of the promise's, which the message waits for).
    pub(crate) fn promise_pages(&self, now: Now, ballot: Ballot, from: Slot) -> Vec<Promise> {
        let time = self.known_time(now.monotonic);
        let empty = |page, after| Promise {
            ballot,
            page,
            last: false,
            after,
            decided_upto: self.log.decided_upto,
            truncated_upto: self.log.truncated_upto,
            clock: now.wall,
            time,
            uncertain: self.acceptor.uncertain.clone(),
            accepted: Vec::new(),
        };
        let mut pages = Vec::new();
        let (mut page, mut bytes) = (empty(0, Slot::NONE), 0);
        let durable = self.outbox.durable();
        for (slot, kept) in self.log.above(self.log.decided_upto.max(from.previous())) {
            if self.plants.has(Plant::PendingLeftOutOfPromise) && kept.mark > durable {
                continue;
            }
            if bytes >= self.settings.page_bytes_max {
                let after = page.accepted.last().map_or(Slot::NONE, |(slot, _)| *slot);
                let next = empty(page.page + 1, after);
                pages.push(core::mem::replace(&mut page, next));
                bytes = 0;
            }
            bytes += kept.entry.value.len();
            page.accepted.push((slot, kept.entry.clone()));
        }
        page.last = true;
        pages.push(page);
        pages
    }

    pub(crate) fn on_accept(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Accept) {
        if m.ballot.leader != from {
            return self.ignore(cx, "accept in another's ballot");
        }
        self.election.note_ballot(m.ballot);
        let stale = m.ballot < self.acceptor.promised && self.votes;
        if stale && !self.plants.has(Plant::StaleBallotAccepted) {
            return self.refuse_promised(cx, from, m.ballot);
        }
        self.hear_leader(cx, m.ballot);
        let rises = m.ballot > self.acceptor.promised && self.votes;
        if rises {
            self.leave_office(cx);
            self.acceptor.promised = m.ballot;
            self.outbox.forget_below(m.ballot);
        }
        // Before, because what it decides makes room; after, because a later watermark may have
        // overtaken this entry.
        self.on_watermark(cx, m.ballot, m.decided_upto);
        self.accept(cx, from, &m);
        if rises && cx.records.is_empty() {
            // The record of an entry would have carried the promise. Without one it must stand by
            // itself: whoever is answered in this ballot later takes it for durable.
            self.record(cx, RecordKind::Promise);
        }
        self.on_watermark(cx, m.ballot, m.decided_upto);
    }

    fn accept(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: &Accept) {
        // Even where the decided value is damaged here: only whoever knows it as decided repairs it,
        // for the leader of this ballot may have been deposed before it was decided.
        if m.slot <= self.log.decided_upto {
            let reason = RefusedReason::Decided(self.log.decided_upto);
            return self.send(cx, from, Body::Refused(Refused { ballot: m.ballot, reason }));
        }
        let known = self.log.get(m.slot);
        if let Some(kept) = known {
            if kept.entry.ballot > m.ballot && !self.plants.has(Plant::StaleBallotAccepted) {
                return self.ignore(cx, "accept below what was accepted");
            }
            if kept.entry.ballot == m.ballot {
                if kept.entry.value != m.value {
                    return self.ignore(cx, "two values in one ballot");
                }
                if kept.mark <= self.outbox.durable() {
                    self.acknowledge(cx, from, m);
                }
                return;
            }
        }
        // What is kept already and only proposed anew, in another ballot, may use the reserve: a new
        // leader must be able to finish what it took over.
        let kept_already = known.is_some_and(|kept| kept.entry.value == m.value);
        // So may the first slot: without the opening of the log nothing can be read, either.
        let is_small = m.value.request_count() == 0 || m.slot == Slot::FIRST;
        if !self.acceptor.room && !is_small && !kept_already {
            let refused = Refused { ballot: m.ballot, reason: RefusedReason::NoRoom };
            return self.send(cx, from, Body::Refused(refused));
        }
        // What grows the window of undecided entries is bounded; the slot that is due, and one that
        // is only accepted anew, must always get through.
        let grows = known.is_none() && m.slot > self.log.decided_upto.next();
        if grows && self.log.undecided_bytes() > 2 * self.settings.inflight_bytes_max {
            let reason =
                RefusedReason::Behind { slot: m.slot, decided_upto: self.log.decided_upto };
            return self.send(cx, from, Body::Refused(Refused { ballot: m.ballot, reason }));
        }
        let entry = Entry { ballot: m.ballot, value: m.value.clone() };
        self.keep_accepted(cx, m.slot, entry);
        self.acknowledge(cx, from, m);
    }

    fn acknowledge(&self, cx: &mut Cx<'_>, to: ReplicaId, m: &Accept) {
        if self.votes {
            let slots = SlotRange { first: m.slot, last: m.slot };
            let applied_upto = self.executed_upto();
            self.send_held(
                cx,
                to,
                Body::Accepted(Accepted { ballot: m.ballot, slots, applied_upto }),
            );
        }
    }

    pub(crate) fn refuse_promised(&self, cx: &mut Cx<'_>, to: ReplicaId, ballot: Ballot) {
        let reason = RefusedReason::Promised(self.acceptor.promised);
        self.send(cx, to, Body::Refused(Refused { ballot, reason }));
    }
}
