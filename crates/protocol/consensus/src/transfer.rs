//! State transfer: fetching a checkpoint when no log reaches back far enough, or when this replica's
//! own state has diverged (Chai 2009 calls it by that name; DESIGN rule 8).
//!
//! Only a checkpoint that a quorum holds with one digest is fetched, in pieces, several at once, from
//! those that hold it (the leader only if nobody else does); the whole is checked against that digest
//! before it is used. Memory is bounded by the pieces under way, whatever the size of the state.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;
use mainstay_model::{CheckpointId, Instant, Plants, ReplicaId, Slot};

use crate::door::{Effect, Observation};
use crate::message::{Body, Chunk, ChunkAsk};
use crate::replica::{Cx, PartialCheckpoint, Replica};

/// How many pieces are asked for at once.
const CHUNKS_ASKED_MAX: u32 = 8;

/// A checkpoint that is being fetched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Fetch {
    checkpoint: CheckpointId,
    total: Option<u64>,
    /// Pieces below this one are stored.
    stored: u32,
    /// Pieces that came before their turn.
    early: BTreeMap<u32, Bytes>,
    asked: BTreeMap<u32, (ReplicaId, Instant)>,
    installing: bool,
}

impl Fetch {
    fn chunks(&self, chunk_bytes: u64) -> Option<u32> {
        self.total.map(|total| u32::try_from(total.div_ceil(chunk_bytes)).unwrap_or(u32::MAX))
    }
}

/// Whether this replica needs a checkpoint, and how far it has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Transfer {
    /// Since when it is asked who holds one; `None` while none is needed.
    asked_at: Option<Instant>,
    fetch: Option<Fetch>,
    /// Whose turn it is to be asked for a piece.
    turn: usize,
    /// What an interrupted fetch left on disk.
    partial: Option<PartialCheckpoint>,
}

impl Transfer {
    pub(crate) fn new(partial: Option<PartialCheckpoint>) -> Self {
        Self { partial, ..Self::default() }
    }

    /// Slot, bytes stored, bytes in all (0 while unknown).
    pub(crate) fn progress(&self, chunk_bytes: u64) -> Option<(Slot, u64, u64)> {
        let fetch = self.fetch.as_ref()?;
        let total = fetch.total.unwrap_or(0);
        Some((fetch.checkpoint.slot, (u64::from(fetch.stored) * chunk_bytes).min(total), total))
    }
}

impl<P: Plants> Replica<P> {
    /// Whether a checkpoint is needed, so that the log of others is of no use.
    pub(crate) fn transfers(&self) -> bool {
        self.transfer.asked_at.is_some()
    }

    pub(crate) fn begin_transfer(&mut self, cx: &mut Cx<'_>) {
        if !self.transfers() {
            self.ask_for_checkpoints(cx);
            self.choose_checkpoint(cx);
        }
    }

    fn ask_for_checkpoints(&mut self, cx: &mut Cx<'_>) {
        self.transfer.asked_at = Some(cx.now.monotonic);
        for peer in self.peers() {
            self.send(cx, peer, Body::CheckpointAsk);
        }
    }

    /// Begins to fetch the highest stable checkpoint, if one is needed and known.
    pub(crate) fn choose_checkpoint(&mut self, cx: &mut Cx<'_>) {
        if !self.transfers() || self.transfer.fetch.is_some() {
            return;
        }
        let needed_from = match self.checkpoints.diverged_at() {
            Some(at) => at,
            None => self.log.applied_upto.next().max(self.log.truncated_upto),
        };
        let Some(checkpoint) = self.checkpoints.stable().filter(|s| s.slot >= needed_from) else {
            return;
        };
        cx.observe(Observation::Transfer { slot: checkpoint.slot });
        let partial =
            self.transfer.partial.take().filter(|partial| partial.checkpoint == checkpoint);
        self.transfer.fetch = Some(Fetch {
            checkpoint,
            total: partial.map(|partial| partial.total),
            stored: partial.map_or(0, |partial| partial.chunks),
            early: BTreeMap::new(),
            asked: BTreeMap::new(),
            installing: false,
        });
        if self.all_stored() {
            return self.install(cx);
        }
        self.ask_for_chunks(cx);
    }

    fn all_stored(&self) -> bool {
        let fetch = self.transfer.fetch.as_ref();
        fetch.is_some_and(|fetch| fetch.chunks(self.chunk_bytes()) == Some(fetch.stored))
    }

    fn install(&mut self, cx: &mut Cx<'_>) {
        let Some(fetch) = &mut self.transfer.fetch else { return };
        fetch.installing = true;
        cx.out.push(Effect::Install { checkpoint: fetch.checkpoint });
    }

    /// Those that hold the checkpoint; the leader only if nobody else does.
    fn chunk_donors(&self, checkpoint: CheckpointId) -> Vec<ReplicaId> {
        let holders = self.checkpoints.holders(checkpoint);
        let leader = self.election.leader.map(|ballot| ballot.leader);
        let usable =
            |peer: &ReplicaId| holders.contains(peer.index) && !self.election.is_suspected(*peer);
        let mut donors: Vec<ReplicaId> = self.peers().filter(usable).collect();
        if donors.len() > 1 {
            donors.retain(|peer| Some(*peer) != leader);
        }
        donors
    }

    pub(crate) fn chunk_bytes(&self) -> u64 {
        u64::from(self.settings.chunk_bytes.max(1))
    }

