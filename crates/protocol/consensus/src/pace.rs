//! How far ordering may run ahead of carrying out.
//!
//! A leader proposes requests only as long as what it proposed is not too far, in slots and bytes,
//! ahead of what a quorum and it itself have applied. When services are slow requests wait in its
//! queue, where larger batches form and from where clients are told that it is busy, instead of in the
//! log, where nothing can be done about them any more.
//!
//! A replica whose executor stands still (it has stopped, or its state has diverged) holds nobody up:
//! it does not count until it moves again. Nor does one whose progress is not known yet, nor a leader
//! that still carries out what was decided before its time.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use mainstay_model::{Configuration, Instant, Plants, Slot};

use crate::replica::{Office, Replica};

/// How far a replica is known to have carried out what is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Progress {
    applied_upto: Slot,
    /// When it last moved on, or had nothing to do; `None` while nothing is known.
    moved_at: Option<Instant>,
}

impl Progress {
    /// It has applied every slot up to `applied_upto`, of those up to `decided_upto` that it knows as
    /// decided.
    pub(crate) fn note(&mut self, applied_upto: Slot, decided_upto: Slot, now: Instant) {
        if applied_upto > self.applied_upto || applied_upto >= decided_upto {
            self.moved_at = Some(now);
        } else {
            self.moved_at.get_or_insert(now);
        }
        self.applied_upto = self.applied_upto.max(applied_upto);
    }

    /// How far it is, if it moves.
    pub(crate) fn applied_if_moving(&self, now: Instant, patience: Duration) -> Option<Slot> {
        self.moves(now, patience).then_some(self.applied_upto)
    }

    /// How far it is.
    pub(crate) fn applied_upto(&self) -> Slot {
        self.applied_upto
    }

    pub(crate) fn moves(&self, now: Instant, patience: Duration) -> bool {
        self.moved_at.is_some_and(|at| now < at.after(patience))
    }
}

/// What a leader proposed above what is applied.
///
/// Invariant: `bytes` is the sum over `ahead`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Pace {
    ahead: VecDeque<(Slot, usize)>,
    bytes: usize,
    /// Requests wait for nothing but those who carry out.
    pub(crate) holds_back: bool,
}

impl Pace {
    pub(crate) fn proposed(&mut self, slot: Slot, bytes: usize) {
        self.ahead.push_back((slot, bytes));
        self.bytes += bytes;
    }

    fn applied(&mut self, upto: Slot) {
        while let Some((slot, bytes)) = self.ahead.front().copied() {
            if slot > upto {
                return;
            }
            self.bytes -= bytes;
            self.ahead.pop_front();
        }
    }
}

/// The highest slot that the fastest quorum among those in `applied` has applied; the lowest of them
/// all if they are no quorum, `None` if there are none.
fn applied_by_quorum(mut applied: Vec<(Slot, u16)>, configuration: &Configuration) -> Option<Slot> {
    applied.sort_unstable_by(|a, b| b.cmp(a));
    let lowest = applied.last().map(|(slot, _)| *slot);
    configuration.quorum_at(applied).or(lowest)
}

impl<P: Plants> Replica<P> {
    /// Whether requests may be proposed as far as those go who carry them out.
    pub(crate) fn keeps_pace(&mut self, now: Instant) -> bool {
        let (own_applied, own_decided) = (self.log.applied_upto, self.log.decided_upto);
        let executes = self.executed_upto() == own_applied;
        let patience = self.settings.stall_timeout;
        let configuration = &self.configuration;
        let Office::Leader(leader) = &mut self.office else { return false };
        leader.progress.note(own_applied, own_decided, now);
        let own_counts =
            executes && leader.took_over(own_applied) && leader.progress.moves(now, patience);
        let peers = leader.peers.iter().filter_map(|(index, peer)| {
            peer.progress.applied_if_moving(now, patience).map(|upto| (upto, *index))
        });
        let mut applied: Vec<(Slot, u16)> = peers.collect();
        if own_counts {
            applied.push((own_applied, self.me.index));
        }
        let upto = match applied_by_quorum(applied, configuration) {
            Some(upto) if own_counts => upto.min(own_applied),
            Some(upto) => upto,
            // Nobody moves: either nothing is carried out anywhere, or nothing is known yet.
            None => own_applied,
        };
        leader.pace.applied(upto);
        let ahead = leader.highest_proposed().0.saturating_sub(upto.0);
        ahead < self.settings.ahead_slots_max && leader.pace.bytes < self.settings.ahead_bytes_max
    }

    /// Something was applied somewhere: what was held back may go on.
    pub(crate) fn look_at_pace(&mut self) {
        if let Office::Leader(leader) = &self.office {
            self.flush_due |= leader.pace.holds_back;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use mainstay_model::{ConfigurationId, Epoch, ReplicaId};

    #[test]
    fn the_fastest_quorum_sets_the_pace() {
        let id = |index| ReplicaId { index, epoch: Epoch { counter: 1, instance: 0 } };
        let replicas = (0..3).map(id).collect();
        let three = Configuration { id: ConfigurationId(1), replicas, alpha: 64 };
        let by_quorum = |applied| applied_by_quorum(applied, &three);
        assert_eq!(by_quorum(vec![(Slot(9), 0), (Slot(1), 1), (Slot(7), 2)]), Some(Slot(7)));
        assert_eq!(by_quorum(vec![(Slot(9), 0)]), Some(Slot(9)));
        assert_eq!(by_quorum(vec![]), None);
    }

    #[test]
    fn who_stands_still_does_not_count_until_it_moves() {
        let patience = Duration::from_nanos(10);
        let mut progress = Progress::default();
        assert!(!progress.moves(Instant(0), patience), "nothing is known of it");
        progress.note(Slot(3), Slot(9), Instant(5));
        progress.note(Slot(3), Slot(9), Instant(14));
        assert!(progress.moves(Instant(14), patience));
        assert!(!progress.moves(Instant(15), patience));
        progress.note(Slot(4), Slot(9), Instant(20));
        assert!(progress.moves(Instant(29), patience));
        progress.note(Slot(9), Slot(9), Instant(50));
        progress.note(Slot(9), Slot(9), Instant(70));
        assert!(progress.moves(Instant(79), patience), "it has nothing to do");
    }
}
