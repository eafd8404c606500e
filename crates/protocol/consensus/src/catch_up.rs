//! Learning what was decided without this replica, and giving it to others. All of it deals in decided
//! values only.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use mainstay_model::{Ballot, Entry, Instant, Plant, Plants, RecordKind, ReplicaId, Slot};

use crate::asked::Asked;
use crate::door::{Effect, ReadPurpose};
use crate::message::{Body, CatchUp, Decided, Report};
use crate::replica::{Cx, Office, Replica};
use crate::settings::CatchUpPolicy;
use crate::wire::DECIDED;

/// How many pages one replica is given within a resend interval.
const PAGES_MAX: u32 = 64;
/// For how many time-outs what is missing is expected of a leader that sends something long.
const WAITING_PATIENCE: u32 = 4;
/// How often the patience with an answer that may be on its way in pieces doubles at most.
const DOUBLINGS_MAX: u32 = 3;

/// What another replica was given last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Given {
    from: Slot,
    at: Instant,
    /// Whether that question was answered.
    answered: bool,
    /// How many pages since when.
    pages: u32,
    since: Instant,
}

/// What the leader of a ballot says is decided; the highest of the highest ballot heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Watermark {
    ballot: Ballot,
    upto: Slot,
}

/// What is missing here, and who was asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CatchUpState {
    /// The highest slot that anyone is known to know as decided.
    pub(crate) target: Slot,
    watermark: Watermark,
    asked: Option<Asked>,
    /// How many questions in a row had no answer although pieces of long messages passed.
    in_vain: u32,
    /// Whose turn it is to be asked; goes on when an answer was of no use.
    turn: usize,
    /// How many in a row answered that their logs begin above what is missing.
    too_late: usize,
    /// Who gave the last page, if it is to give the next one.
    gives: Option<ReplicaId>,
    /// When all were last asked, or told how far this replica is.
    multicast_at: Instant,
    multicast_due: bool,
    /// What was known as decided then.
    decided_then: Slot,
    /// And one interval earlier.
    decided_before: Slot,
    given: BTreeMap<u16, Given>,
    /// From whom a piece of a long message came last, and when.
    passed: Option<(ReplicaId, Instant)>,
    /// With what known as decided, and since when, the leader's long messages are waited for.
    waits: (Slot, Instant),
}

impl CatchUpState {
    pub(crate) fn new(decided_upto: Slot) -> Self {
        Self {
            target: decided_upto,
            watermark: Watermark { ballot: Ballot::ZERO, upto: Slot::NONE },
            asked: None,
            in_vain: 0,
            turn: 0,
            too_late: 0,
            gives: None,
            multicast_at: Instant(0),
            multicast_due: false,
            decided_then: decided_upto,
            decided_before: decided_upto,
            given: BTreeMap::new(),
            passed: None,
            waits: (Slot::NONE, Instant(0)),
        }
    }

    /// A piece of a long message of `peer` came: what it was asked for need not be asked for again yet.
    pub(crate) fn passes(&mut self, peer: ReplicaId, now: Instant, kind: u16) {
        self.passed = Some((peer, now));
        if let Some(asked) = &mut self.asked {
            asked.passes(peer, now, kind == DECIDED);
        }
    }
}

impl<P: Plants> Replica<P> {
    /// The leader of `ballot` says that what it proposed up to `upto` is decided. Only entries
    /// accepted in that very ballot are known by it; everything else is fetched.
    pub(crate) fn on_watermark(&mut self, cx: &mut Cx<'_>, ballot: Ballot, upto: Slot) {
        let known = &mut self.catch_up.watermark;
        if ballot > known.ballot {
            *known = Watermark { ballot, upto };
        } else if ballot == known.ballot {
            known.upto = known.upto.max(upto);
        }
        let Watermark { ballot, upto } = *known;
        while self.log.decided_upto < upto {
            let slot = self.log.decided_upto.next();
            let believed = self.log.get(slot).is_some_and(|kept| {
                kept.entry.ballot == ballot || self.plants.has(Plant::ForeignWatermarkBelieved)
            });
            if !believed {
                break;
            }
            self.log.decide(slot);
        }
        self.raise_target(upto);
        self.deliver(cx);
    }

    pub(crate) fn raise_target(&mut self, slot: Slot) {
        self.catch_up.target = self.catch_up.target.max(slot);
        if self.catch_up.target > self.log.decided_upto {
            self.flush_due = true;
        }
    }

