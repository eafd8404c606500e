//! Equal logs lead to equal states: the digests of all replicas as of the same slot are equal, whether
//! a slot was applied, a state as of it was read back or taken over, or a checkpoint of it was made
//! (Schneider, "Implementing fault-tolerant services using the state machine approach", 1990: the
//! outputs of a state machine are determined by the sequence of requests it processes).

use std::collections::{BTreeMap, BTreeSet};

use mainstay_model::{ReplicaId, Slot};

use crate::observation::Observation;
use crate::properties::Property;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Digests {
    first: BTreeMap<Slot, (u64, ReplicaId)>,
    /// Whose state is known to be another.
    spoiled: BTreeSet<ReplicaId>,
}

impl Property for Digests {
    fn name(&self) -> &'static str {
        "digests"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        let (replica, slot, digest) = match *observation {
            Observation::Spoiled { replica } => {
                self.spoiled.insert(replica);
                return Ok(());
            }
            // Until then nobody could know. What it executes from now on is right.
            Observation::Diverged { replica } => {
                self.spoiled.remove(&replica);
                return Ok(());
            }
            Observation::Installed { replica, checkpoint, .. } => {
                self.spoiled.remove(&replica);
                (replica, checkpoint.slot, checkpoint.digest)
            }
            Observation::Digest { replica, slot, digest } => (replica, slot, digest),
            Observation::Checkpointed { replica, checkpoint } => {
                (replica, checkpoint.slot, checkpoint.digest)
            }
            _ => return Ok(()),
        };
        if self.spoiled.contains(&replica) {
            return Ok(());
        }
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
    use mainstay_model::CheckpointId;

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

    #[test]
    fn checkpoints_are_held_to_the_same() {
        let mut property = Digests::default();
        let (slot, digest) = (Slot(4), 8);
        property.observe(&Observation::Digest { replica: replica(0), slot, digest }).unwrap();
        let mut made = |digest| {
            let checkpoint = CheckpointId { slot, digest };
            property.observe(&Observation::Checkpointed { replica: replica(1), checkpoint }).is_ok()
        };
        assert!(made(8));
        assert!(!made(9));
    }

    #[test]
    fn a_state_that_was_found_out_is_never_gone_back_to() {
        let mut property = Digests::default();
        let mut tell = |observation| property.observe(&observation).is_ok();
        let (replica, other, slot) = (replica(0), replica(1), Slot(4));
        tell(Observation::Digest { replica: other, slot, digest: 8 });
        tell(Observation::Spoiled { replica });
        assert!(tell(Observation::Digest { replica, slot, digest: 9 }));
        tell(Observation::Diverged { replica });
        assert!(tell(Observation::Digest { replica, slot, digest: 8 }));
        assert!(!tell(Observation::Digest { replica, slot, digest: 9 }));
    }

    #[test]
    fn a_spoiled_state_is_one_until_another_takes_its_place() {
        let mut property = Digests::default();
        let mut tell = |observation| property.observe(&observation).is_ok();
        let (replica, other, slot) = (replica(0), replica(1), Slot(4));
        tell(Observation::Digest { replica: other, slot, digest: 8 });
        tell(Observation::Spoiled { replica });
        assert!(tell(Observation::Digest { replica, slot, digest: 9 }));
        let checkpoint = CheckpointId { slot, digest: 8 };
        assert!(tell(Observation::Installed { replica, checkpoint, quorum: 1 }));
        assert!(!tell(Observation::Digest { replica, slot, digest: 9 }));
    }
}
