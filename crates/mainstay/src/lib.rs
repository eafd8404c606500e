//! Mainstay keeps a stateful service running through crashes.
//!
//! You write the service once, as a deterministic state machine over bytes. Every replica of it
//! carries out the same requests in the same order, so that any of them can be lost: with 2f + 1
//! replicas, f may be, and no request that was answered is.
//!
//! # A service of one's own
//!
//! What there is to write is the state, and what a request does to it:
//!
//! ```
//! use mainstay::{Apply, Context};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Counter {
//!     value: i64,
//! }
//!
//! impl Apply for Counter {
//!     fn apply(&mut self, _: &Context, request: &[u8], reply: &mut Vec<u8>) {
//!         let request = String::from_utf8_lossy(request);
//!         if let Some(amount) = request.strip_prefix("add ").and_then(|text| text.parse().ok()) {
//!             self.value = self.value.wrapping_add(amount);
//!         }
//!         reply.extend(self.value.to_string().bytes());
//!     }
//! }
//! ```
//!
//! and a `main`, which makes a program with the commands of `mainstay` itself out of it:
//!
//! ```no_run
//! # use mainstay::{Apply, Context};
//! # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
//! # struct Counter;
//! # impl Apply for Counter {
//! #     fn apply(&mut self, _: &Context, _: &[u8], _: &mut Vec<u8>) {}
//! # }
//! use mainstay::{Lines, Plain};
//!
//! fn main() -> std::process::ExitCode {
//!     mainstay::run::<Plain<Counter>, Lines>()
//! }
//! ```
//!
//! `up` starts three replicas of it on this machine; `status` shows them; `replica` runs one of them
//! on a machine of its own. [`Lines`] lets clients talk to it a line at a time, so that `nc` will
//! do; Rust programs use the [`client`], which sends every request exactly once, whatever crashes.
//! The whole of this is `examples/counter.rs`.
//!
//! # What a service must keep to
//!
//! **Deterministic**: from equal states, equal requests under equal contexts give equal states and
//! equal replies, at every replica, on every run. So no clock (the decided time is in the
//! [`Context`]), no random number but [`Context::random`], no iteration over a `HashMap`, no
//! input or output, no floating-point formatting that differs between machines.
//!
//! **Total**: a malformed request gets a reply that says so. A panic stops this replica's executor;
//! it would stop every replica's, since all of them carry out the same request.
//!
//! # Beyond `Plain`
//!
//! [`Plain`] clones the state for a checkpoint. A large state implements [`Service`] itself and
//! hands out a [`Checkpoint`] that shares what does not change: `docs/services.md` shows how, and the
//! key-value store in `mainstay-kv` is an example. [`conformance::check`] tells a test whether a service
//! keeps to all of this. A client protocol of one's own is a [`Front`].
//!
//! # Where the guide goes on
//!
//! `docs/services.md` for checkpoints and what has to hold of them, `docs/client.md` for the client
//! library, `docs/operating.md` for folders, configuration and exit codes, `ARCHITECTURE.md` for the
//! life of a request, `README.md` for the key-value store that this workspace builds.

#![forbid(unsafe_code)]

/// The client library.
pub use mainstay_client as client;
/// The key-value store and its Redis protocol.
pub use mainstay_kv as kv;

pub use mainstay_cli::{Lines, run};
pub use mainstay_node::Front;
pub use mainstay_service::contract::Apply;
pub use mainstay_service::{
    Checkpoint, Context, Plain, QueryContext, RestoreError, Secret, Service, conformance,
};

/// The examples of the documents compile, and do what they say.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/services.md")]
    struct Services;
    #[doc = include_str!("../../../docs/client.md")]
    struct Client;
}
