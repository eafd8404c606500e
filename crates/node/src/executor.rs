//! The executor thread: owns the service with its sessions, applies what was decided, answers
//! queries from the state.

mod answering;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mainstay_model::{CheckpointId, Nonce, RequestNumber, SessionId, Slot, Timestamp, Value};
use mainstay_service::native::KEPT_BYTES_MAX;
use mainstay_service::{Applied, Applier, CheckpointInterval, Service};
use mainstay_storage::Life;

use self::answering::{Answering, Between};
use self::waiting::Waiting;
use crate::account::Account;
use crate::checkpointer::{HandOut, ToWrite, Wanted};
use crate::disk::Event;
use crate::front::Failure;
use crate::queue::{Inbox, Queue, Taken};
use crate::transfers::Handover;

/// What came of so many bytes or commands is told before the rest of a batch is applied.
const TELL_BYTES: usize = 1 << 20;
const TELL_SLOTS: usize = 64;
/// What an outcome costs in the inbox, besides its reply.
const OUTCOME_BYTES: usize = 64;

/// What the executor is asked for.
#[derive(Debug)]
pub(crate) enum ExecutorTask {
    /// Apply the value of the next slot, if the state is of this generation: it is a new one after
    /// each [`ExecutorTask::Adopt`].
    Deliver { generation: u64, slot: Slot, value: Value },
    /// The state is not that of the others: apply nothing more to it, and answer nothing from it.
    Stop,
    /// Go on from the state that was handed over, which is of this generation.
    Adopt { generation: u64, checkpoint: CheckpointId },
    /// Answer these once the slot is applied, and show them this time; zero for queries that may be
    /// stale.
    Query { slot: Slot, time: Timestamp, queries: Vec<Query> },
    /// Answer these from the state right before this request is carried out. To be given before it is
    /// submitted.
    Tied { session: SessionId, number: RequestNumber, queries: Vec<Query> },
    /// There is memory again for answers that had to wait for it.
    Room,
    /// Tell what comes of the registration of this nonce, and of its session from then on.
    WatchNonce(Nonce),
    /// Nobody here waits for this registration any more.
    UnwatchNonce(Nonce),
    /// Tell what comes of the requests of this session.
    Watch(SessionId),
    /// Nobody here waits for this session any more.
    Unwatch(SessionId),
    /// Tell this connection the kept replies of a session to numbers above `after`.
    Kept { connection: u64, session: SessionId, after: RequestNumber },
    /// This connection is gone: nobody waits for the answers to its queries.
    Forget { connection: u64 },
}

impl ExecutorTask {
    /// Bytes that the task holds on to.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Deliver { value, .. } => value.len(),
            Self::Query { queries, .. } | Self::Tied { queries, .. } => {
                queries.iter().map(|q| q.body.len() + 64).sum()
            }
            _ => 0,
        }
    }
}

/// Who asked something: a connection, and which of its questions it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asker {
    pub(crate) connection: u64,
    pub(crate) question: u64,
}

/// A question about the state.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) asker: Asker,
    /// Not before this number of this session is applied.
    pub(crate) after: Option<(SessionId, RequestNumber)>,
    pub(crate) body: Bytes,
    /// What it is shown of time, unless decided time has come further.
    pub(crate) shown: Timestamp,
}

/// Why a query is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum QueryFailure {
    /// The session of `after` does not exist.
    UnknownSession,
    /// It was never asked: no commands are taken at present.
    NotTaken(Failure),
    /// The service is gone, or panicked over this query.
    Stopped,
    /// The state is not that of the others, and another one is being fetched.
    Loading,
    /// There is no memory for the answer, and it cannot be given later.
    NoMemory,
    /// The moment at which it was to be answered was passed over.
    Passed,
}

/// What came of a query, and the state that it was answered from.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) asker: Asker,
    pub(crate) result: Result<Bytes, QueryFailure>,
    /// The last slot applied.
    pub(crate) slot: Slot,
    /// Decided time at that slot.
    pub(crate) time: Timestamp,
}

