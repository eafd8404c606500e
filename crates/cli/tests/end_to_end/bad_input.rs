//! What nobody should send or set up: one sentence says what is wrong and what to do, nothing dies,
//! nothing grows.

use std::fs;
use std::net::{TcpListener, TcpStream};

use mainstay_model::Prng;
use rustix::process::Pid;

use crate::world::cluster::{REPLICAS, memory_of};
use crate::world::raw::Raw;
use crate::world::{Cluster, wait_until};

/// More than a replica holds under any bad input of these tests.
const MEMORY_MAX: u64 = 512 << 20;

/// The processes of a cluster that must survive what follows.
struct Survivors<'a> {
    cluster: &'a Cluster,
    pids: Vec<Pid>,
}

impl<'a> Survivors<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        cluster.wait_until_whole();
        Self { cluster, pids: (0..REPLICAS).map(|index| cluster.pid(index)).collect() }
    }

    /// All of them still run, serve clients, have not panicked, and hold little memory.
    fn are_well(&self) {
        for (index, &pid) in self.pids.iter().enumerate() {
            let mut client = Raw::connect(self.cluster.clients_at(index));
            client.command(&["SET", "well", "yes"]);
            assert_eq!(client.reply(), "+OK\r\n");
            let memory = memory_of(pid).expect("the process runs");
            assert!(memory < MEMORY_MAX, "replica {index} holds {} MiB", memory >> 20);
            let log = self.cluster.log_of(index);
            assert!(!log.contains("panicked"), "{log}");
        }
    }

    /// Waits until a replica has said this in its log.
    fn wait_until_said(&self, index: usize, parts: &[&str]) {
        wait_until(&format!("the log of replica {index} says {parts:?}"), || {
            let log = self.cluster.log_of(index);
            log.lines().any(|line| parts.iter().all(|part| line.contains(part)))
        });
    }
}

fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut prng = Prng::new(seed);
    (0..len).map(|_| prng.next_u64() as u8).collect()
}

#[test]
fn garbage_is_answered_and_told() {
    let cluster = Cluster::start(&[]);
    let survivors = Survivors::of(&cluster);
    for seed in 0..50 {
        for first in [0, b'*', b'$', 0xff] {
            let mut bytes = random_bytes(seed, 20_000);
            bytes[0] = first;
            for address in [cluster.clients_at(0), cluster.peers_at(1)] {
                // It may be closed before all of it is taken.
                Raw::connect(address).send(&bytes);
            }
        }
    }
    survivors.wait_until_said(1, &["refused", "what came first is no hello"]);
    let mut client = Raw::connect(cluster.clients_at(0));
    client.send(b"\0garbage");
    client.rest();
    survivors.wait_until_said(0, &["refused", "not the preface of the native protocol"]);
    let mut browser = Raw::connect(cluster.clients_at(0));
    browser.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET well no\r\n");
    let told = browser.rest();
    assert!(told.starts_with("-ERR ") && told.contains("HTTP"), "{told}");
    survivors.are_well();
}

#[test]
fn too_much_is_refused_before_it_is_held() {
    let cluster = Cluster::start(&[]);
    let survivors = Survivors::of(&cluster);
    for (bytes, sentence) in [
        (&b"*1\r\n$9223372036854775807\r\n"[..], "longer than"),
        (b"*2147483647\r\n", "invalid multibulk length"),
        (b"*1\r\n$-5\r\n", "invalid bulk length"),
        (&vec![b'x'; 100_000], "too big inline request"),
    ] {
        let mut client = Raw::connect(cluster.clients_at(0));
        client.send(bytes);
        let told = client.rest();
        assert!(told.starts_with("-ERR Protocol error") && told.contains(sentence), "{told}");
    }

    // A value one byte longer than allowed, all of it sent.
    let mut client = Raw::connect(cluster.clients_at(1));
    client.command(&["SET", "large", &"v".repeat((16 << 20) + 1)]);
    let told = client.reply();
    assert!(told.starts_with("-ERR "), "{told}");
    // The largest one that is.
    let mut client = Raw::connect(cluster.clients_at(1));
    client.command(&["SET", "large", &"v".repeat(16 << 20)]);
    assert_eq!(client.reply(), "+OK\r\n");

    // A frame that names a length of 4 GiB, on both ports.
    let frame = [&u32::MAX.to_le_bytes()[..], &[1; 60]].concat();
    let mut peer = Raw::connect(cluster.peers_at(2));
    peer.send(&frame);
    assert!(peer.rest().contains("no hello"));
    survivors.wait_until_said(2, &["refused", "no hello"]);
    let mut client = Raw::connect(cluster.clients_at(2));
    client.send(&[b"\0", &frame[..]].concat());
    client.rest();
    survivors.are_well();
}

