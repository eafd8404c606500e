//! Which checkpoints a quorum holds, and what the log therefore need not keep ("stable
//! checkpoint" in Castro and Liskov, "Practical Byzantine Fault Tolerance", OSDI 1999, section 4.3).
//!
//! When a checkpoint is due is a function of the log and decided where the log is applied; here it
//! is only known when one is durable. A checkpoint is stable once a quorum of voting replicas holds
//! it durably with one digest. Who has seen that says so: a replica that comes back to a group whose
//! others are partly down need not see the quorum itself.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use mainstay_model::{
    CheckpointId, Configuration, Instant, Plant, Plants, ReplicaId, ReplicaSet, Slot,
};

use crate::door::{Discard, Effect, Observation};
use crate::message::{Body, CheckpointAsk, CheckpointIs};
use crate::replica::{Cx, Replica};

/// How many slots at which checkpoints were announced, or agreed upon, are remembered.
const SLOTS_MAX: usize = 8;
/// How many checkpoints of its own a replica tells about: the two newest, and the last stable one. Without
/// that one, two replicas that differ could bring up no third.
const TOLD_MAX: usize = 3;
/// How many of its own it remembers. Worlds keep those that it tells about, and others for a while; which is
/// the last stable one can change when one of them goes.
const OWN_MAX: usize = 8;
/// How many resend intervals lie between two announcements of a checkpoint that is not stable yet.
const ANNOUNCE_INTERVALS: u32 = 5;
/// For how many resend intervals the log is kept for a transfer that nothing is heard of: its
/// receiver may be starting again.
const WANT_INTERVALS: u32 = 100;

/// What another replica last told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Told {
    held: Vec<CheckpointId>,
    load: u32,
    truncated_upto: Slot,
}

/// Checkpoints here and elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Checkpoints {
    /// This replica's own, durable, ascending; at most [`OWN_MAX`].
    own: Vec<CheckpointId>,
    /// Who announced which; the highest [`SLOTS_MAX`] slots.
    announced: BTreeMap<Slot, BTreeMap<u64, ReplicaSet>>,
    told: BTreeMap<u16, Told>,
    /// Which digest a quorum held; the highest [`SLOTS_MAX`] slots, and what somebody holds. The last one is *stable*.
    agreed: BTreeMap<Slot, u64>,
    diverged: Option<Slot>,
    /// How often in a row, see [`Observation::Diverged`].
    diverged_times: u32,
    /// The last checkpoint that was fetched.
    adopted: Slot,
    announced_at: Instant,
    /// Who will want the log above which slot, and when that was last heard.
    wants: BTreeMap<u16, (Slot, Instant)>,
    /// What the world was last told to discard, and to keep.
    discard_told: Option<Discard>,
}

impl Checkpoints {
    /// `own` is what the world holds, `stable` what is known to have been stable.
    pub(crate) fn new(own: Vec<CheckpointId>, stable: impl Iterator<Item = CheckpointId>) -> Self {
        let agreed = stable.map(|stable| (stable.slot, stable.digest)).collect();
        Self {
            own,
            announced: BTreeMap::new(),
            told: BTreeMap::new(),
            agreed,
            diverged: None,
            diverged_times: 0,
            adopted: Slot::NONE,
            announced_at: Instant(0),
            wants: BTreeMap::new(),
            discard_told: None,
        }
    }

    /// Those of its own that others are told of: the two newest, and the last one that is stable.
    fn own_told(&self) -> Vec<CheckpointId> {
        let older = self.own.len().saturating_sub(TOLD_MAX - 1);
        let stable = self.own_stable().filter(|stable| self.own[..older].contains(stable));
        stable.into_iter().chain(self.own[older..].iter().copied()).collect()
    }

    /// Remembers no more than [`OWN_MAX`], and always what others are told of.
    fn forget_older(&mut self) {
        while self.own.len() > OWN_MAX {
            let stable = self.own_stable() == Some(self.own[0]);
            self.own.remove(usize::from(stable));
        }
    }

