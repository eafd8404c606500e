//! One replica's front and service without anything in between: what is ordered is carried out at
//! once.

use bytes::BytesMut;
use mainstay_kv::{RedisFront, Store};
use mainstay_model::{RequestNumber, SessionId, Slot, Timestamp};
use mainstay_node::front::{Front as _, Outcome, Parsed, View};
use mainstay_service::{Context, QueryContext, Service as _};

pub(crate) struct Server {
    front: RedisFront,
    connection: mainstay_kv::front::Connection,
    pub(crate) store: Store,
    /// Decided time.
    time: Timestamp,
    pub(crate) view: View,
    pub(crate) closed: bool,
}

/// Where clients come from.
pub(crate) fn client_address() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 50_000).into()
}

pub(crate) const fn query_context(time: Timestamp) -> QueryContext {
    QueryContext { slot: Slot::FIRST, time }
}

pub(crate) fn context(time: Timestamp) -> Context {
    Context {
        slot: Slot::FIRST,
        time,
        seed: 0,
        session: SessionId::default(),
        number: RequestNumber(1),
    }
}

impl Server {
    pub(crate) fn new() -> Self {
        let mut front = RedisFront::default();
        let connection = front.connect(7, client_address());
        let view = View {
            index: 1,
            leader: Some(2),
            uptime_s: 90_000,
            readable: true,
            clients: 3,
            clients_max: 100,
            port: 7401,
            decided: 50,
            applied: 49,
            decided_time_ms: 1_700_000_000_000,
            log_bytes: 1234,
            ..View::default()
        };
        let (store, time) = (Store::default(), Timestamp(0));
        Self { front, connection, store, time, view, closed: false }
    }

    /// Another client connects, and stays for as long as this value.
    pub(crate) fn connect_another(&mut self, id: u64) -> mainstay_kv::front::Connection {
        self.front.connect(id, client_address())
    }

    /// Decided time goes forward to this, in milliseconds.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.time = Timestamp(ms * 1_000_000);
        self.store.advance(self.time);
    }

    /// What the client gets back for these bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (mut input, mut out) = (BytesMut::from(bytes), Vec::new());
        loop {
            let mut parsed = Vec::new();
            self.front.read(&mut self.connection, &self.view, &mut input, 2, &mut parsed);
            assert!(parsed.len() <= 2);
            if parsed.is_empty() {
                return out;
            }
            for what in parsed {
                assert!(!self.closed, "nothing is read after a close");
                self.carry_out(what, &mut out);
            }
        }
    }

    fn carry_out(&mut self, what: Parsed, out: &mut Vec<u8>) {
        let mut reply = Vec::new();
        match what {
            Parsed::Write { body, shape, .. } => {
                self.store.apply(&context(self.time), &body, &mut reply);
                self.front.write(shape, Outcome::Reply(&reply), out);
            }
            Parsed::Read { body, shape } | Parsed::ReadStale { body, shape } => {
                self.store.query(&query_context(self.time), &body, &mut reply);
                self.front.write(shape, Outcome::Reply(&reply), out);
            }
            Parsed::Answer(bytes) => out.extend_from_slice(&bytes),
            Parsed::Close(bytes) => {
                out.extend_from_slice(&bytes);
                self.closed = true;
            }
        }
    }

    /// The same for an inline command, as text with escapes.
    pub(crate) fn line(&mut self, line: &str) -> String {
        let answer = self.feed(format!("{line}\r\n").as_bytes());
        String::from_utf8_lossy(&answer).replace("\r\n", "\u{b7}")
    }
}
