//! A replica's front: plain clients share the replica's own session, one a boot; clients with a
//! session of their own have their commands passed on.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use mainstay_check::Observation;
use mainstay_model::plant::Planted;
use mainstay_model::{Nonce, RequestNumber, SessionId, Slot, Timestamp};
use mainstay_service::client_session::SessionEvent;
use mainstay_service::{Applied, ClientSession, Command};

use crate::record::checksum;
use crate::wire::Told;
use crate::world::NodeId;

/// How many numbers of the front's session may be open, unless fewer replies are kept.
const WINDOW_MAX: usize = 16;

/// Who asked something, and under which id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    /// The client.
    pub client: NodeId,
    /// The client's own id of the request.
    pub id: u64,
}

/// A read on its way.
#[derive(Clone, Debug)]
pub struct Read {
    /// Who asked.
    pub asker: Asker,
    /// What the service is asked.
    pub body: Bytes,
    /// The session and the number that must have been applied before.
    pub after: Option<RequestNumber>,
    /// Which of the front's sessions the number belongs to.
    pub generation: u64,
    /// From which slot on it may be answered, and what it shows of time, once that is known.
    pub at: Option<(Slot, Timestamp)>,
    /// The write behind it: it is answered right before this number is carried out at the latest.
    pub before: Option<RequestNumber>,
}

#[derive(Debug, Default)]
struct Connection {
    /// The highest id taken up; a repeated frame is not.
    last_id: u64,
    /// Commands not yet handed over.
    waiting: VecDeque<(u64, bool, Bytes)>,
    /// The last number given to a write of this connection.
    last_number: Option<RequestNumber>,
}

/// The front of one process of a replica.
#[derive(Debug)]
pub struct Front {
    session: ClientSession<Planted>,
    /// Counts the sessions that this front has had.
    generation: u64,
    window: usize,
    plants: Planted,
    connections: BTreeMap<NodeId, Connection>,
    /// Who waits for which number, and the checksum of what it asked.
    writes: BTreeMap<RequestNumber, (Asker, u32)>,
    /// Clients that wait for what comes of commands of their own sessions.
    registrations: BTreeMap<u128, NodeId>,
    commands: BTreeMap<(SessionId, RequestNumber), NodeId>,
}

/// What the adapter has to do for the front.
#[derive(Debug)]
pub enum Todo {
    /// Hand a command to the machine.
    Submit(Bytes),
    /// Ask from which slot on a read may be answered.
    Read(Read),
    /// Tie the open reads of a client to the write behind them.
    Tie(NodeId, RequestNumber),
    /// Note that a client is told the reply to a request of the front's session.
    Acknowledge(Observation),
    /// Tell a client what came of its request.
    Tell(Asker, Told),
    /// Tell a client what came of a command of its own session.
    Pass(NodeId, Applied),
    /// Ask again after a while what was to be sent again.
    Retry,
}

impl Front {
    /// A front with a new session, of which so many replies are kept.
    #[must_use]
    pub fn new(nonce: Nonce, replies_max: u32, plants: Planted) -> Self {
        let window = WINDOW_MAX.min(replies_max as usize);
        Self {
            session: ClientSession::with_plants(nonce, window, 1 << 20, plants),
            generation: 0,
            window,
            plants,
            connections: BTreeMap::new(),
            writes: BTreeMap::new(),
            registrations: BTreeMap::new(),
            commands: BTreeMap::new(),
        }
    }

    /// The session's id, once it stands.
    #[must_use]
    pub const fn session(&self) -> Option<SessionId> {
        self.session.id()
    }

    /// Which of its sessions the front uses now.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// How many numbers are open.
    #[must_use]
    pub const fn open(&self) -> usize {
        self.session.open_len()
    }

    /// A plain client asks.
    pub fn on_ask(&mut self, asker: Asker, read: bool, body: Bytes, todo: &mut Vec<Todo>) {
        let connection = self.connections.entry(asker.client).or_default();
        if asker.id <= connection.last_id {
            return;
        }
        connection.last_id = asker.id;
        connection.waiting.push_back((asker.id, read, body));
        self.hand_over(todo);
    }

