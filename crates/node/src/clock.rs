//! The clocks of the operating system, read once a turn.

use mainstay_model::{Instant, Now, Timestamp};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Counts the time in which the machine was suspended, where the system has such a clock.
#[cfg(target_os = "linux")]
const MONOTONIC: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const MONOTONIC: ClockId = ClockId::Monotonic;

/// What the clocks say.
pub(crate) fn now() -> Now {
    Now {
        monotonic: Instant(nanos(clock_gettime(MONOTONIC))),
        wall: Timestamp(nanos(clock_gettime(ClockId::Realtime))),
    }
}

/// A clock set before 1970 counts as 1970.
fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn the_clocks_run() {
        let (first, second) = (now(), now());
        assert!(second.monotonic >= first.monotonic);
        // 2020-01-01: a machine with a battery says something later.
        assert!(first.wall.0 > 1_577_836_800_000_000_000);
    }
}
