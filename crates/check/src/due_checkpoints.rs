//! When a checkpoint is due is a function of the log: in the same slots at every replica. None is
//! skipped: a replica makes them in the order in which they were due, says that one could not be
//! written and makes way for later ones, or starts again (Castro and
//! Liskov, "Practical Byzantine fault tolerance", OSDI 1999, section 4.3: checkpoints are produced at
//! agreed sequence numbers).

use std::collections::{BTreeMap, VecDeque};

use mainstay_model::{ReplicaId, Slot};

use crate::observation::Observation;
use crate::properties::Property;

/// How many checkpoints a replica may owe before it applies more.
const OWED_MAX: usize = 3;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct DueCheckpoints {
    /// Whether one was due after a slot, as the first replica that applied it saw it.
    due: BTreeMap<Slot, bool>,
    /// What each replica has applied last, and whether it said then that one was due.
    last: BTreeMap<ReplicaId, (Slot, bool)>,
    /// What each replica owes, the oldest first.
    owed: BTreeMap<ReplicaId, VecDeque<Slot>>,
}

impl Property for DueCheckpoints {
    fn name(&self) -> &'static str {
        "due-checkpoints"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match *observation {
            Observation::Started { replica, .. } => {
                self.last.remove(&replica);
                self.owed.remove(&replica);
                Ok(())
            }
            // Whether one was due after the slot before is known once the next one comes.
            Observation::Applied { replica, slot, .. } => {
                let last = self.last.insert(replica, (slot, false));
                last.map_or(Ok(()), |(slot, due)| self.settle(replica, slot, due))
            }
            Observation::Due { replica, slot } => {
                self.last.insert(replica, (slot, true));
                let owed = self.owed.entry(replica).or_default();
                owed.push_back(slot);
                match owed.len() {
                    ..=OWED_MAX => Ok(()),
                    count => Err(format!("replica {replica} owes {count} checkpoints: {owed:?}")),
                }
            }
            Observation::GivenUp { replica, slot } => {
                match self.owed.entry(replica).or_default().pop_front() {
                    Some(owed) if owed == slot => Ok(()),
                    owed => Err(format!(
                        "replica {replica} gave up a checkpoint of slot {slot}, and owed {owed:?}"
                    )),
                }
            }
            Observation::Checkpointed { replica, checkpoint } => {
                match self.owed.entry(replica).or_default().pop_front() {
                    Some(slot) if slot == checkpoint.slot => Ok(()),
                    Some(slot) => Err(format!(
                        "replica {replica} made a checkpoint of slot {} while it owed that of slot \
                         {slot}",
                        checkpoint.slot
                    )),
                    None => Err(format!(
                        "replica {replica} made a checkpoint of slot {}, which was not due",
                        checkpoint.slot
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

impl DueCheckpoints {
    fn settle(&mut self, replica: ReplicaId, slot: Slot, due: bool) -> Result<(), String> {
        let standing = *self.due.entry(slot).or_insert(due);
        match (standing, due) {
            (true, false) => Err(format!(
                "after slot {slot} no checkpoint was due at replica {replica}, and one was at others"
            )),
            (false, true) => Err(format!(
                "after slot {slot} a checkpoint was due at replica {replica}, and none at others"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use mainstay_model::CheckpointId;

    use super::*;
    use crate::properties::tests::{applied, replica, started};

    fn due(index: u16, slot: u64) -> Observation {
        Observation::Due { replica: replica(index), slot: Slot(slot) }
    }

    fn made(index: u16, slot: u64) -> Observation {
        let checkpoint = CheckpointId { slot: Slot(slot), digest: 7 };
        Observation::Checkpointed { replica: replica(index), checkpoint }
    }

    fn all(property: &mut DueCheckpoints, observations: &[Observation]) -> bool {
        observations.iter().all(|observation| property.observe(observation).is_ok())
    }

    #[test]
    fn they_are_due_in_the_same_slots_everywhere() {
        let mut property = DueCheckpoints::default();
        for index in 0..2 {
            let slots = [applied(index, 1), due(index, 1), applied(index, 2), applied(index, 3)];
            assert!(all(&mut property, &slots));
        }
        assert!(!all(&mut property.clone(), &[applied(2, 1), applied(2, 2)]), "not due");
        assert!(!all(&mut property, &[applied(2, 2), due(2, 2), applied(2, 3)]), "due");
    }

    #[test]
    fn none_is_skipped_unless_the_replica_starts_again() {
        let mut property = DueCheckpoints::default();
        assert!(all(&mut property, &[applied(0, 1), due(0, 1), applied(0, 2), due(0, 2)]));
        assert!(!all(&mut property.clone(), &[made(0, 2)]), "the first one was skipped");
        assert!(!all(&mut property.clone(), &[due(0, 3), due(0, 4)]), "too many are owed");
        assert!(all(&mut property.clone(), &[made(0, 1), made(0, 2)]));
        assert!(all(&mut property, &[started(0), applied(0, 2), due(0, 2), made(0, 2)]));
        assert!(!all(&mut property, &[made(0, 3)]), "not due");
    }
}
