//! The client's half of a session, as a pure machine: gives out numbers, keeps requests until their
//! replies are known, and says what to send (again).

use std::collections::VecDeque;

use bytes::Bytes;
use mainstay_model::{NoPlants, Nonce, Plant, Plants, RequestNumber, SessionId};

use crate::applier::Applied;
use crate::command::Command;

/// A session as its client holds it: fronts of replicas (one a boot) and the client library use the
/// same type.
///
/// A number is bound to its bytes at the moment it is given out, for ever; its request is sent
/// again until its reply is known. Requests are handed out for sending in order. No message is
/// trusted to arrive: who drives it calls [`ClientSession::send_again`] when an answer is overdue.
#[derive(Clone, Debug)]
pub struct ClientSession<P = NoPlants> {
    nonce: Nonce,
    window_max: usize,
    window_bytes_max: usize,
    plants: P,
    registration: Registration,
    /// The replies to all numbers up to here are known. Invariant: `pending` begins with the next.
    acknowledged_upto: RequestNumber,
    /// What was given out above `acknowledged_upto`, in order; `None` once its reply is known.
    pending: VecDeque<Option<Bytes>>,
    /// Invariant: how many of `pending` are open, and the bytes of these.
    open: usize,
    open_bytes: usize,
    /// Open numbers above this one have not been sent since they last had to be.
    sent_upto: RequestNumber,
    /// The highest number from which on a rejection already made everything be sent again: the
    /// requests behind a missing one are all rejected, and must not each cause that.
    rewound_to: RequestNumber,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Registration {
    Unsent,
    Sent,
    Done(SessionId),
    Lost,
}

/// What an [`Applied`] meant for this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The session stands; numbers given out before may now be sent.
    Opened(SessionId),
    /// There is no room for the session at present; the next [`ClientSession::send_again`], after
    /// a while, asks once more.
    Refused,
    /// The reply to a number, for the first time.
    Reply(RequestNumber, Bytes),
    /// Everything from this number on must be sent again: the next `take_unsent` hands it out.
    SendAgain(RequestNumber),
    /// The session is gone; the outcome of every number still open is unknown. Only a session with
    /// another nonce can go on.
    Lost,
}

impl ClientSession {
    /// A session not yet registered. The window bounds what is open at once, in count and bytes;
    /// one request is let through whatever its size.
    #[must_use]
    pub const fn new(nonce: Nonce, window_max: usize, window_bytes_max: usize) -> Self {
        Self::with_plants(nonce, window_max, window_bytes_max, NoPlants)
    }
}

impl<P: Plants> ClientSession<P> {
    /// As [`ClientSession::new`], with a bug planted.
    #[must_use]
    pub const fn with_plants(
        nonce: Nonce,
        window_max: usize,
        window_bytes_max: usize,
        plants: P,
    ) -> Self {
        Self {
            nonce,
            window_max,
            window_bytes_max,
            plants,
            registration: Registration::Unsent,
            acknowledged_upto: RequestNumber(0),
            pending: VecDeque::new(),
            open: 0,
            open_bytes: 0,
            sent_upto: RequestNumber(0),
            rewound_to: RequestNumber(0),
        }
    }

    /// The session's id, once registered and until lost.
    pub const fn id(&self) -> Option<SessionId> {
        if let Registration::Done(id) = self.registration { Some(id) } else { None }
    }

    /// The command that ends the session, for when nothing more is asked; `None` where there is none to
    /// end. What is open then may be carried out or not.
    pub fn farewell(&self) -> Option<Bytes> {
        match self.registration {
            Registration::Unsent | Registration::Lost => None,
            Registration::Sent | Registration::Done(_) => {
                Some(Command::EndSession { nonce: self.nonce }.encode())
            }
        }
    }

    /// Whether the session is gone for good.
    pub const fn is_lost(&self) -> bool {
        matches!(self.registration, Registration::Lost)
    }

    /// Gives out the next number for `body`; `None` while the window is full, and for ever once the
    /// session is lost.
    pub fn begin(&mut self, body: Bytes) -> Option<RequestNumber> {
        let fits = self.pending.is_empty()
            || (self.pending.len() < self.window_max
                && self.open_bytes.saturating_add(body.len()) <= self.window_bytes_max);
        if !fits || self.is_lost() {
            return None;
        }
        self.open += 1;
        self.open_bytes += body.len();
        self.pending.push_back(Some(body));
        Some(self.last_number())
    }

    /// Appends what has not been sent yet, encoded, in order, to `out`: the registration first, and
    /// until it is answered nothing else.
    pub fn take_unsent(&mut self, out: &mut Vec<Bytes>) {
        let session = match self.registration {
            Registration::Unsent => {
                self.registration = Registration::Sent;
                out.push(Command::Register { nonce: self.nonce }.encode());
                return;
            }
            Registration::Sent | Registration::Lost => return,
            Registration::Done(session) => session,
        };
        let acknowledged_upto = self.acknowledged_upto;
        out.extend(self.unsent().map(|(number, body)| {
            Command::Request { session, number, acknowledged_upto, body: body.clone() }.encode()
        }));
        self.sent_upto = self.last_number();
    }

