//! A few replicas, a queue of messages and a clock: the smallest world that can run the machine.
//! The simulator is the large one; this one is for tests that read like a story.

mod disk;
mod effects;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use mainstay_consensus::{
    ClockOff, Input, Instruction, Message, Observation, Refusal, Rejection, Replica, Request,
    Settings, Start, Status,
};
use mainstay_model::plant::Planted;
use mainstay_model::{
    Batch, CheckpointId, Configuration, ConfigurationId, Epoch, Instant, Mark, Now, Prng,
    ReplicaId, RequestId, RequestNumber, Slot, Timestamp, Token, Value,
};

use disk::Disk;

pub(crate) const MS: u64 = 1_000_000;
#[derive(Default)]
struct Node {
    replica: Option<Replica<Planted>>,
    /// Counts its starts.
    boot: u64,
    disk: Disk,
    applied: Slot,
    /// What a slow service is still to apply, and when it has.
    to_apply: VecDeque<(u64, Slot)>,
    suspected: BTreeSet<u16>,
}

/// What logs do not hold.
#[derive(Default)]
struct Unkept {
    /// From which mark on a replica is to be told that there was no room.
    refused: BTreeMap<u16, Mark>,
    /// How much of a log has to be durable before the checkpoint of a slot may stand.
    noted: BTreeMap<(u16, Slot), usize>,
}

pub(crate) struct Cluster {
    pub(crate) now: u64,
    pub(crate) prng: Prng,
    /// With which a log begins that a replica started from here on begins.
    pub(crate) opening: Option<Bytes>,
    configuration: Configuration,
    nodes: Vec<Node>,
    /// Messages on their way: (arrival, sequence) to (to, from, message).
    wire: BTreeMap<(u64, u64), (u16, ReplicaId, Message)>,
    /// What the threads of a replica will tell it: (when, sequence) to (to, boot, input).
    later: BTreeMap<(u64, u64), (u16, u64, Input)>,
    sequence: u64,
    /// Inputs that wait for the effects of another one.
    inputs: VecDeque<(u16, Input)>,
    /// How many deadlines came at one instant.
    turns: (u64, u32),
    /// What replicas are started with.
    pub(crate) settings: Settings,
    pub(crate) plants: Planted,
    /// Links that lose everything, from and to.
    pub(crate) cut: BTreeSet<(u16, u16)>,
    /// In a hundred messages, how many are lost, and how many arrive twice.
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    /// How long a message takes: at least, and how much more at most.
    pub(crate) delay_min: u64,
    pub(crate) delay_max: u64,
    pub(crate) sync_max: u64,
    /// Replicas whose disk stands still, and whose disk takes so long for each sync.
    pub(crate) stalled_disk: BTreeSet<u16>,
    pub(crate) slow_disk: BTreeMap<u16, u64>,
    /// Replicas whose service takes so long for each slot.
    pub(crate) slow_service: BTreeMap<u16, u64>,
    /// How much longer what a replica sends takes.
    pub(crate) slow_links: BTreeMap<u16, u64>,
    /// How much longer messages take from one to the other.
    pub(crate) slow_ways: BTreeMap<(u16, u16), u64>,
    /// From whom to whom nothing gets that carries a value or a watermark.
    pub(crate) cut_values: BTreeSet<(u16, u16)>,
    /// Who is paused: what comes to it waits.
    pub(crate) paused: BTreeSet<u16>,
    waiting: Vec<(u16, ReplicaId, Message)>,
    /// Kinds of message, by name, and their sender, that are lost.
    pub(crate) lost: BTreeSet<(u16, &'static str)>,
    /// When the service wants time to be decided next.
    pub(crate) wake: Option<Timestamp>,
    /// By how many nanoseconds each replica's calendar clock is ahead.
    pub(crate) ahead: Vec<u64>,
    /// What each slot was found to decide.
    pub(crate) decided: BTreeMap<Slot, Value>,
    pub(crate) delivered: Vec<Vec<Value>>,
    pub(crate) reads: BTreeMap<Token, Slot>,
    /// What each read is shown of time.
    pub(crate) shown: BTreeMap<Token, Timestamp>,
    pub(crate) rejected: Vec<(Token, Rejection)>,
    pub(crate) sent: BTreeMap<&'static str, u64>,
    /// A checkpoint is due every so many slots; 0 for never.
    pub(crate) checkpoint_slots: u64,
    /// The contents of all checkpoints ever made.
    contents: BTreeMap<CheckpointId, Vec<Value>>,
    /// Whose state goes wrong when it applies a slot.
    pub(crate) wrong: Option<(u16, Slot)>,
    /// How many pieces each replica gave away.
    pub(crate) gave: BTreeMap<u16, u64>,
    pub(crate) stopped: BTreeSet<u16>,
    /// What came of instructions.
    pub(crate) instructed: Vec<(Instruction, Result<(), Refusal>)>,
    /// The length of a checkpoint.
    pub(crate) checkpoint_bytes: u64,
    /// How many slots the log keeps anyhow, and for whoever wants them.
    pub(crate) log_slots_min: u64,
    pub(crate) log_slots_max: u64,
    /// How long a donor needs to read a piece.
    pub(crate) read_time: BTreeMap<u16, u64>,
    /// How long a checkpoint takes to be written.
    pub(crate) checkpoint_time: u64,
    /// Who cuts checkpoints into pieces of another length.
    pub(crate) odd_pieces: BTreeSet<u16>,
    /// Who writes checkpoints that are longer than those of the others.
    pub(crate) longer: BTreeSet<u16>,
    /// Whose service refuses what was fetched, and how often each was to install something.
    pub(crate) refuses: BTreeSet<u16>,
    pub(crate) installs: BTreeMap<u16, u64>,
    /// Whose disk gives wrong bytes, whose is full.
    pub(crate) damaged: BTreeSet<u16>,
    pub(crate) full: BTreeSet<u16>,
    /// Whose log has no room for requests.
    pub(crate) roomless: BTreeSet<u16>,
    unkept: Unkept,
    pub(crate) observed: Vec<(u16, Observation)>,
    /// How many pieces each replica stored.
    pub(crate) stored: BTreeMap<u16, u64>,
    /// Pieces on their way to a disk, and pieces being read by a donor: never more than may be.
    storing: BTreeMap<u16, u64>,
    reading: BTreeMap<u16, u64>,
}

/// Decided time once these were applied.
pub(crate) fn time_of(applied: &[Value]) -> Timestamp {
    applied.iter().map(Value::time).max().unwrap_or_default()
}

impl Cluster {
    pub(crate) fn new(count: u16, seed: u64) -> Self {
        Self::with(count, seed, Settings { chunk_bytes: 1 << 10, ..Settings::default() })
    }

