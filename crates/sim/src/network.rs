//! The network between nodes: delay, loss, duplication, reordering, and cut directions.

use std::collections::{BTreeMap, BTreeSet};

use mainstay_model::Prng;

use crate::world::NodeId;

/// How long a message is on its way, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Evenly between two bounds.
    Uniform {
        /// The shortest.
        low: u64,
        /// The longest.
        high: u64,
    },
    /// Mostly short, sometimes very long.
    Tailed {
        /// The usual longest; the shortest is a tenth of it.
        usual: u64,
        /// How many in a thousand are slow.
        slow_permille: u64,
        /// The longest of the slow ones.
        slow: u64,
    },
}

impl Delay {
    fn draw(self, prng: &mut Prng) -> u64 {
        match self {
            Self::Uniform { low, high } => prng.between(low, high),
            Self::Tailed { usual, slow_permille, slow } => {
                if prng.chance(slow_permille, 1_000) {
                    prng.between(usual, slow.max(usual))
                } else {
                    prng.between(usual / 10, usual)
                }
            }
        }
    }
}

/// What the network of a run does to messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkOptions {
    /// The delays.
    pub delay: Delay,
    /// How many messages in a million are lost.
    pub loss_ppm: u64,
    /// How many in a million arrive twice.
    pub duplicate_ppm: u64,
    /// Whether messages of one direction may overtake one another.
    pub reorder: bool,
}

impl NetworkOptions {
    /// A quiet local network.
    pub const CALM: Self = Self {
        delay: Delay::Uniform { low: 50_000, high: 400_000 },
        loss_ppm: 0,
        duplicate_ppm: 0,
        reorder: false,
    };
}

/// The state of the network.
#[derive(Debug)]
pub struct Network {
    options: NetworkOptions,
    prng: Prng,
    /// Directions in which nothing passes.
    cuts: BTreeSet<(NodeId, NodeId)>,
    /// By how much later than usual what is sent in a direction arrives, in nanoseconds.
    delays: BTreeMap<(NodeId, NodeId), u64>,
    /// When the last message of a direction arrives: the next one comes no earlier.
    arrivals: BTreeMap<(NodeId, NodeId), u64>,
    /// The same for those that must not overtake one another.
    in_order: BTreeMap<(NodeId, NodeId), u64>,
}

/// When a message sent now arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routed {
    /// Never.
    Lost,
    /// Once.
    Once(u64),
    /// Twice.
    Twice(u64, u64),
}

impl Network {
    /// A whole network.
    #[must_use]
    pub const fn new(options: NetworkOptions, prng: Prng) -> Self {
        Self {
            options,
            prng,
            cuts: BTreeSet::new(),
            delays: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            in_order: BTreeMap::new(),
        }
    }

    /// Sends a message off at `time`.
    pub fn route(&mut self, time: u64, from: NodeId, to: NodeId) -> Routed {
        if self.is_cut(from, to) || self.prng.chance(self.options.loss_ppm, 1_000_000) {
            return Routed::Lost;
        }
        let first = self.arrival(time, from, to);
        if self.prng.chance(self.options.duplicate_ppm, 1_000_000) {
            let second = self.arrival(time, from, to);
            return Routed::Twice(first, second);
        }
        Routed::Once(first)
    }

    /// The same for a message that arrives once at most and behind every one sent so before.
    pub fn route_in_order(&mut self, time: u64, from: NodeId, to: NodeId) -> Routed {
        if self.is_cut(from, to) || self.prng.chance(self.options.loss_ppm, 1_000_000) {
            return Routed::Lost;
        }
        let at = self.usual_arrival(time, from, to);
        let last = self.in_order.entry((from, to)).or_default();
        *last = at.max(*last);
        Routed::Once(*last)
    }

    /// Were it not for what was sent before.
    fn usual_arrival(&mut self, time: u64, from: NodeId, to: NodeId) -> u64 {
        let later = self.delays.get(&(from, to)).copied().unwrap_or_default();
        time + later + self.options.delay.draw(&mut self.prng)
    }

    fn arrival(&mut self, time: u64, from: NodeId, to: NodeId) -> u64 {
        let mut at = self.usual_arrival(time, from, to);
        if !self.options.reorder {
            let last = self.arrivals.entry((from, to)).or_default();
            at = at.max(*last);
            *last = at;
        }
        at
    }

    /// Whether nothing passes in this direction.
    #[must_use]
    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// Cuts one direction.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.insert((from, to));
    }

    /// Mends everything that was cut.
    pub fn mend(&mut self) {
        self.cuts.clear();
    }

    /// Has what is sent in one direction arrive later, by so many nanoseconds.
    pub fn delay(&mut self, from: NodeId, to: NodeId, by: u64) {
        self.delays.insert((from, to), by);
    }

    /// Nothing that is sent from now on arrives later than usual.
    pub fn end_delays(&mut self) {
        self.delays.clear();
    }

    /// Ends loss and duplication and very long delays: the network after healing.
    pub const fn calm(&mut self) {
        self.options = NetworkOptions::CALM;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(0);
    const B: NodeId = NodeId(1);

    #[test]
    fn a_cut_has_one_direction() {
        let mut network = Network::new(NetworkOptions::CALM, Prng::new(1));
        network.cut(A, B);
        assert_eq!(network.route(0, A, B), Routed::Lost, "the cut direction");
        assert!(matches!(network.route(0, B, A), Routed::Once(_)), "the other one");
        network.mend();
        assert!(matches!(network.route(0, A, B), Routed::Once(_)), "mended");
    }

    #[test]
    fn without_reordering_a_direction_is_first_in_first_out() {
        let mut network = Network::new(NetworkOptions::CALM, Prng::new(7));
        let mut last = 0;
        for time in 0..1_000 {
            let Routed::Once(at) = network.route(time * 10_000, A, B) else {
                panic!("a calm network loses nothing")
            };
            assert!(at >= last, "arrivals in the order of sending");
            last = at;
        }
    }
}
