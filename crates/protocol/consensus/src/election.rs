//! Who should lead, and when to doubt it. Nothing here carries safety: it only decides when a
//! replica asks the others, and when it becomes a candidate.
//!
//! A replica that hears of no leader asks all others (probe). Only if a quorum, itself included,
//! hears of none either does it move to a ballot of its own: one replica with a bad link cannot
//! unseat a working leader. Trusted rank (Lea 2013: lowest epoch first, then highest index) says
//! how long each waits before it asks; it never forbids.

use alloc::collections::{BTreeMap, VecDeque};
use core::time::Duration;

use mainstay_model::{Ballot, Instant, Plants, Prng, ReplicaId, ReplicaSet, Slot};

use crate::door::Observation;
use crate::message::{Body, Lead, Probe, ProbeReply, StepDown};
use crate::relay::Relay;
use crate::replica::{Cx, Office, Replica};
use crate::settings::LeaderPolicy;
use crate::stuck::Compared;

/// What the leader showed of itself last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shown {
    /// Its decided watermark.
    decided_upto: Slot,
    /// Whether it had work open.
    works: bool,
    /// Since when that is so.
    since: Instant,
}

/// A candidate that has time to become leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Grace {
    /// The ballot in which it was promised.
    ballot: Ballot,
    until: Instant,
}

/// What a replica knows of leaders.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Election {
    /// The ballot whose leader is followed: the last to show a sign of life and not refuted since.
    pub(crate) leader: Option<Ballot>,
    /// When it last showed one.
    heard_at: Instant,
    shown: Shown,
    /// How far the leader is itself, beside this replica.
    pub(crate) compared: Compared,
    /// Whether the leader knows of a quorum with room for entries.
    pub(crate) room: bool,
    /// Leaders that were given up for lack of progress, in a row: each doubles the patience.
    stalls: u32,
    /// The last of them, and until when its signs of life count for nothing unless they show progress:
    /// the others must be found silent between two of them.
    stalled: Option<(Ballot, Instant)>,
    /// Candidacies seen since a leader was heard of: each doubles the time the next one has, so that
    /// disks slower than the time-out do not keep a group from ever having a leader.
    pub(crate) attempts: u32,
    /// A candidate's ballot was promised: until then it has the time to become leader.
    grace: Option<Grace>,
    suspected: ReplicaSet,
    /// When to ask the others; `None` while a leader is heard of.
    due: Option<Instant>,
    /// While none is heard: who hears one.
    pub(crate) relay: Option<Relay>,
    /// The number of the last question, and those whose answers can still tell something (how far
    /// away the others are, if nothing else) with the instant of each.
    probe: u64,
    probes: VecDeque<(u64, Instant)>,
    /// Answers to earlier questions are too old to stand on.
    asked_from: u64,
    /// Who answered which of them that it hears of no leader either.
    silent: BTreeMap<u16, u64>,
    /// The highest ballot seen anywhere.
    ballot_seen: Ballot,
    /// The highest ballot whose leader gave it up: what still comes from it is no sign of life.
    given_up: Ballot,
    prng: Prng,
}

impl Election {
    pub(crate) fn new(now: Instant, promised: Ballot, prng: Prng) -> Self {
        Self {
            leader: None,
            heard_at: now,
            shown: Shown { decided_upto: Slot::NONE, works: false, since: now },
            compared: Compared::default(),
            room: true,
            stalls: 0,
            stalled: None,
            attempts: 0,
            grace: None,
            suspected: ReplicaSet::EMPTY,
            due: None,
            relay: None,
            probe: 0,
            probes: VecDeque::new(),
            asked_from: 0,
            silent: BTreeMap::new(),
            ballot_seen: promised,
            given_up: Ballot::ZERO,
            prng,
        }
    }

    pub(crate) fn note_ballot(&mut self, ballot: Ballot) {
        self.ballot_seen = self.ballot_seen.max(ballot);
    }

    pub(crate) fn ballot_seen(&self) -> Ballot {
        self.ballot_seen
    }

    pub(crate) fn is_suspected(&self, peer: ReplicaId) -> bool {
        self.suspected.contains(peer.index)
    }

