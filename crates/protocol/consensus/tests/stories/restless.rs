//! Ways in which a group might change leaders for ever, stay without one, or lose what it was asked:
//! each was written to make it do so.

use crate::cluster::{Cluster, MS};
use mainstay_consensus::{Input, LeaderPolicy, Observation, Settings};
use mainstay_model::{Slot, Token};

const POLICIES: [LeaderPolicy; 2] = [LeaderPolicy::TrustedRank, LeaderPolicy::Rotation];

fn ready(c: &mut Cluster) -> u16 {
    c.run_until(9_000, |c| c.leader().is_some_and(|l| c.status(l).applied >= Slot(1)));
    c.leader().expect("just seen")
}

/// Has work done for so many seconds; `shape` forms the world anew whenever another one leads, or a
/// tenth of a second has passed. Returns when leaders changed, in seconds.
fn changes(c: &mut Cluster, seconds: u64, shape: impl Fn(&mut Cluster, u16)) -> Vec<u64> {
    let since = c.now;
    let mut leader = c.leader();
    let mut seen = Vec::new();
    while c.now < since + seconds * 1000 * MS {
        if let Some(leader) = c.leader() {
            shape(c, leader);
        }
        c.work(5, 20);
        if c.leader().is_some() && c.leader() != leader {
            leader = c.leader();
            seen.push((c.now - since) / MS / 1000);
        }
    }
    seen
}

/// The time between changes grows: leading itself is what makes slow, so that no change helps.
fn must_become_rarer(seen: &[u64], what: &str) {
    assert!(seen.len() >= 2, "{what}: it is tried: {seen:?}");
    assert!(seen.len() <= 12, "{what}: in three minutes, {seen:?}");
    let last = seen.last().copied().unwrap_or(0) - seen[seen.len() - 2];
    assert!(last >= 20, "{what}: ever more rarely: {seen:?}");
}

#[test]
fn where_leading_makes_slow_leaders_change_ever_more_rarely() {
    for policy in POLICIES {
        let mut c = Cluster::with(3, 1, Settings { leader_policy: policy, ..Settings::default() });
        ready(&mut c);
        let seen = changes(&mut c, 180, |c, leader| {
            c.slow_links.clear();
            c.slow_links.insert(leader, 100 * MS);
        });
        must_become_rarer(&seen, "links");
    }
}

#[test]
fn where_leading_makes_disks_slow_leaders_change_ever_more_rarely() {
    for policy in POLICIES {
        let mut c = Cluster::with(3, 2, Settings { leader_policy: policy, ..Settings::default() });
        ready(&mut c);
        let seen = changes(&mut c, 180, |c, leader| {
            c.slow_disk.clear();
            c.slow_disk.insert(leader, 150 * MS);
        });
        must_become_rarer(&seen, "disks");
    }
}

#[test]
fn a_replica_that_restarts_for_ever_disturbs_nobody() {
    // tigerbeetle#3692: a cascade of leader changes.
    for policy in POLICIES {
        let mut c = Cluster::with(3, 3, Settings { leader_policy: policy, ..Settings::default() });
        let leader = ready(&mut c);
        let ballot = c.status(leader).ballot;
        let restless = (leader + 1) % 3;
        for _ in 0..100 {
            c.crash(restless);
            c.work(3, 50);
            c.start(restless, true);
            c.tell_suspicion(restless, false);
            c.work(4, 50);
        }
        assert_eq!((c.leader(), c.status(leader).ballot), (Some(leader), ballot));
        assert!(
            c.rejected
                .iter()
                .all(|(_, reason)| { matches!(reason, mainstay_consensus::Rejection::NoLeader) })
        );
    }
}

#[test]
fn replicas_that_run_only_now_and_then_find_a_leader() {
    // Machines that share a processor with too many others: each runs for a fifth of a second and is
    // then halted for as long, at times of its own; the one that led is gone, and nobody says so.
    for seed in 0..20 {
        let mut c = Cluster::new(3, seed);
        let leader = ready(&mut c);
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        c.cut_off(leader);
        let since = c.now;
        let mut turn = 0;
        while !others.iter().any(|index| c.leader() == Some(*index)) {
            assert!(c.now - since < 15_000 * MS, "seed {seed}: nobody leads");
            turn += 1;
            let (halted, running) = (others[turn % 2], others[(turn + 1) % 2]);
            c.paused.insert(halted);
            c.run_for(200);
            if c.paused.contains(&running) {
                c.resume(running);
            }
            c.resume(halted);
            c.run_for(100 + seed * 5);
        }
    }
}

#[test]
fn a_leader_that_runs_only_now_and_then_leads_on_or_is_replaced_and_nothing_is_lost() {
    for seed in 0..10 {
        let mut c = Cluster::new(3, seed);
        let first = ready(&mut c);
        let mut number = [0; 3];
        for _ in 0..100 {
            c.paused.insert(first);
            c.run_for(200);
            c.resume(first);
            for index in 0..3 {
                number[usize::from(index)] += 1;
                c.submit_numbered(index, number[usize::from(index)]);
            }
            c.run_for(200);
        }
        finish(&mut c, &number);
    }
}

