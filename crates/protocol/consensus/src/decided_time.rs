//! The leader's clock for the group, and what is known of it elsewhere.
//!
//! Time is decided: every batch carries the leader's, and the time at a slot is the larger of the
//! batch's and the one before. The leader's clock runs with its monotonic clock, slewed by at most a
//! tenth towards the lower median of the replicas' calendar clocks; it never stops and never goes
//! back. Only when an office is taken may it jump, forward, to the lower median of the clocks of those
//! who promised; a jump above a bound is not made, and `status` says so. The jump is judged once all
//! that was taken over is decided, against what the log and those who promised know of decided time.
//!
//! What a read shows of time is the leader's clock, up to a *ceiling* a second above the time of the
//! last decided entry. A new leader's clock starts no lower than the highest ceiling of what it takes
//! over, so that time which was shown never goes back.

use alloc::vec::Vec;
use core::time::Duration;

use mainstay_model::{Instant, Now, Timestamp, time::nanos};

/// By at most one part in so many the clock runs faster or slower than the monotonic one.
const SLEW: u64 = 10;
/// How far above the time of an entry its ceiling lies, in nanoseconds.
const CEILING: u64 = 1_000_000_000;
/// The latest time that may be shown under a decided entry of time `time`; zero where none has a time.
pub(crate) fn ceiling(time: Timestamp) -> Timestamp {
    if time == Timestamp(0) { time } else { Timestamp(time.0.saturating_add(CEILING)) }
}

/// From when on a tick is ordered for reads: before the ceiling is reached, or steady reads would wait.
pub(crate) fn wants_tick(time: Timestamp, clock: Timestamp) -> bool {
    clock.0 > time.0.saturating_add(CEILING / 2)
}

/// A clock that runs from a decided time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DecidedClock {
    time: Timestamp,
    at: Instant,
    jump: Jump,
}

/// What became of the jump that taking the office asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Jump {
    /// Not all that was taken over is decided.
    Unjudged,
    /// It was made, or none was asked for.
    Made,
    /// It was above the bound, by how much in all.
    Refused(Duration),
    /// It was above the bound, and an operator confirmed it.
    Confirmed,
}

/// A clock, as read when a message told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Reading {
    pub(crate) time: Timestamp,
    pub(crate) at: Instant,
}

impl Reading {
    /// What that clock shows now, if it runs evenly.
    pub(crate) fn shows(&self, now: Instant) -> Timestamp {
        Timestamp(self.time.0.saturating_add(nanos(now.since(self.at))))
    }
}

/// The lower median of what the clocks show: of two, the earlier.
pub(crate) fn lower_median(readings: impl Iterator<Item = Reading>, now: Instant) -> Timestamp {
    let mut shown: Vec<Timestamp> = readings.map(|reading| reading.shows(now)).collect();
    shown.sort_unstable();
    let middle = shown.len().saturating_sub(1) / 2;
    shown.get(middle).copied().unwrap_or_default()
}

impl DecidedClock {
    /// The clock of a candidate that takes office, where decided time is known to be `known`; zero if
    /// nobody knows of any. It stands as long as that is so, and jumps nowhere before it is judged.
    pub(crate) fn unjudged(known: Timestamp, now: Instant) -> Self {
        Self { time: known, at: now, jump: Jump::Unjudged }
    }

    pub(crate) fn is_judged(&self) -> bool {
        self.jump != Jump::Unjudged
    }

    /// All that was taken over is decided; no lower than `floor` may the clock start, and the
    /// calendar clocks show `median`.
    pub(crate) fn judge(
        &mut self,
        now: Now,
        median: Timestamp,
        floor: Timestamp,
        jump_max: Duration,
    ) {
        let known = self.read(now, median, floor);
        let jump = Duration::from_nanos(median.0.saturating_sub(known.0));
        // From nothing to the first time of all is no jump.
        if known == Timestamp(0) || jump <= jump_max {
            self.time = known.max(median);
            self.jump = Jump::Made;
        } else {
            self.jump = Jump::Refused(jump);
        }
    }

    /// Runs on to `now`, slewed towards `median`, and says what time it is. Never below `floor`, the
    /// highest time that was proposed.
    pub(crate) fn read(&mut self, now: Now, median: Timestamp, floor: Timestamp) -> Timestamp {
        let elapsed = nanos(now.monotonic.since(self.at));
        let due = self.time.0.saturating_add(elapsed);
        let slew = elapsed / SLEW;
        let time = match self.jump {
            Jump::Unjudged if self.time == Timestamp(0) => 0,
            Jump::Unjudged | Jump::Refused(_) => due,
            Jump::Made | Jump::Confirmed => {
                median.0.clamp(due - slew.min(due), due.saturating_add(slew))
            }
        };
        self.at = self.at.max(now.monotonic);
        self.time = Timestamp(time.max(self.time.0)).max(floor);
        self.time
    }

    /// The operator confirms the jump that was refused: it is made now, forward to `median`. Returns how
    /// far; nothing where it was confirmed before, `None` if none was refused.
    pub(crate) fn confirm(&mut self, median: Timestamp) -> Option<Duration> {
        let mut by = 0;
        if matches!(self.jump, Jump::Refused(_)) {
            by = median.0.saturating_sub(self.time.0);
            self.time = self.time.max(median);
            self.jump = Jump::Confirmed;
        }
        (self.jump == Jump::Confirmed).then_some(Duration::from_nanos(by))
    }

