//! How a replica that was away, lost its disk or went wrong gets the state of the others: one short
//! story at a time, with the thread of another system whose pain it answers.

use core::time::Duration;

use crate::cluster::{Cluster, MS};
use crate::{order, ready};
use mainstay_consensus::message::{CatchUp, CheckpointIs, Chunk, ChunkAsk, ChunkRefusal, Report};
use mainstay_consensus::{Body, CatchUpPolicy, Input, Message, Observation, Role};
use mainstay_model::plant::Planted;
use mainstay_model::{CheckpointId, ConfigurationId, Epoch, Plant, ReplicaId, Slot};

/// A group of `count`, one of which was away until the others discarded their logs; it is back.
pub(crate) fn one_returns(c: &mut Cluster, count: u16) -> (u16, u16) {
    let (leader, away) = one_is_away(c, count);
    back(c, away);
    (leader, away)
}

/// The same, and it is not back yet.
fn one_is_away(c: &mut Cluster, count: u16) -> (u16, u16) {
    c.checkpoint_slots = 10;
    let leader = ready(c);
    let away = (leader + 1) % count;
    c.crash(away);
    order(c, 33);
    c.run_until(2_000, |c| c.status(leader).stable == Slot(30));
    (leader, away)
}

pub(crate) fn caught_up(c: &Cluster, index: u16) -> bool {
    let same: Vec<_> = c.decided.values().cloned().collect();
    c.delivered[usize::from(index)] == same
}

pub(crate) fn back(c: &mut Cluster, index: u16) {
    c.start(index, true);
    c.tell_suspicion(index, false);
}

pub(crate) fn times(c: &Cluster, what: impl Fn(&Observation) -> bool) -> usize {
    c.observed.iter().filter(|(_, observation)| what(observation)).count()
}

/// canonical/raft#143: a snapshot in one message must fit memory. Here pieces under way are bounded,
/// at the receiver and at the donors (the cluster asserts that), whatever the size of the state.
#[test]
fn a_large_state_comes_in_pieces_from_several_donors_and_not_from_the_leader() {
    let mut c = Cluster::new(5, 1);
    c.checkpoint_bytes = 200 << 10;
    let (leader, away) = one_returns(&mut c, 5);
    c.run_until(20_000, |c| caught_up(c, away));
    assert_eq!(c.stored[&away], 200, "every piece once");
    assert!(c.gave.len() >= 2 && !c.gave.contains_key(&leader), "{:?}", c.gave);
}

/// braft#423, #59, ClickHouse#112405: a time-out over the whole transfer makes it begin again for
/// ever. Here only a donor that makes no progress is replaced; one that is merely slow is good enough.
#[test]
fn donors_slower_than_the_first_time_out_still_give_the_state() {
    let mut c = Cluster::new(3, 2);
    for index in 0..3 {
        c.read_time.insert(index, 1_700 * MS);
    }
    let (_, away) = one_returns(&mut c, 3);
    c.run_until(60_000, |c| caught_up(c, away));
    assert_eq!(c.stored[&away], 10, "nothing is stored twice");
}

#[test]
fn a_slow_donor_and_a_dead_one_are_replaced() {
    let mut c = Cluster::new(5, 3);
    c.checkpoint_bytes = 60 << 10;
    let (leader, away) = one_returns(&mut c, 5);
    let donors: Vec<u16> = (0..5).filter(|i| *i != leader && *i != away).collect();
    c.read_time.insert(donors[0], 3_600_000 * MS);
    c.run_until(5_000, |c| c.partial(away) >= 5);
    c.crash(donors[1]);
    c.run_until(20_000, |c| caught_up(c, away));
    assert!(c.gave[&donors[2]] > 30, "{:?}", c.gave);
}

/// sofa-jraft#597, braft#362: an interrupted transfer goes on where it was.
#[test]
fn a_transfer_goes_on_after_a_crash_of_its_receiver() {
    let mut c = Cluster::new(3, 4);
    c.checkpoint_bytes = 60 << 10;
    let (_, away) = one_returns(&mut c, 3);
    c.run_until(5_000, |c| c.partial(away) >= 20);
    c.crash(away);
    let there = c.partial(away) as u64;
    let before = c.stored[&away];
    // Meanwhile the group goes on to another checkpoint.
    order(&mut c, 10);
    back(&mut c, away);
    c.run_until(20_000, |c| caught_up(c, away));
    assert_eq!(c.stored[&away] - before, 60 - there, "what was there is not fetched again");
}

