//! Phase 1: a candidate collects promises, and takes over what they report.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use mainstay_model::{
    Ballot, Batch, Entry, Instant, Plant, Plants, RecordKind, ReplicaId, ReplicaSet, Slot,
    SlotRange, Timestamp, Value,
};

use crate::decided_time::{DecidedClock, Reading};
use crate::door::{Observation, Role};
use crate::leader::{Leader, Takeover};
use crate::message::{Body, Prepare, Promise, Refused, RefusedReason, StepDown};
use crate::outbox::Held;
use crate::replica::{Cx, Office, Replica};
use crate::settings::Settings;

/// A candidate in its ballot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Candidate {
    pub(crate) ballot: Ballot,
    from: Slot,
    pub(crate) since: Instant,
    asked_at: Instant,
    ask_now: bool,
    pub(crate) promises: Promises,
}

impl Candidate {
    pub(crate) fn deadline(&self, settings: &Settings, time: Duration) -> Instant {
        if self.ask_now {
            return Instant(0);
        }
        let again = self.asked_at.after(settings.resend_interval);
        again.min(self.since.after(time))
    }

    /// Whether its own ballot is not durable yet, so that no question has left.
    pub(crate) fn is_writing(&self) -> bool {
        !self.promises.who().contains(self.ballot.leader.index)
    }

    /// A long message of a replica that has not promised comes in, most likely its promise.
    pub(crate) fn passes(&mut self, peer: ReplicaId, now: Instant) {
        if !self.is_writing() && !self.promises.who().contains(peer.index) {
            (self.since, self.asked_at) = (now, now);
        }
    }

    pub(crate) fn ask_now(&mut self) {
        self.ask_now = true;
    }
}

/// What one replica promised, collected page by page.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Picture {
    decided_upto: Slot,
    truncated_upto: Slot,
    uncertain: Vec<SlotRange>,
    accepted: BTreeMap<Slot, Entry>,
    /// The pages that came, with the slots that each stands between, and the number of the last one.
    pages: BTreeMap<u32, (Slot, Slot)>,
    last: Option<u32>,
    /// Its calendar clock, and what it knows of decided time.
    reading: Reading,
    known_time: Reading,
}

impl Picture {
    fn complete(&self) -> bool {
        self.last.is_some_and(|last| self.pages.len() as u64 == u64::from(last) + 1)
    }

    /// Whether a page belongs to this picture. Below the promised ballot nothing is accepted any
    /// more, but in it much may be, and then the pages of a later picture begin elsewhere.
    fn fits(&self, m: &Promise) -> bool {
        let (after, upto) = bounds(m);
        let same = self.pages.get(&m.page).is_none_or(|page| *page == (after, upto));
        let before = m.page.checked_sub(1).and_then(|page| self.pages.get(&page));
        let behind = m.page.checked_add(1).and_then(|page| self.pages.get(&page));
        self.decided_upto == m.decided_upto
            && self.truncated_upto == m.truncated_upto
            && self.uncertain == m.uncertain
            && same
            && before.is_none_or(|(_, upto)| *upto == after)
            && behind.is_none_or(|(after, _)| *after == upto)
            && self.last.is_none_or(|last| m.page < last || (m.page == last && m.last))
    }

    fn is_uncertain(&self, slot: Slot) -> bool {
        self.uncertain.iter().any(|range| range.contains(slot))
    }
}

/// The slots that a page stands between: behind the first, up to the second.
fn bounds(m: &Promise) -> (Slot, Slot) {
    (m.after, m.accepted.last().map_or(m.after, |(slot, _)| *slot))
}

/// The promises of one ballot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Promises {
    pictures: BTreeMap<u16, Picture>,
}

/// What the promises say about a slot that nobody reported as decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// This value must be proposed again. If the slot is decided, it is the decided one.
    Value(Entry),
    /// No quorum can have accepted anything: the leader is free.
    Free,
    /// Too few of those that answered are certain about it.
    Blocked,
}

impl Promises {
    /// Adds one page, in whatever order they come; true if it completes its picture. A page of
    /// another picture than the one begun starts it anew.
    fn add(&mut self, from: ReplicaId, m: Promise, now: Instant) -> bool {
        let begun = self.pictures.get(&from.index);
        if begun.is_some_and(Picture::complete) {
            return false;
        }
        if begun.is_some_and(|picture| !picture.fits(&m)) {
            self.pictures.remove(&from.index);
        }
        let picture = self.pictures.entry(from.index).or_insert_with(|| Picture {
            decided_upto: m.decided_upto,
            truncated_upto: m.truncated_upto,
            uncertain: m.uncertain.clone(),
            accepted: BTreeMap::new(),
            pages: BTreeMap::new(),
            last: None,
            reading: Reading { time: m.clock, at: now },
            known_time: Reading { time: m.time, at: now },
        });
        picture.pages.insert(m.page, bounds(&m));
        picture.accepted.extend(m.accepted);
        if m.last {
            picture.last = Some(m.page);
        }
        picture.complete()
    }

