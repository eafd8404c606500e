//! The clocks, read once a turn.

use std::fmt;
use std::sync::Arc;

use mainstay_model::{Instant, Now, Timestamp};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Counts the time in which the machine was suspended, where the system has such a clock.
#[cfg(target_os = "linux")]
const MONOTONIC: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const MONOTONIC: ClockId = ClockId::Monotonic;

/// A calendar clock: the operating system's, unless it is another one, for tests of clocks that are
/// wrong.
#[derive(Clone, Default)]
pub struct WallClock(Option<Arc<dyn Fn() -> Timestamp + Send + Sync>>);

impl WallClock {
    /// The clock that shows what `shows` returns, which is called often and must not block.
    pub fn new(shows: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(shows)))
    }

    /// What it shows.
    #[must_use]
    pub fn shows(&self) -> Timestamp {
        self.0.as_ref().map_or_else(system_wall, |shows| shows())
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "WallClock(set)" } else { "WallClock(system)" })
    }
}

/// What the clocks say.
pub(crate) fn now(wall: &WallClock) -> Now {
    Now { monotonic: monotonic(), wall: wall.shows() }
}

/// What the clock says that no jump of the calendar's moves.
pub(crate) fn monotonic() -> Instant {
    Instant(nanos(clock_gettime(MONOTONIC)))
}

fn system_wall() -> Timestamp {
    Timestamp(nanos(clock_gettime(ClockId::Realtime)))
}

/// A clock set before 1970 counts as 1970.
fn nanos(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_run() {
        let system = WallClock::default();
        let (first, second) = (now(&system), now(&system));
        assert!(second.monotonic >= first.monotonic);
        // 2020-01-01: a machine with a battery says something later.
        assert!(first.wall.0 > 1_577_836_800_000_000_000);
        assert_eq!(now(&WallClock::new(|| Timestamp(7))).wall, Timestamp(7));
    }
}
