//! Replicas that hear no leader: reached through another one, or told so in time.

mod harness;

use std::time::{Duration, Instant};

use harness::{Cluster, PATIENCE, loopback};
use mainstay_node::{PeerAddress, Sockets};

#[test]
fn a_replica_that_reaches_a_quorum_but_not_the_leader_serves_its_clients_through_another() {
    let mut cluster = Cluster::prepare(3);
    // The last one is to lead. It and the first do not find one another.
    let nobody = Sockets::bind(loopback(), loopback()).expect("ephemeral ports").peer_address();
    cluster.configs[0].peers[2] = PeerAddress::Socket(nobody);
    let mut last = cluster.configs[2].clone();
    last.peers[0] = PeerAddress::Socket(nobody);
    cluster.configs[2] = last;
    cluster.run(1);
    cluster.run(2);
    while cluster.until(2, |status| status.leader.is_some()).leader != Some(2) {
        cluster.stop(1).expect("a clean end");
        cluster.run(1);
    }
    cluster.run(0);
    let mut client = cluster.client(0);
    assert_eq!(client.call("set a 1"), "+ok");
    assert_eq!(client.call("get a"), "+1");
    let started = Instant::now();
    for n in 0..20 {
        client.send("add n\nget n\n");
        assert_eq!([client.line(), client.line()], [(); 2].map(|()| format!("+{}", n + 1)));
    }
    assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
    let status = cluster.until(0, |status| {
        status.warnings.iter().any(|warning| warning.contains("does not hear the leader"))
    });
    assert_eq!(status.leader, Some(2), "and it knows who that is");
    assert!(status.warnings.iter().all(|warning| !warning.contains("quorum")), "{status:?}");
    assert_eq!(cluster.leader(), 2, "nobody was unseated");
}

#[test]
fn a_read_that_finds_no_leader_is_refused_long_before_its_time_is_out() {
    let mut cluster = Cluster::prepare(3);
    for config in &mut cluster.configs {
        config.limits.leaderless_timeout = Duration::from_millis(500);
        config.limits.outcome_timeout = 2 * PATIENCE;
    }
    (0..3).for_each(|index| cluster.run(index));
    let leader = cluster.leader();
    let mut client = cluster.client(leader);
    assert_eq!(client.call("set a 1"), "+ok");
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        cluster.stop(other).expect("a clean end");
    }
    // The leader does not know yet that it has no quorum any more.
    let asked = Instant::now();
    assert_eq!(client.call("get a"), "-Unavailable");
    assert!(asked.elapsed() < PATIENCE / 2, "{:?}", asked.elapsed());
    let status = cluster.until(leader, |status| status.leader.is_none());
    let hears_none = "this replica hears no leader; another one may";
    assert!(status.warnings.iter().any(|warning| warning == hears_none), "{status:?}");
    for other in others {
        cluster.run(other);
    }
    cluster.leader();
    assert_eq!(client.call("get a"), "+1");
}
