//! What comes in the way of a transfer that has trouble already: a second failure during the first.

use crate::cluster::{Cluster, MS};
use crate::transfer::{caught_up, one_returns};

/// Replicas on two continents: every answer takes longer than the time after which the next one is
/// asked. That their logs begin too late must be heard all the same.
#[test]
fn a_replica_far_away_from_all_others_gets_their_state() {
    for way in [40, 75, 120, 160, 240] {
        for count in [3, 5] {
            let mut c = Cluster::new(count, way);
            let (_, away) = one_returns(&mut c, count);
            for other in (0..count).filter(|other| *other != away) {
                c.slow_ways.insert((away, other), way * MS);
                c.slow_ways.insert((other, away), way * MS);
            }
            c.run_until(10_000, |c| caught_up(c, away));
        }
    }
}
