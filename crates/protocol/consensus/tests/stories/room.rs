//! Disks that have no room: who goes on, what is executed and not kept, and what is promised.

use mainstay_consensus::{Input, Observation, Rejection};
use mainstay_model::{Slot, Timestamp, Token};

use crate::cluster::{Cluster, MS};
use crate::ready;
use crate::transfer::caught_up;

fn room(c: &mut Cluster, index: u16, entries: bool) {
    if entries {
        c.roomless.remove(&index);
    } else {
        c.roomless.insert(index);
    }
    c.step(index, Input::Room { entries });
}

/// The two that do not lead.
fn followers(leader: u16) -> [u16; 2] {
    [(leader + 1) % 3, (leader + 2) % 3]
}

/// Ten requests through each of three replicas.
fn work(c: &mut Cluster) {
    let before = c.decided_requests().len();
    c.work(30, 5);
    c.run_until(500, |c| c.decided_requests().len() == before + 30);
}

/// A follower that had everything has no room from now on.
fn fill_a_follower(c: &mut Cluster) -> u16 {
    let leader = ready(c);
    let [full, _] = followers(leader);
    c.run_until(100, |c| caught_up(c, full));
    room(c, full, false);
    full
}

#[test]
fn a_follower_without_room_executes_what_the_others_decide() {
    let mut c = Cluster::new(3, 41);
    let full = fill_a_follower(&mut c);
    let kept = c.status(full).decided;
    work(&mut c);
    let decided = c.status_decided();
    c.run_until(100, |c| c.status(full).applied == decided);
    assert_eq!(c.status(full).decided, kept, "nothing of it stands in its log");
    // A write through it, and a read of it, take no longer than elsewhere.
    c.submit(full, 1, b"at the full one");
    c.run_until(50, |c| c.status(full).applied > decided);
    c.read(full, 2);
    c.run_until(50, |c| c.reads.contains_key(&Token(2)));
    assert_eq!(c.reads[&Token(2)], c.status(full).applied);
    assert!(c.rejected.is_empty());

    room(&mut c, full, true);
    let decided = c.status_decided();
    c.run_until(200, |c| c.status(full).decided == decided);
    assert!(caught_up(&c, full));
}

/// Its log takes nothing, so none of its own checkpoints counts; what lies below a checkpoint of the others
/// need not be kept.
#[test]
fn a_replica_without_room_fetches_the_checkpoint_that_frees_its_log() {
    let mut c = Cluster::new(3, 46);
    c.checkpoint_slots = 10;
    // The others can give all that it lacks.
    c.log_slots_min = 1_000;
    let full = fill_a_follower(&mut c);
    let kept = c.status(full).decided;
    work(&mut c);
    let decided = c.status_decided();
    assert!(decided.0 > kept.0 + 20);
    c.run_until(5_000, |c| c.truncated(full).0 >= kept.0 + 10);
    // Meanwhile and afterwards it executes what the others decide.
    work(&mut c);
    let decided = c.status_decided();
    c.run_until(5_000, |c| c.status(full).applied == decided);
    room(&mut c, full, true);
    c.run_until(500, |c| caught_up(c, full));
}

/// What was begun for want of room alone ends with it: the logs of the others are enough.
#[test]
fn a_fetch_for_room_ends_when_there_is_room() {
    let mut c = Cluster::new(3, 47);
    (c.checkpoint_slots, c.log_slots_min) = (10, 1_000);
    let full = fill_a_follower(&mut c);
    c.lost.extend((0..3).map(|index| (index, "chunk")));
    work(&mut c);
    let fetches = |c: &Cluster| {
        c.observed
            .iter()
            .any(|(who, seen)| *who == full && matches!(seen, Observation::Transfer { .. }))
    };
    c.run_until(5_000, fetches);
    room(&mut c, full, true);
    c.run_until(500, |c| caught_up(c, full));
    assert_eq!(c.status(full).transfer, None);
}

