//! Checkpoints: logs that are given up, restarts that do not begin at the first slot, replicas that
//! fetch the state of the others, while clients write.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::load::Load;
use crate::world::cluster::{REPLICAS, Status, signal};
use crate::world::raw::Raw;
use crate::world::{Cluster, wait_for, wait_until};

/// Checkpoints so close to one another, and segments so small, that a few seconds of load give the log
/// up several times.
pub(crate) const SHORT: [&str; 6] =
    ["--checkpoint-requests", "1000", "--segment-bytes", "65536", "--log-keep-bytes", "0"];
/// A log of that kind: what lies between two checkpoints that a quorum holds, with much to spare.
const SHORT_LOG_BYTES: u64 = 16 << 20;
/// A state that takes a while to fetch: so many values of a MiB.
const LARGE_VALUES: usize = 64;

/// Files in the folder of a replica whose names begin so, oldest first.
pub(crate) fn files(cluster: &Cluster, index: usize, beginning: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(cluster.replica_folder(index)).expect("the replica's folder");
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning))
    });
    paths.sort();
    paths
}

/// Waits until these have a checkpoint above `slot` that a quorum holds, and no segment of `before`.
pub(crate) fn wait_until_given_up(
    cluster: &Cluster,
    which: &[usize],
    slot: u64,
    before: &[PathBuf],
) {
    let is_past = |status: &Status, index: usize| {
        status.slot(index, "checkpoint") > slot
            && status.slot(index, "stable") > slot
            && cluster.segments(index).iter().all(|segment| !before.contains(segment))
    };
    cluster.wait_for_status("the log is given up", |status| {
        which.iter().all(|&index| is_past(status, index))
    });
}

/// All segments of these.
pub(crate) fn segments(cluster: &Cluster, which: &[usize]) -> Vec<PathBuf> {
    which.iter().flat_map(|&index| cluster.segments(index)).collect()
}

/// Ends the process of a replica, and keeps `up` from starting it again until it is told to go on.
fn take_away(cluster: &Cluster, index: usize) -> rustix::process::Pid {
    let pid = cluster.pid(index);
    cluster.signal_up(Signal::STOP);
    signal(pid, Signal::KILL);
    wait_until("it is gone", || cluster.processes().len() == REPLICAS - 1);
    pid
}

#[test]
fn the_log_is_bounded_and_all_go_on_from_their_checkpoints() {
    let mut cluster = Cluster::start(&SHORT);
    let load = Load::start(&cluster);
    let all: Vec<usize> = (0..REPLICAS).collect();
    for _ in 0..2 {
        let (first, slot) = (segments(&cluster, &all), cluster.status().slot(0, "decided"));
        load.goes_on();
        wait_until_given_up(&cluster, &all, slot, &first);
        let status = cluster.status();
        for index in 0..REPLICAS {
            assert!(files(&cluster, index, "checkpoint-").len() <= 3);
            assert!(status.slot(index, "log_bytes") < SHORT_LOG_BYTES, "{status:?}");
        }
        cluster.kill_up();
        println!("all killed: ready again after {:?}", cluster.up());
        for index in 0..REPLICAS {
            assert!(cluster.log_of(index).contains("was restored"), "{}", cluster.log_of(index));
        }
        load.goes_on();
    }
    load.finish(&cluster);
}

#[test]
fn who_was_away_while_the_log_went_fetches_the_state_whatever_the_way_to_catch_up() {
    for policy in ["query", "multicast"] {
        let cluster = Cluster::start(&[&SHORT[..], &["--catch-up", policy]].concat());
        let load = Load::start(&cluster);
        let (leader, _, followers) = cluster.leader();
        let (away, staying) = (followers[0], [leader, followers[1]]);
        let pid = take_away(&cluster, away);
        let before = segments(&cluster, &staying);
        let slot = cluster.status().slot(leader, "decided");
        wait_until_given_up(&cluster, &staying, slot, &before);
        cluster.signal_up(Signal::CONT);
        cluster.wait_until_back(away, pid);
        assert!(cluster.log_of(away).contains("was fetched and is in place"), "{policy}");
        for index in 0..REPLICAS {
            assert_ne!(
                files(&cluster, index, "stable-").len(),
                0,
                "{index} has noted what is stable"
            );
        }
        load.goes_on();
        load.finish(&cluster);
    }
}

#[test]
fn an_amnesiac_learner_fetches_the_state() {
    let mut cluster = Cluster::start(&SHORT);
    let load = Load::start(&cluster);
    let (leader, _, followers) = cluster.leader();
    let all: Vec<usize> = (0..REPLICAS).collect();
    wait_until_given_up(&cluster, &all, 0, &segments(&cluster, &all));
    assert!(cluster.stop().success());
    let wiped = followers[0];
    fs::remove_dir_all(cluster.replica_folder(wiped)).expect("the folder goes");
    cluster.up();
    load.goes_on();
    let applied = cluster.status().slot(leader, "applied");
    let status = cluster.wait_for_status("the wiped one follows", |status| {
        status.state(wiped) == "amnesiac" && status.slot(wiped, "applied") >= applied
    });
    assert_eq!(status.replica(wiped)["role"], "learner");
    assert!(cluster.log_of(wiped).contains("was fetched and is in place"));
    load.finish(&cluster);
}

