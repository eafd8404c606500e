//! The client against real replicas, run in this process.

mod nodes;
mod policies;
mod stale;

use std::time::Duration;

use mainstay_client::{Client, Outcome, Settings, TroubleKind};
use nodes::Nodes;

fn client(nodes: &Nodes) -> Client {
    let mut settings = Settings::new(nodes.addresses());
    settings.timeout = Duration::from_secs(60);
    Client::new(settings).expect("the settings are right")
}

fn number(reply: &[u8]) -> u64 {
    u64::from_le_bytes(reply.try_into().expect("the counter answers eight bytes"))
}

async fn count(client: &Client) -> u64 {
    number(&client.request("add").await.reply().expect("it is done"))
}

#[tokio::test]
async fn requests_and_queries_through_real_replicas() {
    let nodes = Nodes::start();
    let client = client(&nodes);
    let waiting: Vec<_> = (0..2000).map(|_| client.request("add")).collect();
    // Though none was waited for, the query comes after all of them.
    assert_eq!(number(&client.query("how many").await.expect("is answered")), 2000);
    for (position, outcome) in waiting.into_iter().enumerate() {
        let reply = outcome.await.reply().expect("it is done");
        assert_eq!(number(&reply), position as u64 + 1);
    }
    // What one client did another one sees.
    let other = self::client(&nodes);
    assert_eq!(number(&other.query("how many").await.expect("is answered")), 2000);
}

#[tokio::test]
async fn one_address_is_enough() {
    let nodes = Nodes::start();
    for address in nodes.addresses() {
        let mut settings = Settings::new([address]);
        settings.timeout = Duration::from_secs(60);
        let client = Client::new(settings).expect("the settings are right");
        count(&client).await;
    }
    assert_eq!(count(&client(&nodes)).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_done_once_while_replicas_go_and_come_back() {
    let mut nodes = Nodes::start();
    let clients: Vec<_> = (0..4).map(|_| client(&nodes)).collect();
    let mut done = 0;
    for round in 0..4 {
        let waiting: Vec<_> = clients
            .iter()
            .flat_map(|client| (0..100).map(|_| client.request("add")).collect::<Vec<_>>())
            .collect();
        let stopped = match round {
            // The leader, whoever else, all of them.
            0 => vec![nodes.leader()],
            1 => vec![(nodes.leader() + 1) % 3],
            _ => vec![0, 1, 2],
        };
        stopped.iter().for_each(|&index| nodes.stop(index));
        stopped.iter().for_each(|&index| nodes.run(index));
        for outcome in waiting {
            number(&outcome.await.reply().expect("it is done"));
            done += 1;
        }
        let seen = clients[round].query("how many").await.expect("is answered");
        assert_eq!(number(&seen), done);
    }
}

#[tokio::test]
async fn without_a_quorum_nothing_is_done_and_nothing_is_claimed() {
    let mut nodes = Nodes::start();
    let client = client(&nodes);
    assert_eq!(count(&client).await, 1);
    nodes.stop(0);
    nodes.stop(1);
    let short = Duration::from_millis(1500);
    let query = client.query_within("how many".into(), short);
    let outcome = client.request_within("add".into(), short).await;
    assert!(!matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    let open = u64::from(matches!(outcome, Outcome::Unknown(_)));
    assert_eq!(query.await.expect_err("nobody can answer").kind, TroubleKind::TimedOut);
    nodes.run(0);
    nodes.run(1);
    let counted = count(&client).await;
    assert_eq!(counted, 2 + open, "what is unknown is carried out first, once");
}

#[tokio::test]
async fn what_no_replica_takes_is_not_done() {
    let nodes = Nodes::start();
    let client = client(&nodes);
    let large = client.request(vec![0; nodes::REQUEST_BYTES_MAX + 1]);
    let Outcome::NotDone(trouble) = large.await else { panic!("larger than allowed") };
    assert_eq!(trouble.kind, TroubleKind::TooLarge);
    assert_eq!(count(&client).await, 1);
    // Almost as much as may be.
    let reply = client.request(vec![0; nodes::REQUEST_BYTES_MAX - 100]).await.reply();
    assert_eq!(number(&reply.expect("it is done")), 1);
}
