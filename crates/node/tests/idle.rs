//! A node that has nothing to do does nothing: its loop takes few turns.

mod harness;

use std::io::Read;
use std::net::TcpStream;
use std::time::Instant;

use harness::{Cluster, PATIENCE};
use mainstay_node::StateName;

/// The most turns a second of a node that only keeps up its timers and its peers. One that never sleeps
/// takes tens of thousands.
const TURNS_MAX: f64 = 500.0;

/// Looks at the turns that are taken until somebody who says nothing is sent away, which takes seconds
/// and needs no other event.
fn assert_idle(cluster: &Cluster, when: &str) {
    let turns = |index| cluster.status(index).expect("a status").replica.turns;
    let began = Instant::now();
    let before: Vec<u64> = (0..3).map(turns).collect();
    let mut silent: Vec<_> = (0..3)
        .map(|index| {
            let silent = TcpStream::connect(cluster.peer_port(index)).expect("a port");
            silent.set_read_timeout(Some(PATIENCE)).expect("a time-out");
            silent
        })
        .collect();
    for silent in &mut silent {
        silent.read_to_end(&mut Vec::new()).expect("it is closed in time");
    }
    let patience = cluster.configs[0].limits.handshake_timeout;
    assert!(began.elapsed() >= patience, "silence is borne for {patience:?}");
    for (index, before) in before.into_iter().enumerate() {
        let rate = (turns(index) - before) as f64 / began.elapsed().as_secs_f64();
        assert!(rate < TURNS_MAX, "replica {index} takes {rate:.0} turns a second {when}");
    }
}

#[test]
fn nodes_sleep_whatever_is_left_open() {
    let mut cluster = Cluster::prepare(3);
    for config in &mut cluster.configs {
        config.limits.unsent_bytes_max = 1 << 20;
        config.limits.stalled_timeout = PATIENCE * 10;
    }
    (0..3).for_each(|index| cluster.run(index));
    let mut client = cluster.client(0);
    assert_eq!(client.call(&format!("set big {}", "x".repeat(1 << 20))), "+ok");
    // A client that does not read, in the middle of its next command.
    let mut slow = cluster.client(0);
    slow.send(&"get big\n".repeat(50));
    slow.send("get b");
    assert_idle(&cluster, "while a client takes nothing");
    drop(slow);

    // Executors that have stopped, with a command open.
    client.send("panic\n");
    assert_eq!(client.line(), "-Uncertain");
    cluster.until(0, |s| s.replica.state == StateName::Failed);
    assert_idle(&cluster, "when the executor has stopped");
}
