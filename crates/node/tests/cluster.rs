//! Real clusters on loopback: requests through every replica, pipelines, restarts, hand-over,
//! failures of quorum, disk and service.

mod harness;

use std::thread;
use std::time::{Duration, Instant};

use harness::{Cluster, PATIENCE, Place};
use mainstay_node::{NodeError, RoleName, StateName};
use mainstay_storage::MemoryDisk;

#[test]
fn any_replica_takes_any_command() {
    let cluster = Cluster::start();
    let mut clients: Vec<_> = (0..3).map(|index| cluster.client(index)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.call(&format!("set r{index} {index}")), "+ok");
    }
    for client in &mut clients {
        for index in 0..3 {
            assert_eq!(client.call(&format!("get r{index}")), format!("+{index}"));
        }
    }
    let leader = cluster.leader();
    for index in 0..3 {
        let status = cluster.until(index, |s| s.replica.state == StateName::Active);
        assert_eq!(status.leader, Some(leader as u16));
        assert_eq!(status.replica.role == RoleName::Leader, index == leader);
        assert_eq!(status.cluster.len(), 32);
        assert!(status.replica.applied > 0 && status.replica.log_bytes > 0);
        assert_eq!(status.configuration.unwrap().members.len(), 3);
    }
}

#[test]
fn a_pipeline_is_carried_out_and_answered_in_order() {
    let cluster = Cluster::start();
    for index in 0..3 {
        let mut client = cluster.client(index);
        client.send(&format!("get p{index}\nset p{index} 1\nping\nget p{index}\n"));
        client.send(&format!("set p{index} 2\nset p{index} 3\nget p{index}\nquit\n"));
        let answers: Vec<_> = (0..8).map(|_| client.line()).collect();
        assert_eq!(answers, ["+nil", "+ok", "+pong", "+1", "+ok", "+ok", "+3", "+bye"]);
        assert!(client.is_closed());
    }
}

#[test]
fn a_client_that_has_said_all_still_gets_its_answers() {
    let cluster = Cluster::start();
    let mut client = cluster.client(0);
    client.send("set a 1\nget a\n");
    client.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!((client.line(), client.line()), ("+ok".into(), "+1".into()));
    assert!(client.is_closed());
}

