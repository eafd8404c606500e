//! A key with an expiry is there until decided time has reached it, and never afterwards; and a read
//! sees no earlier time than somebody had reached before it was asked for, so that a key which was seen
//! to be gone does not come back (Herlihy and Wing, "Linearizability", 1990, of the clock that all
//! replicas share).

use crate::observation::Observation;
use crate::properties::Property;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expiry;

impl Property for Expiry {
    fn name(&self) -> &'static str {
        "expiry"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        let &Observation::Seen { key, set, found, time, time_before } = observation else {
            return Ok(());
        };
        if time < time_before {
            return Err(format!(
                "key {key} was read as of time {}, when {} had been reached before it was asked for",
                time.0, time_before.0
            ));
        }
        if let Some(found) = found.filter(|found| *found <= time) {
            return Err(format!(
                "key {key} was read at time {}, and had expired at {}",
                time.0, found.0
            ));
        }
        match set {
            Some(set) if set > time && found.is_none() => {
                Err(format!("key {key} is gone at time {}, before it expires at {}", time.0, set.0))
            }
            Some(set) if found.is_some_and(|found| found != set) => Err(format!(
                "key {key} was set to expire at {}, and is found with {found:?}",
                set.0
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use mainstay_model::Timestamp;

    use super::*;

    fn seen(set: Option<u64>, found: Option<u64>, time: u64, time_before: u64) -> bool {
        let (set, found) = (set.map(Timestamp), found.map(Timestamp));
        let (time, time_before) = (Timestamp(time), Timestamp(time_before));
        Expiry.observe(&Observation::Seen { key: 1, set, found, time, time_before }).is_ok()
    }

    #[test]
    fn keys_are_there_until_their_time() {
        assert!(seen(Some(50), Some(50), 49, 49));
        assert!(seen(Some(50), None, 50, 0));
        assert!(seen(None, Some(50), 40, 0), "what it was set to is not known");
        assert!(!seen(Some(50), Some(50), 50, 0), "it had expired");
        assert!(!seen(Some(50), None, 49, 0), "it had not");
        assert!(!seen(Some(50), Some(60), 49, 0), "it is another");
        assert!(!seen(Some(50), Some(50), 40, 41), "time went back");
    }
}
