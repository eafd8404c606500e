//! The connections this node opens: one to each peer, for what it has to say to it. What a peer has
//! to say comes over the connection that the peer opened.
//!
//! A lost connection is opened again at once, then after 5 ms, doubling up to half a second. What is
//! queued on it is lost with it: no message is trusted to arrive. A host that refuses the connection
//! is evidence that the process there has ended, which the failure detector is told.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mainstay_consensus::Message;
use mainstay_detect as detect;
use mainstay_model::frame::{self, Frame};
use mainstay_model::hello::{HELLO, HELLO_LEN_MAX, Hello, REJECT, Reject};
use mainstay_model::{GroupId, Instant, Prng, ReplicaId};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::greet::Greeter;
use crate::machines::Machines;
use crate::stream::{Filled, Stream};
use crate::system;
use crate::wire::HEARTBEAT;

/// Tokens of links: this plus the peer's index.
pub(crate) const LINK_TOKEN_FIRST: usize = 16;

const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// What a peer may send over a connection that this node opened: hello and reject.
const READ_BUDGET: usize = 64 << 10;

/// The connection to one peer.
struct Link {
    peer: ReplicaId,
    address: SocketAddr,
    state: State,
    backoff: Duration,
    /// The last reason for not being connected that was logged: each is said once until it changes.
    said: Option<String>,
    /// Messages dropped since the queue was last empty.
    dropped: u64,
}

enum State {
    /// To be opened at this instant.
    Waiting(Instant),
    /// Being opened; given up at this instant.
    Opening(Stream, Instant),
    /// Opened, and the hello sent; given up at this instant.
    Greeting(Stream, Instant),
    Up(Stream),
}

/// All links of a node.
pub(crate) struct Links {
    links: Vec<Link>,
    greeter: Greeter,
    handshake_timeout: Duration,
    queue_bytes_max: usize,
    prng: Prng,
    /// The last message that went to one peer, encoded: most go to all of them.
    shared: Option<(Message, bytes::Bytes)>,
}

impl Links {
    pub(crate) fn new(
        greeter: Greeter,
        addresses: &[SocketAddr],
        handshake_timeout: Duration,
        queue_bytes_max: usize,
        now: Instant,
        prng: Prng,
    ) -> Self {
        let replicas = greeter.configuration.replicas.iter().copied();
        let links = replicas
            .zip(addresses.iter().copied())
            .filter(|(peer, _)| *peer != greeter.me)
            .map(|(peer, address)| Link {
                peer,
                address,
                state: State::Waiting(now),
                backoff: BACKOFF_MIN,
                said: None,
                dropped: 0,
            })
            .collect();
        Self { links, greeter, handshake_timeout, queue_bytes_max, prng, shared: None }
    }

