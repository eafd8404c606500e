//! The table of sessions: which numbers were applied, and which replies may still be asked for.
//!
//! A session is FIFO: number n is applied only right after n − 1, and at most once. A reply is kept
//! until the client acknowledges it, so that a request that is sent again gets the same answer.
//! Everything here is a function of the log: nothing depends on a clock, on memory, or on the order
//! of a hash table (Ongaro, "Consensus: bridging theory and practice", section 6.3).

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

use bytes::Bytes;
use mainstay_model::{Nonce, Plant, Plants, RequestNumber, SessionId};

use crate::contract::RestoreError;
use crate::fields;

/// How many different refused registrations are remembered; more clients than that wait for the
/// next trim.
const REFUSED_MAX: usize = 64;

/// Bounds of the table. Part of the replicated behaviour: every replica must use the same.
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
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { sessions_max: 4096, replies_max: 65_536, reply_bytes_max: 256 << 20 }
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
    sessions: BTreeMap<SessionId, Session>,
    by_nonce: BTreeMap<Nonce, SessionId>,
    /// Who was refused a session since the last trim. Invariant: holds no nonce of `by_nonce`.
    refused: BTreeSet<Nonce>,
}

/// Invariants: acknowledged_upto ≤ applied_upto; `replies` holds exactly the numbers above
/// acknowledged_upto and up to applied_upto; `reply_bytes` is the sum of their lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    nonce: Nonce,
    /// Where the last command of the session stands in the log, whatever came of it.
    last_use: SessionId,
    applied_upto: RequestNumber,
    acknowledged_upto: RequestNumber,
    replies: BTreeMap<RequestNumber, Bytes>,
    reply_bytes: u64,
}

impl SessionTable {
    /// A table without sessions.
    #[must_use]
    pub const fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            sessions: BTreeMap::new(),
            by_nonce: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
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

    /// Up to which number the requests of `session` have been applied; `None` for no such session.
    #[must_use]
    pub fn applied_upto(&self, session: SessionId) -> Option<RequestNumber> {
        self.sessions.get(&session).map(|session| session.applied_upto)
    }

    /// How many sessions have to go so that everyone who was refused one since the last trim finds
    /// room.
    #[must_use]
    pub fn over(&self) -> u32 {
        let room = (self.limits.sessions_max as usize).saturating_sub(self.sessions.len());
        let over = self.refused.len().saturating_sub(room).min(self.sessions.len());
        u32::try_from(over).expect("at most REFUSED_MAX")
    }

    /// Registers `nonce` by the command that stands `at` this place of the log. A nonce that has a
    /// session keeps it: a registration that is ordered twice must not leave its client with a
    /// session it does not know of (tigerbeetle#2153). `None` while the table is full.
    pub fn register(&mut self, nonce: Nonce, at: SessionId) -> Option<SessionId> {
        if let Some(&id) = self.by_nonce.get(&nonce) {
            self.touch(id, at);
            return Some(id);
        }
        if self.sessions.len() >= self.limits.sessions_max as usize {
            if self.refused.len() < REFUSED_MAX {
                self.refused.insert(nonce);
            }
            return None;
        }
        self.refused.remove(&nonce);
        self.by_nonce.insert(nonce, at);
        let session = Session {
            nonce,
            last_use: at,
            applied_upto: RequestNumber(0),
            acknowledged_upto: RequestNumber(0),
            replies: BTreeMap::new(),
            reply_bytes: 0,
        };
        let replaced = self.sessions.insert(at, session);
        assert!(replaced.is_none(), "two registrations stand at {at}");
        Some(at)
    }

