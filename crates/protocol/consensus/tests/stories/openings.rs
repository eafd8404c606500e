//! How a log begins: with the opening of one replica, exactly one, in its first slot.

use bytes::Bytes;
use mainstay_model::{Batch, Slot};

use crate::cluster::Cluster;

/// Runs until another one than `not` leads and has applied something.
fn ready(c: &mut Cluster, not: Option<u16>) -> u16 {
    let leads =
        |c: &Cluster| c.leader().filter(|l| Some(*l) != not && c.status(*l).applied >= Slot(1));
    c.run_until(20_000, |c| leads(c).is_some());
    leads(c).expect("just seen")
}

fn decides(c: &mut Cluster, at: u16) {
    let before = c.decided_requests().len();
    c.submit(at, 77, b"decides");
    c.run_until(5_000, |c| c.decided_requests().len() > before);
}

/// Which openings stand in the log, and where.
fn openings(c: &Cluster) -> Vec<(Slot, Bytes)> {
    let requests = |value| Batch::decode(value).expect("a batch").requests;
    let all = c
        .decided
        .iter()
        .flat_map(|(slot, value)| requests(value).into_iter().map(move |request| (*slot, request)));
    all.filter(|(_, request)| request.starts_with(b"opening")).collect()
}

/// A cluster in which each replica has an opening of its own.
fn with_openings(seed: u64) -> Cluster {
    let mut c = Cluster::new(3, seed);
    for index in 0..3 {
        c.crash(index);
        c.opening = Some(format!("opening of {index}").into());
        c.start(index, true);
        c.tell_suspicion(index, false);
    }
    c
}

#[test]
fn the_first_leader_opens_the_log_and_no_later_one() {
    let mut c = with_openings(1);
    let leader = ready(&mut c, None);
    let opening = (Slot(1), Bytes::from(format!("opening of {leader}")));
    assert_eq!(openings(&c), std::slice::from_ref(&opening));
    decides(&mut c, leader);
    c.crash(leader);
    let next = ready(&mut c, Some(leader));
    decides(&mut c, next);
    assert_eq!(openings(&c), [opening], "a later leader begins nothing");
}

#[test]
fn an_opening_that_may_be_decided_is_taken_over_and_a_lost_one_replaced() {
    for seed in 0..20 {
        let mut c = with_openings(seed);
        // What the first leader proposes reaches the others, or nobody.
        let lost = seed % 2 == 0;
        c.lost.extend((0..3).filter(|_| lost).map(|index| (index, "accept")));
        c.run_until(9_000, |c| c.leader().is_some());
        let first = c.leader().expect("just seen");
        if !lost {
            c.run_for(20);
        }
        c.crash(first);
        c.lost.clear();
        ready(&mut c, Some(first));
        let found = openings(&c);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, Slot(1));
        let taken_over = found[0].1 == format!("opening of {first}");
        assert_eq!(taken_over, !lost, "{found:?}");
    }
}