/// The log that follows a checkpoint being fetched is kept, at all replicas, the leader too.
#[test]
fn the_log_is_kept_while_a_transfer_is_alive_and_goes_afterwards() {
    let mut c = Cluster::new(3, 5);
    c.checkpoint_bytes = 40 << 10;
    c.settings.transfer_bytes_per_second = Some(20 << 10);
    let (leader, away) = one_returns(&mut c, 3);
    c.run_until(5_000, |c| c.partial(away) >= 2);
    order(&mut c, 30);
    c.run_until(2_000, |c| c.status(leader).stable == Slot(60));
    for index in (0..3).filter(|index| *index != away) {
        assert!(c.truncated(index) <= Slot(30), "kept at {index}");
    }
    c.run_until(20_000, |c| caught_up(c, away));
    assert_eq!(times(&c, |o| matches!(o, Observation::Transferred { .. })), 1, "one is enough");
    c.run_until(5_000, |c| c.truncated(leader) >= Slot(60));
}

/// sofa-jraft#597, braft#423: a writer that outruns the transfer. It must end all the same.
#[test]
fn a_writer_that_outruns_the_transfer_does_not_keep_it_from_ending() {
    let mut c = Cluster::new(3, 6);
    c.checkpoint_bytes = 40 << 10;
    c.settings.transfer_bytes_per_second = Some(10 << 10);
    c.log_slots_max = 15;
    let (_, away) = one_returns(&mut c, 3);
    let mut token = 10_000;
    let end = c.now + 60_000 * MS;
    while c.status(away).applied < Slot(31) || c.status(away).transfer.is_some() {
        assert!(c.now < end, "it goes on for ever");
        let leader = c.leader().expect("there is one");
        c.submit(leader, token, b"w");
        token += 1;
        c.run_for(25);
    }
    assert!(times(&c, |o| matches!(o, Observation::TransferOutrun { .. })) > 0);
    c.run_until(20_000, |c| caught_up(c, away));
}

#[test]
fn bandwidth_is_what_the_settings_allow() {
    let mut c = Cluster::new(3, 7);
    c.checkpoint_bytes = 50 << 10;
    c.settings.transfer_bytes_per_second = Some(10 << 10);
    let (_, away) = one_returns(&mut c, 3);
    let begun = c.now;
    c.run_until(20_000, |c| caught_up(c, away));
    let took = (c.now - begun) / MS;
    assert!((4_500..8_000).contains(&took), "{took} ms");
}

/// Chai 2009, figure 3: the second of the two scenarios.
#[test]
fn the_next_checkpoint_is_waited_for_if_it_is_near() {
    for wait in [Duration::from_secs(1), Duration::ZERO] {
        let mut c = Cluster::new(3, 8);
        c.checkpoint_slots = 10;
        c.settings.checkpoint_wait_max = wait;
        c.settings.transfer_bytes_per_second = Some(20 << 10);
        let leader = ready(&mut c);
        let away = (leader + 1) % 3;
        c.crash(away);
        order(&mut c, 37);
        c.run_until(2_000, |c| c.status(leader).stable == Slot(30));
        back(&mut c, away);
        c.run_for(100);
        order(&mut c, 5);
        c.run_until(20_000, |c| caught_up(c, away));
        let next = c.observed.contains(&(away, Observation::Transferred { slot: Slot(40) }));
        assert_eq!(next, !wait.is_zero());
    }
}

#[test]
fn damaged_pieces_and_a_full_disk_cost_time_and_nothing_else() {
    let mut c = Cluster::new(3, 9);
    let (leader, away) = one_returns(&mut c, 3);
    let donor = 3 - leader - away;
    c.damaged.insert(donor);
    c.full.insert(away);
    c.run_for(3_000);
    assert!(c.status(away).ignored > 0 && c.status(away).applied < Slot(30));
    c.full.clear();
    c.run_for(3_000);
    assert!(c.status(away).applied < Slot(30), "what is damaged is not installed");
    c.damaged.clear();
    c.run_until(60_000, |c| caught_up(c, away));
}

