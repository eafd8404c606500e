//! The connections this node opens: one to each peer, for what it has to say to it. What a peer has
//! to say comes over the connection that the peer opened.
//!
//! Frames of values are long. They leave in pieces, and what is short goes between these: a sign of life
//! never waits for a value of many megabytes, neither here nor, by [`system::tend_peer`], in the system.
//!
//! A peer may be addressed by the name of its host. It is looked up at each dial, on a thread of its own,
//! since a name server may take seconds; all addresses that it stands for are tried, one after the other.
//!
//! A lost connection is opened again at once, then after 5 ms, doubling up to half a second; one that was
//! lost within a second counts as never opened. What is
//! queued on it is lost with it: no message is trusted to arrive. A host that refuses the connection
//! is evidence that the process there has ended, which the failure detector is told.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use mainstay_consensus::{Input, Message};
use mainstay_detect as detect;
use mainstay_model::codec::Put;
use mainstay_model::frame::{self, FRAME_HEAD_LEN, Frame};
use mainstay_model::hello::{HELLO, HELLO_LEN_MAX, Hello, REJECT, Reject};
use mainstay_model::piece::PIECE_LEN_MAX;
use mainstay_model::{GroupId, Instant, Prng, ReplicaId, Rope};
use mio::event::Event as Readiness;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::address::PeerAddress;
use crate::disk::Event;
use crate::greet::Greeter;
use crate::long_frames::LongFrames;
use crate::machines::Machines;
use crate::queue::Inbox;
use crate::said::Said;
use crate::stream::{Filled, Stream};
use crate::system;
use crate::wire::HEARTBEAT;

/// Tokens of links: this plus the peer's index.
pub(crate) const LINK_TOKEN_FIRST: usize = 16;

const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// A connection that is lost before it is so old counts as never opened.
const FLAPS_BELOW: Duration = Duration::from_secs(1);
/// The most bytes written to one peer in one turn: a value of many megabytes takes many turns.
const WRITE_BUDGET: usize = 256 << 10;
/// What a peer may send over a connection that this node opened: hello and reject.
const READ_BUDGET: usize = 64 << 10;

/// The connection to one peer.
struct Link {
    peer: ReplicaId,
    address: PeerAddress,
    /// What it stands for and was not tried yet in this round.
    untried: VecDeque<SocketAddr>,
    /// The one that is tried or connected.
    tried: Option<SocketAddr>,
    /// Whether every address of this round refused the connection.
    refused: bool,
    state: State,
    backoff: Duration,
    /// Connections are lost as soon as they are opened.
    flaps: bool,
    /// Why it is not connected.
    trouble: Option<String>,
    said: Said,
    /// Messages dropped since the queue was last empty.
    dropped: u64,
    /// What goes in pieces, behind whatever is short.
    long: LongFrames,
}

enum State {
    /// To be opened at this instant.
    Waiting(Instant),
    /// Its name is being looked up; at this instant that takes long.
    Finding(Option<Instant>),
    /// Being opened; given up at this instant.
    Opening(Stream, Instant),
    /// Opened, and the hello sent; given up at this instant.
    Greeting(Stream, Instant),
    /// Answered, at this instant.
    Up(Stream, Instant),
}

/// All links of a node.
pub(crate) struct Links {
    links: Vec<Link>,
    greeter: Greeter,
    /// Where threads that look names up tell what they found.
    inbox: Arc<Inbox<Event>>,
    handshake_timeout: Duration,
    queue_bytes_max: usize,
    prng: Prng,
}

impl Links {
    pub(crate) fn new(
        greeter: Greeter,
        addresses: &[PeerAddress],
        inbox: Arc<Inbox<Event>>,
        handshake_timeout: Duration,
        queue_bytes_max: usize,
        now: Instant,
        prng: Prng,
    ) -> Self {
        let replicas = greeter.configuration.replicas.iter().copied();
        let links = replicas
            .zip(addresses.iter().cloned())
            .filter(|(peer, _)| *peer != greeter.me)
            .map(|(peer, address)| Link {
                peer,
                address,
                untried: VecDeque::new(),
                tried: None,
                refused: false,
                state: State::Waiting(now),
                backoff: BACKOFF_MIN,
                flaps: false,
                trouble: None,
                said: Said::default(),
                dropped: 0,
                long: LongFrames::default(),
            })
            .collect();
        Self { links, greeter, inbox, handshake_timeout, queue_bytes_max, prng }
    }

