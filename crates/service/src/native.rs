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
//! | 67 | client | [`ClientMessage::Watch`] | 76 and 72s, or 73 |
//! | 68 | client | [`ClientMessage::QueryStale`] | 77, or 73 |
//! | 72 | replica | [`ReplicaMessage::Outcome`] | |
//! | 73 | replica | [`ReplicaMessage::Refused`] | |
//! | 74 | replica | [`ReplicaMessage::Answer`] | |
//! | 75 | replica | [`ReplicaMessage::Leader`] | |
//! | 76 | replica | [`ReplicaMessage::Watching`] | |
//! | 77 | replica | [`ReplicaMessage::StaleAnswer`] | |
//!
//! A replica that hears of another leader says so unasked to every client: what was submitted may be
//! lost with the leader before, and is to be sent again.
//!
//! An outcome is told to the connection that last submitted for its session or watched it. No answer
//! is promised: a client sends again after a time-out of its own, to whichever replica, which the
//! session makes harmless.
//!
//! A client that watches its session at several replicas hears each one's own reply to every request.
//! A watch is answered with a [`ReplicaMessage::Watching`], then with the replies that the replica
//! still keeps above the number named, as outcomes, up to about [`KEPT_BYTES_MAX`]; the client asks
//! again for those that are left. Replies to come are told as they are made, without being asked for.

use bytes::Bytes;
use mainstay_model::codec::{DecodeError, Put, Reader};
use mainstay_model::{ConfigurationId, Nonce, RequestNumber, SessionId, Slot, Timestamp};

use crate::applier::Applied;

/// What a native client sends first on the client port. It begins with a zero byte, so that it is
/// never taken for another client protocol.
pub const PREFACE: [u8; 8] = *b"\0mainst\x01";

/// How many bytes of kept replies answer one watch, at least one reply aside.
pub const KEPT_BYTES_MAX: usize = 1 << 20;

const SUBMIT: u16 = 64;
const QUERY: u16 = 65;
const WHO_LEADS: u16 = 66;
const WATCH: u16 = 67;
const QUERY_STALE: u16 = 68;
const OUTCOME: u16 = 72;
const REFUSED: u16 = 73;
const ANSWER: u16 = 74;
const LEADER: u16 = 75;
const WATCHING: u16 = 76;
const STALE_ANSWER: u16 = 77;

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
    /// Tell what comes of this session's requests here, whoever submitted them.
    Watch {
        /// Which session.
        session: SessionId,
        /// The replies to numbers up to here are known.
        after: RequestNumber,
    },
    /// Answer this from the state of this replica as it is, however old.
    QueryStale {
        /// Recognises the answer; chosen by the client, from the same numbers as a query's.
        id: u64,
        /// What the service is asked.
        body: Bytes,
    },
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
    /// The session is watched here; kept replies follow.
    Watching(Watching),
    /// The answer to a stale query.
    StaleAnswer {
        /// Which query.
        id: u64,
        /// The last slot that the replica had applied.
        slot: Slot,
        /// The decided time at that slot.
        time: Timestamp,
        /// What the service said.
        reply: Bytes,
    },
}

/// What a replica says of a session that it is asked to watch, and of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watching {
    /// Which session.
    pub session: SessionId,
    /// Up to which number its requests are applied here; `None` where it is not known (yet, or any
    /// more).
    pub applied_upto: Option<RequestNumber>,
    /// The kept replies to numbers up to here follow; those above, up to `applied_upto`, are left.
    pub told_upto: RequestNumber,
    /// The configuration that the replica stands in.
    pub configuration: ConfigurationId,
    /// How many replicas that has.
    pub replicas: u16,
    /// How many of them make a quorum.
    pub quorum: u16,
    /// Whether this replica votes in it.
    pub votes: bool,
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
    /// A watch.
    Watch(SessionId),
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
    /// This replica is still reading its state; another replica may answer.
    Loading = 10;
}

