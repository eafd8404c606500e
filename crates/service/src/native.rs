//! The native client protocol: what clients and replicas say to one another after the hello.
//!
//! A client connects to the client port and sends [`PREFACE`], or to the peer port and sends none;
//! then a `Hello` with role `Client` (`mainstay_model::hello`), which is answered with the
//! replica's own. From then on both sides send frames at will:
//!
//! | kind | from | message | answered by |
//! |---|---|---|---|
//! | 64 | client | [`ClientMessage::Submit`] | 72, or 73 |
//! | 65 | client | [`ClientMessage::Query`] | 74, or 73 |
//! | 66 | client | [`ClientMessage::WhoLeads`] | 75 |
//! | 72 | replica | [`ReplicaMessage::Outcome`] | |
//! | 73 | replica | [`ReplicaMessage::Refused`] | |
//! | 74 | replica | [`ReplicaMessage::Answer`] | |
//! | 75 | replica | [`ReplicaMessage::Leader`] | |
//!
//! A replica that hears of another leader says so unasked to whoever waits for an outcome: what it
//! had submitted may be lost with the leader before, and is to be sent again.
//!
//! An outcome is told to the connection that last submitted for its session. No answer is promised:
//! a client sends again after a time-out of its own, to whichever replica, which the session makes
//! harmless.

use bytes::Bytes;
use mainstay_model::codec::{DecodeError, Put, Reader};
use mainstay_model::{Nonce, RequestNumber, SessionId};

use crate::applier::Applied;

/// What a native client sends first on the client port. It begins with a zero byte, so that it is
/// never taken for another client protocol.
pub const PREFACE: [u8; 8] = *b"\0mainst\x01";

const SUBMIT: u16 = 64;
const QUERY: u16 = 65;
const WHO_LEADS: u16 = 66;
const OUTCOME: u16 = 72;
const REFUSED: u16 = 73;
const ANSWER: u16 = 74;
const LEADER: u16 = 75;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// Order this command: an encoded [`crate::Command`], a registration or a request.
    Submit {
        /// The command.
        command: Bytes,
    },
    /// Answer this from the state, linearizably.
    Query {
        /// Recognises the answer; chosen by the client.
        id: u64,
        /// Answer only once this number of this session has been applied.
        after: Option<(SessionId, RequestNumber)>,
        /// What the service is asked.
        body: Bytes,
    },
    /// Who leads?
    WhoLeads,
}

/// What a replica says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaMessage {
    /// What came of a command at apply.
    Outcome(Applied),
    /// Something was not taken; it has no effect by this submission.
    Refused {
        /// What.
        subject: Subject,
        /// Why.
        reason: Refusal,
        /// Who leads, by index, as far as the replica knows.
        leader: Option<u16>,
    },
    /// The answer to a query.
    Answer {
        /// Which query.
        id: u64,
        /// What the service said.
        reply: Bytes,
    },
    /// Who leads, by index, as far as the replica knows; also unasked, when that changes.
    Leader(Option<u16>),
}

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A registration.
    Register(Nonce),
    /// A request.
    Request(SessionId, RequestNumber),
    /// A query, by the id its client gave it.
    Query(u64),
    /// A submission that could not be read.
    Unreadable,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        /// Why something was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Refusal { $($(#[$doc])* $name,)* }

        impl Refusal {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            const fn code(self) -> u8 {
                match self { $(Self::$name => $code,)* }
            }

            fn from_code(code: u8) -> Result<Self, DecodeError> {
                match code {
                    $($code => Ok(Self::$name),)*
                    _ => Err(DecodeError::BadValue("refusal")),
                }
            }
        }
    };
}

refusals! {
    /// No leader is known at present.
    NoLeader = 1;
    /// The leader refused it, or lost its office before it proposed it.
    NotLeader = 2;
    /// Too much is waiting already.
    Busy = 3;
    /// The log has no room for entries.
    NoRoom = 4;
    /// It is larger than allowed.
    TooLarge = 5;
    /// It is no command that a client may send.
    BadCommand = 6;
    /// The session of a query's `after` does not exist (any more).
    UnknownSession = 7;
    /// This replica's executor has stopped; another replica can answer.
    Stopped = 8;
    /// This replica did not get the answer in time; another replica may.
    Timeout = 9;
}

impl ClientMessage {
    /// The kind of its frame.
    #[must_use]
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Submit { .. } => SUBMIT,
            Self::Query { .. } => QUERY,
            Self::WhoLeads => WHO_LEADS,
        }
    }

    /// Appends the body of its frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Submit { command } => out.put(command),
            Self::Query { id, after, body } => {
                out.put_u64(*id);
                let (session, number) = after.unwrap_or_default();
                out.put_u8(u8::from(after.is_some()));
                out.put_session(session);
                out.put_u64(number.0);
                out.put(body);
            }
            Self::WhoLeads => {}
        }
    }

    /// Reads the body of a frame of this kind.
    ///
    /// # Errors
    /// Any [`DecodeError`]: an unknown kind, or no such body.
    pub fn decode(kind: u16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let message = match kind {
            SUBMIT => Self::Submit { command: reader.take(reader.remaining())? },
            QUERY => {
                let id = reader.u64()?;
                let has_after = reader.flag("after")?;
                let after = (reader.session()?, RequestNumber(reader.u64()?));
                let body = reader.take(reader.remaining())?;
                Self::Query { id, after: has_after.then_some(after), body }
            }
            WHO_LEADS => Self::WhoLeads,
            _ => return Err(DecodeError::BadValue("kind")),
        };
        reader.finish()?;
        Ok(message)
    }
}

