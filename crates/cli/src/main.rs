//! The `mainstay` program: the key-value store behind the Redis protocol.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use mainstay_kv::{RedisFront, Store};
use tikv_jemallocator::Jemalloc;

/// A large state that is freed piece by piece makes the system's allocator tidy up for milliseconds
/// at a time: decision 0002.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    mainstay_cli::run::<Store, RedisFront>()
}