    /// The first slots that are decided and not known here: damaged ones, then those above the
    /// watermark. Without room for them, those that the executor lacks.
    fn missing(&self) -> Option<(Slot, Slot)> {
        if !self.acceptor.room {
            return self.missing_to_the_executor();
        }
        let damaged = self.acceptor.first_uncertain(self.log.settled_upto().next());
        if let Some(slot) = damaged.filter(|slot| *slot <= self.log.decided_upto) {
            return Some((slot, self.log.decided_upto));
        }
        let next = self.log.decided_upto.next();
        (self.catch_up.target >= next).then_some((next, self.catch_up.target))
    }

    /// What the executor does not have, and the log cannot give.
    fn missing_to_the_executor(&self) -> Option<(Slot, Slot)> {
        let (next, upto) = (self.log.delivered_upto.next(), self.catch_up.target);
        let kept = next <= self.log.decided_upto && !self.acceptor.is_uncertain(next);
        let takes = !self.checkpoints.diverged() && self.delivers_more();
        (!kept && takes && next <= upto).then_some((next, upto))
    }

    /// Asks for the next missing page, unless that has been done.
    pub(crate) fn ask_for_missing(&mut self, cx: &mut Cx<'_>) {
        if self.log.begins_too_late() {
            return self.begin_transfer(cx);
        }
        // What only passes through is of use while a checkpoint is fetched.
        if self.catch_up.asked.is_some() || self.transfers() && self.acceptor.room {
            return;
        }
        let Some((from, upto)) = self.missing() else { return };
        // What there is no room for need not be waited for, and what is damaged here does not come by itself.
        if self.acceptor.room
            && from > self.log.decided_upto
            && let Some(leader) = self.leader_that_sends(cx.now.monotonic)
        {
            self.catch_up.asked = Some(Asked::expected(from, leader, cx.now.monotonic));
            return;
        }
        let donors = self.donors();
        if donors.is_empty() {
            return;
        }
        if self.catch_up.too_late >= donors.len() {
            self.catch_up.too_late = 0;
            return self.begin_transfer(cx);
        }
        let to = match (self.settings.catch_up, self.catch_up.gives.take()) {
            (CatchUpPolicy::Query, _) => Some(donors[self.catch_up.turn % donors.len()]),
            (CatchUpPolicy::Multicast { .. }, Some(to)) => Some(to),
            (CatchUpPolicy::Multicast { .. }, None) if self.catch_up.multicast_due => None,
            (CatchUpPolicy::Multicast { .. }, None) => return,
        };
        let patience = self.asked_patience() * (1 << self.catch_up.in_vain);
        self.catch_up.asked = Some(Asked::of(from, to, cx.now.monotonic, patience));
        match to {
            Some(to) => self.send(cx, to, Body::CatchUp(CatchUp { from, upto })),
            None => {
                self.catch_up.multicast_due = false;
                self.multicast(cx, &Body::CatchUp(CatchUp { from, upto }));
            }
        }
    }

    fn multicast(&self, cx: &mut Cx<'_>, body: &Body) {
        for peer in self.peers() {
            self.send(cx, peer, body.clone());
        }
    }

    /// The leader, if a long message of it is coming in. A leader that sends one after the other may yet
    /// not send what is missing, so there is an end to waiting.
    fn leader_that_sends(&mut self, now: Instant) -> Option<ReplicaId> {
        let (peer, at) = self.catch_up.passed?;
        if now >= at.after(self.settings.resend_interval) || !self.election.follows(peer) {
            return None;
        }
        let decided_upto = self.log.decided_upto;
        let since = match self.catch_up.waits {
            (known, since) if known == decided_upto && since > Instant(0) => since,
            _ => now,
        };
        self.catch_up.waits = (decided_upto, since);
        let until = since.after(self.election_timeout() * WAITING_PATIENCE);
        (now < until).then_some(peer)
    }

    /// What was asked for is not what is wanted now.
    pub(crate) fn ask_anew(&mut self) {
        self.catch_up.asked = None;
    }

    /// Whether something missing was asked for and has not come.
    pub(crate) fn catches_up(&self) -> bool {
        self.catch_up.asked.is_some()
    }

    /// Who may be asked, in turn; the leader last, it has enough to do.
    fn donors(&self) -> Vec<ReplicaId> {
        let leader = self.election.leader.map(|ballot| ballot.leader);
        let mut donors: Vec<ReplicaId> =
            self.peers().filter(|peer| !self.election.is_suspected(*peer)).collect();
        if donors.is_empty() {
            donors = self.peers().collect();
        }
        donors.sort_by_key(|peer| Some(*peer) == leader);
        donors
    }

    fn multicast_interval(&self) -> Option<Duration> {
        match self.settings.catch_up {
            CatchUpPolicy::Query => None,
            CatchUpPolicy::Multicast { interval } => Some(interval.max(Duration::from_millis(1))),
        }
    }

