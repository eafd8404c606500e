//! Commands about when keys go, and what the others do to keys that will: answers byte for byte, at
//! chosen moments of decided time.

use mainstay_kv::{Answer, Lifetime, Moment, Operation, Store};
use mainstay_model::Timestamp;
use mainstay_service::Service as _;

use crate::commands::{NOT_AN_INTEGER, check};
use crate::server::{Server, context};

const SYNTAX: &str = "-ERR syntax error·";
const NIL: &str = "$-1·";

#[test]
fn set_with_an_expiry() {
    check(&[
        ("10500", "", ""),
        ("SET k v EX 10", "+OK·", ""),
        ("TTL k", ":10·", ""),
        ("PTTL k", ":10000·", ""),
        ("PEXPIRETIME k", ":20500·", ""),
        ("EXPIRETIME k", ":21·", ""),
        ("SET k v px 1500", "+OK·", ""),
        ("PTTL k", ":1500·", ""),
        ("TTL k", ":2·", ""),
        ("SET k v EXAT 30", "+OK·", ""),
        ("PEXPIRETIME k", ":30000·", ""),
        ("SET k v PXAT 30001", "+OK·", ""),
        ("PEXPIRETIME k", ":30001·", ""),
        ("SET k w KEEPTTL", "+OK·", ""),
        ("PEXPIRETIME k", ":30001·", ""),
        ("GET k", "$1·w·", ""),
        ("SET k x", "+OK·", ""),
        ("TTL k", ":-1·", ""),
        ("SET new y KEEPTTL", "+OK·", ""),
        ("TTL new", ":-1·", ""),
        ("SET k x EX 1 EX 2", "+OK·", ""),
        ("PTTL k", ":2000·", ""),
        ("SETEX k 3 s", "+OK·", ""),
        ("PTTL k", ":3000·", ""),
        ("PSETEX k 3 p", "+OK·", ""),
        ("PTTL k", ":3·", ""),
        ("10503", "", ""),
        ("GET k", "$1·p·", ""),
        ("PTTL k", ":0·", ""),
        ("10504", "", ""),
        ("GET k", NIL, "_·"),
        ("PTTL k", ":-2·", ""),
    ]);
}

#[test]
fn set_with_an_expiry_and_conditions() {
    check(&[
        ("SET k v NX EX 10", "+OK·", ""),
        ("SET k w NX EX 20", NIL, "_·"),
        ("PTTL k", ":10000·", ""),
        ("SET k w EX 20 XX GET", "$1·v·", ""),
        ("PTTL k", ":20000·", ""),
        ("SET k x NX GET PX 5", "$1·w·", ""),
        ("PTTL k", ":20000·", ""),
        ("SET none x XX PX 5", NIL, "_·"),
        ("EXISTS none", ":0·", ""),
        ("SET k y GET KEEPTTL XX", "$1·w·", ""),
        ("PTTL k", ":20000·", ""),
        ("5000", "", ""),
        ("SET k z PXAT 4999 GET", "$1·y·", ""),
        ("GET k", NIL, "_·"),
        ("DBSIZE", ":0·", ""),
        ("SET k z EXAT 4", "+OK·", ""),
        ("EXISTS k", ":0·", ""),
        ("SET k z PXAT 5000", "+OK·", ""),
        ("PTTL k", ":0·", ""),
        ("5001", "", ""),
        ("EXISTS k", ":0·", ""),
    ]);
}

