//! A request takes effect once, however often it is sent: each (session, number) is carried out at
//! one place of the log, and each place once in the life of a state (Ongaro, "Consensus: bridging
//! theory and practice", 2014, section 6.3: a request whose number was seen before is answered and
//! not executed again).

use std::collections::BTreeMap;

use mainstay_model::{ReplicaId, RequestNumber, SessionId};

use crate::observation::{Observation, Place};
use crate::properties::Property;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct ExactlyOnce {
    places: BTreeMap<(SessionId, RequestNumber), Place>,
    /// The last place that each replica carried out since it started.
    last: BTreeMap<ReplicaId, Place>,
}

impl Property for ExactlyOnce {
    fn name(&self) -> &'static str {
        "exactly-once"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match *observation {
            Observation::Started { replica, .. } => {
                self.last.remove(&replica);
                Ok(())
            }
            Observation::Executed { replica, place, session, number, .. } => {
                let first = *self.places.entry((session, number)).or_insert(place);
                if first != place {
                    return Err(format!(
                        "request {number} of session {session} was carried out at {first:?} and, \
                         by replica {replica}, at {place:?}"
                    ));
                }
                match self.last.insert(replica, place) {
                    Some(last) if last >= place => Err(format!(
                        "replica {replica} carried out what stands at {place:?} after {last:?}"
                    )),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::tests::{executed, started};

    #[test]
    fn a_request_may_be_carried_out_by_all_replicas_and_after_each_restart() {
        let mut property = ExactlyOnce::default();
        for _ in 0..2 {
            for index in 0..3 {
                property.observe(&started(index)).unwrap();
                property.observe(&executed(index, (5, 0), 1)).unwrap();
                property.observe(&executed(index, (5, 1), 2)).unwrap();
                property.observe(&executed(index, (6, 0), 3)).unwrap();
            }
        }
    }

    #[test]
    fn a_request_that_is_carried_out_twice_is_found() {
        let mut property = ExactlyOnce::default();
        property.observe(&executed(0, (5, 0), 1)).unwrap();
        assert!(property.clone().observe(&executed(0, (6, 0), 1)).is_err(), "ordered twice");
        assert!(property.clone().observe(&executed(0, (5, 1), 1)).is_err(), "twice in a batch");
        assert!(property.clone().observe(&executed(0, (5, 0), 1)).is_err(), "a slot twice");
        assert!(property.clone().observe(&executed(1, (6, 0), 1)).is_err(), "replicas differ");
    }
}
