//! Accepted connections: taking them in, finding out who is there, reading and writing, closing.

use std::io;
use std::net::SocketAddr;

use mainstay_consensus::{Body, Input, Message};
use mainstay_detect as detect;
use mainstay_model::frame::{self, Frame, FrameError};
use mainstay_model::hello::{self, HELLO, HELLO_LEN_MAX, Hello, REJECT, Reject, RejectCode};
use mainstay_model::{GroupId, Instant, ReplicaId};
use mainstay_service::native::PREFACE;
use mio::Interest;
use mio::net::TcpStream;

use crate::connection::{Connection, End, Native, Port, Role};
use crate::front::Front;
use crate::node::{CONNECTION_TOKEN_FIRST, Node};
use crate::pipeline::Pipeline;
use crate::stream::{Filled, Stream};
use crate::wire::{CONSENSUS, FRAME_SLACK, HEARTBEAT, STATUS, STATUS_ASK};

/// The most bytes read from one connection in one turn.
const READ_BUDGET: usize = 256 << 10;
/// How long accepting rests when the process is out of file descriptors.
const ACCEPT_AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(100);
/// Beyond this backlog, as a multiple of what stops clients, values from peers are dropped.
const PEER_BACKLOG_FACTOR: usize = 2;

pub(crate) type Served<F> = Connection<<F as Front>::Connection>;

impl<F: Front> Node<F> {
    /// Puts a connection on the list of those with work to do.
    pub(crate) fn activate(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.active
        {
            connection.active = true;
            self.active.push(id);
        }
    }

