//! The executor's thread: decided values are applied one after the other, checkpoints that become due
//! are taken, and reads are answered.

use std::collections::BTreeMap;

use bytes::Bytes;
use mainstay_check::Observation;
use mainstay_consensus::{Input, Role};
use mainstay_model::plant::Planted;
use mainstay_model::{
    Batch, Nonce, Plant, Plants, RequestNumber, SessionId, Slot, Timestamp, Token, Value,
};
use mainstay_service::{Applier, CheckpointInterval, Command, Interlude};

use super::clients::tell;
use super::{EXECUTOR, Origin, ReplicaProcess};
use crate::context::Cx;
use crate::drive::front::{Asker, Read};
use crate::record;
use crate::registers::{Registers, Request, encode, panicking};
use crate::wire::Told;

impl ReplicaProcess {
    /// Whether nothing is applied now, and nothing is read: another state is about to come, or the
    /// service does not come back or is gone.
    fn stands(&self) -> bool {
        self.stopped || self.installing || self.hangs || self.applier.stopped().is_some()
    }

    pub(super) fn execute(&mut self, cx: &mut Cx<'_>) {
        let waits = self.stands() || self.owes_checkpoint;
        if !self.executing && !waits && !self.deliveries.is_empty() {
            self.executing = true;
            let usual = self.group.apply_latency * cx.executor_slowness();
            let nanos = cx.prng().between(usual / 4 + 1, usual * 2 + 1);
            cx.timer_in(nanos, EXECUTOR);
        }
    }

    pub(super) fn on_executor(&mut self, cx: &mut Cx<'_>) {
        self.executing = false;
        if self.stands() || self.owes_checkpoint {
            return;
        }
        let Some((slot, value)) = self.deliveries.pop_front() else { return };
        let mut applied = Vec::new();
        let (replica, checksum) = (self.me, value.checksum());
        cx.observe(&Observation::Applied { replica, slot, checksum });
        let (given, spoils) = self.given(cx, slot, &value);
        let mut tied = Tied {
            reads: &mut self.reads,
            session: self.front.session(),
            generation: self.front.generation(),
            plants: self.group.plants,
            told: Vec::new(),
        };
        let result = self.applier.apply_between(slot, &given, &mut applied, &mut tied);
        let told_between = tied.told;
        if let Err(error) = result {
            if !std::mem::take(&mut self.panics) {
                return cx.violated("invariant", format!("replica {replica}: {error}"));
            }
            return cx.line(format_args!("executes nothing more: {error}"));
        }
        // The request that it was put in the place of was not to be carried out: the next one, then.
        self.wants_panic |= std::mem::take(&mut self.panics);
        let executed = record::executed(replica, slot, &value, &applied);
        if spoils && executed.iter().any(|one| matches!(one, Observation::Executed { .. })) {
            self.wants_spoiling = false;
            cx.line(format_args!("its state is spoiled in slot {slot}"));
            cx.observe(&Observation::Spoiled { replica });
        }
        for observation in executed {
            cx.observe(&observation);
        }
        self.observe_state(cx);
        if self.applier.checkpoint_due() {
            cx.observe(&Observation::Due { replica, slot });
            self.owes_checkpoint = true;
            self.take_checkpoint(cx);
        }
        for (asker, outcome) in told_between {
            tell(cx, asker, outcome);
        }
        let mut todo = Vec::new();
        for applied in &applied {
            let nonce = Nonce(u128::from(cx.prng().next_u64()));
            self.front.on_applied(applied, || nonce, &mut todo);
        }
        self.tell_applied(cx);
        self.carry_out_todo(cx, todo);
        self.answer_reads(cx);
        self.trim_sessions(cx);
        self.execute(cx);
    }

    /// Tells the machine how far the state is.
    pub(super) fn tell_applied(&mut self, cx: &mut Cx<'_>) {
        let (upto, time) = (self.applier.applied_upto(), self.applier.time());
        self.step(cx, Input::Applied { upto, time, wake: self.applier.wake() });
    }

    /// Tells the properties what the state is now.
    pub(super) fn observe_state(&mut self, cx: &mut Cx<'_>) {
        let (replica, slot) = (self.me, self.applier.applied_upto());
        let digest = self.applier.digest().unwrap_or_default();
        cx.observe(&Observation::Digest { replica, slot, digest });
        let (time, at) = (self.applier.time(), cx.time());
        cx.observe(&Observation::Time { replica, slot, time, at });
    }

    /// What the applier is given for the value of a slot: the value itself, unless something is to go
    /// wrong. Also whether that spoils the state.
    fn given(&mut self, cx: &mut Cx<'_>, slot: Slot, value: &Value) -> (Value, bool) {
        self.applier.tell_local_clock(cx.now().wall);
        let Ok(mut batch) = Batch::decode(value) else { return (value.clone(), false) };
        if let Some(interval) = self.local_interval.take() {
            batch.requests.push(Command::SetCheckpointInterval(interval).encode());
            return (batch.encode(), false);
        }
        if self.wants_panic && replace_body(&mut batch, panicking) {
            (self.wants_panic, self.panics) = (false, true);
            return (batch.encode(), false);
        }
        if self.wants_spoiling && cx.closing().is_none() && spoil(&mut batch) {
            cx.line(format_args!("something else is applied in slot {slot}"));
            return (batch.encode(), true);
        }
        (value.clone(), false)
    }

