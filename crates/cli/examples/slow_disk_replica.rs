//! The `mainstay` program over a disk whose syncs can be made slower while it runs (see
//! `tests/world/slow_disk.rs`). For the experiments beside it.

#[path = "../tests/world/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the end-to-end tests use the rest")]
mod world;

use std::process::ExitCode;

use mainstay_kv::{RedisFront, Store};
use tikv_jemallocator::Jemalloc;
use world::slow_disk::SlowDisk;

/// As the program's.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    mainstay_cli::run_over::<Store, RedisFront, _>(SlowDisk::new)
}
