//! Leaders that are alive and carry nothing out.

use crate::cluster::{Cluster, MS};
use crate::ready;
use mainstay_consensus::{Input, Observation};
use mainstay_model::Slot;
use mainstay_model::plant::Planted;

/// A service that takes this long for a slot hangs.
const FOR_EVER: u64 = u64::MAX;

/// Orders one request every fifth of a second at `at`; returns how long it took until `until` was so.
fn work_until(c: &mut Cluster, at: u16, limit_ms: u64, until: impl Fn(&Cluster) -> bool) -> u64 {
    let from = c.now;
    for token in 0.. {
        assert!(c.now - from < limit_ms * MS, "did not happen within {limit_ms} ms");
        if until(c) {
            break;
        }
        c.submit(at, 5_000 + token, b"work");
        c.run_for(200);
    }
    c.now - from
}

fn others(index: u16) -> [u16; 2] {
    [(index + 1) % 3, (index + 2) % 3]
}

#[test]
fn a_leader_whose_service_hangs_loses_its_office_to_one_that_executes() {
    // hashicorp/raft#503: heartbeats go on while nothing is applied.
    let mut c = Cluster::new(3, 81);
    let leader = ready(&mut c);
    c.slow_service.insert(leader, FOR_EVER);
    let [follower, _] = others(leader);
    let took = work_until(&mut c, follower, 10_000, |c| c.leader() != Some(leader));
    assert!(took < 5_000 * MS, "{} ms", took / MS);
    c.run_until(1_000, |c| c.leader().is_some());
    // Whoever leads now carries out what it orders, and keeps the office.
    let next = c.leader().expect("just seen");
    let ballot = c.status(next).ballot;
    let before = c.status(next).applied;
    work_until(&mut c, next, 20_000, |c| c.status(next).applied.0 >= before.0 + 50);
    assert_eq!(c.status(next).ballot, ballot, "once is enough");
}

#[test]
fn a_leader_that_hangs_in_an_idle_group_is_replaced_too() {
    let mut c = Cluster::new(3, 82);
    let leader = ready(&mut c);
    c.slow_service.insert(leader, FOR_EVER);
    c.submit(leader, 1, b"the last request for a while");
    c.run_until(8_000, |c| c.leader().is_some_and(|l| l != leader));
}

#[test]
fn a_leader_whose_state_diverged_and_cannot_be_replaced_leads_no_longer() {
    let mut c = Cluster::new(3, 83);
    let leader = ready(&mut c);
    c.checkpoint_slots = 5;
    c.full.insert(leader);
    c.wrong = Some((leader, Slot(4)));
    let [follower, _] = others(leader);
    work_until(&mut c, follower, 20_000, |c| c.leader().is_some_and(|l| l != leader));
    assert!(
        c.observed
            .iter()
            .any(|(who, what)| { *who == leader && matches!(what, Observation::Diverged { .. }) })
    );
}

#[test]
fn where_no_service_executes_the_leader_stays() {
    // Every replica trips over the same request: another leader would change nothing.
    let mut c = Cluster::new(3, 84);
    let leader = ready(&mut c);
    for index in 0..3 {
        c.slow_service.insert(index, FOR_EVER);
    }
    let ballot = c.status(leader).ballot;
    for token in 0..100 {
        c.submit(leader, token, b"nobody carries this out");
        c.run_for(300);
    }
    assert_eq!(c.leader(), Some(leader));
    assert_eq!(c.status(leader).ballot, ballot);
    // Nor does one with a bad link make it go, to which the leader says what it knows of itself.
    c.lost.insert((leader, "lead"));
    c.cut.insert((leader, others(leader)[0]));
    c.lost.clear();
    c.run_for(10_000);
    assert_eq!(c.status(leader).ballot, ballot);
}

#[test]
fn one_follower_that_executes_is_enough_to_take_over() {
    let mut c = Cluster::new(3, 85);
    let leader = ready(&mut c);
    let [stuck, well] = others(leader);
    c.slow_service.insert(leader, FOR_EVER);
    c.slow_service.insert(stuck, FOR_EVER);
    work_until(&mut c, well, 10_000, |c| c.leader() == Some(well));
    let ballot = c.status(well).ballot;
    c.run_for(10_000);
    assert_eq!(c.status(well).ballot, ballot);
}

#[test]
fn who_executes_nothing_leaves_the_office_to_others() {
    let mut c = Cluster::new(3, 86);
    let leader = ready(&mut c);
    c.slow_service.insert(leader, FOR_EVER);
    let [follower, _] = others(leader);
    work_until(&mut c, follower, 10_000, |c| c.leader().is_some_and(|l| l != leader));
    // The highest in rank is stuck. It votes for the other one that is well, and does not lead itself.
    let second = c.leader().expect("just seen");
    let third = 3 - leader - second;
    c.crash(second);
    c.run_until(2_000, |c| c.leader().is_some());
    assert_eq!(c.leader(), Some(third));
}

#[test]
fn services_that_are_merely_slow_change_no_leader() {
    let mut c = Cluster::new(3, 87);
    let leader = ready(&mut c);
    c.slow_service.insert(leader, 800 * MS);
    let ballot = c.status(leader).ballot;
    for token in 0..60 {
        c.submit(leader, token, b"slowly");
        c.run_for(500);
    }
    assert_eq!(c.status(leader).ballot, ballot);
}

#[test]
fn a_leader_that_shows_nothing_durable_for_long_is_doubted() {
    // Its own watch over its disk is beside the point here: what it shows is.
    let mut c = Cluster::new(3, 88);
    c.settings.slow_leader.margin = std::time::Duration::from_secs(3_600);
    for index in 0..3 {
        c.start(index, true);
    }
    let leader = ready(&mut c);
    c.stalled_disk.insert(leader);
    let [follower, _] = others(leader);
    work_until(&mut c, follower, 10_000, |c| c.leader().is_some_and(|l| l != leader));
}

#[test]
fn the_planted_bug_leaves_a_stuck_leader_in_office() {
    let mut c = Cluster::new(3, 81);
    c.plants = Planted(Some(mainstay_model::Plant::AppliedNotLookedAt));
    for index in 0..3 {
        c.start(index, true);
    }
    let leader = ready(&mut c);
    c.slow_service.insert(leader, FOR_EVER);
    c.submit(leader, 1, b"ordered, and not carried out");
    c.run_for(20_000);
    assert_eq!(c.leader(), Some(leader));
    c.step(leader, Input::Retire);
    c.run_until(1_000, |c| c.leader().is_some_and(|l| l != leader));
}
