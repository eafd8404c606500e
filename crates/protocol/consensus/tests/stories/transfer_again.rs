//! What comes in the way of a transfer that has trouble already: a second failure during the first.

use mainstay_consensus::message::Decided;
use mainstay_consensus::{Body, Observation};
use mainstay_model::{Entry, Slot};

use crate::cluster::{Cluster, MS};
use crate::transfer::{back, caught_up, one_returns, times};
use crate::{order, ready};

/// Replicas on two continents: every answer takes longer than the time after which the next one is
/// asked. That their logs begin too late must be heard all the same.
#[test]
fn a_replica_far_away_from_all_others_gets_their_state() {
    for way in [40, 75, 120, 160, 240] {
        for count in [3, 5] {
            let mut c = Cluster::new(count, way);
            let (_, away) = one_returns(&mut c, count);
            for other in (0..count).filter(|other| *other != away) {
                c.slow_ways.insert((away, other), way * MS);
                c.slow_ways.insert((other, away), way * MS);
            }
            c.run_until(10_000, |c| caught_up(c, away));
        }
    }
}

/// An answer that was given up comes after all, while a checkpoint is being fetched, and with it all
/// that is missing: what this replica has by then is newer than what it fetches.
#[test]
fn what_comes_late_and_goes_farther_than_the_checkpoint_ends_the_transfer() {
    let mut c = Cluster::new(3, 41);
    c.checkpoint_bytes = 60 << 10;
    c.settings.transfer_bytes_per_second = Some(20 << 10);
    let (leader, away) = one_returns(&mut c, 3);
    c.run_until(5_000, |c| c.partial(away) >= 3);
    let ballot = c.status(leader).ballot;
    let (from, decided_upto) = (c.status(away).decided.next(), c.status(leader).decided);
    let missing = c.decided.range(from..=decided_upto).map(|(_, value)| value.clone());
    let entries: Vec<Entry> = missing.map(|value| Entry { ballot, value }).collect();
    assert!(decided_upto > Slot(30));
    let late = Decided { from, entries, decided_upto, truncated_upto: from.previous() };
    c.hear(away, 3 - leader - away, Body::Decided(late));
    assert!(caught_up(&c, away));
    let mut reached = c.status(away).applied;
    for _ in 0..40 {
        order(&mut c, 2);
        c.run_for(100);
        let applied = c.status(away).applied;
        assert!(applied >= reached, "its state went back from {reached} to {applied}");
        reached = applied;
    }
    assert_eq!(c.status(away).transfer, None);
    assert_eq!(times(&c, |o| matches!(o, Observation::Transferred { .. })), 0);
    assert!(caught_up(&c, away));
}

/// The others are at checkpoint 30, and one returns that has carried out more than 20 slots: no other
/// checkpoint is of use to it.
fn one_lacks_little(c: &mut Cluster) -> (u16, u16) {
    c.checkpoint_slots = 10;
    let leader = ready(c);
    let away = (leader + 1) % 3;
    order(c, 22);
    c.run_until(2_000, |c| caught_up(c, away));
    c.crash(away);
    order(c, 11);
    c.run_until(2_000, |c| c.status(leader).stable == Slot(30));
    back(c, away);
    (leader, away)
}

/// Half of a checkpoint came from a donor that writes it otherwise than the others do, say because it was
/// about to be replaced by a newer version; then it is gone. What is there fits nothing that anybody
/// gives.
#[test]
fn pieces_that_only_a_dead_donor_could_complete_are_given_up() {
    let mut c = Cluster::new(3, 42);
    c.checkpoint_bytes = 60 << 10;
    c.settings.transfer_bytes_per_second = Some(40 << 10);
    c.longer.extend(0..3);
    for index in 0..3 {
        c.start(index, true);
    }
    let (leader, away) = one_lacks_little(&mut c);
    c.run_until(5_000, |c| c.partial(away) >= 10);
    c.longer.remove(&leader);
    c.crash(3 - leader - away);
    c.run_until(30_000, |c| caught_up(c, away));
}

/// As above, but all that the others have is there already: what is asked for is a piece that nobody has.
#[test]
fn a_piece_beyond_the_end_of_what_is_left_to_give_is_not_asked_for_without_end() {
    let mut c = Cluster::new(3, 46);
    let chunk_bytes = u64::from(c.settings.chunk_bytes);
    c.checkpoint_bytes = 8 * chunk_bytes;
    c.settings.transfer_bytes_per_second = Some(8 * chunk_bytes);
    c.longer.extend(0..3);
    for index in 0..3 {
        c.start(index, true);
    }
    let (leader, away) = one_lacks_little(&mut c);
    c.run_until(5_000, |c| c.partial(away) >= 8);
    c.longer.remove(&leader);
    c.crash(3 - leader - away);
    c.run_until(30_000, |c| caught_up(c, away));
}

/// As above, with the receiver started again in between.
#[test]
fn pieces_kept_over_a_restart_that_fit_nobodys_are_given_up() {
    let mut c = Cluster::new(3, 43);
    c.checkpoint_bytes = 60 << 10;
    c.settings.transfer_bytes_per_second = Some(40 << 10);
    c.longer.extend(0..3);
    for index in 0..3 {
        c.start(index, true);
    }
    let (_, away) = one_lacks_little(&mut c);
    c.run_until(5_000, |c| c.partial(away) >= 10);
    c.longer.clear();
    c.crash(away);
    back(&mut c, away);
    c.run_until(30_000, |c| caught_up(c, away));
}

/// A replica that died long ago had all of the log when it last told; that keeps nothing from anybody.
/// What the others gave up is not fetched to its end.
#[test]
fn a_dead_replica_is_not_counted_on_for_the_log_that_follows() {
    let mut c = Cluster::new(5, 44);
    c.checkpoint_bytes = 60 << 10;
    c.settings.transfer_bytes_per_second = Some(10 << 10);
    c.log_slots_max = 15;
    let (leader, away) = one_returns(&mut c, 5);
    c.run_until(5_000, |c| c.partial(away) >= 3);
    let idle = |index: &u16| ![leader, away].contains(index) && !c.gave.contains_key(index);
    c.crash((0..5).find(idle).expect("one gives at a time"));
    order(&mut c, 60);
    c.run_until(40_000, |c| c.status(away).applied > Slot(60));
    let fetched = |slot| times(&c, |o| *o == Observation::Transferred { slot: Slot(slot) });
    assert_eq!(fetched(30), 0, "it is fetched for nothing");
}

/// The disk of the receiver is so slow that checkpoints are given up faster than it takes pieces in: what
/// waits for it is bounded all the same (the cluster asserts that).
#[test]
fn what_waits_for_a_slow_disk_is_bounded_over_fetches_that_are_given_up() {
    let mut c = Cluster::new(5, 45);
    c.checkpoint_bytes = 60 << 10;
    c.log_slots_max = 15;
    let (_, away) = one_returns(&mut c, 5);
    c.slow_disk.insert(away, 2_000 * MS);
    c.run_until(5_000, |c| c.partial(away) >= 1);
    for _ in 0..5 {
        order(&mut c, 40);
        c.run_for(1_000);
    }
    assert!(times(&c, |o| matches!(o, Observation::TransferOutrun { .. })) > 2);
    c.slow_disk.clear();
    c.run_until(60_000, |c| caught_up(c, away));
}
