//! When a leader is replaced, and when not: stories of slow disks, slow links, pauses and commands. Each
//! names the threads of users of other systems that it answers.

use std::time::Duration;

use crate::cluster::{Cluster, MS};
use mainstay_consensus::{Input, Instruction, LeaderPolicy, Refusal, Role, Settings};
use mainstay_model::{Slot, Timestamp, Token};

const POLICIES: [LeaderPolicy; 2] = [LeaderPolicy::TrustedRank, LeaderPolicy::Rotation];

fn ready(c: &mut Cluster) -> u16 {
    c.run_until(9_000, |c| c.leader().is_some_and(|l| c.status(l).applied >= Slot(1)));
    c.leader().expect("just seen")
}

fn with_policy(count: u16, seed: u64, leader_policy: LeaderPolicy) -> Cluster {
    Cluster::with(count, seed, Settings { leader_policy, ..Settings::default() })
}

/// A request is submitted to `at` until it is decided.
fn decides(c: &mut Cluster, at: u16, limit_ms: u64) {
    let before = c.decided_requests().len();
    c.submit(at, 77, b"decides");
    c.run_until(limit_ms, |c| c.decided_requests().len() > before);
}

fn order(c: &mut Cluster, count: u64) {
    for _ in 0..count {
        let leader = c.leader().expect("there is one");
        decides(c, leader, 5_000);
    }
}

// Time-outs that follow what is observed.

/// Whether a leader of a group with such delays keeps its office although what shows it is lost for
/// a while.
fn survives_silence(delay: u64, silence_ms: u64) -> bool {
    let mut c = Cluster::new(3, 1);
    c.delay_min = delay;
    let leader = ready(&mut c);
    order(&mut c, 20);
    let ballot = c.status(leader).ballot;
    c.lost.insert((leader, "lead"));
    c.run_for(silence_ms);
    c.lost.clear();
    c.run_for(2_000);
    c.leader() == Some(leader) && c.status(leader).ballot == ballot
}

#[test]
fn time_outs_follow_what_ordering_takes() {
    // etcd#7312, #13587: fixed time-outs fit one network and not the next.
    assert!(!survives_silence(MS, 450), "near replicas notice after the least time-out");
    assert!(survives_silence(200 * MS, 450), "far ones know that everything takes longer");
    assert!(!survives_silence(200 * MS, 4_000), "and still notice, at the latest at the most");
}

#[test]
fn replicas_farther_apart_than_the_first_time_out_find_a_leader() {
    let mut c = Cluster::new(3, 1);
    c.delay_min = 400 * MS;
    c.run_until(20_000, |c| c.leader().is_some_and(|l| c.status(l).applied >= Slot(1)));
    let leader = c.leader().expect("just seen");
    let ballot = c.status(leader).ballot;
    // What a leader does not hear for as long as an answer takes here is no sign of a full disk.
    decides(&mut c, leader, 5_000);
    assert!(c.rejected.is_empty(), "{:?}", c.rejected);
    c.run_for(20_000);
    assert_eq!((c.leader(), c.status(leader).ballot), (Some(leader), ballot));
    decides(&mut c, leader, 5_000);
}

#[test]
fn candidates_leave_slow_disk_the_time_they_are_known_to_need() {
    // etcd#9544: slow syncs and election storms.
    let mut c = Cluster::new(3, 2);
    for index in 0..3 {
        c.slow_disk.insert(index, 700 * MS);
    }
    c.run_until(30_000, |c| c.leader().is_some_and(|l| c.status(l).applied >= Slot(1)));
    let leader = c.leader().expect("just seen");
    order(&mut c, 5);
    let round = c.status(leader).ballot.round;
    c.crash(leader);
    c.run_until(10_000, |c| c.leader().is_some());
    let next = c.leader().expect("just seen");
    assert_eq!(c.status(next).ballot.round, round + 1, "the first candidacy succeeds");
}

