//! Bugs planted on purpose. A checker counts only if it has been seen to fail: the simulator runs
//! the very same code with one of these switched on and must find it. The switch is a type
//! parameter, so that the shipped program contains none of them.

use core::fmt::Debug;
use core::hash::Hash;

macro_rules! plants {
    ($($(#[$doc:meta])* $name:ident = $text:literal in $part:literal, expect $property:literal;)*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Plant { $($(#[$doc])* $name,)* }

        impl Plant {
            /// Every plant, in the order of the parts they sit in.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name used on the command line and in reports.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The part of the system it sits in.
            #[must_use]
            pub const fn part(self) -> &'static str {
                match self { $(Self::$name => $part,)* }
            }

            /// The properties expected to find it, separated by `|`.
            #[must_use]
            pub const fn expected(self) -> &'static str {
                match self { $(Self::$name => $property,)* }
            }
        }
    };
}

plants! {
    /// The acceptor accepts in a ballot below its promise.
    StaleBallotAccepted = "stale-ballot-accepted" in "acceptor", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// Messages leave before what they promise is durable.
    PromiseBeforeDurable = "promise-before-durable" in "acceptor", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// A promise leaves out the entries that are accepted but not yet durable.
    PendingLeftOutOfPromise = "pending-left-out-of-promise" in "acceptor", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// A replica votes for entries that its disk had no room for.
    UnwrittenVotedFor = "unwritten-voted-for" in "acceptor", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// The new leader takes any reported value, not the one of the highest ballot.
    HighestBallotIgnored = "highest-ballot-ignored" in "new leader", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// The new leader takes over only the slots that someone reported as decided.
    RangeBoundedByDecided = "range-bounded-by-decided" in "new leader", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// The new leader takes over nothing above the highest entry that anyone reported, although someone is
    /// uncertain about a slot above it.
    UncertainLeftOutOfTop = "uncertain-left-out-of-top" in "new leader", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// A replica that is uncertain about a slot counts towards its quorum.
    UncertainCounted = "uncertain-counted" in "new leader", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// A follower marks entries decided that it accepted in another ballot than the watermark's.
    ForeignWatermarkBelieved = "foreign-watermark-believed" in "decided watermark", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// A leader counts an entry as decided although slots below it are not.
    DecidedOverHole = "decided-over-hole" in "decided watermark", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// An amnesiac replica votes.
    AmnesiacVotes = "amnesiac-votes" in "election", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// A replica that restarts goes on in its own old ballot.
    OldBallotResumed = "old-ballot-resumed" in "election", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// A leader cut off from its quorum does not step down.
    NoStepDown = "no-step-down" in "election", expect "liveness";
    /// A leader answers the first of the reads that wait, and leaves it where it is: the step in which it
    /// answers them never ends.
    StepWithoutEnd = "step-without-end" in "door", expect "invariant";
    /// The deadline of a replica that knows of no leader has always passed already, however often the replica
    /// is called on account of it: one turn follows the other without a pause.
    DeadlineStands = "deadline-stands" in "door", expect "liveness";
    /// Nobody looks how far its leader has applied what is decided.
    AppliedNotLookedAt = "applied-not-looked-at" in "election", expect "liveness";
    /// A leader for whose entries its disk has no room leads on where no other disk has room either.
    LeadsOnUnwritten = "leads-on-unwritten" in "election", expect "agreement|prefix|no-lost-ack|linearizable|invariant|liveness";
    /// A donor answers a catch-up with entries it merely accepted.
    UndecidedGivenAway = "undecided-given-away" in "catch-up", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// A value that was passed on to the executor, without room for it, counts as if it stood in the log.
    PassedTakenForKept = "passed-taken-for-kept" in "catch-up", expect "agreement|prefix|no-lost-ack|linearizable|invariant|liveness";
    /// A checkpoint is fetched and given away before a quorum holds it.
    UnstableCheckpointTransferred = "unstable-checkpoint-transferred" in "transfer", expect "stability|agreement|prefix|no-lost-ack|exactly-once|linearizable|invariant";
    /// The log is discarded up to the stable checkpoint although the replica's own is below it.
    DiscardedAboveOwnCheckpoint = "discarded-above-own-checkpoint" in "checkpoints", expect "stability|invariant";
    /// A replica does not compare the digests of its checkpoints with those of a quorum: what differs is
    /// never found, and the group's states never become equal again.
    DigestNotCompared = "digest-not-compared" in "checkpoints", expect "liveness|prefix|linearizable|exactly-once|invariant";
    /// Applying ignores the number of a request: a repeated one is carried out again.
    DuplicateApplied = "duplicate-applied" in "sessions", expect "exactly-once|linearizable";
    /// A session whose window of kept replies is full has repeated requests refused, too.
    FullWindowRefusesRepeats = "full-window-refuses-repeats" in "sessions", expect "liveness|session-order|exactly-once";
    /// The reply kept for a repeated request is lost: it is answered with an empty one.
    ReplyLost = "reply-lost" in "sessions", expect "linearizable|exactly-once";
    /// A gap in a session's numbers is applied instead of rejected.
    GapApplied = "gap-applied" in "sessions", expect "session-order|exactly-once|linearizable";
    /// A client gives the number of an unanswered request to the next one.
    NumberReused = "number-reused" in "sessions", expect "exactly-once|session-order|linearizable|no-lost-ack";
    /// A replica's applier takes its own calendar clock (what `Applier::tell_local_clock` was told last)
    /// for the decided time: keys and sessions expire by it, and contexts show it.
    ExpiryByLocalClock = "expiry-by-local-clock" in "decided time", expect "digests|expiry|session-ends|decided-time|exactly-once|prefix|linearizable|no-lost-ack";
    /// A replica knows decided time from its log alone: what passed since the last entry is forgotten, and a
    /// takeover after idle hours counts as a jump.
    IdleTimeForgotten = "idle-time-forgotten" in "decided time", expect "liveness";
    /// A new leader's clock starts from what its own log said, and is not raised to what it takes over.
    ClockNotRaised = "clock-not-raised" in "decided time", expect "liveness|shown-time";
    /// A replica forgets at its restart what time had been decided: a jump of any size is allowed.
    TimeForgottenAtRestart = "time-forgotten-at-restart" in "decided time", expect "time-jumps";
    /// Reads show the leader's clock whether or not a decided entry allows it.
    CeilingIgnored = "ceiling-ignored" in "decided time", expect "shown-time";
    /// Checkpoints and digests hold an empty table of sessions: whoever restores one knows no session,
    /// ends none, and carries out none of their requests.
    SessionsLeftOutOfCheckpoint = "sessions-left-out-of-checkpoint" in "checkpoints", expect "digests|session-ends|exactly-once|prefix|linearizable|no-lost-ack|liveness";
    /// Checkpoints and digests hold the default interval and counters of zero in place of those in
    /// force: whoever restores one has later checkpoints due at other slots.
    CountersLeftOutOfCheckpoint = "counters-left-out-of-checkpoint" in "checkpoints", expect "due-checkpoints|digests|stability";
    /// Checkpoints and digests hold no decided time: it goes back to zero where one is restored.
    TimeLeftOutOfCheckpoint = "time-left-out-of-checkpoint" in "checkpoints", expect "decided-time|digests|expiry";
    /// A leader answers reads without a confirming round.
    ReadUnconfirmed = "read-unconfirmed" in "reads", expect "linearizable";
    /// A new leader answers reads before what it took over is decided.
    ReadBeforeTakeover = "read-before-takeover" in "reads", expect "linearizable";
    /// The question of a follower for a slot keeps its number when it is asked anew, on another way and for
    /// more reads.
    QuestionKeepsNumber = "question-keeps-number" in "reads", expect "linearizable";
    /// A read that stands between two writes of its connection is answered right after the first of them.
    ReadTiedToWriteBefore = "read-tied-to-write-before" in "reads", expect "linearizable";
    /// A leader may give a read an earlier slot than one that came before it.
    ReadOvertakes = "read-overtakes" in "reads", expect "linearizable";
    /// After its state went back to a fetched checkpoint, a replica answers reads from less than it had shown before.
    ReadAfterStateWentBack = "read-after-state-went-back" in "reads", expect "linearizable";
    /// A read that stands between two writes of its connection is answered after both.
    ReadTiedTooLate = "read-tied-too-late" in "reads", expect "linearizable";
    /// The log does not rewrite what it read back before it answers for it.
    ReadBackTakenForDurable = "read-back-taken-for-durable" in "log", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// A failed sync is tried again and believed.
    SyncRetried = "sync-retried" in "log", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// A damaged record before the tail is dropped as if it were the tail.
    DamageTakenForTail = "damage-taken-for-tail" in "log", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// A segment is discarded although it holds the only record of a promise.
    SegmentWithPromiseDiscarded = "segment-with-promise-discarded" in "log", expect "agreement|prefix|no-lost-ack|linearizable|invariant";
    /// A checkpoint is told of before it is durable: the log it covers goes too early.
    CheckpointToldBeforeDurable = "checkpoint-told-before-durable" in "checkpoints", expect "stability|invariant";
    /// A checkpoint that is due while others are still being written is skipped.
    LateCheckpointSkipped = "late-checkpoint-skipped" in "checkpoints", expect "due-checkpoints";
    /// A checkpoint that could not be written, for want of room, is not tried again.
    CheckpointGivenUp = "checkpoint-given-up" in "checkpoints", expect "due-checkpoints|liveness";
    /// A replica that finds its state wrong goes on holding those of its checkpoints which are older than
    /// the one that a quorum contradicts, though no quorum has confirmed them.
    UnconfirmedKept = "unconfirmed-kept" in "checkpoints", expect "digests";
    /// A state that was being written when its replica turned out wrong is put in place afterwards.
    OvertakenPutInPlace = "overtaken-put-in-place" in "checkpoints", expect "digests|due-checkpoints|stability";
    /// A replica that finds its state wrong does not note that on disk.
    DivergenceForgotten = "divergence-forgotten" in "checkpoints", expect "digests";
    /// A checkpoint that the service refuses is taken for a damaged one, and removed.
    RefusedRemoved = "refused-removed" in "checkpoints", expect "liveness";
    /// A leader changes the interval of checkpoints at its own replica only.
    IntervalNotDecided = "interval-not-decided" in "checkpoints", expect "due-checkpoints|digests";
    /// A leader whose group's logs are full of what counts towards no checkpoint asks for none.
    FullLogStays = "full-log-stays" in "checkpoints", expect "liveness";
    /// A fetched checkpoint is taken over although its content is not what its name says.
    InstalledUnchecked = "installed-unchecked" in "transfer", expect "digests|prefix|invariant";
    /// A fetched checkpoint that the service refuses counts as being installed for ever.
    RefusedStaysUnderWay = "refused-stays-under-way" in "transfer", expect "liveness|invariant";
    /// The log is not told that an installed checkpoint replaces what it holds.
    LogNotToldOfInstalled = "log-not-told-of-installed" in "transfer", expect "invariant|prefix|agreement|liveness";
}

/// Whether a given bug is planted. Implemented by [`NoPlants`] for the shipped program.
pub trait Plants: Copy + Debug + Eq + Hash + Send + 'static {
    /// Whether `plant` is switched on.
    fn has(&self, plant: Plant) -> bool;
}

/// No bug is planted: the default, which the compiler removes altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NoPlants;

impl Plants for NoPlants {
    #[inline(always)]
    fn has(&self, _: Plant) -> bool {
        false
    }
}

/// At most one planted bug, chosen at run time: for the simulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Planted(pub Option<Plant>);

impl Plants for Planted {
    fn has(&self, plant: Plant) -> bool {
        self.0 == Some(plant)
    }
}
