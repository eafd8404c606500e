//! Who comes while a replica reads its log: an administrator is told that it is starting, everyone else
//! to come again. To the others the replica is there, and does not count as one that does not run.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mainstay_model::GroupId;
use mainstay_model::frame;
use mainstay_model::hello::{HELLO, Hello, REJECT, Reject, RejectCode, Role};
use mainstay_service::Service;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::config::NodeConfig;
use crate::error::system_failed;
use crate::front::Front;
use crate::greet::Greeter;
use crate::sockets::Sockets;
use crate::status::{NodeStatus, next_frame};
use crate::wire::{STATUS, STATUS_ASK};
use crate::{NodeError, report};

const WAKER: Token = Token(0);
const PEERS: Token = Token(1);
const CLIENTS: Token = Token(2);
/// How long one visitor has for its question: the next one waits meanwhile.
const PATIENCE: Duration = Duration::from_millis(100);

/// Answers on both ports until it is dropped; then they are free for [`crate::run()`].
#[derive(Debug)]
pub struct Lobby {
    over: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

/// What its thread has.
struct Porter<F> {
    poll: Poll,
    over: Arc<AtomicBool>,
    peers: TcpListener,
    clients: TcpListener,
    greeter: Greeter,
    status: NodeStatus,
    front: F,
}

impl Lobby {
    /// Begins to answer, for the replica of `config`, on a thread of its own.
    ///
    /// # Errors
    /// [`NodeError::System`]: the operating system gives no thread or no descriptor.
    pub fn open<S: Service, F: Front>(
        config: &NodeConfig,
        sockets: &Sockets,
        front: F,
    ) -> Result<Self, NodeError> {
        let failed = system_failed("listening while the log is read");
        let listen = |socket: &std::net::TcpListener| socket.try_clone().map(TcpListener::from_std);
        let mut porter = Porter {
            poll: Poll::new().map_err(failed)?,
            over: Arc::default(),
            peers: listen(&sockets.peer).map_err(failed)?,
            clients: listen(&sockets.client).map_err(failed)?,
            greeter: Greeter::of::<S>(config, sockets.peer_address().port(), 0),
            status: report::starting::<S>(config, sockets),
            front,
        };
        let waker = Waker::new(porter.poll.registry(), WAKER).map_err(failed)?;
        for (port, token) in [(&mut porter.peers, PEERS), (&mut porter.clients, CLIENTS)] {
            porter.poll.registry().register(port, token, Interest::READABLE).map_err(failed)?;
        }
        let over = Arc::clone(&porter.over);
        let thread = thread::Builder::new().name("lobby".into());
        let thread = thread.spawn(move || porter.run()).map_err(failed)?;
        Ok(Self { over, waker, thread: Some(thread) })
    }
}

impl Drop for Lobby {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // Where it cannot be woken, the next visitor does it.
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            // It holds nothing that a panic of it could spoil.
            let _ = thread.join();
        }
    }
}

impl<F: Front> Porter<F> {
    fn run(mut self) {
        let mut events = Events::with_capacity(8);
        while !self.over.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, None) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
            while let Ok((visitor, _)) = self.peers.accept() {
                // What went wrong is between it and its connection.
                let _ = self.answer(visitor.into());
            }
            while let Ok((visitor, _)) = self.clients.accept() {
                let _ = self.refuse(visitor.into());
            }
        }
    }

    fn sentence(&self) -> String {
        format!("replica {} is starting: it reads its log; come again", self.greeter.me)
    }

    /// A client goes to another replica.
    fn refuse(&mut self, mut visitor: TcpStream) -> io::Result<()> {
        let mut out = Vec::new();
        self.front.refuse(RejectCode::Starting, &self.sentence(), &mut out);
        visitor.write_all(&out)
    }

    fn answer(&self, mut visitor: TcpStream) -> io::Result<()> {
        visitor.set_nonblocking(false)?;
        visitor.set_write_timeout(Some(PATIENCE))?;
        let (mut input, until) = (BytesMut::new(), Instant::now() + PATIENCE);
        let first = next_frame(&mut visitor, &mut input, until)?;
        if first.kind != HELLO {
            return Ok(());
        }
        let hello = Hello::decode(first.body).map_err(io::Error::other)?;
        let refused = match self.greeter.admit(&hello) {
            Err(reject) => Some(reject),
            Ok(()) if hello.role == Role::Admin => None,
            Ok(()) => Some(Reject { code: RejectCode::Starting, sentence: self.sentence() }),
        };
        let epoch = self.greeter.me.epoch.counter;
        let mut out = Vec::new();
        if let Some(reject) = refused {
            frame::encode(&mut out, REJECT, GroupId::NODE, epoch, |body| reject.encode(body));
            return visitor.write_all(&out);
        }
        let ours = self.greeter.hello();
        frame::encode(&mut out, HELLO, GroupId::NODE, epoch, |body| ours.encode(body));
        if next_frame(&mut visitor, &mut input, until)?.kind == STATUS_ASK {
            let status = serde_json::to_vec(&self.status).map_err(io::Error::from)?;
            frame::encode(&mut out, STATUS, GroupId::NODE, epoch, |body| {
                body.extend_from_slice(&status);
            });
        }
        visitor.write_all(&out)
    }
}
