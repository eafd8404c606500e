//! Joins a replica of `consensus` to the world: machine, log, applier, detector and front in one
//! process, each with the delays of the thread it has in reality.

mod checkpoints;
mod clients;
mod disk;
mod executor;
mod long_frames;
mod transfer;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use checkpoints::Keeping;
pub(crate) use checkpoints::Kept;
use disk::Job;
use long_frames::LongFrames;
use mainstay_check::Observation;
use mainstay_consensus::{Body, Discard, Effect, Input, Message, Replica, Role, Start};
use mainstay_detect::Detector;
use mainstay_model::frame::Frame;
use mainstay_model::piece::PIECE;
use mainstay_model::plant::Planted;
use mainstay_model::time::nanos;
use mainstay_model::{
    GroupId, Instant, Mark, Nonce, Now, Record, Recovered, ReplicaId, Slot, Token, Value,
};
use mainstay_service::{Applier, CheckpointInterval, Command, Secret};
use mainstay_storage::Log;
use transfer::{Piece, Pieces};

use crate::context::Cx;
use crate::disk::SimDisk;
use crate::drive::boot::GroupOptions;
use crate::drive::front::{Asker, Front, Read};
use crate::registers::Registers;
use crate::wire;
use crate::world::{Harm, Instruction, NodeId, Picture, Process};

const MACHINE: u64 = 0;
const DETECT: u64 = 1;
const DISK: u64 = 2;
const EXECUTOR: u64 = 3;
const RETRY: u64 = 4;
const TICK: u64 = 5;
const WRITER: u64 = 6;
const TRANSFER: u64 = 7;
const PIECES: u64 = 8;

/// How deep a step may stand in others whose effects it is of.
const DEPTH_MAX: u32 = 64;

const TICK_NANOS: u64 = 100_000_000;

/// The replicated state of a replica.
type State = Applier<Registers, Planted>;

/// Whose a submission or a read is.
#[derive(Debug)]
enum Origin {
    Front,
    Own,
    Client(Asker),
}

/// One process of a replica.
pub(crate) struct ReplicaProcess {
    group: GroupOptions,
    me: ReplicaId,
    machine: Replica<Planted>,
    effects: Vec<Effect>,
    /// How many steps are being carried out, each within the one before.
    depth: u32,
    armed: Option<Instant>,
    /// The highest stable checkpoint known.
    stable: Slot,
    role: Role,
    detector: Detector,
    detector_armed: Option<Instant>,
    log: Log<SimDisk, Planted>,
    jobs: VecDeque<Job>,
    at_work: Vec<Job>,
    disk_busy: bool,
    had_room: bool,
    /// From which mark on the machine is to be told that there was no room.
    refused: Option<Mark>,
    /// What waits for the disk's thread waits for room.
    stuck: bool,
    /// What need not be kept here, above what it is wanted elsewhere, and what is to be noted first.
    discardable: Option<Discard>,
    applier: State,
    deliveries: VecDeque<(Slot, Value)>,
    executing: bool,
    /// A checkpoint is due that was not taken yet.
    owes_checkpoint: bool,
    /// It has diverged.
    stopped: bool,
    /// What was fetched is being taken over.
    installing: bool,
    keeping: Keeping,
    pieces: Pieces,
    long: LongFrames,
    /// Its service hangs.
    hangs: bool,
    /// Its service is to panic over the next request, or does so now.
    wants_panic: bool,
    panics: bool,
    /// Its state is to be spoiled with the next request.
    wants_spoiling: bool,
    /// An interval that only this replica sets, where that is the planted bug.
    local_interval: Option<CheckpointInterval>,
    front: Front,
    retry_armed: bool,
    applied_at_tick: Slot,
    token: u64,
    origins: BTreeMap<Token, Origin>,
    reads: BTreeMap<Token, Read>,
}