    fn unsent(&self) -> impl Iterator<Item = (RequestNumber, &Bytes)> + '_ {
        let sent = self.position(self.sent_upto).map_or(0, |sent| sent + 1);
        let unsent = self.pending.iter().enumerate().skip(sent);
        unsent.filter_map(|(position, body)| Some((self.number(position), body.as_ref()?)))
    }

    /// Whether `take_unsent` would hand out anything.
    pub fn has_unsent(&self) -> bool {
        match self.registration {
            Registration::Unsent => true,
            Registration::Sent | Registration::Lost => false,
            Registration::Done(_) => self.unsent().next().is_some(),
        }
    }

    /// Marks everything still open as not sent, so that the next `take_unsent` sends it again: after
    /// a rejection, a time-out, a change of leader or of replica.
    pub fn send_again(&mut self) {
        if self.registration == Registration::Sent {
            self.registration = Registration::Unsent;
        }
        self.sent_upto = self.acknowledged_upto;
        self.rewound_to = RequestNumber(0);
        if self.plants.has(Plant::NumberReused) {
            self.reuse_number();
        }
    }

    /// The planted bug: the first number still open goes to the request behind it.
    fn reuse_number(&mut self) {
        let mut open = (0..self.pending.len()).filter(|&at| self.pending[at].is_some());
        if let (Some(first), Some(second)) = (open.next(), open.next()) {
            self.pending.swap(first, second);
        }
    }

    /// Takes note of what a replica applied; `None` if it is not about this session or is nothing
    /// new.
    pub fn on_applied(&mut self, applied: &Applied) -> Option<SessionEvent> {
        match *applied {
            Applied::Registered { nonce, session } if nonce == self.nonce => {
                self.on_registered(session)
            }
            Applied::RegistrationRefused { nonce } if nonce == self.nonce => {
                (self.registration == Registration::Sent).then_some(SessionEvent::Refused)
            }
            Applied::Replied { session, number, ref reply, .. } if self.id() == Some(session) => {
                self.on_reply(number, reply)
            }
            Applied::Gap { session, expected, .. } if self.id() == Some(session) => {
                self.rewind(expected)
            }
            Applied::WindowFull { session, number } if self.id() == Some(session) => {
                self.rewind(number)
            }
            Applied::UnknownSession { session, .. } | Applied::Ended { session }
                if self.id() == Some(session) =>
            {
                Some(self.lose())
            }
            _ => None,
        }
    }

    fn on_registered(&mut self, session: SessionId) -> Option<SessionEvent> {
        match self.registration {
            Registration::Unsent | Registration::Sent => {
                self.registration = Registration::Done(session);
                Some(SessionEvent::Opened(session))
            }
            // A registration sent twice, of which the second came after the first one's session had
            // been ended. That one is the session whose requests may have been applied.
            Registration::Done(id) if session > id => Some(self.lose()),
            Registration::Done(_) | Registration::Lost => None,
        }
    }

    fn on_reply(&mut self, number: RequestNumber, reply: &Bytes) -> Option<SessionEvent> {
        let position = self.position(number)?;
        let body = self.pending.get_mut(position)?.take()?;
        self.open -= 1;
        self.open_bytes -= body.len();
        while let Some(None) = self.pending.front() {
            self.pending.pop_front();
            self.acknowledged_upto = self.acknowledged_upto.next();
        }
        Some(SessionEvent::Reply(number, reply.clone()))
    }

    /// Sends again from `from` on, once for each such number until [`Self::send_again`] is called:
    /// should that be lost as well, a time-out brings it back.
    fn rewind(&mut self, from: RequestNumber) -> Option<SessionEvent> {
        if from <= self.rewound_to || from > self.sent_upto || from <= self.acknowledged_upto {
            return None;
        }
        self.rewound_to = from;
        self.sent_upto = RequestNumber(from.0 - 1);
        Some(SessionEvent::SendAgain(from))
    }

    fn lose(&mut self) -> SessionEvent {
        self.registration = Registration::Lost;
        SessionEvent::Lost
    }

    /// The highest number given out.
    pub fn last_number(&self) -> RequestNumber {
        RequestNumber(self.acknowledged_upto.0 + self.pending.len() as u64)
    }

    /// The replies to all numbers up to here are known.
    pub const fn acknowledged_upto(&self) -> RequestNumber {
        self.acknowledged_upto
    }

    /// How many numbers are open: given out, and their reply not known.
    pub const fn open_len(&self) -> usize {
        self.open
    }

    /// Bytes of the requests that are open.
    pub const fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// The numbers that are open, ascending.
    pub fn open_numbers(&self) -> impl Iterator<Item = RequestNumber> + '_ {
        let open = self.pending.iter().enumerate().filter(|(_, body)| body.is_some());
        open.map(|(position, _)| self.number(position))
    }

    /// Whether a number was given out and its reply is not known.
    pub fn is_open(&self, number: RequestNumber) -> bool {
        let position = self.position(number).and_then(|position| self.pending.get(position));
        position.is_some_and(Option::is_some)
    }

    /// Where in `pending` a number stands, or would stand.
    fn position(&self, number: RequestNumber) -> Option<usize> {
        let above = number.0.checked_sub(self.acknowledged_upto.0)?.checked_sub(1)?;
        usize::try_from(above).ok()
    }

    const fn number(&self, position: usize) -> RequestNumber {
        RequestNumber(self.acknowledged_upto.0 + 1 + position as u64)
    }
}
