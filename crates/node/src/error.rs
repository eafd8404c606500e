//! How a node ends.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use mainstay_model::Slot;

/// A node that ended as it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitReport {
    /// The last slot that was applied here.
    pub applied: Slot,
    /// Whether everything handed over before the end was flushed in time.
    pub flushed: bool,
}

/// Why a node did not start, or ended by itself. The sentence says what to do.
#[derive(Debug)]
pub enum NodeError {
    /// The configuration contradicts itself.
    Config(String),
    /// A port could not be taken.
    Listen {
        /// Which port: `peer` or `client`.
        port: &'static str,
        /// Which address.
        address: SocketAddr,
        /// What the operating system says.
        error: io::Error,
    },
    /// A record could not be written or synced: final, since nothing may be assumed about it.
    Disk {
        /// Which file and why.
        what: String,
    },
    /// A record that must be there could not be read back: damage under a running replica.
    Damaged {
        /// Which file, where and why.
        what: String,
    },
    /// There is no state to go on from: checkpoints cannot be restored, and the log before them is gone.
    NoState {
        /// Which, why, and what to do.
        what: String,
    },
    /// The operating system refused something a node cannot do without.
    System {
        /// What it was asked for.
        what: &'static str,
        /// What it says.
        error: io::Error,
    },
    /// A thread of the node ended by a panic: a broken invariant.
    Panic(&'static str),
}

/// What a node cannot do without was refused.
pub(crate) const fn system_failed(what: &'static str) -> impl Fn(io::Error) -> NodeError + Copy {
    move |error| NodeError::System { what, error }
}

impl NodeError {
    /// The exit code of a process that ends with this error: 1 failed for a reason that may pass, 2
    /// configuration, 3 damaged data, 4 stopped for safety.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 2,
            // Who may not take the port now may not later either; whatever else holds it may let go.
            Self::Listen { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => 2,
            Self::Listen { .. } => 1,
            Self::Damaged { .. } | Self::NoState { .. } => 3,
            Self::Disk { .. } => 4,
            Self::System { .. } | Self::Panic(_) => 1,
        }
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(fault) => write!(f, "the configuration cannot be used: {fault}"),
            Self::Listen { port, address, error } if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "the {port} port {address} is taken by another process; stop that process or \
                     choose another port"
                )
            }
            Self::Listen { port, address, error } => {
                write!(f, "the {port} port {address} could not be opened: {error}")
            }
            Self::Disk { what } => write!(
                f,
                "the log could not be written, so this replica stops before it promises anything \
                 it may not keep: {what}"
            ),
            Self::Damaged { what } => write!(
                f,
                "a decided record could not be read back from the log, so this replica stops: \
                 {what}; what starting it again says about the damage tells what to do"
            ),
            Self::NoState { what } => {
                write!(f, "this replica has no state to go on from, so it stops: {what}")
            }
            Self::System { what, error } => write!(f, "{what} failed: {error}"),
            Self::Panic(thread) => write!(
                f,
                "the {thread} thread ended by a panic, which its message above names; start the \
                 replica again and report the message"
            ),
        }
    }
}

impl std::error::Error for NodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Listen { error, .. } | Self::System { error, .. } => Some(error),
            _ => None,
        }
    }
}