#[test]
fn refusals_of_set() {
    let invalid = "-ERR invalid expire time in 'set' command·";
    check(&[
        ("SET k v EX", SYNTAX, ""),
        ("SET k v EX ten", NOT_AN_INTEGER, ""),
        ("SET k v EX 1.5", NOT_AN_INTEGER, ""),
        ("SET k v EX ten FOO", SYNTAX, ""),
        ("SET k v EX 10 PX 10", SYNTAX, ""),
        ("SET k v EX 10 EXAT 10", SYNTAX, ""),
        ("SET k v PXAT 10 KEEPTTL", SYNTAX, ""),
        ("SET k v KEEPTTL EX 10", SYNTAX, ""),
        ("SET k v PERSIST", SYNTAX, ""),
        ("SET k v EX 0", invalid, ""),
        ("SET k v PX -1", invalid, ""),
        ("SET k v EXAT 0", invalid, ""),
        ("SET k v PXAT -5", invalid, ""),
        ("SET k v EX 9223372036854776", invalid, ""),
        ("SET k v PX 9223372036854775807", invalid, ""),
        ("SET k v PX 9223353590110702099", invalid, ""),
        ("SET gone v PX 9223353590110702098", "+OK·", ""),
        ("GETDEL gone", "$1·v·", ""),
        ("SET k v EX 9223372036854775808", NOT_AN_INTEGER, ""),
        ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command·", ""),
        ("SETEX k x v", NOT_AN_INTEGER, ""),
        ("SETEX k 1", "-ERR wrong number of arguments for 'setex' command·", ""),
        ("PSETEX k -1 v", "-ERR invalid expire time in 'psetex' command·", ""),
        ("DBSIZE", ":0·", ""),
        ("SET k v PXAT 9223372036854775807", "+OK·", ""),
        ("PEXPIRETIME k", ":9223372036854775807·", ""),
        ("EXPIRETIME k", ":9223372036854776·", ""),
        ("PTTL k", ":9223372036854775807·", ""),
    ]);
}

#[test]
fn expire_and_its_relatives() {
    check(&[
        ("1000", "", ""),
        ("EXPIRE k 10", ":0·", ""),
        ("TTL k", ":-2·", ""),
        ("PTTL k", ":-2·", ""),
        ("EXPIRETIME k", ":-2·", ""),
        ("PEXPIRETIME k", ":-2·", ""),
        ("SET k v", "+OK·", ""),
        ("PTTL k", ":-1·", ""),
        ("EXPIRETIME k", ":-1·", ""),
        ("PEXPIRETIME k", ":-1·", ""),
        ("PERSIST k", ":0·", ""),
        ("PERSIST none", ":0·", ""),
        ("EXPIRE k 10", ":1·", ""),
        ("PEXPIRETIME k", ":11000·", ""),
        ("PEXPIRE k 10", ":1·", ""),
        ("PEXPIRETIME k", ":1010·", ""),
        ("EXPIREAT k 7", ":1·", ""),
        ("PEXPIRETIME k", ":7000·", ""),
        ("PEXPIREAT k 7001", ":1·", ""),
        ("PEXPIRETIME k", ":7001·", ""),
        ("PERSIST k", ":1·", ""),
        ("TTL k", ":-1·", ""),
        ("EXPIRE k 0", ":1·", ""),
        ("EXISTS k", ":0·", ""),
        ("SET k v", "+OK·", ""),
        ("PEXPIRE k -1", ":1·", ""),
        ("EXISTS k", ":0·", ""),
        ("SET k v", "+OK·", ""),
        ("PEXPIREAT k 1000", ":1·", ""),
        ("EXISTS k", ":0·", ""),
        ("SET k v", "+OK·", ""),
        ("EXPIREAT k -9223372036854775", ":1·", ""),
        ("DBSIZE", ":0·", ""),
    ]);
}

#[test]
fn conditions_of_expire() {
    check(&[
        ("MSET a 1 b 2", "+OK·", ""),
        ("EXPIRE a 10 XX", ":0·", ""),
        ("EXPIRE a 10 GT", ":0·", ""),
        ("EXPIRE a 10 XX LT", ":0·", ""),
        ("EXPIRE a 10 xx gt", ":0·", ""),
        ("TTL a", ":-1·", ""),
        ("EXPIRE a 10 LT", ":1·", ""),
        ("EXPIRE b 10 NX", ":1·", ""),
        ("EXPIRE b 20 NX", ":0·", ""),
        ("EXPIRE b 20 XX", ":1·", ""),
        ("TTL b", ":20·", ""),
        ("EXPIRE b 20 GT", ":0·", ""),
        ("EXPIRE b 20 LT", ":0·", ""),
        ("EXPIRE b 21 GT", ":1·", ""),
        ("EXPIRE b 20 LT XX", ":1·", ""),
        ("EXPIRE b 30 GT XX", ":1·", ""),
        ("EXPIRE b 30 GT GT", ":0·", ""),
        ("TTL b", ":30·", ""),
        ("EXPIRE b -1 GT", ":0·", ""),
        ("EXPIRE b -1 LT", ":1·", ""),
        ("EXISTS a b", ":1·", ""),
    ]);
}

