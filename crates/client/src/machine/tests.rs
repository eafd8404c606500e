//! The machine against replicas that exist in virtual time only: frames are lost with their
//! connections, commands are lost, delayed, ordered twice and refused, replicas name each other as
//! leaders, sessions are ended. What the callers are told must be true.

mod journal;
mod scripts;

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use mainstay_model::{
    Batch, ConfigurationId, Epoch, NoPlants, Prng, ReplicaId, SessionId, Slot, Timestamp,
};
use mainstay_service::native::{Refusal, ReplicaMessage, Subject};
use mainstay_service::{Applied, Applier, Command, Plain, SessionLimits};

use super::*;
use journal::{Journal, numbers};

const MS: u64 = 1_000_000;

#[derive(Clone, Debug)]
enum Happening {
    /// The attempt with this serial succeeds or fails.
    Connect(u64, bool),
    ToReplica(u64, Vec<u8>),
    ToClient(u64, Vec<u8>),
    Break(u64),
    /// A command reaches the order.
    Order(u64, Bytes),
    Ask(u64, ClientMessage),
    /// The caller wants something.
    Want(Kind),
    /// Every session ends, whatever for.
    EndSessions,
}

/// What goes wrong, in thousandths; nothing once the time has come.
struct Faults {
    until: u64,
    per_mille: u64,
    /// Whether replicas refuse some things for good.
    for_good: bool,
}

struct World {
    machine: Machine,
    now: u64,
    prng: Prng,
    faults: Faults,
    events: BTreeMap<(u64, u64), Happening>,
    last_event: u64,
    /// Serial of the connection or attempt, and which replica it leads to.
    connection: Option<(u64, usize)>,
    connections: u64,
    /// When the last frame each way arrives: connections keep the order.
    arrivals: [u64; 2],
    at_replica: BytesMut,
    at_client: BytesMut,
    greeted: bool,
    applier: Applier<Plain<Journal>>,
    /// Every nonce that was registered.
    nonces: BTreeSet<Nonce>,
    slot: Slot,
    leader: u16,
    /// To whom outcomes of a session are told.
    owner: Option<u64>,
    wanted: BTreeMap<Token, Kind>,
    last_token: u64,
    outcomes: BTreeMap<Token, Outcome>,
    answers: BTreeMap<Token, Result<Bytes, Trouble>>,
}

const REPLICAS: usize = 3;

impl World {
    fn new(seed: u64, faults: Faults, settings: Settings, limits: SessionLimits) -> Self {
        let mut prng = Prng::new(seed);
        let mut nonces = prng.split();
        let nonce = move || Nonce(u128::from(nonces.next_u64()));
        let machine = Machine::new(settings, Box::new(nonce), prng.next_u64());
        Self {
            machine,
            now: 0,
            prng,
            faults,
            events: BTreeMap::new(),
            last_event: 0,
            connection: None,
            connections: 0,
            arrivals: [0; 2],
            at_replica: BytesMut::new(),
            at_client: BytesMut::new(),
            greeted: false,
            applier: Applier::new(Plain(Journal::default()), limits, NoPlants),
            nonces: BTreeSet::new(),
            slot: Slot::NONE,
            leader: 0,
            owner: None,
            wanted: BTreeMap::new(),
            last_token: 0,
            outcomes: BTreeMap::new(),
            answers: BTreeMap::new(),
        }
    }

    fn at(&mut self, time: u64, happening: Happening) {
        self.last_event += 1;
        self.events.insert((time.max(self.now), self.last_event), happening);
    }

    fn after(&mut self, least: u64, most: u64, happening: Happening) {
        let time = self.now + self.prng.between(least, most);
        self.at(time, happening);
    }

    fn goes_wrong(&mut self) -> bool {
        self.now < self.faults.until && self.prng.chance(self.faults.per_mille, 1000)
    }

    /// Runs until nobody waits and nothing is under way any more.
    fn run(&mut self) {
        for _ in 0..1_000_000 {
            let event = self.events.first_key_value().map(|((time, _), _)| *time);
            let due = self.machine.deadline().map(|due| due.0.max(self.now));
            let mut effects = Vec::new();
            match (event, due) {
                (None, None) => return,
                (Some(event), due) if due.is_none_or(|due| event <= due) => {
                    let Some(((time, _), happening)) = self.events.pop_first() else { return };
                    self.now = time;
                    self.happens(happening, &mut effects);
                }
                (_, due) => {
                    self.now = due.unwrap_or(self.now);
                    self.machine.on_deadline(Instant(self.now), &mut effects);
                }
            }
            self.carry_out(effects);
        }
        panic!("it never ends");
    }

