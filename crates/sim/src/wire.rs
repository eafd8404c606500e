//! The frames between simulated clients and replicas. Those between replicas are the protocols' own.

use bytes::{Bytes, BytesMut};
use mainstay_model::codec::{DecodeError, Put, Reader};
use mainstay_model::frame::{self, Frame};
use mainstay_model::{GroupId, Nonce, RequestNumber, SessionId};
use mainstay_service::Applied;

/// Kind of a heartbeat between nodes.
pub const HEARTBEAT: u16 = 3;
const ASK: u16 = 64;
const TOLD: u16 = 65;
const COMMAND: u16 = 66;
const APPLIED: u16 = 67;

/// The longest body of a frame, in bytes.
pub const BODY_LEN_MAX: usize = 1 << 20;

/// What clients and replicas tell one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// Client to replica: a request, to be ordered through the replica's own session, or read.
    Ask {
        /// Recognises the answer; ascending on a connection.
        id: u64,
        /// Whether it only reads.
        read: bool,
        /// What the service is asked.
        body: Bytes,
    },
    /// Replica to client: what came of a request, or of a command that was not ordered.
    Told {
        /// Which.
        id: u64,
        /// What.
        outcome: Told,
    },
    /// Client to replica: a command of the client's own session.
    Command {
        /// Recognises a refusal.
        id: u64,
        /// The command, encoded.
        command: Bytes,
    },
    /// Replica to client: what came of a command of its session.
    Applied(Applied),
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The service's reply.
    Reply(Bytes),
    /// It was certainly not carried out.
    NotDone,
    /// It may have been carried out.
    Unknown,
}

impl ClientMessage {
    /// The whole frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        let kind = match self {
            Self::Ask { .. } => ASK,
            Self::Told { .. } => TOLD,
            Self::Command { .. } => COMMAND,
            Self::Applied(_) => APPLIED,
        };
        frame::encode(&mut out, kind, GroupId::FIRST, 0, |out| self.put(out));
        Bytes::from(out)
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ask { id, read, body } => {
                out.put_u64(*id);
                out.put_u8(u8::from(*read));
                out.put_bytes(body);
            }
            Self::Told { id, outcome } => {
                out.put_u64(*id);
                let (code, reply) = match outcome {
                    Told::Reply(reply) => (0, reply.clone()),
                    Told::NotDone => (1, Bytes::new()),
                    Told::Unknown => (2, Bytes::new()),
                };
                out.put_u8(code);
                out.put_bytes(&reply);
            }
            Self::Command { id, command } => {
                out.put_u64(*id);
                out.put_bytes(command);
            }
            Self::Applied(applied) => put_applied(out, applied),
        }
    }

    /// Reads a frame's body back.
    ///
    /// # Errors
    /// Any [`DecodeError`].
    pub fn decode(frame: &Frame) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body.clone());
        let message = match frame.kind {
            ASK => {
                let (id, read) = (reader.u64()?, reader.flag("read")?);
                Self::Ask { id, read, body: reader.bytes()? }
            }
            TOLD => {
                let (id, code, reply) = (reader.u64()?, reader.u8()?, reader.bytes()?);
                let outcome = match code {
                    0 => Told::Reply(reply),
                    1 => Told::NotDone,
                    2 => Told::Unknown,
                    _ => return Err(DecodeError::BadValue("outcome")),
                };
                Self::Told { id, outcome }
            }
            COMMAND => Self::Command { id: reader.u64()?, command: reader.bytes()? },
            APPLIED => Self::Applied(read_applied(&mut reader)?),
            _ => return Err(DecodeError::BadValue("kind")),
        };
        reader.finish()?;
        Ok(message)
    }
}

fn put_applied(out: &mut Vec<u8>, applied: &Applied) {
    let none = (Nonce(0), SessionId::default(), RequestNumber(0), RequestNumber(0));
    let no_reply = Bytes::new();
    let (code, (nonce, session, number, expected), reply) = match applied {
        Applied::Registered { nonce, session } => {
            (0, (*nonce, *session, none.2, none.3), &no_reply)
        }
        Applied::RegistrationRefused { nonce } => (1, (*nonce, none.1, none.2, none.3), &no_reply),
        Applied::Replied { session, number, reply, repeated } => {
            (if *repeated { 3 } else { 2 }, (none.0, *session, *number, none.3), reply)
        }
        Applied::Gap { session, number, expected } => {
            (4, (none.0, *session, *number, *expected), &no_reply)
        }
        Applied::WindowFull { session, number } => {
            (5, (none.0, *session, *number, none.3), &no_reply)
        }
        Applied::UnknownSession { session, number } => {
            (6, (none.0, *session, *number, none.3), &no_reply)
        }
        Applied::Ended { session } => (7, (none.0, *session, none.2, none.3), &no_reply),
    };
    out.put_u8(code);
    out.put_u128(nonce.0);
    out.put_session(session);
    out.put_u64(number.0);
    out.put_u64(expected.0);
    out.put_bytes(reply);
}

fn read_applied(reader: &mut Reader) -> Result<Applied, DecodeError> {
    let (code, nonce, session) = (reader.u8()?, Nonce(reader.u128()?), reader.session()?);
    let (number, expected) = (RequestNumber(reader.u64()?), RequestNumber(reader.u64()?));
    let reply = reader.bytes()?;
    Ok(match code {
        0 => Applied::Registered { nonce, session },
        1 => Applied::RegistrationRefused { nonce },
        2 | 3 => Applied::Replied { session, number, reply, repeated: code == 3 },
        4 => Applied::Gap { session, number, expected },
        5 => Applied::WindowFull { session, number },
        6 => Applied::UnknownSession { session, number },
        7 => Applied::Ended { session },
        _ => return Err(DecodeError::BadValue("applied")),
    })
}

/// A heartbeat's frame.
#[must_use]
pub fn heartbeat(epoch: u32) -> Bytes {
    let mut out = Vec::new();
    frame::encode(&mut out, HEARTBEAT, GroupId::NODE, epoch, |_| {});
    Bytes::from(out)
}

/// Reads the one frame in `bytes`; `None` if it is none.
#[must_use]
pub fn open(bytes: &Bytes) -> Option<Frame> {
    let mut buffer = BytesMut::from(&bytes[..]);
    frame::decode(&mut buffer, BODY_LEN_MAX).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_comes_back_as_it_was() {
        let session = SessionId { slot: mainstay_model::Slot(7), position: 3 };
        let (number, nonce) = (RequestNumber(4), Nonce(99));
        let reply = Bytes::from_static(b"reply");
        let mut all = vec![
            ClientMessage::Ask { id: 1, read: true, body: reply.clone() },
            ClientMessage::Command { id: 2, command: reply.clone() },
        ];
        for outcome in [Told::Reply(reply.clone()), Told::NotDone, Told::Unknown] {
            all.push(ClientMessage::Told { id: 3, outcome });
        }
        for applied in [
            Applied::Registered { nonce, session },
            Applied::RegistrationRefused { nonce },
            Applied::Replied { session, number, reply: reply.clone(), repeated: true },
            Applied::Replied { session, number, reply, repeated: false },
            Applied::Gap { session, number, expected: RequestNumber(2) },
            Applied::WindowFull { session, number },
            Applied::UnknownSession { session, number },
            Applied::Ended { session },
        ] {
            all.push(ClientMessage::Applied(applied));
        }
        for message in all {
            let frame = open(&message.encode()).expect("a whole frame");
            assert_eq!(ClientMessage::decode(&frame), Ok(message), "there and back");
        }
    }
}
