//! What a user writes: a deterministic state machine over bytes.

use std::fmt;
use std::io::{self, Read, Write};

use mainstay_model::{Prng, RequestNumber, SessionId, Slot, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A replicated service. Deterministic: from equal states, equal requests in equal order under
/// equal contexts give equal states and equal replies, at every replica and on every run. So no
/// clock, no random number but [`Context::random`], no iteration over a randomly seeded table, no
/// input or output.
///
/// A panic in [`Service::apply`] or [`Service::advance`] stops this replica's executor and names slot and request; ordering
/// and voting go on.
pub trait Service: Sized + Send + 'static {
    /// A copy of the state as of one slot that owns its data, so that applying goes on while it is
    /// written.
    type Checkpoint: Checkpoint;

    /// The log begins: called once, before anything else, at every replica that starts from an empty
    /// log. `secret` is the same at all of them, and for services that need one: as the key of a hash
    /// table that clients fill, for instance, so that nobody can choose keys that collide in it. A
    /// service that uses it keeps it in its checkpoint.
    fn begin(&mut self, secret: Secret) {
        let _ = secret;
    }

    /// Carries out `request` and appends the reply to `reply`, which comes empty. A malformed
    /// request is answered with a reply that says so; it must never panic.
    fn apply(&mut self, cx: &Context, request: &[u8], reply: &mut Vec<u8>);

    /// Answers a read-only request from the state as it is and appends the reply to `reply`.
    fn query(&self, cx: &QueryContext, request: &[u8], reply: &mut Vec<u8>);

    /// Hands out the state as it is now. Bounded pause: what is applied later copies what it
    /// touches.
    fn checkpoint(&mut self) -> Self::Checkpoint;

    /// Reads back what a [`Checkpoint`] of the same version wrote.
    ///
    /// # Errors
    /// [`RestoreError`]: the bytes could not be read or are no state of this service.
    fn restore(source: &mut dyn Read) -> Result<Self, RestoreError>;

    /// The version of the service's state and behaviour; replicas of different versions refuse one
    /// another.
    fn version() -> u32;

    /// Decided time has moved forward to `time`. Called once for every slot whose time is later than
    /// the one before, before the requests of that slot and also when it has none: this is where what
    /// is due by `time` goes, so that queries and [`Service::wake`] no longer see it even if nothing
    /// else is ever applied. It is part of the order, so it may change the state; whatever runs on no
    /// time leaves it out.
    fn advance(&mut self, time: Timestamp) {
        let _ = time;
    }

    /// When the service wants time to be decided next, if ever: the earliest moment at which
    /// [`Service::advance`] would change something (its earliest expiry). A moment that has been
    /// advanced to must not be named again.
    fn wake(&self) -> Option<Timestamp> {
        None
    }

    /// The slot of the last request that stands in this state, [`Slot::NONE`] before the first; for
    /// a service that keeps any of it in a place of its own, as a file or a database, and notes
    /// [`Context::slot`] there with every change. It is asked after [`Service::restore`]: a state
    /// that is behind its checkpoint lacks requests that nobody will send again, and one ahead of it
    /// would execute some twice, so both are refused. Whoever has all of its state in the checkpoint
    /// leaves it out.
    fn executed_upto(&self) -> Option<Slot> {
        None
    }
}

/// A copy of a service's state that can be written elsewhere.
pub trait Checkpoint: Send + 'static {
    /// Writes the whole state. Equal states write equal bytes, and so does the same one every time:
    /// where there was no room, it is asked again.
    ///
    /// # Errors
    /// Those of `to`.
    fn write(&self, to: &mut dyn Write) -> io::Result<()>;
}

/// Random bits that all replicas of a group share and that no client learns: drawn by the first leader,
/// decided as the first command of the log, and part of every checkpoint. They outlive a recovery of
/// the cluster under another id.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Secret(pub u128);

