//! The simulated world: runs the very machines of Mainstay in virtual time, under faults, and judges
//! what they did. A run is a function of its seed and of the code: the same again, event by event.
//!
//! | file | holds |
//! |---|---|
//! | [`world`], [`context`] | virtual time, the one queue of events, nodes; what a process may do |
//! | `connections` | between which processes connections stand, and when that is noticed |
//! | [`network`], [`disk`], [`clock`], [`process`] | what goes wrong, and how |
//! | [`fault`] | every fault by name; who may be damaged, so that nothing decided may be lost |
//! | [`division`] | directions in which nothing passes, or in which everything is late |
//! | [`plan`], [`kinds`] | from a seed to a world, clients and a schedule of faults; what is drawn from |
//! | [`drive`] | the adapter of each protocol: machine, log, applier and front in one process |
//! | [`workload`], [`registers`], [`wire`] | clients, their service, and how they speak |
//! | [`record`], [`counts`] | what is noted for the properties of `check`, which judge it; how often what happened |
//! | [`trace`] | one line an event, a column a replica, and a hash over all of it |
//! | [`meter`] | how much may happen at one instant and in a run, so that nothing hangs |
//! | [`mod@run`], [`many`] | one run; many of them |
//! | `panics` | what a panic of the code under test said |
//! | [`scenario`] | scripts by name, with the time by which there must be progress |
//! | [`planted`] | bugs planted on purpose, and how each is found |
//!
//! Between nodes pass encoded frames only, and of a process that ended nothing is left but the
//! blocks on its disk. `docs/simulator.md` tells how to run it and how to read a trace.

#![forbid(unsafe_code)]

pub mod clock;
mod connections;
pub mod context;
pub mod counts;
pub mod disk;
pub mod division;
pub mod drive;
pub mod fault;
pub mod kinds;
pub mod many;
pub mod meter;
pub mod network;
mod panics;
pub mod plan;
pub mod planted;
pub mod process;
pub mod record;
pub mod registers;
pub mod run;
pub mod scenario;
pub mod trace;
pub mod wire;
pub mod workload;
pub mod world;

pub use many::{Subject, Totals, explain, run_many};
pub use run::{RunOptions, RunReport, exit, run};
pub use scenario::{SCENARIOS, Scenario};
pub use world::Violation;
