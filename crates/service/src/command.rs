//! What stands in a batch: requests of sessions, and what keeps the sessions themselves.

use bytes::Bytes;
use mainstay_model::codec::{DecodeError, Put, Reader};
use mainstay_model::{Nonce, RequestId, RequestNumber, SessionId};

use crate::contract::Secret;
use crate::interval::CheckpointInterval;

/// One ordered command. Its encoding is what consensus sees as an opaque request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Opens a session. Idempotent: the session of a nonce is where it was first registered.
    Register {
        /// Drawn once by the client.
        nonce: Nonce,
    },
    /// A numbered request of a session.
    Request {
        /// Whose.
        session: SessionId,
        /// Which; applied only right after the one before.
        number: RequestNumber,
        /// The client holds the replies to all numbers up to here; they need not be kept.
        acknowledged_upto: RequestNumber,
        /// What the service is asked.
        body: Bytes,
    },
    /// Ends the sessions idle longest in log order until everybody who was refused one finds room.
    /// Ordered by the leader when there are too many; when it comes again it ends nothing more.
    TrimSessions {
        /// How many stay at least.
        keep: u32,
    },
    /// Ends the session of a nonce: its client goes and asks for nothing more. Only the client knows
    /// the nonce, so nobody ends the session of another.
    EndSession {
        /// The nonce that the session was registered with.
        nonce: Nonce,
    },
    /// From the slot it stands in on, checkpoints are due after this. Ordered by the leader, or by
    /// an operator through it. One out of bounds changes nothing.
    SetCheckpointInterval(CheckpointInterval),
    /// The log begins. Ordered by the first leader; anywhere but as the first command of the first
    /// slot it changes nothing.
    Begin {
        /// Drawn by that leader's replica.
        secret: Secret,
    },
}

const REGISTER: u8 = 1;
const REQUEST: u8 = 2;
const TRIM_SESSIONS: u8 = 3;
const SET_CHECKPOINT_INTERVAL: u8 = 4;
const BEGIN: u8 = 5;
const END_SESSION: u8 = 6;

impl Command {
    /// Bytes: kind (1), then the fields, fixed width, the body last and without a length.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(
            32 + if let Self::Request { body, .. } = self { body.len() } else { 0 },
        );
        match self {
            Self::Register { nonce } => {
                out.put_u8(REGISTER);
                out.put_u128(nonce.0);
            }
            Self::Request { session, number, acknowledged_upto, body } => {
                out.put_u8(REQUEST);
                out.put_session(*session);
                out.put_u64(number.0);
                out.put_u64(acknowledged_upto.0);
                out.put(body);
            }
            Self::TrimSessions { keep } => {
                out.put_u8(TRIM_SESSIONS);
                out.put_u32(*keep);
            }
            Self::EndSession { nonce } => {
                out.put_u8(END_SESSION);
                out.put_u128(nonce.0);
            }
            Self::SetCheckpointInterval(interval) => {
                out.put_u8(SET_CHECKPOINT_INTERVAL);
                out.put_u64(interval.requests);
                out.put_u64(interval.bytes);
            }
            Self::Begin { secret } => {
                out.put_u8(BEGIN);
                out.put_u128(secret.0);
            }
        }
        Bytes::from(out)
    }

    /// What an encoded command is called by whoever orders it without knowing what it says: a
    /// registration is number 0 of its nonce. `None` for what is nobody's, and for bytes that are no
    /// command.
    #[must_use]
    pub fn request_id(encoded: &Bytes) -> Option<RequestId> {
        let mut reader = Reader::new(encoded.clone());
        match reader.u8().ok()? {
            REGISTER => Some(RequestId { client: reader.u128().ok()?, number: RequestNumber(0) }),
            REQUEST => {
                let session = reader.session().ok()?;
                let client = u128::from(session.slot.0) << 32 | u128::from(session.position);
                Some(RequestId { client, number: RequestNumber(reader.u64().ok()?) })
            }
            _ => None,
        }
    }

    /// Reads a command back; its body shares the bytes.
    ///
    /// # Errors
    /// Any [`DecodeError`]: the bytes are no command.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8()? {
            REGISTER => {
                let nonce = Nonce(reader.u128()?);
                reader.finish()?;
                Ok(Self::Register { nonce })
            }
            REQUEST => {
                let session = reader.session()?;
                let number = RequestNumber(reader.u64()?);
                let acknowledged_upto = RequestNumber(reader.u64()?);
                let body = reader.take(reader.remaining())?;
                Ok(Self::Request { session, number, acknowledged_upto, body })
            }
            TRIM_SESSIONS => {
                let keep = reader.u32()?;
                reader.finish()?;
                Ok(Self::TrimSessions { keep })
            }
            END_SESSION => {
                let nonce = Nonce(reader.u128()?);
                reader.finish()?;
                Ok(Self::EndSession { nonce })
            }
            SET_CHECKPOINT_INTERVAL => {
                let (requests, bytes) = (reader.u64()?, reader.u64()?);
                reader.finish()?;
                Ok(Self::SetCheckpointInterval(CheckpointInterval { requests, bytes }))
            }
            BEGIN => {
                let secret = Secret(reader.u128()?);
                reader.finish()?;
                Ok(Self::Begin { secret })
            }
            _ => Err(DecodeError::BadValue("command kind")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_model::Slot;

    #[test]
    fn a_command_is_called_by_its_session_and_number_however_often_it_is_sent() {
        let request = |position, number, acknowledged| {
            let session = SessionId { slot: Slot(7), position };
            let (number, acknowledged_upto) = (RequestNumber(number), RequestNumber(acknowledged));
            let body = Bytes::from_static(b"body");
            Command::request_id(
                &Command::Request { session, number, acknowledged_upto, body }.encode(),
            )
        };
        let first = request(1, 5, 0);
        assert!(first.is_some_and(|id| id.number == RequestNumber(5)));
        assert_eq!(first, request(1, 5, 4), "sent again, with more acknowledged");
        assert_ne!(first, request(1, 6, 0));
        assert_ne!(first, request(2, 5, 0));
        let nonce = Nonce(9);
        let registration = Command::request_id(&Command::Register { nonce }.encode());
        assert_eq!(registration, Some(RequestId { client: 9, number: RequestNumber(0) }));
        assert_eq!(Command::request_id(&Command::TrimSessions { keep: 1 }.encode()), None);
        for len in 0..20 {
            let cut = Command::Request {
                session: SessionId { slot: Slot(7), position: 1 },
                number: RequestNumber(1),
                acknowledged_upto: RequestNumber(0),
                body: Bytes::new(),
            };
            assert_eq!(Command::request_id(&cut.encode().slice(..len)), None, "{len} bytes");
        }
    }
}
