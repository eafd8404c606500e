//! Connections that others open: taking them in, and finding out who is there.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use mainstay_detect as detect;
use mainstay_model::frame::FrameError;
use mainstay_model::hello::{self, HELLO, HELLO_LEN_MAX, Hello, REJECT, Reject, RejectCode};
use mainstay_model::piece::Assembly;
use mainstay_model::{GroupId, Instant, ReplicaId};
use mainstay_service::native::PREFACE;
use mio::Interest;
use mio::net::TcpStream;

use crate::claims::{self, Claimant};
use crate::connection::{Connection, End, Native, Port, Role, Seat};
use crate::front::Front;
use crate::node::{CONNECTION_TOKEN_FIRST, Incoming, Node};
use crate::pipeline::Pipeline;
use crate::serve::Served;
use crate::stream::Stream;
use crate::system;

/// How long accepting rests when the process is out of file descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// The most connections taken in at one port in a turn: a crowd holds up nobody else for long.
const ACCEPTS_MAX: usize = 64;
/// The most clients beyond the limit that are told so in the words of their protocol, once they have
/// shown which one that is; further ones are told at once, in the front's.
const TURNED_AWAY_MAX: usize = 64;
/// The most administrators at once: they take file descriptors that the disk may need. The one that came
/// first makes way for another.
const ADMINS_MAX: usize = 64;

impl<F: Front> Node<F> {
    /// Takes in the connections that wait on the two ports.
    pub(crate) fn accept(&mut self) {
        let now = self.machines.now.monotonic;
        if now < self.accept_at {
            return;
        }
        for port in [Port::Peer, Port::Client] {
            for _ in 0..ACCEPTS_MAX {
                if !self.acceptable[port as usize] {
                    break;
                }
                let listener = match port {
                    Port::Peer => &self.peer_port,
                    Port::Client => &self.client_port,
                };
                match listener.accept() {
                    Ok((socket, address)) => self.take_in(socket, address, port),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.acceptable[port as usize] = false;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The other side was gone before it was taken in.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => {
                        tracing::warn!("no connection can be accepted at present: {error}");
                        self.accept_at = now.after(ACCEPT_AGAIN_AFTER);
                        return;
                    }
                }
            }
        }
    }

