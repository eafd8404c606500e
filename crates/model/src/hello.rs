//! The first frame on every connection between nodes, native clients and administrators, and the
//! frame that refuses one.
//!
//! Whoever connected speaks first: a `Hello`. It is answered with a `Hello` or a `Reject`; after a
//! `Reject` the connection is closed. Either side may send a `Reject` later, too, before it closes.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::codec::{DecodeError, Put, Reader};
use crate::frame::WIRE_VERSION;
use crate::{ClusterId, ConfigurationId, ReplicaId};

/// Kind of the frame that holds a [`Hello`].
pub const HELLO: u16 = 1;
/// Kind of the frame that holds a [`Reject`].
pub const REJECT: u16 = 2;
/// No `Hello` or `Reject` has a longer body; a frame before the handshake that claims one is
/// refused unread.
pub const HELLO_LEN_MAX: usize = 1024;
/// The first field of every `Hello`, "MAINSTAY" as bytes.
pub const MAGIC: u64 = u64::from_le_bytes(*b"MAINSTAY");
/// The longest sentence of a [`Reject`], in bytes.
pub const SENTENCE_LEN_MAX: usize = 512;

/// What the sender of a [`Hello`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A replica of the same cluster.
    Peer,
    /// A client that speaks the native protocol.
    Client,
    /// A program that asks for status.
    Admin,
}

impl Role {
    const fn code(self) -> u8 {
        match self {
            Self::Peer => 1,
            Self::Client => 2,
            Self::Admin => 3,
        }
    }
}

/// Who speaks.
///
/// Body: magic (8), lowest and highest wire version spoken (2 + 2), role (1), cluster (16), replica
/// (12), configuration (8), service version (4), largest body accepted (4), process (8), peer port
/// (2); bytes after these are left to later versions and ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// The lowest wire version the sender speaks.
    pub version_min: u16,
    /// The highest wire version the sender speaks.
    pub version_max: u16,
    /// What the sender is.
    pub role: Role,
    /// The sender's cluster. 0 from a client or administrator that takes any.
    pub cluster: ClusterId,
    /// The sender, if it is a replica; otherwise the default.
    pub replica: ReplicaId,
    /// The configuration the sender stands in, if it is a replica; otherwise 0.
    pub configuration: ConfigurationId,
    /// The version of the sender's service. 0 from a client or administrator.
    pub service_version: u32,
    /// The largest body of a frame that the sender accepts.
    pub body_len_max: u32,
    /// A number that the sender's process drew when it started, if it is a replica; otherwise 0.
    pub process: u64,
    /// Where the sender listens to its peers, if it is a replica; otherwise 0.
    pub peer_port: u16,
}

impl Hello {
    /// The hello of a client or administrator that takes any cluster.
    #[must_use]
    pub const fn of_client(role: Role, body_len_max: u32) -> Self {
        Self {
            version_min: WIRE_VERSION,
            version_max: WIRE_VERSION,
            role,
            cluster: ClusterId(0),
            replica: ReplicaId { index: 0, epoch: crate::Epoch { counter: 0, instance: 0 } },
            configuration: ConfigurationId(0),
            service_version: 0,
            body_len_max,
            process: 0,
            peer_port: 0,
        }
    }

    /// Whether both sides speak [`WIRE_VERSION`].
    #[must_use]
    pub const fn speaks_ours(&self) -> bool {
        self.version_min <= WIRE_VERSION && WIRE_VERSION <= self.version_max
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(MAGIC);
        out.put_u16(self.version_min);
        out.put_u16(self.version_max);
        out.put_u8(self.role.code());
        out.put_u128(self.cluster.0);
        out.put_replica(self.replica);
        out.put_u64(self.configuration.0);
        out.put_u32(self.service_version);
        out.put_u32(self.body_len_max);
        out.put_u64(self.process);
        out.put_u16(self.peer_port);
    }

    /// Reads a body back.
    ///
    /// # Errors
    /// Any [`DecodeError`]: the body is no hello.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        if reader.u64()? != MAGIC {
            return Err(DecodeError::BadValue("magic"));
        }
        let (version_min, version_max) = (reader.u16()?, reader.u16()?);
        let role = match reader.u8()? {
            1 => Role::Peer,
            2 => Role::Client,
            3 => Role::Admin,
            _ => return Err(DecodeError::BadValue("role")),
        };
        Ok(Self {
            version_min,
            version_max,
            role,
            cluster: ClusterId(reader.u128()?),
            replica: reader.replica()?,
            configuration: ConfigurationId(reader.u64()?),
            service_version: reader.u32()?,
            body_len_max: reader.u32()?,
            process: reader.u64()?,
            peer_port: reader.u16()?,
        })
    }
}

macro_rules! reject_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// Why a connection is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RejectCode {
            $($(#[$doc])* $name,)*
            /// A code that this version does not define.
            Other(u16),
        }

        impl RejectCode {
            /// Every defined code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code on the wire.
            #[must_use]
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* Self::Other(code) => code }
            }

            const fn from_code(code: u16) -> Self {
                match code { $($code => Self::$name,)* other => Self::Other(other) }
            }

            const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* Self::Other(_) => "unknown reason" }
            }
        }
    };
}

reject_codes! {
    /// What came is no frame, no hello, or not allowed at this point.
    Malformed = 1, "malformed";
    /// No wire version is spoken by both.
    Version = 2, "version";
    /// Another cluster.
    Cluster = 3, "cluster";
    /// The replica is not in the configuration.
    NotListed = 4, "not listed";
    /// Another incarnation of the replica is in the configuration.
    Epoch = 5, "epoch";
    /// The services differ in version.
    Service = 6, "service version";
    /// A replica that says it is the one it talks to, or not the one it was taken for.
    WrongReplica = 7, "wrong replica";
    /// Too many connections already.
    TooMany = 8, "too many connections";
    /// The role is not served on this port.
    Role = 9, "role";
    /// Nothing, or not enough, came in time.
    Timeout = 10, "time-out";
    /// The node is ending.
    Stopping = 11, "stopping";
    /// Another process is connected as this replica, and was heard just now.
    TwoProcesses = 12, "two processes";
    /// The node reads its log.
    Starting = 13, "starting";
}

impl fmt::Display for RejectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// Refuses a connection.
///
/// Body: code (2), then the sentence with its length (4) in front, UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reject {
    /// Why, for programs.
    pub code: RejectCode,
    /// Why, for people: one sentence that says what to do.
    pub sentence: String,
}

impl Reject {
    /// Appends the body; a sentence that is too long is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut len = self.sentence.len().min(SENTENCE_LEN_MAX);
        while !self.sentence.is_char_boundary(len) {
            len -= 1;
        }
        out.put_u16(self.code.code());
        out.put_bytes(&self.sentence.as_bytes()[..len]);
    }

    /// Reads a body back.
    ///
    /// # Errors
    /// Any [`DecodeError`]: the body is no reject.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let code = RejectCode::from_code(reader.u16()?);
        let sentence = reader.bytes()?;
        if sentence.len() > SENTENCE_LEN_MAX {
            return Err(DecodeError::TooLarge);
        }
        reader.finish()?;
        let sentence =
            core::str::from_utf8(&sentence).map_err(|_| DecodeError::BadValue("sentence"))?;
        Ok(Self { code, sentence: sentence.into() })
    }
}