    fn complete(&self) -> impl Iterator<Item = (u16, &Picture)> {
        self.pictures.iter().filter(|(_, p)| p.complete()).map(|(index, p)| (*index, p))
    }

    /// The calendar clocks of those who promised, by index.
    pub(crate) fn readings(&self) -> impl Iterator<Item = (u16, Reading)> {
        self.complete().map(|(index, picture)| (index, picture.reading))
    }

    /// The latest that any of them knows decided time to be now; zero if they know nothing of it.
    fn known_time(&self, now: Instant) -> Timestamp {
        let known = self.complete().map(|(_, picture)| picture.known_time);
        let known = known.filter(|known| known.time > Timestamp(0));
        known.map(|known| known.shows(now)).max().unwrap_or_default()
    }

    pub(crate) fn who(&self) -> ReplicaSet {
        self.complete().map(|(index, _)| index).collect()
    }

    /// Whether someone who is certain about `slot` reported it as decided, and so can tell its value.
    fn can_be_fetched(&self, slot: Slot) -> bool {
        self.complete().any(|(_, p)| p.decided_upto >= slot && !p.is_uncertain(slot))
    }

    /// The slots from `from` on whose value nobody can tell: those above every reported watermark,
    /// and those below where whoever reported the highest one is damaged and nobody else can.
    fn to_take_over(&self, from: Slot, top: Slot) -> BTreeSet<Slot> {
        let decided_upto = self.decided_upto();
        let farthest = self.complete().map(|(_, p)| p).filter(|p| p.decided_upto == decided_upto);
        let damaged = farthest.flat_map(|p| p.uncertain.iter());
        let below = damaged.flat_map(|r| r.first.max(from).0..=r.last.min(decided_upto).0);
        let above = decided_upto.next().max(from).0..=top.0;
        let slots = below.chain(above).map(Slot);
        slots.filter(|slot| !self.can_be_fetched(*slot)).collect()
    }

    /// The highest slot that anyone has discarded.
    fn truncated_upto(&self) -> Slot {
        self.complete().map(|(_, p)| p.truncated_upto).max().unwrap_or(Slot::NONE)
    }

    /// The highest slot that anyone reported as decided.
    pub(crate) fn decided_upto(&self) -> Slot {
        self.complete().map(|(_, p)| p.decided_upto).max().unwrap_or(Slot::NONE)
    }

    /// The highest slot that anyone accepted, reported decided, or is uncertain about.
    fn top(&self, plants: &impl Plants) -> Slot {
        self.complete()
            .map(|(_, p)| {
                let accepted = p.accepted.keys().next_back().copied().unwrap_or(Slot::NONE);
                let uncertain = p.uncertain.iter().map(|r| r.last).max().unwrap_or(Slot::NONE);
                let left_out = plants.has(Plant::UncertainLeftOutOfTop);
                p.decided_upto.max(accepted).max(if left_out { Slot::NONE } else { uncertain })
            })
            .max()
            .unwrap_or(Slot::NONE)
    }

    /// What may be proposed in `slot`, which nobody reported as decided: the value accepted in the
    /// highest ballot among those certain about the slot, once they are a quorum.
    pub(crate) fn find(
        &self,
        slot: Slot,
        is_quorum: impl Fn(ReplicaSet) -> bool,
        plants: &impl Plants,
    ) -> Finding {
        let counts = |p: &Picture| !p.is_uncertain(slot) || plants.has(Plant::UncertainCounted);
        let certain = || self.complete().filter(|(_, p)| counts(p));
        if !is_quorum(certain().map(|(index, _)| index).collect()) {
            return Finding::Blocked;
        }
        let reported = certain().filter_map(|(_, p)| p.accepted.get(&slot));
        let winner = if plants.has(Plant::HighestBallotIgnored) {
            reported.min_by_key(|entry| entry.ballot)
        } else {
            reported.max_by_key(|entry| entry.ballot)
        };
        winner.map_or(Finding::Free, |entry| Finding::Value(entry.clone()))
    }
}

