//! Clients of the native protocol: they keep sessions of their own and order their requests
//! themselves; what a node does is pass on, and tell what came of it.

use std::collections::HashMap;

use bytes::Bytes;
use mainstay_consensus::{Input, Rejection, Request};
use mainstay_model::{GroupId, Nonce, RequestNumber, SessionId, Slot, Timestamp, Token};
use mainstay_service::native::{ClientMessage, Refusal, ReplicaMessage, Subject};
use mainstay_service::{Applied, Command};

use crate::connection::{Connection, End, Native, OpenQuery, Role};
use crate::executor::{Answer, Asker, ExecutorTask, Query, QueryFailure};
use crate::front::{Failure, Front};
use crate::front_clients::Gate;
use crate::node::Node;
use crate::serve::{COMMAND_WORK, SHARE_BYTES_MAX, Served, TURN_BYTES_MAX};
use crate::wire::FRAME_SLACK;

/// The most submissions of a connection whose rejection can still be told.
const SUBMITTED_MAX: usize = 4096;
/// The most sessions (and registrations) that one connection may submit for.
const SESSIONS_MAX: usize = 1024;
/// The most watches of a connection whose kept replies are on their way.
const WATCHES_MAX: usize = 16;

/// To which connection outcomes go.
#[derive(Debug, Default)]
pub(crate) struct Natives {
    sessions: HashMap<SessionId, u64>,
    nonces: HashMap<Nonce, u64>,
    /// Which connection made a submission, by its token.
    submitters: HashMap<u64, u64>,
}

impl<F: Front> Node<F> {
    /// Takes in what a native client has to say. Returns whether nothing complete was left.
    pub(crate) fn serve_native(&mut self, connection: &mut Served<F>) -> Result<bool, End> {
        let body_max = self.config.limits.request_bytes_max + FRAME_SLACK;
        let began = self.turn_bytes;
        loop {
            if !self.takes_native(connection) {
                return Ok(connection.stream.input_len() == 0);
            }
            if self.turn_bytes >= TURN_BYTES_MAX || self.turn_bytes - began >= SHARE_BYTES_MAX {
                connection.unfinished = true;
                return Ok(false);
            }
            match connection.stream.next_frame(body_max) {
                Ok(Some(frame)) => {
                    let message = ClientMessage::decode(frame.kind, frame.body)
                        .map_err(|error| End::Broken(format!("a message is bad: {error}")))?;
                    self.turn_bytes += COMMAND_WORK;
                    self.native_message(connection, message)?;
                    self.settle(connection);
                }
                Ok(None) => return Ok(true),
                Err(error) => return Err(End::Broken(error.to_string())),
            }
        }
    }

    /// Whether a native client may have more of its messages understood: it goes on as it is answered, as
    /// it takes what it is told, or as there is memory.
    fn takes_native(&mut self, connection: &mut Served<F>) -> bool {
        let limits = &self.config.limits;
        let Role::Native(native) = &connection.role else { return false };
        let open = native.queries.len() + native.watching.len() < limits.pipeline_max
            && native.watching.len() < WATCHES_MAX
            && native.ahead.takes(1)
            && connection.unsent() <= limits.unsent_bytes_max;
        if open && self.account.is_full() {
            self.pause(connection);
            return false;
        }
        open
    }

    fn native_message(
        &mut self,
        connection: &mut Served<F>,
        message: ClientMessage,
    ) -> Result<(), End> {
        match message {
            ClientMessage::Submit { command } => self.native_submit(connection, command),
            ClientMessage::Query { id, after, body } => {
                let refusal = match self.gate_of_reads() {
                    Gate::Fail(failure) => Some(refusal_of(failure)),
                    Gate::Wait | Gate::Open => None,
                };
                let query = (body, after);
                if let Some(asker) = self.admit_query(connection, id, query, false, refusal)? {
                    self.reads.push(asker);
                }
            }
            ClientMessage::QueryStale { id, body } => {
                let refusal = match self.gate_of_stale_reads() {
                    Gate::Fail(Failure::Loading) => Some(Refusal::Loading),
                    Gate::Fail(failure) => Some(refusal_of(failure)),
                    Gate::Wait | Gate::Open => None,
                };
                let query = (body.clone(), None);
                if let Some(asker) = self.admit_query(connection, id, query, true, refusal)? {
                    let query = Query { asker, after: None, body, shown: Timestamp(0) };
                    self.executor.add_query(Slot::NONE, Timestamp(0), vec![query]);
                }
            }
            ClientMessage::Watch { session, after } => {
                self.native_watch(connection, session, after);
            }
            ClientMessage::WhoLeads => {
                self.tell(connection, &ReplicaMessage::Leader(self.view.leader));
            }
        }
        Ok(())
    }