#[test]
fn settings_whose_relations_do_not_hold_are_refused_in_a_sentence() {
    // fluree/db#1373: a time-out below what it waits for, and leaders changed for ever.
    let ms = Duration::from_millis;
    let good = Settings::default();
    assert_eq!(good.fault(), None);
    let wrong = [
        (Settings { lead_interval: ms(200), ..good }, "election_timeout_min"),
        (Settings { resend_interval: ms(500), ..good }, "resend_interval"),
        (Settings { election_timeout: ms(100), ..good }, "election_timeout"),
        (Settings { election_timeout_max: ms(299), ..good }, "election_timeout_max"),
        (Settings { stall_timeout: ms(100), ..good }, "stall_timeout"),
        (Settings { disk_stall_timeout: ms(10), ..good }, "disk_stall_timeout"),
        (Settings { lead_interval: ms(0), ..good }, "lead_interval"),
    ];
    for (settings, name) in wrong {
        let fault = settings.fault().expect(name);
        assert!(fault.contains(name) && fault.contains("give"), "{fault}");
    }
}

// Bad performance.

/// How long until another leads while requests come all the time; `None` if nobody does.
fn replaced_under_load(c: &mut Cluster, leader: u16, seconds: u64) -> Option<u64> {
    let since = c.now;
    for _ in 0..seconds {
        c.work(50, 20);
        if c.leader() != Some(leader) {
            return Some((c.now - since) / MS);
        }
    }
    None
}

#[test]
fn a_leader_much_slower_than_the_others_could_be_is_replaced_under_load() {
    // etcd#14501, tigerbeetle#2739: alive, and everything takes a hundred times as long.
    let mut c = Cluster::new(3, 3);
    let leader = ready(&mut c);
    c.slow_links.insert(leader, 100 * MS);
    let took = replaced_under_load(&mut c, leader, 20).expect("it is replaced");
    assert!(took > 2_000, "not for one bad moment: {took} ms");
    let next = c.leader().expect("there is one");
    let ballot = c.status(next).ballot;
    assert_eq!(replaced_under_load(&mut c, next, 20), None, "the slow one does not come back");
    assert_eq!(c.status(next).ballot, ballot);
}

#[test]
fn a_leader_with_little_to_do_is_not_slow() {
    let mut c = Cluster::new(3, 4);
    let leader = ready(&mut c);
    let ballot = c.status(leader).ballot;
    for _ in 0..30 {
        decides(&mut c, leader, 1_000);
        c.run_for(1_000);
    }
    assert_eq!((c.leader(), c.status(leader).ballot), (Some(leader), ballot));
}

#[test]
fn nobody_is_slow_where_everybody_is() {
    let mut c = Cluster::new(3, 5);
    let leader = ready(&mut c);
    let ballot = c.status(leader).ballot;
    for index in 0..3 {
        c.slow_links.insert(index, 60 * MS);
        c.slow_disk.insert(index, 40 * MS);
    }
    assert_eq!(replaced_under_load(&mut c, leader, 30), None);
    assert_eq!(c.status(leader).ballot, ballot);
}

#[test]
fn one_follower_that_finds_the_leader_slow_does_not_unseat_it() {
    let mut c = Cluster::new(5, 6);
    let leader = ready(&mut c);
    let ballot = c.status(leader).ballot;
    // What comes to one replica from the leader comes late; the others see nothing of it.
    let victim = (leader + 1) % 5;
    c.slow_ways.insert((leader, victim), 200 * MS);
    assert_eq!(replaced_under_load(&mut c, leader, 30), None);
    assert_eq!(c.status(leader).ballot, ballot);
    assert!(c.sent.get("probe").copied().unwrap_or(0) > 0, "it asked");
}

#[test]
fn a_leader_that_is_slow_for_a_moment_stays() {
    let mut c = Cluster::new(3, 7);
    let leader = ready(&mut c);
    let ballot = c.status(leader).ballot;
    assert_eq!(replaced_under_load(&mut c, leader, 8), None);
    for _ in 0..5 {
        c.slow_links.insert(leader, 100 * MS);
        assert_eq!(replaced_under_load(&mut c, leader, 1), None);
        c.slow_links.clear();
        assert_eq!(replaced_under_load(&mut c, leader, 3), None);
    }
    assert_eq!(c.status(leader).ballot, ballot);
}

// Disks.

