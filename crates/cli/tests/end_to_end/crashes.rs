//! Processes that die without warning, under load.

use rustix::process::Signal;

use crate::load::Load;
use crate::world::cluster::{REPLICAS, signal};
use crate::world::raw::Raw;
use crate::world::{Cluster, wait_until};

#[test]
fn the_leader_is_killed() {
    let cluster = Cluster::start(&[]);
    let load = Load::start(&cluster);
    let (leader, ..) = cluster.leader();
    let before = cluster.kill(leader);
    load.goes_on();
    cluster.wait_until_back(leader, before);
    load.goes_on();
    load.finish(&cluster);
}

#[test]
fn a_follower_is_killed() {
    let cluster = Cluster::start(&[]);
    let load = Load::start(&cluster);
    let (_, _, followers) = cluster.leader();
    let before = cluster.kill(followers[0]);
    load.goes_on();
    cluster.wait_until_back(followers[0], before);
    load.goes_on();
    load.finish(&cluster);
}

#[test]
fn each_is_killed_in_turn() {
    const ROUNDS: usize = 3;
    let cluster = Cluster::start(&[]);
    let load = Load::start(&cluster);
    for index in (0..REPLICAS).cycle().take(ROUNDS * REPLICAS) {
        let before = cluster.kill(index);
        load.goes_on();
        cluster.wait_until_back(index, before);
    }
    load.finish(&cluster);
}

#[test]
fn two_of_three_are_killed_and_come_back() {
    let cluster = Cluster::start(&[]);
    let load = Load::start(&cluster);
    for left in 0..REPLICAS {
        cluster.wait_until_whole();
        let gone: Vec<usize> = (0..REPLICAS).filter(|&index| index != left).collect();
        let pids: Vec<_> = gone.iter().map(|&index| cluster.pid(index)).collect();
        // Who is halted starts nobody again.
        cluster.signal_up(Signal::STOP);
        pids.iter().for_each(|&pid| signal(pid, Signal::KILL));
        wait_until("two are gone", || cluster.processes().len() == 1);
        let mut client = Raw::connect(cluster.clients_at(left));
        client.command(&["SET", "alone", "on"]);
        let reply = client.reply();
        let told = ["-CLUSTERDOWN ", "-UNCERTAIN "].iter().any(|code| reply.starts_with(code));
        assert!(told, "one of three acknowledged a write: {reply}");
        cluster.signal_up(Signal::CONT);
        for (&index, &pid) in gone.iter().zip(&pids) {
            cluster.wait_until_back(index, pid);
        }
        load.goes_on();
    }
    load.finish(&cluster);
}

#[test]
fn all_three_are_killed_at_once_and_come_back() {
    const ROUNDS: usize = 2;
    let cluster = Cluster::start(&[]);
    let load = Load::start(&cluster);
    for _ in 0..ROUNDS {
        cluster.wait_until_whole();
        let pids: Vec<_> = (0..REPLICAS).map(|index| cluster.pid(index)).collect();
        pids.iter().for_each(|&pid| signal(pid, Signal::KILL));
        let began = std::time::Instant::now();
        load.goes_on();
        println!("all three killed: every client served again after {:?}", began.elapsed());
        for (index, &pid) in pids.iter().enumerate() {
            cluster.wait_until_back(index, pid);
        }
    }
    load.finish(&cluster);
}

#[test]
fn up_is_killed_and_the_folder_resumes() {
    let mut cluster = Cluster::start(&[]);
    let load = Load::start(&cluster);
    for _ in 0..2 {
        cluster.kill_up();
        println!("up killed: ready again after {:?}", cluster.up());
        load.goes_on();
    }
    load.finish(&cluster);
}
