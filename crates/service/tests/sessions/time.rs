//! Decided time as a service sees it: it advances with every slot, also with those that hold nothing.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use mainstay_model::{Batch, NoPlants, Slot, Timestamp, Value};
use mainstay_service::{
    Applied, Applier, ApplyError, Checkpoint, Command, Context, QueryContext, RestoreError, Service,
};

use crate::world::{LIMITS, replied, request};

/// Alarms that ring when their time has come: `set N` sets one, `heard` answers with all the times
/// that it was told.
#[derive(Clone, Debug, Default)]
struct Alarms {
    set: BTreeSet<u64>,
    advanced: Vec<u64>,
}

impl Service for Alarms {
    type Checkpoint = Times;

    fn apply(&mut self, cx: &Context, request: &[u8], reply: &mut Vec<u8>) {
        let text = std::str::from_utf8(request).unwrap();
        if let Some(at) = text.strip_prefix("set ") {
            self.set.insert(at.parse().unwrap());
        }
        let advanced = self.advanced.last().copied().unwrap_or_default();
        assert_eq!(cx.time, Timestamp(advanced), "it was told before any request");
        if text == "heard" {
            reply.extend_from_slice(format!("{:?}", self.advanced).as_bytes());
        } else {
            reply.extend_from_slice(format!("{} left at {advanced}", self.set.len()).as_bytes());
        }
    }

    fn query(&self, cx: &QueryContext, _: &[u8], reply: &mut Vec<u8>) {
        reply.extend_from_slice(format!("{} left at {}", self.set.len(), cx.time.0).as_bytes());
    }

    fn advance(&mut self, time: Timestamp) {
        assert!(time != Timestamp(666), "asked to");
        self.advanced.push(time.0);
        self.set = self.set.split_off(&(time.0 + 1));
    }

    fn checkpoint(&mut self) -> Times {
        Times(self.set.iter().copied().collect())
    }

    fn restore(source: &mut dyn Read) -> Result<Self, RestoreError> {
        let mut bytes = Vec::new();
        source.read_to_end(&mut bytes)?;
        let times = bytes.chunks_exact(8).map(|time| u64::from_le_bytes(time.try_into().unwrap()));
        Ok(Self { set: times.collect(), advanced: Vec::new() })
    }

    fn version() -> u32 {
        1
    }

    fn wake(&self) -> Option<Timestamp> {
        self.set.first().copied().map(Timestamp)
    }
}

struct Times(Vec<u64>);

impl Checkpoint for Times {
    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        self.0.iter().try_for_each(|time| to.write_all(&time.to_le_bytes()))
    }
}

/// A replica of one session, and what it answers.
struct Replica(Applier<Alarms>);

impl Replica {
    fn new() -> Self {
        let mut replica = Self(Applier::new(Alarms::default(), LIMITS, NoPlants));
        replica.slot(0, &[Command::Register { nonce: mainstay_model::Nonce(1) }]);
        replica
    }

    fn slot(&mut self, time: u64, commands: &[Command]) -> Vec<Applied> {
        let mut out = Vec::new();
        let requests = commands.iter().map(Command::encode).collect();
        let value = Batch { time: Timestamp(time), requests }.encode();
        self.0.apply(self.0.applied_upto().next(), &value, &mut out).unwrap();
        out
    }

    fn query(&self) -> String {
        self.query_at(0)
    }

    /// A query that is shown this time.
    fn query_at(&self, time: u64) -> String {
        let mut reply = Vec::new();
        self.0.query(Timestamp(time), b"", &mut reply).unwrap();
        String::from_utf8(reply).unwrap()
    }
}

const SESSION: mainstay_model::SessionId = mainstay_model::SessionId { slot: Slot(1), position: 0 };