    pub(crate) fn with(count: u16, seed: u64, settings: Settings) -> Self {
        let replicas = (0..count).map(|index| ReplicaId {
            index,
            epoch: Epoch { counter: 1, instance: u32::from(index) },
        });
        let configuration =
            Configuration { id: ConfigurationId(1), replicas: replicas.collect(), alpha: 64 };
        let nodes = (0..count).map(|_| Node::default());
        let mut cluster = Self {
            now: MS,
            prng: Prng::new(seed),
            opening: None,
            configuration,
            nodes: nodes.collect(),
            wire: BTreeMap::new(),
            later: BTreeMap::new(),
            sequence: 0,
            inputs: VecDeque::new(),
            turns: (0, 0),
            settings,
            plants: Planted(None),
            cut: BTreeSet::new(),
            loss: 0,
            duplication: 0,
            delay_min: 1,
            delay_max: MS,
            sync_max: MS,
            stalled_disk: BTreeSet::new(),
            slow_disk: BTreeMap::new(),
            slow_service: BTreeMap::new(),
            slow_links: BTreeMap::new(),
            slow_ways: BTreeMap::new(),
            cut_values: BTreeSet::new(),
            paused: BTreeSet::new(),
            waiting: Vec::new(),
            lost: BTreeSet::new(),
            wake: None,
            ahead: vec![0; usize::from(count)],
            decided: BTreeMap::new(),
            delivered: (0..count).map(|_| Vec::new()).collect(),
            reads: BTreeMap::new(),
            shown: BTreeMap::new(),
            rejected: Vec::new(),
            sent: BTreeMap::new(),
            checkpoint_slots: 0,
            contents: BTreeMap::new(),
            wrong: None,
            gave: BTreeMap::new(),
            stopped: BTreeSet::new(),
            instructed: Vec::new(),
            checkpoint_bytes: 9_700,
            log_slots_min: 0,
            log_slots_max: u64::MAX,
            read_time: BTreeMap::new(),
            checkpoint_time: 0,
            odd_pieces: BTreeSet::new(),
            longer: BTreeSet::new(),
            refuses: BTreeSet::new(),
            installs: BTreeMap::new(),
            damaged: BTreeSet::new(),
            full: BTreeSet::new(),
            roomless: BTreeSet::new(),
            unkept: Unkept::default(),
            observed: Vec::new(),
            stored: BTreeMap::new(),
            storing: BTreeMap::new(),
            reading: BTreeMap::new(),
        };
        for index in 0..count {
            cluster.start(index, true);
        }
        cluster
    }

