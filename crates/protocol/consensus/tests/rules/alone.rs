//! One replica, and a test that plays the others by hand: for what only a certain order of messages
//! shows. Nothing is durable before [`Alone::sync`].

use std::collections::BTreeMap;

use mainstay_consensus::message::{Accept, Decided, Follow, Lead, Prepare, Promise};
use mainstay_consensus::{Body, Effect, Input, Message, Rejection, Replica, Settings, Start};
use mainstay_model::{
    Ballot, Batch, Configuration, ConfigurationId, Entry, Epoch, Instant, Mark, NoPlants, Now,
    Prng, Record, RecordKind, Recovered, ReplicaId, Slot, Timestamp, Token, Value,
};

pub(crate) const MS: u64 = 1_000_000;

pub(crate) fn id(index: u16) -> ReplicaId {
    ReplicaId { index, epoch: Epoch { counter: 1, instance: u32::from(index) } }
}

pub(crate) fn ballot(round: u64, index: u16) -> Ballot {
    Ballot { round, leader: id(index) }
}

/// A batch of one request.
pub(crate) fn value(request: &'static [u8]) -> Value {
    Batch { time: Timestamp(1), requests: vec![request.into()] }.encode()
}

pub(crate) fn accept(ballot: Ballot, slot: u64, value: &Value, decided_upto: u64) -> Body {
    let (slot, decided_upto) = (Slot(slot), Slot(decided_upto));
    Body::Accept(Accept { ballot, slot, value: value.clone(), decided_upto })
}

pub(crate) fn prepare(ballot: Ballot, from: u64) -> Body {
    Body::Prepare(Prepare { ballot, from: Slot(from) })
}

pub(crate) fn lead(ballot: Ballot, decided_upto: u64) -> Body {
    let decided_upto = Slot(decided_upto);
    let (proposed_upto, round) = (decided_upto, 0);
    let (durable_upto, applied_upto) = (decided_upto, decided_upto);
    Body::Lead(Lead {
        ballot,
        decided_upto,
        proposed_upto,
        durable_upto,
        applied_upto,
        round,
        room: true,
        time: Timestamp(0),
    })
}

/// The answer to a leader's sign of life.
pub(crate) fn follow(lead: &Lead, decided_upto: u64, applied_upto: u64) -> Body {
    let (ballot, round, clock) = (lead.ballot, lead.round, Timestamp(0));
    let (decided_upto, applied_upto) = (Slot(decided_upto), Slot(applied_upto));
    let durable_upto = decided_upto;
    Body::Follow(Follow {
        ballot,
        round,
        decided_upto,
        durable_upto,
        applied_upto,
        room: true,
        clock,
        disk: std::time::Duration::ZERO,
    })
}

/// A promise in one page.
pub(crate) fn promise(ballot: Ballot, decided_upto: u64, accepted: Vec<(Slot, Entry)>) -> Promise {
    let (uncertain, truncated_upto) = (Vec::new(), Slot::NONE);
    let decided_upto = Slot(decided_upto);
    let after = Slot::NONE;
    Promise {
        ballot,
        page: 0,
        last: true,
        after,
        decided_upto,
        truncated_upto,
        clock: Timestamp(0),
        time: Timestamp(0),
        uncertain,
        accepted,
    }
}

pub(crate) fn decided(from: u64, entries: Vec<Entry>) -> Body {
    let decided_upto = Slot(from + entries.len() as u64 - 1);
    let truncated_upto = Slot::NONE;
    Body::Decided(Decided { from: Slot(from), entries, decided_upto, truncated_upto })
}

pub(crate) struct Alone {
    pub(crate) replica: Replica,
    me: u16,
    count: u16,
    settings: Settings,
    pub(crate) now: u64,
    records: Vec<Record>,
    durable: usize,
    mark: Mark,
    /// What was sent and not looked at yet.
    sent: Vec<(u16, Body)>,
    pub(crate) delivered: BTreeMap<Slot, Value>,
    pub(crate) reads: BTreeMap<Token, Slot>,
    /// What each read is shown of time.
    pub(crate) shown: BTreeMap<Token, Timestamp>,
    pub(crate) rejected: Vec<(Token, Rejection)>,
    /// Whether what is delivered is applied at once; else the test says when.
    pub(crate) executes: bool,
}

impl Alone {
    pub(crate) fn new(me: u16, count: u16) -> Self {
        Self::with(me, count, Settings::default())
    }

    /// One that lost what it promised.
    pub(crate) fn learner(me: u16, count: u16) -> Self {
        let mut alone = Self::new(me, count);
        alone.replica = replica(me, count, alone.settings, 0, Recovered::default(), false);
        alone
    }

    pub(crate) fn with(me: u16, count: u16, settings: Settings) -> Self {
        Self {
            replica: replica(me, count, settings, 0, Recovered::default(), true),
            me,
            count,
            settings,
            now: 0,
            records: Vec::new(),
            durable: 0,
            mark: Mark(0),
            sent: Vec::new(),
            delivered: BTreeMap::new(),
            reads: BTreeMap::new(),
            shown: BTreeMap::new(),
            rejected: Vec::new(),
            executes: true,
        }
    }

    /// Kills it and starts it again from what was durable.
    pub(crate) fn restart(&mut self) {
        self.records.truncate(self.durable);
        let recovered = self.recovered();
        self.restart_from(recovered);
    }

    pub(crate) fn restart_from(&mut self, recovered: Recovered) {
        self.mark = Mark(0);
        self.sent.clear();
        self.delivered.clear();
        self.replica = replica(self.me, self.count, self.settings, self.now, recovered, true);
    }

