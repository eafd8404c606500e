//! Servers on the loopback that share one counter, as the replicas of a cluster do.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use mainstay_model::frame::{self, Frame};
use mainstay_model::hello::{HELLO, Hello, REJECT, Reject, RejectCode, Role};
use mainstay_model::{
    Batch, ClusterId, ConfigurationId, Epoch, GroupId, NoPlants, Nonce, ReplicaId, Slot, Timestamp,
};
use mainstay_service::contract::Apply;
use mainstay_service::native::{ClientMessage, PREFACE, Refusal, ReplicaMessage, Subject};
use mainstay_service::{Applier, Command, Context, Plain, SessionLimits};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// The largest body that these servers take.
pub(crate) const BODY_LEN_MAX: usize = 10_000;

/// What a server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Works,
    /// Nobody listens.
    Refuses,
    /// Connects, and no more.
    NeverAnswers,
    /// Sends these bytes and closes.
    Sends(Vec<u8>),
    Rejects(RejectCode, &'static str),
    GreetsThenSends(Vec<u8>),
    GreetsThenIsSilent,
    /// Takes requests and drops them.
    AnswersOnlyWhoLeads,
    /// Carries requests out and says nothing.
    AnswersNoRequests,
    ClosesBeforeOrdering,
    ClosesAfterOrdering,
    /// Now before, now after, now not at all.
    ClosesAtTimes,
    AlwaysRefuses,
    OnlyTheLeaderWorks,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Counter(u64);

impl Apply for Counter {
    fn apply(&mut self, _: &Context, request: &[u8], reply: &mut Vec<u8>) {
        self.0 += u64::from(request == b"add");
        reply.extend_from_slice(&self.0.to_le_bytes());
    }
}

struct State {
    applier: Applier<Plain<Counter>>,
    /// Every nonce that was registered.
    nonces: BTreeSet<Nonce>,
    slot: Slot,
    leader: u16,
    submissions: u64,
    connections: [u64; 3],
}

/// What the servers share.
#[derive(Clone)]
pub(crate) struct Cluster {
    id: ClusterId,
    state: Arc<Mutex<State>>,
    /// Counts how often every connection was to be closed.
    closing: watch::Sender<u64>,
    /// How many sessions there are.
    sessions: watch::Sender<usize>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        static CLUSTERS: AtomicU64 = AtomicU64::new(1);
        let service = Plain(Counter::default());
        let state = State {
            applier: Applier::new(service, SessionLimits::default(), NoPlants),
            nonces: BTreeSet::new(),
            slot: Slot::NONE,
            leader: 0,
            submissions: 0,
            connections: [0; 3],
        };
        let id = ClusterId(u128::from(CLUSTERS.fetch_add(1, Ordering::Relaxed)));
        Self {
            id,
            state: Arc::new(Mutex::new(state)),
            closing: watch::channel(0).0,
            sessions: watch::channel(0).0,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lead(&self, leader: u16) {
        self.state().leader = leader;
    }

    pub(crate) fn connections(&self, index: usize) -> u64 {
        self.state().connections[index]
    }

    /// Closes every connection there is.
    pub(crate) fn close_all(&self) {
        self.closing.send_modify(|times| *times += 1);
    }

    pub(crate) fn end_sessions(&self) {
        // The lock is not to be held over the loop, which takes it.
        let nonces = self.state().nonces.clone();
        for nonce in nonces {
            self.order(Command::EndSession { nonce }.encode());
        }
    }

    /// Waits until there are as many sessions.
    pub(crate) async fn until_sessions(&self, wanted: usize) {
        let mut sessions = self.sessions.subscribe();
        sessions.wait_for(|sessions| *sessions == wanted).await.expect("the cluster is there");
    }

    pub(crate) fn count(&self) -> u64 {
        let mut reply = Vec::new();
        self.state()
            .applier
            .query(Timestamp(0), b"how many", &mut reply)
            .expect("the counter does not panic");
        u64::from_le_bytes(reply.try_into().expect("the counter answers eight bytes"))
    }

    fn order(&self, command: Bytes) -> Vec<ReplicaMessage> {
        let mut state = self.state();
        if let Ok(Command::Register { nonce }) = Command::decode(command.clone()) {
            state.nonces.insert(nonce);
        }
        state.slot = state.slot.next();
        let batch = Batch { time: Timestamp(0), requests: vec![command] };
        let (slot, mut applied) = (state.slot, Vec::new());
        state.applier.apply(slot, &batch.encode(), &mut applied).expect("the batch is whole");
        self.sessions.send_replace(state.applier.sessions_len());
        applied.into_iter().map(ReplicaMessage::Outcome).collect()
    }

    /// Starts the replica with this index; its address.
    pub(crate) async fn serve(&self, index: u16, behaviour: Behaviour) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        if behaviour == Behaviour::Refuses {
            return address;
        }
        let cluster = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                cluster.state().connections[usize::from(index)] += 1;
                let (cluster, behaviour) = (cluster.clone(), behaviour.clone());
                tokio::spawn(async move {
                    let mut closing = cluster.closing.subscribe();
                    let connection = Connection { cluster, index, behaviour };
                    tokio::select! {
                        // How a connection ends is the client's affair.
                        _ = connection.serve(stream) => {}
                        _ = closing.changed() => {}
                    }
                });
            }
        });
        address
    }
}

struct Connection {
    cluster: Cluster,
    index: u16,
    behaviour: Behaviour,
}

/// What to do after a message.
enum Next {
    Say(Vec<ReplicaMessage>),
    Close,
}

