//! All properties over observations at once.

use std::fmt::Debug;

use mainstay_model::ReplicaId;

use crate::agreement::Agreement;
use crate::decided_time::DecidedTime;
use crate::digests::Digests;
use crate::due_checkpoints::DueCheckpoints;
use crate::exactly_once::ExactlyOnce;
use crate::expiry::Expiry;
use crate::no_lost_ack::NoLostAck;
use crate::observation::{Observation, Violation};
use crate::prefix::Prefix;
use crate::session_ends::SessionEnds;
use crate::session_order::SessionOrder;
use crate::shown_time::ShownTime;
use crate::stability::Stability;
use crate::time_jumps::TimeJumps;

/// A property of runs that is watched as they go.
pub trait Property: Debug {
    /// As in [`Violation::property`].
    fn name(&self) -> &'static str;

    /// Takes note of an observation. Observations come in the order in which they happened.
    ///
    /// # Errors
    /// The sentence that says how it breaks the property.
    fn observe(&mut self, observation: &Observation) -> Result<(), String>;

    /// The run is over; faults were healed, and these replicas live and had time to catch up.
    ///
    /// # Errors
    /// The sentence that says how what is left breaks the property.
    fn finish(&mut self, _live: &[ReplicaId]) -> Result<(), String> {
        Ok(())
    }
}

/// Every property of this crate that is watched as a run goes.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    agreement: Agreement,
    prefix: Prefix,
    exactly_once: ExactlyOnce,
    session_order: SessionOrder,
    no_lost_ack: NoLostAck,
    session_ends: SessionEnds,
    decided_time: DecidedTime,
    time_jumps: TimeJumps,
    shown_time: ShownTime,
    expiry: Expiry,
    due_checkpoints: DueCheckpoints,
    stability: Stability,
    digests: Digests,
}

impl Properties {
    /// Takes note of what was observed `at` (nanoseconds since the run began). Observations come in
    /// the order in which they happened.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn observe(&mut self, at: u64, observation: &Observation) -> Result<(), Violation> {
        self.each(at, |property| property.observe(observation))
    }

    /// The run is over; faults were healed, and these replicas live and had time to catch up.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn finish(&mut self, at: u64, live: &[ReplicaId]) -> Result<(), Violation> {
        self.each(at, |property| property.finish(live))
    }

    fn each(
        &mut self,
        at: u64,
        mut ask: impl FnMut(&mut dyn Property) -> Result<(), String>,
    ) -> Result<(), Violation> {
        let all: [&mut dyn Property; 13] = [
            &mut self.agreement,
            &mut self.prefix,
            &mut self.exactly_once,
            &mut self.session_order,
            &mut self.no_lost_ack,
            &mut self.session_ends,
            &mut self.decided_time,
            &mut self.time_jumps,
            &mut self.shown_time,
            &mut self.expiry,
            &mut self.due_checkpoints,
            &mut self.stability,
            &mut self.digests,
        ];
        for property in all {
            ask(property).map_err(|detail| Violation { property: property.name(), at, detail })?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use mainstay_model::{Epoch, RequestNumber, SessionId, Slot};

    use super::*;
    use crate::observation::Place;

    /// What every request in these tests asks.
    pub(crate) const CHECKSUM: u32 = 0xc0de;

    pub(crate) fn replica(index: u16) -> ReplicaId {
        ReplicaId { index, epoch: Epoch { counter: 1, instance: 9 } }
    }

    pub(crate) fn session() -> SessionId {
        SessionId { slot: Slot(1), position: 0 }
    }

    pub(crate) fn started(index: u16) -> Observation {
        Observation::Started { replica: replica(index), applied_upto: Slot::NONE }
    }

    pub(crate) fn applied(index: u16, slot: u64) -> Observation {
        Observation::Applied { replica: replica(index), slot: Slot(slot), checksum: 7 }
    }

    pub(crate) fn executed(index: u16, (slot, position): (u64, u32), number: u64) -> Observation {
        Observation::Executed {
            replica: replica(index),
            place: Place { slot: Slot(slot), position },
            session: session(),
            number: RequestNumber(number),
            checksum: CHECKSUM,
        }
    }

    /// The names by which planted bugs are expected to be found, and those that a simulator gives.
    #[test]
    fn names_are_those_that_plants_expect() {
        let mut properties = Properties::default();
        let mut names = vec!["linearizable", "invariant", "liveness"];
        properties
            .each(0, |property| {
                names.push(property.name());
                Ok(())
            })
            .unwrap();
        for plant in mainstay_model::Plant::ALL {
            for expected in plant.expected().split('|') {
                assert!(names.contains(&expected), "{plant:?} expects '{expected}'");
            }
        }
    }

    #[test]
    fn the_first_broken_property_is_named_with_its_time() {
        let mut properties = Properties::default();
        properties.observe(1, &applied(0, 1)).unwrap();
        let violation = properties.observe(12_407_000_000, &applied(0, 3)).unwrap_err();
        assert_eq!(
            violation.to_string(),
            "prefix violated at 12.407000s: replica 0e1 applied slot 3 right after slot 1"
        );
        let mut properties = Properties::default();
        properties.observe(2, &executed(0, (5, 0), 1)).unwrap();
        let checksum = CHECKSUM;
        let number = RequestNumber(1);
        properties
            .observe(3, &Observation::Acknowledged { session: session(), number, checksum })
            .unwrap();
        assert_eq!(properties.finish(4, &[replica(0)]).unwrap_err().property, "no-lost-ack");
    }
}