    /// The newest one of its own that a quorum is known to have held.
    fn own_stable(&self) -> Option<CheckpointId> {
        self.own.iter().rev().copied().find(|own| self.is_agreed(*own))
    }

    pub(crate) fn own(&self) -> Option<CheckpointId> {
        self.own.last().copied()
    }

    pub(crate) fn stable(&self) -> Option<CheckpointId> {
        let last = self.agreed.last_key_value();
        last.map(|(slot, digest)| CheckpointId { slot: *slot, digest: *digest })
    }

    /// The highest slot above the stable checkpoint at which so many digests were announced that none
    /// of them can be a quorum's any more: the service does not do the same on all replicas.
    pub(crate) fn disputed(&self, configuration: &Configuration) -> Option<Slot> {
        let stable = self.stable().map_or(Slot::NONE, |stable| stable.slot);
        let replicas = configuration.replicas.len();
        let undecidable = |digests: &BTreeMap<u64, ReplicaSet>| {
            let heard: usize = digests.values().map(|set| set.len()).sum();
            let most = digests.values().map(|set| set.len()).max().unwrap_or(0);
            most + (replicas - heard.min(replicas)) < configuration.majority()
        };
        let above = self.announced.iter().rev().take_while(|(slot, _)| **slot > stable);
        above.into_iter().find(|(_, digests)| undecidable(digests)).map(|(slot, _)| *slot)
    }

    /// Whether a quorum is known to have held it.
    pub(crate) fn is_agreed(&self, checkpoint: CheckpointId) -> bool {
        self.agreed.get(&checkpoint.slot) == Some(&checkpoint.digest)
    }

    /// What others are told to be stable: what it holds itself, and the highest, in that order.
    fn stable_told(&self) -> Vec<CheckpointId> {
        let own = self.own_stable();
        own.into_iter().chain(self.stable().filter(|stable| Some(*stable) != own)).collect()
    }

