//! What a group of replicas does, told one short story at a time.

mod cluster;
mod leader_change;
mod openings;
mod relay;
mod restless;
mod room;
mod slow;
mod stuck;
mod time;
mod transfer;
mod transfer_again;
mod walks;

use cluster::{Cluster, MS};
use mainstay_model::{Slot, Timestamp, Token};

fn ready(cluster: &mut Cluster) -> u16 {
    cluster.run_until(2_000, |c| c.leader().is_some_and(|l| c.status(l).applied >= Slot(1)));
    cluster.leader().expect("just seen")
}

#[test]
fn three_replicas_elect_the_most_trusted_and_decide() {
    let mut c = Cluster::new(3, 1);
    assert_eq!(ready(&mut c), 2, "trusted rank: equal epochs, highest index");
    c.submit(0, 1, b"at a follower");
    c.submit(2, 2, b"at the leader");
    c.run_until(200, |c| {
        (0..3).all(|i| {
            c.delivered[i].len() as u64 == c.decided.len() as u64 && c.decided_requests().len() == 2
        })
    });
    assert!(c.rejected.is_empty());
}

#[test]
fn one_replica_alone_is_a_group() {
    let mut c = Cluster::new(1, 1);
    ready(&mut c);
    c.submit(0, 1, b"x");
    c.read(0, 9);
    c.run_until(100, |c| c.decided_requests().len() == 1 && c.reads.contains_key(&Token(9)));
}

#[test]
fn requests_of_one_turn_share_a_batch() {
    let mut c = Cluster::new(3, 2);
    let leader = ready(&mut c);
    let before = c.decided.len();
    for token in 0..100 {
        c.submit(leader, token, b"r");
    }
    c.run_until(200, |c| c.decided_requests().len() == 100);
    assert_eq!(c.decided.len(), before + 1);
}

#[test]
fn a_crashed_leader_is_replaced_and_nothing_decided_is_lost() {
    let mut c = Cluster::new(3, 3);
    let leader = ready(&mut c);
    c.submit(leader, 1, b"before");
    c.run_until(200, |c| c.decided_requests().len() == 1);
    c.crash(leader);
    let at = c.now;
    c.run_until(300, |c| c.leader().is_some());
    assert!(c.now - at < 100 * MS, "known at once: {} ms", (c.now - at) / MS);
    let next = c.leader().expect("just seen");
    assert_ne!(next, leader);
    c.submit(next, 2, b"after");
    c.run_until(300, |c| c.decided_requests().len() == 2);
    c.start(leader, true);
    c.tell_suspicion(leader, false);
    c.run_until(2_000, |c| c.delivered[usize::from(leader)].len() == c.decided.len());
}

#[test]
fn a_silent_leader_is_replaced_after_the_time_out() {
    let mut c = Cluster::new(3, 4);
    let leader = ready(&mut c);
    for other in (0..3).filter(|i| *i != leader) {
        c.cut.insert((leader, other));
        c.cut.insert((other, leader));
    }
    c.run_until(1_200, |c| c.leader().is_some_and(|l| l != leader));
    c.run_until(1_200, |c| c.status(leader).role != mainstay_consensus::Role::Leader);
}

#[test]
fn a_replica_with_a_bad_link_does_not_unseat_the_leader() {
    let mut c = Cluster::new(3, 5);
    let leader = ready(&mut c);
    let ballot = c.status(leader).ballot;
    let victim = (leader + 1) % 3;
    c.cut.insert((leader, victim));
    c.cut.insert((victim, leader));
    c.run_for(3_000);
    assert_eq!(c.leader(), Some(leader));
    assert_eq!(c.status(leader).ballot, ballot);
    // It still learns what is decided, from the third.
    c.submit(leader, 1, b"x");
    c.run_until(1_000, |c| {
        c.decided_requests().len() == 1 && c.delivered[usize::from(victim)].len() == c.decided.len()
    });
}

