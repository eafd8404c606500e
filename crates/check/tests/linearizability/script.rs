//! Histories written down: one operation a line, `process from-to command -> reply`, with `?` for a
//! return or a reply that never came.

use bytes::Bytes;
use mainstay_check::History;
use mainstay_check::kv_model::{KvOp, KvRet};

pub(crate) type KvHistory = History<KvOp, KvRet>;

/// # Panics
/// If a line is not understood.
pub(crate) fn history(script: &str) -> KvHistory {
    let mut history = History::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (asked, told) = line.split_once(" -> ").unwrap_or((line, "?"));
        let mut words = asked.split_whitespace();
        let process = words.next().unwrap().parse().unwrap();
        let (from, to) = words.next().unwrap().split_once('-').unwrap();
        let words: Vec<&str> = words.collect();
        let id = history.invoke(process, op(&words), from.parse().unwrap());
        if to != "?" {
            history.returned(id, ret(told), to.parse().unwrap());
        }
    }
    history
}

fn bytes(word: &str) -> Bytes {
    Bytes::copy_from_slice(word.as_bytes())
}

fn all(words: &[&str]) -> Vec<Bytes> {
    words.iter().map(|word| bytes(word)).collect()
}

fn op(words: &[&str]) -> KvOp {
    match *words {
        ["get", key] => KvOp::Get(bytes(key)),
        ["set", key, value] => KvOp::Set(bytes(key), bytes(value)),
        ["setnx", key, value] => KvOp::SetNx(bytes(key), bytes(value)),
        ["setxx", key, value] => KvOp::SetXx(bytes(key), bytes(value)),
        ["setget", key, value] => KvOp::SetGet(bytes(key), bytes(value)),
        ["incr", key] => KvOp::IncrBy(bytes(key), 1),
        ["append", key, value] => KvOp::Append(bytes(key), bytes(value)),
        ["strlen", key] => KvOp::Strlen(bytes(key)),
        ["del", ref keys @ ..] => KvOp::Del(all(keys)),
        ["exists", ref keys @ ..] => KvOp::Exists(all(keys)),
        ["mget", ref keys @ ..] => KvOp::MGet(all(keys)),
        ["mset", ref pairs @ ..] => {
            KvOp::MSet(pairs.chunks(2).map(|pair| (bytes(pair[0]), bytes(pair[1]))).collect())
        }
        ["dbsize"] => KvOp::DbSize,
        ["flushall"] => KvOp::FlushAll,
        _ => panic!("no operation: {words:?}"),
    }
}

/// `ok`, `error`, `#7` a number, `nil`, `[a nil]` values, anything else a value.
fn ret(told: &str) -> KvRet {
    let value = |word: &str| (word != "nil").then(|| bytes(word));
    if let Some(number) = told.strip_prefix('#') {
        return KvRet::Integer(number.parse().unwrap());
    }
    if let Some(values) = told.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return KvRet::Values(values.split_whitespace().map(value).collect());
    }
    match told {
        "ok" => KvRet::Ok,
        "error" => KvRet::Error,
        _ => KvRet::Value(value(told)),
    }
}
