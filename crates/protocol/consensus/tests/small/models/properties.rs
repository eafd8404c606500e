//! What must hold in every state of a group.

use std::collections::BTreeMap;

use mainstay_model::{CheckpointId, Slot, Value};

use crate::node::{self, Node};

/// What the group decided, and the state after each slot of it.
struct Truth {
    decided: BTreeMap<Slot, Value>,
    /// The digest after each slot, as long as there is no hole.
    digests: BTreeMap<Slot, u64>,
}

impl Truth {
    /// Agreement: no slot is told to anybody with two values.
    fn of(nodes: &[&Node]) -> Result<Self, String> {
        let mut decided: BTreeMap<Slot, Value> = BTreeMap::new();
        for (slot, value) in nodes.iter().flat_map(|node| &node.past.told) {
            let known = decided.entry(*slot).or_insert_with(|| value.clone());
            if known != value {
                let (one, other) = (node::requests(known), node::requests(value));
                return Err(format!("slot {} is decided as {one} and as {other}", slot.0));
            }
        }
        let mut digests = BTreeMap::from([(Slot::NONE, 0)]);
        let (mut last, mut digest) = (Slot::NONE, 0);
        for (slot, value) in &decided {
            if *slot != last.next() {
                return Err(format!("slot {} is told and the one before it is not", slot.0));
            }
            digest = node::digest_after(digest, value);
            digests.insert(*slot, digest);
            last = *slot;
        }
        Ok(Self { decided, digests })
    }

    /// Whether a checkpoint holds the state after what was decided up to its slot.
    fn is_right(&self, checkpoint: &CheckpointId) -> bool {
        self.digests.get(&checkpoint.slot) == Some(&checkpoint.digest)
    }
}

/// How many nodes are a quorum.
fn quorum(nodes: &[&Node]) -> usize {
    nodes.len() / 2 + 1
}

fn held_by(nodes: &[&Node], holds: impl Fn(&CheckpointId) -> bool) -> usize {
    nodes.iter().filter(|node| node.past.held.iter().any(&holds)).count()
}

/// Whether all of it holds.
pub(super) fn judge(nodes: &[&Node]) -> Result<(), String> {
    let truth = Truth::of(nodes)?;
    any_quorum_keeps_all(nodes, &truth)?;
    for (at, node) in nodes.iter().enumerate() {
        discarded_is_held(nodes, node, &truth)
            .and_then(|()| transferred_was_stable(nodes, node, &truth))
            .and_then(|()| state_is_that_of_the_log(node, &truth))
            .and_then(|()| promises_are_kept(node))
            .map_err(|what| format!("r{at} {what}"))?;
    }
    Ok(())
}

/// Everything decided is on the disks of so many that every quorum has one of them: as an entry of its
/// log, or in a checkpoint with the right state.
fn any_quorum_keeps_all(nodes: &[&Node], truth: &Truth) -> Result<(), String> {
    for (slot, value) in &truth.decided {
        let keeps = |node: &&&Node| node.disk.keeps(*slot, value, |held| truth.is_right(held));
        let keep = nodes.iter().filter(keeps).count();
        if keep < quorum(nodes) {
            let text = node::requests(value);
            return Err(format!("slot {} is decided as {text}, and {keep} disks keep it", slot.0));
        }
    }
    Ok(())
}

/// A log goes no further than what its own disk and a quorum hold in checkpoints.
fn discarded_is_held(nodes: &[&Node], node: &Node, truth: &Truth) -> Result<(), String> {
    let gone = node.disk.truncated_upto;
    let right = node.disk.checkpoints.iter().filter(|own| truth.is_right(own));
    if gone > right.map(|own| own.slot).max().unwrap_or(Slot::NONE) {
        return Err("has discarded what no right checkpoint of its own holds".to_owned());
    }
    let held = held_by(nodes, |held| held.slot >= gone && truth.is_right(held));
    if gone > Slot::NONE && held < quorum(nodes) {
        return Err("has discarded what no quorum holds in a checkpoint".to_owned());
    }
    Ok(())
}

/// What is fetched, given away or installed was stable, and is the state of the others.
fn transferred_was_stable(nodes: &[&Node], node: &Node, truth: &Truth) -> Result<(), String> {
    let past = &node.past;
    for (what, which) in
        [("fetches", &past.fetched), ("gives away", &past.gave), ("has installed", &past.installed)]
    {
        for checkpoint in which {
            if held_by(nodes, |held| held == checkpoint) < quorum(nodes) {
                return Err(format!("{what} a checkpoint that was never stable"));
            }
            if !truth.is_right(checkpoint) {
                return Err(format!("{what} a checkpoint of another state than that of the log"));
            }
        }
    }
    Ok(())
}

/// A state is that after what was decided up to its slot, except where it was made to go wrong; and
/// who knows that its own has gone wrong goes on with none.
fn state_is_that_of_the_log(node: &Node, truth: &Truth) -> Result<(), String> {
    let executor = &node.executor;
    let right = truth.digests.get(&executor.applied) == Some(&executor.digest);
    if !right && !node.past.diverged {
        return Err(format!("has another state after slot {} than its log", executor.applied.0));
    }
    if node.replica.status().diverged.is_some() && !executor.stopped {
        return Err("knows that its state is wrong, and goes on with it".to_owned());
    }
    Ok(())
}

/// What left is on the disk: no promise and no vote is lost by discarding or installing.
fn promises_are_kept(node: &Node) -> Result<(), String> {
    let (disk, past) = (&node.disk, &node.past);
    if disk.promised < past.promised {
        return Err("has promised what its disk does not know of".to_owned());
    }
    for (slot, ballot) in &past.accepted {
        let kept = disk.entries.get(slot).is_some_and(|entry| entry.ballot >= *ballot);
        if !kept && *slot > disk.truncated_upto && !past.told.contains_key(slot) {
            return Err(format!("has accepted in slot {} what its disk does not hold", slot.0));
        }
    }
    Ok(())
}
