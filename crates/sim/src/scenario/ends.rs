//! Scenarios in which processes end and come back, and nothing else happens.

use super::{MILLI, Stage};
use crate::fault::{Fault, Target};

pub(super) fn leader_kill(stage: &mut Stage) {
    for _ in 0..3 {
        let time = stage.world.core.time();
        stage.now(Fault::Kill { target: Target::Leader, down: 100 * MILLI });
        stage.expect_progress(time);
    }
}

pub(super) fn all_down(stage: &mut Stage) {
    stage.now(Fault::PowerLossOfAll { down: 100 * MILLI });
    // The last one is up after half as long again.
    let time = stage.world.core.time() + 150 * MILLI;
    stage.expect_progress(time);
}
