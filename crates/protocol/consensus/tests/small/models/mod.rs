//! Small groups of the real machine, in every state they can reach. `docs/protocols/models.md` tells
//! what is explored and how to explore more of it.

mod checkpoints;
mod leader_change;
mod model;
mod ordering;
mod properties;
mod recovery;
mod transfer;
mod walks;

use mainstay_consensus::{Body, Message};
use mainstay_model::Plant;

use crate::node::Node;
use model::{Goal, Model};

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
