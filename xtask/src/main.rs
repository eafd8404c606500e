//! The checks that every change runs.

fn main() {}
