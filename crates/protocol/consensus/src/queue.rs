//! Requests that wait to be proposed or forwarded, in the order in which they came; where batches
//! are to be fair, in lanes that are taken in turn. What is in one lane stays in order: it is of one
//! session, though perhaps of several clients.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use mainstay_model::value::REQUEST_HEAD_LEN;
use mainstay_model::{Instant, Token};

use crate::message::Request;

/// A request and who is told if nothing comes of it; those of other replicas have no token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Waiting {
    pub(crate) token: Option<Token>,
    pub(crate) request: Request,
}

/// Who asks: a connection of a front, a client with a session of its own, or nobody.
type Client = (u64, u128);

impl Waiting {
    fn client(&self) -> Client {
        match (self.request.client, self.request.id) {
            (0, id) => (0, id.map_or(0, |id| id.client)),
            (client, _) => (client, 0),
        }
    }
}

/// How much is taken at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Take {
    pub(crate) requests_max: usize,
    /// With their lengths; one larger request is taken by itself.
    pub(crate) bytes_max: usize,
    /// At most one request of each client.
    pub(crate) one_each: bool,
}

/// Invariant: `turns` names each lane once, and each lane holds something; `len` and `bytes` are
/// those of all lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Queue {
    lanes: BTreeMap<u128, VecDeque<Waiting>>,
    turns: VecDeque<u128>,
    len: usize,
    bytes: usize,
    /// Since when the next batch fills.
    filling_since: Option<Instant>,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the requests.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many clients a batch could hold a request of now; no more than `wanted` are counted.
    pub(crate) fn clients(&self, wanted: usize) -> usize {
        let mut clients = BTreeSet::new();
        for queue in self.turns.iter().filter_map(|lane| self.lanes.get(lane)) {
            for waiting in queue {
                if clients.len() >= wanted || !clients.insert(waiting.client()) {
                    break;
                }
            }
        }
        clients.len()
    }

    pub(crate) fn filling_since(&self) -> Option<Instant> {
        self.filling_since
    }

    pub(crate) fn push(&mut self, lane: u128, waiting: Waiting, now: Instant) {
        self.filling_since.get_or_insert(now);
        self.len += 1;
        self.bytes += waiting.request.bytes.len();
        let queue = self.lanes.entry(lane).or_default();
        if queue.is_empty() {
            self.turns.push_back(lane);
        }
        queue.push_back(waiting);
    }

    /// Takes from the front, as much as `take` allows; at least one if any waits. Where each client may
    /// have one only, a lane whose next request is of a client that has one waits for the next batch.
    pub(crate) fn take(&mut self, take: Take, now: Instant) -> Vec<Waiting> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let mut clients = BTreeSet::new();
        // How many lanes in a row had nothing to give.
        let mut passed = 0;
        while taken.len() < take.requests_max.max(1) && passed < self.turns.len() {
            let Some(lane) = self.turns.front().copied() else { break };
            let Some(queue) = self.lanes.get_mut(&lane) else { break };
            let Some(first) = queue.front() else { break };
            if take.one_each && !clients.insert(first.client()) {
                self.turns.rotate_left(1);
                passed += 1;
                continue;
            }
            bytes += first.request.bytes.len() + REQUEST_HEAD_LEN;
            if !taken.is_empty() && bytes > take.bytes_max {
                break;
            }
            passed = 0;
            self.len -= 1;
            self.bytes -= first.request.bytes.len();
            taken.extend(queue.pop_front());
            if queue.is_empty() {
                self.lanes.remove(&lane);
                self.turns.pop_front();
            } else if take.one_each {
                self.turns.rotate_left(1);
            }
        }
        self.filling_since = (self.len > 0).then_some(now);
        taken
    }

    /// Keeps only what `keep` says, and in its order.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Waiting) -> bool) {
        self.lanes.retain(|_, queue| {
            queue.retain(&mut keep);
            !queue.is_empty()
        });
        let lanes = &self.lanes;
        self.turns.retain(|lane| lanes.contains_key(lane));
        self.len = self.lanes.values().map(VecDeque::len).sum();
        let waiting = self.lanes.values().flatten();
        self.bytes = waiting.map(|waiting| waiting.request.bytes.len()).sum();
        if self.len == 0 {
            self.filling_since = None;
        }
    }

    /// Takes all that waits, as a list of those who are to be told.
    pub(crate) fn take_tokens(&mut self) -> Vec<Token> {
        let all = core::mem::take(self);
        all.lanes.into_values().flatten().filter_map(|waiting| waiting.token).collect()
    }

    pub(crate) fn invariants(&self) {
        assert!(self.turns.len() == self.lanes.len(), "a lane waits for no turn");
        assert!(self.len >= self.turns.len(), "a lane holds nothing");
        assert!((self.len == 0) == self.filling_since.is_none(), "a batch fills with nothing");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_model::{RequestId, RequestNumber};

    const fn waiting(client: u128, number: u64) -> Waiting {
        of(0, client, number)
    }

    const fn of(connection: u64, client: u128, number: u64) -> Waiting {
        let id = Some(RequestId { client, number: RequestNumber(number) });
        let bytes = bytes::Bytes::from_static(b"12345678");
        Waiting { token: None, request: Request { id, client: connection, bytes } }
    }

    fn names(taken: &[Waiting]) -> Vec<(u128, u64)> {
        let ids = taken.iter().filter_map(|waiting| waiting.request.id);
        ids.map(|id| (id.client, id.number.0)).collect()
    }

    #[test]
    fn in_turn_a_client_with_much_does_not_hold_up_the_others() {
        let mut queue = Queue::default();
        for number in 1..=3 {
            queue.push(7, waiting(7, number), Instant(number));
        }
        queue.push(8, waiting(8, 1), Instant(4));
        queue.push(9, waiting(9, 1), Instant(5));
        let fair = Take { requests_max: 2, bytes_max: 1_000, one_each: true };
        assert_eq!(names(&queue.take(fair, Instant(6))), [(7, 1), (8, 1)]);
        assert_eq!(names(&queue.take(fair, Instant(6))), [(9, 1), (7, 2)]);
        assert_eq!(names(&queue.take(fair, Instant(6))), [(7, 3)]);
        assert_eq!(queue, Queue::default());
    }

    #[test]
    fn clients_that_share_a_session_have_one_request_each_and_keep_its_order() {
        let mut queue = Queue::default();
        for (number, connection) in (1..).zip([1, 2, 3, 2, 4]) {
            queue.push(7, of(connection, 7, number), Instant(number));
        }
        queue.push(8, of(9, 8, 1), Instant(6));
        let fair = Take { requests_max: 10, bytes_max: 1_000, one_each: true };
        assert_eq!((queue.clients(10), queue.clients(2)), (4, 2));
        assert_eq!(names(&queue.take(fair, Instant(7))), [(7, 1), (8, 1), (7, 2), (7, 3)]);
        assert_eq!(names(&queue.take(fair, Instant(7))), [(7, 4), (7, 5)], "4 before 5");
        assert_eq!(queue, Queue::default());
    }

    #[test]
    fn a_batch_is_bounded_in_bytes_and_one_larger_request_passes() {
        let mut queue = Queue::default();
        for number in 1..=5 {
            queue.push(0, waiting(1, number), Instant(1));
        }
        let two = Take { requests_max: 9, bytes_max: 24, one_each: false };
        assert_eq!(names(&queue.take(two, Instant(2))), [(1, 1), (1, 2)]);
        let tiny = Take { requests_max: 9, bytes_max: 1, one_each: false };
        assert_eq!(names(&queue.take(tiny, Instant(2))), [(1, 3)]);
        assert_eq!((queue.len(), queue.bytes()), (2, 16));
        queue.retain(|waiting| waiting.request.id.is_some_and(|id| id.number.0 == 5));
        queue.invariants();
        assert_eq!((queue.len(), queue.bytes()), (1, 8));
    }
}
