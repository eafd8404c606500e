//! The protocol thread: owns the machines, the sockets and the front, and takes turns.
//!
//! A turn reads all that is ready, steps the machines with it, carries out what they ask for, and
//! writes: one batch to the disk, one to the executor, one vectored write to each peer and client.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use mainstay_consensus::{Input, Instruction, Request, Role as OrderingRole};
use mainstay_model::piece::Assembly;
use mainstay_model::{
    Instant, Nonce, Prng, ReplicaId, RequestNumber, SessionId, Slot, Timestamp, Token,
};
use mainstay_service::Command;
use mio::event::Event as Readiness;
use mio::net::TcpListener;
use mio::{Events, Poll, Registry};

use crate::account::Account;
use crate::checkpointer::Wanted;
use crate::checkpointing::Checkpointing;
use crate::claims::Claims;
use crate::clock;
use crate::config::NodeConfig;
use crate::connection::Connection;
use crate::disk::{DiskTask, Event, LogState, Roomless};
use crate::executor::{Asker, ExecutorTask, Query};
use crate::front::{Front, View};
use crate::front_clients::Gate;
use crate::front_session::FrontSession;
use crate::greet::{Complaints, Greeter};
use crate::links::{LINK_TOKEN_FIRST, Links};
use crate::machines::Machines;
use crate::native_clients::Natives;
use crate::pipeline::Tied;
use crate::queue::{Inbox, Queue};
use crate::stop::StopHandle;
use crate::transfers::TransferTask;
use crate::{ExitReport, NodeError};

pub(crate) const WAKER: mio::Token = mio::Token(0);
pub(crate) const SIGNALS: mio::Token = mio::Token(1);
pub(crate) const PEER_PORT: mio::Token = mio::Token(2);
pub(crate) const CLIENT_PORT: mio::Token = mio::Token(3);
/// Tokens of accepted connections: this plus their id.
pub(crate) const CONNECTION_TOKEN_FIRST: usize = 1 << 16;

/// How often what has no timer of its own is looked at: overdue commands, silent strangers.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);
/// How long a part of a turn may take until signs of life are looked after within it.
const BREATH_AFTER: Duration = Duration::from_millis(10);
/// How long after a rejection reads are asked for again.
pub(crate) const READS_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// How often sessions are trimmed at most.
pub(crate) const TRIM_INTERVAL: Duration = Duration::from_millis(200);

/// Submissions of the front's session; any rejection means that all of it is sent again.
pub(crate) const FRONT_TOKEN: Token = Token(0);
/// The command that ends idle sessions.
pub(crate) const TRIM_TOKEN: Token = Token(1);
/// The command that sets the interval of checkpoints.
pub(crate) const INTERVAL_TOKEN: Token = Token(2);
/// Tokens from here on are given out one by one.
const TOKEN_FIRST: u64 = 16;

/// Reads that wait to be told their slot; what they ask stands with their connections.
pub(crate) struct ReadGroup {
    pub(crate) askers: Vec<Asker>,
    pub(crate) since: Instant,
}

/// How a peer speaks to this node.
pub(crate) struct Incoming {
    /// The connection.
    pub(crate) connection: u64,
    /// What has come of a long frame.
    pub(crate) assembly: Assembly,
}

/// The queues to the other threads, and what this turn has for them.
pub(crate) struct Outgoing<T> {
    pub(crate) queue: Arc<Queue<T>>,
    batch: Vec<T>,
    bytes: usize,
}

impl<T> Outgoing<T> {
    pub(crate) const fn new(queue: Arc<Queue<T>>) -> Self {
        Self { queue, batch: Vec::new(), bytes: 0 }
    }

    pub(crate) fn add(&mut self, task: T, bytes: usize) {
        self.batch.push(task);
        self.bytes += bytes;
    }

    fn push(&mut self) {
        self.queue.push(&mut self.batch, std::mem::take(&mut self.bytes));
    }
}