    /// The slot of the checkpoint before the one of `slot`, as far as it is known.
    pub(crate) fn agreed_before(&self, slot: Slot) -> Slot {
        let told = self.told.values().flat_map(|told| &told.held).map(|held| held.slot);
        let known = self.agreed.keys().copied().chain(told);
        known.filter(|at| *at < slot).max().unwrap_or(Slot::NONE)
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

    /// Notes that a quorum held it; what was agreed upon first stays. What is known of the newest stable one that
    /// anybody holds, this replica or another, stays, too, however many others have agreed upon since: nothing else
    /// tells that it may be fetched.
    fn agree(&mut self, checkpoint: CheckpointId) {
        self.agreed.entry(checkpoint.slot).or_insert(checkpoint.digest);
        if self.agreed.len() <= SLOTS_MAX {
            return;
        }
        let newest =
            |held: &[CheckpointId]| held.iter().copied().filter(|h| self.is_agreed(*h)).max();
        let others = self.told.values().filter_map(|told| newest(&told.held));
        let stay: BTreeSet<Slot> = others.chain(newest(&self.own)).map(|held| held.slot).collect();
        let first = self.agreed.keys().copied().find(|slot| !stay.contains(slot));
        first.and_then(|slot| self.agreed.remove(&slot));
    }

    /// Who told that it holds `checkpoint`, and how much it has to do.
    pub(crate) fn holders(&self, checkpoint: CheckpointId) -> impl Iterator<Item = (u16, u32)> {
        let held = self.told.iter().filter(move |(_, told)| told.held.contains(&checkpoint));
        held.map(|(who, told)| (*who, told.load))
    }

    /// The highest stable one, from `needed_from` on, that one of `usable` holds.
    pub(crate) fn to_be_had(
        &self,
        needed_from: Slot,
        usable: impl Fn(u16) -> bool,
    ) -> Option<CheckpointId> {
        let agreed = self.agreed.range(needed_from..).rev();
        let mut agreed = agreed.map(|(slot, digest)| CheckpointId { slot: *slot, digest: *digest });
        agreed.find(|checkpoint| self.holders(*checkpoint).any(|(who, _)| usable(who)))
    }

    /// Whether one of `usable` told that its log holds everything above `upto`.
    pub(crate) fn log_reaches(&self, upto: Slot, usable: impl Fn(u16) -> bool) -> bool {
        self.told.iter().any(|(who, told)| told.truncated_upto <= upto && usable(*who))
    }

    /// The world does not hold one of its own any more.
    pub(crate) fn own_is_gone(&mut self, checkpoint: CheckpointId) {
        self.own.retain(|own| *own != checkpoint);
    }

    /// `who` told that it does not hold `checkpoint` any more.
    pub(crate) fn forget_held(&mut self, who: u16, checkpoint: CheckpointId) {
        if let Some(told) = self.told.get_mut(&who) {
            told.held.retain(|held| *held != checkpoint);
        }
    }

    /// The highest one that anybody told of, whether a quorum holds it or not.
    pub(crate) fn highest_told(&self) -> Option<CheckpointId> {
        self.told.values().flat_map(|told| &told.held).copied().max()
    }

    /// None of `usable` has the log up to here, as far as they told.
    pub(crate) fn log_begins_after(&self, usable: impl Fn(u16) -> bool) -> Option<Slot> {
        let usable = self.told.iter().filter(|(who, _)| usable(**who));
        usable.map(|(_, told)| told.truncated_upto).min()
    }

    /// The lowest slot above which the log is wanted.
    fn wanted_above(&self) -> Option<Slot> {
        self.wants.values().map(|(above, _)| *above).min()
    }
}

impl<P: Plants> Replica<P> {
    /// A checkpoint of this replica's own is durable.
    pub(crate) fn on_checkpointed(&mut self, cx: &mut Cx<'_>, checkpoint: CheckpointId) {
        if self.checkpoints.diverged() {
            return self.ignore(cx, "checkpoint of a state that turned out wrong");
        }
        let own = &mut self.checkpoints.own;
        if own.last().is_some_and(|last| last.slot >= checkpoint.slot) {
            return self.ignore(cx, "checkpoint that a fetched one has overtaken");
        }
        own.push(checkpoint);
        self.checkpoints.forget_older();
        if self.votes {
            self.checkpoints.announce(self.me.index, checkpoint);
        }
        self.tell_all_checkpoints(cx);
        self.settle_checkpoints(cx);
    }

    /// The world does not hold one of its own any more. An older one may be the stable one that it holds now.
    pub(crate) fn on_checkpoint_gone(&mut self, cx: &mut Cx<'_>, checkpoint: CheckpointId) {
        self.checkpoints.own_is_gone(checkpoint);
        self.discard(cx);
    }

    /// What this replica tells about its checkpoints. One that does not vote counts in no quorum and
    /// keeps silent; one whose state is wrong holds none.
    fn checkpoints_told(&self) -> Option<CheckpointIs> {
        let held = match self.checkpoints.diverged() {
            true => Vec::new(),
            false => self.checkpoints.own_told(),
        };
        self.votes.then(|| CheckpointIs {
            held,
            stable: self.checkpoints.stable_told(),
            truncated_upto: self.log.truncated_upto,
            load: self.giving.load(),
        })
    }

    fn tell_all_checkpoints(&mut self, cx: &mut Cx<'_>) {
        self.checkpoints.announced_at = cx.now.monotonic;
        let Some(told) = self.checkpoints_told() else { return };
        for peer in self.peers() {
            self.send(cx, peer, Body::CheckpointIs(told.clone()));
        }
    }

