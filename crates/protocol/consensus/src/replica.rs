//! The replica: routes every input to the part it concerns, then checks what must always hold.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::time::Duration;

use bytes::Bytes;
use mainstay_model::{
    Ballot, CheckpointId, Configuration, Entry, Instant, NoPlants, Now, Plant, Plants, Prng,
    Record, RecordKind, Recovered, ReplicaId, Slot, Timestamp,
};

use crate::acceptor::Acceptor;
use crate::candidate::Candidate;
use crate::catch_up::CatchUpState;
use crate::checkpoints::Checkpoints;
use crate::decided_time::Reading;
use crate::delivery::Delivery;
use crate::donor::Giving;
use crate::door::{Effect, Input, Instruction, Observation, Role};
use crate::election::Election;
use crate::instructions::Instructions;
use crate::latency::Latencies;
use crate::leader::Leader;
use crate::log::Log;
use crate::message::{Body, Chunk, Message};
use crate::outbox::{Held, Outbox};
use crate::pause::Pauses;
use crate::reads::Reads;
use crate::settings::Settings;
use crate::slowness::Slowness;
use crate::stuck::Standstill;
use crate::submissions::Submissions;
use crate::transfer::Transfer;

/// What a replica is told about itself at start.
#[derive(Clone, Debug)]
pub struct Start {
    /// Who it is.
    pub me: ReplicaId,
    /// The configuration it belongs to; it lists `me`.
    pub configuration: Configuration,
    /// Whether it may vote; an amnesiac replica may not.
    pub votes: bool,
    /// What its log held.
    pub recovered: Recovered,
    /// The checkpoints that it holds, ascending; its executor starts from the last one. If the log
    /// begins above that (the one that covered the rest is gone or bad), a checkpoint of the others is
    /// fetched at once.
    pub held: Vec<CheckpointId>,
    /// What was last noted as stable, see [`Effect::Discard`]. After a restart nobody else may be left
    /// who knows.
    pub stable: Option<CheckpointId>,
    /// Decided time as of the last checkpoint of `held`; zero without one.
    pub time: Timestamp,
    /// What an interrupted transfer left on disk, if anything.
    pub partial: Option<PartialCheckpoint>,
    /// Its generator.
    pub prng: Prng,
    /// A request with which the log begins: it stands in the first slot if that one is free for what
    /// this replica proposes there of itself.
    pub opening: Option<Bytes>,
}

/// The beginning of a checkpoint that was being fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartialCheckpoint {
    /// Which.
    pub checkpoint: CheckpointId,
    /// How many bytes it has in all.
    pub total: u64,
    /// Pieces from 0 to below this one are there, whole.
    pub chunks: u32,
}

/// Whether a replica leads, wants to, or neither.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Office {
    Follower,
    Candidate(Candidate),
    Leader(Box<Leader>),
}

/// One replica of one group. See the [crate] documentation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica<P = NoPlants> {
    pub(crate) plants: P,
    pub(crate) settings: Settings,
    pub(crate) me: ReplicaId,
    pub(crate) configuration: Configuration,
    pub(crate) votes: bool,
    pub(crate) prng: Prng,
    pub(crate) opening: Option<Bytes>,
    pub(crate) log: Log,
    pub(crate) acceptor: Acceptor,
    pub(crate) outbox: Outbox,
    pub(crate) office: Office,
    pub(crate) election: Election,
    pub(crate) catch_up: CatchUpState,
    pub(crate) delivery: Delivery,
    pub(crate) submissions: Submissions,
    pub(crate) reads: Reads,
    /// When the service wants time to be decided next.
    pub(crate) wake: Option<Timestamp>,
    /// The clock of the leader that was heard last.
    pub(crate) leader_clock: Option<Reading>,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) transfer: Transfer,
    pub(crate) latencies: Latencies,
    pub(crate) slowness: Slowness,
    pub(crate) pauses: Pauses,
    /// Whether what is decided is carried out here.
    pub(crate) execution: Standstill,
    pub(crate) instructions: Instructions,
    pub(crate) giving: Giving,
    /// Work was left for the end of the turn, see [`Replica::deadline`].
    pub(crate) flush_due: bool,
    /// Asked not to lead (again).
    pub(crate) retired: bool,
    /// Numbers the questions that a [`Body::NotLeader`] may answer.
    pub(crate) numbers: u64,
    pub(crate) ignored: Tally,
}

/// A count that is told and that nothing depends on: replicas that differ in it alone are equal, so
/// that an exploration does not take them for different ones.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally(u64);

