//! The store against a plain table, against itself at another replica, and against its own
//! checkpoint.

use std::collections::HashMap;

use crate::server::{context, query_context};
use mainstay_kv::{
    Condition, ExpiryCondition, ExpiryForm, Lifetime, Moment, Operation, Reply, Store,
};
use mainstay_model::Timestamp;
use mainstay_service::{Checkpoint as _, Service};
use proptest::collection::vec;
use proptest::prelude::*;

/// An operation that owns its bytes.
#[derive(Clone, Debug)]
enum Ask {
    Get(Vec<u8>),
    Set(Vec<u8>, Vec<u8>, Condition, bool, Lifetime),
    Delete(Vec<Vec<u8>>),
    Exists(Vec<Vec<u8>>),
    Add(Vec<u8>, i64),
    Append(Vec<u8>, Vec<u8>),
    Length(Vec<u8>),
    GetMany(Vec<Vec<u8>>),
    SetMany(Vec<(Vec<u8>, Vec<u8>)>),
    Count,
    Clear,
    Expire(Vec<u8>, Moment, ExpiryCondition),
    Persist(Vec<u8>),
    Expiry(Vec<u8>, ExpiryForm),
    GetAndExpire(Vec<u8>, Lifetime),
    GetAndDelete(Vec<u8>),
}

fn list(keys: &[Vec<u8>]) -> Vec<&[u8]> {
    keys.iter().map(Vec::as_slice).collect()
}

