//! Clients that mean no harm and ask for patience, and crowds that come and go.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_setfl};

use crate::attack::{Hogs, Target, command};
use crate::world::by_hand::ByHand;
use crate::world::cluster::REPLICAS;
use crate::world::raw::Raw;
use crate::world::{DEADLINE, pause};

/// Nobody takes what the replicas log, from before their first line on.
#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let mut group = ByHand::init(Path::new(env!("CARGO_BIN_EXE_mainstay")));
    let mut readers = Vec::new();
    for index in 0..REPLICAS {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        fcntl_setfl(&writer, OFlags::NONBLOCK).expect("a mode");
        while writer.write(&[b'.'; 4096]).is_ok() {}
        fcntl_setfl(&writer, OFlags::empty()).expect("a mode");
        group.start_saying(index, writer.into());
        readers.push(reader);
    }
    group.wait_until_whole();
    for index in 0..REPLICAS {
        let mut client = Raw::connect(group.clients_at(index));
        client.command(&["INCR", "n"]);
        assert_eq!(client.reply(), format!(":{}\r\n", 1 + index));
    }
}

/// What pipelines of client libraries do: everything is sent before anything is read.
#[test]
fn everything_is_sent_before_anything_is_read() {
    const COUNT: usize = 200;
    const LEN: usize = 1_000_000;
    let target = Target::new();
    let mut stream = TcpStream::connect(target.address()).expect("a connection");
    stream.set_write_timeout(Some(DEADLINE)).expect("a time-out");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    let echo = command(&[b"ECHO", &vec![b'e'; LEN]]);
    for number in 0..COUNT {
        stream.write_all(&echo).unwrap_or_else(|error| panic!("command {number}: {error}"));
    }
    // And nothing more: each complete command is carried out all the same.
    stream.shutdown(Shutdown::Write).expect("half a close");
    let mut told = Vec::new();
    stream.read_to_end(&mut told).expect("all replies");
    assert_eq!(told.len(), COUNT * format!("${LEN}\r\n").len() + COUNT * (LEN + 2));
    target.is_well("all sent before any is read");
    target.leads_still("all sent before any is read");
}

#[test]
fn who_reads_slowly_after_saying_goodbye_gets_every_reply() {
    const COUNT: usize = 30;
    const LEN: usize = 1_000_000;
    let target = Target::new();
    let mut stream = TcpStream::connect(target.address()).expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    let mut asked = command(&[b"ECHO", &vec![b'e'; LEN]]).repeat(COUNT);
    asked.extend_from_slice(b"QUIT\r\n");
    stream.write_all(&asked).expect("taken");
    pause(Duration::from_secs(5));
    let mut told = Vec::new();
    stream.read_to_end(&mut told).expect("all replies");
    assert!(told.ends_with(b"+OK\r\n"));
    assert_eq!(told.len(), COUNT * (format!("${LEN}\r\n").len() + LEN + 2) + "+OK\r\n".len());
}

#[test]
fn reads_and_writes_in_turn_in_one_pipeline() {
    const PAIRS: usize = 4000;
    let target = Target::new();
    let mut stream = TcpStream::connect(target.address()).expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
    let asked: String = (0..PAIRS).map(|n| format!("SET k {n:04}\r\nGET k\r\n")).collect();
    let mut writer = stream.try_clone().expect("a copy");
    let began = Instant::now();
    let sending = std::thread::spawn(move || writer.write_all(asked.as_bytes()).expect("taken"));
    for number in 0..PAIRS {
        let wanted = format!("+OK\r\n$4\r\n{number:04}\r\n");
        let mut told = vec![0; wanted.len()];
        stream.read_exact(&mut told).expect("a reply");
        assert_eq!(String::from_utf8_lossy(&told), wanted);
    }
    let took = began.elapsed();
    sending.join().expect("sent");
    println!("{PAIRS} writes and reads in turn took {took:?}");
    assert!(took < Duration::from_millis(1350), "{took:?}");
}

#[test]
fn readers_that_close_all_at_once() {
    let target = Target::new();
    let gets = b"GET k\r\n".repeat(500);
    let mut worst = Duration::ZERO;
    for _ in 0..5 {
        let mut hogs = Hogs::connect(target.address(), 1000);
        hogs.pour(b"SET k v\r\n", &gets, 1, Duration::from_secs(5));
        drop(hogs);
        let began = Instant::now();
        target.is_well("readers that close");
        worst = worst.max(began.elapsed());
    }
    println!("after 1,000 readers closed at once a client waited for {worst:?} at most");
    assert!(worst < Duration::from_secs(10), "{worst:?}");
    target.leads_still("readers that close");
}
