//! What writers ask, and how a reply reads.

use bytes::Bytes;
use mainstay_check::kv_model::{KvOp, KvRet};
use mainstay_model::Prng;
use redis::{Cmd, Connection, Value, cmd};

/// Keys of commands that see one key only: their history is judged key by key.
const KEYS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];
/// Keys of commands that see two: their history is judged as a whole.
const PAIR: [&str; 2] = ["left", "right"];

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The reply.
    Replied(KvRet),
    /// It was certainly not carried out; the error's first word.
    NotDone(String),
    /// It may or may not have been carried out. Whether the connection is of no use any more.
    Unknown { broken: bool },
}

/// The keys of some writers, which no others use.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    single: Vec<Bytes>,
    pair: Vec<Bytes>,
}

impl Keys {
    /// Keys that begin with this.
    pub(crate) fn new(prefix: &str) -> Self {
        let name = |name: &&str| Bytes::from(format!("{prefix}{name}"));
        Self { single: KEYS.iter().map(name).collect(), pair: PAIR.iter().map(name).collect() }
    }

    /// A random command. `unique` is different at each call.
    pub(crate) fn random(&self, prng: &mut Prng, unique: u64) -> KvOp {
        let key = self.single[prng.below(self.single.len() as u64) as usize].clone();
        let value = Bytes::from(unique.to_string());
        match prng.below(100) {
            0..30 => KvOp::Get(key),
            30..50 => KvOp::Set(key, value),
            50..65 => KvOp::IncrBy(key, 1 + prng.below(9) as i64),
            65..73 => KvOp::Append(key, Bytes::from((unique % 10).to_string())),
            73..79 => KvOp::Del(vec![key]),
            79..82 => KvOp::SetNx(key, value),
            82..85 => KvOp::SetXx(key, value),
            85..88 => KvOp::SetGet(key, value),
            88..90 => KvOp::Strlen(key),
            90..92 => KvOp::Exists(vec![key]),
            92..96 => {
                KvOp::MSet(self.pair.iter().map(|key| (key.clone(), value.clone())).collect())
            }
            _ => KvOp::MGet(self.pair.clone()),
        }
    }

    /// Commands that read every key.
    pub(crate) fn read_all(&self) -> Vec<KvOp> {
        let single = self.single.iter().cloned().map(KvOp::Get);
        single.chain([KvOp::MGet(self.pair.clone())]).collect()
    }
}

/// Whether a command changes nothing.
pub(crate) fn is_read(op: &KvOp) -> bool {
    matches!(op, KvOp::Get(_) | KvOp::Strlen(_) | KvOp::Exists(_) | KvOp::MGet(_) | KvOp::DbSize)
}

/// Has a command carried out.
pub(crate) fn carry_out(connection: &mut Connection, op: &KvOp) -> Seen {
    match spell(op).query::<Value>(connection) {
        Ok(value) => Seen::Replied(read(op, value)),
        Err(error) => match error.code() {
            Some("UNCERTAIN") => Seen::Unknown { broken: false },
            Some("ERR") if matches!(op, KvOp::IncrBy(..)) => Seen::Replied(KvRet::Error),
            Some(code @ ("CLUSTERDOWN" | "LOADING" | "MISCONF")) => Seen::NotDone(code.to_owned()),
            Some(code) => panic!("{op:?} was answered with {code}: {error}"),
            None => Seen::Unknown { broken: true },
        },
    }
}

fn spell(op: &KvOp) -> Cmd {
    let key_of = |op: &KvOp| op.single_key().map(|key| key.to_vec()).unwrap_or_default();
    let mut command = cmd(match op {
        KvOp::Get(_) => "GET",
        KvOp::Set(..) | KvOp::SetNx(..) | KvOp::SetXx(..) | KvOp::SetGet(..) => "SET",
        KvOp::Del(_) => "DEL",
        KvOp::Exists(_) => "EXISTS",
        KvOp::IncrBy(..) => "INCRBY",
        KvOp::Append(..) => "APPEND",
        KvOp::Strlen(_) => "STRLEN",
        KvOp::MSet(_) => "MSET",
        KvOp::MGet(_) => "MGET",
        KvOp::DbSize => "DBSIZE",
        KvOp::FlushAll => "FLUSHALL",
    });
    match op {
        KvOp::Get(_) | KvOp::Del(_) | KvOp::Exists(_) | KvOp::Strlen(_) => {
            command.arg(key_of(op));
        }
        KvOp::Set(key, value) | KvOp::Append(key, value) => {
            command.arg(&key[..]).arg(&value[..]);
        }
        KvOp::SetNx(key, value) => {
            command.arg(&key[..]).arg(&value[..]).arg("NX");
        }
        KvOp::SetXx(key, value) => {
            command.arg(&key[..]).arg(&value[..]).arg("XX");
        }
        KvOp::SetGet(key, value) => {
            command.arg(&key[..]).arg(&value[..]).arg("GET");
        }
        KvOp::IncrBy(key, by) => {
            command.arg(&key[..]).arg(*by);
        }
        KvOp::MSet(pairs) => {
            for (key, value) in pairs {
                command.arg(&key[..]).arg(&value[..]);
            }
        }
        KvOp::MGet(keys) => {
            for key in keys {
                command.arg(&key[..]);
            }
        }
        KvOp::DbSize | KvOp::FlushAll => {}
    }
    command
}

fn read(op: &KvOp, value: Value) -> KvRet {
    match value {
        Value::Okay => KvRet::Ok,
        Value::Int(number) => KvRet::Integer(number),
        Value::Array(items) => {
            KvRet::Values(items.into_iter().map(|item| text(op, item)).collect())
        }
        other => KvRet::Value(text(op, other)),
    }
}

fn text(op: &KvOp, value: Value) -> Option<Bytes> {
    match value {
        Value::Nil => None,
        Value::BulkString(bytes) => Some(Bytes::from(bytes)),
        other => panic!("{op:?} was answered with {other:?}"),
    }
}