    fn asked_until(&self) -> Option<Instant> {
        self.catch_up.asked.map(|asked| asked.until(self.settings.resend_interval))
    }

    pub(crate) fn catch_up_deadline(&self) -> Option<Instant> {
        let multicast = self.multicast_interval().map(|i| self.catch_up.multicast_at.after(i));
        self.asked_until().into_iter().chain(multicast).min()
    }

    pub(crate) fn catch_up_tick(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        let interval = self.settings.resend_interval;
        if let Some(asked) = self.catch_up.asked.take_if(|asked| now >= asked.until(interval)) {
            let in_vain = self.catch_up.in_vain + u32::from(asked.outlasted_patience(interval));
            self.catch_up.in_vain = in_vain.min(DOUBLINGS_MAX);
            self.catch_up.turn += usize::from(!asked.comes);
        }
        let Some(interval) = self.multicast_interval() else { return };
        if now < self.catch_up.multicast_at.after(interval) {
            return;
        }
        self.catch_up.multicast_at = now;
        self.catch_up.decided_before = self.catch_up.decided_then;
        self.catch_up.decided_then = self.log.decided_upto;
        // What is missing is asked for at the end of this turn.
        self.catch_up.multicast_due = self.missing().is_some();
        if !self.catch_up.multicast_due && !self.transfers() {
            let (accepted_upto, decided_upto) = (self.log.accepted_upto, self.log.decided_upto);
            self.multicast(cx, &Body::Report(Report { accepted_upto, decided_upto }));
        }
    }

    /// Another replica lacks nothing it knows of. One that knows less than was known here an interval ago is told.
    pub(crate) fn on_report(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Report) {
        if m.accepted_upto < m.decided_upto {
            return self.ignore(cx, "report that contradicts itself");
        }
        if m.decided_upto < self.catch_up.decided_before {
            self.give(cx, from, m.decided_upto.next(), Vec::new());
        }
    }

    /// Whether the question of `from` is answered now: not twice at once, not more pages than there
    /// can be need for, and by a leader that was asked along with all others only if the question
    /// comes again, or follows one that it answered.
    fn may_give(&mut self, now: Instant, to: ReplicaId, from: Slot) -> bool {
        let interval = self.settings.resend_interval;
        let multicast = self.multicast_interval();
        let asked_with_others = self.leads() && multicast.is_some();
        // A page may take long on a slow path.
        let lasts = self.election_timeout().max(multicast.unwrap_or(interval));
        let fresh = Given { from: Slot::NONE, at: now, answered: false, pages: 0, since: now };
        let given = self.catch_up.given.entry(to.index).or_insert(fresh);
        if now >= given.since.after(interval) {
            (given.pages, given.since) = (0, now);
        }
        let again = given.from == from;
        let at_once = again && now < given.at.after(interval / 2);
        if at_once || given.pages >= PAGES_MAX {
            return false;
        }
        // Later, all were asked anew.
        let recent = now < given.at.after(lasts);
        let follows = given.answered && from > given.from && recent;
        (given.from, given.at) = (from, now);
        given.pages += 1;
        given.answered = again || follows || !asked_with_others;
        given.answered
    }

    pub(crate) fn on_catch_up(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: CatchUp) {
        if m.from == Slot::NONE || m.from > m.upto {
            return self.ignore(cx, "question for slots that cannot be");
        }
        if !self.may_give(cx.now.monotonic, from, m.from) {
            return self.ignore(cx, "question for slots that comes too soon");
        }
        let known = if self.plants.has(Plant::UndecidedGivenAway) {
            self.log.accepted_upto
        } else {
            self.log.decided_upto
        };
        let upto = m.upto.min(known);
        if m.from <= self.log.truncated_upto || m.from > upto {
            return self.give(cx, from, m.from, Vec::new());
        }
        let entries = self.log.page(m.from, upto, self.settings.page_bytes_max);
        if !entries.is_empty() {
            return self.give(cx, from, m.from, entries);
        }
        if self.delivery.reading_for.insert(from.index) {
            let kept = self.log.first_kept_from(m.from).map_or(upto, Slot::previous);
            cx.out.push(Effect::ReadLog {
                from: m.from,
                upto: upto.min(kept),
                bytes_max: self.settings.page_bytes_max,
                purpose: ReadPurpose::CatchUp(from),
            });
        }
    }

    pub(crate) fn give(&self, cx: &mut Cx<'_>, to: ReplicaId, from: Slot, entries: Vec<Entry>) {
        let (decided_upto, truncated_upto) = (self.log.decided_upto, self.log.truncated_upto);
        let decided = Decided { from, entries, decided_upto, truncated_upto };
        self.send(cx, to, Body::Decided(decided));
    }