    fn take_in(&mut self, mut socket: TcpStream, address: SocketAddr, port: Port) {
        let now = self.machines.now.monotonic;
        let seat = match port {
            Port::Client if self.clients < self.config.limits.clients_max => Seat::Client,
            Port::Client if self.turned_away < TURNED_AWAY_MAX => Seat::TurnedAway,
            Port::Client => return self.turn_away(socket, address),
            Port::Peer => Seat::Stranger,
        };
        if seat == Seat::Stranger && self.strangers.len() >= self.config.limits.strangers_max {
            self.displace_stranger(now);
        }
        let id = self.connections_made;
        self.connections_made += 1;
        let Ok(token) = usize::try_from(id) else { return };
        let token = mio::Token(CONNECTION_TOKEN_FIRST + token);
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) =
            socket.set_nodelay(true).and_then(|()| self.registry.register(&mut socket, token, both))
        {
            tracing::debug!("a connection from {address} was lost at once: {error}");
            return;
        }
        system::tend_client(&socket);
        let mut connection = Connection::new(id, Stream::new(socket), address, port, seat, now);
        connection.seat = Seat::Standing;
        self.seat(&mut connection, seat);
        self.connections.insert(id, Box::new(connection));
        self.activate(id);
    }

    /// Counts a connection as what it has turned out to be.
    pub(crate) fn seat(&mut self, connection: &mut Served<F>, seat: Seat) {
        let id = connection.id;
        match std::mem::replace(&mut connection.seat, seat) {
            Seat::Stranger => self.strangers.retain(|other| *other != id),
            Seat::Admin => self.admins.retain(|other| *other != id),
            Seat::TurnedAway => self.turned_away -= 1,
            Seat::Client => self.clients -= 1,
            Seat::Standing => {}
        }
        match seat {
            Seat::Stranger => self.strangers.push_back(id),
            Seat::Admin => self.admins.push_back(id),
            Seat::TurnedAway => self.turned_away += 1,
            Seat::Client => self.clients += 1,
            Seat::Standing => {}
        }
    }

    /// Tells a client at once that there is no seat for it.
    fn turn_away(&mut self, mut socket: TcpStream, address: SocketAddr) {
        let now = self.machines.now.monotonic;
        let sentence = self.too_many();
        if self.complaints.is_news(now, address.ip(), RejectCode::TooMany) {
            tracing::warn!("refused connection to the client port from {address}: {sentence}");
        }
        let mut told = Vec::new();
        self.front.refuse(RejectCode::TooMany, &sentence, &mut told);
        // A line always fits into a socket that is new; who is gone already need not be told.
        let _ = socket.write(&told);
    }

    /// Closes the stranger that came first of those from the host that most came from, so that there is a
    /// seat for the next: peers and administrators say at once who they are, and need it for a moment only.
    fn displace_stranger(&mut self, now: Instant) {
        let mut hosts: BTreeMap<IpAddr, (usize, u64)> = BTreeMap::new();
        for id in &self.strangers {
            if let Some(connection) = self.connections.get(id) {
                hosts.entry(connection.address.ip()).or_insert((0, *id)).0 += 1;
            }
        }
        let most = hosts.into_iter().max_by_key(|(_, (count, _))| *count);
        let Some((host, (count, id))) = most else { return };
        let Some(connection) = self.connections.remove(&id) else { return };
        if self.complaints.is_news(now, host, RejectCode::TooMany) {
            tracing::warn!(
                "closed {}: {count} others from there have not said yet who they are",
                connection.who()
            );
        }
        self.end(*connection, &End::Done);
    }

    /// Finds out who a stranger is, as far as the bytes that came tell.
    pub(crate) fn meet(&mut self, connection: &mut Served<F>) -> Result<(), End> {
        let Role::Stranger { port, greets } = &mut connection.role else { return Ok(()) };
        let port = *port;
        if !*greets {
            match connection.stream.input.first() {
                None => return Ok(()),
                Some(0) => {
                    let input = &mut connection.stream.input;
                    let known = input.len().min(PREFACE.len());
                    if input[..known] != PREFACE[..known] {
                        let sentence = "what came first is not the preface of the native protocol";
                        self.reject(connection, RejectCode::Malformed, sentence.into());
                        return Ok(());
                    }
                    if known < PREFACE.len() {
                        return Ok(());
                    }
                    let _ = input.split_to(PREFACE.len());
                    *greets = true;
                }
                Some(_) => {
                    self.meet_front(connection);
                    return Ok(());
                }
            }
        }
        let frame = match connection.stream.next_frame(HELLO_LEN_MAX) {
            Ok(None) => return Ok(()),
            Ok(Some(frame)) => frame,
            Err(error) => {
                let code = match error {
                    FrameError::Version(_) => RejectCode::Version,
                    _ => RejectCode::Malformed,
                };
                self.reject(connection, code, format!("what came first is no hello: {error}"));
                return Ok(());
            }
        };
        if frame.kind != HELLO {
            let sentence = format!("what came first is a frame of kind {}, no hello", frame.kind);
            self.reject(connection, RejectCode::Malformed, sentence);
            return Ok(());
        }
        match Hello::decode(frame.body) {
            Ok(hello) => self.let_in(connection, &hello, port),
            Err(error) => {
                let sentence = format!("the hello cannot be read: {error}");
                self.reject(connection, RejectCode::Malformed, sentence);
            }
        }
        Ok(())
    }

    fn let_in(&mut self, connection: &mut Served<F>, hello: &Hello, port: Port) {
        if self.stop_at.is_some() {
            let sentence = format!("replica {} is stopping: ask another one", self.config.me);
            return self.reject(connection, RejectCode::Stopping, sentence);
        }
        if let Err(Reject { code, sentence }) = self.greeter.admit(hello) {
            return self.reject(connection, code, sentence);
        }
        connection.role = match hello.role {
            hello::Role::Peer if port == Port::Client => {
                let sentence = "this is the client port: replicas connect to the peer port".into();
                return self.reject(connection, RejectCode::Role, sentence);
            }
            hello::Role::Peer => {
                let now = self.machines.now.monotonic;
                let address = SocketAddr::new(connection.address.ip(), hello.peer_port);
                let claimant = Claimant { process: hello.process, address };
                match self.claims.admit(now, hello.replica, claimant) {
                    Ok(true) => tracing::info!("replica {} has connected", hello.replica),
                    Ok(false) => {}
                    Err(first) => {
                        let sentence = claims::two_claim(hello.replica, first.address, address);
                        return self.reject(connection, RejectCode::TwoProcesses, sentence);
                    }
                }
                Role::Peer(hello.replica)
            }
            hello::Role::Client if !self.has_seat(connection) => {
                let sentence = self.too_many();
                return self.reject(connection, RejectCode::TooMany, sentence);
            }
            hello::Role::Client => Role::Native(Native::new()),
            hello::Role::Admin => Role::Admin,
        };
        let seat = match connection.role {
            Role::Front { .. } | Role::Native(_) => Seat::Client,
            Role::Admin => Seat::Admin,
            Role::Stranger { .. } | Role::Peer(_) => Seat::Standing,
        };
        if seat == Seat::Admin && self.admins.len() >= ADMINS_MAX {
            self.displace_admin();
        }
        self.seat(connection, seat);
        let ours = self.greeter.hello();
        let epoch = self.config.me.epoch.counter;
        connection.stream.frame(HELLO, GroupId::NODE, epoch, |body| ours.encode(body));
        if let Role::Peer(peer) = connection.role {
            self.peer_came(peer, connection.id);
        }
    }

    fn displace_admin(&mut self) {
        if let Some(&first) = self.admins.front()
            && let Some(connection) = self.connections.remove(&first)
        {
            self.end(*connection, &End::Broken("it makes way for another administrator".into()));
        }
    }

    fn peer_came(&mut self, peer: ReplicaId, id: u64) {
        let incoming = Incoming { connection: id, assembly: Assembly::default() };
        if let Some(old) = self.incoming.insert(peer, incoming)
            && let Some(connection) = self.connections.remove(&old.connection)
        {
            // The peer has given that one up, or would not have opened another.
            self.drop_socket(*connection);
        }
        self.links.nudge(peer, self.machines.now.monotonic);
        self.machines.detect(detect::Input::Link { peer, up: true });
    }

    /// Whether a connection may be a client's.
    fn has_seat(&self, connection: &Served<F>) -> bool {
        connection.seat == Seat::Client || self.clients < self.config.limits.clients_max
    }

    fn too_many(&self) -> String {
        format!(
            "replica {} serves {} clients already, which is its limit: ask another one, or close \
             connections that are not needed",
            self.config.me, self.clients
        )
    }

    fn meet_front(&mut self, connection: &mut Served<F>) {
        if !self.has_seat(connection) {
            let sentence = self.too_many();
            return self.refuse_front(connection, RejectCode::TooMany, &sentence);
        }
        self.seat(connection, Seat::Client);
        let state = self.front.connect(connection.id, connection.address);
        connection.role = Role::Front { state, pipeline: Pipeline::new() };
    }

    /// Turns away whoever speaks the front's protocol, or may do so.
    fn refuse_front(&mut self, connection: &mut Served<F>, code: RejectCode, sentence: &str) {
        let now = self.machines.now.monotonic;
        if self.complaints.is_news(now, connection.address.ip(), code) {
            tracing::warn!("refused {} ({code}): {sentence}", connection.who());
        }
        self.front.refuse(code, sentence, connection.stream.output.tail());
        connection.closing = true;
        connection.stream.forget_input();
    }

    /// Refuses a stranger, tells it why, and says so here, once.
    fn reject(&mut self, connection: &mut Served<F>, code: RejectCode, sentence: String) {
        let now = self.machines.now.monotonic;
        if self.complaints.is_news(now, connection.address.ip(), code) {
            tracing::warn!("refused {} ({code}): {sentence}", connection.who());
        }
        let reject = Reject { code, sentence };
        let epoch = self.config.me.epoch.counter;
        connection.stream.frame(REJECT, GroupId::NODE, epoch, |body| reject.encode(body));
        connection.closing = true;
        connection.stream.forget_input();
    }

    /// Turns away a stranger that has not said in time who it is.
    pub(crate) fn refuse_silent(&mut self, connection: &mut Served<F>) {
        let may_be_front = matches!(connection.role, Role::Stranger { greets: false, .. })
            && connection.stream.input_len() == 0;
        if may_be_front {
            let sentence = self.too_many();
            return self.refuse_front(connection, RejectCode::TooMany, &sentence);
        }
        let patience = self.config.limits.handshake_timeout.as_millis();
        let sentence = format!("no complete hello came within {patience} ms");
        self.reject(connection, RejectCode::Timeout, sentence);
    }
}
