//! That the check of services finds each way to break the contract, and nothing in services that keep
//! to it; and that a service behind its checkpoint is refused.

#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use mainstay_model::{Batch, NoPlants, Nonce, RequestNumber, SessionId, Slot, Timestamp, Value};
use mainstay_service::conformance::{self, Rule, Violation};
use mainstay_service::{
    Applier, Checkpoint, Command, Context, QueryContext, RestoreError, Service,
};

/// The flaws of [`Ledger`].
const NONE: u8 = 0;
const PANICS: u8 = 1;
const COUNTS_APART: u8 = 2;
const ANSWERS_APART: u8 = 3;
const QUERY_WRITES: u8 = 4;
const WAKES_LATE: u8 = 5;
const FORGETS: u8 = 6;
const FORGETS_INSIDE: u8 = 7;
const SHARES: u8 = 8;
const WRITES_PART: u8 = 9;
const READS_PART: u8 = 10;
const BEHIND: u8 = 11;
const REFUSES_ITS_OWN: u8 = 12;
const WRITES_ONCE: u8 = 13;

/// How often each word was said, and by when it is forgotten; one flaw at most.
#[derive(Debug, Default)]
struct Ledger<const FLAW: u8> {
    words: Arc<Mutex<BTreeMap<Vec<u8>, u64>>>,
    /// In the checkpoint, unless [`FORGETS_INSIDE`].
    total: u64,
    last: Slot,
    queries: Cell<u64>,
    due: Option<Timestamp>,
}

/// Of the process, as a clock is.
static OUTSIDE: AtomicU64 = AtomicU64::new(0);

impl<const FLAW: u8> Service for Ledger<FLAW> {
    type Checkpoint = Page<FLAW>;

    fn apply(&mut self, cx: &Context, request: &[u8], reply: &mut Vec<u8>) {
        assert!(FLAW != PANICS || request.is_ascii(), "no text");
        let mut words = self.words.lock().unwrap();
        let times = words.entry(request.to_vec()).or_default();
        *times += if FLAW == COUNTS_APART { OUTSIDE.fetch_add(1, Ordering::Relaxed) } else { 1 };
        self.total += 1;
        self.last = cx.slot;
        self.due = Some(Timestamp(cx.time.0 + 1));
        let said = if FLAW == ANSWERS_APART { OUTSIDE.fetch_add(1, Ordering::Relaxed) } else { 0 };
        reply.extend_from_slice(format!("{} {} {said}", self.total, *times).as_bytes());
    }

    fn query(&self, _: &QueryContext, request: &[u8], reply: &mut Vec<u8>) {
        if FLAW == QUERY_WRITES {
            self.queries.set(self.queries.get() + 1);
        }
        let times = self.words.lock().unwrap().get(request).copied().unwrap_or_default();
        reply.extend_from_slice(times.to_string().as_bytes());
    }

    fn checkpoint(&mut self) -> Page<FLAW> {
        let copy = self.words.lock().unwrap().clone();
        let apart = Arc::new(Mutex::new(copy));
        let words = if FLAW == SHARES { Arc::clone(&self.words) } else { apart };
        let total = if FLAW == FORGETS_INSIDE { 0 } else { self.total };
        Page { words, numbers: [total, self.last.0, self.queries.get()], due: self.due }
    }

    fn restore(source: &mut dyn Read) -> Result<Self, RestoreError> {
        if FLAW == REFUSES_ITS_OWN {
            return Err(RestoreError::Invalid("it is not to my taste".to_owned()));
        }
        let mut bytes = Vec::new();
        let read = source.read_to_end(&mut bytes);
        if FLAW != READS_PART {
            read?;
        }
        bytes.resize(bytes.len().max(32), 0);
        let mut fields = bytes
            .chunks_exact(8)
            .map(|field| u64::from_le_bytes(field.try_into().expect("chunks are of eight bytes")));
        let mut field = || fields.next().unwrap_or_default();
        let (total, last, queries, due) = (field(), field(), field(), field());
        let mut words = BTreeMap::new();
        let mut rest = &bytes[32..];
        while let [len, behind @ ..] = rest {
            let len = usize::from(*len).min(behind.len());
            let (word, behind) = behind.split_at(len);
            let Some((times, behind)) = behind.split_first_chunk() else { break };
            words.insert(word.to_vec(), u64::from_le_bytes(*times));
            rest = behind;
        }
        if FLAW == FORGETS {
            words.pop_first();
        }
        Ok(Self {
            words: Arc::new(Mutex::new(words)),
            total,
            last: Slot(if FLAW == BEHIND { last / 2 } else { last }),
            queries: Cell::new(queries),
            due: Some(Timestamp(due)).filter(|_| due > 0),
        })
    }

    fn version() -> u32 {
        1
    }

    fn advance(&mut self, time: Timestamp) {
        if FLAW != WAKES_LATE {
            self.due = self.due.filter(|due| *due > time);
        }
    }

    fn wake(&self) -> Option<Timestamp> {
        self.due
    }

    fn executed_upto(&self) -> Option<Slot> {
        Some(self.last)
    }
}

struct Page<const FLAW: u8> {
    words: Arc<Mutex<BTreeMap<Vec<u8>, u64>>>,
    numbers: [u64; 3],
    due: Option<Timestamp>,
}

