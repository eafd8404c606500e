//! Number n of a session is carried out right after n − 1, at a later place of the log (Schneider,
//! "Implementing fault-tolerant services using the state machine approach", 1990, assumption O1: a
//! client's requests are processed in the order in which it made them).

use std::collections::BTreeMap;

use mainstay_model::{ReplicaId, RequestNumber, SessionId};

use crate::observation::{Observation, Place};
use crate::properties::Property;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct SessionOrder {
    places: BTreeMap<(SessionId, RequestNumber), Place>,
    /// The last number of each session that a replica carried out since it started.
    last: BTreeMap<ReplicaId, BTreeMap<SessionId, RequestNumber>>,
}

impl Property for SessionOrder {
    fn name(&self) -> &'static str {
        "session-order"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match *observation {
            Observation::Started { replica, .. } => {
                self.last.remove(&replica);
                Ok(())
            }
            Observation::Executed { replica, place, session, number, .. } => {
                self.everywhere(place, session, number)?;
                self.at_replica(replica, session, number)
            }
            _ => Ok(()),
        }
    }
}

impl SessionOrder {
    /// The one before stands earlier in the log, whoever carried it out first.
    fn everywhere(
        &mut self,
        place: Place,
        session: SessionId,
        number: RequestNumber,
    ) -> Result<(), String> {
        self.places.entry((session, number)).or_insert(place);
        if number <= RequestNumber(1) {
            return Ok(());
        }
        let previous = RequestNumber(number.0 - 1);
        match self.places.get(&(session, previous)) {
            Some(before) if *before < place => Ok(()),
            Some(before) => Err(format!(
                "request {number} of session {session} was carried out at {place:?}, before \
                 request {previous} at {before:?}"
            )),
            None => Err(format!(
                "request {number} of session {session} was carried out at {place:?}, and \
                 request {previous} nowhere before it"
            )),
        }
    }

    /// A replica that started with a state does not tell what that state went through, so only
    /// what it carried out itself is compared.
    fn at_replica(
        &mut self,
        replica: ReplicaId,
        session: SessionId,
        number: RequestNumber,
    ) -> Result<(), String> {
        let last = self.last.entry(replica).or_default().insert(session, number);
        match last {
            Some(last) if last.next() != number => Err(format!(
                "replica {replica} carried out request {number} of session {session} right after \
                 request {last}"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::tests::{executed, started};

    #[test]
    fn numbers_in_order_at_every_replica_and_after_each_restart() {
        let mut property = SessionOrder::default();
        for index in 0..2 {
            for number in 1..5 {
                property.observe(&executed(index, (4 + number, 0), number)).unwrap();
            }
            property.observe(&started(index)).unwrap();
            property.observe(&executed(index, (7, 0), 3)).unwrap();
        }
    }

    #[test]
    fn gaps_and_reordering_are_found() {
        let mut property = SessionOrder::default();
        assert!(property.clone().observe(&executed(0, (5, 0), 2)).is_err(), "the first is missing");
        property.observe(&executed(0, (5, 1), 1)).unwrap();
        assert!(property.clone().observe(&executed(0, (6, 0), 3)).is_err(), "a gap");
        assert!(property.clone().observe(&executed(0, (5, 0), 2)).is_err(), "at an earlier place");
        assert!(property.clone().observe(&executed(0, (6, 0), 1)).is_err(), "again");
        property.observe(&executed(0, (6, 0), 2)).unwrap();
        property.observe(&executed(0, (7, 0), 3)).unwrap();
        property.observe(&executed(1, (5, 1), 1)).unwrap();
        assert!(property.observe(&executed(1, (7, 0), 3)).is_err(), "one replica left one out");
    }
}
