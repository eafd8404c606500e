//! Disks without room. A replica whose disk is full goes on voting out of a reserve and accepts no
//! requests; it executes what the others decide, and writes it once there is room.

use mainstay_model::{Mark, Plant, Plants, RecordKind};

use crate::replica::{Cx, Office, Replica};

impl<P: Plants> Replica<P> {
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
