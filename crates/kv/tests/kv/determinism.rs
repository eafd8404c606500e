//! The store against a plain table, against itself at another replica, and against its own
//! checkpoint.

use std::collections::HashMap;

use crate::server::{QUERY, context};
use mainstay_kv::{Condition, Operation, Reply, Store};
use mainstay_service::{Checkpoint as _, Service};
use proptest::collection::vec;
use proptest::prelude::*;

/// An operation that owns its bytes.
#[derive(Clone, Debug)]
enum Ask {
    Get(Vec<u8>),
    Set(Vec<u8>, Vec<u8>, Condition, bool),
    Delete(Vec<Vec<u8>>),
    Exists(Vec<Vec<u8>>),
    Add(Vec<u8>, i64),
    Append(Vec<u8>, Vec<u8>),
    Length(Vec<u8>),
    GetMany(Vec<Vec<u8>>),
    SetMany(Vec<(Vec<u8>, Vec<u8>)>),
    Count,
    Clear,
}

fn list(keys: &[Vec<u8>]) -> Vec<&[u8]> {
    keys.iter().map(Vec::as_slice).collect()
}

impl Ask {
    fn operation(&self) -> Operation<'_> {
        match self {
            Self::Get(key) => Operation::Get { key },
            Self::Set(key, value, condition, previous) => {
                Operation::Set { key, value, condition: *condition, previous: *previous }
            }
            Self::Delete(keys) => Operation::Delete { keys: list(keys) },
            Self::Exists(keys) => Operation::Exists { keys: list(keys) },
            Self::Add(key, summand) => Operation::Add { key, summand: *summand },
            Self::Append(key, value) => Operation::Append { key, value },
            Self::Length(key) => Operation::Length { key },
            Self::GetMany(keys) => Operation::GetMany { keys: list(keys) },
            Self::SetMany(pairs) => Operation::SetMany {
                pairs: pairs.iter().map(|(key, value)| (&key[..], &value[..])).collect(),
            },
            Self::Count => Operation::Count,
            Self::Clear => Operation::Clear,
        }
    }
}

fn asks() -> impl Strategy<Value = Ask> {
    let key = || "[a-e]{0,2}".prop_map(String::into_bytes);
    let value = || {
        prop_oneof![
            vec(any::<u8>(), 0..40),
            any::<i8>().prop_map(|number| number.to_string().into_bytes()),
            (i64::MAX - 2..=i64::MAX).prop_map(|number| number.to_string().into_bytes()),
        ]
    };
    let condition =
        prop_oneof![Just(Condition::Always), Just(Condition::Absent), Just(Condition::Present)];
    prop_oneof![
        3 => key().prop_map(Ask::Get),
        6 => (key(), value(), condition, any::<bool>())
            .prop_map(|(key, value, condition, previous)| Ask::Set(key, value, condition, previous)),
        2 => vec(key(), 0..4).prop_map(Ask::Delete),
        1 => vec(key(), 0..4).prop_map(Ask::Exists),
        4 => (key(), -3i64..4).prop_map(|(key, summand)| Ask::Add(key, summand)),
        3 => (key(), value()).prop_map(|(key, value)| Ask::Append(key, value)),
        1 => key().prop_map(Ask::Length),
        1 => vec(key(), 0..4).prop_map(Ask::GetMany),
        2 => vec((key(), value()), 0..4).prop_map(Ask::SetMany),
        1 => Just(Ask::Count),
        1 => Just(Ask::Clear),
    ]
}

type Twin = HashMap<Vec<u8>, Vec<u8>>;

/// The reply of the twin, encoded.
fn expected(twin: &mut Twin, ask: &Ask) -> Vec<u8> {
    let bulk = |value: Option<&Vec<u8>>| value.map_or(Nothing, |value| Text(value.clone()));
    let answer = match ask {
        Ask::Get(key) => bulk(twin.get(key)),
        Ask::Set(key, value, condition, previous) => {
            let old = bulk(twin.get(key));
            let met = match condition {
                Condition::Always => true,
                Condition::Absent => !twin.contains_key(key),
                Condition::Present => twin.contains_key(key),
            };
            if met {
                twin.insert(key.clone(), value.clone());
            }
            match (*previous, met) {
                (true, _) => old,
                (false, true) => Done,
                (false, false) => Nothing,
            }
        }
        Ask::Delete(keys) => {
            Number(keys.iter().filter(|key| twin.remove(*key).is_some()).count() as i64)
        }
        Ask::Exists(keys) => {
            Number(keys.iter().filter(|key| twin.contains_key(*key)).count() as i64)
        }
        Ask::Add(key, summand) => add(twin, key, *summand),
        Ask::Append(key, value) => {
            let held = twin.entry(key.clone()).or_default();
            held.extend_from_slice(value);
            Number(held.len() as i64)
        }
        Ask::Length(key) => Number(twin.get(key).map_or(0, Vec::len) as i64),
        Ask::GetMany(keys) => Many(keys.iter().map(|key| bulk(twin.get(key))).collect()),
        Ask::SetMany(pairs) => {
            twin.extend(pairs.iter().cloned());
            Done
        }
        Ask::Count => Number(twin.len() as i64),
        Ask::Clear => {
            twin.clear();
            Done
        }
    };
    let mut bytes = Vec::new();
    answer.reply().encode(&mut bytes);
    bytes
}

