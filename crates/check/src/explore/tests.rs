use super::*;

/// Nodes that each know a set of numbers and tell it to the next one: a bit a number.
struct Gossip {
    count: usize,
    /// What no node may know.
    forbidden: Option<u8>,
}

impl System for Gossip {
    type Node = u8;
    type Message = u8;
    type Event = &'static str;

    fn start(&self) -> (Vec<u8>, Vec<Envelope<u8>>) {
        (vec![0; self.count], Vec::new())
    }

    fn events(&self, at: usize, node: &u8) -> Vec<&'static str> {
        if *node & (1 << at) == 0 { vec!["wakes"] } else { vec!["forgets"] }
    }

    fn class(&self, event: &&'static str) -> Option<usize> {
        (*event == "forgets").then_some(0)
    }

    fn happen(&self, at: usize, node: &u8, event: &&'static str) -> Outcome<u8, u8> {
        if *event == "forgets" {
            return Outcome { node: 0, sent: Vec::new() };
        }
        let node = *node | (1 << at);
        Outcome { node, sent: vec![((at + 1) % self.count, node)] }
    }

    fn arrive(&self, _: usize, node: &u8, _: usize, message: &u8) -> Outcome<u8, u8> {
        assert!(*message != 0b1111, "all at once");
        Outcome { node: node | message, sent: Vec::new() }
    }

    fn judge(&self, nodes: &[&u8]) -> Result<(), String> {
        let known = nodes.iter().any(|node| Some(**node) == self.forbidden);
        if known { Err("somebody knows it".to_owned()) } else { Ok(()) }
    }

    fn goals(&self) -> Vec<&'static str> {
        vec!["everybody is awake", "somebody knows four"]
    }

    fn reached(&self, goal: usize, nodes: &[&u8]) -> bool {
        match goal {
            0 => nodes.iter().enumerate().all(|(at, node)| **node & (1 << at) != 0),
            _ => nodes.iter().any(|node| node.count_ones() == 4),
        }
    }
}

fn bounds(forgets: u8, repeats: u8) -> Bounds {
    Bounds {
        links: Links::Any,
        events: vec![forgets],
        repeats,
        states_max: 100_000,
        recover_every: 0,
    }
}

#[test]
fn every_state_is_seen_once_and_goals_are_told() {
    // Two nodes, each asleep or awake and each having heard of the other or not; what it tells
    // depends on what it had heard when it woke: counted by hand.
    let report = explore(&Gossip { count: 2, forbidden: None }, &bounds(0, 0));
    assert!(report.complete && report.violation.is_none());
    assert_eq!((report.states, report.depth), (11, 4), "{report}");
    assert_eq!(report.missed, ["somebody knows four"]);
}

#[test]
fn a_violation_comes_with_a_shortest_script() {
    let report = explore(&Gossip { count: 3, forbidden: Some(0b011) }, &bounds(1, 0));
    let violation = report.violation.expect("found");
    assert_eq!(violation.script, ["r0 wakes", "r0 -> r1 1", "r1 wakes"]);
    assert_eq!(violation.what, "somebody knows it");
    assert!(violation.to_string().ends_with("r1 wakes\n==== somebody knows it"));
}

#[test]
fn an_assertion_that_fires_is_a_violation() {
    let report = explore(&Gossip { count: 4, forbidden: None }, &bounds(0, 0));
    let violation = report.violation.expect("found");
    assert_eq!(violation.what, "an assertion fired: all at once");
    assert_eq!(violation.script.len(), 8, "{violation}");
}

#[test]
fn a_message_that_may_arrive_again_reaches_more_states() {
    let once = explore(&Gossip { count: 2, forbidden: None }, &bounds(1, 0));
    let twice = explore(&Gossip { count: 2, forbidden: None }, &bounds(1, 1));
    assert!(twice.states > once.states, "{once} / {twice}");
}

#[test]
fn a_search_that_is_cut_off_says_so() {
    let bounds = Bounds { states_max: 20, ..bounds(2, 2) };
    let report = explore(&Gossip { count: 3, forbidden: None }, &bounds);
    assert!(!report.complete);
    assert!(report.to_string().starts_with("the first "), "{report}");
}

#[test]
fn walks_find_what_is_far_away_and_tell_no_more_than_it_takes() {
    let gossip = Gossip { count: 4, forbidden: Some(0b0111) };
    let found = walk(&gossip, &bounds(3, 0), 1, (200, 60)).violation.expect("found");
    assert_eq!(found.what, "somebody knows it");
    assert_eq!(found.script.len(), 5, "{found}");
    let again = walk(&gossip, &bounds(3, 0), 1, (200, 60)).violation.expect("found");
    assert_eq!(found, again, "one seed, one walk");
    let nothing = walk(&Gossip { count: 2, forbidden: None }, &bounds(1, 0), 1, (20, 10));
    assert!(nothing.violation.is_none() && nothing.steps > 0);
}