impl fmt::Debug for Secret {
    /// Not the bits: what is printed ends up in log files.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What a service may know about the request it carries out. All of it is part of the decided
/// order, so it is the same at every replica.
#[derive(Clone, Debug)]
pub struct Context {
    /// The slot being applied.
    pub slot: Slot,
    /// The decided time at that slot; never goes back.
    pub time: Timestamp,
    /// Differs for each request, and is the same at every replica.
    pub seed: u64,
    /// Who asks.
    pub session: SessionId,
    /// Which of the session's requests this is.
    pub number: RequestNumber,
}

impl Context {
    /// A generator for the random choices of this request, the same at every replica.
    #[must_use]
    pub const fn random(&self) -> Prng {
        Prng::new(self.seed)
    }
}

/// What a service may know about a query.
#[derive(Clone, Copy, Debug)]
pub struct QueryContext {
    /// The last slot applied.
    pub slot: Slot,
    /// What time it is for the group: the decided time at that slot or later, as time passes between
    /// entries; before [`Service::wake`], and never earlier than an answer given before has shown. A
    /// query that may be stale is shown the decided time at the slot.
    pub time: Timestamp,
}

/// Why a state could not be read back.
#[derive(Debug)]
pub enum RestoreError {
    /// Reading failed.
    Io(io::Error),
    /// The bytes are no state of this service; the sentence says how.
    Invalid(String),
    /// The service came back with fewer or more requests executed than its checkpoint covers; see
    /// [`Service::executed_upto`].
    Elsewhere {
        /// The slot of the last request in the state that came back.
        service: Slot,
        /// That of the last request that the checkpoint covers.
        checkpoint: Slot,
    },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the checkpoint could not be read: {error}"),
            Self::Invalid(how) => write!(f, "the checkpoint is no state of this service: {how}"),
            Self::Elsewhere { service, checkpoint } => {
                let (slot, covered) = (service.0, checkpoint.0);
                let (side, then) = if service < checkpoint {
                    ("behind", "lacks requests that were acknowledged")
                } else {
                    ("ahead of", "would execute requests twice")
                };
                write!(
                    f,
                    "the service came back as of slot {slot}, {side} its checkpoint, whose last \
                     request is of slot {covered}: it {then}; bring back what it keeps outside of its \
                     checkpoint as of slot {covered}, or remove that, so that restore makes it anew"
                )
            }
        }
    }
}

impl std::error::Error for RestoreError {}

impl From<io::Error> for RestoreError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Gives a plain value everything of [`Service`] but `apply`: it is cloned for a checkpoint and
/// written with `postcard`. Meant for states that are cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Plain<T>(pub T);

/// What is left to write for a [`Plain`] service.
pub trait Apply: Clone + Default + Serialize + DeserializeOwned + Send + 'static {
    /// See [`Service::apply`].
    fn apply(&mut self, cx: &Context, request: &[u8], reply: &mut Vec<u8>);

    /// See [`Service::query`]; without one, a query is carried out on a copy by `apply`.
    fn query(&self, cx: &QueryContext, request: &[u8], reply: &mut Vec<u8>) {
        let context = Context {
            slot: cx.slot,
            time: cx.time,
            seed: 0,
            session: SessionId::default(),
            number: RequestNumber(0),
        };
        self.clone().apply(&context, request, reply);
    }
}

impl<T: Apply> Service for Plain<T> {
    type Checkpoint = PlainCheckpoint<T>;

    fn apply(&mut self, cx: &Context, request: &[u8], reply: &mut Vec<u8>) {
        self.0.apply(cx, request, reply);
    }

    fn query(&self, cx: &QueryContext, request: &[u8], reply: &mut Vec<u8>) {
        self.0.query(cx, request, reply);
    }

    fn checkpoint(&mut self) -> Self::Checkpoint {
        PlainCheckpoint(self.0.clone())
    }

    fn restore(source: &mut dyn Read) -> Result<Self, RestoreError> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes)?;
        let value = postcard::from_bytes(&bytes)
            .map_err(|error| RestoreError::Invalid(error.to_string()))?;
        Ok(Self(value))
    }

    fn version() -> u32 {
        1
    }
}

/// The checkpoint of a [`Plain`] service.
#[derive(Debug)]
pub struct PlainCheckpoint<T>(T);

impl<T: Serialize + Send + 'static> Checkpoint for PlainCheckpoint<T> {
    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let bytes = postcard::to_stdvec(&self.0).map_err(io::Error::other)?;
        to.write_all(&bytes)
    }
}
