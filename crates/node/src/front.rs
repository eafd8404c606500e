//! How a client protocol plugs into a node: bounded, non-blocking code on the protocol thread.
//!
//! A front turns bytes of a connection into commands and outcomes back into bytes; the node does
//! everything else: sockets, sessions, order within a connection, limits, back-pressure.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
pub use mainstay_model::hello::RejectCode;

/// A client protocol.
pub trait Front: Send + 'static {
    /// What the protocol keeps for one connection.
    type Connection: Send + 'static;

    /// A client connected, `from` where; `id` is unique within the life of the process.
    fn connect(&mut self, id: u64, from: SocketAddr) -> Self::Connection;

    /// Appends what a client is told that is turned away before its first command; `code` and
    /// `sentence` say why. The connection is closed once this is sent.
    fn refuse(&mut self, code: RejectCode, sentence: &str, out: &mut Vec<u8>) {
        let _ = (code, sentence, out);
    }

    /// Bytes of memory that `connection` holds on to, for the account of what is held for clients.
    fn held(&self, connection: &Self::Connection) -> usize {
        let _ = connection;
        0
    }

    /// Takes whole commands from the front of `input`, in order, and appends what to do about each
    /// to `parsed`; stops after `commands_max` of them, and may stop earlier. Leaves an incomplete
    /// command where it is. Called again until nothing is appended, and when more bytes came or earlier
    /// commands were answered. What an answer of its own may add to memory for a command is bounded by
    /// the front: a few MiB, or what the command itself brought.
    fn read(
        &mut self,
        connection: &mut Self::Connection,
        view: &View,
        input: &mut BytesMut,
        commands_max: usize,
        parsed: &mut Vec<Parsed>,
    );

    /// How many bytes the input must hold until [`Front::read`] can make more of it, as far as that is known
    /// after the last call; 0 where it is not.
    fn needs(&self, connection: &Self::Connection) -> usize {
        let _ = connection;
        0
    }

    /// Appends to `out` what the client is told about a command, in the order in which the commands
    /// came. `shape` is what `read` gave with it.
    fn write(&mut self, shape: u64, outcome: Outcome<'_>, out: &mut Vec<u8>);
}

/// What to do about one command of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Order it; the service's reply goes to [`Front::write`].
    Write {
        /// What the service is asked.
        body: Bytes,
        /// Handed back with the outcome: how to encode the reply.
        shape: u64,
        /// Whether the reply may be as large as a value: few of these are under way at once.
        large: bool,
    },
    /// Answer it from the state, linearizably.
    Read {
        /// What the service is asked.
        body: Bytes,
        /// Handed back with the outcome.
        shape: u64,
    },
    /// Answer it from the state of this replica as it is, however old: at once, and also when the
    /// replica is cut off from the others.
    ReadStale {
        /// What the service is asked.
        body: Bytes,
        /// Handed back with the outcome.
        shape: u64,
    },
    /// The front itself knows the answer; it is sent in its turn.
    Answer(Bytes),
    /// Close the connection once everything before is answered and this is sent.
    Close(Bytes),
}

/// What came of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The service's reply.
    Reply(&'a [u8]),
    /// No reply will come.
    Failed(Failure),
}

/// Why no reply will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The command was certainly not carried out: the replica hears no leader at present, nor anybody
    /// who does.
    Unavailable,
    /// The command was certainly not carried out: the replica is still loading its state.
    Loading,
    /// The command was certainly not carried out: the disk has no room for entries.
    NoRoom,
    /// The command was certainly not carried out: it is larger than allowed.
    TooLarge,
    /// The command, a read, was not carried out: there is no memory for its answer at present.
    Crowded,
    /// The command may or may not have been carried out.
    Uncertain,
    /// This replica's executor has stopped; reads cannot be answered here.
    Stopped,
}

/// What a front may tell its clients about the replica.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// This replica's index.
    pub index: u16,
    /// The leader's index, if one is known.
    pub leader: Option<u16>,
    /// Whether the state is still being loaded.
    pub loading: bool,
    /// Seconds since the process started.
    pub uptime_s: u64,
    /// Whether a stale read would be answered at present.
    pub readable: bool,
    /// Clients connected at present.
    pub clients: usize,
    /// The most clients that there may be.
    pub clients_max: usize,
    /// The client port of this replica.
    pub port: u16,
    /// Slots: the highest decided and applied.
    pub decided: u64,
    /// See `decided`.
    pub applied: u64,
    /// What time it is for the group as far as this replica knows, in milliseconds since 1970: that of the
    /// last entry, or the leader's clock as it was heard last. Never goes back.
    pub decided_time_ms: u64,
    /// Bytes of the log, without what is allocated ahead.
    pub log_bytes: u64,
}
