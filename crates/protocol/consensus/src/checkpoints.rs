//! Which checkpoints a quorum holds, and what the log therefore need not keep (DESIGN rule 8; "stable
//! checkpoint" in Castro and Liskov, "Practical Byzantine Fault Tolerance", OSDI 1999, section 4.3).
//!
//! When a checkpoint is due is a function of the log and decided where the log is applied; here it
//! is only known when one is durable. A checkpoint is stable once a quorum of voting replicas holds
//! it durably with one digest.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use mainstay_model::{CheckpointId, Instant, Plants, ReplicaId, ReplicaSet, Slot};

use crate::door::{Effect, Observation};
use crate::message::{Body, CheckpointIs};
use crate::replica::{Cx, Replica};

/// How many slots at which checkpoints were announced are remembered.
const SLOTS_MAX: usize = 8;
/// How many checkpoints of its own a replica tells about: as many as worlds keep.
const OWN_MAX: usize = 2;
/// How many resend intervals lie between two announcements of a checkpoint that is not stable yet.
const ANNOUNCE_INTERVALS: u32 = 5;

/// Checkpoints here and elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checkpoints {
    /// This replica's own, durable, ascending; at most [`OWN_MAX`].
    own: Vec<CheckpointId>,
    /// Who announced which; the highest [`SLOTS_MAX`] slots.
    announced: BTreeMap<Slot, BTreeMap<u64, ReplicaSet>>,
    stable: Option<CheckpointId>,
    diverged: Option<Slot>,
    announced_at: Instant,
}

impl Checkpoints {
    pub(crate) fn new(own: Option<CheckpointId>) -> Self {
        Self {
            own: own.into_iter().collect(),
            announced: BTreeMap::new(),
            stable: None,
            diverged: None,
            announced_at: Instant(0),
        }
    }

    pub(crate) fn own(&self) -> Option<CheckpointId> {
        self.own.last().copied()
    }

    pub(crate) fn stable(&self) -> Option<CheckpointId> {
        self.stable
    }

    pub(crate) fn diverged(&self) -> bool {
        self.diverged.is_some()
    }

    pub(crate) fn diverged_at(&self) -> Option<Slot> {
        self.diverged
    }

    fn announce(&mut self, who: u16, checkpoint: CheckpointId) {
        if self.announced.len() >= SLOTS_MAX && !self.announced.contains_key(&checkpoint.slot) {
            match self.announced.first_key_value() {
                Some((lowest, _)) if *lowest < checkpoint.slot => {
                    self.announced.pop_first();
                }
                _ => return,
            }
        }
        let digests = self.announced.entry(checkpoint.slot).or_default();
        // A replica stands for one digest a slot: the last one it told.
        digests.retain(|_, set| {
            set.remove(who);
            !set.is_empty()
        });
        digests.entry(checkpoint.digest).or_default().insert(who);
    }

    /// What others told is asked for anew; what is stable stays known.
    pub(crate) fn forget_holders(&mut self) {
        self.announced.clear();
        self.stable = None;
    }

    /// Who holds `checkpoint`, as far as they told.
    pub(crate) fn holders(&self, checkpoint: CheckpointId) -> ReplicaSet {
        let digests = self.announced.get(&checkpoint.slot);
        digests.and_then(|d| d.get(&checkpoint.digest)).copied().unwrap_or_default()
    }
}

impl<P: Plants> Replica<P> {
    /// A checkpoint of this replica's own is durable.
    pub(crate) fn on_checkpointed(&mut self, cx: &mut Cx<'_>, checkpoint: CheckpointId) {
        let own = &mut self.checkpoints.own;
        if own.last().is_some_and(|last| last.slot >= checkpoint.slot) {
            return self.ignore(cx, "checkpoint that a fetched one has overtaken");
        }
        if own.len() >= OWN_MAX {
            own.remove(0);
        }
        own.push(checkpoint);
        if self.votes {
            self.checkpoints.announce(self.me.index, checkpoint);
            self.tell_checkpoints(cx, None);
        }
        self.settle_checkpoints(cx);
    }

    /// Tells one replica, or all, which checkpoints this one holds. One that does not vote counts in
    /// no quorum and keeps silent.
    pub(crate) fn tell_checkpoints(&mut self, cx: &mut Cx<'_>, to: Option<ReplicaId>) {
        if !self.votes || self.checkpoints.own.is_empty() || self.checkpoints.diverged() {
            return;
        }
        let told = CheckpointIs { held: self.checkpoints.own.clone() };
        if let Some(to) = to {
            return self.send(cx, to, Body::CheckpointIs(told));
        }
        self.checkpoints.announced_at = cx.now.monotonic;
        for peer in self.peers() {
            self.send(cx, peer, Body::CheckpointIs(told.clone()));
        }
    }