/// The group is at work all the time, and by the time a checkpoint is written the next one is near:
/// waiting for that one must not go on for ever.
#[test]
fn a_transfer_is_not_put_off_again_and_again() {
    let mut c = Cluster::new(3, 20);
    c.checkpoint_slots = 10;
    c.checkpoint_time = 85 * MS;
    c.settings.checkpoint_wait_max = Duration::from_secs(1);
    let leader = ready(&mut c);
    let away = (leader + 1) % 3;
    c.crash(away);
    order(&mut c, 37);
    c.run_until(2_000, |c| c.truncated(leader) == Slot(30));
    back(&mut c, away);
    let end = c.now + 5_000 * MS;
    let mut token = 10_000;
    while times(&c, |o| matches!(o, Observation::Transferred { .. })) == 0 {
        assert!(c.now < end, "it waits for ever");
        c.submit(leader, token, b"w");
        token += 1;
        c.run_for(10);
    }
}

/// One donor was set to another length of pieces: its pieces are of no use, those of others are.
#[test]
fn a_donor_whose_pieces_do_not_fit_does_not_spoil_the_transfer() {
    let mut c = Cluster::new(3, 21);
    c.checkpoint_bytes = 20 << 10;
    c.checkpoint_slots = 10;
    let leader = ready(&mut c);
    c.odd_pieces.extend((0..3).filter(|index| *index != leader));
    let (_, away) = one_returns(&mut c, 3);
    c.run_until(10_000, |c| caught_up(c, away));
    assert_eq!(c.stored[&away], 20, "it never begins anew");
}

/// PAR/CTRL, FAST 2018: one bad copy must not hide the good ones. Which donor gave the bad piece cannot
/// be told from the whole; so the next time all of it comes from one, and then from another one.
#[test]
fn a_donor_that_gives_wrong_bytes_does_not_keep_the_others_from_giving_right_ones() {
    for seed in 22..27 {
        let mut c = Cluster::new(5, seed);
        c.checkpoint_bytes = 30 << 10;
        let leader = ready(&mut c);
        c.damaged.insert((leader + 2 + (seed % 3) as u16) % 5);
        let (_, away) = one_returns(&mut c, 5);
        c.run_until(60_000, |c| caught_up(c, away));
    }
}

/// The only follower that can give crashes half-way: the leader goes on where it was, then the follower
/// again.
#[test]
fn a_transfer_goes_on_after_a_crash_of_its_donor() {
    let mut c = Cluster::new(3, 16);
    c.checkpoint_bytes = 60 << 10;
    c.settings.transfer_bytes_per_second = Some(40 << 10);
    let (leader, away) = one_returns(&mut c, 3);
    let donor = 3 - leader - away;
    c.run_until(5_000, |c| c.partial(away) >= 10);
    assert!(!c.gave.contains_key(&leader), "{:?}", c.gave);
    c.crash(donor);
    c.run_until(5_000, |c| c.partial(away) >= 20);
    assert!(c.gave.contains_key(&leader), "nobody else can");
    back(&mut c, donor);
    let given = c.gave[&donor];
    c.run_until(20_000, |c| caught_up(c, away));
    assert!(c.gave[&donor] > given, "it knows after its restart that it may give it");
    assert_eq!(c.stored[&away], 60, "every piece once");
}

/// Chai 2009, section 4.3: a replica that knows of nothing it lacks reports the highest slot that it
/// has accepted; whoever knows more answers.
#[test]
fn a_report_shows_what_its_sender_does_not_know_that_it_lacks() {
    let mut c = Cluster::new(3, 17);
    c.settings.catch_up = CatchUpPolicy::MULTICAST;
    for index in 0..3 {
        c.start(index, true);
    }
    let leader = ready(&mut c);
    let lags = (leader + 1) % 3;
    c.cut.insert((leader, lags));
    order(&mut c, 5);
    c.run_until(1_000, |c| caught_up(c, lags));
    assert!(c.cut.contains(&(leader, lags)) && c.status(leader).role == Role::Leader);
}

