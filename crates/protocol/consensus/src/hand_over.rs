//! A leader that hands over: because it was told to (by an operator, or because it stops), or because
//! its own disk stands still or is much slower than those of the others (hashicorp/raft#503: a leader
//! whose log store hangs, and whose heartbeats go on, is never replaced).
//!
//! It proposes nothing new, keeps what comes in, waits until what is open is decided and the successor
//! has it, and then gives its ballot up and names the successor, which begins at once. What waits at the
//! old leader goes to the new one. If that takes too long, a leader that an operator told leads on, and
//! any other steps down all the same. A successor that was named and does not lead in time is passed
//! over as after any step-down.

use alloc::vec::Vec;
use core::time::Duration;

use mainstay_model::{Instant, Plants};

use crate::door::Refusal;
use crate::leader::Peer;
use crate::message::{Body, Instructed};
use crate::replica::{Cx, Office, Replica};
use crate::slowness::rest;

/// How many election time-outs a successor has to learn what is decided.
const LEARN_TIMEOUTS: u32 = 4;

/// Why a leader hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reason {
    /// It will not lead again.
    Stops,
    /// It was told to; whom to tell what came of it, unless it is this replica itself.
    Told { asker: u16, number: u64 },
    /// Its disk is worse than those of others.
    Disk,
}

/// A leader is about to hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HandOver {
    to: Option<u16>,
    until: Instant,
    reason: Reason,
    /// Whether the successor was told the last watermark.
    shown: bool,
}

impl HandOver {
    /// Whether the leader may yet lead on, so that it keeps what comes in.
    pub(crate) fn may_end(self) -> bool {
        self.reason != Reason::Stops
    }
}

/// A leader's own disk beside those of its followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OwnDisk {
    /// The present interval.
    since: Instant,
    /// Intervals in a row in which it was much slower.
    bad: u32,
    /// A leader is not judged by its first intervals.
    rests_until: Option<Instant>,
}

impl OwnDisk {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, bad: 0, rests_until: None }
    }
}

impl<P: Plants> Replica<P> {
    /// Never to lead again: a leader finishes what is open, then names a successor.
    pub(crate) fn on_retire(&mut self, cx: &mut Cx<'_>) {
        self.retired = true;
        self.flush_due = true;
        let until = cx.now.monotonic.after(self.election_timeout());
        if let Office::Leader(leader) = &mut self.office {
            let stops = HandOver { to: None, until, reason: Reason::Stops, shown: false };
            leader.handing_over = Some(stops);
        }
        if let Office::Candidate(_) = &self.office {
            self.step_down(cx, self.election_timeout());
        }
    }

    /// At the leader: the operator wants replica `to` to lead. `None` while that is under way.
    pub(crate) fn move_leader(
        &mut self,
        now: Instant,
        to: u16,
        asker: u16,
        number: u64,
    ) -> Option<Result<(), Refusal>> {
        let timeout = self.election_timeout();
        let (decided_upto, alpha) = (self.log.decided_upto, self.configuration.alpha);
        let Office::Leader(leader) = &mut self.office else { return Some(Err(Refusal::NoLeader)) };
        if to == self.me.index {
            return Some(Ok(()));
        }
        let Some(peer) = leader.peers.get(&to) else { return Some(Err(Refusal::UnknownReplica)) };
        if let Some(under_way) = leader.handing_over {
            let same = under_way.to == Some(to);
            return (!same).then_some(Err(Refusal::Busy));
        }
        // Whoever does not vote never answers a leader. One that has just begun waits for answers.
        if now >= peer.heard_at.after(timeout) {
            return Some(Err(Refusal::NotVoting));
        }
        if peer.round == 0 {
            return None;
        }
        if peer.decided_upto.0.saturating_add(alpha) < decided_upto.0 {
            return Some(Err(Refusal::Lagging));
        }
        if !peer.room || peer.disk >= timeout {
            return Some(Err(Refusal::NoDisk));
        }
        let until = now.after(timeout * LEARN_TIMEOUTS);
        let reason = Reason::Told { asker, number };
        leader.handing_over = Some(HandOver { to: Some(to), until, reason, shown: false });
        self.flush_due = true;
        None
    }

