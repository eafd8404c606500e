//! Linearizable reads ("ReadIndex" in Ongaro's dissertation, 2014, section 6.4).
//!
//! A read's slot is the leader's decided watermark once the read has arrived there; it is told only
//! after a round of answers, begun after the read arrived, has shown that no quorum can have
//! promised a higher ballot by then. Any replica that has applied the slot may then answer.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use mainstay_model::{Instant, Now, Plant, Plants, ReplicaId, Slot, Timestamp, Token};

use crate::door::{Effect, Rejection};
use crate::message::{Body, NotLeader, ReadAsk, ReadSlot};
use crate::relay::Way;
use crate::replica::{Cx, Office, Replica};

/// Who waits for a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asker {
    Own(Token),
    Peer(ReplicaId, u64),
}

/// Waits for the round of that number, and until the slot is decided, to be told both slot and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Waiting {
    round: u64,
    slot: Slot,
    time: Timestamp,
    asker: Asker,
}

/// The confirming rounds of a leader. An answer to a round confirms every earlier one as well.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rounds {
    current: u64,
    /// Arrived, and not part of a round yet.
    arrived: Vec<Asker>,
    /// Wait for a round.
    waiting: VecDeque<Waiting>,
}

impl Default for Rounds {
    fn default() -> Self {
        Self { current: 1, arrived: Vec::new(), waiting: VecDeque::new() }
    }
}

impl Rounds {
    /// The number of the last round begun, from 1.
    pub(crate) fn current(&self) -> u64 {
        self.current
    }

    pub(crate) fn begin(&mut self) {
        self.current += 1;
    }

    /// Whether an answer could be of use.
    pub(crate) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn len(&self) -> usize {
        self.arrived.len() + self.waiting.len()
    }

    /// Whether this very question waits already: it was sent again.
    fn holds(&self, asker: Asker) -> bool {
        self.arrived.contains(&asker) || self.waiting.iter().any(|one| one.asker == asker)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    number: u64,
    way: Way,
    at: Instant,
    askers: Vec<Asker>,
}

/// Reads at a replica that does not lead: of local clients, and of replicas that do not hear the leader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reads {
    arrived: Vec<Asker>,
    asked: Option<Asked>,
    /// Since when no leader that is heard here could be asked, nor anything was answered.
    leaderless_since: Option<Instant>,
}

impl Reads {
    /// What waited at this replica while it led waits here again.
    pub(crate) fn take_back(&mut self, rounds: Rounds, now: Instant) {
        let askers = rounds.waiting.into_iter().map(|one| one.asker).chain(rounds.arrived);
        // Those of other replicas are asked again by these.
        self.arrived.extend(askers.filter(|asker| matches!(asker, Asker::Own(_))));
        self.leaderless_since = Some(now);
    }

    fn len(&self) -> usize {
        self.arrived.len() + self.asked.as_ref().map_or(0, |asked| asked.askers.len())
    }

    /// Whether this very question waits already: it was sent again.
    fn holds(&self, asker: Asker) -> bool {
        let asked = self.asked.as_ref().is_some_and(|asked| asked.askers.contains(&asker));
        asked || self.arrived.contains(&asker)
    }

    fn take_all(&mut self) -> Vec<Asker> {
        let mut askers = self.asked.take().map_or_else(Vec::new, |asked| asked.askers);
        askers.append(&mut self.arrived);
        askers
    }
}

impl<P: Plants> Replica<P> {
    pub(crate) fn on_read(&mut self, cx: &mut Cx<'_>, token: Token) {
        let led = match &self.office {
            Office::Leader(leader) => leader.rounds.len(),
            Office::Follower | Office::Candidate(_) => 0,
        };
        if self.reads.len() + led >= self.settings.queue_requests_max {
            return cx.out.push(Effect::Rejected { token, reason: Rejection::Busy });
        }
        self.reads.arrived.push(Asker::Own(token));
        self.flush_due = true;
    }

    /// At a follower: one question at a time, for all reads that have arrived.
    pub(crate) fn flush_reads(&mut self, cx: &mut Cx<'_>) {
        let way = self.way_to_leader();
        if way.is_some_and(|way| !way.relay) {
            self.reads.leaderless_since = None;
        } else if !self.reads.arrived.is_empty() || self.reads.asked.is_some() {
            // Who says that it hears a leader need not be right: only an answer counts.
            self.reads.leaderless_since.get_or_insert(cx.now.monotonic);
        }
        let Some(way) = way else { return };
        let stale = self.reads.asked.as_ref().is_none_or(|asked| asked.way != way);
        if !stale || (self.reads.arrived.is_empty() && self.reads.asked.is_none()) {
            return;
        }
        let kept = self.reads.asked.as_ref().map(|asked| asked.number);
        let kept = kept.filter(|_| self.plants.has(Plant::QuestionKeepsNumber));
        let askers = self.reads.take_all();
        let number = kept.unwrap_or_else(|| self.next_number());
        self.reads.asked = Some(Asked { number, way, at: cx.now.monotonic, askers });
        self.send(cx, way.to, Body::ReadAsk(ReadAsk { number, relay: way.relay }));
    }

    pub(crate) fn reads_deadline(&self) -> Option<Instant> {
        let again = self.reads.asked.as_ref().map(|a| a.at.after(self.settings.resend_interval));
        let give_up = self.reads.leaderless_since.map(|since| since.after(self.election_timeout()));
        again.into_iter().chain(give_up).min()
    }