    /// Why a peer is not reached, for those that are not.
    pub(crate) fn complaints(&self) -> impl Iterator<Item = (ReplicaId, &str)> + '_ {
        let down = self.links.iter().filter(|link| !matches!(link.state, State::Up(_)));
        down.map(|link| (link.peer, link.said.as_deref().unwrap_or("not connected yet")))
    }

    /// Queues a message; drops it where the peer is not reached or too far behind.
    pub(crate) fn send(&mut self, to: ReplicaId, message: &Message) {
        let max = self.queue_bytes_max;
        let epoch = self.greeter.me.epoch.counter;
        let Some(link) = self.links.iter_mut().find(|link| link.peer == to) else { return };
        let State::Up(stream) = &mut link.state else { return };
        if stream.output.len() > max {
            if link.dropped == 0 {
                tracing::warn!("replica {to} takes nothing: messages to it are dropped");
            }
            link.dropped += 1;
            return;
        }
        link.dropped = 0;
        let encode = |out: &mut Vec<u8>| {
            frame::encode(out, message.kind(), GroupId::FIRST, epoch, |body| message.encode(body));
        };
        if !is_bulky(message) {
            encode(stream.output.tail());
            return;
        }
        match &self.shared {
            Some((last, bytes)) if is_same(last, message) => stream.output.push(bytes),
            _ => {
                let mut bytes = Vec::new();
                encode(&mut bytes);
                let bytes = bytes::Bytes::from(bytes);
                stream.output.push(&bytes);
                self.shared = Some((message.clone(), bytes));
            }
        }
    }

    /// Queues a heartbeat.
    pub(crate) fn heartbeat(&mut self, to: ReplicaId) {
        let epoch = self.greeter.me.epoch.counter;
        let max = self.queue_bytes_max;
        let Some(link) = self.links.iter_mut().find(|link| link.peer == to) else { return };
        if let State::Up(stream) = &mut link.state
            && stream.output.len() <= max
        {
            stream.frame(HEARTBEAT, GroupId::NODE, epoch, |_| {});
        }
    }

    /// The peer has just connected to this node, so it can be reached by now.
    pub(crate) fn nudge(&mut self, peer: ReplicaId, now: Instant) {
        let Some(link) = self.links.iter_mut().find(|link| link.peer == peer) else { return };
        if let State::Waiting(at) = &mut link.state {
            *at = now.min(*at);
        }
    }

    /// When something is to be done without an event.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let due = self.links.iter().filter_map(|link| match &link.state {
            State::Waiting(at) | State::Opening(_, at) | State::Greeting(_, at) => Some(*at),
            State::Up(_) => None,
        });
        due.min()
    }

    /// Opens what is due, and gives up what takes too long.
    pub(crate) fn deadlines(&mut self, registry: &Registry, machines: &mut Machines) {
        let now = machines.now.monotonic;
        for index in 0..self.links.len() {
            match &self.links[index].state {
                State::Waiting(at) if *at <= now => self.open(index, registry, machines),
                State::Opening(_, at) | State::Greeting(_, at) if *at <= now => {
                    self.lose(index, "it does not answer", machines);
                }
                _ => {}
            }
        }
    }

    fn open(&mut self, index: usize, registry: &Registry, machines: &mut Machines) {
        let link = &mut self.links[index];
        let token = Token(LINK_TOKEN_FIRST + usize::from(link.peer.index));
        let opened = TcpStream::connect(link.address).and_then(|mut socket| {
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
    pub(crate) fn event(&mut self, event: &Event, machines: &mut Machines) {
        let peer = event.token().0 - LINK_TOKEN_FIRST;
        let Some(index) = self.links.iter().position(|link| usize::from(link.peer.index) == peer)
        else {
            return;
        };
        let (State::Opening(stream, _) | State::Greeting(stream, _) | State::Up(stream)) =
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
            let (State::Greeting(stream, _) | State::Up(stream)) = &mut self.links[index].state
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
                let (State::Greeting(stream, _) | State::Up(stream)) = &mut self.links[index].state
                else {
                    return;
                };
                match frame::decode(&mut stream.input, HELLO_LEN_MAX) {
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
            State::Greeting(stream, _) => State::Up(stream),
            other => other,
        };
        link.backoff = BACKOFF_MIN;
        link.said = None;
        tracing::info!("connected to replica {} at {}", link.peer, link.address);
        machines.link(link.peer, true);
    }

    /// Refused by the other side or by this one: asking again soon will not help.
    fn refused_for_cause(&mut self, index: usize, why: &str, machines: &mut Machines) {
        self.links[index].backoff = BACKOFF_MAX;
        self.lose(index, why, machines);
        if let State::Waiting(at) = &mut self.links[index].state {
            *at = machines.now.monotonic.after(BACKOFF_MAX);
        }
    }

    fn failed(&mut self, index: usize, error: &io::Error, machines: &mut Machines) {
        let was_opening = !matches!(self.links[index].state, State::Up(_));
        self.lose(index, &error.to_string(), machines);
        if was_opening && error.kind() == io::ErrorKind::ConnectionRefused {
            machines.detect(detect::Input::Refused { peer: self.links[index].peer });
        }
    }

    /// Drops the connection and says why, once; opens it again at once if it had been up.
    fn lose(&mut self, index: usize, why: &str, machines: &mut Machines) {
        let now = machines.now.monotonic;
        let link = &mut self.links[index];
        if link.said.as_deref() != Some(why) {
            tracing::warn!("replica {} at {} is not reached: {why}", link.peer, link.address);
            link.said = Some(why.to_owned());
        }
        let at = match std::mem::replace(&mut link.state, State::Waiting(now)) {
            State::Up(_) => {
                machines.link(link.peer, false);
                now
            }
            _ => {
                let nanos = mainstay_model::time::nanos(link.backoff);
                let jittered = self.prng.between(nanos / 2, nanos);
                link.backoff = (link.backoff * 2).min(BACKOFF_MAX);
                now.after(Duration::from_nanos(jittered))
            }
        };
        link.state = State::Waiting(at);
    }

    /// Writes what is queued.
    pub(crate) fn flush(&mut self, machines: &mut Machines) {
        self.shared = None;
        for index in 0..self.links.len() {
            if let State::Greeting(stream, _) | State::Up(stream) = &mut self.links[index].state
                && let Err(error) = stream.flush()
            {
                self.failed(index, &error, machines);
            }
        }
    }

    /// Whether everything queued for reachable peers is written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.links.iter().all(|link| match &link.state {
            State::Up(stream) => stream.output.len() == 0,
            _ => true,
        })
    }
}

/// Whether a message is long enough to be encoded once for all who get it.
fn is_bulky(message: &Message) -> bool {
    use mainstay_consensus::Body;
    match &message.body {
        Body::Accept(accept) => accept.value.len() >= 16 << 10,
        _ => false,
    }
}

/// Whether two bulky messages are the same, told without comparing their values byte by byte.
fn is_same(one: &Message, other: &Message) -> bool {
    use mainstay_consensus::Body;
    match (&one.body, &other.body) {
        (Body::Accept(a), Body::Accept(b)) => {
            one.configuration == other.configuration
                && (a.ballot, a.slot, a.decided_upto) == (b.ballot, b.slot, b.decided_upto)
        }
        _ => false,
    }
}
