//! Clients of the front: their commands on the way in, the answers on the way out.

use std::time::Duration;

use bytes::Bytes;
use mainstay_model::{Instant, Slot, Timestamp};

use crate::connection::{End, Role};
use crate::executor::{Answer, Asker, Query, QueryFailure};
use crate::front::{Failure, Front, Outcome, Parsed};
use crate::node::Node;
use crate::pipeline::{Due, Pipeline, Turn};
use crate::serve::{COMMAND_WORK, SHARE_BYTES_MAX, Served, TURN_BYTES_MAX};

/// The most commands that are parsed before what came of them is counted.
const COMMANDS_MAX: usize = 8;

/// A replica that has so many slots to apply before its first command is loading.
const LOADING_SLOTS: u64 = 100;

/// The most reads that wait to be told their slot, unless one turn brings more.
const READS_MAX: usize = 16_384;
/// Beyond this many bytes before the executor no more reads are added to them.
const EXECUTOR_BYTES_OF_READS_MAX: usize = 4 << 20;

/// How many of those that wait are tried in vain in a turn: they may wait for different things.
const PARKED_AGAIN_MAX: usize = 16;

/// What taking commands came to.
enum Taken {
    /// Nothing that is complete is left.
    All,
    /// Something is left until commands are answered, which may be at once.
    Some,
    /// Something is left until replies are taken, or there is memory.
    Later,
}

/// Whether commands may be handed over at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// They may.
    Open,
    /// Not now, perhaps soon.
    Wait,
    /// Not in the near future: they are answered with this.
    Fail(Failure),
}

impl<F: Front> Node<F> {
    /// Whether a read may be handed over.
    pub(crate) fn gate_of_reads(&self) -> Gate {
        match self.gate() {
            Gate::Open if self.has_many_reads() => Gate::Wait,
            gate => gate,
        }
    }

    /// Whether so many reads are under way that more of them have to wait: all that the leader answers
    /// for are passed on in one turn.
    pub(crate) fn has_many_reads(&self) -> bool {
        let asked: usize = self.read_groups.values().map(|group| group.askers.len()).sum();
        self.reads.len() + asked >= READS_MAX
            || self.executor.queue.bytes() >= EXECUTOR_BYTES_OF_READS_MAX
    }

    /// Whether commands may be handed over, of either kind.
    fn gate(&self) -> Gate {
        let now = self.machines.now.monotonic;
        let limits = &self.config.limits;
        if self.stopped.is_some() {
            return Gate::Fail(Failure::Stopped);
        }
        if self.stop_at.is_some() {
            return Gate::Fail(Failure::Unavailable);
        }
        if self.checkpointing.fetching {
            return Gate::Fail(Failure::Loading);
        }
        if let Some(since) = self.leaderless_since {
            let failed = now.since(since) >= limits.leaderless_timeout;
            return if failed { Gate::Fail(Failure::Unavailable) } else { Gate::Wait };
        }
        if self.is_starved() {
            return Gate::Fail(Failure::NoRoom);
        }
        if !self.session.was_opened() {
            let behind = self.view.decided.saturating_sub(self.applied.0) >= LOADING_SLOTS;
            let loads = behind || self.checkpointing.restoring;
            let failed = now.since(self.started) >= limits.loading_timeout && loads;
            // Where no session can be registered for want of room, nothing is waited for.
            let waits = loads || self.machines.replica.has_room();
            if waits {
                return if failed { Gate::Fail(Failure::Loading) } else { Gate::Wait };
            }
        }
        Gate::Open
    }

    /// Answers the reads that found no leader and would be refused if they came now.
    pub(crate) fn refuse_reads(&mut self) {
        let Gate::Fail(failure) = self.gate() else { return };
        let (slot, time) = (self.applied, Timestamp::default());
        for asker in std::mem::take(&mut self.reads) {
            let result = Err(QueryFailure::NotTaken(failure));
            self.answer_query(Answer { asker, result, slot, time });
        }
    }

    /// Whether this replica executes nothing although others do, for want of room on its disk: a
    /// checkpoint that it needs cannot be kept.
    fn is_starved(&self) -> bool {
        let since = self.machines.now.monotonic.since(self.kept_up.1);
        !self.log.has_room && since >= self.config.limits.loading_timeout
    }

    /// Whether a stale read may be handed over; it never has to wait.
    pub(crate) fn gate_of_stale_reads(&self) -> Gate {
        let behind = self.view.decided.saturating_sub(self.applied.0) >= LOADING_SLOTS;
        if self.stopped.is_some() {
            Gate::Fail(Failure::Stopped)
        } else if self.stop_at.is_some() {
            Gate::Fail(Failure::Unavailable)
        } else if self.applied == Slot::NONE || (behind && !self.session.was_opened()) {
            // What it has is not old, but not read back yet.
            Gate::Fail(Failure::Loading)
        } else {
            Gate::Open
        }
    }

