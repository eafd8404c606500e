//! How the machines join the world: one adapter a protocol.

pub mod boot;
pub mod consensus;
pub mod front;
