//! Random commands: every command that Redis has too, with right and wrong arguments.

use std::time::{SystemTime, UNIX_EPOCH};

use mainstay_model::Prng;

/// The longest relative time that the store takes whatever decided time is.
const LATEST_MS: i64 = i64::MAX - (u64::MAX / 1_000_000) as i64;

pub(crate) type Command = Vec<Vec<u8>>;

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    since.as_millis() as u64
}

/// What stands in for an argument.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    /// As it is.
    Word(&'static str),
    Key,
    /// One key or more.
    Keys,
    /// One key and value or more.
    Pairs,
    Value,
    Integer,
    Float,
    Pattern,
    /// Seconds or milliseconds from now on, and at a time.
    Seconds,
    Milliseconds,
    Second,
    Millisecond,
    /// Options of SET, GETEX, EXPIRE, SCAN and COPY.
    SetOptions,
    GetexOptions,
    ExpireOptions,
    ScanOptions,
    CopyOptions,
    /// The name of a command.
    Name,
}

use Slot::*;

/// How often a form comes, among all of them.
pub(crate) type Form = (u64, &'static str, &'static [Slot]);

/// One line a form. What stands in the table of commands and not here, and why, `main.rs` says.
pub(crate) const FORMS: &[Form] = &[
    (6, "append", &[Key, Value]),
    (1, "auth", &[Value]),
    (1, "auth", &[Word("default"), Value]),
    (1, "auth", &[Value, Value]),
    (1, "client", &[Word("getname")]),
    (1, "client", &[Word("list"), Word("type"), Value]),
    (1, "client", &[Word("list"), Word("id"), Value]),
    (1, "client", &[Word("no-evict"), Word("on")]),
    (1, "client", &[Word("reply"), Word("on")]),
    (1, "client", &[Word("reply"), Value]),
    (1, "client", &[Word("setname"), Value]),
    (1, "client", &[Value]),
    (2, "command", &[Word("info"), Name]),
    (1, "command", &[Word("getkeys"), Word("mset"), Pairs]),
    (1, "command", &[Word("getkeys"), Name, Keys]),
    (1, "command", &[Value]),
    (1, "config", &[Word("get"), Word("maxmemory-policy")]),
    (1, "config", &[Word("get"), Word("appendonl?x"), Word("DATA[a-c]ases")]),
    (1, "config", &[Value]),
    (6, "copy", &[Key, Key, CopyOptions]),
    (2, "dbsize", &[]),
    (4, "decr", &[Key]),
    (4, "decrby", &[Key, Integer]),
    (6, "del", &[Keys]),
    (1, "discard", &[]),
    (1, "echo", &[Value]),
    (1, "exec", &[]),
    (4, "exists", &[Keys]),
    (6, "expire", &[Key, Seconds, ExpireOptions]),
    (6, "expireat", &[Key, Second, ExpireOptions]),
    (3, "expiretime", &[Key]),
    (1, "flushall", &[]),
    (1, "flushdb", &[Value]),
    (1, "flushdb", &[Word("async")]),
    (10, "get", &[Key]),
    (3, "getdel", &[Key]),
    (6, "getex", &[Key, GetexOptions]),
    (10, "getrange", &[Key, Integer, Integer]),
    (4, "getset", &[Key, Value]),
    (4, "incr", &[Key]),
    (4, "incrby", &[Key, Integer]),
    (14, "incrbyfloat", &[Key, Float]),
    (4, "keys", &[Pattern]),
    (4, "mget", &[Keys]),
    (5, "mset", &[Pairs]),
    (5, "msetnx", &[Pairs]),
    (3, "persist", &[Key]),
    (6, "pexpire", &[Key, Milliseconds, ExpireOptions]),
    (6, "pexpireat", &[Key, Millisecond, ExpireOptions]),
    (3, "pexpiretime", &[Key]),
    (1, "ping", &[]),
    (1, "ping", &[Value]),
    (4, "psetex", &[Key, Milliseconds, Value]),
    (3, "pttl", &[Key]),
    (3, "randomkey", &[]),
    (6, "rename", &[Key, Key]),
    (6, "renamenx", &[Key, Key]),
    (1, "select", &[Integer]),
    (6, "scan", &[Word("0"), ScanOptions]),
    (1, "scan", &[Integer]),
    (20, "set", &[Key, Value, SetOptions]),
    (6, "set", &[Key, Float]),
    (4, "setex", &[Key, Seconds, Value]),
    (6, "setnx", &[Key, Value]),
    (10, "setrange", &[Key, Integer, Value]),
    (4, "strlen", &[Key]),
    (4, "substr", &[Key, Integer, Integer]),
    (3, "touch", &[Keys]),
    (3, "ttl", &[Key]),
    (3, "type", &[Key]),
    (3, "unlink", &[Keys]),
    (1, "unwatch", &[]),
    (1, "no-such-command", &[Value, Value]),
];

