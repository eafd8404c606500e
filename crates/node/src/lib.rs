//! The real world: runs the machines of Mainstay on sockets, disks and clocks.
//!
//! A node is three threads: the *protocol* thread owns the ordering machine, the failure detector,
//! every socket and the front; the *executor* owns the service; the *disk* thread owns the log.

#![forbid(unsafe_code)]

pub mod config;
pub mod error;
pub mod front;
pub mod sockets;
pub mod status;
pub mod stop;

pub use config::{Limits, NodeConfig};
pub use error::{ExitReport, NodeError};
pub use front::Front;
pub use sockets::Sockets;
pub use status::{
    ConfigurationStatus, MemberStatus, NodeStatus, ReplicaStatus, RoleName, StateName,
};
pub use stop::StopHandle;

use mainstay_model::Recovered;
use mainstay_service::Service;
use mainstay_storage::{Disk, Log};

/// Runs one replica until it is stopped or cannot go on, on the calling thread and two more. `log`
/// and `recovered` come from [`Log::open`]; `service` is the state of an empty log.
///
/// # Errors
/// [`NodeError`]; its `exit_code` is what the process should end with.
pub fn run<S: Service, F: Front, D: Disk>(
    config: &NodeConfig,
    sockets: Sockets,
    log: Log<D>,
    recovered: Recovered,
    service: S,
    front: F,
    stop: &StopHandle,
) -> Result<ExitReport, NodeError> {
    drop((sockets, log, recovered, service, front, stop.is_stopped()));
    Err(NodeError::Config(config.fault().unwrap_or_default()))
}
