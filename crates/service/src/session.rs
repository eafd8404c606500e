//! The table of sessions: which numbers were applied, and which replies may still be asked for.
//!
//! A session is FIFO: number n is applied only right after n − 1, and at most once. A reply is kept
//! until the client acknowledges it, so that a request that is sent again gets the same answer.
//! Everything here is a function of the log: nothing depends on a clock, on memory, or on the order
//! of a hash table (Ongaro, "Consensus: bridging theory and practice", section 6.3).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mainstay_model::time::nanos;
use mainstay_model::{Nonce, Plant, Plants, RequestNumber, SessionId, Slot, Timestamp};

use crate::contract::RestoreError;
use crate::fields;
use crate::kept_replies::KeptReplies;

/// How many different refused registrations are remembered; more clients than that wait for the
/// next trim.
const REFUSED_MAX: usize = 64;
/// How many idle sessions one slot ends; those behind them go with the slots that follow.
const EXPIRED_MAX: usize = 64;
/// What a kept reply counts besides its bytes, so that many empty ones are bounded, too.
const REPLY_COST: u64 = 64;

/// Bounds of the table. Part of the replicated state: replicas that begin with an empty log must
/// begin with the same, and whoever goes on from a checkpoint goes on with those in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// How many sessions there may be; further registrations are refused until the leader has
    /// ended idle ones.
    pub sessions_max: u32,
    /// How many kept replies one session may have; beyond, its requests are refused until the
    /// client acknowledges. At least 1. A client whose window is not larger never meets it.
    pub replies_max: u32,
    /// How many bytes of kept replies one session may have before its requests are refused. The
    /// last reply kept may exceed it.
    pub reply_bytes_max: u64,
    /// How many bytes of kept replies all sessions may have, counted as [`SessionTable::kept_bytes`]
    /// does, besides those of the session that was used last. Beyond, sessions are ended that keep
    /// more than their share, which is the `sessions_max`th part of this: the one idle longest first.
    /// So clients that went without a word cost no more than this, and end no session of a client
    /// that keeps little.
    pub reply_bytes_all_max: u64,
    /// For how much decided time a session may go unused before it is ended.
    pub idle_max: Duration,
}

impl SessionLimits {
    /// For how long, by its own clock, a client may leave a session unused and still rely on it:
    /// after that, with nobody waiting for a request of it, the client opens another one before it
    /// asks again. Half of [`Self::idle_max`] is left for clocks that differ and for a jump of decided
    /// time at a takeover. So a client that was idle costs nothing, and its next request finds a
    /// session.
    #[must_use]
    pub const fn fresh_for(&self) -> Duration {
        Duration::from_nanos(nanos(self.idle_max) / 2)
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            sessions_max: 4096,
            replies_max: 65_536,
            reply_bytes_max: 64 << 20,
            reply_bytes_all_max: 256 << 20,
            // Twice what decided time may jump at a takeover without an operator's word: so a jump
            // alone ends no session that was used in the hour before.
            idle_max: Duration::from_secs(2 * 3600),
        }
    }
}

/// What the table says about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is due: carry it out, then [`SessionTable::keep_reply`].
    Apply,
    /// It was carried out before; this is its reply.
    Kept(Bytes),
    /// It was carried out before and its client has acknowledged the reply: nobody waits for it.
    Acknowledged,
    /// The one in front of it is missing.
    Gap {
        /// The number that is due.
        expected: RequestNumber,
    },
    /// The session keeps too many unacknowledged replies.
    WindowFull,
    /// There is no such session (any more).
    UnknownSession,
}

/// The sessions of a group. Its state is a function of the log alone, and so is its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTable {
    limits: SessionLimits,
    /// Shared with the copies that were handed out for checkpoints, one by one.
    sessions: BTreeMap<SessionId, Arc<Session>>,
    by_nonce: BTreeMap<Nonce, SessionId>,
    /// All sessions by `last_use`. Time never goes back along the log, so this is the order in which
    /// they fall idle, too.
    by_use: BTreeSet<(Slot, SessionId)>,
    /// Who was refused a session since the last trim. Invariant: holds no nonce of `by_nonce`.
    refused: BTreeSet<Nonce>,
    /// Invariant: the sum of what the sessions keep.
    kept_bytes: u64,
}

/// Invariants: acknowledged_upto ≤ applied_upto; `replies` holds those to the numbers above
/// acknowledged_upto and up to applied_upto, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    nonce: Nonce,
    /// The slot of the last command of the session, whatever came of it, and the time there.
    last_use: Slot,
    used_at: Timestamp,
    applied_upto: RequestNumber,
    acknowledged_upto: RequestNumber,
    replies: KeptReplies,
}

