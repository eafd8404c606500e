//! State transfer: fetching a checkpoint when no log reaches back far enough, or when this replica's
//! own state has diverged (Chai 2009 calls it by that name).
//!
//! Only a checkpoint that a quorum holds with one digest is fetched, in pieces, several at once, from
//! those that hold it (the leader only if nobody else can); the whole is checked against that digest
//! before it is used. Memory is bounded by the pieces under way, whatever the size of the state.
//!
//! The bandwidth is bounded here, at the receiver: it alone knows what all donors give together, and
//! what it does not ask for waits nowhere.

use core::time::Duration;

use mainstay_model::time::nanos;
use mainstay_model::{CheckpointId, Instant, Plant, Plants, ReplicaId, Slot};

use crate::door::{Effect, Installed, Observation};
use crate::fetch::{Fetch, Taken};
use crate::message::{Body, CheckpointAsk, Chunk, ChunkAsk, ChunkRefusal, ChunkRefused};
use crate::replica::{Cx, PartialCheckpoint, Replica};

/// How many resend intervals a donor has for its first piece, and lie between two questions who
/// holds what.
const PATIENCE_INTERVALS: u32 = 5;
/// How often the pause after a failure, or the bandwidth after an outrun transfer, doubles at most.
const DOUBLINGS_MAX: u32 = 7;

/// Whether this replica needs a checkpoint, and how far it has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Transfer {
    /// Whether a checkpoint is needed, so that the log of others is of no use.
    needed: bool,
    /// Whether that is so for want of room alone.
    for_room: bool,
    /// Whether one was fetched, and the log that follows it is not all there yet.
    follows: bool,
    /// When it was last asked who holds one.
    asked_at: Instant,
    fetch: Option<Fetch>,
    /// How many pieces of fetches that were given up the disk has not answered; while nothing is fetched.
    unanswered: u32,
    /// What an interrupted fetch left on disk.
    partial: Option<PartialCheckpoint>,
    /// Until when the checkpoint after this one is waited for, or was: once is enough.
    waits: Option<(CheckpointId, Instant)>,
    /// Nothing is fetched before.
    not_before: Instant,
    /// How often in a row what was fetched turned out to be of no use, or could not be stored.
    failures: u32,
    /// How often in a row a fetch was begun anew for that, or because pieces did not fit each other.
    turns: u32,
    /// How often in a row the log after what was fetched was gone.
    outrun: u32,
    /// Before, the leader is not asked: others may still tell that they hold it, too.
    leader_from: Instant,
    /// When the bandwidth allows the next piece.
    next_piece_at: Instant,
    /// When it was last seen to what can be done; what was due before is done.
    looked_at: Instant,
}

impl Transfer {
    pub(crate) fn new(partial: Option<PartialCheckpoint>) -> Self {
        Self { partial, ..Self::default() }
    }

    /// No checkpoint is needed any more; the log that follows is.
    fn ended(&self) -> Self {
        let (outrun, unanswered) = (self.outrun, self.unanswered());
        Self { follows: true, outrun, unanswered, ..Self::default() }
    }

    fn unanswered(&self) -> u32 {
        self.fetch.as_ref().map_or(self.unanswered, Fetch::unanswered)
    }

    /// Slot, bytes stored, bytes in all (0 while unknown).
    pub(crate) fn progress(&self) -> Option<(Slot, u64, u64)> {
        let fetch = self.fetch.as_ref()?;
        let (stored, total) = fetch.progress();
        Some((fetch.checkpoint.slot, stored, total))
    }
}

impl<P: Plants> Replica<P> {
    /// Whether a checkpoint is needed, so that the log of others is of no use.
    pub(crate) fn transfers(&self) -> bool {
        self.transfer.needed
    }

    pub(crate) fn chunk_bytes(&self) -> u64 {
        u64::from(self.settings.chunk_bytes.max(1))
    }

    fn patience(&self) -> Duration {
        self.settings.resend_interval * PATIENCE_INTERVALS
    }