fn text(text: impl ToString) -> Vec<u8> {
    text.to_string().into_bytes()
}

fn pick(prng: &mut Prng, all: &[&str]) -> Vec<u8> {
    text(prng.pick(all).expect("is not empty"))
}

pub(crate) const KEYS: [&[u8]; 12] = [
    b"a",
    b"b",
    b"c",
    b"key:1",
    b"key:2",
    b"key:10",
    b"",
    b"\x00\xff\r\n",
    b"[a]",
    b"A",
    b"a-z",
    b"long",
];

fn key(prng: &mut Prng) -> Vec<u8> {
    prng.pick(&KEYS).expect("is not empty").to_vec()
}

fn value(prng: &mut Prng) -> Vec<u8> {
    match prng.below(10) {
        0 => Vec::new(),
        1 => vec![b'x'; prng.below(60) as usize],
        2 => (0..prng.below(30)).map(|_| prng.below(256) as u8).collect(),
        3 | 4 => integer(prng),
        // Errors quote 128 bytes at most.
        5 => float(prng).into_iter().take(100).collect(),
        _ => pick(prng, &["v", "value", "Normal", "a b", "10", "0", "-1", "nan", "1e3"]),
    }
}

fn integer(prng: &mut Prng) -> Vec<u8> {
    match prng.below(12) {
        0 => text(i64::MAX - prng.below(3) as i64),
        1 => text(i64::MIN + prng.below(3) as i64),
        2 => pick(
            prng,
            &["x", "", "+1", "1.5", " 1", "1 ", "01", "-0", "9223372036854775808", "1e2"],
        ),
        3 => text(prng.below(1 << 25)),
        4 => text(-(prng.below(1_000) as i64)),
        _ => text(prng.below(24) as i64 - 12),
    }
}

fn float(prng: &mut Prng) -> Vec<u8> {
    let digits = |prng: &mut Prng, most: u64| -> String {
        (0..prng.below(most)).map(|_| char::from(b'0' + prng.below(10) as u8)).collect()
    };
    match prng.below(12) {
        0 => pick(
            prng,
            &[
                "x",
                "",
                ".",
                "1.",
                ".5",
                "+1",
                " 1",
                "1 ",
                "inf",
                "-inf",
                "nan",
                "Infinity",
                "0x1p4",
                "0xA.8",
                "0x",
                "1e",
                "1e4932",
                "-1e4932",
                "1e4933",
                "1e-4950",
                "1e-5000",
                "1e400",
                "-0",
                "0e999999",
                "1.18973149535723176502e+4932",
                "0.1e1e1",
                "1e-17",
                "5e-18",
                "4.9e-18",
            ],
        ),
        1 => text(format!("{}e{}", 1 + prng.below(1_000_000), prng.below(80) as i64 - 40)),
        2 => text(format!("-{}.{}", digits(prng, 25), digits(prng, 25))),
        3 => text(format!("{}.{}", digits(prng, 25), digits(prng, 25))),
        4 => text(prng.below(u64::MAX)),
        5 => text(format!("{}", f64::from_bits(prng.below(u64::MAX)))),
        6 => text(format!("{:e}", f64::from_bits(prng.below(u64::MAX)))),
        _ => text(format!("{}.{}", prng.below(4_000) as i64 - 2_000, prng.below(1_000))),
    }
}

fn pattern(prng: &mut Prng) -> Vec<u8> {
    if prng.chance(1, 3) {
        return pick(
            prng,
            &["*", "key:*", "?", "[^a]", "k[d-f]y:?", "\\[a\\]", "[\\]a]*", "a-z", "[", "[^"],
        );
    }
    let pieces = [
        "*", "?", "a", "A", "[a-c]", "[^a]", "[z-a]", "\\", "[", "]", "-", ":", "1", "[\\a-c]",
        "key",
    ];
    (0..prng.below(6)).flat_map(|_| pick(prng, &pieces)).collect()
}

/// A relative time: mostly so far ahead that nothing goes while the test runs.
fn ahead(prng: &mut Prng, factor: i64) -> Vec<u8> {
    let near = 100_000 + prng.below(900_000) as i64;
    let edge = i64::MAX / factor;
    let edges = [
        0,
        -1,
        -near,
        edge,
        edge.saturating_add(1),
        -edge,
        (-edge).saturating_sub(2),
        i64::MAX,
        i64::MIN,
        LATEST_MS / factor,
    ];
    match prng.below(30) {
        0 => pick(prng, &["x", "9223372036854775808", "1.5", "+1", ""]),
        1..12 => text(prng.pick(&edges).expect("is not empty")),
        _ => text(near * 1_000 / factor),
    }
}