#[test]
fn a_hub_takes_over_when_only_it_reaches_a_quorum() {
    let mut c = Cluster::new(5, 6);
    let leader = ready(&mut c);
    let hub = (leader + 1) % 5;
    for a in 0..5 {
        for b in 0..5 {
            if a != hub && b != hub {
                c.cut.insert((a, b));
            }
        }
    }
    c.run_until(1_200, |c| c.leader() == Some(hub));
    c.submit(hub, 1, b"x");
    c.run_until(1_000, |c| c.decided_requests().len() == 1);
}

#[test]
fn reads_wait_for_a_round_that_began_after_they_came() {
    let mut c = Cluster::new(3, 7);
    let leader = ready(&mut c);
    let follower = (leader + 1) % 3;
    c.submit(leader, 1, b"x");
    c.run_until(200, |c| c.decided_requests().len() == 1);
    let decided = c.status(leader).decided;
    c.read(leader, 10);
    c.read(follower, 11);
    assert!(c.reads.is_empty());
    c.run_until(200, |c| c.reads.len() == 2);
    assert!(c.reads.values().all(|slot| *slot >= decided));
}

#[test]
fn a_deposed_leader_answers_no_read() {
    let mut c = Cluster::new(3, 8);
    let leader = ready(&mut c);
    for other in (0..3).filter(|i| *i != leader) {
        c.cut.insert((leader, other));
        c.cut.insert((other, leader));
    }
    c.read(leader, 10);
    c.run_until(3_000, |c| !c.rejected.is_empty());
    assert!(c.reads.is_empty());
}

#[test]
fn a_retiring_leader_hands_over_without_a_pause() {
    let mut c = Cluster::new(3, 9);
    let leader = ready(&mut c);
    c.submit(leader, 1, b"last");
    c.step(leader, mainstay_consensus::Input::Retire);
    let at = c.now;
    c.run_until(300, |c| c.leader().is_some_and(|l| l != leader));
    assert!(c.now - at < 20 * MS, "took {} ms", (c.now - at) / MS);
    c.run_until(300, |c| c.decided_requests().len() == 1);
    assert!(c.rejected.is_empty());
}

#[test]
fn without_room_at_a_quorum_requests_are_rejected_until_there_is_some() {
    let mut c = Cluster::new(3, 11);
    let leader = ready(&mut c);
    let room = |c: &mut Cluster, index: u16, entries| {
        c.step(index, mainstay_consensus::Input::Room { entries });
    };
    let followers = [(leader + 1) % 3, (leader + 2) % 3];
    for follower in followers {
        room(&mut c, follower, false);
    }
    c.run_until(500, |c| (0..3).all(|index| !c.status(index).room));
    let ballot = c.status(leader).ballot;
    c.submit(leader, 1, b"x");
    c.submit(followers[0], 2, b"y");
    assert_eq!(c.rejected.len(), 2);
    c.run_for(10_000);
    assert_eq!(c.status(leader).ballot, ballot, "standing still for want of room is no stall");
    room(&mut c, followers[0], true);
    c.run_until(500, |c| (0..3).all(|index| c.status(index).room));
    c.submit(followers[1], 3, b"z");
    c.run_until(500, |c| c.decided_requests().len() == 1);
}

#[test]
fn what_was_taken_over_is_finished_although_no_disk_has_room() {
    let mut c = Cluster::new(3, 13);
    let leader = ready(&mut c);
    // Accepted everywhere, and the news of it lost: the next leader has to propose it again.
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        c.lost.insert((other, "accepted"));
    }
    c.submit(leader, 1, b"in flight");
    let at = c.status(leader).decided.next();
    c.run_until(500, |c| (0..3).all(|index| c.status(index).accepted >= at));
    for index in 0..3 {
        c.step(index, mainstay_consensus::Input::Room { entries: false });
    }
    c.crash(leader);
    c.lost.clear();
    c.run_until(2_000, |c| c.decided_requests().len() == 1);
    c.read(others[0], 5);
    c.run_until(1_000, |c| c.reads.contains_key(&Token(5)));
}

