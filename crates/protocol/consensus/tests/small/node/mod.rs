//! One replica with the disk, the executor and the clock that a world gives it, as a value: it can be
//! kept, compared and gone back to. What the explored models and the figures are made of.

mod disk;
mod letter;
mod stage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use mainstay_consensus::message::ProbeReply;
use mainstay_consensus::{
    Body, Discard, Effect, Input, Installed, Message, PartialCheckpoint, Replica, Role, Settings,
    Start,
};
use mainstay_model::plant::Planted;
use mainstay_model::{
    Ballot, CheckpointId, Configuration, ConfigurationId, Epoch, Instant, Now, Plant, Plants, Prng,
    ReplicaId, Slot, Timestamp, Token, Value,
};

use disk::Disk;
pub(crate) use letter::{Letter, requests};
pub(crate) use stage::Stage;

/// What a node sends: to whom, by index, and what.
pub(crate) type Sent = Vec<(usize, Letter)>;

/// What all nodes have in common.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) count: u16,
    pub(crate) settings: Settings,
    pub(crate) planted: Planted,
    /// Whether disks sync at once, or only when told to.
    pub(crate) sync_at_once: bool,
    /// A checkpoint is due every so many slots; 0 for never.
    pub(crate) checkpoint_slots: u64,
    /// Whether a due checkpoint is durable at once, or only when told.
    pub(crate) checkpoint_at_once: bool,
    /// How many bytes a checkpoint has.
    pub(crate) checkpoint_bytes: u64,
    /// What nobody ever gets.
    pub(crate) lost: fn(&Message) -> bool,
}

/// The state machine: a running digest over what it applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Executor {
    pub(crate) digest: u64,
    /// What it applied, or what its state came with.
    pub(crate) applied: Slot,
    /// Taken, and not durable yet.
    due: VecDeque<CheckpointId>,
    pub(crate) stopped: bool,
}

/// What happened here, whatever crashed since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// What was delivered as decided.
    pub(crate) told: BTreeMap<Slot, Value>,
    /// Checkpoints that were durable here.
    pub(crate) held: BTreeSet<CheckpointId>,
    /// Checkpoints of which a piece was taken from others, those of them that were installed, and those
    /// of which a piece was given away.
    pub(crate) fetched: BTreeSet<CheckpointId>,
    pub(crate) installed: BTreeSet<CheckpointId>,
    pub(crate) gave: BTreeSet<CheckpointId>,
    /// The highest ballot of anything that left, and what left as accepted.
    pub(crate) promised: Ballot,
    pub(crate) accepted: BTreeMap<Slot, Ballot>,
    /// Whether the state went wrong here, and was not replaced since.
    pub(crate) diverged: bool,
}

/// A replica and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) replica: Replica<Planted>,
    pub(crate) now: u64,
    pub(crate) disk: Disk,
    pub(crate) past: Past,
    pub(crate) executor: Executor,
    starts: u64,
    submitted: u8,
    /// The bytes of its checkpoints are not what they were.
    pub(crate) rotten: bool,
}

pub(crate) fn id(index: u16) -> ReplicaId {
    ReplicaId { index, epoch: Epoch { counter: 1, instance: u32::from(index) } }
}

/// The digest after a further value.
pub(crate) fn digest_after(digest: u64, value: &Value) -> u64 {
    (digest ^ u64::from(value.checksum())).wrapping_mul(0x0100_0000_01b3).rotate_left(5)
}

impl Executor {
    fn after(checkpoint: &CheckpointId) -> Self {
        let CheckpointId { slot, digest } = *checkpoint;
        Self { digest, applied: slot, ..Self::default() }
    }
}

impl Past {
    fn leaves(&mut self, body: &Body) {
        let promised = match body {
            Body::Prepare(m) => m.ballot,
            Body::Promise(m) => m.ballot,
            Body::Accepted(m) => {
                for slot in (m.slots.first.0..=m.slots.last.0).map(Slot) {
                    let known = self.accepted.entry(slot).or_default();
                    *known = m.ballot.max(*known);
                }
                m.ballot
            }
            _ => return,
        };
        self.promised = self.promised.max(promised);
    }
}

impl Node {
    pub(crate) fn role(&self) -> Role {
        self.replica.status().role
    }

    pub(crate) fn writes(&self) -> usize {
        self.disk.pending.len()
    }

    pub(crate) fn checkpoint_is_due(&self) -> bool {
        !self.executor.due.is_empty()
    }
}

