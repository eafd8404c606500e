//! When a leader of an idle group orders time, and when it lets it be.

use mainstay_consensus::{Input, Settings};
use mainstay_model::{Slot, Timestamp};

use crate::alone::{Alone, MS};
use crate::leader_with;

/// The service has applied everything, and wants to be woken then.
fn wants_time(a: &mut Alone, wake: Option<Timestamp>) {
    let upto = a.replica.status().decided;
    a.step(Input::Applied { upto, time: Timestamp(0), wake });
    a.end_turn();
}

/// The only key that was to expire is deleted: the moment passes, and nothing is to be done in it. (The
/// leader would take its whole processor for it, until something else is to expire.)
#[test]
fn a_moment_that_is_not_waited_for_any_more_passes() {
    let (mut a, _) = leader_with(Settings::default());
    let accepted = a.replica.status().accepted;
    let moment = Timestamp(a.replica.time().0 + 100 * MS);
    wants_time(&mut a, Some(moment));
    a.pass(50);
    wants_time(&mut a, None);
    // Whoever calls would find a deadline that stays in the past.
    a.pass(200);
    assert_eq!(a.replica.status().accepted, accepted, "no time was ordered");
    assert_eq!(accepted, Slot(1));
}
