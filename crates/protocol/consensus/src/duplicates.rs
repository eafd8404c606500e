//! Which requests a leader has queued or ordered, so that one that is sent again, because its sender
//! waits too long, is not ordered again: else a group that is slow gets the more to do the slower it
//! is, and never recovers.
//!
//! Nothing relies on it: a request that is ordered twice is carried out once, by its session.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use mainstay_model::{RequestId, RequestNumber, Slot};

/// What a leader remembers of the requests that it has taken.
///
/// Invariant: at most as many names are kept as [`Known::bound`] was told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Known {
    /// Where a request was ordered; [`Slot::NONE`] while it is queued.
    places: BTreeMap<RequestId, Slot>,
    ordered: BTreeMap<Slot, Vec<RequestId>>,
}

impl Known {
    /// Whether a request is to be taken that comes from a replica which has applied every slot up to
    /// `applied_upto`: not if it is queued, nor if it was ordered where that replica will still see
    /// it applied.
    pub(crate) fn takes(&mut self, id: RequestId, applied_upto: Slot) -> bool {
        let place = self.places.get(&id);
        if place.is_some_and(|slot| *slot == Slot::NONE || *slot > applied_upto) {
            return false;
        }
        // What was taken of the same client behind it comes too early, and will be sent again.
        let last = RequestId { number: RequestNumber(u64::MAX), ..id };
        let behind: Vec<RequestId> = self.places.range(id..=last).map(|(id, _)| *id).collect();
        for id in behind {
            self.places.remove(&id);
        }
        self.places.insert(id, Slot::NONE);
        true
    }

    /// These requests were ordered in `slot`.
    pub(crate) fn order(&mut self, slot: Slot, ids: Vec<RequestId>) {
        for id in &ids {
            self.places.insert(*id, slot);
        }
        if !ids.is_empty() {
            self.ordered.insert(slot, ids);
        }
    }

    /// Whoever sends again what was ordered up to `slot` would not see it applied any more.
    pub(crate) fn forget_upto(&mut self, slot: Slot) {
        while let Some(first) = self.ordered.first_entry() {
            if *first.key() > slot {
                return;
            }
            self.forget_first();
        }
    }

    /// Forgets what was ordered first, until at most `names_max` are kept.
    pub(crate) fn bound(&mut self, names_max: usize) {
        while self.places.len() > names_max && !self.ordered.is_empty() {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((slot, ids)) = self.ordered.pop_first() else { return };
        for id in ids {
            if self.places.get(&id) == Some(&slot) {
                self.places.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(client: u128, number: u64) -> RequestId {
        RequestId { client, number: RequestNumber(number) }
    }

    #[test]
    fn what_is_queued_or_will_still_be_seen_is_not_taken_again() {
        let mut known = Known::default();
        assert!(known.takes(id(1, 1), Slot(0)));
        assert!(!known.takes(id(1, 1), Slot(0)), "queued");
        assert!(known.takes(id(2, 1), Slot(0)), "another client's");
        known.order(Slot(5), alloc::vec![id(1, 1)]);
        assert!(!known.takes(id(1, 1), Slot(4)), "will be applied there");
        assert!(known.takes(id(1, 1), Slot(5)), "was applied there, and yet it is asked for");
    }

    #[test]
    fn what_came_before_its_turn_is_taken_again() {
        let mut known = Known::default();
        for number in [2, 3] {
            assert!(known.takes(id(1, number), Slot(0)));
        }
        known.order(Slot(1), alloc::vec![id(1, 2), id(1, 3)]);
        // The first one was lost on its way: its session rejects the others when they are applied.
        for number in [1, 2, 3] {
            assert!(known.takes(id(1, number), Slot(0)), "number {number}");
        }
        known.forget_upto(Slot(1));
        assert!(!known.takes(id(1, 3), Slot(0)), "the later one is still queued");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut known = Known::default();
        for slot in 1..100 {
            assert!(known.takes(id(1, slot), Slot(0)));
            known.order(Slot(slot), alloc::vec![id(1, slot)]);
            known.bound(10);
            assert!(known.places.len() <= 10 && known.ordered.len() <= 10);
        }
        known.forget_upto(Slot(100));
        assert_eq!(known, Known::default());
    }
}