    /// Tells a replica what a quorum is known to have held; from one that does not vote, that is all.
    pub(crate) fn tell_what_is_stable(&self, cx: &mut Cx<'_>, to: ReplicaId) {
        let told = self.checkpoints_told().unwrap_or_else(|| CheckpointIs {
            held: Vec::new(),
            stable: self.checkpoints.stable_told(),
            // Its log can give nothing, either.
            truncated_upto: self.log.decided_upto,
            load: self.giving.load(),
        });
        self.send(cx, to, Body::CheckpointIs(told));
    }

    pub(crate) fn on_checkpoint_ask(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: CheckpointAsk) {
        if let Some(told) = self.checkpoints_told() {
            self.send(cx, from, Body::CheckpointIs(told));
        }
        match m.wanted_above {
            Some(above) => {
                self.checkpoints.wants.insert(from.index, (above, cx.now.monotonic));
            }
            None => {
                self.checkpoints.wants.remove(&from.index);
            }
        }
        self.discard(cx);
    }

    /// While the last own checkpoint is not stable it is announced again, and asked for; one that does
    /// not vote only asks.
    fn announces(&self) -> bool {
        !self.checkpoints.diverged() && self.checkpoints.own() > self.checkpoints.stable()
    }

    pub(crate) fn checkpoint_deadline(&self) -> Option<Instant> {
        let heard = self.checkpoints.wants.values().map(|(_, heard)| *heard).min();
        let want = heard.map(|at| at.after(self.settings.resend_interval * WANT_INTERVALS));
        let announce = self.announces().then(|| self.announce_at());
        want.into_iter().chain(announce).min()
    }

    fn announce_at(&self) -> Instant {
        self.checkpoints.announced_at.after(self.settings.resend_interval * ANNOUNCE_INTERVALS)
    }

    pub(crate) fn checkpoint_tick(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        if self.announces() && now >= self.announce_at() {
            self.tell_all_checkpoints(cx);
            if !self.transfers() {
                let ask = CheckpointAsk { wanted_above: self.wanted_above() };
                for peer in self.peers() {
                    self.send(cx, peer, Body::CheckpointAsk(ask));
                }
            }
        }
        let lasts = self.settings.resend_interval * WANT_INTERVALS;
        self.checkpoints.wants.retain(|_, (_, heard)| now < heard.after(lasts));
        // After a restart, too: an earlier start may have ended before all of it was gone.
        self.discard(cx);
        self.fetch_for_room(cx);
    }

    /// Without room no decided value is kept, and no checkpoint of this replica's own counts before all that
    /// it covers is: one that a quorum holds frees the log instead.
    fn fetch_for_room(&mut self, cx: &mut Cx<'_>) {
        let passes_on = !self.acceptor.room && self.log.passed_from.is_some();
        let stable = self.checkpoints.stable();
        if passes_on && stable.is_some_and(|stable| stable.slot >= self.checkpoint_needed_from()) {
            self.begin_transfer_for_room(cx);
        }
    }

    pub(crate) fn on_checkpoint_is(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: CheckpointIs) {
        let CheckpointIs { mut held, stable, truncated_upto, load } = m;
        held.truncate(TOLD_MAX);
        for checkpoint in &held {
            self.checkpoints.announce(from.index, *checkpoint);
        }
        self.checkpoints.told.insert(from.index, Told { held, load, truncated_upto });
        for stable in stable {
            self.checkpoints.agree(stable);
        }
        self.settle_checkpoints(cx);
        self.choose_checkpoint(cx);
        self.meet_donors();
        self.look_for_another(cx);
        self.go_on_fetching(cx);
    }