    fn ask_for_chunks(&mut self, cx: &mut Cx<'_>) {
        let Some(fetch) = &self.transfer.fetch else { return };
        if fetch.installing {
            return;
        }
        let checkpoint = fetch.checkpoint;
        let chunk_bytes = self.chunk_bytes();
        let donors = self.chunk_donors(checkpoint);
        let Some(fetch) = &mut self.transfer.fetch else { return };
        if donors.is_empty() {
            return;
        }
        // Until the length is known, only the first piece can be asked for.
        let end = fetch.chunks(chunk_bytes).unwrap_or(1).min(fetch.stored + CHUNKS_ASKED_MAX);
        let mut asks = Vec::new();
        for chunk in fetch.stored..end {
            if fetch.early.contains_key(&chunk) || fetch.asked.contains_key(&chunk) {
                continue;
            }
            let to = donors[self.transfer.turn % donors.len()];
            self.transfer.turn += 1;
            fetch.asked.insert(chunk, (to, cx.now.monotonic));
            asks.push((to, ChunkAsk { checkpoint, chunk }));
        }
        for (to, ask) in asks {
            self.send(cx, to, Body::ChunkAsk(ask));
        }
    }

    pub(crate) fn transfer_deadline(&self) -> Option<Instant> {
        let interval = self.settings.resend_interval * 5;
        match &self.transfer.fetch {
            Some(fetch) if fetch.installing => None,
            Some(fetch) => {
                let oldest = fetch.asked.values().map(|(_, at)| *at).min();
                oldest.or(self.transfer.asked_at).map(|at| at.after(interval))
            }
            None => self.transfer.asked_at.map(|at| at.after(interval)),
        }
    }

    pub(crate) fn transfer_tick(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        if self.transfer_deadline().is_none_or(|at| now < at) {
            return;
        }
        let interval = self.settings.resend_interval * 5;
        match &mut self.transfer.fetch {
            None if self.checkpoints.diverged() => self.ask_for_checkpoints(cx),
            None => {
                // Nothing that helps is stable (yet): perhaps somebody's log reaches back after all.
                self.transfer.asked_at = None;
                self.flush_due = true;
            }
            Some(fetch) => {
                fetch.asked.retain(|_, (_, at)| now < at.after(interval));
                self.transfer.asked_at = Some(now);
                self.ask_for_chunks(cx);
            }
        }
    }

    pub(crate) fn on_chunk_ask(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: ChunkAsk) {
        cx.out.push(Effect::ReadChunk { to: from, checkpoint: m.checkpoint, chunk: m.chunk });
    }

    pub(crate) fn on_chunk_read(&mut self, cx: &mut Cx<'_>, to: ReplicaId, chunk: Chunk) {
        self.send(cx, to, Body::Chunk(chunk));
    }

    pub(crate) fn on_chunk(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Chunk) {
        let chunk_bytes = self.chunk_bytes();
        let Some(fetch) = &mut self.transfer.fetch else {
            return self.ignore(cx, "piece of a checkpoint that is not being fetched");
        };
        let asked = fetch.asked.get(&m.chunk).is_some_and(|(to, _)| *to == from);
        if fetch.checkpoint != m.checkpoint || fetch.installing || !asked {
            return self.ignore(cx, "piece of a checkpoint that was not asked for");
        }
        fetch.asked.remove(&m.chunk);
        if m.total == 0 {
            return self.begin_transfer_anew(cx);
        }
        let offset = u64::from(m.chunk) * chunk_bytes;
        let len = chunk_bytes.min(m.total.saturating_sub(offset));
        if fetch.total.is_some_and(|total| total != m.total) || m.bytes.len() as u64 != len {
            self.ignore(cx, "piece of a checkpoint that does not fit the others");
            return self.begin_transfer_anew(cx);
        }
        fetch.total = Some(m.total);
        fetch.early.insert(m.chunk, m.bytes);
        while let Some(bytes) = fetch.early.remove(&fetch.stored) {
            let (checkpoint, chunk) = (fetch.checkpoint, fetch.stored);
            cx.out.push(Effect::StoreChunk { checkpoint, total: m.total, chunk, bytes });
            fetch.stored += 1;
        }
        if self.all_stored() {
            self.install(cx);
        } else {
            self.ask_for_chunks(cx);
        }
    }

    pub(crate) fn on_chunk_stored(
        &mut self,
        cx: &mut Cx<'_>,
        checkpoint: CheckpointId,
        _chunk: u32,
        stored: bool,
    ) {
        let fetched = self.transfer.fetch.as_ref().map(|fetch| fetch.checkpoint);
        if fetched == Some(checkpoint) && !stored {
            self.ignore(cx, "piece of a checkpoint that the disk has no room for");
            self.begin_transfer_anew(cx);
        }
    }

    /// What was being fetched is gone or does not fit: who holds what is asked anew.
    fn begin_transfer_anew(&mut self, cx: &mut Cx<'_>) {
        self.transfer = Transfer { turn: self.transfer.turn + 1, ..Transfer::default() };
        self.checkpoints.forget_holders();
        self.ask_for_checkpoints(cx);
    }

    pub(crate) fn on_installed(
        &mut self,
        cx: &mut Cx<'_>,
        checkpoint: CheckpointId,
        installed: bool,
    ) {
        let fetched = self.transfer.fetch.as_ref().map(|fetch| fetch.checkpoint);
        assert!(fetched == Some(checkpoint), "the world installed what was not fetched");
        if !installed {
            self.ignore(cx, "fetched checkpoint whose content is not what its digest says");
            return self.begin_transfer_anew(cx);
        }
        self.transfer = Transfer::default();
        self.adopt_checkpoint(cx, checkpoint);
        self.flush_due = true;
        self.deliver(cx);
    }
}
