//! Disks that are full, wiped, damaged, torn.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::load::Load;
use crate::world::cluster::{REPLICAS, limit_files, signal};
use crate::world::raw::Raw;
use crate::world::{Cluster, wait_for, wait_until};

/// Segments this small fill quickly. Records end at multiples of 8, so that a file of [`FULL`] bytes
/// holds every record of such a segment, and yet no new segment can be made.
const SEGMENT: &str = "262148";
const FULL: u64 = 262_144;
/// Where records begin in a segment, and how each of them does.
const RECORDS_START: usize = 8192;
const RECORD_MAGIC: &[u8] = b"MREC";

/// Writes values through a replica until it refuses one for want of room.
fn write_until_refused(cluster: &Cluster, index: usize) {
    let value = "v".repeat(16 << 10);
    let mut client = Raw::connect(cluster.clients_at(index));
    wait_until("a full replica refuses a write", || {
        client.command(&["SET", "big", &value]);
        let reply = client.reply();
        // What was handed over before the disks were full may be carried out when there is room.
        let known =
            ["+OK", "-UNCERTAIN ", "-CLUSTERDOWN ", "-MISCONF The disk of the replica has no room"];
        assert!(known.iter().any(|beginning| reply.starts_with(beginning)), "{reply}");
        reply.starts_with("-MISCONF ")
    });
}

#[test]
fn a_follower_whose_disk_is_full_holds_nobody_up() {
    let cluster = Cluster::start(&["--segment-bytes", SEGMENT]);
    let load = Load::start(&cluster);
    let (leader, _, followers) = cluster.leader();
    let pid = cluster.pid(followers[0]);
    limit_files(pid, Some(FULL));
    cluster.wait_for_status("it says that it has no room", |status| {
        status.warnings().contains(&format!("replica {}: the log has no room", followers[0]))
    });
    let before = cluster.status().slot(leader, "decided");
    load.goes_on();
    serves_as_ever(&cluster, followers[0]);
    limit_files(pid, None);
    cluster.wait_for_status("it goes on", |status| {
        status.slot(followers[0], "applied") > before && status.warnings().is_empty()
    });
    load.goes_on();
    load.finish(&cluster);
}

/// Reads and writes through a replica whose disk is full, each answered at once.
fn serves_as_ever(cluster: &Cluster, index: usize) {
    let mut client = Raw::connect(cluster.clients_at(index));
    for number in 1..=50 {
        let word = number.to_string();
        let commands =
            [["SET", "full", word.as_str()], ["GET", "full", ""], ["INCRBY", "counted", "2"]];
        let twice = format!(":{}\r\n", 2 * number);
        let replies = ["+OK\r\n".to_owned(), format!("${}\r\n{word}\r\n", word.len()), twice];
        for (command, wanted) in commands.iter().zip(replies) {
            let words: Vec<&str> =
                command.iter().copied().filter(|word| !word.is_empty()).collect();
            let asked = Instant::now();
            client.command(&words);
            assert_eq!(client.reply(), wanted, "{words:?}");
            // The time-out for an outcome is ten seconds; a change of leaders takes less than this.
            assert!(asked.elapsed() < Duration::from_secs(5), "{words:?}: {:?}", asked.elapsed());
        }
    }
}

/// Room for the first file of the log, and not for the reserve.
#[test]
fn on_a_disk_that_is_too_small_reads_go_on_and_everybody_says_what_is_wrong() {
    let mut cluster = Cluster::prepare_small("100m", &["--replicas", "1"]);
    let from = cluster.spawn();
    let said = cluster.wait_for_line(from, "waits for a majority");
    for part in ["the log has no room", "67108864 bytes", "allocated ahead", "segment_bytes"] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    let mut client = Raw::connect(cluster.clients_at(0));
    client.command(&["SET", "some", "thing"]);
    let reply = client.reply();
    assert!(reply.starts_with("-MISCONF "), "{reply}");
    client.command(&["GET", "some"]);
    assert_eq!(client.reply(), "$-1\r\n");
}

#[test]
fn a_leader_whose_disk_is_full_makes_way() {
    let cluster = Cluster::start(&["--segment-bytes", SEGMENT]);
    let load = Load::start(&cluster);
    let (leader, pid, _) = cluster.leader();
    limit_files(pid, Some(FULL));
    cluster.wait_for_status("another one leads", |status| {
        status.leader().is_some_and(|index| index != leader)
    });
    load.goes_on();
    limit_files(pid, None);
    cluster.wait_for_status("it goes on", |status| status.warnings().is_empty());
    load.goes_on();
    load.finish(&cluster);
}