    /// Notes a query as open, unless it is refused.
    fn admit_query(
        &self,
        connection: &mut Served<F>,
        id: u64,
        (body, after): (Bytes, Option<(SessionId, RequestNumber)>),
        stale: bool,
        refusal: Option<Refusal>,
    ) -> Result<Option<Asker>, End> {
        let came = self.machines.now.monotonic;
        let Role::Native(native) = &mut connection.role else { return Ok(None) };
        match refusal {
            None if native.queries.contains_key(&id) => {
                Err(End::Broken(format!("query {id} was asked twice at once")))
            }
            None => {
                native.asked_bytes += body.len();
                native.ahead.open();
                native.queries.insert(id, OpenQuery { came, body, after, stale });
                Ok(Some(Asker { connection: connection.id, question: id }))
            }
            Some(refusal) => {
                self.refuse(connection, Subject::Query(id), refusal);
                Ok(None)
            }
        }
    }

    fn native_submit(&mut self, connection: &mut Served<F>, request: Bytes) {
        let subject = match Command::decode(request.clone()) {
            // A registration, or its end: what comes of it concerns the session of that nonce.
            Ok(Command::Register { nonce } | Command::EndSession { nonce }) => {
                Subject::Register(nonce)
            }
            Ok(Command::Request { session, number, .. }) => Subject::Request(session, number),
            Ok(
                Command::TrimSessions { .. }
                | Command::SetCheckpointInterval(_)
                | Command::Begin { .. },
            )
            | Err(_) => {
                return self.refuse(connection, Subject::Unreadable, Refusal::BadCommand);
            }
        };
        if self.stop_at.is_some() {
            return self.refuse(connection, subject, Refusal::NotLeader);
        }
        if self.stopped.is_some() || self.checkpointing.fetching {
            return self.refuse(connection, subject, Refusal::Stopped);
        }
        if request.len() > self.config.limits.request_bytes_max {
            return self.refuse(connection, subject, Refusal::TooLarge);
        }
        if !self.watch(connection, subject) {
            return self.refuse(connection, subject, Refusal::Busy);
        }
        let token = self.next_token();
        let Role::Native(native) = &mut connection.role else { return };
        native.submitted.push_back((token.0, subject));
        if native.submitted.len() > SUBMITTED_MAX
            && let Some((oldest, _)) = native.submitted.pop_front()
        {
            self.natives.submitters.remove(&oldest);
        }
        self.natives.submitters.insert(token.0, connection.id);
        let id = Command::request_id(&request);
        let client = self.client_of(connection.id);
        let request = Request { id, client, bytes: request };
        self.machines.step(Input::Submit { token, request });
    }

    /// Sees to it that what comes of a submission goes to this connection; false where it has too
    /// many sessions.
    pub(crate) fn watch(&mut self, connection: &mut Served<F>, subject: Subject) -> bool {
        let id = connection.id;
        let Role::Native(native) = &mut connection.role else { return false };
        let watched = match &subject {
            Subject::Register(nonce) => native.nonces.contains(nonce),
            Subject::Request(session, _) | Subject::Watch(session) => {
                native.sessions.contains(session)
            }
            Subject::Query(_) | Subject::Unreadable => true,
        };
        if !watched && native.sessions.len().max(native.nonces.len()) >= SESSIONS_MAX {
            return false;
        }
        match subject {
            Subject::Register(nonce) => {
                if self.natives.nonces.insert(nonce, id) != Some(id) {
                    native.nonces.insert(nonce);
                    self.executor.add(ExecutorTask::WatchNonce(nonce), 0);
                }
            }
            Subject::Request(session, _) | Subject::Watch(session) => {
                if self.natives.sessions.insert(session, id) != Some(id) {
                    native.sessions.insert(session);
                    self.executor.add(ExecutorTask::Watch(session), 0);
                }
            }
            Subject::Query(_) | Subject::Unreadable => {}
        }
        true
    }

