//! The messages of the protocol: one type a message, each saying who sends it and when.

use alloc::vec::Vec;
use core::time::Duration;

use mainstay_model::{
    Ballot, CheckpointId, ConfigurationId, Entry, RequestId, Slot, SlotRange, Timestamp, Value,
};

use bytes::Bytes;

use crate::door::{Instruction, Refusal};

/// A message between two replicas of a group, with the configuration its sender stands in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The configuration of the slot it is about, or the sender's own where it is about none.
    pub configuration: ConfigurationId,
    /// What it says.
    pub body: Body,
}

impl Message {
    /// About how many bytes it has, as far as it may have many: a world that sends what is long in
    /// pieces need not encode it to know.
    #[must_use]
    pub fn weight(&self) -> usize {
        match &self.body {
            Body::Accept(m) => m.value.len(),
            Body::Decided(m) => m.entries.iter().map(|entry| entry.value.len()).sum(),
            Body::Promise(m) => m.accepted.iter().map(|(_, entry)| entry.value.len()).sum(),
            Body::Forward(m) => m.requests.iter().map(|request| request.bytes.len()).sum(),
            Body::Chunk(m) => m.bytes.len(),
            _ => 0,
        }
    }

    /// Whether it brings what a disk or a service has work with: a world that is too far behind with
    /// that may drop it, and it is sent again.
    #[must_use]
    pub const fn brings_values(&self) -> bool {
        matches!(self.body, Body::Accept(_) | Body::Decided(_) | Body::Forward(_))
    }
}

/// The bodies of messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Phase 1a.
    Prepare(Prepare),
    /// Phase 1b, one page of it.
    Promise(Promise),
    /// Phase 2a.
    Accept(Accept),
    /// Phase 2b.
    Accepted(Accepted),
    /// An older ballot, or a slot already decided, was met.
    Refused(Refused),
    /// The leader's sign of life and watermark.
    Lead(Lead),
    /// The answer to it.
    Follow(Follow),
    /// "Do you hear of a leader that makes progress?"
    Probe(Probe),
    /// The answer to it.
    ProbeReply(ProbeReply),
    /// The leader gives up its ballot and names who should try first.
    StepDown(StepDown),
    /// Asks for decided values.
    CatchUp(CatchUp),
    /// Decided values.
    Decided(Decided),
    /// A follower hands requests to the leader.
    Forward(Forward),
    /// Who was asked to lead them on is not the leader.
    NotLeader(NotLeader),
    /// A follower asks the leader for a slot at which its reads are linearizable.
    ReadAsk(ReadAsk),
    /// The leader's answer to it.
    ReadSlot(ReadSlot),
    /// Asks which checkpoints a replica holds.
    CheckpointAsk(CheckpointAsk),
    /// The checkpoints a voting replica holds durably.
    CheckpointIs(CheckpointIs),
    /// Asks for a piece of a checkpoint.
    ChunkAsk(ChunkAsk),
    /// A piece of a checkpoint.
    Chunk(Chunk),
    /// A learner tells the leader how far it is.
    Learned(Learned),
    /// The operator's instruction, on its way to the leader.
    Instruct(Instruct),
    /// What came of it.
    Instructed(Instructed),
    /// Why a piece is not given.
    ChunkRefused(ChunkRefused),
    /// How far a replica is that knows of nothing it lacks.
    Report(Report),
}

/// Candidate to all: asks for a promise not to answer lower ballots, and for what was accepted from
/// `from` on. Sent once the candidate's own ballot is durable; sent again until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prepare {
    /// The ballot it wants to lead in.
    pub ballot: Ballot,
    /// The first slot that it does not know as decided.
    pub from: Slot,
}

/// Acceptor to candidate: one page of a picture of one step. The promise counts once all pages are
/// there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Promise {
    /// The ballot that was promised.
    pub ballot: Ballot,
    /// Which page, from 0.
    pub page: u32,
    /// Whether this is the last page.
    pub last: bool,
    /// The last slot of the page before; none on page 0. Pages that follow one another leave nothing
    /// out between them, even if the sender took the picture anew.
    pub after: Slot,
    /// Every slot up to here is decided, as far as the sender knows. Same on every page.
    pub decided_upto: Slot,
    /// Every slot up to here is no longer in the sender's log. Same on every page.
    pub truncated_upto: Slot,
    /// What the sender's calendar clock shows.
    pub clock: Timestamp,
    /// What the sender knows decided time to be, which a leader's clock may not start below: the
    /// ceiling of every entry it has seen, and the clock of the leader that it heard last, run on.
    /// Zero if it knows of no time.
    pub time: Timestamp,
    /// Where the sender cannot say what it accepted. Same on every page.
    pub uncertain: Vec<SlotRange>,
    /// What the sender accepted above its `decided_upto`, in ascending order over all pages.
    pub accepted: Vec<(Slot, Entry)>,
}

