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
//! | [`front`], [`clients`], `statistics`, `process` | [`RedisFront`]: plugs both into a node; what it knows of its connections, counts, and is told of its memory |
//! | [`operation`] | [`Operation`]: what the service can be asked, and its encoding |
//! | [`reply`] | [`Reply`]: what it answers, neutral of the protocol version |
//! | [`store`] | [`Store`]: the service |
//! | [`expiry`] | when keys go, as clients ask for it and as it is kept |
//! | `keyspace`, `shard`, `text` | its state: keys in an order of their own, copied on write |
//! | `scan` | the iteration over all keys in parts |
//! | [`checkpoint`] | the state as bytes |
//! | `fields`, `glob`, `integer`, `float`, `decimal` | encodings; patterns and numbers as Redis reads them |
//! | [`decode_any`] | one entry a decoder, for fuzzing |

#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod clients;
pub mod command;
mod decimal;
pub mod decode_any;
pub mod expiry;
mod fields;
mod float;
pub mod front;
mod glob;
mod integer;
mod keyspace;
pub mod operation;
mod process;
pub mod reply;
pub mod resp;
mod scan;
mod shard;
mod statistics;
pub mod store;
mod text;

pub use checkpoint::StoreCheckpoint;
pub use expiry::{ExpiryCondition, ExpiryForm, Lifetime, Moment};
pub use front::RedisFront;
pub use operation::{Answer, Condition, Operation};
pub use reply::Reply;
pub use store::Store;

/// The longest key or value, in bytes.
pub const VALUE_LEN_MAX: usize = 16 << 20;
/// The most arguments of one command, and the most items of one operation or reply.
pub const ARGUMENTS_MAX: usize = 1 << 20;
/// The longest reply, in bytes: what a connection may leave unsent.
pub const REPLY_LEN_MAX: usize = 64 << 20;
