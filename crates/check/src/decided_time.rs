//! Time is decided: after a slot it is the same at every replica, and it never goes back from one slot
//! to the next, not over a restart either (Schneider, "Implementing fault-tolerant services using the
//! state machine approach", 1990, section 4.2: time as an input that all replicas agree on).

use std::collections::BTreeMap;

use mainstay_model::{ReplicaId, Slot, Timestamp};

use crate::observation::Observation;
use crate::properties::Property;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct DecidedTime {
    first: BTreeMap<Slot, (Timestamp, ReplicaId)>,
}

impl Property for DecidedTime {
    fn name(&self) -> &'static str {
        "decided-time"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        let &Observation::Time { replica, slot, time, .. } = observation else { return Ok(()) };
        let (first, whose) = *self.first.entry(slot).or_insert((time, replica));
        if first != time {
            return Err(format!(
                "after slot {slot} it is {} at replica {replica}, and {} at replica {whose}",
                time.0, first.0
            ));
        }
        let before = self.first.range(..slot).next_back();
        let after = self.first.range(slot.next()..).next();
        if let Some((other, (earlier, _))) = before.filter(|(_, (earlier, _))| *earlier > time) {
            return Err(format!(
                "time went back from {} after slot {other} to {} after slot {slot}",
                earlier.0, time.0
            ));
        }
        match after.filter(|(_, (later, _))| *later < time) {
            Some((other, (later, _))) => Err(format!(
                "time went back from {} after slot {slot} to {} after slot {other}",
                time.0, later.0
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::tests::replica;

    fn time(property: &mut DecidedTime, index: u16, slot: u64, time: u64) -> bool {
        let (replica, slot, time) = (replica(index), Slot(slot), Timestamp(time));
        property.observe(&Observation::Time { replica, slot, time, at: 0 }).is_ok()
    }

    #[test]
    fn all_replicas_see_the_same_time_which_never_goes_back() {
        let mut property = DecidedTime::default();
        assert!(time(&mut property, 0, 3, 70));
        assert!(time(&mut property, 0, 4, 70), "it may stand");
        assert!(time(&mut property, 1, 4, 70));
        assert!(time(&mut property, 1, 9, 90), "a state that was taken over");
        assert!(time(&mut property, 0, 7, 80));
        assert!(!time(&mut property.clone(), 0, 3, 71), "another time");
        assert!(!time(&mut property.clone(), 0, 10, 89), "back");
        assert!(!time(&mut property, 0, 8, 91), "ahead of what comes later");
    }
}