    pub(crate) fn begin_transfer(&mut self, cx: &mut Cx<'_>) {
        if self.transfers() {
            return;
        }
        self.transfer.needed = true;
        if core::mem::take(&mut self.transfer.follows) {
            self.transfer_outrun(cx, self.checkpoints.own().map_or(Slot::NONE, |own| own.slot));
        }
        self.ask_for_checkpoints(cx);
        self.choose_checkpoint(cx);
    }

    /// As [`Replica::begin_transfer`], for the room alone that it makes.
    pub(crate) fn begin_transfer_for_room(&mut self, cx: &mut Cx<'_>) {
        if !self.transfers() {
            self.transfer.for_room = true;
            self.begin_transfer(cx);
        }
    }

    /// There is room without it: the logs of others are enough again.
    pub(crate) fn end_transfer_for_room(&mut self, cx: &mut Cx<'_>) {
        let installing = self.transfer.fetch.as_ref().is_some_and(|fetch| fetch.installing);
        if self.transfer.for_room && !installing && self.state_is_good() {
            // Nothing was installed, so no log has to follow it.
            self.transfer = Transfer { follows: false, ..self.transfer.ended() };
            self.ask_for_checkpoints(cx);
        }
    }

    /// As [`Replica::begin_transfer`], but not before a pause that doubles with every time.
    pub(crate) fn begin_transfer_after(&mut self, cx: &mut Cx<'_>, times: u32) {
        if times > 0 {
            let pause = self.patience() * (1 << times.min(DOUBLINGS_MAX));
            self.transfer.not_before = cx.now.monotonic.after(pause);
        }
        self.transfer.follows = false;
        self.begin_transfer(cx);
    }

    fn transfer_outrun(&mut self, cx: &mut Cx<'_>, slot: Slot) {
        self.transfer.outrun = (self.transfer.outrun + 1).min(DOUBLINGS_MAX);
        cx.observe(Observation::TransferOutrun { slot, times: self.transfer.outrun });
    }

    /// Which part of the others' logs will be needed once what is being fetched stands.
    pub(crate) fn wanted_above(&self) -> Option<Slot> {
        let fetched = self.transfer.fetch.as_ref().map(|fetch| fetch.checkpoint.slot);
        let begun = self.transfer.partial.map(|partial| partial.checkpoint.slot);
        let begun = begun.filter(|slot| *slot > self.log.applied_upto.min(self.log.settled_upto()));
        let above = fetched.or(begun).or(self.transfer.follows.then_some(Slot::NONE))?;
        Some(above.max(self.log.decided_upto))
    }

    /// Asks all who holds what, and tells them what they are to keep.
    fn ask_for_checkpoints(&mut self, cx: &mut Cx<'_>) {
        self.transfer.asked_at = cx.now.monotonic;
        let ask = CheckpointAsk { wanted_above: self.wanted_above() };
        for peer in self.peers() {
            self.send(cx, peer, Body::CheckpointAsk(ask));
        }
    }

