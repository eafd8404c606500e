//! Checkpoints that belong elsewhere, rot, find no room, or are cut short: each is told with what to do,
//! and nothing is lost.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use mainstay_model::{ClusterId, GroupId, Slot};
use mainstay_storage::{CheckpointOptions, Checkpoints, RealDisk};
use rustix::process::Signal;

use crate::checkpoints::{Fetching, SHORT, files, segments, wait_until_given_up};
use crate::load::Load;
use crate::world::cluster::{REPLICAS, limit_files, signal};
use crate::world::raw::Raw;
use crate::world::{Cluster, wait_until};

/// Where a checkpoint's first block begins, and how long the part of its head is that is checked.
const BLOCKS_START: usize = 4096;
const HEAD_LEN: usize = 512;
/// A state of so many values that a file may not be as long as its checkpoint.
const VALUES: usize = 256;
const VALUE_LEN: usize = 16 << 10;
const FULL: u64 = 1 << 20;

/// The checkpoint of a slot far ahead, as another program would write it.
fn foreign(folder: &Path, cluster: ClusterId, service_version: u32) -> PathBuf {
    let disk = RealDisk::create(folder).expect("a folder");
    let options = CheckpointOptions::new(cluster, GroupId::FIRST, service_version);
    let (checkpoints, _) = Checkpoints::open(disk, options).expect("an empty folder");
    let mut writer = checkpoints.writer(Slot(1 << 40), checkpoints.life()).expect("a writer");
    writer.write_all(b"the state of something else").expect("room");
    writer.finish(7).expect("room");
    let names = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let held = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "ms");
    names.into_iter().find(held).expect("a checkpoint")
}

/// CRC-32 as it is everywhere, bit by bit.
fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0xedb8_8320))
    })
}

/// Says that a checkpoint has another format, which its checksum covers.
fn reformat(file: &Path) {
    let mut bytes = fs::read(file).expect("a checkpoint");
    bytes[8] += 1;
    let checked = bytes[..12].iter().chain(&bytes[16..HEAD_LEN]).copied();
    let checksum = crc32(checked).to_le_bytes();
    bytes[12..16].copy_from_slice(&checksum);
    fs::write(file, bytes).expect("a checkpoint");
}

