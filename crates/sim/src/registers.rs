//! The service that simulated clients use: a few registers, so that everybody contends for them; leases,
//! which expire by decided time; and a journal of what was asked, which gives the state some size.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::time::Duration;

use mainstay_model::time::nanos;
use mainstay_model::{Prng, Timestamp};
use mainstay_service::{Checkpoint, Context, QueryContext, RestoreError, Service};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// What a client may ask, always of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Operation {
    /// The value.
    Get,
    /// Sets the value and returns the old one.
    Set(String),
    /// Adds one to a number (an unset register counts as 0) and returns it.
    Increment,
    /// Appends to the value and returns the whole of it.
    Append(String),
    /// Sets the value if it is the expected one; returns the old one in any case.
    Exchange {
        /// What it must be.
        expected: Option<String>,
        /// What it becomes.
        value: String,
    },
    /// Takes the lease of the key for so many milliseconds, anew if it is held.
    Lease(u64),
    /// Until when the lease of the key is held.
    Look,
}

/// A register's value; `None` while unset.
pub type Register = Option<String>;

/// What an operation is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Answer {
    /// The value asked for: old or new, as the operation says.
    Value(Register),
    /// The register holds no number.
    NoNumber,
    /// The lease of the key.
    Lease {
        /// Until when it is held, in nanoseconds of decided time; `None` if it is not.
        until: Option<u64>,
        /// The decided time of the answer.
        time: u64,
    },
    /// The bytes are no request.
    Malformed,
}

impl Operation {
    /// Whether it changes nothing.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(self, Self::Get | Self::Look)
    }

    /// Whether it is about a lease and not about a register.
    #[must_use]
    pub const fn is_about_lease(&self) -> bool {
        matches!(self, Self::Lease(_) | Self::Look)
    }

    /// Carries the operation out on a register.
    pub fn apply(&self, register: &mut Register) -> Answer {
        match self {
            Self::Get => Answer::Value(register.clone()),
            Self::Set(value) => Answer::Value(register.replace(value.clone())),
            Self::Increment => {
                let number = match register.as_deref().unwrap_or("0").parse::<i64>() {
                    Ok(number) if number < i64::MAX => number + 1,
                    _ => return Answer::NoNumber,
                };
                *register = Some(number.to_string());
                Answer::Value(register.clone())
            }
            Self::Append(more) => {
                register.get_or_insert_default().push_str(more);
                Answer::Value(register.clone())
            }
            Self::Exchange { expected, value } => {
                let old = register.clone();
                if old == *expected {
                    *register = Some(value.clone());
                }
                Answer::Value(old)
            }
            Self::Lease(_) | Self::Look => Answer::Malformed,
        }
    }

    /// Draws an operation; `unique` differs for every one of a run.
    #[must_use]
    pub fn draw(prng: &mut Prng, read_percent: u64, unique: u64) -> Self {
        if prng.chance(read_percent, 100) {
            return Self::Get;
        }
        match prng.below(8) {
            0 => Self::Set(format!("{unique}")),
            1 => Self::Exchange { expected: None, value: format!("{unique}") },
            2..=4 => Self::Increment,
            _ => Self::Append(format!("{}", unique % 10)),
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => f.write_str("GET"),
            Self::Set(value) => write!(f, "SET {value}"),
            Self::Increment => f.write_str("INCR"),
            Self::Append(more) => write!(f, "APPEND {more}"),
            Self::Exchange { expected, value } => write!(f, "CAS {expected:?} {value}"),
            Self::Lease(millis) => write!(f, "LEASE {millis} ms"),
            Self::Look => f.write_str("LOOK"),
        }
    }
}

/// A request: which register, and what about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Which register.
    pub key: u32,
    /// What about it.
    pub operation: Operation,
    /// Makes no difference to the answer; only the journal knows it.
    pub mark: bool,
}

/// How a request begins over which the service panics.
const PANIC: &[u8] = b"panic";

/// A request over which the service panics, as long as `request`: where it stands in the place of one that is
/// not carried out, nobody can tell. `None` if that is too short.
#[must_use]
pub fn panicking(request: &[u8]) -> Option<Vec<u8>> {
    let rest = request.get(PANIC.len()..)?;
    Some([PANIC, rest].concat())
}

/// How many entries the journal keeps.
const JOURNAL_MAX: usize = 512;

/// The replicated state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registers {
    registers: BTreeMap<u32, String>,
    /// Until when each lease is held.
    leases: BTreeMap<u32, u64>,
    /// A hash of each request and of what stood before it: equal journals mean equal pasts.
    journal: Vec<u64>,
}

impl Registers {
    fn change(&mut self, cx: &Context, request: &[u8]) -> Answer {
        if request.starts_with(PANIC) {
            // As a panic does, but for the message: it is expected.
            std::panic::resume_unwind(Box::new("it was told to panic"));
        }
        let last = self.journal.last().copied().unwrap_or_default();
        self.journal.push(xxh3_64(&[&last.to_le_bytes(), request].concat()));
        if self.journal.len() > JOURNAL_MAX {
            self.journal.drain(..JOURNAL_MAX / 2);
        }
        match postcard::from_bytes::<Request>(request) {
            Ok(Request { key, operation: Operation::Lease(millis), .. }) => {
                let until = cx.time.0.saturating_add(nanos(Duration::from_millis(millis)));
                self.leases.insert(key, until);
                self.look(key, cx.time)
            }
            Ok(Request { key, operation, .. }) => {
                let mut register = self.registers.remove(&key);
                let answer = operation.apply(&mut register);
                if let Some(value) = register {
                    self.registers.insert(key, value);
                }
                answer
            }
            Err(_) => Answer::Malformed,
        }
    }

