//! Every state that a small group of machines can reach, looked at once.
//!
//! A [`System`] is a few nodes that send one another messages. What may happen is: a message arrives
//! (in any order, once, several times, or never), or something happens at a node by itself (its disk
//! has synced, it crashes, a client asks it for something), some of it only so many times. The search
//! goes breadth first, so that the script of a violation is a shortest one.
//!
//! Three things keep the numbers small. A node and a message are kept once and named by a number, and
//! what becomes of one node by one message is worked out once, whatever the others are doing; a state
//! is a handful of numbers. An arrival that changes nothing and sends nothing is not followed: the
//! state after it is the state before it with one message fewer, and can do nothing that the state
//! before it cannot. And what is on its way is a set.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display};
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};

use xxhash_rust::xxh3::xxh3_128;

/// A message on its way between two nodes, by their positions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envelope<M> {
    /// Who sent it.
    pub from: usize,
    /// Whom it is for.
    pub to: usize,
    /// What it says.
    pub message: M,
}

/// What has become of a node, and what it has sent.
#[derive(Clone, Debug)]
pub struct Outcome<N, M> {
    /// The node afterwards.
    pub node: N,
    /// To whom (by position) and what.
    pub sent: Vec<(usize, M)>,
}

/// A group of nodes small enough to be explored. Everything must be a function of the arguments.
pub trait System {
    /// A node with all that is its own: machine, disk, and what a property wants to know of its past.
    type Node: Clone + Eq + Hash;
    /// What nodes send.
    type Message: Clone + Eq + Hash + Display;
    /// What happens at a node by itself.
    type Event: Clone + Eq + Hash + Display;

    /// Where the exploration begins.
    fn start(&self) -> (Vec<Self::Node>, Vec<Envelope<Self::Message>>);

    /// What may happen by itself at the node at position `at`.
    fn events(&self, at: usize, node: &Self::Node) -> Vec<Self::Event>;

    /// Which of the [`Bounds::events`] an event counts against; `None` if it may always happen.
    fn class(&self, event: &Self::Event) -> Option<usize>;

    /// An event happens.
    fn happen(
        &self,
        at: usize,
        node: &Self::Node,
        event: &Self::Event,
    ) -> Outcome<Self::Node, Self::Message>;

    /// A message arrives.
    fn arrive(
        &self,
        at: usize,
        node: &Self::Node,
        from: usize,
        message: &Self::Message,
    ) -> Outcome<Self::Node, Self::Message>;

    /// Whether what must always hold does.
    ///
    /// # Errors
    /// What does not hold, in a sentence.
    fn judge(&self, nodes: &[&Self::Node]) -> Result<(), String>;

    /// What must hold somewhere, so that the exploration shows anything at all.
    fn goals(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Whether the goal at that position holds.
    fn reached(&self, _goal: usize, _nodes: &[&Self::Node]) -> bool {
        false
    }
}

/// In which order what is on its way between two nodes may arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// In any order. Two copies of one message on one link are one.
    Any,
    /// As it was sent, but for what never arrives: whatever arrives has overtaken nothing that
    /// arrives later. Far fewer states.
    Ordered,
}

/// How far to go.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// How links behave.
    pub links: Links,
    /// How many events of each class may happen on one path.
    pub events: Vec<u8>,
    /// How many arrivals on one path may leave their message on the way, to arrive again; only where
    /// links keep no order.
    pub repeats: u8,
    /// The search ends, incomplete, after so many states.
    pub states_max: usize,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// Different states of the whole.
    pub states: usize,
    /// Steps between them.
    pub steps: u64,
    /// Steps on the longest of all shortest paths.
    pub depth: usize,
    /// Different states of single nodes.
    pub nodes: usize,
    /// Different messages.
    pub messages: usize,
    /// Steps of a single node that were worked out; all others were known already.
    pub worked_out: usize,
    /// Whether everything within the bounds was seen.
    pub complete: bool,
    /// Goals that were reached nowhere.
    pub missed: Vec<&'static str>,
    /// The first thing that did not hold.
    pub violation: Option<Violation>,
}

