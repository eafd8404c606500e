//! Decided time passes as time does, but for what takeovers may move it by: each of them by a bound at
//! most, and for what an operator confirmed beyond that. Otherwise wrong clocks could end every key and session at
//! once.
//!
//! It is watched as a whole: since it was first seen, decided time has come no further than an observer's
//! clock allows, which differs from the replicas' by a drift, and the takeovers and confirmations since then.

use mainstay_model::Timestamp;

use crate::observation::Observation;
use crate::properties::Property;

/// A leader's clock may run faster than the observer's: it is slewed by a tenth, and drifts.
const PERCENT_MAX: u64 = 150;
/// How much later than it was reached a time may be seen for the first time, in nanoseconds.
const LATE_MAX: u64 = 60_000_000_000;
/// A takeover starts above what was shown under the last entry, in nanoseconds.
const CEILING: u64 = 1_000_000_000;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeJumps {
    /// When a time was first seen, and which.
    first: Option<(u64, Timestamp)>,
    /// What takeovers and operators may have added since.
    jumps: u64,
}

impl Property for TimeJumps {
    fn name(&self) -> &'static str {
        "time-jumps"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match *observation {
            Observation::TookOffice { jump_max, .. } => {
                self.jumps = self.jumps.saturating_add(jump_max).saturating_add(CEILING);
            }
            Observation::JumpConfirmed { jump } => self.jumps = self.jumps.saturating_add(jump),
            Observation::Time { slot, time, at, .. } if time > Timestamp(0) => {
                let (since, first) = *self.first.get_or_insert((at, time));
                let passed = at.saturating_sub(since).saturating_add(LATE_MAX);
                let allowed = (passed / 100).saturating_mul(PERCENT_MAX).saturating_add(self.jumps);
                let moved = time.0.saturating_sub(first.0);
                if moved > allowed {
                    return Err(format!(
                        "after slot {slot} decided time has moved by {} s, and no more than {} s are \
                         accounted for",
                        moved / 1_000_000_000,
                        allowed / 1_000_000_000
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
    use mainstay_model::Slot;

    use super::*;
    use crate::properties::tests::replica;

    const S: u64 = 1_000_000_000;
    const HOUR: u64 = 3_600 * S;

    fn time(property: &mut TimeJumps, seconds: u64, at: u64) -> bool {
        let (replica, slot, time) = (replica(0), Slot(1), Timestamp(seconds * S));
        property.observe(&Observation::Time { replica, slot, time, at: at * S }).is_ok()
    }

    fn take_office(property: &mut TimeJumps) {
        let office = Observation::TookOffice { replica: replica(1), jump_max: HOUR };
        property.observe(&office).expect("an office is no time");
    }

    #[test]
    fn a_takeover_moves_time_by_the_bound_and_no_further() {
        let mut property = TimeJumps::default();
        assert!(time(&mut property, 0, 0), "nobody knows what time it is");
        assert!(time(&mut property, 1_000_000, 0), "the first time of all");
        assert!(time(&mut property, 1_000_000 + 7_200, 7_200), "two hours have passed");
        let late = 1_000_000 + 7_200 + 3_600 + 100;
        assert!(!time(&mut property.clone(), late + 3_600, 7_200), "nobody took over");
        take_office(&mut property);
        assert!(time(&mut property, late, 7_200));
        assert!(!time(&mut property.clone(), late + 31_536_000, 7_200), "a year");
        let confirmed = Observation::JumpConfirmed { jump: 31_536_000 * S };
        property.observe(&confirmed).expect("a confirmation is no time");
        assert!(time(&mut property, late + 31_536_000, 7_200), "it was confirmed");
        assert!(!time(&mut property, late + 2 * 31_536_000, 7_200), "and not that");
    }
}