    /// Begins to fetch the highest stable checkpoint, if one is needed and known.
    pub(crate) fn choose_checkpoint(&mut self, cx: &mut Cx<'_>) {
        self.transfer.looked_at = cx.now.monotonic;
        let early = cx.now.monotonic < self.transfer.not_before;
        if !self.transfers() || self.transfer.fetch.is_some() || early {
            return;
        }
        let needed_from = self.checkpoint_needed_from();
        let begun = self.transfer.partial.map(|partial| partial.checkpoint);
        let begun = begun.filter(|begun| {
            let mut holders = self.checkpoints.holders(*begun);
            self.checkpoints.is_agreed(*begun) && holders.any(|(who, _)| self.is_donor(who))
        });
        let stable = if self.plants.has(Plant::UnstableCheckpointTransferred) {
            self.checkpoints.highest_told()
        } else {
            self.checkpoints.to_be_had(needed_from, |who| self.is_donor(who))
        };
        let useful = |checkpoint: &CheckpointId| checkpoint.slot >= needed_from;
        let checkpoint = match (begun.filter(useful), stable.filter(useful)) {
            (Some(begun), _) => begun,
            (None, Some(stable)) if !self.waits_for_next(cx, stable) => stable,
            _ => return,
        };
        cx.observe(Observation::Transfer { slot: checkpoint.slot });
        let chunk_bytes = self.chunk_bytes();
        let fits = |p: &PartialCheckpoint| {
            p.checkpoint == checkpoint && u64::from(p.chunks) <= p.total.div_ceil(chunk_bytes)
        };
        let partial = self.transfer.partial.take().filter(fits);
        self.transfer.waits = None;
        let turns = self.transfer.turns;
        if turns == 0 {
            self.transfer.leader_from = cx.now.monotonic.after(self.settings.resend_interval);
        }
        // Another one with every turn.
        let peers = self.configuration.replicas.len().saturating_sub(1).max(1);
        let turn = turns.checked_sub(1).map(|turn| turn as usize % peers);
        let alone_from = turn.and_then(|turn| self.peers().nth(turn)).map(|peer| peer.index);
        let left = core::mem::take(&mut self.transfer.unanswered);
        self.transfer.fetch = Some(Fetch::new(checkpoint, chunk_bytes, partial, alone_from, left));
        self.meet_donors();
        // What is to be kept is known only now.
        self.ask_for_checkpoints(cx);
        self.go_on_fetching(cx);
    }

    /// The lowest slot whose checkpoint is of use.
    pub(crate) fn checkpoint_needed_from(&self) -> Slot {
        match self.checkpoints.diverged_at() {
            Some(at) => at,
            None => self.log.settled_upto().next().max(self.log.truncated_upto),
        }
    }

    /// Whether this replica's own state and log could go on from the logs of others.
    fn state_is_good(&self) -> bool {
        !self.checkpoints.diverged() && !self.log.begins_too_late()
    }

    /// Whether `who` is one of the others, and not suspected.
    fn is_donor(&self, who: u16) -> bool {
        self.peers().any(|peer| peer.index == who && !self.election.is_suspected(peer))
    }

    /// If the checkpoint after `stable` is near, it is better to wait for it: whoever installs the
    /// older one has almost a whole interval to execute again (Chai 2009, section 4.4.6 and figure 3).
    fn waits_for_next(&mut self, cx: &mut Cx<'_>, stable: CheckpointId) -> bool {
        if let Some((after, until)) = self.transfer.waits {
            return after == stable && cx.now.monotonic < until;
        }
        // Without a leader there will be no next one.
        if self.election.leader.is_none() {
            return false;
        }
        let wait = self.settings.checkpoint_wait_max;
        let since = self.catch_up.target.0.saturating_sub(stable.slot.0);
        let interval = stable.slot.0 - self.checkpoints.agreed_before(stable.slot).0;
        let near = since >= interval - interval / 4 && since - interval / 4 <= interval;
        if wait.is_zero() || !near {
            return false;
        }
        self.transfer.waits = Some((stable, cx.now.monotonic.after(wait)));
        cx.observe(Observation::TransferWaits { after: stable.slot });
        true
    }

    /// Whoever told that it holds what is being fetched can be asked for it.
    pub(crate) fn meet_donors(&mut self) {
        let Some(fetch) = &mut self.transfer.fetch else { return };
        for (who, load) in self.checkpoints.holders(fetch.checkpoint) {
            fetch.meet(who, load);
        }
    }

    /// Stores, asks, or installs: whatever comes next.
    pub(crate) fn go_on_fetching(&mut self, cx: &mut Cx<'_>) {
        self.transfer.looked_at = cx.now.monotonic;
        if self.is_past_what_it_fetches() {
            self.transfer = self.transfer.ended();
            self.flush_due = true;
            return self.ask_for_checkpoints(cx);
        }
        let Some(fetch) = &mut self.transfer.fetch else { return };
        let now = cx.now.monotonic;
        if fetch.complete() {
            if now >= self.transfer.not_before && !core::mem::replace(&mut fetch.installing, true) {
                cx.out.push(Effect::Install { checkpoint: fetch.checkpoint });
            }
            return;
        }
        while let Some((chunk, to)) = self.next_ask(now) {
            let Some(fetch) = &mut self.transfer.fetch else { return };
            fetch.ask(chunk, to.index, now);
            let checkpoint = fetch.checkpoint;
            self.pay_for_piece(now);
            self.send(cx, to, Body::ChunkAsk(ChunkAsk { checkpoint, chunk }));
        }
    }

