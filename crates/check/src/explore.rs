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

mod search;
mod space;
#[cfg(test)]
mod tests;
mod walk;

use std::fmt::{self, Display};
use std::hash::Hash;

pub use search::explore;
pub use walk::{Walks, walk};

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

    /// Whether the group, if nothing goes wrong any more, comes from here to what it must come to. Asked
    /// of one state in [`Bounds::recover_every`].
    ///
    /// # Errors
    /// What does not come about, in a sentence.
    fn recovers(
        &self,
        _nodes: Vec<Self::Node>,
        _on_the_way: Vec<Envelope<Self::Message>>,
    ) -> Result<(), String> {
        Ok(())
    }

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
    /// Of one state in so many it is asked whether the group recovers from it; of none if 0.
    pub recover_every: u32,
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
    /// States of which it was asked whether the group recovers.
    pub recovered: usize,
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
        if self.recovered > 0 {
            write!(f, "; recovers from {} of them", self.recovered)?;
        }
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
