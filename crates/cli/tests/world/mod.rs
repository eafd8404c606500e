//! Clusters of real processes on a real disk, their clients, and what these saw.
//!
//! | file | holds |
//! |---|---|
//! | `cluster` | [`Cluster`]: starts `mainstay up`, tells how it is, sends signals, leaves nothing behind |
//! | `by_hand` | [`by_hand::ByHand`]: replicas started one by one, in place of `up` |
//! | `place` | where a cluster may be: a folder, ports, its share of the machine |
//! | `writers` | [`Writers`]: threads with a Redis client that write down what they saw |
//! | `command` | what they ask, and how a reply reads |
//! | `counters` | [`Counters`]: clients of our own that count |
//! | `crowd` | [`crowd::Crowd`]: many connections whose speed is measured |
//! | `raw` | bytes in, bytes out |
//! | `slow_disk` | a disk that can be slowed down, for programs of our own |
//! | `own_program` | tests whose binary is also the program that they run |

pub(crate) mod by_hand;
pub(crate) mod cluster;
pub(crate) mod command;
pub(crate) mod counters;
pub(crate) mod crowd;
pub(crate) mod own_program;
pub(crate) mod place;
pub(crate) mod raw;
pub(crate) mod slow_disk;
pub(crate) mod writers;

use std::time::{Duration, Instant};

pub(crate) use cluster::Cluster;
pub(crate) use counters::Counters;
pub(crate) use writers::Writers;

/// How long anything may take: machines that run tests are slow at times.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks at something that cannot be waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until something is there; returns it.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "not within {DEADLINE:?}: {what}");
        pause(LOOK_INTERVAL);
    }
}

/// Waits until something holds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

/// The only sleep of these tests: between two looks, between two commands of one client, or as long
/// as a fault lasts.
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
