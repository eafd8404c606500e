//! The task that gives the machine its socket and its clock.

use std::collections::HashMap;
use std::future::Future as _;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use mainstay_model::{Instant, Token};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{Caller, NewAsk, Share};
use crate::machine::{Effect, Kind, Machine};
use crate::policy::Disagreements;

/// How many bytes are read at once.
const READ_LEN: usize = 64 << 10;
/// How long the end of the session is waited for when the client ends.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// How many asks are taken before the machine's output is written.
const ASKS_AT_ONCE: usize = 256;

/// The connection, or the attempt to make one.
enum Socket {
    None,
    Connecting(JoinHandle<io::Result<TcpStream>>),
    Open { read: OwnedReadHalf, write: OwnedWriteHalf, input: BytesMut, output: BytesMut },
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Connecting(attempt) = self {
            attempt.abort();
        }
    }
}

/// What can happen to a socket.
enum Event {
    Connected(TcpStream),
    /// So many bytes were added to the input.
    Read,
    /// So many bytes of the output were taken.
    Wrote(usize),
    Closed(String),
}

impl Socket {
    fn connecting(address: &str) -> Self {
        let address = address.to_owned();
        Self::Connecting(tokio::spawn(async move { TcpStream::connect(address).await }))
    }

    fn opened(stream: TcpStream) -> io::Result<Self> {
        // Without it a small frame may wait for the answer to the one before.
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        Ok(Self::Open { read, write, input: BytesMut::new(), output: BytesMut::new() })
    }

    fn send(&mut self, bytes: &[u8]) {
        if let Self::Open { output, .. } = self {
            output.extend_from_slice(bytes);
        }
    }

    /// Waits for the next event; for ever, where there is no connection. Nothing is lost when it is
    /// dropped before.
    async fn event(&mut self) -> Event {
        match self {
            Self::None => std::future::pending().await,
            Self::Connecting(attempt) => match attempt.await {
                Ok(Ok(stream)) => Event::Connected(stream),
                Ok(Err(error)) => Event::Closed(error.to_string()),
                Err(error) => Event::Closed(error.to_string()),
            },
            Self::Open { read, write, input, output } => {
                if input.capacity() - input.len() < READ_LEN / 2 {
                    input.reserve(READ_LEN);
                }
                tokio::select! {
                    result = read.read_buf(input) => match result {
                        Ok(0) => Event::Closed("it closed the connection".to_owned()),
                        Ok(_) => Event::Read,
                        Err(error) => Event::Closed(error.to_string()),
                    },
                    result = write.write(output), if !output.is_empty() => match result {
                        Ok(len) => Event::Wrote(len),
                        Err(error) => Event::Closed(error.to_string()),
                    },
                }
            }
        }
    }
}

/// Waits for the next event of any of them, of which the one at `first` is looked at first.
async fn next_event(sockets: &mut [Socket], first: usize) -> (usize, Event) {
    std::future::poll_fn(|context| {
        for turn in 0..sockets.len() {
            let position = (first + turn) % sockets.len();
            if let Poll::Ready(event) = pin!(sockets[position].event()).poll(context) {
                return Poll::Ready((position, event));
            }
        }
        Poll::Pending
    })
    .await
}

/// Runs until every handle is gone and everything has its outcome; then ends the session, so that it takes no
/// room at the replicas.
pub(crate) async fn drive(
    machine: Machine,
    addresses: Vec<String>,
    mut asks: UnboundedReceiver<NewAsk>,
    exposed: watch::Sender<Disagreements>,
) {
    let mut driver = Driver {
        watchers: (0..machine.watchers_len()).map(|_| Socket::None).collect(),
        exposed,
        first: 0,
        machine,
        addresses,
        socket: Socket::None,
        start: tokio::time::Instant::now(),
        last_token: 0,
        callers: HashMap::new(),
    };
    let mut open = true;
    while open || !driver.machine.is_idle() {
        let due = driver.machine.deadline().map(|due| driver.start + Duration::from_nanos(due.0));
        let mut effects = Vec::new();
        tokio::select! {
            ask = asks.recv(), if open => match ask {
                None => open = false,
                Some(ask) => {
                    driver.take(ask, &mut effects);
                    for _ in 1..ASKS_AT_ONCE {
                        match asks.try_recv() {
                            Ok(ask) => driver.take(ask, &mut effects),
                            Err(_) => break,
                        }
                    }
                }
            },
            event = driver.socket.event() => driver.on_event(event, &mut effects),
            (position, event) = next_event(&mut driver.watchers, driver.first) => {
                driver.first = position + 1;
                driver.on_watcher_event(position, event, &mut effects);
            }
            () = tokio::time::sleep_until(due.unwrap_or(driver.start)), if due.is_some() => {
                let now = driver.now();
                driver.machine.on_deadline(now, &mut effects);
            }
        }
        driver.carry_out(effects);
    }
    if driver.machine.end() {
        driver.carry_out(Vec::new());
        // Nobody waits for it: where it does not come, the session falls idle.
        let _ = tokio::time::timeout(FAREWELL_MAX, driver.farewell()).await;
    }
}

