//! Whether a service keeps to its contract, for the tests of whoever wrote it.
//!
//! ```
//! use mainstay_service::{Apply, Context, Plain, conformance};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Counter(u64);
//!
//! impl Apply for Counter {
//!     fn apply(&mut self, _: &Context, request: &[u8], reply: &mut Vec<u8>) {
//!         self.0 += u64::from(request == b"add");
//!         reply.extend_from_slice(self.0.to_string().as_bytes());
//!     }
//! }
//!
//! // In a test of one's own: requests of every kind that the service has.
//! conformance::check(Plain::<Counter>::default, &["add", "?", "add"])?;
//! # Ok::<(), conformance::Violation>(())
//! ```
//!
//! A service is only as good here as the requests it is given: what no request does is not looked at.
//! The requests come in slots of their own, with decided time moving on between them and some garbage
//! after them, and each is asked as a query, too. Checkpoints are taken at some sixteen of the slots.

use std::fmt;
use std::io::{self, Read, Write};

use mainstay_model::{RequestNumber, SessionId, Slot, Timestamp};

use crate::applier::catching;
use crate::contract::{Checkpoint, Context, QueryContext, Secret, Service};

/// At how many slots checkpoints are taken, about.
const POINTS: usize = 16;
/// How far decided time moves from one slot to the next, in nanoseconds.
const SLOT_TIME: u64 = 1_000_000_000;
/// The same for all: another one may make another state.
const SECRET: Secret = Secret(0x5ec2_e700_5ec2_e700_0123_4567_89ab_cdef);
/// What no service has asked for.
const GARBAGE: [&[u8]; 3] = [b"", b"\xff\x00\xfe", &[0x7f; 300]];

/// What a service must keep to; see [`Service`] and [`Checkpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// Nothing that it is asked makes it panic.
    Total,
    /// Two of them that are given the same requests give the same replies and checkpoints.
    Deterministic,
    /// A query changes nothing.
    Query,
    /// A moment that was advanced to is not named by [`Service::wake`] again.
    Wake,
    /// What comes back from a checkpoint is equal to what was there, and answers alike from then on.
    Restored,
    /// What is applied after a checkpoint was taken does not show in it.
    Apart,
    /// A checkpoint that could not be written, or read, is an error, and harms nothing.
    Reported,
}

impl Rule {
    const fn sentence(self) -> &'static str {
        match self {
            Self::Total => "a service answers whatever it is asked, and never panics",
            Self::Deterministic => "equal requests make equal services",
            Self::Query => "a query changes nothing",
            Self::Wake => "a moment that was advanced to is not named by wake again",
            Self::Restored => "what was restored is equal to what was there",
            Self::Apart => "a checkpoint stays as it was taken",
            Self::Reported => "an error of the writer or reader of a checkpoint is passed on",
        }
    }
}

/// How a service broke a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// After how many requests.
    pub after: usize,
    /// What was seen.
    pub seen: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, after, seen } = self;
        write!(f, "{}, but after {after} requests {seen}", rule.sentence())
    }
}

impl std::error::Error for Violation {}

/// Gives services made by `new` these requests and looks whether they keep to every [`Rule`]. `new`
/// is called several times and gives the first state of the service, always the same.
///
/// # Errors
/// The first [`Violation`] seen.
pub fn check<S: Service>(
    mut new: impl FnMut() -> S,
    requests: &[impl AsRef<[u8]>],
) -> Result<(), Violation> {
    let mut log: Vec<&[u8]> = requests.iter().map(AsRef::as_ref).collect();
    log.extend(GARBAGE);
    let mut one = Run::new(new())?;
    let past = deterministic(&mut one, new(), &log)?;
    let mut run = Run::new(new())?;
    let every = log.len().div_ceil(POINTS).max(1);
    for at in 0..=log.len() {
        if at % every == 0 || at == log.len() {
            comes_back(&mut run, &log, &past)?;
            passes_errors_on(&mut run)?;
        }
        if let Some(request) = log.get(at) {
            run.apply(request)?;
        }
    }
    run.equals(Rule::Reported, &one.written()?, "failed checkpoints in between")?;
    stays_apart(Run::new(new())?, &log, every)
}

