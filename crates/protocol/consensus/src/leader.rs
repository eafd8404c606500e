//! Phase 2: a leader proposes, counts votes, and moves the decided watermark.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use mainstay_model::{
    Ballot, Configuration, Entry, Instant, Now, Plant, Plants, ReplicaId, ReplicaSet, Slot,
    Timestamp, Value,
};

use crate::candidate::Promises;
use crate::decided_time::{DecidedClock, Reading, lower_median};
use crate::duplicates::Known;
use crate::flow::Flow;
use crate::hand_over::{HandOver, OwnDisk};
use crate::message::Accepted;
use crate::outbox::Held;
use crate::pace::{Pace, Progress};
use crate::reads::Rounds;
use crate::replica::{Cx, Office, Replica};
use crate::room::Freeing;
use crate::settings::Settings;
use crate::stuck::Standstill;
use crate::window::SendWindow;

/// A proposal that is not decided yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Open {
    pub(crate) value: Value,
    pub(crate) votes: ReplicaSet,
    proposed_at: Instant,
}

/// What a leader knows of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) heard_at: Instant,
    pub(crate) round: u64,
    pub(crate) decided_upto: Slot,
    pub(crate) room: bool,
    /// How long its disk took when it last told.
    pub(crate) disk: Duration,
    /// What its calendar clock showed when it last told.
    pub(crate) reading: Option<Reading>,
    /// How far it has carried out what is decided.
    pub(crate) progress: Progress,
    /// What is on its way to it.
    pub(crate) flow: Flow,
}

impl Peer {
    /// It told whether it has room for entries. What was sent before it had some, it did not take.
    pub(crate) fn has_room(&mut self, room: bool, page_bytes: usize) {
        if room && !self.room {
            self.flow.room_again(page_bytes);
        }
        self.room = room;
    }
}

/// What a candidate takes into its office.
pub(crate) struct Takeover {
    pub(crate) promises: Promises,
    pub(crate) promised_from: Slot,
    pub(crate) reported_decided: Slot,
    /// The highest slot that an earlier ballot may have used.
    pub(crate) top: Slot,
    pub(crate) clock: DecidedClock,
}

/// A leader in its ballot.
///
/// Invariant: `open` holds exactly the slots above `decided_upto` in which it proposed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leader {
    pub(crate) ballot: Ballot,
    /// Kept for slots that are still blocked.
    pub(crate) promises: Promises,
    /// The first slot that the promises speak of.
    pub(crate) promised_from: Slot,
    /// Slots where too few certain replicas have answered.
    pub(crate) blocked: BTreeSet<Slot>,
    /// Everything up to here was reported as decided by those who promised: it must be fetched
    /// before anything above can be decided.
    pub(crate) reported_decided: Slot,
    /// The leader's own no-op: once it is decided, so is everything taken over.
    takeover_upto: Slot,
    pub(crate) next_slot: Slot,
    pub(crate) open: BTreeMap<Slot, Open>,
    pub(crate) open_bytes: usize,
    /// How many proposals may be open at once.
    pub(crate) window: SendWindow,
    /// How far ordering is ahead of carrying out, and how far this replica is with that.
    pub(crate) pace: Pace,
    pub(crate) progress: Progress,
    /// The requests that it has taken.
    pub(crate) known: Known,
    /// When it last looked at what is queued.
    pub(crate) flushed_at: Instant,
    pub(crate) clock: DecidedClock,
    /// The highest time that was proposed.
    pub(crate) time: Timestamp,
    /// When the service may want a tick.
    pub(crate) tick_at: Option<Instant>,
    /// What it had decided to free the logs.
    pub(crate) freeing: Freeing,
    /// The watermark that was told last.
    pub(crate) announced: Slot,
    pub(crate) peers: BTreeMap<u16, Peer>,
    pub(crate) rounds: Rounds,
    pub(crate) show_at: Instant,
    /// Since when something reported as decided has been missing without progress.
    pub(crate) missing_since: (Slot, Instant),
    /// It is about to hand over: nothing new is proposed.
    pub(crate) handing_over: Option<HandOver>,
    /// How its own disk compares with those of the others.
    pub(crate) own_disk: OwnDisk,
    /// Whether it carries out what others do.
    pub(crate) stands: Standstill,
    /// It was paused, and leads on only once a quorum has answered this round.
    pub(crate) unconfirmed: Option<u64>,
}

