//! What an operator may set about ordering; every relation between the values is checked.

use core::time::Duration;

/// Timing and bounds of one replica. All replicas of a group should use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How often a leader shows that it is alive.
    pub lead_interval: Duration,
    /// How long without a sign of the leader until it is suspected, and how long a leader goes on
    /// without hearing from a quorum.
    pub election_timeout: Duration,
    /// How long a leader that has work may show no progress until it is suspected.
    pub stall_timeout: Duration,
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
            stall_timeout: Duration::from_secs(3),
            clock_jump_max: Duration::from_secs(3600),
            resend_interval: Duration::from_millis(100),
            batching: Batching::Adaptive,
            window: Window::Adaptive,
            batch_requests_max: 4096,
            batch_bytes_max: 1 << 20,
            request_bytes_max: 65 << 20,
            inflight_bytes_max: 64 << 20,
            follower_bytes_max: 64 << 20,
            ahead_slots_max: 512,
            ahead_bytes_max: 64 << 20,
            queue_requests_max: 65_536,
            queue_bytes_max: 128 << 20,
            chunk_bytes: 1 << 20,
            window_bytes_max: 64 << 20,
            page_bytes_max: 1 << 20,
            deliver_bytes_max: 64 << 20,
        }
    }
}