#[test]
fn refusals_of_expire() {
    let together = "-ERR NX and XX, GT or LT options at the same time are not compatible·";
    check(&[
        ("SET k v", "+OK·", ""),
        ("EXPIRE k", "-ERR wrong number of arguments for 'expire' command·", ""),
        ("EXPIRE k ten", NOT_AN_INTEGER, ""),
        ("EXPIRE k 10 FOO", "-ERR Unsupported option FOO·", ""),
        ("EXPIRE k ten FOO", "-ERR Unsupported option FOO·", ""),
        ("EXPIRE k 10 NX XX", together, ""),
        ("EXPIRE k 10 GT NX", together, ""),
        ("EXPIRE k 10 NX LT", together, ""),
        ("EXPIRE k 10 GT LT", "-ERR GT and LT options at the same time are not compatible·", ""),
        ("EXPIRE k 9223372036854776", "-ERR invalid expire time in 'expire' command·", ""),
        ("EXPIRE none -9223372036854776", "-ERR invalid expire time in 'expire' command·", ""),
        ("PEXPIRE k 9223372036854775807", "-ERR invalid expire time in 'pexpire' command·", ""),
        ("EXPIREAT k 9223372036854776", "-ERR invalid expire time in 'expireat' command·", ""),
        ("PEXPIREAT k 9223372036854775808", NOT_AN_INTEGER, ""),
        ("TTL k", ":-1·", ""),
        ("PEXPIREAT k 9223372036854775807", ":1·", ""),
        ("TTL", "-ERR wrong number of arguments for 'ttl' command·", ""),
        ("PERSIST a b", "-ERR wrong number of arguments for 'persist' command·", ""),
    ]);
}

#[test]
fn getex() {
    check(&[
        ("1000", "", ""),
        ("GETEX k", NIL, "_·"),
        ("GETEX k EX 10", NIL, "_·"),
        ("EXISTS k", ":0·", ""),
        ("SET k v", "+OK·", ""),
        ("GETEX k", "$1·v·", ""),
        ("PTTL k", ":-1·", ""),
        ("GETEX k EX 10", "$1·v·", ""),
        ("GETEX k", "$1·v·", ""),
        ("PTTL k", ":10000·", ""),
        ("GETEX k px 10", "$1·v·", ""),
        ("PTTL k", ":10·", ""),
        ("GETEX k EXAT 10", "$1·v·", ""),
        ("PTTL k", ":9000·", ""),
        ("GETEX k PXAT 10", "$1·v·", ""),
        ("EXISTS k", ":0·", ""),
        ("SET k v EX 10", "+OK·", ""),
        ("GETEX k PERSIST", "$1·v·", ""),
        ("PTTL k", ":-1·", ""),
        ("GETEX k EX 0", "-ERR invalid expire time in 'getex' command·", ""),
        ("GETEX k EX x", NOT_AN_INTEGER, ""),
        ("GETEX k EX", SYNTAX, ""),
        ("GETEX k PERSIST EX 1", SYNTAX, ""),
        ("GETEX k PX 1 PERSIST", SYNTAX, ""),
        ("GETEX k KEEPTTL", SYNTAX, ""),
        ("GETEX k NX", SYNTAX, ""),
    ]);
}

#[test]
fn other_commands_keep_or_drop_the_expiry_as_redis_does() {
    check(&[
        ("SET k 1 EX 10", "+OK·", ""),
        ("INCR k", ":2·", ""),
        ("APPEND k 0", ":2·", ""),
        ("DECRBY k 5", ":15·", ""),
        ("STRLEN k", ":2·", ""),
        ("PTTL k", ":10000·", ""),
        ("MSET k 1 l 2", "+OK·", ""),
        ("PTTL k", ":-1·", ""),
        ("EXPIRE k 10", ":1·", ""),
        ("GETSET k 3", "$1·1·", ""),
        ("PTTL k", ":-1·", ""),
        ("EXPIRE k 10", ":1·", ""),
        ("DEL k", ":1·", ""),
        ("APPEND k x", ":1·", ""),
        ("PTTL k", ":-1·", ""),
        ("EXPIRE k 10", ":1·", ""),
        ("GETDEL k", "$1·x·", ""),
        ("INCR k", ":1·", ""),
        ("PTTL k", ":-1·", ""),
        ("EXPIRE k 10", ":1·", ""),
        ("FLUSHALL", "+OK·", ""),
        ("SET k v", "+OK·", ""),
        ("10001", "", ""),
        ("GET k", "$1·v·", ""),
    ]);
}