impl ReplicaProcess {
    /// The process of replica `me`, which votes or does not, over what its log held.
    pub(crate) fn new(
        cx: &mut Cx<'_>,
        group: GroupOptions,
        (me, votes): (ReplicaId, bool),
        log: Log<SimDisk, Planted>,
        recovered: Recovered,
        kept: Kept,
    ) -> Self {
        let now = cx.now();
        let configuration = group.configuration.clone();
        let peers: Vec<_> =
            configuration.replicas.iter().copied().filter(|peer| *peer != me).collect();
        let prng = cx.prng().split();
        // Another one for each start, and without a draw that everything afterwards would depend on.
        let secret = Secret(u128::from(prng.clone().next_u64()));
        let opening = Some(Command::Begin { secret }.encode());
        let nonce = Nonce(u128::from(cx.prng().next_u64()));
        let Kept { keeping, state, checkpoint, partial } = kept;
        let mut held = keeping.held.held();
        held.retain(|held| Some(*held) <= checkpoint);
        let stable = keeping.held.stable();
        let time = state.time();
        let start = Start {
            me,
            configuration,
            votes,
            recovered,
            held,
            stable,
            time,
            partial,
            prng,
            opening,
        };
        let resumable = partial.map(|partial| (partial.checkpoint, partial.chunks));
        let plants = group.plants;
        let had_room = log.has_room();
        Self {
            me,
            machine: Replica::new(start, group.ordering, now, plants),
            effects: Vec::new(),
            depth: 0,
            armed: None,
            stable: Slot::NONE,
            role: if votes { Role::Follower } else { Role::Learner },
            detector: Detector::new(peers, group.detection, now.monotonic),
            detector_armed: None,
            log,
            jobs: VecDeque::new(),
            at_work: Vec::new(),
            disk_busy: false,
            had_room,
            refused: None,
            stuck: false,
            discardable: None,
            applier: state,
            deliveries: VecDeque::new(),
            executing: false,
            owes_checkpoint: false,
            stopped: false,
            installing: false,
            keeping,
            pieces: Pieces::new(resumable),
            long: LongFrames::default(),
            hangs: false,
            wants_panic: false,
            panics: false,
            wants_spoiling: false,
            local_interval: None,
            front: Front::new(nonce, group.sessions.replies_max, plants),
            retry_armed: false,
            applied_at_tick: Slot::NONE,
            token: 0,
            origins: BTreeMap::new(),
            reads: BTreeMap::new(),
            group,
        }
    }

    fn peer(&self, node: NodeId) -> Option<ReplicaId> {
        self.group.configuration.replicas.get(usize::from(node.0)).copied()
    }

    fn token(&mut self) -> Token {
        self.token += 1;
        Token(self.token)
    }

    /// One step of the machine, and everything that follows from it.
    fn step(&mut self, cx: &mut Cx<'_>, input: Input) {
        cx.count_step();
        self.depth += 1;
        assert!(self.depth <= DEPTH_MAX, "each step asks for another one at once: they do not end");
        let now = cx.now();
        let mut effects = std::mem::take(&mut self.effects);
        self.machine.step(now, input, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(cx, effect);
        }
        self.effects = effects;
        self.depth -= 1;
        let stable = self.machine.status().stable;
        if stable > self.stable {
            self.stable = stable;
            cx.recorder().counts.stable += 1;
        }
        self.arm(cx, now);
        if self.depth == 0 {
            for checkpoint in self.keeping.held.take_gone() {
                cx.line(format_args!("checkpoint of {} is gone", checkpoint.slot));
                self.step(cx, Input::CheckpointGone { checkpoint });
            }
        }
    }

