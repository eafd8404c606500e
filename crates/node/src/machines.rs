//! The machines of a node side by side: the ordering of its group, and the failure detector, whose
//! reports the former is told.

use mainstay_consensus::{Effect, Input, Replica};
use mainstay_detect as detect;
use mainstay_model::{Instant, Now, ReplicaId};

/// Steps the machines and gathers what they ask for.
pub(crate) struct Machines {
    pub(crate) replica: Replica,
    detector: detect::Detector,
    /// What the clocks said at the start of this turn.
    pub(crate) now: Now,
    /// What the ordering machine asks for, in order.
    pub(crate) effects: Vec<Effect>,
    /// To whom heartbeats are due.
    pub(crate) heartbeats: Vec<ReplicaId>,
    detected: Vec<detect::Effect>,
}

impl Machines {
    pub(crate) const fn new(replica: Replica, detector: detect::Detector, now: Now) -> Self {
        Self {
            replica,
            detector,
            now,
            effects: Vec::new(),
            heartbeats: Vec::new(),
            detected: Vec::new(),
        }
    }

    /// Hands an input to the ordering machine.
    pub(crate) fn step(&mut self, input: Input) {
        self.replica.step(self.now, input, &mut self.effects);
    }

    /// Hands an input to the detector, and what it thinks to the ordering machine.
    pub(crate) fn detect(&mut self, input: detect::Input) {
        let patience = detect::Input::Patience { timeout: self.replica.leader_timeout() };
        self.detector.step(self.now.monotonic, patience, &mut self.detected);
        self.detector.step(self.now.monotonic, input, &mut self.detected);
        for effect in std::mem::take(&mut self.detected) {
            match effect {
                detect::Effect::Heartbeat { peer } => self.heartbeats.push(peer),
                detect::Effect::Report(detect::Report { peer, suspected, evidence }) => {
                    tracing::info!(
                        "replica {peer} is {} ({})",
                        if suspected { "suspected" } else { "trusted again" },
                        match evidence {
                            detect::Evidence::Stopped => "its host refuses connections",
                            detect::Evidence::Silent => "nothing came from it for too long",
                            detect::Evidence::Heard => "it was heard",
                        }
                    );
                    self.step(Input::Suspicion { peer, suspected });
                }
            }
        }
    }

    /// The connection to a peer came up or went down.
    pub(crate) fn link(&mut self, peer: ReplicaId, up: bool) {
        self.detect(detect::Input::Link { peer, up });
        self.step(Input::Link { peer, up });
    }

    /// Tells the machines of their deadlines, where these have come.
    pub(crate) fn deadlines(&mut self) {
        let now = self.now.monotonic;
        if self.detector.deadline().is_some_and(|deadline| deadline <= now) {
            self.detect(detect::Input::Deadline);
        }
        if self.replica.deadline().is_some_and(|deadline| deadline <= now) {
            self.step(Input::Deadline);
        }
    }

    /// When the next deadline is.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.detector.deadline(), self.replica.deadline()].into_iter().flatten().min()
    }
}