/// A moment since 1970: mostly ahead.
fn moment(prng: &mut Prng, factor: i64) -> Vec<u8> {
    let now = now_ms() as i64;
    match prng.below(10) {
        0..6 => text((now + 100_000_000 + prng.below(900_000_000) as i64) / factor),
        6 => text((now - 1_000_000) / factor),
        _ => ahead(prng, factor),
    }
}

/// EX, PX, EXAT, PXAT with their amounts, or without.
fn lifetime(prng: &mut Prng, other: &'static str) -> Command {
    let name = *prng.pick(&["EX", "PX", "EXAT", "PXAT", "ex"]).expect("is not empty");
    match (prng.below(12), name) {
        (0 | 1, _) => vec![text(other)],
        (2, _) => vec![text(name)],
        (3, _) => vec![pick(prng, &["PERSIST", "KEEPTTL", "FOO"])],
        (_, "EXAT") => vec![text(name), moment(prng, 1_000)],
        (_, "PXAT") => vec![text(name), moment(prng, 1)],
        (_, "PX") => vec![text(name), ahead(prng, 1)],
        _ => vec![text(name), ahead(prng, 1_000)],
    }
}

fn several(prng: &mut Prng, most: u64, mut one: impl FnMut(&mut Prng) -> Command) -> Command {
    (0..prng.below(most + 1)).flat_map(|_| one(prng)).collect()
}

fn arguments(prng: &mut Prng, slot: Slot) -> Command {
    match slot {
        Word(word) => vec![text(word)],
        Key => vec![key(prng)],
        Keys => (0..=prng.below(4)).map(|_| key(prng)).collect(),
        Pairs => (0..=prng.below(4)).flat_map(|_| [key(prng), value(prng)]).collect(),
        Value => vec![value(prng)],
        Integer => vec![integer(prng)],
        Float => vec![float(prng)],
        Pattern => vec![pattern(prng)],
        Seconds => vec![ahead(prng, 1_000)],
        Milliseconds => vec![ahead(prng, 1)],
        Second => vec![moment(prng, 1_000)],
        Millisecond => vec![moment(prng, 1)],
        SetOptions => several(prng, 3, |prng| match prng.below(4) {
            0 => vec![pick(prng, &["NX", "XX", "nx"])],
            1 => vec![text("GET")],
            _ => lifetime(prng, "KEEPTTL"),
        }),
        GetexOptions => several(prng, 1, |prng| lifetime(prng, "PERSIST")),
        ExpireOptions => {
            several(prng, 2, |prng| vec![pick(prng, &["NX", "XX", "GT", "LT", "gt", "FOO"])])
        }
        ScanOptions => several(prng, 3, |prng| match prng.below(8) {
            0..3 => vec![text("MATCH"), pattern(prng)],
            3 | 4 => vec![text("COUNT"), integer(prng)],
            5 => vec![text("TYPE"), pick(prng, &["string", "STRING", "list", "foo"])],
            6 => vec![pick(prng, &["MATCH", "COUNT", "TYPE"])],
            _ => vec![text("FOO"), text("1")],
        }),
        CopyOptions => several(prng, 2, |prng| match prng.below(5) {
            0 => vec![text("DB"), integer(prng)],
            1 => vec![pick(prng, &["DB", "FOO"])],
            _ => vec![text("REPLACE")],
        }),
        Name => {
            let (_, name, _) = prng.pick(FORMS).expect("is not empty");
            vec![text(name)]
        }
    }
}

pub(crate) fn command(prng: &mut Prng) -> Command {
    let all: u64 = FORMS.iter().map(|(weight, ..)| weight).sum();
    let mut at = prng.below(all);
    let found = FORMS.iter().find(|(weight, ..)| {
        let here = at < *weight;
        at = at.saturating_sub(*weight);
        here
    });
    let (_, name, slots) = found.expect("the weights are those of all");
    let name = if prng.chance(1, 8) { name.to_ascii_uppercase() } else { (*name).to_owned() };
    let mut command = vec![text(name)];
    slots.iter().for_each(|slot| command.extend(arguments(prng, *slot)));
    match prng.below(60) {
        // One argument is missing, or is too many.
        0 if command.len() > 1 => _ = command.pop(),
        1 => command.push(value(prng)),
        _ => {}
    }
    command
}

/// As it is sent.
pub(crate) fn encoded(command: &[Vec<u8>]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", command.len()).into_bytes();
    for argument in command {
        out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        out.extend_from_slice(argument);
        out.extend_from_slice(b"\r\n");
    }
    out
}
