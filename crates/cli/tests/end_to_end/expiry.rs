//! Keys that go by decided time, in a group of real processes with nothing else to do.

use crate::world::cluster::REPLICAS;
use crate::world::raw::Raw;
use crate::world::{Cluster, wait_until};

fn ask(cluster: &Cluster, index: usize, words: &[&str]) -> String {
    let mut client = Raw::connect(cluster.clients_at(index));
    client.command(words);
    client.reply()
}

/// The number that every replica answers with, which is the same at all of them.
fn agreed(cluster: &Cluster, words: &[&str]) -> i64 {
    let replies: Vec<_> = (0..REPLICAS).map(|index| ask(cluster, index, words)).collect();
    assert!(replies.iter().all(|reply| *reply == replies[0]), "{words:?}: {replies:?}");
    let number = replies[0].trim_start_matches(':').trim();
    number.parse().unwrap_or_else(|_| panic!("{words:?}: {number}"))
}

#[test]
fn keys_go_everywhere_at_one_place_of_the_order_and_stay_gone() {
    let mut cluster = Cluster::start(&[]);
    for (key, ms) in [("soon", "300"), ("late", "3600000")] {
        assert_eq!(ask(&cluster, 0, &["SET", key, "v", "PX", ms]), "+OK\r\n");
    }
    let late = agreed(&cluster, &["PEXPIRETIME", "late"]);
    // No read shows it again once one did not.
    wait_until("a key goes in an idle group", || ask(&cluster, 1, &["GET", "soon"]) == "$-1\r\n");
    assert_eq!(agreed(&cluster, &["EXISTS", "soon", "late"]), 1);
    assert_eq!(agreed(&cluster, &["TTL", "soon"]), -2);

    cluster.kill_up();
    cluster.up();
    cluster.wait_until_whole();
    assert_eq!(agreed(&cluster, &["EXISTS", "soon", "late"]), 1, "the log says the same again");
    assert_eq!(agreed(&cluster, &["PEXPIRETIME", "late"]), late);
    assert_eq!(ask(&cluster, 2, &["PERSIST", "late"]), ":1\r\n");
    assert_eq!(agreed(&cluster, &["PTTL", "late"]), -1);
}