    /// Why a peer is not reached, for those that are not.
    pub(crate) fn complaints(&self) -> impl Iterator<Item = (ReplicaId, &str)> + '_ {
        let down = self.links.iter().filter(|link| !matches!(link.state, State::Up(..)));
        down.map(|link| (link.peer, link.trouble.as_deref().unwrap_or("not connected yet")))
    }

    /// Queues a message; drops it where the peer is not reached or too far behind.
    pub(crate) fn send(&mut self, to: ReplicaId, message: &Message) {
        let max = self.queue_bytes_max;
        let epoch = self.greeter.me.epoch.counter;
        let Some(link) = self.links.iter_mut().find(|link| link.peer == to) else { return };
        let State::Up(stream, _) = &mut link.state else { return };
        let (kind, group) = (message.kind(), GroupId::FIRST);
        let waits =
            if message.weight() < PIECE_LEN_MAX { stream.output.len() } else { link.long.len() };
        if waits > max {
            if link.dropped == 0 {
                tracing::warn!("replica {to} takes nothing: messages to it are dropped");
            }
            link.dropped += 1;
            return;
        }
        link.dropped = 0;
        let mut body = Rope::default();
        if message.weight() < PIECE_LEN_MAX {
            let tail = stream.output.tail();
            let start = tail.len();
            frame::encode(tail, kind, group, epoch, |body| message.encode(body));
            let begin = start + FRAME_HEAD_LEN;
            if tail.len() - begin <= PIECE_LEN_MAX {
                return;
            }
            // Much about little.
            body.put(&tail[begin..]);
            tail.truncate(start);
        } else {
            message.encode(&mut body);
        }
        link.long.push(kind, group, epoch, body);
    }

    /// Queues a heartbeat.
    pub(crate) fn heartbeat(&mut self, to: ReplicaId) {
        let epoch = self.greeter.me.epoch.counter;
        let max = self.queue_bytes_max;
        let Some(link) = self.links.iter_mut().find(|link| link.peer == to) else { return };
        if let State::Up(stream, _) = &mut link.state
            && stream.output.len() <= max
        {
            stream.frame(HEARTBEAT, GroupId::NODE, epoch, |_| {});
        }
    }

    /// The peer has just connected to this node, so it can be reached by now.
    pub(crate) fn nudge(&mut self, peer: ReplicaId, now: Instant) {
        let Some(link) = self.links.iter_mut().find(|link| link.peer == peer) else { return };
        if let State::Waiting(at) = &mut link.state
            && !link.flaps
        {
            *at = now.min(*at);
        }
    }

    /// When something is to be done without an event.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = self.links.iter().filter_map(|link| match &link.state {
            State::Waiting(at) | State::Opening(_, at) | State::Greeting(_, at) => Some(*at),
            State::Finding(at) => *at,
            State::Up(..) => None,
        });
        due.min()
    }

    /// Opens what is due, and gives up what takes too long.
    pub(crate) fn deadlines(&mut self, registry: &Registry, machines: &mut Machines) {
        let now = machines.now.monotonic;
        for index in 0..self.links.len() {
            match &self.links[index].state {
                State::Waiting(at) if *at <= now => self.dial(index, registry, machines),
                State::Finding(Some(at)) if *at <= now => {
                    self.links[index].state = State::Finding(None);
                    self.links[index]
                        .complain(now, "its name is being looked up, and that takes long");
                }
                State::Opening(_, at) | State::Greeting(_, at) if *at <= now => {
                    self.lose(index, "it does not answer", machines);
                }
                _ => {}
            }
        }
    }

    /// Goes on with a round of dialling, or begins one by looking the peer's name up.
    fn dial(&mut self, index: usize, registry: &Registry, machines: &mut Machines) {
        let now = machines.now.monotonic;
        let link = &mut self.links[index];
        let next = link.untried.pop_front().or_else(|| {
            link.refused = true;
            link.address.socket()
        });
        if let Some(address) = next {
            return self.open(index, address, registry, machines);
        }
        link.state = State::Finding(Some(now.after(self.handshake_timeout)));
        let (peer, address, inbox) = (link.peer, link.address.clone(), Arc::clone(&self.inbox));
        let thread = thread::Builder::new().name("name".into());
        // Nobody waits for its end: where no name server answers, that takes longer than a stop may.
        let spawned = thread.spawn(move || {
            let addresses = address.look_up();
            inbox.push(Event::Found { peer, addresses }, 0);
        });
        if let Err(error) = spawned {
            self.lose(index, &format!("no thread could look its name up: {error}"), machines);
        }
    }

    /// The name of a peer's host was looked up.
    pub(crate) fn found(
        &mut self,
        peer: ReplicaId,
        addresses: Result<Vec<SocketAddr>, String>,
        machines: &mut Machines,
    ) {
        let Some(index) = self.links.iter().position(|link| link.peer == peer) else { return };
        let link = &mut self.links[index];
        let State::Finding(_) = link.state else { return };
        match addresses {
            Ok(addresses) => {
                link.untried = addresses.into();
                link.state = State::Waiting(machines.now.monotonic);
            }
            Err(why) => self.lose(index, &why, machines),
        }
    }

    fn open(
        &mut self,
        index: usize,
        address: SocketAddr,
        registry: &Registry,
        machines: &mut Machines,
    ) {
        let link = &mut self.links[index];
        link.tried = Some(address);
        let token = Token(LINK_TOKEN_FIRST + usize::from(link.peer.index));
        let opened = TcpStream::connect(address).and_then(|mut socket| {
            registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
            system::tend_peer(&socket);
            Ok(socket)
        });
        match opened {
            Ok(socket) => {
                let mut stream = Stream::new(socket);
                stream.writable = false;
                let until = machines.now.monotonic.after(self.handshake_timeout);
                link.state = State::Opening(stream, until);
            }
            Err(error) => self.failed(index, &error, machines),
        }
    }

    /// An event on the link with this token.
    pub(crate) fn event(&mut self, event: &Readiness, machines: &mut Machines) {
        let peer = event.token().0 - LINK_TOKEN_FIRST;
        let Some(index) = self.links.iter().position(|link| usize::from(link.peer.index) == peer)
        else {
            return;
        };
        let (State::Opening(stream, _) | State::Greeting(stream, _) | State::Up(stream, _)) =
            &mut self.links[index].state
        else {
            return;
        };
        stream.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        stream.writable |= event.is_writable();
        stream.ending |= event.is_read_closed();
        if let State::Opening(..) = &self.links[index].state {
            self.opened(index, machines);
        }
        self.read(index, machines);
    }

    /// The system has something to say about a connection being opened.
    fn opened(&mut self, index: usize, machines: &mut Machines) {
        let State::Opening(stream, _) = &self.links[index].state else { return };
        let result = match stream.socket.take_error() {
            Ok(None) => stream.socket.peer_addr().and_then(|_| stream.socket.set_nodelay(true)),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match result {
            Ok(()) => {}
            // Not opened yet.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return,
            Err(error) => return self.failed(index, &error, machines),
        }
        let link = &mut self.links[index];
        let State::Opening(mut stream, until) =
            std::mem::replace(&mut link.state, State::Waiting(machines.now.monotonic))
        else {
            return;
        };
        let hello = self.greeter.hello();
        stream.frame(HELLO, GroupId::NODE, hello.replica.epoch.counter, |body| hello.encode(body));
        link.state = State::Greeting(stream, until);
    }

    fn read(&mut self, index: usize, machines: &mut Machines) {
        let mut scratch = [0; 4096];
        loop {
            let (State::Greeting(stream, _) | State::Up(stream, _)) = &mut self.links[index].state
            else {
                return;
            };
            if !stream.readable {
                return;
            }
            let filled = match stream.fill(&mut scratch, READ_BUDGET) {
                Ok(filled) => filled,
                Err(error) => return self.failed(index, &error, machines),
            };
            loop {
                let (State::Greeting(stream, _) | State::Up(stream, _)) =
                    &mut self.links[index].state
                else {
                    return;
                };
                match stream.next_frame(HELLO_LEN_MAX) {
                    Ok(Some(frame)) => self.frame(index, frame, machines),
                    Ok(None) => break,
                    Err(error) => return self.lose(index, &error.to_string(), machines),
                }
            }
            if let Filled::End(_) = filled {
                return self.lose(index, "it closed the connection", machines);
            }
        }
    }

    fn frame(&mut self, index: usize, frame: Frame, machines: &mut Machines) {
        match frame.kind {
            HELLO => match Hello::decode(frame.body) {
                Ok(hello) => self.answered(index, &hello, machines),
                Err(error) => self.lose(index, &format!("its hello is bad: {error}"), machines),
            },
            REJECT => {
                let why = match Reject::decode(frame.body) {
                    Ok(reject) => format!("it refuses this replica: {}", reject.sentence),
                    Err(error) => format!("it refuses this replica, and how is unclear: {error}"),
                };
                self.refused_for_cause(index, &why, machines);
            }
            kind => self.lose(index, &format!("it sent a frame of kind {kind} here"), machines),
        }
    }

    fn answered(&mut self, index: usize, hello: &Hello, machines: &mut Machines) {
        let link = &mut self.links[index];
        if let Err(reject) = self.greeter.accept_answer(hello, link.peer) {
            let why = format!("this replica refuses it: {}", reject.sentence);
            return self.refused_for_cause(index, &why, machines);
        }
        let waiting = State::Waiting(machines.now.monotonic);
        link.state = match std::mem::replace(&mut link.state, waiting) {
            State::Greeting(stream, _) => State::Up(stream, machines.now.monotonic),
            other => other,
        };
        link.untried.clear();
        link.trouble = None;
        if !link.flaps {
            link.backoff = BACKOFF_MIN;
            link.said.forget();
        }
        if link.said.is_news(machines.now.monotonic, "connected") {
            tracing::info!("connected to replica {} at {}", link.peer, link.place());
        }
        machines.link(link.peer, true);
    }

    /// Refused by the other side or by this one: asking again soon will not help.
    fn refused_for_cause(&mut self, index: usize, why: &str, machines: &mut Machines) {
        let link = &mut self.links[index];
        link.backoff = BACKOFF_MAX;
        self.lose(index, why, machines);
        let link = &mut self.links[index];
        if let State::Waiting(at) = &mut link.state
            && link.untried.is_empty()
        {
            *at = machines.now.monotonic.after(BACKOFF_MAX);
        }
    }

    fn failed(&mut self, index: usize, error: &io::Error, machines: &mut Machines) {
        let link = &mut self.links[index];
        let was_opening = !matches!(link.state, State::Up(..));
        // A name that stands for several addresses may be an old one in part.
        let refused =
            link.refused && was_opening && error.kind() == io::ErrorKind::ConnectionRefused;
        self.lose(index, &error.to_string(), machines);
        let link = &mut self.links[index];
        link.refused = refused;
        if refused && link.untried.is_empty() {
            machines.detect(detect::Input::Refused { peer: link.peer });
        }
    }

    /// Drops the connection and says why, once; opens it again at once if it had been up for a while,
    /// or if there is another address to try.
    fn lose(&mut self, index: usize, why: &str, machines: &mut Machines) {
        let now = machines.now.monotonic;
        let link = &mut self.links[index];
        link.complain(now, why);
        link.long.clear();
        link.refused = false;
        let at = match std::mem::replace(&mut link.state, State::Waiting(now)) {
            State::Up(_, since) if now.since(since) >= FLAPS_BELOW => {
                machines.link(link.peer, false);
                (link.backoff, link.flaps) = (BACKOFF_MIN, false);
                now
            }
            state => {
                if let State::Up(..) = state {
                    machines.link(link.peer, false);
                    link.flaps = true;
                }
                let nanos = mainstay_model::time::nanos(link.backoff);
                let jittered = self.prng.between(nanos / 2, nanos);
                if link.untried.is_empty() {
                    link.backoff = (link.backoff * 2).min(BACKOFF_MAX);
                    now.after(Duration::from_nanos(jittered))
                } else {
                    now
                }
            }
        };
        link.state = State::Waiting(at);
    }

    /// Writes what is queued, as far as it is this turn's.
    pub(crate) fn flush(&mut self, machines: &mut Machines) {
        for index in 0..self.links.len() {
            match self.links[index].flush() {
                Ok(None) => {}
                Ok(Some(kind)) => {
                    let peer = self.links[index].peer;
                    machines.step(Input::Passing { peer, coming: false, kind });
                }
                Err(error) => self.failed(index, &error, machines),
            }
        }
    }

    /// Whether there is more to write than the last turn had time for.
    pub(crate) fn has_more(&self) -> bool {
        self.links.iter().any(|link| match &link.state {
            State::Up(stream, _) => stream.writable && link.long.len() > 0,
            _ => false,
        })
    }

    /// Whether everything queued for reachable peers is written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.links.iter().all(|link| match &link.state {
            State::Up(stream, _) => stream.output.len() + link.long.len() == 0,
            _ => true,
        })
    }
}