impl PartialEq for Tally {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Tally {}

impl Hash for Tally {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// How many effects or records a step may have: far more than any that ends.
const STEP_MAX: usize = 1 << 20;

/// The effects of a step. One that goes round in circles shows here before it takes all memory.
pub(crate) struct Out<'a>(&'a mut Vec<Effect>);

impl Out<'_> {
    pub(crate) fn push(&mut self, effect: Effect) {
        assert!(self.0.len() < STEP_MAX, "a step has no end");
        self.0.push(effect);
    }
}

/// One step: the clocks, and what the step asks for.
pub(crate) struct Cx<'a> {
    pub(crate) now: Now,
    pub(crate) out: Out<'a>,
    /// Records of this step, written in one piece at its end.
    pub(crate) records: Vec<Record>,
    /// What this step promises.
    pub(crate) held: Vec<Held>,
}

impl Cx<'_> {
    pub(crate) fn observe(&mut self, observation: Observation) {
        self.out.push(Effect::Observe(observation));
    }
}

/// A picture of a replica, for `status` and for checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub role: Role,
    /// The highest ballot it has promised.
    pub ballot: Ballot,
    /// Who leads, as far as it knows.
    pub leader: Option<ReplicaId>,
    /// It does not hear that leader, and reaches it through this replica.
    pub relay: Option<ReplicaId>,
    /// The highest slot it has accepted anything in.
    pub accepted: Slot,
    /// Every slot up to here is decided, as far as it knows.
    pub decided: Slot,
    /// Every slot up to here has been applied.
    pub applied: Slot,
    /// The last checkpoint of its own that is durable; 0 for none.
    pub checkpoint: Slot,
    /// The last checkpoint that a quorum is known to hold with one digest; 0 for none.
    pub stable: Slot,
    /// The checkpoint at which its state was not that of the others.
    pub diverged: Option<Slot>,
    /// A checkpoint of which no quorum can have the same state: the service does not do the same on
    /// all replicas.
    pub disputed: Option<Slot>,
    /// A checkpoint that is being fetched: its slot, and how many of how many bytes are there.
    pub transfer: Option<(Slot, u64, u64)>,
    /// The highest slot it has heard of as decided.
    pub heard_decided: Slot,
    /// Whether a quorum has room on disk for entries, as far as it knows; without it new requests
    /// are rejected.
    pub room: bool,
    /// The highest time of any value it has seen.
    pub time: Timestamp,
    /// A leader only: how far the decided time lies behind the clocks of those who promised, if that
    /// is more than it may jump by itself.
    pub clock_jump_refused: Option<Duration>,
    /// A leader only: the lowest slot that it cannot take over until a replica that is certain about
    /// it answers.
    pub blocked: Option<Slot>,
    /// Inputs from outside that were wrong or too old.
    pub ignored: u64,
}

impl<P: Plants> Replica<P> {
    /// Builds a replica from what its log held. It does nothing until its first deadline.
    ///
    /// # Panics
    /// If the configuration does not list `start.me`, or the recovered state contradicts itself.
    pub fn new(start: Start, settings: Settings, now: Now, plants: P) -> Self {
        let Start { me, configuration, votes, held, stable, partial, opening, .. } = start;
        let Start { mut recovered, mut time, mut prng, .. } = start;
        assert!(configuration.lists(me), "a replica belongs to its configuration");
        if plants.has(Plant::TimeForgottenAtRestart) {
            (time, recovered.time) = (Timestamp(0), Timestamp(0));
        }
        let (promised, uncertain) = (recovered.promised, core::mem::take(&mut recovered.uncertain));
        let decided_upto = recovered.decided_upto;
        let votes = votes || plants.has(Plant::AmnesiacVotes);
        let applied_upto = held.last().map_or(Slot::NONE, |last| last.slot);
        let election = Election::new(now.monotonic, promised, prng.split());
        let numbers = prng.next_u64() >> 1;
        // What was being fetched was stable, too.
        let begun = partial.map(|partial| partial.checkpoint);
        let known_stable = stable.into_iter().chain(begun);
        Self {
            plants,
            settings,
            me,
            configuration,
            votes,
            prng,
            opening,
            log: Log::new(recovered, (applied_upto, time)),
            acceptor: Acceptor { promised, uncertain, room: true },
            outbox: Outbox::default(),
            office: Office::Follower,
            election,
            catch_up: CatchUpState::new(decided_upto.max(applied_upto)),
            delivery: Delivery::default(),
            submissions: Submissions::default(),
            reads: Reads::default(),
            wake: None,
            leader_clock: None,
            checkpoints: Checkpoints::new(held, known_stable),
            transfer: Transfer::new(partial),
            latencies: Latencies::default(),
            slowness: Slowness::default(),
            pauses: Pauses::new(now.monotonic),
            execution: Standstill::default(),
            instructions: Instructions::default(),
            giving: Giving::default(),
            flush_due: true,
            retired: false,
            // A question of an earlier start must not be answered to this one.
            numbers,
            ignored: Tally::default(),
        }
    }

