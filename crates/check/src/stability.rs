//! Only what a quorum holds durably, with one digest, takes the place of the log: a checkpoint is taken
//! over only if it is stable, and a replica gives up slots of its log only if it holds a durable
//! checkpoint of them itself and some stable one covers them (Castro and Liskov, "Practical Byzantine
//! fault tolerance", OSDI 1999, section 4.3: stable checkpoints and the truncation of the log).

use std::collections::{BTreeMap, BTreeSet};

use mainstay_model::{CheckpointId, ReplicaId, Slot};

use crate::observation::Observation;
use crate::properties::Property;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Stability {
    /// Who has ever held each checkpoint durably.
    holders: BTreeMap<CheckpointId, BTreeSet<ReplicaId>>,
    /// The highest checkpoint that each replica has held durably.
    own: BTreeMap<ReplicaId, Slot>,
}

impl Property for Stability {
    fn name(&self) -> &'static str {
        "stability"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match *observation {
            Observation::Checkpointed { replica, checkpoint }
            | Observation::Found { replica, checkpoint } => self.hold(replica, checkpoint),
            Observation::Installed { replica, checkpoint, quorum } => {
                let held = self.holders.get(&checkpoint).map_or(0, BTreeSet::len);
                self.hold(replica, checkpoint);
                if held < quorum {
                    return Err(format!(
                        "replica {replica} took over the checkpoint of slot {} ({:016x}), which \
                         {held} replicas had held; a quorum is {quorum}",
                        checkpoint.slot, checkpoint.digest
                    ));
                }
            }
            Observation::Discarded { replica, upto, quorum } => {
                return self.discard(replica, upto, quorum);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Stability {
    fn hold(&mut self, replica: ReplicaId, checkpoint: CheckpointId) {
        self.holders.entry(checkpoint).or_default().insert(replica);
        let own = self.own.entry(replica).or_default();
        *own = checkpoint.slot.max(*own);
    }

    fn discard(&self, replica: ReplicaId, upto: Slot, quorum: usize) -> Result<(), String> {
        let own = self.own.get(&replica).copied().unwrap_or_default();
        if own < upto {
            return Err(format!(
                "replica {replica} discarded its log up to slot {upto}; its last durable \
                 checkpoint is of slot {own}"
            ));
        }
        let first = CheckpointId { slot: upto, digest: 0 };
        if self.holders.range(first..).any(|(_, holders)| holders.len() >= quorum) {
            return Ok(());
        }
        Err(format!(
            "replica {replica} discarded its log up to slot {upto}; no quorum has held a checkpoint \
             of that slot or a later one"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::tests::replica;

    const ID: CheckpointId = CheckpointId { slot: Slot(5), digest: 77 };

    fn made(index: u16, checkpoint: CheckpointId) -> Observation {
        Observation::Checkpointed { replica: replica(index), checkpoint }
    }

    fn discarded(index: u16, upto: u64) -> Observation {
        Observation::Discarded { replica: replica(index), upto: Slot(upto), quorum: 2 }
    }

    #[test]
    fn only_what_a_quorum_holds_is_taken_over() {
        let mut property = Stability::default();
        let installed = Observation::Installed { replica: replica(2), checkpoint: ID, quorum: 2 };
        property.observe(&made(0, ID)).unwrap();
        property.observe(&made(1, CheckpointId { digest: 78, ..ID })).unwrap();
        assert!(property.clone().observe(&installed).is_err(), "digests differ");
        property.observe(&made(1, ID)).unwrap();
        property.observe(&installed).unwrap();
        property.observe(&discarded(2, 5)).unwrap();
    }

    #[test]
    fn what_a_replica_finds_at_its_start_it_holds() {
        let mut property = Stability::default();
        property.observe(&made(0, ID)).unwrap();
        assert!(property.clone().observe(&discarded(0, 5)).is_err(), "not stable");
        property.observe(&Observation::Found { replica: replica(1), checkpoint: ID }).unwrap();
        property.observe(&discarded(0, 5)).unwrap();
        property.observe(&discarded(1, 5)).unwrap();
    }

    #[test]
    fn only_what_is_held_here_and_stable_is_discarded() {
        let mut property = Stability::default();
        property.observe(&made(0, ID)).unwrap();
        assert!(property.clone().observe(&discarded(0, 5)).is_err(), "not stable");
        property.observe(&made(1, ID)).unwrap();
        assert!(property.clone().observe(&discarded(0, 6)).is_err(), "beyond its own");
        assert!(property.clone().observe(&discarded(2, 5)).is_err(), "it holds none");
        property.observe(&discarded(0, 5)).unwrap();
        property.observe(&discarded(1, 3)).unwrap();
    }
}
