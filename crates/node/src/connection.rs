//! A connection that somebody opened to this node, and what it turned out to be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use mainstay_model::hello::RejectCode;
use mainstay_model::{Instant, Nonce, ReplicaId, RequestNumber, SessionId};
use mainstay_service::native::{KEPT_BYTES_MAX, Subject};

use crate::pipeline::{Ahead, Pipeline};
use crate::stream::Stream;

/// Which port somebody connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Peer,
    Client,
}

/// Which count a connection is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// Those at the peer port that have not said yet who they are.
    Stranger,
    /// Clients, also those that have not said anything yet: connections are opened ahead of use.
    Client,
    /// Those at the client port for which there was no seat: they are about to be told so.
    TurnedAway,
    /// Administrators.
    Admin,
    /// Peers, and what is not seated yet.
    Standing,
}

/// A connection, whoever is at its other end; `C` is what the front keeps for one of its own.
#[derive(Debug)]
pub(crate) struct Connection<C> {
    pub(crate) id: u64,
    pub(crate) stream: Stream,
    pub(crate) address: SocketAddr,
    pub(crate) role: Role<C>,
    pub(crate) seat: Seat,
    /// When it was accepted.
    pub(crate) since: Instant,
    /// When the system last took bytes for it, or none waited.
    pub(crate) taken_at: Instant,
    /// Nothing more is understood; its half is closed once what is queued is written.
    pub(crate) closing: bool,
    /// Its half was closed at this instant. What still comes is thrown away for a while: closed
    /// with something unread, a socket may take back what was written last.
    pub(crate) shut_at: Option<Instant>,
    /// The other side has ended its half.
    pub(crate) ended: bool,
    /// It is on the list of those with work to do.
    pub(crate) active: bool,
    /// It is on the list of those with something to write.
    pub(crate) dirty: bool,
    /// It is on the list of those whose next command cannot be handed over yet.
    pub(crate) parked: bool,
    /// It is on the list of those left unread for the time being.
    pub(crate) paused: bool,
    /// The turn was over before all that came of it was understood.
    pub(crate) unfinished: bool,
    /// What the account of memory counts for it.
    pub(crate) counted: usize,
}

/// What the account counts for a connection besides what can be measured.
const CONNECTION_BYTES: usize = 1 << 10;
/// The same for an open query of a native client, and for a submission that may still be rejected.
const QUERY_BYTES: usize = 128;
const SUBMISSION_BYTES: usize = 64;

/// What is at the other end.
#[derive(Debug)]
pub(crate) enum Role<C> {
    /// Has not said yet. `greets` once it is clear that a hello has to come.
    Stranger { port: Port, greets: bool },
    /// A replica, which speaks and is answered over another connection.
    Peer(ReplicaId),
    /// A client of the front.
    Front { state: C, pipeline: Pipeline },
    /// A client of the native protocol.
    Native(Native),
    /// Asks for status.
    Admin,
}

/// What is kept for a native client.
#[derive(Debug)]
pub(crate) struct Native {
    /// Submissions that may still be rejected, oldest first.
    pub(crate) submitted: VecDeque<(u64, Subject)>,
    /// Queries that are open, by the number that the client gave each.
    pub(crate) queries: BTreeMap<u64, OpenQuery>,
    /// Bytes of their bodies.
    pub(crate) asked_bytes: usize,
    /// How many of them may be open.
    pub(crate) ahead: Ahead,
    /// Sessions whose kept replies are on their way.
    pub(crate) watching: BTreeSet<SessionId>,
    /// Sessions whose outcomes go here, unless another connection submitted for them later.
    pub(crate) sessions: BTreeSet<SessionId>,
    /// The same for registrations.
    pub(crate) nonces: BTreeSet<Nonce>,
}

impl Native {
    pub(crate) const fn new() -> Self {
        Self {
            submitted: VecDeque::new(),
            queries: BTreeMap::new(),
            asked_bytes: 0,
            ahead: Ahead::of_reads(),
            watching: BTreeSet::new(),
            sessions: BTreeSet::new(),
            nonces: BTreeSet::new(),
        }
    }

