//! How fast things go here: how long ordering takes, how long the disk takes, and the time-outs that
//! follow from it. (Chai 2009 adjusts its one time-out to the observed latency of ordering; how is
//! not said.)
//!
//! One slot and one record are timed at a time, so that a sample costs nothing. Nothing is timed while
//! this replica catches up or fetches a checkpoint: what it then sees says nothing about the leader.

use alloc::collections::VecDeque;
use core::time::Duration;

use mainstay_model::{Instant, Mark, Plants, Slot};

use crate::estimate::Estimate;
use crate::passing::Long;
use crate::replica::Replica;

/// How many signs of life a leader may miss besides what ordering usually takes.
const LEAD_INTERVALS: u32 = 3;
/// How many times longer than usual a disk may take until it counts as standing still.
const DISK_PATIENCE: u32 = 4;
/// How many times longer than usual ordering may take until it counts as standing still.
const STALL_PATIENCE: u32 = 8;
/// For how many time-outs a replica that catches up may get nowhere until it doubts its leader as
/// any other does.
const LEARNING_PATIENCE: u32 = 4;

/// What was timed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Latencies {
    /// From accepting a slot here to knowing it as decided.
    ordering: Estimate,
    slot: Option<(Slot, Instant)>,
    /// From asking another replica to its answer: all there is to go by before anything was ordered.
    answers: Estimate,
    /// From writing a record to its being durable.
    disk: Estimate,
    mark: Option<(Mark, Instant)>,
    /// The highest long slot that was accepted and is not known as decided: nothing is timed that
    /// may wait for it.
    long_slot: Option<Slot>,
    /// Long records that are not durable.
    long_marks: VecDeque<(Mark, Long)>,
    /// Since when the disk has been owing something without making anything durable.
    owes: Option<Instant>,
    /// How far catching up or a transfer had come when it last moved, and when that was.
    learned: (u64, Instant),
}

impl Latencies {
    /// A value was accepted, or proposed, in `slot`.
    pub(crate) fn accepted(&mut self, slot: Slot, long: Long, now: Instant) {
        if long.is_long() {
            self.long_slot = self.long_slot.max(Some(slot));
            self.slot = None;
        } else if self.long_slot.is_none() {
            self.slot.get_or_insert((slot, now));
        }
    }

    /// Every slot up to here is known as decided. Returns how long the timed one took.
    pub(crate) fn decided(&mut self, upto: Slot, now: Instant) -> Option<Duration> {
        self.long_slot.take_if(|slot| *slot <= upto);
        let (_, since) = self.slot.take_if(|(slot, _)| *slot <= upto)?;
        let took = now.since(since);
        self.ordering.add(took);
        Some(took)
    }

    /// A question to another replica was answered after so long.
    pub(crate) fn answered(&mut self, took: Duration) {
        self.answers.add(took);
    }

    /// What is being timed says nothing any more.
    pub(crate) fn forget_slot(&mut self) {
        self.slot = None;
    }

    /// Nothing that is being timed says anything any more, and the disk has had no time yet to make
    /// durable what it owes.
    pub(crate) fn begin_anew(&mut self, now: Instant) {
        self.forget_slot();
        self.mark = None;
        self.owes = self.owes.map(|_| now);
    }

    /// How long the slot that is being timed has been waiting.
    pub(crate) fn waiting(&self, now: Instant) -> Option<Duration> {
        self.slot.map(|(_, since)| now.since(since))
    }

    /// Records were handed to the disk, with values that may be long.
    pub(crate) fn written(&mut self, mark: Mark, long: Long, now: Instant) {
        if long.is_long() {
            self.long_marks.push_back((mark, long));
            self.mark = None;
        } else if self.long_marks.is_empty() {
            self.mark.get_or_insert((mark, now));
        }
        self.owes.get_or_insert(now);
    }

    /// Everything up to `mark` is durable; `owes` tells whether more was written.
    pub(crate) fn durable(&mut self, mark: Mark, owes: bool, now: Instant) {
        while self.long_marks.pop_front_if(|(long, _)| *long <= mark).is_some() {}
        if let Some((_, since)) = self.mark.take_if(|(timed, _)| *timed <= mark) {
            self.disk.add(now.since(since));
        }
        self.owes = owes.then_some(now);
    }

