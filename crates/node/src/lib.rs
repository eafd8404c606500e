//! The real world: runs the machines of Mainstay on sockets, disks and clocks.
//!
//! A node is five threads. The *protocol* thread owns the ordering machine, the failure detector,
//! every socket and the front: it reads all that is ready, steps the machines, and writes. The
//! *disk* thread owns the log: it appends all that is queued with one write and syncs once. The
//! *executor* thread owns the service with its sessions. The *checkpoint* thread writes the states that
//! the executor hands out, and the *transfer* thread gives and fetches checkpoints. Between them are
//! queues bounded in bytes, that of transfers in pieces, with whole batches in them;
//! `docs/decisions/0004-node-threads.md` says why it is like this.
//!
//! | file | holds |
//! |---|---|
//! | [`front`] | how a client protocol plugs in |
//! | [`config`], [`error`], [`stop`], [`sockets`] | how a node starts and ends |
//! | [`lobby`] | who comes before the log is read |
//! | [`operate`] | what an operator tells the group, and how to tell it |
//! | [`status`], `report` | what a replica tells about itself, and how to ask it |
//! | [`store`] | what stands in the folder: log and checkpoints, brought together |
//! | `run` | starts the threads and waits for their end |
//! | `node` | the protocol thread and its turns |
//! | `effects`, `news` | what the machine asks for; what the other threads tell |
//! | `stretch` | how far apart checkpoints should be |
//! | `checkpointing` | checkpoints and their transfer as the protocol thread sees them |
//! | `machines` | the machines side by side |
//! | `links` | connections that this node opens, one to each peer |
//! | `strangers`, `greet`, `serve`, `connection` | connections that others open |
//! | `front_clients`, `pipeline`, `front_session` | the front's clients and their session |
//! | `native_clients` | clients of the native protocol |
//! | `native_watches` | those that watch a session at several replicas |
//! | `disk`, `executor`, `checkpointer`, `transfers`, `threads`, `queue` | the other threads, and the way to them |
//! | `restart` | the first state of the executor |
//! | `stream`, `clock`, `system`, `wire` | bytes, clocks, the process, the node's own frames |

#![forbid(unsafe_code)]

mod account;
mod address;
mod behind;
mod checkpointer;
mod checkpointing;
mod claims;
mod clock;
pub mod config;
mod connection;
mod disk;
pub mod effects;
pub mod error;
mod executor;
pub mod front;
mod front_clients;
mod front_session;
mod greet;
mod links;
pub mod lobby;
mod long_frames;
mod machines;
mod native_clients;
mod native_watches;
mod news;
mod node;
pub mod operate;
mod overdue;
mod pipeline;
mod queue;
mod report;
mod restart;
mod restoring;
mod run;
mod said;
mod serve;
pub mod sockets;
pub mod status;
pub mod stop;
pub mod store;
mod strangers;
mod stream;
mod stretch;
mod system;
mod threads;
mod transfers;
mod wire;

pub use address::PeerAddress;
pub use clock::WallClock;
pub use config::{KeepSettings, Limits, NodeConfig};
pub use error::{ExitReport, NodeError};
pub use front::Front;
pub use lobby::Lobby;
pub use run::run;
pub use sockets::Sockets;
pub use status::{
    ConfigurationStatus, MemberStatus, NodeStatus, ReplicaStatus, RoleName, StateName,
    TransferStatus,
};
pub use stop::StopHandle;
pub use store::{Store, StoreError};
