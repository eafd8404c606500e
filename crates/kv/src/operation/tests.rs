//! Every operation and its encoding.

use proptest::prelude::*;

use super::*;

fn plain() -> Vec<Operation<'static>> {
    let keys = || vec![&b"a"[..], b"", b"a"];
    vec![
        Operation::Get { key: b"k" },
        Operation::Delete { keys: keys() },
        Operation::Exists { keys: keys() },
        Operation::Add { key: b"k", summand: i64::MIN },
        Operation::Append { key: b"k", value: b"v" },
        Operation::Length { key: b"" },
        Operation::GetMany { keys: keys() },
        Operation::SetMany { pairs: vec![(b"a", b"1"), (b"b", b"")] },
        Operation::Count,
        Operation::Clear,
        Operation::Persist { key: b"k" },
        Operation::GetAndDelete { key: b"k" },
        Operation::SetManyAbsent { pairs: vec![(b"a", b"1"), (b"b", b"")] },
        Operation::GetRange { key: b"k", first: i64::MIN, last: -1 },
        Operation::SetRange { key: b"k", offset: u64::MAX, value: b"v" },
        Operation::AddFloat { key: b"k", summand: b"-1.5e3" },
        Operation::Type { key: b"k" },
        Operation::RandomKey { draw: u64::MAX },
        Operation::Scan { cursor: 1, count: 10, pattern: None, kind: None },
        Operation::Scan { cursor: 1 << 47, count: 10, pattern: Some(b"*"), kind: Some(b"string") },
        Operation::Keys { pattern: b"*" },
        Operation::Rename { from: b"a", to: b"b", absent: false },
        Operation::Rename { from: b"a", to: b"a", absent: true },
        Operation::Copy { from: b"a", to: b"b", replace: false },
        Operation::Copy { from: b"a", to: b"b", replace: true },
        Operation::Describe { before: b"text" },
    ]
}

#[test]
fn every_operation_comes_back() {
    let mut all = plain();
    let moments = [Moment::After(i64::MIN), Moment::After(1), Moment::At(i64::MAX)];
    let lifetimes = [Lifetime::Endless, Lifetime::Unchanged];
    for lifetime in lifetimes.into_iter().chain(moments.map(Lifetime::Until)) {
        for condition in [Condition::Always, Condition::Absent, Condition::Present] {
            for answer in [Answer::Done, Answer::Previous, Answer::Number] {
                let (key, value) = (&b"k"[..], &b"v"[..]);
                all.push(Operation::Set { key, value, condition, answer, lifetime });
            }
        }
        all.push(Operation::GetAndExpire { key: b"k", lifetime });
    }
    for condition in [
        ExpiryCondition::Always,
        ExpiryCondition::Absent,
        ExpiryCondition::Present,
        ExpiryCondition::Later,
        ExpiryCondition::Earlier,
        ExpiryCondition::PresentAndEarlier,
    ] {
        let expire = |until| Operation::Expire { key: b"k", until, condition };
        all.extend(moments.map(expire));
    }
    for form in [
        ExpiryForm::SecondsLeft,
        ExpiryForm::MillisecondsLeft,
        ExpiryForm::Second,
        ExpiryForm::Millisecond,
    ] {
        all.push(Operation::Expiry { key: b"k", form });
    }
    for operation in all {
        let bytes = operation.encode();
        assert!(bytes.len() <= operation.encoded_len());
        assert_eq!(Operation::decode(&bytes), Ok(operation));
        for len in 0..bytes.len() {
            assert_eq!(Operation::decode(&bytes[..len]), Err(DecodeError::Truncated));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Operation::decode(&longer), Err(DecodeError::TrailingBytes));
    }
}

#[test]
fn limits_hold_for_every_sender() {
    let long = vec![0; VALUE_LEN_MAX + 1];
    let bytes = Operation::Get { key: &long }.encode();
    assert_eq!(Operation::decode(&bytes), Err(DecodeError::TooLarge));
    let pattern = [&[KEYS, 1, 4, 0, 0][..], &[b'*'; 1025]].concat();
    assert_eq!(Operation::decode(&pattern), Err(DecodeError::TooLarge));
    assert_eq!(Operation::decode(&[DELETE, 1, 0, 16, 0]), Err(DecodeError::TooLarge));
    assert_eq!(Operation::decode(&[DELETE, 0, 0, 16, 0]), Err(DecodeError::Truncated));
}

#[test]
fn an_operation_has_one_encoding() {
    let endless = [SET_WITH_EXPIRY, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(Operation::decode(&endless), Err(DecodeError::BadValue("lifetime")));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(0u8..30, 0..60)) {
        crate::decode_any::operation(&bytes);
    }
}