    /// Whether what is missing came after all, from whoever was asked before, so that a checkpoint put
    /// in the place of this state would lead back.
    fn is_past_what_it_fetches(&self) -> bool {
        let fetch = self.transfer.fetch.as_ref().filter(|fetch| !fetch.installing);
        let slot = fetch.map(|fetch| fetch.checkpoint.slot);
        self.state_is_good() && slot.is_some_and(|slot| slot <= self.log.settled_upto())
    }

    fn next_ask(&mut self, now: Instant) -> Option<(u32, ReplicaId)> {
        let election = &self.election;
        let peers = &self.configuration.replicas;
        let find = |who: u16| peers.iter().copied().find(|peer| peer.index == who);
        let up = |who| find(who).is_some_and(|peer| !election.is_suspected(peer));
        let leader = election.leader.map(|ballot| ballot.leader.index);
        let spared = |who| Some(who) == leader && now < self.transfer.leader_from;
        let usable = |who| up(who) && !spared(who);
        let fetch = self.transfer.fetch.as_mut()?;
        for peer in peers.iter().filter(|peer| election.is_suspected(**peer)) {
            fetch.take_back(peer.index);
        }
        if now < self.transfer.next_piece_at {
            return None;
        }
        let chunk = fetch.next_piece()?;
        let to = fetch.choose(now, leader, usable)?;
        Some((chunk, find(to)?))
    }

    /// Puts the next piece off for as long as the bandwidth needs for this one.
    fn pay_for_piece(&mut self, now: Instant) {
        let Some(rate) = self.settings.transfer_bytes_per_second else { return };
        let rate = rate.max(1).saturating_mul(1 << self.transfer.outrun);
        let time = u128::from(self.chunk_bytes()) * u128::from(nanos(Duration::from_secs(1)));
        let time = Duration::from_nanos(u64::try_from(time / u128::from(rate)).unwrap_or(u64::MAX));
        self.transfer.next_piece_at = self.transfer.next_piece_at.max(now).after(time);
    }

    pub(crate) fn transfer_deadline(&self) -> Option<Instant> {
        let Transfer { needed, follows, asked_at, not_before, looked_at, .. } = self.transfer;
        if !needed && !follows {
            return None;
        }
        let ask = asked_at.after(self.patience());
        let Some(fetch) = &self.transfer.fetch else {
            let waits = self.transfer.waits.map(|(_, until)| until);
            let begins = needed.then_some(not_before.max(waits.unwrap_or(not_before)));
            return begins.filter(|at| *at > looked_at).into_iter().chain([ask]).min();
        };
        let paced = Some(self.transfer.next_piece_at).filter(|at| *at > looked_at);
        let paced = paced.filter(|_| fetch.next_piece().is_some());
        let donors = fetch.deadline(looked_at, self.patience());
        let leader = Some(self.transfer.leader_from).filter(|at| *at > looked_at);
        let leader = leader.filter(|_| fetch.next_piece().is_some());
        let again = Some(not_before).filter(|at| *at > looked_at && fetch.complete());
        [paced, donors, leader, again].into_iter().flatten().chain([ask]).min()
    }

    pub(crate) fn transfer_tick(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        let Transfer { needed, follows, asked_at, .. } = self.transfer;
        if !needed && !follows {
            return;
        }
        let asks = now >= asked_at.after(self.patience());
        if follows && self.log.decided_upto >= self.catch_up.target {
            // All is there; the others need not keep their logs any more.
            self.transfer.follows = false;
            self.transfer.outrun = 0;
            return self.ask_for_checkpoints(cx);
        }
        if asks {
            self.ask_for_checkpoints(cx);
        }
        let patience = self.patience();
        match &mut self.transfer.fetch {
            Some(fetch) => {
                fetch.expire(now, patience);
                self.go_on_fetching(cx);
                if asks {
                    self.look_for_another(cx);
                }
            }
            None if needed => {
                self.choose_checkpoint(cx);
                let waits = self.transfer.waits.is_some_and(|(_, until)| now < until);
                let nothing = self.transfer.fetch.is_none() && !waits;
                if asks && nothing && self.state_is_good() && now >= self.transfer.not_before {
                    // Nothing that helps is stable (yet): perhaps somebody's log reaches back after all.
                    self.transfer.needed = false;
                    self.flush_due = true;
                }
            }
            None => {}
        }
    }