#[test]
fn a_leader_whose_disk_stalls_hands_over_to_one_whose_disk_works() {
    // hashicorp/raft#503: the log store hangs, the heartbeats go on, and nobody else ever leads.
    for seed in 0..10 {
        let mut c = Cluster::new(3, seed);
        let leader = ready(&mut c);
        order(&mut c, 10);
        c.stalled_disk.insert(leader);
        c.submit(leader, 1, b"cannot be made durable here");
        let at = c.now;
        c.run_until(3_000, |c| c.leader().is_some_and(|l| l != leader));
        assert!(c.now - at < 1_500 * MS, "took {} ms", (c.now - at) / MS);
        let next = c.leader().expect("just seen");
        decides(&mut c, next, 500);
        // It heals: the disk does what it owed, and the replica follows.
        c.stalled_disk.clear();
        decides(&mut c, next, 500);
        let at = usize::from(leader);
        c.run_until(2_000, |c| c.delivered[at].len() == c.decided.len());
        assert_eq!(c.leader(), Some(next));
    }
}

#[test]
fn a_leader_whose_disk_is_much_slower_than_the_others_hands_over() {
    let mut c = Cluster::new(3, 9);
    let leader = ready(&mut c);
    c.slow_disk.insert(leader, 150 * MS);
    let took = replaced_under_load(&mut c, leader, 20).expect("it hands over");
    assert!(took > 1_500, "not for one slow write: {took} ms");
    let next = c.leader().expect("there is one");
    assert_eq!(replaced_under_load(&mut c, next, 20), None);
}

#[test]
fn a_stalled_disk_is_no_reason_where_no_quorum_is_better_off() {
    // With one replica down the vote of the stalled one is needed whoever leads.
    let mut c = Cluster::new(3, 10);
    let leader = ready(&mut c);
    let ballot = c.status(leader).ballot;
    c.crash((leader + 1) % 3);
    c.stalled_disk.insert(leader);
    c.submit(leader, 1, b"waits for the disk");
    c.run_for(2_000);
    assert_eq!((c.leader(), c.status(leader).ballot), (Some(leader), ballot));
    c.stalled_disk.clear();
    c.run_until(1_000, |c| c.decided_requests().len() == 1);
}

#[test]
fn a_follower_whose_disk_stalls_and_works_again_needs_nobody() {
    // hashicorp/raft#612, nats-server#4363: a stall at a follower wedges it until a restart.
    let mut c = Cluster::new(3, 11);
    let leader = ready(&mut c);
    let ballot = c.status(leader).ballot;
    let follower = (leader + 1) % 3;
    c.stalled_disk.insert(follower);
    c.work(200, 20);
    assert_eq!(c.status(leader).ballot, ballot);
    c.stalled_disk.clear();
    let at = usize::from(follower);
    c.run_until(2_000, |c| c.delivered[at].len() == c.decided.len());
}

// Pauses.

#[test]
fn a_follower_that_was_paused_listens_before_it_accuses() {
    // corosync#600, #701: a paused machine wakes up and evicts the others.
    let mut c = Cluster::new(3, 12);
    let leader = ready(&mut c);
    let follower = (leader + 1) % 3;
    let probes = |c: &Cluster| c.sent.get("probe").copied().unwrap_or(0);
    let asked = probes(&c);
    c.paused.insert(follower);
    c.run_for(5_000);
    c.forget_waiting();
    c.resume(follower);
    c.run_for(1_000);
    assert_eq!(probes(&c), asked, "it asked nobody");
    assert_eq!(c.leader(), Some(leader));
    assert_eq!(c.status(follower).leader.map(|l| l.index), Some(leader));
}

#[test]
fn a_follower_that_was_paused_and_hears_nothing_accuses_in_the_end() {
    let mut c = Cluster::new(3, 13);
    let leader = ready(&mut c);
    let follower = (leader + 1) % 3;
    c.paused.insert(follower);
    c.run_for(1_000);
    c.cut_off(leader);
    c.forget_waiting();
    c.resume(follower);
    c.run_until(2_000, |c| c.leader().is_some_and(|l| l != leader));
}

