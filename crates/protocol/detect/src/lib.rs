//! Failure detection between pairs of nodes, as a pure machine.
//!
//! Every node sends every other a heartbeat each [`Settings::interval`], from the very loop that
//! runs the protocol, so that a heartbeat vouches for the path it took and for the thread that sent
//! it. Whoever was not heard for [`Settings::timeout`] is suspected; whoever is heard again is
//! trusted again. So a crash is noticed for good within one time-out, and a mistake is taken back
//! (the eventually perfect detector of Chandra and Toueg, "Unreliable failure detectors for
//! reliable distributed systems", JACM 1996, section 3, with the time-out told).
//!
//! Four refinements:
//!
//! - **Silence is what is unusual**: whoever orders by the same network knows how long things take at
//!   present. A time-out that it tells ([`Input::Patience`]) holds where it is longer than the one
//!   set, or a detector that knows one network would undo what ordering has learned of another
//!   (etcd#7312, #13587).
//! - **A closed connection is evidence, not proof** (Leners et al., "Detecting failures in
//!   distributed systems with the Falcon spy network", SOSP 2011): it shortens what is left of the
//!   time-out to [`Settings::closed_timeout`]. If then the host refuses a new connection, no
//!   process listens there: it is suspected at once, as [`Evidence::Stopped`].
//! - **Who missed its own tick does not accuse** (Dadgar et al., "Lifeguard: local health awareness
//!   for more accurate failure detection", 2018): a process that was paused finds every peer
//!   silent. A tick that comes late by more than half the time-out gives every peer the whole
//!   time-out again.
//! - **Reports never carry safety**: they say who should be doubted and on what evidence; quorums
//!   and epochs decide.
//!
//! | input | effect |
//! |---|---|
//! | deadline | heartbeats that are due; suspicion of whoever was silent for too long |
//! | heard from a peer | trust, if it was suspected |
//! | connection lost | less time left |
//! | connection refused | suspicion |
//! | patience | later signs of peers last for so long |
//!
//! Invariants: a peer is suspected only after a report said so, and reports about one peer
//! alternate; the deadline never lies before the step that set it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use mainstay_model::{Instant, ReplicaId};

/// Timing of the detector; equal at all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How often a heartbeat is sent to each peer.
    pub interval: Duration,
    /// How long a peer may be silent until it is suspected, at least.
    pub timeout: Duration,
    /// How long a peer may be silent once its connection was closed.
    pub closed_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(50),
            timeout: Duration::from_millis(300),
            closed_timeout: Duration::from_millis(100),
        }
    }
}

/// Everything that can happen to a detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The instant of [`Detector::deadline`] has come.
    Deadline,
    /// Anything at all came from this peer.
    Heard {
        /// Which.
        peer: ReplicaId,
    },
    /// A connection to a peer, in either direction, was opened or closed.
    Link {
        /// Which.
        peer: ReplicaId,
        /// Whether it was opened.
        up: bool,
    },
    /// From now on silence means nothing before it lasts so long.
    Patience {
        /// How long; a shorter one than [`Settings::timeout`] changes nothing.
        timeout: Duration,
    },
    /// The peer's host refused a connection: nothing listens there.
    Refused {
        /// Which.
        peer: ReplicaId,
    },
}

/// What a detector asks of its world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Send a heartbeat; it may be lost.
    Heartbeat {
        /// To whom.
        peer: ReplicaId,
    },
    /// The opinion of a peer changed.
    Report(Report),
}

/// A change of opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// About whom.
    pub peer: ReplicaId,
    /// Whether it is suspected now.
    pub suspected: bool,
    /// On what evidence.
    pub evidence: Evidence,
}

/// What an opinion rests on. None of it is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Its host refuses connections: the process has most likely ended.
    Stopped,
    /// Nothing came from it for too long: it may have ended, be cut off, or be paused.
    Silent,
    /// Something came from it.
    Heard,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Peer {
    /// When its silence is long enough. Never later than `timeout` after the last sign of it.
    silent_at: Instant,
    suspected: bool,
}

/// The detector of one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Detector {
    settings: Settings,
    /// How long a peer may be silent at present.
    timeout: Duration,
    peers: BTreeMap<ReplicaId, Peer>,
    heartbeat_at: Instant,
}

impl Detector {
    /// A detector that trusts every one of `peers` for one time-out from `now` on, and is due at
    /// once.
    #[must_use]
    pub fn new(
        peers: impl IntoIterator<Item = ReplicaId>,
        settings: Settings,
        now: Instant,
    ) -> Self {
        let silent_at = now.after(settings.timeout);
        let peers =
            peers.into_iter().map(|peer| (peer, Peer { silent_at, suspected: false })).collect();
        Self { settings, timeout: settings.timeout, peers, heartbeat_at: now }
    }

    /// The one door. A peer that is not known is ignored.
    pub fn step(&mut self, now: Instant, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Deadline => self.on_deadline(now, out),
            Input::Heard { peer } => self.on_heard(now, peer, out),
            Input::Link { peer, up: true } => self.on_heard(now, peer, out),
            Input::Link { peer, up: false } => self.on_closed(now, peer),
            Input::Patience { timeout } => self.timeout = timeout.max(self.settings.timeout),
            Input::Refused { peer } => self.suspect(peer, Evidence::Stopped, out),
        }
    }

    /// When the detector wants an [`Input::Deadline`] at the latest. Never `None` while it has
    /// peers.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let silent =
            self.peers.values().filter(|peer| !peer.suspected).map(|peer| peer.silent_at).min();
        if self.peers.is_empty() {
            return None;
        }
        Some(silent.map_or(self.heartbeat_at, |silent| silent.min(self.heartbeat_at)))
    }

    /// Whether `peer` is suspected at present; an unknown one is not.
    #[must_use]
    pub fn suspects(&self, peer: ReplicaId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.suspected)
    }

    fn on_deadline(&mut self, now: Instant, out: &mut Vec<Effect>) {
        // The heartbeat is due every interval, so how late it is tells how long this very loop did
        // not run: what came in that time is not read yet.
        let paused = now.since(self.heartbeat_at) > self.settings.timeout / 2;
        if paused {
            let silent_at = now.after(self.timeout);
            for peer in self.peers.values_mut() {
                peer.silent_at = silent_at;
            }
        }
        if now >= self.heartbeat_at {
            out.extend(self.peers.keys().map(|&peer| Effect::Heartbeat { peer }));
            self.heartbeat_at = now.after(self.settings.interval);
        }
        for (&peer, state) in &mut self.peers {
            if !state.suspected && now >= state.silent_at {
                state.suspected = true;
                out.push(report(peer, true, Evidence::Silent));
            }
        }
    }

    fn on_heard(&mut self, now: Instant, peer: ReplicaId, out: &mut Vec<Effect>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.silent_at = now.after(self.timeout);
        if state.suspected {
            state.suspected = false;
            out.push(report(peer, false, Evidence::Heard));
        }
    }

    fn on_closed(&mut self, now: Instant, peer: ReplicaId) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.silent_at = state.silent_at.min(now.after(self.settings.closed_timeout));
    }

    fn suspect(&mut self, peer: ReplicaId, evidence: Evidence, out: &mut Vec<Effect>) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        if !state.suspected {
            state.suspected = true;
            out.push(report(peer, true, evidence));
        }
    }
}

fn report(peer: ReplicaId, suspected: bool, evidence: Evidence) -> Effect {
    Effect::Report(Report { peer, suspected, evidence })
}
