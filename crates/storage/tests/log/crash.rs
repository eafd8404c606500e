//! Random records, random crashes: what comes back is a prefix of what was appended, and holds all
//! that was synced.

use crate::twin::{Action, actions, run};
use mainstay_model::plant::Planted;
use mainstay_model::{NoPlants, Plant};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_back_is_a_prefix_with_all_that_was_synced(actions in actions()) {
        run(&actions, NoPlants)?;
    }
}

/// Whether any of some crashes shows a plant.
fn is_found(plant: Plant, crashes: impl Fn(u64) -> Vec<Action>) -> bool {
    (0..20).any(|seed| run(&crashes(seed), Planted(Some(plant))).is_err())
}

#[test]
fn bytes_read_back_and_taken_for_durable_are_missed() {
    let crashes = |seed| {
        vec![Action::Append(vec![(3, 0, 100), (3, 1, 100)]), Action::Die, Action::LosePower(seed)]
    };
    assert!(is_found(Plant::ReadBackTakenForDurable, crashes));
    assert!((0..20).all(|seed| run(&crashes(seed), NoPlants).is_ok()));
}

#[test]
fn a_promise_whose_segment_goes_is_written_anew_first() {
    let accepts = |count| Action::Append((0..count).map(|slot| (3, slot, 90)).collect());
    let actions = |seed| {
        let decided = Action::Append(vec![(0, 0, 0), (0, 0, 0), (0, 0, 0), (1, 0, 0)]);
        let discard = Action::Discard(0, 0);
        vec![accepts(3), decided, Action::Sync, discard, Action::LosePower(seed)]
    };
    assert!(is_found(Plant::SegmentWithPromiseDiscarded, actions));
    assert!((0..20).all(|seed| run(&actions(seed), NoPlants).is_ok()));
}

#[test]
fn giving_slots_up_can_be_cut_short_anywhere() {
    let long = Action::Append(vec![(3, 0, 9000), (0, 0, 0), (0, 0, 0)]);
    for after in 0..24 {
        for seed in 0..8 {
            let mut actions = vec![long.clone(), long.clone(), long.clone(), Action::Sync];
            actions.extend([Action::Prepare, Action::LosePowerAfter(after, seed)]);
            actions.extend([Action::Discard(1, 0), long.clone(), Action::Sync]);
            actions.extend([Action::BeginAfter(3), long.clone(), Action::Discard(0, 0)]);
            actions.extend([Action::Die, long.clone(), Action::Sync, Action::Die]);
            run(&actions, NoPlants).unwrap_or_else(|error| {
                panic!("cut short after {after} changes, seed {seed}: {error}");
            });
        }
    }
}

#[test]
fn a_start_cut_short_anywhere_can_be_made_again() {
    let long = |slot| Action::Append(vec![(3, slot, 3000), (0, 0, 0)]);
    for after in 0..30 {
        for seed in 0..8 {
            let actions = [
                long(0),
                Action::Prepare,
                long(1),
                Action::Sync,
                long(2),
                Action::Prepare,
                long(3),
                Action::LosePowerAfter(after, seed),
                Action::Die,
                long(4),
                Action::Sync,
                Action::Die,
            ];
            run(&actions, NoPlants).unwrap_or_else(|error| {
                panic!("cut short after {after} changes, seed {seed}: {error}");
            });
        }
    }
}