fn add(twin: &mut Twin, key: &[u8], summand: i64) -> Answer {
    let held = twin
        .get(key)
        .map_or_else(|| "0".to_owned(), |value| String::from_utf8_lossy(value).into_owned());
    let Some(number) = held.parse::<i64>().ok().filter(|number| number.to_string() == held) else {
        return Wrong("ERR value is not an integer or out of range");
    };
    let Some(sum) = number.checked_add(summand) else {
        return Wrong("ERR increment or decrement would overflow");
    };
    twin.insert(key.to_vec(), sum.to_string().into_bytes());
    Number(sum)
}

/// A reply that owns its bytes.
enum Answer {
    Done,
    Nothing,
    Number(i64),
    Text(Vec<u8>),
    Wrong(&'static str),
    Many(Vec<Self>),
}
use Answer::{Done, Many, Nothing, Number, Text, Wrong};

impl Answer {
    fn reply(&self) -> Reply<'_> {
        match self {
            Done => Reply::OK,
            Nothing => Reply::Nil,
            Number(value) => Reply::Integer(*value),
            Text(bytes) => Reply::Bulk(bytes),
            Wrong(text) => Reply::Error(text.as_bytes()),
            Many(answers) => Reply::Array(answers.iter().map(Self::reply).collect()),
        }
    }
}

fn apply(store: &mut Store, request: &[u8]) -> Vec<u8> {
    let mut reply = Vec::new();
    store.apply(&context(), request, &mut reply);
    reply
}

fn written(store: &mut Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.checkpoint().write(&mut bytes).expect("a vector takes every byte");
    bytes
}

proptest! {
    #[test]
    fn the_store_answers_as_a_plain_table_does(asks in vec(asks(), 0..60)) {
        let (mut store, mut twin) = (Store::default(), Twin::new());
        for ask in asks {
            let operation = ask.operation();
            let request = operation.encode();
            let expected = expected(&mut twin, &ask);
            if operation.is_query() {
                let mut reply = Vec::new();
                store.query(&QUERY, &request, &mut reply);
                prop_assert_eq!(&reply, &expected, "asked: {:?}", operation);
            }
            prop_assert_eq!(apply(&mut store, &request), expected, "ordered: {:?}", operation);
        }
    }

    #[test]
    fn equal_logs_give_equal_bytes(asks in vec(asks(), 0..60), at in 0usize..60) {
        let requests: Vec<_> = asks.iter().map(|ask| ask.operation().encode()).collect();
        let (mut one, mut two) = (Store::default(), Store::default());
        let mut held = None;
        for (position, request) in requests.iter().enumerate() {
            if position == at {
                // One replica holds a checkpoint from here on and restarts from another.
                held = Some((written(&mut one), one.checkpoint()));
                two = Store::restore(&mut &written(&mut two)[..]).expect("it was just written");
            }
            prop_assert_eq!(apply(&mut one, request), apply(&mut two, request));
        }
        prop_assert_eq!(written(&mut one), written(&mut two));
        if let Some((bytes, checkpoint)) = held {
            let mut later = Vec::new();
            checkpoint.write(&mut later).expect("a vector takes every byte");
            prop_assert_eq!(later, bytes, "a checkpoint stays as it was taken");
        }
    }

    #[test]
    fn what_was_written_is_restored(asks in vec(asks(), 0..60)) {
        let mut store = Store::default();
        for ask in &asks {
            apply(&mut store, &ask.operation().encode());
        }
        let restored = Store::restore(&mut &written(&mut store)[..]).expect("it was just written");
        prop_assert_eq!(restored, store);
    }
}

#[test]
fn what_is_no_operation_is_answered_and_changes_nothing() {
    let mut store = Store::default();
    apply(&mut store, &Operation::Append { key: b"k", value: b"v" }.encode());
    let before = written(&mut store);
    for request in [&b""[..], b"\xff", b"\x02", b"\x01\xff\xff\xff\xff"] {
        let mut reply = Vec::new();
        store.query(&QUERY, request, &mut reply);
        for reply in [apply(&mut store, request), reply] {
            let Ok(Reply::Error(text)) = Reply::decode(&reply) else { panic!("not an error") };
            assert!(text.starts_with(b"ERR the request is no operation of this store: "));
        }
    }
    let mut reply = Vec::new();
    store.query(&QUERY, &Operation::Clear.encode(), &mut reply);
    assert_eq!(
        Reply::decode(&reply),
        Ok(Reply::Error(b"ERR this changes the store: send it as a request, not as a query"))
    );
    assert_eq!(written(&mut store), before);
}