impl Leader {
    pub(crate) fn new(
        ballot: Ballot,
        takeover: Takeover,
        now: Instant,
        configuration: &Configuration,
        settings: &Settings,
    ) -> Self {
        let Takeover { promises, promised_from, reported_decided, top, clock } = takeover;
        let indices = configuration.replicas.iter().map(|replica| replica.index);
        let readings: BTreeMap<u16, Reading> = promises.readings().collect();
        let peer = |index| Peer {
            disk: Duration::ZERO,
            heard_at: now,
            round: 0,
            decided_upto: Slot::NONE,
            room: true,
            reading: readings.get(&index).copied(),
            progress: Progress::default(),
            flow: Flow::new(settings.follower_bytes_max, top.next(), now),
        };
        Self {
            ballot,
            promises,
            promised_from,
            blocked: BTreeSet::new(),
            reported_decided,
            takeover_upto: top.next(),
            next_slot: top.next(),
            open: BTreeMap::new(),
            open_bytes: 0,
            window: SendWindow::new(settings.window, now),
            pace: Pace::default(),
            progress: Progress::default(),
            known: Known::default(),
            flushed_at: now,
            clock,
            time: Timestamp(0),
            tick_at: None,
            freeing: Freeing::default(),
            announced: Slot::NONE,
            peers: indices.filter(|i| *i != ballot.leader.index).map(|i| (i, peer(i))).collect(),
            rounds: Rounds::default(),
            show_at: now,
            missing_since: (Slot::NONE, now),
            handing_over: None,
            own_disk: OwnDisk::new(now),
            stands: Standstill::default(),
            unconfirmed: None,
        }
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.tick_at.map_or(self.show_at, |at| at.min(self.show_at))
    }

    pub(crate) fn show_now(&mut self) {
        self.show_at = Instant(0);
    }

    pub(crate) fn first_blocked(&self) -> Option<Slot> {
        self.blocked.first().copied()
    }

    pub(crate) fn open_above(&self, slot: Slot) -> bool {
        self.open.first_key_value().is_none_or(|(first, _)| *first > slot)
    }

    /// Whether everything taken over is decided, so that reads may be answered.
    pub(crate) fn took_over(&self, decided_upto: Slot) -> bool {
        decided_upto >= self.takeover_upto
    }

    pub(crate) fn takes_requests(&self) -> bool {
        self.handing_over.is_none_or(HandOver::may_end)
    }

    /// Whether it proposes what it took: not before it is known what time it is.
    pub(crate) fn may_propose(&self) -> bool {
        self.handing_over.is_none() && self.unconfirmed.is_none() && self.clock.is_judged()
    }

    /// What the replicas' calendar clocks show in the middle.
    pub(crate) fn median(&self, now: Now) -> Timestamp {
        let own = Reading { time: now.wall, at: now.monotonic };
        let peers = self.peers.values().filter_map(|peer| peer.reading);
        lower_median(peers.chain([own]), now.monotonic)
    }

    pub(crate) fn open_is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether it was paused and does not know yet whether it still leads.
    pub(crate) fn doubts_itself(&self) -> bool {
        self.unconfirmed.is_some()
    }

    /// It was paused: it asks for a round, and gives everybody one time-out to answer.
    pub(crate) fn doubt_itself(&mut self, now: Instant) {
        self.rounds.begin();
        self.unconfirmed = Some(self.rounds.current());
        self.show_at = Instant(0);
        self.missing_since.1 = now;
        for peer in self.peers.values_mut() {
            peer.heard_at = now;
        }
    }

    pub(crate) fn confirm_jump(&mut self, median: Timestamp) -> Option<Duration> {
        self.clock.confirm(median)
    }

    pub(crate) fn jump_refused(&self) -> Option<Duration> {
        self.clock.refused()
    }

    fn close(&mut self, slot: Slot) -> Option<Open> {
        let open = self.open.remove(&slot)?;
        self.open_bytes -= open.value.len();
        Some(open)
    }

    pub(crate) fn next_slot(&self) -> Slot {
        self.next_slot
    }

    /// Whether `holds` of the replica with this index, as it does of the leader's own.
    pub(crate) fn itself_or(&self, index: u16, holds: impl Fn(&Peer) -> bool) -> bool {
        index == self.ballot.leader.index || self.peers.get(&index).is_some_and(holds)
    }

    pub(crate) fn highest_proposed(&self) -> Slot {
        self.next_slot.previous()
    }

    /// The connection to a follower is a new one.
    pub(crate) fn link_up(&mut self, index: u16, page_bytes: usize) {
        self.show_now();
        if let Some(peer) = self.peers.get_mut(&index) {
            peer.flow.begin_anew(page_bytes);
        }
    }

    /// Forgets which requests were ordered where everybody who moves has applied them.
    pub(crate) fn forget_applied(&mut self, own_applied: Slot, now: Instant, patience: Duration) {
        let moving = self.peers.values().map(|peer| &peer.progress);
        let applied = moving.filter_map(|progress| progress.applied_if_moving(now, patience));
        self.known.forget_upto(applied.chain([own_applied]).min().unwrap_or(own_applied));
    }

    pub(crate) fn invariants(&self, decided_upto: Slot) {
        assert!(self.open_above(decided_upto), "an open slot is decided");
        assert!(self.open.is_empty() == (self.open_bytes == 0), "open bytes are miscounted");
        for peer in self.peers.values() {
            peer.flow.invariants();
        }
    }
}