    fn arm(&mut self, cx: &mut Cx<'_>, now: Now) {
        let Some(deadline) = self.machine.deadline() else { return };
        let deadline = deadline.max(now.monotonic);
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.armed = Some(deadline);
            cx.timer_at(deadline, MACHINE);
        }
    }

    fn carry_out(&mut self, cx: &mut Cx<'_>, effect: Effect) {
        match effect {
            Effect::Persist { mark, records } => {
                cx.line(format_args!("persist {mark}: {}", Records(&records)));
                self.jobs.push_back(Job::Write(mark, records));
                self.work(cx);
            }
            Effect::Send { to, message } => self.send(cx, to, &message),
            Effect::ReadLog { from, upto, bytes_max, purpose } => {
                self.jobs.push_back(Job::Read { from, upto, bytes_max, purpose });
                self.work(cx);
            }
            Effect::Deliver { slot, value } => {
                cx.line(format_args!("decided {slot}: {value:?}"));
                let checksum = value.checksum();
                cx.observe(&Observation::Decided { replica: self.me, slot, checksum });
                if !self.keeps(slot) {
                    cx.recorder().counts.passed += 1;
                }
                self.deliveries.push_back((slot, value));
                self.execute(cx);
            }
            Effect::ReadAt { token, slot, time } => {
                if let Some(read) = self.reads.get_mut(&token) {
                    cx.line(format_args!("read {token} at {slot}, {time:?}"));
                    read.at = Some((slot, time));
                    self.answer_reads(cx);
                }
            }
            Effect::Rejected { token, reason } => {
                cx.line(format_args!("rejected {token}: {reason:?}"));
                self.on_rejected(cx, token);
            }
            Effect::ReadChunk { to, checkpoint, chunk } => {
                self.on_piece(cx, Piece::Read { to, checkpoint, chunk });
            }
            Effect::StoreChunk { checkpoint, total, chunk, bytes } => {
                self.on_piece(cx, Piece::Store { checkpoint, total, chunk, bytes });
            }
            Effect::Install { checkpoint } => self.on_piece(cx, Piece::Install { checkpoint }),
            Effect::Discard(discard) => self.on_discard(cx, discard),
            Effect::StopExecuting { at, right } => self.stop_executing(cx, at, right),
            Effect::Instructed { instruction, outcome } => {
                cx.line(format_args!("{instruction:?}: {outcome:?}"));
            }
            Effect::Observe(observation) => {
                match observation {
                    mainstay_consensus::Observation::Role { role, .. } => {
                        self.role = role;
                        self.observe_office(cx);
                    }
                    mainstay_consensus::Observation::JumpConfirmed { jump } => {
                        cx.observe(&Observation::JumpConfirmed { jump: nanos(jump) });
                    }
                    mainstay_consensus::Observation::Transfer { .. } => {
                        cx.recorder().counts.transfers += 1;
                    }
                    _ => {}
                }
                cx.line(format_args!("* {observation:?}"));
            }
        }
    }

    fn observe_office(&self, cx: &mut Cx<'_>) {
        if self.role == Role::Leader {
            let jump_max = nanos(self.group.ordering.clock_jump_max);
            cx.observe(&Observation::TookOffice { replica: self.me, jump_max });
        }
    }

    /// What stands still for a whole tick is sent again: no message is trusted to arrive.
    fn on_tick(&mut self, cx: &mut Cx<'_>) {
        let applied = self.applier.applied_upto();
        if applied == self.applied_at_tick && self.front.open() > 0 {
            self.retry_soon(cx);
        }
        self.applied_at_tick = applied;
        if !self.had_room {
            self.look_for_room(cx);
            self.stuck = false;
            self.work(cx);
        }
        // It may have hung until now.
        self.execute(cx);
        self.tidy_checkpoints(cx);
        self.set_interval(cx);
        self.close(cx);
        cx.timer_in(TICK_NANOS, TICK);
    }

    /// Everything was healed: as leader, has the log go on until there is a stable checkpoint of what
    /// stood in it then.
    fn close(&mut self, cx: &mut Cx<'_>) {
        let Some(decided) = cx.closing() else { return };
        if self.role == Role::Leader && self.machine.status().stable < decided {
            let interval = CheckpointInterval { requests: 3, ..CheckpointInterval::MIN };
            let command = Command::SetCheckpointInterval(interval).encode();
            self.submit(cx, Origin::Own, command);
        }
    }

    /// How many replicas make a quorum.
    fn quorum(&self) -> usize {
        self.group.configuration.replicas.len() / 2 + 1
    }

    // Peers and the detector.

    fn detect(&mut self, cx: &mut Cx<'_>, input: mainstay_detect::Input) {
        let now = cx.now().monotonic;
        let mut effects = Vec::new();
        let patience = mainstay_detect::Input::Patience { timeout: self.machine.leader_timeout() };
        self.detector.step(now, patience, &mut effects);
        self.detector.step(now, input, &mut effects);
        for effect in effects {
            match effect {
                mainstay_detect::Effect::Heartbeat { peer } => {
                    cx.send(NodeId(peer.index), wire::heartbeat(self.me.epoch.counter));
                }
                mainstay_detect::Effect::Report(report) => {
                    let (peer, suspected) = (report.peer, report.suspected);
                    cx.line(format_args!("* suspects {peer}: {suspected}"));
                    self.step(cx, Input::Suspicion { peer, suspected });
                }
            }
        }
        if let Some(deadline) = self.detector.deadline() {
            let deadline = deadline.max(now);
            if self.detector_armed.is_none_or(|armed| deadline < armed) {
                self.detector_armed = Some(deadline);
                cx.timer_at(deadline, DETECT);
            }
        }
    }

    fn on_peer(&mut self, cx: &mut Cx<'_>, peer: ReplicaId, frame: Frame) {
        self.detect(cx, mainstay_detect::Input::Heard { peer });
        if frame.kind == wire::HEARTBEAT {
            return;
        }
        match Message::decode(frame.kind, frame.body) {
            Ok(message) => {
                cx.line(format_args!("<- {} {}", peer.index, Shown(&message.body)));
                self.step(cx, Input::Message { from: peer, message });
            }
            Err(error) => cx.violated("invariant", format!("kind {}: {error}", frame.kind)),
        }
    }
}

