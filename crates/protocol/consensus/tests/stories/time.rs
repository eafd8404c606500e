//! What a takeover makes of decided time, and what reads show of it. The bound on jumps is ten seconds
//! here: a minute is what hours are to a group that is set up as usual.

use std::time::Duration;

use mainstay_consensus::{Input, Refusal, Settings};
use mainstay_model::{Slot, Timestamp, Token};

use crate::cluster::{Cluster, MS};
use crate::ready;

const SECOND: u64 = 1_000 * MS;

fn bounded(seed: u64) -> Cluster {
    let clock_jump_max = Duration::from_secs(10);
    Cluster::with(3, seed, Settings { clock_jump_max, chunk_bytes: 1 << 10, ..Settings::default() })
}

/// Orders a request at the leader and returns the time that it carries.
fn order(c: &mut Cluster, token: u64) -> Timestamp {
    let before = c.decided_requests().len();
    let leader = c.leader().expect("somebody leads");
    c.submit(leader, token, b"r");
    c.run_until(2_000, |c| c.decided_requests().len() > before);
    c.decided.last_key_value().expect("just decided").1.time()
}

/// What a read at that replica shows of time.
fn shown(c: &mut Cluster, index: u16, token: u64) -> Timestamp {
    c.read(index, token);
    c.run_until(2_000, |c| c.shown.contains_key(&Token(token)));
    c.shown[&Token(token)]
}

fn is_near(c: &Cluster, time: Timestamp) -> bool {
    time.0.abs_diff(c.now) < 2 * SECOND
}

/// The next leader knows how long nothing was ordered: that is no jump.
#[test]
fn a_leader_that_dies_after_an_idle_minute_leaves_no_lag() {
    let mut c = bounded(1);
    let leader = ready(&mut c);
    order(&mut c, 1);
    let written = c.decided.len();
    c.run_for(60_000);
    assert_eq!(c.decided.len(), written, "an idle group writes nothing");
    c.crash(leader);
    c.run_until(2_000, |c| c.leader().is_some_and(|next| next != leader));
    let time = order(&mut c, 2);
    assert!(is_near(&c, time), "{time:?} at {}", c.now);
    let next = c.leader().expect("it leads");
    assert_eq!(c.status(next).clock_jump_refused, None);
}

/// It was cut off, has forgotten everything but its log, and stands first.
#[test]
fn a_candidate_that_lags_takes_its_time_from_what_it_learns() {
    let mut c = bounded(2);
    let leader = ready(&mut c);
    order(&mut c, 1);
    let (late, other) = ((leader + 2) % 3, (leader + 1) % 3);
    c.cut_off(late);
    for token in 2..62 {
        c.run_for(1_000);
        order(&mut c, token);
    }
    c.start(late, true);
    c.crash(leader);
    c.cut.clear();
    let last = c.decided.values().map(mainstay_model::Value::time).max().expect("some");
    c.run_until(5_000, |c| c.leader().is_some_and(|next| next != leader));
    if c.leader() != Some(late) {
        let asked = Input::LeaderMove { to: late };
        c.step(other, asked);
        c.run_until(5_000, |c| c.leader() == Some(late));
    }
    let time = order(&mut c, 100);
    assert!(time >= last, "its batches carry no time below decided time");
    assert!(is_near(&c, time), "{time:?} at {}", c.now);
}

/// The checkpoint covers the whole log, and all clocks come back far ahead: the operator decides.
#[test]
fn a_start_from_a_checkpoint_knows_decided_time() {
    let mut c = bounded(3);
    c.checkpoint_slots = 1;
    ready(&mut c);
    let last = order(&mut c, 1);
    let tip = c.status_decided();
    c.run_until(2_000, |c| (0..3).all(|i| c.status(i).stable == tip));
    (0..3).for_each(|index| c.crash(index));
    c.ahead = vec![31_536_000 * SECOND; 3];
    for index in 0..3 {
        c.start(index, true);
        c.tell_suspicion(index, false);
    }
    c.run_until(5_000, |c| c.leader().is_some());
    let time = order(&mut c, 2);
    assert!(time.0 < last.0 + 10 * SECOND, "{time:?} after {last:?}");
    let leader = c.leader().expect("it leads");
    let refused = c.status(leader).clock_jump_refused.expect("a year is no small jump");
    assert!(refused > Duration::from_secs(31_000_000), "{refused:?}");
    c.step(leader, Input::ConfirmClockJump);
    c.run_for(100);
    assert!(order(&mut c, 3).0 > 31_536_000 * SECOND, "it was confirmed");
}

