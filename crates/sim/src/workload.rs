//! The simulated clients: plain ones, who speak through a replica's front and do not know what came
//! of a request when their connection breaks, and ones with a session of their own, who go on
//! asking, anywhere, until they know.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mainstay_check::Observation;
use mainstay_model::plant::Planted;
use mainstay_model::{Nonce, RequestNumber};
use mainstay_service::client_session::SessionEvent;
use mainstay_service::{Applied, ClientSession};

use crate::context::Cx;
use crate::record::{Asking, checksum};
use crate::registers::{Answer, Operation, Request, encode};
use crate::wire::{self, ClientMessage, Told};
use crate::world::{NodeId, Picture, Process};

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkloadOptions {
    /// How many operations each client carries out.
    pub operations: u64,
    /// How many registers there are.
    pub keys: u32,
    /// How many of a hundred operations only read.
    pub read_percent: u64,
    /// How many operations of a hundred are about the client's lease.
    pub lease_percent: u64,
    /// The longest lease that is taken, in milliseconds.
    pub lease_millis_max: u64,
    /// How many operations of one client may be open.
    pub depth: usize,
    /// The longest pause between two operations, in nanoseconds.
    pub think_max: u64,
    /// How long a client waits until it gives up a connection, in nanoseconds.
    pub patience: u64,
    /// The planted bug, if any.
    pub plants: Planted,
}

/// After how many unknown outcomes a client only reads: each one doubles what the checker of
/// linearizability may have to search.
const UNKNOWN_MAX: u64 = 6;

const NEXT: u64 = 0;
const PATIENCE: u64 = 1;
const RETRY: u64 = 2;

/// What both kinds have in common: which operation comes next, and which replica is asked.
#[derive(Debug)]
struct Chooser {
    options: WorkloadOptions,
    left: u64,
    unknown: u64,
    replica: u16,
    /// Replicas that there is a connection to.
    connected: BTreeSet<u16>,
}

impl Chooser {
    fn new(cx: &mut Cx<'_>, options: WorkloadOptions) -> Self {
        let replicas = u64::from(cx.replicas());
        let replica = cx.prng().below(replicas) as u16;
        let left = options.operations;
        Self { options, left, unknown: 0, replica, connected: BTreeSet::new() }
    }

    /// A connection came up or went down. True if nobody is there any more to ask.
    fn on_link(&mut self, peer: NodeId, up: bool) -> bool {
        if up {
            self.connected.insert(peer.0);
        } else {
            self.connected.remove(&peer.0);
        }
        peer == self.node() && !up
    }

    fn draw(&mut self, cx: &mut Cx<'_>) -> Request {
        self.left -= 1;
        if self.unknown < UNKNOWN_MAX && cx.prng().chance(self.options.lease_percent, 100) {
            let looks = cx.prng().chance(2, 3);
            let millis = cx.prng().between(1, self.options.lease_millis_max);
            let operation = if looks { Operation::Look } else { Operation::Lease(millis) };
            return Request { key: u32::from(cx.node().0), operation, mark: false };
        }
        let unique = u64::from(cx.node().0) * 1_000 + self.left;
        let key = cx.prng().below(u64::from(self.options.keys)) as u32;
        let only_reads = self.unknown >= UNKNOWN_MAX;
        let read_percent = if only_reads { 100 } else { self.options.read_percent };
        let operation = Operation::draw(cx.prng(), read_percent, unique);
        Request { key, operation, mark: false }
    }

    fn think(&self, cx: &mut Cx<'_>) {
        let nanos = cx.prng().below(self.options.think_max + 1);
        cx.timer_in(nanos, NEXT);
    }

    fn node(&self) -> NodeId {
        NodeId(self.replica)
    }