impl Outgoing<ExecutorTask> {
    /// Queries to be answered once `slot` is applied.
    pub(crate) fn add_query(&mut self, slot: Slot, time: Timestamp, queries: Vec<Query>) {
        let task = ExecutorTask::Query { slot, time, queries };
        let bytes = task.bytes();
        self.add(task, bytes);
    }

    /// Reads of a connection to be answered right before this request is carried out.
    pub(crate) fn add_tied(
        &mut self,
        session: SessionId,
        number: RequestNumber,
        connection: u64,
        tied: Vec<Tied>,
    ) {
        if tied.is_empty() {
            return;
        }
        let query = |(question, body)| {
            let asker = Asker { connection, question };
            Query { asker, after: None, body, shown: Timestamp(0) }
        };
        let queries = tied.into_iter().map(query).collect();
        let task = ExecutorTask::Tied { session, number, queries };
        let bytes = task.bytes();
        self.add(task, bytes);
    }
}

/// The protocol thread of a node.
pub(crate) struct Node<F: Front> {
    pub(crate) config: NodeConfig,
    pub(crate) front: F,
    pub(crate) registry: Registry,
    pub(crate) peer_port: TcpListener,
    pub(crate) client_port: TcpListener,
    /// Which port may have connections to accept.
    pub(crate) acceptable: [bool; 2],
    /// Nothing is accepted before this instant: the process was out of file descriptors.
    pub(crate) accept_at: Instant,
    pub(crate) machines: Machines,
    pub(crate) links: Links,
    pub(crate) greeter: Greeter,
    pub(crate) complaints: Complaints,
    pub(crate) session: FrontSession,
    pub(crate) natives: Natives,
    pub(crate) prng: Prng,

    pub(crate) connections: HashMap<u64, Box<Connection<F::Connection>>>,
    pub(crate) connections_made: u64,
    /// Over which connection each peer speaks.
    pub(crate) incoming: BTreeMap<ReplicaId, Incoming>,
    /// Which process each peer is.
    pub(crate) claims: Claims,
    pub(crate) active: VecDeque<u64>,
    pub(crate) active_peers: Vec<u64>,
    pub(crate) dirty: VecDeque<u64>,
    /// What connections brought in this turn, and what was made of it at once, in bytes.
    pub(crate) turn_bytes: usize,
    pub(crate) parked: VecDeque<u64>,
    pub(crate) paused: VecDeque<u64>,
    pub(crate) clients: usize,
    /// Those on the peer port that have not said who they are, and administrators, in the order in which
    /// they came.
    pub(crate) strangers: VecDeque<u64>,
    pub(crate) admins: VecDeque<u64>,
    pub(crate) turned_away: usize,
    /// What is held for all of them.
    pub(crate) account: Arc<Account>,
    pub(crate) scratch: Vec<u8>,

    /// Queries to be asked for a slot.
    pub(crate) reads: Vec<Asker>,
    pub(crate) reads_at: Instant,
    pub(crate) read_groups: BTreeMap<u64, ReadGroup>,
    tokens: u64,

    pub(crate) disk: Outgoing<DiskTask>,
    pub(crate) executor: Outgoing<ExecutorTask>,
    pub(crate) transfers: Outgoing<TransferTask>,
    pub(crate) inbox: Arc<Inbox<Event>>,
    pub(crate) log: LogState,
    pub(crate) roomless: Roomless,
    pub(crate) checkpointing: Checkpointing,
    pub(crate) applied: Slot,
    /// When what is known as decided was last applied, or more of it than before; and how far that was.
    pub(crate) kept_up: (Slot, Instant),
    /// Why the executor has stopped, if it has.
    pub(crate) stopped: Option<String>,

    pub(crate) started: Instant,
    /// What the system allows is little: told for as long as the node runs.
    pub(crate) few_files: Option<String>,
    /// How many turns were taken: many where nothing happens mean that the loop does not sleep.
    pub(crate) turns: u64,
    pub(crate) view: View,
    pub(crate) leaderless_since: Option<Instant>,
    pub(crate) blocked: Option<Slot>,
    /// Administrators that wait for what comes of an instruction, by connection.
    pub(crate) operators: Vec<(u64, Instruction)>,
    pub(crate) trimmed_at: Option<Instant>,
    sweep_at: Instant,
    /// When the end is not put off any longer, once it was asked for.
    pub(crate) stop_at: Option<Instant>,
    pub(crate) failure: Option<NodeError>,
}