impl World {
    /// Disks that sync at once, no checkpoints, and no time-out that ends by itself: what takes time
    /// takes a few ticks of a nanosecond, so that no wait is drawn by lot.
    pub(crate) fn new(count: u16) -> Self {
        let tick = std::time::Duration::from_nanos(1);
        let settings = Settings {
            lead_interval: tick,
            resend_interval: tick,
            chunk_bytes: 8,
            checkpoint_wait_max: std::time::Duration::ZERO,
            election_timeout: tick * 7,
            election_timeout_min: tick * 7,
            election_timeout_max: tick * 7,
            ..Settings::default()
        };
        Self {
            count,
            settings,
            planted: Planted(None),
            sync_at_once: true,
            checkpoint_slots: 0,
            checkpoint_at_once: true,
            checkpoint_bytes: 8,
            lost: |_| false,
        }
    }

    /// A replica that was never started before.
    pub(crate) fn node(&self, index: u16, sent: &mut Sent) -> Node {
        let disk = Disk::default();
        let mut node = Node {
            replica: self.replica(index, &disk, 0, Now::default()),
            now: 1_000_000,
            disk,
            past: Past::default(),
            executor: Executor::default(),
            starts: 0,
            submitted: 0,
            rotten: false,
        };
        self.start(index, &mut node, sent);
        node
    }

    fn replica(&self, index: u16, disk: &Disk, starts: u64, now: Now) -> Replica<Planted> {
        let replicas = (0..self.count).map(id).collect();
        let start = Start {
            me: id(index),
            configuration: Configuration { id: ConfigurationId(1), replicas, alpha: 64 },
            votes: true,
            recovered: disk.recovered(),
            held: disk.checkpoints.clone(),
            stable: disk.stable,
            time: Timestamp(0),
            partial: disk.incoming.as_ref().map(|(checkpoint, pieces)| PartialCheckpoint {
                checkpoint: *checkpoint,
                total: self.checkpoint_bytes,
                chunks: pieces.len() as u32,
            }),
            prng: Prng::new(100 * u64::from(index) + starts),
            opening: None,
        };
        Replica::new(start, self.settings, now, self.planted)
    }

    fn start(&self, index: u16, node: &mut Node, sent: &mut Sent) {
        let checkpoint = node.disk.checkpoints.last();
        node.executor = checkpoint.map_or_else(Executor::default, Executor::after);
        node.starts += 1;
        node.replica = self.replica(index, &node.disk, node.starts, Self::clocks(node));
        self.end_turn(node, sent);
    }

    /// Crashes and comes back with the first `kept` of the writes that were under way.
    pub(crate) fn restart(&self, index: u16, node: &mut Node, kept: usize, sent: &mut Sent) {
        node.disk.pending.truncate(kept);
        while node.disk.sync_one().is_some() {}
        self.start(index, node, sent);
    }

    fn clocks(node: &Node) -> Now {
        Now { monotonic: Instant(node.now), wall: Timestamp(1) }
    }

    /// One input, what follows from it at once, and the end of the turn.
    pub(crate) fn feed(&self, node: &mut Node, input: Input, sent: &mut Sent) {
        self.step(node, input, sent);
        self.end_turn(node, sent);
    }

    fn end_turn(&self, node: &mut Node, sent: &mut Sent) {
        for _ in 0..8 {
            let due = node.replica.deadline().is_some_and(|at| at <= Instant(node.now));
            if !due {
                return;
            }
            self.step(node, Input::Deadline, sent);
        }
        panic!("something is always due");
    }