    pub(crate) fn follows(&self, peer: ReplicaId) -> bool {
        self.leader.is_some_and(|ballot| ballot.leader == peer)
    }

    /// The leader gets on with its work, as far as it goes.
    pub(crate) fn sees_progress(&mut self, now: Instant) {
        self.shown.since = now;
    }

    /// A candidate that is waited for has until then at least.
    pub(crate) fn gives_grace(&mut self, candidate: ReplicaId, at_least: Instant) {
        if let Some(grace) = self.grace.as_mut().filter(|grace| grace.ballot.leader == candidate) {
            grace.until = at_least.max(grace.until);
        }
    }

    /// The number of the next probe.
    pub(crate) fn next_probe(&mut self) -> u64 {
        self.probe += 1;
        self.probe
    }

    /// Something between zero and `part` of an election time-out.
    fn jitter(&mut self, timeout: Duration, part: u32) -> Duration {
        let nanos = mainstay_model::time::nanos(timeout / part);
        Duration::from_nanos(self.prng.below(nanos.max(1)))
    }
}

impl<P: Plants> Replica<P> {
    /// Whether this replica hears of a leader that makes progress, or of a candidate that has just
    /// begun; a candidate hears of itself while nobody else can, since its ballot is not durable yet.
    pub(crate) fn hears_leader(&self, now: Instant) -> bool {
        match &self.office {
            Office::Leader(leader) => !leader.doubts_itself() && !self.finds_itself_stuck(now),
            Office::Candidate(candidate) => {
                candidate.is_writing() && now < candidate.since.after(self.standing_time())
            }
            Office::Follower => {
                self.leader_until().is_some_and(|until| now < until)
                    || self.grace_until().is_some_and(|until| now < until)
            }
        }
    }

    /// Whether it has nothing against the leader that it hears of.
    pub(crate) fn accepts_leader(&self, now: Instant) -> bool {
        self.hears_leader(now) && !self.finds_bad(now)
    }

    /// Whether the leader that is followed shows itself, and yet another one should lead.
    fn finds_bad(&self, now: Instant) -> bool {
        self.finds_slow(now) || self.finds_stuck(now)
    }

    /// This replica was paused: whoever it follows or waits for has one more time-out, and what it
    /// asked before is too old.
    pub(crate) fn listen_again(&mut self, now: Instant) {
        let again = now.after(self.election_timeout());
        let election = &mut self.election;
        election.heard_at = now;
        election.shown.since = now;
        if let Some(grace) = &mut election.grace {
            grace.until = again;
        }
        election.due = election.due.map(|_| again);
        election.asked_from = election.probe + 1;
        election.silent.clear();
        self.compare_anew(now);
    }

    /// Until when the present leader is believed if it shows nothing more.
    fn leader_until(&self) -> Option<Instant> {
        let election = &self.election;
        let ballot = election.leader?;
        if election.is_suspected(ballot.leader) {
            return None;
        }
        let heard_until = election.heard_at.after(self.election_timeout());
        let Shown { works, since, .. } = election.shown;
        if !works {
            return Some(heard_until);
        }
        let patience = self.stall_timeout() * (1 << election.stalls.min(6));
        Some(heard_until.min(since.after(patience)))
    }

    fn grace_until(&self) -> Option<Instant> {
        let Grace { ballot, until } = self.election.grace?;
        (!self.election.is_suspected(ballot.leader)).then_some(until)
    }

    /// A candidate was promised: it has one time-out to become leader.
    pub(crate) fn expect_leader(&mut self, cx: &mut Cx<'_>, ballot: Ballot) {
        self.forget_leader(cx);
        self.election.attempts += 1;
        let until = cx.now.monotonic.after(self.candidacy_time());
        self.election.grace = Some(Grace { ballot, until });
        self.election.due = None;
    }

    /// How long a candidate has.
    pub(crate) fn candidacy_time(&self) -> Duration {
        self.standing_time() * (1 << self.election.attempts.saturating_sub(1).min(5))
    }