#[test]
fn a_leader_that_was_paused_does_not_act_as_leader_before_a_quorum_confirms_it() {
    // openraft#1467, etcd#20418: is the leader that this process believes to be one still valid?
    let mut c = Cluster::new(3, 14);
    let leader = ready(&mut c);
    c.paused.insert(leader);
    c.run_until(3_000, |c| (0..3).any(|i| i != leader && c.status(i).role == Role::Leader));
    let next = c.leader().expect("just seen");
    decides(&mut c, next, 1_000);
    let decided = c.status(next).decided;
    // It is told nothing of what happened meanwhile, and cannot be for a while.
    c.cut_off(leader);
    c.forget_waiting();
    c.read(leader, 5);
    c.submit(leader, 6, b"of the past");
    c.resume(leader);
    let accepts = c.sent["accept"];
    c.run_for(250);
    assert!(!c.reads.contains_key(&Token(5)), "no read before a round");
    assert_eq!(c.sent["accept"], accepts, "nothing is proposed before a round");
    c.cut.clear();
    c.run_until(2_000, |c| c.status(leader).role != Role::Leader);
    c.run_until(2_000, |c| c.reads.contains_key(&Token(5)));
    assert!(c.reads[&Token(5)] >= decided, "a read answered later is fresh");
}

#[test]
fn a_leader_paused_while_nobody_took_over_goes_on() {
    let mut c = Cluster::new(3, 15);
    let leader = ready(&mut c);
    let ballot = c.status(leader).ballot;
    for index in 0..3 {
        c.paused.insert(index);
    }
    c.run_for(10_000);
    for index in 0..3 {
        c.resume(index);
    }
    c.run_for(1_000);
    assert_eq!((c.leader(), c.status(leader).ballot), (Some(leader), ballot));
    decides(&mut c, leader, 500);
}

#[test]
fn a_leader_paused_while_its_disk_works_does_not_take_the_pause_for_a_stall() {
    for still_owes in [false, true] {
        let mut c = Cluster::new(3, 15);
        let leader = ready(&mut c);
        c.run_for(10_000);
        let ballot = c.status(leader).ballot;
        for pause in 0..4 {
            c.stalled_disk.insert(leader);
            c.submit(leader, 20 + pause, b"on its way to the disk");
            c.run_for(5);
            for index in 0..3 {
                c.paused.insert(index);
            }
            c.run_for(10_000);
            if !still_owes {
                c.stalled_disk.clear();
            }
            for index in 0..3 {
                c.resume(index);
            }
            c.run_for(100);
            c.stalled_disk.clear();
            c.run_for(900);
        }
        assert_eq!((c.leader(), c.status(leader).ballot), (Some(leader), ballot), "{still_owes}");
        decides(&mut c, leader, 500);
    }
}

// Policies.

#[test]
fn under_rotation_the_round_tells_who_leads() {
    let mut c = with_policy(3, 16, LeaderPolicy::Rotation);
    let mut last = ready(&mut c);
    for _ in 0..6 {
        let ballot = c.status(last).ballot;
        assert_eq!(ballot.round % 3, u64::from(last));
        c.crash(last);
        c.run_until(2_000, |c| c.leader().is_some());
        let next = c.leader().expect("just seen");
        assert_eq!(next, (last + 1) % 3, "the next in turn");
        c.start(last, true);
        c.tell_suspicion(last, false);
        c.run_for(500);
        last = next;
    }
}

#[test]
fn rotation_does_not_wait_for_one_that_is_down() {
    let mut c = with_policy(5, 17, LeaderPolicy::Rotation);
    let leader = ready(&mut c);
    c.crash((leader + 1) % 5);
    c.crash(leader);
    c.run_until(2_000, |c| c.leader() == Some((leader + 2) % 5));
    decides(&mut c, (leader + 2) % 5, 500);
}

#[test]
fn quorum_loss_is_survived_under_both_policies() {
    // Ng, Haridi and Carbone, "Omni-Paxos", EuroSys 2023, section 2, this one and the next two.
    for policy in POLICIES {
        for seed in 0..5 {
            let mut c = with_policy(5, seed, policy);
            let leader = ready(&mut c);
            let hub = (leader + 1 + seed as u16 % 4) % 5;
            c.link_only(|a, _| a == hub);
            c.run_until(1_500, |c| c.leader() == Some(hub));
            decides(&mut c, hub, 1_500);
        }
    }
}

