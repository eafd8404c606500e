//! The service: carries out operations on the keyspace.

use std::io::Read;

use mainstay_model::Timestamp;
use mainstay_model::codec::DecodeError;
use mainstay_service::{Context, QueryContext, RestoreError, Secret, Service};

use crate::checkpoint::{self, StoreCheckpoint};
use crate::expiry::{Expiry, ExpiryCondition, ExpiryForm, Lifetime, Moment, milliseconds};
use crate::float::Float;
use crate::glob::{Case, Pattern};
use crate::keyspace::Keyspace;
use crate::operation::{Answer, Condition, Operation, Pair};
use crate::reply::Reply;
use crate::text::Text;
use crate::{ARGUMENTS_MAX, REPLY_LEN_MAX, VALUE_LEN_MAX, integer, scan};

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
const NO_SUCH_KEY: Reply<'static> = Reply::Error(b"ERR no such key");
const PATTERN_TOO_LONG: Reply<'static> = Reply::Error(b"ERR the pattern is too long");
/// The type of all values so far.
const STRING: &[u8] = b"string";
const VALUE_TOO_LONG: Reply<'static> =
    Reply::Error(b"ERR string exceeds maximum allowed size (proto-max-bulk-len)");

impl Service for Store {
    type Checkpoint = StoreCheckpoint;

