//! Native clients that watch a session at several replicas: each hears this replica's own reply to
//! every request of it, whoever submitted that.

use mainstay_model::{RequestNumber, SessionId};
use mainstay_service::Applied;
use mainstay_service::native::{Refusal, ReplicaMessage, Subject, Watching};

use crate::connection::Role;
use crate::executor::{ExecutorTask, Kept};
use crate::front::Front;
use crate::node::Node;
use crate::serve::Served;

impl<F: Front> Node<F> {
    /// A client wants to hear what comes of a session here.
    pub(crate) fn native_watch(
        &mut self,
        connection: &mut Served<F>,
        session: SessionId,
        after: RequestNumber,
    ) {
        let subject = Subject::Watch(session);
        if self.stopped.is_some() {
            return self.refuse(connection, subject, Refusal::Stopped);
        }
        // One answer at a time for each session: they are up to a million times as long as the
        // question.
        let is_open =
            |role: &Role<_>| matches!(role, Role::Native(n) if n.watching.contains(&session));
        if is_open(&connection.role) || !self.watch(connection, subject) {
            return self.refuse(connection, subject, Refusal::Busy);
        }
        let Role::Native(native) = &mut connection.role else { return };
        native.watching.insert(session);
        self.executor.add(ExecutorTask::Kept { connection: connection.id, session, after }, 0);
    }

    /// Tells a client that what is kept here would mislead it.
    pub(crate) fn tell_not_kept(&mut self, id: u64, session: SessionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Role::Native(native) = &mut connection.role else { return };
        native.watching.remove(&session);
        let (subject, leader) = (Subject::Watch(session), self.view.leader);
        let reason = Refusal::Stopped;
        self.tell_by_id(id, &ReplicaMessage::Refused { subject, reason, leader });
        self.activate(id);
    }

    /// Tells a client that watches a session which replies are kept here.
    pub(crate) fn tell_kept(&mut self, kept: Kept) {
        let Kept { connection: id, session, .. } = kept;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Role::Native(native) = &mut connection.role else { return };
        native.watching.remove(&session);
        let configuration = &self.config.configuration;
        let count = |replicas| u16::try_from(replicas).unwrap_or(u16::MAX);
        let watching = Watching {
            session,
            applied_upto: kept.applied_upto,
            told_upto: kept.told_upto,
            configuration: configuration.id,
            replicas: count(configuration.replicas.len()),
            quorum: count(configuration.majority()),
            votes: self.config.votes,
        };
        self.tell_by_id(id, &ReplicaMessage::Watching(watching));
        for (number, reply) in kept.replies {
            let outcome = Applied::Replied { session, number, reply, repeated: true };
            self.tell_by_id(id, &ReplicaMessage::Outcome(outcome));
        }
        // More of what the client sent may be taken now.
        self.activate(id);
    }
}