#[test]
fn pieces_out_of_order_or_of_another_transfer_are_refused_and_counted() {
    let mut c = Cluster::new(3, 18);
    c.checkpoint_bytes = 60 << 10;
    c.settings.transfer_bytes_per_second = Some(20 << 10);
    let (leader, away) = one_returns(&mut c, 3);
    let donor = 3 - leader - away;
    c.run_until(5_000, |c| c.partial(away) >= 3);
    let (slot, stored, total) = c.status(away).transfer.expect("it fetches");
    let checkpoint = c.held(donor).into_iter().find(|held| held.slot == slot).expect("it gives it");
    let next = (stored >> 10) as u32;
    let piece = |chunk| Chunk { checkpoint, chunk, total, bytes: vec![7; 1 << 10].into() };
    let other = CheckpointId { digest: checkpoint.digest ^ 1, ..checkpoint };
    let later = CheckpointId { slot: Slot(slot.0 + 10), ..checkpoint };
    for (why, piece) in [
        ("there already", piece(0)),
        ("far ahead of what is stored", piece(next + 30)),
        ("no such piece", piece(u32::MAX)),
        ("of other content", Chunk { checkpoint: other, ..piece(next) }),
        ("of a transfer that is not this one", Chunk { checkpoint: later, ..piece(next) }),
    ] {
        let before = c.status(away).ignored;
        c.hear(away, donor, Body::Chunk(piece));
        assert_eq!(c.status(away).ignored, before + 1, "{why}");
    }
    c.run_until(20_000, |c| caught_up(c, away));
    let before = c.status(away).ignored;
    c.hear(away, donor, Body::Chunk(piece(next)));
    assert_eq!(c.status(away).ignored, before + 1, "of a transfer that is over");
    assert_eq!(c.stored[&away], 60, "every piece once");
}

/// What belongs to another group, or to an earlier life of a replica, says nothing here.
#[test]
fn a_checkpoint_of_another_group_is_refused_and_counted() {
    let mut c = Cluster::new(3, 19);
    let leader = ready(&mut c);
    let (to, from) = ((leader + 1) % 3, c.id(leader));
    let checkpoint = CheckpointId { slot: Slot(1_000), digest: 1 };
    let (held, stable) = (vec![checkpoint], vec![checkpoint]);
    let body =
        Body::CheckpointIs(CheckpointIs { held, stable, truncated_upto: Slot(1_000), load: 0 });
    let strange = ReplicaId { epoch: Epoch { instance: 99, ..from.epoch }, ..from };
    for (configuration, from) in [(2, from), (1, strange)] {
        let message = Message { configuration: ConfigurationId(configuration), body: body.clone() };
        let before = c.status(to).ignored;
        c.step(to, Input::Message { from, message });
        assert_eq!(c.status(to).ignored, before + 1);
        assert_eq!(c.status(to).stable, Slot::NONE);
    }
}

#[test]
fn questions_and_pieces_that_cannot_be_are_refused_and_counted() {
    let mut c = Cluster::new(3, 10);
    c.checkpoint_slots = 10;
    let leader = ready(&mut c);
    order(&mut c, 25);
    c.run_for(500);
    let (to, from) = ((leader + 1) % 3, (leader + 2) % 3);
    let checkpoint = CheckpointId { slot: Slot(20), digest: 1 };
    let bodies = [
        Body::CatchUp(CatchUp { from: Slot(0), upto: Slot(5) }),
        Body::CatchUp(CatchUp { from: Slot(5), upto: Slot(4) }),
        Body::Chunk(Chunk { checkpoint, chunk: 0, total: 9, bytes: b"123456789"[..].into() }),
        Body::Report(Report { accepted_upto: Slot(1), decided_upto: Slot(2) }),
    ];
    for body in bodies {
        let before = c.status(to).ignored;
        c.hear(to, from, body.clone());
        assert_eq!(c.status(to).ignored, before + 1, "{body:?}");
    }
    // Slots that never were get an empty answer, a checkpoint that no quorum held a refusal.
    let refused = c.sent.get("chunk-refused").copied().unwrap_or(0);
    c.hear(to, from, Body::CatchUp(CatchUp { from: Slot(1 << 60), upto: Slot(u64::MAX) }));
    c.hear(to, from, Body::ChunkAsk(ChunkAsk { checkpoint, chunk: u32::MAX }));
    assert_eq!(c.sent["chunk-refused"], refused + 1);
    assert!(c.gave.is_empty(), "{:?} leaves the disk alone", ChunkRefusal::Unstable);
}

#[test]
fn a_replica_whose_checkpoint_is_gone_fetches_one_at_once() {
    let mut c = Cluster::new(3, 11);
    c.checkpoint_slots = 10;
    let leader = ready(&mut c);
    order(&mut c, 25);
    let lost = (leader + 1) % 3;
    c.run_until(2_000, |c| c.truncated(lost) == Slot(20));
    c.crash(lost);
    c.lose_checkpoints(lost);
    back(&mut c, lost);
    c.run_until(5_000, |c| caught_up(c, lost));
}