impl Link {
    /// Where the peer is, as it is addressed and as it was found.
    fn place(&self) -> String {
        match (&self.address, self.tried) {
            (PeerAddress::Name { .. }, Some(tried)) => format!("{} ({tried})", self.address),
            _ => self.address.to_string(),
        }
    }

    /// Notes why the peer is not reached, and says so.
    fn complain(&mut self, now: Instant, why: &str) {
        let place = self.place();
        if self.said.is_news(now, &format!("{place}: {why}")) {
            tracing::warn!("replica {} at {place} is not reached: {why}", self.peer);
        }
        self.trouble = Some(why.to_owned());
    }

    /// Writes what is short, then pieces of what is long, as far as the system takes them and the
    /// budget of a turn goes. Returns whether pieces left.
    fn flush(&mut self) -> io::Result<Option<u16>> {
        let (State::Greeting(stream, _) | State::Up(stream, _)) = &mut self.state else {
            return Ok(None);
        };
        let (mut written, mut passed) = (0, None);
        loop {
            written += stream.flush(usize::MAX)?;
            let goes_on = stream.output.len() == 0 && written < WRITE_BUDGET;
            if !goes_on {
                return Ok(passed);
            }
            let Some(kind) = self.long.cut(&mut stream.output) else { return Ok(passed) };
            passed = Some(kind);
        }
    }
}
