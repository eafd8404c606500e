//! The clocks of one simulated node: a monotonic one that drifts, a calendar one that jumps.

use mainstay_model::{Instant, Now, Timestamp};

/// Calendar time at which every run begins: 2025-01-01 00:00 UTC, in nanoseconds.
pub(crate) const WALL_START: u64 = 1_735_689_600_000_000_000;

/// What a node's clocks show, as functions of virtual time (nanoseconds since the run began).
#[derive(Clone, Debug)]
pub struct NodeClock {
    drift_ppm: i64,
    monotonic_base: u64,
    wall_offset: i64,
}

impl NodeClock {
    /// A monotonic clock that starts at `monotonic_base` and runs `drift_ppm` millionths too fast
    /// (negative: too slow), and a calendar clock that is `wall_offset` nanoseconds ahead.
    #[must_use]
    pub const fn new(drift_ppm: i64, monotonic_base: u64, wall_offset: i64) -> Self {
        Self { drift_ppm, monotonic_base, wall_offset }
    }

    /// Both clocks at a virtual time.
    #[must_use]
    pub fn now(&self, time: u64) -> Now {
        let run = self.scaled(time);
        let wall = (WALL_START + run).saturating_add_signed(self.wall_offset);
        Now { monotonic: Instant(self.monotonic_base + run), wall: Timestamp(wall) }
    }

    /// The earliest virtual time at which the monotonic clock shows `instant` or more.
    #[must_use]
    pub fn virtual_time(&self, instant: Instant) -> u64 {
        let run = u128::from(instant.0.saturating_sub(self.monotonic_base));
        let rate = u128::from(1_000_000u64.saturating_add_signed(self.drift_ppm));
        let mut time = u64::try_from(run * 1_000_000 / rate).unwrap_or(u64::MAX);
        while self.now(time).monotonic < instant && time < u64::MAX / 2 {
            time += 1;
        }
        time
    }

    /// Moves the calendar clock by `nanos`.
    pub const fn jump_wall(&mut self, nanos: i64) {
        self.wall_offset = self.wall_offset.saturating_add(nanos);
    }

    fn scaled(&self, time: u64) -> u64 {
        let rate = u128::from(1_000_000u64.saturating_add_signed(self.drift_ppm));
        u64::try_from(u128::from(time) * rate / 1_000_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_met_exactly_when_the_clock_shows_it() {
        for drift in [-500, 0, 77, 500] {
            let clock = NodeClock::new(drift, 12_345, 0);
            for wanted in [12_345, 12_346, 1_000_000_007, 86_400_000_000_001] {
                let time = clock.virtual_time(Instant(wanted));
                assert!(clock.now(time).monotonic.0 >= wanted, "not before the deadline");
                if time > 0 {
                    assert!(clock.now(time - 1).monotonic.0 < wanted, "and no later than needed");
                }
            }
        }
    }

    #[test]
    fn a_jump_moves_only_the_calendar() {
        let mut clock = NodeClock::new(0, 5, 0);
        let before = clock.now(1_000);
        clock.jump_wall(-300);
        let after = clock.now(1_000);
        assert_eq!(before.monotonic, after.monotonic, "the monotonic clock never jumps");
        assert_eq!(before.wall.0 - 300, after.wall.0, "the calendar clock does");
    }
}