/// The only one left that knows what a quorum held gives it away all the same, though its log begins
/// far below.
#[test]
fn what_was_stable_is_known_after_a_restart() {
    let mut c = Cluster::new(3, 14);
    c.checkpoint_slots = 10;
    c.log_slots_min = 5;
    let leader = ready(&mut c);
    let (away, gone) = ((leader + 1) % 3, (leader + 2) % 3);
    c.crash(away);
    order(&mut c, 33);
    c.run_until(2_000, |c| c.truncated(leader) == Slot(25));
    c.crash(gone);
    c.crash(leader);
    back(&mut c, away);
    back(&mut c, leader);
    c.run_until(20_000, |c| c.status(away).applied >= Slot(30));
}

/// Two of three differ, and were started again since: the third one fetches the last state that they
/// agree upon, and then it shows who is wrong.
#[test]
fn two_that_differ_bring_up_a_third_that_decides() {
    let mut c = Cluster::new(3, 15);
    c.checkpoint_slots = 10;
    let leader = ready(&mut c);
    let (away, wrong) = ((leader + 1) % 3, (leader + 2) % 3);
    c.crash(away);
    order(&mut c, 22);
    c.run_until(2_000, |c| c.truncated(wrong) == Slot(20) && c.truncated(leader) == Slot(20));
    c.wrong = Some((wrong, Slot(25)));
    order(&mut c, 33);
    for index in [wrong, leader] {
        c.crash(index);
        back(&mut c, index);
    }
    c.run_until(10_000, |c| c.leader().is_some());
    back(&mut c, away);
    c.run_until(60_000, |c| (0..3).all(|index| caught_up(c, index)));
    assert_eq!(times(&c, |o| matches!(o, Observation::Diverged { .. })), 1);
}

/// A service that does not do the same everywhere: its replica is fetched the state again and again,
/// but in ever longer pauses, and says so.
#[test]
fn a_replica_that_diverges_again_says_so_and_does_not_loop_hot() {
    let mut c = Cluster::new(3, 12);
    c.checkpoint_slots = 10;
    let leader = ready(&mut c);
    let wrong = (leader + 1) % 3;
    for round in 0..3 {
        let slot = Slot(round * 10 + 5);
        c.wrong = Some((wrong, slot));
        order(&mut c, 10);
        c.run_until(60_000, |c| caught_up(c, wrong));
    }
    let diverged: Vec<u32> = c
        .observed
        .iter()
        .filter_map(|(_, o)| match o {
            Observation::Diverged { times, .. } => Some(*times),
            _ => None,
        })
        .collect();
    assert_eq!(diverged, [1, 2, 3]);
}

/// Nobody knows since when a state is wrong. It was found out at 40 that this one is; what it made of 30
/// nobody has confirmed, and must not serve when what was fetched instead rots.
#[test]
fn whoever_was_wrong_never_goes_back_to_what_no_quorum_confirmed() {
    let mut c = Cluster::new(3, 23);
    c.checkpoint_slots = 10;
    let leader = ready(&mut c);
    let (wrong, other) = ((leader + 1) % 3, (leader + 2) % 3);
    order(&mut c, 12);
    c.run_until(2_000, |c| (0..3).all(|index| c.truncated(index) == Slot(10)));
    let confirmed = c.held(wrong);
    c.wrong = Some((wrong, Slot(15)));
    c.lost = [leader, other].map(|from| (from, "checkpoint-is")).into();
    order(&mut c, 30);
    c.run_for(500);
    c.crash(wrong);
    c.lost.clear();
    order(&mut c, 10);
    c.run_until(5_000, |c| c.truncated(leader) == Slot(50));
    back(&mut c, wrong);
    c.run_until(20_000, |c| caught_up(c, wrong));
    assert_eq!(times(&c, |o| *o == Observation::Diverged { at: Slot(40), times: 1 }), 1);
    c.crash(wrong);
    let fetched = c.lose_newest_checkpoint(wrong).expect("it holds what it fetched");
    assert_eq!((fetched.slot, c.held(wrong)), (Slot(50), confirmed));
    back(&mut c, wrong);
    c.run_until(20_000, |c| caught_up(c, wrong));
}