impl Ask {
    fn operation(&self) -> Operation<'_> {
        match self {
            Self::Get(key) => Operation::Get { key },
            Self::Set(key, value, condition, previous, lifetime) => Operation::Set {
                key,
                value,
                condition: *condition,
                answer: match previous {
                    true => mainstay_kv::Answer::Previous,
                    false => mainstay_kv::Answer::Done,
                },
                lifetime: *lifetime,
            },
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
            Self::Expire(key, until, condition) => {
                Operation::Expire { key, until: *until, condition: *condition }
            }
            Self::Persist(key) => Operation::Persist { key },
            Self::Expiry(key, form) => Operation::Expiry { key, form: *form },
            Self::GetAndExpire(key, lifetime) => {
                Operation::GetAndExpire { key, lifetime: *lifetime }
            }
            Self::GetAndDelete(key) => Operation::GetAndDelete { key },
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
    let expiry_condition = prop::sample::select(vec![
        ExpiryCondition::Always,
        ExpiryCondition::Absent,
        ExpiryCondition::Present,
        ExpiryCondition::Later,
        ExpiryCondition::Earlier,
        ExpiryCondition::PresentAndEarlier,
    ]);
    let form = prop::sample::select(vec![
        ExpiryForm::SecondsLeft,
        ExpiryForm::MillisecondsLeft,
        ExpiryForm::Second,
        ExpiryForm::Millisecond,
    ]);
    prop_oneof![
        3 => key().prop_map(Ask::Get),
        8 => (key(), value(), condition, any::<bool>(), lifetimes())
            .prop_map(|(key, value, condition, previous, lifetime)| {
                Ask::Set(key, value, condition, previous, lifetime)
            }),
        4 => (key(), moments(), expiry_condition)
            .prop_map(|(key, until, condition)| Ask::Expire(key, until, condition)),
        1 => key().prop_map(Ask::Persist),
        3 => (key(), form).prop_map(|(key, form)| Ask::Expiry(key, form)),
        2 => (key(), lifetimes()).prop_map(|(key, lifetime)| Ask::GetAndExpire(key, lifetime)),
        1 => key().prop_map(Ask::GetAndDelete),
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

/// Mostly soon, so that many of them pass.
fn moments() -> impl Strategy<Value = Moment> {
    prop_oneof![
        6 => (-2i64..40).prop_map(Moment::After),
        4 => (-2i64..200).prop_map(Moment::At),
        1 => any::<i64>().prop_map(Moment::After),
        1 => any::<i64>().prop_map(Moment::At),
    ]
}

fn lifetimes() -> impl Strategy<Value = Lifetime> {
    prop_oneof![
        4 => Just(Lifetime::Endless),
        1 => Just(Lifetime::Unchanged),
        4 => moments().prop_map(Lifetime::Until),
    ]
}

/// How far decided time moves before each ask, in nanoseconds, and the ask.
fn logs() -> impl Strategy<Value = Vec<(u64, Ask)>> {
    let step = prop_oneof![3 => Just(0), 3 => 0u64..2_000_000, 1 => 0u64..30_000_000];
    vec((step, asks()), 0..60)
}

/// The plain table: values and the last millisecond of each, judged whenever one looks. Millisecond 0
/// is past in any case.
#[derive(Default)]
struct Twin {
    keys: HashMap<Vec<u8>, (Vec<u8>, Option<i64>)>,
    /// In milliseconds.
    now: i64,
}

impl Twin {
    fn value(&self, key: &[u8]) -> Option<&Vec<u8>> {
        let (value, expiry) = self.keys.get(key)?;
        expiry.is_none_or(|expiry| expiry > 0 && self.now <= expiry).then_some(value)
    }

    fn expiry(&self, key: &[u8]) -> Option<i64> {
        self.value(key).and_then(|_| self.keys[key].1)
    }

    fn has(&self, key: &[u8]) -> bool {
        self.value(key).is_some()
    }

    fn len(&self) -> usize {
        self.keys.keys().filter(|key| self.has(key)).count()
    }

    fn set(&mut self, key: &[u8], value: Vec<u8>, expiry: Option<i64>) {
        self.keys.insert(key.to_vec(), (value, expiry));
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let there = self.has(key);
        self.keys.remove(key);
        there
    }

    fn absolute(&self, moment: Moment) -> i64 {
        match moment {
            Moment::After(ms) => self.now.saturating_add(ms),
            Moment::At(ms) => ms,
        }
    }

    /// What EXPIRE and GETEX do to a key that is there.
    fn expire(&mut self, key: &[u8], until: i64) {
        if until <= self.now {
            self.keys.remove(key);
        } else if let Some((_, expiry)) = self.keys.get_mut(key) {
            *expiry = Some(until);
        }
    }

    /// The first nanosecond after the earliest expiry of all.
    fn wake(&self) -> Option<Timestamp> {
        let there = self.keys.keys().filter_map(|key| self.expiry(key));
        let ms = u64::try_from(there.min()?).expect("expiries are in the future");
        (ms + 1).checked_mul(1_000_000).map(Timestamp)
    }
}

/// The reply of the twin, encoded.
fn expected(twin: &mut Twin, ask: &Ask) -> Vec<u8> {
    let bulk = |value: Option<&Vec<u8>>| value.map_or(Nothing, |value| Text(value.clone()));
    let answer = match ask {
        Ask::Get(key) => bulk(twin.value(key)),
        Ask::Set(key, value, condition, previous, lifetime) => {
            let old = bulk(twin.value(key));
            let met = match condition {
                Condition::Always => true,
                Condition::Absent => !twin.has(key),
                Condition::Present => twin.has(key),
            };
            if met {
                let expiry = match lifetime {
                    Lifetime::Endless => None,
                    Lifetime::Unchanged => twin.expiry(key),
                    Lifetime::Until(moment) => Some(twin.absolute(*moment)),
                };
                twin.set(key, value.clone(), expiry);
            }
            match (*previous, met) {
                (true, _) => old,
                (false, true) => Done,
                (false, false) => Nothing,
            }
        }
        Ask::Delete(keys) => Number(keys.iter().filter(|key| twin.remove(key)).count() as i64),
        Ask::Exists(keys) => Number(keys.iter().filter(|key| twin.has(key)).count() as i64),
        Ask::Add(key, summand) => add(twin, key, *summand),
        Ask::Append(key, value) => {
            let mut held = twin.value(key).cloned().unwrap_or_default();
            held.extend_from_slice(value);
            let len = held.len();
            twin.set(key, held, twin.expiry(key));
            Number(len as i64)
        }
        Ask::Length(key) => Number(twin.value(key).map_or(0, Vec::len) as i64),
        Ask::GetMany(keys) => Many(keys.iter().map(|key| bulk(twin.value(key))).collect()),
        Ask::SetMany(pairs) => {
            pairs.iter().for_each(|(key, value)| twin.set(key, value.clone(), None));
            Done
        }
        Ask::Count => Number(twin.len() as i64),
        Ask::Clear => {
            twin.keys.clear();
            Done
        }
        _ => expected_of_expiry(twin, ask),
    };
    let mut bytes = Vec::new();
    answer.reply().encode(&mut bytes);
    bytes
}

fn expected_of_expiry(twin: &mut Twin, ask: &Ask) -> Answer {
    match ask {
        Ask::Expire(key, until, condition) => {
            // A key without an expiry has one beyond every other.
            let (until, old) = (twin.absolute(*until), twin.expiry(key));
            let far = old.map_or(i128::MAX, i128::from);
            let met = match condition {
                ExpiryCondition::Always => true,
                ExpiryCondition::Absent => old.is_none(),
                ExpiryCondition::Present => old.is_some(),
                ExpiryCondition::Later => i128::from(until) > far,
                ExpiryCondition::Earlier => i128::from(until) < far,
                ExpiryCondition::PresentAndEarlier => old.is_some() && i128::from(until) < far,
            };
            let done = met && twin.has(key);
            if done {
                twin.expire(key, until);
            }
            Number(i64::from(done))
        }
        Ask::Persist(key) => {
            let had = twin.expiry(key).is_some();
            if let Some((_, expiry)) = twin.keys.get_mut(key).filter(|_| had) {
                *expiry = None;
            }
            Number(i64::from(had))
        }
        Ask::Expiry(key, form) => Number(match (twin.has(key), twin.expiry(key)) {
            (false, _) => -2,
            (true, None) => -1,
            (true, Some(expiry)) => {
                let (now, at) = (i128::from(twin.now), i128::from(expiry));
                let ms = match form {
                    ExpiryForm::SecondsLeft => (at - now + 500) / 1000,
                    ExpiryForm::MillisecondsLeft => at - now,
                    ExpiryForm::Second => (at + 500) / 1000,
                    ExpiryForm::Millisecond => at,
                };
                i64::try_from(ms).expect("is smaller than the expiry")
            }
        }),
        Ask::GetAndExpire(key, lifetime) => {
            let value = twin.value(key).cloned();
            match (&value, lifetime) {
                (None, _) | (_, Lifetime::Unchanged) => {}
                (Some(value), Lifetime::Endless) => twin.set(key, value.clone(), None),
                (_, Lifetime::Until(moment)) => twin.expire(key, twin.absolute(*moment)),
            }
            value.map_or(Nothing, Text)
        }
        Ask::GetAndDelete(key) => {
            let value = twin.value(key).cloned();
            twin.remove(key);
            value.map_or(Nothing, Text)
        }
        _ => unreachable!("the others are no matter of expiry"),
    }
}

fn add(twin: &mut Twin, key: &[u8], summand: i64) -> Answer {
    let held = twin
        .value(key)
        .map_or_else(|| "0".to_owned(), |value| String::from_utf8_lossy(value).into_owned());
    let Some(number) = held.parse::<i64>().ok().filter(|number| number.to_string() == held) else {
        return Wrong("ERR value is not an integer or out of range");
    };
    let Some(sum) = number.checked_add(summand) else {
        return Wrong("ERR increment or decrement would overflow");
    };
    twin.set(key, sum.to_string().into_bytes(), twin.expiry(key));
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

/// Carries a request out in a slot of the given time, as an applier does.
fn apply(store: &mut Store, time: Timestamp, request: &[u8]) -> Vec<u8> {
    let mut reply = Vec::new();
    store.apply(&context(time), request, &mut reply);
    reply
}

/// Time and request of every slot.
fn slots(log: &[(u64, Ask)]) -> Vec<(Timestamp, bytes::Bytes)> {
    let mut time = 0;
    let slot = |(step, ask): &(u64, Ask)| {
        time += step;
        (Timestamp(time), ask.operation().encode())
    };
    log.iter().map(slot).collect()
}

fn written(store: &mut Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.checkpoint().write(&mut bytes).expect("a vector takes every byte");
    bytes
}

proptest! {
    #[test]
    fn the_store_answers_as_a_plain_table_does(log in logs()) {
        let (mut store, mut twin) = (Store::default(), Twin::default());
        for ((time, request), (_, ask)) in slots(&log).into_iter().zip(&log) {
            let operation = ask.operation();
            twin.now = (time.0 / 1_000_000) as i64;
            let expected = expected(&mut twin, ask);
            store.advance(time);
            if operation.is_query() {
                let mut reply = Vec::new();
                store.query(&query_context(time), &request, &mut reply);
                prop_assert_eq!(&reply, &expected, "asked: {:?} at {:?}", operation, time);
            }
            prop_assert_eq!(
                apply(&mut store, time, &request), expected, "ordered: {:?} at {:?}", operation, time
            );
            prop_assert_eq!(store.wake(), twin.wake());
        }
    }

    #[test]
    fn equal_logs_give_equal_bytes(log in logs(), at in 0usize..60) {
        let (mut one, mut two) = (Store::default(), Store::default());
        let mut held = None;
        for (position, (time, request)) in slots(&log).into_iter().enumerate() {
            if position == at {
                // One replica holds a checkpoint from here on and restarts from another.
                held = Some((written(&mut one), one.checkpoint()));
                two = Store::restore(&mut &written(&mut two)[..]).expect("it was just written");
            }
            one.advance(time);
            two.advance(time);
            prop_assert_eq!(apply(&mut one, time, &request), apply(&mut two, time, &request));
            prop_assert_eq!(one.wake(), two.wake());
        }
        prop_assert_eq!(written(&mut one), written(&mut two));
        if let Some((bytes, checkpoint)) = held {
            let mut later = Vec::new();
            checkpoint.write(&mut later).expect("a vector takes every byte");
            prop_assert_eq!(later, bytes, "a checkpoint stays as it was taken");
        }
    }

    /// Ticks make no difference to what is there at a moment, only to how soon it is known.
    #[test]
    fn empty_slots_change_nothing_but_the_time(log in logs(), ticks in vec(1u64..4, 60)) {
        let (mut one, mut two) = (Store::default(), Store::default());
        let mut before = 0;
        for ((time, request), parts) in slots(&log).into_iter().zip(ticks) {
            for part in 1..=parts {
                two.advance(Timestamp(before + (time.0 - before) * part / parts));
            }
            before = time.0;
            one.advance(time);
            prop_assert_eq!(apply(&mut one, time, &request), apply(&mut two, time, &request));
            prop_assert_eq!(written(&mut one), written(&mut two));
        }
    }

    #[test]
    fn what_was_written_is_restored(log in logs()) {
        let mut store = Store::default();
        for (time, request) in slots(&log) {
            store.advance(time);
            apply(&mut store, time, &request);
        }
        let restored = Store::restore(&mut &written(&mut store)[..]).expect("it was just written");
        prop_assert_eq!(restored.wake(), store.wake());
        prop_assert_eq!(restored, store);
    }
}

#[test]
fn what_is_no_operation_is_answered_and_changes_nothing() {
    let mut store = Store::default();
    apply(&mut store, Timestamp(0), &Operation::Append { key: b"k", value: b"v" }.encode());
    let before = written(&mut store);
    for request in [&b""[..], b"\xff", b"\x02", b"\x01\xff\xff\xff\xff", b"\x0d\x06"] {
        let mut reply = Vec::new();
        store.query(&query_context(Timestamp(0)), request, &mut reply);
        for reply in [apply(&mut store, Timestamp(0), request), reply] {
            let Ok(Reply::Error(text)) = Reply::decode(&reply) else { panic!("not an error") };
            assert!(text.starts_with(b"ERR the request is no operation of this store: "));
        }
    }
    let mut reply = Vec::new();
    store.query(&query_context(Timestamp(0)), &Operation::Clear.encode(), &mut reply);
    assert_eq!(
        Reply::decode(&reply),
        Ok(Reply::Error(b"ERR this changes the store: send it as a request, not as a query"))
    );
    assert_eq!(written(&mut store), before);
}
