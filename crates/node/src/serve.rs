//! Connections that others opened: reading, understanding, writing, closing.

use std::io;
use std::net::Shutdown;

use mainstay_consensus::{Input, Message};
use mainstay_detect as detect;
use mainstay_model::frame::{self, Frame};
use mainstay_model::hello::HELLO_LEN_MAX;
use mainstay_model::piece::{PIECE, PIECE_HEAD_LEN, PIECE_LEN_MAX};
use mainstay_model::{GroupId, Instant, ReplicaId};

use crate::connection::{Connection, End, Role, Seat};
use crate::front::Front;
use crate::node::Node;
use crate::stream::Filled;
use crate::wire::{CONSENSUS, FRAME_SLACK, HEARTBEAT, INSTRUCT, STATUS, STATUS_ASK};

/// The most bytes read from one connection in one turn.
const READ_BUDGET: usize = 256 << 10;
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

    /// Reads what is there for a connection, understands it, and answers.
    pub(crate) fn serve(&mut self, id: u64) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        connection.active = false;
        let result = match connection.shut_at {
            None => self.work(&mut connection),
            Some(_) => self.listen_out(&mut connection),
        };
        match result {
            Ok(()) => self.keep(connection),
            Err(end) => self.end(*connection, &end),
        }
    }

    fn keep(&mut self, mut connection: Box<Served<F>>) {
        let id = connection.id;
        let to_write = connection.stream.output.len() > 0 || connection.closing;
        if to_write && !connection.dirty && connection.shut_at.is_none() {
            connection.dirty = true;
            self.dirty.push(id);
        }
        let listens = !connection.closing || connection.shut_at.is_some();
        let more = connection.stream.readable && listens && !connection.ended;
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
        Ok(())
    }

    /// Throws away what still comes over a connection whose own half is closed.
    fn listen_out(&mut self, connection: &mut Served<F>) -> Result<(), End> {
        let filled = connection.stream.fill(&mut self.scratch, READ_BUDGET);
        connection.stream.input.clear();
        match filled {
            Ok(Filled::Bytes(_)) => Ok(()),
            Ok(Filled::End(_)) | Err(_) => Err(End::Done),
        }
    }

    /// Reads, unless the connection has to wait.
    fn read(&mut self, connection: &mut Served<F>) -> Result<(), End> {
        if !connection.stream.readable || connection.closing || connection.ended {
            return Ok(());
        }
        let is_bounded = connection.is_client() || matches!(connection.role, Role::Admin);
        if is_bounded && self.must_wait(connection) {
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
        Ok(())
    }

    /// Whether a client has to wait before more of its commands are read.
    fn must_wait(&self, connection: &Served<F>) -> bool {
        let limits = &self.config.limits;
        connection.unsent() > limits.unsent_bytes_max
            || connection.stream.input.len() > limits.input_bytes_max()
            || connection.asked_bytes() > limits.unsent_bytes_max
            || connection.open_len() >= limits.pipeline_max
            || self.held_bytes > limits.unsent_bytes_all_max
            // Half of that is for those in the middle of a command.
            || (connection.open_len() > 0 && self.held_bytes > limits.unsent_bytes_all_max / 2)
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

    /// Takes in what a peer has to say.
    fn hear(&mut self, connection: &mut Served<F>, peer: ReplicaId) -> Result<(), End> {
        self.claims.heard(self.machines.now.monotonic, peer);
        let mut passed = false;
        loop {
            match frame::decode(&mut connection.stream.input, PIECE_HEAD_LEN + PIECE_LEN_MAX) {
                Ok(Some(frame)) if frame.kind == PIECE => {
                    passed = true;
                    self.hear_piece(peer, &frame)?;
                }
                Ok(Some(frame)) => self.hear_frame(peer, frame)?,
                Ok(None) => break,
                Err(error) => return Err(End::Broken(error.to_string())),
            }
        }
        if passed {
            self.machines.step(Input::Passing { peer, coming: true });
        }
        if connection.ended { Err(End::Done) } else { Ok(()) }
    }

    /// Takes in a piece of a long frame: whoever sends is alive.
    fn hear_piece(&mut self, peer: ReplicaId, piece: &Frame) -> Result<(), End> {
        self.machines.detect(detect::Input::Heard { peer });
        let body_max = self.config.limits.request_bytes_max + FRAME_SLACK;
        let Some(incoming) = self.incoming.get_mut(&peer) else { return Ok(()) };
        match incoming.assembly.add(piece, body_max) {
            Ok(Some(frame)) => self.hear_frame(peer, frame),
            Ok(None) => Ok(()),
            Err(error) => Err(End::Broken(error.to_string())),
        }
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
        let max = self.config.limits.backlog_bytes_max.saturating_mul(PEER_BACKLOG_FACTOR);
        message.brings_values()
            && (self.disk.queue.bytes() > max || self.executor.queue.bytes() > max)
    }

    /// Answers an administrator.
    fn inform(&mut self, connection: &mut Served<F>) -> Result<(), End> {
        // One at a time: an answer is a hundred times as long as the question.
        while connection.unsent() == 0 {
            match frame::decode(&mut connection.stream.input, HELLO_LEN_MAX) {
                Ok(Some(frame)) if frame.kind == STATUS_ASK => {
                    connection.since = self.machines.now.monotonic;
                    let status = self.report();
                    let epoch = self.config.me.epoch.counter;
                    connection.stream.frame(STATUS, GroupId::NODE, epoch, |body| {
                        body.extend_from_slice(&status)
                    });
                }
                Ok(Some(frame)) if frame.kind == INSTRUCT => {
                    self.instruct(connection, frame.body)?;
                }
                Ok(Some(frame)) => {
                    return Err(End::Broken(format!("a frame of kind {} came", frame.kind)));
                }
                Ok(None) => return Ok(()),
                Err(error) => return Err(End::Broken(error.to_string())),
            }
        }
        Ok(())
    }

    /// Writes what is queued for a connection.
    pub(crate) fn flush(&mut self, id: u64) {
        let now = self.machines.now.monotonic;
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.dirty = false;
        let mut moved = false;
        let end = match connection.stream.flush() {
            Ok(count) => {
                moved = count > 0;
                let written = connection.stream.output.len() == 0;
                if count > 0 || written {
                    connection.taken_at = now;
                }
                if written && connection.closing && connection.shut_at.is_none() {
                    connection.shut_at = Some(now);
                    let gone = connection.ended
                        || connection.stream.socket.shutdown(Shutdown::Write).is_err();
                    gone.then_some(End::Done)
                } else {
                    None
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Some(End::Done),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Some(End::Done),
            Err(error) => Some(End::Broken(error.to_string())),
        };
        // Commands that came already may have waited for this, and what is thrown away waits.
        // Where nothing was taken, the system says when that changes.
        let waits = !connection.stream.input.is_empty() || connection.open_len() > 0;
        if connection.shut_at.is_some() || (moved && waits) {
            self.activate(id);
        }
        if let Some(end) = end
            && let Some(connection) = self.connections.remove(&id)
        {
            self.end(*connection, &end);
        }
    }

    /// A connection is over: tells whom it concerns.
    pub(crate) fn end(&mut self, mut connection: Served<F>, end: &End) {
        if let End::Broken(reason) = end {
            let now = self.machines.now.monotonic;
            let topic = connection.topic_of_ends();
            if self.complaints.is_news(now, connection.address.ip(), topic) {
                tracing::warn!("closed {}: {reason}", connection.who());
            }
        }
        self.seat(&mut connection, Seat::Standing);
        if connection.is_client() && connection.open_len() > 0 {
            self.forget_queries(connection.id);
        }
        match &connection.role {
            Role::Native(native) => self.forget_native(connection.id, native),
            Role::Peer(peer) => {
                let incoming = self.incoming.get(peer).map(|incoming| incoming.connection);
                if incoming == Some(connection.id) {
                    self.incoming.remove(peer);
                    self.claims.left(*peer);
                    self.machines.detect(detect::Input::Link { peer: *peer, up: false });
                }
            }
            Role::Admin => self.admins -= 1,
            Role::Stranger { .. } | Role::Front { .. } => {}
        }
        self.drop_socket(connection);
    }

    pub(crate) fn drop_socket(&self, mut connection: Served<F>) {
        // A socket that was never registered, or is broken, is dropped all the same.
        let _ = self.registry.deregister(&mut connection.stream.socket);
    }

    /// Closes the clients that hold most, where all together hold more than they may: whoever holds
    /// little is not to suffer for it.
    fn make_room(&mut self) {
        let max = self.config.limits.unsent_bytes_all_max;
        if self.held_bytes <= max {
            return;
        }
        let clients = self.connections.values().filter(|connection| connection.is_client());
        let mut held: Vec<_> = clients.map(|client| (client.held(), client.id)).collect();
        held.sort_unstable();
        while let Some((bytes, id)) = held.pop()
            && self.held_bytes > max
        {
            self.held_bytes -= bytes;
            if let Some(connection) = self.connections.remove(&id) {
                let reason = format!(
                    "it holds {bytes} bytes, and all clients together more than {max} bytes"
                );
                self.end(*connection, &End::Broken(reason));
            }
        }
    }

    /// Looks at every connection for what no event tells.
    pub(crate) fn sweep_connections(&mut self) {
        let limits = self.config.limits;
        let now = self.machines.now.monotonic;
        let mut held = 0;
        let mut over: Vec<(u64, Over)> = Vec::new();
        for (id, connection) in &mut self.connections {
            held += connection.held();
            if let Some(what) = connection.overdue(now, &limits) {
                over.push((*id, what));
            }
        }
        self.held_bytes = held;
        self.make_room();
        for (id, over) in over {
            let Some(mut connection) = self.connections.remove(&id) else { continue };
            match over {
                Over::Silent => {
                    self.refuse_silent(&mut connection);
                    self.keep(connection);
                }
                Over::Shut | Over::Idle => self.end(*connection, &End::Done),
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
    /// An administrator does not ask anything.
    Idle,
    /// The other side does not close its half.
    Shut,
    /// A stranger has not said who it is.
    Silent,
    /// What is queued is not taken.
    Stuck,
    /// A command waits for its outcome.
    Waiting,
}

impl<C> Connection<C> {
    fn overdue(&mut self, now: Instant, limits: &crate::Limits) -> Option<Over> {
        if let Some(shut_at) = self.shut_at {
            return (now.since(shut_at) >= limits.handshake_timeout).then_some(Over::Shut);
        }
        let stuck = now.since(self.taken_at);
        if self.stream.output.len() == 0 {
            self.taken_at = now;
        } else if self.closing && stuck >= limits.handshake_timeout
            || self.unsent() > limits.unsent_bytes_max && stuck >= limits.stalled_timeout
        {
            return Some(Over::Stuck);
        }
        match &self.role {
            // A client may open connections ahead of use; whoever has begun to speak may not stop.
            Role::Stranger { .. } if self.closing => None,
            Role::Stranger { .. } if self.seat == Seat::Client && self.stream.input.is_empty() => {
                None
            }
            Role::Stranger { .. } => {
                (now.since(self.since) >= limits.handshake_timeout).then_some(Over::Silent)
            }
            Role::Front { pipeline, .. } if pipeline.len() > 0 => Some(Over::Waiting),
            Role::Native(native) if !native.queries.is_empty() => Some(Over::Waiting),
            Role::Admin => {
                (now.since(self.since) >= limits.handshake_timeout).then_some(Over::Idle)
            }
            _ => None,
        }
    }
}