struct Driver {
    machine: Machine,
    addresses: Vec<String>,
    socket: Socket,
    /// The connections of watchers, by the position of their address.
    watchers: Vec<Socket>,
    /// Whose turn it is among them.
    first: usize,
    exposed: watch::Sender<Disagreements>,
    start: tokio::time::Instant,
    last_token: u64,
    callers: HashMap<Token, (Caller, Share)>,
}

impl Driver {
    fn now(&self) -> Instant {
        Instant::default().after(self.start.elapsed())
    }

    fn take(&mut self, ask: NewAsk, effects: &mut Vec<Effect>) {
        self.last_token += 1;
        let (token, now) = (Token(self.last_token), self.now());
        let kind = match ask.caller {
            Caller::Request(_) => Kind::Request,
            Caller::Query(_) => Kind::Query,
            Caller::QueryStale(_) => Kind::QueryStale,
        };
        self.callers.insert(token, (ask.caller, ask.share));
        self.machine.ask(now, token, kind, ask.body, ask.timeout, effects);
    }

    fn on_event(&mut self, event: Event, effects: &mut Vec<Effect>) {
        let now = self.now();
        match (event, &mut self.socket) {
            (Event::Connected(stream), _) => match Socket::opened(stream) {
                Ok(socket) => {
                    self.socket = socket;
                    self.machine.on_connected(now);
                }
                Err(error) => self.close(now, &error.to_string(), effects),
            },
            (Event::Read, Socket::Open { input, .. }) => {
                self.machine.on_bytes(now, input, effects);
            }
            (Event::Wrote(len), Socket::Open { output, .. }) => output.advance(len),
            (Event::Closed(how), _) => self.close(now, &how, effects),
            // Reading and writing need an open socket.
            (Event::Read | Event::Wrote(_), _) => {}
        }
    }

    async fn farewell(&mut self) {
        while !self.machine.has_ended() {
            let event = self.socket.event().await;
            let mut effects = Vec::new();
            self.on_event(event, &mut effects);
            self.carry_out(effects);
        }
    }

    fn on_watcher_event(&mut self, position: usize, event: Event, effects: &mut Vec<Effect>) {
        let now = self.now();
        match (event, &mut self.watchers[position]) {
            (Event::Connected(stream), socket) => match Socket::opened(stream) {
                Ok(opened) => {
                    *socket = opened;
                    self.machine.on_watcher_connected(position);
                }
                Err(_) => {
                    *socket = Socket::None;
                    self.machine.on_watcher_closed(now, position, effects);
                }
            },
            (Event::Read, Socket::Open { input, .. }) => {
                self.machine.on_watcher_bytes(now, position, input, effects);
            }
            (Event::Wrote(len), Socket::Open { output, .. }) => output.advance(len),
            (Event::Closed(_), socket) => {
                *socket = Socket::None;
                self.machine.on_watcher_closed(now, position, effects);
            }
            // Reading and writing need an open socket.
            (Event::Read | Event::Wrote(_), _) => {}
        }
    }

    fn close(&mut self, now: Instant, how: &str, effects: &mut Vec<Effect>) {
        self.socket = Socket::None;
        self.machine.on_closed(now, how, effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Connect(position) => {
                    self.socket = Socket::connecting(&self.addresses[position]);
                }
                Effect::Watch(position) => {
                    self.watchers[position] = Socket::connecting(&self.addresses[position]);
                }
                Effect::Unwatch(position) => self.watchers[position] = Socket::None,
                Effect::Exposed(disagreement) => {
                    self.exposed.send_modify(|exposed| exposed.add(disagreement));
                }
                Effect::Unchecked => self.exposed.send_modify(|exposed| exposed.unchecked += 1),
                Effect::Disconnect => self.socket = Socket::None,
                Effect::Finished(token, outcome) => {
                    if let Some((Caller::Request(caller), _)) = self.callers.remove(&token) {
                        // Who dropped the future does not want to know.
                        let _ = caller.send(outcome);
                    }
                }
                Effect::Answered(token, answer) => match self.callers.remove(&token) {
                    Some((Caller::Query(caller), _)) => {
                        let _ = caller.send(answer);
                    }
                    Some((Caller::QueryStale(caller), _)) => {
                        if let Err(trouble) = answer {
                            let _ = caller.send(Err(trouble));
                        }
                    }
                    _ => {}
                },
                Effect::AnsweredStale(token, answer) => {
                    if let Some((Caller::QueryStale(caller), _)) = self.callers.remove(&token) {
                        let _ = caller.send(Ok(answer));
                    }
                }
            }
        }
        self.socket.send(&self.machine.take_output());
        for (position, socket) in self.watchers.iter_mut().enumerate() {
            socket.send(&self.machine.take_watcher_output(position));
        }
    }
}