/// What is confirmed before the jump was judged was nothing yet.
#[test]
fn nothing_is_to_confirm_where_no_jump_was_refused() {
    let mut c = bounded(4);
    let leader = ready(&mut c);
    order(&mut c, 1);
    c.step(leader, Input::ConfirmClockJump);
    c.run_for(100);
    let outcomes: Vec<_> = c.instructed.iter().map(|(_, outcome)| *outcome).collect();
    assert_eq!(outcomes, [Err(Refusal::NothingToConfirm)]);
}

/// Time passes for who asks, and an empty batch a second is all that it costs.
#[test]
fn reads_in_an_idle_group_show_time_as_it_passes() {
    let mut c = bounded(5);
    let leader = ready(&mut c);
    let set = order(&mut c, 1);
    let written = c.decided.len() as u64;
    let mut last = set;
    for token in 0..50 {
        c.run_for(100);
        let time = shown(&mut c, (leader + 1) % 3, 100 + token);
        assert!(time >= last, "time that is shown went back");
        assert!(c.now - time.0 < 200 * MS, "read {token} at {} shows {time:?}", c.now);
        let ceiling = c.decided.values().map(mainstay_model::Value::time).max().expect("some");
        assert!(time.0 <= ceiling.0 + SECOND, "beyond what a decided entry allows");
        last = time;
    }
    // One may have been under way for the last of them.
    c.run_for(100);
    let ticks = c.decided.len() as u64 - written;
    assert!((4..=12).contains(&ticks), "{ticks} ticks in five seconds");
    c.run_for(10_000);
    assert_eq!(c.decided.len() as u64, written + ticks, "nobody asks");
}

/// All forget the leader's clock, and every calendar is behind: only the log tells what was shown.
#[test]
fn what_was_shown_binds_the_next_leader_though_all_forget() {
    for seed in 10..30 {
        let mut c = bounded(seed);
        c.ahead = vec![60 * SECOND; 3];
        let leader = ready(&mut c);
        order(&mut c, 1);
        let wait = 100 + c.prng.below(3_000);
        c.run_for(wait);
        let before = shown(&mut c, leader, 7);
        (0..3).for_each(|index| c.crash(index));
        c.ahead = vec![0; 3];
        for index in 0..3 {
            c.start(index, true);
            c.tell_suspicion(index, false);
        }
        c.run_until(5_000, |c| c.leader().is_some());
        let next = c.leader().expect("somebody leads");
        let after = shown(&mut c, next, 8);
        assert!(after >= before, "seed {seed}: {after:?} after {before:?}");
    }
}

/// What is due between the slot's time and the clock goes first.
#[test]
fn a_read_past_a_due_moment_is_told_the_slot_of_the_tick_once_that_is_decided() {
    let mut c = bounded(6);
    let leader = ready(&mut c);
    c.wake = Some(Timestamp(c.now + 500 * MS));
    order(&mut c, 1);
    c.run_for(100);
    let early = shown(&mut c, leader, 7);
    let wake = c.wake.expect("set above");
    assert!(early < wake);
    c.lost.insert((leader, "accept"));
    c.run_for(600);
    c.read(leader, 8);
    c.run_for(50);
    assert!(!c.reads.contains_key(&Token(8)), "its tick is not decided");
    c.lost.clear();
    c.run_until(2_000, |c| c.reads.contains_key(&Token(8)));
    let slot: Slot = c.reads[&Token(8)];
    assert!(c.decided[&slot].time() >= wake);
}

/// Whoever leads tells whose clock is off; nobody else hears of them.
#[test]
fn a_leader_tells_whose_clock_is_off() {
    let mut c = Cluster::new(3, 7);
    let leader = ready(&mut c);
    c.run_for(500);
    assert_eq!(c.clocks_off(leader), []);
    let wrong = (leader + 1) % 3;
    c.ahead[usize::from(wrong)] = 86_400 * SECOND;
    c.run_for(500);
    let off = c.clocks_off(leader);
    assert_eq!(off.len(), 1, "{off:?}");
    assert_eq!((off[0].replica, off[0].ahead), (wrong, true));
    assert!(off[0].by.abs_diff(Duration::from_secs(86_400)) < Duration::from_secs(1));
    assert_eq!(c.clocks_off(wrong), []);
}
