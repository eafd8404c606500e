//! Replicas that are all started with a program which cannot restore the state.

mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::Ordering;

use harness::{Cluster, Place, RESTORES_FAIL};
use mainstay_node::{KeepSettings, StateName};
use mainstay_service::CheckpointInterval;

/// The checkpoints of a replica, as they stand in its folder.
fn checkpoints(cluster: &Cluster, index: usize) -> BTreeMap<String, Vec<u8>> {
    let Place::Folder(folder) = &cluster.places[index] else { unreachable!("it is a folder") };
    let names = fs::read_dir(folder).expect("a folder").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let held = names.filter(|name| name.starts_with("checkpoint-") && name.ends_with(".ms"));
    held.map(|name| (name.clone(), fs::read(folder.join(name)).expect("a file"))).collect()
}

#[test]
fn whoever_cannot_restore_what_it_holds_ends_and_leaves_it_alone() {
    let mut cluster = Cluster::prepare(3);
    cluster.segment_bytes = 16 << 10;
    for config in &mut cluster.configs {
        config.interval = CheckpointInterval { requests: 60, bytes: 1 << 20 };
        config.keep = KeepSettings { lagging_bytes: 0, transfer_bytes: 1 << 20 };
    }
    (0..3).for_each(|index| cluster.run(index));
    let (mut client, value) = (cluster.client(0), "v".repeat(400));
    let mut counted = String::new();
    while !(0..3).all(|index| {
        let status = cluster.status(index).expect("a status").replica;
        status.stable > 300 && status.log_bytes < 64 << 10
    }) {
        for n in 0..50 {
            assert_eq!(client.call(&format!("set key-{n} {value}")), "+ok");
        }
        counted = client.call("add counter");
    }
    for index in 0..3 {
        cluster.stop(index).expect("a clean end");
    }
    let before: Vec<_> = (0..3).map(|index| checkpoints(&cluster, index)).collect();
    RESTORES_FAIL.store(true, Ordering::Relaxed);
    (0..3).for_each(|index| cluster.run(index));
    for index in 0..3 {
        let ended = cluster.wait(index).expect_err("it has no state");
        assert_eq!(ended.exit_code(), 3, "{ended}");
        let told = ended.to_string();
        let said =
            ["cannot restore it", "no state of this service", "start the program that wrote it"];
        assert!(said.iter().all(|words| told.contains(words)), "{told}");
    }
    let after: Vec<_> = (0..3).map(|index| checkpoints(&cluster, index)).collect();
    assert!(after == before && before.iter().all(|held| !held.is_empty()));
    RESTORES_FAIL.store(false, Ordering::Relaxed);
    (0..3).for_each(|index| cluster.run(index));
    for index in 0..3 {
        cluster.until(index, |s| s.replica.state == StateName::Active && s.warnings.is_empty());
        assert_eq!(cluster.client(index).call("get counter"), counted);
    }
}
