//! The store beside a real `redis-server` 7.0: the same random commands, the same replies byte for byte, the
//! same state.
//!
//! ```text
//! cargo test -p mainstay-kv --test against_redis
//! ```
//!
//! Needs `redis-server` (`apt-get install redis-server`), so it does not run with the other tests; `.ci/run` runs it.
//! `COMMANDS` and `SEED` in the environment say how much, and where it begins.
//!
//! Times are long past, beyond all range, or so far ahead that nothing expires while it runs. What must
//! differ is made alike first, and nothing else:
//!
//! | what | why | what is compared |
//! |---|---|---|
//! | answers about the time left or the time of an expiry | both look at a clock of their own | whether they are within 20 s |
//! | `KEYS`, `SCAN` | the order is each one's own, and so are cursors | all keys that a whole iteration gives |
//! | `DBSIZE` | Redis counts keys whose time is over until somebody asks for them | the count after all were asked for |
//! | `RANDOMKEY` | random | whether the key is there on the other side |
//! | `GETEX` with a wrong amount for an absent key | refused here, told in `docs/commands.md` | nothing |
//! | `CLIENT LIST`, `COMMAND` without names | connections, and the commands that each server has | whether there is an answer |
//! | `COMMAND INFO` | tips, notes and subcommands say what each server has | all else: name, arity, flags, positions of keys, categories, key specifications |
//!
//! Not among the commands: those about one connection that have no reply to compare (`CLIENT REPLY OFF`,
//! `QUIT`, `RESET`), about this server alone (`INFO`, `HELLO`, `COMMAND DOCS`, `READONLY`, `CONFIG SET`), newer than 7.0
//! (`CLIENT SETINFO`, `CLIENT NO-TOUCH`), and refused here (`MULTI`, `WATCH`).

mod commands;
mod redis;
mod reply;
#[path = "../kv/server.rs"]
#[allow(dead_code, reason = "the other tests need more of it")]
mod server;

use std::collections::BTreeSet;

use mainstay_kv::command::COMMANDS;
use mainstay_model::Prng;

use commands::{Command, FORMS, KEYS, command, encoded, now_ms};
use redis::Redis;
use reply::Reply;
use server::Server;

/// How far answers about time may lie apart, in milliseconds.
const SLACK_MS: u64 = 20_000;
/// After how many commands all of both states is compared.
const WHOLE_EVERY: u64 = 250;
/// How much is told of each reply.
const REPLY_SHOWN_MAX: usize = 600;
/// How many differences are told.
const TOLD_MAX: usize = 40;

/// Both servers.
struct Pair {
    ours: Server,
    theirs: Redis,
    told: Vec<String>,
}