    /// The one door: takes what happened and appends what is to be done about it to `out`, to be
    /// carried out in order. Never blocks.
    ///
    /// # Panics
    /// Only when an invariant of the protocol is broken; the process must then end.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        let mut cx = Cx { now, out: Out(out), records: Vec::new(), held: Vec::new() };
        self.notice_pause(&mut cx);
        self.route(&mut cx, input);
        self.finish(&mut cx);
        self.take_time(now.monotonic);
        self.note_execution(now.monotonic);
        self.log.evict(self.settings.window_bytes_max, self.outbox.durable());
        self.invariants();
    }

    fn route(&mut self, cx: &mut Cx<'_>, input: Input) {
        match input {
            Input::Message { from, message } => self.on_message(cx, from, message),
            Input::Submit { token, request } => self.on_submit(cx, token, request),
            Input::Read { token } => self.on_read(cx, token),
            Input::Durable { mark } => {
                assert!(self.outbox.on_durable(mark), "the world invented a mark");
                let owes = self.outbox.owes();
                self.latencies.durable(mark, owes, cx.now.monotonic);
            }
            Input::Applied { upto, time, wake } => self.on_applied(cx, upto, time, wake),
            Input::LogRead { from, purpose, entries } => {
                self.on_log_read(cx, from, purpose, entries);
            }
            Input::Link { peer, up } => self.on_link(cx, peer, up),
            Input::Passing { peer, coming, kind } => self.on_passing(cx, peer, coming, kind),
            Input::Suspicion { peer, suspected } => self.on_suspicion(cx, peer, suspected),
            Input::Room { entries } => self.on_room(cx, entries),
            Input::Unwritten { from } => self.on_unwritten(cx, from),
            Input::Checkpointed { checkpoint } => self.on_checkpointed(cx, checkpoint),
            Input::CheckpointGone { checkpoint } => self.on_checkpoint_gone(cx, checkpoint),
            Input::Discarded { upto } => self.on_discarded(upto),
            Input::Unrestored { instead } => self.on_unrestored(instead),
            Input::ChunkRead { to, checkpoint, chunk, total, bytes } => {
                self.on_chunk_read(cx, to, Chunk { checkpoint, chunk, total, bytes });
            }
            Input::ChunkStored { checkpoint, chunk, stored } => {
                self.on_chunk_stored(cx, checkpoint, chunk, stored);
            }
            Input::Installed { checkpoint, outcome } => {
                self.on_installed(cx, checkpoint, outcome);
            }
            Input::Retire => self.on_retire(cx),
            Input::LeaderMove { to } => self.on_instruction(cx, Instruction::LeaderMove { to }),
            Input::ConfirmClockJump => self.on_instruction(cx, Instruction::ConfirmClockJump),
            Input::Deadline => self.on_deadline(cx),
        }
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, from: ReplicaId, message: Message) {
        if from == self.me || !self.configuration.lists(from) {
            return self.ignore(cx, "message of a replica that is not in the configuration");
        }
        if message.configuration != self.configuration.id {
            return self.ignore(cx, "message of another configuration");
        }
        match message.body {
            Body::Prepare(m) => self.on_prepare(cx, from, m),
            Body::Promise(m) => self.on_promise(cx, from, m),
            Body::Accept(m) => self.on_accept(cx, from, m),
            Body::Accepted(m) => self.on_accepted(cx, from, m),
            Body::Refused(m) => self.on_refused(cx, from, m),
            Body::Lead(m) => self.on_lead(cx, from, m),
            Body::Follow(m) => self.on_follow(cx, from, m),
            Body::Probe(m) => self.on_probe(cx, from, m),
            Body::ProbeReply(m) => self.on_probe_reply(cx, from, m),
            Body::StepDown(m) => self.on_step_down(cx, from, m),
            Body::CatchUp(m) => self.on_catch_up(cx, from, m),
            Body::Decided(m) => self.on_decided(cx, from, m),
            Body::Forward(m) => self.on_forward(cx, from, m),
            Body::NotLeader(m) => self.on_not_leader(cx, from, m),
            Body::ReadAsk(m) => self.on_read_ask(cx, from, m),
            Body::ReadSlot(m) => self.on_read_slot(cx, m),
            Body::CheckpointAsk(m) => self.on_checkpoint_ask(cx, from, m),
            Body::CheckpointIs(m) => self.on_checkpoint_is(cx, from, m),
            Body::ChunkAsk(m) => self.on_chunk_ask(cx, from, m),
            Body::Chunk(m) => self.on_chunk(cx, from, m),
            Body::Learned(m) => self.on_learned(cx, from, m),
            Body::Instruct(m) => self.on_instruct(cx, from, m),
            Body::Instructed(m) => self.on_instructed(cx, m),
            Body::ChunkRefused(m) => self.on_chunk_refused(cx, from, m),
            Body::Report(m) => self.on_report(cx, from, m),
        }
    }

    /// Ends a step: what it wrote is persisted in one piece, what it promises waits for that.
    fn finish(&mut self, cx: &mut Cx<'_>) {
        loop {
            if !cx.records.is_empty() {
                let records = core::mem::take(&mut cx.records);
                let mark = self.outbox.issue();
                let long = self.settings.long(records.iter().map(Record::value_len).sum());
                self.latencies.written(mark, long, cx.now.monotonic);
                cx.out.push(Effect::Persist { mark, records });
            }
            for held in cx.held.drain(..) {
                self.outbox.hold(held);
            }
            let released = self.outbox.release(self.plants.has(Plant::PromiseBeforeDurable));
            if released.is_empty() {
                break;
            }
            for held in released {
                self.on_released(cx, held);
            }
        }
    }

    fn on_released(&mut self, cx: &mut Cx<'_>, held: Held) {
        match held {
            Held::Message(to, message) => {
                if let Body::Accepted(accepted) = &message.body {
                    self.log.durable_upto = self.log.durable_upto.max(accepted.slots.last);
                }
                cx.out.push(Effect::Send { to, message });
            }
            Held::OwnPromise(ballot) => self.on_own_promise(cx, ballot),
            Held::OwnVote(ballot, slot) => {
                self.log.durable_upto = self.log.durable_upto.max(slot);
                self.on_own_vote(cx, ballot, slot);
            }
        }
    }

    /// The earliest instant at which the machine wants an [`Input::Deadline`]; one that has passed
    /// asks for it at the end of the world's present turn, once all input that is ready has been
    /// stepped: batches are formed then.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.flush_due {
            return Some(Instant(0));
        }
        let office = match &self.office {
            Office::Follower => self.election_deadline(),
            Office::Candidate(candidate) => {
                Some(candidate.deadline(&self.settings, self.candidacy_time()))
            }
            Office::Leader(leader) => {
                let batch = self.batch_deadline();
                Some(batch.map_or(leader.deadline(), |at| at.min(leader.deadline())))
            }
        };
        let learning = [self.catch_up_deadline(), self.transfer_deadline()];
        let serving =
            [self.reads_deadline(), self.submissions_deadline(), self.instructions_deadline()];
        let all = learning.into_iter().chain(serving).chain([office, self.checkpoint_deadline()]);
        all.flatten().min()
    }

    fn on_deadline(&mut self, cx: &mut Cx<'_>) {
        match &self.office {
            Office::Follower => self.election_tick(cx),
            Office::Candidate(_) => self.candidate_tick(cx),
            Office::Leader(_) => self.leader_tick(cx),
        }
        self.catch_up_tick(cx);
        self.reads_tick(cx);
        self.submissions_tick(cx);
        self.checkpoint_tick(cx);
        self.transfer_tick(cx);
        self.instructions_tick(cx);
        let stands = self.plants.has(Plant::DeadlineStands) && self.election.leader.is_none();
        self.flush_due = stands;
        self.flush(cx);
    }

    /// The end of a turn: batches, forwards, reads and watermarks leave.
    fn flush(&mut self, cx: &mut Cx<'_>) {
        self.deliver(cx);
        if matches!(self.office, Office::Leader(_)) {
            self.flush_leader(cx);
        } else {
            self.flush_forwards(cx);
            self.flush_reads(cx);
        }
        self.ask_for_missing(cx);
    }

    pub(crate) fn send(&self, cx: &mut Cx<'_>, to: ReplicaId, body: Body) {
        cx.out.push(Effect::Send { to, message: self.message(body) });
    }

    /// Sends once every record issued up to the end of this step is durable.
    pub(crate) fn send_held(&self, cx: &mut Cx<'_>, to: ReplicaId, body: Body) {
        cx.held.push(Held::Message(to, self.message(body)));
    }

    pub(crate) fn message(&self, body: Body) -> Message {
        Message { configuration: self.configuration.id, body }
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = ReplicaId> + use<P> {
        let me = self.me;
        self.configuration.replicas.clone().into_iter().filter(move |peer| *peer != me)
    }

    /// Adds a record to the step; it carries promise and watermark as they are now.
    pub(crate) fn record(&self, cx: &mut Cx<'_>, kind: RecordKind) {
        assert!(cx.records.len() < STEP_MAX, "a step has no end");
        cx.records.push(Record {
            group: mainstay_model::GroupId::FIRST,
            configuration: self.configuration.id,
            promised: self.acceptor.promised,
            decided_upto: self.log.decided_upto,
            kind,
        });
    }

    /// Keeps an accepted entry, in the log and on disk.
    pub(crate) fn keep_accepted(&mut self, cx: &mut Cx<'_>, slot: Slot, entry: Entry) {
        self.record(cx, RecordKind::Accept { slot, entry: entry.clone() });
        let long = self.settings.long(entry.value.len());
        self.keep(slot, entry);
        self.latencies.accepted(slot, long, cx.now.monotonic);
        self.acceptor.certain_again(slot);
    }

    /// Keeps an entry whose record is one of this step.
    pub(crate) fn keep(&mut self, slot: Slot, entry: Entry) {
        let marks = (self.outbox.next_mark(), self.outbox.durable());
        self.log.insert(slot, entry, marks, self.acceptor.is_uncertain(slot));
    }

    pub(crate) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn ignore(&mut self, cx: &mut Cx<'_>, why: &'static str) {
        self.ignored.0 += 1;
        cx.observe(Observation::Ignored(why));
    }

    pub(crate) fn observe_role(&self, cx: &mut Cx<'_>) {
        cx.observe(Observation::Role { role: self.role(), ballot: self.acceptor.promised });
    }

    fn role(&self) -> Role {
        match (&self.office, self.votes) {
            (_, false) => Role::Learner,
            (Office::Follower, _) => Role::Follower,
            (Office::Candidate(_), _) => Role::Candidate,
            (Office::Leader(_), _) => Role::Leader,
        }
    }

    /// A picture of the replica.
    #[must_use]
    pub fn status(&self) -> Status {
        let (leader, blocked, clock_jump_refused) = match &self.office {
            Office::Leader(leader) => {
                (Some(self.me), leader.first_blocked(), leader.jump_refused())
            }
            _ => (self.way_to_leader().map(|way| way.ballot.leader), None, None),
        };
        Status {
            role: self.role(),
            ballot: self.acceptor.promised,
            leader,
            relay: self.relay(),
            accepted: self.log.accepted_upto,
            decided: self.log.decided_upto,
            applied: self.log.applied_upto,
            checkpoint: self.checkpoints.own().map_or(Slot::NONE, |own| own.slot),
            stable: self.checkpoints.stable().map_or(Slot::NONE, |stable| stable.slot),
            diverged: self.checkpoints.diverged_at(),
            disputed: self.checkpoints.disputed(&self.configuration),
            transfer: self.transfer.progress(),
            heard_decided: self.catch_up.target.max(self.log.decided_upto),
            room: self.quorum_has_room(),
            time: self.log.time,
            clock_jump_refused,
            blocked,
            ignored: self.ignored.0,
        }
    }

    /// Every slot up to here is decided, and the records that keep them were issued. A checkpoint of a
    /// higher slot, which can be where values found no room in the log, must wait before it takes its
    /// place: at the next start it would pass for one that was fetched.
    #[must_use]
    pub fn keeps_upto(&self) -> Slot {
        self.log.decided_upto
    }

    /// Whether requests can be taken as far as room on disk goes, see [`Status::room`].
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.quorum_has_room()
    }

    fn invariants(&self) {
        let log = &self.log;
        assert!(log.applied_upto <= log.delivered_upto, "applied what was never delivered");
        let passed = log.passed_from.is_some();
        assert!(passed || log.delivered_upto <= log.decided_upto, "delivered what is not decided");
        assert!(log.truncated_upto <= log.decided_upto, "discarded what is not decided");
        self.submissions.queue.invariants();
        match &self.office {
            Office::Follower => {}
            Office::Candidate(candidate) => {
                assert!(self.votes, "a learner stands as candidate");
                assert!(candidate.ballot == self.acceptor.promised, "candidate past its promise");
                assert!(candidate.ballot.leader == self.me, "candidate in another's ballot");
            }
            Office::Leader(leader) => {
                assert!(self.votes, "a learner leads");
                assert!(leader.ballot == self.acceptor.promised, "leader past its promise");
                assert!(leader.ballot.leader == self.me, "leader in another's ballot");
                leader.invariants(log.decided_upto);
            }
        }
    }
}
