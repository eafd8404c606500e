//! What an operator tells the group through this node, and how to tell it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
pub use mainstay_consensus::Instruction;
use mainstay_consensus::{Input, Refusal};
use mainstay_model::GroupId;
use mainstay_model::codec::{DecodeError, Put, Reader};
use serde::{Deserialize, Serialize};

use crate::connection::End;
use crate::front::Front;
use crate::node::Node;
use crate::serve::Served;
use crate::status;
use crate::wire::{INSTRUCT, INSTRUCTED};

/// What came of an instruction. Sent as JSON; fields may be added, not renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Whether it was carried out.
    pub done: bool,
    /// Why not, in a word that programs may look at.
    pub refused: Option<String>,
    /// Why not and what to do, in a sentence; empty if it was carried out.
    pub sentence: String,
}

impl Outcome {
    fn of(instruction: Instruction, outcome: Result<(), Refusal>) -> Self {
        let Err(refusal) = outcome else {
            return Self { done: true, refused: None, sentence: String::new() };
        };
        let who = match instruction {
            Instruction::LeaderMove { to } => format!("replica {to}"),
            Instruction::ConfirmClockJump => "the leader".to_owned(),
        };
        let (word, sentence) = match refusal {
            Refusal::UnknownReplica => (
                "unknown-replica",
                format!("the group has no {who}: `mainstay status` lists the replicas"),
            ),
            Refusal::NoLeader => (
                "no-leader",
                "no leader answers: start replicas until a majority runs, then try again".into(),
            ),
            Refusal::NotVoting => (
                "not-voting",
                format!(
                    "the leader does not hear {who} as one that votes: it is down, cut off, or a \
                     learner; `mainstay status` shows which; name another or put that right"
                ),
            ),
            Refusal::Lagging => (
                "lagging",
                format!(
                    "{who} has not caught up with the leader: wait until `mainstay status` shows \
                     that it has, then try again"
                ),
            ),
            Refusal::NoDisk => (
                "no-disk",
                format!(
                    "{who} has no room on its disk, or its disk stands still: put that right, or \
                     name another"
                ),
            ),
            Refusal::Busy => (
                "busy",
                "the leader is handing over already: wait for that to end, then look at `mainstay \
                 status`"
                    .into(),
            ),
            Refusal::NotTaken => (
                "not-taken",
                format!(
                    "{who} was to begin and did not lead in time: `mainstay status` shows who \
                     leads; try again when nothing is wrong there"
                ),
            ),
            Refusal::NothingToConfirm => {
                let what = "there is no jump to confirm: decided time follows the replicas' clocks by \
                            itself, and `mainstay status` warns where it does not";
                ("nothing-to-confirm", what.into())
            }
        };
        Self { done: false, refused: Some(word.into()), sentence }
    }
}

fn encode(instruction: Instruction, out: &mut Vec<u8>) {
    let (tag, to) = match instruction {
        Instruction::LeaderMove { to } => (1, to),
        Instruction::ConfirmClockJump => (2, 0),
    };
    out.put_u8(tag);
    out.put_u16(to);
}

fn decode(body: Bytes) -> Result<Instruction, DecodeError> {
    let mut r = Reader::new(body);
    let (tag, to) = (r.u8()?, r.u16()?);
    r.finish()?;
    match (tag, to) {
        (1, to) => Ok(Instruction::LeaderMove { to }),
        (2, 0) => Ok(Instruction::ConfirmClockJump),
        _ => Err(DecodeError::BadValue("instruction")),
    }
}

/// Tells the group of the replica whose peer port is `address` what to do. Blocks for `timeout` at
/// most, in all.
///
/// # Errors
/// As [`status::ask`]; what came of the instruction is then unknown.
pub fn tell(
    address: SocketAddr,
    instruction: Instruction,
    timeout: Duration,
) -> io::Result<Outcome> {
    let body = |out: &mut Vec<u8>| encode(instruction, out);
    let answer = status::exchange(address, timeout, (INSTRUCT, INSTRUCTED), body)?;
    serde_json::from_slice(&answer).map_err(io::Error::from)
}

impl<F: Front> Node<F> {
    /// An administrator tells the group something; one thing at a time.
    pub(crate) fn instruct(&mut self, connection: &mut Served<F>, body: Bytes) -> Result<(), End> {
        let instruction = decode(body).map_err(|error| End::Broken(error.to_string()))?;
        if self.operators.iter().any(|(id, _)| *id == connection.id) {
            return Err(End::Broken("an instruction came before the last was answered".into()));
        }
        tracing::info!("told by {}: {instruction:?}", connection.who());
        self.operators.push((connection.id, instruction));
        self.machines.step(match instruction {
            Instruction::LeaderMove { to } => Input::LeaderMove { to },
            Instruction::ConfirmClockJump => Input::ConfirmClockJump,
        });
        Ok(())
    }

    /// Answers everybody who told the group the same.
    pub(crate) fn instructed(&mut self, instruction: Instruction, result: Result<(), Refusal>) {
        let outcome = Outcome::of(instruction, result);
        match result {
            Ok(()) => tracing::info!("done: {instruction:?}"),
            Err(_) => tracing::warn!("not done: {instruction:?}: {}", outcome.sentence),
        }
        // An outcome holds no map and no number that JSON could not.
        let body = serde_json::to_vec(&outcome).unwrap_or_default();
        let epoch = self.config.me.epoch.counter;
        let now = self.machines.now.monotonic;
        let (told, others) =
            std::mem::take(&mut self.operators).into_iter().partition(|(_, i)| *i == instruction);
        self.operators = others;
        let told: Vec<(u64, Instruction)> = told;
        for (id, _) in told {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.since = now;
            connection.stream.frame(INSTRUCTED, GroupId::NODE, epoch, |out| {
                out.extend_from_slice(&body);
            });
            if !connection.dirty {
                connection.dirty = true;
                self.dirty.push_back(id);
            }
        }
    }

    /// An administrator that waits for an answer is not idle.
    pub(crate) fn keep_operators(&mut self) {
        let now = self.machines.now.monotonic;
        let connections = &mut self.connections;
        self.operators.retain(|(id, _)| match connections.get_mut(id) {
            Some(connection) => {
                connection.since = now;
                true
            }
            None => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_read_back_and_nothing_else_is_one() {
        for instruction in [Instruction::LeaderMove { to: 6 }, Instruction::ConfirmClockJump] {
            let mut bytes = Vec::new();
            encode(instruction, &mut bytes);
            assert_eq!(decode(Bytes::from(bytes)), Ok(instruction));
        }
        for bytes in [&[][..], &[0, 0, 0], &[2, 1, 0], &[3, 0, 0], &[1, 0], &[1, 0, 0, 0]] {
            assert!(decode(Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let refusals = [
            Refusal::UnknownReplica,
            Refusal::NoLeader,
            Refusal::NotVoting,
            Refusal::Lagging,
            Refusal::NoDisk,
            Refusal::Busy,
            Refusal::NotTaken,
        ];
        for refusal in refusals {
            let told = Outcome::of(Instruction::LeaderMove { to: 2 }, Err(refusal));
            assert!(!told.done && told.refused.is_some());
            let does = ["mainstay status", "start replicas", "name another"];
            assert!(does.iter().any(|what| told.sentence.contains(what)), "{}", told.sentence);
        }
        let none = Outcome::of(Instruction::ConfirmClockJump, Err(Refusal::NothingToConfirm));
        assert!(none.sentence.contains("mainstay status"), "{}", none.sentence);
    }
}
