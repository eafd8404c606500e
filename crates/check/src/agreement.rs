//! No two replicas decide different values in a slot (Lamport, "Paxos made simple", 2001, section
//! 2.1: at most one value is chosen, and nobody learns of one that was not).

use std::collections::BTreeMap;

use mainstay_model::{ReplicaId, Slot};

use crate::observation::Observation;
use crate::properties::Property;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    /// The first decision seen in each slot, and whose it was.
    decided: BTreeMap<Slot, (u32, ReplicaId)>,
}

impl Property for Agreement {
    fn name(&self) -> &'static str {
        "agreement"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        let &Observation::Decided { replica, slot, checksum } = observation else { return Ok(()) };
        let (first, whose) = *self.decided.entry(slot).or_insert((checksum, replica));
        if first == checksum {
            return Ok(());
        }
        Err(format!(
            "in slot {slot} replica {replica} decided value {checksum:08x}, replica {whose} had \
             decided {first:08x}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::tests::replica;

    fn decide(property: &mut Agreement, index: u16, slot: u64, checksum: u32) -> bool {
        let replica = replica(index);
        property.observe(&Observation::Decided { replica, slot: Slot(slot), checksum }).is_ok()
    }

    #[test]
    fn one_value_a_slot() {
        let mut property = Agreement::default();
        assert!(decide(&mut property, 0, 1, 7));
        assert!(decide(&mut property, 1, 1, 7));
        assert!(decide(&mut property, 1, 2, 8), "another slot may hold another value");
        assert!(decide(&mut property, 1, 1, 7), "learned again after a restart");
        assert!(!decide(&mut property, 2, 1, 8), "what was decided elsewhere stands");
    }

    #[test]
    fn a_replica_must_agree_with_itself_too() {
        let mut property = Agreement::default();
        assert!(decide(&mut property, 0, 5, 7));
        assert!(!decide(&mut property, 0, 5, 6));
    }
}