    fn is_current(&self, serial: u64) -> bool {
        self.connection.is_some_and(|(current, _)| current == serial)
    }

    fn happens(&mut self, happening: Happening, effects: &mut Vec<Effect>) {
        let now = Instant(self.now);
        match happening {
            Happening::Connect(serial, works) if self.is_current(serial) => {
                if works {
                    self.machine.on_connected(now);
                    if self.goes_wrong() {
                        self.after(0, 2_000 * MS, Happening::Break(serial));
                    }
                } else {
                    self.connection = None;
                    self.machine.on_closed(now, "refused", effects);
                }
            }
            Happening::ToReplica(serial, bytes) if self.is_current(serial) => {
                self.at_replica.extend_from_slice(&bytes);
                self.replica_reads(serial);
            }
            Happening::ToClient(serial, bytes) if self.is_current(serial) => {
                self.at_client.extend_from_slice(&bytes);
                self.machine.on_bytes(now, &mut self.at_client, effects);
            }
            Happening::Break(serial) if self.is_current(serial) => {
                self.connection = None;
                self.machine.on_closed(now, "reset", effects);
            }
            Happening::Order(from, command) => self.order(from, command),
            Happening::Ask(from, message) => self.replica_takes(from, message),
            Happening::Want(kind) => self.want(kind, effects),
            Happening::EndSessions => {
                for nonce in self.nonces.clone() {
                    self.order(0, Command::EndSession { nonce }.encode());
                }
            }
            _ => {}
        }
    }

