//! Addresses, time-outs and bounds.

use std::fmt;
use std::time::Duration;

use mainstay_model::ClusterId;
use mainstay_service::SessionLimits;

use crate::policy::ReplyPolicy;

/// What a client is told when it is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The client ports of the replicas, `host:port` each; best all of them, by index. A leader is
    /// found faster that way, but one that answers is enough.
    pub addresses: Vec<String>,
    /// The address to try first, such as the nearest; `None` draws one, so that the clients of a
    /// cluster do not all begin at the same replica.
    pub first: Option<usize>,
    /// The cluster; `None` takes the one that answers first, and no other from then on.
    pub cluster: Option<ClusterId>,
    /// Whose reply to a request counts.
    pub replies: ReplyPolicy,
    /// How long a request or query may take, with everything that is tried for it.
    pub timeout: Duration,
    /// How long connecting to one replica and greeting it may take.
    pub connect_timeout: Duration,
    /// How long one replica may leave everything unanswered until another is tried.
    pub patience: Duration,
    /// After this long without a request another session is opened before the next one: the one
    /// before may have been ended as idle. To be well below what the cluster allows a session.
    pub session_idle: Duration,
    /// The most requests in flight. Those beyond it wait here.
    pub window_max: usize,
    /// The most bytes of requests in flight.
    pub window_bytes_max: usize,
    /// The most requests and queries that have no outcome yet; one more is refused at once.
    pub asks_max: usize,
    /// The most bytes of these.
    pub asks_bytes_max: usize,
    /// The largest reply that is taken.
    pub reply_bytes_max: usize,
}

impl Settings {
    /// For the replicas with these client ports, with default time-outs and bounds.
    pub fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        Self {
            addresses: addresses.into_iter().map(Into::into).collect(),
            first: None,
            cluster: None,
            replies: ReplyPolicy::default(),
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(1),
            patience: Duration::from_secs(1),
            session_idle: SessionLimits::default().fresh_for(),
            window_max: 1024,
            window_bytes_max: 64 << 20,
            asks_max: 65_536,
            asks_bytes_max: 256 << 20,
            reply_bytes_max: 128 << 20,
        }
    }

    pub(crate) fn check(&self) -> Result<(), SettingsError> {
        let zero = [
            (self.addresses.len(), "addresses"),
            (self.window_max, "window_max"),
            (self.window_bytes_max, "window_bytes_max"),
            (self.asks_max, "asks_max"),
            (self.asks_bytes_max, "asks_bytes_max"),
            (self.reply_bytes_max, "reply_bytes_max"),
        ];
        let instant = [
            (self.timeout, "timeout"),
            (self.connect_timeout, "connect_timeout"),
            (self.patience, "patience"),
            (self.session_idle, "session_idle"),
        ];
        let empty = zero.iter().find(|(value, _)| *value == 0).map(|(_, name)| *name);
        let none = instant.iter().find(|(value, _)| value.is_zero()).map(|(_, name)| *name);
        empty.or(none).map_or(Ok(()), |name| Err(SettingsError { name }))
    }
}

/// A setting that must not be empty or zero, and is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    name: &'static str,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the setting '{}' is empty or zero; give it a value", self.name)
    }
}

impl std::error::Error for SettingsError {}