#[test]
fn a_constrained_election_is_won_under_both_policies() {
    for policy in POLICIES {
        for seed in 0..5 {
            let mut c = with_policy(5, seed, policy);
            let leader = ready(&mut c);
            let late = (leader + 1 + seed as u16 % 4) % 5;
            c.link_only(|a, b| a != late && b != late);
            order(&mut c, 5);
            c.link_only(|a, b| a == late && b != leader);
            c.run_until(1_500, |c| c.leader() == Some(late));
            decides(&mut c, late, 1_500);
            assert_eq!(c.decided_requests().len(), 6);
        }
    }
}

#[test]
fn a_chain_goes_on_under_both_policies() {
    for policy in POLICIES {
        for seed in 0..5 {
            let mut c = with_policy(3, seed, policy);
            let leader = ready(&mut c);
            let end = (leader + 1 + seed as u16 % 2) % 3;
            c.link_only(|a, b| (a, b) != (leader, end) && (a, b) != (end, leader));
            c.run_for(500);
            let ballot = c.status(c.leader().expect("there is one")).ballot;
            c.run_for(5_000);
            let now = c.leader().expect("there is one");
            assert_eq!(c.status(now).ballot, ballot, "no war of ballots");
            decides(&mut c, now, 500);
        }
    }
}

// Commands.

fn move_to(c: &mut Cluster, at: u16, to: u16) -> Result<(), Refusal> {
    c.instructed.clear();
    c.step(at, Input::LeaderMove { to });
    c.run_until(10_000, |c| !c.instructed.is_empty());
    let (instruction, outcome) = c.instructed[0];
    assert_eq!(instruction, Instruction::LeaderMove { to });
    outcome
}

#[test]
fn the_lead_moves_by_command_at_any_replica_and_no_request_is_lost_or_fails() {
    for seed in 0..5 {
        let mut c = Cluster::new(3, seed);
        let first = ready(&mut c);
        let mut token = 0;
        let targets = [(first + 1) % 3, (first + 2) % 3, first];
        for (at, to) in [(0, targets[0]), (1, targets[1]), (2, targets[2]), (0, targets[2])] {
            // The new leader has been answered by everybody.
            c.run_for(5);
            let leader = c.leader().expect("there is one");
            for _ in 0..20 {
                token += 1;
                c.submit(leader, token, b"at the leader, around the move");
            }
            let since = c.now;
            assert_eq!(move_to(&mut c, at, to), Ok(()));
            assert!(c.now - since < 50 * MS, "took {} ms", (c.now - since) / MS);
            c.run_until(500, |c| c.leader() == Some(to));
        }
        c.run_until(1_000, |c| c.decided_requests().len() == 80);
        assert!(c.rejected.is_empty());
    }
}

#[test]
fn a_move_that_cannot_be_is_refused_and_the_leader_leads_on() {
    let mut c = Cluster::new(3, 18);
    let leader = ready(&mut c);
    let ballot = c.status(leader).ballot;
    let (down, other) = ((leader + 1) % 3, (leader + 2) % 3);
    assert_eq!(move_to(&mut c, other, 3), Err(Refusal::UnknownReplica));
    assert_eq!(move_to(&mut c, other, leader), Ok(()), "it leads already");
    c.crash(down);
    c.run_for(500);
    assert_eq!(move_to(&mut c, other, down), Err(Refusal::NotVoting), "nobody there");
    c.start(down, false);
    c.tell_suspicion(down, false);
    c.run_for(500);
    assert_eq!(move_to(&mut c, leader, down), Err(Refusal::NotVoting), "a learner");
    c.step(other, Input::Room { entries: false });
    c.run_for(100);
    assert_eq!(move_to(&mut c, leader, other), Err(Refusal::NoDisk));
    assert_eq!((c.leader(), c.status(leader).ballot), (Some(leader), ballot));
}

