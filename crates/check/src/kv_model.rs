//! The model of a key-value store that speaks the commands of Redis.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::history::Operation;
use crate::linearizability::Model;

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KvOp {
    /// `GET key`: [`KvRet::Value`].
    Get(Bytes),
    /// `SET key value`: [`KvRet::Ok`].
    Set(Bytes, Bytes),
    /// `SET key value NX`: [`KvRet::Ok`], or an empty [`KvRet::Value`] where the key exists.
    SetNx(Bytes, Bytes),
    /// `SET key value XX`: [`KvRet::Ok`], or an empty [`KvRet::Value`] where it does not.
    SetXx(Bytes, Bytes),
    /// `SET key value GET`: the [`KvRet::Value`] before.
    SetGet(Bytes, Bytes),
    /// `DEL key …`: [`KvRet::Integer`], how many existed.
    Del(Vec<Bytes>),
    /// `EXISTS key …`: [`KvRet::Integer`], a key that is named twice counts twice.
    Exists(Vec<Bytes>),
    /// `INCRBY key by`, also for `INCR` and `DECR`: [`KvRet::Integer`], or [`KvRet::Error`] where
    /// the value is no number or would leave the range of 64 bits.
    IncrBy(Bytes, i64),
    /// `APPEND key value`: [`KvRet::Integer`], the length after.
    Append(Bytes, Bytes),
    /// `STRLEN key`: [`KvRet::Integer`].
    Strlen(Bytes),
    /// `MSET key value …`: [`KvRet::Ok`].
    MSet(Vec<(Bytes, Bytes)>),
    /// `MGET key …`: [`KvRet::Values`].
    MGet(Vec<Bytes>),
    /// `DBSIZE`: [`KvRet::Integer`].
    DbSize,
    /// `FLUSHALL`: [`KvRet::Ok`].
    FlushAll,
}

/// What a client may be told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KvRet {
    /// Done.
    Ok,
    /// A value, or that there is none.
    Value(Option<Bytes>),
    /// Values, or that there are none, in the order asked.
    Values(Vec<Option<Bytes>>),
    /// A number.
    Integer(i64),
    /// The store refused, and nothing changed.
    Error,
}

/// The store: one map, empty at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct KvModel;

/// The keys that exist, in order.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct KvState(Vec<(Bytes, Bytes)>);

impl fmt::Debug for KvState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (key, value)) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{}: {}", key.escape_ascii(), value.escape_ascii())?;
        }
        f.write_str("}")
    }
}

impl KvState {
    fn find(&self, key: &Bytes) -> Result<usize, usize> {
        self.0.binary_search_by(|(standing, _)| standing.cmp(key))
    }

