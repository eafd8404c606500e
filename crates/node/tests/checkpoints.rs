//! Checkpoints made, restarted from, fetched and found wrong, by real nodes.

mod harness;

use std::fs;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::{Cluster, Place};
use mainstay_node::{KeepSettings, StateName};
use mainstay_service::CheckpointInterval;

/// A cluster whose log is short: checkpoints every so many requests, small segments, nothing kept.
fn prepare(requests: u64) -> Cluster {
    let mut cluster = Cluster::prepare(3);
    cluster.segment_bytes = 16 << 10;
    for config in &mut cluster.configs {
        config.interval = CheckpointInterval { requests, bytes: 1 << 20 };
        config.keep = KeepSettings { lagging_bytes: 0, transfer_bytes: 1 << 20 };
    }
    cluster
}

fn start(requests: u64) -> Cluster {
    let mut cluster = prepare(requests);
    (0..3).for_each(|index| cluster.run(index));
    cluster
}

/// Writes until it is as wanted. Returns what the counter stands at.
fn write_until(cluster: &Cluster, at: usize, is_it: impl Fn() -> bool) -> String {
    let mut client = cluster.client(at);
    let value = "v".repeat(400);
    for round in 0..1000 {
        for key in 0..50 {
            assert_eq!(client.call(&format!("set key-{key} {value}-{round}")), "+ok");
        }
        let counted = client.call("add counter");
        if is_it() {
            return counted;
        }
    }
    panic!("it never came to it: {:?}", cluster.status(at));
}

/// Whether a replica has a checkpoint above `slot`, and has given up the log of before.
fn is_past(cluster: &Cluster, index: usize, slot: u64) -> bool {
    let status = cluster.status(index).expect("a status");
    let segments = files(cluster, index, "log-");
    assert!(!segments.is_empty());
    status.replica.checkpoint > slot && !segments[0].starts_with("log-0000000001")
}

fn folder(cluster: &Cluster, index: usize) -> PathBuf {
    match &cluster.places[index] {
        Place::Folder(path) => path.clone(),
        Place::Memory(_) => unreachable!("these tests use folders"),
    }
}

/// The names of the files in a replica's folder that begin so.
fn files(cluster: &Cluster, index: usize, beginning: &str) -> Vec<String> {
    let entries = fs::read_dir(folder(cluster, index)).expect("a folder").flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with(beginning));
    names.sort();
    names
}

#[test]
fn a_log_is_given_up_and_all_restart_from_their_checkpoints() {
    let mut cluster = start(60);
    let counted = write_until(&cluster, 0, || (0..3).all(|index| is_past(&cluster, index, 0)));
    for index in 0..3 {
        assert!(files(&cluster, index, "checkpoint-").len() <= 2);
        cluster.stop(index).expect("a clean end");
    }
    (0..3).for_each(|index| cluster.run(index));
    for index in 0..3 {
        let status = cluster.until(index, |s| s.replica.state == StateName::Active);
        assert!(status.replica.checkpoint > 0, "{status:?}");
        assert_eq!(cluster.client(index).call("get counter"), counted);
    }
    let again = cluster.client(1).call("add counter");
    assert_ne!(again, counted);
}

#[test]
fn a_replica_that_was_away_while_the_log_went_fetches_a_checkpoint() {
    let mut cluster = start(60);
    write_until(&cluster, 0, || (0..3).all(|index| is_past(&cluster, index, 0)));
    let leader = cluster.leader();
    let away = (0..3).find(|&index| index != leader).expect("a follower");
    let others = [leader, 3 - leader - away];
    cluster.stop(away).expect("a clean end");
    let gone = cluster.status(leader).expect("a status").replica.decided;
    let counted =
        write_until(&cluster, leader, || others.iter().all(|&i| is_past(&cluster, i, gone)));
    cluster.run(away);
    cluster.until(away, |s| s.replica.state == StateName::Active && s.replica.checkpoint > gone);
    assert_eq!(cluster.client(away).call("get counter"), counted);
    assert!(harness::logged(&["was fetched and is in place"]) > 0);
    // It goes on like the others, also after a restart.
    let last = write_until(&cluster, away, || is_past(&cluster, away, gone));
    cluster.stop(away).expect("a clean end");
    cluster.run(away);
    cluster.until(away, |s| s.replica.state == StateName::Active);
    assert_eq!(cluster.client(away).call("get counter"), last);
}

#[test]
fn a_replica_whose_state_differs_is_found_and_fetches_that_of_the_others() {
    let cluster = start(60);
    let mut client = cluster.client(0);
    assert_eq!(client.call("differ odd"), "+ok");
    // Until it is found: the replica asked may be the one, and then answers that it is loading.
    while harness::logged(&["another digest of the checkpoint"]) == 0 {
        let reply = client.call("add counter");
        assert!(reply.starts_with('+') || reply == "-Loading", "{reply}");
    }
    harness::until_logged(&["was fetched and is in place"]);
    for index in 0..3 {
        cluster.until(index, |s| s.replica.state == StateName::Active);
        assert_eq!(cluster.client(index).call("get odd"), "+right");
        assert_eq!(files(&cluster, index, "unusable-"), [""; 0], "what is right is in place");
    }
    write_until(&cluster, 0, || (0..3).all(|index| is_past(&cluster, index, 0)));
}

