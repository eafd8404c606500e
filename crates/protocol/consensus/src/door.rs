//! The machine's one door: what goes in, what comes out.

use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use mainstay_model::{
    Ballot, CheckpointId, Entry, Mark, Record, ReplicaId, Slot, Timestamp, Token, Value,
};

use crate::message::{Message, Request};

/// Everything that can happen to a replica of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A message came.
    Message {
        /// From whom.
        from: ReplicaId,
        /// What.
        message: Message,
    },
    /// A local client's command, encoded. Its outcome shows at apply. [`Effect::Rejected`] says that
    /// nothing more will be done about it here and it should be sent again; that it was not ordered
    /// is then certain only if it never left this replica.
    Submit {
        /// Recognises the rejection.
        token: Token,
        /// The command, and what it is called. While a request of that name waits at the leader or
        /// is ordered and not yet applied here, another is dropped: its outcome shows all the same.
        request: Request,
    },
    /// Asks from which slot on a local read is linearizable: [`Effect::ReadAt`] or
    /// [`Effect::Rejected`].
    Read {
        /// Recognises the answer.
        token: Token,
    },
    /// Everything persisted up to this mark is durable.
    Durable {
        /// The highest such mark.
        mark: Mark,
    },
    /// The executor has applied every slot up to here; told, too, when it has its first state and when
    /// it goes on from another one.
    Applied {
        /// The highest such slot.
        upto: Slot,
        /// Decided time at that slot.
        time: Timestamp,
        /// When the service wants time to be decided next, if ever.
        wake: Option<Timestamp>,
    },
    /// What [`Effect::ReadLog`] asked for.
    LogRead {
        /// The first slot that was asked for.
        from: Slot,
        /// Whom it is for.
        purpose: ReadPurpose,
        /// The entries, contiguous from `from`; fewer than asked for where bytes ran out, none
        /// where the log cannot give them.
        entries: Vec<Entry>,
    },
    /// The connection to a peer came up or went down.
    Link {
        /// Which peer.
        peer: ReplicaId,
        /// Whether messages may pass.
        up: bool,
    },
    /// A piece of a long message has passed, and more of it is to come: what waits for it need not be
    /// asked for or sent again. The message itself comes as any other.
    Passing {
        /// Which peer sends or receives it.
        peer: ReplicaId,
        /// Whether it comes from that peer; otherwise it goes there.
        coming: bool,
        /// The kind of the message.
        kind: u16,
    },
    /// The failure detector's opinion of a peer's node changed.
    Suspicion {
        /// Which peer.
        peer: ReplicaId,
        /// Whether it is suspected.
        suspected: bool,
    },
    /// Whether the log has room for entries (promises always find room).
    Room {
        /// Whether it has.
        entries: bool,
    },
    /// The disk had no room for what [`Effect::Persist`] asked for: nothing of this mark and of later ones
    /// was written, and nothing of what was asked for until now will be; all of it is taken back. Only
    /// requests can find no room; promises and no-ops are written out of a reserve. What is asked for
    /// after this is written again.
    Unwritten {
        /// The lowest such mark.
        from: Mark,
    },
    /// A checkpoint of this replica's own is durable. One that is due at a slot is never skipped.
    Checkpointed {
        /// Which.
        checkpoint: CheckpointId,
    },
    /// A checkpoint is not held any more: it made way for others, or turned out to be damaged. What is not
    /// told here is found out when somebody asks for a piece of it.
    CheckpointGone {
        /// Which.
        checkpoint: CheckpointId,
    },
    /// The log no longer holds the slots up to here.
    Discarded {
        /// The highest such slot.
        upto: Slot,
    },
    /// The last checkpoint of [`crate::Start::held`] could not be restored. The executor
    /// goes on from another one, or from the state of an empty log; everything delivered before is
    /// forgotten. Until it is known which one it is, the world discards nothing.
    Unrestored {
        /// Which it goes on from.
        instead: Option<CheckpointId>,
    },
    /// What [`Effect::ReadChunk`] asked for.
    ChunkRead {
        /// Whom it is for.
        to: ReplicaId,
        /// Of which checkpoint.
        checkpoint: CheckpointId,
        /// Which piece.
        chunk: u32,
        /// How many bytes the checkpoint has; 0 if it is not held (any more).
        total: u64,
        /// The piece; empty if the checkpoint is not held, or has no such piece.
        bytes: Bytes,
    },
    /// What came of [`Effect::StoreChunk`], in the order of those. The next pieces are asked for as
    /// these answers come, so that what waits for the disk is bounded.
    ChunkStored {
        /// Of which checkpoint.
        checkpoint: CheckpointId,
        /// Which piece.
        chunk: u32,
        /// Whether it is kept; `false` where the disk has no room, or refused it.
        stored: bool,
    },
    /// What came of [`Effect::Install`].
    Installed {
        /// Which.
        checkpoint: CheckpointId,
        /// What.
        outcome: Installed,
    },
    /// The operator, or the end of the process, asks this replica not to lead: if it leads, it steps
    /// down and names a successor; it does not try to lead again.
    Retire,
    /// The operator wants the replica of this index to lead; at any replica. Answered by
    /// [`Effect::Instructed`] in bounded time; no request is lost by it.
    LeaderMove {
        /// Who is to lead.
        to: u16,
    },
    /// The operator confirms that the decided time may make the jump that
    /// [`crate::Status::clock_jump_refused`] tells of; at any replica. Answered by
    /// [`Effect::Instructed`].
    ConfirmClockJump,
    /// The instant of [`crate::Replica::deadline`] has come.
    Deadline,
}

