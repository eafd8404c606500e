//! Sessions, decided time and service, applied as one.

use std::fmt;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use mainstay_model::{
    Batch, NoPlants, Nonce, Plant, Plants, Prng, RequestNumber, SessionId, Slot, Timestamp, Value,
};
use xxhash_rust::xxh3::Xxh3;

use crate::checkpoint::{self, ApplierCheckpoint, Head, write_content};
use crate::command::Command;
use crate::contract::{Context, QueryContext, RestoreError, Secret, Service};
use crate::interlude::{Interlude, NoInterlude};
use crate::interval::{CheckpointInterval, Counting};
use crate::session::{Admission, SessionLimits, SessionTable};

/// What came of one command of a batch. A world hands it to whoever of its own clients waits for
/// it; at every other replica nobody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// A session stands (new, or the same nonce registered again).
    Registered {
        /// Whose registration.
        nonce: Nonce,
        /// Its session.
        session: SessionId,
    },
    /// A registration was refused: the table is full until the leader has trimmed it.
    RegistrationRefused {
        /// Whose registration.
        nonce: Nonce,
    },
    /// A request was carried out now, or had been before and its reply was kept.
    Replied {
        /// Whose.
        session: SessionId,
        /// Which.
        number: RequestNumber,
        /// What the service answered.
        reply: Bytes,
        /// Whether this is a kept reply.
        repeated: bool,
    },
    /// A request came before the one in front of it; it changed nothing and must be sent again.
    Gap {
        /// Whose.
        session: SessionId,
        /// Which came.
        number: RequestNumber,
        /// Which is due.
        expected: RequestNumber,
    },
    /// A request changed nothing because the session keeps too many unacknowledged replies.
    WindowFull {
        /// Whose.
        session: SessionId,
        /// Which.
        number: RequestNumber,
    },
    /// A request of a session that does not exist (any more): whether it was carried out before
    /// the session ended cannot be told.
    UnknownSession {
        /// Whose.
        session: SessionId,
        /// Which.
        number: RequestNumber,
    },
    /// A session was ended: by the leader's command or that of its client, because it was not used
    /// for long, or because it was idle and the replies that sessions keep took too much memory.
    Ended {
        /// Which.
        session: SessionId,
    },
}

/// Why a batch could not be applied. The replica stops executing; ordering and voting go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// The value is no batch.
    Batch(Slot),
    /// The slot is not the next one.
    Order {
        /// The slot that is due.
        expected: Slot,
        /// The slot that came.
        got: Slot,
    },
    /// The checkpoint of a slot was due and nobody took it before the next slot came: the others
    /// have one of it, and this replica never could have.
    CheckpointSkipped(Slot),
    /// The service panicked.
    Panic {
        /// In which slot.
        slot: Slot,
        /// At which request of the slot, from 0; `None` if it was at none: while time advanced, or
        /// while a checkpoint was taken.
        position: Option<u32>,
        /// What the panic said.
        message: String,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(slot) => write!(f, "the value decided in slot {slot} is no batch"),
            Self::Order { expected, got } => {
                write!(f, "slot {got} came to be applied where slot {expected} was due")
            }
            Self::CheckpointSkipped(slot) => {
                write!(f, "the checkpoint that was due at slot {slot} was not taken")
            }
            Self::Panic { slot, position: Some(position), message } => {
                write!(f, "the service panicked in slot {slot} at request {position}: {message}")
            }
            Self::Panic { slot, position: None, message } => {
                write!(f, "the service panicked in slot {slot}: {message}")
            }
        }
    }
}

impl std::error::Error for ApplyError {}

/// Owns the replicated state of one group at one replica: the service, the table of sessions and
/// the decided time.
///
/// After an [`ApplyError`] the service is gone, since nobody knows what state a panic left it in:
/// every later [`Applier::apply`] returns the same error, and queries fail.
#[derive(Debug)]
pub struct Applier<S, P = NoPlants> {
    service: Result<S, ApplyError>,
    sessions: SessionTable,
    time: Timestamp,
    applied_upto: Slot,
    /// The slot of the last request that the service executed.
    executed_upto: Slot,
    counting: Counting,
    /// Whether `applied_upto` made a checkpoint due, and whether that one was taken. Not part of the
    /// replicated state.
    due: Due,
    /// For [`Plant::ExpiryByLocalClock`].
    local_clock: Timestamp,
    /// Given with the first command of the log.
    secret: Secret,
    plants: P,
    undecodable: u64,
    reply: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    No,
    Wanted,
    Taken,
}

