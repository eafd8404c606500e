//! Processes that stand still and go on as if nothing had happened.

use rustix::process::Signal;

use crate::load::Load;
use crate::world::Cluster;
use crate::world::cluster::signal;
use crate::world::raw::Raw;

/// How many readers wait at the halted leader.
const READERS: usize = 20;

#[test]
fn a_leader_halted_past_the_time_out_serves_no_stale_read() {
    const ROUNDS: usize = 3;
    let cluster = Cluster::start(&[]);
    let load = Load::start(&cluster);
    for round in 0..ROUNDS {
        let (leader, pid, others) = cluster.leader();
        let mut readers: Vec<_> =
            (0..READERS).map(|_| Raw::connect(cluster.clients_at(leader))).collect();
        let mut writer = Raw::connect(cluster.clients_at(others[0]));
        let old = format!("old-{round}");
        for client in readers.iter_mut().chain([&mut writer]) {
            client.command(&["SET", "fresh", &old]);
            assert_eq!(client.reply(), "+OK\r\n");
        }
        signal(pid, Signal::STOP);
        cluster.wait_for_status("another one leads", |status| {
            status.leader().is_some_and(|index| index != leader)
        });
        let new = format!("new-{round}");
        writer.command(&["SET", "fresh", &new]);
        assert_eq!(writer.reply(), "+OK\r\n");
        // These lie in its sockets when it goes on, and it still takes itself for the leader.
        readers.iter_mut().for_each(|reader| reader.command(&["GET", "fresh"]));
        load.goes_on();
        signal(pid, Signal::CONT);
        for reader in &mut readers {
            let reply = reader.reply();
            let good = reply.contains(&new) || reply.starts_with('-');
            assert!(good, "a deposed leader answered a read with {reply}");
        }
        load.goes_on();
    }
    cluster.wait_until_whole();
    load.finish(&cluster);
}

#[test]
fn a_halted_follower_catches_up() {
    let cluster = Cluster::start(&[]);
    let load = Load::start(&cluster);
    let (leader, _, followers) = cluster.leader();
    let pid = cluster.pid(followers[0]);
    signal(pid, Signal::STOP);
    let before = cluster.status().slot(leader, "decided");
    load.goes_on();
    signal(pid, Signal::CONT);
    cluster.wait_for_status("it has caught up", |status| {
        status.slot(followers[0], "applied") > before && status.state(followers[0]) == "active"
    });
    load.goes_on();
    load.finish(&cluster);
}
