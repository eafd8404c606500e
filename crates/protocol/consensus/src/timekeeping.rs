//! How replicas keep the group's time: what they know of it, when a leader's clock is judged, when it
//! orders a tick, and what a read shows.

use alloc::vec::Vec;
use core::time::Duration;

use mainstay_model::{Instant, Now, Plant, Plants, Slot, Timestamp, Value};

use crate::decided_time::{Reading, ceiling, lower_median, wants_tick};
use crate::replica::{Cx, Office, Replica};

/// A tick is not looked for more often than this.
const TICK_MIN: Duration = Duration::from_millis(1);
/// A clock that is off by less than this is no cause for a warning.
const OFF_MIN: Duration = Duration::from_secs(10);
/// From how many nanoseconds on it matters that the leader's clock is not where it was expected.
const HEARD_OFF_MIN: u64 = 1_000_000;

/// A calendar clock that is not where the others are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOff {
    /// Whose, by index.
    pub replica: u16,
    /// Whether it is ahead of the lower median of the clocks, or behind it.
    pub ahead: bool,
    /// By how much.
    pub by: Duration,
}

impl<P: Plants> Replica<P> {
    /// What this replica knows decided time to be now: no earlier than the ceiling of any entry it
    /// has seen, and the clock of the leader that it heard last, run on. Zero if it knows nothing.
    pub(crate) fn known_time(&self, now: Instant) -> Timestamp {
        let of_log = self.ceiling_of_log();
        if self.plants.has(Plant::IdleTimeForgotten) {
            return of_log;
        }
        of_log.max(self.heard_clock(now))
    }

    /// The latest time that may have been shown under anything in the log.
    fn ceiling_of_log(&self) -> Timestamp {
        let ignored = self.plants.has(Plant::CeilingIgnored);
        if ignored { self.log.time } else { ceiling(self.log.time) }
    }