/// Kept replies of a session, for a connection that watches it.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) connection: u64,
    pub(crate) session: SessionId,
    /// Up to which number its requests are applied; `None` for no such session.
    pub(crate) applied_upto: Option<RequestNumber>,
    /// Those that are left stand above this number.
    pub(crate) told_upto: RequestNumber,
    pub(crate) replies: Vec<(RequestNumber, Bytes)>,
}

/// What the executor did since it last told.
#[derive(Debug, Default)]
pub(crate) struct Executed {
    pub(crate) applied: Slot,
    /// Decided time at that slot.
    pub(crate) time: Timestamp,
    /// When the service wants time to be decided next.
    pub(crate) wake: Option<Timestamp>,
    pub(crate) outcomes: Vec<Applied>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) kept: Vec<Kept>,
    /// Who asked for the kept replies of which session, while the state is not that of the others.
    pub(crate) not_kept: Vec<(u64, SessionId)>,
    /// The command that makes room for sessions, if one is wanted.
    pub(crate) trim: Option<Bytes>,
    /// Why nothing is applied any more, told once.
    pub(crate) stopped: Option<String>,
    /// The executor goes on from this checkpoint; everything else told here came after it.
    pub(crate) adopted: Option<CheckpointId>,
    /// The longest that execution stood still to hand out a checkpoint.
    pub(crate) pause_max: Duration,
    /// How often execution had to wait for checkpoints to be written.
    pub(crate) waits: u64,
    /// The interval of checkpoints that is in force.
    pub(crate) interval: CheckpointInterval,
}

/// The ways to and from the executor.
pub(crate) struct ExecutorLinks<S: Service> {
    pub(crate) tasks: Arc<Queue<ExecutorTask>>,
    pub(crate) inbox: Arc<Inbox<Event>>,
    /// To the checkpoint thread.
    pub(crate) states: HandOut<S::Checkpoint>,
    /// From the transfer thread.
    pub(crate) handover: Handover<S>,
    pub(crate) wanted: Arc<Wanted>,
    pub(crate) account: Arc<Account>,
}

/// Owns the service until the queue is closed and empty.
pub(crate) struct ExecutorThread<S: Service> {
    applier: Applier<S>,
    /// Which life of the state this is; what was delivered to another one is not applied,
    generation: u64,
    /// and checkpoints of another one do not count.
    life: Life,
    /// The state is not that of the others.
    diverged: bool,
    /// How far the state before this one had come: a later answer must not show less than an earlier one did.
    shown_upto: Slot,
    states: HandOut<S::Checkpoint>,
    handover: Handover<S>,
    wanted: Arc<Wanted>,
    pause_max: Duration,
    waits: u64,
    tasks: Arc<Queue<ExecutorTask>>,
    inbox: Arc<Inbox<Event>>,
    nonces: HashSet<Nonce>,
    sessions: HashSet<SessionId>,
    waiting: Waiting,
    /// Those whose moment has come.
    due: Vec<Query>,
    /// How long a query is kept; whoever asked has been told of a time-out before that.
    patience: Duration,
    answering: Answering,
    executed: Executed,
    stopped_told: bool,
    outcomes: Vec<Applied>,
}

impl<S: Service> ExecutorThread<S> {
    /// Goes on from `applier`, a state of this generation and life.
    pub(crate) fn new(
        applier: Applier<S>,
        (generation, life): (u64, Life),
        links: ExecutorLinks<S>,
        patience: Duration,
    ) -> Self {
        let ExecutorLinks { tasks, inbox, states, handover, wanted, account } = links;
        let answering = Answering::new(account, Arc::clone(&inbox));
        Self {
            applier,
            generation,
            life,
            diverged: false,
            shown_upto: Slot::NONE,
            states,
            handover,
            wanted,
            pause_max: Duration::ZERO,
            waits: 0,
            tasks,
            inbox,
            nonces: HashSet::new(),
            sessions: HashSet::new(),
            waiting: Waiting::default(),
            due: Vec::new(),
            patience,
            answering,
            executed: Executed::default(),
            stopped_told: false,
            outcomes: Vec::new(),
        }
    }