impl<P: Plants> Replica<P> {
    /// Moves to a ballot of its own: durable first, then the others are asked.
    pub(crate) fn start_candidacy(&mut self, cx: &mut Cx<'_>) {
        let resumed = self.plants.has(Plant::OldBallotResumed)
            && self.acceptor.promised.leader == self.me
            && self.election.ballot_seen() == self.acceptor.promised;
        let ballot = if resumed { self.acceptor.promised } else { self.next_ballot() };
        self.forget_leader(cx);
        self.election.note_ballot(ballot);
        self.election.attempts += 1;
        self.acceptor.promised = ballot;
        self.outbox.forget_below(ballot);
        self.record(cx, RecordKind::Promise);
        let now = cx.now.monotonic;
        let damaged = self.acceptor.first_uncertain(Slot::FIRST);
        let next = self.log.decided_upto.next();
        let from = damaged.map_or(next, |slot| slot.min(next));
        self.office = Office::Candidate(Candidate {
            ballot,
            from,
            since: now,
            asked_at: now,
            ask_now: false,
            promises: Promises::default(),
        });
        cx.observe(Observation::Role { role: Role::Candidate, ballot });
        for peer in self.peers() {
            self.send_held(cx, peer, Body::Prepare(Prepare { ballot, from }));
        }
        cx.held.push(Held::OwnPromise(ballot));
    }

    pub(crate) fn candidate_tick(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        let time = self.candidacy_time();
        let Office::Candidate(candidate) = &mut self.office else { return };
        if now >= candidate.since.after(time) {
            return self.step_down(cx, self.settings.lead_interval);
        }
        let again = candidate.asked_at.after(self.settings.resend_interval);
        if candidate.ask_now || now >= again {
            candidate.ask_now = false;
            candidate.asked_at = now;
            let prepare = Prepare { ballot: candidate.ballot, from: candidate.from };
            let answered = candidate.promises.who();
            if !answered.contains(self.me.index) {
                // Its own ballot is not durable yet: the first question has not left either.
                return;
            }
            for peer in self.peers().filter(|peer| !answered.contains(peer.index)) {
                self.send_held(cx, peer, Body::Prepare(prepare));
            }
        }
    }

    /// The candidate's own ballot is durable: it promises itself what it knows.
    pub(crate) fn on_own_promise(&mut self, cx: &mut Cx<'_>, ballot: Ballot) {
        let from = match &self.office {
            Office::Candidate(candidate) if candidate.ballot == ballot => candidate.from,
            _ => return,
        };
        for page in self.promise_pages(cx.now, ballot, from) {
            self.on_promise(cx, self.me, page);
        }
    }

    pub(crate) fn on_promise(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Promise) {
        if m.truncated_upto > m.decided_upto {
            return self.ignore(cx, "promise that discarded what is not decided");
        }
        let promises = match &mut self.office {
            Office::Candidate(candidate) if candidate.ballot == m.ballot => &mut candidate.promises,
            Office::Leader(leader) if leader.ballot == m.ballot => &mut leader.promises,
            _ => return self.on_vain_promise(cx, from, m.ballot),
        };
        if !promises.add(from, m, cx.now.monotonic) {
            return;
        }
        let (who, decided_upto) = (promises.who(), promises.decided_upto());
        self.raise_target(decided_upto);
        match &self.office {
            Office::Candidate(_) if self.configuration.is_quorum(who) => self.take_office(cx),
            Office::Leader(_) => self.retry_blocked(cx),
            _ => {}
        }
    }

    /// Of another ballot than it stands or leads in. Whoever promised one of its own, which it has left or forgotten,
    /// need not wait for it: the more candidates failed before, the longer that would be.
    fn on_vain_promise(&mut self, cx: &mut Cx<'_>, from: ReplicaId, ballot: Ballot) {
        if ballot.leader == self.me {
            let decided_upto = self.log.decided_upto;
            let step_down = StepDown { ballot, successor: None, decided_upto };
            self.send(cx, from, Body::StepDown(step_down));
        }
        self.ignore(cx, "promise of another ballot");
    }

    /// A quorum has promised: the candidate leads, and proposes what it has to.
    fn take_office(&mut self, cx: &mut Cx<'_>) {
        let Office::Candidate(candidate) = &self.office else { return };
        if candidate.promises.truncated_upto() > self.log.decided_upto {
            // It would have to fetch a checkpoint before it could decide anything: others first.
            return self.step_down(cx, self.settings.election_timeout * 2);
        }
        let Office::Candidate(candidate) = core::mem::replace(&mut self.office, Office::Follower)
        else {
            return;
        };
        let Candidate { ballot, from, promises, .. } = candidate;
        let known = self.log.decided_upto.max(promises.decided_upto());
        let mut top = promises.top(&self.plants).max(known);
        if self.plants.has(Plant::RangeBoundedByDecided) {
            top = known;
        }
        let slots = promises.to_take_over(from, top);
        let now = cx.now.monotonic;
        let known_time = if self.plants.has(Plant::ClockNotRaised) {
            self.log.time
        } else {
            self.known_time(now).max(promises.known_time(now))
        };
        let clock = DecidedClock::unjudged(known_time, now);
        let takeover =
            Takeover { promises, promised_from: from, reported_decided: known, top, clock };
        let leader = Leader::new(ballot, takeover, now, &self.configuration, &self.settings);
        self.office = Office::Leader(Box::new(leader));
        self.election.attempts = 0;
        self.take_what_waits();
        cx.observe(Observation::Role { role: Role::Leader, ballot });
        cx.observe(Observation::Leader(Some(ballot)));
        for slot in slots {
            self.take_over(cx, slot);
        }
        // A no-op of this ballot: once it is decided, all that was taken over is. What time it is can
        // only be said then.
        self.propose(cx, top.next(), self.own_value(top.next()));
        self.show_leader(cx, true);
        self.flush_due = true;
    }