/// Flips a bit in the content of these checkpoints.
fn rot(cluster: &Cluster, index: usize, names: &[String]) {
    for name in names {
        let path = folder(cluster, index).join(name);
        let mut bytes = fs::read(&path).expect("a file");
        bytes[4200] ^= 1;
        fs::write(&path, bytes).expect("the file");
    }
}

#[test]
fn where_a_checkpoint_rotted_an_older_one_and_the_log_serve() {
    let mut cluster = prepare(60);
    cluster.configs.iter_mut().for_each(|config| config.keep.lagging_bytes = 1 << 30);
    (0..3).for_each(|index| cluster.run(index));
    let two = |index| files(&cluster, index, "checkpoint-").len() == 2;
    let counted = write_until(&cluster, 0, || (0..3).all(two));
    let mut rotten = Vec::new();
    for index in 0..3 {
        cluster.stop(index).expect("a clean end");
        let newest = files(&cluster, index, "checkpoint-").pop().expect("a checkpoint");
        rot(&cluster, index, std::slice::from_ref(&newest));
        rotten.push(newest);
    }
    (0..3).for_each(|index| cluster.run(index));
    for (index, rotten) in rotten.iter().enumerate() {
        cluster.until(index, |s| s.replica.state == StateName::Active);
        assert_eq!(cluster.client(index).call("get counter"), counted);
        assert!(harness::logged(&["cannot be used", rotten]) > 0, "{}", harness::log_text());
    }
}

#[test]
fn a_replica_whose_checkpoints_rotted_fetches_one() {
    let mut cluster = start(60);
    let counted = write_until(&cluster, 0, || (0..3).all(|index| is_past(&cluster, index, 0)));
    cluster.stop(1).expect("a clean end");
    rot(&cluster, 1, &files(&cluster, 1, "checkpoint-"));
    cluster.run(1);
    cluster.until(1, |s| s.replica.state == StateName::Active);
    assert_eq!(cluster.client(1).call("get counter"), counted);
}

/// lni/dragonboat#325, camunda/camunda#837, aeron-io/aeron#1263: writing a checkpoint costs the leader
/// its office, or stops everybody. Here it takes far longer than an election time-out.
#[test]
fn requests_go_on_under_the_same_leader_while_a_checkpoint_is_written() {
    let mut cluster = prepare(500);
    for config in &mut cluster.configs {
        // More than a busy machine holds a thread up, and far less than the checkpoint takes.
        config.ordering.election_timeout_min = Duration::from_secs(1);
        config.ordering.election_timeout = Duration::from_secs(1);
        config.detection.timeout = Duration::from_secs(1);
    }
    cluster.checkpoint_write_rate = NonZeroU64::new(4 << 10);
    (0..3).for_each(|index| cluster.run(index));
    let leader = cluster.leader();
    let before = cluster.until(leader, |s| s.replica.state == StateName::Active);
    let mut client = cluster.client(leader);
    let value = "v".repeat(400);
    let writes: String = (0..500).map(|n| format!("set key-{} {value}-{n}\n", n % 50)).collect();
    client.send(&writes);
    (0..500).for_each(|_| assert_eq!(client.line(), "+ok"));
    // It is due, and takes five seconds.
    let mut longest = Duration::ZERO;
    for _ in 0..100 {
        let asked = Instant::now();
        assert!(client.call("add counter").starts_with('+'));
        longest = longest.max(asked.elapsed());
    }
    let status = cluster.status(leader).expect("a status");
    assert_eq!(status.replica.checkpoint, 0, "it was written too fast to show anything");
    assert!(longest < Duration::from_millis(2500), "{longest:?} for one request");
    for index in 0..3 {
        cluster.until(index, |s| s.replica.checkpoint > 0);
    }
    let after = cluster.status(leader).expect("a status");
    assert_eq!((after.leader, after.ballot), (before.leader, before.ballot));
}

/// lni/dragonboat#369: what a state lacks of its own log is skipped without a word. Here a replica that
/// has nobody to ask does not start.
#[test]
fn a_replica_alone_whose_checkpoints_are_gone_says_so_and_does_not_start() {
    let mut cluster = Cluster::prepare(1);
    cluster.segment_bytes = 16 << 10;
    let config = &mut cluster.configs[0];
    config.interval = CheckpointInterval { requests: 60, bytes: 1 << 20 };
    config.keep = KeepSettings { lagging_bytes: 0, transfer_bytes: 0 };
    cluster.run(0);
    write_until(&cluster, 0, || is_past(&cluster, 0, 0));
    cluster.stop(0).expect("a clean end");
    for name in files(&cluster, 0, "checkpoint-") {
        fs::remove_file(folder(&cluster, 0).join(name)).expect("the file goes");
    }
    cluster.run(0);
    let error = cluster.wait(0).expect_err("an end with a reason");
    assert_eq!(error.exit_code(), 3);
    let sentence = error.to_string();
    for word in ["the log begins after slot", "no checkpoint can be restored", "no other replica"] {
        assert!(sentence.contains(word), "{sentence}");
    }
}