    pub(crate) fn on_chunk(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Chunk) {
        let Some(fetch) = &mut self.transfer.fetch else {
            return self.ignore(cx, "piece of a checkpoint that is not being fetched");
        };
        match fetch.take(from.index, m, cx.now.monotonic) {
            Taken::Useless(why) => self.ignore(cx, why),
            Taken::Misfit => {
                let checkpoint = fetch.checkpoint;
                fetch.part(from.index);
                let begun = fetch.total() > 0;
                self.checkpoints.forget_held(from.index, checkpoint);
                self.ignore(cx, "piece of a checkpoint that does not fit the others");
                if begun && self.has_no_donor() {
                    // Perhaps it is what is here that does not fit. No whole state was fetched for nothing, so the
                    // pause does not grow.
                    return self.begin_transfer_after_pause(cx, self.patience());
                }
                self.look_for_another(cx);
                self.go_on_fetching(cx);
            }
            Taken::Store(pieces) => {
                let (checkpoint, total) = (fetch.checkpoint, fetch.total());
                for (chunk, bytes) in pieces {
                    cx.out.push(Effect::StoreChunk { checkpoint, total, chunk, bytes });
                }
                self.go_on_fetching(cx);
            }
        }
    }

    pub(crate) fn on_chunk_refused(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: ChunkRefused) {
        let patience = self.patience();
        let Some(fetch) = self.transfer.fetch.as_mut().filter(|f| f.checkpoint == m.checkpoint)
        else {
            return self.ignore(cx, "refused piece of a checkpoint that is not being fetched");
        };
        let newest = self.checkpoints.stable().is_none_or(|s| s.slot <= m.checkpoint.slot);
        match m.reason {
            // Whoever starts again hears only after a while what a quorum holds, and not at all if the
            // others are gone: then from here.
            ChunkRefusal::Unstable if newest => {
                fetch.pause(from.index, cx.now.monotonic.after(patience));
                self.tell_what_is_stable(cx, from);
            }
            ChunkRefusal::Busy => fetch.pause(from.index, cx.now.monotonic.after(patience)),
            ChunkRefusal::Gone | ChunkRefusal::Unstable => {
                fetch.part(from.index);
                self.checkpoints.forget_held(from.index, m.checkpoint);
            }
        }
        self.look_for_another(cx);
        self.go_on_fetching(cx);
    }

    pub(crate) fn on_chunk_stored(
        &mut self,
        cx: &mut Cx<'_>,
        checkpoint: CheckpointId,
        chunk: u32,
        stored: bool,
    ) {
        let Some(fetch) = &mut self.transfer.fetch else {
            self.transfer.unanswered = self.transfer.unanswered.saturating_sub(1);
            return;
        };
        if fetch.answers_earlier() {
            return self.go_on_fetching(cx);
        }
        if fetch.checkpoint != checkpoint {
            return;
        }
        if !stored {
            fetch.not_stored();
            self.ignore(cx, "piece of a checkpoint that the disk did not keep");
            return self.fail_transfer(cx);
        }
        if fetch.stored(chunk) {
            self.go_on_fetching(cx);
        }
    }

    /// What was being fetched is gone or was overtaken: who holds what is asked anew.
    fn begin_transfer_anew(&mut self, cx: &mut Cx<'_>) {
        self.transfer.unanswered = self.transfer.unanswered();
        self.transfer.fetch = None;
        self.transfer.partial = None;
        self.ask_for_checkpoints(cx);
        self.choose_checkpoint(cx);
    }