    /// While the last own checkpoint is not stable it is announced again, and asked for.
    fn announces(&self) -> bool {
        let own = self.checkpoints.own();
        self.votes && !self.checkpoints.diverged() && own > self.checkpoints.stable
    }

    pub(crate) fn checkpoint_deadline(&self) -> Option<Instant> {
        let interval = self.settings.resend_interval * ANNOUNCE_INTERVALS;
        self.announces().then(|| self.checkpoints.announced_at.after(interval))
    }

    pub(crate) fn checkpoint_tick(&mut self, cx: &mut Cx<'_>) {
        if self.checkpoint_deadline().is_some_and(|at| cx.now.monotonic >= at) {
            self.tell_checkpoints(cx, None);
            for peer in self.peers() {
                self.send(cx, peer, Body::CheckpointAsk);
            }
        }
    }

    pub(crate) fn on_checkpoint_is(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: CheckpointIs) {
        for checkpoint in m.held.into_iter().take(OWN_MAX) {
            self.checkpoints.announce(from.index, checkpoint);
        }
        self.settle_checkpoints(cx);
        self.choose_checkpoint(cx);
    }

    /// Looks for a checkpoint that a quorum holds with one digest; what lies below it and below this
    /// replica's own need not be kept; one of its own that differs means that it has diverged.
    fn settle_checkpoints(&mut self, cx: &mut Cx<'_>) {
        let configuration = &self.configuration;
        let agreed = self.checkpoints.announced.iter().rev().find_map(|(slot, digests)| {
            let quorum = digests.iter().find(|(_, set)| configuration.is_quorum(**set));
            quorum.map(|(digest, _)| CheckpointId { slot: *slot, digest: *digest })
        });
        let Some(agreed) = agreed.filter(|agreed| Some(*agreed) > self.checkpoints.stable) else {
            return self.compare_own(cx);
        };
        self.checkpoints.stable = Some(agreed);
        self.raise_target(agreed.slot);
        self.compare_own(cx);
        self.discard(cx);
    }

    /// Compares every own checkpoint with what a quorum says of its slot.
    fn compare_own(&mut self, cx: &mut Cx<'_>) {
        if self.checkpoints.diverged() {
            return;
        }
        let configuration = &self.configuration;
        let differs = |own: &&CheckpointId| {
            self.checkpoints.announced.get(&own.slot).is_some_and(|digests| {
                digests
                    .iter()
                    .any(|(digest, set)| *digest != own.digest && configuration.is_quorum(*set))
            })
        };
        let Some(at) = self.checkpoints.own.iter().find(differs).map(|own| own.slot) else {
            return;
        };
        self.checkpoints.diverged = Some(at);
        let wrong = self.checkpoints.own.iter().filter(|own| own.slot >= at).copied().collect();
        cx.out.push(Effect::StopExecuting { at, wrong });
        cx.observe(Observation::Diverged { at });
        self.begin_transfer(cx);
    }

    pub(crate) fn discard(&mut self, cx: &mut Cx<'_>) {
        let (Some(own), Some(stable)) = (self.checkpoints.own(), self.checkpoints.stable) else {
            return;
        };
        let upto = own.slot.min(stable.slot);
        if upto > self.log.truncated_upto && !self.checkpoints.diverged() {
            cx.out.push(Effect::Discard { upto, wanted_above: None });
        }
    }

    pub(crate) fn on_discarded(&mut self, upto: Slot) {
        assert!(upto <= self.log.applied_upto, "discarded what only the log held");
        self.log.truncated_upto = self.log.truncated_upto.max(upto);
    }

    /// The checkpoint of the start is of no use: the executor begins after an older one, and the log
    /// or the others have what is missing.
    pub(crate) fn on_unrestored(&mut self, instead: Option<CheckpointId>) {
        for digests in self.checkpoints.announced.values_mut() {
            digests.values_mut().for_each(|set| {
                set.remove(self.me.index);
            });
        }
        self.checkpoints.own = instead.into_iter().collect();
        self.restart_delivery(instead.map_or(Slot::NONE, |checkpoint| checkpoint.slot));
        self.flush_due = true;
    }

    /// A fetched checkpoint stands in the place of the state.
    pub(crate) fn adopt_checkpoint(&mut self, cx: &mut Cx<'_>, checkpoint: CheckpointId) {
        self.checkpoints.diverged = None;
        self.checkpoints.own = Vec::from([checkpoint]);
        self.restart_delivery(checkpoint.slot);
        self.log.truncated_upto = self.log.truncated_upto.max(checkpoint.slot);
        self.acceptor.certain_upto(checkpoint.slot);
        if self.votes {
            self.checkpoints.announce(self.me.index, checkpoint);
            self.tell_checkpoints(cx, None);
        }
        self.settle_checkpoints(cx);
    }
}