    fn get(&self, key: &Bytes) -> Option<&Bytes> {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    fn set(&mut self, key: &Bytes, value: &Bytes) {
        match self.find(key) {
            Ok(at) => self.0[at].1 = value.clone(),
            Err(at) => self.0.insert(at, (key.clone(), value.clone())),
        }
    }

    fn remove(&mut self, key: &Bytes) -> bool {
        let found = self.find(key);
        if let Ok(at) = found {
            self.0.remove(at);
        }
        found.is_ok()
    }

    /// Carries out `op` and says what it is answered.
    fn apply(&mut self, op: &KvOp) -> KvRet {
        match op {
            KvOp::Get(key) => KvRet::Value(self.get(key).cloned()),
            KvOp::Set(key, value) => {
                self.set(key, value);
                KvRet::Ok
            }
            KvOp::SetNx(key, value) => self.set_if(key, value, false),
            KvOp::SetXx(key, value) => self.set_if(key, value, true),
            KvOp::SetGet(key, value) => {
                let before = self.get(key).cloned();
                self.set(key, value);
                KvRet::Value(before)
            }
            KvOp::Del(keys) => count(keys.iter().filter(|&key| self.remove(key)).count()),
            KvOp::Exists(keys) => count(keys.iter().filter(|&key| self.get(key).is_some()).count()),
            KvOp::IncrBy(key, by) => self.incr_by(key, *by),
            KvOp::Append(key, value) => {
                let mut bytes = self.get(key).map_or(Vec::new(), |before| before.to_vec());
                bytes.extend_from_slice(value);
                let len = bytes.len();
                self.set(key, &Bytes::from(bytes));
                count(len)
            }
            KvOp::Strlen(key) => count(self.get(key).map_or(0, Bytes::len)),
            KvOp::MSet(pairs) => {
                pairs.iter().for_each(|(key, value)| self.set(key, value));
                KvRet::Ok
            }
            KvOp::MGet(keys) => {
                KvRet::Values(keys.iter().map(|key| self.get(key).cloned()).collect())
            }
            KvOp::DbSize => count(self.0.len()),
            KvOp::FlushAll => {
                self.0.clear();
                KvRet::Ok
            }
        }
    }

    fn set_if(&mut self, key: &Bytes, value: &Bytes, exists: bool) -> KvRet {
        if self.get(key).is_some() != exists {
            return KvRet::Value(None);
        }
        self.set(key, value);
        KvRet::Ok
    }

    fn incr_by(&mut self, key: &Bytes, by: i64) -> KvRet {
        let before = self.get(key).map_or(Some(0), |value| integer(value));
        let Some(after) = before.and_then(|before| before.checked_add(by)) else {
            return KvRet::Error;
        };
        self.set(key, &Bytes::from(after.to_string()));
        KvRet::Integer(after)
    }
}

fn count(count: usize) -> KvRet {
    KvRet::Integer(i64::try_from(count).expect("what is counted stands in memory"))
}

/// A number as Redis takes it: no sign but a minus, no leading zero, nothing around it.
fn integer(bytes: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == bytes).then_some(number)
}

impl KvOp {
    /// The key, if it sees and changes no other one.
    #[must_use]
    pub fn single_key(&self) -> Option<&Bytes> {
        match self {
            Self::Get(key)
            | Self::Set(key, _)
            | Self::SetNx(key, _)
            | Self::SetXx(key, _)
            | Self::SetGet(key, _)
            | Self::IncrBy(key, _)
            | Self::Append(key, _)
            | Self::Strlen(key) => Some(key),
            Self::Del(keys) | Self::Exists(keys) | Self::MGet(keys) => match &keys[..] {
                [key] => Some(key),
                _ => None,
            },
            Self::MSet(pairs) => match &pairs[..] {
                [(key, _)] => Some(key),
                _ => None,
            },
            Self::DbSize | Self::FlushAll => None,
        }
    }
}

impl KvModel {
    /// What a store in `state` answers.
    #[must_use]
    pub fn reply(&self, state: &KvState, op: &KvOp) -> KvRet {
        state.clone().apply(op)
    }
}

impl Model for KvModel {
    type State = KvState;
    type Op = KvOp;
    type Ret = KvRet;

    fn initial(&self) -> KvState {
        KvState::default()
    }

    fn step(&self, state: &KvState, op: &KvOp, ret: &KvRet) -> Option<KvState> {
        let mut after = state.clone();
        (after.apply(op) == *ret).then_some(after)
    }

    fn apply_unknown(&self, state: &KvState, op: &KvOp) -> KvState {
        let mut after = state.clone();
        after.apply(op);
        after
    }

    /// By key, if no operation sees more than one.
    fn partitions(&self, operations: &[&Operation<KvOp, KvRet>]) -> Option<Vec<Vec<usize>>> {
        let mut by_key: BTreeMap<&Bytes, Vec<usize>> = BTreeMap::new();
        for (at, operation) in operations.iter().enumerate() {
            by_key.entry(operation.op.single_key()?).or_default().push(at);
        }
        Some(by_key.into_values().collect())
    }
}
