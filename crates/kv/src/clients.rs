//! What is known of the connections of a front, and how `CLIENT LIST` tells of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::resp::Version;

/// Which of its commands a client wants answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Replies {
    /// All of them.
    #[default]
    On,
    /// None.
    Off,
    /// All but the next one.
    SkipNext,
}

/// What is remembered of a connection.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its number, unique within the life of the process.
    pub id: u64,
    /// Where it comes from.
    pub address: SocketAddr,
    /// The version of the protocol it chose.
    pub version: Version,
    /// The name it gave itself.
    pub name: Vec<u8>,
    /// The library it said it uses.
    pub library: Vec<u8>,
    /// The version of that library.
    pub library_version: Vec<u8>,
    /// Whether its reads may be answered from this replica's state, however old.
    pub stale_reads: bool,
    /// Whether it began a transaction, which was refused, and has not ended it yet.
    pub in_transaction: bool,
    pub(crate) replies: Replies,
    /// Whether the command that is being carried out is not answered.
    pub(crate) silent: bool,
    /// The command that came last, as `CLIENT LIST` names it.
    pub(crate) command: (&'static str, &'static str),
    since: Instant,
    used: Instant,
}

impl Client {
    pub(crate) fn new(id: u64, address: SocketAddr) -> Self {
        let now = Instant::now();
        Self {
            id,
            address,
            version: Version::default(),
            name: Vec::new(),
            library: Vec::new(),
            library_version: Vec::new(),
            stale_reads: false,
            in_transaction: false,
            replies: Replies::On,
            silent: false,
            command: ("", "NULL"),
            since: now,
            used: now,
        }
    }

    /// Puts the connection back into its first state; which library it uses is nothing of that.
    pub(crate) fn reset(&mut self) {
        let first = Self::new(self.id, self.address);
        let (library, library_version) =
            (std::mem::take(&mut self.library), std::mem::take(&mut self.library_version));
        let (since, command) = (self.since, self.command);
        *self = Self { library, library_version, since, command, ..first };
    }

    /// A command came.
    pub(crate) fn begin(&mut self) {
        self.used = Instant::now();
        self.silent = self.replies != Replies::On;
        if self.replies == Replies::SkipNext {
            self.replies = Replies::On;
        }
    }

    /// The line of `CLIENT LIST`. What is not counted for each connection is 0.
    pub(crate) fn describe(&self, port: u16, out: &mut String) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (parent, command) = self.command;
        let bar = if parent.is_empty() { "" } else { "|" };
        writeln!(
            out,
            "id={} addr={} laddr=0.0.0.0:{port} fd=0 name={} age={} idle={} flags={} db=0 sub=0 \
             psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
             oll=0 omem=0 tot-mem=0 events=r cmd={parent}{bar}{command} user=default redir=-1 \
             resp={} lib-name={} lib-ver={}",
            self.id,
            self.address,
            text(&self.name),
            self.since.elapsed().as_secs(),
            self.used.elapsed().as_secs(),
            if self.stale_reads { "r" } else { "N" },
            self.version.number(),
            text(&self.library),
            text(&self.library_version),
        )
        .expect("a string takes every character");
    }
}

/// What a connection keeps of its client. Used on one thread alone: nobody ever waits for it.
#[derive(Debug)]
pub(crate) struct Seat(Arc<Mutex<Client>>);

impl Seat {
    pub(crate) fn client(&self) -> MutexGuard<'_, Client> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All clients that are connected; a client is forgotten when its [`Seat`] goes.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    known: BTreeMap<u64, Weak<Mutex<Client>>>,
    /// At how many of them those that are gone are looked for.
    sweep_at: usize,
}

/// So few that are gone may always stay.
const SWEEP_MIN: usize = 64;

impl Clients {
    pub(crate) fn seat(&mut self, id: u64, address: SocketAddr) -> Seat {
        if self.known.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.known.retain(|_, client| client.strong_count() > 0);
            self.sweep_at = 2 * self.known.len();
        }
        let client = Arc::new(Mutex::new(Client::new(id, address)));
        self.known.insert(id, Arc::downgrade(&client));
        Seat(client)
    }

    /// Describes those of them that are wanted, `asking` among them, by id.
    pub(crate) fn describe(
        &self,
        asking: &Client,
        port: u16,
        wanted: impl Fn(u64) -> bool,
        out: &mut String,
    ) {
        for (id, client) in self.known.iter().filter(|(id, _)| wanted(**id)) {
            if *id == asking.id {
                asking.describe(port, out);
            } else if let Some(client) = client.upgrade() {
                Seat(client).client().describe(port, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    #[test]
    fn clients_that_are_gone_are_not_kept_for_ever() {
        let mut clients = Clients::default();
        let stays = clients.seat(0, HOME);
        for id in 1..10_000 {
            drop(clients.seat(id, HOME));
        }
        assert!(clients.known.len() <= 2 * SWEEP_MIN, "{} are kept", clients.known.len());
        let mut out = String::new();
        let asking = Client::new(10_000, HOME);
        clients.describe(&asking, 1, |_| true, &mut out);
        assert_eq!(out.lines().count(), 1, "{out}");
        assert!(out.starts_with("id=0 addr=127.0.0.1:9 laddr=0.0.0.0:1 "), "{out}");
        drop(stays);
    }
}