    fn clocks(&self, index: u16) -> Now {
        let wall = Timestamp(self.now + self.ahead[usize::from(index)]);
        Now { monotonic: Instant(self.now), wall }
    }

    /// (Re)starts a replica from what its disk kept.
    pub(crate) fn start(&mut self, index: u16, votes: bool) {
        let node = &mut self.nodes[usize::from(index)];
        node.disk.crash();
        node.boot += 1;
        self.unkept.refused.remove(&index);
        self.unkept.noted.retain(|(whose, _), _| *whose != index);
        let checkpoint = node.disk.checkpoint();
        self.reading.remove(&index);
        self.storing.remove(&index);
        node.applied = checkpoint.map_or(Slot::NONE, |checkpoint| checkpoint.slot);
        let content = checkpoint.map(|checkpoint| self.contents[&checkpoint].clone());
        self.delivered[usize::from(index)] = content.unwrap_or_default();
        self.stopped.remove(&index);
        node.to_apply.clear();
        let start = Start {
            me: self.configuration.replicas[usize::from(index)],
            configuration: self.configuration.clone(),
            votes,
            recovered: node.disk.recovered(),
            held: node.disk.checkpoints.clone(),
            stable: node.disk.stable,
            time: time_of(&self.delivered[usize::from(index)]),
            partial: node.disk.partial(),
            prng: self.prng.split(),
            opening: self.opening.clone(),
        };
        let now = self.clocks(index);
        self.nodes[usize::from(index)].replica =
            Some(Replica::new(start, self.settings, now, self.plants));
    }

    /// Everything on its disk is gone.
    pub(crate) fn wipe(&mut self, index: u16) {
        self.nodes[usize::from(index)].disk = Disk::default();
    }

    /// The newest checkpoint on its disk turns out bad.
    pub(crate) fn lose_newest_checkpoint(&mut self, index: u16) -> Option<CheckpointId> {
        self.nodes[usize::from(index)].disk.checkpoints.pop()
    }

    /// All checkpoints on its disk turn out bad.
    pub(crate) fn lose_checkpoints(&mut self, index: u16) {
        self.nodes[usize::from(index)].disk.checkpoints.clear();
    }

    /// How far its log has been discarded.
    pub(crate) fn truncated(&self, index: u16) -> Slot {
        self.nodes[usize::from(index)].disk.truncated_upto
    }

    /// Its checkpoints.
    pub(crate) fn held(&self, index: u16) -> Vec<CheckpointId> {
        self.nodes[usize::from(index)].disk.checkpoints.clone()
    }

    /// What its disk has of a checkpoint that is being fetched.
    pub(crate) fn partial(&self, index: u16) -> usize {
        self.nodes[usize::from(index)].disk.pieces.len()
    }

    pub(crate) fn id(&self, index: u16) -> ReplicaId {
        self.configuration.replicas[usize::from(index)]
    }

    /// A message of `from` arrives at `to`.
    pub(crate) fn hear(&mut self, to: u16, from: u16, body: mainstay_consensus::Body) {
        let message = Message { configuration: self.configuration.id, body };
        self.step(to, Input::Message { from: self.id(from), message });
    }

    fn tell_later(&mut self, index: u16, after: u64, input: Input) {
        self.sequence += 1;
        let boot = self.nodes[usize::from(index)].boot;
        self.later.insert((self.now + after, self.sequence), (index, boot, input));
    }

    pub(crate) fn crash(&mut self, index: u16) {
        self.nodes[usize::from(index)].replica = None;
        for other in self.nodes.iter_mut() {
            other.suspected.insert(index);
        }
        self.tell_suspicion(index, true);
    }

    pub(crate) fn tell_suspicion(&mut self, index: u16, suspected: bool) {
        let peer = self.configuration.replicas[usize::from(index)];
        for other in 0..self.nodes.len() as u16 {
            if other != index {
                self.step(other, Input::Suspicion { peer, suspected });
            }
        }
    }

