//! States by number, and the steps between them.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Bounds, Envelope, Links, Outcome, System};

/// Gives each different thing a number.
pub(super) struct Numbers<T> {
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

    pub(super) fn len(&self) -> usize {
        self.things.len()
    }
}

/// One step: what happens where, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Step {
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
pub(super) type State = Box<[u32]>;

/// An event that may happen, by number, and its class.
type Offer = (u32, Option<usize>);

/// All that is known of a system so far.
pub(super) struct Space<'a, S: System> {
    pub(super) system: &'a S,
    bounds: &'a Bounds,
    count: usize,
    pub(super) nodes: Numbers<S::Node>,
    pub(super) messages: Numbers<Envelope<S::Message>>,
    events: Numbers<S::Event>,
    /// What may happen by itself at a node, with its class.
    offers: HashMap<(u16, u32), Vec<Offer>>,
    known: HashMap<(u32, Step), Become>,
    judged: HashSet<Box<[u32]>>,
    missed: Vec<usize>,
}

impl<'a, S: System> Space<'a, S> {
    /// With it the state in which everything begins.
    pub(super) fn new(system: &'a S, bounds: &'a Bounds) -> (Self, State) {
        let (nodes, on_the_way) = system.start();
        let mut space = Self {
            system,
            bounds,
            count: nodes.len(),
            nodes: Numbers::new(),
            messages: Numbers::new(),
            events: Numbers::new(),
            offers: HashMap::new(),
            known: HashMap::new(),
            judged: HashSet::new(),
            missed: (0..system.goals().len()).collect(),
        };
        let mut state: Vec<u32> = nodes.into_iter().map(|node| space.nodes.of(node)).collect();
        state.extend(std::iter::repeat_n(0, bounds.events.len() + 1));
        let sent: Vec<u32> = on_the_way.into_iter().map(|m| space.messages.of(m)).collect();
        space.post(&mut state, &sent);
        (space, state.into_boxed_slice())
    }

    /// How many steps of a single node were worked out.
    pub(super) fn worked_out(&self) -> usize {
        self.known.len()
    }

    /// The goals that no judged state has reached.
    pub(super) fn missed(&self) -> Vec<&'static str> {
        let goals = self.system.goals();
        self.missed.iter().map(|goal| goals[*goal]).collect()
    }

    /// Everything that may be next.
    pub(super) fn offered(&mut self, state: &State) -> Vec<Step> {
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

    /// The states to which a step leads: none if it changes nothing, two if its message may stay on
    /// the way.
    pub(super) fn follow(
        &mut self,
        state: &State,
        step: Step,
        after: &mut Vec<State>,
    ) -> Result<(), String> {
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
        let mut next: Vec<u32> = state.to_vec();
        next[at] = node;
        if let Step::Happens(_, event) = step
            && let Some(class) = self.system.class(self.events.get(event))
        {
            next[self.count + class] += 1;
        }
        if let Step::Arrives(message) = step {
            if self.bounds.links == Links::Any && next[head - 1] < u32::from(self.bounds.repeats) {
                let mut kept = next.clone();
                kept[head - 1] += 1;
                self.post(&mut kept, &sent);
                after.push(kept.into_boxed_slice());
            }
            self.take(&mut next, message);
        }
        self.post(&mut next, &sent);
        after.push(next.into_boxed_slice());
        Ok(())
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

    fn becomes(&mut self, at: usize, node: u32, step: Step) -> Become {
        if let Some(known) = self.known.get(&(node, step)) {
            return known.clone();
        }
        let before = self.nodes.get(node);
        let outcome = catch(|| match step {
            Step::Arrives(message) => {
                let envelope = self.messages.get(message);
                self.system.arrive(at, before, envelope.from, &envelope.message)
            }
            Step::Happens(_, event) => self.system.happen(at, before, self.events.get(event)),
        });
        let becomes = match outcome {
            Ok(Outcome { node, sent }) => {
                let sent = sent
                    .into_iter()
                    .map(|(to, message)| self.messages.of(Envelope { from: at, to, message }));
                let sent = sent.collect();
                Become::Node(self.nodes.of(node), sent)
            }
            Err(what) => Become::Broken(what),
        };
        self.known.insert((node, step), becomes.clone());
        becomes
    }

    /// Whether what must always hold does in a state.
    pub(super) fn judge(&mut self, state: &State) -> Result<(), String> {
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

    /// Whether the group comes to what it must from a state in which nothing goes wrong any more.
    pub(super) fn recovers(&self, state: &State) -> Result<(), String> {
        let nodes = state[..self.count].iter().map(|n| self.nodes.get(*n).clone()).collect();
        let on_the_way = state[self.head()..].iter().map(|m| self.messages.get(*m).clone());
        catch(|| self.system.recovers(nodes, on_the_way.collect()))?
    }

    pub(super) fn line(&self, step: Step) -> String {
        match step {
            Step::Arrives(message) => {
                let Envelope { from, to, message } = self.messages.get(message);
                format!("r{from} -> r{to} {message}")
            }
            Step::Happens(at, event) => format!("r{at} {}", self.events.get(event)),
        }
    }
}

/// An assertion that fires is something that does not hold.
fn catch<R>(works: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(works)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        format!("an assertion fired: {}", text.unwrap_or("?"))
    })
}
