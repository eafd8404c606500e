//! The contract of services, and everything that makes their requests happen exactly once.
//!
//! A user writes a [`Service`]: a deterministic state machine over bytes. The [`Applier`] owns it
//! together with the table of sessions and the decided time, and is what replicas apply decided
//! batches to; real replicas and simulated ones drive the same type. The other half of a session,
//! the one that gives out numbers and sends again until a reply is known, is [`ClientSession`].
//!
//! | file | holds |
//! |---|---|
//! | [`contract`] | [`Service`], [`Checkpoint`], [`Context`], [`Plain`] |
//! | [`command`] | [`Command`]: what stands in a batch, and its encoding |
//! | [`session`] | the table of sessions inside the replicated state |
//! | [`applier`] | [`Applier`]: sessions, time and service, applied as one |
//! | [`client_session`] | [`ClientSession`]: the client's half of a session, as a pure machine |

#![forbid(unsafe_code)]

pub mod applier;
pub mod client_session;
pub mod command;
pub mod contract;
pub mod session;

pub use applier::{Applied, Applier, ApplyError};
pub use client_session::ClientSession;
pub use command::Command;
pub use contract::{Checkpoint, Context, Plain, QueryContext, RestoreError, Service};
pub use session::{SessionLimits, SessionTable};