#[test]
fn when_all_disks_are_full_writes_are_refused_until_there_is_room() {
    let cluster = Cluster::start(&["--segment-bytes", SEGMENT]);
    let load = Load::start(&cluster);
    cluster.wait_until_whole();
    let pids: Vec<_> = (0..REPLICAS).map(|index| cluster.pid(index)).collect();
    pids.iter().for_each(|&pid| limit_files(pid, Some(FULL)));
    for index in 0..REPLICAS {
        write_until_refused(&cluster, index);
    }
    pids.iter().for_each(|&pid| limit_files(pid, None));
    load.goes_on();
    cluster.wait_for_status("no warnings are left", |status| status.warnings().is_empty());
    for (index, &pid) in pids.iter().enumerate() {
        assert_eq!(cluster.pid(index), pid, "a full disk is no end of a process");
    }
    load.finish(&cluster);
}

#[test]
fn a_wiped_replica_follows_and_does_not_vote() {
    let mut cluster = Cluster::start(&[]);
    let load = Load::start(&cluster);
    let (leader, _, followers) = cluster.leader();
    let (wiped, voter) = (followers[0], followers[1]);
    assert!(cluster.stop().success());
    fs::remove_dir_all(cluster.replica_folder(wiped)).expect("the folder goes");
    cluster.up();
    load.goes_on();
    let applied = cluster.status().slot(leader, "applied");
    let status = cluster.wait_for_status("the wiped one follows", |status| {
        status.state(wiped) == "amnesiac" && status.slot(wiped, "applied") >= applied
    });
    assert_eq!(status.replica(wiped)["role"], "learner");

    // Two of three would do, but one of these two may not vote.
    let pid = cluster.pid(voter);
    cluster.signal_up(Signal::STOP);
    signal(pid, Signal::KILL);
    wait_until("one is gone", || cluster.processes().len() == REPLICAS - 1);
    for index in [leader, wiped] {
        let mut client = Raw::connect(cluster.clients_at(index));
        client.command(&["SET", "alone", "on"]);
        let reply = client.reply();
        assert!(reply.starts_with('-'), "one voter of three acknowledged a write: {reply}");
    }
    cluster.signal_up(Signal::CONT);
    cluster.wait_until_back(voter, pid);
    load.goes_on();
    load.finish(&cluster);
}

/// Where the records of a segment begin.
fn records(segment: &Path) -> Vec<usize> {
    let bytes = fs::read(segment).expect("a segment");
    let places = (RECORDS_START..bytes.len()).step_by(8);
    places.filter(|&at| bytes[at..].starts_with(RECORD_MAGIC)).collect()
}

/// Flips a bit of the record that begins at `at`, in its head.
fn flip(segment: &Path, at: usize) {
    let mut bytes = fs::read(segment).expect("a segment");
    bytes[at + 40] ^= 0x10;
    fs::write(segment, bytes).expect("a segment");
}

#[test]
fn damage_before_the_tail_keeps_a_replica_from_starting() {
    let mut cluster = Cluster::start(&[]);
    let load = Load::start(&cluster);
    let (_, _, followers) = cluster.leader();
    let damaged = followers[0];
    assert!(cluster.stop().success());
    let segment = cluster.segments(damaged).remove(0);
    let records = records(&segment);
    let at = records[records.len() / 2];
    flip(&segment, at);
    let before = fs::read(&segment).expect("a segment");

    let from = cluster.said().len();
    cluster.up();
    let said = cluster.wait_for_line(from, &format!("replica {damaged}: process"));
    let file = segment.file_name().expect("a name").to_string_lossy().into_owned();
    for part in ["exit code 3", &file, &format!("byte {at}"), "not started again"] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
    load.goes_on();
    assert_eq!(cluster.processes().len(), REPLICAS - 1);
    let status = cluster.status();
    assert_eq!(status.state(damaged), "stopped", "{status:?}");
    assert_eq!(fs::read(&segment).expect("a segment"), before, "nothing is changed");

    let config = cluster.data().join(format!("replica-{damaged}.toml"));
    let output = cluster.run(&["replica", "--config", &config.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(3));
    load.finish(&cluster);
}

#[test]
fn a_torn_tail_is_dropped() {
    let cluster = Cluster::start(&[]);
    let load = Load::start(&cluster);
    let (_, _, followers) = cluster.leader();
    let torn = followers[0];
    let pid = cluster.pid(torn);
    cluster.signal_up(Signal::STOP);
    signal(pid, Signal::KILL);
    wait_until("it is gone", || cluster.processes().len() == REPLICAS - 1);
    let mut segments = cluster.segments(torn);
    let (segment, last) = wait_for("a segment with records", || {
        let segment = segments.pop()?;
        let last = records(&segment).pop()?;
        Some((segment, last))
    });
    flip(&segment, last);
    cluster.signal_up(Signal::CONT);
    cluster.wait_until_back(torn, pid);
    load.goes_on();
    assert!(!cluster.log_of(torn).contains("damaged"));
    load.finish(&cluster);
}
