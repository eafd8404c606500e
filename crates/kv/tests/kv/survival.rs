//! Every command, with sessions and decided time around it, through checkpoints, restarts and
//! transfers at random points: replies and digests are those of a replica that nothing happened to.
//! (etcd-io/etcd#13766: replicas went apart after a crash, and nobody compared them.)

use std::collections::BTreeSet;
use std::time::Duration;

use crate::server::client_address;
use bytes::{Bytes, BytesMut};
use mainstay_kv::command::{COMMANDS, Run};
use mainstay_kv::{RedisFront, Store, StoreCheckpoint};
use mainstay_model::{Batch, NoPlants, Nonce, RequestNumber, SessionId, Slot, Timestamp, Value};
use mainstay_node::front::{Front as _, Parsed, View};
use mainstay_service::{
    Applied, Applier, ApplierCheckpoint, CheckpointInterval, Command, Secret, SessionLimits,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Every command that reaches the store, in each of its forms. `k` is a key, `j` another one, `v` a
/// value, `n` a small number, `@` a moment in milliseconds since 1970, `s` one in seconds.
const LINES: &[&str] = &[
    "APPEND k v",
    "COPY k j",
    "COPY k j REPLACE",
    "DBSIZE",
    "DECR k",
    "DECRBY k n",
    "DEL k j",
    "EXISTS k j",
    "EXPIRE k n",
    "EXPIRE k n NX",
    "EXPIRE k n XX",
    "EXPIRE k n GT",
    "EXPIRE k n LT",
    "EXPIREAT k s",
    "EXPIRETIME k",
    "FLUSHALL",
    "FLUSHDB ASYNC",
    "GET k",
    "GETDEL k",
    "GETEX k",
    "GETEX k EX n",
    "GETEX k PXAT @",
    "GETEX k PERSIST",
    "GETRANGE k 0 -2",
    "GETSET k v",
    "INCR k",
    "INCRBY k n",
    "INCRBYFLOAT k 0.1",
    "KEYS *",
    "MGET k j",
    "MSET k v j v",
    "MSETNX k v j v",
    "PERSIST k",
    "PEXPIRE k n",
    "PEXPIRE k n XX LT",
    "PEXPIREAT k @",
    "PEXPIREAT k @ GT",
    "PEXPIRETIME k",
    "PSETEX k n v",
    "PTTL k",
    "RANDOMKEY",
    "RENAME k j",
    "RENAMENX j k",
    "SCAN 0 COUNT 1 MATCH *",
    "SET k v",
    "SET k n",
    "SET k v EX n",
    "SET k v PX n",
    "SET k v EXAT s",
    "SET k v PXAT @ GET",
    "SET k v KEEPTTL",
    "SET k v NX PX n",
    "SET k v XX KEEPTTL GET",
    "SETEX k n v",
    "SETNX k v",
    "SETRANGE k 2 v",
    "STRLEN k",
    "SUBSTR k 1 n",
    "TOUCH k j",
    "TTL k",
    "TYPE k",
    "UNLINK k",
];

#[test]
fn no_command_is_left_out() {
    let reaches = |run: &Run| matches!(run, Run::Write(_) | Run::Read(_));
    let all = COMMANDS.iter().filter(|spec| reaches(&spec.run));
    let all: BTreeSet<String> = all.map(|spec| spec.name.to_ascii_uppercase()).collect();
    let here = LINES.iter().filter_map(|line| line.split(' ').next()).map(str::to_owned);
    assert_eq!(here.collect::<BTreeSet<String>>(), all);
}

/// Small, so that windows fill, sessions are refused and idle ones end.
const LIMITS: SessionLimits = SessionLimits {
    sessions_max: 3,
    replies_max: 4,
    reply_bytes_max: 200,
    reply_bytes_all_max: 400,
    idle_max: Duration::from_millis(400),
};
const MS: u64 = 1_000_000;

/// How a request is numbered.
#[derive(Clone, Copy, Debug)]
enum Numbered {
    /// The next one, and all before it are acknowledged.
    Next,
    /// The next one; nothing is acknowledged.
    Unacknowledged,
    /// The one before, once more.
    Again,
    /// One that leaves a gap.
    Beyond,
}

#[derive(Clone, Debug)]
enum Step {
    /// The command of a session, as a request of the batch.
    Ask(usize, Numbered, String),
    Register(u128),
    Trim(u32),
    End(u128),
    Interval(u64),
    Garbage(Vec<u8>),
    /// The batch is decided, so many nanoseconds after the one before.
    Decide(u64),
    /// The replica takes a checkpoint; it is written when it is needed, if ever.
    Checkpoint,
    /// The replica comes back from its last checkpoint and replays the log.
    Restart,
    /// Another replica is given the checkpoint, and stays.
    Transfer,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let numbered = prop_oneof![
        8 => Just(Numbered::Next),
        3 => Just(Numbered::Unacknowledged),
        2 => Just(Numbered::Again),
        1 => Just(Numbered::Beyond),
    ];
    let after = prop_oneof![
        2 => Just(0),
        4 => 0..20 * MS,
        2 => 0..300 * MS,
        1 => Just(500 * MS),
    ];
    let step = prop_oneof![
        30 => (0..4usize, numbered, lines()).prop_map(|(who, how, line)| Step::Ask(who, how, line)),
        3 => (0..6u128).prop_map(Step::Register),
        1 => (0..3u32).prop_map(Step::Trim),
        1 => (0..6u128).prop_map(Step::End),
        1 => (1..20u64).prop_map(Step::Interval),
        1 => vec(any::<u8>(), 0..12).prop_map(Step::Garbage),
        12 => after.prop_map(Step::Decide),
        3 => Just(Step::Checkpoint),
        2 => Just(Step::Restart),
        2 => Just(Step::Transfer),
    ];
    vec(step, 20..140)
}

fn lines() -> impl Strategy<Value = String> {
    let key = || select(vec!["a", "b", "c", "d"]);
    let value = select(vec!["", "x", "17", "a-value-that-is-no-short-one-any-more", "-3"]);
    // Mostly moments that come to pass, and some that are past or will never be.
    let moment = prop_oneof![6 => 1..2_000i64, 1 => Just(i64::MAX), 1 => -5..1i64];
    let number = prop_oneof![5 => 1..4i64, 5 => 1..300i64, 1 => -3..1i64, 1 => Just(i64::MAX)];
    (select(LINES), key(), key(), value, number, moment).prop_map(|(line, k, j, v, n, at)| {
        let word = |word: &str| match word {
            "k" => k.to_owned(),
            "j" => j.to_owned(),
            "v" => format!("\"{v}\""),
            "n" => n.to_string(),
            "@" => at.to_string(),
            "s" => (at / 1_000).to_string(),
            other => other.to_owned(),
        };
        line.split(' ').map(word).collect::<Vec<_>>().join(" ")
    })
}

/// What the front makes of a line for the store; `None` if it refuses the line itself.
fn body(line: &str) -> Option<Bytes> {
    let mut front = RedisFront::default();
    let mut connection = front.connect(1, client_address());
    let mut input = BytesMut::from(format!("{line}\r\n").as_bytes());
    let mut parsed = Vec::new();
    front.read(&mut connection, &View::default(), &mut input, 1, &mut parsed);
    match parsed.pop().expect("a whole line is a command") {
        Parsed::Write { body, .. } | Parsed::Read { body, .. } => Some(body),
        _ => None,
    }
}

/// Slot, what came of it, and the digest after it.
type Past = (Value, Vec<Applied>, Option<u64>);

/// One replica, and what a checkpoint of it was taken as.
struct Replica {
    applier: Applier<Store>,
    taken: Option<(Slot, ApplierCheckpoint<StoreCheckpoint>)>,
    written: Option<(Slot, Vec<u8>)>,
}

impl Replica {
    fn new(applier: Applier<Store>) -> Self {
        Self { applier, taken: None, written: None }
    }

    fn apply(&mut self, value: &Value) -> Vec<Applied> {
        let mut out = Vec::new();
        let slot = self.applier.applied_upto().next();
        self.applier.apply(slot, value, &mut out).expect("applies");
        if self.applier.checkpoint_due() {
            self.take();
        }
        out
    }

    fn take(&mut self) {
        let checkpoint = self.applier.checkpoint().expect("the store does not panic");
        self.taken = Some((checkpoint.slot(), checkpoint));
    }

    /// The last checkpoint, written only now.
    fn last(&mut self) -> Option<&(Slot, Vec<u8>)> {
        if let Some((slot, checkpoint)) = self.taken.take() {
            let mut bytes = Vec::new();
            checkpoint.write(&mut bytes).expect("a vector takes every byte");
            self.written = Some((slot, bytes));
        }
        self.written.as_ref()
    }

    /// What comes of restoring from the last checkpoint, and of replaying what the log holds after it.
    fn comes_back(&mut self, log: &[Past]) -> Applier<Store> {
        let (slot, bytes) = match self.last() {
            Some((slot, bytes)) => (*slot, &bytes[..]),
            None => (Slot::NONE, &[][..]),
        };
        let applier = if slot == Slot::NONE && bytes.is_empty() {
            Applier::new(Store::default(), LIMITS, NoPlants)
        } else {
            Applier::restore(&mut &*bytes, NoPlants).expect("it was just written")
        };
        let mut again = Self::new(applier);
        for (value, out, digest) in &log[slot.0 as usize..] {
            assert_eq!(again.apply(value), *out);
            assert_eq!(again.applier.digest(), *digest);
        }
        again.applier
    }
}

/// Numbers the requests of clients as they come.
#[derive(Default)]
struct Clients {
    sessions: Vec<(SessionId, u64)>,
}

impl Clients {
    fn request(&mut self, who: usize, how: Numbered, body: Bytes) -> Option<Command> {
        let len = self.sessions.len().max(1);
        let (session, last) = self.sessions.get_mut(who % len)?;
        let (number, acknowledged_upto) = match how {
            Numbered::Next => (*last + 1, *last),
            Numbered::Unacknowledged => (*last + 1, 0),
            Numbered::Again => ((*last).max(1), 0),
            Numbered::Beyond => (*last + 3, 0),
        };
        Some(Command::Request {
            session: *session,
            number: RequestNumber(number),
            acknowledged_upto: RequestNumber(acknowledged_upto),
            body,
        })
    }

    fn learn(&mut self, out: &[Applied]) {
        for applied in out {
            match applied {
                Applied::Registered { session, .. }
                    if self.sessions.iter().all(|(known, _)| known != session) =>
                {
                    self.sessions.push((*session, 0));
                }
                Applied::Replied { session, number, .. } => {
                    let known = self.sessions.iter_mut().find(|(known, _)| known == session);
                    let (_, last) = known.expect("nobody else asks");
                    *last = number.0.max(*last);
                }
                // Now and then somebody goes on asking in a session that is over.
                _ => {}
            }
        }
    }
}

/// What a run did, so that a test can see that it did anything.
#[derive(Debug, Default)]
struct Counts {
    replied: usize,
    repeated: usize,
    ended: usize,
    restarts: usize,
    replayed: usize,
}

fn run(steps: Vec<Step>) -> Counts {
    let new = || Replica::new(Applier::new(Store::default(), LIMITS, NoPlants));
    let (mut straight, mut other) = (new(), new());
    let (mut clients, mut log, mut batch) = (Clients::default(), Vec::<Past>::new(), Vec::new());
    let (mut counts, mut time) = (Counts::default(), MS);
    let mut nonces = vec![Step::Register(0), Step::Decide(0)];
    batch.push(Command::Begin { secret: Secret(7) }.encode());
    nonces.extend(steps);
    for step in nonces {
        match step {
            Step::Ask(who, how, line) => batch.extend(
                body(&line).and_then(|body| clients.request(who, how, body)).map(|c| c.encode()),
            ),
            Step::Register(nonce) => batch.push(Command::Register { nonce: Nonce(nonce) }.encode()),
            Step::End(nonce) => {
                batch.push(Command::EndSession { nonce: Nonce(nonce) }.encode());
            }
            Step::Trim(keep) => batch.push(Command::TrimSessions { keep }.encode()),
            Step::Interval(requests) => {
                let interval = CheckpointInterval { requests, bytes: 1 << 20 };
                batch.push(Command::SetCheckpointInterval(interval).encode());
            }
            Step::Garbage(bytes) => batch.push(bytes.into()),
            Step::Decide(after) => {
                time += after;
                let requests = std::mem::take(&mut batch);
                let value = Batch { time: Timestamp(time), requests }.encode();
                let out = straight.apply(&value);
                assert_eq!(other.apply(&value), out);
                clients.learn(&out);
                let digest = straight.applier.digest();
                assert_eq!(other.applier.digest(), digest);
                assert_eq!(other.applier.wake(), straight.applier.wake());
                for applied in &out {
                    counts.replied += usize::from(matches!(applied, Applied::Replied { .. }));
                    let again = matches!(applied, Applied::Replied { repeated: true, .. });
                    counts.repeated += usize::from(again);
                    counts.ended += usize::from(matches!(applied, Applied::Ended { .. }));
                }
                log.push((value, out, digest));
            }
            Step::Checkpoint => other.take(),
            Step::Restart => {
                counts.restarts += 1;
                other.applier = other.comes_back(&log);
                let from = other.written.as_ref().map_or(0, |(slot, _)| slot.0 as usize);
                counts.replayed += log.len() - from;
            }
            Step::Transfer => {
                // The one that gives keeps what it has; the one that is given it takes its place.
                let applier = other.comes_back(&log);
                other = Replica::new(applier);
                other.take();
            }
        }
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn every_command_survives_checkpoint_transfer_and_restart(steps in steps()) {
        run(steps);
    }
}

/// The property above looks at something: of the steps it draws, enough are answered, repeated, ended
/// and replayed.
#[test]
fn the_runs_do_what_they_are_for() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut total, strategy) = (Counts::default(), steps());
    for _ in 0..60 {
        let tree = strategy.new_tree(&mut runner).expect("nothing is filtered");
        let counts = run(proptest::strategy::ValueTree::current(&tree));
        total.replied += counts.replied;
        total.repeated += counts.repeated;
        total.ended += counts.ended;
        total.restarts += counts.restarts;
        total.replayed += counts.replayed;
    }
    let enough = total.replied > 500 && total.repeated > 20 && total.ended > 20;
    assert!(enough && total.restarts > 50 && total.replayed > 50, "{total:?}");
}