    pub(crate) fn on_decided(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Decided) {
        // Whoever gives it: where all are so far away that the next one is asked before an answer can
        // come, each answer comes from one that was asked earlier.
        let asked = self.catch_up.asked.filter(|asked| asked.from == m.from);
        self.raise_target(m.decided_upto);
        // The pieces that came were of this page; the next one does not come unless it is asked for.
        self.catch_up.passed.take_if(|(peer, _)| *peer == from);
        let useful = !m.entries.is_empty();
        let mut slot = m.from;
        for entry in m.entries {
            let taken = if self.acceptor.room || self.keeps_already(slot, &entry) {
                self.learn_next(cx, slot, entry)
            } else {
                self.pass_on(cx, slot, entry)
            };
            if !taken {
                break;
            }
            slot = slot.next();
        }
        if asked.is_some() {
            if useful {
                self.catch_up.asked = None;
                (self.catch_up.too_late, self.catch_up.in_vain) = (0, 0);
                self.catch_up.gives = Some(from);
            } else {
                if m.truncated_upto >= m.from {
                    self.catch_up.too_late += 1;
                }
                self.try_next_donor();
            }
            self.flush_due = true;
        }
        self.deliver(cx);
    }

    /// The answer was empty: the next one is asked at once, but after a whole round only when the
    /// time for an answer has passed.
    fn try_next_donor(&mut self) {
        let donors = self.donors().len().max(1);
        if self.catch_up.asked.is_some_and(|asked| asked.to.is_none()) {
            // The others were asked, too.
            if self.catch_up.too_late >= donors {
                self.catch_up.asked = None;
            }
            return;
        }
        if !(self.catch_up.turn + 1).is_multiple_of(donors) {
            self.catch_up.asked = None;
            self.catch_up.turn += 1;
        } else if let Some(asked) = &mut self.catch_up.asked {
            asked.came_to_nothing();
        }
    }

    /// Learns the value of `slot`; false if slots before it are missing.
    fn learn_next(&mut self, cx: &mut Cx<'_>, slot: Slot, entry: Entry) -> bool {
        let is_next = slot <= self.log.decided_upto.next();
        if is_next {
            self.learn(cx, slot, entry);
        }
        is_next
    }

    /// Whether the log holds the value of the next slot, and only did not know that it is decided.
    fn keeps_already(&self, slot: Slot, entry: &Entry) -> bool {
        let kept = self.log.get(slot).filter(|_| slot == self.log.decided_upto.next());
        kept.is_some_and(|kept| kept.entry.value == entry.value)
    }

    /// There is no room for the value of `slot`, which is decided: it is handed to the executor and not
    /// kept, so that clients here are served all the same. Neither the log nor any message knows of it:
    /// as for what a replica has accepted, decided or can give to others, it has not come. Once there is
    /// room it is fetched again. False if the executor lacks slots before it, or has enough to do.
    fn pass_on(&mut self, cx: &mut Cx<'_>, slot: Slot, entry: Entry) -> bool {
        self.deliver(cx);
        if slot <= self.log.delivered_upto {
            return true;
        }
        let able = !self.delivery.reading && !self.checkpoints.diverged() && self.delivers_more();
        if slot != self.log.delivered_upto.next() || !able {
            return false;
        }
        self.log.pass(slot);
        if self.plants.has(Plant::PassedTakenForKept) && slot == self.log.decided_upto.next() {
            self.log.decide(slot);
        }
        self.hand_out(cx, slot, entry.value);
        true
    }

    /// Takes a value that is decided in `slot`, the next one or one that is known to be decided.
    pub(crate) fn learn(&mut self, cx: &mut Cx<'_>, slot: Slot, entry: Entry) {
        let known = self.log.get(slot).map(|kept| kept.entry.value == entry.value);
        if slot <= self.log.decided_upto {
            assert!(known != Some(false), "two values are decided in one slot");
            if self.acceptor.is_uncertain(slot) {
                self.record(cx, RecordKind::Learn { slot, entry: entry.clone() });
                self.keep(slot, entry);
                self.acceptor.certain_again(slot);
            }
            return;
        }
        if !self.leader_learned(slot, &entry.value) {
            self.step_down(cx, self.settings.election_timeout / 2);
        }
        if known != Some(true) {
            self.record(cx, RecordKind::Learn { slot, entry: entry.clone() });
            self.keep(slot, entry);
        }
        self.acceptor.certain_again(slot);
        self.log.decide(slot);
    }

    /// Whether this replica leads; for those who only need to know that much.
    pub(crate) fn leads(&self) -> bool {
        matches!(self.office, Office::Leader(_))
    }
}