impl ReplicaMessage {
    /// The kind of its frame.
    #[must_use]
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Outcome(_) => OUTCOME,
            Self::Refused { .. } => REFUSED,
            Self::Answer { .. } => ANSWER,
            Self::Leader(_) => LEADER,
        }
    }

    /// Appends the body of its frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Outcome(applied) => encode_applied(applied, out),
            Self::Refused { subject, reason, leader } => {
                encode_subject(*subject, out);
                out.put_u8(reason.code());
                encode_leader(*leader, out);
            }
            Self::Answer { id, reply } => {
                out.put_u64(*id);
                out.put(reply);
            }
            Self::Leader(leader) => encode_leader(*leader, out),
        }
    }

    /// Reads the body of a frame of this kind.
    ///
    /// # Errors
    /// Any [`DecodeError`]: an unknown kind, or no such body.
    pub fn decode(kind: u16, body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let message = match kind {
            OUTCOME => Self::Outcome(decode_applied(&mut reader)?),
            REFUSED => Self::Refused {
                subject: decode_subject(&mut reader)?,
                reason: Refusal::from_code(reader.u8()?)?,
                leader: decode_leader(&mut reader)?,
            },
            ANSWER => {
                let id = reader.u64()?;
                Self::Answer { id, reply: reader.take(reader.remaining())? }
            }
            LEADER => Self::Leader(decode_leader(&mut reader)?),
            _ => return Err(DecodeError::BadValue("kind")),
        };
        reader.finish()?;
        Ok(message)
    }
}

fn encode_leader(leader: Option<u16>, out: &mut Vec<u8>) {
    out.put_u8(u8::from(leader.is_some()));
    out.put_u16(leader.unwrap_or(0));
}

fn decode_leader(reader: &mut Reader) -> Result<Option<u16>, DecodeError> {
    let known = reader.flag("leader")?;
    let index = reader.u16()?;
    Ok(known.then_some(index))
}

fn encode_subject(subject: Subject, out: &mut Vec<u8>) {
    match subject {
        Subject::Register(nonce) => {
            out.put_u8(1);
            out.put_u128(nonce.0);
        }
        Subject::Request(session, number) => {
            out.put_u8(2);
            out.put_session(session);
            out.put_u64(number.0);
        }
        Subject::Query(id) => {
            out.put_u8(3);
            out.put_u64(id);
        }
        Subject::Unreadable => out.put_u8(4),
    }
}

fn decode_subject(reader: &mut Reader) -> Result<Subject, DecodeError> {
    Ok(match reader.u8()? {
        1 => Subject::Register(Nonce(reader.u128()?)),
        2 => Subject::Request(reader.session()?, RequestNumber(reader.u64()?)),
        3 => Subject::Query(reader.u64()?),
        4 => Subject::Unreadable,
        _ => return Err(DecodeError::BadValue("subject")),
    })
}

/// Tag (1), then the fields; a reply last and without a length.
fn encode_applied(applied: &Applied, out: &mut Vec<u8>) {
    let numbered = |out: &mut Vec<u8>, tag, session: &SessionId, number: &RequestNumber| {
        out.put_u8(tag);
        out.put_session(*session);
        out.put_u64(number.0);
    };
    match applied {
        Applied::Registered { nonce, session } => {
            out.put_u8(1);
            out.put_u128(nonce.0);
            out.put_session(*session);
        }
        Applied::RegistrationRefused { nonce } => {
            out.put_u8(2);
            out.put_u128(nonce.0);
        }
        Applied::Replied { session, number, reply, repeated } => {
            numbered(out, 3, session, number);
            out.put_u8(u8::from(*repeated));
            out.put(reply);
        }
        Applied::Gap { session, number, expected } => {
            numbered(out, 4, session, number);
            out.put_u64(expected.0);
        }
        Applied::WindowFull { session, number } => numbered(out, 5, session, number),
        Applied::UnknownSession { session, number } => numbered(out, 6, session, number),
        Applied::Ended { session } => {
            out.put_u8(7);
            out.put_session(*session);
        }
    }
}

fn decode_applied(reader: &mut Reader) -> Result<Applied, DecodeError> {
    Ok(match reader.u8()? {
        1 => Applied::Registered { nonce: Nonce(reader.u128()?), session: reader.session()? },
        2 => Applied::RegistrationRefused { nonce: Nonce(reader.u128()?) },
        3 => Applied::Replied {
            session: reader.session()?,
            number: RequestNumber(reader.u64()?),
            repeated: reader.flag("repeated")?,
            reply: reader.take(reader.remaining())?,
        },
        4 => Applied::Gap {
            session: reader.session()?,
            number: RequestNumber(reader.u64()?),
            expected: RequestNumber(reader.u64()?),
        },
        5 => {
            Applied::WindowFull { session: reader.session()?, number: RequestNumber(reader.u64()?) }
        }
        6 => Applied::UnknownSession {
            session: reader.session()?,
            number: RequestNumber(reader.u64()?),
        },
        7 => Applied::Ended { session: reader.session()? },
        _ => return Err(DecodeError::BadValue("outcome")),
    })
}
