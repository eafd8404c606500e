//! What a group must come to once nothing goes wrong any more: all its replicas, or a quorum of them
//! while one is down for good, order a further request and have the same state.

use std::collections::BTreeSet;

use mainstay_check::explore::Envelope;
use mainstay_consensus::{Input, Role};
use mainstay_model::Slot;

use crate::node::{self, Letter, Node, Stage, World};

/// How many ticks it may take: a hundred time-outs.
const TICKS_MAX: usize = 700;

/// Whether the group recovers with everybody there, and without any single one.
pub(super) fn recovers(
    world: &World,
    nodes: &[Node],
    on_the_way: &[Envelope<Letter>],
) -> Result<(), String> {
    // Two faults at once are more than three replicas are for.
    let faulty = nodes.iter().any(|node| node.past.diverged || node.rotten);
    let absent = if faulty { 0 } else { nodes.len() };
    for down in std::iter::once(None).chain((0..absent).map(Some)) {
        let world = World { lost: |_| false, ..world.clone() };
        let stage = Stage { world, nodes: nodes.to_vec(), on_the_way: on_the_way.to_vec() };
        Recovery { stage, down }.run()?;
    }
    Ok(())
}

struct Recovery {
    stage: Stage,
    down: Option<usize>,
}

impl Recovery {
    fn there(&self) -> Vec<usize> {
        (0..self.stage.nodes.len()).filter(|at| Some(*at) != self.down).collect()
    }

    fn run(mut self) -> Result<(), String> {
        if let Some(down) = self.down {
            let gone = Input::Suspicion { peer: node::id(down as u16), suspected: true };
            for at in self.there() {
                self.stage.at(at, |world, node, sent| world.feed(node, gone.clone(), sent));
            }
        }
        for tick in 0..TICKS_MAX {
            for at in self.there() {
                self.stage.at(at, |world, node, sent| {
                    world.tick(node, sent);
                    world.sync(node, sent);
                    world.write_checkpoint(node, sent);
                });
            }
            let down = self.down;
            self.stage.settle(|envelope| Some(envelope.to) == down);
            if tick % 10 == 9 {
                self.ask();
            }
            if self.is_well() {
                return Ok(());
            }
        }
        Err(self.complaint())
    }

    /// Whoever leads is asked for something: a wrong state shows only at the next checkpoint.
    fn ask(&mut self) {
        for at in self.there() {
            if self.stage.nodes[at].role() == Role::Leader {
                self.stage.at(at, |world, node, sent| world.ask(node, "z", sent));
            }
        }
    }

    /// Whether what was asked for is applied everywhere, with one state.
    fn is_well(&self) -> bool {
        let told = self.stage.nodes.iter().flat_map(|node| &node.past.told);
        let further = told.filter(|(_, value)| node::requests(value) == "z").map(|(slot, _)| *slot);
        let Some(further) = further.min() else { return false };
        let states: BTreeSet<(Slot, u64)> = self
            .there()
            .into_iter()
            .map(|at| &self.stage.nodes[at].executor)
            .map(|executor| (executor.applied, executor.digest))
            .collect();
        states.len() == 1 && states.iter().all(|(applied, _)| *applied >= further)
    }

    fn complaint(&self) -> String {
        let state = |at: usize| {
            let status = self.stage.nodes[at].replica.status();
            format!(
                "r{at} {:?}, decided {}, applied {}, checkpoint {}, stable {}",
                status.role,
                status.decided.0,
                status.applied.0,
                status.checkpoint.0,
                status.stable.0
            )
        };
        let without = self.down.map_or_else(String::new, |down| format!(" without r{down}"));
        let states: Vec<String> = self.there().into_iter().map(state).collect();
        format!("the group never recovers{without}: {}", states.join("; "))
    }
}
