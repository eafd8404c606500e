//! Disks without room. A replica whose disk is full goes on voting out of a reserve and accepts no
//! requests; it executes what the others decide, and writes it once there is room.

use mainstay_model::{Mark, Plant, Plants, RecordKind, Slot, Value};

use crate::replica::{Cx, Office, Replica};

/// How many checkpoints a leader asks for while the logs have no room: if they free nothing, it is not the logs
/// that fill the disks, and each takes a little of the reserve.
const ASKED_MAX: u32 = 8;

/// What a leader has had decided to free the logs, since they had room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Freeing {
    /// The slot of the last value that asked for a checkpoint.
    asked: Slot,
    times: u32,
}

impl<P: Plants> Replica<P> {
    /// Nothing counts towards a checkpoint while a quorum has no room for requests, and a log may be full of what
    /// never counted: of values that one leader after the other proposed anew, say. As long as no checkpoint is
    /// on its way that would free it, an empty value, which finds room in the reserve, asks for one.
    pub(crate) fn free_the_logs(&mut self, cx: &mut Cx<'_>) {
        let has_room = self.quorum_has_room();
        let (decided_upto, time) = (self.log.decided_upto, self.decided_now(cx.now));
        let stable = self.checkpoints.stable();
        let on_its_way = self.checkpoints.own() > stable;
        let stable_upto = stable.map_or(Slot::NONE, |stable| stable.slot);
        let Office::Leader(leader) = &mut self.office else { return };
        if has_room {
            leader.freeing = Freeing::default();
            return;
        }
        let Freeing { asked, times } = leader.freeing;
        let asks = leader.may_propose()
            && leader.took_over(decided_upto)
            && leader.highest_proposed() == decided_upto
            && !on_its_way
            && asked <= stable_upto
            && stable_upto < decided_upto
            && times < ASKED_MAX;
        if !asks || self.plants.has(Plant::FullLogStays) {
            return;
        }
        let slot = leader.next_slot;
        leader.freeing = Freeing { asked: slot, times: times + 1 };
        // Without requests nobody else looks how far all are.
        self.keeps_pace(cx.now.monotonic);
        self.propose(cx, slot, Value::checkpoint(time));
    }

    pub(crate) fn on_room(&mut self, cx: &mut Cx<'_>, entries: bool) {
        self.acceptor.room = entries;
        if entries {
            // Pieces that were not kept meanwhile say nothing about those to come.
            self.fetch_at_once(cx.now.monotonic);
            self.end_transfer_for_room(cx);
        } else {
            self.make_room_for_another(cx);
        }
        self.ask_anew();
        self.flush_due = true;
    }

    /// A leader without room hands over to one that has some.
    fn make_room_for_another(&mut self, cx: &mut Cx<'_>) {
        let Office::Leader(leader) = &self.office else { return };
        if leader.peers.values().any(|peer| peer.room) {
            self.resign(cx);
        }
    }

    /// The disk had no room for what it was to write. To the others this is as if the replica had been
    /// started again: it has accepted nothing of that, and voted for none of it, and a leader does not
    /// lead on, since what it decided may not stand in its own log. What it promised is written anew,
    /// out of the reserve.
    pub(crate) fn on_unwritten(&mut self, cx: &mut Cx<'_>, from: Mark) {
        let leads_on = self.plants.has(Plant::LeadsOnUnwritten)
            && matches!(&self.office, Office::Leader(leader)
                if leader.peers.values().all(|peer| !peer.room));
        if !leads_on {
            self.resign(cx);
        }
        self.raise_target(self.log.decided_upto);
        for slot in self.log.unwritten(from) {
            self.acceptor.uncertain_again(slot);
        }
        self.latencies.unwritten(from);
        let voted_for = self.plants.has(Plant::UnwrittenVotedFor);
        let said = self.outbox.unwritten(from, voted_for);
        if self.votes {
            self.record(cx, RecordKind::Promise);
            cx.held.extend(said);
        }
        self.flush_due = true;
    }
}