    /// The thread's body.
    pub(crate) fn run(mut self) {
        let mut tasks = Vec::new();
        loop {
            let patience = (!self.waiting.is_empty()).then_some(self.patience);
            let taken = self.tasks.take(&mut tasks, patience);
            let mut slots = 0;
            for task in tasks.drain(..) {
                if self.wanted.is_ended() {
                    // Nobody is told any more; what was decided stands in the log.
                    continue;
                }
                slots += usize::from(matches!(task, ExecutorTask::Deliver { .. }));
                self.carry_out(task);
                if slots >= TELL_SLOTS || self.answering.bytes >= TELL_BYTES {
                    slots = 0;
                    self.tell();
                }
            }
            self.waiting.drop_overdue(Instant::now());
            self.tell();
            if taken == Taken::Closed {
                return;
            }
        }
    }

    fn carry_out(&mut self, task: ExecutorTask) {
        match task {
            ExecutorTask::Deliver { generation, slot, value } => {
                if generation == self.generation && !self.diverged {
                    self.apply(slot, &value);
                }
            }
            ExecutorTask::Stop => {
                self.diverged = true;
                self.answer_all();
            }
            ExecutorTask::Adopt { generation, checkpoint } => self.adopt(generation, checkpoint),
            ExecutorTask::Query { slot, time, queries } => {
                let until = Instant::now() + self.patience;
                for mut query in queries {
                    query.shown = time;
                    if slot > self.applier.applied_upto() && self.executes() {
                        self.waiting.for_slot(slot, query, until);
                    } else if slot == Slot::NONE && self.answering.is_crowded() {
                        // Nothing ties a stale read to the write behind it: later might be too late.
                        self.answering.fail(&self.applier, query, QueryFailure::NoMemory);
                    } else {
                        self.answer_or_wait(query, until);
                    }
                }
            }
            ExecutorTask::Tied { session, number, queries } => {
                let until = Instant::now() + self.patience;
                let applied = self.applier.session_applied_upto(session);
                for query in queries {
                    match applied {
                        Some(applied) if applied < number && self.executes() => {
                            self.waiting.before((session, number), query, until);
                        }
                        Some(_) => self.answering.fail(&self.applier, query, QueryFailure::Passed),
                        None => {
                            self.answering.fail(&self.applier, query, QueryFailure::UnknownSession);
                        }
                    }
                }
            }
            ExecutorTask::Room => self.answer_for_room(),
            ExecutorTask::WatchNonce(nonce) => {
                self.nonces.insert(nonce);
            }
            ExecutorTask::UnwatchNonce(nonce) => {
                self.nonces.remove(&nonce);
            }
            ExecutorTask::Watch(session) => {
                self.sessions.insert(session);
            }
            ExecutorTask::Unwatch(session) => {
                self.sessions.remove(&session);
            }
            ExecutorTask::Kept { connection, session, after } => {
                if self.diverged {
                    self.executed.not_kept.push((connection, session));
                } else {
                    self.collect_kept(connection, session, after);
                }
            }
            ExecutorTask::Forget { connection } => self.waiting.forget(connection),
        }
    }

    /// Whether there is a state to apply to and to answer from.
    fn executes(&self) -> bool {
        !self.diverged && self.applier.stopped().is_none()
    }

    fn apply(&mut self, slot: Slot, value: &Value) {
        if self.applier.stopped().is_some() {
            return;
        }
        self.outcomes.clear();
        let mut tied = Between { waiting: &mut self.waiting, answering: &mut self.answering };
        let result = self.applier.apply_between(slot, value, &mut self.outcomes, &mut tied);
        for outcome in self.outcomes.drain(..) {
            match &outcome {
                Applied::Replied { session, number, .. } => {
                    self.waiting.take_numbers(*session, *number, &mut self.due);
                }
                Applied::Ended { session } | Applied::UnknownSession { session, .. } => {
                    self.waiting.take_session(*session, &mut self.due);
                }
                _ => {}
            }
            if is_watched(&self.nonces, &mut self.sessions, &outcome) {
                self.answering.bytes += OUTCOME_BYTES;
                if let Applied::Replied { reply, .. } = &outcome {
                    self.answering.bytes += reply.len();
                }
                self.executed.outcomes.push(outcome);
            }
        }
        self.waiting.take_slots(slot, &mut self.due);
        self.waiting.take_time(&mut self.due);
        self.answer_due();
        match result {
            Err(error) => {
                tracing::error!("this replica no longer executes, and goes on voting: {error}");
                self.answer_all();
            }
            Ok(()) if self.applier.checkpoint_due() => self.hand_out(),
            Ok(()) => {}
        }
    }

