//! The replicated key-value store, and the Redis protocol in front of it.
//!
//! Any Redis client talks to any replica. [`RedisFront`] reads its commands, answers on the spot
//! what is about the connection or the replica, and turns the rest into [`Operation`]s; the node
//! orders or confirms them; [`Store`] carries them out at every replica in the same order; the
//! front turns the [`Reply`] into the protocol version of the connection. Clients with a session of
//! their own (`mainstay-client`) send the same operations without the Redis protocol.
//!
//! | file | holds |
//! |---|---|
//! | [`resp`] | the protocol: requests in, replies out |
//! | [`command`] | the table of commands, and what each one does in front of the service |
//! | [`front`] | [`RedisFront`]: plugs both into a node |
//! | [`operation`] | [`Operation`]: what the service can be asked, and its encoding |
//! | [`reply`] | [`Reply`]: what it answers, neutral of the protocol version |
//! | [`store`] | [`Store`]: the service |
//! | [`expiry`] | when keys go, as clients ask for it and as it is kept |
//! | `keyspace`, `shard`, `text` | its state: keys in an order of their own, copied on write |
//! | [`checkpoint`] | the state as bytes |
//! | `fields`, `glob`, `integer` | encodings; patterns and numbers as Redis reads them |
//! | [`decode_any`] | one entry a decoder, for fuzzing |

#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod command;
pub mod decode_any;
pub mod expiry;
mod fields;
pub mod front;
mod glob;
mod integer;
mod keyspace;
pub mod operation;
pub mod reply;
pub mod resp;
mod shard;
pub mod store;
mod text;

pub use checkpoint::StoreCheckpoint;
pub use expiry::{ExpiryCondition, ExpiryForm, Lifetime, Moment};
pub use front::RedisFront;
pub use operation::{Condition, Operation};
pub use reply::Reply;
pub use store::Store;

/// The longest key or value, in bytes.
pub const VALUE_LEN_MAX: usize = 16 << 20;
/// The most arguments of one command, and the most items of one operation or reply.
pub const ARGUMENTS_MAX: usize = 1 << 20;
/// The longest reply, in bytes: what a connection may leave unsent.
pub const REPLY_LEN_MAX: usize = 64 << 20;