/// A changed program, or a limit that is too low: the state of the others is whole, and no use. It is not
/// asked for again and again, and serves as soon as the service takes it.
#[test]
fn what_the_service_refuses_is_fetched_once() {
    let mut c = Cluster::new(3, 24);
    let (_, away) = one_is_away(&mut c, 3);
    c.refuses.insert(away);
    back(&mut c, away);
    c.run_for(8_000);
    assert_eq!(c.stored[&away], 10, "every piece once");
    assert!(
        (3..8).contains(&c.installs[&away]),
        "{} times in ever longer pauses",
        c.installs[&away]
    );
    c.refuses.clear();
    c.run_until(20_000, |c| caught_up(c, away));
    assert_eq!(c.stored[&away], 10, "nothing was fetched again");
}

/// Chai 2009, section 4.3: both mechanisms bring a replica up that missed messages.
#[test]
fn both_mechanisms_of_catch_up_fill_gaps() {
    let multicast = CatchUpPolicy::MULTICAST;
    for policy in [CatchUpPolicy::Query, multicast] {
        let mut c = Cluster::new(3, 13);
        c.settings.catch_up = policy;
        for index in 0..3 {
            c.start(index, true);
        }
        let leader = ready(&mut c);
        let lags = (leader + 1) % 3;
        c.cut.insert((leader, lags));
        order(&mut c, 20);
        c.cut.clear();
        c.run_until(5_000, |c| caught_up(c, lags));
        let reports = c.sent.get("report").copied().unwrap_or(0);
        assert_eq!(reports > 0, policy == multicast);
    }
}

/// Everything at once: crashes of donors and receivers, lost messages, small caps.
fn chaos(seed: u64, plant: Option<Plant>) {
    let mut c = Cluster::new(3 + 2 * (seed % 2) as u16, seed);
    let count = 3 + 2 * (seed % 2) as u16;
    c.checkpoint_slots = 5;
    c.checkpoint_bytes = (5 + seed % 20) << 10;
    c.log_slots_max = 4 + seed % 12;
    c.loss = seed % 5;
    c.plants = Planted(plant);
    c.settings.transfer_bytes_per_second = [None, Some(30 << 10)][(seed % 2) as usize];
    let multicast = CatchUpPolicy::Multicast { interval: Duration::from_millis(100) };
    c.settings.catch_up = [CatchUpPolicy::Query, multicast][(seed / 2 % 2) as usize];
    for index in 0..count {
        c.start(index, true);
    }
    let mut token = 0;
    for _ in 0..60 {
        let pick = c.prng.below(u64::from(count)) as u16;
        match c.prng.below(10) {
            0 if c.is_up(pick) => c.crash(pick),
            0..=2 if !c.is_up(pick) => back(&mut c, pick),
            // One that goes wrong is a minority; two would leave no quorum of equal digests.
            3 if (0..count).all(|index| c.is_up(index)) => {
                c.wrong = Some((seed as u16 % count, c.status_decided().next()));
            }
            _ => {
                for _ in 0..3 {
                    token += 1;
                    c.submit(pick, token, b"r");
                    c.run_for(15);
                }
            }
        }
        let ms = c.prng.below(120);
        c.run_for(ms);
    }
    c.wrong = None;
    c.loss = 0;
    for index in 0..count {
        if !c.is_up(index) {
            c.start(index, true);
        }
        c.tell_suspicion(index, false);
    }
    // Two more checkpoints: whoever is wrong finds out.
    c.run_until(60_000, |c| c.leader().is_some());
    for _ in 0..12 {
        token += 1;
        let leader = c.leader().unwrap_or(0);
        c.submit(leader, token, b"r");
        c.run_for(100);
    }
    c.run_until(400_000, |c| (0..count).all(|index| caught_up(c, index)));
}

#[test]
fn chaos_among_transfers_heals() {
    for seed in 0..200 {
        chaos(seed, None);
    }
}

/// A check counts only if it has been seen to fail.
#[test]
fn planted_bugs_are_found() {
    for plant in [
        Plant::UnstableCheckpointTransferred,
        Plant::DiscardedAboveOwnCheckpoint,
        Plant::DigestNotCompared,
    ] {
        let found = (0..60).find(|seed| {
            let seed = *seed;
            std::panic::catch_unwind(|| chaos(seed, Some(plant))).is_err()
        });
        println!("{}: seed {found:?}", plant.name());
        assert!(found.is_some(), "{} is not found", plant.name());
    }
}