    fn collect_kept(&mut self, connection: u64, session: SessionId, after: RequestNumber) {
        let applied_upto = self.applier.session_applied_upto(session);
        let (mut replies, mut bytes) = (Vec::new(), 0);
        let mut told_upto = after.max(applied_upto.unwrap_or_default());
        for (number, reply) in self.applier.kept_replies(session, after) {
            if bytes > KEPT_BYTES_MAX {
                told_upto = RequestNumber(number.0 - 1);
                break;
            }
            bytes += OUTCOME_BYTES + reply.len();
            replies.push((number, reply.clone()));
        }
        self.answering.bytes += OUTCOME_BYTES + bytes;
        self.executed.kept.push(Kept { connection, session, applied_upto, told_upto, replies });
    }

    /// Hands out the state as it is now, to be written, once what was applied is told. Where two wait to be
    /// written already, so does execution.
    fn hand_out(&mut self) {
        let began = Instant::now();
        let state = self.applier.checkpoint();
        self.pause_max = self.pause_max.max(began.elapsed());
        let Some(state) = state else { return };
        let state = ToWrite { generation: self.generation, life: self.life, state };
        // It may be durable, and allow the log to be given up, before anything is told after this.
        self.tell();
        let Some(state) = self.states.offer(state) else { return };
        self.waits += 1;
        tracing::info!(
            "execution waits: two checkpoints before that of slot {} are still being written",
            state.state.slot()
        );
        self.states.wait_to_offer(state, &self.wanted);
    }

    /// Goes on from what the transfer thread has restored.
    fn adopt(&mut self, generation: u64, checkpoint: CheckpointId) {
        let handed = self.handover.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((applier, life)) = handed else { return };
        self.tell();
        self.shown_upto = self.shown_upto.max(self.applier.applied_upto());
        (self.applier, self.life) = (applier, life);
        self.generation = generation;
        self.diverged = false;
        self.stopped_told = false;
        self.executed.adopted = Some(checkpoint);
        // Sessions that were ended in what was passed over: nobody will tell of it again. Those that are
        // younger than this state, as where one that was wrong reached further, are still to come.
        let applier = &self.applier;
        let ended = self.sessions.extract_if(|session| {
            session.slot <= checkpoint.slot && applier.session_applied_upto(*session).is_none()
        });
        self.executed.outcomes.extend(ended.map(|session| Applied::Ended { session }));
        self.pass_over();
        self.tell();
    }

    /// The state has jumped: what was to be answered on the way cannot be any more, and what waited for
    /// something before that can be now.
    fn pass_over(&mut self) {
        let mut passed = Vec::new();
        for session in self.waiting.sessions() {
            match self.applier.session_applied_upto(session) {
                Some(upto) => {
                    self.waiting.take_before(session, upto, &mut passed);
                    self.waiting.take_numbers(session, upto, &mut self.due);
                }
                None if session.slot <= self.applier.applied_upto() => {
                    self.waiting.take_session(session, &mut passed);
                }
                None => {}
            }
        }
        for query in passed {
            self.answering.fail(&self.applier, query, QueryFailure::Passed);
        }
        self.waiting.take_slots(self.applier.applied_upto(), &mut self.due);
        self.waiting.take_time(&mut self.due);
        // What waits for memory was ready for the state before; of this one that has to be looked at again.
        while let Some(query) = self.waiting.take_room() {
            self.due.push(query);
        }
        self.answer_due();
    }

    /// Answers those whose moment has come.
    fn answer_due(&mut self) {
        if self.due.is_empty() {
            return;
        }
        let until = Instant::now() + self.patience;
        let mut due = std::mem::take(&mut self.due);
        for query in due.drain(..) {
            self.answer_or_wait(query, until);
        }
        self.due = due;
    }

