//! Disks that rot or fail under a running node, at any place.

mod harness;

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Instant;

use harness::{Cluster, PATIENCE, Place};
use mainstay_model::Prng;
use mainstay_node::{KeepSettings, NodeError, NodeStatus, StateName};
use mainstay_service::CheckpointInterval;
use mainstay_storage::MemoryDisk;

/// After how many changes of its disk a node dies, besides none.
const STEPS: [u64; 11] = [0, 1, 2, 3, 5, 8, 12, 18, 27, 40, 60];

/// A cluster whose log is short.
fn prepare(size: u16) -> Cluster {
    let mut cluster = Cluster::prepare(size);
    cluster.segment_bytes = 16 << 10;
    for config in &mut cluster.configs {
        config.interval = CheckpointInterval { requests: 60, bytes: 1 << 20 };
        config.keep = KeepSettings { lagging_bytes: 0, transfer_bytes: 1 << 20 };
    }
    cluster
}

/// Adds until it is as wanted, or the replica does not answer any more; returns what was acknowledged last.
fn add_until(cluster: &Cluster, index: usize, is_it: impl Fn() -> bool) -> u64 {
    use std::io::{BufRead, Write};
    let mut client = cluster.client(index);
    let (mut acknowledged, mut line) = (0, String::new());
    let began = Instant::now();
    let value = "v".repeat(300);
    while !is_it() {
        assert!(began.elapsed() < PATIENCE, "it never came to it");
        let asked = client
            .stream
            .get_mut()
            .write_all(format!("set key-{} {value}\nadd counter\n", acknowledged % 30).as_bytes());
        for _ in 0..2 {
            line.clear();
            if asked.is_err() || !client.stream.read_line(&mut line).is_ok_and(|len| len > 0) {
                return acknowledged;
            }
        }
        acknowledged = line.trim_start_matches('+').trim_end().parse().unwrap_or(acknowledged);
    }
    acknowledged
}

fn counter(cluster: &Cluster, index: usize) -> u64 {
    cluster.until(index, |s| s.replica.state == StateName::Active);
    let told = cluster.client(index).call("get counter");
    told.trim_start_matches('+').parse().expect("a number")
}

fn has_given_up(cluster: &Cluster, index: usize, slot: u64) -> bool {
    let status = cluster.status(index).expect("a status").replica;
    status.checkpoint > slot && status.stable > slot && status.log_bytes < 64 << 10
}

/// Whatever the disk was at — a record, a checkpoint's block, its sync, its new name, the end of a
/// piece of log — the machine dies there, and what was acknowledged comes back.
#[test]
fn a_machine_that_dies_at_any_change_of_its_disk_loses_nothing() {
    for (seed, step) in STEPS.into_iter().enumerate() {
        let mut cluster = prepare(1);
        let disk = MemoryDisk::default();
        cluster.places[0] = Place::Memory(disk.clone());
        cluster.run(0);
        cluster.until(0, |s| s.replica.state == StateName::Active);
        let before = add_until(&cluster, 0, || has_given_up(&cluster, 0, 0));
        disk.fail_after(Some(step));
        let acknowledged = add_until(&cluster, 0, || false).max(before);
        let ended = cluster.wait(0).expect_err("its disk failed");
        assert!(matches!(ended, NodeError::Disk { .. }), "after {step} changes: {ended}");
        disk.fail_after(None);
        disk.lose_power(&mut Prng::new(seed as u64));
        cluster.run(0);
        let counted = counter(&cluster, 0);
        assert!(
            (acknowledged..=acknowledged + 1).contains(&counted),
            "after {step} changes: {acknowledged} were acknowledged, {counted} are there"
        );
        let slot = cluster.status(0).expect("a status").replica.decided;
        add_until(&cluster, 0, || has_given_up(&cluster, 0, slot));
    }
}