    pub(crate) fn is_up(&self, index: u16) -> bool {
        self.nodes[usize::from(index)].replica.is_some()
    }

    pub(crate) fn status(&self, index: u16) -> Status {
        self.nodes[usize::from(index)].replica.as_ref().expect("is up").status()
    }

    /// Whose clocks are off, as far as this replica knows.
    pub(crate) fn clocks_off(&self, index: u16) -> Vec<ClockOff> {
        let now = self.clocks(index);
        self.nodes[usize::from(index)].replica.as_ref().expect("is up").clocks_off(now)
    }

    /// The highest slot that anybody was found to know as decided.
    pub(crate) fn status_decided(&self) -> Slot {
        self.decided.keys().next_back().copied().unwrap_or(Slot::NONE)
    }

    /// Who leads, as the one with the highest ballot says.
    pub(crate) fn leader(&self) -> Option<u16> {
        let up = (0..self.nodes.len() as u16).filter(|index| self.is_up(*index));
        up.map(|index| self.status(index))
            .filter(|status| status.role == mainstay_consensus::Role::Leader)
            .max_by_key(|status| status.ballot)
            .map(|status| status.ballot.leader.index)
    }

    pub(crate) fn submit(&mut self, index: u16, token: u64, request: &'static [u8]) {
        let request = Bytes::from_static(request).into();
        self.step(index, Input::Submit { token: Token(token), request });
    }

    /// Number `number` of the client that speaks to this replica.
    pub(crate) fn submit_numbered(&mut self, index: u16, number: u64) {
        let id = RequestId { client: u128::from(index) + 1, number: RequestNumber(number) };
        let bytes = [u64::from(index).to_le_bytes(), number.to_le_bytes()].concat();
        let request = Request { id: Some(id), client: 0, bytes: bytes.into() };
        self.step(index, Input::Submit { token: Token(number), request });
    }

    /// The numbers of its client's requests that this replica has carried out.
    pub(crate) fn carried_out(&self, index: u16) -> BTreeSet<u64> {
        let applied = self.decided.range(..=self.status(index).applied).map(|(_, value)| value);
        let requests = applied.flat_map(|value| Batch::decode(value).expect("a batch").requests);
        let client = u64::from(index).to_le_bytes();
        let own = requests.filter_map(|request| {
            let number = request.strip_prefix(&client)?;
            Some(u64::from_le_bytes(number.try_into().ok()?))
        });
        own.collect()
    }

    pub(crate) fn read(&mut self, index: u16, token: u64) {
        self.step(index, Input::Read { token: Token(token) });
    }

    /// What comes of a step is carried out before the next one, though it asks for that one.
    pub(crate) fn step(&mut self, index: u16, input: Input) {
        self.inputs.push_back((index, input));
        if self.inputs.len() > 1 {
            return;
        }
        while let Some((index, input)) = self.inputs.front().cloned() {
            let now = self.clocks(index);
            let mut effects = Vec::new();
            if let Some(replica) = &mut self.nodes[usize::from(index)].replica {
                replica.step(now, input, &mut effects);
            }
            for effect in effects {
                self.carry_out(index, effect);
            }
            self.inputs.pop_front();
        }
    }

    /// Runs until `until` is true; panics if that takes more than `limit_ms` of its time.
    pub(crate) fn run_until(&mut self, limit_ms: u64, mut until: impl FnMut(&Self) -> bool) {
        let end = self.now + limit_ms * MS;
        while !until(self) {
            assert!(self.now < end, "did not happen within {limit_ms} ms");
            self.advance(end);
        }
    }

    pub(crate) fn run_for(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        while self.now < end {
            self.advance(end);
        }
    }

    /// What came to those that are paused is lost.
    pub(crate) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Nothing passes between `index` and the others.
    pub(crate) fn cut_off(&mut self, index: u16) {
        self.link_only(|a, b| a != index && b != index);
    }

    /// Only those pairs are linked for which `linked` holds one way round or the other.
    pub(crate) fn link_only(&mut self, linked: impl Fn(u16, u16) -> bool) {
        let count = self.nodes.len() as u16;
        let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        self.cut = pairs.filter(|&(a, b)| a != b && !linked(a, b) && !linked(b, a)).collect();
    }

