//! A session ends in the same slot at every replica, and nothing of it is carried out afterwards
//! (only a decided command ends a session, so that no replica forgets what another one
//! still remembers).

use std::collections::BTreeMap;

use mainstay_model::{SessionId, Slot};

use crate::observation::Observation;
use crate::properties::Property;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct SessionEnds {
    ended: BTreeMap<SessionId, Slot>,
    /// The last slot in which something of a session was carried out.
    last: BTreeMap<SessionId, Slot>,
}

impl Property for SessionEnds {
    fn name(&self) -> &'static str {
        "session-ends"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match *observation {
            Observation::SessionEnded { replica, slot, session } => {
                let standing = *self.ended.entry(session).or_insert(slot);
                if standing != slot {
                    return Err(format!(
                        "replica {replica} ended session {session} in slot {slot}; it had been \
                         ended in slot {standing}"
                    ));
                }
                match self.last.get(&session) {
                    Some(last) if *last > slot => Err(format!(
                        "replica {replica} ended session {session} in slot {slot}; a request of it \
                         was carried out in slot {last}"
                    )),
                    _ => Ok(()),
                }
            }
            Observation::Executed { replica, place, session, number, .. } => {
                let last = self.last.entry(session).or_default();
                *last = place.slot.max(*last);
                match self.ended.get(&session) {
                    Some(end) if *end < place.slot => Err(format!(
                        "replica {replica} carried out request {number} of session {session} at \
                         {place:?}; the session had ended in slot {end}"
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
    use crate::properties::tests::{executed, replica, session};

    fn ended(index: u16, slot: u64) -> Observation {
        let (replica, slot) = (replica(index), Slot(slot));
        Observation::SessionEnded { replica, slot, session: session() }
    }

    #[test]
    fn a_session_ends_once_and_for_all() {
        let mut property = SessionEnds::default();
        property.observe(&executed(0, (5, 0), 1)).unwrap();
        assert!(property.clone().observe(&ended(0, 4)).is_err(), "before its last request");
        for index in 0..3 {
            property.observe(&ended(index, 6)).unwrap();
            property.observe(&executed(index, (5, 0), 1)).unwrap();
        }
        assert!(property.clone().observe(&ended(0, 7)).is_err(), "in another slot");
        assert!(property.observe(&executed(1, (7, 0), 2)).is_err(), "carried out afterwards");
    }
}