#[test]
fn a_leader_without_room_hands_over_to_one_that_has_some() {
    let mut c = Cluster::new(3, 12);
    let leader = ready(&mut c);
    c.step(leader, mainstay_consensus::Input::Room { entries: false });
    c.run_until(500, |c| c.leader().is_some_and(|l| l != leader));
    let next = c.leader().expect("just seen");
    c.submit(leader, 1, b"x");
    c.run_until(1_000, |c| c.decided_requests().len() == 1);
    assert_eq!(c.leader(), Some(next));
}

#[test]
fn when_something_is_due_in_an_idle_group_the_leader_orders_a_tick() {
    let mut c = Cluster::new(3, 30);
    let leader = ready(&mut c);
    c.run_for(1_000);
    let before = c.decided.len();
    let due = Timestamp(c.now + 500 * MS);
    c.wake = Some(due);
    c.submit(leader, 1, b"tells when it wants to be woken");
    c.run_until(100, |c| c.decided.len() == before + 1);
    c.run_for(300);
    assert_eq!(c.decided.len(), before + 1, "nothing is due yet");
    c.run_until(400, |c| c.decided.len() == before + 2);
    let (_, tick) = c.decided.last_key_value().expect("just seen");
    assert_eq!(tick.request_count(), 0);
    assert!(tick.time() >= due);
    c.run_for(1_000);
    assert_eq!(c.decided.len(), before + 2, "one tick is enough");
}

#[test]
fn a_read_asked_for_after_a_due_moment_waits_for_the_time_to_pass_it() {
    let mut c = Cluster::new(3, 31);
    let leader = ready(&mut c);
    c.wake = Some(Timestamp(c.now + 500 * MS));
    c.submit(leader, 1, b"x");
    c.run_until(100, |c| c.decided_requests().len() == 1);
    let before = c.status(leader).decided;
    c.now += 600 * MS;
    c.read((leader + 1) % 3, 7);
    c.run_until(1_500, |c| c.reads.get(&Token(7)).is_some_and(|at| c.decided.contains_key(at)));
    assert!(c.reads[&Token(7)] > before);
    assert!(c.decided[&c.reads[&Token(7)]].time() >= c.wake.expect("set above"));
}

#[test]
fn decided_time_never_goes_back_over_a_change_to_a_leader_whose_clock_is_behind() {
    let mut c = Cluster::new(3, 32);
    // The first in rank is two minutes ahead; time is that of the middle one all the same.
    c.ahead = vec![0, 60_000 * MS, 120_000 * MS];
    let leader = ready(&mut c);
    c.submit(leader, 1, b"x");
    c.run_until(100, |c| c.decided_requests().len() == 1);
    let first = c.decided.last_key_value().expect("decided").1.time();
    assert!(first.0 < c.now + 70_000 * MS, "the lower median leads");
    c.crash(leader);
    c.run_until(1_000, |c| c.leader().is_some());
    let next = c.leader().expect("just seen");
    c.submit(next, 2, b"y");
    c.run_until(500, |c| c.decided_requests().len() == 2);
    let times: Vec<_> = c.decided.values().map(mainstay_model::Value::time).collect();
    let last = times.last().expect("decided");
    assert!(*last >= first);
}

#[test]
fn an_amnesiac_learns_and_never_votes() {
    let mut c = Cluster::new(3, 10);
    let leader = ready(&mut c);
    let learner = (leader + 1) % 3;
    c.start(learner, false);
    for token in 0..50 {
        c.submit(leader, token, b"r");
        c.run_for(5);
    }
    c.run_until(2_000, |c| {
        c.decided_requests().len() == 50
            && c.delivered[usize::from(learner)].len() == c.decided.len()
    });
    // With another one down the two that are left are no quorum.
    let other = (leader + 2) % 3;
    c.crash(other);
    c.submit(leader, 99, b"never");
    c.run_for(3_000);
    assert_eq!(c.decided_requests().len(), 50);
}