impl<S: Service, P: Plants> Applier<S, P> {
    /// Starts from an empty log with `service` as its first state.
    pub fn new(service: S, limits: SessionLimits, plants: P) -> Self {
        Self {
            service: Ok(service),
            sessions: SessionTable::new(limits),
            time: Timestamp(0),
            applied_upto: Slot::NONE,
            executed_upto: Slot::NONE,
            counting: Counting::default(),
            due: Due::No,
            local_clock: Timestamp(0),
            secret: Secret::default(),
            plants,
            undecodable: 0,
            reply: Vec::new(),
        }
    }

    /// Applies the decided value of the next slot and appends what came of its commands to `out`,
    /// in order. First of all the service learns how far time has advanced, if it has. Bytes that are
    /// no command are skipped, at every replica alike. A panic of the service is caught; what came of
    /// the commands before it stands in `out`.
    ///
    /// After a slot that made a checkpoint due ([`Applier::checkpoint_due`]) the next one is applied
    /// only if [`Applier::checkpoint`] was called in between.
    ///
    /// # Errors
    /// [`ApplyError`]; nothing is applied afterwards.
    pub fn apply(
        &mut self,
        slot: Slot,
        value: &Value,
        out: &mut Vec<Applied>,
    ) -> Result<(), ApplyError> {
        self.apply_between(slot, value, out, &mut NoInterlude)
    }

    /// The same, with something to do between the requests of the batch.
    ///
    /// # Errors
    /// As [`Applier::apply`].
    pub fn apply_between(
        &mut self,
        slot: Slot,
        value: &Value,
        out: &mut Vec<Applied>,
        interlude: &mut impl Interlude<S, P>,
    ) -> Result<(), ApplyError> {
        if let Err(error) = &self.service {
            return Err(error.clone());
        }
        let result = self.apply_batch(slot, value, out, interlude);
        if let Err(error) = &result {
            self.stop(error.clone());
        }
        result
    }

    fn apply_batch(
        &mut self,
        slot: Slot,
        value: &Value,
        out: &mut Vec<Applied>,
        interlude: &mut impl Interlude<S, P>,
    ) -> Result<(), ApplyError> {
        let expected = self.applied_upto.next();
        if slot != expected {
            return Err(ApplyError::Order { expected, got: slot });
        }
        if self.due == Due::Wanted {
            return Err(ApplyError::CheckpointSkipped(self.applied_upto));
        }
        let batch = Batch::decode(value).map_err(|_| ApplyError::Batch(slot))?;
        let requests = batch.requests.len() as u64;
        self.advance(slot, batch.time)?;
        for (position, request) in (0u32..).zip(batch.requests) {
            let at = SessionId { slot, position };
            match Command::decode(request) {
                Ok(command) => self.apply_command(at, command, out, interlude)?,
                Err(_) => self.undecodable += 1,
            }
        }
        // After the requests of the slot: one of a session that was idle until now keeps it.
        let mut ended = Vec::new();
        self.sessions.expire(self.time, &mut ended);
        out.extend(ended.into_iter().map(|session| Applied::Ended { session }));
        self.applied_upto = slot;
        let due = self.counting.count(requests, value);
        self.due = if due { Due::Wanted } else { Due::No };
        Ok(())
    }

    /// Moves decided time forward to that of the batch, unless that would be back.
    fn advance(&mut self, slot: Slot, time: Timestamp) -> Result<(), ApplyError> {
        let local = self.plants.has(Plant::ExpiryByLocalClock);
        let time = if local { self.local_clock } else { time };
        if time <= self.time {
            return Ok(());
        }
        self.time = time;
        let service = self.service.as_mut().map_err(|error| error.clone())?;
        catching(|| service.advance(time)).map_err(|message| ApplyError::Panic {
            slot,
            position: None,
            message,
        })
    }

