//! Giving a checkpoint away, piece by piece, to whoever fetches it.

use alloc::collections::{BTreeMap, BTreeSet};

use mainstay_model::{Plant, Plants, ReplicaId};

use crate::door::Effect;
use crate::message::{Body, Chunk, ChunkAsk, ChunkRefusal, ChunkRefused};
use crate::replica::{Cx, Replica};

/// How many pieces are read at once, for one replica and for all.
const READ_FOR_ONE_MAX: usize = 8;
const READ_FOR_ALL_MAX: usize = 16;

/// Pieces that are being read, and for whom: what bounds a donor's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Giving {
    reads: BTreeMap<u16, BTreeSet<u32>>,
}

impl Giving {
    /// How many pieces are being read.
    pub(crate) fn load(&self) -> u32 {
        self.reads.values().map(|chunks| chunks.len() as u32).sum()
    }
}

impl<P: Plants> Replica<P> {
    pub(crate) fn on_chunk_ask(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: ChunkAsk) {
        let stable = self.checkpoints.is_agreed(m.checkpoint);
        if !stable && !self.plants.has(Plant::UnstableCheckpointTransferred) {
            return self.refuse_chunk(cx, from, m, ChunkRefusal::Unstable);
        }
        let load = self.giving.load() as usize;
        let reads = self.giving.reads.entry(from.index).or_default();
        if reads.contains(&m.chunk) {
            return self.ignore(cx, "piece of a checkpoint that is being read already");
        }
        if reads.len() >= READ_FOR_ONE_MAX || load >= READ_FOR_ALL_MAX {
            return self.refuse_chunk(cx, from, m, ChunkRefusal::Busy);
        }
        reads.insert(m.chunk);
        cx.out.push(Effect::ReadChunk { to: from, checkpoint: m.checkpoint, chunk: m.chunk });
    }

    fn refuse_chunk(&self, cx: &mut Cx<'_>, to: ReplicaId, m: ChunkAsk, reason: ChunkRefusal) {
        let refused = ChunkRefused { checkpoint: m.checkpoint, chunk: m.chunk, reason };
        self.send(cx, to, Body::ChunkRefused(refused));
    }

    pub(crate) fn on_chunk_read(&mut self, cx: &mut Cx<'_>, to: ReplicaId, m: Chunk) {
        if let Some(reads) = self.giving.reads.get_mut(&to.index) {
            reads.remove(&m.chunk);
        }
        self.giving.reads.retain(|_, chunks| !chunks.is_empty());
        if m.bytes.is_empty() {
            if m.total == 0 {
                self.checkpoints.own_is_gone(m.checkpoint);
            }
            let ends_before = u64::from(m.chunk) * self.chunk_bytes() >= m.total;
            if m.total == 0 || !ends_before {
                let ask = ChunkAsk { checkpoint: m.checkpoint, chunk: m.chunk };
                return self.refuse_chunk(cx, to, ask, ChunkRefusal::Gone);
            }
            // It has no such piece: whoever asks was given one of another length. The total says so.
        }
        self.send(cx, to, Body::Chunk(m));
    }
}