/// Orders `count` requests, one slot each.
fn order(c: &mut Cluster, count: u64) {
    for token in 0..count {
        let before = c.decided_requests().len();
        let leader = c.leader().expect("there is one");
        c.submit(leader, 1_000 + token, b"r");
        c.run_until(1_000, |c| c.decided_requests().len() > before);
    }
}

#[test]
fn the_log_goes_once_a_quorum_holds_the_same_checkpoint() {
    let mut c = Cluster::new(3, 20);
    c.checkpoint_slots = 10;
    ready(&mut c);
    order(&mut c, 25);
    c.run_until(1_000, |c| (0..3).all(|i| c.status(i).stable == Slot(20)));
    assert!((0..3).all(|i| c.status(i).checkpoint == Slot(20)));
    // A restart begins at the checkpoint.
    c.start(0, true);
    assert_eq!(c.status(0).applied, Slot(20));
    c.run_until(1_000, |c| c.status(0).applied == Slot(26));
}

#[test]
fn without_a_quorum_of_equal_digests_nothing_is_discarded() {
    let mut c = Cluster::new(3, 21);
    c.checkpoint_slots = 10;
    c.wrong = Some((1, Slot(5)));
    let leader = ready(&mut c);
    c.crash((leader + 1) % 3);
    if !c.is_up(1) {
        c.start(1, true);
        c.tell_suspicion(1, false);
        c.crash(2);
        c.run_until(2_000, |c| c.leader().is_some());
    }
    order(&mut c, 15);
    c.run_for(2_000);
    let up: Vec<u16> = (0..3).filter(|i| c.is_up(*i)).collect();
    assert!(
        up.iter().all(|i| c.status(*i).stable == Slot::NONE && c.status(*i).checkpoint == Slot(10))
    );
}

#[test]
fn a_replica_that_was_away_too_long_fetches_a_checkpoint_but_not_from_the_leader() {
    let mut c = Cluster::new(4, 22);
    c.checkpoint_slots = 10;
    let leader = ready(&mut c);
    let away = (leader + 1) % 4;
    c.crash(away);
    order(&mut c, 35);
    c.run_until(1_000, |c| c.status(leader).stable == Slot(30));
    c.start(away, true);
    c.tell_suspicion(away, false);
    let at = usize::from(away);
    c.run_until(5_000, |c| c.delivered[at].len() == c.decided.len());
    assert!(c.gave.values().sum::<u64>() >= 3);
    assert_eq!(c.gave.len(), 2, "several donors at once");
    assert!(!c.gave.contains_key(&leader));
    assert_eq!(c.status(away).checkpoint, Slot(30));
}

#[test]
fn a_diverged_replica_stops_and_fetches_the_state_anew() {
    let mut c = Cluster::new(3, 23);
    c.checkpoint_slots = 10;
    let leader = ready(&mut c);
    let wrong = (leader + 1) % 3;
    c.wrong = Some((wrong, Slot(5)));
    order(&mut c, 12);
    c.run_until(5_000, |c| {
        c.status(wrong).diverged == Some(Slot(10))
            || c.status(wrong).transfer.is_some()
            || !c.gave.is_empty()
    });
    c.run_until(5_000, |c| {
        c.status(wrong).diverged.is_none() && c.status(wrong).transfer.is_none()
    });
    c.run_until(5_000, |c| c.delivered[usize::from(wrong)].len() == c.decided.len());
    let same: Vec<_> = c.decided.values().cloned().collect();
    assert_eq!(c.delivered[usize::from(wrong)], same);
}

