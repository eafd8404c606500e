//! How far apart checkpoints should be. Pure.

use mainstay_service::CheckpointInterval;

/// The most by which lateness alone lengthens the interval.
const LATE_MAX: u64 = 64;
/// After so many checkpoints that nobody had to wait for, lateness counts half as much.
const FORGIVEN_AFTER: u32 = 8;

/// By how much the interval that was asked for is lengthened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// For the size of the state. A power of two, so that it seldom changes.
    large: u64,
    /// For lateness. A power of two.
    late: u64,
    written: u32,
}

impl Default for Stretch {
    fn default() -> Self {
        Self { large: 1, late: 1, written: 0 }
    }
}

impl Stretch {
    /// Execution had to wait for checkpoints to be written.
    pub(crate) fn was_late(&mut self) {
        self.late = (self.late * 2).min(LATE_MAX);
        self.written = 0;
    }

    /// A checkpoint was written.
    pub(crate) const fn was_written(&mut self) {
        self.written += 1;
        if self.written >= FORGIVEN_AFTER {
            self.written = 0;
            if self.late > 1 {
                self.late /= 2;
            }
        }
    }

    /// The interval for a state of `bytes`: at least so much log lies between two checkpoints, so that
    /// they cost no more than the log does.
    pub(crate) fn apply(&mut self, asked: CheckpointInterval, bytes: u64) -> CheckpointInterval {
        let needed = bytes.div_ceil(asked.bytes.max(1)).max(1).next_power_of_two();
        // Shrinks late, so that a state that comes and goes does not change it all the time.
        if needed > self.large || needed < self.large / 2 {
            self.large = needed;
        }
        let factor = self.large.saturating_mul(self.late);
        let max = CheckpointInterval::MAX;
        CheckpointInterval {
            requests: asked.requests.saturating_mul(factor).min(max.requests),
            bytes: asked.bytes.saturating_mul(factor).min(max.bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: CheckpointInterval = CheckpointInterval { requests: 10, bytes: 1000 };

    fn bytes(stretch: &mut Stretch, state: u64) -> u64 {
        stretch.apply(ASKED, state).bytes
    }

    #[test]
    fn checkpoints_of_a_large_state_cost_no_more_than_the_log() {
        let mut stretch = Stretch::default();
        assert_eq!(stretch.apply(ASKED, 0), ASKED);
        assert_eq!(stretch.apply(ASKED, 1000), ASKED);
        assert_eq!(stretch.apply(ASKED, 3500).requests, 40);
        for state in [1001, 5000, 123_456_789] {
            assert!(bytes(&mut Stretch::default(), state) >= state);
        }
        let max = Stretch::default().apply(ASKED, u64::MAX / 4);
        assert_eq!(max, CheckpointInterval::MAX);
        assert!(max.is_within_bounds());
    }

    #[test]
    fn a_state_near_the_edge_does_not_change_it_all_the_time() {
        let mut stretch = Stretch::default();
        assert_eq!(bytes(&mut stretch, 1001), 2000);
        assert_eq!(bytes(&mut stretch, 999), 2000);
        assert_eq!(bytes(&mut stretch, 2001), 4000);
        assert_eq!(bytes(&mut stretch, 1), 1000);
    }

    #[test]
    fn lateness_lengthens_it_until_it_is_forgiven() {
        let mut stretch = Stretch::default();
        (0..100).for_each(|_| stretch.was_late());
        assert_eq!(bytes(&mut stretch, 0), 64_000);
        (0..FORGIVEN_AFTER).for_each(|_| stretch.was_written());
        assert_eq!(bytes(&mut stretch, 0), 32_000);
        (0..100).for_each(|_| stretch.was_written());
        assert_eq!(bytes(&mut stretch, 0), 1000);
    }
}