/// The same while a checkpoint is fetched: pieces, their syncs, the new name, the log that begins after it.
#[test]
fn a_machine_that_dies_at_any_change_while_it_fetches_loses_nothing() {
    let mut cluster = prepare(3);
    for config in &mut cluster.configs {
        config.ordering.chunk_bytes = 512;
    }
    let disk = MemoryDisk::default();
    cluster.places[2] = Place::Memory(disk.clone());
    (0..3).for_each(|index| cluster.run(index));
    let mut acknowledged = add_until(&cluster, 0, || (0..3).all(|i| has_given_up(&cluster, i, 0)));
    for (seed, step) in STEPS.into_iter().enumerate() {
        cluster.stop(2).expect("a clean end");
        let slot = cluster.status(0).expect("a status").replica.decided;
        let gone = || (0..2).all(|index| has_given_up(&cluster, index, slot));
        acknowledged = add_until(&cluster, 0, gone).max(acknowledged);
        // Opening its folder again changes a few things, too; that is not what is looked at here.
        let opening = 12;
        disk.fail_after(Some(opening + step));
        cluster.run(2);
        let running = cluster.nodes[2].take().expect("it runs");
        let began = Instant::now();
        while !running.thread.is_finished() {
            assert!(began.elapsed() < PATIENCE, "it neither dies nor comes back");
            // There may be fewer changes than that; and as long as only what is fetched cannot be
            // written, or a piece of log be prepared, nothing was promised, and it tries again.
            let tries = |status: &NodeStatus| {
                let mut warnings = status.warnings.iter();
                warnings.any(|w| {
                    w.contains("could not be kept; it is tried again") || w.contains("has no room")
                })
            };
            let comes_back = |s: &NodeStatus| s.replica.state == StateName::Active || tries(s);
            if cluster.status(2).is_ok_and(|s| comes_back(&s)) {
                running.stop.stop();
            }
        }
        // However it ended: the disk failed under it.
        let _ = running.thread.join();
        disk.fail_after(None);
        disk.lose_power(&mut Prng::new(seed as u64));
        cluster.run(2);
        assert!(counter(&cluster, 2) >= acknowledged, "after {step} changes");
    }
    assert!(harness::logged(&["was fetched and is in place"]) > 0);
}

/// A bit flips under a running replica, in a record that it will read back to execute it: it stops and
/// says where, and deletes nothing on its own doubt (nats-io/nats-server#7549, #7556).
#[test]
fn a_record_that_rots_under_a_running_replica_ends_it_with_code_3() {
    let mut cluster = Cluster::prepare(1);
    cluster.configs[0].ordering.deliver_bytes_max = 1;
    cluster.configs[0].ordering.page_bytes_max = 1;
    cluster.configs[0].ordering.window_bytes_max = 1;
    cluster.run(0);
    cluster.until(0, |s| s.replica.state == StateName::Active);
    let mut client = cluster.client(0);
    assert_eq!(client.call("gate"), "+ok");
    for n in 0..50 {
        assert_eq!(client.call(&format!("set n {n}")), "+ok");
    }
    assert_eq!(client.call("set last rotten-value"), "+ok");
    cluster.stop(0).expect("a clean end");
    cluster.configs[0].limits.loading_timeout = std::time::Duration::ZERO;
    harness::GATE_CLOSED.store(true, Ordering::Relaxed);
    cluster.run(0);
    // It has read its log through, found it whole, and executes it again, as far as the gate.
    let status = cluster.until(0, |s| s.leader.is_some());
    assert_eq!(status.replica.state, StateName::CatchingUp, "{status:?}");
    let Place::Folder(folder) = &cluster.places[0] else { unreachable!("it is a folder") };
    let segment = folder.join("log-0000000001");
    let mut bytes = fs::read(&segment).expect("the log");
    let at = bytes.windows(12).rposition(|window| window == b"rotten-value").expect("the value");
    bytes[at] ^= 1;
    fs::write(&segment, bytes).expect("the log");
    harness::GATE_CLOSED.store(false, Ordering::Relaxed);
    let ended = cluster.wait(0).expect_err("the record is not what it was");
    assert_eq!(ended.exit_code(), 3, "{ended}");
    let told = ended.to_string();
    assert!(told.contains("log-0000000001") && told.contains("could not be read back"), "{told}");
}