impl SessionTable {
    /// A table without sessions.
    #[must_use]
    pub const fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            sessions: BTreeMap::new(),
            by_nonce: BTreeMap::new(),
            by_use: BTreeSet::new(),
            refused: BTreeSet::new(),
            kept_bytes: 0,
        }
    }

    /// Its bounds.
    #[must_use]
    pub const fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Bytes of the replies that all sessions keep, and 64 for each of them.
    #[must_use]
    pub const fn kept_bytes(&self) -> u64 {
        self.kept_bytes
    }

    /// Up to which number the requests of `session` have been applied; `None` for no such session.
    #[must_use]
    pub fn applied_upto(&self, session: SessionId) -> Option<RequestNumber> {
        self.sessions.get(&session).map(|session| session.applied_upto)
    }

    /// The kept replies of `session` to numbers above `after`, ascending.
    pub fn kept(
        &self,
        session: SessionId,
        after: RequestNumber,
    ) -> impl Iterator<Item = (RequestNumber, &Bytes)> {
        self.sessions.get(&session).into_iter().flat_map(move |session| {
            let first = after.max(session.acknowledged_upto).0;
            let numbers = (first..session.applied_upto.0).map(|before| RequestNumber(before + 1));
            numbers.filter_map(|number| Some((number, session.reply(number)?)))
        })
    }

    /// How many sessions have to go so that everyone who was refused one since the last trim finds
    /// room.
    #[must_use]
    pub fn over(&self) -> u32 {
        let room = (self.limits.sessions_max as usize).saturating_sub(self.sessions.len());
        let over = self.refused.len().saturating_sub(room).min(self.sessions.len());
        u32::try_from(over).expect("at most REFUSED_MAX")
    }

    /// Registers `nonce` by the command that stands `at` this place of the log, at decided time
    /// `now`. A nonce that has a session keeps it: a registration that is ordered twice must not leave
    /// its client with a session it does not know of (tigerbeetle#2153). `None` while the table is
    /// full; before that the session idle longest makes way, if it was idle for long enough, and is
    /// appended to `ended` (copycat#232).
    pub fn register(
        &mut self,
        nonce: Nonce,
        at: SessionId,
        now: Timestamp,
        ended: &mut Vec<SessionId>,
    ) -> Option<SessionId> {
        if let Some(&id) = self.by_nonce.get(&nonce) {
            self.touch(id, at.slot, now);
            return Some(id);
        }
        if self.sessions.len() >= self.limits.sessions_max as usize && self.is_one_idle(now) {
            ended.extend(self.end_first());
        }
        if self.sessions.len() >= self.limits.sessions_max as usize {
            if self.refused.len() < REFUSED_MAX {
                self.refused.insert(nonce);
            }
            return None;
        }
        self.refused.remove(&nonce);
        self.by_nonce.insert(nonce, at);
        self.by_use.insert((at.slot, at));
        let session = Session {
            nonce,
            last_use: at.slot,
            // The decided time, not what its client or the leader's clock says: it is never idle
            // before it stands (atomix#330, #982).
            used_at: now,
            applied_upto: RequestNumber(0),
            acknowledged_upto: RequestNumber(0),
            replies: KeptReplies::default(),
        };
        let replaced = self.sessions.insert(at, Arc::new(session));
        assert!(replaced.is_none(), "two registrations stand at {at}");
        Some(at)
    }

    /// Says what to do about request `number` of session `id`, which stands in slot `at` with decided
    /// time `now`, and frees the replies that it acknowledges.
    pub fn admit(
        &mut self,
        id: SessionId,
        number: RequestNumber,
        acknowledged_upto: RequestNumber,
        (at, now): (Slot, Timestamp),
        plants: impl Plants,
    ) -> Admission {
        let limits = self.limits;
        let Some(session) = self.touch(id, at, now) else {
            return Admission::UnknownSession;
        };
        let freed = session.acknowledge(acknowledged_upto);
        self.kept_bytes -= freed;
        let session = &self.sessions[&id];
        if plants.has(Plant::FullWindowRefusesRepeats) && session.is_full(limits) {
            return Admission::WindowFull;
        }
        if number <= session.applied_upto {
            if plants.has(Plant::DuplicateApplied) {
                return Admission::Apply;
            }
            return match session.reply(number) {
                Some(_) if plants.has(Plant::ReplyLost) => Admission::Kept(Bytes::new()),
                Some(reply) => Admission::Kept(reply.clone()),
                None => Admission::Acknowledged,
            };
        }
        let expected = session.applied_upto.next();
        if number != expected && !plants.has(Plant::GapApplied) {
            return Admission::Gap { expected };
        }
        if session.is_full(limits) {
            return Admission::WindowFull;
        }
        Admission::Apply
    }

    /// Notes that request `number` of session `id` was carried out and keeps its reply. Where all
    /// sessions keep too much then, those that make way are appended to `ended`.
    ///
    /// # Panics
    /// If the request was not admitted right before.
    pub fn keep_reply(
        &mut self,
        id: SessionId,
        number: RequestNumber,
        reply: Bytes,
        ended: &mut Vec<SessionId>,
    ) {
        let session = self.sessions.get_mut(&id).expect("the request was admitted");
        let session = Arc::make_mut(session);
        self.kept_bytes -= session.kept_bytes();
        session.keep(number, reply);
        self.kept_bytes += session.kept_bytes();
        while self.kept_bytes > self.limits.reply_bytes_all_max {
            let Some(other) = self.idlest_with_much(id) else { return };
            self.end(other);
            ended.push(other);
        }
    }

    /// The session idle longest, other than `used`, of those that keep more than their share.
    fn idlest_with_much(&self, used: SessionId) -> Option<SessionId> {
        let share = self.limits.reply_bytes_all_max / u64::from(self.limits.sessions_max.max(1));
        let others = self.by_use.iter().map(|(_, id)| *id).filter(|id| *id != used);
        others.into_iter().find(|id| self.sessions[id].kept_bytes() > share)
    }

    /// Ends the sessions idle longest, in log order, so that everybody who was refused one since the
    /// last trim finds room, but only as long as more than `keep` are left; appends them to `ended`,
    /// the one idle longest first. So the same command ends nothing more when it comes again.
    pub fn trim(&mut self, keep: u32, ended: &mut Vec<SessionId>) {
        let over = self.over() as usize;
        self.refused.clear();
        for _ in 0..self.sessions.len().saturating_sub(keep as usize).min(over) {
            ended.extend(self.end_first());
        }
    }

    /// Ends the session of `nonce`, as its client asked for, and returns which that was.
    pub fn close(&mut self, nonce: Nonce) -> Option<SessionId> {
        let id = *self.by_nonce.get(&nonce)?;
        self.end(id);
        Some(id)
    }

    /// Ends sessions that were not used for as long as [`SessionLimits::idle_max`] at time `now`, the
    /// one idle longest first, and appends them to `ended`. A bounded number a call: whoever is left
    /// goes at the next.
    pub fn expire(&mut self, now: Timestamp, ended: &mut Vec<SessionId>) {
        for _ in 0..EXPIRED_MAX {
            if !self.is_one_idle(now) {
                return;
            }
            ended.extend(self.end_first());
        }
    }

    /// Whether the session idle longest was idle for long enough at time `now`.
    fn is_one_idle(&self, now: Timestamp) -> bool {
        let first = self.by_use.first().map(|(_, id)| self.sessions[id].used_at);
        first.is_some_and(|used_at| now.0.saturating_sub(used_at.0) >= nanos(self.limits.idle_max))
    }

    /// Ends the session idle longest.
    fn end_first(&mut self) -> Option<SessionId> {
        let (_, id) = *self.by_use.first()?;
        self.end(id);
        Some(id)
    }

    /// Ends a session that there is.
    fn end(&mut self, id: SessionId) {
        let session = self.sessions.remove(&id).expect("it was looked up");
        let stood = self.by_use.remove(&(session.last_use, id));
        assert!(stood, "session {id} stands in one order and not in the other");
        self.by_nonce.remove(&session.nonce);
        self.kept_bytes -= session.kept_bytes();
    }

    /// Writes the table, limits included; equal tables write equal bytes.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let SessionLimits { sessions_max, replies_max, .. } = self.limits;
        let SessionLimits { reply_bytes_max, reply_bytes_all_max, idle_max, .. } = self.limits;
        fields::put_u32(to, sessions_max)?;
        fields::put_u32(to, replies_max)?;
        fields::put_u64(to, reply_bytes_max)?;
        fields::put_u64(to, reply_bytes_all_max)?;
        fields::put_u64(to, nanos(idle_max))?;
        fields::put_u64(to, self.sessions.len() as u64)?;
        for (id, session) in &self.sessions {
            fields::put_session(to, *id)?;
            fields::put_u128(to, session.nonce.0)?;
            fields::put_u64(to, session.last_use.0)?;
            fields::put_u64(to, session.used_at.0)?;
            fields::put_u64(to, session.applied_upto.0)?;
            fields::put_u64(to, session.acknowledged_upto.0)?;
            for reply in session.replies.iter() {
                fields::put_u64(to, reply.len() as u64)?;
                to.write_all(reply)?;
            }
        }
        fields::put_u64(to, self.refused.len() as u64)?;
        for nonce in &self.refused {
            fields::put_u128(to, nonce.0)?;
        }
        Ok(())
    }

    /// Reads what [`SessionTable::write`] wrote.
    ///
    /// # Errors
    /// [`RestoreError`]: reading failed, or no table can be like that.
    pub fn read(from: &mut dyn Read) -> Result<Self, RestoreError> {
        let mut table = Self::new(SessionLimits {
            sessions_max: fields::u32(from)?,
            replies_max: fields::u32(from)?,
            reply_bytes_max: fields::u64(from)?,
            reply_bytes_all_max: fields::u64(from)?,
            idle_max: Duration::from_nanos(fields::u64(from)?),
        });
        let invalid = |how: &str| RestoreError::Invalid(how.to_owned());
        for _ in 0..fields::u64(from)? {
            let id = fields::session(from)?;
            let session = Session::read(from)?;
            table.by_use.insert((session.last_use, id));
            table.kept_bytes = table.kept_bytes.saturating_add(session.kept_bytes());
            let taken = table.by_nonce.insert(session.nonce, id).is_some();
            if table.sessions.insert(id, Arc::new(session)).is_some() || taken {
                return Err(invalid("two sessions in it have one id or one nonce"));
            }
        }
        let used_at = table.by_use.iter().map(|(_, id)| table.sessions[id].used_at);
        if !used_at.is_sorted() {
            return Err(invalid("a session in it was used later than one used after it"));
        }
        for _ in 0..fields::u64(from)? {
            let nonce = Nonce(fields::u128(from)?);
            if table.by_nonce.contains_key(&nonce) || !table.refused.insert(nonce) {
                return Err(invalid("a client was refused a session in it and has one"));
            }
        }
        Ok(table)
    }

    /// Notes a use of the session in slot `at`.
    fn touch(&mut self, id: SessionId, at: Slot, now: Timestamp) -> Option<&mut Session> {
        let session = Arc::make_mut(self.sessions.get_mut(&id)?);
        if session.last_use != at {
            self.by_use.remove(&(session.last_use, id));
            self.by_use.insert((at, id));
            (session.last_use, session.used_at) = (at, now);
        }
        Some(session)
    }
}