impl Process for ReplicaProcess {
    fn start(&mut self, cx: &mut Cx<'_>) {
        let applied_upto = self.applier.applied_upto();
        cx.observe(&Observation::Started { replica: self.me, applied_upto });
        if applied_upto > Slot::NONE {
            cx.line(format_args!("starts from the checkpoint of {applied_upto}"));
            cx.recorder().counts.restored += 1;
            self.observe_state(cx);
        }
        let now = cx.now();
        self.arm(cx, now);
        self.detect(cx, mainstay_detect::Input::Deadline);
        self.step(cx, Input::Room { entries: self.had_room });
        self.tell_applied(cx);
        cx.timer_in(TICK_NANOS, TICK);
    }

    fn on_frame(&mut self, cx: &mut Cx<'_>, from: NodeId, bytes: Bytes) {
        let Some(frame) = wire::open(&bytes) else {
            return cx.violated("invariant", "a frame that is none".to_owned());
        };
        match self.peer(from) {
            Some(peer) if frame.kind == PIECE => self.on_piece_frame(cx, peer, &frame),
            Some(peer) => self.on_peer(cx, peer, frame),
            None => self.on_client(cx, from, &frame),
        }
    }

    fn on_link(&mut self, cx: &mut Cx<'_>, node: NodeId, up: bool) {
        match self.peer(node) {
            Some(peer) => {
                cx.line(format_args!("link to {} {}", node.0, if up { "up" } else { "down" }));
                self.long.forget(node, peer);
                self.detect(cx, mainstay_detect::Input::Link { peer, up });
                self.step(cx, Input::Link { peer, up });
            }
            None => {
                self.front.on_link(node);
                self.reads.retain(|_, read| read.asker.client != node);
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: u64) {
        let now = cx.now();
        match timer {
            MACHINE => {
                if self.armed.is_some_and(|armed| armed <= now.monotonic) {
                    self.armed = None;
                }
                if self.machine.deadline().is_some_and(|deadline| deadline <= now.monotonic) {
                    self.step(cx, Input::Deadline);
                } else {
                    self.arm(cx, now);
                }
            }
            DETECT => {
                if self.detector_armed.is_some_and(|armed| armed <= now.monotonic) {
                    self.detector_armed = None;
                }
                self.detect(cx, mainstay_detect::Input::Deadline);
            }
            DISK => self.on_disk(cx),
            EXECUTOR => self.on_executor(cx),
            WRITER => self.on_writer(cx),
            TRANSFER => self.on_transfer(cx),
            PIECES => self.on_pieces(cx),
            RETRY => self.on_retry(cx),
            _ => self.on_tick(cx),
        }
    }

    fn instruct(&mut self, cx: &mut Cx<'_>, instruction: Instruction) {
        let input = match instruction {
            Instruction::Retire => Input::Retire,
            Instruction::LeaderMove(to) => Input::LeaderMove { to },
            Instruction::ConfirmClockJump => Input::ConfirmClockJump,
        };
        self.step(cx, input);
    }

    fn harm(&mut self, harm: Harm) {
        match harm {
            Harm::Spoil => self.wants_spoiling = true,
            Harm::Hang(hangs) => self.hangs = hangs,
            Harm::Panic => self.wants_panic = true,
            Harm::WrongPieces(count) => self.pieces.wrong = count,
        }
    }

    fn picture(&mut self) -> Picture {
        let status = self.machine.status();
        Picture {
            leads: self.role == Role::Leader,
            campaigns: self.role == Role::Candidate,
            ballot: status.ballot.round,
            applied: self.applier.applied_upto().0,
            digest: self.applier.digest().unwrap_or_default(),
            open: 0,
            stable: status.stable.0.min(status.checkpoint.0),
            fetches: status.transfer.is_some(),
            truncated: self.log.truncated_upto(GroupId::FIRST).0,
            log_bytes: self.log.bytes(),
            has_room: self.had_room,
            checkpoints: self.keeping.held.held().len() + self.keeping.held.unusable().len(),
            time: self.machine.time().0,
        }
    }
}

/// Records in a trace.
struct Records<'a>(&'a [Record]);

impl std::fmt::Display for Records<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use mainstay_model::RecordKind;
        for record in self.0 {
            match &record.kind {
                RecordKind::Promise => write!(f, "promise {}; ", record.promised)?,
                RecordKind::Accept { slot, entry } => {
                    write!(f, "accept {slot} in {} {:?}; ", entry.ballot, entry.value)?;
                }
                RecordKind::Learn { slot, entry } => write!(f, "learn {slot} {:?}; ", entry.value)?,
            }
        }
        Ok(())
    }
}

/// A message in a trace.
struct Shown<'a>(&'a Body);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
