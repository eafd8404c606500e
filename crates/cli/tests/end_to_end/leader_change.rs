//! Leaders that are replaced under load, by death and by command; and those that are not.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::load::{Load, WRITERS};
use crate::world::cluster::{REPLICAS, signal};
use crate::world::raw::Raw;
use crate::world::{Cluster, Counters, Writers, pause, wait_until};

/// After this long a client is told that an outcome is unknown.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(10);

const POLICIES: [&str; 2] = ["trusted-rank", "rotation"];

/// etcd#14890, #18424: whoever writes while leaders change gets wrong outcomes.
#[test]
fn leaders_killed_under_load_lose_nothing_whatever_the_policy() {
    const ROUNDS: usize = 4;
    for policy in POLICIES {
        let cluster = Cluster::start(&["--leader-policy", policy]);
        let load = Load::start(&cluster);
        let mut led = Vec::new();
        for _ in 0..ROUNDS {
            let (leader, ..) = cluster.leader();
            led.push(leader);
            let before = cluster.kill(leader);
            load.goes_on();
            cluster.wait_until_back(leader, before);
        }
        load.finish(&cluster);
        println!("{policy}: {led:?} led");
        let others = led.windows(2).all(|pair| pair[0] != pair[1]);
        assert!(others, "who has died leads no longer: {led:?}");
        let round = cluster.status().ballot();
        if policy == POLICIES[1] {
            let leader = cluster.wait_until_whole();
            assert_eq!(round % REPLICAS as u64, leader as u64, "round {round} has its own leader");
        }
    }
}

/// What was handed over when its leader went is answered by the next one: nobody waits for a time-out.
#[test]
fn what_is_in_flight_when_the_leader_goes_is_told_as_soon_as_another_one_leads() {
    const ROUNDS: usize = 3;
    const COMMANDS: usize = 50;
    let cluster = Cluster::start(&[]);
    let mut counted = 0;
    for round in 0..ROUNDS {
        let (leader, before, followers) = cluster.leader();
        let mut writer = Raw::connect(cluster.clients_at(followers[0]));
        let mut reader = Raw::connect(cluster.clients_at(followers[1]));
        for _ in 0..COMMANDS {
            writer.command(&["INCR", "n"]);
            reader.command(&["GET", "n"]);
        }
        let sent = Instant::now();
        // Half of the time it goes silent, and keeps its connections, for so long that another one leads.
        if round % 2 == 0 {
            signal(before, Signal::KILL)
        } else {
            signal(before, Signal::STOP)
        }
        for _ in 0..COMMANDS {
            counted += 1;
            assert_eq!(writer.reply(), format!(":{counted}\r\n"));
            assert!(reader.reply().starts_with('$'), "answered");
        }
        println!("round {round}: told after {:?}", sent.elapsed());
        assert!(sent.elapsed() < OUTCOME_TIMEOUT / 2, "{:?}", sent.elapsed());
        if round % 2 == 0 {
            cluster.wait_until_back(leader, before);
        } else {
            signal(before, Signal::CONT);
        }
    }
}

/// A planned hand-over that costs clients errors.
#[test]
fn the_lead_moves_by_command_under_load_and_no_command_fails() {
    const ROUNDS: usize = 6;
    for policy in POLICIES {
        let cluster = Cluster::start(&["--leader-policy", policy]);
        let writers = Writers::start(&cluster, WRITERS);
        let counters = Counters::start(&cluster, WRITERS);
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            writers.wait_for_replies(20);
            counters.wait_for_replies(20);
            let (leader, _, others) = cluster.leader();
            let to = others[round % others.len()];
            let from = writers.now();
            let data = cluster.data();
            let moved = cluster.run(&[
                "leader",
                "move",
                &to.to_string(),
                "--data",
                &data.to_string_lossy(),
            ]);
            let told = String::from_utf8_lossy(&moved.stderr);
            assert!(moved.status.success(), "from {leader} to {to}: {told}");
            assert_eq!(String::from_utf8_lossy(&moved.stdout), format!("replica {to} leads\n"));
            assert_eq!(cluster.wait_until_whole(), to, "it leads, and goes on leading");
            writers.wait_for_replies(20);
            times.push((from, writers.now()));
        }
        let counted = counters.finish();
        let seen = writers.finish(&cluster);
        let mut gaps: Vec<_> =
            times.iter().map(|&(from, upto)| seen.longest_silence(from, upto)).collect();
        gaps.sort_unstable();
        let span = (times[0].0, times[ROUNDS - 1].1);
        println!(
            "{policy}: {}; {} counted; silences {gaps:?}; a writer waited {:?} at most",
            seen.describe(),
            counted.done(),
            seen.longest_gap(span.0, span.1)
        );
        assert!(seen.not_done.is_empty(), "refused: {:?}", seen.not_done);
        assert_eq!((seen.unknown, seen.broken), (0, 0), "outcomes not told, connections lost");
        // Without a hand-over it takes the followers an election time-out, 300 ms, to do something.
        assert!(gaps[ROUNDS / 2].as_millis() < 300, "{gaps:?}");
    }
}