impl Session {
    fn read(from: &mut dyn Read) -> Result<Self, RestoreError> {
        let mut session = Self {
            nonce: Nonce(fields::u128(from)?),
            last_use: Slot(fields::u64(from)?),
            used_at: Timestamp(fields::u64(from)?),
            applied_upto: RequestNumber(fields::u64(from)?),
            acknowledged_upto: RequestNumber(fields::u64(from)?),
            replies: KeptReplies::default(),
        };
        let (acknowledged, applied) = (session.acknowledged_upto.0, session.applied_upto.0);
        if acknowledged > applied || applied == u64::MAX {
            let how = "a session in it has acknowledged what was never applied".to_owned();
            return Err(RestoreError::Invalid(how));
        }
        for _ in acknowledged..applied {
            let len = fields::u64(from)?;
            session.replies.push(fields::bytes(from, len)?.into());
        }
        Ok(session)
    }

    /// Where the reply to `number` stands, or would stand.
    fn position(&self, number: RequestNumber) -> Option<usize> {
        let above = number.0.checked_sub(self.acknowledged_upto.0)?.checked_sub(1)?;
        usize::try_from(above).ok()
    }

    fn reply(&self, number: RequestNumber) -> Option<&Bytes> {
        self.replies.get(self.position(number)?)
    }