impl ClientMessage {
    /// The kind of its frame.
    #[must_use]
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Submit { .. } => SUBMIT,
            Self::Query { .. } => QUERY,
            Self::WhoLeads => WHO_LEADS,
            Self::Watch { .. } => WATCH,
            Self::QueryStale { .. } => QUERY_STALE,
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
            Self::Watch { session, after } => {
                out.put_session(*session);
                out.put_u64(after.0);
            }
            Self::QueryStale { id, body } => {
                out.put_u64(*id);
                out.put(body);
            }
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
                let after = behind_flag(has_after, after, "after")?;
                Self::Query { id, after, body: reader.take(reader.remaining())? }
            }
            WHO_LEADS => Self::WhoLeads,
            WATCH => {
                Self::Watch { session: reader.session()?, after: RequestNumber(reader.u64()?) }
            }
            QUERY_STALE => {
                let id = reader.u64()?;
                Self::QueryStale { id, body: reader.take(reader.remaining())? }
            }
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
            Self::Watching(_) => WATCHING,
            Self::StaleAnswer { .. } => STALE_ANSWER,
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
            Self::Watching(watching) => encode_watching(watching, out),
            Self::StaleAnswer { id, slot, time, reply } => {
                out.put_u64(*id);
                out.put_slot(*slot);
                out.put_u64(time.0);
                out.put(reply);
            }
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
            WATCHING => Self::Watching(decode_watching(&mut reader)?),
            STALE_ANSWER => Self::StaleAnswer {
                id: reader.u64()?,
                slot: reader.slot()?,
                time: Timestamp(reader.u64()?),
                reply: reader.take(reader.remaining())?,
            },
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
    behind_flag(known, reader.u16()?, "leader")
}

/// What stands behind a flag. Where the flag is not set its place holds zero, so that a message has one
/// encoding.
fn behind_flag<T: Default + PartialEq>(
    is_set: bool,
    value: T,
    what: &'static str,
) -> Result<Option<T>, DecodeError> {
    match is_set {
        true => Ok(Some(value)),
        false if value == T::default() => Ok(None),
        false => Err(DecodeError::BadValue(what)),
    }
}

fn encode_watching(watching: &Watching, out: &mut Vec<u8>) {
    out.put_session(watching.session);
    out.put_u8(u8::from(watching.applied_upto.is_some()));
    out.put_u64(watching.applied_upto.unwrap_or_default().0);
    out.put_u64(watching.told_upto.0);
    out.put_u64(watching.configuration.0);
    out.put_u16(watching.replicas);
    out.put_u16(watching.quorum);
    out.put_u8(u8::from(watching.votes));
}

fn decode_watching(reader: &mut Reader) -> Result<Watching, DecodeError> {
    let session = reader.session()?;
    let known = reader.flag("known")?;
    let watching = Watching {
        session,
        applied_upto: behind_flag(known, RequestNumber(reader.u64()?), "known")?,
        told_upto: RequestNumber(reader.u64()?),
        configuration: ConfigurationId(reader.u64()?),
        replicas: reader.u16()?,
        quorum: reader.u16()?,
        votes: reader.flag("votes")?,
    };
    // A quorum that none of the others meets would let anything pass.
    if watching.quorum <= watching.replicas / 2 || watching.quorum > watching.replicas {
        return Err(DecodeError::BadValue("quorum"));
    }
    Ok(watching)
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
        Subject::Watch(session) => {
            out.put_u8(5);
            out.put_session(session);
        }
    }
}

fn decode_subject(reader: &mut Reader) -> Result<Subject, DecodeError> {
    Ok(match reader.u8()? {
        1 => Subject::Register(Nonce(reader.u128()?)),
        2 => Subject::Request(reader.session()?, RequestNumber(reader.u64()?)),
        3 => Subject::Query(reader.u64()?),
        4 => Subject::Unreadable,
        5 => Subject::Watch(reader.session()?),
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