#[test]
fn a_learner_with_an_empty_disk_catches_up_by_transfer() {
    let mut c = Cluster::new(3, 24);
    c.checkpoint_slots = 10;
    let leader = ready(&mut c);
    let lost = (leader + 1) % 3;
    c.crash(lost);
    order(&mut c, 25);
    c.wipe(lost);
    c.start(lost, false);
    c.tell_suspicion(lost, false);
    c.run_until(5_000, |c| c.delivered[usize::from(lost)].len() == c.decided.len());
    order(&mut c, 10);
    // Its checkpoints count for nothing: with the third one down, nothing more becomes stable.
    let stable = c.status(leader).stable;
    c.crash((leader + 2) % 3);
    c.run_for(2_000);
    assert_eq!(c.status(lost).stable, stable);
}

/// In a group where nothing more is written, what was told once and got lost is told never again.
#[test]
fn a_learner_that_missed_what_the_others_announced_asks_for_it() {
    let mut c = Cluster::new(3, 25);
    c.checkpoint_slots = 10;
    let leader = ready(&mut c);
    let learner = (leader + 1) % 3;
    c.crash(learner);
    c.wipe(learner);
    c.start(learner, false);
    c.tell_suspicion(learner, false);
    c.lost.insert((leader, "checkpoint-is"));
    order(&mut c, 25);
    c.run_until(5_000, |c| c.status(leader).stable == Slot(20));
    assert_eq!(c.status(learner).stable, Slot::NONE, "it has heard of one holder alone");
    c.lost.clear();
    c.run_until(5_000, |c| c.status(learner).stable == Slot(20));
}

#[test]
fn replicas_far_apart_elect_a_leader() {
    let mut c = Cluster::new(3, 11);
    // An answer takes longer than the pause between two questions.
    c.delay_min = 45 * MS;
    ready(&mut c);
    c.submit(0, 1, b"x");
    c.run_until(1_000, |c| c.decided_requests().len() == 1);
}

#[test]
fn a_leader_whose_proposals_get_lost_is_replaced_although_it_is_heard() {
    for seed in 0..20 {
        let mut c = Cluster::new(3, seed);
        let leader = ready(&mut c);
        c.lost.insert((leader, "accept"));
        c.submit(leader, 1, b"x");
        c.run_until(6_000, |c| c.leader().is_some_and(|l| l != leader));
    }
}

#[test]
fn disks_slower_than_the_time_out_do_not_keep_a_group_from_a_leader() {
    for seed in 0..10 {
        let mut c = Cluster::new(3, seed);
        c.sync_max = 1_500 * MS;
        c.run_until(30_000, |c| c.leader().is_some_and(|l| c.status(l).applied >= Slot(1)));
        let leader = c.leader().expect("just seen");
        c.submit(leader, 1, b"x");
        c.run_until(30_000, |c| c.decided_requests().len() == 1);
    }
}

#[test]
fn groups_of_any_size_survive_what_their_majority_allows() {
    for (count, down) in [(2, 0), (4, 1), (5, 2), (6, 2), (7, 3)] {
        let mut c = Cluster::new(count, u64::from(count));
        let leader = ready(&mut c);
        c.submit(leader, 1, b"x");
        c.run_until(300, |c| c.decided_requests().len() == 1);
        for index in (0..count).rev().take(down) {
            c.crash(index);
        }
        c.run_until(1_000, |c| c.leader().is_some_and(|l| c.is_up(l)));
        c.submit(0, 2, b"y");
        c.run_until(1_000, |c| c.decided_requests().len() == 2);
        // One more is one too many.
        let up = (0..count).rev().filter(|index| c.is_up(*index)).take(1).collect::<Vec<_>>();
        let enough = usize::from(count) - down - 1 > usize::from(count) / 2;
        c.crash(up[0]);
        assert!(!enough);
        c.submit(0, 3, b"never");
        c.run_for(2_000);
        assert_eq!(c.decided_requests().len(), 2, "{count} replicas");
    }
}

