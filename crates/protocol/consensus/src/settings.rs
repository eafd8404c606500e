//! What an operator may set about ordering; every relation between the values is checked.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

/// Who tries first when there is no leader, and in which order the others wait; it never forbids
/// anyone to try.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LeaderPolicy {
    /// The lowest epoch, then the highest index (trusted rank of Lea 2013).
    #[default]
    TrustedRank,
    /// The replica whose index is the next round modulo the number of replicas (Chai 2009); a
    /// replica that stands takes the next round that is its own.
    Rotation,
}

/// When a leader that works is doubted for being slow. Judged in intervals with work: one is bad if
/// ordering took, in the mean, more than `factor` times what the others could do without the leader,
/// and `margin` more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlowLeader {
    /// How many times longer than the others could do it.
    pub factor: u32,
    /// How much longer at least.
    pub margin: Duration,
    /// How long an interval is.
    pub interval: Duration,
    /// How many bad ones in a row it takes.
    pub intervals: u32,
    /// How long after a leader change nobody is doubted for this; doubles with each change that it
    /// was the reason of.
    pub hold_off: Duration,
}

impl Default for SlowLeader {
    fn default() -> Self {
        Self {
            factor: 4,
            margin: Duration::from_millis(50),
            interval: Duration::from_millis(500),
            intervals: 4,
            hold_off: Duration::from_secs(5),
        }
    }
}

/// How a replica learns what was decided without it (Chai 2009, section 4.3). Both ways deal in
/// pages of [`Settings::page_bytes_max`], one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CatchUpPolicy {
    /// On a gap, one replica is asked, then the next; the leader last (the source asks the leader:
    /// "primary-based query").
    Query,
    /// Every interval all are asked, or told how far this replica is if it knows of no gap
    /// ("multicasting-based query", 100 ms). Who answers first gives the pages that follow.
    Multicast {
        /// The time between two questions.
        interval: Duration,
    },
}

impl CatchUpPolicy {
    /// [`CatchUpPolicy::Multicast`] with the interval of the source.
    pub const MULTICAST: Self = Self::Multicast { interval: Duration::from_millis(100) };
}

/// Timing and bounds of one replica. All replicas of a group should use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How often a leader shows that it is alive.
    pub lead_interval: Duration,
    /// How long without a sign of the leader until it is suspected, and how long a leader goes on
    /// without hearing from a quorum, as long as no ordering has been timed. Afterwards it follows
    /// what ordering takes, between the two bounds below.
    pub election_timeout: Duration,
    /// The least that it may become.
    pub election_timeout_min: Duration,
    /// The most that it may become.
    pub election_timeout_max: Duration,
    /// How long a leader that has work may show no progress until it is suspected, at least.
    pub stall_timeout: Duration,
    /// How long a leader's disk may make nothing durable until it hands over, at least.
    pub disk_stall_timeout: Duration,
    /// When a leader is too slow.
    pub slow_leader: SlowLeader,
    /// Who tries first.
    pub leader_policy: LeaderPolicy,
    /// How far the decided time may jump forward when an office is taken.
    pub clock_jump_max: Duration,
    /// How long until an unanswered message is sent again.
    pub resend_interval: Duration,
    /// When requests become a proposal.
    pub batching: Batching,
    /// How many proposals may be open at once.
    pub window: Window,
    /// The most requests in a batch.
    pub batch_requests_max: usize,
    /// The most bytes of requests in a batch (one larger request still makes a batch of its own).
    pub batch_bytes_max: usize,
    /// From how many bytes on a value is long: it takes a time of its own, which is no measure of
    /// anything else. Above any batch of short requests.
    pub long_value_bytes: usize,
    /// The most bytes of one request.
    pub request_bytes_max: usize,
    /// The most bytes of values proposed and not yet decided.
    pub inflight_bytes_max: usize,
    /// The most bytes of proposals on their way to one follower that it has not acknowledged; one
    /// larger proposal is sent by itself.
    pub follower_bytes_max: usize,
    /// How many slots, and how many bytes of them, a leader proposes ahead of what a quorum and it
    /// itself have applied; what comes then waits.
    pub ahead_slots_max: u64,
    /// See `ahead_slots_max`.
    pub ahead_bytes_max: usize,
    /// The most requests and bytes of them that wait to be proposed.
    pub queue_requests_max: usize,
    /// See `queue_requests_max`.
    pub queue_bytes_max: usize,
    /// The length of a piece of a checkpoint that is fetched; the last one has what is left. The same
    /// at all replicas of a group.
    pub chunk_bytes: u32,
    /// The most bytes of decided values kept in memory for replicas that lag a little.
    pub window_bytes_max: usize,
    /// The most bytes of values in one answer to a replica that lags, or in one page of a promise.
    pub page_bytes_max: usize,
    /// The most bytes of values handed to the executor that it has not yet applied.
    pub deliver_bytes_max: usize,
    /// How it catches up.
    pub catch_up: CatchUpPolicy,
    /// The most bytes a second that a replica fetches of checkpoints, from all donors together; as
    /// many as there is room for if `None`. Doubles whenever the group outruns a transfer.
    pub transfer_bytes_per_second: Option<u64>,
    /// How long a transfer waits for the next checkpoint, if that is near; zero for never (Chai
    /// 2009, section 4.4.6).
    pub checkpoint_wait_max: Duration,
}