    /// The leader of `ballot` showed a sign of life.
    pub(crate) fn hear_leader(&mut self, cx: &mut Cx<'_>, ballot: Ballot) {
        let known = self.election.leader.unwrap_or(Ballot::ZERO);
        if ballot < known || ballot <= self.election.given_up {
            return;
        }
        self.election.note_ballot(ballot);
        let stalled = self.election.stalled;
        if stalled.is_some_and(|(other, until)| other == ballot && cx.now.monotonic < until) {
            return;
        }
        self.election.heard_at = cx.now.monotonic;
        if self.election.leader != Some(ballot) {
            self.leave_office(cx);
            self.give_time(cx.now.monotonic);
            self.election.leader = Some(ballot);
            self.election.relay = None;
            let (decided_upto, since) = (self.log.decided_upto, cx.now.monotonic);
            self.election.shown = Shown { decided_upto, works: false, since };
            self.election.compared = Compared::default();
            self.election.room = true;
            self.flush_due = true;
            cx.observe(Observation::Leader(Some(ballot)));
        }
        self.pauses.heard();
        self.election.attempts = 0;
        self.election.grace = None;
        if !self.finds_bad(cx.now.monotonic) {
            self.election.due = None;
        }
    }

    /// What the leader shows about its work.
    pub(crate) fn judge_progress(&mut self, cx: &mut Cx<'_>, m: &Lead) {
        let Shown { decided_upto: decided, works: worked, .. } = self.election.shown;
        let works = m.proposed_upto > m.decided_upto && m.room;
        self.election.room = m.room;
        if m.decided_upto > decided {
            self.election.stalls = 0;
            self.election.stalled = None;
        }
        let now = cx.now.monotonic;
        let excused = self.learns(now) || self.latencies.writes_long(now);
        if m.decided_upto > decided || works != worked || excused {
            let (decided_upto, since) = (m.decided_upto.max(decided), cx.now.monotonic);
            self.election.shown = Shown { decided_upto, works, since };
        }
        self.compare_progress(cx.now.monotonic, m);
        self.judge_speed(cx);
    }

    /// From now on no leader is known.
    pub(crate) fn forget_leader(&mut self, cx: &mut Cx<'_>) {
        self.latencies.forget_slot();
        if self.election.leader.take().is_some() {
            cx.observe(Observation::Leader(None));
        }
        self.flush_due = true;
    }

    pub(crate) fn on_suspicion(&mut self, cx: &mut Cx<'_>, peer: ReplicaId, suspected: bool) {
        if peer == self.me || !self.configuration.lists(peer) {
            return self.ignore(cx, "suspicion of a replica that is not in the configuration");
        }
        if suspected {
            self.election.suspected.insert(peer.index);
        } else {
            self.election.suspected.remove(peer.index);
        }
        self.flush_due = true;
    }

    pub(crate) fn on_link(&mut self, cx: &mut Cx<'_>, peer: ReplicaId, up: bool) {
        if peer == self.me || !self.configuration.lists(peer) {
            return self.ignore(cx, "link to a replica that is not in the configuration");
        }
        if !up {
            return;
        }
        // Whoever comes back is told at once who leads, or asked whether it knows.
        self.flush_due = true;
        match &mut self.office {
            Office::Leader(leader) => leader.link_up(peer.index, self.settings.page_bytes_max),
            Office::Candidate(candidate) => candidate.ask_now(),
            Office::Follower if self.election.due.is_some() => {
                self.election.due = Some(cx.now.monotonic);
            }
            Office::Follower => {}
        }
    }

    /// How long this replica leaves it to others to ask first.
    fn rank_delay(&mut self, now: Instant) -> Duration {
        let timeout = self.election_timeout();
        let place = |replica: &ReplicaId| self.place(*replica);
        let mine = place(&self.me);
        let able = self.peers().filter(|peer| !self.election.is_suspected(*peer));
        let ahead = able.filter(|peer| place(peer) < mine).count();
        let mut delay = timeout / 8 * u32::try_from(ahead).unwrap_or(u32::MAX);
        if self.catch_up.target.0 > self.log.decided_upto.0 + self.configuration.alpha {
            delay += timeout / 4;
        }
        if !self.acceptor.room {
            delay += timeout / 2;
        }
        if self.transfers() || self.stands_still(now) {
            delay += timeout;
        }
        delay += self.latencies.disk(now).min(timeout);
        delay + self.election.jitter(timeout, 32)
    }