    /// A client's connection opened or closed: what it asked on the last one is forgotten.
    pub fn on_link(&mut self, client: NodeId) {
        self.connections.remove(&client);
        self.writes.retain(|_, (asker, _)| asker.client != client);
        self.registrations.retain(|_, waiting| *waiting != client);
        self.commands.retain(|_, waiting| *waiting != client);
    }

    /// A client with a session of its own sends a command. True if it should be handed to the
    /// machine.
    pub fn on_command(&mut self, client: NodeId, command: Bytes) -> bool {
        match Command::decode(command) {
            Ok(Command::Register { nonce }) => self.registrations.insert(nonce.0, client),
            // Who goes waits for nothing.
            Ok(Command::EndSession { .. }) => return true,
            Ok(Command::Request { session, number, .. }) => {
                self.commands.insert((session, number), client)
            }
            Ok(
                Command::TrimSessions { .. }
                | Command::SetCheckpointInterval(_)
                | Command::Begin { .. },
            )
            | Err(_) => {
                return false;
            }
        };
        true
    }

    /// Hands over what may be: a read waits for the writes before it by their number, and is answered
    /// right before the write behind it at the latest.
    fn hand_over(&mut self, todo: &mut Vec<Todo>) {
        for (&client, connection) in &mut self.connections {
            while let Some((id, read, body)) = connection.waiting.front() {
                let asker = Asker { client, id: *id };
                if *read {
                    let after = connection.last_number;
                    let body = body.clone();
                    let generation = self.generation;
                    let (at, before) = (None, None);
                    todo.push(Todo::Read(Read { asker, body, after, generation, at, before }));
                } else {
                    let Some(number) = self.session.begin(body.clone()) else { break };
                    connection.last_number = Some(number);
                    todo.push(Todo::Tie(client, number));
                    self.writes.insert(number, (asker, checksum(body)));
                }
                connection.waiting.pop_front();
            }
        }
        self.send(todo);
    }

    fn send(&mut self, todo: &mut Vec<Todo>) {
        let mut unsent = Vec::new();
        self.session.take_unsent(&mut unsent);
        todo.extend(unsent.into_iter().map(Todo::Submit));
    }

    /// Sends again whatever has no answer yet.
    pub fn send_again(&mut self, todo: &mut Vec<Todo>) {
        self.session.send_again();
        self.send(todo);
    }

    /// A command was applied here.
    pub fn on_applied(
        &mut self,
        applied: &Applied,
        nonce: impl FnOnce() -> Nonce,
        todo: &mut Vec<Todo>,
    ) {
        self.pass(applied, todo);
        match self.session.on_applied(applied) {
            Some(SessionEvent::Reply(number, reply)) => {
                if let Some((asker, checksum)) = self.writes.remove(&number) {
                    if let Some(session) = self.session.id() {
                        let told = Observation::Acknowledged { session, number, checksum };
                        todo.push(Todo::Acknowledge(told));
                    }
                    todo.push(Todo::Tell(asker, Told::Reply(reply)));
                }
                self.hand_over(todo);
            }
            Some(SessionEvent::Opened(_)) => self.hand_over(todo),
            Some(SessionEvent::SendAgain(_) | SessionEvent::Refused) => todo.push(Todo::Retry),
            Some(SessionEvent::Lost) => {
                let writes = std::mem::take(&mut self.writes);
                todo.extend(
                    writes.into_values().map(|(asker, _)| Todo::Tell(asker, Told::Unknown)),
                );
                for connection in self.connections.values_mut() {
                    connection.last_number = None;
                }
                self.generation += 1;
                self.session =
                    ClientSession::with_plants(nonce(), self.window, 1 << 20, self.plants);
                self.hand_over(todo);
            }
            None => {}
        }
    }

    fn pass(&mut self, applied: &Applied, todo: &mut Vec<Todo>) {
        let client = match applied {
            Applied::Registered { nonce, .. } | Applied::RegistrationRefused { nonce } => {
                self.registrations.remove(&nonce.0)
            }
            Applied::Replied { session, number, .. }
            | Applied::Gap { session, number, .. }
            | Applied::WindowFull { session, number }
            | Applied::UnknownSession { session, number } => {
                self.commands.remove(&(*session, *number))
            }
            Applied::Ended { .. } => None,
        };
        if let Some(client) = client {
            todo.push(Todo::Pass(client, applied.clone()));
        }
    }
}
