//! Connections that others opened: reading, understanding, writing, closing.

use std::io;
use std::net::Shutdown;

use mainstay_consensus::{Input, Message};
use mainstay_detect as detect;
use mainstay_model::frame::Frame;
use mainstay_model::hello::HELLO_LEN_MAX;
use mainstay_model::piece::{PIECE, PIECE_HEAD_LEN, PIECE_LEN_MAX};
use mainstay_model::{GroupId, Instant, ReplicaId};

use crate::account::Account;
use crate::connection::{Connection, End, Role, Seat};
use crate::executor::ExecutorTask;
use crate::front::Front;
use crate::node::Node;
use crate::stream::Filled;
use crate::wire::{CONSENSUS, FRAME_SLACK, HEARTBEAT, INSTRUCT, STATUS, STATUS_ASK};

/// The most bytes read from one connection in one turn.
const READ_BUDGET: usize = 256 << 10;
/// The most bytes written to one connection in one go.
const WRITE_BUDGET: usize = 1 << 20;
/// What connections that are no peers bring in a turn, and what their commands make of it at once, after
/// which the turn goes on without the rest of them: some milliseconds' work.
pub(crate) const TURN_BYTES_MAX: usize = 4 << 20;
/// What one connection's commands may make of that before others have their turn.
pub(crate) const SHARE_BYTES_MAX: usize = 64 << 10;
/// As how many bytes a command counts, however short it is: what a turn does for it takes a microsecond
/// or two.
pub(crate) const COMMAND_WORK: usize = 512;
/// The same for what is written to them.
const FLUSH_BYTES_MAX: usize = 8 << 20;
/// The most connections that are looked at in a turn of those that had to wait.
const RESUME_MAX: usize = 4096;
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
            match connection.role {
                Role::Peer(_) => self.active_peers.push(id),
                _ => self.active.push_back(id),
            }
        }
    }

    /// Serves those with work to do: peers first and all of them, then the others in turn until what they
    /// bring and what it makes is enough for one turn of the loop. A crowd holds up no vote and no heartbeat.
    pub(crate) fn serve_active(&mut self) {
        self.turn_bytes = 0;
        for id in std::mem::take(&mut self.active_peers) {
            self.serve_listed(id);
        }
        let mut active = std::mem::take(&mut self.active);
        while self.turn_bytes < TURN_BYTES_MAX
            && let Some(id) = active.pop_front()
        {
            self.serve_listed(id);
        }
        // Those that were not reached come before those that want more.
        active.append(&mut self.active);
        self.active = active;
    }

    fn serve_listed(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.active = false;
            self.serve(id);
            self.breathe();
        }
    }

    /// Writes what is queued, peers' answers and clients' replies in turn, as much as one turn takes.
    pub(crate) fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut count = 0;
        while count < FLUSH_BYTES_MAX
            && let Some(id) = dirty.pop_front()
        {
            count += self.flush(id);
        }
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// Reads what is there for a connection, understands it, and answers.
    pub(crate) fn serve(&mut self, id: u64) {
        let Some(mut connection) = self.connections.remove(&id) else { return };
        connection.unfinished = false;
        let result = match connection.shut_at {
            None => self.work(&mut connection),
            Some(_) => self.drain_after_close(&mut connection),
        };
        match result {
            Ok(()) => self.keep(connection),
            Err(end) => self.end(*connection, &end),
        }
    }

    fn keep(&mut self, mut connection: Box<Served<F>>) {
        let id = connection.id;
        self.settle(&mut connection);
        let to_write = connection.stream.output.len() > 0 || connection.closing;
        if to_write && !connection.dirty && connection.shut_at.is_none() {
            connection.dirty = true;
            self.dirty.push_back(id);
        }
        let listens = !connection.closing || connection.shut_at.is_some();
        let more = connection.stream.readable && listens && !connection.ended;
        let goes_on = more && !connection.paused || connection.unfinished;
        self.connections.insert(id, connection);
        if goes_on {
            self.activate(id);
        }
    }

    /// Brings what the account counts for a connection up to date, after something was added to it or
    /// taken from it.
    pub(crate) fn settle(&self, connection: &mut Served<F>) {
        settle(&self.front, &self.account, connection);
    }

    /// The same for one that is not at hand.
    pub(crate) fn settle_by_id(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            settle(&self.front, &self.account, connection);
        }
    }

    fn work(&mut self, connection: &mut Served<F>) -> Result<(), End> {
        self.read(connection)?;
        let all_taken = self.understand(connection)?;
        if connection.ended && all_taken && connection.open_len() == 0 && !connection.closing {
            connection.closing = true;
        }
        Ok(())
    }

    /// Throws away what still comes over a connection whose own half is closed.
    fn drain_after_close(&mut self, connection: &mut Served<F>) -> Result<(), End> {
        let filled = connection.stream.fill(&mut self.scratch, READ_BUDGET);
        connection.stream.forget_input();
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
        if self.must_wait(connection) {
            self.pause(connection);
            return Ok(());
        }
        if self.turn_bytes >= TURN_BYTES_MAX && !matches!(connection.role, Role::Peer(_)) {
            return Ok(());
        }
        let filled = connection.stream.fill(&mut self.scratch, READ_BUDGET);
        match filled {
            Ok(Filled::Bytes(count)) => self.turn_bytes += count,
            Ok(Filled::End(count)) => {
                self.turn_bytes += count;
                connection.ended = true;
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(End::Done),
            Err(error) => return Err(End::Broken(error.to_string())),
        }
        Ok(())
    }

    /// Leaves a connection alone until it need not wait any more.
    pub(crate) fn pause(&mut self, connection: &mut Served<F>) {
        if !connection.paused {
            connection.paused = true;
            self.paused.push_back(connection.id);
        }
    }

    /// Whether nobody's commands are read for now.
    fn must_all_wait(&self) -> bool {
        let limits = &self.config.limits;
        self.account.is_full()
            || self.disk.queue.bytes() > limits.backlog_bytes_max
            || self.executor.queue.bytes() > limits.backlog_bytes_max
            || self.stop_at.is_some()
    }

    /// Whether a connection has to wait before more of it is read.
    fn must_wait(&self, connection: &Served<F>) -> bool {
        let limits = &self.config.limits;
        match &connection.role {
            Role::Peer(_) => false,
            Role::Stranger { .. } => self.account.is_full(),
            Role::Front { .. } | Role::Native(_) | Role::Admin => {
                let takes_no_more = !matches!(connection.role, Role::Front { .. })
                    && connection.unsent() > limits.unsent_bytes_max;
                takes_no_more
                    || connection.open_len() >= limits.pipeline_max
                    || (matches!(connection.role, Role::Native(_)) && self.has_many_reads())
                    || (connection.has_open() && !self.account.grants(connection.held()))
                    || self.must_all_wait()
            }
        }
    }

    /// Makes those read again that had to wait and need not any more.
    pub(crate) fn resume(&mut self) {
        if self.paused.is_empty() || self.must_all_wait() {
            return;
        }
        for _ in 0..self.paused.len().min(RESUME_MAX) {
            let Some(id) = self.paused.pop_front() else { return };
            let Some(connection) = self.connections.get(&id) else { continue };
            if self.must_wait(connection) {
                self.paused.push_back(id);
            } else if let Some(connection) = self.connections.get_mut(&id) {
                connection.paused = false;
                self.activate(id);
            }
        }
    }

    /// Makes what came into commands. Returns whether nothing that is complete was left.
    fn understand(&mut self, connection: &mut Served<F>) -> Result<bool, End> {
        if let Role::Stranger { .. } = connection.role {
            self.meet(connection)?;
        }
        match connection.role {
            Role::Stranger { .. } if connection.ended => Err(End::Done),
            Role::Stranger { .. } => Ok(true),
            Role::Peer(peer) => self.hear(connection, peer),
            Role::Admin => self.inform(connection),
            Role::Front { .. } => self.serve_front(connection),
            Role::Native(_) => self.serve_native(connection),
        }
    }

    /// Takes in what a peer has to say.
    fn hear(&mut self, connection: &mut Served<F>, peer: ReplicaId) -> Result<bool, End> {
        self.claims.heard(self.machines.now.monotonic, peer);
        let mut passed = false;
        loop {
            match connection.stream.next_frame(PIECE_HEAD_LEN + PIECE_LEN_MAX) {
                Ok(Some(frame)) if frame.kind == PIECE => {
                    passed = true;
                    self.hear_piece(peer, &frame)?;
                }
                Ok(Some(frame)) => self.hear_frame(peer, frame)?,
                Ok(None) => break,
                Err(error) => return Err(End::Broken(error.to_string())),
            }
        }
        if passed && let Some(incoming) = self.incoming.get(&peer) {
            // What is complete was heard itself.
            if let Some(kind) = incoming.assembly.kind() {
                self.machines.step(Input::Passing { peer, coming: true, kind });
            }
        }
        if connection.ended { Err(End::Done) } else { Ok(true) }
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
    fn inform(&mut self, connection: &mut Served<F>) -> Result<bool, End> {
        // One at a time: an answer is a hundred times as long as the question.
        while connection.unsent() == 0 {
            match connection.stream.next_frame(HELLO_LEN_MAX) {
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
                Ok(None) => return Ok(true),
                Err(error) => return Err(End::Broken(error.to_string())),
            }
        }
        Ok(false)
    }

    /// Writes what is queued for a connection, a part of it at most. Returns how many bytes that were.
    fn flush(&mut self, id: u64) -> usize {
        let now = self.machines.now.monotonic;
        let Some(connection) = self.connections.get_mut(&id) else { return 0 };
        connection.dirty = false;
        let mut moved = 0;
        let end = match connection.stream.flush(WRITE_BUDGET) {
            Ok(count) => {
                moved = count;
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
        let waits = connection.stream.input_len() > 0 || connection.open_len() > 0;
        if connection.stream.writable && connection.stream.output.len() > 0 && !connection.dirty {
            connection.dirty = true;
            self.dirty.push_back(id);
        }
        if connection.shut_at.is_some() || (moved > 0 && waits) {
            self.activate(id);
        }
        if moved > 0 {
            self.settle_by_id(id);
        }
        if let Some(end) = end
            && let Some(connection) = self.connections.remove(&id)
        {
            self.end(*connection, &end);
        }
        moved
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
        self.account.change(std::mem::take(&mut connection.counted), 0);
        if connection.is_client() && connection.open_len() > 0 {
            self.executor.add(ExecutorTask::Forget { connection: connection.id }, 0);
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
            Role::Stranger { .. } | Role::Front { .. } | Role::Admin => {}
        }
        self.drop_socket(connection);
    }

    pub(crate) fn drop_socket(&self, mut connection: Served<F>) {
        // A socket that was never registered, or is broken, is dropped all the same.
        let _ = self.registry.deregister(&mut connection.stream.socket);
    }

    /// Closes the clients that hold most, where all together hold nearly as much as they may: who holds
    /// little must not suffer for it. Then lets the executor go on that waited for room.
    pub(crate) fn make_room(&mut self) {
        if self.account.is_crowded(0) {
            let all = self.account.held();
            let others = self.connections.values().filter(|c| !matches!(c.role, Role::Peer(_)));
            let mut held: Vec<_> = others.map(|other| (other.counted, other.id)).collect();
            held.sort_unstable();
            while let Some((bytes, id)) = held.pop()
                && self.account.held() > self.account.eased()
            {
                if let Some(connection) = self.connections.remove(&id) {
                    let reason =
                        format!("{all} bytes are held for all clients, and {bytes} of them for it");
                    self.end(*connection, &End::Broken(reason));
                }
            }
        }
        if self.account.has_room_that_is_wanted() {
            self.executor.add(ExecutorTask::Room, 0);
        }
    }

    /// Looks at every connection for what no event tells.
    pub(crate) fn sweep_connections(&mut self) {
        let limits = self.config.limits;
        let now = self.machines.now.monotonic;
        let mut over: Vec<(u64, Over)> = Vec::new();
        for (id, connection) in &mut self.connections {
            if let Some(what) = connection.overdue(now, &limits) {
                over.push((*id, what));
            }
        }
        for (id, over) in over {
            let Some(mut connection) = self.connections.remove(&id) else { continue };
            match over {
                Over::Silent => {
                    self.refuse_silent(&mut connection);
                    self.keep(connection);
                }
                Over::Shut | Over::Idle => self.end(*connection, &End::Done),
                Over::Stuck => {
                    let unsent = connection.unsent();
                    let end = End::Broken(format!(
                        "it takes no replies, of which {unsent} bytes wait, and sends more commands"
                    ));
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

fn settle<F: Front>(front: &F, account: &Account, connection: &mut Served<F>) {
    connection.stream.let_go();
    let mut held = connection.held();
    if let Role::Front { state, .. } = &connection.role {
        held += front.held(state);
    }
    account.change(connection.counted, held);
    connection.counted = held;
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
        } else if self.closing {
            let client = self.is_client();
            let patience = if client { limits.stalled_timeout } else { limits.handshake_timeout };
            if stuck >= patience {
                return Some(Over::Stuck);
            }
        } else if self.paused && self.stream.readable && stuck >= limits.stalled_timeout {
            // Both sides wait for the other to take something.
            return Some(Over::Stuck);
        }
        match &self.role {
            // A client may open connections ahead of use; whoever has begun to speak may not stop.
            Role::Stranger { .. } if self.closing => None,
            Role::Stranger { .. } if self.seat == Seat::Client && self.stream.input_len() == 0 => {
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
