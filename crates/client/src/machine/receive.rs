//! What replicas say.

use bytes::{Bytes, BytesMut};
use mainstay_model::frame::{self, Frame};
use mainstay_model::hello::{HELLO, HELLO_LEN_MAX, Hello, REJECT, Reject, Role};
use mainstay_model::{GroupId, Instant, RequestNumber, Token};
use mainstay_service::client_session::SessionEvent;
use mainstay_service::native::{ClientMessage, Refusal, ReplicaMessage, Subject};

use super::hearing::Source;
use super::{BACKOFF_MIN, Effect, HINT_PAUSE, Link, Machine, Numbered, Peer};
use crate::outcome::{Outcome, StaleReply, TroubleKind};
use crate::policy::ReplyPolicy;

impl Machine {
    /// Bytes arrived; whole frames are taken from the front of `input`.
    pub(crate) fn on_bytes(
        &mut self,
        now: Instant,
        input: &mut BytesMut,
        effects: &mut Vec<Effect>,
    ) {
        loop {
            let len_max = match self.link {
                Link::Greeting { .. } => HELLO_LEN_MAX,
                Link::Asking { .. } | Link::Up { .. } => self.body_len_max(),
                // What comes after the connection was given up is of no more interest.
                Link::Idle { .. } | Link::Connecting { .. } => {
                    input.clear();
                    break;
                }
            };
            match frame::decode(input, len_max) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    if let Err(why) = self.on_frame(now, frame, effects) {
                        self.leave(now, &why, effects);
                    }
                }
                Err(error) => self.leave(now, &error.to_string(), effects),
            }
        }
        self.go_on(now, effects);
    }

    /// # Errors
    /// Why the connection is of no more use.
    fn on_frame(
        &mut self,
        now: Instant,
        frame: Frame,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        if frame.kind == REJECT {
            let reject = Reject::decode(frame.body).map_err(|error| error.to_string())?;
            return Err(reject.sentence);
        }
        match self.link {
            Link::Greeting { position, until } => {
                if frame.kind != HELLO {
                    return Err(format!("it greeted with a frame of kind {}", frame.kind));
                }
                let hello = Hello::decode(frame.body).map_err(|error| error.to_string())?;
                self.on_hello(position, until, &hello)
            }
            Link::Asking { .. } | Link::Up { .. } if frame.group == GroupId::FIRST => {
                let message = ReplicaMessage::decode(frame.kind, frame.body)
                    .map_err(|error| error.to_string())?;
                self.on_message(now, message, effects)
            }
            _ => Err(format!("it sent a frame for group {}", frame.group)),
        }
    }

    fn on_hello(&mut self, position: usize, until: Instant, hello: &Hello) -> Result<(), String> {
        if !hello.speaks_ours() {
            return Err(format!(
                "it speaks wire versions {} to {}, this client {}",
                hello.version_min,
                hello.version_max,
                frame::WIRE_VERSION
            ));
        }
        if hello.role != Role::Peer {
            return Err("it is no replica".to_owned());
        }
        // Sessions of one cluster mean nothing, or something else, to another.
        if self.cluster.0 != 0 && self.cluster != hello.cluster {
            return Err(format!("it is of cluster {}, not {}", hello.cluster, self.cluster));
        }
        self.cluster = hello.cluster;
        let (replica, body_len_max) = (hello.replica, hello.body_len_max as usize);
        self.route.learn(position, replica.index);
        self.link = Link::Asking { peer: Peer { position, replica, body_len_max }, until };
        self.send_message(&ClientMessage::WhoLeads);
        Ok(())
    }

    fn on_message(
        &mut self,
        now: Instant,
        message: ReplicaMessage,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        match message {
            ReplicaMessage::Outcome(applied) => {
                self.on_outcome(now, Source::Asked, applied, effects);
            }
            ReplicaMessage::Answer { id, reply } => {
                if self.queries.contains_key(&Token(id)) {
                    self.moved(now);
                    self.answer(Token(id), Ok(reply), effects);
                }
            }
            ReplicaMessage::Leader(leader) => {
                let asked = matches!(self.link, Link::Asking { .. });
                self.on_leader(now, leader, effects)?;
                if !asked && leader.is_some() && matches!(self.link, Link::Up { .. }) {
                    // Another leader took over: what was sent may be lost with the one before, and
                    // what was refused for want of a leader may be tried again.
                    self.quiet_until = None;
                    self.backoff = BACKOFF_MIN;
                    self.send_again();
                }
            }
            ReplicaMessage::Watching(watching) => self.on_watching(Source::Asked, &watching),
            ReplicaMessage::StaleAnswer { id, slot, time, reply } => {
                let (Link::Asking { peer, .. } | Link::Up { peer }) = self.link else {
                    return Ok(());
                };
                let token = Token(id);
                if self.queries.remove(&token).is_some_and(|query| query.stale) {
                    self.moved(now);
                    if self.forget(token) {
                        let answer = StaleReply { reply, slot, time, replica: peer.replica };
                        effects.push(Effect::AnsweredStale(token, answer));
                    }
                }
            }
            ReplicaMessage::Refused { subject, reason, leader } => {
                self.on_refused(now, subject, reason, effects)?;
                self.on_leader(now, leader, effects)?;
            }
        }
        Ok(())
    }

    pub(super) fn on_session_event(
        &mut self,
        now: Instant,
        event: SessionEvent,
        effects: &mut Vec<Effect>,
    ) {
        match event {
            SessionEvent::Opened(_) => self.moved(now),
            SessionEvent::Refused => {
                self.session.send_again();
                self.refusal = Some("the cluster has no room for another session");
                self.detail = self.refusal.map(str::to_owned);
                self.back_off(now);
            }
            SessionEvent::Reply(number, reply) => {
                self.moved(now);
                self.on_reply(number, reply, effects);
            }
            SessionEvent::SendAgain(_) => self.round += 1,
            SessionEvent::Lost => {
                self.abandon_session(None, TroubleKind::SessionLost, effects);
            }
        }
    }

    fn on_reply(&mut self, number: RequestNumber, reply: Bytes, effects: &mut Vec<Effect>) {
        // Without a caller it is one that was told already that time is up.
        if let Some(numbered) = self.numbers.remove(&number) {
            self.finish(numbered.token, Outcome::Done(reply), effects);
        }
    }

    /// Goes to the leader, where it is known to be and reachable: the way is shorter there. Where it
    /// is not, any replica will do, unless only the leader's replies count.
    ///
    /// # Errors
    /// Another replica leads, only its replies count, and it is not reachable.
    fn on_leader(
        &mut self,
        now: Instant,
        leader: Option<u16>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let (Link::Asking { peer, .. } | Link::Up { peer }) = self.link else { return Ok(()) };
        let strict = self.settings.replies == ReplyPolicy::Leader;
        let hinted = !strict && self.hinted_at.is_some_and(|at| now.since(at) < HINT_PAUSE);
        let other = leader.filter(|&leader| leader != peer.replica.index);
        let elsewhere = other.filter(|_| !hinted);
        if let Some(position) = elsewhere.and_then(|leader| self.route.leader(leader, now)) {
            self.hinted_at = Some(now);
            self.link = Link::Idle { at: now, position };
            self.disconnected(effects);
        } else if let (true, Some(leader)) = (strict, other) {
            return Err(format!(
                "it does not lead, and replica {leader}, which does, is not reached"
            ));
        } else if matches!(self.link, Link::Asking { .. }) {
            self.link = Link::Up { peer };
            self.moved_at = now;
        }
        Ok(())
    }

    /// # Errors
    /// Another replica may do what this one did not.
    fn on_refused(
        &mut self,
        now: Instant,
        subject: Subject,
        reason: Refusal,
        effects: &mut Vec<Effect>,
    ) -> Result<(), String> {
        let stale = |id| self.queries.get(&Token(id)).is_some_and(|query| query.stale);
        let for_good = matches!(reason, Refusal::TooLarge | Refusal::BadCommand);
        match subject {
            // It goes on; what is missed is asked for again.
            Subject::Watch(_) if reason == Refusal::Busy => return Ok(()),
            Subject::Query(id) if stale(id) && !for_good => return Err(sentence(reason).to_owned()),
            _ => {}
        }
        self.refusal = Some(sentence(reason));
        self.detail = self.refusal.map(str::to_owned);
        match reason {
            Refusal::NoLeader | Refusal::NotLeader | Refusal::Busy => {
                self.refused(subject);
                self.back_off(now);
            }
            Refusal::NoRoom | Refusal::Stopped | Refusal::Timeout | Refusal::Loading => {
                return Err(sentence(reason).to_owned());
            }
            Refusal::TooLarge | Refusal::BadCommand => self.refused_for_good(
                subject,
                if reason == Refusal::TooLarge {
                    TroubleKind::TooLarge
                } else {
                    TroubleKind::Refused
                },
                effects,
            ),
            Refusal::UnknownSession => {
                if let Subject::Query(id) = subject {
                    self.abandon_session(None, TroubleKind::SessionLost, effects);
                    self.refused(Subject::Query(id));
                }
            }
        }
        Ok(())
    }

    /// What was refused is sent again.
    fn refused(&mut self, subject: Subject) {
        match subject {
            Subject::Register(_) => self.session.send_again(),
            Subject::Request(session, _) => {
                if self.session.id() == Some(session) {
                    self.round += 1;
                    self.session.send_again();
                }
            }
            Subject::Query(id) => {
                if self.queries.contains_key(&Token(id)) {
                    self.unsent_queries.insert(Token(id));
                }
            }
            Subject::Unreadable | Subject::Watch(_) => {}
        }
    }

    /// What was refused would be refused again. A request's number can then never be used, nor can
    /// any behind it, so the session is given up. If it was sent once only, and that was refused,
    /// it is certainly not done, and neither is anything behind it.
    fn refused_for_good(&mut self, subject: Subject, kind: TroubleKind, effects: &mut Vec<Effect>) {
        match subject {
            Subject::Request(session, number) if self.session.id() == Some(session) => {
                let once = |numbered: &Numbered| numbered.round == self.round;
                let undone = self.numbers.get(&number).is_some_and(once);
                self.abandon_session(undone.then_some(number), kind, effects);
            }
            Subject::Query(id) => self.answer(Token(id), Err(kind.into()), effects),
            _ => {}
        }
    }
}

const fn sentence(reason: Refusal) -> &'static str {
    match reason {
        Refusal::NoLeader => "the replica hears no leader; another one may",
        Refusal::NotLeader => "the leader refused it",
        Refusal::Busy => "too much is waiting at the replica",
        Refusal::NoRoom => "the replica's disk has no room",
        Refusal::TooLarge => "it is larger than the replica takes",
        Refusal::BadCommand => "the replica cannot read it",
        Refusal::UnknownSession => "the session has ended",
        Refusal::Stopped => "the replica has stopped carrying out requests",
        Refusal::Timeout => "the replica had no answer in time",
        Refusal::Loading => "the replica is still reading its state",
    }
}