    /// Tells the connection that waits for it what came of a command.
    pub(crate) fn tell_native(&mut self, outcome: Applied) {
        let id = match &outcome {
            Applied::Registered { nonce, .. } | Applied::RegistrationRefused { nonce } => {
                self.natives.nonces.get(nonce)
            }
            Applied::Replied { session, .. }
            | Applied::Gap { session, .. }
            | Applied::WindowFull { session, .. }
            | Applied::UnknownSession { session, .. }
            | Applied::Ended { session } => self.natives.sessions.get(session),
        };
        let Some(&id) = id else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Role::Native(native) = &mut connection.role else { return };
        match &outcome {
            Applied::Registered { nonce, session } => {
                native.forget_submission(&Subject::Register(*nonce), &mut self.natives.submitters);
                // The executor watches the session of a watched registration by itself.
                native.sessions.insert(*session);
                self.natives.sessions.insert(*session, id);
            }
            Applied::RegistrationRefused { nonce } => {
                native.forget_submission(&Subject::Register(*nonce), &mut self.natives.submitters);
            }
            Applied::Replied { session, number, .. }
            | Applied::Gap { session, number, .. }
            | Applied::WindowFull { session, number }
            | Applied::UnknownSession { session, number } => {
                let subject = Subject::Request(*session, *number);
                native.forget_submission(&subject, &mut self.natives.submitters);
            }
            Applied::Ended { .. } => {}
        }
        // What is over takes none of the room that there is for others.
        match &outcome {
            Applied::Registered { nonce, .. } | Applied::RegistrationRefused { nonce } => {
                native.nonces.remove(nonce);
                self.natives.nonces.remove(nonce);
                self.executor.add(ExecutorTask::UnwatchNonce(*nonce), 0);
            }
            Applied::UnknownSession { session, .. } | Applied::Ended { session } => {
                native.sessions.remove(session);
                self.natives.sessions.remove(session);
                self.executor.add(ExecutorTask::Unwatch(*session), 0);
            }
            _ => {}
        }
        self.tell_by_id(id, &ReplicaMessage::Outcome(outcome));
    }

    /// The ordering machine did not take a submission.
    pub(crate) fn native_rejected(&mut self, token: Token, reason: Rejection) {
        let Some(id) = self.natives.submitters.remove(&token.0) else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Role::Native(native) = &mut connection.role else { return };
        let Some(at) = native.submitted.iter().position(|(submitted, _)| *submitted == token.0)
        else {
            return;
        };
        let Some((_, subject)) = native.submitted.remove(at) else { return };
        let reason = match reason {
            Rejection::NoLeader => Refusal::NoLeader,
            Rejection::NotLeader => Refusal::NotLeader,
            Rejection::Busy => Refusal::Busy,
            Rejection::NoRoom => Refusal::NoRoom,
            Rejection::TooLarge => Refusal::TooLarge,
        };
        let leader = self.view.leader;
        self.tell_by_id(id, &ReplicaMessage::Refused { subject, reason, leader });
    }