/// Leader to all: asks to accept a value. Sent before the leader's own copy is durable; sent again
/// to those who have not answered until the slot is decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Accept {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Where.
    pub slot: Slot,
    /// What.
    pub value: Value,
    /// The watermark of the ballot, see [`Lead::decided_upto`].
    pub decided_upto: Slot,
}

/// Acceptor to leader, once it is durable: the values proposed in `ballot` for all slots of the
/// range are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Accepted {
    /// The ballot they were accepted in.
    pub ballot: Ballot,
    /// Which slots.
    pub slots: SlotRange,
    /// Proof of progress, as [`Lead::applied_upto`], at the sender.
    pub applied_upto: Slot,
}

/// Acceptor to candidate or leader: why it does not promise or accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Refused {
    /// The ballot that was refused.
    pub ballot: Ballot,
    /// Why.
    pub reason: RefusedReason,
}

/// Why an acceptor refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusedReason {
    /// It has promised this higher ballot.
    Promised(Ballot),
    /// Every slot up to here is decided, as far as it knows; the asked one is among them.
    Decided(Slot),
    /// It has no room on disk for entries.
    NoRoom,
    /// It keeps as many undecided entries as it may. Once it knows more as decided it can be asked again.
    Behind {
        /// The asked slot.
        slot: Slot,
        /// Every slot up to here is decided, as far as it knows.
        decided_upto: Slot,
    },
}

/// Leader to all, every interval and whenever the watermark moved with no `Accept` to carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lead {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// In every slot up to here in which the leader proposed in this ballot, what it proposed is
    /// decided; every other slot up to here is decided as well.
    pub decided_upto: Slot,
    /// Proof of progress: the highest slot proposed.
    pub proposed_upto: Slot,
    /// Proof of progress: every slot up to here is durable at the leader.
    pub durable_upto: Slot,
    /// Proof of progress: every slot up to here is applied at the leader, to a state that is that of
    /// the others; none while it has no such state.
    pub applied_upto: Slot,
    /// Whether a quorum has room on disk for entries, as far as the leader knows; without it new
    /// requests are not taken, and standing still is no lack of progress.
    pub room: bool,
    /// Which confirming round this starts; 0 for a mere watermark, which is not answered.
    pub round: u64,
    /// What the leader's clock shows; zero while it does not know. Whoever hears it lets it run on.
    pub time: Timestamp,
}

/// Follower to leader, answering [`Lead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Follow {
    /// The ballot of the `Lead`; its sender has promised none that is higher.
    pub ballot: Ballot,
    /// The round of the `Lead`.
    pub round: u64,
    /// Every slot up to here is decided at the sender.
    pub decided_upto: Slot,
    /// Every slot up to here is durable at the sender.
    pub durable_upto: Slot,
    /// As [`Lead::applied_upto`], at the sender.
    pub applied_upto: Slot,
    /// Whether the sender has room on disk for entries.
    pub room: bool,
    /// What the sender's calendar clock shows.
    pub clock: Timestamp,
    /// How long the sender's disk takes to make a record durable, or has been taking for one that is
    /// not durable yet, if that is longer.
    pub disk: Duration,
}

/// Learner to leader, answering [`Lead`]: so that the leader knows how much it may be sent. It
/// promises nothing and counts nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Learned {
    /// The ballot of the `Lead`.
    pub ballot: Ballot,
    /// Every slot up to here is decided, as far as the sender knows.
    pub decided_upto: Slot,
}

/// A replica that suspects its leader to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// Recognises the answers.
    pub number: u64,
    /// The highest ballot the asker has promised.
    pub ballot: Ballot,
}

/// The answer to a [`Probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeReply {
    /// Which probe.
    pub number: u64,
    /// Whether the sender itself hears of a leader that makes progress, or leads.
    pub hears_leader: bool,
    /// The highest ballot the sender has promised.
    pub ballot: Ballot,
    /// Every slot up to here is decided, as far as the sender knows.
    pub decided_upto: Slot,
    /// As [`Follow::disk`].
    pub disk: Duration,
}

/// Leader to all, when it gives up its ballot for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepDown {
    /// The ballot given up.
    pub ballot: Ballot,
    /// Who should try first, by index, if the leader names someone.
    pub successor: Option<u16>,
    /// What the leader knows as decided.
    pub decided_upto: Slot,
}

/// A replica that lags to one that may be up to date (the leader last), or to all, see
/// [`crate::CatchUpPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CatchUp {
    /// The first slot it wants.
    pub from: Slot,
    /// The last slot it wants.
    pub upto: Slot,
}

/// The answer to [`CatchUp`]: decided values only, contiguous.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decided {
    /// The slot of the first entry; with no entries, the slot that was asked for.
    pub from: Slot,
    /// The entries; none where the sender has nothing there (or nothing any more).
    pub entries: Vec<Entry>,
    /// What the sender knows as decided.
    pub decided_upto: Slot,
    /// Every slot up to here is no longer in the sender's log: whoever lacks it needs a checkpoint.
    pub truncated_upto: Slot,
}