    fn keep(&mut self, number: RequestNumber, reply: Bytes) {
        if number <= self.applied_upto {
            if let Some(position) = self.position(number) {
                self.replies.replace(position, reply);
            }
            return;
        }
        // More than one missing only with a bug planted: what was skipped is answered with nothing.
        for _ in self.applied_upto.next().0..number.0 {
            self.replies.push(Bytes::new());
        }
        self.replies.push(reply);
        self.applied_upto = number;
    }

    /// A client can only have the replies to what was applied; more is taken as that. Returns how
    /// many bytes are kept no longer.
    fn acknowledge(&mut self, upto: RequestNumber) -> u64 {
        let upto = upto.min(self.applied_upto);
        if upto <= self.acknowledged_upto {
            return 0;
        }
        let before = self.kept_bytes();
        let count = upto.0 - self.acknowledged_upto.0;
        self.replies.free(usize::try_from(count).unwrap_or(usize::MAX));
        self.acknowledged_upto = upto;
        before - self.kept_bytes()
    }

    fn kept_bytes(&self) -> u64 {
        self.replies.bytes() + REPLY_COST * self.replies.len() as u64
    }

    /// With nothing kept there is always room for one reply, however small the limits: otherwise a
    /// session could never go on.
    fn is_full(&self, limits: SessionLimits) -> bool {
        self.replies.len() > 0
            && (self.replies.len() >= limits.replies_max as usize
                || self.replies.bytes() >= limits.reply_bytes_max)
    }
}
