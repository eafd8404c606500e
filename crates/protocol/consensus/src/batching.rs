//! When what is queued at the leader becomes a proposal.
//!
//! *Adaptive*: a batch leaves at the end of a turn, as long as the send window has room; with nothing
//! in flight a request does not wait, and while the window is full the next batch grows. *Fixed* (Chai
//! 2009, section 4.1): a batch leaves when it holds a set number of requests, at most one of each
//! client, or when a timer has run out since it began to fill.

use alloc::vec::Vec;
use core::time::Duration;

use mainstay_model::{Batch, Instant, Plants, RequestId};

use crate::queue::Take;
use crate::replica::{Cx, Office, Replica};
use crate::settings::Batching;

impl<P: Plants> Replica<P> {
    /// Proposes what is queued, as far as it may be now.
    pub(crate) fn propose_queued(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        while self.may_propose(now) && self.batch_is_due(now) {
            let Office::Leader(leader) = &mut self.office else { return };
            let slot = leader.next_slot();
            let waiting = self.submissions.queue.take(self.take_of_a_batch(), now);
            let ids: Vec<RequestId> = waiting.iter().filter_map(|one| one.request.id).collect();
            let requests = waiting.into_iter().map(|one| one.request.bytes).collect();
            let Office::Leader(leader) = &mut self.office else { return };
            leader.known.order(slot, ids);
            leader.known.bound(self.settings.queue_requests_max * 2);
            let time = self.decided_now(cx.now);
            self.propose(cx, slot, Batch { time, requests }.encode());
        }
    }

    fn take_of_a_batch(&self) -> Take {
        let requests_max = match self.settings.batching {
            Batching::Adaptive => self.settings.batch_requests_max,
            Batching::Fixed { requests, .. } => requests.min(self.settings.batch_requests_max),
        };
        let one_each = matches!(self.settings.batching, Batching::Fixed { .. });
        Take { requests_max, bytes_max: self.settings.batch_bytes_max, one_each }
    }

    /// Whether a batch of requests may be proposed: one waits, and neither window, bytes in flight,
    /// disks nor services are in its way.
    fn may_propose(&mut self, now: Instant) -> bool {
        if self.submissions.queue.is_empty() || !self.quorum_has_room() {
            return false;
        }
        let alpha = self.configuration.alpha;
        let last = self.log.decided_upto.0 + alpha;
        let Office::Leader(leader) = &mut self.office else { return false };
        if !leader.may_propose() {
            return false;
        }
        let in_flight = leader.open.len();
        let window = (leader.window.size() as u64).min(alpha);
        if in_flight as u64 >= window || leader.next_slot().0 > last {
            leader.window.holds_back();
            return false;
        }
        if leader.open_bytes >= self.settings.inflight_bytes_max {
            return false;
        }
        let keeps_pace = self.keeps_pace(now);
        if let Office::Leader(leader) = &mut self.office {
            leader.pace.holds_back = !keeps_pace;
        }
        keeps_pace
    }

    fn batch_is_due(&self, now: Instant) -> bool {
        match self.settings.batching {
            Batching::Adaptive => true,
            Batching::Fixed { requests, wait } => {
                self.submissions.queue.clients(requests) >= requests
                    || self.timer_of_batch(wait).is_some_and(|at| now >= at)
            }
        }
    }

    fn timer_of_batch(&self, wait: Duration) -> Option<Instant> {
        self.submissions.queue.filling_since().map(|since| since.after(wait))
    }

    /// When a batch that is not full leaves all the same.
    pub(crate) fn batch_deadline(&self) -> Option<Instant> {
        let (Batching::Fixed { wait, .. }, Office::Leader(leader)) =
            (self.settings.batching, &self.office)
        else {
            return None;
        };
        self.timer_of_batch(wait).filter(|at| *at > leader.flushed_at)
    }
}
