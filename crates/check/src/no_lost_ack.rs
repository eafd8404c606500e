//! What a client was told is never taken back: an acknowledged request was carried out, as the
//! client asked it, and every replica that lives in the end has carried it out (Haerder and Reuter,
//! "Principles of transaction-oriented database recovery", 1983: durability, here of a replicated
//! service).

use std::collections::BTreeMap;

use mainstay_model::{ReplicaId, RequestNumber, SessionId, Slot};

use crate::observation::{Observation, Place};
use crate::properties::Property;

/// See the module. That the log below the place of an acknowledged request stays what it was is the
/// matter of [`crate::prefix`].
#[derive(Clone, Debug, Default)]
pub struct NoLostAck {
    /// Where each request was carried out first, and the checksum of what it asked.
    executed: BTreeMap<(SessionId, RequestNumber), (Place, u32)>,
    /// The acknowledged request that stands furthest in the log.
    last: Option<(Place, SessionId, RequestNumber)>,
    applied_upto: BTreeMap<ReplicaId, Slot>,
}

impl Property for NoLostAck {
    fn name(&self) -> &'static str {
        "no-lost-ack"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match *observation {
            Observation::Started { replica, applied_upto }
            | Observation::Applied { replica, slot: applied_upto, .. } => {
                self.applied_upto.insert(replica, applied_upto);
                Ok(())
            }
            Observation::Executed { place, session, number, checksum, .. } => {
                self.executed.entry((session, number)).or_insert((place, checksum));
                Ok(())
            }
            Observation::Acknowledged { session, number, checksum } => {
                self.acknowledge(session, number, checksum)
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self, live: &[ReplicaId]) -> Result<(), String> {
        let Some((place, session, number)) = self.last else { return Ok(()) };
        for replica in live {
            let applied_upto = self.applied_upto.get(replica).copied().unwrap_or_default();
            if applied_upto < place.slot {
                return Err(format!(
                    "request {number} of session {session} was acknowledged at {place:?}; in the \
                     end replica {replica} holds nothing after slot {applied_upto}"
                ));
            }
        }
        Ok(())
    }
}

impl NoLostAck {
    fn acknowledge(
        &mut self,
        session: SessionId,
        number: RequestNumber,
        checksum: u32,
    ) -> Result<(), String> {
        match self.executed.get(&(session, number)) {
            None => Err(format!(
                "request {number} of session {session} was acknowledged and nobody had carried it \
                 out"
            )),
            Some((place, executed)) if *executed != checksum => Err(format!(
                "request {number} of session {session} was acknowledged; what was carried out \
                 under its number at {place:?} is another request"
            )),
            Some((place, _)) => {
                self.last = self.last.max(Some((*place, session, number)));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::tests::{CHECKSUM, applied, executed, replica, session, started};

    fn acknowledged(number: u64, checksum: u32) -> Observation {
        Observation::Acknowledged { session: session(), number: RequestNumber(number), checksum }
    }

    #[test]
    fn what_was_carried_out_may_be_acknowledged() {
        let mut property = NoLostAck::default();
        for index in 0..3 {
            property.observe(&applied(index, 5)).unwrap();
            property.observe(&executed(index, (5, 0), 1)).unwrap();
            property.observe(&acknowledged(1, CHECKSUM)).unwrap();
        }
        assert!(property.finish(&[replica(0), replica(1), replica(2)]).is_ok());
        assert!(NoLostAck::default().finish(&[replica(0)]).is_ok(), "nothing was acknowledged");
    }

    #[test]
    fn what_nobody_carried_out_must_not_be() {
        let mut property = NoLostAck::default();
        assert!(property.clone().observe(&acknowledged(1, CHECKSUM)).is_err());
        property.observe(&executed(0, (5, 0), 1)).unwrap();
        assert!(property.clone().observe(&acknowledged(2, CHECKSUM)).is_err());
        assert!(property.observe(&acknowledged(1, !CHECKSUM)).is_err(), "another request");
    }

    #[test]
    fn in_the_end_every_live_replica_has_carried_it_out() {
        let mut property = NoLostAck::default();
        property.observe(&applied(0, 5)).unwrap();
        property.observe(&executed(0, (5, 0), 1)).unwrap();
        property.observe(&acknowledged(1, CHECKSUM)).unwrap();
        property.observe(&applied(1, 4)).unwrap();
        assert!(property.finish(&[replica(0)]).is_ok());
        assert!(property.finish(&[replica(0), replica(1)]).is_err(), "it ends before");
        assert!(property.finish(&[replica(2)]).is_err(), "never seen");
        property.observe(&started(0)).unwrap();
        assert!(property.finish(&[replica(0)]).is_err(), "a restart lost it");
    }
}