/// When requests become a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Batching {
    /// As soon as the send window has room: a request waits only while proposals are open, and a
    /// batch holds whatever has come meanwhile.
    Adaptive,
    /// As in Chai 2009, section 4.1: once a batch is full, or its time is over. It never holds two
    /// requests of one client; those without a name count as one client's.
    Fixed {
        /// How many requests fill a batch.
        requests: usize,
        /// How long a batch fills at most.
        wait: Duration,
    },
}

/// How many proposals may be open at once; never more than the configuration's α.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// As many as are under way without waiting for one another, as far as the latency of ordering
    /// tells (Brakmo and Peterson, "TCP Vegas", 1995); at least four.
    Adaptive,
    /// So many.
    Fixed(usize),
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lead_interval: Duration::from_millis(40),
            election_timeout: Duration::from_millis(300),
            election_timeout_min: Duration::from_millis(300),
            election_timeout_max: Duration::from_secs(3),
            stall_timeout: Duration::from_secs(3),
            disk_stall_timeout: Duration::from_millis(500),
            slow_leader: SlowLeader::default(),
            leader_policy: LeaderPolicy::TrustedRank,
            clock_jump_max: Duration::from_secs(3600),
            resend_interval: Duration::from_millis(100),
            batching: Batching::Adaptive,
            window: Window::Adaptive,
            batch_requests_max: 4096,
            batch_bytes_max: 1 << 20,
            long_value_bytes: 2 << 20,
            request_bytes_max: 65 << 20,
            inflight_bytes_max: 64 << 20,
            follower_bytes_max: 64 << 20,
            ahead_slots_max: 512,
            ahead_bytes_max: 64 << 20,
            queue_requests_max: 65_536,
            queue_bytes_max: 128 << 20,
            chunk_bytes: 256 << 10,
            window_bytes_max: 64 << 20,
            page_bytes_max: 256 << 10,
            deliver_bytes_max: 64 << 20,
            catch_up: CatchUpPolicy::Query,
            transfer_bytes_per_second: None,
            checkpoint_wait_max: Duration::from_secs(1),
        }
    }
}

impl Settings {
    /// Says in one sentence which values do not fit together and what to do about it; `None` where all
    /// do. A time-out below what it waits for makes a group change leaders for ever.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let slow = &self.slow_leader;
        let four_shows = self.lead_interval * 4;
        let (least, first) = (self.election_timeout_min, self.election_timeout);
        let all = slow.interval * slow.intervals;
        let bounds = [
            (four_shows, "four times lead_interval", least, "election_timeout_min"),
            (self.resend_interval, "resend_interval", least, "election_timeout_min"),
            (least, "election_timeout_min", first, "election_timeout"),
            (first, "election_timeout", self.election_timeout_max, "election_timeout_max"),
            (first, "election_timeout", self.stall_timeout, "stall_timeout"),
            (four_shows, "four times lead_interval", self.disk_stall_timeout, "disk_stall_timeout"),
            (four_shows, "four times lead_interval", slow.interval, "slow_leader.interval"),
            (all, "slow_leader.intervals of them", slow.hold_off, "slow_leader.hold_off"),
        ];
        for (low, low_name, high, high_name) in bounds {
            if low > high {
                return Some(format!(
                    "the setting {high_name} is {high:?}, and {low_name} is {low:?}: give \
                     {high_name} at least that"
                ));
            }
        }
        if self.lead_interval.is_zero() || self.resend_interval.is_zero() {
            return Some("lead_interval and resend_interval must not be 0; give them 1 ms".into());
        }
        if slow.factor < 2 || slow.intervals == 0 {
            return Some(
                "slow_leader.factor must be at least 2 and slow_leader.intervals at least 1, or \
                 leaders change for nothing"
                    .into(),
            );
        }
        None
    }
}
