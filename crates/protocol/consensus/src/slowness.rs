//! A leader that works, only badly (Chai 2009: a backup induces a change when the throughput falls
//! below a predefined value). A fixed value would take a quiet afternoon for a fault, so a leader is
//! measured against what the others could do without it, and only while there is work.
//!
//! A follower times how long ordering takes, from accepting a slot to knowing it as decided. What the
//! others could do instead follows from their disks and from the round trips between them, which probes
//! measure while there is work. If ordering takes several times that for several intervals in a row,
//! the follower finds its leader slow: it goes on following it, asks the others, and stands only if a
//! quorum finds the same. After any change nobody is found slow for a while, and
//! longer each time it was for this reason.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use mainstay_model::{Instant, Plants, ReplicaId};

use crate::estimate::Estimate;
use crate::message::{Body, Probe, ProbeReply};
use crate::replica::{Cx, Office, Replica};

/// The most times that the time of rest doubles.
const DOUBLINGS_MAX: u32 = 5;
/// How many orderings an interval must have timed to count, unless one took all of it.
const SAMPLES_MIN: u32 = 3;

/// What a follower knows of another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Other {
    /// The probe that measures, and when it left.
    asked: Option<(u64, Instant)>,
    trip: Estimate,
    disk: Duration,
}

/// How slow the leader is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Slowness {
    /// The present interval: since when, how many orderings were timed in it, and their sum.
    since: Instant,
    count: u32,
    sum: Duration,
    /// Bad intervals in a row.
    bad: u32,
    /// Nobody is found slow before this instant.
    rests_until: Instant,
    /// Changes in a row that were made for this.
    changes: u32,
    /// How often in a row this replica gave its office up for its own disk.
    pub(crate) disk_changes: u32,
    others: BTreeMap<u16, Other>,
}

/// How long nobody is found slow after a change: twice as long each time it was for this, since leading
/// itself may be what makes slow, and then no change helps.
pub(crate) fn rest(hold_off: Duration, changes: u32) -> Duration {
    hold_off * (1 << changes.min(DOUBLINGS_MAX))
}

impl Slowness {
    /// An ordering took so long.
    pub(crate) fn ordered(&mut self, took: Duration) {
        // A leader times its own ordering, too, for as long as it leads, and begins no interval.
        self.count = self.count.saturating_add(1);
        self.sum = self.sum.saturating_add(took);
    }

    fn begin_interval(&mut self, now: Instant) {
        (self.since, self.count, self.sum) = (now, 0, Duration::ZERO);
    }

    /// Nothing that is being timed says anything any more.
    fn begin_anew(&mut self, now: Instant) {
        self.begin_interval(now);
        for other in self.others.values_mut() {
            other.asked = None;
        }
    }

    /// The answer to a probe came.
    pub(crate) fn answered(&mut self, from: ReplicaId, m: &ProbeReply, now: Instant) {
        let other = self.others.entry(from.index).or_default();
        other.disk = m.disk;
        if let Some((_, at)) = other.asked.take_if(|(number, _)| *number == m.number) {
            other.trip.add(now.since(at));
        }
    }
}

impl<P: Plants> Replica<P> {
    /// Whether the leader that is followed works, but is found slow.
    pub(crate) fn finds_slow(&self, now: Instant) -> bool {
        matches!(self.office, Office::Follower)
            && self.election.leader.is_some()
            && self.slowness.bad >= self.settings.slow_leader.intervals
            && !self.learns(now)
    }

    /// Another leader: it is given time to show what it can do.
    pub(crate) fn give_time(&mut self, now: Instant) {
        let found_slow = self.slowness.bad >= self.settings.slow_leader.intervals;
        let slowness = &mut self.slowness;
        slowness.changes = if found_slow { slowness.changes + 1 } else { 0 };
        slowness.bad = 0;
        slowness.rests_until =
            now.after(rest(self.settings.slow_leader.hold_off, slowness.changes));
        slowness.begin_interval(now);
        self.latencies.forget_slot();
    }