    /// The end of a turn of a leader that hands over.
    pub(crate) fn go_on_handing_over(&mut self, cx: &mut Cx<'_>) {
        let (now, decided_upto) = (cx.now.monotonic, self.log.decided_upto);
        let Office::Leader(leader) = &mut self.office else { return };
        let Some(hand_over) = &mut leader.handing_over else { return };
        let HandOver { to, until, reason, shown } = *hand_over;
        let (idle, late) = (leader.open_is_empty(), now >= until);
        let Some(to) = to else {
            if idle || late {
                self.resign(cx);
            }
            return;
        };
        let learned = leader.peers.get(&to).is_some_and(|peer| peer.decided_upto >= decided_upto);
        if idle && learned && leader.took_over(decided_upto) {
            return self.resign_to(cx, Some(to));
        }
        if late {
            return match reason {
                Reason::Told { asker, number } => self.lead_on(cx, to, asker, number),
                Reason::Stops | Reason::Disk => self.resign_to(cx, Some(to)),
            };
        }
        if idle && !shown {
            if let Some(hand_over) = &mut leader.handing_over {
                hand_over.shown = true;
            }
            leader.rounds.begin();
            self.show_leader(cx, true);
        }
    }

    /// The successor does not get there: the leader goes on.
    fn lead_on(&mut self, cx: &mut Cx<'_>, to: u16, asker: u16, number: u64) {
        let Office::Leader(leader) = &mut self.office else { return };
        leader.handing_over = None;
        self.flush_due = true;
        let outcome = Err(Refusal::Lagging);
        if asker == self.me.index {
            return self.end_move(cx, to, outcome);
        }
        if let Some(asker) = self.peers().find(|peer| peer.index == asker) {
            self.send(cx, asker, Body::Instructed(Instructed { number, outcome }));
        }
    }

    /// Every time a leader shows itself: whether its disk is so much worse than those of a quorum of
    /// others that one of them should lead. It never counts its own vote before that is durable, so
    /// this is about speed alone.
    pub(crate) fn judge_own_disk(&mut self, now: Instant) {
        let (rule, stall_timeout) = (self.settings.slow_leader, self.settings.stall_timeout);
        let (own, owes) = (self.latencies.disk(now), self.latencies.disk_owes(now));
        let (patience, timeout) = (self.disk_patience(), self.election_timeout());
        let decided_upto = self.log.decided_upto;
        let rests = rest(rule.hold_off, self.slowness.disk_changes);
        let Office::Leader(leader) = &mut self.office else { return };
        let rests_until = *leader.own_disk.rests_until.get_or_insert(now.after(rests));
        let heard = |peer: &Peer| peer.round > 0 && now < peer.heard_at.after(timeout);
        let better = |peer: &Peer| {
            peer.room && peer.disk < patience && own > peer.disk * rule.factor + rule.margin
        };
        let better: Vec<(Duration, u16)> = leader
            .peers
            .iter()
            .filter(|(_, peer)| heard(peer) && better(peer))
            .map(|(index, peer)| (peer.disk, *index))
            .collect();
        let is_better = |index| better.iter().any(|(_, better)| *better == index);
        let much_worse = self.configuration.quorum(is_better);
        if now >= leader.own_disk.since.after(rule.interval) {
            leader.own_disk.since = now;
            let bad = much_worse && now >= rests_until;
            leader.own_disk.bad = if bad { leader.own_disk.bad + 1 } else { 0 };
            if !much_worse && now >= rests_until {
                self.slowness.disk_changes = 0;
            }
        }
        let slow = leader.own_disk.bad >= rule.intervals;
        let stalled = much_worse && owes >= patience;
        if leader.handing_over.is_some() || !(slow || stalled) {
            return;
        }
        let caught_up = |index: &u16| {
            let known = leader.peers.get(index).map(|peer| peer.decided_upto.0);
            known.unwrap_or(0).saturating_add(self.configuration.alpha) >= decided_upto.0
        };
        let Some(to) =
            better.iter().map(|(_, index)| *index).filter(caught_up).max_by_key(|index| {
                let peer = leader.peers.get(index);
                let executes = peer.is_some_and(|peer| peer.progress.moves(now, stall_timeout));
                let disk = peer.map(|peer| peer.disk).unwrap_or_default();
                (executes, core::cmp::Reverse(disk), *index)
            })
        else {
            return;
        };
        let until = now.after(timeout);
        leader.handing_over =
            Some(HandOver { to: Some(to), until, reason: Reason::Disk, shown: false });
        self.slowness.disk_changes = self.slowness.disk_changes.saturating_add(1);
        self.flush_due = true;
    }

    /// A quorum may have answered the round that a leader began after it was paused.
    pub(crate) fn confirm_lead(&mut self) {
        let Office::Leader(leader) = &mut self.office else { return };
        let Some(round) = leader.unconfirmed else { return };
        let answered = |index| leader.itself_or(index, |peer| peer.round >= round);
        if self.configuration.quorum(answered) {
            leader.unconfirmed = None;
        }
    }
}