/// What came of a fetched checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Installed {
    /// It is durable, the log has been told that it begins after it, and the executor goes on from
    /// it; everything delivered before is forgotten, and of a checkpoint of the state before nothing
    /// is told any more.
    Stands,
    /// Its content is not what its name says, or the disk did not keep it; what was fetched is gone.
    Spoiled,
    /// It is whole, and kept; but the service cannot make a state of it, or the disk has no room for
    /// what is left to do.
    Refused,
}

/// What a log need not keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Discard {
    /// The highest slot of it.
    pub upto: Slot,
    /// Slots above this one are wanted by a replica that fetches a checkpoint now.
    pub wanted_above: Option<Slot>,
    /// This checkpoint of the replica's own is stable. The world notes that durably before anything
    /// is discarded ([`crate::Start::stable`]), and keeps it until a later one is noted, beside the two
    /// newest.
    pub stable: Option<CheckpointId>,
}

/// Everything a replica may ask of its world, carried out in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Write these records, in order, in one piece; then, once they are durable, answer
    /// [`Input::Durable`]. Marks ascend.
    Persist {
        /// Names the request.
        mark: Mark,
        /// What to write.
        records: Vec<Record>,
    },
    /// Send a message; it may be lost.
    Send {
        /// To whom.
        to: ReplicaId,
        /// What.
        message: Message,
    },
    /// Read decided entries back from the log: [`Input::LogRead`].
    ReadLog {
        /// The first slot wanted.
        from: Slot,
        /// The last slot wanted.
        upto: Slot,
        /// Stop after the entry that reaches this many bytes; at least one entry is returned.
        bytes_max: usize,
        /// Whom it is for; comes back with the answer.
        purpose: ReadPurpose,
    },
    /// Hand the decided value of the next slot to the executor.
    Deliver {
        /// The slot.
        slot: Slot,
        /// Its value.
        value: Value,
    },
    /// The log need not keep some slots for this replica's sake. The world keeps the last bytes of
    /// them, as many as it is set to, for replicas that lag a little, and those that a live transfer
    /// wants, up to a cap in bytes; it answers [`Input::Discarded`] when some are gone. Each one takes
    /// the place of the one before.
    Discard(Discard),
    /// Read a piece of a checkpoint of this replica's own: [`Input::ChunkRead`]. The world keeps a
    /// checkpoint for some seconds after its last piece was read.
    ReadChunk {
        /// Whom it is for.
        to: ReplicaId,
        /// Of which checkpoint.
        checkpoint: CheckpointId,
        /// Which piece; they have [`crate::Settings::chunk_bytes`] each, the last one what is left.
        chunk: u32,
    },
    /// Append a piece of a checkpoint that is being fetched: [`Input::ChunkStored`]. Pieces come in
    /// order, without a hole, from 0 or from where [`crate::Start::partial`] ends; piece 0 takes the
    /// place of whatever was being fetched before.
    StoreChunk {
        /// Of which checkpoint.
        checkpoint: CheckpointId,
        /// How many bytes the checkpoint has in all.
        total: u64,
        /// Which piece.
        chunk: u32,
        /// The piece.
        bytes: Bytes,
    },
    /// All pieces are stored: check the whole, make it this replica's own checkpoint, tell the log
    /// that it begins after it, and let the executor go on from it: [`Input::Installed`]. Asked for
    /// again, after a pause, where the service refused it.
    Install {
        /// Which.
        checkpoint: CheckpointId,
    },
    /// This replica's state is not that of the others: stop executing. Ordering and voting go on,
    /// and a checkpoint of the others is fetched.
    ///
    /// Of its own checkpoints only those up to `right` are known to be right. The world notes that
    /// durably, so that no other one is ever restored or told of again, also after a restart, and
    /// none that is still being written counts; nothing is installed before. It deletes them only
    /// once another one is installed, or stable.
    StopExecuting {
        /// The checkpoint at which a quorum agreed on another digest.
        at: Slot,
        /// The last one of this replica's own before it that a quorum is known to have held.
        right: Option<CheckpointId>,
    },
    /// The read may be carried out once the executor has applied this slot, and nothing is due by the
    /// time that it is shown (then a tick is on its way).
    ReadAt {
        /// The read.
        token: Token,
        /// The slot.
        slot: Slot,
        /// What it is shown of time, if decided time has not come further where it is carried out.
        time: Timestamp,
    },
    /// Nothing more will be done here about a submission or a read.
    Rejected {
        /// Which.
        token: Token,
        /// Why.
        reason: Rejection,
    },
    /// What came of an instruction of the operator.
    Instructed {
        /// Which.
        instruction: Instruction,
        /// Carried out, or why not.
        outcome: Result<(), Refusal>,
    },
    /// Something worth a line in a trace, a log or a counter.
    Observe(Observation),
}

