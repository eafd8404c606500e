//! Clients that take more than they should: what is kept for them is bounded, and the others are
//! served.

mod harness;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use harness::{Client, Cluster, PATIENCE};
use mainstay_model::GroupId;
use mainstay_model::frame;
use mainstay_model::hello::{HELLO, Hello, Role};
use mainstay_node::{PeerAddress, StateName};

/// Bytes of memory that this process has in use.
fn memory() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("a Linux system");
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    resident.expect("a number of pages") * 4096
}

#[test]
fn replies_are_made_no_faster_than_they_are_taken() {
    let mut cluster = Cluster::prepare(3);
    for config in &mut cluster.configs {
        config.limits.unsent_bytes_max = 1 << 20;
    }
    (0..3).for_each(|index| cluster.run(index));
    let mut client = cluster.client(0);
    let big = "x".repeat(1 << 20);
    assert_eq!(client.call(&format!("set big {big}")), "+ok");
    let before = memory();
    let mut slow = cluster.client(0);
    slow.send(&"get big\n".repeat(600));
    for n in 1..=200 {
        assert_eq!(client.call("add n"), format!("+{n}"));
    }
    for _ in 0..600 {
        assert_eq!(slow.line().len(), big.len() + 1);
        let grown = memory().saturating_sub(before);
        assert!(grown < 300 << 20, "{grown} bytes are held for one slow client");
    }
}

#[test]
fn commands_that_cannot_be_handed_over_yet_are_left_in_the_socket() {
    let mut cluster = Cluster::prepare(3);
    let limits = &mut cluster.configs[0].limits;
    limits.held_bytes_max = 4 << 20;
    (limits.leaderless_timeout, limits.outcome_timeout) = (PATIENCE * 10, PATIENCE * 10);
    cluster.run(0);
    cluster.until(0, |s| s.replica.state == StateName::Starting);
    let mut client = cluster.client(0);
    let stream = client.stream.get_mut();
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let command = format!("set big {}\n", "x".repeat(1 << 20));
    let refused = (0..200).find_map(|_| stream.write_all(command.as_bytes()).err());
    let kind = refused.expect("200 MiB were taken in without a leader").kind();
    assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind}");
}

#[test]
fn who_holds_little_does_not_suffer_for_who_holds_much() {
    let mut cluster = Cluster::prepare(3);
    let max = 8 << 20;
    cluster.configs[0].limits.held_bytes_all_max = max;
    (0..3).for_each(|index| cluster.run(index));
    let mut hogs: Vec<Client> = (0..2).map(|_| cluster.client(0)).collect();
    let mut modest = cluster.client(0);
    // Together below what makes it crowded, with what a buffer takes that grows.
    let part = vec![b'x'; max / 4];
    for hog in &mut hogs {
        hog.stream.get_mut().write_all(&part).unwrap();
    }
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(1) {
        assert_eq!(modest.call(&format!("set a {}", "y".repeat(200))), "+ok");
    }
    // One of them goes too far, and only that one goes.
    let _ = hogs[0].stream.get_mut().write_all(&part.repeat(2));
    assert!(hogs[0].is_closed());
    assert_eq!(modest.call("ping"), "+pong");
    hogs[1].send("\n");
    assert_eq!(hogs[1].line(), "+what?");
}

#[test]
fn administrators_are_answered_one_question_at_a_time_and_do_not_stay() {
    let mut cluster = Cluster::prepare(3);
    cluster.configs[0].limits.handshake_timeout = Duration::from_millis(300);
    cluster.run(0);
    let client = Client::connect(cluster.peer_port(0));
    let mut stream = client.stream.into_inner();
    let mut asked = Vec::new();
    let hello = Hello::of_client(Role::Admin, 1 << 20);
    frame::encode(&mut asked, HELLO, GroupId::NODE, 0, |body| hello.encode(body));
    // The question has kind 4.
    for _ in 0..100 {
        frame::encode(&mut asked, 4, GroupId::NODE, 0, |_| {});
    }
    stream.write_all(&asked).unwrap();
    let mut input = Vec::new();
    stream.read_to_end(&mut input).expect("closed while it asks nothing more");
    let mut input = BytesMut::from(&input[..]);
    let frames = std::iter::from_fn(|| frame::decode(&mut input, 1 << 20).expect("a frame"));
    assert_eq!(frames.count(), 1 + 100);
}