impl Connection {
    async fn serve(self, mut stream: TcpStream) -> std::io::Result<()> {
        match &self.behaviour {
            Behaviour::NeverAnswers => return std::future::pending().await,
            Behaviour::Sends(bytes) => return stream.write_all(bytes).await,
            _ => {}
        }
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await?;
        assert_eq!(preface, PREFACE);
        let mut input = BytesMut::new();
        let hello = next_frame(&mut stream, &mut input).await?;
        assert_eq!(Hello::decode(hello.body).map(|hello| hello.role), Ok(Role::Client));
        let mut out = Vec::new();
        if let Behaviour::Rejects(code, sentence) = self.behaviour {
            let reject = Reject { code, sentence: sentence.to_owned() };
            frame::encode(&mut out, REJECT, GroupId::NODE, 1, |body| reject.encode(body));
            return stream.write_all(&out).await;
        }
        frame::encode(&mut out, HELLO, GroupId::NODE, 1, |body| self.hello().encode(body));
        stream.write_all(&out).await?;
        match &self.behaviour {
            Behaviour::GreetsThenSends(bytes) => return stream.write_all(bytes).await,
            Behaviour::GreetsThenIsSilent => return std::future::pending().await,
            _ => {}
        }
        loop {
            let frame = next_frame(&mut stream, &mut input).await?;
            let message = ClientMessage::decode(frame.kind, frame.body);
            match self.take(message.expect("the client speaks the protocol")) {
                Next::Close => return Ok(()),
                Next::Say(messages) => {
                    let mut out = Vec::new();
                    for message in messages {
                        frame::encode(&mut out, message.kind(), GroupId::FIRST, 1, |body| {
                            message.encode(body);
                        });
                    }
                    stream.write_all(&out).await?;
                }
            }
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            role: Role::Peer,
            cluster: self.cluster.id,
            replica: ReplicaId { index: self.index, epoch: Epoch { counter: 1, instance: 1 } },
            configuration: ConfigurationId(1),
            service_version: 1,
            ..Hello::of_client(Role::Peer, BODY_LEN_MAX as u32)
        }
    }

    fn take(&self, message: ClientMessage) -> Next {
        let leader = Some(self.cluster.state().leader);
        let subject = match message {
            ClientMessage::WhoLeads => {
                // Those that only get in the way do not send clients to where things work.
                let here =
                    !matches!(self.behaviour, Behaviour::Works | Behaviour::OnlyTheLeaderWorks);
                let leader = if here { Some(self.index) } else { leader };
                return Next::Say(vec![ReplicaMessage::Leader(leader)]);
            }
            ClientMessage::Submit { ref command } => {
                match Command::decode(command.clone()).expect("the client sends commands") {
                    Command::Register { nonce } | Command::EndSession { nonce } => {
                        Subject::Register(nonce)
                    }
                    Command::Request { session, number, .. } => Subject::Request(session, number),
                    Command::TrimSessions { .. }
                    | Command::SetCheckpointInterval(_)
                    | Command::Begin { .. } => {
                        panic!("a client does not order this")
                    }
                }
            }
            ClientMessage::Query { id, .. } | ClientMessage::QueryStale { id, .. } => {
                Subject::Query(id)
            }
            ClientMessage::Watch { .. } => panic!("these clients hear one replica"),
        };
        let refuse =
            |reason, leader| Next::Say(vec![ReplicaMessage::Refused { subject, reason, leader }]);
        match self.behaviour {
            Behaviour::AnswersOnlyWhoLeads => return Next::Say(Vec::new()),
            Behaviour::AlwaysRefuses => return refuse(Refusal::NoLeader, None),
            Behaviour::OnlyTheLeaderWorks if leader != Some(self.index) => {
                return refuse(Refusal::NotLeader, leader);
            }
            Behaviour::ClosesBeforeOrdering => return Next::Close,
            _ => {}
        }
        self.carry_out(message, subject)
    }

    fn carry_out(&self, message: ClientMessage, subject: Subject) -> Next {
        let said = match message {
            ClientMessage::Submit { command } => {
                let submissions = {
                    let mut state = self.cluster.state();
                    state.submissions += 1;
                    state.submissions
                };
                let at_times = self.behaviour == Behaviour::ClosesAtTimes;
                if at_times && submissions.is_multiple_of(97) {
                    return Next::Close;
                }
                let said = self.cluster.order(command);
                if self.behaviour == Behaviour::ClosesAfterOrdering
                    || (at_times && submissions.is_multiple_of(61))
                {
                    return Next::Close;
                }
                said
            }
            ClientMessage::Query { id, body, .. } => {
                let mut reply = Vec::new();
                let state = self.cluster.state();
                state
                    .applier
                    .query(Timestamp(0), &body, &mut reply)
                    .expect("the counter does not panic");
                vec![ReplicaMessage::Answer { id, reply: reply.into() }]
            }
            ClientMessage::WhoLeads
            | ClientMessage::Watch { .. }
            | ClientMessage::QueryStale { .. } => Vec::new(),
        };
        let request = matches!(subject, Subject::Request(..));
        let silent = self.behaviour == Behaviour::AnswersNoRequests && request;
        Next::Say(if silent { Vec::new() } else { said })
    }
}

async fn next_frame(stream: &mut TcpStream, input: &mut BytesMut) -> std::io::Result<Frame> {
    loop {
        match frame::decode(input, BODY_LEN_MAX).expect("the client sends frames") {
            Some(frame) => return Ok(frame),
            None if stream.read_buf(input).await? == 0 => {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            None => {}
        }
    }
}