    pub(crate) fn recovered(&self) -> Recovered {
        let mut recovered = Recovered::default();
        for record in &self.records[..self.durable] {
            recovered.promised = recovered.promised.max(record.promised);
            recovered.decided_upto = recovered.decided_upto.max(record.decided_upto);
            if let RecordKind::Accept { slot, entry } | RecordKind::Learn { slot, entry } =
                &record.kind
            {
                recovered.accepted.insert(*slot, entry.clone());
                recovered.time = recovered.time.max(entry.value.time());
            }
        }
        recovered.accepted = recovered.accepted.split_off(&recovered.decided_upto.next());
        recovered
    }

    pub(crate) fn step(&mut self, input: Input) {
        let now = Now { monotonic: Instant(self.now), wall: Timestamp(self.now) };
        let mut effects = Vec::new();
        self.replica.step(now, input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Persist { mark, records } => {
                    self.records.extend(records);
                    self.mark = mark;
                }
                Effect::Send { to, message } => self.sent.push((to.index, message.body)),
                Effect::Deliver { slot, value } => {
                    self.delivered.insert(slot, value);
                    if self.executes {
                        self.step(Input::Applied { upto: slot, time: Timestamp(0), wake: None });
                    }
                }
                Effect::ReadAt { token, slot, time } => {
                    self.reads.insert(token, slot);
                    self.shown.insert(token, time);
                }
                Effect::Rejected { token, reason } => self.rejected.push((token, reason)),
                Effect::ReadLog { .. } => panic!("everything is kept in memory here"),
                Effect::Instructed { .. }
                | Effect::Observe(_)
                | Effect::Discard(_)
                | Effect::StopExecuting { .. } => {}
                Effect::ReadChunk { .. } | Effect::StoreChunk { .. } | Effect::Install { .. } => {
                    panic!("no checkpoint is transferred here")
                }
            }
        }
    }

    /// A message of another replica arrives, and the turn ends.
    pub(crate) fn hear(&mut self, from: u16, body: Body) {
        self.hear_only(from, body);
        self.end_turn();
    }

    pub(crate) fn hear_only(&mut self, from: u16, body: Body) {
        let message = Message { configuration: ConfigurationId(1), body };
        self.step(Input::Message { from: id(from), message });
    }

    /// The kind of the message that says it.
    pub(crate) fn kind_of(body: Body) -> u16 {
        Message { configuration: ConfigurationId(1), body }.kind()
    }

    /// Carries out the deadlines that have come; there must be an end to them.
    pub(crate) fn end_turn(&mut self) {
        for _ in 0..8 {
            if self.replica.deadline().is_none_or(|at| at.0 > self.now) {
                return;
            }
            self.step(Input::Deadline);
        }
        panic!("a deadline stays in the past");
    }

    /// Everything written is durable.
    pub(crate) fn sync(&mut self) {
        self.durable = self.records.len();
        let mark = self.mark;
        self.step(Input::Durable { mark });
        self.end_turn();
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        self.end_turn();
        while let Some(at) = self.replica.deadline().filter(|at| at.0 <= end) {
            self.now = at.0.max(self.now);
            self.end_turn();
        }
        self.now = end;
    }

    /// What was sent since the last look.
    pub(crate) fn sent(&mut self) -> Vec<(u16, Body)> {
        std::mem::take(&mut self.sent)
    }

    /// Replicas 1 and up answer the leader's last confirming round; they know what it knows.
    pub(crate) fn answer_rounds(&mut self) {
        let sent = self.sent();
        let mut last = BTreeMap::new();
        for (to, body) in &sent {
            if let Body::Lead(lead) = body {
                last.insert(*to, *lead);
            }
        }
        for (to, lead) in last {
            self.hear(to, follow(&lead, self.replica.status().decided.0, lead.decided_upto.0));
        }
    }

    /// Sees to it that it becomes a candidate: the others say that they hear of no leader either.
    /// Returns its ballot.
    pub(crate) fn stand(&mut self) -> Ballot {
        for _ in 0..100 {
            self.pass(10);
            self.sync();
            for (to, body) in self.sent() {
                match body {
                    Body::Prepare(prepare) => return prepare.ballot,
                    Body::Probe(probe) => {
                        let reply = mainstay_consensus::message::ProbeReply {
                            number: probe.number,
                            hears_leader: false,
                            ballot: Ballot::ZERO,
                            decided_upto: Slot::NONE,
                            disk: std::time::Duration::ZERO,
                        };
                        self.hear(to, Body::ProbeReply(reply));
                        self.sync();
                    }
                    _ => {}
                }
            }
        }
        panic!("it does not stand");
    }
}

fn replica(
    me: u16,
    count: u16,
    settings: Settings,
    now: u64,
    recovered: Recovered,
    votes: bool,
) -> Replica {
    let replicas = (0..count).map(id).collect();
    let configuration = Configuration { id: ConfigurationId(1), replicas, alpha: 64 };
    // Every start has a generator of its own, as every process has.
    let prng = Prng::new(now + 1);
    let (me, held, stable, partial) = (id(me), Vec::new(), None, None);
    let (time, opening) = (Timestamp(0), None);
    let start =
        Start { me, configuration, votes, recovered, held, stable, time, partial, prng, opening };
    let now = Now { monotonic: Instant(now), wall: Timestamp(now) };
    Replica::new(start, settings, now, NoPlants)
}
