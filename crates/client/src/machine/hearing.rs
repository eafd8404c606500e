//! What several replicas say about one request: the policies that hear more than one of them.

use bytes::{Bytes, BytesMut};
use mainstay_model::frame::{self, Frame};
use mainstay_model::hello::{HELLO, HELLO_LEN_MAX, Hello, REJECT, Role};
use mainstay_model::{GroupId, Instant, ReplicaId, RequestNumber};
use mainstay_service::Applied;
use mainstay_service::client_session::SessionEvent;
use mainstay_service::native::{ClientMessage, Refusal, ReplicaMessage, Watching};
use xxhash_rust::xxh3::xxh3_128;

use super::votes::{Late, Verdict};
use super::watchers::{Watch, Wish};
use super::{Effect, Link, Machine};
use crate::outcome::{Outcome, Trouble, TroubleKind};
use crate::policy::{Disagreement, ReplyPolicy};

/// Over which connection something came: the one that requests go over, or that of a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Asked,
    Watcher(usize),
}

impl Machine {
    /// How many watchers there may be: one for each address, or none.
    pub(crate) fn watchers_len(&self) -> usize {
        if self.settings.replies.hears_all() { self.settings.addresses.len() } else { 0 }
    }

    /// The connection of a watcher stands.
    pub(crate) fn on_watcher_connected(&mut self, position: usize) {
        let len_max = u32::try_from(self.body_len_max()).unwrap_or(u32::MAX);
        self.watchers.on_connected(position, len_max);
    }

    /// The connection of a watcher, or the attempt, ended by itself.
    pub(crate) fn on_watcher_closed(
        &mut self,
        now: Instant,
        position: usize,
        effects: &mut Vec<Effect>,
    ) {
        self.watchers.failed(now, position);
        self.go_on(now, effects);
    }

    /// Takes what is to be sent on the connection of a watcher.
    pub(crate) fn take_watcher_output(&mut self, position: usize) -> Vec<u8> {
        self.watchers.take_output(position)
    }

    /// Bytes arrived at a watcher; whole frames are taken from the front of `input`.
    pub(crate) fn on_watcher_bytes(
        &mut self,
        now: Instant,
        position: usize,
        input: &mut BytesMut,
        effects: &mut Vec<Effect>,
    ) {
        while self.watchers.is_open(position) {
            let greeting = self.watchers.is_greeting(position);
            let len_max = if greeting { HELLO_LEN_MAX } else { self.body_len_max() };
            let read = match frame::decode(input, len_max) {
                Ok(None) => break,
                Ok(Some(frame)) => self.on_watcher_frame(now, position, frame, effects),
                Err(_) => None,
            };
            if read.is_none() {
                // Whatever is wrong with it: its replies are missed for a while, and asked for then.
                self.watchers.failed(now, position);
                effects.push(Effect::Unwatch(position));
            }
        }
        self.go_on(now, effects);
    }

    /// `None` if the connection is of no more use.
    fn on_watcher_frame(
        &mut self,
        now: Instant,
        position: usize,
        frame: Frame,
        effects: &mut Vec<Effect>,
    ) -> Option<()> {
        if frame.kind == REJECT {
            return None;
        }
        if self.watchers.is_greeting(position) {
            let hello = (frame.kind == HELLO).then(|| Hello::decode(frame.body).ok())??;
            let right =
                hello.speaks_ours() && hello.role == Role::Peer && hello.cluster == self.cluster;
            right.then(|| self.watchers.greeted(position, hello.replica))?;
            self.route.learn(position, hello.replica.index);
            return Some(());
        }
        if frame.group != GroupId::FIRST {
            return None;
        }
        let source = Source::Watcher(position);
        match ReplicaMessage::decode(frame.kind, frame.body).ok()? {
            ReplicaMessage::Outcome(applied @ Applied::Replied { .. }) => {
                self.on_outcome(now, source, applied, effects);
            }
            ReplicaMessage::Watching(watching) => self.on_watching(source, &watching),
            ReplicaMessage::Refused { reason, .. } if reason != Refusal::Busy => return None,
            // Whatever else happens to the session, the replica that is asked tells.
            _ => {}
        }
        Some(())
    }

    /// A replica tells what came of a command there.
    pub(super) fn on_outcome(
        &mut self,
        now: Instant,
        source: Source,
        applied: Applied,
        effects: &mut Vec<Effect>,
    ) {
        match applied {
            Applied::Replied { session, number, reply, .. }
                if self.settings.replies == ReplyPolicy::Majority =>
            {
                let (replica, watch) = match source {
                    Source::Asked => match self.link {
                        Link::Up { peer } => (peer.replica, self.watch),
                        _ => return,
                    },
                    Source::Watcher(position) => match self.watchers.replica(position) {
                        Some(heard) => heard,
                        None => return,
                    },
                };
                // What comes before it is known who votes comes again with the kept replies.
                let Watch::Heard { votes } = watch else { return };
                if self.session.id() == Some(session) {
                    if source == Source::Asked {
                        // Whoever else is missing, it is of use.
                        self.moved(now);
                    }
                    self.on_vote(now, (replica, votes), number, reply, effects);
                }
            }
            applied => {
                if let Some(event) = self.session.on_applied(&applied) {
                    self.on_session_event(now, event, effects);
                }
            }
        }
    }