    /// Looks for checkpoints that a quorum holds with one digest; what lies below the last one and
    /// below this replica's own need not be kept; one of its own that differs means that it has
    /// diverged.
    fn settle_checkpoints(&mut self, cx: &mut Cx<'_>) {
        let configuration = &self.configuration;
        let agreed = self.checkpoints.announced.iter().filter_map(|(slot, digests)| {
            let quorum = digests.iter().find(|(_, set)| configuration.is_quorum(**set));
            quorum.map(|(digest, _)| CheckpointId { slot: *slot, digest: *digest })
        });
        for checkpoint in agreed.collect::<Vec<_>>() {
            self.checkpoints.agree(checkpoint);
        }
        if let Some(stable) = self.checkpoints.stable() {
            self.raise_target(stable.slot);
        }
        if !self.plants.has(Plant::DigestNotCompared) {
            self.compare_own(cx);
        }
        self.discard(cx);
    }

    /// Compares every own checkpoint with what a quorum says of its slot.
    fn compare_own(&mut self, cx: &mut Cx<'_>) {
        let Checkpoints { own, agreed, adopted, .. } = &self.checkpoints;
        if self.checkpoints.diverged() {
            return;
        }
        let known = |own: &&CheckpointId| agreed.contains_key(&own.slot);
        let differs = |own: &&CheckpointId| agreed.get(&own.slot) != Some(&own.digest);
        let Some(at) = own.iter().filter(known).find(differs).map(|own| own.slot) else {
            if own.iter().filter(known).any(|own| own.slot > *adopted) {
                self.checkpoints.diverged_times = 0;
            }
            return;
        };
        // Nobody knows since when: what no quorum has confirmed may be wrong as well.
        let confirmed = |own: &&CheckpointId| own.slot < at && self.checkpoints.is_agreed(**own);
        let right = if self.plants.has(Plant::UnconfirmedKept) {
            own.iter().rev().find(|own| own.slot < at).copied()
        } else {
            own.iter().rev().find(confirmed).copied()
        };
        self.checkpoints.own.retain(|own| Some(*own) <= right);
        self.checkpoints.diverged = Some(at);
        self.checkpoints.diverged_times += 1;
        let times = self.checkpoints.diverged_times;
        cx.out.push(Effect::StopExecuting { at, right });
        cx.observe(Observation::Diverged { at, times });
        self.begin_transfer_after(cx, times - 1);
    }