    fn want(&mut self, kind: Kind, effects: &mut Vec<Effect>) {
        self.last_token += 1;
        let token = Token(self.last_token);
        self.wanted.insert(token, kind);
        let body = match kind {
            Kind::Request => Bytes::copy_from_slice(&token.0.to_le_bytes()),
            Kind::Query | Kind::QueryStale => Bytes::from_static(b"?"),
        };
        let timeout = self.machine.settings.timeout;
        self.machine.ask(Instant(self.now), token, kind, body, timeout, effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Connect(position) => {
                    self.connections += 1;
                    let serial = self.connections;
                    self.connection = Some((serial, position));
                    self.arrivals = [self.now; 2];
                    self.at_replica.clear();
                    self.at_client.clear();
                    self.greeted = false;
                    let works = !self.goes_wrong();
                    // Some are never answered at all.
                    if works || self.prng.chance(1, 2) {
                        self.after(0, MS, Happening::Connect(serial, works));
                    }
                }
                Effect::Disconnect => self.connection = None,
                Effect::Finished(token, outcome) => {
                    assert!(self.outcomes.insert(token, outcome).is_none(), "told twice");
                }
                Effect::Answered(token, answer) => {
                    assert!(self.answers.insert(token, answer).is_none(), "told twice");
                }
                Effect::AnsweredStale(token, answer) => {
                    assert_eq!(self.wanted[&token], Kind::QueryStale);
                    assert!(answer.slot <= self.slot, "from the future");
                    assert!(self.answers.insert(token, Ok(answer.reply)).is_none(), "told twice");
                }
                Effect::Watch(_) | Effect::Unwatch(_) | Effect::Exposed(_) | Effect::Unchecked => {
                    panic!("one replica is heard: {effect:?}")
                }
            }
        }
        let out = self.machine.take_output();
        if let (Some((serial, _)), false) = (self.connection, out.is_empty()) {
            let time = self.arrives(0);
            self.at(time, Happening::ToReplica(serial, out));
        }
    }

    fn arrives(&mut self, way: usize) -> u64 {
        let time = self.now + self.prng.between(0, MS);
        self.arrivals[way] = self.arrivals[way].max(time);
        self.arrivals[way]
    }

    fn tell(&mut self, serial: u64, kind: u16, encode: impl FnOnce(&mut Vec<u8>)) {
        if !self.is_current(serial) {
            return;
        }
        let group = if kind == HELLO { GroupId::NODE } else { GroupId::FIRST };
        let mut frame = Vec::new();
        frame::encode(&mut frame, kind, group, 1, encode);
        let time = self.arrives(1);
        // In two pieces, at times.
        let cut = self.prng.between(0, frame.len() as u64) as usize;
        self.at(time, Happening::ToClient(serial, frame[..cut].to_vec()));
        self.at(time, Happening::ToClient(serial, frame[cut..].to_vec()));
    }

    fn say(&mut self, serial: u64, message: &ReplicaMessage) {
        self.tell(serial, message.kind(), |body| message.encode(body));
    }

    fn replica_reads(&mut self, serial: u64) {
        let Some((_, position)) = self.connection else { return };
        if !self.greeted {
            if self.at_replica.len() < PREFACE.len() {
                return;
            }
            let preface = self.at_replica.split_to(PREFACE.len());
            assert_eq!(preface[..], PREFACE);
        }
        while let Some(frame) = frame::decode(&mut self.at_replica, 1 << 20).expect("is a frame") {
            if !self.greeted {
                self.greeted = true;
                Hello::decode(frame.body).expect("is a hello");
                let hello = hello_of(position as u16, ClusterId(5));
                self.tell(serial, HELLO, |body| hello.encode(body));
                continue;
            }
            let message = ClientMessage::decode(frame.kind, frame.body).expect("is a message");
            self.replica_takes(serial, message);
        }
    }

    fn replica_takes(&mut self, serial: u64, message: ClientMessage) {
        if self.goes_wrong() {
            self.leader = self.prng.below(REPLICAS as u64) as u16;
        }
        match message {
            ClientMessage::WhoLeads => {
                let leader = Some(self.leader);
                self.say(serial, &ReplicaMessage::Leader(leader));
            }
            ClientMessage::Submit { command } => self.submitted(serial, command),
            ClientMessage::Watch { .. } => panic!("one replica is heard"),
            ClientMessage::QueryStale { id, body } => {
                if self.goes_wrong() {
                    if self.prng.chance(1, 2) {
                        self.refuse(serial, Subject::Query(id));
                    }
                    return;
                }
                let (mut reply, slot) = (Vec::new(), self.slot);
                self.applier.query(Timestamp(0), &body, &mut reply).expect("does not panic");
                let (time, reply) = (self.applier.time(), reply.into());
                self.say(serial, &ReplicaMessage::StaleAnswer { id, slot, time, reply });
            }
            ClientMessage::Query { id, after, body } => {
                if self.goes_wrong() {
                    if self.prng.chance(1, 2) {
                        self.refuse(serial, Subject::Query(id));
                    }
                    return;
                }
                let applied = after
                    .map(|(session, number)| (self.applier.session_applied_upto(session), number));
                match applied {
                    Some((None, _)) => self.say(
                        serial,
                        &ReplicaMessage::Refused {
                            subject: Subject::Query(id),
                            reason: Refusal::UnknownSession,
                            leader: None,
                        },
                    ),
                    Some((Some(applied), number)) if applied < number => {
                        // A replica, too, gives up in the end.
                        if self.is_current(serial) && !self.prng.chance(1, 500) {
                            let again = ClientMessage::Query { id, after, body };
                            self.after(MS, 5 * MS, Happening::Ask(serial, again));
                        }
                    }
                    _ => {
                        let mut reply = Vec::new();
                        self.applier
                            .query(Timestamp(0), &body, &mut reply)
                            .expect("does not panic");
                        self.say(serial, &ReplicaMessage::Answer { id, reply: reply.into() });
                    }
                }
            }
        }
    }

    fn submitted(&mut self, serial: u64, command: Bytes) {
        self.owner = Some(serial);
        if let Ok(Command::Register { nonce }) = Command::decode(command.clone()) {
            self.nonces.insert(nonce);
        }
        if self.goes_wrong() && self.prng.chance(1, 2) {
            let subject = match Command::decode(command).expect("is a command") {
                Command::Register { nonce } | Command::EndSession { nonce } => {
                    Subject::Register(nonce)
                }
                Command::Request { session, number, .. } => Subject::Request(session, number),
                Command::TrimSessions { .. }
                | Command::SetCheckpointInterval(_)
                | Command::Begin { .. } => {
                    panic!("a client does not order this")
                }
            };
            return self.refuse(serial, subject);
        }
        if self.goes_wrong() {
            return;
        }
        if self.goes_wrong() {
            // Twice, the second time perhaps long after.
            self.after(0, 3_000 * MS, Happening::Order(serial, command.clone()));
        }
        // One leader keeps the order of what it gets, by and large.
        let delay = if self.goes_wrong() { 500 * MS } else { 0 };
        self.after(MS + delay, MS + 2 * delay, Happening::Order(serial, command));
    }

    fn refuse(&mut self, serial: u64, subject: Subject) {
        if self.faults.for_good && self.prng.chance(1, 10) {
            let reason = *self.prng.pick(&[Refusal::TooLarge, Refusal::BadCommand]).expect("two");
            let message = ReplicaMessage::Refused { subject, reason, leader: None };
            return self.say(serial, &message);
        }
        let reason = *self
            .prng
            .pick(&[
                Refusal::NoLeader,
                Refusal::NotLeader,
                Refusal::Busy,
                Refusal::NoRoom,
                Refusal::Stopped,
                Refusal::Timeout,
            ])
            .expect("there are some");
        let leader = self.prng.chance(1, 2).then_some(self.leader);
        self.say(serial, &ReplicaMessage::Refused { subject, reason, leader });
    }

    fn order(&mut self, from: u64, command: Bytes) {
        self.slot = self.slot.next();
        let batch = Batch { time: Timestamp(self.now), requests: vec![command] };
        let mut applied = Vec::new();
        self.applier.apply(self.slot, &batch.encode(), &mut applied).expect("applies");
        for applied in applied {
            let lost = self.goes_wrong();
            let to = if matches!(applied, Applied::Ended { .. }) { self.owner } else { Some(from) };
            // Told to the connection that submitted last.
            if let (Some(to), false) = (to.and(self.owner), lost) {
                self.say(to, &ReplicaMessage::Outcome(applied));
            }
        }
    }

    fn journal(&mut self) -> Vec<u64> {
        let mut bytes = Vec::new();
        self.applier.query(Timestamp(0), b"?", &mut bytes).expect("does not panic");
        numbers(&bytes)
    }

    /// What the callers were told is true.
    fn check(&mut self, seed: u64) {
        let journal = self.journal();
        let once: BTreeSet<_> = journal.iter().collect();
        assert_eq!(once.len(), journal.len(), "seed {seed}: {journal:?}");
        // What was left behind with a session that was given up may still be carried out later.
        let left = |number: &&u64| {
            self.faults.for_good && matches!(self.outcomes[&Token(**number)], Outcome::Unknown(_))
        };
        let in_order: Vec<_> = journal.iter().filter(|number| !left(number)).collect();
        assert!(in_order.is_sorted(), "seed {seed}: {journal:?}");
        for (token, kind) in &self.wanted {
            match kind {
                Kind::Request => match &self.outcomes[token] {
                    Outcome::Done(reply) => {
                        let position = numbers(reply)[0] as usize - 1;
                        assert_eq!(journal[position], token.0, "seed {seed}: the wrong reply");
                    }
                    Outcome::NotDone(_) => {
                        assert!(!journal.contains(&token.0), "seed {seed}: {token} was done");
                    }
                    Outcome::Unknown(_) => {}
                },
                Kind::Query => self.check_answer(seed, *token),
                Kind::QueryStale => {
                    if let Ok(answer) = &self.answers[token] {
                        assert!(journal.starts_with(&numbers(answer)), "seed {seed}: never so");
                    }
                }
            }
        }
    }

    /// A query sees what was done before it was asked, and every request before it.
    fn check_answer(&self, seed: u64, query: Token) {
        let Ok(answer) = &self.answers[&query] else { return };
        let seen: BTreeSet<_> = numbers(answer).into_iter().collect();
        for (token, outcome) in self.outcomes.range(..query) {
            let done = matches!(outcome, Outcome::Done(_));
            assert!(!done || seen.contains(&token.0), "seed {seed}: {query} does not see {token}");
        }
    }
}

