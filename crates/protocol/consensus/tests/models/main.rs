//! Small groups of the real machine, in every state they can reach. `docs/protocols/models.md` tells
//! what is explored and how to explore more of it.

#[path = "../node/mod.rs"]
mod node;

mod leader_change;
mod model;
mod ordering;

use mainstay_consensus::{Body, Message};
use mainstay_model::{Plant, Slot};

use model::{Goal, Model};
use node::{Node, Stage, World};

/// Explores a model that fits into a test, and `large` instead where the environment asks for it with
/// `MODELS=large`; prints what there was to see.
fn holds(name: &str, small: impl FnOnce() -> Model, large: impl FnOnce() -> Model) {
    let asked = std::env::var("MODELS").is_ok_and(|size| size == "large");
    let (model, states_max) = if asked { (large(), 60_000_000) } else { (small(), 3_000_000) };
    let report = model.explore(states_max);
    println!("{name}: {report}");
    if let Some(violation) = report.violation {
        panic!("{name}\n{violation}");
    }
    assert!(report.missed.is_empty(), "{name} shows nothing: {:?} never came about", report.missed);
    assert!(report.complete || asked, "{name} is too large for a test");
}

/// The same model with a bug planted must not hold.
fn fails(plant: Plant, model: Model) {
    let report = model.explore(3_000_000);
    let name = plant.name();
    let violation = report.violation.unwrap_or_else(|| panic!("{name} is not found"));
    println!("{name}, {} states:\n{violation}", report.states);
}

/// A group whose replica 0 leads and has decided its first slot everywhere, and whose disks know.
fn led(world: World) -> Stage {
    let mut stage = Stage::new(world);
    stage.settle(|_| true);
    stage.at(0, |world, node, sent| world.stand(0, node, sent));
    for _ in 0..8 {
        stage.settle(|_| false);
        for at in 0..stage.nodes.len() {
            stage.at(at, |world, node, sent| world.sync(node, sent));
        }
    }
    for node in &mut stage.nodes {
        assert_eq!(node.replica.status().decided, Slot(1));
        node.disk.knows_decided(Slot(1));
    }
    stage
}

/// What only says that somebody lives or how its clock stands, or asks after it.
fn chatter(message: &Message) -> bool {
    match &message.body {
        Body::Probe(_) | Body::ProbeReply(_) | Body::Follow(_) => true,
        Body::Lead(lead) => lead.round > 0,
        _ => false,
    }
}

/// That, and what nobody needs who hears the rest: refusals, and catching up.
fn all_but_phases(message: &Message) -> bool {
    match &message.body {
        Body::CatchUp(_) | Body::Decided(_) | Body::Refused(_) => true,
        _ => chatter(message),
    }
}

fn decided_everywhere(nodes: &[&Node], slots: usize) -> bool {
    nodes.iter().all(|node| node.past.told.len() >= slots)
}

const TWO_DECIDED: Goal = Goal {
    name: "what is proposed is decided everywhere",
    holds: |nodes| decided_everywhere(nodes, 2),
};