    /// Tells the world what the log need not keep, if that has changed.
    fn discard(&mut self, cx: &mut Cx<'_>) {
        // Only up to one that is held here: whoever else holds the stable one may be gone tomorrow.
        let upto = if self.plants.has(Plant::DiscardedAboveOwnCheckpoint) {
            self.checkpoints.stable()
        } else {
            self.checkpoints.own_stable()
        };
        let Some(CheckpointId { slot: upto, .. }) = upto else { return };
        let wanted_above = self.checkpoints.wanted_above().filter(|above| *above < upto);
        let stable = self.checkpoints.own_stable();
        let discard = Discard { upto, wanted_above, stable };
        let lower = upto < self.log.truncated_upto || self.checkpoints.diverged();
        if !lower && self.checkpoints.discard_told != Some(discard) {
            self.checkpoints.discard_told = Some(discard);
            cx.out.push(Effect::Discard(discard));
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
        // Those above are of no use either; and whether this one is was found out meanwhile, if at all.
        self.checkpoints.own.retain(|own| Some(*own) < instead);
        if !self.checkpoints.diverged() {
            self.checkpoints.own.extend(instead);
        }
        self.restart_delivery(instead.map_or(Slot::NONE, |checkpoint| checkpoint.slot));
        self.flush_due = true;
    }

    /// A fetched checkpoint stands in the place of the state.
    pub(crate) fn adopt_checkpoint(&mut self, cx: &mut Cx<'_>, checkpoint: CheckpointId) {
        if checkpoint.slot > self.log.decided_upto && self.leads() {
            // It does not know whether what was decided there is what it proposed.
            self.step_down(cx, self.settings.election_timeout * 2);
        } else {
            self.wait_no_longer(cx.now.monotonic);
        }
        self.checkpoints.diverged = None;
        self.checkpoints.adopted = checkpoint.slot;
        self.checkpoints.own = Vec::from([checkpoint]);
        self.checkpoints.agree(checkpoint);
        self.restart_delivery(checkpoint.slot);
        self.log.truncated_upto = self.log.truncated_upto.max(checkpoint.slot);
        self.acceptor.certain_upto(checkpoint.slot);
        if self.votes {
            self.checkpoints.announce(self.me.index, checkpoint);
        }
        self.tell_all_checkpoints(cx);
        self.settle_checkpoints(cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoints(own: &[u64], stable: u64) -> Checkpoints {
        let own = own.iter().map(|slot| of(*slot)).collect();
        Checkpoints::new(own, [of(stable)].into_iter())
    }

    fn of(slot: u64) -> CheckpointId {
        CheckpointId { slot: Slot(slot), digest: slot * 7 }
    }

    /// Whoever lags needs the former: the sender may be the only one left that knows it.
    #[test]
    fn what_is_held_and_stable_is_told_although_a_later_one_is_stable_elsewhere() {
        let mut checkpoints = checkpoints(&[10, 20, 30], 10);
        assert_eq!(checkpoints.stable_told(), [of(10)]);
        checkpoints.agree(of(15));
        assert_eq!(checkpoints.stable_told(), [of(10), of(15)]);
        checkpoints.agree(of(20));
        assert_eq!(checkpoints.stable_told(), [of(20)]);
    }

    /// Its log begins after it: without it there is nothing to give to whoever lags.
    #[test]
    fn the_one_that_is_held_and_stable_stays_however_many_others_agree_upon() {
        let mut checkpoints = checkpoints(&[10, 20, 30], 10);
        (40..60).for_each(|slot| checkpoints.agree(of(slot)));
        (61..80).for_each(|slot| {
            checkpoints.own.push(of(slot));
            checkpoints.forget_older();
        });
        assert_eq!(checkpoints.own.len(), OWN_MAX);
        assert_eq!(checkpoints.own_told(), [of(10), of(78), of(79)]);
        assert_eq!(checkpoints.stable_told(), [of(10), of(59)]);
        assert_eq!(checkpoints.agreed.len(), SLOTS_MAX);
    }

    /// Whoever comes back after a long time learns of it from the others, and who holds it, at once.
    #[test]
    fn the_one_that_another_holds_stays_however_many_others_agree_upon() {
        let mut checkpoints = checkpoints(&[60], 40);
        (41..48).for_each(|slot| checkpoints.agree(of(slot)));
        let held = Vec::from([of(12), of(30)]);
        checkpoints.told.insert(1, Told { held, load: 0, truncated_upto: Slot(30) });
        checkpoints.agree(of(30));
        assert_eq!(checkpoints.to_be_had(Slot(1), |_| true), Some(of(30)));
        checkpoints.agree(of(12));
        assert!(!checkpoints.is_agreed(of(12)), "not the newest that it holds");
        (61..80).for_each(|slot| checkpoints.agree(of(slot)));
        assert_eq!(checkpoints.to_be_had(Slot(1), |_| true), Some(of(30)));
        assert_eq!(checkpoints.agreed.len(), SLOTS_MAX);
    }

    /// On a full disk one makes way before anybody knows that it is stable: the stable one before it is all there
    /// is to give.
    #[test]
    fn where_the_last_stable_one_is_gone_the_one_before_it_is_told_of() {
        let mut checkpoints = checkpoints(&[10, 20, 30, 40], 10);
        checkpoints.agree(of(20));
        assert_eq!(checkpoints.own_told(), [of(20), of(30), of(40)]);
        checkpoints.own_is_gone(of(20));
        assert_eq!(checkpoints.own_told(), [of(10), of(30), of(40)]);
        assert_eq!(checkpoints.stable_told(), [of(10), of(20)]);
        checkpoints.own_is_gone(of(40));
        assert_eq!(checkpoints.own_told(), [of(10), of(30)]);
    }
}
