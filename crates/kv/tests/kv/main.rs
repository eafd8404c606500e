//! The store and its front together, without a network.

mod commands;
mod conformance;
mod connections;
mod determinism;
mod documentation;
mod expiry;
mod golden;
mod server;
mod survival;
