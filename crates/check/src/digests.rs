//! Equal logs lead to equal states: the digests of all replicas as of the same slot are equal
//! (Schneider, "Implementing fault-tolerant services using the state machine approach", 1990: the
//! outputs of a state machine are determined by the sequence of requests it processes).

use std::collections::BTreeMap;

use mainstay_model::{ReplicaId, Slot};

use crate::observation::Observation;
use crate::properties::Property;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    first: BTreeMap<Slot, (u64, ReplicaId)>,
}

impl Property for Digests {
    fn name(&self) -> &'static str {
        "digests"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        let &Observation::Digest { replica, slot, digest } = observation else { return Ok(()) };
        let (first, whose) = *self.first.entry(slot).or_insert((digest, replica));
        if first == digest {
            return Ok(());
        }
        Err(format!(
            "after slot {slot} the state of replica {replica} has digest {digest:016x}, that of \
             replica {whose} {first:016x}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::tests::replica;

    #[test]
    fn digests_are_compared_slot_by_slot() {
        let mut property = Digests::default();
        let mut digest = |index, slot, digest| {
            let replica = replica(index);
            property.observe(&Observation::Digest { replica, slot: Slot(slot), digest }).is_ok()
        };
        assert!(digest(0, 3, 7));
        assert!(digest(0, 4, 8));
        assert!(digest(1, 4, 8));
        assert!(!digest(1, 3, 8));
    }
}
