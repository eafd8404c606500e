//! A crowd of hostile clients: whatever they do, a replica holds no more memory for them than it is
//! allowed, its leader stays in office, and others are served.
//!
//! Each attack ends by itself after a while. What it cost is printed: `cargo nextest run --no-capture`.

mod attack;
mod memory;
mod patience;
#[path = "../world/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with other tests, which use the rest")]
mod world;