impl<const FLAW: u8> Checkpoint for Page<FLAW> {
    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let write = |to: &mut dyn Write| {
            for number in self.numbers {
                to.write_all(&number.to_le_bytes())?;
            }
            to.write_all(&self.due.map_or(0, |due| due.0).to_le_bytes())?;
            for (word, times) in &*self.words.lock().unwrap() {
                let len = word.len().min(255);
                to.write_all(&[len as u8])?;
                to.write_all(&word[..len])?;
                to.write_all(&times.to_le_bytes())?;
            }
            Ok(())
        };
        let written = write(to);
        if FLAW == WRITES_ONCE {
            self.words.lock().unwrap().clear();
        }
        if FLAW == WRITES_PART { Ok(()) } else { written }
    }
}

fn violation<const FLAW: u8>() -> Violation {
    let requests = ["a", "b", "a", "c", "a", "b"];
    let found = conformance::check(Ledger::<FLAW>::default, &requests);
    found.expect_err("a flaw was planted")
}

#[test]
fn a_service_that_keeps_to_the_contract_passes() {
    let many: Vec<String> = (0..200).map(|number| (number % 17).to_string()).collect();
    assert_eq!(conformance::check(Ledger::<NONE>::default, &many), Ok(()));
    assert_eq!(conformance::check(Ledger::<NONE>::default, &[""; 0]), Ok(()));
}

#[test]
fn each_flaw_is_found_by_its_rule() {
    assert_eq!(violation::<PANICS>().rule, Rule::Total);
    assert_eq!(violation::<COUNTS_APART>().rule, Rule::Deterministic);
    assert_eq!(violation::<ANSWERS_APART>().rule, Rule::Deterministic);
    assert_eq!(violation::<QUERY_WRITES>().rule, Rule::Query);
    assert_eq!(violation::<WAKES_LATE>().rule, Rule::Wake);
    assert_eq!(violation::<FORGETS>().rule, Rule::Restored);
    assert_eq!(violation::<FORGETS_INSIDE>().rule, Rule::Restored);
    assert_eq!(violation::<REFUSES_ITS_OWN>().rule, Rule::Restored);
    assert_eq!(violation::<BEHIND>().rule, Rule::Restored);
    assert_eq!(violation::<SHARES>().rule, Rule::Apart);
    assert_eq!(violation::<WRITES_ONCE>().rule, Rule::Apart);
    assert_eq!(violation::<WRITES_PART>().rule, Rule::Reported);
    assert_eq!(violation::<READS_PART>().rule, Rule::Reported);
}

#[test]
fn a_violation_says_what_was_seen() {
    assert_eq!(
        violation::<SHARES>().to_string(),
        "a checkpoint stays as it was taken, but after 0 requests a checkpoint was other bytes when it \
         was written only after what followed"
    );
    assert_eq!(
        violation::<PANICS>().to_string(),
        "a service answers whatever it is asked, and never panics, but after 7 requests it panicked: \
         no text"
    );
}

/// An applier around the ledger that has executed three requests in slots 2 to 4, and gone on for one
/// slot without any.
fn applier<const FLAW: u8>() -> Applier<Ledger<FLAW>> {
    let service = Ledger::default();
    let mut applier = Applier::new(service, mainstay_service::SessionLimits::default(), NoPlants);
    let session = SessionId { slot: Slot(1), position: 0 };
    let request = |number| Command::Request {
        session,
        number: RequestNumber(number),
        acknowledged_upto: RequestNumber(0),
        body: "word".into(),
    };
    let commands = [Command::Register { nonce: Nonce(1) }, request(1), request(2), request(3)];
    let time = Timestamp(1);
    for (slot, command) in (1..).zip(commands) {
        let value = Batch { time, requests: vec![command.encode()] }.encode();
        applier.apply(Slot(slot), &value, &mut Vec::new()).unwrap();
    }
    applier.apply(Slot(5), &Value::no_op(time), &mut Vec::new()).unwrap();
    applier
}

fn restored<const FLAW: u8>() -> Result<Applier<Ledger<FLAW>>, RestoreError> {
    let mut bytes = Vec::new();
    applier::<FLAW>().checkpoint().unwrap().write(&mut bytes).unwrap();
    Applier::restore(&mut &bytes[..], NoPlants)
}

/// lni/dragonboat#369: a service behind its own snapshot was started from without a word.
#[test]
fn a_service_behind_its_checkpoint_is_refused() {
    let mut whole = restored::<NONE>().unwrap();
    assert_eq!(whole.digest(), applier::<NONE>().digest());
    let said = restored::<BEHIND>().err().unwrap().to_string();
    assert_eq!(
        said,
        "the service came back as of slot 2, behind its checkpoint, whose last request is of slot 4: it \
         lacks requests that were acknowledged; bring back what it keeps outside of its checkpoint as of \
         slot 4, or remove that, so that restore makes it anew"
    );
}

#[test]
fn a_service_ahead_of_its_checkpoint_is_refused() {
    let error = RestoreError::Elsewhere { service: Slot(9), checkpoint: Slot(4) };
    assert!(error.to_string().contains("ahead of its checkpoint"), "{error}");
}