    /// The disk had no room for the records from `from` on, and owes nothing more.
    pub(crate) fn unwritten(&mut self, from: Mark) {
        self.mark.take_if(|(timed, _)| *timed >= from);
        self.long_marks.retain(|(mark, _)| *mark < from);
        self.owes = None;
    }

    /// How long the disk has made nothing durable although it should; what is long has its time.
    pub(crate) fn disk_owes(&self, now: Instant) -> Duration {
        let long = self.long_marks.iter().map(|(_, long)| *long).reduce(Long::and);
        let time = long.map_or(Duration::ZERO, Long::time);
        self.owes.map_or(Duration::ZERO, |since| now.since(since)).saturating_sub(time)
    }

    /// Whether the disk is at work on something long and within its time.
    pub(crate) fn writes_long(&self, now: Instant) -> bool {
        !self.long_marks.is_empty() && self.disk_owes(now).is_zero()
    }

    /// How long the disk takes at present.
    pub(crate) fn disk(&self, now: Instant) -> Duration {
        self.disk.usual().unwrap_or_default().max(self.disk_owes(now))
    }
}

impl<P: Plants> Replica<P> {
    /// How long silence is nothing unusual at present. A failure detector beside this machine should
    /// suspect nobody for less: a suspicion counts at once.
    #[must_use]
    pub fn leader_timeout(&self) -> Duration {
        self.election_timeout()
    }

    /// How long without a sign of the leader until it is doubted: a few of its intervals and what
    /// ordering hardly ever exceeds, between the bounds that are set.
    pub(crate) fn election_timeout(&self) -> Duration {
        let settings = &self.settings;
        let seen = &self.latencies;
        let (takes, least) = match seen.ordering.at_most() {
            Some(ordering) => (ordering, settings.election_timeout_min),
            None => (seen.answers.at_most().unwrap_or_default(), settings.election_timeout),
        };
        let timeout = settings.lead_interval * LEAD_INTERVALS + takes;
        timeout.clamp(least, settings.election_timeout_max)
    }

    /// How long a leader that has work may show no progress.
    pub(crate) fn stall_timeout(&self) -> Duration {
        let ordering = self.latencies.ordering.at_most().unwrap_or_default();
        self.settings.stall_timeout.max(ordering.saturating_mul(STALL_PATIENCE))
    }

    /// How long a candidate has at its first try: it needs the disks of a quorum.
    pub(crate) fn standing_time(&self) -> Duration {
        let disk = self.latencies.disk.at_most().unwrap_or_default();
        self.election_timeout() + disk.min(self.settings.election_timeout_max)
    }

    /// How long the disk may make nothing durable until it counts as standing still.
    pub(crate) fn disk_patience(&self) -> Duration {
        let settings = &self.settings;
        let usual = self.latencies.disk.at_most().unwrap_or_default().saturating_mul(DISK_PATIENCE);
        let longest = settings.election_timeout_max.max(settings.disk_stall_timeout);
        usual.clamp(settings.disk_stall_timeout, longest)
    }

    /// Whether this replica fetches what it missed and gets on with it: what it then sees of the leader
    /// says little.
    pub(crate) fn learns(&self, now: Instant) -> bool {
        let (_, moved) = self.latencies.learned;
        let patience = self.election_timeout() * LEARNING_PATIENCE;
        (self.transfers() || self.catches_up()) && now < moved.after(patience)
    }

    /// The end of a step: what was being timed may have come about.
    pub(crate) fn take_time(&mut self, now: Instant) {
        let decided_upto = self.log.decided_upto;
        let stored = self.transfer.progress().map_or(0, |(_, stored, _)| stored);
        let learned = decided_upto.0.saturating_add(stored);
        if learned != self.latencies.learned.0 || !(self.transfers() || self.catches_up()) {
            self.latencies.learned = (learned, now);
        }
        if self.transfers() || self.catches_up() {
            return self.latencies.forget_slot();
        }
        if let Some(took) = self.latencies.decided(decided_upto, now) {
            self.slowness.ordered(took);
        }
    }
}
