//! The service of these tests.

use mainstay_service::contract::Apply;
use mainstay_service::{Context, QueryContext};
use serde::{Deserialize, Serialize};

/// Keeps every number it was given, in order, and answers how many it has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Journal(Vec<u64>);

impl Apply for Journal {
    fn apply(&mut self, _: &Context, request: &[u8], reply: &mut Vec<u8>) {
        if let Ok(number) = request.try_into() {
            self.0.push(u64::from_le_bytes(number));
        }
        reply.extend_from_slice(&(self.0.len() as u64).to_le_bytes());
    }

    fn query(&self, _: &QueryContext, _: &[u8], reply: &mut Vec<u8>) {
        self.0.iter().for_each(|number| reply.extend_from_slice(&number.to_le_bytes()));
    }
}

pub(super) fn numbers(bytes: &[u8]) -> Vec<u64> {
    let number = |chunk: &[u8]| u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
    bytes.chunks(8).map(number).collect()
}