    fn apply_command(
        &mut self,
        at: SessionId,
        command: Command,
        out: &mut Vec<Applied>,
        interlude: &mut impl Interlude<S, P>,
    ) -> Result<(), ApplyError> {
        match command {
            Command::Register { nonce } => {
                let mut ended = Vec::new();
                out.push(match self.sessions.register(nonce, at, self.time, &mut ended) {
                    Some(session) => Applied::Registered { nonce, session },
                    None => Applied::RegistrationRefused { nonce },
                });
                out.extend(ended.into_iter().map(|session| Applied::Ended { session }));
            }
            Command::Request { session, number, acknowledged_upto, body } => {
                match self.sessions.admit(
                    session,
                    number,
                    acknowledged_upto,
                    (at.slot, self.time),
                    self.plants,
                ) {
                    Admission::Apply => {
                        interlude.before(self, session, number);
                        let reply = self.execute(at, session, number, &body)?;
                        let mut ended = Vec::new();
                        self.sessions.keep_reply(session, number, reply.clone(), &mut ended);
                        out.push(Applied::Replied { session, number, reply, repeated: false });
                        out.extend(ended.into_iter().map(|session| Applied::Ended { session }));
                    }
                    Admission::Kept(reply) => {
                        out.push(Applied::Replied { session, number, reply, repeated: true });
                    }
                    Admission::Acknowledged => {}
                    Admission::Gap { expected } => {
                        out.push(Applied::Gap { session, number, expected });
                    }
                    Admission::WindowFull => out.push(Applied::WindowFull { session, number }),
                    Admission::UnknownSession => {
                        out.push(Applied::UnknownSession { session, number });
                    }
                }
            }
            Command::TrimSessions { keep } => {
                let mut ended = Vec::new();
                self.sessions.trim(keep, &mut ended);
                out.extend(ended.into_iter().map(|session| Applied::Ended { session }));
            }
            Command::EndSession { nonce } => {
                out.extend(self.sessions.close(nonce).map(|session| Applied::Ended { session }));
            }
            Command::SetCheckpointInterval(interval) => self.counting.set_interval(interval),
            Command::Begin { secret } => self.begin(at, secret)?,
        }
        Ok(())
    }

    /// A log begins once: elsewhere than at its beginning this means nothing.
    fn begin(&mut self, at: SessionId, secret: Secret) -> Result<(), ApplyError> {
        if at != (SessionId { slot: Slot::FIRST, position: 0 }) {
            return Ok(());
        }
        self.secret = secret;
        let service = self.service.as_mut().map_err(|error| error.clone())?;
        catching(|| service.begin(secret)).map_err(|message| ApplyError::Panic {
            slot: at.slot,
            position: Some(at.position),
            message,
        })
    }

    fn execute(
        &mut self,
        at: SessionId,
        session: SessionId,
        number: RequestNumber,
        body: &[u8],
    ) -> Result<Bytes, ApplyError> {
        let cx = Context {
            slot: at.slot,
            time: self.time,
            seed: seed(self.secret, at),
            session,
            number,
        };
        let service = self.service.as_mut().map_err(|error| error.clone())?;
        let reply = &mut self.reply;
        reply.clear();
        catching(|| service.apply(&cx, body, reply)).map_err(|message| ApplyError::Panic {
            slot: at.slot,
            position: Some(at.position),
            message,
        })?;
        self.executed_upto = at.slot;
        Ok(Bytes::copy_from_slice(&self.reply))
    }

    /// Whether something is due by `time` in the state as it is: it must not be shown that time before
    /// decided time has got there. (A moment that decided time has passed is not waited for: only a
    /// service that breaks its contract names one.)
    pub fn is_due(&self, time: Timestamp) -> bool {
        time > self.time && self.wake().is_some_and(|wake| self.time < wake && wake <= time)
    }