/// A request, opaque, and what it is called. The name lets a leader order each request once; a request
/// without one is like no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// What it is called.
    pub id: Option<RequestId>,
    /// Which client it is of, where several clients share what `id` names: as the connections of a
    /// front do, whose requests have one order. 0 for none.
    pub client: u64,
    /// What the service is asked.
    pub bytes: Bytes,
}

impl From<Bytes> for Request {
    fn from(bytes: Bytes) -> Self {
        Self { id: None, client: 0, bytes }
    }
}

impl From<&'static str> for Request {
    fn from(text: &'static str) -> Self {
        Self { id: None, client: 0, bytes: Bytes::from_static(text.as_bytes()) }
    }
}

/// A replica to the leader, or to one who hears it: requests it was handed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Forward {
    /// Recognises the answer.
    pub number: u64,
    /// Whether one who does not lead is to pass them on to whom it follows: the sender hears no leader.
    pub relay: bool,
    /// Every slot up to here is applied at the sender: what the leader ordered above it need not be
    /// ordered again for its sake.
    pub applied_upto: Slot,
    /// The requests, in order.
    pub requests: Vec<Request>,
}

/// The answer of a replica that was sent a [`Forward`] or [`ReadAsk`] and does not lead, or has no
/// room for it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NotLeader {
    /// The highest ballot the sender has promised: its leader is the better address, if it leads.
    pub ballot: Ballot,
    /// Whether the sender believes that this ballot's leader leads.
    pub leads: bool,
    /// The number of the `Forward` or `ReadAsk`.
    pub number: u64,
}

/// A replica to the leader, or to one who hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadAsk {
    /// Recognises the answer; answers to earlier numbers are too old for later reads.
    pub number: u64,
    /// Whether one who does not lead is to ask whom it follows: the sender hears no leader.
    pub relay: bool,
}

/// The leader to the asking replica, after a confirming round that started after the question came; also
/// from one who asked the leader on its behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadSlot {
    /// The number of the question.
    pub number: u64,
    /// Reads that came before the question was sent are linearizable at a replica that has applied
    /// this slot.
    pub slot: Slot,
    /// What they show of time, if the time of the slot is not later.
    pub time: Timestamp,
}

/// A replica that fetches a checkpoint or needs one, or whose own is not stable yet, to all; every
/// few resend intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CheckpointAsk {
    /// Slots above this one will be asked for once the checkpoint stands: they are to be kept. Lasts
    /// until the next of these messages, and some seconds at most.
    pub wanted_above: Option<Slot>,
}

/// A voting replica to all, when a checkpoint of its own is durable and until one is stable at that
/// slot, and in answer to [`CheckpointAsk`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CheckpointIs {
    /// What it holds, ascending.
    pub held: Vec<CheckpointId>,
    /// What a quorum is known to have held with one digest: the highest of all that it holds itself, and the
    /// highest of all; at most two, ascending. The sender may be the only one left that knows it of the first.
    pub stable: Vec<CheckpointId>,
    /// Every slot up to here is no longer in the sender's log.
    pub truncated_upto: Slot,
    /// How many pieces of checkpoints it is giving away at present.
    pub load: u32,
}

/// A replica that is too far behind for the log, to one that holds the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkAsk {
    /// Of which checkpoint.
    pub checkpoint: CheckpointId,
    /// Which piece, from 0; all but the last have the same length.
    pub chunk: u32,
}

/// The answer to [`ChunkAsk`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chunk {
    /// Of which checkpoint.
    pub checkpoint: CheckpointId,
    /// Which piece.
    pub chunk: u32,
    /// How many bytes the whole checkpoint has.
    pub total: u64,
    /// The piece.
    pub bytes: Bytes,
}

/// A replica to the leader; sent again until it is answered or the leader has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instruct {
    /// Recognises the answer.
    pub number: u64,
    /// What the operator wants.
    pub instruction: Instruction,
}

/// The leader's answer to [`Instruct`]. That another leads now is seen, not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instructed {
    /// The number of the question.
    pub number: u64,
    /// Carried out, or why not.
    pub outcome: Result<(), Refusal>,
}

/// The other answer to [`ChunkAsk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRefused {
    /// Of which checkpoint.
    pub checkpoint: CheckpointId,
    /// Which piece.
    pub chunk: u32,
    /// Why.
    pub reason: ChunkRefusal,
}

/// Why a piece of a checkpoint is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChunkRefusal {
    /// The checkpoint is not held (any more), or has no such piece.
    Gone,
    /// No quorum is known to hold the checkpoint with that digest.
    Unstable,
    /// Too many pieces are being read already.
    Busy,
}

/// A replica that knows of nothing it lacks, to all, every interval of
/// [`crate::CatchUpPolicy::Multicast`]: perhaps it was not told. Whoever knew more one interval ago
/// answers with an empty [`Decided`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// The highest slot in which the sender accepted anything.
    pub accepted_upto: Slot,
    /// Every slot up to here is decided, as far as the sender knows.
    pub decided_upto: Slot,
}
