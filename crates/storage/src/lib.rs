//! The state log on disk: segments, group commit, classification at start, identity; and checkpoints.
//!
//! Everything here is written against [`Disk`], so that the very same code runs on a real folder
//! and on the simulator's faulty one. The formats, the rules of classification and the failure cases
//! stand in docs/protocols/log.md and docs/protocols/checkpoints.md.
//!
//! | for | use |
//! |---|---|
//! | a folder of the operating system, locked | [`RealDisk`] |
//! | who the replica is, and whether it may vote | [`Identity`] |
//! | appending, syncing, reading back | [`Log`] |
//! | the state after a slot: written, handed out, fetched | [`Checkpoints`] |
//! | a folder that loses what was not synced, for tests | [`MemoryDisk`] |
//! | what every disk under a log must pass | [`conformance`] |
//! | fuzzing every decoder | [`decode_any`] |
//!
//! ```
//! use mainstay_model::{
//!     Ballot, ClusterId, ConfigurationId, GroupId, NoPlants, Record, RecordKind, ReplicaId, Slot,
//! };
//! use mainstay_storage::{Log, LogOptions, MemoryDisk};
//!
//! let disk = MemoryDisk::default();
//! let options = LogOptions::new(ClusterId(1), ReplicaId::default());
//! let (mut log, recovered) = Log::open(disk.clone(), options, NoPlants)?;
//! assert_eq!(recovered.promised, Ballot::ZERO);
//!
//! let ballot = Ballot { round: 1, leader: ReplicaId::default() };
//! log.append(&[Record {
//!     group: GroupId::FIRST,
//!     configuration: ConfigurationId(1),
//!     promised: ballot,
//!     decided_upto: Slot::NONE,
//!     kind: RecordKind::Promise,
//! }])?;
//! log.sync()?; // Only now may anybody hear of the promise.
//! drop(log);
//!
//! let (_, recovered) = Log::open(disk, options, NoPlants)?;
//! assert_eq!(recovered.promised, ballot);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod checkpoints;
pub mod conformance;
mod decode;
pub mod disk;
mod error;
mod group;
mod identity;
mod index;
mod layout;
mod log;
pub mod memory;
mod open;
mod options;
mod real;
mod scan;

pub use checkpoints::{
    CheckpointError, CheckpointOptions, CheckpointWriter, Checkpoints, Content, Hold, Incoming,
    Life, Partial,
};
pub use decode::decode_any;
pub use disk::{Disk, DiskFile};
pub use error::{AppendError, Damage, Meaning, OpenError, ReadError, SyncError};
pub use identity::{Durability, Identity, Style};
pub use log::Log;
pub use memory::MemoryDisk;
pub use options::{LogOptions, OnDamage};
pub use real::{RealDisk, RealFile, make_folder};
