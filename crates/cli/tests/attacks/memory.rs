//! Attacks on memory.

use std::time::Duration;

use mainstay_client::{Client, Outcome, Settings};
use mainstay_kv::{Lifetime, Operation};
use rustix::process::Signal;

use crate::attack::{Hogs, Target, command};
use crate::world::cluster::{REPLICAS, signal};
use crate::world::raw::Raw;

const LARGE: usize = 16 << 20;
const TIME: Duration = Duration::from_secs(10);

fn large() -> Vec<u8> {
    vec![b'x'; LARGE - 1]
}

/// What the front answers by itself waits behind a write that stays open for as long as the others
/// stand still.
#[test]
fn answers_that_wait_behind_an_open_write() {
    let target = Target::new();
    let others: Vec<_> = (0..REPLICAS).filter(|&index| index != target.leader).collect();
    others.iter().for_each(|&index| signal(target.pid(index), Signal::STOP));
    let mut hogs = Hogs::connect(target.address(), 8);
    let set = command(&[b"SET", b"k", b"v"]);
    let sent = hogs.pour(&set, &command(&[b"ECHO", &large()]), 40, Duration::from_secs(5));
    let grown = target.growth(target.leader) >> 20;
    println!("answers behind a write: {} MiB sent, grew by {grown} MiB", sent >> 20);
    others.iter().for_each(|&index| signal(target.pid(index), Signal::CONT));
    target.cluster.wait_until_whole();
    target.is_well("answers behind a write");
}

#[test]
fn small_commands_with_large_answers() {
    let target = Target::new();
    let mut words = vec![&b"client"[..]; 1_000_000];
    words[..2].copy_from_slice(&[b"COMMAND", b"INFO"]);
    let mut hogs = Hogs::connect(target.address(), 2);
    hogs.pour(&command(&words), b"PING\r\n", 1, TIME);
    let mut others = Hogs::connect(target.address(), 50);
    others.pour(b"PING\r\n", b"COMMAND\r\nCOMMAND DOCS\r\n", 20_000, Duration::from_secs(5));
    target.is_well("small commands, large answers");
    target.leads_still("small commands, large answers");
}

#[test]
fn idle_connections_that_once_asked_something_large() {
    let target = Target::new();
    let mut idle = Vec::new();
    let echo = command(&[b"ECHO", &large()]);
    for _ in 0..100 {
        let mut hogs = Hogs::connect(target.address(), 1);
        hogs.pour(b"PING\r\n", &echo, 1, TIME);
        hogs.take(echo.len() - "*2\r\n$4\r\nECHO\r\n".len() + "+PONG\r\n".len());
        idle.push(hogs);
    }
    target.is_well("idle connections");
    assert!(target.held(target.leader) < 256 << 20, "what was held for them is given back");
    target.leads_still("idle connections");
}

#[test]
fn requests_that_never_end() {
    let target = Target::new();
    let mut hogs = Hogs::connect(target.address(), 200);
    let head = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${LARGE}\r\n");
    let sent = hogs.pour(head.as_bytes(), &large(), 1, TIME);
    println!("requests without end: {} MiB sent", sent >> 20);
    target.is_well("requests without end");
    target.leads_still("requests without end");
}

#[test]
fn replies_that_nobody_takes() {
    let target = Target::new();
    let mut client = Raw::connect(target.address());
    client.send(&command(&[b"SET", b"large", &vec![b'x'; 8 << 20]]));
    assert_eq!(client.reply(), "+OK\r\n");
    let mut hogs = Hogs::connect(target.address(), 50);
    hogs.pour(b"PING\r\n", &command(&[b"GET", b"large"]), 4000, Duration::from_secs(5));
    target.is_well("replies nobody takes");
    let mut writers = Hogs::connect(target.address(), 10);
    writers.pour(b"PING\r\n", &command(&[b"GETEX", b"large", b"PERSIST"]), 30, TIME);
    target.is_well("replies of writes nobody takes");
}

/// Each has a session of its own in which as many large replies are kept as it has asked for at once.
#[test]
fn clients_that_leave_without_a_word() {
    let target = Target::new();
    let mut client = Raw::connect(target.address());
    client.send(&command(&[b"SET", b"large", &vec![b'x'; 1 << 20]]));
    assert_eq!(client.reply(), "+OK\r\n");
    (0..64).for_each(|_| ask_and_leave(&target, 32));
    target.is_well("clients that leave");
    target.leads_still("clients that leave");
}

/// Nothing of these replies is acknowledged: the request that would do so never comes, and no farewell either.
fn ask_and_leave(target: &Target, count: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = Client::new(Settings::new([target.address().to_string()]));
        let client = client.expect("the settings are usable");
        let get = Operation::GetAndExpire { key: b"large", lifetime: Lifetime::Unchanged };
        let asked: Vec<_> = (0..count).map(|_| client.request(get.encode())).collect();
        for reply in asked {
            let reply = reply.await;
            assert!(matches!(reply, Outcome::Done(_)), "{reply:?}");
        }
    });
}

#[test]
fn many_small_commands_on_many_connections() {
    let target = Target::new();
    let mut hogs = Hogs::connect(target.address(), 1000);
    let body = b"GET a\r\n".repeat(500);
    hogs.pour(b"SET a b\r\n", &body, 100, TIME);
    target.is_well("many small commands");
    target.leads_still("many small commands");
}