    /// What a new leader proposes where nothing was: nothing, but for the opening of the log.
    fn own_value(&self, slot: Slot) -> Value {
        let opening = self.opening.iter().filter(|_| slot == Slot::FIRST).cloned();
        Batch { time: Timestamp(0), requests: opening.collect() }.encode()
    }

    /// Proposes in a slot that an earlier ballot may have used, or notes that it is blocked. A slot
    /// that is known as decided, but whose record is damaged here, is learned instead.
    fn take_over(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        if slot <= self.log.decided_upto && !self.acceptor.is_uncertain(slot) {
            return;
        }
        let Office::Leader(leader) = &mut self.office else { return };
        let configuration = &self.configuration;
        let found = leader.promises.find(slot, |set| configuration.is_quorum(set), &self.plants);
        let decided = slot <= self.log.decided_upto.max(leader.reported_decided);
        match found {
            Finding::Value(entry) if slot <= self.log.decided_upto => self.learn(cx, slot, entry),
            Finding::Value(entry) => self.propose(cx, slot, entry.value),
            // Decided, and yet not by anyone who promised this ballot before: in a higher one.
            Finding::Free if decided => self.resign(cx),
            Finding::Free => {
                self.propose(cx, slot, self.own_value(slot));
            }
            Finding::Blocked => {
                leader.blocked.insert(slot);
                cx.observe(Observation::Blocked { slot });
            }
        }
    }

    /// Slots are blocked: who has not promised yet may know what they hold.
    pub(crate) fn ask_about_blocked(&mut self, cx: &mut Cx<'_>) {
        let Office::Leader(leader) = &self.office else { return };
        if leader.blocked.is_empty() {
            return;
        }
        let prepare = Prepare { ballot: leader.ballot, from: leader.promised_from };
        let answered = leader.promises.who();
        for peer in self.peers().filter(|peer| !answered.contains(peer.index)) {
            self.send(cx, peer, Body::Prepare(prepare));
        }
    }

    /// A further promise came: blocked slots may have become free.
    fn retry_blocked(&mut self, cx: &mut Cx<'_>) {
        let Office::Leader(leader) = &mut self.office else { return };
        leader.reported_decided = leader.promises.decided_upto().max(leader.reported_decided);
        let mut blocked: BTreeSet<Slot> = core::mem::take(&mut leader.blocked);
        blocked.retain(|slot| !leader.promises.can_be_fetched(*slot));
        for slot in blocked {
            self.take_over(cx, slot);
        }
        self.deliver(cx);
    }

    pub(crate) fn on_refused(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Refused) {
        let own = match &self.office {
            Office::Candidate(candidate) => candidate.ballot == m.ballot,
            Office::Leader(leader) => leader.ballot == m.ballot,
            Office::Follower => false,
        };
        match m.reason {
            RefusedReason::Promised(ballot) => {
                self.election.note_ballot(ballot);
                if own && ballot > m.ballot {
                    // Someone else was let through by a quorum: leave it the time to finish.
                    self.step_down(cx, self.settings.election_timeout / 2);
                }
            }
            RefusedReason::Decided(upto) => self.raise_target(upto),
            RefusedReason::NoRoom => {
                if let (Office::Leader(leader), true) = (&mut self.office, own)
                    && let Some(peer) = leader.peers.get_mut(&from.index)
                {
                    peer.has_room(false, self.settings.page_bytes_max);
                }
                self.ignore(cx, "a follower has no room for entries");
            }
            RefusedReason::Behind { slot, decided_upto } => {
                if let (Office::Leader(leader), true) = (&mut self.office, own)
                    && let Some(peer) = leader.peers.get_mut(&from.index)
                {
                    peer.flow.refused(slot, decided_upto);
                }
                self.ignore(cx, "a follower keeps as many undecided entries as it may");
            }
        }
    }
}