    fn step(&self, node: &mut Node, input: Input, sent: &mut Sent) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = Vec::new();
            node.replica.step(Self::clocks(node), input, &mut effects);
            for effect in effects {
                self.carry_out(node, effect, &mut inputs, sent);
            }
        }
    }

    fn carry_out(
        &self,
        node: &mut Node,
        effect: Effect,
        inputs: &mut VecDeque<Input>,
        sent: &mut Sent,
    ) {
        match effect {
            Effect::Persist { mark, records } => {
                node.disk.pending.push_back((mark, records));
                if self.sync_at_once {
                    while let Some(mark) = node.disk.sync_one() {
                        inputs.push_back(Input::Durable { mark });
                    }
                }
            }
            Effect::Send { to, message } => {
                node.past.leaves(&message.body);
                if !(self.lost)(&message) {
                    sent.push((usize::from(to.index), Letter(message)));
                }
            }
            Effect::ReadLog { from, upto, bytes_max: _, purpose } => {
                let entries = node.disk.read(from, upto);
                inputs.push_back(Input::LogRead { from, purpose, entries });
            }
            Effect::Deliver { slot, value } => self.apply(node, slot, value, inputs),
            Effect::Discard(Discard { upto, stable, .. }) => {
                node.disk.discard(upto, stable, self.planted);
                inputs.push_back(Input::Discarded { upto });
            }
            Effect::ReadChunk { to, checkpoint, chunk } => {
                let (total, bytes) = self.piece(node, checkpoint, chunk);
                inputs.push_back(Input::ChunkRead { to, checkpoint, chunk, total, bytes });
            }
            Effect::StoreChunk { checkpoint, chunk, bytes, .. } => {
                let incoming = node.disk.incoming.take();
                let known = incoming.filter(|(of, _)| *of == checkpoint);
                let mut pieces = known.map_or_else(Vec::new, |(_, pieces)| pieces);
                assert!(pieces.len() == chunk as usize, "pieces are stored in order");
                pieces.push(bytes);
                node.disk.incoming = Some((checkpoint, pieces));
                node.past.fetched.insert(checkpoint);
                inputs.push_back(Input::ChunkStored { checkpoint, chunk, stored: true });
            }
            Effect::Install { checkpoint } => inputs.push_back(self.install(node, checkpoint)),
            Effect::StopExecuting { right, .. } => {
                node.executor.stopped = true;
                node.executor.due.clear();
                node.disk.checkpoints.retain(|checkpoint| Some(*checkpoint) <= right);
            }
            _ => {}
        }
    }

    /// The length of a checkpoint, and that piece of it.
    fn piece(&self, node: &mut Node, checkpoint: CheckpointId, chunk: u32) -> (u64, Bytes) {
        if !node.disk.checkpoints.contains(&checkpoint) {
            return (0, Bytes::new());
        }
        node.past.gave.insert(checkpoint);
        let (total, length) = (self.checkpoint_bytes, u64::from(self.settings.chunk_bytes));
        let all = self.content(checkpoint.digest ^ u64::from(node.rotten));
        let start = (u64::from(chunk) * length).min(total);
        (total, all.slice(start as usize..(start + length).min(total) as usize))
    }

    fn content(&self, digest: u64) -> Bytes {
        let bytes = digest.to_le_bytes().into_iter().cycle();
        bytes.take(self.checkpoint_bytes as usize).collect()
    }

    fn apply(&self, node: &mut Node, slot: Slot, value: Value, inputs: &mut VecDeque<Input>) {
        let known = node.past.told.entry(slot).or_insert_with(|| value.clone());
        assert!(*known == value, "one replica is told two values of slot {}", slot.0);
        if node.executor.stopped {
            return;
        }
        assert!(slot == node.executor.applied.next(), "slots are delivered in order");
        node.executor.digest = digest_after(node.executor.digest, &value);
        node.executor.applied = slot;
        inputs.push_back(Input::Applied { upto: slot, time: Timestamp(0), wake: None });
        if self.checkpoint_slots > 0 && slot.0.is_multiple_of(self.checkpoint_slots) {
            let checkpoint = CheckpointId { slot, digest: node.executor.digest };
            node.executor.due.push_back(checkpoint);
            if self.checkpoint_at_once {
                inputs.extend(self.written(node));
            } else if self.planted.has(Plant::CheckpointToldBeforeDurable) {
                inputs.push_back(Input::Checkpointed { checkpoint });
            }
        }
    }

    fn written(&self, node: &mut Node) -> Vec<Input> {
        let Some(checkpoint) = node.executor.due.pop_front() else { return Vec::new() };
        let gone = node.disk.put_checkpoint(checkpoint).into_iter();
        let gone = gone.map(|checkpoint| Input::CheckpointGone { checkpoint });
        node.past.held.insert(checkpoint);
        let told = self.planted.has(Plant::CheckpointToldBeforeDurable) && !self.checkpoint_at_once;
        let told = (!told).then_some(Input::Checkpointed { checkpoint });
        told.into_iter().chain(gone).collect()
    }

    fn install(&self, node: &mut Node, checkpoint: CheckpointId) -> Input {
        let pieces = node.disk.incoming.take().map(|(_, pieces)| pieces.concat());
        let first = pieces.as_ref().and_then(|all| all.first_chunk().copied());
        let digest = first.map(u64::from_le_bytes);
        let right = pieces == Some(self.content(checkpoint.digest).to_vec());
        let installed = right || self.planted.has(Plant::InstalledUnchecked);
        if let Some(digest) = digest.filter(|_| installed) {
            node.disk.install(checkpoint, self.planted);
            node.executor = Executor::after(&CheckpointId { digest, ..checkpoint });
            node.past.held.insert(checkpoint);
            node.past.installed.insert(checkpoint);
            node.past.diverged = false;
        }
        let outcome = if installed { Installed::Stands } else { Installed::Spoiled };
        Input::Installed { checkpoint, outcome }
    }

    /// A message arrives.
    pub(crate) fn arrive(&self, node: &mut Node, from: usize, letter: &Letter, sent: &mut Sent) {
        let message = letter.0.clone();
        self.feed(node, Input::Message { from: id(from as u16), message }, sent);
    }

    /// A client asks this replica for something that nobody asked for before.
    pub(crate) fn submit(&self, index: usize, node: &mut Node, sent: &mut Sent) {
        let letter = char::from(b'a' + node.submitted + 8 * index as u8);
        self.ask(node, &letter.to_string(), sent);
    }

    /// A client asks this replica for that.
    pub(crate) fn ask(&self, node: &mut Node, request: &str, sent: &mut Sent) {
        node.submitted += 1;
        let token = Token(u64::from(node.submitted));
        let request = Bytes::copy_from_slice(request.as_bytes()).into();
        self.feed(node, Input::Submit { token, request }, sent);
    }

    /// Everything written is durable.
    pub(crate) fn sync(&self, node: &mut Node, sent: &mut Sent) {
        let mut durable = None;
        while let Some(mark) = node.disk.sync_one() {
            durable = Some(mark);
        }
        if let Some(mark) = durable {
            self.feed(node, Input::Durable { mark }, sent);
        }
    }

    /// The checkpoint that was due is durable.
    pub(crate) fn write_checkpoint(&self, node: &mut Node, sent: &mut Sent) {
        for input in self.written(node) {
            self.feed(node, input, sent);
        }
    }

    /// Its state is from now on not that of the others.
    pub(crate) fn diverge(node: &mut Node) {
        node.past.diverged = true;
        node.executor.digest ^= 1;
    }

    /// The bytes of its checkpoints are from now on not what they were.
    pub(crate) fn rot(node: &mut Node) {
        node.rotten = true;
    }

    /// The clock goes on by one tick.
    pub(crate) fn tick(&self, node: &mut Node, sent: &mut Sent) {
        node.now += 1;
        self.end_turn(node, sent);
    }

    /// The clock goes on to the next moment at which the replica wants something.
    pub(crate) fn wait(&self, node: &mut Node, sent: &mut Sent) {
        if let Some(at) = node.replica.deadline() {
            node.now = node.now.max(at.0);
            self.end_turn(node, sent);
        }
    }

    /// The replica stands as candidate, as if it had heard of no leader, had asked the others and a
    /// quorum had heard of none either: who may try and when is no part of what is safe.
    pub(crate) fn stand(&self, index: usize, node: &mut Node, sent: &mut Sent) {
        let peers = || (0..self.count).filter(|peer| usize::from(*peer) != index).map(id);
        let hearing = Self { lost: |_| false, ..self.clone() };
        let mut said = Vec::new();
        for peer in peers() {
            hearing.feed(node, Input::Suspicion { peer, suspected: true }, &mut said);
        }
        let number = |said: &Sent| {
            said.iter().rev().find_map(|(_, letter)| match &letter.0.body {
                Body::Probe(probe) => Some(probe.number),
                _ => None,
            })
        };
        for _ in 0..8 {
            if number(&said).is_none() {
                hearing.wait(node, &mut said);
            }
        }
        // Whoever has just given up leading asks nobody for a while.
        let number = number(&said);
        for (peer, number) in peers().take(usize::from(self.count / 2)).zip(number.iter().cycle()) {
            let reply = ProbeReply {
                number: *number,
                hears_leader: false,
                ballot: Ballot::ZERO,
                decided_upto: Slot::NONE,
                disk: std::time::Duration::ZERO,
            };
            let message =
                Message { configuration: ConfigurationId(1), body: Body::ProbeReply(reply) };
            hearing.feed(node, Input::Message { from: peer, message }, &mut said);
        }
        for peer in peers() {
            hearing.feed(node, Input::Suspicion { peer, suspected: false }, &mut said);
        }
        let arrive = |letter: &Letter| letter.0.name() != "probe" && !(self.lost)(&letter.0);
        sent.extend(said.into_iter().filter(|(_, letter)| arrive(letter)));
    }
}
