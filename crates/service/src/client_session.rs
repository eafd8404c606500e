//! The client's half of a session, as a pure machine: gives out numbers, keeps requests until their
//! replies are known, and says what to send (again).

use std::collections::VecDeque;

use bytes::Bytes;
use mainstay_model::{Nonce, RequestNumber, SessionId};

use crate::applier::Applied;

/// A session as its client holds it: fronts of replicas (one a boot) and the client library use the
/// same type.
///
/// A number is bound to its bytes at the moment it is given out, for ever; its request is sent
/// again until its reply is known. Requests are handed out for sending in order.
#[derive(Clone, Debug)]
pub struct ClientSession {
    _nonce: Nonce,
    _id: Option<SessionId>,
    _pending: VecDeque<(RequestNumber, Bytes)>,
}

/// What an [`Applied`] meant for this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The session stands; numbers given out before may now be sent.
    Opened(SessionId),
    /// The reply to a number, for the first time.
    Reply(RequestNumber, Bytes),
    /// Everything from this number on must be sent again.
    SendAgain(RequestNumber),
    /// The session is gone; the outcome of every number still open is unknown.
    Lost,
}

impl ClientSession {
    /// A session not yet registered. The window bounds what is open at once, in count and bytes.
    pub fn new(_nonce: Nonce, _window_max: usize, _window_bytes_max: usize) -> Self {
        unimplemented!()
    }

    /// The session's id, once registered.
    pub fn id(&self) -> Option<SessionId> {
        self._id
    }

    /// Gives out the next number for `body`; `None` while the window is full.
    pub fn begin(&mut self, _body: Bytes) -> Option<RequestNumber> {
        unimplemented!()
    }

    /// Appends what has not been sent yet, encoded, in order, to `out`: the registration first, and
    /// until it is answered nothing else.
    pub fn take_unsent(&mut self, _out: &mut Vec<Bytes>) {
        unimplemented!()
    }

    /// Marks everything still open as not sent, so that the next `take_unsent` sends it again: after
    /// a rejection, a time-out, a change of leader or of replica.
    pub fn send_again(&mut self) {
        unimplemented!()
    }

    /// Takes note of what a replica applied; `None` if it is not about this session or is nothing
    /// new.
    pub fn on_applied(&mut self, _applied: &Applied) -> Option<SessionEvent> {
        unimplemented!()
    }

    /// The highest number given out.
    pub fn last_number(&self) -> RequestNumber {
        unimplemented!()
    }

    /// How many numbers are open.
    pub fn open_len(&self) -> usize {
        self._pending.len()
    }
}
