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
    /// How many proposals may be open while a further batch fills; a full batch does not wait.
    pub pipeline: usize,
    /// The most requests in a batch.
    pub batch_requests_max: usize,
    /// The most bytes of requests in a batch (one larger request still makes a batch of its own).
    pub batch_bytes_max: usize,
    /// The most bytes of one request.
    pub request_bytes_max: usize,
    /// The most bytes of values proposed and not yet decided.
    pub inflight_bytes_max: usize,
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

impl Default for Settings {
    fn default() -> Self {
        Self {
            lead_interval: Duration::from_millis(40),
            election_timeout: Duration::from_millis(300),
            stall_timeout: Duration::from_secs(3),
            clock_jump_max: Duration::from_secs(3600),
            resend_interval: Duration::from_millis(100),
            pipeline: 4,
            batch_requests_max: 4096,
            batch_bytes_max: 1 << 20,
            request_bytes_max: 65 << 20,
            inflight_bytes_max: 64 << 20,
            queue_requests_max: 65_536,
            queue_bytes_max: 128 << 20,
            chunk_bytes: 1 << 20,
            window_bytes_max: 64 << 20,
            page_bytes_max: 1 << 20,
            deliver_bytes_max: 64 << 20,
        }
    }
}