    /// Who was paused goes on: its deadline is long past, and what came to it is there at once.
    pub(crate) fn resume(&mut self, index: u16) {
        self.paused.remove(&index);
        let (came, others) = self.waiting.drain(..).partition(|(to, ..)| *to == index);
        self.waiting = others;
        let came: Vec<(u16, ReplicaId, Message)> = came;
        for (to, from, message) in came {
            self.step(to, Input::Message { from, message });
        }
        self.step(index, Input::Deadline);
    }

    /// Submits `count` requests, one every `every` milliseconds, to each replica in turn.
    pub(crate) fn work(&mut self, count: u64, every: u64) {
        for token in 0..count {
            let index = token as u16 % self.nodes.len() as u16;
            if self.is_up(index) && !self.paused.contains(&index) {
                self.submit(index, 10_000 + token, b"work");
            }
            self.run_for(every);
        }
    }

    /// Does what is next: a message, a sync, a deadline; or lets the time pass to `end`.
    fn advance(&mut self, end: u64) {
        let message = self.wire.first_key_value().map(|((at, _), _)| *at);
        let sync = self.nodes.iter().enumerate().flat_map(|(index, node)| {
            let index_u16 = index as u16;
            let works =
                !self.stalled_disk.contains(&index_u16) && !self.paused.contains(&index_u16);
            let pending = node.disk.pending.first().filter(|_| works);
            pending.map(|(ready, _, _)| ((*ready).max(self.now), index))
        });
        let sync = sync.min();
        let deadline = self.nodes.iter().enumerate().filter_map(|(index, node)| {
            if self.paused.contains(&(index as u16)) {
                return None;
            }
            node.replica.as_ref()?.deadline().map(|at| (at.0.max(self.now), index))
        });
        let deadline = deadline.min();
        let applied =
            self.nodes.iter().enumerate().filter_map(|(index, node)| {
                node.to_apply.front().map(|(ready, _)| (*ready, index))
            });
        let applied = applied.min();
        let told = self.later.first_key_value().map(|((at, _), _)| *at);
        let applied_at = applied.map(|a| a.0);
        let first = [message, told, sync.map(|s| s.0), deadline.map(|d| d.0), applied_at];
        let next = first.into_iter().flatten().min().unwrap_or(end).max(self.now);
        if next > end {
            self.now = end;
            return;
        }
        self.now = next;
        if message.is_some_and(|at| at <= next) {
            if let Some((_, (to, from, message))) = self.wire.pop_first() {
                if self.paused.contains(&to) {
                    self.waiting.push((to, from, message));
                } else {
                    self.step(to, Input::Message { from, message });
                }
            }
        } else if told.is_some_and(|at| at <= next) {
            let Some((_, (index, boot, input))) = self.later.pop_first() else { return };
            let is_there = self.nodes[usize::from(index)].boot == boot && self.is_up(index);
            if is_there && self.waits_for_its_log(index, &input) {
                self.tell_later(index, 5 * MS, input);
            } else if is_there {
                self.note_done(index, &input);
                self.step(index, input);
            }
        } else if sync.is_some_and(|(at, _)| at <= next) {
            let index = sync.map_or(0, |(_, index)| index);
            let disk = &mut self.nodes[index].disk;
            let (_, mark, len) = disk.pending.remove(0);
            disk.durable = len;
            if self.nodes[index].replica.is_some() {
                self.step(index as u16, Input::Durable { mark });
            }
            self.tell_refused(index as u16);
        } else if let Some((_, index)) = applied.filter(|(at, _)| *at <= next) {
            if let Some((_, upto)) = self.nodes[index].to_apply.pop_front() {
                let applied = usize::try_from(upto.0).expect("few slots");
                let time = time_of(&self.delivered[index][..applied]);
                self.step(index as u16, Input::Applied { upto, time, wake: self.wake });
            }
        } else if let Some((_, index)) = deadline {
            self.turns =
                if self.turns.0 == self.now { (self.now, self.turns.1 + 1) } else { (self.now, 0) };
            assert!(self.turns.1 < 1_000, "a deadline stays in the past");
            self.step(index as u16, Input::Deadline);
        }
    }

    /// The requests of all decided batches, in order.
    pub(crate) fn decided_requests(&self) -> Vec<Bytes> {
        let batches = self.decided.values().map(|value| Batch::decode(value).expect("a batch"));
        batches.flat_map(|batch| batch.requests).collect()
    }
}