/// What [`Node::new`] is given besides its configuration.
pub(crate) struct Parts<F> {
    pub(crate) front: F,
    pub(crate) registry: Registry,
    pub(crate) peer_port: TcpListener,
    pub(crate) client_port: TcpListener,
    pub(crate) machines: Machines,
    pub(crate) greeter: Greeter,
    pub(crate) nonce: Nonce,
    pub(crate) prng: Prng,
    pub(crate) disk: Arc<Queue<DiskTask>>,
    pub(crate) executor: Arc<Queue<ExecutorTask>>,
    pub(crate) transfers: Arc<Queue<TransferTask>>,
    pub(crate) wanted: Arc<Wanted>,
    pub(crate) inbox: Arc<Inbox<Event>>,
    pub(crate) account: Arc<Account>,
    pub(crate) few_files: Option<String>,
    pub(crate) log: LogState,
    pub(crate) port: u16,
}

impl<F: Front> Node<F> {
    pub(crate) fn new(config: NodeConfig, mut parts: Parts<F>) -> Self {
        let now = parts.machines.now.monotonic;
        let limits = config.limits;
        let links = Links::new(
            parts.greeter.clone(),
            &config.peers,
            Arc::clone(&parts.inbox),
            limits.handshake_timeout,
            limits.peer_queue_bytes_max,
            now,
            parts.prng.split(),
        );
        Self {
            front: parts.front,
            registry: parts.registry,
            peer_port: parts.peer_port,
            client_port: parts.client_port,
            acceptable: [true, true],
            accept_at: now,
            machines: parts.machines,
            links,
            greeter: parts.greeter,
            complaints: Complaints::default(),
            session: FrontSession::new(
                parts.nonce,
                (limits.window_max, limits.window_bytes_max),
                config.sessions.fresh_for(),
            ),
            natives: Natives::default(),
            prng: parts.prng,
            connections: HashMap::new(),
            connections_made: 0,
            incoming: BTreeMap::new(),
            claims: Claims::default(),
            active: VecDeque::new(),
            active_peers: Vec::new(),
            dirty: VecDeque::new(),
            turn_bytes: 0,
            parked: VecDeque::new(),
            paused: VecDeque::new(),
            clients: 0,
            strangers: VecDeque::new(),
            admins: VecDeque::new(),
            turned_away: 0,
            account: parts.account,
            few_files: parts.few_files,
            scratch: vec![0; 64 << 10],
            reads: Vec::new(),
            reads_at: now,
            read_groups: BTreeMap::new(),
            tokens: TOKEN_FIRST,
            disk: Outgoing::new(parts.disk),
            executor: Outgoing::new(parts.executor),
            transfers: Outgoing::new(parts.transfers),
            checkpointing: Checkpointing::new(parts.wanted),
            inbox: parts.inbox,
            log: parts.log,
            roomless: Roomless::default(),
            applied: Slot::NONE,
            kept_up: (Slot::NONE, now),
            stopped: None,
            started: now,
            turns: 0,
            view: View { index: config.me.index, port: parts.port, ..View::default() },
            leaderless_since: Some(now),
            blocked: None,
            operators: Vec::new(),
            trimmed_at: None,
            sweep_at: now,
            stop_at: None,
            failure: None,
            config,
        }
    }

