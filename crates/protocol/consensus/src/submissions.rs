//! Requests of local clients on their way to the leader, and the leader's queue of them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;
use mainstay_model::value::REQUEST_HEAD_LEN;
use mainstay_model::{Instant, Plants, ReplicaId, Token};

use crate::door::{Effect, Rejection};
use crate::message::{Body, Forward, NotLeader};
use crate::replica::{Cx, Office, Replica};
use crate::settings::Settings;

/// How many forwards are remembered so that a refusal can be told to those who submitted.
const FORWARDS_MAX: usize = 256;

/// Requests that wait to be proposed or forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Submissions {
    /// In the order in which they came; those of other replicas have no token.
    queue: VecDeque<(Option<Token>, Bytes)>,
    bytes: usize,
    forwarded: VecDeque<(u64, Vec<Token>)>,
    /// Since when no leader could be handed what waits.
    leaderless_since: Option<Instant>,
}

impl Submissions {
    fn has_place(&self, len: usize, settings: &Settings) -> bool {
        self.queue.len() < settings.queue_requests_max
            && (self.queue.is_empty() || self.bytes + len <= settings.queue_bytes_max)
    }

    fn push(&mut self, token: Option<Token>, request: Bytes) {
        self.bytes += request.len();
        self.queue.push_back((token, request));
    }

    pub(crate) fn has_full_batch(&self, settings: &Settings) -> bool {
        self.queue.len() >= settings.batch_requests_max || self.bytes >= settings.batch_bytes_max
    }

    /// Requests for one batch, at least one; `None` where none waits.
    pub(crate) fn take_batch(&mut self, settings: &Settings) -> Option<Vec<Bytes>> {
        let taken = self.take(settings.batch_requests_max, settings.batch_bytes_max);
        (!taken.is_empty()).then(|| taken.into_iter().map(|(_, request)| request).collect())
    }

    fn take(&mut self, count_max: usize, bytes_max: usize) -> Vec<(Option<Token>, Bytes)> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < count_max {
            let Some((_, request)) = self.queue.front() else { break };
            bytes += request.len() + REQUEST_HEAD_LEN;
            if !taken.is_empty() && bytes > bytes_max {
                break;
            }
            self.bytes -= request.len();
            taken.extend(self.queue.pop_front());
        }
        taken
    }

    /// There is a leader to hand them to, or this replica is it.
    pub(crate) fn leader_found(&mut self) {
        self.leaderless_since = None;
    }

    /// Other replicas' requests are theirs to send again.
    pub(crate) fn drop_forwarded(&mut self) {
        self.queue.retain(|(token, _)| token.is_some());
        self.bytes = self.queue.iter().map(|(_, request)| request.len()).sum();
    }

    fn take_tokens(&mut self) -> Vec<Token> {
        self.bytes = 0;
        self.queue.drain(..).filter_map(|(token, _)| token).collect()
    }
}

impl<P: Plants> Replica<P> {
    pub(crate) fn on_submit(&mut self, cx: &mut Cx<'_>, token: Token, request: Bytes) {
        let reason = if request.len() > self.settings.request_bytes_max {
            Rejection::TooLarge
        } else if !self.quorum_has_room() {
            Rejection::NoRoom
        } else if !self.submissions.has_place(request.len(), &self.settings) {
            Rejection::Busy
        } else {
            self.submissions.push(Some(token), request);
            self.flush_due = true;
            return;
        };
        cx.out.push(Effect::Rejected { token, reason });
    }

    /// At a follower: hands what waits to the leader; without one it waits for one time-out.
    pub(crate) fn flush_forwards(&mut self, cx: &mut Cx<'_>) {
        if self.submissions.queue.is_empty() {
            self.submissions.leaderless_since = None;
            return;
        }
        let Some(ballot) = self.election.leader else {
            self.submissions.leaderless_since.get_or_insert(cx.now.monotonic);
            return;
        };
        self.submissions.leaderless_since = None;
        loop {
            let max = (self.settings.batch_requests_max, self.settings.page_bytes_max);
            let taken = self.submissions.take(max.0, max.1);
            if taken.is_empty() {
                break;
            }
            let number = self.next_number();
            let tokens = taken.iter().filter_map(|(token, _)| *token).collect();
            if self.submissions.forwarded.len() >= FORWARDS_MAX {
                self.submissions.forwarded.pop_front();
            }
            self.submissions.forwarded.push_back((number, tokens));
            let requests = taken.into_iter().map(|(_, request)| request).collect();
            self.send(cx, ballot.leader, Body::Forward(Forward { number, requests }));
        }
    }

    pub(crate) fn submissions_deadline(&self) -> Option<Instant> {
        let since = self.submissions.leaderless_since?;
        Some(since.after(self.settings.election_timeout))
    }

    pub(crate) fn submissions_tick(&mut self, cx: &mut Cx<'_>) {
        if self.submissions_deadline().is_some_and(|at| cx.now.monotonic >= at) {
            self.submissions.leaderless_since = None;
            for token in self.submissions.take_tokens() {
                cx.out.push(Effect::Rejected { token, reason: Rejection::NoLeader });
            }
        }
    }

    pub(crate) fn on_forward(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Forward) {
        let len = m.requests.iter().map(Bytes::len).sum();
        let takes = match &self.office {
            Office::Leader(leader) => leader.takes_requests() && self.quorum_has_room(),
            _ => false,
        };
        if !takes || !self.submissions.has_place(len, &self.settings) {
            return self.answer_not_leader(cx, from, m.number);
        }
        for request in m.requests {
            if request.len() > self.settings.request_bytes_max {
                self.ignore(cx, "forwarded request that is too large");
                break;
            }
            self.submissions.push(None, request);
        }
        self.flush_due = true;
    }

    pub(crate) fn on_not_leader(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: NotLeader) {
        self.election.note_ballot(m.ballot);
        let busy = m.leads && m.ballot.leader == from;
        let followed = self.election.leader.is_some_and(|ballot| ballot.leader == from);
        if followed && !busy && self.election.leader.is_some_and(|known| known <= m.ballot) {
            // It gave up its ballot and the message saying so was lost.
            self.forget_leader(cx);
        }
        let reason = if busy { Rejection::Busy } else { Rejection::NotLeader };
        let forwarded = &mut self.submissions.forwarded;
        if let Some(at) = forwarded.iter().position(|(number, _)| *number == m.number)
            && let Some((_, tokens)) = forwarded.remove(at)
        {
            for token in tokens {
                cx.out.push(Effect::Rejected { token, reason });
            }
        }
    }
}
