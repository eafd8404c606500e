//! `mainstay leader move` and `mainstay clock confirm`: what an operator tells a running group.

use std::time::Duration;

use mainstay_node::RoleName;
use mainstay_node::operate::{Instruction, Outcome, tell};

use crate::arguments::{ClockCommand, ClockOptions, LeaderCommand, LeaderOptions, Where};
use crate::failure::Failure;
use crate::output::say;
use crate::settings::resolve;
use crate::status::{self, Asked};

/// How long the group may take. It ends every instruction by itself before that.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(30);

/// Carries out `mainstay leader …`.
pub(crate) fn leader(options: &LeaderOptions) -> Result<(), Failure> {
    let LeaderCommand::Move { index, at } = &options.command;
    let (replicas, statuses) = status::everybody(at)?;
    let count = replicas.len();
    if usize::from(*index) >= count {
        return Err(Failure::usage(format!(
            "there is no replica {index}: the group has {count}, 0 to {}",
            count.saturating_sub(1)
        )));
    }
    let target = statuses.iter().flatten().find(|told| told.replica.index == *index);
    if target.is_some_and(|told| told.replica.role == RoleName::Learner) {
        return Err(Failure::failed(format!(
            "replica {index} is a learner, which never leads, since it lost what it had promised: \
             name one that `mainstay status` shows as follower"
        )));
    }
    let instruction = Instruction::LeaderMove { to: *index };
    let answering = (0..).zip(&statuses).filter(|(_, told)| told.is_ok()).map(|(i, _)| i);
    let outcome = tell_one(&replicas, answering, instruction)?;
    print(at, &outcome, &format!("replica {index} leads"))
}

/// Carries out `mainstay clock …`.
pub(crate) fn clock(options: &ClockOptions) -> Result<(), Failure> {
    let ClockCommand::Confirm { at } = &options.command;
    let (replicas, statuses) = status::everybody(at)?;
    let answering = (0..).zip(&statuses).filter(|(_, told)| told.is_ok()).map(|(i, _)| i);
    let outcome = tell_one(&replicas, answering, Instruction::ConfirmClockJump)?;
    print(at, &outcome, "confirmed: decided time has jumped to what the replicas' clocks show")
}

/// Tells one of those that answer; any passes it on to the leader.
fn tell_one(
    replicas: &[Asked],
    mut answering: impl Iterator<Item = usize>,
    instruction: Instruction,
) -> Result<Outcome, Failure> {
    let Some(replica) = answering.next().and_then(|at| replicas.get(at)) else {
        return Err(Failure::failed("no replica answers: is the cluster running?"));
    };
    let address = resolve(&replica.peer)
        .map_err(|what| Failure::failed(format!("a replica's peer port {what}")))?;
    tell(address, instruction, OUTCOME_TIMEOUT).map_err(|error| {
        Failure::failed(format!(
            "{} was told and did not answer: {error}; look at `mainstay status` for what came of it",
            replica.peer
        ))
    })
}

fn print(at: &Where, outcome: &Outcome, done: &str) -> Result<(), Failure> {
    let text = if at.json {
        serde_json::to_string(outcome).map_err(|error| Failure::failed(error.to_string()))?
    } else if outcome.done {
        done.to_owned()
    } else {
        return Err(Failure::failed(outcome.sentence.clone()));
    };
    say(&text)?;
    if outcome.done { Ok(()) } else { Err(Failure::failed(outcome.sentence.clone())) }
}