#[test]
fn no_single_kind_of_message_is_trusted_to_arrive() {
    for kind in ["step-down", "not-leader", "read-slot", "refused", "probe-reply", "follow"] {
        let mut c = Cluster::new(3, 12);
        let leader = ready(&mut c);
        for index in 0..3 {
            c.lost.insert((index, kind));
        }
        c.read((leader + 1) % 3, 1);
        c.step(leader, mainstay_consensus::Input::Retire);
        c.submit(leader, 1, b"x");
        c.run_for(1_000);
        c.lost.clear();
        c.run_until(2_000, |c| c.leader().is_some_and(|l| l != leader));
        c.submit((leader + 1) % 3, 2, b"y");
        c.run_until(1_000, |c| {
            let told = |t| c.rejected.iter().any(|(token, _)| *token == Token(t));
            let done = c.reads.contains_key(&Token(1)) || told(1);
            done && (c.decided_requests().iter().any(|r| r == "y") || told(2))
        });
    }
}

#[test]
fn a_chain_keeps_its_leader() {
    // Both ends hear only the middle one; the leader is at one end.
    let mut c = Cluster::new(3, 13);
    let leader = ready(&mut c);
    let other = (leader + 1) % 3;
    c.cut.insert((leader, other));
    c.cut.insert((other, leader));
    c.run_for(1_200);
    let ballot = c.status(leader).ballot;
    c.run_for(5_000);
    assert_eq!((c.leader(), c.status(leader).ballot), (Some(leader), ballot));
}

#[test]
fn the_only_connected_replica_leads_although_its_log_is_behind() {
    let mut c = Cluster::new(5, 14);
    let leader = ready(&mut c);
    let behind = (leader + 1) % 5;
    for other in 0..5 {
        c.cut.insert((other, behind));
        c.cut.insert((behind, other));
    }
    for token in 0..200 {
        c.submit(leader, token, b"r");
        c.run_for(2);
    }
    c.run_until(500, |c| c.decided_requests().len() == 200);
    for a in 0..5 {
        for b in 0..5 {
            if a == behind || b == behind {
                c.cut.remove(&(a, b));
            } else {
                c.cut.insert((a, b));
            }
        }
    }
    c.run_until(1_200, |c| c.leader() == Some(behind));
    c.submit(behind, 999, b"x");
    c.run_until(2_000, |c| c.decided_requests().len() == 201);
}

#[test]
fn chaos_never_decides_two_values_and_heals() {
    for seed in 0..600 {
        let count = if seed % 3 == 0 { 5 } else { 3 };
        let mut c = Cluster::new(count, seed);
        c.loss = seed % 7;
        c.duplication = seed % 5;
        c.delay_max = (1 + seed % 9) * MS;
        c.sync_max = (1 + seed % 11) * MS;
        c.checkpoint_slots = [0, 3, 7][(seed % 3) as usize];
        let mut token = 0;
        for _ in 0..40 {
            let pick = c.prng.below(u64::from(count)) as u16;
            match c.prng.below(8) {
                0 if c.is_up(pick) => c.crash(pick),
                0 | 1 => {
                    if !c.is_up(pick) {
                        c.start(pick, true);
                        c.tell_suspicion(pick, false);
                    }
                }
                2 => {
                    let other = c.prng.below(u64::from(count)) as u16;
                    c.cut.insert((pick, other));
                }
                3 => c.cut.clear(),
                _ => {
                    token += 1;
                    c.submit(pick, token, b"r");
                }
            }
            let ms = c.prng.below(80);
            c.run_for(ms);
        }
        c.cut.clear();
        c.loss = 0;
        for index in 0..count {
            if !c.is_up(index) {
                c.start(index, true);
            }
            c.tell_suspicion(index, false);
        }
        c.run_until(20_000, |c| {
            c.leader().is_some_and(|l| {
                let decided = c.status(l).decided;
                decided > Slot::NONE && (0..count).all(|i| c.status(i).applied == decided)
            })
        });
    }
}
