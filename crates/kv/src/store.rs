//! The service: carries out operations on the keyspace.

use std::io::Read;

use mainstay_model::Timestamp;
use mainstay_model::codec::DecodeError;
use mainstay_service::{Context, QueryContext, RestoreError, Service};

use crate::checkpoint::{self, StoreCheckpoint};
use crate::expiry::{Expiry, ExpiryCondition, ExpiryForm, Lifetime, Moment, milliseconds};
use crate::keyspace::Keyspace;
use crate::operation::{Condition, Operation};
use crate::reply::Reply;
use crate::text::Text;
use crate::{REPLY_LEN_MAX, VALUE_LEN_MAX, integer};

/// The replicated key-value store. Requests are [`Operation`]s, replies [`Reply`]s, both encoded.
///
/// Nothing here depends on anything but the requests, their order and decided time: no clock, no
/// random number, no iteration over a table in arbitrary order. Keys go when decided time says so, in
/// [`Service::advance`], before whatever is asked next: so nothing that answers has to look at
/// expiries, and the number of keys is that of all replicas.
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

    fn apply(&mut self, cx: &Context, request: &[u8], reply: &mut Vec<u8>) {
        let now = milliseconds(cx.time);
        match Operation::decode(request) {
            Ok(operation) if operation.is_query() => self.answer(&operation, now, reply),
            Ok(operation) => self.carry_out(&operation, now, reply),
            Err(error) => refuse(error, reply),
        }
    }

    fn query(&self, cx: &QueryContext, request: &[u8], reply: &mut Vec<u8>) {
        match Operation::decode(request) {
            Ok(operation) => self.answer(&operation, milliseconds(cx.time), reply),
            Err(error) => refuse(error, reply),
        }
    }

    /// Costs one reference count a shard; a later change copies the few entries it falls among.
    fn checkpoint(&mut self) -> StoreCheckpoint {
        StoreCheckpoint::new(self.keys.clone())
    }

    fn restore(source: &mut dyn Read) -> Result<Self, RestoreError> {
        Ok(Self { keys: checkpoint::read(source)? })
    }

    fn version() -> u32 {
        2
    }

    fn advance(&mut self, time: Timestamp) {
        self.keys.remove_past(milliseconds(time));
    }

    fn wake(&self) -> Option<Timestamp> {
        self.keys.wake()
    }
}

impl Store {
    /// What leaves the state as it is.
    fn answer(&self, operation: &Operation<'_>, now: i64, out: &mut Vec<u8>) {
        let reply = match operation {
            Operation::Get { key } => bulk(self.keys.get(key)),
            Operation::Exists { keys } => {
                count(keys.iter().filter(|key| self.keys.get(key).is_some()).count())
            }
            Operation::Length { key } => count(self.keys.get(key).map_or(0, Text::len)),
            Operation::GetMany { keys } => self.get_many(keys),
            Operation::Count => Reply::Integer(self.keys.len() as i64),
            Operation::Expiry { key, form } => self.expiry(key, *form, now),
            _ => Reply::Error(b"ERR this changes the store: send it as a request, not as a query"),
        };
        reply.encode(out);
    }

    /// What may change the state.
    fn carry_out(&mut self, operation: &Operation<'_>, now: i64, out: &mut Vec<u8>) {
        let reply = match operation {
            Operation::Set { key, value, condition, previous, lifetime } => {
                if self.answer_set(key, *condition, *previous, out) {
                    self.set(key, value, *lifetime, now);
                }
                return;
            }
            Operation::Delete { keys } => {
                count(keys.iter().filter(|key| self.keys.remove(key)).count())
            }
            Operation::Add { key, summand } => self.add(key, *summand),
            Operation::Append { key, value } => self.append(key, value),
            Operation::SetMany { pairs } => {
                for (key, value) in pairs {
                    self.keys.set(key, Text::new(value), None);
                }
                Reply::OK
            }
            Operation::Clear => {
                self.keys = Keyspace::default();
                Reply::OK
            }
            Operation::Expire { key, until, condition } => {
                self.expire(key, until.ms(now), *condition, now)
            }
            Operation::Persist { key } => self.persist(key),
            Operation::GetAndExpire { key, lifetime } => {
                bulk(self.keys.get(key)).encode(out);
                return self.set_lifetime(key, *lifetime, now);
            }
            Operation::GetAndDelete { key } => {
                bulk(self.keys.get(key)).encode(out);
                self.keys.remove(key);
                return;
            }
            Operation::Get { .. }
            | Operation::Exists { .. }
            | Operation::Length { .. }
            | Operation::GetMany { .. }
            | Operation::Expiry { .. }
            | Operation::Count => return self.answer(operation, now, out),
        };
        reply.encode(out);
    }

