//! Expiry and leader changes among real processes whose calendar clocks disagree, and jump.
//!
//! This binary is its own program: called with a command of `mainstay`, it is that program, by a
//! calendar clock that is wrong by as many milliseconds as the file beside the replica's configuration
//! says at that moment; called by `cargo test`, it runs the tests below. So nothing in the shipped
//! program can move a clock.

#[path = "../world/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the end-to-end tests use the rest")]
mod world;

mod group;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use group::{Group, MINUTE_MS, MS_PER_S};
use mainstay_kv::{RedisFront, Store};
use mainstay_model::Timestamp;
use mainstay_node::WallClock;
use world::own_program::{Test, run_tests};

const TESTS: &[Test] = &[
    ("a_key_goes_when_it_is_due_whatever_the_leaders_clock_shows", due_under_a_wrong_leader),
    ("leaders_whose_clocks_disagree_never_turn_time_back", leaders_that_disagree),
    ("a_clock_that_jumps_by_hours_moves_no_expiry", one_clock_jumps),
    ("when_all_clocks_jump_by_hours_time_waits_for_the_operator", all_clocks_jump),
    ("time_passes_for_who_asks_though_nobody_writes", time_passes),
    ("a_clock_that_is_a_day_off_is_told", a_clock_is_off),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some("replica" | "init" | "status" | "clock") = arguments.first().map(String::as_str) {
        return mainstay_cli::run_by::<Store, RedisFront>(wrong_clock(&arguments));
    }
    run_tests(TESTS)
}

/// The system's clock, wrong by what the file says; right where there is none.
fn wrong_clock(arguments: &[String]) -> WallClock {
    let config = arguments.iter().skip_while(|word| *word != "--config").nth(1);
    let file = config.map(|config| offset_file(Path::new(config)));
    WallClock::new(move || {
        let told = file.as_ref().and_then(|file| fs::read_to_string(file).ok());
        let offset_ms = told.and_then(|text| text.trim().parse::<i64>().ok()).unwrap_or(0);
        let right = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let shown = right.as_nanos() as i128 + i128::from(offset_ms) * 1_000_000;
        Timestamp(u64::try_from(shown).unwrap_or(0))
    })
}

/// Where it stands by how much the clock of the replica with this configuration is wrong.
fn offset_file(config: &Path) -> PathBuf {
    config.with_extension("clock-offset-ms")
}

/// The leader's clock jumps by ten minutes, forward or back, before the key is set: it has at most a
/// tenth of an influence on how fast time passes, and so has the right moment.
fn due_under_a_wrong_leader() {
    for offset_ms in [10 * MINUTE_MS, -10 * MINUTE_MS] {
        let group = Group::start([0; 3]);
        let leader = group.leader();
        group.set_offset(leader, offset_ms);
        // The leader has read its clock anew before it orders this.
        group.count(leader);
        let mut watch = group.set_with_px(leader, "k", 2 * MS_PER_S);
        // Every read is checked: not gone before it is due, not there after.
        world::wait_until("the key goes", || watch.read_everywhere(&group));
        watch.must_have_lasted(Duration::from_secs(2));
    }
}

/// Clocks that are wrong by minutes, each of them leading in its turn.
fn leaders_that_disagree() {
    let mut group = Group::start([2 * MINUTE_MS, 0, -2 * MINUTE_MS]);
    let leader = group.leader();
    let mut watch = group.set_with_px(leader, "k", 60 * MINUTE_MS);
    for _ in 0..6 {
        let leader = group.leader();
        group.kill(leader);
        let next = group.leader();
        assert_ne!(next, leader);
        // Time passes with what is ordered.
        group.count(next);
        assert!(!watch.read_everywhere(&group), "an hour has not passed");
        group.restart(leader);
    }
    // One clock of three is ahead: the group's time never is, but for the second that each of the six
    // takeovers may have started above the last entry.
    let latest = group::now_ms() + 6 * MS_PER_S;
    assert!(group.latest_time_ms() <= latest, "the clock that is ahead has won");
}

/// One clock at a time jumps by five hours, forward and back, at the leader and elsewhere, and offices
/// change meanwhile: the lower median of the quorum's clocks is not the one that jumped.
fn one_clock_jumps() {
    let mut group = Group::start([0; 3]);
    let mut watch = group.set_with_px(group.leader(), "k", 5 * MINUTE_MS);
    for (round, hours) in (1..).zip([5, -5, 5]) {
        let leader = group.leader();
        let jumps = if round == 2 { (leader + 1) % 3 } else { leader };
        group.set_offset(jumps, hours * 60 * MINUTE_MS);
        group.count(leader);
        assert!(!watch.read_everywhere(&group), "five minutes have not passed");
        // Somebody else takes over; the one that jumped is part of its quorum or not.
        group.kill(leader);
        let next = group.leader();
        group.count(next);
        assert!(!watch.read_everywhere(&group), "five minutes have not passed");
        group.restart(leader);
        group.set_offset(jumps, 0);
        watch.must_have_at_least_left(round);
    }
}

/// After one write nobody writes any more, and every replica is asked what is left of the key: less and
/// less, over a change of leaders, too.
fn time_passes() {
    let mut group = Group::start([0; 3]);
    let leader = group.leader();
    let watch = group.set_with_px(leader, "k", 60 * MS_PER_S);
    let mut left = 60 * MS_PER_S;
    let mut asked = 0;
    world::wait_until("two seconds pass for who asks", || {
        asked += 1;
        left = watch.left_at(&group, asked % 3, left);
        left <= 58 * MS_PER_S
    });
    group.kill(leader);
    let next = group.leader();
    world::wait_until("two more seconds pass", || {
        asked += 1;
        let index = if asked % 2 == 0 { next } else { 3 - leader - next };
        left = watch.left_at(&group, index, left);
        left <= 56 * MS_PER_S
    });
}

/// Nothing comes of it, and whoever leads says so.
fn a_clock_is_off() {
    let group = Group::start([0; 3]);
    let wrong = (group.leader() + 1) % 3;
    assert!(!group.warnings().contains("the clock of replica"), "all are right");
    group.set_offset(wrong, 24 * 60 * MINUTE_MS);
    let warning = format!("the clock of replica {wrong} is 86400 s ahead");
    world::wait_until("a clock a day off is told", || {
        let warnings = group.warnings();
        // To within a second: two clocks are not read at one moment.
        warnings.contains(&warning) || warnings.contains(&warning.replace("86400", "86399"))
    });
}

/// All clocks jump by five hours, as after a long outage: the next leader makes no such jump by itself, says
/// so, and makes it once an operator has confirmed it.
fn all_clocks_jump() {
    let mut group = Group::start([0; 3]);
    let leader = group.leader();
    let mut watch = group.set_with_px(leader, "k", 180 * MINUTE_MS);
    (0..3).for_each(|index| group.set_offset(index, 300 * MINUTE_MS));
    group.kill(leader);
    let next = group.leader();
    group.count(next);
    assert!(!watch.read_everywhere(&group), "three hours have not passed");
    let warnings = group.warnings();
    assert!(warnings.contains("mainstay clock confirm"), "{warnings}");
    group.confirm_jump();
    assert!(!group.warnings().contains("mainstay clock confirm"), "it was confirmed");
    group.count(next);
    assert!(watch.read_everywhere(&group), "the clocks say that five hours have passed");
    group.restart(leader);
    assert!(watch.read_everywhere(&group), "it does not come back");
}