    /// Turns to another replica: to one that there is a connection to, if there is any such. Whoever dials
    /// a replica that does not run is told so, and does not wait for its answer.
    fn move_on(&mut self, cx: &mut Cx<'_>) {
        let count = cx.replicas();
        let mut others: Vec<u16> = (1..count).map(|step| (self.replica + step) % count).collect();
        if others.iter().any(|other| self.connected.contains(other)) {
            others.retain(|other| self.connected.contains(other));
        }
        self.replica = cx.prng().pick(&others).copied().unwrap_or(self.replica);
    }
}

fn told(frame: &Bytes) -> Option<ClientMessage> {
    ClientMessage::decode(&wire::open(frame)?).ok()
}

fn answer(reply: &[u8]) -> Option<Answer> {
    postcard::from_bytes(reply).ok()
}

/// The name of a connection or operation of a client: the client's number stands in the last digits.
fn process(cx: &Cx<'_>, number: u64) -> u64 {
    number * 1_000 + u64::from(cx.node().0)
}

#[derive(Debug)]
struct Asked {
    operation: Asking,
    request: Request,
    since: u64,
}

/// A client of a replica's front.
#[derive(Debug)]
pub struct PlainClient {
    chooser: Chooser,
    id: u64,
    /// Counts its connections: what is asked over one of them is carried out in turn.
    connections: u64,
    open: BTreeMap<u64, Asked>,
    /// Reads that were refused, to be asked again.
    again: Vec<Asked>,
}

impl PlainClient {
    /// A client that has not begun.
    pub fn new(cx: &mut Cx<'_>, options: WorkloadOptions) -> Self {
        Self {
            chooser: Chooser::new(cx, options),
            id: 0,
            connections: 0,
            open: BTreeMap::new(),
            again: Vec::new(),
        }
    }

    fn ask(&mut self, cx: &mut Cx<'_>, asked: Asked) {
        self.id += 1;
        let read = asked.request.operation.is_read();
        let body = Bytes::from(encode(&asked.request));
        cx.send(self.chooser.node(), ClientMessage::Ask { id: self.id, read, body }.encode());
        self.open.insert(self.id, Asked { since: cx.time(), ..asked });
    }

    /// The connection is gone: the outcome of every write on it stays unknown.
    fn give_up(&mut self, cx: &mut Cx<'_>) {
        for asked in std::mem::take(&mut self.open).into_values() {
            self.end_unknown(cx, asked);
        }
        self.connections += 1;
        self.chooser.move_on(cx);
    }

    fn end_unknown(&mut self, cx: &mut Cx<'_>, asked: Asked) {
        if asked.request.operation.is_read() {
            self.again.push(asked);
        } else {
            self.chooser.unknown += 1;
            cx.line(format_args!("unknown {:?}", asked.operation));
        }
    }
}

impl Process for PlainClient {
    fn start(&mut self, cx: &mut Cx<'_>) {
        self.chooser.think(cx);
        cx.timer_in(self.chooser.options.patience, PATIENCE);
    }

    fn on_frame(&mut self, cx: &mut Cx<'_>, from: NodeId, bytes: Bytes) {
        let Some(ClientMessage::Told { id, outcome }) = told(&bytes) else { return };
        if from != self.chooser.node() {
            return;
        }
        let Some(asked) = self.open.remove(&id) else { return };
        match outcome {
            Told::Reply(reply) => {
                let Some(answer) = answer(&reply) else {
                    let number = asked.operation;
                    return cx
                        .violated("linearizable", format!("no answer in the reply to {number:?}"));
                };
                cx.line(format_args!("done {:?}: {answer:?}", asked.operation));
                cx.done(asked.operation, answer);
            }
            Told::NotDone if asked.request.operation.is_read() => self.again.push(asked),
            Told::NotDone => cx.recorder().not_done(asked.operation),
            Told::Unknown => self.end_unknown(cx, asked),
        }
    }