    /// The jump that was not made, if one was asked for.
    pub(crate) fn refused(&self) -> Option<Duration> {
        match self.jump {
            Jump::Refused(jump) => Some(jump),
            Jump::Unjudged | Jump::Made | Jump::Confirmed => None,
        }
    }

    /// What it showed when it was read last.
    pub(crate) fn reading(&self) -> Reading {
        Reading { time: self.time, at: self.at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn now(seconds: u64) -> Now {
        Now { monotonic: Instant(seconds * S), wall: Timestamp(0) }
    }

    fn reading(wall: u64) -> Reading {
        Reading { time: Timestamp(wall), at: Instant(0) }
    }

    /// A clock that was judged at once, in seconds.
    fn take_over(known: u64, median: u64, jump_max: Duration) -> DecidedClock {
        let mut clock = DecidedClock::unjudged(Timestamp(known * S), Instant(0));
        clock.judge(now(0), Timestamp(median * S), Timestamp(0), jump_max);
        clock
    }

    #[test]
    fn it_runs_before_it_is_judged_and_jumps_nowhere() {
        let median = Timestamp(9_000 * S);
        let hour = Duration::from_secs(3600);
        let mut clock = DecidedClock::unjudged(Timestamp(100 * S), Instant(0));
        assert_eq!(clock.read(now(10), median, Timestamp(0)), Timestamp(110 * S));
        assert!(clock.confirm(median).is_none() && !clock.is_judged());
        clock.judge(now(20), median, Timestamp(8_000 * S), hour);
        assert_eq!(clock.refused(), None, "what was taken over is later than what was known");
        assert_eq!(clock.read(now(20), median, Timestamp(0)), median);
        let mut first = DecidedClock::unjudged(Timestamp(0), Instant(0));
        assert_eq!(first.read(now(10), median, Timestamp(0)), Timestamp(0), "nobody knows");
        first.judge(now(20), median, Timestamp(0), Duration::ZERO);
        assert_eq!(first.read(now(20), median, Timestamp(0)), median, "the first time of all");
    }

    #[test]
    fn a_ceiling_lies_above_a_time_and_nothing_above_none() {
        assert_eq!(ceiling(Timestamp(0)), Timestamp(0));
        assert_eq!(ceiling(Timestamp(7)), Timestamp(S + 7));
        assert_eq!(ceiling(Timestamp(u64::MAX)), Timestamp(u64::MAX));
        assert!(!wants_tick(Timestamp(S), Timestamp(S + S / 2)));
        assert!(wants_tick(Timestamp(S), Timestamp(S + S / 2 + 1)), "before the ceiling");
    }

    #[test]
    fn of_two_clocks_the_earlier_counts_and_of_three_the_middle_one() {
        let median = |walls: &[u64]| lower_median(walls.iter().map(|w| reading(*w)), Instant(0));
        assert_eq!(median(&[7, 5]), Timestamp(5));
        assert_eq!(median(&[9, 1, 5]), Timestamp(5));
        assert_eq!(median(&[4, 3, 2, 1]), Timestamp(2));
        assert_eq!(median(&[]), Timestamp(0));
    }

    #[test]
    fn taking_over_jumps_forward_only_and_not_too_far() {
        let hour = Duration::from_secs(3600);
        let take = |last, median| take_over(last, median, hour);
        assert_eq!(take(100, 200).time, Timestamp(200 * S));
        assert_eq!(take(200, 100).time, Timestamp(200 * S));
        assert_eq!(take(0, 1_000_000).time, Timestamp(1_000_000 * S), "the first time of all");
        let far = take(100, 100 + 3601);
        assert_eq!(far.time, Timestamp(100 * S));
        assert_eq!(far.refused(), Some(Duration::from_secs(3601)));
    }

    #[test]
    fn a_refused_jump_is_made_once_an_operator_confirms_it() {
        let (last, median) = (Timestamp(100 * S), Timestamp(9_000 * S));
        let mut clock = take_over(100, 9_000, Duration::from_secs(60));
        assert_eq!(clock.read(now(10), median, Timestamp(0)), Timestamp(110 * S), "runs evenly");
        assert!(clock.confirm(Timestamp(9_010 * S)) > Some(Duration::ZERO));
        assert_eq!(clock.refused(), None);
        assert_eq!(clock.read(now(10), median, Timestamp(0)), Timestamp(9_010 * S));
        let again = clock.confirm(Timestamp(20_000 * S));
        assert_eq!(again, Some(Duration::ZERO), "told a second time");
        assert_eq!(clock.read(now(10), median, Timestamp(0)), Timestamp(9_010 * S), "jumps once");
        let mut calm = take_over(100, 100, Duration::from_secs(60));
        assert_eq!(calm.confirm(median), None, "nothing was refused");
        assert_eq!(calm.read(now(0), last, Timestamp(0)), last);
    }

    #[test]
    fn it_is_slewed_by_a_tenth_at_most_and_never_stops_or_goes_back() {
        let mut clock = take_over(1_000, 1_000, Duration::ZERO);
        let ahead = clock.read(now(10), Timestamp(5_000 * S), Timestamp(0));
        assert_eq!(ahead, Timestamp(1_011 * S));
        let behind = clock.read(now(20), Timestamp(0), Timestamp(0));
        assert_eq!(behind, Timestamp(1_020 * S));
        let near = clock.read(now(30), Timestamp(1_030 * S + S / 2), Timestamp(0));
        assert_eq!(near, Timestamp(1_030 * S + S / 2));
        let floor = clock.read(now(30), Timestamp(0), Timestamp(2_000 * S));
        assert_eq!(floor, Timestamp(2_000 * S));
    }
}
