//! Whose reply counts, against real replicas of which one answers differently, and while replicas
//! go and come back.

use std::time::Duration;

use mainstay_client::{Client, Outcome, ReplyPolicy, Settings, TroubleKind};

use super::nodes::Nodes;
use super::number;

const POLICIES: [ReplyPolicy; 4] =
    [ReplyPolicy::Reached, ReplyPolicy::First, ReplyPolicy::Leader, ReplyPolicy::Majority];

/// What a replica that lies adds to its replies.
const OFF: u64 = 1_000_000;

fn client(nodes: &Nodes, replies: ReplyPolicy) -> Client {
    let mut settings = Settings::new(nodes.addresses());
    settings.timeout = Duration::from_secs(60);
    settings.replies = replies;
    Client::new(settings).expect("the settings are right")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_every_policy_each_request_is_done_once_whatever_crashes() {
    let mut nodes = Nodes::start();
    let clients: Vec<_> = POLICIES.iter().map(|&replies| client(&nodes, replies)).collect();
    let mut done = 0;
    for round in 0..5 {
        let waiting: Vec<_> = clients
            .iter()
            .flat_map(|client| (0..50).map(|_| client.request("add")).collect::<Vec<_>>())
            .collect();
        let stopped = match round {
            // The leader, each of the others, all of them.
            0 | 3 => vec![nodes.leader()],
            1 => vec![(nodes.leader() + 1) % 3],
            2 => vec![(nodes.leader() + 2) % 3],
            _ => vec![0, 1, 2],
        };
        stopped.iter().for_each(|&index| nodes.stop(index));
        stopped.iter().for_each(|&index| nodes.run(index));
        let mut last = [0; 4];
        for (position, outcome) in waiting.into_iter().enumerate() {
            let counted = number(&outcome.await.reply().expect("it is done"));
            let last = &mut last[position / 50];
            assert!(counted > *last, "the requests of a client are done in order");
            *last = counted;
            done += 1;
        }
        let seen = clients[round % 4].query("how many").await.expect("is answered");
        assert_eq!(number(&seen), done);
    }
    for client in &clients {
        assert_eq!(client.disagreements().total, 0);
    }
}

#[tokio::test]
async fn a_majority_outvotes_a_replica_that_answers_differently_and_names_it() {
    for liar in 0..3_u16 {
        let mut off_by = [0; 3];
        off_by[usize::from(liar)] = OFF;
        let nodes = Nodes::start_off_by(off_by);
        let client = client(&nodes, ReplyPolicy::Majority);
        // A replica that is reached late is heard from then on.
        let (mut count, mut found) = (0, client.disagreements());
        while found.total < 20 {
            count += 1;
            assert!(count <= 100_000, "it is never heard: {found:?}");
            let reply = client.request("add").await.reply().expect("two agree");
            assert_eq!(number(&reply), count);
            found = client.disagreements();
        }
        let found = client.disagreed(19).await;
        assert_eq!(
            found.by_replica.keys().map(|replica| replica.index).collect::<Vec<_>>(),
            [liar]
        );
        let mut numbers: Vec<_> = found.latest.iter().map(|one| one.number.0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len() as u64, found.total.min(256), "each request is compared once");
        for one in &found.latest {
            assert!(one.accepted.is_some_and(|accepted| accepted != one.digest), "{one:?}");
        }
    }
}

#[tokio::test]
async fn where_every_replica_answers_differently_there_is_an_error_and_all_are_named() {
    let nodes = Nodes::start_off_by([0, OFF, 2 * OFF]);
    let client = client(&nodes, ReplyPolicy::Majority);
    for total in 1..=3 {
        let outcome = client.request("add").await;
        let Outcome::Unknown(trouble) = outcome else { panic!("{outcome:?}") };
        assert_eq!(trouble.kind, TroubleKind::NoAgreement);
        let sentence = trouble.to_string();
        assert!(sentence.contains("was carried out") && sentence.contains("replica 2 gave"));
        let found = client.disagreements();
        assert_eq!((found.total, found.by_replica.len()), (3 * total, 3));
        assert!(found.latest.iter().all(|one| one.accepted.is_none()));
    }
    let counted = client.query("how many").await.expect("is answered");
    assert_eq!(number(&counted), 3, "each was carried out, once");
}

#[tokio::test]
async fn without_enough_replicas_to_compare_the_outcome_says_what_is_wanted() {
    let nodes = Nodes::start();
    let mut settings = Settings::new([nodes.addresses().remove(0)]);
    settings.replies = ReplyPolicy::Majority;
    let client = Client::new(settings).expect("the settings are right");
    let outcome = client.request_within("add".into(), Duration::from_secs(2)).await;
    let Outcome::Unknown(trouble) = outcome else { panic!("{outcome:?}") };
    assert_eq!(trouble.kind, TroubleKind::TimedOut);
    assert!(trouble.to_string().contains("2 equal replies of 3 replicas are wanted"), "{trouble}");
    let other = self::client(&nodes, ReplyPolicy::First);
    assert_eq!(number(&other.query("how many").await.expect("is answered")), 1);
}

#[tokio::test]
async fn the_leaders_reply_is_the_leaders() {
    let mut nodes = Nodes::start_off_by([0, OFF, 2 * OFF]);
    let client = client(&nodes, ReplyPolicy::Leader);
    for count in 1..=6 {
        let before = nodes.leader();
        let reply = number(&client.request("add").await.reply().expect("it is done"));
        let leader = nodes.leader();
        assert_eq!(reply % OFF, count);
        let from = (reply / OFF) as usize;
        assert!([before, leader].contains(&from), "replica {from} replied, {leader} leads");
        // Whoever leads next replies next.
        nodes.stop(leader);
        nodes.run(leader);
    }
}

#[tokio::test]
async fn the_first_reply_comes_from_whoever_is_left() {
    let mut nodes = Nodes::start_off_by([0, OFF, 2 * OFF]);
    let client = client(&nodes, ReplyPolicy::First);
    let mut counts = Vec::new();
    for _ in 0..3 {
        let waiting: Vec<_> = (0..100).map(|_| client.request("add")).collect();
        let leader = nodes.leader();
        nodes.stop(leader);
        for outcome in waiting {
            counts.push(number(&outcome.await.reply().expect("it is done")) % OFF);
        }
        nodes.run(leader);
    }
    assert_eq!(counts, (1..=300).collect::<Vec<_>>(), "each once, and in order");
}