    /// Takes turns until it is time to end.
    pub(crate) fn run(
        &mut self,
        poll: &mut Poll,
        stop: &StopHandle,
        signals: &mut Option<mio::net::UnixStream>,
    ) -> Result<ExitReport, NodeError> {
        let mut events = Events::with_capacity(1024);
        self.executor.add(ExecutorTask::WatchNonce(self.session.nonce()), 0);
        if !self.log.has_room {
            self.machines.step(Input::Room { entries: false });
        }
        loop {
            self.turn();
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if let Some(flushed) = self.is_over() {
                return Ok(ExitReport { applied: self.applied, flushed });
            }
            let patience = self.patience();
            if let Err(error) = poll.poll(&mut events, Some(patience))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                return Err(NodeError::System { what: "waiting for events", error });
            }
            self.machines.now = clock::now(&self.config.wall_clock);
            for event in &events {
                self.ready(event, signals);
            }
            if stop.is_stopped() {
                self.begin_to_end();
            }
        }
    }

    /// How long the next poll may take.
    fn patience(&self) -> Duration {
        let accepts =
            self.acceptable.contains(&true) && self.machines.now.monotonic >= self.accept_at;
        let busy = accepts
            || !self.active.is_empty()
            || !self.active_peers.is_empty()
            || !self.dirty.is_empty()
            || !self.machines.effects.is_empty()
            || self.links.has_more()
            || !self.inbox.may_sleep();
        if busy {
            return Duration::ZERO;
        }
        // Without a leader, or an executor to see the outcome, nothing is submitted.
        let retry = if self.may_submit() {
            let reads = (!self.reads.is_empty()).then_some(self.reads_at);
            [self.session.deadline(), reads].into_iter().flatten().min()
        } else {
            None
        };
        let deadlines = [self.machines.deadline(), self.links.deadline(), retry, self.stop_at];
        let next = deadlines.into_iter().flatten().fold(self.sweep_at, Instant::min);
        // The poll counts in milliseconds, and one that ends too early costs a turn.
        let now = clock::monotonic();
        next.since(now)
    }

    /// The system has something to say about a socket.
    fn ready(&mut self, event: &Readiness, signals: &mut Option<mio::net::UnixStream>) {
        match event.token() {
            WAKER => {}
            SIGNALS => {
                if let Some(signals) = signals {
                    drain(signals);
                }
                self.begin_to_end();
            }
            PEER_PORT => self.acceptable[0] = true,
            CLIENT_PORT => self.acceptable[1] = true,
            mio::Token(token) if token < CONNECTION_TOKEN_FIRST => {
                debug_assert!(token >= LINK_TOKEN_FIRST);
                self.links.event(event, &mut self.machines);
            }
            mio::Token(token) => {
                let id = (token - CONNECTION_TOKEN_FIRST) as u64;
                if let Some(connection) = self.connections.get_mut(&id) {
                    let stream = &mut connection.stream;
                    stream.readable |= event.is_readable() || event.is_read_closed();
                    stream.readable |= event.is_error();
                    stream.writable |= event.is_writable();
                    stream.ending |= event.is_read_closed();
                    self.activate(id);
                }
            }
        }
    }

    fn turn(&mut self) {
        self.turns += 1;
        self.take_in_news();
        self.accept();
        self.links.deadlines(&self.registry, &mut self.machines);
        self.resume();
        self.serve_active();
        self.unpark();
        self.breathe();
        self.sweep();
        self.submit();
        self.machines.deadlines();
        self.carry_out();
        self.disk.push();
        self.executor.push();
        self.transfers.push();
        self.links.flush(&mut self.machines);
        self.flush_dirty();
        self.make_room();
        self.refresh_view();
    }

    /// A part of the turn took long, as where a client's largest request was copied: signs of life that
    /// are due leave before the next part begins.
    pub(crate) fn breathe(&mut self) {
        let now = clock::now(&self.config.wall_clock);
        if now.monotonic.since(self.machines.now.monotonic) < BREATH_AFTER {
            return;
        }
        self.machines.now = now;
        self.machines.deadlines();
        self.carry_out();
        self.links.flush(&mut self.machines);
    }

    pub(crate) const fn next_token(&mut self) -> Token {
        self.tokens += 1;
        Token(self.tokens)
    }

    /// By what name the group knows a connection of this node.
    pub(crate) const fn client_of(&self, connection: u64) -> u64 {
        (self.config.me.index as u64 + 1) << 48 | (connection & ((1 << 48) - 1))
    }

    fn may_submit(&self) -> bool {
        self.view.leader.is_some() && self.stopped.is_none()
    }

    /// Hands over what waits for the ordering machine.
    fn submit(&mut self) {
        let now = self.machines.now.monotonic;
        if !self.may_submit() {
            return;
        }
        let mut requests = Vec::new();
        self.session.submit(now, &mut requests);
        for request in requests {
            let id = Command::request_id(&request);
            let owner = id.and_then(|id| self.session.owner(id.number));
            let client = owner.map_or(0, |owner| self.client_of(owner.connection));
            let request = Request { id, client, bytes: request };
            self.machines.step(Input::Submit { token: FRONT_TOKEN, request });
        }
        if !self.reads.is_empty() && self.reads_at <= now {
            let token = self.next_token();
            let askers = std::mem::take(&mut self.reads);
            self.read_groups.insert(token.0, ReadGroup { askers, since: now });
            self.machines.step(Input::Read { token });
        }
    }

    /// Takes note of where the machine stands at the end of a turn.
    fn refresh_view(&mut self) {
        let status = self.machines.replica.status();
        let now = self.machines.now.monotonic;
        self.view.leader = status.leader.map(|leader| leader.index);
        self.leaderless_since = match (status.leader, self.leaderless_since) {
            (Some(_), _) => None,
            (None, since) => since.or(Some(now)),
        };
        self.blocked = status.blocked;
        self.checkpointing.fetching = status.diverged.is_some() || status.transfer.is_some();
        self.view.loading = !self.session.was_opened() || self.checkpointing.fetching;
        self.view.uptime_s = now.since(self.started).as_secs();
        self.view.clients = self.clients;
        self.view.clients_max = self.config.limits.clients_max;
        self.view.readable = self.gate_of_stale_reads() == Gate::Open;
        self.view.decided = status.decided.max(status.heard_decided).0;
        self.view.applied = self.applied.0;
        let time_ms = self.machines.replica.time().0 / 1_000_000;
        self.view.decided_time_ms = self.view.decided_time_ms.max(time_ms);
        self.view.log_bytes = self.log.bytes;
        if self.applied > self.kept_up.0 || self.applied.0 >= self.view.decided {
            self.kept_up = (self.applied, now);
        }
    }

    fn sweep(&mut self) {
        let now = self.machines.now.monotonic;
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now.after(SWEEP_INTERVAL);
        let patience = self.config.limits.outcome_timeout;
        self.read_groups.retain(|_, group| now.since(group.since) < 2 * patience);
        self.keep_operators();
        self.refuse_reads();
        self.sweep_connections();
        self.order_interval();
    }

    /// Asked to end: hand over, finish what is open, then leave.
    fn begin_to_end(&mut self) {
        if self.stop_at.is_some() {
            return;
        }
        tracing::info!("asked to stop: handing over");
        self.stop_at = Some(self.machines.now.monotonic.after(self.config.limits.stop_timeout));
        self.machines.step(Input::Retire);
    }

    /// Whether it is time to leave, and if so whether everything was finished.
    fn is_over(&self) -> Option<bool> {
        let stop_at = self.stop_at?;
        let leads = self.machines.replica.status().role == OrderingRole::Leader;
        // What a stopped executor leaves open stays open.
        let settled = self.stopped.is_some() || self.session.open_len() == 0;
        let idle = settled
            && self.read_groups.is_empty()
            && self.disk.queue.bytes() == 0
            && self.links.is_flushed()
            && self.connections.values().all(|c| c.unsent() == 0 && c.open_len() == 0);
        if !leads && idle {
            return Some(true);
        }
        (self.machines.now.monotonic >= stop_at).then_some(false)
    }
}

fn drain(signals: &mut mio::net::UnixStream) {
    use std::io::Read;
    let mut bytes = [0; 64];
    while signals.read(&mut bytes).is_ok_and(|len| len > 0) {}
}