impl<P: Plants> Replica<P> {
    /// Proposes `value` in `slot`: to all at once, its own vote counting when it is durable.
    pub(crate) fn propose(&mut self, cx: &mut Cx<'_>, slot: Slot, value: Value) {
        assert!(slot > self.log.decided_upto, "proposed in a decided slot");
        let now = cx.now.monotonic;
        let Office::Leader(leader) = &mut self.office else { return };
        let ballot = leader.ballot;
        let open = Open { value: value.clone(), votes: ReplicaSet::EMPTY, proposed_at: now };
        leader.open_bytes += value.len();
        let again = leader.open.insert(slot, open);
        assert!(again.is_none(), "proposed twice in one slot and ballot");
        leader.next_slot = leader.next_slot.max(slot.next());
        leader.time = leader.time.max(value.time());
        leader.announced = leader.announced.max(self.log.decided_upto);
        leader.pace.proposed(slot, value.len());
        for peer in leader.peers.values_mut() {
            peer.flow.wants(slot);
        }
        for peer in self.peers() {
            self.send_open(cx, peer);
        }
        self.keep_accepted(cx, slot, Entry { ballot, value });
        cx.held.push(Held::OwnVote(ballot, slot));
    }

    pub(crate) fn on_own_vote(&mut self, cx: &mut Cx<'_>, ballot: Ballot, slot: Slot) {
        let me = self.me.index;
        if let Office::Leader(leader) = &mut self.office
            && leader.ballot == ballot
            && let Some(open) = leader.open.get_mut(&slot)
        {
            open.votes.insert(me);
            self.advance(cx);
        }
    }

    pub(crate) fn on_accepted(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Accepted) {
        let Office::Leader(leader) = &mut self.office else {
            return self.ignore(cx, "accepted at a replica that does not lead");
        };
        if leader.ballot != m.ballot {
            return self.ignore(cx, "accepted in another ballot");
        }
        for (_, open) in leader.open.range_mut(m.slots.first..=m.slots.last) {
            open.votes.insert(from.index);
        }
        if let Some(peer) = leader.peers.get_mut(&from.index) {
            let now = cx.now.monotonic;
            peer.flow.acknowledged(m.slots, now);
            peer.progress.note(m.applied_upto, peer.decided_upto, now);
        }
        self.look_at_pace();
        self.advance(cx);
        self.send_open(cx, from);
    }

    /// Moves the decided watermark over every slot that a quorum accepted, in order.
    fn advance(&mut self, cx: &mut Cx<'_>) {
        let before = self.log.decided_upto;
        let Office::Leader(leader) = &mut self.office else { return };
        let configuration = &self.configuration;
        let mut upto = before;
        if self.plants.has(Plant::DecidedOverHole) {
            let accepted = |(_, open): &(&Slot, &Open)| configuration.is_quorum(open.votes);
            upto = leader.open.iter().rev().find(accepted).map_or(upto, |(slot, _)| *slot);
        } else {
            while leader.open.get(&upto.next()).is_some_and(|o| configuration.is_quorum(o.votes)) {
                upto = upto.next();
            }
        }
        let (now, proposed_upto) = (cx.now.monotonic, leader.highest_proposed());
        let window_max = usize::try_from(configuration.alpha).unwrap_or(usize::MAX);
        while self.log.decided_upto < upto {
            let slot = self.log.decided_upto.next();
            if let Some(open) = leader.close(slot) {
                let latency = now.since(open.proposed_at);
                leader.window.decided(slot, latency, now, proposed_upto, window_max);
            }
            self.log.decide(slot);
        }
        if upto > before {
            self.flush_due = true;
            self.deliver(cx);
        }
    }

    /// A slot was learned as decided from elsewhere. False if the leader proposed something else
    /// there, or nothing yet: it is deposed.
    pub(crate) fn leader_learned(&mut self, slot: Slot, value: &Value) -> bool {
        let Office::Leader(leader) = &mut self.office else { return true };
        leader.blocked.remove(&slot);
        let differs = leader.open.get(&slot).is_some_and(|open| open.value != *value);
        if differs || slot >= leader.next_slot {
            return false;
        }
        leader.close(slot);
        true
    }

    /// The end of a turn: what is queued becomes batches, reads start a confirming round, and a
    /// watermark that nothing carried is told.
    pub(crate) fn flush_leader(&mut self, cx: &mut Cx<'_>) {
        // What lies above the watermark may have its quorum already, once a hole is filled.
        self.advance(cx);
        self.confirm_lead();
        self.judge_clock(cx.now);
        self.propose_queued(cx);
        self.order_tick(cx);
        if let Office::Leader(leader) = &mut self.office {
            leader.flushed_at = cx.now.monotonic;
        }
        let round_due = self.start_round(cx.now);
        let Office::Leader(leader) = &mut self.office else { return };
        if round_due {
            self.show_leader(cx, true);
        } else if leader.announced < self.log.decided_upto {
            self.show_leader(cx, false);
        }
        self.answer_reads(cx);
        self.go_on_handing_over(cx);
    }
}