    /// The place of a replica in the order in which they try; the lowest tries first.
    fn place(&self, replica: ReplicaId) -> (u32, u64) {
        match self.settings.leader_policy {
            LeaderPolicy::TrustedRank => {
                (replica.epoch.counter, u64::from(u16::MAX - replica.index))
            }
            LeaderPolicy::Rotation => {
                let count = self.configuration.replicas.len() as u64;
                let next = self.election.ballot_seen.round.wrapping_add(1) % count;
                (0, (u64::from(replica.index) + count - next) % count)
            }
        }
    }

    /// The ballot in which this replica stands next: above every one that it promised or saw.
    pub(crate) fn next_ballot(&self) -> Ballot {
        let mut ballot = self.acceptor.promised.max(self.election.ballot_seen).next_for(self.me);
        if self.settings.leader_policy == LeaderPolicy::Rotation {
            let count = self.configuration.replicas.len() as u64;
            let own = u64::from(self.me.index);
            ballot.round += (own + count - ballot.round % count) % count;
        }
        ballot
    }

    pub(crate) fn election_deadline(&self) -> Option<Instant> {
        let heard = [self.leader_until(), self.grace_until()].into_iter().flatten().max();
        let believes = self.election.leader.is_some() || self.election.grace.is_some();
        let stands = self.votes && !self.retired;
        match (heard, self.election.due) {
            (Some(until), None) => Some(until),
            (_, Some(due)) => Some(due),
            (None, None) => (believes || stands).then_some(Instant(0)),
        }
    }

    /// A follower looks whether it still hears of a leader; if not, and its turn has come, it asks.
    pub(crate) fn election_tick(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        if self.accepts_leader(now) {
            self.election.due = None;
            return;
        }
        if !self.hears_leader(now) {
            self.give_leader_up(cx);
        }
        self.forget_old_relay(cx);
        if !self.votes || self.retired {
            self.election.due = None;
            return;
        }
        match self.election.due {
            None => {
                let delay = self.rank_delay(now);
                self.election.due = Some(now.after(delay));
            }
            Some(due) if due <= now => self.ask_all(cx),
            Some(_) => {}
        }
    }

    /// The leader is not believed any more.
    fn give_leader_up(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        let timeout = self.election_timeout();
        if let Some(ballot) = self.election.leader {
            // Heard and not suspected, and yet not believed any more: it made no progress.
            let fresh = now < self.election.heard_at.after(timeout);
            if fresh && !self.election.is_suspected(ballot.leader) {
                self.election.stalls += 1;
                self.election.stalled = Some((ballot, now.after(timeout)));
            }
            self.forget_leader(cx);
        }
        self.election.grace = None;
    }

    fn ask_all(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        let number = self.election.next_probe();
        let longest = self.settings.election_timeout_max;
        self.election.probes.retain(|(_, at)| now < at.after(longest));
        self.election.probes.push_back((number, now));
        let again =
            self.settings.lead_interval + self.election.jitter(self.settings.lead_interval, 2);
        self.election.due = Some(cx.now.monotonic.after(again));
        let probe = Probe { number, ballot: self.acceptor.promised };
        for peer in self.peers() {
            self.send(cx, peer, Body::Probe(probe));
        }
        self.stand_if_quorum_is_silent(cx);
    }

    fn stand_if_quorum_is_silent(&mut self, cx: &mut Cx<'_>) {
        let (now, timeout) = (cx.now.monotonic, self.election_timeout());
        let election = &mut self.election;
        let fresh = election.probes.iter().find(|(_, at)| now < at.after(timeout));
        let first = fresh.map_or(u64::MAX, |(number, _)| *number).max(election.asked_from);
        election.silent.retain(|_, number| *number >= first);
        let (me, silent) = (self.me.index, &self.election.silent);
        if self.configuration.quorum(|index| index == me || silent.contains_key(&index)) {
            self.election.silent.clear();
            self.election.asked_from = self.election.probe + 1;
            self.start_candidacy(cx);
        }
    }