    /// Takes in the connections that wait on the two ports.
    pub(crate) fn accept(&mut self) {
        let now = self.machines.now.monotonic;
        if now < self.accept_at {
            return;
        }
        for port in [Port::Peer, Port::Client] {
            while self.acceptable[port as usize] {
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
        if self.strangers >= self.config.limits.strangers_max {
            if self.complaints.is_news(now, address.ip(), RejectCode::TooMany) {
                tracing::warn!(
                    "a connection from {address} was closed at once: {} others have not said yet \
                     who they are",
                    self.strangers
                );
            }
            return;
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
        self.strangers += 1;
        let connection = Connection::new(id, Stream::new(socket), address, port, now);
        self.connections.insert(id, Box::new(connection));
        self.activate(id);
    }

    /// Reads what is there for a connection, understands it, and answers.
    pub(crate) fn serve(&mut self, id: u64) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        connection.active = false;
        match self.work(&mut connection) {
            Ok(()) => self.keep(connection),
            Err(end) => self.end(*connection, &end),
        }
    }

    fn keep(&mut self, mut connection: Box<Served<F>>) {
        let id = connection.id;
        if connection.stream.output.len() > 0 && !connection.dirty {
            connection.dirty = true;
            self.dirty.push(id);
        }
        let more = connection.stream.readable && !connection.closing && !connection.ended;
        if more && !connection.paused {
            connection.active = true;
            self.active.push(id);
        }
        self.connections.insert(id, connection);
    }

    fn work(&mut self, connection: &mut Served<F>) -> Result<(), End> {
        self.read(connection)?;
        self.understand(connection)?;
        if connection.ended && connection.open_len() == 0 && !connection.closing {
            connection.closing = true;
        }
        if connection.closing && connection.stream.output.len() == 0 {
            return Err(End::Done);
        }
        Ok(())
    }

    /// Reads, unless the connection has to wait.
    fn read(&mut self, connection: &mut Served<F>) -> Result<(), End> {
        if !connection.stream.readable || connection.closing || connection.ended {
            return Ok(());
        }
        if connection.is_client() && self.must_wait(connection) {
            if !connection.paused {
                connection.paused = true;
                self.paused.push(connection.id);
            }
            return Ok(());
        }
        let filled = connection.stream.fill(&mut self.scratch, READ_BUDGET);
        let count = match filled {
            Ok(Filled::Bytes(count)) => count,
            Ok(Filled::End(count)) => {
                connection.ended = true;
                count
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(End::Done),
            Err(error) => return Err(End::Broken(error.to_string())),
        };
        self.held_bytes += count;
        let max = self.config.limits.unsent_bytes_all_max;
        if connection.is_client() && self.held_bytes > max && count > 0 {
            return Err(End::Broken(format!("all clients together hold more than {max} bytes")));
        }
        Ok(())
    }

    /// Whether a client has to wait before more of its commands are read.
    fn must_wait(&self, connection: &Served<F>) -> bool {
        let limits = &self.config.limits;
        connection.unsent() > limits.unsent_bytes_max
            || connection.open_len() >= limits.pipeline_max
            || self.disk.queue.bytes() > limits.backlog_bytes_max
            || self.executor.queue.bytes() > limits.backlog_bytes_max
            || self.stop_at.is_some()
    }

    /// Makes those read again that had to wait and need not any more.
    pub(crate) fn resume(&mut self) {
        for id in std::mem::take(&mut self.paused) {
            let Some(connection) = self.connections.get(&id) else { continue };
            if self.must_wait(connection) {
                self.paused.push(id);
            } else if let Some(connection) = self.connections.get_mut(&id) {
                connection.paused = false;
                self.activate(id);
            }
        }
    }

    fn understand(&mut self, connection: &mut Served<F>) -> Result<(), End> {
        if let Role::Stranger { .. } = connection.role {
            self.meet(connection)?;
        }
        match connection.role {
            Role::Stranger { .. } => {
                if connection.ended {
                    Err(End::Done)
                } else {
                    Ok(())
                }
            }
            Role::Peer(peer) => self.hear(connection, peer),
            Role::Admin => self.inform(connection),
            Role::Front { .. } => self.serve_front(connection),
            Role::Native(_) => self.serve_native(connection),
        }
    }

    /// Finds out who a stranger is, as far as the bytes that came tell.
    fn meet(&mut self, connection: &mut Served<F>) -> Result<(), End> {
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
        let frame = match frame::decode(&mut connection.stream.input, HELLO_LEN_MAX) {
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
            hello::Role::Peer => Role::Peer(hello.replica),
            hello::Role::Client if self.clients >= self.config.limits.clients_max => {
                let sentence = self.too_many();
                return self.reject(connection, RejectCode::TooMany, sentence);
            }
            hello::Role::Client => {
                self.clients += 1;
                Role::Native(Native::default())
            }
            hello::Role::Admin => Role::Admin,
        };
        self.strangers -= 1;
        let ours = self.greeter.hello();
        let epoch = self.config.me.epoch.counter;
        connection.stream.frame(HELLO, GroupId::NODE, epoch, |body| ours.encode(body));
        if let Role::Peer(peer) = connection.role {
            self.peer_came(peer, connection.id);
        }
    }

    fn peer_came(&mut self, peer: ReplicaId, id: u64) {
        tracing::info!("replica {peer} has connected");
        if let Some(old) = self.incoming.insert(peer, id)
            && let Some(connection) = self.connections.remove(&old)
        {
            // The peer has given that one up, or would not have opened another.
            self.drop_socket(*connection);
        }
        self.links.nudge(peer, self.machines.now.monotonic);
        self.machines.detect(detect::Input::Link { peer, up: true });
    }

    fn too_many(&self) -> String {
        format!(
            "replica {} serves {} clients already, which is its limit: ask another one, or close \
             connections that are not needed",
            self.config.me, self.clients
        )
    }

    fn meet_front(&mut self, connection: &mut Served<F>) {
        if self.clients >= self.config.limits.clients_max {
            let sentence = self.too_many();
            let now = self.machines.now.monotonic;
            if self.complaints.is_news(now, connection.address.ip(), RejectCode::TooMany) {
                tracing::warn!("refused {}: {sentence}", connection.who());
            }
            self.front.refuse(&sentence, connection.stream.output.tail());
            connection.closing = true;
            return;
        }
        self.strangers -= 1;
        self.clients += 1;
        let state = self.front.connect(connection.id);
        connection.role = Role::Front { state, pipeline: Pipeline::new() };
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
        connection.stream.input.clear();
    }

    /// Takes in what a peer has to say.
    fn hear(&mut self, connection: &mut Served<F>, peer: ReplicaId) -> Result<(), End> {
        let body_max = self.config.limits.request_bytes_max + FRAME_SLACK;
        loop {
            match frame::decode(&mut connection.stream.input, body_max) {
                Ok(Some(frame)) => self.hear_frame(peer, frame)?,
                Ok(None) => break,
                Err(error) => return Err(End::Broken(error.to_string())),
            }
        }
        if connection.ended { Err(End::Done) } else { Ok(()) }
    }

    fn hear_frame(&mut self, peer: ReplicaId, frame: Frame) -> Result<(), End> {
        if frame.epoch != peer.epoch.counter {
            let Frame { kind, epoch, .. } = frame;
            return Err(End::Broken(format!("a frame of kind {kind} names epoch {epoch}")));
        }
        match (frame.kind, frame.group) {
            (HEARTBEAT, GroupId::NODE) if frame.body.is_empty() => {
                self.machines.detect(detect::Input::Heard { peer });
                Ok(())
            }
            (kind, GroupId::FIRST) if CONSENSUS.contains(&kind) => {
                let message = Message::decode(kind, frame.body).map_err(|error| {
                    End::Broken(format!("a frame of kind {kind} cannot be read: {error}"))
                })?;
                self.machines.detect(detect::Input::Heard { peer });
                if !self.must_drop(&message) {
                    self.machines.step(Input::Message { from: peer, message });
                }
                Ok(())
            }
            (kind, group) => {
                Err(End::Broken(format!("a frame of kind {kind} for group {group} is not known")))
            }
        }
    }

    /// Whether a message brings values while far too much waits for the disk or the executor.
    fn must_drop(&self, message: &Message) -> bool {
        let brings_values =
            matches!(message.body, Body::Accept(_) | Body::Decided(_) | Body::Forward(_));
        let max = self.config.limits.backlog_bytes_max.saturating_mul(PEER_BACKLOG_FACTOR);
        brings_values && (self.disk.queue.bytes() > max || self.executor.queue.bytes() > max)
    }

    /// Answers an administrator.
    fn inform(&mut self, connection: &mut Served<F>) -> Result<(), End> {
        loop {
            match frame::decode(&mut connection.stream.input, HELLO_LEN_MAX) {
                Ok(Some(frame)) if frame.kind == STATUS_ASK => {
                    let status = self.report();
                    let epoch = self.config.me.epoch.counter;
                    connection.stream.frame(STATUS, GroupId::NODE, epoch, |body| {
                        body.extend_from_slice(&status)
                    });
                }
                Ok(Some(frame)) => {
                    return Err(End::Broken(format!("a frame of kind {} came", frame.kind)));
                }
                Ok(None) => return Ok(()),
                Err(error) => return Err(End::Broken(error.to_string())),
            }
        }
    }

    /// Writes what is queued for a connection.
    pub(crate) fn flush(&mut self, id: u64) {
        let now = self.machines.now.monotonic;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.dirty = false;
        let end = match connection.stream.flush() {
            Ok(count) => {
                if count > 0 || connection.stream.output.len() == 0 {
                    connection.taken_at = now;
                }
                let done = connection.closing && connection.stream.output.len() == 0;
                done.then_some(End::Done)
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Some(End::Done),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Some(End::Done),
            Err(error) => Some(End::Broken(error.to_string())),
        };
        if let Some(end) = end
            && let Some(connection) = self.connections.remove(&id)
        {
            self.end(*connection, &end);
        }
    }

    /// A connection is over: tells whom it concerns.
    pub(crate) fn end(&mut self, connection: Served<F>, end: &End) {
        if let End::Broken(reason) = end {
            let now = self.machines.now.monotonic;
            let topic = connection.topic_of_ends();
            if self.complaints.is_news(now, connection.address.ip(), topic) {
                tracing::warn!("closed {}: {reason}", connection.who());
            }
        }
        match &connection.role {
            Role::Stranger { .. } => self.strangers -= 1,
            Role::Front { .. } => self.clients -= 1,
            Role::Native(native) => {
                self.clients -= 1;
                self.forget_native(connection.id, native);
            }
            Role::Peer(peer) => {
                if self.incoming.get(peer) == Some(&connection.id) {
                    self.incoming.remove(peer);
                    self.machines.detect(detect::Input::Link { peer: *peer, up: false });
                }
            }
            Role::Admin => {}
        }
        self.drop_socket(connection);
    }

    fn drop_socket(&self, mut connection: Served<F>) {
        // A socket that was never registered, or is broken, is dropped all the same.
        let _ = self.registry.deregister(&mut connection.stream.socket);
    }

    /// Looks at every connection for what no event tells.
    pub(crate) fn sweep_connections(&mut self) {
        let limits = self.config.limits;
        let now = self.machines.now.monotonic;
        let mut held = 0;
        let mut over: Vec<(u64, Over)> = Vec::new();
        for (id, connection) in &mut self.connections {
            held += connection.stream.input.len() + connection.unsent();
            if let Some(what) = connection.overdue(now, &limits) {
                over.push((*id, what));
            }
        }
        self.held_bytes = held;
        for (id, over) in over {
            let Some(mut connection) = self.connections.remove(&id) else { continue };
            match over {
                Over::Silent => {
                    let sentence = format!(
                        "no complete hello came within {} ms",
                        limits.handshake_timeout.as_millis()
                    );
                    self.reject(&mut connection, RejectCode::Timeout, sentence);
                    self.keep(connection);
                }
                Over::Stuck => {
                    let end = End::Broken("it takes nothing of what it asked for".into());
                    self.end(*connection, &end);
                }
                Over::Waiting => {
                    self.connections.insert(id, connection);
                    self.give_up_overdue(id);
                }
            }
        }
    }
}

/// What has taken too long at a connection.
enum Over {
    /// A stranger has not said who it is.
    Silent,
    /// What is queued is not taken.
    Stuck,
    /// A command waits for its outcome.
    Waiting,
}

impl<C> Connection<C> {
    fn overdue(&mut self, now: Instant, limits: &crate::Limits) -> Option<Over> {
        let stuck = now.since(self.taken_at);
        if self.stream.output.len() == 0 {
            self.taken_at = now;
        } else if self.closing && stuck >= limits.handshake_timeout
            || self.unsent() > limits.unsent_bytes_max && stuck >= limits.stalled_timeout
        {
            return Some(Over::Stuck);
        }
        match &self.role {
            // A front's client may be silent; whoever has begun with a frame may not.
            Role::Stranger { .. } if self.closing => None,
            Role::Stranger { port, .. } => {
                let patience = match port {
                    Port::Client if self.stream.input.is_empty() => limits.stalled_timeout,
                    _ => limits.handshake_timeout,
                };
                (now.since(self.since) >= patience).then_some(Over::Silent)
            }
            Role::Front { pipeline, .. } if pipeline.len() > 0 => Some(Over::Waiting),
            Role::Native(native) if !native.queries.is_empty() => Some(Over::Waiting),
            _ => None,
        }
    }
}
