//! The `mainstay` program: the key-value store behind the Redis protocol.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use mainstay_kv::{RedisFront, Store};

fn main() -> ExitCode {
    mainstay_cli::run::<Store, RedisFront>()
}