    /// `candidate` stands in no ballot up to `ballot` any more.
    fn stop_waiting_for(&mut self, candidate: ReplicaId, ballot: Ballot) {
        let is_it = |waited: &Grace| waited.ballot.leader == candidate && waited.ballot <= ballot;
        if self.election.grace.take_if(|grace| is_it(grace)).is_some() {
            self.flush_due = true;
        }
    }

    pub(crate) fn on_probe(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Probe) {
        self.election.note_ballot(m.ballot);
        // Whoever asks stands no more, or was started again.
        self.stop_waiting_for(from, m.ballot);
        if !self.votes {
            return;
        }
        let reply = ProbeReply {
            number: m.number,
            hears_leader: self.accepts_leader(cx.now.monotonic),
            ballot: self.acceptor.promised,
            decided_upto: self.log.decided_upto,
            disk: self.latencies.disk(cx.now.monotonic),
        };
        self.send(cx, from, Body::ProbeReply(reply));
    }

    pub(crate) fn on_probe_reply(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: ProbeReply) {
        self.election.note_ballot(m.ballot);
        self.raise_target(m.decided_upto);
        self.slowness.answered(from, &m, cx.now.monotonic);
        let known = self.election.probes.iter().find(|(number, _)| *number == m.number);
        let Some(at) = known.map(|(_, at)| *at) else { return };
        self.note_relay(cx, from, &m);
        // Late ones, too: or replicas far apart would never learn how far.
        self.latencies.answered(cx.now.monotonic.since(at));
        let asking = matches!(self.office, Office::Follower)
            && self.votes
            && !self.retired
            && m.number >= self.election.asked_from
            && !self.accepts_leader(cx.now.monotonic);
        if asking && m.hears_leader {
            self.election.silent.remove(&from.index);
        } else if asking {
            self.election.silent.insert(from.index, m.number);
            self.stand_if_quorum_is_silent(cx);
        }
    }

    pub(crate) fn on_step_down(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: StepDown) {
        if m.ballot.leader != from {
            return self.ignore(cx, "step-down from another's ballot");
        }
        self.raise_target(m.decided_upto);
        self.election.given_up = self.election.given_up.max(m.ballot);
        self.stop_waiting_for(from, m.ballot);
        if self.election.leader != Some(m.ballot) {
            return;
        }
        self.forget_leader(cx);
        let wait = match m.successor {
            Some(index) if index == self.me.index => Duration::ZERO,
            Some(_) => self.settings.election_timeout / 4 + self.rank_delay(cx.now.monotonic),
            None => self.rank_delay(cx.now.monotonic),
        };
        self.election.due = Some(cx.now.monotonic.after(wait));
    }

    /// Whoever leads or wants to stops, for good in this ballot.
    pub(crate) fn leave_office(&mut self, cx: &mut Cx<'_>) {
        self.remember_own_clock();
        match core::mem::replace(&mut self.office, Office::Follower) {
            Office::Follower => return,
            Office::Candidate(_) => {}
            Office::Leader(leader) => {
                self.submissions.drop_forwarded();
                self.reads.take_back(leader.rounds, cx.now.monotonic);
                cx.observe(Observation::Leader(None));
            }
        }
        self.flush_due = true;
        self.observe_role(cx);
    }

    /// As [`Replica::leave_office`], and nobody is known to lead: this replica waits its turn.
    pub(crate) fn step_down(&mut self, cx: &mut Cx<'_>, patience: Duration) {
        self.leave_office(cx);
        self.forget_leader(cx);
        self.election.grace = None;
        let wait = patience + self.rank_delay(cx.now.monotonic);
        self.election.due = Some(cx.now.monotonic.after(wait));
    }

    /// What this replica had to fetch before it could lead is there: perhaps nobody else can.
    pub(crate) fn wait_no_longer(&mut self, now: Instant) {
        let soon = now.after(self.rank_delay(now));
        if let Some(due) = self.election.due.as_mut().filter(|due| **due > soon) {
            *due = soon;
        }
    }
}