/// Applies everything to two services; what the first one answered.
fn deterministic<S: Service>(
    one: &mut Run<S>,
    other: S,
    log: &[&[u8]],
) -> Result<Vec<Vec<u8>>, Violation> {
    let mut other = Run::new(other)?;
    let mut past = Vec::new();
    for request in log {
        let before = other.written()?;
        let answers = (one.query(request)?, other.query(request)?);
        other.equals(Rule::Query, &before, "it was asked something in between")?;
        let seen = "two services answered the next request, asked as a query, differently";
        other.demand(Rule::Deterministic, answers.0 == answers.1, seen)?;
        let replies = (one.apply(request)?, other.apply(request)?);
        let seen = "two services had answered the last of them differently";
        other.demand(Rule::Deterministic, replies.0 == replies.1, seen)?;
        let wake = (one.wake()?, other.wake()?);
        let seen = "two services name different moments to be woken at";
        other.demand(Rule::Deterministic, wake.0 == wake.1, seen)?;
        past.push(replies.0);
    }
    other.equals(Rule::Deterministic, &one.written()?, "two services got the same requests")?;
    Ok(past)
}

/// Restores from a checkpoint taken now, and goes on to the end of the log: its replies must be those
/// of `past`.
fn comes_back<S: Service>(
    run: &mut Run<S>,
    log: &[&[u8]],
    past: &[Vec<u8>],
) -> Result<(), Violation> {
    let bytes = run.written()?;
    let mut source = &bytes[..];
    let restored = run.calm(|_| S::restore(&mut source))?;
    let service = match restored {
        Ok(service) => service,
        Err(error) => return run.broke(Rule::Restored, &format!("restore said: {error}")),
    };
    let mut again = Run { service, applied: run.applied, time: run.time };
    again.equals(Rule::Restored, &bytes, "it was restored in between")?;
    let same = again.service.executed_upto() == run.service.executed_upto();
    again.demand(
        Rule::Restored,
        same,
        "what was restored tells another slot of its last request",
    )?;
    let same = again.wake()? == run.wake()?;
    again.demand(Rule::Restored, same, "what was restored names another moment to be woken at")?;
    for (request, reply) in log[again.applied..].iter().zip(&past[again.applied..]) {
        let same = again.apply(request)? == *reply;
        let seen = "what was restored before had answered the last of them differently";
        again.demand(Rule::Restored, same, seen)?;
    }
    Ok(())
}

/// Lets checkpoints fail at their first byte, in the middle and at the last byte, while they are
/// written and while they are read.
fn passes_errors_on<S: Service>(run: &mut Run<S>) -> Result<(), Violation> {
    let bytes = run.written()?;
    if bytes.is_empty() {
        return Ok(());
    }
    for room in [0, bytes.len() / 2, bytes.len() - 1] {
        let checkpoint = run.calm(Service::checkpoint)?;
        let result = run.calm(|_| checkpoint.write(&mut Full { room }))?;
        let seen = format!("a checkpoint went well whose writer failed after {room} bytes");
        run.demand(Rule::Reported, result.is_err(), &seen)?;
        let mut again = Vec::new();
        let result = run.calm(|_| checkpoint.write(&mut again))?;
        let seen =
            "a checkpoint was other bytes when it was written again, after its writer had failed";
        run.demand(Rule::Apart, result.is_ok() && again == bytes, seen)?;
        let source = &mut Torn { rest: &bytes[..room] };
        let result = run.calm(|_| S::restore(source))?;
        let seen = format!("a restore went well whose reader failed after {room} bytes");
        run.demand(Rule::Reported, result.is_err(), &seen)?;
    }
    Ok(())
}