#[test]
fn what_was_executed_and_not_kept_is_fetched_again_after_a_crash() {
    for roomy in [false, true] {
        let mut c = Cluster::new(3, 42);
        let leader = ready(&mut c);
        let [full, _] = followers(leader);
        room(&mut c, full, false);
        work(&mut c);
        let decided = c.status_decided();
        c.run_until(100, |c| c.status(full).applied == decided);
        // Promises and no-ops are written meanwhile: they must not claim what is not there.
        c.step(leader, Input::Retire);
        c.run_until(1_000, |c| c.leader().is_some_and(|next| next != leader));
        c.run_for(200);
        c.crash(full);
        c.start(full, true);
        c.tell_suspicion(full, false);
        room(&mut c, full, roomy);
        let decided = c.status_decided();
        c.run_until(1_000, |c| c.status(full).applied >= decided);
        c.run_for(200);
        assert_eq!(c.status(full).decided >= decided, roomy, "whether it stands in its log");
    }
}

#[test]
fn a_group_whose_last_roomy_follower_dies_finds_everything_with_the_one_that_was_full() {
    let mut c = Cluster::new(3, 43);
    let leader = ready(&mut c);
    let [full, other] = followers(leader);
    room(&mut c, full, false);
    work(&mut c);
    let decided = c.status_decided();
    c.run_until(100, |c| c.status(full).applied == decided);
    c.crash(leader);
    c.run_until(2_000, |c| c.leader() == Some(other) && !c.status(other).room);
    c.submit(other, 1, b"only one of two could keep this");
    assert_eq!(c.rejected.pop(), Some((Token(1), Rejection::NoRoom)));
    c.read(full, 2);
    c.run_until(2_000, |c| c.reads.contains_key(&Token(2)));
    room(&mut c, full, true);
    c.run_until(1_000, |c| c.status(other).room);
    c.submit(other, 3, b"both keep this");
    c.run_until(1_000, |c| c.decided_requests().len() == 31 && caught_up(c, full));
}

/// What is under way finds no room: nothing stands behind it, and nobody has voted for it.
#[test]
fn what_finds_no_room_keeps_nothing_else_from_being_written() {
    let mut c = Cluster::new(3, 44);
    let leader = ready(&mut c);
    let [one, two] = followers(leader);
    c.roomless.extend([one, two]);
    c.submit(leader, 1, b"under way");
    c.run_for(50);
    assert!(c.decided_requests().is_empty(), "two of three could not keep it");
    for index in [one, two] {
        c.step(index, Input::Room { entries: false });
    }
    // An election, with the two whose disks refused something.
    c.crash(leader);
    c.run_until(2_000, |c| c.leader().is_some_and(|next| next != leader));
    c.read(one, 2);
    c.run_until(1_000, |c| c.reads.contains_key(&Token(2)));
    assert!(c.decided_requests().is_empty());
    c.start(leader, true);
    c.tell_suspicion(leader, false);
    room(&mut c, one, true);
    room(&mut c, two, true);
    c.run_until(2_000, |c| (0..3).all(|index| caught_up(c, index)));
}

#[test]
fn a_leader_that_has_no_room_for_what_it_proposed_makes_way_and_nothing_is_lost() {
    let mut c = Cluster::new(3, 45);
    let leader = ready(&mut c);
    c.roomless.insert(leader);
    // The others keep it and it is decided, while the leader's own log has no room for it.
    c.work(6, 1);
    c.run_until(1_000, |c| c.leader().is_some_and(|next| next != leader));
    c.step(leader, Input::Room { entries: false });
    c.run_for(300);
    let requests = c.decided_requests().len();
    assert!(requests > 0, "they were decided by the others");
    let decided = c.status_decided();
    c.run_until(500, |c| c.status(leader).applied == decided);
    c.crash(leader);
    c.start(leader, true);
    c.tell_suspicion(leader, false);
    c.run_until(2_000, |c| caught_up(c, leader));
    assert_eq!(c.decided_requests().len(), requests);
}