#[test]
fn a_thousand_half_open_connections_keep_nobody_out() {
    const CONNECTIONS: usize = 1000;
    let cluster = Cluster::start(&[]);
    let survivors = Survivors::of(&cluster);
    let mut half_open = Vec::new();
    for number in 0..CONNECTIONS {
        for address in [cluster.clients_at(0), cluster.peers_at(0)] {
            let mut connection = Raw::connect(address);
            if number % 2 == 0 {
                // The beginning of something, never its end. It may have been turned away already.
                connection.send(if address == cluster.clients_at(0) {
                    b"*2\r\n$3"
                } else {
                    b"\x40"
                });
            }
            half_open.push(connection);
        }
    }
    survivors.are_well();
    let status = cluster.wait_until_whole();
    assert!(status < REPLICAS);
    drop(half_open);
    survivors.are_well();
}

#[test]
fn a_taken_port_is_named_by_the_replica() {
    let mut cluster = Cluster::start(&[]);
    assert!(cluster.stop().success());
    let config = cluster.data().join("replica-1.toml").to_string_lossy().into_owned();
    for address in [cluster.clients_at(1), cluster.peers_at(1)] {
        let held = TcpListener::bind(address).expect("a free port");
        let output = cluster.run(&["replica", "--config", &config]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "it may be free later: {told}");
        let sentence = told.lines().last().unwrap_or_default();
        let good = sentence.starts_with("error: ") && sentence.contains(&address.to_string());
        assert!(good, "{told}");
        drop(held);
    }
}

#[test]
fn folders_in_each_others_place_are_refused() {
    let mut cluster = Cluster::start(&[]);
    assert!(cluster.stop().success());
    let (one, two) = (cluster.replica_folder(0), cluster.replica_folder(1));
    let aside = cluster.data().join("aside");
    for (from, to) in [(&one, &aside), (&two, &one), (&aside, &two)] {
        fs::rename(from, to).expect("a folder moves");
    }
    let from = cluster.spawn();
    for (index, other) in [(0, 1), (1, 0)] {
        let said = cluster.wait_for_line(from, &format!("replica {index}: process"));
        let belongs = format!("belongs to replica {other} of cluster");
        for part in ["exit code 3", &belongs, "give each replica its own folder"] {
            assert!(said.contains(part), "`{part}` is not in: {said}");
        }
    }
    assert_eq!(cluster.ended().code(), Some(3));
}

#[test]
fn a_replica_folder_that_is_a_file_is_told() {
    let mut cluster = Cluster::start(&[]);
    assert!(cluster.stop().success());
    fs::remove_dir_all(cluster.replica_folder(2)).expect("the folder goes");
    fs::write(cluster.replica_folder(2), "not a folder").expect("a file");
    let from = cluster.spawn();
    let said = cluster.wait_for_line(from, "error: ");
    assert!(said.contains("replica-2'"), "{said}");
    assert_eq!(cluster.ended().code(), Some(2));
}

#[test]
fn a_peer_of_another_cluster_is_refused_in_both_logs() {
    let cluster = Cluster::start(&[]);
    let survivors = Survivors::of(&cluster);
    let mut other = Cluster::prepare_beside(&cluster);
    let id = other.init();
    // Its first replica is told that the second one is where this cluster's second one is.
    let config = other.data().join("replica-0.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    let (wrong, right) = (other.peers_at(1).to_string(), cluster.peers_at(1).to_string());
    assert!(text.contains(&wrong), "{text}");
    fs::write(&config, text.replace(&wrong, &right)).expect("a configuration");
    let from = other.spawn_replica(0);
    let refused = other.wait_for_said(from, "a refusal", |line| {
        line.contains("refuses this replica") && line.contains(&id)
    });
    assert!(refused.contains("check the addresses of the peers"), "{refused}");
    survivors.wait_until_said(1, &["refused", &id, "check the addresses of the peers"]);
    assert!(TcpStream::connect(other.clients_at(0)).is_ok(), "it goes on");
    assert!(other.stop().success());
    survivors.are_well();
}
