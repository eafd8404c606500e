//! What an operator tells a group, at any replica: it goes to the leader, is sent again until it is
//! answered, and ends in bounded time with [`Effect::Instructed`].
//!
//! That another replica leads is seen, not told: the replica that was asked watches who leads.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use mainstay_model::{Ballot, Instant, Plants, ReplicaId};

use crate::door::{Effect, Instruction, Observation, Refusal};
use crate::message::{Body, Instruct, Instructed};
use crate::replica::{Cx, Office, Replica};

/// How many election time-outs an instruction may take.
const PATIENCE_TIMEOUTS: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pending {
    number: u64,
    since: Instant,
    /// Which leader was asked, and when.
    asked: Option<(Ballot, Instant)>,
}

/// Instructions that are not answered, at most one for each replica and one more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Instructions {
    pending: BTreeMap<Instruction, Pending>,
}

impl<P: Plants> Replica<P> {
    pub(crate) fn on_instruction(&mut self, cx: &mut Cx<'_>, instruction: Instruction) {
        if let Instruction::LeaderMove { to } = instruction
            && usize::from(to) >= self.configuration.replicas.len()
        {
            return self.end_instruction(cx, instruction, Err(Refusal::UnknownReplica));
        }
        let number = self.next_number();
        let pending = Pending { number, since: cx.now.monotonic, asked: None };
        self.instructions.pending.entry(instruction).or_insert(pending);
        self.flush_due = true;
    }

    fn end_instruction(
        &mut self,
        cx: &mut Cx<'_>,
        instruction: Instruction,
        outcome: Result<(), Refusal>,
    ) {
        self.instructions.pending.remove(&instruction);
        cx.out.push(Effect::Instructed { instruction, outcome });
    }

    /// At the leader that was asked by itself: moving the lead ended.
    pub(crate) fn end_move(&mut self, cx: &mut Cx<'_>, to: u16, outcome: Result<(), Refusal>) {
        let instruction = Instruction::LeaderMove { to };
        if self.instructions.pending.contains_key(&instruction) {
            self.end_instruction(cx, instruction, outcome);
        }
    }

    pub(crate) fn instructions_deadline(&self) -> Option<Instant> {
        let patience = self.election_timeout() * PATIENCE_TIMEOUTS;
        let leader = self.known_leader();
        let next = |pending: &Pending| {
            let end = pending.since.after(patience);
            // Without a leader there is nobody to ask again; a new one ends the turn.
            let asked = pending.asked.filter(|_| leader.is_some());
            let again = asked.map(|(_, at)| at.after(self.settings.resend_interval));
            again.map_or(end, |again| again.min(end))
        };
        self.instructions.pending.values().map(next).min()
    }

    /// Looks who leads now, asks or asks again, and gives up what takes too long.
    pub(crate) fn instructions_tick(&mut self, cx: &mut Cx<'_>) {
        if self.instructions.pending.is_empty() {
            return;
        }
        let pending: Vec<(Instruction, Pending)> =
            self.instructions.pending.iter().map(|(i, p)| (*i, *p)).collect();
        for (instruction, pending) in pending {
            if let Some(outcome) = self.pursue(cx, instruction, pending) {
                self.end_instruction(cx, instruction, outcome);
            }
        }
    }

    /// In which ballot somebody leads, as far as this replica knows.
    fn known_leader(&self) -> Option<Ballot> {
        match &self.office {
            Office::Leader(leader) => Some(leader.ballot),
            Office::Candidate(_) | Office::Follower => self.election.leader,
        }
    }

    fn pursue(
        &mut self,
        cx: &mut Cx<'_>,
        instruction: Instruction,
        pending: Pending,
    ) -> Option<Result<(), Refusal>> {
        let now = cx.now.monotonic;
        let leader = self.known_leader();
        let asked = pending.asked.map(|(ballot, _)| ballot);
        if let (Instruction::LeaderMove { to }, Some(ballot)) = (instruction, leader) {
            if ballot.leader.index == to {
                return Some(Ok(()));
            }
            if asked.is_some_and(|asked| asked != ballot) {
                return Some(Err(Refusal::NotTaken));
            }
        }
        if now >= pending.since.after(self.election_timeout() * PATIENCE_TIMEOUTS) {
            let moved = asked.is_some() && instruction != Instruction::ConfirmClockJump;
            return Some(Err(if moved { Refusal::NotTaken } else { Refusal::NoLeader }));
        }
        let ballot = leader?;
        let again = self.settings.resend_interval;
        if pending.asked.is_some_and(|(known, at)| known == ballot && now < at.after(again)) {
            return None;
        }
        if let Some(known) = self.instructions.pending.get_mut(&instruction) {
            known.asked = Some((ballot, now));
        }
        let number = pending.number;
        if ballot.leader == self.me {
            return self.carry_instruction_out(cx, instruction, self.me.index, number);
        }
        self.send(cx, ballot.leader, Body::Instruct(Instruct { number, instruction }));
        None
    }

    /// At the leader; `None` while it is under way.
    fn carry_instruction_out(
        &mut self,
        cx: &mut Cx<'_>,
        instruction: Instruction,
        asker: u16,
        number: u64,
    ) -> Option<Result<(), Refusal>> {
        let now = cx.now;
        match instruction {
            Instruction::LeaderMove { to } => self.move_leader(now.monotonic, to, asker, number),
            Instruction::ConfirmClockJump => {
                let Office::Leader(leader) = &mut self.office else {
                    return Some(Err(Refusal::NoLeader));
                };
                let median = leader.median(now);
                let Some(jump) = leader.confirm_jump(median) else {
                    return Some(Err(Refusal::NothingToConfirm));
                };
                if !jump.is_zero() {
                    cx.observe(Observation::JumpConfirmed { jump });
                }
                Some(Ok(()))
            }
        }
    }

    pub(crate) fn on_instruct(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Instruct) {
        if !self.leads() {
            // Whoever asked sees soon who leads.
            return self.ignore(cx, "instruction at a replica that does not lead");
        }
        let asker = from.index;
        if let Some(outcome) = self.carry_instruction_out(cx, m.instruction, asker, m.number) {
            let number = m.number;
            self.send(cx, from, Body::Instructed(Instructed { number, outcome }));
        }
    }

    pub(crate) fn on_instructed(&mut self, cx: &mut Cx<'_>, m: Instructed) {
        let mut pending = self.instructions.pending.iter();
        let found = pending.find(|(_, pending)| pending.number == m.number).map(|(i, _)| *i);
        match found {
            // The leader it asked says that it leads already, and is another by now.
            Some(instruction) => self.end_instruction(cx, instruction, m.outcome),
            None => self.ignore(cx, "answer to an instruction that does not wait"),
        }
    }
}
