//! What one replica is told about itself, and the bounds it keeps.

use std::time::Duration;

use mainstay_model::{ClusterId, Configuration, ReplicaId};
use mainstay_service::{CheckpointInterval, SessionLimits};

use crate::address::PeerAddress;
use crate::clock::WallClock;

/// Everything a node has to know before it starts.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The cluster; nodes of other clusters are refused.
    pub cluster: ClusterId,
    /// Who this replica is. Must be listed in `configuration` at its own index.
    pub me: ReplicaId,
    /// The replicas that vote.
    pub configuration: Configuration,
    /// Whether this replica may vote; an amnesiac one may not.
    pub votes: bool,
    /// The peer port of every replica, by index; the own entry is not dialled.
    pub peers: Vec<PeerAddress>,
    /// Timing and bounds of the ordering machine; equal at all replicas.
    pub ordering: mainstay_consensus::Settings,
    /// Timing of the failure detector; equal at all replicas.
    pub detection: mainstay_detect::Settings,
    /// Bounds of the session table; equal at all replicas.
    pub sessions: SessionLimits,
    /// Bounds of this node alone.
    pub limits: Limits,
    /// The calendar clock.
    pub wall_clock: WallClock,
    /// After how much log checkpoints should be due; equal at all replicas. A leader lengthens it while
    /// the state is large or checkpoints are late.
    pub interval: CheckpointInterval,
    /// What the log keeps although a checkpoint covers it.
    pub keep: KeepSettings,
    /// What `status` warns of as long as the node runs, one sentence each.
    pub remarks: Vec<String>,
    /// Whether SIGTERM and SIGINT stop the node. Tests that run several nodes in one process say
    /// no and use a [`crate::StopHandle`].
    pub stop_on_signals: bool,
}

impl NodeConfig {
    /// A configuration with default timing and bounds, which stops on signals.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        me: ReplicaId,
        configuration: Configuration,
        peers: Vec<PeerAddress>,
    ) -> Self {
        Self {
            cluster,
            me,
            configuration,
            votes: true,
            peers,
            ordering: mainstay_consensus::Settings::default(),
            detection: mainstay_detect::Settings::default(),
            sessions: SessionLimits::default(),
            limits: Limits::default(),
            wall_clock: WallClock::default(),
            interval: CheckpointInterval::default(),
            keep: KeepSettings::default(),
            remarks: Vec::new(),
            stop_on_signals: true,
        }
    }

    /// Says in one sentence what is wrong with the values, if anything is.
    pub(crate) fn fault(&self) -> Option<String> {
        let replicas = self.configuration.replicas.len();
        if !self.configuration.lists(self.me) {
            return Some(format!(
                "replica {} is not listed in its own configuration {}",
                self.me, self.configuration.id
            ));
        }
        if self.peers.len() != replicas {
            return Some(format!(
                "{} peer addresses are given for {replicas} replicas; give one for each",
                self.peers.len()
            ));
        }
        if !self.interval.is_within_bounds() {
            let (min, max) = (CheckpointInterval::MIN, CheckpointInterval::MAX);
            return Some(format!(
                "checkpoints every {} requests or {} bytes are out of bounds: give {} to {} requests \
                 and {} to {} bytes",
                self.interval.requests,
                self.interval.bytes,
                min.requests,
                max.requests,
                min.bytes,
                max.bytes
            ));
        }
        self.ordering.fault().or_else(|| self.limits.fault())
    }
}

/// What the log keeps although a checkpoint covers it, in bytes of records; whole segments go, so it
/// may be up to a segment more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepSettings {
    /// For replicas that lag a little: they need not fetch a checkpoint then.
    pub lagging_bytes: u64,
    /// At most, while a replica fetches a checkpoint and will want what comes after it. Beyond that
    /// it goes on from a newer one.
    pub transfer_bytes: u64,
}

impl KeepSettings {
    /// No more than leaves room in a log of `bytes_max` for what lies between two checkpoints: a quarter
    /// of it, or half of it for a while.
    pub(crate) fn within(self, bytes_max: u64) -> Self {
        Self {
            lagging_bytes: self.lagging_bytes.min(bytes_max / 4),
            transfer_bytes: self.transfer_bytes.min(bytes_max / 2),
        }
    }
}