fn hello_of(index: u16, cluster: ClusterId) -> Hello {
    Hello {
        role: Role::Peer,
        cluster,
        replica: ReplicaId { index, epoch: Epoch { counter: 1, instance: 9 } },
        configuration: ConfigurationId(1),
        service_version: 1,
        ..Hello::of_client(Role::Peer, 1 << 20)
    }
}

fn settings(timeout: Duration) -> Settings {
    let mut settings = Settings::new(["a:1", "b:1", "c:1"]);
    settings.timeout = timeout;
    settings.window_max = 8;
    settings
}

/// `asks` requests and queries within ten seconds, while this much goes wrong.
fn world(seed: u64, per_mille: u64, timeout: Duration, asks: u64) -> World {
    let faults = Faults { until: 10_000 * MS, per_mille, for_good: false };
    let mut world = World::new(seed, faults, settings(timeout), SessionLimits::default());
    for _ in 0..asks {
        let kind = match world.prng.below(8) {
            0 => Kind::QueryStale,
            1 | 2 => Kind::Query,
            _ => Kind::Request,
        };
        world.after(0, 10_000 * MS, Happening::Want(kind));
    }
    world
}

#[test]
fn what_callers_are_told_is_true_whatever_goes_wrong() {
    let (mut done, mut undone, mut unknown) = (0, 0, 0);
    for seed in 0..400 {
        let mut world = world(seed, 50 + seed % 5 * 50, Duration::from_millis(700), 60);
        world.faults.for_good = seed % 4 == 0;
        if seed % 3 == 0 {
            for _ in 0..3 {
                world.after(0, 10_000 * MS, Happening::EndSessions);
            }
        }
        world.run();
        world.check(seed);
        for outcome in world.outcomes.values() {
            match outcome {
                Outcome::Done(_) => done += 1,
                Outcome::NotDone(_) => undone += 1,
                Outcome::Unknown(_) => unknown += 1,
            }
        }
    }
    assert!(done > 1000 && undone > 100 && unknown > 100, "{done} {undone} {unknown}");
}