fn words(words: &[&str]) -> Command {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

impl Pair {
    fn start(version: u8) -> Self {
        let mut pair = Self { ours: Server::new(), theirs: Redis::start(), told: Vec::new() };
        let (one, other) = pair.ask(&words(&["HELLO", &version.to_string()]));
        assert_eq!((one.items().len(), other.items().len()), (14, 14));
        pair
    }

    /// What each answers.
    fn ask(&mut self, command: &[Vec<u8>]) -> (Reply, Reply) {
        let bytes = encoded(command);
        self.ours.advance(now_ms());
        let one = self.ours.feed(&bytes);
        (Reply::read(&one), Reply::read(&self.theirs.ask(&bytes)))
    }

    /// A whole iteration, if it begins well: all keys that it gave.
    fn iterate(&mut self, command: &[Vec<u8>], first: (Reply, Reply)) -> (Reply, Reply) {
        if first.0.is_error() || first.1.is_error() || command[1] != b"0" {
            return match (&first.0, &first.1) {
                // In the middle of nowhere both give something, or nothing.
                (Reply::Many(..), Reply::Many(..)) => (Reply::Number(0), Reply::Number(0)),
                _ => first,
            };
        }
        let Self { ours, theirs, .. } = self;
        let one = all_parts(command, first.0, |bytes| ours.feed(bytes));
        let other = all_parts(command, first.1, |bytes| theirs.ask(bytes));
        (one, other)
    }

    /// Both answers, after what must differ was made alike.
    fn alike(&mut self, command: &[Vec<u8>]) -> (Reply, Reply) {
        let (one, other) = self.ask(command);
        let name = String::from_utf8_lossy(&command[0]).to_ascii_lowercase();
        match &*name {
            "keys" => (one.sorted(), other.sorted()),
            "dbsize" if !one.is_error() => {
                let touch = [&[b"exists".to_vec()], &KEYS.map(<[u8]>::to_vec)[..]].concat();
                self.ask(&touch);
                self.ask(command)
            }
            "scan" if command.len() > 1 => self.iterate(command, (one, other)),
            "randomkey" => self.known(one, other),
            "getex"
                if one.is_error()
                    && matches!(&other, Reply::Line('_', _) | Reply::Line('$', _)) =>
            {
                (Reply::Number(0), Reply::Number(0))
            }
            "command" if names_none(command) => (one.kind(), other.kind()),
            "command" => (described(one), described(other)),
            "client" if !one.is_error() && command.get(1).is_some_and(|word| word == b"list") => {
                (one.kind(), other.kind())
            }
            "ttl" | "pttl" | "expiretime" | "pexpiretime" => about_time(&name, one, other),
            _ => (one, other),
        }
    }

    /// Whether each knows the key that the other one chose.
    fn known(&mut self, one: Reply, other: Reply) -> (Reply, Reply) {
        let (Some(key), Some(other_key)) = (one.bytes(), other.bytes()) else {
            return (one, other);
        };
        let exists = [b"exists".to_vec(), key.to_vec(), other_key.to_vec()];
        self.ask(&exists)
    }

    fn compare(&mut self, command: &[Vec<u8>]) -> bool {
        let (one, other) = self.alike(command);
        let same = one == other;
        if !same && self.told.len() < TOLD_MAX {
            let shown: Vec<_> =
                command.iter().map(|word| word.escape_ascii().to_string()).collect();
            let [one, other] = [one, other].map(|reply| {
                format!("{reply:?}").chars().take(REPLY_SHOWN_MAX).collect::<String>()
            });
            self.told.push(format!("{shown:?}\n  the store: {one}\n  Redis:     {other}"));
        }
        same
    }

    /// All keys with all that there is to know of them.
    fn compare_whole(&mut self) -> bool {
        let mut same = self.compare(&words(&["KEYS", "*"])) & self.compare(&words(&["DBSIZE"]));
        for key in KEYS {
            for question in ["GET", "TYPE", "PTTL", "PEXPIRETIME"] {
                same &= self.compare(&[question.as_bytes().to_vec(), key.to_vec()]);
            }
        }
        same
    }
}

/// Whether every command there is is asked for.
fn names_none(command: &[Vec<u8>]) -> bool {
    command.len() == 1 || command.len() == 2 && command[1] == b"info"
}

/// Every key of a whole iteration, or the error that ended it.
fn all_parts(command: &[Vec<u8>], first: Reply, mut ask: impl FnMut(&[u8]) -> Vec<u8>) -> Reply {
    let mut keys = Vec::new();
    let mut part = first;
    loop {
        let [cursor, more] = part.items() else { return part };
        keys.extend(more.items().iter().cloned());
        let cursor = cursor.bytes().expect("a cursor is bytes").to_vec();
        if cursor == b"0" {
            keys.sort();
            keys.dedup();
            return Reply::Many('*', keys);
        }
        let mut next = command.to_vec();
        next[1] = cursor;
        part = Reply::read(&ask(&encoded(&next)));
    }
}

/// Each description without tips, notes and subcommands, sets in an order of their own.
fn described(reply: Reply) -> Reply {
    let Reply::Many(kind, items) = reply else { return reply };
    let fields = |item: Reply| match item {
        Reply::Many(kind, fields) if fields.len() == 10 => {
            let numbered = fields.into_iter().enumerate();
            let compared = numbered.filter(|(at, _)| !matches!(at, 7 | 9));
            let compared = compared.map(|(_, field)| without_notes(field).sorted());
            Reply::Many(kind, compared.collect())
        }
        other => other,
    };
    Reply::Many(kind, items.into_iter().map(fields).collect())
}

/// A set of maps, of which each may have notes.
fn without_notes(reply: Reply) -> Reply {
    let Reply::Many(kind, items) = reply else { return reply };
    let notes = items.first().and_then(Reply::bytes) == Some(b"notes");
    let items = items.into_iter().skip(if notes { 2 } else { 0 });
    Reply::Many(kind, items.map(without_notes).collect())
}

/// One of both for both where they lie close together.
fn about_time(name: &str, one: Reply, other: Reply) -> (Reply, Reply) {
    let slack = if name.starts_with('p') { SLACK_MS } else { SLACK_MS / 1_000 };
    match (&one, &other) {
        (Reply::Number(a), Reply::Number(b)) if *a > 0 && *b > 0 && a.abs_diff(*b) <= slack => {
            (one.clone(), one)
        }
        _ => (one, other),
    }
}

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("it is a number"))
}

fn run(version: u8) {
    let count = from_environment("COMMANDS", 50_000);
    let seed = from_environment("SEED", 1);
    let mut prng = Prng::new(seed ^ u64::from(version) << 32);
    let mut pair = Pair::start(version);
    let (mut differ, mut wholes) = (0, 0);
    for number in 1..=count {
        let command = command(&mut prng);
        let mut same = pair.compare(&command);
        if number % WHOLE_EVERY == 0 {
            wholes += 1;
            same &= pair.compare_whole();
        }
        if !same {
            differ += 1;
            // From here on the two hold different things.
            pair.ask(&words(&["FLUSHALL"]));
        }
    }
    println!(
        "RESP{version}, seed {seed}: {count} commands, {wholes} times all keys; {differ} differ"
    );
    assert_eq!(differ, 0, "\n{}", pair.told.join("\n"));
}

#[test]
fn answers_and_state_are_those_of_redis_in_version_2_of_the_protocol() {
    run(2);
}

#[test]
fn answers_and_state_are_those_of_redis_in_version_3_of_the_protocol() {
    run(3);
}

/// A command that is added to the table has to be added here, or to the list of those that are not compared.
#[test]
fn no_command_is_left_out() {
    let apart = ["hello", "info", "multi", "quit", "readonly", "readwrite", "reset", "watch"];
    let compared: BTreeSet<_> = FORMS.iter().map(|(_, name, _)| *name).chain(apart).collect();
    let missing: Vec<_> =
        COMMANDS.iter().map(|spec| spec.name).filter(|name| !compared.contains(name)).collect();
    assert!(missing.is_empty(), "not compared with Redis: {missing:?}");
}