/// Administrators take descriptors that the disk may need, so there is an end to them: whoever came first
/// makes way, and each is answered.
#[test]
fn the_first_of_many_administrators_makes_way_for_the_last() {
    const SEATS: usize = 64;
    let mut cluster = Cluster::prepare(3);
    cluster.configs[0].limits.handshake_timeout = PATIENCE;
    cluster.run(0);
    let (mut hello, mut question) = (Vec::new(), Vec::new());
    let admin = Hello::of_client(Role::Admin, 1 << 20);
    frame::encode(&mut hello, HELLO, GroupId::NODE, 0, |body| admin.encode(body));
    frame::encode(&mut question, 4, GroupId::NODE, 0, |_| {});
    let answer = |stream: &mut TcpStream, input: &mut BytesMut| loop {
        if let Some(frame) = frame::decode(input, 1 << 20).expect("a frame") {
            return frame.kind;
        }
        let mut bytes = [0; 4096];
        let len = stream.read(&mut bytes).expect("an answer");
        assert!(len > 0, "it is closed");
        input.extend_from_slice(&bytes[..len]);
    };
    let mut admins = Vec::new();
    for _ in 0..SEATS + 10 {
        let mut stream = Client::connect(cluster.peer_port(0)).stream.into_inner();
        let mut input = BytesMut::new();
        stream.write_all(&hello).expect("taken");
        assert_eq!(answer(&mut stream, &mut input), HELLO);
        stream.write_all(&question).expect("taken");
        answer(&mut stream, &mut input);
        admins.push((stream, input));
    }
    for (stream, _) in &mut admins[..10] {
        let read = stream.read(&mut [0; 64]);
        let is_reset = |error: &std::io::Error| error.kind() == ErrorKind::ConnectionReset;
        assert!(read.as_ref().map_or_else(is_reset, |len| *len == 0), "{read:?}");
    }
    for (stream, input) in &mut admins[10..] {
        stream.write_all(&question).expect("taken");
        answer(stream, input);
    }
}

/// Neither a crowd at the client port nor one at the peer port keeps anybody else out.
#[test]
fn crowds_take_no_seats_of_peers_and_administrators() {
    const CROWD: usize = 300;
    let mut cluster = Cluster::prepare(3);
    for config in &mut cluster.configs {
        (config.limits.clients_max, config.limits.strangers_max) = (2, 4);
        config.limits.handshake_timeout = PATIENCE;
    }
    (0..2).for_each(|index| cluster.run(index));
    let mut clients: Vec<Client> = (0..2).map(|_| cluster.client(0)).collect();
    assert_eq!(clients[0].call("set a 1"), "+ok");
    let mut crowd: Vec<Client> = (0..CROWD).map(|_| cluster.client(0)).collect();
    let PeerAddress::Socket(peers) = cluster.configs[0].peers[0] else { unreachable!("a socket") };
    crowd.extend((0..CROWD).map(|_| Client::connect(peers)));
    // A replica joins through the crowd, and each question of an administrator is answered.
    cluster.run(2);
    cluster.until(2, |status| status.replica.state == StateName::Active);
    assert_eq!(cluster.status(0).expect("an answer").replica.clients, 2);
    assert_eq!(clients[0].call("get a"), "+1");
    // Whoever came after the seats were taken is told so, with or without a word of its own.
    let told = crowd[CROWD - 1].line();
    assert!(told.starts_with("-replica 0e1 serves 2 clients"), "{told}");
    let told = crowd[0].call("get a");
    assert!(told.contains("its limit"), "{told}");
    drop(clients.pop());
    cluster.until(0, |status| status.replica.clients == 1);
    assert_eq!(cluster.client(0).call("get a"), "+1");
}
