//! What every attack is measured by.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::world::cluster::{REPLICAS, memory_of};
use crate::world::raw::Raw;
use crate::world::{Cluster, wait_until};

/// The most memory that a replica may hold above what it held before an attack.
pub(crate) const ROOM: u64 = 1 << 30;

/// A cluster under attack.
pub(crate) struct Target {
    pub(crate) cluster: Cluster,
    pub(crate) leader: usize,
    ballot: u64,
    pids: Vec<Pid>,
    before: Vec<u64>,
    processor: Processor,
}

impl Target {
    /// A cluster at rest, with what it holds noted.
    pub(crate) fn new() -> Self {
        let cluster = Cluster::start(&[]);
        let (leader, ..) = cluster.leader();
        let ballot = cluster.status().ballot();
        let pids: Vec<Pid> = (0..REPLICAS).map(|index| cluster.pid(index)).collect();
        let before = pids.iter().map(|&pid| memory_of(pid).expect("it runs")).collect();
        pids.iter().for_each(|&pid| forget_peak(pid));
        let processor = Processor::of(pids[leader]);
        Self { cluster, leader, ballot, pids, before, processor }
    }

    /// The client port of the leader.
    pub(crate) fn address(&self) -> SocketAddr {
        self.cluster.clients_at(self.leader)
    }

    /// The process of a replica.
    pub(crate) fn pid(&self, index: usize) -> Pid {
        self.pids[index]
    }

    /// How far the memory of a replica has grown at most since the beginning.
    pub(crate) fn growth(&self, index: usize) -> u64 {
        peak_of(self.pids[index]).saturating_sub(self.before[index])
    }

    /// What is held now above what was held before.
    pub(crate) fn held(&self, index: usize) -> u64 {
        memory_of(self.pids[index]).expect("it runs").saturating_sub(self.before[index])
    }

    /// Nobody else suffers, nobody died, and nobody holds more than allowed.
    pub(crate) fn is_well(&self, attack: &str) {
        for index in 0..REPLICAS {
            let (grown, held) = (self.growth(index) >> 20, self.held(index) >> 20);
            println!(
                "{attack}: replica {index} grew by {grown} MiB at most, by {held} MiB in the end"
            );
        }
        wait_until("a client is served", || {
            let mut client = Raw::connect(self.address());
            client.command(&["SET", "well", "yes"]);
            client.reply() == "+OK\r\n"
        });
        for index in 0..REPLICAS {
            let grown = self.growth(index);
            assert!(grown < ROOM, "{attack}: replica {index} grew by {} MiB", grown >> 20);
            assert_eq!(self.cluster.pid(index), self.pids[index], "it is the process of before");
        }
    }

    /// The leader of before leads, and always did: unless its thread had to wait for a processor for longer
    /// than it ran, which is the doing of a machine that is busy otherwise.
    pub(crate) fn leads_still(&self, attack: &str) {
        let status =
            self.cluster.wait_for_status("all are well", |status| status.leader().is_some());
        let now = (status.leader(), status.ballot());
        let Processor { ran, waited } = Processor::of(self.pids[self.leader]);
        let (ran, waited) = (ran - self.processor.ran, waited - self.processor.waited);
        let stayed = now == (Some(self.leader), self.ballot);
        println!(
            "{attack}: the leader stayed: {stayed}; its thread ran for {} ms and waited for a processor \
             for {} ms",
            ran / 1_000_000,
            waited / 1_000_000
        );
        assert!(stayed || waited > ran, "{attack}: {now:?} leads, not replica {}", self.leader);
    }
}

/// What the first thread of a process, which is the protocol's, had of a processor, in nanoseconds.
struct Processor {
    ran: u64,
    waited: u64,
}

impl Processor {
    fn of(pid: Pid) -> Self {
        let path = format!("/proc/{}/schedstat", pid.as_raw_nonzero());
        let text = fs::read_to_string(path).expect("the process runs");
        let mut numbers = text.split_whitespace().map(|word| word.parse().expect("a number"));
        let mut next = || numbers.next().expect("two numbers");
        Self { ran: next(), waited: next() }
    }
}

/// Makes the peak of a process's memory begin from what it holds now.
fn forget_peak(pid: Pid) {
    fs::write(format!("/proc/{}/clear_refs", pid.as_raw_nonzero()), "5")
        .expect("the peak is reset");
}

fn peak_of(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
    let status = status.expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().strip_suffix(" kB").expect("a unit").parse::<u64>().expect("a number") << 10
}

/// A command as clients of Redis send it.
pub(crate) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Connections that each send the same bytes over and over, reading nothing.
pub(crate) struct Hogs(Vec<Hog>);

struct Hog {
    stream: TcpStream,
    sent: usize,
    open: bool,
}

impl Hogs {
    pub(crate) fn connect(address: SocketAddr, count: usize) -> Self {
        let connect = |_| {
            let stream = TcpStream::connect(address).expect("a connection");
            stream.set_nonblocking(true).expect("a mode");
            Hog { stream, sent: 0, open: true }
        };
        Self((0..count).map(connect).collect())
    }

    /// Sends `head` once and then `body` `times` times on each, as far as it is taken within `time`.
    /// Returns how many bytes all of them sent.
    pub(crate) fn pour(&mut self, head: &[u8], body: &[u8], times: usize, time: Duration) -> usize {
        let (until, all) = (Instant::now() + time, head.len() + times * body.len());
        while Instant::now() < until {
            let mut moved = false;
            for hog in self.0.iter_mut().filter(|hog| hog.open && hog.sent < all) {
                let rest = match hog.sent.checked_sub(head.len()) {
                    None => &head[hog.sent..],
                    Some(sent) => &body[sent % body.len()..],
                };
                match hog.stream.write(&rest[..rest.len().min(1 << 20)]) {
                    Ok(len) => {
                        hog.sent += len;
                        moved = true;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    // It was closed: the attack goes on without it.
                    Err(_) => hog.open = false,
                }
            }
            if !moved {
                if self.0.iter().all(|hog| !hog.open || hog.sent == all) {
                    break;
                }
                crate::world::pause(Duration::from_millis(5));
            }
        }
        self.0.iter().map(|hog| hog.sent).sum()
    }

    /// Reads so many bytes on each, of those that are open.
    pub(crate) fn take(&mut self, len: usize) {
        let mut buffer = vec![0; 1 << 20];
        for hog in &mut self.0 {
            hog.stream.set_nonblocking(false).expect("a mode");
            let mut left = len;
            while left > 0 {
                match hog.stream.read(&mut buffer[..left.min(1 << 20)]) {
                    Ok(read) if read > 0 => left -= read,
                    _ => break,
                }
            }
        }
    }
}
