//! Every replica applies a prefix of the one log, slot after slot from where its state begins, and
//! no restart changes what stands in it (Schneider, "Implementing fault-tolerant services using the
//! state machine approach", 1990, section 3: replicas receive the same requests and process them
//! in the same order).

use std::collections::BTreeMap;

use mainstay_model::{ReplicaId, Slot};

use crate::observation::Observation;
use crate::properties::Property;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Prefix {
    /// What stands in the log, as the first replica to apply each slot saw it.
    log: BTreeMap<Slot, u32>,
    /// Up to where each replica has applied it.
    applied_upto: BTreeMap<ReplicaId, Slot>,
}

impl Property for Prefix {
    fn name(&self) -> &'static str {
        "prefix"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match *observation {
            Observation::Started { replica, applied_upto } => {
                self.applied_upto.insert(replica, applied_upto);
                if applied_upto != Slot::NONE && !self.log.contains_key(&applied_upto) {
                    return Err(format!(
                        "replica {replica} starts with a state as of slot {applied_upto}, which \
                         nobody has applied"
                    ));
                }
                Ok(())
            }
            Observation::Applied { replica, slot, checksum } => self.apply(replica, slot, checksum),
            _ => Ok(()),
        }
    }
}

impl Prefix {
    fn apply(&mut self, replica: ReplicaId, slot: Slot, checksum: u32) -> Result<(), String> {
        let applied_upto = self.applied_upto.entry(replica).or_insert(Slot::NONE);
        if slot != applied_upto.next() {
            return Err(format!(
                "replica {replica} applied slot {slot} right after slot {applied_upto}"
            ));
        }
        *applied_upto = slot;
        let standing = *self.log.entry(slot).or_insert(checksum);
        if standing == checksum {
            return Ok(());
        }
        Err(format!(
            "replica {replica} applied value {checksum:08x} in slot {slot}, where {standing:08x} \
             had been applied"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::tests::replica;

    fn apply(property: &mut Prefix, index: u16, slot: u64, checksum: u32) -> bool {
        let replica = replica(index);
        property.observe(&Observation::Applied { replica, slot: Slot(slot), checksum }).is_ok()
    }

    fn start(property: &mut Prefix, index: u16, applied_upto: u64) -> bool {
        let (replica, applied_upto) = (replica(index), Slot(applied_upto));
        property.observe(&Observation::Started { replica, applied_upto }).is_ok()
    }

    /// Replica 0 has applied three slots.
    fn three() -> Prefix {
        let mut property = Prefix::default();
        for slot in 1..=3 {
            assert!(apply(&mut property, 0, slot, slot as u32));
        }
        property
    }

    #[test]
    fn every_start_applies_the_same_log_again() {
        let mut property = three();
        assert!(start(&mut property, 0, 0));
        assert!(apply(&mut property, 0, 1, 1));
        assert!(start(&mut property, 1, 2));
        assert!(apply(&mut property, 1, 3, 3));
        assert!(apply(&mut property, 1, 4, 4));
        assert!(apply(&mut property, 0, 2, 2));
    }

    #[test]
    fn holes_repetitions_and_changed_values_are_found() {
        assert!(!apply(&mut three(), 0, 5, 5), "a hole");
        assert!(!apply(&mut three(), 0, 3, 3), "a slot twice");
        assert!(!apply(&mut three(), 1, 2, 2), "not from the start");
        assert!(!apply(&mut three(), 1, 1, 9), "another value");
        assert!(!apply(&mut Prefix::default(), 0, 0, 0), "there is no slot 0");
        assert!(!start(&mut three(), 1, 4), "a state from nowhere");
    }

    #[test]
    fn a_log_that_changed_over_a_restart_is_found() {
        let mut property = three();
        start(&mut property, 0, 0);
        assert!(apply(&mut property, 0, 1, 1));
        assert!(!apply(&mut property, 0, 2, 9));
    }
}
