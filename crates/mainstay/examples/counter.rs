//! A replicated counter: all that its author writes. Try it:
//! `cargo run --release --example counter -p mainstay -- up`, then `echo add 5 | nc -q1 127.0.0.1 7400`.

use mainstay::{Apply, Context, Lines, Plain};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Counter {
    value: i64,
}

impl Apply for Counter {
    fn apply(&mut self, _: &Context, request: &[u8], reply: &mut Vec<u8>) {
        let request = String::from_utf8_lossy(request);
        if let Some(amount) = request.strip_prefix("add ").and_then(|text| text.parse().ok()) {
            self.value = self.value.wrapping_add(amount);
        }
        reply.extend(self.value.to_string().bytes());
    }
}

fn main() -> std::process::ExitCode {
    mainstay::run::<Plain<Counter>, Lines>()
}
