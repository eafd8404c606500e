//! Reads from a replica's state as it is, also where the replica is cut off from the others.

mod harness;

use std::time::Duration;

use harness::{Cluster, loopback};
use mainstay_node::{Sockets, StateName};

/// Lets replica 2 run on where no other finds it and it finds no other.
fn cut_off(cluster: &mut Cluster) {
    // Ports of their own, on which nobody listens once these are dropped.
    let places: Vec<_> = (0..3).map(|_| Sockets::bind(loopback(), loopback()).unwrap()).collect();
    cluster.configs[2].peers = places.iter().map(|place| place.peer_address().into()).collect();
    cluster.clients[2] = places[2].client_address();
    drop(places);
    cluster.run(2);
}

#[test]
fn a_replica_that_is_cut_off_answers_stale_reads_and_no_others() {
    let mut cluster = Cluster::prepare(3);
    cluster.configs[2].limits.leaderless_timeout = Duration::from_millis(100);
    (0..3).for_each(|index| cluster.run(index));
    let mut client = cluster.client(2);
    for value in 0..=5 {
        assert_eq!(client.call(&format!("set a {value}")), "+ok");
    }
    let peers = cluster.configs[2].peers.clone();
    let at = cluster.clients[2];
    drop(client);
    cluster.stop(2).expect("a clean end");
    assert_eq!(cluster.client(0).call("set a new"), "+ok");

    cut_off(&mut cluster);
    let before = cluster.until(2, |s| s.replica.applied > 0);
    assert_eq!(before.leader, None);
    let mut client = cluster.client(2);
    let stale = client.call("stale get a");
    // What it had learned to be decided when it stopped: of the last ones, perhaps not all.
    assert!(["+3", "+4", "+5"].contains(&stale.as_str()), "{stale}");
    // The linearizable read is refused, and the one behind it is not.
    client.send("get a\nstale get a\n");
    assert_eq!([client.line(), client.line()], ["-Unavailable".to_owned(), stale]);

    cluster.stop(2).expect("a clean end");
    cluster.configs[2].peers = peers;
    cluster.clients[2] = at;
    cluster.run(2);
    cluster.until(2, |s| s.replica.state == StateName::Active);
    let mut client = cluster.client(2);
    assert_eq!(client.call("get a"), "+new");
    assert_eq!(client.call("stale get a"), "+new");
}

#[test]
fn a_write_that_hangs_does_not_hold_a_stale_read_back() {
    let mut cluster = Cluster::start();
    assert_eq!(cluster.client(2).call("set a 1"), "+ok");
    cluster.stop(0).expect("a clean end");
    cluster.stop(1).expect("a clean end");
    // Answers come in order, so each command has a connection of its own.
    let mut writer = cluster.client(2);
    writer.send("set a 2\n");
    assert_eq!(cluster.client(2).call("stale get a"), "+1");
    cluster.run(0);
    assert_eq!(writer.line(), "+ok");
    assert_eq!(cluster.client(2).call("stale get a"), "+2");
}

#[test]
fn a_replica_that_has_nothing_yet_says_so() {
    let mut cluster = Cluster::prepare(3);
    cluster.run(0);
    cluster.until(0, |s| s.replica.state == StateName::Starting);
    assert_eq!(cluster.client(0).call("stale get a"), "-Loading");
}