    /// Whether a write may be handed over.
    pub(crate) fn gate_of_writes(&self) -> Gate {
        match self.gate() {
            Gate::Open if !self.machines.replica.has_room() => Gate::Fail(Failure::NoRoom),
            Gate::Open if self.session.id().is_none() => Gate::Wait,
            gate => gate,
        }
    }

    /// Takes in commands, hands over and answers what can be. Returns whether no complete command is left.
    pub(crate) fn serve_front(&mut self, connection: &mut Served<F>) -> Result<bool, End> {
        loop {
            let taken = self.take_commands(connection);
            self.hand_over(connection);
            let answered = self.answer(connection);
            match taken {
                Taken::Some if answered => {}
                Taken::Some | Taken::Later => return Ok(false),
                Taken::All => break,
            }
        }
        let max = self.config.limits.input_bytes_max();
        if connection.stream.input_len() > max && !connection.closing {
            return Err(End::Broken(format!("its request is longer than {max} bytes")));
        }
        Ok(true)
    }

    /// Parses what came, a few commands at a time, so that what comes of them is counted in between.
    fn take_commands(&mut self, connection: &mut Served<F>) -> Taken {
        let now = self.machines.now.monotonic;
        let limits = self.config.limits;
        let (mut parsed, began) = (Vec::new(), self.turn_bytes);
        loop {
            if connection.closing || connection.stream.input_len() == 0 {
                return Taken::All;
            }
            if self.account.is_full() {
                self.pause(connection);
                return Taken::Later;
            }
            if self.turn_bytes >= TURN_BYTES_MAX || self.turn_bytes - began >= SHARE_BYTES_MAX {
                connection.unfinished = true;
                return Taken::Later;
            }
            let unsent = connection.unsent();
            let Role::Front { state, pipeline } = &mut connection.role else { return Taken::All };
            let room = limits.pipeline_max.saturating_sub(pipeline.len());
            if room == 0 || unsent > limits.unsent_bytes_max {
                // Goes on as commands are answered, and as replies are taken.
                return if pipeline.len() > 0 { Taken::Some } else { Taken::Later };
            }
            let input = &mut connection.stream.input;
            self.front.read(state, &self.view, input, room.min(COMMANDS_MAX), &mut parsed);
            if parsed.is_empty() {
                if connection.stream.bring(self.front.needs(state)) {
                    continue;
                }
                return Taken::All;
            }
            for command in parsed.drain(..) {
                self.turn_bytes += COMMAND_WORK;
                if let Parsed::Answer(bytes) | Parsed::Close(bytes) = &command {
                    self.turn_bytes += bytes.len();
                }
                pipeline.push(command, now);
            }
            self.settle(connection);
        }
    }

    /// Hands over what is due, in order; parks the connection where something has to wait.
    pub(crate) fn hand_over(&mut self, connection: &mut Served<F>) {
        let (reads, writes) = (self.gate_of_reads(), self.gate_of_writes());
        let stale_reads = self.gate_of_stale_reads();
        let body_max = self.config.limits.request_bytes_max;
        let id = connection.id;
        if connection.unsent() > self.config.limits.unsent_bytes_max {
            // Goes on as the client takes its replies.
            return;
        }
        let Role::Front { pipeline, .. } = &mut connection.role else { return };
        while let Some((question, due)) = pipeline.due() {
            let asker = Asker { connection: id, question };
            if matches!(due, Due::Write(_)) {
                self.want_session();
            }
            let gate = match due {
                Due::Read(_) => reads,
                Due::ReadStale(_) => stale_reads,
                Due::Write(_) => writes,
            };
            let waits = match (due, gate) {
                (_, Gate::Fail(failure)) => {
                    pipeline.refuse(failure);
                    false
                }
                (Due::Read(body) | Due::ReadStale(body) | Due::Write(body), _)
                    if body.len() > body_max =>
                {
                    pipeline.refuse(Failure::TooLarge);
                    false
                }
                (_, Gate::Wait) => true,
                (Due::Read(_), Gate::Open) => {
                    pipeline.read_handed_over();
                    self.reads.push(asker);
                    false
                }
                (Due::ReadStale(body), Gate::Open) => {
                    let query =
                        Query { asker, after: None, body: body.clone(), shown: Timestamp(0) };
                    pipeline.stale_read_handed_over();
                    self.executor.add_query(Slot::NONE, Timestamp(0), vec![query]);
                    false
                }
                (Due::Write(body), Gate::Open) => {
                    let body = body.clone();
                    let large = pipeline.is_due_large();
                    match (self.session.begin(&body, asker, large), self.session.id()) {
                        (Some(number), Some(session)) => {
                            let tied = pipeline.write_handed_over(session, number);
                            // Before the write itself can reach the executor.
                            self.executor.add_tied(session, number, id, tied);
                            false
                        }
                        _ => true,
                    }
                }
            };
            if waits {
                if !connection.parked {
                    connection.parked = true;
                    self.parked.push_back(id);
                }
                return;
            }
        }
    }