    /// Answers and says whether the key is to be set. The reply comes first: it may be the value that
    /// is replaced.
    fn answer_set(
        &self,
        key: &[u8],
        condition: Condition,
        previous: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let held = self.keys.get(key);
        let met = match condition {
            Condition::Always => true,
            Condition::Absent => held.is_none(),
            Condition::Present => held.is_some(),
        };
        match (previous, met) {
            (true, _) => bulk(held).encode(out),
            (false, true) => Reply::OK.encode(out),
            (false, false) => Reply::Nil.encode(out),
        }
        met
    }

    /// With an expiry that is past already, the key was there and is gone.
    fn set(&mut self, key: &[u8], value: &[u8], lifetime: Lifetime, now: i64) {
        let expiry = match lifetime {
            Lifetime::Endless => None,
            Lifetime::Unchanged => self.keys.entry(key).and_then(|entry| entry.expiry),
            Lifetime::Until(moment) => match expiry_at(moment.ms(now)) {
                Some(expiry) if !expiry.is_past(now) => Some(expiry),
                _ => {
                    self.keys.remove(key);
                    return;
                }
            },
        };
        self.keys.set(key, Text::new(value), expiry);
    }

    fn expiry(&self, key: &[u8], form: ExpiryForm, now: i64) -> Reply<'static> {
        Reply::Integer(match self.keys.entry(key) {
            None => -2,
            Some(entry) => entry.expiry.map_or(-1, |expiry| form.of(expiry, now)),
        })
    }

    fn expire(
        &mut self,
        key: &[u8],
        until: i64,
        condition: ExpiryCondition,
        now: i64,
    ) -> Reply<'static> {
        let met = |expiry| condition.is_met(expiry, until);
        let done = self.keys.entry(key).is_some_and(|entry| met(entry.expiry));
        if done {
            self.set_lifetime(key, Lifetime::Until(Moment::At(until)), now);
        }
        Reply::Integer(i64::from(done))
    }

    fn persist(&mut self, key: &[u8]) -> Reply<'static> {
        let had = self.keys.entry(key).is_some_and(|entry| entry.expiry.is_some());
        self.keys.set_expiry(key, None);
        Reply::Integer(i64::from(had))
    }

    /// An expiry that is not in the future removes the key; an absent key stays absent.
    fn set_lifetime(&mut self, key: &[u8], lifetime: Lifetime, now: i64) {
        match lifetime {
            Lifetime::Unchanged => {}
            Lifetime::Endless => self.keys.set_expiry(key, None),
            Lifetime::Until(moment) => match expiry_at(moment.ms(now)) {
                Some(expiry) if moment.ms(now) > now => self.keys.set_expiry(key, Some(expiry)),
                _ => {
                    self.keys.remove(key);
                }
            },
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
        let text = Text::new(sum.to_string().as_bytes());
        match self.keys.get_mut(key) {
            Some(held) => *held = text,
            None => self.keys.set(key, text, None),
        }
        Reply::Integer(sum)
    }

    fn append(&mut self, key: &[u8], value: &[u8]) -> Reply<'static> {
        let len = self.keys.get(key).map_or(0, Text::len) + value.len();
        if len > VALUE_LEN_MAX {
            return VALUE_TOO_LONG;
        }
        match self.keys.get_mut(key) {
            Some(held) => held.append(value),
            None => self.keys.set(key, Text::new(value), None),
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

/// `None` for what is no time after 1970 began.
fn expiry_at(ms: i64) -> Option<Expiry> {
    Expiry::from_ms(u64::try_from(ms).ok()?)
}

/// Counts and lengths in memory are below 2^63.
fn count(count: usize) -> Reply<'static> {
    Reply::Integer(count as i64)
}

fn refuse(error: DecodeError, out: &mut Vec<u8>) {
    Reply::Error(format!("ERR the request is no operation of this store: {error}").as_bytes())
        .encode(out);
}