#[test]
fn everything_is_done_once_what_went_wrong_is_over() {
    for seed in 0..200 {
        let mut world = world(seed, 50 + seed % 5 * 50, Duration::from_secs(60), 60);
        world.run();
        world.check(seed);
        let done = |outcome: &Outcome| matches!(outcome, Outcome::Done(_));
        assert!(world.outcomes.values().all(done), "seed {seed}: {:?}", world.outcomes);
        assert!(world.answers.values().all(Result::is_ok), "seed {seed}");
    }
}

#[test]
fn without_faults_nothing_is_sent_twice_and_the_leader_is_found() {
    for seed in 0..20 {
        let mut world = world(seed, 0, Duration::from_secs(1), 60);
        world.leader = 2;
        world.run();
        world.check(seed);
        let requests = world.outcomes.len() as u64;
        assert_eq!(world.slot.0, requests + 1, "a registration, and each request once");
        assert!(world.connections <= 2, "seed {seed}: straight to the leader");
        assert_eq!(world.connection.map(|(_, position)| position), Some(2));
    }
}

/// Bursts of requests with long pauses between them, in a cluster that ends idle sessions after two
/// seconds; the client takes its session for gone after `session_idle`. How many were done, and how
/// many of the others have an unknown outcome.
fn bursts(seed: u64, per_mille: u64, session_idle: Duration) -> (usize, usize) {
    let limits = SessionLimits { idle_max: Duration::from_secs(2), ..SessionLimits::default() };
    let mut settings = settings(Duration::from_secs(60));
    settings.session_idle = session_idle;
    let faults = Faults { until: 20_000 * MS, per_mille, for_good: false };
    let mut world = World::new(seed, faults, settings, limits);
    for burst in 0..8 {
        let begin = burst * 5_000 * MS + world.prng.below(2_000 * MS);
        for _ in 0..5 {
            let time = begin + world.prng.below(100 * MS);
            let kind = if world.prng.chance(1, 4) { Kind::Query } else { Kind::Request };
            world.at(time, Happening::Want(kind));
        }
        // Time is decided on other clients' account, too.
        let tick = Command::Register { nonce: Nonce(1 << 100) };
        world.after(begin + 3_000 * MS, begin + 4_900 * MS, Happening::Order(0, tick.encode()));
    }
    world.run();
    world.check(seed);
    assert!(world.answers.values().all(Result::is_ok), "seed {seed}: {:?}", world.answers);
    let done = world.outcomes.values().filter(|o| matches!(o, Outcome::Done(_))).count();
    let unknown = world.outcomes.values().filter(|o| matches!(o, Outcome::Unknown(_))).count();
    assert_eq!(done + unknown, world.outcomes.len(), "seed {seed}: nothing else can come of them");
    (done, unknown)
}

#[test]
fn an_idle_client_opens_another_session_and_its_next_request_is_done() {
    for seed in 0..100 {
        assert_eq!(bursts(seed, 0, Duration::from_secs(1)).1, 0, "seed {seed}");
        bursts(seed, 100, Duration::from_secs(1));
    }
}

/// atomix/copycat#277: a client whose session ended without its knowledge must be told so, and go on.
#[test]
fn a_session_that_ended_unnoticed_makes_the_outcome_unknown_once_and_the_client_goes_on() {
    let (mut all, mut unknown) = (0, 0);
    for seed in 0..100 {
        let (done, not_known) = bursts(seed, seed % 2 * 100, Duration::from_secs(3600));
        (all, unknown) = (all + done, unknown + not_known);
    }
    assert!(unknown > 0 && all > 4 * unknown, "{unknown} unknown, {all} done");
}
