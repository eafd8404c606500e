//! What clients are shown of time never goes back: no answer shows an earlier time than an answer that
//! was given before it was asked for (Herlihy and Wing, "Linearizability", 1990, of the clock that all
//! replicas share). Time that is shown runs on between entries, so that decided time does not tell.

use std::collections::BTreeMap;

use mainstay_model::Timestamp;

use crate::observation::Observation;
use crate::properties::Property;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct ShownTime {
    /// The latest time that any answer has shown.
    latest: Timestamp,
    /// What that was when each question was asked that has no answer yet.
    asked: BTreeMap<u64, Timestamp>,
}

impl Property for ShownTime {
    fn name(&self) -> &'static str {
        "shown-time"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match *observation {
            Observation::Asked { question } => {
                self.asked.insert(question, self.latest);
            }
            Observation::Shown { question, time } => {
                self.latest = self.latest.max(time);
                let before = self.asked.remove(&question).unwrap_or_default();
                if time < before {
                    return Err(format!(
                        "question {question} was shown time {}, when {} had been shown before it was \
                         asked",
                        time.0, before.0
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_was_shown_does_not_go_back() {
        let mut property = ShownTime::default();
        let ask = |property: &mut ShownTime, question| {
            property.observe(&Observation::Asked { question }).expect("a question is no answer");
        };
        let shown = |property: &mut ShownTime, question, time| {
            property.observe(&Observation::Shown { question, time: Timestamp(time) }).is_ok()
        };
        ask(&mut property, 1);
        ask(&mut property, 2);
        assert!(shown(&mut property, 1, 50));
        assert!(shown(&mut property, 2, 40), "asked before the other was answered");
        ask(&mut property, 3);
        assert!(shown(&mut property, 9, 60), "never asked for here");
        assert!(shown(&mut property.clone(), 3, 50));
        assert!(!shown(&mut property, 3, 49));
        ask(&mut property, 4);
        assert!(!shown(&mut property, 4, 59));
    }
}