/// Writes a large state, takes a follower away, has the log go, and lets the follower come back until it
/// fetches the state. Then everybody who could give it any of that is halted: leader and other one.
pub(crate) struct Fetching {
    pub(crate) cluster: Cluster,
    pub(crate) fetching: usize,
    donors: [usize; 2],
}

fn value_of(key: usize) -> String {
    format!("{key:08}").repeat((1 << 20) / 8)
}

fn write_large(cluster: &Cluster, index: usize) {
    let mut client = Raw::connect(cluster.clients_at(index));
    for key in 0..LARGE_VALUES {
        client.command(&["SET", &format!("large-{key}"), &value_of(key)]);
        assert_eq!(client.reply(), "+OK\r\n");
    }
}

impl Fetching {
    pub(crate) fn start() -> Self {
        let cluster = Cluster::start(&[
            "--checkpoint-bytes",
            "16777216",
            "--segment-bytes",
            "4194304",
            "--log-keep-bytes",
            "0",
        ]);
        let (leader, _, followers) = cluster.leader();
        let (fetching, donors) = (followers[0], [leader, followers[1]]);
        take_away(&cluster, fetching);
        // The interval grows with the state: it is written until it is large and the log has gone.
        let before = segments(&cluster, &donors);
        let is_gone = || {
            let left = segments(&cluster, &donors);
            before.iter().all(|segment| !left.contains(segment))
        };
        write_large(&cluster, leader);
        wait_until("the log is given up", || {
            write_large(&cluster, leader);
            is_gone()
        });
        let pids = donors.map(|donor| cluster.pid(donor));
        cluster.signal_up(Signal::CONT);
        // In the middle of the transfer: no pause between two looks.
        let holds_some = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.len() > 8192);
        wait_until("pieces are fetched", || {
            files(&cluster, fetching, "incoming-").iter().any(holds_some)
        });
        pids.iter().for_each(|&pid| signal(pid, Signal::STOP));
        assert_eq!(files(&cluster, fetching, "incoming-").len(), 1, "it is in the middle");
        Self { cluster, fetching, donors }
    }

    pub(crate) fn pids_of_donors(&self) -> Vec<rustix::process::Pid> {
        let running = self.cluster.processes();
        let runs = |index: usize, pid: &rustix::process::Pid| {
            let line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            let name = format!("replica-{index}.toml");
            line.is_ok_and(|line| String::from_utf8_lossy(&line).contains(&name))
        };
        let pid_of = |&index: &usize| running.iter().copied().find(|pid| runs(index, pid));
        self.donors.iter().filter_map(pid_of).collect()
    }

    /// Waits until the one that fetches has the state of the others.
    pub(crate) fn finish(self) {
        let Self { cluster, fetching, .. } = &self;
        cluster.wait_until_whole();
        assert!(cluster.log_of(*fetching).contains("was fetched and is in place"));
        let mut client = Raw::connect(cluster.clients_at(*fetching));
        for key in 0..LARGE_VALUES {
            client.command(&["GET", &format!("large-{key}")]);
            assert!(client.reply().ends_with(&format!("{}\r\n", value_of(key))), "key {key}");
        }
    }
}

#[test]
fn a_fetch_goes_on_after_its_receiver_was_killed() {
    let run = Fetching::start();
    let halted = run.pids_of_donors();
    let pid = run.cluster.processes().into_iter().find(|pid| !halted.contains(pid));
    signal(pid.expect("the one that fetches runs"), Signal::KILL);
    halted.iter().for_each(|&pid| signal(pid, Signal::CONT));
    wait_until("it goes on with what it has", || {
        run.cluster.log_of(run.fetching).contains(" goes on with ")
    });
    run.finish();
}

#[test]
fn a_fetch_goes_on_after_a_donor_was_killed() {
    let run = Fetching::start();
    let halted = run.pids_of_donors();
    // The other follower: it gives most of the pieces, since the leader has enough to do.
    signal(halted[1], Signal::KILL);
    signal(halted[0], Signal::CONT);
    run.finish();
}

#[test]
fn a_checkpoint_that_rotted_is_told_and_replaced() {
    let mut cluster = Cluster::start(&SHORT);
    let load = Load::start(&cluster);
    let all: Vec<usize> = (0..REPLICAS).collect();
    wait_until_given_up(&cluster, &all, 0, &segments(&cluster, &all));
    assert!(cluster.stop().success());
    for path in files(&cluster, 1, "checkpoint-") {
        let mut bytes = fs::read(&path).expect("a checkpoint");
        bytes[5000] ^= 4;
        fs::write(&path, bytes).expect("a checkpoint");
    }
    let from = cluster.said().len();
    cluster.up();
    assert!(cluster.said()[from..].iter().all(|line| !line.contains("exit code")));
    let told = wait_for("the damage is told", || {
        Some(cluster.log_of(1)).filter(|log| log.contains("cannot be used"))
    });
    assert!(told.contains("damaged"), "{told}");
    cluster.wait_until_whole();
    load.goes_on();
    load.finish(&cluster);
}