#[test]
fn a_move_to_one_that_lags_is_refused() {
    let mut c = Cluster::new(3, 19);
    let leader = ready(&mut c);
    let late = (leader + 1) % 3;
    for kind in ["catch-up", "accepted"] {
        c.lost.insert((late, kind));
    }
    c.lost.insert((leader, "decided"));
    let lossy = (leader, late);
    c.cut_values.insert(lossy);
    order(&mut c, 70);
    assert_eq!(move_to(&mut c, leader, late), Err(Refusal::Lagging));
    decides(&mut c, leader, 500);
}

#[test]
fn a_target_that_does_not_get_everything_leaves_the_leader_in_office() {
    let mut c = Cluster::new(3, 20);
    let leader = ready(&mut c);
    let target = (leader + 1) % 3;
    order(&mut c, 3);
    // It votes, and never learns that the last slot is decided.
    c.cut_values.insert((leader, target));
    c.lost.insert((target, "catch-up"));
    order(&mut c, 2);
    let ballot = c.status(leader).ballot;
    c.submit(leader, 1, b"waits while the leader tries");
    assert_eq!(move_to(&mut c, leader, target), Err(Refusal::Lagging));
    assert_eq!((c.leader(), c.status(leader).ballot), (Some(leader), ballot));
    c.run_until(500, |c| c.decided_requests().len() == 6);
    assert!(c.rejected.is_empty());
}

#[test]
fn a_target_that_does_not_begin_is_passed_over() {
    let mut c = Cluster::new(3, 21);
    let leader = ready(&mut c);
    let (target, other) = ((leader + 1) % 3, (leader + 2) % 3);
    c.lost.insert((target, "probe"));
    c.submit(leader, 1, b"not lost");
    assert_eq!(move_to(&mut c, other, target), Err(Refusal::NotTaken));
    assert!(c.leader().is_some_and(|now| now != target));
    c.run_until(1_000, |c| c.decided_requests().len() == 1);
}

#[test]
fn without_a_leader_a_move_is_refused_in_bounded_time() {
    let mut c = Cluster::new(3, 22);
    let leader = ready(&mut c);
    let other = (leader + 1) % 3;
    c.crash(leader);
    c.crash((leader + 2) % 3);
    assert_eq!(move_to(&mut c, other, other), Err(Refusal::NoLeader));
}

// The clock.

const HOUR: u64 = 3_600_000 * MS;

#[test]
fn a_jump_of_decided_time_above_the_bound_waits_for_the_operators_word() {
    let mut c = Cluster::new(3, 23);
    let leader = ready(&mut c);
    decides(&mut c, leader, 500);
    let last = c.decided.last_key_value().expect("decided").1.time();
    // The clocks are set right, three hours on, and the next leader sees it.
    c.ahead = vec![3 * HOUR; 3];
    c.crash(leader);
    c.run_until(2_000, |c| c.leader().is_some());
    let next = c.leader().expect("just seen");
    let other = 3 - leader - next;
    decides(&mut c, next, 500);
    let refused = c.status(next).clock_jump_refused.expect("it is told");
    assert!(refused.as_secs() >= 3 * 3600 - 1, "{refused:?}");
    let time = |c: &Cluster| c.decided.last_key_value().expect("decided").1.time();
    assert!(time(&c) < Timestamp(last.0 + HOUR), "time goes on without the jump");
    c.step(other, Input::ConfirmClockJump);
    c.run_until(1_000, |c| !c.instructed.is_empty());
    assert_eq!(c.instructed, [(Instruction::ConfirmClockJump, Ok(()))]);
    assert_eq!(c.status(next).clock_jump_refused, None);
    decides(&mut c, next, 500);
    assert!(time(&c).0 >= last.0 + 3 * HOUR, "and then it jumps, forward");
    c.run_for(2_000);
    decides(&mut c, next, 500);
    assert!(time(&c).0 < c.now + 3 * HOUR + MS, "no farther than the clocks");
}

#[test]
fn a_leader_that_refused_no_jump_has_nothing_to_confirm() {
    let mut c = Cluster::new(3, 24);
    let leader = ready(&mut c);
    c.step((leader + 1) % 3, Input::ConfirmClockJump);
    c.run_until(1_000, |c| !c.instructed.is_empty());
    let refused = Err(Refusal::NothingToConfirm);
    assert_eq!(c.instructed, [(Instruction::ConfirmClockJump, refused)]);
}
