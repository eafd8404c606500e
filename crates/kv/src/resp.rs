//! The Redis serialization protocol: requests in, replies out, in its versions 2 and 3
//! (redis.io, "Redis serialization protocol specification").

mod encode;
mod inline;
mod parse;

pub use encode::{Version, Writer};
pub use parse::{Arguments, Limits, Parser, ProtocolError, Request};
