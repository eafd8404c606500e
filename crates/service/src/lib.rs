//! The contract of services, and everything that makes their requests happen exactly once.
//!
//! A user writes a [`Service`]: a deterministic state machine over bytes. The [`Applier`] owns it
//! together with the table of sessions and the decided time, and is what replicas apply decided
//! batches to; real replicas and simulated ones drive the same type. The other half of a session,
//! the one that gives out numbers and sends again until a reply is known, is [`ClientSession`].
//!
//! A service of one's own, as its user writes it:
//!
//! ```
//! use mainstay_service::{Apply, Context, Plain};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Counter(u64);
//!
//! impl Apply for Counter {
//!     fn apply(&mut self, _: &Context, request: &[u8], reply: &mut Vec<u8>) {
//!         if request == b"add" {
//!             self.0 += 1;
//!         }
//!         reply.extend_from_slice(self.0.to_string().as_bytes());
//!     }
//! }
//!
//! // What a replica does with it, for two decided slots: a client registers and asks.
//! use mainstay_model::{Batch, NoPlants, Nonce, RequestNumber, SessionId, Slot, Timestamp};
//! use mainstay_service::{Applied, Applier, Command};
//!
//! let mut applier = Applier::new(Plain(Counter(0)), Default::default(), NoPlants);
//! let register = Command::Register { nonce: Nonce(1) };
//! let session = SessionId { slot: Slot(1), position: 0 };
//! let (number, acknowledged_upto) = (RequestNumber(1), RequestNumber(0));
//! let add = Command::Request { session, number, acknowledged_upto, body: "add".into() };
//!
//! let mut applied = Vec::new();
//! for (slot, command) in (1..).zip([&register, &add, &add]) {
//!     let batch = Batch { time: Timestamp(slot), requests: vec![command.encode()] };
//!     applier.apply(Slot(slot), &batch.encode(), &mut applied)?;
//! }
//! // The second "add" is the first one over again: it is answered, and not carried out.
//! let reply = "1".into();
//! assert_eq!(applied[2], Applied::Replied { session, number, reply, repeated: true });
//! # Ok::<(), mainstay_service::ApplyError>(())
//! ```
//!
//! | file | holds |
//! |---|---|
//! | [`contract`] | [`Service`], [`Checkpoint`], [`Context`], [`Plain`] |
//! | [`conformance`] | whether a service of one's own keeps to its contract |
//! | [`command`] | [`Command`]: what stands in a batch, and its encoding |
//! | [`session`], `kept_replies` | the table of sessions inside the replicated state, and their replies |
//! | [`applier`] | [`Applier`]: sessions, time and service, applied as one |
//! | [`interval`] | [`CheckpointInterval`]: when a checkpoint is due |
//! | [`checkpoint`] | [`ApplierCheckpoint`]: all of it, written as one |
//! | [`unwritten`] | [`Unwritten`]: states on their way to the disk |
//! | [`native`] | the native client protocol |
//! | `fields` | the fixed-width fields of a checkpoint |
//! | [`client_session`] | [`ClientSession`]: the client's half of a session, as a pure machine |

#![forbid(unsafe_code)]

pub mod applier;
pub mod checkpoint;
pub mod client_session;
pub mod command;
pub mod conformance;
pub mod contract;
mod fields;
mod interlude;
pub mod interval;
mod kept_replies;
pub mod native;
pub mod session;
pub mod unwritten;

pub use applier::{Applied, Applier, ApplyError};
pub use checkpoint::{ApplierCheckpoint, time_of};
pub use client_session::{ClientSession, SessionEvent};
pub use command::Command;
pub use contract::{
    Apply, Checkpoint, Context, Plain, QueryContext, RestoreError, Secret, Service,
};
pub use interlude::Interlude;
pub use interval::CheckpointInterval;
pub use session::{Admission, SessionLimits, SessionTable};
pub use unwritten::Unwritten;