    /// Says what to do about request `number` of `session`, which stands `at` this place of the
    /// log, and frees the replies that it acknowledges.
    pub fn admit(
        &mut self,
        session: SessionId,
        number: RequestNumber,
        acknowledged_upto: RequestNumber,
        at: SessionId,
        plants: impl Plants,
    ) -> Admission {
        let limits = self.limits;
        self.touch(session, at);
        let Some(session) = self.sessions.get_mut(&session) else {
            return Admission::UnknownSession;
        };
        session.acknowledge(acknowledged_upto);
        if number <= session.applied_upto {
            if plants.has(Plant::DuplicateApplied) {
                return Admission::Apply;
            }
            return match session.replies.get(&number) {
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

    /// Notes that request `number` of `session` was carried out and keeps its reply.
    ///
    /// # Panics
    /// If the request was not admitted right before.
    pub fn keep_reply(&mut self, session: SessionId, number: RequestNumber, reply: Bytes) {
        let session = self.sessions.get_mut(&session).expect("the request was admitted");
        session.applied_upto = session.applied_upto.max(number);
        session.reply_bytes += reply.len() as u64;
        if let Some(before) = session.replies.insert(number, reply) {
            session.reply_bytes -= before.len() as u64;
        }
    }

    /// Ends the sessions idle longest, in log order, until at most `keep` are left, and appends
    /// them to `ended`, the one idle longest first.
    pub fn trim(&mut self, keep: u32, ended: &mut Vec<SessionId>) {
        self.refused.clear();
        let over = self.sessions.len().saturating_sub(keep as usize);
        if over == 0 {
            return;
        }
        let mut by_use: Vec<(SessionId, SessionId)> =
            self.sessions.iter().map(|(&id, session)| (session.last_use, id)).collect();
        by_use.sort_unstable();
        for &(_, id) in by_use.iter().take(over) {
            let session = self.sessions.remove(&id).expect("listed from the table");
            self.by_nonce.remove(&session.nonce);
            ended.push(id);
        }
    }

    /// Writes the table; equal tables write equal bytes. The limits are not written: they belong to
    /// the settings of the group.
    ///
    /// # Errors
    /// Those of `to`.
    pub fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        fields::put_u64(to, self.sessions.len() as u64)?;
        for (id, session) in &self.sessions {
            fields::put_session(to, *id)?;
            fields::put_u128(to, session.nonce.0)?;
            fields::put_session(to, session.last_use)?;
            fields::put_u64(to, session.applied_upto.0)?;
            fields::put_u64(to, session.acknowledged_upto.0)?;
            fields::put_u64(to, session.replies.len() as u64)?;
            for (number, reply) in &session.replies {
                fields::put_u64(to, number.0)?;
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
    pub fn read(from: &mut dyn Read, limits: SessionLimits) -> Result<Self, RestoreError> {
        let mut table = Self::new(limits);
        let invalid = |how: &str| RestoreError::Invalid(how.to_owned());
        for _ in 0..fields::u64(from)? {
            let id = fields::session(from)?;
            let session = Session::read(from)?;
            let taken = table.by_nonce.insert(session.nonce, id).is_some();
            if table.sessions.insert(id, session).is_some() || taken {
                return Err(invalid("two sessions in it have one id or one nonce"));
            }
        }
        for _ in 0..fields::u64(from)? {
            let nonce = Nonce(fields::u128(from)?);
            if table.by_nonce.contains_key(&nonce) || !table.refused.insert(nonce) {
                return Err(invalid("a client was refused a session in it and has one"));
            }
        }
        Ok(table)
    }

    fn touch(&mut self, session: SessionId, at: SessionId) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.last_use = at;
        }
    }
}

impl Session {
    fn read(from: &mut dyn Read) -> Result<Self, RestoreError> {
        let mut session = Self {
            nonce: Nonce(fields::u128(from)?),
            last_use: fields::session(from)?,
            applied_upto: RequestNumber(fields::u64(from)?),
            acknowledged_upto: RequestNumber(fields::u64(from)?),
            replies: BTreeMap::new(),
            reply_bytes: 0,
        };
        for _ in 0..fields::u64(from)? {
            let number = RequestNumber(fields::u64(from)?);
            let len = fields::u64(from)?;
            session.replies.insert(number, fields::bytes(from, len)?.into());
            session.reply_bytes += len;
        }
        let (acknowledged, applied) = (session.acknowledged_upto.0, session.applied_upto.0);
        let kept = (acknowledged..applied).map(|before| before + 1);
        let right = session.replies.keys().map(|number| number.0).eq(kept);
        if right && acknowledged <= applied && applied < u64::MAX {
            Ok(session)
        } else {
            let how = "a session in it keeps other replies than those not acknowledged".to_owned();
            Err(RestoreError::Invalid(how))
        }
    }

    /// A client can only have the replies to what was applied; more is taken as that.
    fn acknowledge(&mut self, upto: RequestNumber) {
        let upto = upto.min(self.applied_upto);
        if upto <= self.acknowledged_upto {
            return;
        }
        self.acknowledged_upto = upto;
        while let Some(first) = self.replies.first_entry() {
            if *first.key() > upto {
                break;
            }
            self.reply_bytes -= first.remove().len() as u64;
        }
    }

    /// With nothing kept there is always room for one reply, however small the limits: otherwise a
    /// session could never go on.
    fn is_full(&self, limits: SessionLimits) -> bool {
        !self.replies.is_empty()
            && (self.replies.len() >= limits.replies_max as usize
                || self.reply_bytes >= limits.reply_bytes_max)
    }
}
