//! A replica that cannot make anything of the others' checkpoint.

mod harness;

use std::sync::atomic::Ordering;

use harness::{Cluster, RESTORES_FAIL};
use mainstay_node::{KeepSettings, StateName};
use mainstay_service::CheckpointInterval;

/// Its status says why, and it does not fetch the same again and again: once the service takes it, it
/// serves.
#[test]
fn whoever_cannot_use_what_it_fetched_says_so() {
    let mut cluster = Cluster::prepare(3);
    cluster.segment_bytes = 16 << 10;
    for config in &mut cluster.configs {
        config.interval = CheckpointInterval { requests: 60, bytes: 1 << 20 };
        config.keep = KeepSettings { lagging_bytes: 0, transfer_bytes: 1 << 20 };
    }
    (0..2).for_each(|index| cluster.run(index));
    let leader = cluster.leader();
    cluster.until(leader, |s| s.replica.state == StateName::Active);
    let (mut client, value) = (cluster.client(leader), "v".repeat(400));
    for n in 0..500 {
        assert_eq!(client.call(&format!("set key-{} {value}", n % 50)), "+ok");
    }
    (0..2).for_each(|index| drop(cluster.until(index, |s| s.replica.stable > 300)));
    RESTORES_FAIL.store(true, Ordering::Relaxed);
    cluster.run(2);
    let told = |words: &str| {
        let has = |warnings: &[String]| warnings.iter().any(|warning| warning.contains(words));
        cluster.until(2, |s| has(&s.warnings));
    };
    told("this replica executes nothing");
    told("no state of this service");
    RESTORES_FAIL.store(false, Ordering::Relaxed);
    cluster.until(2, |s| s.replica.state == StateName::Active && s.warnings.is_empty());
    assert_eq!(cluster.client(2).call("get key-7"), format!("+{value}"));
    assert_eq!(harness::logged(&["the checkpoint of slot", "is being fetched"]), 1);
}