/// Something that must hold does not, and a shortest way there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What does not hold.
    pub what: String,
    /// What happened, a line each.
    pub script: Vec<String>,
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extent = if self.complete { "all of" } else { "the first" };
        write!(f, "{extent} {} states, {} steps, ", self.states, self.steps)?;
        write!(f, "depth {}; {} states of a node, ", self.depth, self.nodes)?;
        write!(f, "{} messages, {} steps worked out", self.messages, self.worked_out)?;
        for goal in &self.missed {
            write!(f, "; never: {goal}")?;
        }
        Ok(())
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.script {
            writeln!(f, "{line}")?;
        }
        write!(f, "==== {}", self.what)
    }
}

/// Gives each different thing a number.
struct Numbers<T> {
    things: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T: Clone + Eq + Hash> Numbers<T> {
    fn new() -> Self {
        Self { things: Vec::new(), numbers: HashMap::new() }
    }

    fn of(&mut self, thing: T) -> u32 {
        if let Some(number) = self.numbers.get(&thing) {
            return *number;
        }
        let number = u32::try_from(self.things.len()).expect("fewer than 2^32 of them");
        self.things.push(thing.clone());
        self.numbers.insert(thing, number);
        number
    }

    fn get(&self, number: u32) -> &T {
        &self.things[number as usize]
    }
}

/// One step: what happens where, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Arrives(u32),
    Happens(u16, u32),
}

/// What becomes of a node, by number.
#[derive(Clone)]
enum Become {
    Node(u32, Box<[u32]>),
    Broken(String),
}

/// A state of the whole: nodes, how often each class of events has happened and how often a message
/// was left on the way, then the messages on their way: ascending, or one link after the other.
type State = Box<[u32]>;

fn fingerprint(state: &State) -> u128 {
    let bytes: Vec<u8> = state.iter().flat_map(|number| number.to_le_bytes()).collect();
    xxh3_128(&bytes)
}

/// An event that may happen, by number, and its class.
type Offer = (u32, Option<usize>);

struct Search<'a, S: System> {
    system: &'a S,
    bounds: &'a Bounds,
    count: usize,
    nodes: Numbers<S::Node>,
    messages: Numbers<Envelope<S::Message>>,
    events: Numbers<S::Event>,
    /// What may happen by itself at a node, with its class.
    offers: HashMap<(u16, u32), Vec<Offer>>,
    known: HashMap<(u32, Step), Become>,
    judged: HashSet<Box<[u32]>>,
    /// A hash of each state seen: of a billion, two share one with a probability below 10^-20.
    seen: HashSet<u128>,
    /// From where and by what each state was reached first.
    parents: Vec<(u32, Step)>,
    missed: Vec<usize>,
    steps: u64,
}

/// Explores everything within the bounds, or until something does not hold.
pub fn explore<S: System>(system: &S, bounds: &Bounds) -> Report {
    let (nodes, on_the_way) = system.start();
    let mut search = Search {
        system,
        bounds,
        count: nodes.len(),
        nodes: Numbers::new(),
        messages: Numbers::new(),
        events: Numbers::new(),
        offers: HashMap::new(),
        known: HashMap::new(),
        judged: HashSet::new(),
        seen: HashSet::new(),
        parents: Vec::new(),
        missed: (0..system.goals().len()).collect(),
        steps: 0,
    };
    let mut state: Vec<u32> = nodes.into_iter().map(|node| search.nodes.of(node)).collect();
    state.extend(std::iter::repeat_n(0, bounds.events.len() + 1));
    let sent: Vec<u32> = on_the_way.into_iter().map(|m| search.messages.of(m)).collect();
    search.post(&mut state, &sent);
    search.run(state.into_boxed_slice())
}

