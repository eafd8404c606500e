//! What is noted down during a run, and judged by the properties of `check`.

use std::collections::BTreeMap;

use mainstay_check::linearizability::{self, check_partitioned_pipelines};
use mainstay_check::{History, Model, Observation, Operation as Judged, OperationId, Properties};
use mainstay_check::{Place, Verdict};
use mainstay_model::{Batch, ReplicaId, RequestNumber, SessionId, Slot, Timestamp, Value};
use mainstay_service::{Applied, Command};

use crate::counts::Counts;
use crate::registers::{Answer, Operation, Register, Request};
use crate::world::Violation;

/// How many steps the search of the linearizability checker may take in one run.
const STEPS_MAX: u64 = linearizability::STEPS_MAX;

/// Something a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asking {
    /// An operation on a register, which is judged with all others at the end.
    Register(OperationId),
    /// One on a lease, which is judged by itself.
    Lease(u64),
}

/// An operation on a lease that was asked for.
#[derive(Clone, Copy, Debug)]
struct LeaseAsked {
    key: u32,
    looks: bool,
    /// Whether nothing else of the lease was open.
    alone: bool,
    /// How often the lease had been asked for when this was asked, this time included.
    version: u64,
    /// A decided time that somebody had reached by then.
    time_before: Timestamp,
}

/// What is known of a lease. Only one client asks for it.
#[derive(Clone, Copy, Debug, Default)]
struct LeaseKnown {
    /// How often it was asked for.
    version: u64,
    /// How many times nobody knows yet, or ever, what came of that.
    open: u64,
    /// Until when it was given last, if that is certain.
    until: Option<Timestamp>,
}

/// Everything that checkers look at.
#[derive(Debug, Default)]
pub struct Recorder {
    properties: Properties,
    history: History<Request, Answer>,
    leases_asked: BTreeMap<u64, LeaseAsked>,
    leases: BTreeMap<u32, LeaseKnown>,
    /// The highest decided time that anybody has reached.
    time: Timestamp,
    /// What happened, counted.
    pub(crate) counts: Counts,
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
    /// Something is asked. Until something else is said the outcome is unknown. What one process asks is
    /// carried out in turn: a process is a connection, or one operation where nothing promises that.
    pub fn invoked(&mut self, process: u64, request: &Request, time: u64) -> Asking {
        self.operations += 1;
        if !request.operation.is_about_lease() {
            return Asking::Register(self.history.invoke(process, request.clone(), time));
        }
        let looks = request.operation == Operation::Look;
        let known = self.leases.entry(request.key).or_default();
        let alone = known.open == 0;
        if !looks {
            known.version += 1;
            known.open += 1;
        }
        let (key, version, time_before) = (request.key, known.version, self.time);
        let id = self.operations as u64;
        if looks {
            // A question breaks nothing.
            self.observe(time, &Observation::Asked { question: id });
        }
        self.leases_asked.insert(id, LeaseAsked { key, looks, alone, version, time_before });
        Asking::Lease(id)
    }

    /// It was answered.
    pub fn done(&mut self, asking: Asking, time: u64, answer: Answer) -> Option<Violation> {
        match asking {
            Asking::Register(operation) => {
                self.history.returned(operation, answer, time);
                None
            }
            Asking::Lease(id) => self.lease_done(id, time, &answer),
        }
    }

    fn lease_done(&mut self, id: u64, at: u64, answer: &Answer) -> Option<Violation> {
        let LeaseAsked { key, looks, alone, version, time_before } =
            self.leases_asked.remove(&id)?;
        let Answer::Lease { until, time } = *answer else {
            let detail = format!("{answer:?} is no answer to what was asked of lease {key}");
            return Some(Violation { property: "expiry", time: at, detail });
        };
        let (found, time) = (until.map(Timestamp), Timestamp(time));
        let shown = self.observe(at, &Observation::Shown { question: id, time });
        if shown.is_some() {
            return shown;
        }
        let known = self.leases.entry(key).or_default();
        if !looks {
            known.open -= 1;
            known.until = found;
        }
        let certain = alone && known.open == 0 && known.version == version;
        if !certain && !looks {
            known.until = None;
        }
        let set = known.until.filter(|_| certain);
        let key = u64::from(key);
        self.observe(at, &Observation::Seen { key, set, found, time, time_before })
    }

    /// It was certainly not carried out.
    pub fn not_done(&mut self, asking: Asking) {
        match asking {
            Asking::Register(operation) => self.history.not_done(operation),
            Asking::Lease(id) => {
                if let Some(LeaseAsked { key, looks: false, .. }) = self.leases_asked.remove(&id) {
                    self.leases.entry(key).or_default().open -= 1;
                }
            }
        }
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
            Observation::Time { time, .. } => self.time = self.time.max(time),
            Observation::Executed { place, .. } if place.slot > self.executed_upto => {
                self.executed_upto = place.slot;
                self.progress.push(time);
            }
            _ => {}
        }
        self.counts.observe(observation);
        self.properties.observe(time, observation).err().map(renamed)
    }

    /// The run is over, and these replicas live.
    pub(crate) fn finish(&mut self, time: u64, live: &[ReplicaId]) -> Option<Violation> {
        self.properties.finish(time, live).err().map(renamed)
    }

    /// Whether what clients saw is linearizable; the second value says whether that could be told.
    pub(crate) fn judge(&self) -> (Option<Violation>, bool) {
        let verdict = check_partitioned_pipelines(&RegisterModel, &self.history, STEPS_MAX);
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
    let ended = applied.iter().filter_map(|applied| match *applied {
        Applied::Ended { session } => Some(Observation::SessionEnded { replica, slot, session }),
        _ => None,
    });
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
            // Of what these do only ends of sessions are told.
            Ok(
                Command::TrimSessions { .. }
                | Command::EndSession { .. }
                | Command::SetCheckpointInterval(_)
                | Command::Begin { .. },
            )
            | Err(_) => {}
        }
    }
    all.extend(ended);
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
        let mut parts = BTreeMap::<u32, Vec<usize>>::new();
        for (at, operation) in operations.iter().enumerate() {
            parts.entry(operation.op.key).or_default().push(at);
        }
        Some(parts.into_values().collect())
    }
}