/// Takes checkpoints on the way, and writes them when everything is applied.
fn stays_apart<S: Service>(mut run: Run<S>, log: &[&[u8]], every: usize) -> Result<(), Violation> {
    let mut taken = Vec::new();
    for (at, request) in log.iter().enumerate() {
        if at % every == 0 {
            let written = run.written()?;
            taken.push((at, written, run.calm(Service::checkpoint)?));
        }
        run.apply(request)?;
    }
    for (at, written, checkpoint) in taken {
        let mut late = Vec::new();
        run.applied = at;
        let result = run.calm(|_| checkpoint.write(&mut late))?;
        let seen = "a checkpoint was other bytes when it was written only after what followed";
        run.demand(Rule::Apart, result.is_ok() && late == written, seen)?;
    }
    Ok(())
}

/// A service and how far it is.
struct Run<S> {
    service: S,
    applied: usize,
    time: Timestamp,
}

impl<S: Service> Run<S> {
    /// Begins its log.
    fn new(service: S) -> Result<Self, Violation> {
        let mut run = Self { service, applied: 0, time: Timestamp(0) };
        run.calm(|service| service.begin(SECRET))?;
        Ok(run)
    }

    fn broke<T>(&self, rule: Rule, seen: &str) -> Result<T, Violation> {
        Err(Violation { rule, after: self.applied, seen: seen.to_owned() })
    }

    fn demand(&self, rule: Rule, holds: bool, seen: &str) -> Result<(), Violation> {
        if holds { Ok(()) } else { self.broke(rule, seen) }
    }

    /// Runs code of the service; a panic is a violation.
    fn calm<T>(&mut self, run: impl FnOnce(&mut S) -> T) -> Result<T, Violation> {
        let service = &mut self.service;
        match catching(|| run(service)) {
            Ok(value) => Ok(value),
            Err(said) => self.broke(Rule::Total, &format!("it panicked: {said}")),
        }
    }

    fn slot(&self) -> Slot {
        Slot(self.applied as u64)
    }

    fn apply(&mut self, request: &[u8]) -> Result<Vec<u8>, Violation> {
        let time = Timestamp(self.time.0 + SLOT_TIME);
        self.calm(|service| service.advance(time))?;
        self.time = time;
        let late = self.wake()?.is_some_and(|wake| wake <= time);
        self.demand(Rule::Wake, !late, "it wants to be woken at a moment that is past")?;
        let cx = Context {
            slot: self.slot().next(),
            time,
            seed: self.applied as u64,
            session: SessionId { slot: Slot::FIRST, position: 0 },
            number: RequestNumber(self.applied as u64 + 1),
        };
        let mut reply = Vec::new();
        self.calm(|service| service.apply(&cx, request, &mut reply))?;
        self.applied += 1;
        Ok(reply)
    }

    fn query(&mut self, request: &[u8]) -> Result<Vec<u8>, Violation> {
        let cx = QueryContext { slot: self.slot(), time: self.time };
        let mut reply = Vec::new();
        self.calm(|service| service.query(&cx, request, &mut reply))?;
        Ok(reply)
    }

    fn wake(&mut self) -> Result<Option<Timestamp>, Violation> {
        self.calm(|service| service.wake())
    }

    /// A checkpoint as it is now.
    fn written(&mut self) -> Result<Vec<u8>, Violation> {
        let mut bytes = Vec::new();
        match self.calm(|service| service.checkpoint().write(&mut bytes))? {
            Ok(()) => Ok(bytes),
            Err(error) => {
                self.broke(Rule::Reported, &format!("a checkpoint failed without reason: {error}"))
            }
        }
    }

    fn equals(&mut self, rule: Rule, bytes: &[u8], why: &str) -> Result<(), Violation> {
        let now = self.written()?;
        let first = now.iter().zip(bytes).take_while(|(one, other)| one == other).count();
        let seen = format!(
            "its checkpoint is another one, though {why}: {} and {} bytes that differ from byte {first} on",
            bytes.len(),
            now.len(),
        );
        self.demand(rule, now == bytes, &seen)
    }
}

/// A disk with room for so many bytes.
struct Full {
    room: usize,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.room);
        self.room -= len;
        if len == 0 && !bytes.is_empty() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that cannot be read to its end.
struct Torn<'a> {
    rest: &'a [u8],
}

impl Read for Torn<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.rest.read(to)? {
            0 if !to.is_empty() => Err(io::Error::other("the file cannot be read any further")),
            len => Ok(len),
        }
    }
}