    fn on_link(&mut self, cx: &mut Cx<'_>, peer: NodeId, up: bool) {
        if self.chooser.on_link(peer, up) {
            self.give_up(cx);
        } else if up && peer == self.chooser.node() {
            // What was asked before is lost, and what is asked from now on is not.
            self.connections += 1;
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: u64) {
        let time = cx.time();
        let patience = self.chooser.options.patience;
        if timer == PATIENCE {
            if self.open.values().any(|asked| time - asked.since >= patience) {
                self.give_up(cx);
            }
            return cx.timer_in(patience / 4, PATIENCE);
        }
        if self.open.len() < self.chooser.options.depth {
            let again = self.again.pop().map(|asked| {
                // Its place is behind what was asked since.
                cx.recorder().not_done(asked.operation);
                asked.request
            });
            if again.is_some() || self.chooser.left > 0 {
                let request = again.unwrap_or_else(|| self.chooser.draw(cx));
                let process = process(cx, self.connections);
                let operation = cx.recorder().invoked(process, &request, time);
                cx.line(format_args!("ask {:?} {} {}", operation, request.key, request.operation));
                self.ask(cx, Asked { operation, request, since: time });
            }
        }
        self.chooser.think(cx);
    }

    fn picture(&mut self) -> Picture {
        let open = self.chooser.left as usize + self.open.len() + self.again.len();
        Picture { open, ..Picture::default() }
    }
}

/// A client with a session of its own.
#[derive(Debug)]
pub struct SessionClient {
    chooser: Chooser,
    session: ClientSession<Planted>,
    id: u64,
    /// Which operation each open number is, and the checksum of what it asks.
    writes: BTreeMap<RequestNumber, (Asking, u32)>,
    reads: BTreeMap<u64, Asked>,
    again: Vec<Asked>,
    /// When something was last heard of what is open.
    heard: u64,
    /// How often in a row nothing was heard for too long.
    strikes: u32,
    retry_armed: bool,
}

impl SessionClient {
    /// A client that has not begun.
    pub fn new(cx: &mut Cx<'_>, options: WorkloadOptions) -> Self {
        let nonce = Nonce(u128::from(cx.prng().next_u64()));
        Self {
            chooser: Chooser::new(cx, options),
            session: ClientSession::with_plants(nonce, options.depth, 1 << 20, options.plants),
            id: 0,
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            again: Vec::new(),
            heard: 0,
            strikes: 0,
            retry_armed: false,
        }
    }

    fn send(&mut self, cx: &mut Cx<'_>) {
        let mut unsent = Vec::new();
        self.session.take_unsent(&mut unsent);
        for command in unsent {
            self.id += 1;
            let message = ClientMessage::Command { id: self.id, command };
            cx.send(self.chooser.node(), message.encode());
        }
    }

    fn retry_soon(&mut self, cx: &mut Cx<'_>) {
        if !self.retry_armed {
            self.retry_armed = true;
            let nanos = cx.prng().between(2_000_000, 30_000_000);
            cx.timer_in(nanos, RETRY);
        }
    }

    fn read(&mut self, cx: &mut Cx<'_>, asked: Asked) {
        self.id += 1;
        let body = Bytes::from(encode(&asked.request));
        let message = ClientMessage::Ask { id: self.id, read: true, body };
        cx.send(self.chooser.node(), message.encode());
        self.reads.insert(self.id, asked);
    }

    fn begin(&mut self, cx: &mut Cx<'_>) {
        let time = cx.time();
        if let Some(asked) = self.again.pop() {
            return self.read(cx, asked);
        }
        if self.chooser.left == 0 {
            return;
        }
        if self.open() == 0 {
            self.heard = time;
        }
        let request = self.chooser.draw(cx);
        // Nothing orders what it reads at one replica and writes through another.
        let process = process(cx, self.chooser.left);
        let operation = cx.recorder().invoked(process, &request, time);
        cx.line(format_args!("ask {:?} {} {}", operation, request.key, request.operation));
        if request.operation.is_read() {
            return self.read(cx, Asked { operation, request, since: time });
        }
        let body = Bytes::from(encode(&request));
        let checksum = checksum(&body);
        if let Some(number) = self.session.begin(body) {
            self.writes.insert(number, (operation, checksum));
            self.send(cx);
        } else {
            cx.recorder().not_done(operation);
        }
    }