impl<S: System> Search<'_, S> {
    fn run(mut self, start: State) -> Report {
        let mut violation = self.judge(&start).err().map(|what| (what, Vec::new()));
        self.seen.insert(fingerprint(&start));
        self.parents.push((0, Step::Arrives(0)));
        let (mut level, mut first, mut depth) = (vec![start], 0_usize, 0);
        let mut complete = true;
        'levels: while violation.is_none() && !level.is_empty() {
            let mut next = Vec::new();
            for (at, state) in level.iter().enumerate() {
                let from = u32::try_from(first + at).expect("fewer than 2^32 states");
                for step in self.offered(state) {
                    if let Err(what) = self.follow(from, state, step, &mut next) {
                        let mut steps = self.steps_to(from);
                        steps.push(step);
                        violation = Some((what, steps));
                        break 'levels;
                    }
                }
                if self.seen.len() > self.bounds.states_max {
                    complete = false;
                    break 'levels;
                }
            }
            first += level.len();
            depth += usize::from(!next.is_empty());
            level = next;
        }
        self.report(depth, complete && violation.is_none(), violation)
    }

    fn report(self, depth: usize, complete: bool, found: Option<(String, Vec<Step>)>) -> Report {
        let goals = self.system.goals();
        let violation = found.map(|(what, steps)| {
            let script = steps.into_iter().map(|step| self.line(step)).collect();
            Violation { what, script }
        });
        Report {
            states: self.seen.len(),
            steps: self.steps,
            depth,
            nodes: self.nodes.things.len(),
            messages: self.messages.things.len(),
            worked_out: self.known.len(),
            complete,
            missed: self.missed.iter().map(|goal| goals[*goal]).collect(),
            violation,
        }
    }

    /// Everything that may be next.
    fn offered(&mut self, state: &State) -> Vec<Step> {
        let head = self.head();
        let mut steps: Vec<Step> = state[head..].iter().map(|m| Step::Arrives(*m)).collect();
        for at in 0..self.count {
            let key = (at as u16, state[at]);
            if !self.offers.contains_key(&key) {
                let events = self.system.events(at, self.nodes.get(state[at]));
                let classed = events.into_iter().map(|event| {
                    let class = self.system.class(&event);
                    (self.events.of(event), class)
                });
                let offers = classed.collect();
                self.offers.insert(key, offers);
            }
            for (event, class) in &self.offers[&key] {
                let spent = class.map_or(0, |class| state[self.count + class]);
                if class.is_none_or(|class| spent < u32::from(self.bounds.events[class])) {
                    steps.push(Step::Happens(at as u16, *event));
                }
            }
        }
        steps
    }

    fn follow(
        &mut self,
        from: u32,
        state: &State,
        step: Step,
        next: &mut Vec<State>,
    ) -> Result<(), String> {
        self.steps += 1;
        let at = match step {
            Step::Arrives(message) => self.messages.get(message).to,
            Step::Happens(at, _) => usize::from(at),
        };
        let (node, sent) = match self.becomes(at, state[at], step) {
            Become::Node(node, sent) => (node, sent),
            Become::Broken(what) => return Err(what),
        };
        let head = self.head();
        let new = sent.iter().any(|message| !state[head..].contains(message));
        if node == state[at] && !new {
            return Ok(());
        }
        let mut after: Vec<u32> = state.to_vec();
        after[at] = node;
        if let Step::Happens(_, event) = step
            && let Some(class) = self.system.class(self.events.get(event))
        {
            after[self.count + class] += 1;
        }
        if let Step::Arrives(message) = step {
            if self.bounds.links == Links::Any && after[head - 1] < u32::from(self.bounds.repeats) {
                let mut kept = after.clone();
                kept[head - 1] += 1;
                self.post(&mut kept, &sent);
                self.visit(from, step, kept.into_boxed_slice(), next)?;
            }
            self.take(&mut after, message);
        }
        self.post(&mut after, &sent);
        self.visit(from, step, after.into_boxed_slice(), next)
    }

    /// Where the messages begin in a state.
    fn head(&self) -> usize {
        self.count + self.bounds.events.len() + 1
    }

    fn link(&self, message: u32) -> (usize, usize) {
        let envelope = self.messages.get(message);
        (envelope.to, envelope.from)
    }

    /// Adds what was sent.
    fn post(&self, state: &mut Vec<u32>, sent: &[u32]) {
        let head = self.head();
        match self.bounds.links {
            Links::Any => {
                state.extend(sent);
                state[head..].sort_unstable();
                let mut kept = state.split_off(head);
                kept.dedup();
                state.extend(kept);
            }
            Links::Ordered => {
                for message in sent {
                    let link = self.link(*message);
                    let behind = |other: &u32| self.link(*other) <= link;
                    let place = head + state[head..].partition_point(behind);
                    if place == head || state[place - 1] != *message {
                        state.insert(place, *message);
                    }
                }
            }
        }
    }

    /// Takes away a message that arrives, and what it has shown to be lost.
    fn take(&self, state: &mut Vec<u32>, message: u32) {
        let head = self.head();
        let Some(place) = state[head..].iter().position(|other| *other == message) else { return };
        let mut first = head + place;
        if self.bounds.links == Links::Ordered {
            let link = self.link(message);
            while first > head && self.link(state[first - 1]) == link {
                first -= 1;
            }
        }
        state.drain(first..=head + place);
    }

    fn visit(
        &mut self,
        from: u32,
        step: Step,
        state: State,
        next: &mut Vec<State>,
    ) -> Result<(), String> {
        if self.seen.insert(fingerprint(&state)) {
            self.judge(&state)?;
            self.parents.push((from, step));
            next.push(state);
        }
        Ok(())
    }

    fn becomes(&mut self, at: usize, node: u32, step: Step) -> Become {
        if let Some(known) = self.known.get(&(node, step)) {
            return known.clone();
        }
        let before = self.nodes.get(node);
        let outcome = catch_unwind(AssertUnwindSafe(|| match step {
            Step::Arrives(message) => {
                let envelope = self.messages.get(message);
                self.system.arrive(at, before, envelope.from, &envelope.message)
            }
            Step::Happens(_, event) => self.system.happen(at, before, self.events.get(event)),
        }));
        let becomes = match outcome {
            Ok(Outcome { node, sent }) => {
                let sent = sent
                    .into_iter()
                    .map(|(to, message)| self.messages.of(Envelope { from: at, to, message }));
                let sent = sent.collect();
                Become::Node(self.nodes.of(node), sent)
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Become::Broken(format!("an assertion fired: {}", text.unwrap_or("?")))
            }
        };
        self.known.insert((node, step), becomes.clone());
        becomes
    }

    fn judge(&mut self, state: &State) -> Result<(), String> {
        if self.judged.contains(&state[..self.count]) {
            return Ok(());
        }
        let nodes: Vec<&S::Node> = state[..self.count].iter().map(|n| self.nodes.get(*n)).collect();
        self.system.judge(&nodes)?;
        let system = self.system;
        self.missed.retain(|goal| !system.reached(*goal, &nodes));
        self.judged.insert(state[..self.count].into());
        Ok(())
    }

    fn steps_to(&self, state: u32) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut at = state;
        while at != 0 {
            let (from, step) = self.parents[at as usize];
            steps.push(step);
            at = from;
        }
        steps.reverse();
        steps
    }

    fn line(&self, step: Step) -> String {
        match step {
            Step::Arrives(message) => {
                let Envelope { from, to, message } = self.messages.get(message);
                format!("r{from} -> r{to} {message}")
            }
            Step::Happens(at, event) => format!("r{at} {}", self.events.get(event)),
        }
    }
}

#[cfg(test)]
mod tests {
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
        Bounds { links: Links::Any, events: vec![forgets], repeats, states_max: 100_000 }
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
}