#[test]
fn a_key_whose_time_is_over_is_gone_for_every_command() {
    check(&[
        ("MSET a 1 b 2 c 3", "+OK·", ""),
        ("PEXPIRE a 100", ":1·", ""),
        ("PEXPIRE b 100", ":1·", ""),
        ("100", "", ""),
        ("DBSIZE", ":3·", ""),
        ("101", "", ""),
        ("DBSIZE", ":1·", ""),
        ("EXISTS a b c", ":1·", ""),
        ("MGET a b c", "*3·$-1·$-1·$1·3·", "*3·_·_·$1·3·"),
        ("STRLEN a", ":0·", ""),
        ("DEL a", ":0·", ""),
        ("PERSIST a", ":0·", ""),
        ("EXPIRE a 10", ":0·", ""),
        ("SET a x XX", NIL, "_·"),
        ("SET a x NX", "+OK·", ""),
        ("TTL a", ":-1·", ""),
        ("INCR b", ":1·", ""),
        ("TTL b", ":-1·", ""),
    ]);
}

#[test]
fn the_store_names_the_moment_of_the_earliest_expiry() {
    let mut server = Server::new();
    let wake = |server: &Server| server.store.wake().map(|time| time.0);
    assert_eq!(wake(&server), None);
    server.line("SET a 1 PX 100");
    server.line("SET b 1 PX 50");
    assert_eq!(wake(&server), Some(51_000_000));
    server.line("SET b 1");
    assert_eq!(wake(&server), Some(101_000_000));
    server.advance(100);
    assert_eq!(wake(&server), Some(101_000_000), "nothing is due yet");
    server.advance(101);
    assert_eq!((wake(&server), server.line("EXISTS a")), (None, ":0·".to_owned()));
    server.line("PEXPIREAT b 9223372036854775807");
    assert_eq!(wake(&server), None, "decided time does not reach that");
}

/// Relative times count from decided time, in milliseconds begun, so that every replica comes to the
/// same and no key goes early.
#[test]
fn a_relative_time_counts_from_the_decided_time_of_its_slot() {
    let mut store = Store::default();
    let time = Timestamp(7_999_999);
    store.advance(time);
    let lifetime = Lifetime::Until(Moment::After(10));
    let condition = mainstay_kv::Condition::Always;
    let set = Operation::Set { key: b"k", value: b"v", condition, answer: Answer::Done, lifetime };
    store.apply(&context(time), &set.encode(), &mut Vec::new());
    assert_eq!(store.wake(), Some(Timestamp(18_000_000)));
}

/// The service takes what the front would refuse: clients of the library send operations themselves.
#[test]
fn any_moment_is_taken_by_the_service() {
    for ms in [i64::MIN, -1, 0, 1, i64::MAX] {
        for until in [Moment::After(ms), Moment::At(ms)] {
            for now in [Timestamp(0), Timestamp(u64::MAX)] {
                let (mut store, key) = (Store::default(), &b"k"[..]);
                let lifetime = Lifetime::Until(until);
                let condition = mainstay_kv::Condition::Always;
                let set = |lifetime| {
                    let value = &b"v"[..];
                    Operation::Set { key, value, condition, answer: Answer::Done, lifetime }
                        .encode()
                };
                let always = mainstay_kv::ExpiryCondition::Always;
                for request in [
                    set(lifetime),
                    set(Lifetime::Endless),
                    Operation::Expire { key, until, condition: always }.encode(),
                    set(Lifetime::Endless),
                    Operation::GetAndExpire { key, lifetime }.encode(),
                ] {
                    store.apply(&context(now), &request, &mut Vec::new());
                    assert!(store.wake().is_none_or(|wake| wake > now), "{until:?} at {now:?}");
                }
            }
        }
    }
}