#[test]
fn a_slot_without_requests_moves_time_and_what_is_due_is_gone() {
    let mut replica = Replica::new();
    assert_eq!(replica.0.wake(), None);
    let set = [request(SESSION, 1, 0, "set 10"), request(SESSION, 2, 0, "set 20")];
    replica.slot(5, &set);
    assert_eq!((replica.0.wake(), replica.query()), (Some(Timestamp(10)), "2 left at 5".into()));
    assert_eq!(replica.slot(9, &[]), []);
    assert_eq!((replica.0.wake(), replica.query()), (Some(Timestamp(10)), "2 left at 9".into()));
    assert_eq!(replica.slot(10, &[]), []);
    assert_eq!((replica.0.wake(), replica.query()), (Some(Timestamp(20)), "1 left at 10".into()));
    let no_op = Value::no_op(Timestamp(25));
    replica.0.apply(replica.0.applied_upto().next(), &no_op, &mut Vec::new()).unwrap();
    assert_eq!((replica.0.wake(), replica.query()), (None, "0 left at 25".into()));
}

#[test]
fn a_query_is_shown_time_as_it_passes_and_not_what_is_due() {
    let mut replica = Replica::new();
    replica.slot(5, &[request(SESSION, 1, 0, "set 10")]);
    assert_eq!(replica.query_at(4), "1 left at 5", "decided time has come further");
    assert_eq!(replica.query_at(9), "1 left at 9");
    let is_due = |replica: &Replica, time| replica.0.is_due(Timestamp(time));
    assert!(!is_due(&replica, 9) && is_due(&replica, 10), "a tick comes first");
    replica.slot(10, &[]);
    assert!(!is_due(&replica, 11));
    assert_eq!(replica.query_at(11), "0 left at 11");
}

#[test]
fn what_is_due_goes_before_the_requests_of_its_slot() {
    let mut replica = Replica::new();
    replica.slot(5, &[request(SESSION, 1, 0, "set 10")]);
    let out = replica.slot(10, &[request(SESSION, 2, 1, "now")]);
    assert_eq!(out, [replied(SESSION, 2, "0 left at 10", false)]);
}

#[test]
fn the_service_hears_of_time_only_when_it_moves_forward() {
    let mut replica = Replica::new();
    for time in [3, 3, 2, 7, 0, 8] {
        replica.slot(time, &[]);
    }
    let out = replica.slot(8, &[request(SESSION, 1, 0, "heard")]);
    assert_eq!(out, [replied(SESSION, 1, "[3, 7, 8]", false)]);
    assert_eq!(replica.0.time(), Timestamp(8));
    assert_eq!(replica.query(), "0 left at 8");
}

#[test]
fn a_restored_replica_goes_on_with_the_time_it_had() {
    let mut replica = Replica::new();
    replica.slot(5, &[request(SESSION, 1, 0, "set 10")]);
    let mut bytes = Vec::new();
    replica.0.checkpoint().unwrap().write(&mut bytes).unwrap();
    assert_eq!(mainstay_service::time_of(&mut &bytes[..]).unwrap(), Timestamp(5));
    bytes[30] ^= 1;
    assert!(
        mainstay_service::time_of(&mut &bytes[..]).is_err(),
        "a damaged beginning tells nothing"
    );
    bytes[30] ^= 1;
    let mut after = Replica(Applier::restore(&mut &bytes[..], NoPlants).unwrap());
    assert_eq!((after.0.time(), after.0.wake()), (Timestamp(5), Some(Timestamp(10))));
    for replica in [&mut replica, &mut after] {
        replica.slot(11, &[]);
        assert_eq!((replica.0.wake(), replica.query()), (None, "0 left at 11".into()));
    }
    assert_eq!(after.0.digest(), replica.0.digest());
}

#[test]
fn a_panic_while_time_advances_stops_the_executor_and_names_the_slot() {
    let mut replica = Replica::new();
    let value = Batch { time: Timestamp(666), requests: Vec::new() }.encode();
    let error = replica.0.apply(Slot(2), &value, &mut Vec::new()).unwrap_err();
    let message = "asked to".to_owned();
    assert_eq!(error, ApplyError::Panic { slot: Slot(2), position: None, message });
    assert_eq!(error.to_string(), "the service panicked in slot 2: asked to");
    assert_eq!((replica.0.stopped(), replica.0.wake()), (Some(&error), None));
    assert_eq!(replica.0.applied_upto(), Slot(1));
}