#[test]
fn checkpoints_of_others_are_refused_and_left_alone() {
    let mut cluster = Cluster::start(&SHORT);
    let load = Load::start(&cluster);
    let all: Vec<usize> = (0..REPLICAS).collect();
    wait_until_given_up(&cluster, &all, 0, &segments(&cluster, &all));
    assert!(cluster.stop().success());
    let config = cluster.data().join("replica-0.toml");
    let text = fs::read_to_string(&config).expect("a configuration");
    let id = text.lines().find_map(|line| line.strip_prefix("cluster = \"")).expect("its id");
    let own = ClusterId(u128::from_str_radix(&id[..32], 16).expect("its id"));
    let place = tempfile::tempdir().expect("a folder");
    let cases = [
        (ClusterId(99), 1, false, "move it to the folder it came from"),
        (own, 99, false, "start the program with that version of the service"),
        (own, 1, true, "start it with a newer version of mainstay"),
    ];
    for (number, (cluster_id, version, newer, what_to_do)) in cases.into_iter().enumerate() {
        let made = foreign(&place.path().join(number.to_string()), cluster_id, version);
        if newer {
            reformat(&made);
        }
        let there = cluster.replica_folder(0).join(made.file_name().expect("a name"));
        fs::copy(&made, &there).expect("it is copied");
        let output = cluster.run(&["replica", "--config", &config.to_string_lossy()]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{told}");
        assert!(told.contains("checkpoint-") && told.contains(what_to_do), "{told}");
        assert_eq!(fs::read(&there).ok(), fs::read(&made).ok(), "it is left alone");
        fs::remove_file(there).expect("it goes");
    }
    cluster.up();
    load.goes_on();
    load.finish(&cluster);
}

/// Flips a bit of the first piece that was fetched.
fn rot(run: &Fetching) {
    let path = files(&run.cluster, run.fetching, "incoming-").pop().expect("it is being fetched");
    let mut bytes = fs::read(&path).expect("what was fetched");
    bytes[BLOCKS_START + 1000] ^= 8;
    // In place: the one that fetches may have it open.
    let mut file = fs::File::options().write(true).open(path).expect("what was fetched");
    file.write_all(&bytes[..BLOCKS_START + 4096]).expect("what was fetched");
}

#[test]
fn a_piece_that_rotted_while_nobody_fetched_is_fetched_again() {
    let run = Fetching::start();
    let halted = run.pids_of_donors();
    run.cluster.signal_up(Signal::STOP);
    let pid = run.cluster.processes().into_iter().find(|pid| !halted.contains(pid));
    signal(pid.expect("the one that fetches runs"), Signal::KILL);
    wait_until("it is gone", || run.cluster.processes().len() == REPLICAS - 1);
    rot(&run);
    halted.iter().for_each(|&pid| signal(pid, Signal::CONT));
    run.cluster.signal_up(Signal::CONT);
    run.finish();
}

#[test]
fn a_piece_that_rotted_while_others_were_fetched_is_found_before_it_is_used() {
    let run = Fetching::start();
    let halted = run.pids_of_donors();
    rot(&run);
    halted.iter().for_each(|&pid| signal(pid, Signal::CONT));
    wait_until("the damage is told", || {
        let log = run.cluster.log_of(run.fetching);
        log.contains("is not used, and is fetched anew") && log.contains("is damaged at byte")
    });
    run.finish();
}

fn write_values(cluster: &Cluster, index: usize) {
    let mut client = Raw::connect(cluster.clients_at(index));
    let value = "v".repeat(VALUE_LEN);
    for key in 0..VALUES {
        client.command(&["SET", &format!("bulk-{key}"), &value]);
        assert_eq!(client.reply(), "+OK\r\n");
    }
}

#[test]
fn a_disk_without_room_for_a_checkpoint_is_told_and_the_service_goes_on() {
    let cluster = Cluster::start(&SHORT);
    let load = Load::start(&cluster);
    let (leader, _, followers) = cluster.leader();
    let full = followers[0];
    let pid = cluster.pid(full);
    limit_files(pid, Some(FULL));
    write_values(&cluster, leader);
    let told = format!("replica {full}: the last checkpoint could not be written");
    let status = cluster
        .wait_for_status("it says that it has no room", |status| status.warnings().contains(&told));
    assert!(status.warnings().contains("free space on the disk"), "{}", status.warnings());
    load.goes_on();
    assert_eq!(cluster.pid(full), pid, "it goes on");
    assert!(files(&cluster, full, "checkpoint-").len() <= 3, "what failed is removed");
    limit_files(pid, None);
    let slot = cluster.status().slot(leader, "decided");
    load.goes_on();
    cluster.wait_for_status("a later one succeeds", |status| {
        status.slot(full, "checkpoint") > slot && !status.warnings().contains(&told)
    });
    load.finish(&cluster);
}

#[test]
fn all_are_killed_while_they_write_a_checkpoint() {
    // Due with every round of values, and then written for some seconds.
    let mut cluster = Cluster::start(&[
        "--checkpoint-bytes",
        "3670016",
        "--checkpoint-write-rate",
        "1048576",
        "--segment-bytes",
        "1048576",
        "--log-keep-bytes",
        "0",
    ]);
    let load = Load::start(&cluster);
    let unfinished = |cluster: &Cluster, index: usize| -> Vec<PathBuf> {
        let mut paths = files(cluster, index, "checkpoint-");
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "tmp"));
        paths
    };
    for _ in 0..2 {
        write_values(&cluster, 0);
        wait_until("all are writing one", || {
            (0..REPLICAS).all(|index| !unfinished(&cluster, index).is_empty())
        });
        // Not by way of `up`, at whose end they end in good order.
        cluster.signal_up(Signal::STOP);
        cluster.processes().into_iter().for_each(|pid| signal(pid, Signal::KILL));
        wait_until("all are gone", || cluster.processes().is_empty());
        cluster.kill_up();
        let left: Vec<_> = (0..REPLICAS).flat_map(|index| unfinished(&cluster, index)).collect();
        assert_eq!(left.len(), REPLICAS, "all were cut short");
        cluster.up();
        // They may be writing one of the same name again, but of another beginning.
        for path in left {
            assert!(!path.exists() || path.metadata().is_ok_and(|file| file.len() < 4 << 20));
        }
        load.goes_on();
    }
    load.finish(&cluster);
}
