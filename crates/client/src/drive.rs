//! The task that gives the machine its socket and its clock.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use mainstay_model::{Instant, Token};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use crate::client::{Caller, NewAsk, Share};
use crate::machine::{Effect, Kind, Machine};

/// How many bytes are read at once.
const READ_LEN: usize = 64 << 10;
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

/// Runs until every handle is gone and everything has its outcome.
pub(crate) async fn drive(
    machine: Machine,
    addresses: Vec<String>,
    mut asks: UnboundedReceiver<NewAsk>,
) {
    let mut driver = Driver {
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
            () = tokio::time::sleep_until(due.unwrap_or(driver.start)), if due.is_some() => {
                let now = driver.now();
                driver.machine.on_deadline(now, &mut effects);
            }
        }
        driver.carry_out(effects);
    }
}

struct Driver {
    machine: Machine,
    addresses: Vec<String>,
    socket: Socket,
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
        };
        self.callers.insert(token, (ask.caller, ask.share));
        self.machine.ask(now, token, kind, ask.body, ask.timeout, effects);
    }

    fn on_event(&mut self, event: Event, effects: &mut Vec<Effect>) {
        let now = self.now();
        match (event, &mut self.socket) {
            (Event::Connected(stream), _) => {
                // Without it a small frame may wait for the answer to the one before.
                let stream = stream.set_nodelay(true).map(|()| stream);
                match stream {
                    Ok(stream) => {
                        let (read, write) = stream.into_split();
                        let (input, output) = (BytesMut::new(), BytesMut::new());
                        self.socket = Socket::Open { read, write, input, output };
                        self.machine.on_connected(now);
                    }
                    Err(error) => self.close(now, &error.to_string(), effects),
                }
            }
            (Event::Read, Socket::Open { input, .. }) => {
                self.machine.on_bytes(now, input, effects);
            }
            (Event::Wrote(len), Socket::Open { output, .. }) => output.advance(len),
            (Event::Closed(how), _) => self.close(now, &how, effects),
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
                    let address = self.addresses[position].clone();
                    let attempt = tokio::spawn(async move { TcpStream::connect(address).await });
                    self.socket = Socket::Connecting(attempt);
                }
                Effect::Disconnect => self.socket = Socket::None,
                Effect::Finished(token, outcome) => {
                    if let Some((Caller::Request(caller), _)) = self.callers.remove(&token) {
                        // Who dropped the future does not want to know.
                        let _ = caller.send(outcome);
                    }
                }
                Effect::Answered(token, answer) => {
                    if let Some((Caller::Query(caller), _)) = self.callers.remove(&token) {
                        let _ = caller.send(answer);
                    }
                }
            }
        }
        let out = self.machine.take_output();
        if let Socket::Open { output, .. } = &mut self.socket {
            output.extend_from_slice(&out);
        }
    }
}