#[test]
fn when_there_is_room_again_nothing_waits_out_what_was_waited_before() {
    for seconds in [1, 2, 3, 5, 8] {
        let mut c = Cluster::new(3, 46);
        let leader = ready(&mut c);
        let others = followers(leader);
        c.roomless.extend(others);
        // Proposed before it is known that there is no room.
        c.submit(leader, 1, b"waits");
        for other in others {
            c.step(other, Input::Room { entries: false });
        }
        c.run_for(seconds * 1_000);
        assert!(c.decided_requests().is_empty());
        assert_eq!(c.leader(), Some(leader), "nobody could do better");
        let at = c.now;
        room(&mut c, others[0], true);
        c.run_until(2_000, |c| c.decided_requests().len() == 1);
        let took = (c.now - at) / MS;
        assert!(took < 300, "{took} ms after there was room, having had none for {seconds} s");
    }
}

#[test]
fn a_checkpoint_that_found_no_room_is_fetched_at_once_when_there_is_some() {
    let mut c = Cluster::new(3, 47);
    c.checkpoint_slots = 5;
    c.log_slots_max = 2;
    let leader = ready(&mut c);
    let [away, _] = followers(leader);
    c.crash(away);
    let others = [leader, followers(leader)[1]];
    for token in 0..40 {
        c.submit(others[token as usize % 2], 100 + token, b"unseen");
        c.run_for(5);
    }
    c.run_until(2_000, |c| others.iter().all(|index| c.truncated(*index) > Slot(30)));
    c.full.insert(away);
    c.start(away, true);
    c.tell_suspicion(away, false);
    c.step(away, Input::Room { entries: false });
    c.run_for(20_000);
    c.full.clear();
    c.step(away, Input::Room { entries: true });
    c.run_until(700, |c| caught_up(c, away));
}

/// How often a checkpoint was asked for.
fn asked(c: &Cluster) -> usize {
    c.decided.values().filter(|value| value.makes_checkpoint_due()).count()
}

/// The logs are full of what counts towards no checkpoint: nothing else would ever free them.
#[test]
fn a_leader_whose_group_has_no_room_asks_for_a_checkpoint_of_what_is_decided() {
    let mut c = Cluster::new(3, 48);
    ready(&mut c);
    work(&mut c);
    let decided = c.status_decided();
    (0..3).for_each(|index| room(&mut c, index, false));
    c.run_until(2_000, |c| (0..3).all(|index| c.truncated(index) > decided));
    assert_eq!(asked(&c), 1);
    c.run_for(2_000);
    assert_eq!(asked(&c), 1, "nothing else is decided that it could free");
    (0..3).for_each(|index| room(&mut c, index, true));
    c.run_until(500, |c| (0..3).all(|index| c.status(index).room));
    work(&mut c);
    assert_eq!(asked(&c), 1);
}

/// Where something else fills the disks, the reserve is for more than that.
#[test]
fn checkpoints_that_free_nothing_are_not_asked_for_without_end() {
    let mut c = Cluster::new(3, 49);
    ready(&mut c);
    work(&mut c);
    (0..3).for_each(|index| room(&mut c, index, false));
    c.run_until(2_000, |c| asked(c) == 1);
    let leader = c.leader();
    for _ in 0..30 {
        // A tick is decided, which another checkpoint covers.
        c.wake = Some(Timestamp(c.now + 100 * MS));
        (0..3).for_each(|index| {
            c.step(
                index,
                Input::Applied { upto: c.status(index).applied, time: Timestamp(0), wake: c.wake },
            )
        });
        c.run_for(500);
    }
    assert_eq!((c.leader(), asked(&c)), (leader, 8));
}

#[test]
fn none_is_asked_for_while_one_is_on_its_way() {
    let mut c = Cluster::new(3, 50);
    ready(&mut c);
    work(&mut c);
    // The disks have no room for checkpoints, either.
    c.stopped.extend(0..3);
    (0..3).for_each(|index| room(&mut c, index, false));
    c.run_for(5_000);
    assert_eq!(asked(&c), 1);
}