/// Two operators who want different leaders at the same time, again and again.
#[test]
fn moves_at_odds_cost_no_client_a_command() {
    const MOVES: usize = 15;
    let cluster = Cluster::start(&[]);
    let writers = Writers::start(&cluster, WRITERS);
    let counters = Counters::start(&cluster, WRITERS);
    counters.wait_for_replies(20);
    let from = (writers.now(), counters.now());
    let outcomes: Vec<(usize, usize)> = std::thread::scope(|scope| {
        let operator = |first: usize| {
            let cluster = &cluster;
            scope.spawn(move || {
                let target = cluster.peers_at(first).to_string();
                let done = (0..MOVES).filter(|round| {
                    let to = ((first + round) % REPLICAS).to_string();
                    let moved = cluster.run(&["leader", "move", &to, "--target", &target]);
                    // It is refused while the other's is under way, or overtaken by it.
                    moved.status.success()
                });
                (done.count(), MOVES)
            })
        };
        let operators: Vec<_> = [0, 1].into_iter().map(operator).collect();
        operators.into_iter().map(|operator| operator.join().expect("no panic")).collect()
    });
    counters.wait_for_replies(20);
    writers.wait_for_replies(20);
    let upto = (writers.now(), counters.now());
    cluster.wait_until_whole();
    let counted = counters.finish();
    let seen = writers.finish(&cluster);
    let gap = counted.longest_gap(from.1, upto.1);
    println!(
        "moved, of all moves: {outcomes:?}; {}; {} counted, a client waited {gap:?} at most, a writer \
         {:?}",
        seen.describe(),
        counted.done(),
        seen.longest_gap(from.0, upto.0),
    );
    assert!(outcomes.iter().all(|(done, _)| *done > 0), "{outcomes:?}");
    assert!(seen.not_done.is_empty(), "refused: {:?}", seen.not_done);
    assert_eq!((seen.unknown, seen.broken), (0, 0), "outcomes not told, connections lost");
}

#[test]
fn a_move_that_cannot_be_says_why_and_changes_nothing() {
    let cluster = Cluster::start(&[]);
    let (leader, _, others) = cluster.leader();
    let ballot = cluster.status().ballot();
    let move_to = |index: usize| {
        let data = cluster.data();
        let (index, data) = (index.to_string(), data.to_string_lossy());
        cluster.run(&["leader", "move", &index, "--data", &data])
    };
    let beyond = move_to(REPLICAS);
    assert_eq!(beyond.status.code(), Some(2));
    let told = String::from_utf8_lossy(&beyond.stderr).into_owned();
    assert!(told.contains("there is no replica 3: the group has 3, 0 to 2"), "{told}");
    // A halted process is nobody to move to, and the group says so in bounded time.
    let pid = cluster.pid(others[0]);
    signal(pid, Signal::STOP);
    pause(Duration::from_secs(1));
    let halted = move_to(others[0]);
    signal(pid, Signal::CONT);
    let told = String::from_utf8_lossy(&halted.stderr).into_owned();
    assert_eq!(halted.status.code(), Some(1), "{told}");
    assert!(told.contains("does not hear replica") && told.contains("name another"), "{told}");
    assert_eq!(cluster.wait_until_whole(), leader);
    assert!(move_to(leader).status.success(), "it leads already");
    assert_eq!(cluster.status().ballot(), ballot);
}

/// corosync#600, #701: a machine that was paused wakes up and evicts the others.
#[test]
fn a_follower_that_was_halted_accuses_nobody() {
    let cluster = Cluster::start(&[]);
    let load = Load::start(&cluster);
    let (leader, _, followers) = cluster.leader();
    let ballot = cluster.status().ballot();
    for round in 0..4 {
        let pid = cluster.pid(followers[round % followers.len()]);
        signal(pid, Signal::STOP);
        pause(Duration::from_millis(1500));
        signal(pid, Signal::CONT);
        load.goes_on();
    }
    assert_eq!((cluster.wait_until_whole(), cluster.status().ballot()), (leader, ballot));
    load.finish(&cluster);
}

/// A machine that is suspended with all its processes goes on with the leader that it had.
#[test]
fn all_halted_at_once_go_on_with_the_same_leader() {
    let cluster = Cluster::start(&[]);
    let (leader, ..) = cluster.leader();
    let ballot = cluster.status().ballot();
    let pids: Vec<_> = (0..REPLICAS).map(|index| cluster.pid(index)).collect();
    for _ in 0..3 {
        pids.iter().for_each(|&pid| signal(pid, Signal::STOP));
        pause(Duration::from_secs(2));
        pids.iter().for_each(|&pid| signal(pid, Signal::CONT));
        for index in 0..REPLICAS {
            wait_until("a write is acknowledged", || {
                let mut client = Raw::connect(cluster.clients_at(index));
                client.command(&["SET", "awake", "yes"]);
                client.reply() == "+OK\r\n"
            });
        }
    }
    assert_eq!((cluster.wait_until_whole(), cluster.status().ballot()), (leader, ballot));
}