    fn trim_sessions(&mut self, cx: &mut Cx<'_>) {
        if self.role == Role::Leader
            && let Some(trim) = self.applier.trim()
        {
            self.submit(cx, Origin::Own, trim.encode());
        }
    }

    /// As leader, sets the interval of checkpoints: at first, and now and then to another one.
    pub(super) fn set_interval(&mut self, cx: &mut Cx<'_>) {
        let options = self.group.checkpoints;
        let (unset, late) = (
            self.applier.checkpoint_interval() == CheckpointInterval::default(),
            self.owes_checkpoint,
        );
        let changes = options.is_changed && cx.prng().chance(1, 20);
        if self.role != Role::Leader || !(unset || late || changes) {
            return;
        }
        // Checkpoints that are not written in time are due less often.
        let range = if late { options.requests_max } else { options.requests_min };
        let requests = cx.prng().between(range, options.requests_max);
        let bytes = cx.prng().between(CheckpointInterval::MIN.bytes, 4 * requests * 512 + 4096);
        let interval = CheckpointInterval { requests, bytes };
        cx.line(format_args!("wants {interval:?}"));
        if self.group.plants.has(Plant::IntervalNotDecided) && !unset {
            self.local_interval = Some(interval);
        } else {
            self.submit(cx, Origin::Own, Command::SetCheckpointInterval(interval).encode());
        }
    }

    pub(super) fn answer_reads(&mut self, cx: &mut Cx<'_>) {
        let (stands, applied) = (self.stands(), self.applier.applied_upto());
        let generation = self.front.generation();
        let number = self.front.session().and_then(|id| self.applier.session_applied_upto(id));
        let early = self.group.plants.has(Plant::ReadTiedToWriteBefore);
        let late = self.group.plants.has(Plant::ReadTiedTooLate);
        let mut done = Vec::new();
        for (&token, read) in &self.reads {
            let reached = |n: Option<RequestNumber>| n.is_some_and(|n| number >= Some(n));
            let of_another = read.generation != generation;
            // The state has jumped over the write that it was tied to. That shows before anything is applied to it,
            // though the service hangs: later it would be answered with the next write.
            let passed = reached(read.before) && !late;
            let lost = of_another && (read.after.is_some() || read.before.is_some()) || passed;
            let is_told = read.at.is_some_and(|(slot, time)| {
                applied >= slot.max(self.keeping.shown_upto) && !self.applier.is_due(time)
            }) || (early && read.before.is_some())
                || (late && reached(read.before));
            if lost || (is_told && !stands && read.after.is_none_or(|after| reached(Some(after)))) {
                done.push((token, lost));
            }
        }
        for (token, lost) in done {
            let Some(read) = self.reads.remove(&token) else { continue };
            let mut reply = Vec::new();
            let time = read.at.map_or(Timestamp(0), |(_, time)| time);
            let outcome = if lost || self.applier.query(time, &read.body, &mut reply).is_err() {
                Told::NotDone
            } else {
                Told::Reply(Bytes::from(reply))
            };
            tell(cx, read.asker, outcome);
        }
    }
}

/// Answers reads right before the write that they are tied to.
struct Tied<'a> {
    reads: &'a mut BTreeMap<Token, Read>,
    session: Option<SessionId>,
    generation: u64,
    plants: Planted,
    told: Vec<(Asker, Told)>,
}

impl Interlude<Registers, Planted> for Tied<'_> {
    fn before(
        &mut self,
        applier: &Applier<Registers, Planted>,
        session: SessionId,
        number: RequestNumber,
    ) {
        if Some(session) != self.session || self.plants.has(Plant::ReadTiedTooLate) {
            return;
        }
        let is_due = |read: &Read| {
            read.generation == self.generation && read.before.is_some_and(|before| before <= number)
        };
        for (_, read) in self.reads.extract_if(.., |_, read| is_due(read)) {
            let mut reply = Vec::new();
            let outcome = match applier.query(Timestamp(0), &read.body, &mut reply) {
                Ok(()) => Told::Reply(Bytes::from(reply)),
                Err(_) => Told::NotDone,
            };
            self.told.push((read.asker, outcome));
        }
    }
}

/// Changes the first request so that its answer stays what it was, and the state does not.
fn spoil(batch: &mut Batch) -> bool {
    replace_body(batch, |body| {
        let mut asked = postcard::from_bytes::<Request>(body).ok()?;
        asked.mark = !asked.mark;
        Some(encode(&asked))
    })
}

/// Puts another body in the place of that of the first request for which there is one.
fn replace_body(batch: &mut Batch, other: impl Fn(&[u8]) -> Option<Vec<u8>>) -> bool {
    for request in &mut batch.requests {
        if let Ok(Command::Request { session, number, acknowledged_upto, body }) =
            Command::decode(request.clone())
            && let Some(body) = other(&body)
        {
            let body = Bytes::from(body);
            *request = Command::Request { session, number, acknowledged_upto, body }.encode();
            return true;
        }
    }
    false
}