    /// Answers a read-only request from the state as it is; a panic of the service is caught. The
    /// request is shown `time`, unless decided time has come further; what the ordering of a group says
    /// of the read, or zero for decided time alone. Not while [`Applier::is_due`].
    ///
    /// # Errors
    /// What the panic said, or why the service is gone. Nothing is appended then.
    pub fn query(
        &self,
        time: Timestamp,
        request: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<(), String> {
        let service = self.service.as_ref().map_err(ToString::to_string)?;
        let cx = QueryContext { slot: self.applied_upto, time: self.time.max(time) };
        let len = reply.len();
        catching(|| service.query(&cx, request, reply)).inspect_err(|_| reply.truncate(len))
    }

    /// The last slot applied.
    pub const fn applied_upto(&self) -> Slot {
        self.applied_upto
    }

    /// The decided time at the last slot applied.
    pub const fn time(&self) -> Timestamp {
        self.time
    }

    /// Whether the last slot applied made a checkpoint due: [`Applier::checkpoint`] must be called
    /// before the next one is applied. True at every replica after the same slots; false in one that
    /// was restored and has applied nothing yet, whose checkpoint exists.
    pub fn checkpoint_due(&self) -> bool {
        self.due != Due::No
    }

    /// After how much log checkpoints are due.
    pub const fn checkpoint_interval(&self) -> CheckpointInterval {
        self.counting.interval()
    }

    /// When the service wants time to be decided next, if ever.
    pub fn wake(&self) -> Option<Timestamp> {
        let service = self.service.as_ref().ok()?;
        catching(|| service.wake()).ok().flatten()
    }

    /// Why nothing is applied any more, if that is so.
    pub fn stopped(&self) -> Option<&ApplyError> {
        self.service.as_ref().err()
    }

    /// How many commands were skipped since the start of the process because their bytes are no
    /// command.
    pub const fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// Up to which number the requests of `session` have been applied; `None` for no such session.
    pub fn session_applied_upto(&self, session: SessionId) -> Option<RequestNumber> {
        self.sessions.applied_upto(session)
    }

    /// The kept replies of `session` to numbers above `after`, ascending.
    pub fn kept_replies(
        &self,
        session: SessionId,
        after: RequestNumber,
    ) -> impl Iterator<Item = (RequestNumber, &Bytes)> {
        self.sessions.kept(session, after)
    }

    /// How many sessions there are.
    pub fn sessions_len(&self) -> usize {
        self.sessions.len()
    }

    /// Bytes of the replies that sessions keep, see [`SessionTable::kept_bytes`].
    pub const fn kept_bytes(&self) -> u64 {
        self.sessions.kept_bytes()
    }

    /// How many sessions have to go: non-zero asks the leader to order [`Applier::trim`].
    pub fn sessions_over(&self) -> u32 {
        self.sessions.over()
    }

    /// The command that makes room for everyone who was refused a session; `None` while nobody was.
    pub fn trim(&self) -> Option<Command> {
        let over = self.sessions.over() as usize;
        let keep = u32::try_from(self.sessions.len() - over).ok()?;
        (over > 0).then_some(Command::TrimSessions { keep })
    }

    /// What this replica's calendar clock says. It has no influence on anything, unless
    /// [`Plant::ExpiryByLocalClock`] is planted.
    pub const fn tell_local_clock(&mut self, wall: Timestamp) {
        self.local_clock = wall;
    }

    fn head(&self) -> Head {
        let left_out = self.plants.has(Plant::CountersLeftOutOfCheckpoint);
        let counting = if left_out { Counting::default() } else { self.counting };
        let timeless = self.plants.has(Plant::TimeLeftOutOfCheckpoint);
        let time = if timeless { Timestamp(0) } else { self.time };
        let (slot, executed_upto) = (self.applied_upto, self.executed_upto);
        Head { slot, time, executed_upto, secret: self.secret, counting }
    }

    /// The sessions as they stand in a checkpoint.
    fn sessions_to_write(&self) -> SessionTable {
        if self.plants.has(Plant::SessionsLeftOutOfCheckpoint) {
            return SessionTable::new(self.sessions.limits());
        }
        self.sessions.clone()
    }

    /// A digest over all that a checkpoint holds: service, sessions, replies, time, slot, and what
    /// counts towards the next checkpoint. Equal at every replica that has applied the same slots.
    /// `None` once the service is gone; a service that panics in its checkpoint is gone, too. A
    /// checkpoint that is due stays due.
    pub fn digest(&mut self) -> Option<u64> {
        let (sessions, head, slot) = (self.sessions_to_write(), self.head(), self.applied_upto);
        let service = self.service.as_mut().ok()?;
        let digest = catching(|| {
            let mut hash = Hashing(Xxh3::new());
            write_content(&mut hash, head, &sessions, &service.checkpoint())
                .expect("a hash takes any bytes");
            hash.0.digest()
        });
        digest
            .map_err(|message| self.stop(ApplyError::Panic { slot, position: None, message }))
            .ok()
    }

    /// Hands out the state as it is now; see [`Service::checkpoint`]. May be called at any slot, and
    /// must be where [`Applier::checkpoint_due`]. `None` once the service is gone; a service that
    /// panics here is gone, too.
    pub fn checkpoint(&mut self) -> Option<ApplierCheckpoint<S::Checkpoint>> {
        let slot = self.applied_upto;
        let (sessions, head) = (self.sessions_to_write(), self.head());
        let service = self.service.as_mut().ok()?;
        let service = catching(|| service.checkpoint())
            .map_err(|message| self.stop(ApplyError::Panic { slot, position: None, message }))
            .ok()?;
        if self.due == Due::Wanted {
            self.due = Due::Taken;
        }
        Some(ApplierCheckpoint { head, sessions, service, service_version: S::version() })
    }

    /// Goes on from what [`ApplierCheckpoint::write`] wrote, with the limits of sessions and the
    /// interval of checkpoints that stand in it; the rest as for [`Applier::new`].
    ///
    /// # Errors
    /// [`RestoreError`]: reading failed, the bytes are damaged or no state of this service, or the
    /// service is behind or ahead of its checkpoint.
    pub fn restore(source: &mut dyn Read, plants: P) -> Result<Self, RestoreError> {
        let content = checkpoint::read(source, S::version(), |source| {
            catching(|| S::restore(source)).unwrap_or_else(|message| {
                Err(RestoreError::Invalid(format!("the service panicked: {message}")))
            })
        })?;
        let Head { slot, time, executed_upto, secret, counting } = content.head;
        let told = catching(|| content.service.executed_upto()).map_err(|message| {
            RestoreError::Invalid(format!("the service panicked over what was restored: {message}"))
        })?;
        if let Some(service) = told.filter(|told| *told != executed_upto) {
            return Err(RestoreError::Elsewhere { service, checkpoint: executed_upto });
        }
        let mut applier = Self::new(content.service, SessionLimits::default(), plants);
        applier.sessions = content.sessions;
        (applier.applied_upto, applier.time) = (slot, time);
        (applier.executed_upto, applier.counting) = (executed_upto, counting);
        applier.secret = secret;
        Ok(applier)
    }

    /// Lets go of the service, whose destructor may panic once more.
    fn stop(&mut self, error: ApplyError) {
        let service = std::mem::replace(&mut self.service, Err(error));
        self.due = Due::No;
        // What the destructor of a broken service says helps nobody: the first panic is reported.
        let _ = catching(|| drop(service));
    }
}

/// Different for every place of every log, the same at every replica, and unknown to clients.
fn seed(secret: Secret, at: SessionId) -> u64 {
    let secret = (secret.0 >> 64) as u64 ^ secret.0 as u64;
    let slot = Prng::new(secret ^ Prng::new(at.slot.0).next_u64()).next_u64();
    Prng::new(slot ^ u64::from(at.position)).next_u64()
}

/// Runs code of the service; a panic becomes what it said.
pub(crate) fn catching<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    // Whoever sees a panic here drops the service or leaves it as it is behind a shared reference.
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a panic without a message".to_owned())
    })
}

/// Hashes what is written to it.
struct Hashing(Xxh3);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
