//! Groups with a slow disk or a slow service somewhere.

use std::time::Duration;

use crate::cluster::{Cluster, MS};
use crate::ready;

/// Decides so many requests one after the other; returns the longest time that one took.
fn one_by_one(c: &mut Cluster, leader: u16, count: usize) -> u64 {
    let mut longest = 0;
    for token in 0..count {
        let (from, before) = (c.now, c.decided_requests().len());
        c.submit(leader, token as u64, b"one after the other");
        c.run_until(1_000, |c| c.decided_requests().len() > before);
        longest = longest.max(c.now - from);
    }
    longest
}

#[test]
fn a_slow_disk_at_one_follower_is_not_noticed() {
    // etcd#14501, etcd#11531: "will a slow node slow the cluster?"
    let mut c = Cluster::new(3, 61);
    let leader = ready(&mut c);
    c.slow_disk.insert((leader + 1) % 3, 100 * MS);
    let longest = one_by_one(&mut c, leader, 300);
    let usual = 2 * c.delay_max + c.sync_max;
    assert!(longest <= usual, "there, a sync, and back: {usual}; it took {longest}");
    assert_eq!(c.leader(), Some(leader));
}

#[test]
fn a_disk_that_stood_still_and_resumes_is_used_again() {
    // hashicorp/raft#612, nats-server#4363: still broken after the disk has recovered.
    let mut c = Cluster::new(3, 62);
    let leader = ready(&mut c);
    let (stalled, dead) = ((leader + 1) % 3, (leader + 2) % 3);
    c.stalled_disk.insert(stalled);
    one_by_one(&mut c, leader, 200);
    c.run_for(5_000);
    c.stalled_disk.remove(&stalled);
    // It is needed from now on.
    c.crash(dead);
    c.run_for(500);
    assert_eq!(c.leader(), Some(leader));
    assert!(one_by_one(&mut c, leader, 100) < 50 * MS, "it answers like any other");
}

#[test]
fn a_follower_whose_service_loops_stops_nobody() {
    // aeron#1601, async-raft#76: all stood still while the service of one did.
    let mut c = Cluster::new(3, 63);
    let leader = ready(&mut c);
    c.slow_service.insert((leader + 1) % 3, u64::MAX);
    let longest = one_by_one(&mut c, leader, 600);
    assert!(longest < 20 * MS, "{} ms", longest / MS);
    assert_eq!(c.leader(), Some(leader));
}

/// The client of each replica has a hundred requests open, and sends again after a tenth of a second
/// what its replica has not carried out; services take 30 ms for each slot.
#[test]
fn requests_sent_again_and_again_do_not_bury_a_slow_service() {
    let mut c = Cluster::new(3, 64);
    // As over a connection: what overtakes another request of its client is of no use.
    (c.delay_min, c.delay_max) = (MS / 2, 1);
    c.settings.batch_requests_max = 10;
    for index in 0..3 {
        c.start(index, true);
        c.slow_service.insert(index, 30 * MS);
    }
    ready(&mut c);
    let (window, windows) = (100, 5);
    let mut sent_from = [1; 3];
    let mut sends = 0;
    while sent_from.iter().any(|from| *from <= window * windows) {
        assert!(sends < 100_000, "it ends");
        for index in 0..3 {
            let done = c.carried_out(index);
            let from = &mut sent_from[usize::from(index)];
            if (*from..*from + window).all(|number| done.contains(&number)) {
                *from += window;
            }
            let open = (*from..*from + window).filter(|number| !done.contains(number));
            for number in open.filter(|number| *number <= window * windows).collect::<Vec<_>>() {
                sends += 1;
                c.submit_numbered(index, number);
            }
            c.run_for(33);
        }
    }
    let (asked, ordered) = (3 * window * windows, c.decided_requests().len() as u64);
    assert!(sends > 2 * asked, "they were impatient: {sends} for {asked}");
    assert!(ordered <= asked + asked / 10, "{ordered} for {asked}");
}

#[test]
fn a_service_slower_than_its_clients_ask_is_not_left_behind() {
    let mut c = Cluster::new(3, 65);
    c.settings.ahead_slots_max = 20;
    c.settings.stall_timeout = Duration::from_secs(60);
    for index in 0..3 {
        c.start(index, true);
        c.slow_service.insert(index, 20 * MS);
    }
    let leader = ready(&mut c);
    for token in 0..2_000 {
        c.submit(leader, token, b"more than it can carry out");
        c.run_for(1);
        let behind = c.status(leader).decided.0 - c.status(leader).applied.0;
        assert!(behind <= 20, "{behind} slots behind");
    }
    c.run_until(2_000, |c| c.decided_requests().len() == 2_000);
}