impl Default for KeepSettings {
    fn default() -> Self {
        Self { lagging_bytes: 128 << 20, transfer_bytes: 4 << 30 }
    }
}

/// Bounds of one node. Beyond each there is a clear error or back-pressure, never more memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most client connections at once; one more is told so and closed.
    pub clients_max: usize,
    /// The most connections on the peer port at once that have not said yet who they are.
    pub strangers_max: usize,
    /// The largest request of a client in bytes.
    pub request_bytes_max: usize,
    /// The most replies of one client, in bytes, that wait to be sent; beyond, no more of its commands
    /// are carried out. What it sends is read on up to `held_bytes_max`.
    pub unsent_bytes_max: usize,
    /// The most memory, in bytes, that is held for one client that has commands or replies open: what came
    /// of it, what is open, replies. Beyond, and where less than that is left of three quarters of
    /// `held_bytes_all_max`, nothing more of it is read.
    pub held_bytes_max: usize,
    /// The most memory, in bytes, that is held for all clients together. Near it those that hold most are
    /// closed.
    pub held_bytes_all_max: usize,
    /// The most bytes that wait to be sent to one peer; beyond, messages to it are dropped.
    pub peer_queue_bytes_max: usize,
    /// The most commands of one connection that wait for their outcome.
    pub pipeline_max: usize,
    /// The most numbered requests of this node's own session that are open, in count and bytes.
    pub window_max: usize,
    /// See `window_max`.
    pub window_bytes_max: usize,
    /// The most bytes that wait for the disk or for the executor before client sockets are left
    /// unread.
    pub backlog_bytes_max: usize,
    /// How long a client waits for the outcome of a command that was handed over, until it is told
    /// that the outcome is unknown.
    pub outcome_timeout: Duration,
    /// How long the group may be without a known leader until commands are refused at once.
    pub leaderless_timeout: Duration,
    /// How long a starting replica keeps commands waiting before it answers that it is loading.
    pub loading_timeout: Duration,
    /// How long connecting and saying hello may take.
    pub handshake_timeout: Duration,
    /// How long a client may take none of its replies, while it sends more than is read or after it was
    /// closed by a command, until the connection is given up.
    pub stalled_timeout: Duration,
    /// How long handing over and flushing may take at the end.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients_max: 20_000,
            strangers_max: 256,
            request_bytes_max: 64 << 20,
            unsent_bytes_max: 64 << 20,
            held_bytes_max: 256 << 20,
            held_bytes_all_max: 640 << 20,
            peer_queue_bytes_max: 192 << 20,
            pipeline_max: 4096,
            window_max: 16_384,
            window_bytes_max: 128 << 20,
            backlog_bytes_max: 128 << 20,
            outcome_timeout: Duration::from_secs(10),
            leaderless_timeout: Duration::from_secs(5),
            loading_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(2),
            stalled_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_millis(2500),
        }
    }
}

impl Limits {
    /// The most bytes of one client that were read and not understood: one request, and what the
    /// front's protocol puts around it.
    pub(crate) const fn input_bytes_max(&self) -> usize {
        self.request_bytes_max + (1 << 20)
    }

    fn fault(&self) -> Option<String> {
        let positive = [
            (self.clients_max, "clients_max"),
            (self.strangers_max, "strangers_max"),
            (self.request_bytes_max, "request_bytes_max"),
            (self.unsent_bytes_max, "unsent_bytes_max"),
            (self.held_bytes_max, "held_bytes_max"),
            (self.held_bytes_all_max, "held_bytes_all_max"),
            (self.pipeline_max, "pipeline_max"),
            (self.window_max, "window_max"),
            (self.backlog_bytes_max, "backlog_bytes_max"),
        ];
        if let Some((_, name)) = positive.iter().find(|(value, _)| *value == 0) {
            return Some(format!("the limit {name} is 0; give it at least 1"));
        }
        if self.window_bytes_max < self.request_bytes_max {
            return Some(format!(
                "the limit window_bytes_max ({}) is below request_bytes_max ({})",
                self.window_bytes_max, self.request_bytes_max
            ));
        }
        if self.peer_queue_bytes_max < self.request_bytes_max {
            return Some(format!(
                "the limit peer_queue_bytes_max ({}) is below request_bytes_max ({})",
                self.peer_queue_bytes_max, self.request_bytes_max
            ));
        }
        None
    }
}