    /// Answers a query whose slot is applied, unless it has to wait for something else. What one answer
    /// holds on to is told before the next is worked out, so that many large ones never pile up here.
    fn answer_or_wait(&mut self, query: Query, until: Instant) {
        if self.diverged {
            return self.answering.fail(&self.applier, query, QueryFailure::Loading);
        }
        if self.applier.stopped().is_some() {
            return self.answering.fail(&self.applier, query, QueryFailure::Stopped);
        }
        let may_be_stale = query.shown == Timestamp(0);
        if self.applier.applied_upto() < self.shown_upto && !may_be_stale {
            return self.waiting.for_slot(self.shown_upto, query, until);
        }
        if let Some((session, number)) = query.after {
            match self.applier.session_applied_upto(session) {
                None => {
                    let failure = QueryFailure::UnknownSession;
                    return self.answering.fail(&self.applier, query, failure);
                }
                Some(applied) if applied < number => {
                    return self.waiting.for_number((session, number), query, until);
                }
                Some(_) => {}
            }
        }
        if self.applier.is_due(query.shown) {
            // What is due is seen by the leader, too: it orders a tick.
            return self.waiting.for_time(query, until);
        }
        if self.answering.is_crowded() || self.waiting.waits_for_room() {
            // None overtakes another: the later one of a connection must not see the earlier state.
            self.answering.account.want_room();
            return self.waiting.for_room(query, until);
        }
        self.answer_now(query);
    }

    /// There is memory: answers those that wait for it, as long as there is.
    fn answer_for_room(&mut self) {
        while !self.answering.is_crowded()
            && let Some(query) = self.waiting.take_room()
        {
            self.answer_now(query);
        }
        if self.waiting.waits_for_room() {
            self.answering.account.want_room();
        }
    }

    fn answer_now(&mut self, query: Query) {
        self.answering.answer(&self.applier, query);
        if self.answering.bytes >= TELL_BYTES {
            self.tell();
        }
    }

    /// There is no state to answer from any more: tells all that wait.
    fn answer_all(&mut self) {
        self.waiting.take_all(&mut self.due);
        self.answer_due();
    }

    fn tell(&mut self) {
        let applied = self.applier.applied_upto();
        let stopped = match self.applier.stopped() {
            Some(error) if !self.stopped_told => Some(error.to_string()),
            _ => None,
        };
        let news = applied != self.executed.applied
            || !self.answering.answers.is_empty()
            || !self.executed.outcomes.is_empty()
            || !self.executed.kept.is_empty()
            || !self.executed.not_kept.is_empty()
            || stopped.is_some()
            || self.executed.adopted.is_some();
        if !news {
            return;
        }
        self.stopped_told |= stopped.is_some();
        let mut executed =
            std::mem::replace(&mut self.executed, Executed { applied, ..Executed::default() });
        executed.applied = applied;
        executed.answers = std::mem::take(&mut self.answering.answers);
        executed.time = self.applier.time();
        executed.wake = self.applier.wake();
        executed.stopped = stopped;
        executed.pause_max = self.pause_max;
        executed.waits = self.waits;
        executed.interval = self.applier.checkpoint_interval();
        executed.trim = self.applier.trim().map(|command| command.encode());
        self.inbox.push(Event::Executed(executed), std::mem::take(&mut self.answering.bytes));
    }
}

/// Whether somebody here waits for this; the session of a watched registration is watched.
fn is_watched(
    nonces: &HashSet<Nonce>,
    sessions: &mut HashSet<SessionId>,
    outcome: &Applied,
) -> bool {
    match outcome {
        Applied::Registered { nonce, session } => {
            let watched = nonces.contains(nonce);
            if watched {
                sessions.insert(*session);
            }
            watched
        }
        Applied::RegistrationRefused { nonce } => nonces.contains(nonce),
        Applied::Replied { session, .. }
        | Applied::Gap { session, .. }
        | Applied::WindowFull { session, .. }
        | Applied::UnknownSession { session, .. } => sessions.contains(session),
        Applied::Ended { session } => sessions.remove(session),
    }
}
