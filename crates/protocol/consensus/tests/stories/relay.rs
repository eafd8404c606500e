//! Replicas that do not hear the leader and reach it through another one.

use crate::cluster::Cluster;
use crate::ready;
use mainstay_consensus::{Observation, Role};
use mainstay_model::{Slot, Token};

/// Three in a chain: the leader at one end, a hub, and one that does not hear the leader.
fn chain(seed: u64) -> (Cluster, u16, u16, u16) {
    let mut c = Cluster::new(3, seed);
    let leader = ready(&mut c);
    let (hub, far) = ((leader + 1) % 3, (leader + 2) % 3);
    c.cut.extend([(leader, far), (far, leader)]);
    c.run_until(2_000, |c| c.status(far).relay.is_some());
    (c, leader, hub, far)
}

#[test]
fn who_does_not_hear_the_leader_reaches_it_through_one_who_does() {
    let (mut c, leader, hub, far) = chain(91);
    let ballot = c.status(leader).ballot;
    let status = c.status(far);
    assert_eq!((status.relay, status.leader), (Some(c.id(hub)), Some(c.id(leader))));
    c.submit(far, 1, b"through the hub");
    c.run_until(500, |c| c.decided_requests().len() == 1);
    c.run_until(500, |c| c.delivered[usize::from(far)].len() == c.decided.len());
    let decided = c.status_decided();
    c.read(far, 2);
    c.run_until(500, |c| c.reads.contains_key(&Token(2)));
    assert!(c.reads[&Token(2)] >= decided, "it sees what was decided before");
    for token in 100..150 {
        c.submit(far, token, b"many");
        c.read(far, 1_000 + token);
        c.run_for(20);
    }
    c.run_until(1_000, |c| c.decided_requests().len() == 51 && c.reads.len() == 51);
    assert!(c.rejected.is_empty(), "{:?}", c.rejected);
    assert_eq!(c.status(leader).ballot, ballot, "and unseats nobody");
}

#[test]
fn when_the_link_is_mended_nothing_is_passed_on_any_more() {
    let (mut c, _, _, far) = chain(92);
    c.cut.clear();
    c.run_until(1_000, |c| c.status(far).relay.is_none());
    let told = |what: &Observation| matches!(what, Observation::Relay(_));
    let passed = c.observed.iter().filter(|(who, what)| *who == far && told(what)).count();
    c.submit(far, 1, b"directly");
    c.run_until(200, |c| c.decided_requests().len() == 1);
    c.run_for(2_000);
    let later = c.observed.iter().filter(|(who, what)| *who == far && told(what)).count();
    assert_eq!(passed, later);
}

#[test]
fn reads_that_were_passed_on_wait_for_a_new_leader_no_longer_than_others() {
    let (mut c, leader, hub, far) = chain(93);
    c.crash(leader);
    c.read(far, 1);
    c.submit(far, 2, b"in the middle of a change");
    c.run_until(3_000, |c| c.leader().is_some());
    c.run_until(3_000, |c| {
        let read = c.reads.contains_key(&Token(1));
        read || c.rejected.iter().any(|(token, _)| *token == Token(1))
    });
    assert!([hub, far].iter().any(|index| c.status(*index).role == Role::Leader));
}

#[test]
fn where_the_one_that_passes_on_loses_the_leader_too_requests_are_rejected_in_time() {
    let (mut c, leader, hub, far) = chain(94);
    // The hub hears nothing any more either, and nobody can lead.
    c.crash(leader);
    c.lost.insert((hub, "promise"));
    c.lost.insert((far, "promise"));
    c.submit(far, 1, b"nobody takes it");
    c.read(far, 2);
    c.run_until(5_000, |c| c.status(far).relay.is_none() && c.rejected.len() == 2);
}

#[test]
fn nothing_is_passed_on_twice() {
    // Two that hear no leader and each takes the other for one who does: no message goes round.
    let mut c = Cluster::new(3, 95);
    let leader = ready(&mut c);
    let (one, two) = ((leader + 1) % 3, (leader + 2) % 3);
    let before = c.sent.get("read-ask").copied().unwrap_or(0);
    let ask = |number| mainstay_consensus::message::ReadAsk { number, relay: true };
    c.hear(one, two, mainstay_consensus::Body::ReadAsk(ask(7)));
    c.hear(two, one, mainstay_consensus::Body::ReadAsk(ask(8)));
    c.run_for(1_000);
    let asked = c.sent.get("read-ask").copied().unwrap_or(0) - before;
    assert_eq!(asked, 2, "each asks the leader once");
    assert!(c.status(one).applied >= Slot(1));
}