    fn open(&self) -> usize {
        self.session.open_len() + self.reads.len() + self.again.len()
    }

    fn on_applied(&mut self, cx: &mut Cx<'_>, applied: &Applied) {
        let time = cx.time();
        self.heard = time;
        match self.session.on_applied(applied) {
            Some(SessionEvent::Reply(number, reply)) => {
                self.strikes = 0;
                let Some((operation, checksum)) = self.writes.remove(&number) else { return };
                let Some(answer) = answer(&reply) else {
                    let what = format!("no answer in the reply to {:?}", operation);
                    return cx.violated("linearizable", what);
                };
                cx.line(format_args!("done {:?}: {answer:?}", operation));
                if let Some(session) = self.session.id() {
                    cx.observe(&Observation::Acknowledged { session, number, checksum });
                }
                cx.done(operation, answer);
            }
            Some(SessionEvent::Opened(_)) => self.send(cx),
            Some(SessionEvent::SendAgain(_) | SessionEvent::Refused) => self.retry_soon(cx),
            Some(SessionEvent::Lost) => {
                self.chooser.unknown += self.writes.len() as u64;
                self.writes.clear();
                let options = self.chooser.options;
                let nonce = Nonce(u128::from(cx.prng().next_u64()));
                self.session =
                    ClientSession::with_plants(nonce, options.depth, 1 << 20, options.plants);
            }
            None => {}
        }
    }

    fn elsewhere(&mut self, cx: &mut Cx<'_>) {
        self.chooser.move_on(cx);
        self.again.extend(std::mem::take(&mut self.reads).into_values());
        self.retry_soon(cx);
    }
}

impl Process for SessionClient {
    fn start(&mut self, cx: &mut Cx<'_>) {
        self.chooser.think(cx);
        cx.timer_in(self.chooser.options.patience / 4, PATIENCE);
    }

    fn on_frame(&mut self, cx: &mut Cx<'_>, from: NodeId, bytes: Bytes) {
        let time = cx.time();
        match told(&bytes) {
            Some(ClientMessage::Applied(applied)) => self.on_applied(cx, &applied),
            Some(ClientMessage::Told { id, outcome }) if from == self.chooser.node() => {
                let Some(asked) = self.reads.remove(&id) else {
                    // A command that was not ordered: perhaps another replica can.
                    if cx.prng().chance(1, 2) {
                        self.chooser.move_on(cx);
                    }
                    return self.retry_soon(cx);
                };
                self.heard = time;
                match outcome {
                    Told::Reply(reply) => {
                        let Some(answer) = answer(&reply) else { return };
                        cx.line(format_args!("done {:?}: {answer:?}", asked.operation));
                        cx.done(asked.operation, answer);
                    }
                    Told::NotDone | Told::Unknown => {
                        self.again.push(asked);
                        self.elsewhere(cx);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_link(&mut self, cx: &mut Cx<'_>, peer: NodeId, up: bool) {
        if self.chooser.on_link(peer, up) {
            self.elsewhere(cx);
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: u64) {
        match timer {
            NEXT => {
                if self.session.open_len() + self.reads.len() < self.chooser.options.depth {
                    self.begin(cx);
                }
                self.chooser.think(cx);
            }
            PATIENCE => {
                // A group that is behind does not get faster by being told everything again.
                let patience = self.chooser.options.patience / 4 * (1 << self.strikes.min(3));
                if self.open() > 0 && cx.time() - self.heard >= patience {
                    self.heard = cx.time();
                    self.strikes += 1;
                    self.elsewhere(cx);
                }
                cx.timer_in(patience, PATIENCE);
            }
            _ => {
                self.retry_armed = false;
                self.session.send_again();
                self.send(cx);
            }
        }
    }

    fn picture(&mut self) -> Picture {
        Picture { open: self.chooser.left as usize + self.open(), ..Picture::default() }
    }
}
