//! Long frames between replicas, in pieces between which short ones pass, as on a real connection.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use mainstay_consensus::{Input, Message};
use mainstay_model::frame::{self, Frame};
use mainstay_model::piece::{Assembly, LongFrame};
use mainstay_model::{GroupId, ReplicaId, Rope};

use crate::context::Cx;
use crate::drive::consensus::{PIECES, ReplicaProcess};
use crate::wire;
use crate::world::NodeId;

/// Between two pieces to one replica, in nanoseconds, at most.
const PIECE_NANOS_MAX: u64 = 2_000_000;

/// What leaves in pieces, and what has come of others' pieces.
#[derive(Debug, Default)]
pub(super) struct LongFrames {
    leaving: BTreeMap<NodeId, VecDeque<LongFrame>>,
    coming: BTreeMap<ReplicaId, Assembly>,
    made: u64,
    armed: bool,
}

impl LongFrames {
    /// The connection to a replica is another one, or none.
    pub(super) fn forget(&mut self, node: NodeId, peer: ReplicaId) {
        self.leaving.remove(&node);
        self.coming.remove(&peer);
    }
}

impl ReplicaProcess {
    /// Sends a message: at once if it is short, and else in pieces behind those before it.
    pub(super) fn send(&mut self, cx: &mut Cx<'_>, to: ReplicaId, message: &Message) {
        let (kind, epoch) = (message.kind(), self.me.epoch.counter);
        let mut body = Rope::default();
        message.encode(&mut body);
        let to = NodeId(to.index);
        if body.len() <= self.group.piece_len {
            let mut out = Vec::new();
            frame::encode(&mut out, kind, GroupId::FIRST, epoch, |out| message.encode(out));
            return cx.send(to, Bytes::from(out));
        }
        if self.long.made == 0 {
            // Numbers of another start of this replica are others.
            self.long.made = u64::from(cx.boot()) << 32;
        }
        let frame = LongFrame::new(self.long.made, kind, GroupId::FIRST, epoch, body);
        self.long.made += 1;
        self.long.leaving.entry(to).or_default().push_back(frame);
        self.pieces_soon(cx);
    }

    fn pieces_soon(&mut self, cx: &mut Cx<'_>) {
        if !self.long.armed && !self.long.leaving.is_empty() {
            self.long.armed = true;
            let nanos = cx.prng().between(1_000, PIECE_NANOS_MAX);
            cx.timer_in(nanos, PIECES);
        }
    }

    /// The next piece to each replica leaves.
    pub(super) fn on_pieces(&mut self, cx: &mut Cx<'_>) {
        self.long.armed = false;
        let mut sent = Vec::new();
        for (to, frames) in &mut self.long.leaving {
            let Some(frame) = frames.front_mut() else { continue };
            let mut bytes = Vec::new();
            let kind = frame.kind();
            let piece = frame.cut(self.group.piece_len, &mut bytes);
            piece.iter().for_each(|part| bytes.extend_from_slice(part));
            if frame.is_empty() {
                frames.pop_front();
            }
            sent.push((*to, kind, Bytes::from(bytes)));
        }
        self.long.leaving.retain(|_, frames| !frames.is_empty());
        for (to, kind, bytes) in sent {
            cx.send_in_order(to, bytes);
            if let Some(peer) = self.peer(to) {
                self.step(cx, Input::Passing { peer, coming: false, kind });
            }
        }
        self.pieces_soon(cx);
    }

    /// A piece came. One that does not follow was sent over another connection, or the one before it
    /// was lost: then the whole frame is.
    pub(super) fn on_piece_frame(&mut self, cx: &mut Cx<'_>, peer: ReplicaId, frame: &Frame) {
        let coming = self.long.coming.entry(peer).or_default();
        let whole = coming.add(frame, wire::BODY_LEN_MAX);
        let begun = coming.kind();
        match whole {
            Ok(Some(whole)) => self.on_peer(cx, peer, whole),
            Ok(None) => {
                self.detect(cx, mainstay_detect::Input::Heard { peer });
                if let Some(kind) = begun {
                    self.step(cx, Input::Passing { peer, coming: true, kind });
                }
            }
            Err(error) => cx.line(format_args!("<- {} {error}", peer.index)),
        }
    }
}