    /// Another leader is known: what clients submitted may be lost with the one before, and some take
    /// replies from the leader only.
    pub(crate) fn tell_natives_who_leads(&mut self, leader: u16) {
        let is_native = |role: &Role<_>| matches!(role, Role::Native(_));
        let natives: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| is_native(&connection.role))
            .map(|(id, _)| *id)
            .collect();
        for id in natives {
            self.tell_by_id(id, &ReplicaMessage::Leader(Some(leader)));
        }
    }

    /// A query was answered, or will not be.
    pub(crate) fn answer_native(&mut self, answer: Answer) {
        let asker = answer.asker;
        let Some(connection) = self.connections.get_mut(&asker.connection) else { return };
        let Role::Native(native) = &mut connection.role else { return };
        let id = asker.question;
        let Some(query) = native.query_over(id, answer.result.as_ref().ok()) else { return };
        let message = match answer.result {
            Ok(reply) if query.stale => {
                ReplicaMessage::StaleAnswer { id, slot: answer.slot, time: answer.time, reply }
            }
            Ok(reply) => ReplicaMessage::Answer { id, reply },
            Err(failure) => ReplicaMessage::Refused {
                subject: Subject::Query(id),
                reason: match failure {
                    QueryFailure::UnknownSession => Refusal::UnknownSession,
                    QueryFailure::NotTaken(failure) => refusal_of(failure),
                    QueryFailure::Stopped | QueryFailure::Loading => Refusal::Stopped,
                    QueryFailure::NoMemory | QueryFailure::Passed => Refusal::Busy,
                },
                leader: self.view.leader,
            },
        };
        self.tell_by_id(asker.connection, &message);
        // More of its queries may be taken now.
        self.activate(asker.connection);
    }

    /// Refuses the queries of a client that wait for too long.
    pub(crate) fn give_up_native(&mut self, id: u64) {
        let now = self.machines.now.monotonic;
        let patience = self.config.limits.outcome_timeout;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Role::Native(native) = &mut connection.role else { return };
        let overdue: Vec<u64> = native
            .queries
            .iter()
            .filter(|(_, open)| now.since(open.came) >= patience)
            .map(|(query, _)| *query)
            .collect();
        for query in overdue {
            native_query_over(&mut self.connections, id, query);
            let message = ReplicaMessage::Refused {
                subject: Subject::Query(query),
                reason: Refusal::Timeout,
                leader: self.view.leader,
            };
            self.tell_by_id(id, &message);
        }
    }

    /// A native client is gone.
    pub(crate) fn forget_native(&mut self, id: u64, native: &Native) {
        for (token, _) in &native.submitted {
            self.natives.submitters.remove(token);
        }
        for session in &native.sessions {
            if self.natives.sessions.get(session) == Some(&id) {
                self.natives.sessions.remove(session);
                self.executor.add(ExecutorTask::Unwatch(*session), 0);
            }
        }
        for nonce in &native.nonces {
            if self.natives.nonces.get(nonce) == Some(&id) {
                self.natives.nonces.remove(nonce);
                self.executor.add(ExecutorTask::UnwatchNonce(*nonce), 0);
            }
        }
    }

    pub(crate) fn refuse(&self, connection: &mut Served<F>, subject: Subject, reason: Refusal) {
        let leader = self.view.leader;
        self.tell(connection, &ReplicaMessage::Refused { subject, reason, leader });
    }

    fn tell(&self, connection: &mut Served<F>, message: &ReplicaMessage) {
        let epoch = self.config.me.epoch.counter;
        let group = GroupId::FIRST;
        connection.stream.frame(message.kind(), group, epoch, |body| message.encode(body));
    }

    pub(crate) fn tell_by_id(&mut self, id: u64, message: &ReplicaMessage) {
        let epoch = self.config.me.epoch.counter;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let group = GroupId::FIRST;
        connection.stream.frame(message.kind(), group, epoch, |body| message.encode(body));
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push_back(id);
        }
        self.settle_by_id(id);
    }
}

impl Native {
    fn forget_submission(&mut self, subject: &Subject, submitters: &mut HashMap<u64, u64>) {
        if let Some(at) = self.submitted.iter().position(|(_, submitted)| submitted == subject)
            && let Some((token, _)) = self.submitted.remove(at)
        {
            submitters.remove(&token);
        }
    }
}

fn native_query_over<C>(connections: &mut HashMap<u64, Box<Connection<C>>>, id: u64, query: u64) {
    if let Some(connection) = connections.get_mut(&id)
        && let Role::Native(native) = &mut connection.role
    {
        native.query_over(query, None);
    }
}

const fn refusal_of(failure: Failure) -> Refusal {
    match failure {
        Failure::Unavailable | Failure::Loading | Failure::Uncertain => Refusal::NoLeader,
        Failure::Crowded => Refusal::Busy,
        Failure::NoRoom => Refusal::NoRoom,
        Failure::TooLarge => Refusal::TooLarge,
        Failure::Stopped => Refusal::Stopped,
    }
}
