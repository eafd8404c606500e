//! The encodings of requests, replies and checkpoints, as bytes that must not change: replicas of
//! different builds exchange them, and logs keep them for years. `UPDATE=1` writes the file anew;
//! a change of it needs another [`Service::version`].

use std::fmt::Write as _;

use crate::server::context;
use mainstay_kv::{
    Answer, Condition, ExpiryCondition, ExpiryForm, Lifetime, Moment, Operation, Reply, Store,
};
use mainstay_model::Timestamp;
use mainstay_service::{Checkpoint as _, Secret, Service as _};

const GOLDEN: &str = "tests/golden/encodings.txt";

fn line(out: &mut String, name: &str, bytes: &[u8]) {
    write!(out, "{name}:").expect("a string takes every character");
    for byte in bytes {
        write!(out, " {byte:02x}").expect("a string takes every character");
    }
    out.push('\n');
}

fn operations() -> Vec<Operation<'static>> {
    let set_for = |condition, answer, lifetime| Operation::Set {
        key: b"k",
        value: b"v",
        condition,
        answer,
        lifetime,
    };
    let set = |condition, answer| set_for(condition, answer, Lifetime::Endless);
    let until = |ms| Lifetime::Until(Moment::At(ms));
    vec![
        Operation::Get { key: b"k" },
        set(Condition::Always, Answer::Done),
        set(Condition::Absent, Answer::Number),
        set(Condition::Present, Answer::Previous),
        Operation::Delete { keys: vec![b"a", b"b"] },
        Operation::Exists { keys: vec![b"a"] },
        Operation::Add { key: b"k", summand: -2 },
        Operation::Append { key: b"k", value: b"vw" },
        Operation::Length { key: b"k" },
        Operation::GetMany { keys: vec![b"a", b""] },
        Operation::SetMany { pairs: vec![(b"a", b"1"), (b"b", b"2")] },
        Operation::Count,
        Operation::Clear,
        set_for(Condition::Always, Answer::Done, Lifetime::Unchanged),
        set_for(Condition::Absent, Answer::Previous, Lifetime::Until(Moment::After(1000))),
        set_for(Condition::Present, Answer::Done, until(5)),
        Operation::Expire {
            key: b"k",
            until: Moment::After(-1),
            condition: ExpiryCondition::PresentAndEarlier,
        },
        Operation::Persist { key: b"k" },
        Operation::Expiry { key: b"k", form: ExpiryForm::Millisecond },
        Operation::GetAndExpire { key: b"k", lifetime: Lifetime::Endless },
        Operation::GetAndDelete { key: b"k" },
        Operation::SetManyAbsent { pairs: vec![(b"a", b"1"), (b"b", b"2")] },
        Operation::GetRange { key: b"k", first: 1, last: -2 },
        Operation::SetRange { key: b"k", offset: 3, value: b"v" },
        Operation::AddFloat { key: b"k", summand: b"1.5" },
        Operation::Type { key: b"k" },
        Operation::RandomKey { draw: 7 },
        Operation::Scan { cursor: 1, count: 10, pattern: None, kind: None },
        Operation::Scan { cursor: 1, count: 10, pattern: Some(b"*"), kind: Some(b"string") },
        Operation::Keys { pattern: b"a*" },
        Operation::Rename { from: b"a", to: b"b", absent: true },
        Operation::Copy { from: b"a", to: b"b", replace: true },
        Operation::Describe { before: b"t" },
    ]
}

fn replies() -> Vec<Reply<'static>> {
    vec![
        Reply::OK,
        Reply::Error(b"ERR x"),
        Reply::Integer(-2),
        Reply::Bulk(b"v"),
        Reply::Nil,
        Reply::Array(vec![Reply::Nil, Reply::Integer(1)]),
        Reply::Map(vec![(Reply::Bulk(b"k"), Reply::Nil)]),
    ]
}

#[test]
fn encodings_are_those_of_the_golden_file() {
    let mut text = String::new();
    for operation in operations() {
        line(&mut text, &format!("{operation:?}"), &operation.encode());
    }
    for reply in replies() {
        let mut bytes = Vec::new();
        reply.encode(&mut bytes);
        line(&mut text, &format!("{reply:?}"), &bytes);
    }
    let mut store = Store::default();
    store.begin(Secret(0x0123_4567_89ab_cdef_0011_2233_4455_6677));
    let until = Lifetime::Until(Moment::At(0x1234));
    for (key, value, lifetime) in [
        (&b"a"[..], &b"1"[..], Lifetime::Endless),
        (b"b", b"", until),
        (b"c", &[b'x'; 40], Lifetime::Endless),
    ] {
        let condition = Condition::Always;
        let set = Operation::Set { key, value, condition, answer: Answer::Done, lifetime };
        store.apply(&context(Timestamp(0)), &set.encode(), &mut Vec::new());
    }
    let mut bytes = Vec::new();
    store.checkpoint().write(&mut bytes).expect("a vector takes every byte");
    line(&mut text, &format!("checkpoint of version {}", Store::version()), &bytes);
    let path = format!("{}/{GOLDEN}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("the golden file can be read");
    assert_eq!(text, golden, "an encoding changed; see the head of this file");
}
