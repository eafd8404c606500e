//! The service: carries out operations on the keyspace.

use std::io::Read;

use mainstay_model::codec::DecodeError;
use mainstay_service::{Context, QueryContext, RestoreError, Service};

use crate::checkpoint::{self, StoreCheckpoint};
use crate::keyspace::Keyspace;
use crate::operation::{Condition, Operation};
use crate::reply::Reply;
use crate::text::Text;
use crate::{REPLY_LEN_MAX, VALUE_LEN_MAX, integer};

/// The replicated key-value store. Requests are [`Operation`]s, replies [`Reply`]s, both encoded.
///
/// Nothing here depends on anything but the requests and their order: no clock, no random number,
/// no iteration over a table in arbitrary order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Store {
    keys: Keyspace,
}

const NOT_AN_INTEGER: Reply<'static> = Reply::Error(b"ERR value is not an integer or out of range");
const OVERFLOW: Reply<'static> = Reply::Error(b"ERR increment or decrement would overflow");
const VALUE_TOO_LONG: Reply<'static> =
    Reply::Error(b"ERR string exceeds maximum allowed size (proto-max-bulk-len)");

impl Service for Store {
    type Checkpoint = StoreCheckpoint;

    fn apply(&mut self, _: &Context, request: &[u8], reply: &mut Vec<u8>) {
        match Operation::decode(request) {
            Ok(operation) if operation.is_query() => self.answer(&operation, reply),
            Ok(operation) => self.carry_out(&operation, reply),
            Err(error) => refuse(error, reply),
        }
    }

    fn query(&self, _: &QueryContext, request: &[u8], reply: &mut Vec<u8>) {
        match Operation::decode(request) {
            Ok(operation) => self.answer(&operation, reply),
            Err(error) => refuse(error, reply),
        }
    }

    /// Costs one reference count a shard; a later change copies the one shard it falls into.
    fn checkpoint(&mut self) -> StoreCheckpoint {
        StoreCheckpoint::new(self.keys.clone())
    }

    fn restore(source: &mut dyn Read) -> Result<Self, RestoreError> {
        Ok(Self { keys: checkpoint::read(source)? })
    }

    fn version() -> u32 {
        1
    }
}

impl Store {
    /// What leaves the state as it is.
    fn answer(&self, operation: &Operation<'_>, out: &mut Vec<u8>) {
        let reply = match operation {
            Operation::Get { key } => bulk(self.keys.get(key)),
            Operation::Exists { keys } => {
                count(keys.iter().filter(|key| self.keys.get(key).is_some()).count())
            }
            Operation::Length { key } => count(self.keys.get(key).map_or(0, Text::len)),
            Operation::GetMany { keys } => self.get_many(keys),
            Operation::Count => Reply::Integer(self.keys.len() as i64),
            _ => Reply::Error(b"ERR this changes the store: send it as a request, not as a query"),
        };
        reply.encode(out);
    }

    /// What may change the state.
    fn carry_out(&mut self, operation: &Operation<'_>, out: &mut Vec<u8>) {
        let reply = match operation {
            Operation::Set { key, value, condition, previous } => {
                return self.set(key, value, *condition, *previous, out);
            }
            Operation::Delete { keys } => {
                count(keys.iter().filter(|key| self.keys.remove(key)).count())
            }
            Operation::Add { key, summand } => self.add(key, *summand),
            Operation::Append { key, value } => self.append(key, value),
            Operation::SetMany { pairs } => {
                for (key, value) in pairs {
                    self.keys.set(key, Text::new(value));
                }
                Reply::OK
            }
            Operation::Clear => {
                self.keys = Keyspace::default();
                Reply::OK
            }
            Operation::Get { .. }
            | Operation::Exists { .. }
            | Operation::Length { .. }
            | Operation::GetMany { .. }
            | Operation::Count => return self.answer(operation, out),
        };
        reply.encode(out);
    }

    fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        condition: Condition,
        previous: bool,
        out: &mut Vec<u8>,
    ) {
        let met = match condition {
            Condition::Always => true,
            Condition::Absent => self.keys.get(key).is_none(),
            Condition::Present => self.keys.get(key).is_some(),
        };
        // The reply is written first: it may be the value that is replaced.
        match (previous, met) {
            (true, _) => bulk(self.keys.get(key)).encode(out),
            (false, true) => Reply::OK.encode(out),
            (false, false) => Reply::Nil.encode(out),
        }
        if met {
            self.keys.set(key, Text::new(value));
        }
    }

    fn add(&mut self, key: &[u8], summand: i64) -> Reply<'static> {
        let held = match self.keys.get(key) {
            None => 0,
            Some(value) => match integer::parse(value.as_bytes()) {
                None => return NOT_AN_INTEGER,
                Some(number) => number,
            },
        };
        let Some(sum) = held.checked_add(summand) else { return OVERFLOW };
        self.keys.set(key, Text::new(sum.to_string().as_bytes()));
        Reply::Integer(sum)
    }

    fn append(&mut self, key: &[u8], value: &[u8]) -> Reply<'static> {
        let len = self.keys.get(key).map_or(0, Text::len) + value.len();
        if len > VALUE_LEN_MAX {
            return VALUE_TOO_LONG;
        }
        match self.keys.get_mut(key) {
            Some(held) => held.append(value),
            None => self.keys.set(key, Text::new(value)),
        }
        count(len)
    }

    fn get_many(&self, keys: &[&[u8]]) -> Reply<'_> {
        let values: Vec<_> = keys.iter().map(|key| self.keys.get(key)).collect();
        let len: usize = values.iter().map(|value| 5 + value.map_or(0, Text::len)).sum();
        if len > REPLY_LEN_MAX {
            return Reply::Error(
                b"ERR the reply would be above 64 MiB: ask for fewer keys at once",
            );
        }
        Reply::Array(values.into_iter().map(bulk).collect())
    }
}

fn bulk(value: Option<&Text>) -> Reply<'_> {
    value.map_or(Reply::Nil, |value| Reply::Bulk(value.as_bytes()))
}

/// Counts and lengths in memory are below 2^63.
fn count(count: usize) -> Reply<'static> {
    Reply::Integer(count as i64)
}

fn refuse(error: DecodeError, out: &mut Vec<u8>) {
    Reply::Error(format!("ERR the request is no operation of this store: {error}").as_bytes())
        .encode(out);
}
