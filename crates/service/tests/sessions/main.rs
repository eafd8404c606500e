//! Sessions from both ends: what replicas apply, what clients send.

#![forbid(unsafe_code)]

mod applier;
mod checkpoint;
mod client;
mod due;
mod expiry;
mod time;
mod twin;
mod world;
