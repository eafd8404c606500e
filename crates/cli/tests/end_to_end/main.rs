//! Real processes, real disks, real clients, real faults.
//!
//! Each history that clients saw is checked for linearizability, and clients of our own count what
//! is lost or done twice.

mod bad_checkpoints;
mod bad_input;
mod batching;
mod checkpoints;
mod connect;
mod crashes;
mod disks;
mod expiry;
mod hand_over;
mod large_values;
mod leader_change;
mod load;
mod pauses;
mod pipelines;
mod two_processes;
#[path = "../world/mod.rs"]
#[allow(dead_code, reason = "the example `failover` measures with the rest")]
mod world;