/// Sends again what is not carried out, as the worlds do, until everything is.
fn finish(c: &mut Cluster, numbers: &[u64]) {
    for _ in 0..100 {
        let mut open = 0;
        for (index, upto) in (0..).zip(numbers) {
            let done = c.carried_out(index);
            for number in (1..=*upto).filter(|number| !done.contains(number)) {
                c.submit_numbered(index, number);
                open += 1;
            }
        }
        if open == 0 {
            return;
        }
        c.run_for(300);
    }
    panic!("not everything was carried out");
}

#[test]
fn operators_at_odds_end_with_one_leader_and_every_request_done() {
    for seed in 0..10 {
        let mut c = Cluster::new(5, seed);
        ready(&mut c);
        let mut numbers = [0; 5];
        let mut told = 0;
        for round in 0..40 {
            for index in 0..5 {
                // Each wants another one to lead, all at the same time.
                c.step(index, Input::LeaderMove { to: (index + round) % 5 });
                told += 1;
                numbers[usize::from(index)] += 1;
                c.submit_numbered(index, numbers[usize::from(index)]);
            }
            c.run_for(30);
        }
        c.run_for(10_000);
        assert!(c.instructed.len() <= told, "each is answered once at most");
        let leader = c.leader().expect("there is one");
        let ballot = c.status(leader).ballot;
        finish(&mut c, &numbers);
        c.run_for(5_000);
        assert_eq!((c.leader(), c.status(leader).ballot), (Some(leader), ballot), "seed {seed}");
        // No instruction is left over: each new one is answered.
        for index in 0..5 {
            c.instructed.clear();
            c.step(index, Input::LeaderMove { to: leader });
            c.run_until(1_000, |c| !c.instructed.is_empty());
            assert_eq!(c.instructed[0].1, Ok(()), "seed {seed}");
        }
    }
}

#[test]
fn reads_asked_while_the_lead_moves_are_answered_and_fresh() {
    for seed in 0..20 {
        let mut c = Cluster::new(3, seed);
        let first = ready(&mut c);
        let mut asked: Vec<(u64, Slot)> = Vec::new();
        for round in 0..30 {
            if round % 5 == 0 {
                c.step(0, Input::LeaderMove { to: (first + 1 + round / 5) % 3 });
            }
            for index in 0..3 {
                let token = u64::from(round) * 3 + u64::from(index);
                let known = (0..3).map(|i| c.status(i).decided).max().unwrap_or(Slot::NONE);
                c.read(index, token);
                asked.push((token, known));
                c.submit(index, 100_000 + token, b"between reads");
            }
            c.run_for(1 + seed % 4);
        }
        c.run_for(3_000);
        for (token, known) in asked {
            let slot = c.reads.get(&Token(token));
            let rejected = c.rejected.iter().any(|(at, _)| *at == Token(token));
            assert!(!rejected, "seed {seed}: read {token} is refused");
            assert!(slot.is_some_and(|slot| *slot >= known), "seed {seed}: {token} {slot:?}");
        }
    }
}

#[test]
fn whoever_fetches_a_checkpoint_finds_no_fault_with_its_leader() {
    // camunda#837, dragonboat#325: large states and elections. Until it has the state it cannot vote for
    // what is open, and nobody else can: the leader gets nowhere, and is not to blame.
    let transfer_bytes_per_second = Some(2_000);
    let settings =
        Settings { chunk_bytes: 1 << 10, transfer_bytes_per_second, ..Settings::default() };
    let mut c = Cluster::with(3, 4, settings);
    c.checkpoint_slots = 20;
    c.checkpoint_bytes = 80_000;
    c.log_slots_max = 10;
    let leader = ready(&mut c);
    let ballot = c.status(leader).ballot;
    let away = (leader + 1) % 3;
    c.crash(away);
    c.work(300, 10);
    c.start(away, true);
    c.tell_suspicion(away, false);
    c.crash((leader + 2) % 3);
    c.run_until(5_000, |c| c.status(away).transfer.is_some());
    c.observed.clear();
    let since = c.now;
    while c.status(away).transfer.is_some() {
        assert!(c.now - since < 60_000 * MS, "it ends");
        c.work(5, 20);
    }
    let took = (c.now - since) / MS;
    assert!(took > 3_000, "longer than any time-out: {took} ms");
    let doubted = |o: &(u16, Observation)| *o == (away, Observation::Leader(None));
    assert!(!c.observed.iter().any(doubted), "it lost sight of its leader");
    assert_eq!((c.leader(), c.status(leader).ballot), (Some(leader), ballot));
}