#[test]
fn a_service_whose_checkpoint_fails_half_way_goes_on_and_the_next_one_succeeds() {
    let cluster = start(60);
    for how in ["fails", "panics"] {
        let failed = harness::logged(&["was not written, and the log is kept"]);
        assert_eq!(cluster.client(0).call(&format!("set checkpoint {how}")), "+ok");
        let told = |index| {
            let status = cluster.status(index).expect("a status");
            status.warnings.iter().any(|w| w.contains("the last checkpoint could not be written"))
        };
        let counted = write_until(&cluster, 0, || (0..3).all(told));
        assert!(harness::logged(&["was not written, and the log is kept"]) >= failed + 3);
        // The service itself is not touched.
        for index in 0..3 {
            cluster.until(index, |s| s.replica.state == StateName::Active);
        }
        assert_eq!(cluster.client(0).call("set checkpoint works"), "+ok");
        let slot = cluster.status(0).expect("a status").replica.decided;
        write_until(&cluster, 0, || (0..3).all(|index| is_past(&cluster, index, slot)));
        assert!((0..3).all(|index| !told(index)));
        let counts = counted.trim_start_matches('+').parse::<u64>().expect("a number");
        let again = cluster.client(2).call("get counter");
        assert!(again.trim_start_matches('+').parse::<u64>().expect("a number") >= counts);
        for index in 0..3 {
            // One may be being written; what failed left nothing.
            let names = files(&cluster, index, "checkpoint-");
            assert!(names.iter().filter(|name| name.ends_with(".tmp")).count() <= 1, "{names:?}");
        }
    }
}

/// No two replicas have the same state, so none of them can be told to be wrong (etcd-io/etcd#14039:
/// nobody was told at all).
#[test]
fn a_service_that_differs_everywhere_is_told_and_nothing_is_given_up() {
    let cluster = start(60);
    write_until(&cluster, 0, || (0..3).all(|index| is_past(&cluster, index, 0)));
    assert_eq!(cluster.client(0).call("unlike odd"), "+ok");
    let decided = cluster.status(0).expect("a status").replica.decided;
    let told = |index: usize| {
        let status = cluster.status(index).expect("a status");
        status.warnings.iter().any(|w| w.contains("no two replicas have the same state"))
    };
    write_until(&cluster, 0, || (0..3).all(told));
    for index in 0..3 {
        let status = cluster.until(index, |s| s.replica.state == StateName::Active);
        assert!(status.replica.stable <= decided, "{status:?}");
    }
}

/// At such a rate the checkpoint takes two minutes, of which the node's end waits for none.
#[test]
fn a_node_ends_at_once_though_its_checkpoint_is_written_slowly() {
    let mut cluster = Cluster::prepare(1);
    cluster.configs[0].interval = CheckpointInterval { requests: 60, bytes: 1 << 30 };
    cluster.checkpoint_write_rate = NonZeroU64::new(1 << 10);
    cluster.run(0);
    cluster.until(0, |s| s.replica.state == StateName::Active);
    let (mut client, value) = (cluster.client(0), "v".repeat(2000));
    for n in 0..100 {
        assert_eq!(client.call(&format!("set key-{n} {value}")), "+ok");
    }
    let began = Instant::now();
    while files(&cluster, 0, "checkpoint-").is_empty() {
        assert!(began.elapsed() < harness::PATIENCE, "no checkpoint is being written");
        std::thread::yield_now();
    }
    let began = Instant::now();
    cluster.stop(0).expect("a clean end");
    assert!(began.elapsed() < harness::PATIENCE, "{:?}", began.elapsed());
    assert_eq!(files(&cluster, 0, "checkpoint-"), [""; 0]);
}

/// A log that may not hold what lies between two checkpoints by default: they are due earlier, and the
/// group never stops to take writes for good.
#[test]
fn a_log_that_is_bounded_below_the_interval_goes_on() {
    let mut cluster = Cluster::prepare(1);
    cluster.segment_bytes = 64 << 10;
    cluster.log_bytes_max = Some(1 << 20);
    cluster.run(0);
    cluster.until(0, |s| s.replica.state == StateName::Active);
    let (mut client, value) = (cluster.client(0), "v".repeat(8000));
    let began = Instant::now();
    let mut written = 0;
    while written < 500 {
        assert!(began.elapsed() < harness::PATIENCE, "it stopped after {written} writes");
        match &*client.call(&format!("set key-{} {value}", written % 10)) {
            "+ok" => written += 1,
            reply => assert_eq!(reply, "-NoRoom"),
        }
    }
    let status = cluster.status(0).expect("a status");
    assert!(status.replica.log_bytes <= 1 << 20, "{status:?}");
}
