//! Real clusters on loopback: requests through every replica, pipelines, restarts, hand-over.

mod harness;

use harness::Cluster;
use mainstay_node::{RoleName, StateName};

#[test]
fn any_replica_takes_any_command() {
    let cluster = Cluster::start();
    let mut clients: Vec<_> = (0..3).map(|index| cluster.client(index)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.call(&format!("set r{index} {index}")), "+ok");
    }
    for client in &mut clients {
        for index in 0..3 {
            assert_eq!(client.call(&format!("get r{index}")), format!("+{index}"));
        }
    }
    let leader = cluster.leader();
    for index in 0..3 {
        let status = cluster.until(index, |s| s.replica.state == StateName::Active);
        assert_eq!(status.leader, Some(leader as u16));
        assert_eq!(status.replica.role == RoleName::Leader, index == leader);
        assert_eq!(status.cluster.len(), 32);
        assert!(status.replica.applied > 0 && status.replica.log_bytes > 0);
        assert_eq!(status.configuration.unwrap().members.len(), 3);
    }
}
