//! The client over real sockets, against servers that do what replicas do, or should not.

mod replica;

use std::time::Duration;

use mainstay_client::{Client, Outcome, Settings, TroubleKind};
use mainstay_model::hello::RejectCode;
use replica::{Behaviour, Cluster};

/// A client that tries the addresses in their order, is patient enough for a slow machine, and
/// quick enough for a test.
fn settings(addresses: &[String]) -> Settings {
    let mut settings = Settings::new(addresses.iter().cloned());
    settings.first = Some(0);
    settings.timeout = Duration::from_secs(60);
    settings.connect_timeout = Duration::from_millis(200);
    settings.patience = Duration::from_millis(200);
    settings
}

fn client(addresses: &[String]) -> Client {
    Client::new(settings(addresses)).expect("the settings are right")
}

fn number(reply: &[u8]) -> u64 {
    u64::from_le_bytes(reply.try_into().expect("the counter answers eight bytes"))
}

async fn count(client: &Client) -> u64 {
    number(&client.request("add").await.reply().expect("it is done"))
}

#[tokio::test]
async fn many_in_flight_are_carried_out_in_the_order_of_the_calls() {
    let cluster = Cluster::new();
    let address = cluster.serve(0, Behaviour::Works).await;
    let client = client(&[address]);
    let mut waiting = Vec::new();
    for _ in 0..5000 {
        waiting.push(client.request("add"));
        waiting.push(client.request("add"));
        let query = client.query("how many");
        let before = waiting.len() as u64;
        if before.is_multiple_of(1000) {
            // It sees every request before it, though none was waited for.
            assert!(number(&query.await.expect("is answered")) >= before);
        }
    }
    for (position, outcome) in waiting.into_iter().enumerate() {
        let reply = outcome.await.reply().expect("it is done");
        assert_eq!(number(&reply), position as u64 + 1);
    }
    assert_eq!(cluster.count(), 10_000);
}

