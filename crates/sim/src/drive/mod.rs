//! How the machines join the world: one adapter a protocol.

pub mod consensus;
pub mod front;
