//! How a leader shows that it is there and how far it is, what its followers answer, and when it gives
//! its office up because too few do.

use mainstay_model::{Instant, Plant, Plants, ReplicaId};

use crate::decided_time::Reading;
use crate::leader::Peer;
use crate::message::{Body, Follow, Lead, Learned, StepDown};
use crate::replica::{Cx, Office, Replica};

impl<P: Plants> Replica<P> {
    /// Tells all who leads, how far it is, and, with `round`, asks them to confirm it.
    pub(crate) fn show_leader(&mut self, cx: &mut Cx<'_>, round: bool) {
        let decided_upto = self.log.decided_upto;
        let (durable_upto, applied_upto) = (self.log.durable_upto, self.executed_upto());
        let room = self.quorum_has_room();
        let time = self.clock_to_tell(cx.now);
        let Office::Leader(leader) = &mut self.office else { return };
        leader.announced = decided_upto;
        let lead = Lead {
            ballot: leader.ballot,
            decided_upto,
            proposed_upto: leader.highest_proposed().max(decided_upto),
            durable_upto,
            applied_upto,
            room,
            round: if round { leader.rounds.current() } else { 0 },
            time,
        };
        for peer in self.peers() {
            self.send(cx, peer, Body::Lead(lead));
        }
    }

    pub(crate) fn on_lead(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Lead) {
        if m.ballot.leader != from {
            return self.ignore(cx, "lead in another's ballot");
        }
        self.election.note_ballot(m.ballot);
        if m.ballot < self.acceptor.promised && self.votes {
            return self.refuse_promised(cx, from, m.ballot);
        }
        self.hear_leader(cx, m.ballot);
        self.hear_clock(m.time, cx.now.monotonic);
        self.judge_progress(cx, &m);
        self.on_watermark(cx, m.ballot, m.decided_upto);
        if m.round > 0 && !self.votes {
            let decided_upto = self.log.decided_upto;
            self.send(cx, from, Body::Learned(Learned { ballot: m.ballot, decided_upto }));
        }
        if m.round > 0 && self.votes {
            let follow = Follow {
                ballot: m.ballot,
                round: m.round,
                decided_upto: self.log.decided_upto,
                durable_upto: self.log.durable_upto,
                applied_upto: self.executed_upto(),
                room: self.acceptor.room,
                clock: cx.now.wall,
                disk: self.latencies.disk(cx.now.monotonic),
            };
            self.send(cx, from, Body::Follow(follow));
        }
    }

    pub(crate) fn on_follow(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Follow) {
        let Office::Leader(leader) = &mut self.office else {
            return self.ignore(cx, "follow at a replica that does not lead");
        };
        if leader.ballot != m.ballot || m.round > leader.rounds.current() {
            return self.ignore(cx, "follow of another ballot");
        }
        if let Some(peer) = leader.peers.get_mut(&from.index) {
            peer.heard_at = cx.now.monotonic;
            peer.round = peer.round.max(m.round);
            peer.decided_upto = peer.decided_upto.max(m.decided_upto);
            self.flush_due |= peer.room != m.room;
            peer.has_room(m.room, self.settings.page_bytes_max);
            peer.reading = Some(Reading { time: m.clock, at: cx.now.monotonic });
            peer.disk = m.disk;
            peer.progress.note(m.applied_upto, m.decided_upto, cx.now.monotonic);
        }
        self.flush_due |= leader.rounds.waits() || leader.handing_over.is_some();
        self.flush_due |= leader.unconfirmed.is_some();
        self.look_at_pace();
        self.heard_how_far(cx, from, m.decided_upto);
        self.raise_target(m.decided_upto);
    }