    fn begin(&mut self, secret: Secret) {
        self.keys = Keyspace::new(secret);
    }

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
        3
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
            Operation::GetRange { key, first, last } => self.get_range(key, *first, *last),
            Operation::Type { key } => Reply::Status(match self.keys.get(key) {
                Some(_) => STRING,
                None => b"none",
            }),
            Operation::RandomKey { draw } => self.random_key(*draw),
            Operation::Scan { cursor, count, pattern, kind } => {
                return self.scan(*cursor, *count, *pattern, *kind, out);
            }
            Operation::Keys { pattern } => self.keys_like(pattern),
            Operation::Describe { before } => {
                return Reply::Bulk(&[before, self.description().as_bytes()].concat()).encode(out);
            }
            _ => Reply::Error(b"ERR this changes the store: send it as a request, not as a query"),
        };
        reply.encode(out);
    }

    /// What may change the state.
    fn carry_out(&mut self, operation: &Operation<'_>, now: i64, out: &mut Vec<u8>) {
        let reply = match operation {
            Operation::Set { key, value, condition, answer, lifetime } => {
                if self.answer_set(key, *condition, *answer, out) {
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
                self.set_many(pairs);
                Reply::OK
            }
            Operation::SetManyAbsent { pairs } => {
                let absent = pairs.iter().all(|(key, _)| self.keys.get(key).is_none());
                if absent {
                    self.set_many(pairs);
                }
                truth(absent)
            }
            Operation::SetRange { key, offset, value } => self.set_range(key, *offset, value),
            Operation::AddFloat { key, summand } => {
                return self.add_float(key, summand).as_reply().encode(out);
            }
            Operation::Rename { from, to, absent } => self.rename(from, to, *absent),
            Operation::Copy { from, to, replace } => self.copy(from, to, *replace),
            Operation::Clear => {
                self.keys = Keyspace::new(self.keys.secret());
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
            | Operation::GetRange { .. }
            | Operation::Type { .. }
            | Operation::RandomKey { .. }
            | Operation::Scan { .. }
            | Operation::Keys { .. }
            | Operation::Describe { .. }
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
        answer: Answer,
        out: &mut Vec<u8>,
    ) -> bool {
        let held = self.keys.get(key);
        let met = match condition {
            Condition::Always => true,
            Condition::Absent => held.is_none(),
            Condition::Present => held.is_some(),
        };
        match (answer, met) {
            (Answer::Previous, _) => bulk(held),
            (Answer::Number, _) => truth(met),
            (Answer::Done, true) => Reply::OK,
            (Answer::Done, false) => Reply::Nil,
        }
        .encode(out);
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
        truth(done)
    }

    fn persist(&mut self, key: &[u8]) -> Reply<'static> {
        let had = self.keys.entry(key).is_some_and(|entry| entry.expiry.is_some());
        self.keys.set_expiry(key, None);
        truth(had)
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
        self.replace(key, Text::new(sum.to_string().as_bytes()));
        Reply::Integer(sum)
    }

    /// Gives a key another value under the expiry it has.
    fn replace(&mut self, key: &[u8], value: Text) {
        match self.keys.get_mut(key) {
            Some(held) => *held = value,
            None => self.keys.set(key, value, None),
        }
    }

    /// The sum, or why there is none.
    fn add_float(&mut self, key: &[u8], summand: &[u8]) -> Sum {
        let held =
            self.keys.get(key).map_or(Some(Float::ZERO), |held| Float::parse(held.as_bytes()));
        let (Some(held), Some(summand)) = (held, Float::parse(summand)) else {
            return Sum::NotANumber;
        };
        let Some(sum) = held.plus(summand) else { return Sum::Infinite };
        let text = sum.text();
        self.replace(key, Text::new(text.as_bytes()));
        Sum::Is(text)
    }

    fn set_many(&mut self, pairs: &[Pair<'_>]) {
        for (key, value) in pairs {
            self.keys.set(key, Text::new(value), None);
        }
    }

    fn get_range(&self, key: &[u8], first: i64, last: i64) -> Reply<'_> {
        let value = self.keys.get(key).map_or(&[][..], Text::as_bytes);
        let len = value.len() as i64;
        // Counted from the end, places in front of the beginning are the first.
        let place = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
        let inverted = first < 0 && last < 0 && first > last;
        let (first, end) = (place(first), place(last).min(len - 1) + 1);
        let part = value.get(first as usize..end.max(0) as usize).filter(|_| !inverted);
        Reply::Bulk(part.unwrap_or_default())
    }

    fn set_range(&mut self, key: &[u8], offset: u64, value: &[u8]) -> Reply<'static> {
        let held = self.keys.get(key).map_or(&[][..], Text::as_bytes);
        if value.is_empty() {
            return count(held.len());
        }
        let end = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(value.len());
        if end > VALUE_LEN_MAX {
            return VALUE_TOO_LONG;
        }
        let mut bytes = held.to_vec();
        bytes.resize(held.len().max(end), 0);
        bytes[end - value.len()..end].copy_from_slice(value);
        self.replace(key, Text::new(&bytes));
        count(bytes.len())
    }

    fn rename(&mut self, from: &[u8], to: &[u8], absent: bool) -> Reply<'static> {
        let Some(entry) = self.keys.entry(from).cloned() else { return NO_SUCH_KEY };
        let done = !absent || self.keys.get(to).is_none();
        if done && from != to {
            self.keys.remove(from);
            self.keys.set(to, entry.value, entry.expiry);
        }
        if absent { truth(done) } else { Reply::OK }
    }

    fn copy(&mut self, from: &[u8], to: &[u8], replace: bool) -> Reply<'static> {
        let entry = self.keys.entry(from).filter(|_| replace || self.keys.get(to).is_none());
        let Some(entry) = entry.cloned() else { return truth(false) };
        self.keys.set(to, entry.value, entry.expiry);
        truth(true)
    }

    fn random_key(&self, draw: u64) -> Reply<'_> {
        let nth = draw.checked_rem(self.keys.len());
        let key = nth.and_then(|nth| self.keys.nth(nth));
        key.map_or(Reply::Nil, Reply::Bulk)
    }

    fn scan(
        &self,
        cursor: u64,
        count: u64,
        pattern: Option<&[u8]>,
        kind: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) {
        let pattern = pattern.map(|pattern| Pattern::new(pattern, Case::Matters));
        if matches!(pattern, Some(None)) {
            return PATTERN_TOO_LONG.encode(out);
        }
        let pattern = pattern.flatten();
        let mut part = scan::part(&self.keys, cursor, count, pattern.as_ref());
        if kind.is_some_and(|kind| !kind.eq_ignore_ascii_case(STRING)) {
            part.keys.clear();
        }
        let cursor = part.cursor.to_string();
        let keys = part.keys.into_iter().map(Reply::Bulk).collect();
        Reply::Array(vec![Reply::Bulk(cursor.as_bytes()), Reply::Array(keys)]).encode(out);
    }

    fn keys_like(&self, pattern: &[u8]) -> Reply<'_> {
        let Some(pattern) = Pattern::new(pattern, Case::Matters) else { return PATTERN_TOO_LONG };
        let (mut keys, mut len) = (Vec::new(), 0);
        for (key, _) in self.keys.iter().filter(|(key, _)| pattern.matches(key)) {
            len += 5 + key.len();
            if len > REPLY_LEN_MAX || keys.len() == ARGUMENTS_MAX {
                return Reply::Error(b"ERR the reply would be too large: iterate with SCAN");
            }
            keys.push(Reply::Bulk(key));
        }
        Reply::Array(keys)
    }

    /// The section of `INFO` about keys: as in Redis, a database without any is left out.
    fn description(&self) -> String {
        let (keys, expiring) = (self.keys.len(), self.keys.expiring());
        let database = match keys {
            0 => String::new(),
            _ => format!("db0:keys={keys},expires={expiring},avg_ttl=0\r\n"),
        };
        format!("# Keyspace\r\n{database}")
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

/// What came of an addition.
enum Sum {
    Is(String),
    NotANumber,
    Infinite,
}

impl Sum {
    fn as_reply(&self) -> Reply<'_> {
        match self {
            Self::Is(text) => Reply::Bulk(text.as_bytes()),
            Self::NotANumber => Reply::Error(b"ERR value is not a valid float"),
            Self::Infinite => Reply::Error(b"ERR increment would produce NaN or Infinity"),
        }
    }
}

const fn truth(whether: bool) -> Reply<'static> {
    Reply::Integer(whether as i64)
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