#[test]
fn concurrent_writers_each_count_once() {
    let cluster = Cluster::start();
    let writers: Vec<_> = (0..12)
        .map(|n| {
            let mut client = cluster.client(n % 3);
            thread::spawn(move || {
                for _ in 0..50 {
                    client.send("add n\nadd n\n");
                    assert!(client.line().starts_with('+') && client.line().starts_with('+'));
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(cluster.client(2).call("get n"), "+1200");
}

#[test]
fn large_values_pass() {
    let cluster = Cluster::start();
    let value = "x".repeat(5 << 20);
    let mut client = cluster.client(1);
    assert_eq!(client.call(&format!("set big {value}")), "+ok");
    assert_eq!(cluster.client(0).call("get big").len(), value.len() + 1);
    client.send(&"get big\n".repeat(40));
    for _ in 0..40 {
        assert_eq!(client.line().len(), value.len() + 1);
    }
}

#[test]
fn the_leader_hands_over_when_it_is_stopped_and_catches_up_when_it_is_back() {
    let mut cluster = Cluster::start();
    let leader = cluster.leader();
    let other = (leader + 1) % 3;
    let mut client = cluster.client(other);
    assert_eq!(client.call("set a 1"), "+ok");

    let started = Instant::now();
    let report = cluster.stop(leader).expect("a clean end");
    assert!(report.flushed, "{report:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(client.call("set a 2"), "+ok");
    assert_ne!(cluster.leader(), leader);

    cluster.run(leader);
    cluster.until(leader, |s| s.replica.state == StateName::Active);
    assert_eq!(cluster.client(leader).call("get a"), "+2");
}

#[test]
fn writes_go_on_while_each_replica_in_turn_is_restarted() {
    let mut cluster = Cluster::start();
    let mut count = 0;
    for index in 0..3 {
        let mut client = cluster.client((index + 1) % 3);
        cluster.stop(index).expect("a clean end");
        for _ in 0..20 {
            count += 1;
            assert_eq!(client.call("add n"), format!("+{count}"));
        }
        cluster.run(index);
        cluster.until(index, |s| s.replica.state == StateName::Active);
        assert_eq!(cluster.client(index).call("get n"), format!("+{count}"));
    }
}

#[test]
fn what_was_acknowledged_survives_the_end_of_all() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client(0);
    for n in 0..100 {
        assert_eq!(client.call(&format!("set k{n} {n}")), "+ok");
    }
    for index in 0..3 {
        cluster.stop(index).expect("a clean end");
    }
    for index in 0..3 {
        cluster.run(index);
    }
    for index in 0..3 {
        let mut client = cluster.client(index);
        cluster.until(index, |s| s.replica.state == StateName::Active);
        for n in 0..100 {
            assert_eq!(client.call(&format!("get k{n}")), format!("+{n}"));
        }
    }
}

#[test]
fn a_replica_that_loads_its_state_says_so() {
    let mut cluster = Cluster::start();
    let mut client = cluster.client(1);
    for _ in 0..140 {
        assert_eq!(client.call("nap"), "+ok");
    }
    assert_eq!(client.call("set a 1"), "+ok");
    cluster.stop(0).expect("a clean end");
    cluster.configs[0].limits.loading_timeout = Duration::ZERO;
    cluster.run(0);
    // Its service takes longer than a second over what it reads back.
    let mut client = cluster.client(0);
    assert_eq!(client.call("get a"), "-Loading");
    assert_eq!(client.call("set a 2"), "-Loading");
    assert_eq!(client.call("ping"), "+pong");
    let status = cluster.until(0, |s| s.leader.is_some());
    assert_eq!(status.replica.state, StateName::CatchingUp);
    cluster.until(0, |s| s.replica.state == StateName::Active);
    assert_eq!(client.call("get a"), "+1");
}

#[test]
fn without_a_quorum_commands_are_refused_and_open_ones_uncertain() {
    let mut cluster = Cluster::prepare(3);
    for config in &mut cluster.configs {
        config.limits.leaderless_timeout = Duration::from_millis(400);
        config.limits.outcome_timeout = Duration::from_millis(1500);
    }
    cluster.run(0);
    let status = cluster.until(0, |s| s.replica.state == StateName::Starting);
    assert!(status.warnings.iter().any(|w| w.contains("hears no leader")), "{status:?}");
    let mut client = cluster.client(0);
    assert_eq!(client.call("set a 1"), "-Unavailable");
    assert_eq!(client.call("get a"), "-Unavailable");
    assert_eq!(client.call("ping"), "+pong");

    cluster.run(1);
    cluster.until(0, |s| s.replica.state == StateName::Active);
    assert_eq!(client.call("set a 1"), "+ok");
    cluster.until(1, |s| s.replica.state == StateName::Active);
    let leader = cluster.leader();
    let mut client = cluster.client(leader);
    assert_eq!(client.call("set a 2"), "+ok");
    cluster.stop(1 - leader).expect("a clean end");
    // The leader has not noticed yet: what it takes now is never decided.
    let answer = client.call("set a 3");
    assert!(answer == "-Uncertain" || answer == "-Unavailable", "{answer}");
    cluster.until(leader, |s| s.leader.is_none());
    cluster.run(1 - leader);
    cluster.until(leader, |s| s.replica.state == StateName::Active && s.leader.is_some());
    let value = client.call("get a");
    assert!(value == "+3" || (value == "+2" && answer == "-Unavailable"), "{value} {answer}");
}

#[test]
fn a_service_that_panics_is_told_and_voting_goes_on() {
    let cluster = Cluster::start();
    let mut client = cluster.client(0);
    assert_eq!(client.call("set a 1"), "+ok");
    assert_eq!(client.call("panic"), "-Uncertain");
    assert_eq!(client.call("set a 2"), "-Stopped");
    assert_eq!(client.call("get a"), "-Stopped");
    for index in 0..3 {
        let status = cluster.until(index, |s| s.replica.state == StateName::Failed);
        assert!(status.warnings.iter().any(|w| w.contains("asked to")), "{:?}", status.warnings);
        assert!(status.leader.is_some());
    }
}

/// async-raft/async-raft#76, moby/swarmkit#1346, eBay/NuRaft#355, sofastack/sofa-jraft#830: where what
/// is decided is carried out by the thread that votes, a request that takes long costs the leader its
/// office.
#[test]
fn while_every_service_stands_still_votes_go_on_under_the_same_leader() {
    let mut cluster = Cluster::prepare(3);
    for config in &mut cluster.configs {
        // More than a busy machine holds a thread up, and far less than the service takes.
        config.ordering.election_timeout_min = Duration::from_secs(1);
        config.ordering.election_timeout = Duration::from_secs(1);
        config.detection.timeout = Duration::from_secs(1);
    }
    (0..3).for_each(|index| cluster.run(index));
    let mut sleeper = cluster.client(0);
    assert_eq!(sleeper.call("set a 1"), "+ok");
    let leader = cluster.leader();
    let before = cluster.until(leader, |s| s.replica.state == StateName::Active);
    sleeper.send("nap 4000\n");
    for index in 0..3 {
        cluster.until(index, |s| s.replica.decided > s.replica.applied);
    }
    let others: Vec<_> = (0..20_u64)
        .map(|round| {
            let mut other = cluster.client(1);
            other.send(&format!("set b {round}\n"));
            let least = before.replica.decided + 2 + round;
            let status = cluster.until(leader, |s| s.replica.decided >= least);
            assert!(status.replica.applied < least, "{status:?}");
            other
        })
        .collect();
    for mut other in others {
        assert_eq!(other.line(), "+ok");
    }
    assert_eq!(sleeper.line(), "+ok");
    let after = cluster.status(leader).expect("a status");
    assert_eq!((after.leader, after.ballot), (before.leader, before.ballot));
}

#[test]
fn a_failed_sync_ends_the_replica_and_the_others_go_on() {
    let mut cluster = Cluster::prepare(3);
    let disk = MemoryDisk::default();
    cluster.places[2] = Place::Memory(disk.clone());
    (0..3).for_each(|index| cluster.run(index));
    let mut client = cluster.client(0);
    assert_eq!(client.call("set a 1"), "+ok");
    cluster.until(2, |s| s.replica.state == StateName::Active);
    disk.fail_syncs(1);
    assert_eq!(client.call("set a 2"), "+ok");
    let error = cluster.wait(2).expect_err("an end for safety");
    assert!(matches!(error, NodeError::Disk { .. }) && error.exit_code() == 4, "{error}");
    assert_eq!(client.call("set a 3"), "+ok");
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room_again() {
    let mut cluster = Cluster::prepare(3);
    let disks: Vec<_> = (0..3).map(|_| MemoryDisk::default()).collect();
    cluster.places = disks.iter().cloned().map(Place::Memory).collect();
    for config in &mut cluster.configs {
        config.limits.outcome_timeout = Duration::from_secs(1);
    }
    (0..3).for_each(|index| cluster.run(index));
    let mut client = cluster.client(0);
    assert_eq!(client.call("set a 0"), "+ok");
    for disk in &disks {
        disk.limit_room(Some(0));
    }
    let value = "x".repeat(100 << 10);
    let started = Instant::now();
    loop {
        match client.call(&format!("set big {value}")).as_str() {
            "+ok" | "-Uncertain" => assert!(started.elapsed() < PATIENCE),
            "-NoRoom" => break,
            other => panic!("{other}"),
        }
    }
    for index in 0..3 {
        cluster.until(index, |s| s.warnings.iter().any(|w| w.contains("room")));
    }
    for disk in &disks {
        disk.limit_room(None);
    }
    let started = Instant::now();
    while client.call("set a 1") != "+ok" {
        assert!(started.elapsed() < PATIENCE);
    }
    assert_eq!(client.call("get a"), "+1");
}

#[test]
fn a_replica_that_may_not_vote_follows() {
    let mut cluster = Cluster::prepare(3);
    cluster.configs[2].votes = false;
    (0..3).for_each(|index| cluster.run(index));
    assert_eq!(cluster.client(0).call("set a 1"), "+ok");
    let mut client = cluster.client(2);
    assert_eq!(client.call("get a"), "+1");
    assert_eq!(client.call("set a 2"), "+ok");
    let status = cluster.until(2, |s| s.replica.applied > 0);
    assert_eq!(status.replica.state, StateName::Amnesiac);
    assert_eq!(status.replica.role, RoleName::Learner);
}

#[test]
fn the_session_of_a_front_that_was_ended_is_opened_again() {
    let mut cluster = Cluster::prepare(3);
    for config in &mut cluster.configs {
        config.sessions.sessions_max = 3;
    }
    (0..3).for_each(|index| cluster.run(index));
    let mut first = cluster.client(0);
    for index in 0..3 {
        assert_eq!(cluster.client(index).call("set a 1"), "+ok");
    }
    // Every boot is a new session: the ones of boots long gone have to go, and now and then one
    // that is still in use.
    for round in 0..3 {
        cluster.stop(2).expect("a clean end");
        cluster.run(2);
        cluster.until(2, |s| s.replica.state == StateName::Active);
        assert_eq!(cluster.client(2).call(&format!("set a {round}")), "+ok");
    }
    let started = Instant::now();
    while first.call("set a end") != "+ok" {
        assert!(started.elapsed() < PATIENCE);
    }
    assert_eq!(cluster.client(2).call("get a"), "+end");
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let mut cluster = Cluster::prepare(3);
    cluster.configs[0].peers.pop();
    let sockets =
        mainstay_node::Sockets::bind(harness::loopback(), harness::loopback()).expect("ports");
    let config = &cluster.configs[0];
    let store = harness::open(MemoryDisk::default(), config, (1 << 20, None, None));
    let service = mainstay_service::Plain(harness::Registers::default());
    let stop = mainstay_node::StopHandle::new();
    let error = mainstay_node::run(config, sockets, store, service, harness::Lines, &stop)
        .expect_err("a contradiction");
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("2 peer addresses are given for 3 replicas"), "{error}");
}