    /// What is being timed took as long as a pause of this replica.
    pub(crate) fn forget_timed(&mut self, now: Instant) {
        self.slowness.begin_anew(now);
        self.latencies.begin_anew(now);
    }

    /// The leader showed itself: looks whether an interval is over, and what it was like.
    pub(crate) fn judge_speed(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        let rule = self.settings.slow_leader;
        if !self.votes || now < self.slowness.since.after(rule.interval) {
            return;
        }
        let waiting = self.latencies.waiting(now).unwrap_or_default();
        let (count, sum) = (self.slowness.count, self.slowness.sum);
        self.slowness.begin_interval(now);
        let worked = count >= SAMPLES_MIN || waiting >= rule.interval;
        if self.learns(now) {
            return;
        }
        if !worked {
            // Little to do says nothing against a leader; what was found gets old.
            self.slowness.bad = self.slowness.bad.saturating_sub(1);
            return;
        }
        let mean = sum / count.max(1);
        let takes = mean.max(waiting);
        let bound = self.without_leader(now).map(|could| could * rule.factor + rule.margin);
        let bad = bound.is_some_and(|bound| takes > bound);
        if bad && now >= self.slowness.rests_until {
            self.slowness.bad = self.slowness.bad.saturating_add(1);
        } else if !bad {
            self.slowness.bad = 0;
        }
        self.measure_trips(cx);
    }

    /// How long ordering would take without the present leader, if this replica led; `None` if that
    /// is not known, or there would be no quorum.
    fn without_leader(&self, now: Instant) -> Option<Duration> {
        let leader = self.election.leader?.leader;
        let peers = self.peers().filter(|peer| *peer != leader);
        let able = peers.filter(|peer| !self.election.is_suspected(*peer));
        let others = able.filter_map(|peer| {
            let other = self.slowness.others.get(&peer.index)?;
            Some((other.trip.usual()? + other.disk, peer.index))
        });
        let mut times: Vec<(Duration, u16)> = others.collect();
        times.push((self.latencies.disk(now), self.me.index));
        times.sort_unstable();
        self.configuration.quorum_at(times)
    }

    /// Asks the other followers for a sign, to see how far away they are.
    fn measure_trips(&mut self, cx: &mut Cx<'_>) {
        let Some(leader) = self.election.leader.map(|ballot| ballot.leader) else { return };
        let ballot = self.acceptor.promised;
        let peers: Vec<ReplicaId> = self.peers().filter(|peer| *peer != leader).collect();
        for peer in peers {
            let number = self.election.next_probe();
            let other = self.slowness.others.entry(peer.index).or_default();
            other.asked = Some((number, cx.now.monotonic));
            self.send(cx, peer, Body::Probe(Probe { number, ballot }));
        }
    }
}

#[cfg(test)]
mod tests {
    use mainstay_model::{Ballot, Epoch, Slot};

    use super::*;

    #[test]
    fn a_leader_that_leads_for_months_goes_on_counting() {
        let mut slowness = Slowness { count: u32::MAX, ..Slowness::default() };
        slowness.ordered(Duration::from_millis(1));
        assert_eq!(slowness.count, u32::MAX);
    }
    #[test]
    fn a_pause_is_no_round_trip() {
        let probed = |pauses: bool| {
            let asked = Some((7, Instant(0)));
            let mut slowness = Slowness::default();
            slowness.others.insert(1, Other { asked, ..Other::default() });
            let now = Instant(0).after(Duration::from_secs(5));
            if pauses {
                slowness.begin_anew(now);
            }
            let reply = ProbeReply {
                number: 7,
                hears_leader: true,
                ballot: Ballot::default(),
                decided_upto: Slot::NONE,
                disk: Duration::ZERO,
            };
            slowness.answered(
                ReplicaId { index: 1, epoch: Epoch { counter: 1, instance: 0 } },
                &reply,
                now,
            );
            slowness.others[&1].trip.usual()
        };
        assert!(probed(false).is_some());
        assert_eq!(probed(true), None);
    }
}
