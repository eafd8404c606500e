//! The ground floor of Mainstay: the words every other crate speaks.
//!
//! Ids and ballots, time as a plain number, quorums over a configuration, the values that slots
//! hold, the records of the log, the frames of the wire, and the fixed-width encoding of all of
//! them. Nothing here does input or output, reads a clock or draws a random number of its own:
//! the crate builds without `std`, and every protocol machine stands on it alone.
//!
//! | file | holds |
//! |---|---|
//! | [`id`] | [`ClusterId`], [`ReplicaId`], [`Epoch`], [`Slot`], … |
//! | [`ballot`] | [`Ballot`]: who may propose, and in which order they outrank one another |
//! | [`time`] | [`Instant`] (monotonic), [`Timestamp`] (wall clock), [`Now`] |
//! | [`quorum`] | [`Configuration`], [`ReplicaSet`] |
//! | [`value`] | [`Value`]: the encoded batch that a slot decides, [`Batch`] |
//! | [`record`] | [`Record`], [`Recovered`]: what a machine asks the log to keep, and gets back |
//! | [`frame`] | the envelope of every message between nodes |
//! | [`piece`] | long frames in pieces, so that short ones need not wait for them |
//! | [`hello`] | the first frame on a connection, and the one that refuses it |
//! | [`codec`] | reading and writing fixed-width little-endian fields |
//! | [`rope`] | [`Rope`]: encoded fields of which the long ones are shared, not copied |
//! | [`prng`] | [`Prng`], handed in at construction, never global |
//! | [`plant`] | bugs planted on purpose, to prove that the checkers see them |

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod ballot;
pub mod codec;
pub mod frame;
pub mod hello;
pub mod id;
pub mod piece;
pub mod plant;
pub mod prng;
pub mod quorum;
pub mod record;
pub mod rope;
pub mod time;
pub mod value;

pub use ballot::Ballot;
pub use id::{
    ClusterId, ConfigurationId, Epoch, GroupId, Mark, Nonce, ReplicaId, RequestId, RequestNumber,
    SessionId, Slot, Token,
};
pub use plant::{NoPlants, Plant, Plants};
pub use prng::Prng;
pub use quorum::{Configuration, ReplicaSet};
pub use record::{CheckpointId, Entry, Record, RecordKind, Recovered, SlotRange};
pub use rope::Rope;
pub use time::{Instant, Now, Timestamp};
pub use value::{Batch, Value};
