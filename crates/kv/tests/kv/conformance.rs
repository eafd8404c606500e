//! The store against the contract of services, with an operation of every kind.

use bytes::Bytes;
use mainstay_kv::{
    Answer, Condition, ExpiryCondition, ExpiryForm, Lifetime, Moment, Operation, Store,
};
use mainstay_service::conformance;

/// The check moves decided time by a second a slot: these expiries pass on the way.
fn operations() -> Vec<Bytes> {
    let (key, value) = (&b"k"[..], &b"17"[..]);
    let set = |condition, previous, lifetime| Operation::Set {
        key,
        value,
        condition,
        answer: if previous { Answer::Previous } else { Answer::Done },
        lifetime,
    };
    let soon = Lifetime::Until(Moment::After(2_500));
    let all = vec![
        set(Condition::Always, false, Lifetime::Endless),
        Operation::Get { key },
        set(Condition::Present, true, soon),
        Operation::Expiry { key, form: ExpiryForm::MillisecondsLeft },
        Operation::Add { key, summand: 3 },
        set(Condition::Absent, false, Lifetime::Unchanged),
        Operation::Append { key, value: b"tail" },
        Operation::Length { key },
        Operation::SetMany { pairs: vec![(b"a", b"1"), (b"b", b"2"), (b"c", b"3")] },
        Operation::GetMany { keys: vec![b"a", key, b"c"] },
        Operation::Expire {
            key: b"a",
            until: Moment::After(1_500),
            condition: ExpiryCondition::Absent,
        },
        Operation::Expire {
            key: b"b",
            until: Moment::At(40_000),
            condition: ExpiryCondition::Always,
        },
        Operation::Count,
        Operation::SetManyAbsent { pairs: vec![(b"d", b"1"), (b"e", b"2")] },
        Operation::SetManyAbsent { pairs: vec![(b"d", b"3"), (b"f", b"4")] },
        Operation::GetRange { key, first: 0, last: -2 },
        Operation::SetRange { key: b"d", offset: 3, value: b"x" },
        Operation::AddFloat { key: b"e", summand: b"0.1" },
        Operation::Type { key: b"e" },
        Operation::RandomKey { draw: 7 },
        Operation::Scan { cursor: 0, count: 2, pattern: Some(b"[a-f]"), kind: Some(b"string") },
        Operation::Keys { pattern: b"*" },
        Operation::Rename { from: b"e", to: b"g", absent: false },
        Operation::Copy { from: b"g", to: b"h", replace: false },
        Operation::Describe { before: b"text" },
        Operation::Persist { key: b"b" },
        Operation::GetAndExpire { key: b"c", lifetime: soon },
        Operation::Exists { keys: vec![b"a", b"b", b"c"] },
        Operation::GetAndDelete { key: b"b" },
        Operation::Delete { keys: vec![key, b"none"] },
        Operation::Count,
        Operation::Clear,
        set(Condition::Always, false, Lifetime::Until(Moment::At(1 << 60))),
    ];
    all.iter().map(Operation::encode).collect()
}

#[test]
fn the_store_keeps_to_the_contract_of_services() {
    if let Err(violation) = conformance::check(Store::default, &operations()) {
        panic!("{violation}");
    }
}

/// Enough keys that leaves split and go while checkpoints are held.
#[test]
fn the_store_keeps_to_it_with_many_keys_that_come_and_go() {
    let operations: Vec<Bytes> = (0..1_500u32)
        .map(|number| {
            let key = (number * 7919 % 400).to_le_bytes();
            let lifetime = Lifetime::Until(Moment::After(i64::from(number % 90) * 1_000 + 500));
            let set = Operation::Set {
                key: &key,
                value: &number.to_le_bytes(),
                condition: Condition::Always,
                answer: Answer::Number,
                lifetime: if number % 3 == 0 { lifetime } else { Lifetime::Endless },
            };
            if number % 5 == 4 { Operation::Delete { keys: vec![&key] } } else { set }.encode()
        })
        .collect();
    if let Err(violation) = conformance::check(Store::default, &operations) {
        panic!("{violation}");
    }
}
