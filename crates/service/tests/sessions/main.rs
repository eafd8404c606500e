//! Sessions from both ends: what replicas apply, what clients send.

#![forbid(unsafe_code)]

mod applier;
mod checkpoint;
mod client;
mod time;
mod twin;
mod world;