    /// What time it is for the group as far as this replica knows, and no later than it is: decided time,
    /// or the leader's clock as it was heard last. For status and counters.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        let clock = match &self.office {
            Office::Leader(leader) => Some(leader.clock.reading()),
            Office::Follower | Office::Candidate(_) => self.leader_clock,
        };
        self.log.decided_time.max(clock.map_or(Timestamp(0), |clock| clock.time))
    }

    /// The clock of the leader that was heard last, run on; zero if none was.
    fn heard_clock(&self, now: Instant) -> Timestamp {
        self.leader_clock.map_or(Timestamp(0), |clock| clock.shows(now))
    }

    /// A leader told what its clock shows. What runs on here is set anew only where that makes a
    /// difference.
    pub(crate) fn hear_clock(&mut self, told: Timestamp, now: Instant) {
        let off = self.heard_clock(now).0.abs_diff(told.0);
        if told > Timestamp(0) && off >= HEARD_OFF_MIN {
            self.leader_clock = Some(Reading { time: told, at: now });
        }
    }

    /// What a leader tells of its clock, in whole milliseconds; zero while nobody knows of any time.
    pub(crate) fn clock_to_tell(&mut self, now: Now) -> Timestamp {
        let time = self.decided_now(now);
        Timestamp(time.0 - time.0 % 1_000_000)
    }

    /// Whoever led remembers its own clock.
    pub(crate) fn remember_own_clock(&mut self) {
        if let Office::Leader(leader) = &self.office {
            let Reading { time, at } = leader.clock.reading();
            self.hear_clock(time, at);
        }
    }

    /// Once all that was taken over is decided, the leader's clock is raised to it and may jump.
    pub(crate) fn judge_clock(&mut self, now: Now) {
        let floor = if self.plants.has(Plant::ClockNotRaised) {
            Timestamp(0)
        } else {
            self.ceiling_of_log()
        };
        let jump_max = self.settings.clock_jump_max;
        let decided_upto = self.log.decided_upto;
        let Office::Leader(leader) = &mut self.office else { return };
        if !leader.clock.is_judged() && leader.took_over(decided_upto) {
            let median = leader.median(now);
            leader.clock.judge(now, median, floor, jump_max);
        }
    }

    /// What time it is for the group, as its leader's clock has it.
    pub(crate) fn decided_now(&mut self, now: Now) -> Timestamp {
        let Office::Leader(leader) = &mut self.office else { return self.log.time };
        let median = leader.median(now);
        leader.clock.read(now, median, leader.time)
    }

    /// In an idle group nothing carries the time on: when the service wants it, or a read is about to
    /// be shown a time beyond what may be shown, an empty batch does.
    pub(crate) fn order_tick(&mut self, cx: &mut Cx<'_>) {
        if let Office::Leader(leader) = &mut self.office {
            // Also where nothing is waited for any more: a moment that nobody looks at stays in the past.
            leader.tick_at = None;
        }
        if !self.leads() {
            return;
        }
        let time = self.decided_now(cx.now);
        let window = self.log.decided_upto.0 + self.configuration.alpha;
        // For reads alone the reserve is left to others, unless what was shown before is not known.
        let may_show = self.quorum_has_room() || self.log.decided_time < self.log.time;
        let asked = may_show && self.reads_wait() && !self.plants.has(Plant::CeilingIgnored);
        let decided_time = self.log.decided_time;
        let Office::Leader(leader) = &mut self.office else { return };
        if !leader.may_propose() {
            return;
        }
        let wake = self.wake.filter(|wake| leader.time < *wake);
        if wake.is_some_and(|wake| wake <= time)
            || (asked && wants_tick(leader.time.max(decided_time), time))
        {
            if leader.next_slot.0 <= window {
                let slot = leader.next_slot;
                // Without requests nobody else looks how far all are, and what is applied stays noted.
                self.keeps_pace(cx.now.monotonic);
                self.propose(cx, slot, Value::no_op(time));
            }
        } else if let Some(wake) = wake {
            let wait = Duration::from_nanos(wake.0 - time.0);
            leader.tick_at = Some(cx.now.monotonic.after(wait.max(TICK_MIN)));
        }
    }

    /// The slot after which a read that has just arrived may be answered, and what it shows of time: the
    /// clock, as far as an entry allows. With something due, or past that, it is the slot of the tick;
    /// `None` while that cannot be proposed. To be told once the slot is decided.
    pub(crate) fn read_slot(&mut self, now: Now) -> Option<(Slot, Timestamp)> {
        let clock = self.decided_now(now);
        let Office::Leader(leader) = &self.office else { return None };
        let decided = (self.log.decided_upto, self.log.decided_time);
        let proposed = (leader.highest_proposed().max(decided.0), leader.time.max(decided.1));
        if self.plants.has(Plant::CeilingIgnored) {
            return Some((decided.0, clock));
        }
        let due = |time: Timestamp| self.wake.is_some_and(|wake| time < wake && wake <= clock);
        let shown = |(slot, time): (Slot, Timestamp)| (slot, clock.min(ceiling(time)));
        if due(decided.1) {
            return (!due(proposed.1)).then(|| shown(proposed));
        }
        if clock <= ceiling(decided.1) || clock > ceiling(proposed.1) {
            // No tick could be ordered in the second case: what is shown stands still.
            let is_exact = clock <= ceiling(decided.1) || decided.1 >= self.log.time;
            return is_exact.then(|| shown(decided));
        }
        Some(shown(proposed))
    }

    /// The calendar clocks that are off, as far as a leader hears of them.
    #[must_use]
    pub fn clocks_off(&self, now: Now) -> Vec<ClockOff> {
        let Office::Leader(leader) = &self.office else { return Vec::new() };
        let timeout = self.election_timeout();
        let heard =
            leader.peers.iter().filter(|(_, peer)| now.monotonic < peer.heard_at.after(timeout));
        let peers = heard.filter_map(|(index, peer)| Some((*index, peer.reading?)));
        let own = (self.me.index, Reading { time: now.wall, at: now.monotonic });
        let readings: Vec<(u16, Reading)> = peers.chain([own]).collect();
        let median = lower_median(readings.iter().map(|(_, reading)| *reading), now.monotonic);
        let off = readings.into_iter().map(|(replica, reading)| {
            let shows = reading.shows(now.monotonic);
            let by = Duration::from_nanos(shows.0.abs_diff(median.0));
            ClockOff { replica, ahead: shows > median, by }
        });
        off.filter(|off| off.by >= OFF_MIN).collect()
    }
}