/// What an operator may tell a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Instruction {
    /// See [`Input::LeaderMove`].
    LeaderMove {
        /// Who is to lead.
        to: u16,
    },
    /// See [`Input::ConfirmClockJump`].
    ConfirmClockJump,
}

/// Why an instruction was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The configuration has no replica of that index.
    UnknownReplica,
    /// No leader is known, or it does not answer.
    NoLeader,
    /// The leader does not hear that replica as one that votes: it is down, cut off or a learner.
    NotVoting,
    /// That replica has not caught up.
    Lagging,
    /// That replica has no room on disk, or its disk stands still.
    NoDisk,
    /// The leader is handing over to another one already, or stops.
    Busy,
    /// That replica was told to begin and did not lead in time; who leads now was chosen as after any
    /// leader change.
    NotTaken,
    /// The leader's clock refused no jump.
    NothingToConfirm,
}

/// Whom entries are read back for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadPurpose {
    /// The executor of this replica.
    Deliver,
    /// A replica that lags.
    CatchUp(ReplicaId),
}

/// Why nothing more will be done here about a submission or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// No leader is known at present.
    NoLeader,
    /// The leader refused it, or stepped down before it proposed it; it may be sent again.
    NotLeader,
    /// Too much is waiting already.
    Busy,
    /// No quorum has room on disk for entries.
    NoRoom,
    /// The request is larger than a batch may be.
    TooLarge,
}

/// What a machine tells about itself; nothing depends on anybody listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Observation {
    /// The role or ballot changed.
    Role {
        /// The new role.
        role: Role,
        /// The ballot it stands in.
        ballot: Ballot,
    },
    /// The leader that this replica follows (or is) changed; `None` while it knows of none. Requests
    /// that are still open should be sent again.
    Leader(Option<Ballot>),
    /// This replica hears no leader, and reaches it through this one, who does; `None` if it does no
    /// longer. Requests that are still open should be sent again where there is one.
    Relay(Option<ReplicaId>),
    /// An input from outside was wrong or too old and was ignored; the reason is named.
    Ignored(&'static str),
    /// A quorum holds a checkpoint of that slot with another digest than this replica's.
    Diverged {
        /// The slot.
        at: Slot,
        /// How often in a row, without a checkpoint of its own in between that was right. From the
        /// second time on the state is fetched anew only after a pause, each one longer.
        times: u32,
    },
    /// A leader: a follower has fallen behind, so that it is sent no values, or it is taken up again.
    Behind {
        /// Which.
        peer: ReplicaId,
        /// Whether it is behind now.
        behind: bool,
    },
    /// A checkpoint is being fetched.
    Transfer {
        /// The slot it covers.
        slot: Slot,
    },
    /// A checkpoint is needed, and the next one is near: it is waited for.
    TransferWaits {
        /// The slot of the one that could be fetched at once.
        after: Slot,
    },
    /// A checkpoint was fetched and stands.
    Transferred {
        /// The slot it covers.
        slot: Slot,
    },
    /// Nobody has the log any more that follows a checkpoint which was being fetched: a newer one is
    /// fetched, faster.
    TransferOutrun {
        /// The slot it covers.
        slot: Slot,
        /// How often in a row. The bandwidth that transfers may use doubles each time.
        times: u32,
    },
    /// A slot cannot be taken over until a replica that is certain about it answers.
    Blocked {
        /// The lowest such slot.
        slot: Slot,
    },
    /// A leader: an operator confirmed a jump of decided time, and its clock has made it.
    JumpConfirmed {
        /// How far.
        jump: Duration,
    },
}

/// What a replica is at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Votes and follows.
    Follower,
    /// Waits for promises in a ballot of its own.
    Candidate,
    /// Leads its ballot.
    Leader,
    /// Follows and never votes.
    Learner,
}