    pub(crate) fn reads_tick(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        let timeout = self.election_timeout();
        if self.reads.leaderless_since.is_some_and(|since| now >= since.after(timeout)) {
            self.reads.leaderless_since = None;
            for asker in self.reads.take_all() {
                match asker {
                    Asker::Own(token) => {
                        cx.out.push(Effect::Rejected { token, reason: Rejection::NoLeader });
                    }
                    Asker::Peer(peer, number) => self.answer_not_leader(cx, peer, number),
                }
            }
        }
        let interval = self.settings.resend_interval;
        if let Some(asked) = &mut self.reads.asked
            && now >= asked.at.after(interval)
        {
            asked.at = now;
            let (Way { to, relay, .. }, number) = (asked.way, asked.number);
            self.send(cx, to, Body::ReadAsk(ReadAsk { number, relay }));
        }
    }

    pub(crate) fn on_read_ask(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: ReadAsk) {
        let room = self.settings.queue_requests_max;
        let asker = Asker::Peer(from, m.number);
        let relays = m.relay && self.relays_to(from).is_some();
        match &mut self.office {
            Office::Leader(leader) if leader.rounds.holds(asker) => {}
            Office::Leader(leader) if leader.rounds.len() < room => {
                leader.rounds.arrived.push(asker);
                self.flush_due = true;
            }
            Office::Follower if relays => {
                let reads = &mut self.reads;
                if !reads.holds(asker) && reads.len() < room {
                    reads.arrived.push(asker);
                    self.flush_due = true;
                }
            }
            _ => self.answer_not_leader(cx, from, m.number),
        }
    }

    pub(crate) fn answer_not_leader(&self, cx: &mut Cx<'_>, to: ReplicaId, number: u64) {
        let hint = self.election.leader.unwrap_or(self.acceptor.promised);
        let leads = self.leads() || self.election.leader.is_some();
        self.send(cx, to, Body::NotLeader(NotLeader { ballot: hint, leads, number }));
    }

    /// Reads that have arrived at the leader get a slot and a round; true if that must be begun.
    pub(crate) fn start_round(&mut self, now: Now) -> bool {
        let own = self.reads.take_all();
        self.reads.leaderless_since = None;
        let decided_upto = self.log.decided_upto;
        let read_slot = self.read_slot(now);
        let early = self.plants.has(Plant::ReadBeforeTakeover);
        let overtakes = self.plants.has(Plant::ReadOvertakes);
        let Office::Leader(leader) = &mut self.office else { return false };
        let ready = leader.took_over(decided_upto) || early;
        let rounds = &mut leader.rounds;
        rounds.arrived.extend(own);
        let (false, true, Some((slot, time))) = (rounds.arrived.is_empty(), ready, read_slot)
        else {
            return false;
        };
        rounds.begin();
        let round = rounds.current;
        let arrived = core::mem::take(&mut rounds.arrived);
        // A tick that was due then may not be due now: still no read sees an earlier state than one before it.
        let last = rounds.waiting.back().filter(|_| !overtakes);
        let slot = last.map_or(slot, |last| last.slot.max(slot));
        let waiting = arrived.into_iter().map(|asker| Waiting { round, slot, time, asker });
        rounds.waiting.extend(waiting);
        true
    }

    /// Whether reads wait here for a slot.
    pub(crate) fn reads_wait(&self) -> bool {
        let Office::Leader(leader) = &self.office else { return false };
        self.reads.len() > 0 || !leader.rounds.arrived.is_empty()
    }

    /// Tells slot and time to every read whose round a quorum has confirmed and whose slot is decided:
    /// a time under an entry that another leader may never hear of might be shown and then go back.
    pub(crate) fn answer_reads(&mut self, cx: &mut Cx<'_>) {
        let unconfirmed = self.plants.has(Plant::ReadUnconfirmed);
        loop {
            let Office::Leader(leader) = &mut self.office else { return };
            let Some(next) = leader.rounds.waiting.front().copied() else { return };
            let Waiting { round, slot, time, asker } = next;
            let confirmed = |index| leader.itself_or(index, |peer| peer.round >= round);
            let is_confirmed = self.configuration.quorum(confirmed) || unconfirmed;
            if !is_confirmed || slot > self.log.decided_upto {
                return;
            }
            if !self.plants.has(Plant::StepWithoutEnd) {
                leader.rounds.waiting.pop_front();
            }
            self.tell_slot(cx, asker, (slot, time));
        }
    }

    fn tell_slot(&self, cx: &mut Cx<'_>, asker: Asker, (slot, time): (Slot, Timestamp)) {
        match asker {
            Asker::Own(token) => cx.out.push(Effect::ReadAt { token, slot, time }),
            Asker::Peer(to, number) => {
                self.send(cx, to, Body::ReadSlot(ReadSlot { number, slot, time }));
            }
        }
    }

    pub(crate) fn on_read_slot(&mut self, cx: &mut Cx<'_>, m: ReadSlot) {
        let Some(asked) = self.reads.asked.take_if(|asked| asked.number == m.number) else {
            return self.ignore(cx, "answer to a read that does not wait");
        };
        self.reads.leaderless_since = None;
        for asker in asked.askers {
            self.tell_slot(cx, asker, (m.slot, m.time));
        }
        self.raise_target(m.slot);
        self.flush_due = true;
    }
}