    /// A query is answered, or will not be.
    pub(crate) fn query_over(&mut self, id: u64, reply: Option<&Bytes>) -> Option<OpenQuery> {
        let query = self.queries.remove(&id)?;
        self.asked_bytes -= query.body.len();
        self.ahead.close(reply);
        Some(query)
    }

    fn held(&self) -> usize {
        let sessions = self.watching.len() + self.sessions.len() + self.nonces.len();
        self.asked_bytes
            + self.queries.len() * QUERY_BYTES
            + (self.submitted.len() + sessions) * SUBMISSION_BYTES
            + self.watching.len() * KEPT_BYTES_MAX
    }
}

/// A query of a native client that has no answer yet.
#[derive(Clone, Debug)]
pub(crate) struct OpenQuery {
    /// When it came.
    pub(crate) came: Instant,
    /// What is asked, and after which number.
    pub(crate) body: Bytes,
    pub(crate) after: Option<(SessionId, RequestNumber)>,
    /// Whether it is answered from the state as it is.
    pub(crate) stale: bool,
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side closed it, or it has been served to the end.
    Done,
    /// It failed, or what came is not to be borne; the reason is worth a line.
    Broken(String),
}

impl<C> Connection<C> {
    pub(crate) const fn new(
        id: u64,
        stream: Stream,
        address: SocketAddr,
        port: Port,
        seat: Seat,
        now: Instant,
    ) -> Self {
        Self {
            id,
            stream,
            address,
            role: Role::Stranger { port, greets: matches!(port, Port::Peer) },
            seat,
            since: now,
            taken_at: now,
            closing: false,
            shut_at: None,
            ended: false,
            active: false,
            dirty: false,
            parked: false,
            paused: false,
            unfinished: false,
            counted: 0,
        }
    }

    /// Whether a client is at the other end.
    pub(crate) const fn is_client(&self) -> bool {
        matches!(self.role, Role::Front { .. } | Role::Native(_))
    }

    /// How many commands are not answered yet.
    pub(crate) fn open_len(&self) -> usize {
        match &self.role {
            Role::Front { pipeline, .. } => pipeline.len(),
            Role::Native(native) => native.queries.len() + native.watching.len(),
            _ => 0,
        }
    }

    /// Bytes of answers and replies held for this connection.
    pub(crate) fn unsent(&self) -> usize {
        let held = match &self.role {
            Role::Front { pipeline, .. } => pipeline.held_bytes(),
            _ => 0,
        };
        self.stream.output.len() + held
    }

    /// Bytes of memory held for this connection, besides what its front keeps; peers are not counted.
    pub(crate) fn held(&self) -> usize {
        let open = match &self.role {
            Role::Peer(_) => return 0,
            Role::Front { pipeline, .. } => pipeline.held(),
            Role::Native(native) => native.held(),
            Role::Stranger { .. } | Role::Admin => 0,
        };
        CONNECTION_BYTES + self.stream.held() + open
    }

    /// Whether something of it waits to be answered or to be taken.
    pub(crate) fn has_open(&self) -> bool {
        self.open_len() > 0 || self.stream.output.len() > 0
    }

    /// Under which topic the end of such a connection is complained of: codes that no reject bears.
    pub(crate) const fn topic_of_ends(&self) -> RejectCode {
        RejectCode::Other(match &self.role {
            Role::Stranger { .. } => 0xff00,
            Role::Peer(_) => 0xff01,
            Role::Front { .. } | Role::Native(_) => 0xff02,
            Role::Admin => 0xff03,
        })
    }

    /// What the other end is, for a log line.
    pub(crate) fn who(&self) -> String {
        let what = match &self.role {
            Role::Stranger { port: Port::Peer, .. } => "connection to the peer port from",
            Role::Stranger { port: Port::Client, .. } => "connection to the client port from",
            Role::Peer(peer) => return format!("replica {peer} at {}", self.address),
            Role::Front { .. } => "client",
            Role::Native(_) => "native client",
            Role::Admin => "administrator",
        };
        format!("{what} {}", self.address)
    }
}
