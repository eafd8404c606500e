//! Far beyond what can be explored: requests, crashes, waits and candidacies together, drawn by lot.
//! `WALKS=20000` takes that many.

use super::checkpoints::one_checkpoint;
use super::model::{Model, allowed};
use super::transfer::away;

const ANYBODY: &[usize] = &[0, 1, 2];

fn with_all(model: Model) -> Model {
    Model {
        submits: allowed(4, ANYBODY),
        stands: allowed(2, ANYBODY),
        restarts: allowed(3, ANYBODY),
        waits: allowed(6, ANYBODY),
        ..model
    }
}

fn holds(name: &str, model: &Model) {
    let asked = std::env::var("WALKS").ok().and_then(|count| count.parse().ok());
    let walks = asked.unwrap_or(150);
    let found = model.walk(1, walks, 120);
    println!("{name}: {walks} walks, {} steps", found.steps);
    if let Some(violation) = found.violation {
        panic!("{name}\n{violation}");
    }
}

#[test]
fn around_a_checkpoint() {
    holds("walks around a checkpoint", &with_all(one_checkpoint(None)));
}

#[test]
fn around_a_transfer() {
    holds("walks around a transfer", &with_all(away(None)));
}
