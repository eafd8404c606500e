//! What is noted down during a run, and judged by the properties of `check`.

use mainstay_check::{History, Model, Observation, Operation as Judged, OperationId, Properties};
use mainstay_check::{Place, Verdict};
use mainstay_model::{Batch, ReplicaId, RequestNumber, SessionId, Slot, Value};
use mainstay_service::{Applied, Command};

use crate::registers::{Answer, Register, Request};
use crate::world::{NodeId, Violation};

/// How many steps the search of the linearizability checker may take in one run.
const STEPS_MAX: u64 = mainstay_check::linearizability::STEPS_MAX;

/// Everything that checkers look at.
#[derive(Debug, Default)]
pub struct Recorder {
    properties: Properties,
    history: History<Request, Answer>,
    operations: usize,
    decided_upto: Slot,
    executed_upto: Slot,
    /// When requests were carried out in a slot beyond all before.
    progress: Vec<u64>,
}

/// The checksum by which properties tell requests apart.
#[must_use]
pub fn checksum(body: &bytes::Bytes) -> u32 {
    Value::new(body.clone()).checksum()
}

fn renamed(violation: mainstay_check::Violation) -> Violation {
    Violation { property: violation.property, time: violation.at, detail: violation.detail }
}

impl Recorder {
    /// A client asks something. Until something else is said the outcome is unknown.
    pub fn invoked(&mut self, client: NodeId, request: &Request, time: u64) -> OperationId {
        self.operations += 1;
        self.history.invoke(u64::from(client.0), request.clone(), time)
    }

    /// It was answered.
    pub fn done(&mut self, operation: OperationId, time: u64, answer: Answer) {
        self.history.returned(operation, answer, time);
    }

    /// It was certainly not carried out.
    pub fn not_done(&mut self, operation: OperationId) {
        self.history.not_done(operation);
    }

    /// How many operations clients asked for.
    #[must_use]
    pub const fn operations(&self) -> usize {
        self.operations
    }

    /// The last slot that anyone held for decided.
    #[must_use]
    pub const fn decided_upto(&self) -> Slot {
        self.decided_upto
    }

    /// When, from `time` on, new requests were first carried out, if they were.
    #[must_use]
    pub fn progress_after(&self, time: u64) -> Option<u64> {
        let first = self.progress.partition_point(|&at| at < time);
        self.progress.get(first).copied()
    }

    /// Something that properties watch.
    pub(crate) fn observe(&mut self, time: u64, observation: &Observation) -> Option<Violation> {
        match *observation {
            Observation::Decided { slot, .. } => self.decided_upto = self.decided_upto.max(slot),
            Observation::Executed { place, .. } if place.slot > self.executed_upto => {
                self.executed_upto = place.slot;
                self.progress.push(time);
            }
            _ => {}
        }
        self.properties.observe(time, observation).err().map(renamed)
    }

    /// The run is over, and these replicas live.
    pub(crate) fn finish(&mut self, time: u64, live: &[ReplicaId]) -> Option<Violation> {
        self.properties.finish(time, live).err().map(renamed)
    }

    /// Whether what clients saw is linearizable; the second value says whether that could be told.
    pub(crate) fn judge(&self) -> (Option<Violation>, bool) {
        let verdict = mainstay_check::check(&RegisterModel, &self.history, STEPS_MAX);
        let told = !matches!(verdict, Verdict::TooHard { .. });
        (verdict.into_result().err().map(renamed), told)
    }
}

/// What a slot's application tells the properties: each request carried out, with its place.
pub(crate) fn executed(
    replica: ReplicaId,
    slot: Slot,
    value: &Value,
    applied: &[Applied],
) -> Vec<Observation> {
    let Ok(batch) = Batch::decode(value) else { return Vec::new() };
    // Sessions end on account of several commands, and at the end of a slot.
    let told = applied.iter().filter(|applied| !matches!(applied, Applied::Ended { .. }));
    let mut applied = told.peekable();
    let mut all = Vec::new();
    for (position, request) in (0u32..).zip(batch.requests) {
        match Command::decode(request) {
            Ok(Command::Register { .. }) => drop(applied.next()),
            Ok(Command::Request { session, number, body, .. }) => {
                let came = applied.next_if(|applied| about(applied) == Some((session, number)));
                if let Some(Applied::Replied { repeated: false, .. }) = came {
                    let place = Place { slot, position };
                    let checksum = checksum(&body);
                    all.push(Observation::Executed { replica, place, session, number, checksum });
                }
            }
            Ok(Command::TrimSessions { .. } | Command::SetCheckpointInterval(_)) | Err(_) => {}
        }
    }
    all
}

fn about(applied: &Applied) -> Option<(SessionId, RequestNumber)> {
    match *applied {
        Applied::Replied { session, number, .. }
        | Applied::Gap { session, number, .. }
        | Applied::WindowFull { session, number }
        | Applied::UnknownSession { session, number } => Some((session, number)),
        Applied::Registered { .. }
        | Applied::RegistrationRefused { .. }
        | Applied::Ended { .. } => None,
    }
}

/// One register, as a single copy would keep it.
#[derive(Clone, Copy, Debug)]
pub struct RegisterModel;

impl Model for RegisterModel {
    type State = Register;
    type Op = Request;
    type Ret = Answer;

    fn initial(&self) -> Register {
        None
    }

    fn step(&self, state: &Register, request: &Request, answer: &Answer) -> Option<Register> {
        let mut register = state.clone();
        (request.operation.apply(&mut register) == *answer).then_some(register)
    }

    fn apply_unknown(&self, state: &Register, request: &Request) -> Register {
        let mut register = state.clone();
        let _ = request.operation.apply(&mut register);
        register
    }

    fn partitions(&self, operations: &[&Judged<Request, Answer>]) -> Option<Vec<Vec<usize>>> {
        let mut parts = std::collections::BTreeMap::<u32, Vec<usize>>::new();
        for (at, operation) in operations.iter().enumerate() {
            parts.entry(operation.op.key).or_default().push(at);
        }
        Some(parts.into_values().collect())
    }
}
