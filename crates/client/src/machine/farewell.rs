//! Ending a session that is of no more use, so that it takes no room at the replicas.

use mainstay_service::native::ClientMessage;

use super::{Link, Machine};

impl Machine {
    /// Nothing more will be asked: ends the session, where a replica is there that can be told. True if
    /// that was sent, and there is something to wait for until [`Machine::has_ended`].
    pub(crate) fn end(&mut self) -> bool {
        let sent = self.send_farewell();
        self.ending = sent;
        sent
    }

    /// Whether the end of the session was told, or nobody is there any more who could.
    pub(crate) fn has_ended(&self) -> bool {
        !self.ending || !matches!(self.link, Link::Up { .. })
    }

    pub(super) fn send_farewell(&mut self) -> bool {
        let farewell = self.session.farewell().filter(|_| matches!(self.link, Link::Up { .. }));
        let Some(command) = farewell else { return false };
        self.send_message(&ClientMessage::Submit { command });
        true
    }
}
