//! Answers from a replica's state as it is.

use std::time::Duration;

use mainstay_client::{Client, Settings, TroubleKind};

use super::nodes::Nodes;
use super::{client, count, number};

/// A client of one replica only.
fn client_of(nodes: &Nodes, index: usize) -> Client {
    Client::new(Settings::new([nodes.addresses().remove(index)])).expect("the settings are right")
}

#[tokio::test]
async fn a_replica_without_the_others_answers_stale_queries_and_says_how_old_they_are() {
    let mut nodes = Nodes::start();
    let client = client(&nodes);
    let local = client_of(&nodes, 2);
    assert_eq!(count(&client).await, 1);
    // What a linearizable query has seen here, a stale one sees, too.
    assert_eq!(number(&local.query("how many").await.expect("is answered")), 1);
    let first = local.query_stale("how many").await.expect("is answered");
    assert_eq!((number(&first.reply), first.replica.index), (1, 2));
    assert!(first.slot.0 > 0 && first.time.0 > 0);

    nodes.stop(0);
    nodes.stop(1);
    let again = local.query_stale("how many").await.expect("is answered");
    assert_eq!(number(&again.reply), 1);
    assert!(again.slot >= first.slot && again.time >= first.time);
    let short = Duration::from_millis(500);
    let refused = local.query_within("how many".into(), short).await.expect_err("no quorum");
    assert_eq!(refused.kind, TroubleKind::TimedOut);
    // A request that waits for a quorum holds no stale query back.
    let waiting = local.request("add");
    assert_eq!(number(&local.query_stale("how many").await.expect("is answered").reply), 1);
    nodes.run(0);
    waiting.await.reply().expect("it is done");
    let then = local.query_stale("how many").await.expect("is answered");
    assert_eq!(number(&then.reply), 2);
    assert!(then.slot > again.slot && then.time >= again.time);
}

#[tokio::test]
async fn a_stale_query_goes_to_a_replica_that_answers() {
    let mut nodes = Nodes::start();
    let client = client(&nodes);
    assert_eq!(count(&client).await, 1);
    for index in 0..3 {
        nodes.stop(index);
        let answer = client.query_stale("how many").await.expect("is answered");
        assert!(number(&answer.reply) <= 1 && usize::from(answer.replica.index) != index);
        nodes.run(index);
    }
}