    pub(crate) fn leader_tick(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        let Office::Leader(leader) = &mut self.office else { return };
        if now < leader.show_at {
            return;
        }
        leader.show_at = now.after(self.settings.lead_interval);
        if !self.hears_quorum(now) && !self.plants.has(Plant::NoStepDown) {
            return self.resign(cx);
        }
        if self.misses_reported(now) {
            if !self.acceptor.room {
                // It could not keep what it fetched, so it never will lead on.
                return self.resign(cx);
            }
            // Whoever knew it as decided is gone: ask again what was accepted.
            return self.start_candidacy_anew(cx);
        }
        let timeout = self.election_timeout();
        self.judge_own_disk(now);
        self.compare_itself(now);
        if let Office::Leader(leader) = &mut self.office {
            leader.rounds.begin();
            // Who is silent has no room as far as anyone can tell.
            for peer in leader.peers.values_mut() {
                peer.room &= now < peer.heard_at.after(timeout);
            }
        }
        self.show_leader(cx, true);
        self.send_open_again(cx);
        self.free_the_logs(cx);
        if let Office::Leader(leader) = &mut self.office {
            leader.forget_applied(self.log.applied_upto, now, self.settings.stall_timeout);
        }
        self.ask_about_blocked(cx);
    }

    /// Whether a quorum, itself included, has answered within one election time-out.
    fn hears_quorum(&self, now: Instant) -> bool {
        let Office::Leader(leader) = &self.office else { return false };
        let timeout = self.election_timeout();
        let heard = |peer: &Peer| now < peer.heard_at.after(timeout);
        self.configuration.quorum(|index| leader.itself_or(index, heard))
    }

    /// Whether entries with requests can be decided: at a leader, whether a quorum has room for them;
    /// at a follower, what its leader said of that.
    pub(crate) fn quorum_has_room(&self) -> bool {
        let Office::Leader(leader) = &self.office else { return self.election.room };
        let (me, room) = (self.me.index, self.acceptor.room);
        self.configuration.quorum(|index| match leader.peers.get(&index) {
            Some(peer) => peer.room,
            None => index == me && room,
        })
    }

    /// Whether something that was reported as decided could not be fetched for one time-out.
    fn misses_reported(&mut self, now: Instant) -> bool {
        let (decided_upto, timeout) = (self.log.decided_upto, self.election_timeout());
        let Office::Leader(leader) = &mut self.office else { return false };
        let next = decided_upto.next();
        let fetched = decided_upto < leader.reported_decided
            && !leader.open.contains_key(&next)
            && !leader.blocked.contains(&next);
        if !fetched || leader.missing_since.0 != decided_upto {
            leader.missing_since = (decided_upto, now);
            return false;
        }
        now >= leader.missing_since.1.after(timeout)
    }

    fn start_candidacy_anew(&mut self, cx: &mut Cx<'_>) {
        self.leave_office(cx);
        self.start_candidacy(cx);
    }

    /// Gives up the ballot for good, naming who is farthest as the one to try first.
    pub(crate) fn resign(&mut self, cx: &mut Cx<'_>) {
        let Office::Leader(leader) = &self.office else { return };
        let now = cx.now.monotonic;
        let (timeout, patience) = (self.election_timeout(), self.settings.stall_timeout);
        let successor = leader
            .peers
            .iter()
            .filter(|(_, peer)| now < peer.heard_at.after(timeout))
            .max_by_key(|(index, peer)| {
                let executes = peer.progress.moves(now, patience);
                (peer.room, executes, peer.decided_upto, **index)
            })
            .map(|(index, _)| *index);
        self.resign_to(cx, successor);
    }

    /// Gives up the ballot for good and tells all who should try first.
    pub(crate) fn resign_to(&mut self, cx: &mut Cx<'_>, successor: Option<u16>) {
        let Office::Leader(leader) = &self.office else { return };
        let (ballot, decided_upto) = (leader.ballot, self.log.decided_upto);
        for peer in self.peers() {
            self.send(cx, peer, Body::StepDown(StepDown { ballot, successor, decided_upto }));
        }
        self.step_down(cx, self.election_timeout() / 2);
    }
}
