//! The load under which faults happen.

use crate::world::{Cluster, Counters, Writers};

/// How many writers there are, and as many clients that count.
pub(crate) const WRITERS: usize = 10;
/// How many replies each of them gets before a fault, and after.
const REPLIES: u64 = 20;

/// Ten writers with a Redis client, and ten clients of our own that count.
pub(crate) struct Load {
    pub(crate) writers: Writers,
    counters: Counters,
}

impl Load {
    /// Starts them, and waits until all have got replies.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let load = Self {
            writers: Writers::start(cluster, WRITERS),
            counters: Counters::start(cluster, WRITERS),
        };
        load.goes_on();
        load
    }

    /// Waits until all of them have got more replies.
    pub(crate) fn goes_on(&self) {
        self.writers.wait_for_replies(REPLIES);
        self.counters.wait_for_replies(REPLIES);
    }

    /// Stops the load and checks what it saw: one order explains every reply, and nothing that was
    /// counted is lost or counted twice.
    pub(crate) fn finish(self, cluster: &Cluster) {
        let counted = self.counters.finish();
        let seen = self.writers.finish(cluster);
        println!("{}; {} counted, each once", seen.describe(), counted.done());
    }
}