    fn on_vote(
        &mut self,
        now: Instant,
        (replica, counts): (ReplicaId, bool),
        number: RequestNumber,
        reply: Bytes,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.session.id() else { return };
        let (at, digest) = ((session, number), xxh3_128(&reply));
        if !self.session.is_open(number) {
            match self.votes.late(replica, at, digest) {
                Late::Nothing => {}
                Late::Differs(disagreement) => effects.push(Effect::Exposed(disagreement)),
                Late::Unchecked => effects.push(Effect::Unchecked),
            }
            return;
        }
        let verdict = self.votes.vote(replica, counts, at, digest);
        let (differ, accepted) = match verdict {
            Verdict::Open => return,
            Verdict::Accepted(differ) => (differ, true),
            Verdict::Split(differ) => (differ, false),
        };
        let detail = (!accepted).then(|| list(&differ));
        effects.extend(differ.into_iter().map(Effect::Exposed));
        let applied = Applied::Replied { session, number, reply, repeated: false };
        let Some(event) = self.session.on_applied(&applied) else { return };
        if let (Some(detail), SessionEvent::Reply(..)) = (detail, &event) {
            self.moved(now);
            if let Some(numbered) = self.numbers.remove(&number) {
                let trouble = Trouble { kind: TroubleKind::NoAgreement, detail: Some(detail) };
                self.finish(numbered.token, Outcome::Unknown(trouble), effects);
            }
        } else {
            self.on_session_event(now, event, effects);
        }
    }

    /// A replica says what it keeps of the session, and who votes.
    pub(super) fn on_watching(&mut self, source: Source, watching: &Watching) {
        if self.session.id() != Some(watching.session) {
            return;
        }
        self.votes.learn(watching);
        match source {
            Source::Asked => self.watch = Watch::Heard { votes: watching.votes },
            Source::Watcher(position) => self.watchers.heard(position, watching.votes),
        }
        let after = watching.told_upto;
        if watching.applied_upto.is_some_and(|applied| applied > after) {
            match source {
                Source::Asked => {
                    self.send_message(&ClientMessage::Watch { session: watching.session, after });
                }
                Source::Watcher(position) => {
                    self.watchers.ask_more(position, watching.session, after);
                }
            }
        }
    }

    /// Sees to it that every replica that is to be heard tells its replies.
    pub(super) fn hear(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let policy = self.settings.replies;
        if !policy.hears_all() {
            return;
        }
        let known = self.session.acknowledged_upto();
        let session = self.session.id().map(|session| (session, known));
        let waiting = self.session.open_len() > 0;
        // Soon enough for the replica that is asked to answer within the same patience.
        let interval = self.settings.patience / 2;
        if !waiting || self.known_before != known {
            self.known_before = known;
            self.hear_again_at = now.after(interval);
        } else if self.hear_again_at <= now {
            // Replies may be missed: those of a replica that got its state whole, for one.
            self.hear_again_at = now.after(interval);
            if let Some((session, after)) = session {
                self.watchers.ask_again(session, after);
                if policy == ReplyPolicy::Majority && matches!(self.link, Link::Up { .. }) {
                    self.send_message(&ClientMessage::Watch { session, after });
                }
            }
        }
        if let (ReplyPolicy::Majority, Link::Up { .. }, Watch::Unasked, Some((session, after))) =
            (policy, self.link, self.watch, session)
        {
            self.watch = Watch::Asked;
            self.send_message(&ClientMessage::Watch { session, after });
        }
        let asked = match self.link {
            Link::Idle { position, .. }
            | Link::Connecting { position, .. }
            | Link::Greeting { position, .. } => position,
            Link::Asking { peer, .. } | Link::Up { peer } => peer.position,
        };
        let connect = !self.asks.is_empty();
        let timeout = self.settings.connect_timeout;
        self.watchers.go_on(now, Wish { asked, session, connect, timeout }, effects);
    }

    /// When there is something to do about those that are heard.
    pub(super) fn hearing_deadline(&self) -> Option<Instant> {
        if !self.settings.replies.hears_all() {
            return None;
        }
        let again = (self.session.open_len() > 0).then_some(self.hear_again_at);
        [again, self.watchers.deadline()].into_iter().flatten().min()
    }
}

/// Who gave which reply, for people.
fn list(differ: &[Disagreement]) -> String {
    let one = |d: &Disagreement| format!("replica {} gave {:032x}", d.replica.index, d.digest);
    differ.iter().map(one).collect::<Vec<_>>().join(", ")
}