    /// There was no room for what was being fetched, and now there is.
    pub(crate) fn fetch_at_once(&mut self, now: Instant) {
        if core::mem::take(&mut self.transfer.failures) > 0 {
            self.transfer.not_before = self.transfer.not_before.min(now);
        }
    }

    /// What was being fetched is of no use: it is begun anew, after a pause.
    fn fail_transfer(&mut self, cx: &mut Cx<'_>) {
        let pause = self.failure_pause();
        self.begin_transfer_after_pause(cx, pause);
    }

    /// How long nothing is tried after one more failure.
    fn failure_pause(&mut self) -> Duration {
        let doublings = self.transfer.failures.min(DOUBLINGS_MAX);
        self.transfer.failures = self.transfer.failures.saturating_add(1);
        self.patience() * (1 << doublings)
    }

    /// Another donor is asked first.
    fn begin_transfer_after_pause(&mut self, cx: &mut Cx<'_>, pause: Duration) {
        self.transfer.turns = self.transfer.turns.saturating_add(1);
        self.transfer.not_before = cx.now.monotonic.after(pause);
        self.begin_transfer_anew(cx);
    }

    /// Whether nobody who is there holds what is being fetched.
    fn has_no_donor(&self) -> bool {
        let mut donors = self.transfer.fetch.iter().flat_map(Fetch::donors);
        !donors.any(|who| self.is_donor(who))
    }

    /// If nobody has the log any more that follows what is being fetched, a newer checkpoint is fetched
    /// at once; if nobody who is there can give it, another one, or the log, whichever somebody has.
    pub(crate) fn look_for_another(&mut self, cx: &mut Cx<'_>) {
        let Some(fetch) = self.transfer.fetch.as_ref().filter(|fetch| !fetch.installing) else {
            return;
        };
        let slot = fetch.checkpoint.slot;
        let reached = slot.max(self.log.decided_upto);
        let is_donor = |who: u16| self.is_donor(who);
        // One that nobody can give is no better: the same one would be begun anew without end.
        let to_be_had = self.checkpoints.to_be_had(self.checkpoint_needed_from(), is_donor);
        let newer = to_be_had.is_some_and(|other| other.slot > slot);
        let outrun = self.checkpoints.log_begins_after(is_donor) > Some(reached);
        let another = self.has_no_donor() && {
            let same = fetch.checkpoint;
            let reached = self.log.decided_upto;
            to_be_had.is_some_and(|other| other != same)
                || self.state_is_good() && self.checkpoints.log_reaches(reached, is_donor)
        };
        if newer && outrun {
            self.transfer_outrun(cx, slot);
        }
        if newer && outrun || another {
            self.begin_transfer_anew(cx);
        }
    }

    /// What was fetched is whole, and no donor could give anything better: it is installed later, or a
    /// newer one is fetched instead, but never the same one again.
    fn put_install_off(&mut self, cx: &mut Cx<'_>) {
        self.ignore(cx, "fetched checkpoint that the service refuses");
        self.transfer.not_before = cx.now.monotonic.after(self.failure_pause());
        if let Some(fetch) = &mut self.transfer.fetch {
            fetch.installing = self.plants.has(Plant::RefusedStaysUnderWay);
        }
    }

    pub(crate) fn on_installed(
        &mut self,
        cx: &mut Cx<'_>,
        checkpoint: CheckpointId,
        outcome: Installed,
    ) {
        let fetched = self.transfer.fetch.as_ref().map(|fetch| fetch.checkpoint);
        assert!(fetched == Some(checkpoint), "the world installed what was not fetched");
        match outcome {
            Installed::Stands => {}
            Installed::Spoiled => {
                self.ignore(cx, "fetched checkpoint whose content is not what its digest says");
                return self.fail_transfer(cx);
            }
            Installed::Refused => return self.put_install_off(cx),
        }
        cx.observe(Observation::Transferred { slot: checkpoint.slot });
        self.transfer = self.transfer.ended();
        self.adopt_checkpoint(cx, checkpoint);
        self.ask_for_checkpoints(cx);
        self.flush_due = true;
        self.deliver(cx);
    }
}
