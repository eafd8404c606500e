//! The state log on disk: segments, group commit, classification at start, identity.
//!
//! Everything here is written against [`Disk`], so that the very same code runs on a real folder
//! and on the simulator's faulty one.

#![forbid(unsafe_code)]

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

pub use decode::decode_any;
pub use disk::{Disk, DiskFile};
pub use error::{AppendError, Damage, Meaning, OpenError, ReadError, SyncError};
pub use identity::{Durability, Identity, Style};
pub use log::Log;
pub use memory::MemoryDisk;
pub use options::{LogOptions, OnDamage};
pub use real::{RealDisk, RealFile, make_folder};
