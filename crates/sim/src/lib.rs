//! The simulated world: runs the very machines of Mainstay in virtual time under faults.

#![forbid(unsafe_code)]

pub mod clock;
pub mod disk;
pub mod drive;
pub mod fault;
pub mod network;
mod panics;
pub mod plan;
pub mod process;
pub mod record;
pub mod registers;
pub mod run;
pub mod trace;
pub mod wire;
pub mod workload;
pub mod world;

pub use run::{RunOptions, RunReport, run};
pub use world::Violation;
