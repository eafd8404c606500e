//! Requests of local clients on their way to the leader, and the leader's queue of them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use mainstay_model::{Instant, Plants, ReplicaId, Slot, Token};

use crate::door::{Effect, Rejection};
use crate::message::{Body, Forward, NotLeader, Request};
use crate::queue::{Queue, Take, Waiting};
use crate::replica::{Cx, Office, Replica};
use crate::settings::{Batching, Settings};

/// How many forwards are remembered so that a refusal can be told to those who submitted.
const FORWARDS_MAX: usize = 256;

/// Who is told if a forward is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Submitters {
    /// Clients of this replica.
    Own(Vec<Token>),
    /// A replica that does not hear the leader, and the number of its own forward.
    Peer(ReplicaId, u64),
}

/// Requests that wait to be proposed or forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Submissions {
    pub(crate) queue: Queue,
    forwarded: VecDeque<(u64, Submitters)>,
    /// Since when no leader could be handed what waits.
    leaderless_since: Option<Instant>,
}

impl Submissions {
    fn has_place(&self, len: usize, settings: &Settings) -> bool {
        self.queue.len() < settings.queue_requests_max
            && (self.queue.is_empty() || self.queue.bytes() + len <= settings.queue_bytes_max)
    }

    fn push(&mut self, waiting: Waiting, settings: &Settings, now: Instant) {
        let lane = match (settings.batching, waiting.request.id) {
            (Batching::Fixed { .. }, Some(id)) => id.client,
            (Batching::Fixed { .. }, None) | (Batching::Adaptive, _) => 0,
        };
        self.queue.push(lane, waiting, now);
    }

    fn note_forwarded(&mut self, number: u64, submitters: Submitters) {
        if self.forwarded.len() >= FORWARDS_MAX {
            self.forwarded.pop_front();
        }
        self.forwarded.push_back((number, submitters));
    }

    /// Other replicas' requests are theirs to send again.
    pub(crate) fn drop_forwarded(&mut self) {
        self.queue.retain(|waiting| waiting.token.is_some());
    }
}

impl<P: Plants> Replica<P> {
    pub(crate) fn on_submit(&mut self, cx: &mut Cx<'_>, token: Token, request: Request) {
        let reason = if request.bytes.len() > self.settings.request_bytes_max {
            Rejection::TooLarge
        } else if !self.quorum_has_room() {
            Rejection::NoRoom
        } else if !self.submissions.has_place(request.bytes.len(), &self.settings) {
            Rejection::Busy
        } else {
            return self.take_request(cx, Some(token), request, self.log.applied_upto);
        };
        cx.out.push(Effect::Rejected { token, reason });
    }

    /// Queues a request of a replica that has applied every slot up to `applied_upto`, unless it is
    /// known already.
    fn take_request(
        &mut self,
        cx: &mut Cx<'_>,
        token: Option<Token>,
        request: Request,
        applied_upto: Slot,
    ) {
        if let (Office::Leader(leader), Some(id)) = (&mut self.office, request.id)
            && !leader.known.takes(id, applied_upto)
        {
            return;
        }
        self.submissions.push(Waiting { token, request }, &self.settings, cx.now.monotonic);
        self.flush_due = true;
    }

    /// This replica leads from now on: what waits here need not look for a leader any more, and
    /// becomes known.
    pub(crate) fn take_what_waits(&mut self) {
        self.submissions.leaderless_since = None;
        let applied_upto = self.log.applied_upto;
        let Office::Leader(leader) = &mut self.office else { return };
        self.submissions.queue.retain(|waiting| {
            waiting.request.id.is_none_or(|id| leader.known.takes(id, applied_upto))
        });
    }

    /// At a follower: hands what waits to the leader, or to one who hears it; without either it waits for
    /// one time-out.
    pub(crate) fn flush_forwards(&mut self, cx: &mut Cx<'_>) {
        if self.submissions.queue.is_empty() {
            self.submissions.leaderless_since = None;
            return;
        }
        let Some(way) = self.way_to_leader() else {
            self.submissions.leaderless_since.get_or_insert(cx.now.monotonic);
            return;
        };
        self.submissions.leaderless_since = None;
        loop {
            let take = Take {
                requests_max: self.settings.batch_requests_max,
                bytes_max: self.settings.page_bytes_max,
                one_each: false,
            };
            let taken = self.submissions.queue.take(take, cx.now.monotonic);
            if taken.is_empty() {
                break;
            }
            let number = self.next_number();
            let tokens = taken.iter().filter_map(|waiting| waiting.token).collect();
            self.submissions.note_forwarded(number, Submitters::Own(tokens));
            let requests = taken.into_iter().map(|waiting| waiting.request).collect();
            let (relay, applied_upto) = (way.relay, self.log.applied_upto);
            let forward = Forward { number, relay, applied_upto, requests };
            self.send(cx, way.to, Body::Forward(forward));
        }
    }

    pub(crate) fn submissions_deadline(&self) -> Option<Instant> {
        let since = self.submissions.leaderless_since?;
        Some(since.after(self.settings.election_timeout))
    }

    pub(crate) fn submissions_tick(&mut self, cx: &mut Cx<'_>) {
        if self.submissions_deadline().is_some_and(|at| cx.now.monotonic >= at) {
            self.submissions.leaderless_since = None;
            for token in self.submissions.queue.take_tokens() {
                cx.out.push(Effect::Rejected { token, reason: Rejection::NoLeader });
            }
        }
    }

    pub(crate) fn on_forward(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Forward) {
        if let (true, Some(leader)) = (m.relay, self.relays_to(from)) {
            let number = self.next_number();
            self.submissions.note_forwarded(number, Submitters::Peer(from, m.number));
            return self.send(cx, leader, Body::Forward(Forward { number, relay: false, ..m }));
        }
        let len = m.requests.iter().map(|request| request.bytes.len()).sum();
        let takes = match &self.office {
            Office::Leader(leader) => leader.takes_requests() && self.quorum_has_room(),
            _ => false,
        };
        if !takes || !self.submissions.has_place(len, &self.settings) {
            return self.answer_not_leader(cx, from, m.number);
        }
        for request in m.requests {
            if request.bytes.len() > self.settings.request_bytes_max {
                self.ignore(cx, "forwarded request that is too large");
                break;
            }
            self.take_request(cx, None, request, m.applied_upto);
        }
    }

    pub(crate) fn on_not_leader(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: NotLeader) {
        self.election.note_ballot(m.ballot);
        let busy = m.leads && m.ballot.leader == from;
        let followed = self.election.leader.is_some_and(|ballot| ballot.leader == from);
        if followed && !busy && self.election.leader.is_some_and(|known| known <= m.ballot) {
            // It gave up its ballot and the message saying so was lost.
            self.forget_leader(cx);
        }
        if !m.leads {
            self.forget_relay_of(cx, from);
        }
        let reason = if busy { Rejection::Busy } else { Rejection::NotLeader };
        let forwarded = &mut self.submissions.forwarded;
        if let Some(at) = forwarded.iter().position(|(number, _)| *number == m.number)
            && let Some((_, submitters)) = forwarded.remove(at)
        {
            match submitters {
                Submitters::Own(tokens) => {
                    for token in tokens {
                        cx.out.push(Effect::Rejected { token, reason });
                    }
                }
                Submitters::Peer(to, number) => {
                    self.send(cx, to, Body::NotLeader(NotLeader { number, ..m }));
                }
            }
        }
    }
}
