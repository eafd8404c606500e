//! Working out answers, and what they cost.

use std::sync::Arc;

use bytes::Bytes;
use mainstay_model::{RequestNumber, SessionId};
use mainstay_service::{Applier, Interlude, Service};

use super::waiting::Waiting;
use super::{Answer, Asker, OUTCOME_BYTES, Query, QueryFailure, TELL_BYTES};
use crate::account::Account;
use crate::disk::Event;
use crate::queue::Inbox;

/// What answering needs besides the state.
pub(super) struct Answering {
    pub(super) account: Arc<Account>,
    inbox: Arc<Inbox<Event>>,
    pub(super) answers: Vec<Answer>,
    /// Bytes of all that waits to be told.
    pub(super) bytes: usize,
    reply: Vec<u8>,
}

impl Answering {
    pub(super) const fn new(account: Arc<Account>, inbox: Arc<Inbox<Event>>) -> Self {
        Self { account, inbox, answers: Vec::new(), bytes: 0, reply: Vec::new() }
    }

    /// Whether there is no memory for more answers, with those that are on their way.
    pub(super) fn is_crowded(&self) -> bool {
        self.account.is_crowded(self.inbox.bytes() + self.bytes)
    }

    /// Answers from the state as it is.
    pub(super) fn answer<S: Service>(&mut self, applier: &Applier<S>, query: Query) {
        self.reply.clear();
        let result = match applier.query(query.shown, &query.body, &mut self.reply) {
            Ok(()) if self.reply.len() > TELL_BYTES => Ok(std::mem::take(&mut self.reply).into()),
            Ok(()) => Ok(Bytes::copy_from_slice(&self.reply)),
            Err(panic) => {
                tracing::error!("the service panicked over a query: {panic}");
                Err(QueryFailure::Stopped)
            }
        };
        self.push(applier, query.asker, result);
    }

    pub(super) fn fail<S: Service>(
        &mut self,
        applier: &Applier<S>,
        query: Query,
        failure: QueryFailure,
    ) {
        self.push(applier, query.asker, Err(failure));
    }

    fn push<S: Service>(
        &mut self,
        applier: &Applier<S>,
        asker: Asker,
        result: Result<Bytes, QueryFailure>,
    ) {
        self.bytes += OUTCOME_BYTES + result.as_ref().map_or(0, Bytes::len);
        let (slot, time) = (applier.applied_upto(), applier.time());
        self.answers.push(Answer { asker, result, slot, time });
    }
}

/// Answers, in the middle of a batch, what is to be answered right before a request of it.
pub(super) struct Between<'a> {
    pub(super) waiting: &'a mut Waiting,
    pub(super) answering: &'a mut Answering,
}

impl<S: Service> Interlude<S> for Between<'_> {
    fn before(&mut self, applier: &Applier<S>, session: SessionId, number: RequestNumber) {
        if self.waiting.is_empty() {
            return;
        }
        let mut due = Vec::new();
        self.waiting.take_before(session, number, &mut due);
        for query in due {
            // Later would be too late.
            if self.answering.is_crowded() {
                self.answering.fail(applier, query, QueryFailure::NoMemory);
            } else {
                self.answering.answer(applier, query);
            }
        }
    }
}