    fn look(&self, key: u32, time: Timestamp) -> Answer {
        Answer::Lease { until: self.leases.get(&key).copied(), time: time.0 }
    }
}

impl Service for Registers {
    type Checkpoint = Self;

    fn apply(&mut self, cx: &Context, request: &[u8], reply: &mut Vec<u8>) {
        let answer = self.change(cx, request);
        reply.extend(encode(&answer));
    }

    fn query(&self, cx: &QueryContext, request: &[u8], reply: &mut Vec<u8>) {
        let answer = match postcard::from_bytes::<Request>(request) {
            Ok(Request { key, operation: Operation::Get, .. }) => {
                Answer::Value(self.registers.get(&key).cloned())
            }
            Ok(Request { key, operation: Operation::Look, .. }) => self.look(key, cx.time),
            Ok(_) | Err(_) => Answer::Malformed,
        };
        reply.extend(encode(&answer));
    }

    fn checkpoint(&mut self) -> Self {
        self.clone()
    }

    fn restore(source: &mut dyn Read) -> Result<Self, RestoreError> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes)?;
        postcard::from_bytes(&bytes).map_err(|error| RestoreError::Invalid(error.to_string()))
    }

    fn version() -> u32 {
        1
    }

    fn advance(&mut self, time: Timestamp) {
        self.leases.retain(|_, until| *until > time.0);
    }

    fn wake(&self) -> Option<Timestamp> {
        self.leases.values().min().copied().map(Timestamp)
    }
}

impl Checkpoint for Registers {
    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(&encode(self))
    }
}

/// Encodes a request or an answer.
///
/// # Panics
/// Never for the types of this file.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain values of this file can always be written")
}

#[cfg(test)]
mod tests {
    use mainstay_model::Slot;

    use super::*;

    #[test]
    fn operations_do_what_they_say() {
        let mut register = None;
        let value = |text: &str| Answer::Value(Some(text.to_owned()));
        assert_eq!(Operation::Get.apply(&mut register), Answer::Value(None), "unset");
        assert_eq!(Operation::Increment.apply(&mut register), value("1"), "unset counts as 0");
        assert_eq!(Operation::Append("2".into()).apply(&mut register), value("12"), "appended");
        assert_eq!(Operation::Increment.apply(&mut register), value("13"), "still a number");
        let exchange = Operation::Exchange { expected: None, value: "x".into() };
        assert_eq!(exchange.apply(&mut register), value("13"), "not what was expected");
        assert_eq!(Operation::Set("x".into()).apply(&mut register), value("13"), "the old one");
        assert_eq!(Operation::Increment.apply(&mut register), Answer::NoNumber, "no number");
    }

    #[test]
    fn leases_end_by_decided_time() {
        let mut service = Registers::default();
        let lease = encode(&Request { key: 1, operation: Operation::Lease(5), mark: false });
        let look = encode(&Request { key: 1, operation: Operation::Look, mark: false });
        let (session, number) = Default::default();
        let at = |time: u64| Timestamp(time * 1_000_000);
        let cx = Context { slot: Slot(1), time: at(10), seed: 0, session, number };
        let mut reply = Vec::new();
        service.apply(&cx, &lease, &mut reply);
        let held = |time| Answer::Lease { until: Some(at(15).0), time };
        assert_eq!(postcard::from_bytes::<Answer>(&reply), Ok(held(at(10).0)));
        assert_eq!(service.wake(), Some(at(15)));
        let seen = |service: &Registers, time| {
            let mut reply = Vec::new();
            service.query(&QueryContext { slot: Slot(1), time: at(time) }, &look, &mut reply);
            postcard::from_bytes::<Answer>(&reply)
        };
        service.advance(at(14));
        assert_eq!(seen(&service, 14), Ok(held(at(14).0)));
        service.advance(at(15));
        assert_eq!(seen(&service, 15), Ok(Answer::Lease { until: None, time: at(15).0 }));
        assert_eq!(service.wake(), None);
    }

    #[test]
    fn what_was_written_is_read_back() {
        let mut service = Registers::default();
        let (session, number) = Default::default();
        let cx = Context { slot: Slot(1), time: Timestamp(1), seed: 0, session, number };
        for millis in 0..600 {
            let operation = Operation::Lease(millis.into());
            let request = Request { key: millis % 3, operation, mark: false };
            service.apply(&cx, &encode(&request), &mut Vec::new());
        }
        let mut bytes = Vec::new();
        service.checkpoint().write(&mut bytes).unwrap();
        assert_eq!(Registers::restore(&mut bytes.as_slice()).unwrap(), service);
        assert!(bytes.len() > 2_000 && bytes.len() < 8_000, "several pieces: {}", bytes.len());
    }
}