    /// Lets those go on whose next command had to wait, until some of them have to wait again.
    pub(crate) fn unpark(&mut self) {
        if self.gate_of_reads() == Gate::Wait && self.gate_of_writes() == Gate::Wait {
            return;
        }
        let mut waiting = 0;
        for _ in 0..self.parked.len() {
            let Some(id) = self.parked.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.parked = false;
            self.serve(id);
            self.breathe();
            let waits = self.connections.get(&id).is_some_and(|connection| connection.parked);
            waiting += usize::from(waits);
            if waiting >= PARKED_AGAIN_MAX {
                return;
            }
        }
    }

    /// Moves answers whose turn has come into the output. Returns whether there were any.
    fn answer(&mut self, connection: &mut Served<F>) -> bool {
        let Role::Front { pipeline, .. } = &mut connection.role else { return false };
        let mut any = false;
        while let Some(turn) = pipeline.turn() {
            any = true;
            let output = &mut connection.stream.output;
            match turn {
                Turn::Reply { shape, reply } => {
                    self.front.write(shape, Outcome::Reply(&reply), output.tail());
                }
                Turn::Failed { shape, failure } => {
                    self.front.write(shape, Outcome::Failed(failure), output.tail());
                }
                Turn::Answer(bytes) => output.push(&bytes),
                Turn::Close(bytes) => {
                    output.push(&bytes);
                    connection.closing = true;
                    break;
                }
            }
        }
        any
    }

    /// A write of a front's client was carried out, or its outcome is unknown.
    pub(crate) fn answer_write(&mut self, asker: Asker, outcome: Result<Bytes, Failure>) {
        let Some(connection) = self.connections.get_mut(&asker.connection) else { return };
        if let Role::Front { pipeline, .. } = &mut connection.role {
            pipeline.answer(asker.question, outcome);
            self.settle_by_id(asker.connection);
            self.activate(asker.connection);
        }
    }

    /// The leader told from which slot on these may be answered: asks the executor what is still to be
    /// asked. What was tied to a write since, or given up, or whose client is gone, is not.
    pub(crate) fn ask(&mut self, slot: Slot, time: Timestamp, askers: Vec<Asker>) {
        let mut queries = Vec::with_capacity(askers.len());
        let mut asked = Vec::new();
        for asker in askers {
            let connection = asker.connection;
            let Some(served) = self.connections.get_mut(&connection) else { continue };
            match &mut served.role {
                Role::Front { pipeline, .. } => pipeline.ask(asker.question, &mut asked),
                Role::Native(native) => {
                    let query = native.queries.get(&asker.question);
                    asked.extend(query.map(|q| (asker.question, q.body.clone(), q.after)));
                }
                _ => {}
            }
            queries.extend(asked.drain(..).map(|(question, body, after)| Query {
                asker: Asker { connection, question },
                after,
                body,
                shown: time,
            }));
        }
        if !queries.is_empty() {
            self.executor.add_query(slot, time, queries);
        }
    }

    /// A query was answered, or will not be.
    pub(crate) fn answer_query(&mut self, answer: Answer) {
        let asker = answer.asker;
        let Some(connection) = self.connections.get_mut(&asker.connection) else { return };
        match &mut connection.role {
            Role::Front { pipeline, .. } => {
                let outcome = answer.result.map_err(|failure| match failure {
                    QueryFailure::UnknownSession => Failure::Unavailable,
                    QueryFailure::NotTaken(failure) => failure,
                    QueryFailure::Stopped => Failure::Stopped,
                    QueryFailure::Loading => Failure::Loading,
                    QueryFailure::NoMemory => Failure::Crowded,
                    QueryFailure::Passed => Failure::Unavailable,
                });
                pipeline.answer(asker.question, outcome);
                self.settle_by_id(asker.connection);
                self.activate(asker.connection);
            }
            Role::Native(_) => self.answer_native(answer),
            _ => {}
        }
    }

    /// Tells a client what it has waited for too long.
    pub(crate) fn give_up_overdue(&mut self, id: u64) {
        let now = self.machines.now.monotonic;
        let patience = self.config.limits.outcome_timeout;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let slow = connection.unsent() > self.config.limits.unsent_bytes_max;
        let Role::Front { pipeline, .. } = &mut connection.role else {
            return self.give_up_native(id);
        };
        if give_up(pipeline, now, patience, slow) {
            self.activate(id);
        }
    }
}

/// Whether anything was given up. What waits for a `slow` client to take its replies goes on waiting.
fn give_up(pipeline: &mut Pipeline, now: Instant, patience: Duration, slow: bool) -> bool {
    let mut any = pipeline.give_up_overdue(now, patience);
    while !slow && pipeline.due().is_some() && pipeline.is_due_overdue(now, patience) {
        pipeline.refuse(Failure::Unavailable);
        any = true;
    }
    any
}
