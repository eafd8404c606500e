//! The state log on disk: segments, group commit, classification at start, identity.
//!
//! Everything here is written against [`Disk`], so that the very same code runs on a real folder
//! and on the simulator's faulty one.

pub mod disk;

pub use disk::{Disk, DiskFile};
