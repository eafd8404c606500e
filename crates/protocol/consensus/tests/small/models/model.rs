//! A small group of real machines as something that can be explored: what may happen to it, and what
//! must always hold.

use std::fmt;

use mainstay_check::explore::{
    Bounds, Envelope, Links, Outcome, Report, System, Walks, explore, walk,
};
use mainstay_consensus::Role;

use super::{properties, recovery};
use crate::node::{Letter, Node, Sent, Stage, World};

/// What happens at a node by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    Submit,
    Stand,
    /// Crashes and is back, with so many of the writes that were under way.
    Restart(usize),
    Wait,
    Diverge,
    Rot,
    Sync,
    Checkpoint,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submit => write!(f, "is asked by a client"),
            Self::Stand => write!(f, "stands as candidate"),
            Self::Restart(kept) => write!(f, "crashes, keeps {kept} unsynced writes, and is back"),
            Self::Wait => write!(f, "has waited long enough"),
            Self::Diverge => write!(f, "has a state of its own from now on"),
            Self::Rot => write!(f, "has checkpoints that rot from now on"),
            Self::Sync => write!(f, "has synced"),
            Self::Checkpoint => write!(f, "has written its checkpoint"),
        }
    }
}

/// How often on one path, and where.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowed {
    pub(crate) times: u8,
    pub(crate) at: &'static [usize],
}

pub(crate) const NEVER: Allowed = Allowed { times: 0, at: &[] };

pub(crate) const fn allowed(times: u8, at: &'static [usize]) -> Allowed {
    Allowed { times, at }
}

/// Something that must come about somewhere.
pub(crate) struct Goal {
    pub(crate) name: &'static str,
    pub(crate) holds: fn(&[&Node]) -> bool,
}

/// A group, where it begins, and what may happen to it.
pub(crate) struct Model {
    pub(crate) begins: Stage,
    pub(crate) submits: Allowed,
    pub(crate) stands: Allowed,
    pub(crate) restarts: Allowed,
    pub(crate) waits: Allowed,
    pub(crate) diverges: Allowed,
    pub(crate) rots: Allowed,
    pub(crate) links: Links,
    pub(crate) repeats: u8,
    /// Of one state in so many it is asked whether the group recovers from it.
    pub(crate) recover_every: u32,
    pub(crate) goals: Vec<Goal>,
}

impl Model {
    /// Nothing happens to it but that messages arrive, in order, and disks sync.
    pub(crate) fn new(begins: Stage) -> Self {
        Self {
            begins,
            submits: NEVER,
            stands: NEVER,
            restarts: NEVER,
            waits: NEVER,
            diverges: NEVER,
            rots: NEVER,
            links: Links::Ordered,
            repeats: 0,
            recover_every: 0,
            goals: Vec::new(),
        }
    }

    fn classes(&self) -> [Allowed; 6] {
        [self.submits, self.stands, self.restarts, self.waits, self.diverges, self.rots]
    }

    fn bounds(&self, states_max: usize) -> Bounds {
        Bounds {
            links: self.links,
            events: self.classes().iter().map(|allowed| allowed.times).collect(),
            repeats: self.repeats,
            states_max,
            recover_every: self.recover_every,
        }
    }

    pub(crate) fn explore(&self, states_max: usize) -> Report {
        explore(self, &self.bounds(states_max))
    }

    /// Walks of at most so many steps, drawn by lot.
    pub(crate) fn walk(&self, seed: u64, walks: u32, steps_max: u32) -> Walks {
        walk(self, &self.bounds(0), seed, (walks, steps_max))
    }
}

impl System for Model {
    type Node = Node;
    type Message = Letter;
    type Event = Event;

    fn start(&self) -> (Vec<Node>, Vec<Envelope<Letter>>) {
        (self.begins.nodes.clone(), self.begins.on_the_way.clone())
    }

    fn events(&self, at: usize, node: &Node) -> Vec<Event> {
        let mut events = Vec::new();
        let follows = node.role() == Role::Follower;
        let may = |allowed: Allowed| allowed.at.contains(&at);
        let single = [
            (may(self.submits), Event::Submit),
            (may(self.stands) && follows, Event::Stand),
            (may(self.waits), Event::Wait),
            (may(self.diverges), Event::Diverge),
            (may(self.rots), Event::Rot),
            (node.writes() > 0, Event::Sync),
            (node.checkpoint_is_due(), Event::Checkpoint),
        ];
        events.extend(single.into_iter().filter(|(may, _)| *may).map(|(_, event)| event));
        if may(self.restarts) {
            events.extend((0..=node.writes()).map(Event::Restart));
        }
        events
    }

    fn class(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Submit => Some(0),
            Event::Stand => Some(1),
            Event::Restart(_) => Some(2),
            Event::Wait => Some(3),
            Event::Diverge => Some(4),
            Event::Rot => Some(5),
            Event::Sync | Event::Checkpoint => None,
        }
    }

    fn happen(&self, at: usize, node: &Node, event: &Event) -> Outcome<Node, Letter> {
        let (world, mut node, mut sent) = (&self.begins.world, node.clone(), Sent::new());
        match event {
            Event::Submit => world.submit(at, &mut node, &mut sent),
            Event::Stand => world.stand(at, &mut node, &mut sent),
            Event::Restart(kept) => world.restart(at as u16, &mut node, *kept, &mut sent),
            Event::Wait => world.wait(&mut node, &mut sent),
            Event::Diverge => World::diverge(&mut node),
            Event::Rot => World::rot(&mut node),
            Event::Sync => world.sync(&mut node, &mut sent),
            Event::Checkpoint => world.write_checkpoint(&mut node, &mut sent),
        }
        Outcome { node, sent }
    }

    fn arrive(&self, _: usize, node: &Node, from: usize, letter: &Letter) -> Outcome<Node, Letter> {
        let (mut node, mut sent) = (node.clone(), Sent::new());
        self.begins.world.arrive(&mut node, from, letter, &mut sent);
        Outcome { node, sent }
    }

    fn judge(&self, nodes: &[&Node]) -> Result<(), String> {
        properties::judge(nodes)
    }

    fn recovers(&self, nodes: Vec<Node>, way: Vec<Envelope<Letter>>) -> Result<(), String> {
        recovery::recovers(&self.begins.world, &nodes, &way)
    }

    fn goals(&self) -> Vec<&'static str> {
        self.goals.iter().map(|goal| goal.name).collect()
    }

    fn reached(&self, goal: usize, nodes: &[&Node]) -> bool {
        (self.goals[goal].holds)(nodes)
    }
}
