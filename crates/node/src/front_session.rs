//! The session of this node's front: one a boot, through which every write of its clients goes.
//! Pure: time is handed in, what to submit comes out.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use mainstay_consensus::Rejection;
use mainstay_model::{Instant, Nonce, RequestNumber, SessionId};
use mainstay_service::{Applied, ClientSession, SessionEvent};

use crate::executor::Asker;

/// How long after a rejection everything open is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(10);
/// The same where the leader's disk is full, or there is no room for the session.
const NO_ROOM_AGAIN_AFTER: Duration = Duration::from_millis(200);
/// After this long without any reply everything open is sent again; then after twice as long.
const OVERDUE_MIN: Duration = Duration::from_secs(1);
const OVERDUE_MAX: Duration = Duration::from_secs(8);

/// The session, and who waits for which of its numbers.
#[derive(Debug)]
pub(crate) struct FrontSession {
    session: ClientSession,
    nonce: Nonce,
    window: (usize, usize),
    /// Who waits for each number above `owners_from`; `None` once answered or given up.
    owners: VecDeque<Option<Asker>>,
    owners_from: RequestNumber,
    /// Nothing is submitted before this instant.
    hold_until: Instant,
    /// Everything open is to be sent again then.
    again: bool,
    overdue_at: Option<Instant>,
    overdue_after: Duration,
    /// A session stood at some time since the start.
    opened: bool,
}

/// What the world has to do about a change of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// This command was carried out.
    Replied(Asker, Bytes),
    /// This command may or may not have been carried out, or may be still.
    Uncertain(Asker),
    /// The session stands.
    Opened,
    /// The session is gone; this one is to be watched no longer, and a new nonce is needed.
    Lost(Option<SessionId>),
}

impl FrontSession {
    pub(crate) const fn new(nonce: Nonce, window_max: usize, window_bytes_max: usize) -> Self {
        Self {
            session: ClientSession::new(nonce, window_max, window_bytes_max),
            nonce,
            window: (window_max, window_bytes_max),
            owners: VecDeque::new(),
            owners_from: RequestNumber(0),
            hold_until: Instant(0),
            again: false,
            overdue_at: None,
            overdue_after: OVERDUE_MIN,
            opened: false,
        }
    }

    pub(crate) const fn nonce(&self) -> Nonce {
        self.nonce
    }

    pub(crate) const fn id(&self) -> Option<SessionId> {
        self.session.id()
    }

    /// Whether a write of this session was ever applied here.
    pub(crate) const fn was_opened(&self) -> bool {
        self.opened
    }

    pub(crate) const fn open_len(&self) -> usize {
        self.session.open_len()
    }

    /// Gives out a number; `None` while the window is full or no session stands.
    pub(crate) fn begin(&mut self, body: &Bytes, owner: Asker) -> Option<RequestNumber> {
        self.session.id()?;
        let number = self.session.begin(body.clone())?;
        self.owners.push_back(Some(owner));
        Some(number)
    }

    /// Appends what is to be submitted now. To be called while a leader is known.
    pub(crate) fn submit(&mut self, now: Instant, out: &mut Vec<Bytes>) {
        if now < self.hold_until {
            return;
        }
        if self.overdue_at.is_some_and(|at| at <= now) {
            self.overdue_after = (self.overdue_after * 2).min(OVERDUE_MAX);
            self.overdue_at = None;
            self.again = true;
        }
        if std::mem::take(&mut self.again) {
            self.session.send_again();
        }
        self.session.take_unsent(out);
        if self.overdue_at.is_none() && (self.session.open_len() > 0 || self.id().is_none()) {
            self.overdue_at = Some(now.after(self.overdue_after));
        }
    }

    /// When [`FrontSession::submit`] has something to do without anything else happening.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let held = (self.again || self.session.has_unsent()).then_some(self.hold_until);
        match (held, self.overdue_at) {
            (Some(held), Some(overdue)) => Some(held.min(overdue)),
            (held, overdue) => held.or(overdue),
        }
    }

    /// A submission was not taken.
    pub(crate) fn rejected(&mut self, now: Instant, reason: Rejection) {
        let no_room = reason == Rejection::NoRoom;
        self.again = true;
        self.hold_until = now.after(if no_room { NO_ROOM_AGAIN_AFTER } else { AGAIN_AFTER });
    }

    /// There is a leader, another one than before: whatever was on its way may be lost.
    pub(crate) fn leader_changed(&mut self, now: Instant) {
        self.again = true;
        self.hold_until = now;
    }

    /// Takes note of what was applied here.
    pub(crate) fn applied(&mut self, now: Instant, applied: &Applied, out: &mut Vec<Change>) {
        let id = self.id();
        match self.session.on_applied(applied) {
            Some(SessionEvent::Reply(number, reply)) => {
                self.progressed();
                if let Some(owner) = self.owner_of(number).and_then(Option::take) {
                    out.push(Change::Replied(owner, reply));
                }
                self.trim_owners();
            }
            Some(SessionEvent::Opened(_)) => {
                self.progressed();
                self.opened = true;
                out.push(Change::Opened);
            }
            Some(SessionEvent::Refused) => {
                self.again = true;
                self.hold_until = now.after(NO_ROOM_AGAIN_AFTER);
            }
            Some(SessionEvent::Lost) => {
                out.extend(self.owners.drain(..).flatten().map(Change::Uncertain));
                out.push(Change::Lost(id));
            }
            Some(SessionEvent::SendAgain(_)) | None => {}
        }
    }

    /// Starts over with another nonce, after the session was lost. Nobody waits for it then.
    pub(crate) fn restart(&mut self, nonce: Nonce) {
        let (window_max, window_bytes_max) = self.window;
        *self = Self { opened: self.opened, ..Self::new(nonce, window_max, window_bytes_max) };
    }

    /// The executor has stopped: nothing that was sent will be answered here.
    pub(crate) fn give_up(&mut self, out: &mut Vec<Change>) {
        out.extend(self.owners.iter_mut().filter_map(Option::take).map(Change::Uncertain));
    }

    fn progressed(&mut self) {
        self.overdue_at = None;
        self.overdue_after = OVERDUE_MIN;
    }

    fn owner_of(&mut self, number: RequestNumber) -> Option<&mut Option<Asker>> {
        let position = number.0.checked_sub(self.owners_from.0 + 1)?;
        self.owners.get_mut(usize::try_from(position).ok()?)
    }

    fn trim_owners(&mut self) {
        while self.owners_from < self.session.acknowledged_upto() {
            self.owners.pop_front();
            self.owners_from = self.owners_from.next();
        }
    }
}
