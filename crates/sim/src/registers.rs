//! The service that simulated clients use: a few registers, so that everybody contends for them.

use std::collections::BTreeMap;
use std::fmt;

use mainstay_model::Prng;
use mainstay_service::contract::Apply;
use mainstay_service::{Context, QueryContext};
use serde::{Deserialize, Serialize};

/// What a client may ask, always of one register.
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
    /// The bytes are no request.
    Malformed,
}

impl Operation {
    /// Whether it changes nothing.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(self, Self::Get)
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
}

/// The registers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registers(BTreeMap<u32, String>);

impl Registers {
    fn carry_out(&mut self, request: &[u8], reply: &mut Vec<u8>) {
        let answer = match postcard::from_bytes::<Request>(request) {
            Ok(Request { key, operation }) => {
                let mut register = self.0.remove(&key);
                let answer = operation.apply(&mut register);
                if let Some(value) = register {
                    self.0.insert(key, value);
                }
                answer
            }
            Err(_) => Answer::Malformed,
        };
        reply.extend(encode(&answer));
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

impl Apply for Registers {
    fn apply(&mut self, _: &Context, request: &[u8], reply: &mut Vec<u8>) {
        self.carry_out(request, reply);
    }

    fn query(&self, _: &QueryContext, request: &[u8], reply: &mut Vec<u8>) {
        self.clone().carry_out(request, reply);
    }
}

#[cfg(test)]
mod tests {
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
}