#[tokio::test]
async fn whatever_the_first_replica_does_another_one_is_found() {
    for behaviour in [
        Behaviour::Refuses,
        Behaviour::NeverAnswers,
        Behaviour::Sends(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        Behaviour::Sends(vec![0xff; 100_000]),
        Behaviour::Sends(Vec::new()),
        Behaviour::Rejects(RejectCode::TooMany, "too many clients; come back later"),
        Behaviour::GreetsThenSends(vec![0xff; 100]),
        Behaviour::GreetsThenIsSilent,
        Behaviour::AnswersOnlyWhoLeads,
        Behaviour::ClosesBeforeOrdering,
        Behaviour::ClosesAfterOrdering,
        Behaviour::AlwaysRefuses,
    ] {
        let cluster = Cluster::new();
        let addresses =
            [cluster.serve(0, behaviour.clone()).await, cluster.serve(1, Behaviour::Works).await];
        let client = client(&addresses);
        for expected in 1..=20 {
            assert_eq!(count(&client).await, expected, "{behaviour:?}");
        }
        assert_eq!(number(&client.query("how many").await.expect("is answered")), 20);
        assert_eq!(cluster.count(), 20, "{behaviour:?}");
        assert!(behaviour == Behaviour::Refuses || cluster.connections(0) > 0, "{behaviour:?}");
    }
}

#[tokio::test]
async fn a_crash_between_order_and_answer_costs_nothing() {
    let cluster = Cluster::new();
    let mut addresses = Vec::new();
    for index in 0..3 {
        addresses.push(cluster.serve(index, Behaviour::ClosesAtTimes).await);
    }
    let client = client(&addresses);
    let waiting: Vec<_> = (0..500).map(|_| client.request("add")).collect();
    for (position, outcome) in waiting.into_iter().enumerate() {
        let reply = outcome.await.reply().expect("it is done");
        assert_eq!(number(&reply), position as u64 + 1);
    }
    assert_eq!(cluster.count(), 500);
    assert!(cluster.connections(0) + cluster.connections(1) + cluster.connections(2) > 10);
}

#[tokio::test]
async fn the_client_goes_where_the_leader_is() {
    let cluster = Cluster::new();
    let mut addresses = Vec::new();
    for index in 0..3 {
        addresses.push(cluster.serve(index, Behaviour::Works).await);
    }
    cluster.lead(2);
    // Given in another order than their indices.
    addresses.rotate_left(1);
    let client = client(&addresses);
    assert_eq!(count(&client).await, 1);
    // By its place among the addresses it went to the wrong one; having learned both, any will do.
    cluster.lead(1);
    cluster.close_all();
    assert_eq!(count(&client).await, 2);
    assert!(cluster.connections(0) + cluster.connections(1) + cluster.connections(2) >= 2);

    let cluster = Cluster::new();
    let mut addresses = Vec::new();
    for index in 0..3 {
        addresses.push(cluster.serve(index, Behaviour::OnlyTheLeaderWorks).await);
    }
    let client = self::client(&addresses);
    for leader in [2, 0, 1, 2] {
        cluster.lead(leader);
        count(&client).await;
    }
    assert_eq!(cluster.count(), 4);
}

#[tokio::test]
async fn a_replica_of_another_cluster_is_not_spoken_to() {
    let (ours, other) = (Cluster::new(), Cluster::new());
    let addresses = [ours.serve(0, Behaviour::Works).await, other.serve(1, Behaviour::Works).await];
    let client = client(&addresses);
    assert_eq!(count(&client).await, 1);
    for expected in 2..5 {
        ours.close_all();
        assert_eq!(count(&client).await, expected);
    }
    assert_eq!(other.count(), 0);
}

/// What a client of this address is told about a request that nobody takes.
async fn told(address: String) -> String {
    let mut settings = settings(&[address]);
    settings.timeout = Duration::from_secs(4);
    let client = Client::new(settings).expect("the settings are right");
    let query = client.query("how many");
    let Outcome::NotDone(trouble) = client.request("add").await else { panic!("never sent") };
    assert_eq!(query.await.expect_err("nobody answers").kind, TroubleKind::TimedOut);
    assert_eq!(trouble.kind, TroubleKind::TimedOut);
    trouble.to_string()
}

#[tokio::test]
async fn what_was_never_sent_is_not_done_and_says_why() {
    let cluster = Cluster::new();
    let mut waiting = Vec::new();
    for (behaviour, why) in [
        (Behaviour::Refuses, "refused"),
        (Behaviour::NeverAnswers, "it did not answer in time"),
        (Behaviour::Rejects(RejectCode::TooMany, "too many clients"), "too many clients"),
        (Behaviour::Sends(b"HTTP/1.1 400".repeat(10)), "a frame claims"),
        (Behaviour::AlwaysRefuses, "the replica hears no leader; another one may"),
    ] {
        let address = cluster.serve(0, behaviour).await;
        waiting.push((why, tokio::spawn(told(address))));
    }
    for (why, told) in waiting {
        let told = told.await.expect("no panic");
        assert!(told.contains(why), "{told}");
    }
    assert_eq!(cluster.count(), 0);
}

#[tokio::test]
async fn what_was_sent_and_never_answered_is_unknown() {
    let cluster = Cluster::new();
    let address = cluster.serve(0, Behaviour::AnswersNoRequests).await;
    let mut settings = settings(&[address]);
    settings.timeout = Duration::from_secs(2);
    let client = Client::new(settings).expect("the settings are right");
    let Outcome::Unknown(trouble) = client.request("add").await else { panic!("was sent") };
    assert_eq!(trouble.kind, TroubleKind::TimedOut);
    assert_eq!(cluster.count(), 1);
}

#[tokio::test]
async fn what_is_too_large_is_not_done_and_harms_nothing() {
    let cluster = Cluster::new();
    let address = cluster.serve(0, Behaviour::Works).await;
    let client = client(&[address]);
    let large = client.request(vec![0; replica::BODY_LEN_MAX + 1]);
    let next = client.request("add");
    let Outcome::NotDone(trouble) = large.await else { panic!("larger than allowed") };
    assert_eq!(trouble.kind, TroubleKind::TooLarge);
    assert_eq!(number(&next.await.reply().expect("it is done")), 1);
    let query = client.query(vec![0; replica::BODY_LEN_MAX + 1]).await;
    assert_eq!(query.expect_err("larger than allowed").kind, TroubleKind::TooLarge);
}

#[tokio::test]
async fn a_session_that_was_ended_is_told_and_followed_by_another() {
    let cluster = Cluster::new();
    let address = cluster.serve(0, Behaviour::Works).await;
    let client = client(&[address]);
    assert_eq!(count(&client).await, 1);
    cluster.end_sessions();
    let Outcome::Unknown(trouble) = client.request("add").await else { panic!("has no session") };
    assert_eq!(trouble.kind, TroubleKind::SessionLost);
    assert_eq!(count(&client).await, 2);
}

#[tokio::test]
async fn more_than_the_bounds_is_refused_at_once() {
    let cluster = Cluster::new();
    let mut settings = settings(&[cluster.serve(0, Behaviour::NeverAnswers).await]);
    settings.timeout = Duration::from_millis(300);
    settings.asks_max = 2;
    settings.asks_bytes_max = 100;
    let client = Client::new(settings).expect("the settings are right");
    let first = client.request(vec![0; 101]);
    let Outcome::NotDone(trouble) = client.request("add").await else { panic!("over the bound") };
    assert_eq!(trouble.kind, TroubleKind::Busy);
    assert!(matches!(first.await, Outcome::NotDone(_)), "one is let in whatever its size");
    let two = (client.request("add"), client.request("add"));
    let Outcome::NotDone(trouble) = client.request("add").await else { panic!("over the bound") };
    assert_eq!(trouble.kind, TroubleKind::Busy);
    assert!(matches!(two.0.await, Outcome::NotDone(_)));
    assert!(matches!(two.1.await, Outcome::NotDone(_)));
}

#[test]
fn a_client_outlives_its_runtime_without_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime can be made");
    let client = runtime.block_on(async {
        let cluster = Cluster::new();
        client(&[cluster.serve(0, Behaviour::NeverAnswers).await])
    });
    let waiting = client.request("add");
    drop(runtime);
    let other = tokio::runtime::Builder::new_current_thread().build();
    let other = other.expect("a runtime can be made");
    let Outcome::Unknown(trouble) = other.block_on(waiting) else { panic!("cannot be told") };
    assert_eq!(trouble.kind, TroubleKind::Closed);
    let Outcome::NotDone(trouble) = other.block_on(client.request("add")) else {
        panic!("was never taken");
    };
    assert_eq!(trouble.kind, TroubleKind::Closed);
}

#[tokio::test]
async fn settings_are_checked() {
    let none = Client::new(Settings::new(Vec::<String>::new())).expect_err("nowhere to go");
    assert_eq!(none.to_string(), "the setting 'addresses' is empty or zero; give it a value");
    let mut settings = Settings::new(["127.0.0.1:1"]);
    settings.patience = Duration::ZERO;
    let none = Client::new(settings).expect_err("no patience at all");
    assert_eq!(none.to_string(), "the setting 'patience' is empty or zero; give it a value");
}

/// Whoever goes leaves nothing behind at the replicas: no session, and no reply that is kept for it.
#[tokio::test]
async fn a_client_that_is_dropped_ends_its_session() {
    let cluster = Cluster::new();
    let address = cluster.serve(0, Behaviour::Works).await;
    for _ in 0..100 {
        count(&client(std::slice::from_ref(&address))).await;
    }
    let ended = tokio::time::timeout(Duration::from_secs(30), cluster.until_sessions(0)).await;
    ended.expect("every session ends");
    assert_eq!(cluster.count(), 100);
}
