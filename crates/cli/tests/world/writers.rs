//! Writers: threads with a Redis client each, which write down what they asked and were told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mainstay_check::history::{History, Time};
use mainstay_check::kv_model::{KvModel, KvOp, KvRet};
use mainstay_check::linearizability::{STEPS_MAX, Verdict, check};
use mainstay_model::Prng;
use redis::{Client, Connection};

use crate::world::cluster::Cluster;
use crate::world::command::{self, Keys, Seen};
use crate::world::{pause, wait_for, wait_until};

/// How long a replica may leave a writer without a reply until the writer goes to another one.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two commands of one writer: what is tested is order under faults, not throughput.
const THINKING_TIME: Duration = Duration::from_millis(2);
/// After a refusal, or after no replica took a connection.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

type KvHistory = History<KvOp, KvRet>;

/// Threads that write until they are stopped.
pub(crate) struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Seeing>>,
}

struct Shared {
    addresses: Vec<SocketAddr>,
    keys: Keys,
    start: Instant,
    stop: AtomicBool,
    /// How many commands of each writer were answered.
    answered: Vec<AtomicU64>,
    unique: AtomicU64,
    thinking_time: Duration,
}

/// What writers saw.
#[derive(Default)]
pub(crate) struct Seeing {
    /// Commands that see one key.
    keys: KvHistory,
    /// Commands that see several.
    pairs: KvHistory,
    /// When writes were acknowledged, by each writer, in order.
    pub(crate) acknowledged: Vec<Vec<Time>>,
    /// How many commands were certainly not carried out, by the error's first word.
    pub(crate) not_done: BTreeMap<String, u64>,
    /// How many writes have an unknown outcome.
    pub(crate) unknown: u64,
    /// How many of them because a replica said so.
    pub(crate) uncertain: u64,
    /// How often a connection was lost or given up.
    pub(crate) broken: u64,
}

impl Writers {
    /// Starts so many; each begins at its own replica.
    pub(crate) fn start(cluster: &Cluster, count: usize) -> Self {
        Self::start_with(cluster, count, THINKING_TIME)
    }

    /// Starts so many, which pause so long after each reply.
    pub(crate) fn start_with(cluster: &Cluster, count: usize, thinking_time: Duration) -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let name = format!("{}-", STARTED.fetch_add(1, Ordering::Relaxed));
        let shared = Arc::new(Shared {
            addresses: cluster.addresses(),
            keys: Keys::new(&name),
            start: Instant::now(),
            stop: AtomicBool::new(false),
            answered: (0..count).map(|_| AtomicU64::new(0)).collect(),
            unique: AtomicU64::new(1),
            thinking_time,
        });
        let spawn = |number: usize| {
            let writer = Writer {
                shared: Arc::clone(&shared),
                number,
                replica: number % shared.addresses.len(),
                connection: None,
                prng: Prng::new(number as u64),
                seeing: Seeing { acknowledged: vec![Vec::new()], ..Seeing::default() },
            };
            thread::spawn(move || writer.run())
        };
        let threads = (0..count).map(spawn).collect();
        Self { shared, threads }
    }

    /// Waits until every writer has got so many more replies.
    pub(crate) fn wait_for_replies(&self, more: u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let goals: Vec<u64> = self.shared.answered.iter().map(|count| read(count) + more).collect();
        wait_until("every writer gets replies", || {
            // A writer that panicked will get none.
            let all_run = self.threads.iter().all(|thread| !thread.is_finished());
            assert!(all_run, "a writer has ended");
            self.shared.answered.iter().zip(&goals).all(|(count, goal)| read(count) >= *goal)
        });
    }

    /// The clock of what they write down.
    pub(crate) fn now(&self) -> Time {
        self.shared.now()
    }

    /// Ends them, reads every key at every replica, and checks all that was seen.
    pub(crate) fn finish(self, cluster: &Cluster) -> Seeing {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut seeing = Seeing::default();
        for thread in self.threads {
            seeing.extend(thread.join().expect("a writer does not panic"));
        }
        cluster.wait_for_status("somebody leads", |status| status.leader().is_some());
        for index in 0..self.shared.addresses.len() {
            let status = cluster.status();
            if status.state(index) == "active" || status.state(index) == "amnesiac" {
                seeing.read_all(&self.shared, index);
            }
        }
        seeing.judge();
        seeing
    }
}

impl Shared {
    fn now(&self) -> Time {
        self.start.elapsed().as_nanos() as Time
    }
}

/// Connects to a replica; nothing if that does not go.
fn connect(address: SocketAddr) -> Option<Connection> {
    let client = Client::open(format!("redis://{address}")).expect("an address");
    let connection = client.get_connection_with_timeout(PATIENCE).ok()?;
    connection.set_read_timeout(Some(PATIENCE)).ok()?;
    connection.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(connection)
}

struct Writer {
    shared: Arc<Shared>,
    number: usize,
    replica: usize,
    connection: Option<Connection>,
    prng: Prng,
    seeing: Seeing,
}

impl Writer {
    fn run(mut self) -> Seeing {
        let mut refused = 0;
        while !self.shared.stop.load(Ordering::Relaxed) {
            if self.connection.is_none() {
                self.connection = connect(self.shared.addresses[self.replica]);
            }
            if self.connection.is_none() {
                self.go_on();
                refused += 1;
                if refused % self.shared.addresses.len() == 0 {
                    pause(RETRY_PAUSE);
                }
                continue;
            }
            refused = 0;
            self.ask();
        }
        self.seeing
    }

    /// To the next replica.
    fn go_on(&mut self) {
        self.connection = None;
        self.replica = (self.replica + 1) % self.shared.addresses.len();
    }

    fn ask(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        let unique = self.shared.unique.fetch_add(1, Ordering::Relaxed);
        let op = self.shared.keys.random(&mut self.prng, unique);
        let invoked = self.shared.now();
        let seen = command::carry_out(connection, &op);
        let at = self.shared.now();
        match self.seeing.note(self.number, op, invoked, seen, at) {
            Next::Command => {
                self.shared.answered[self.number].fetch_add(1, Ordering::Relaxed);
                pause(self.shared.thinking_time);
            }
            Next::Pause => {
                pause(RETRY_PAUSE);
                self.go_on();
            }
            Next::Replica => self.go_on(),
        }
    }
}

/// What a writer does after a command.
enum Next {
    Command,
    Pause,
    Replica,
}

impl Seeing {
    fn note(&mut self, process: usize, op: KvOp, invoked: Time, seen: Seen, at: Time) -> Next {
        let writes = !command::is_read(&op);
        let history = if op.single_key().is_some() { &mut self.keys } else { &mut self.pairs };
        let id = history.invoke(process as u64, op, invoked);
        match seen {
            Seen::Replied(reply) => {
                history.returned(id, reply, at);
                if writes && let Some(times) = self.acknowledged.last_mut() {
                    times.push(at);
                }
                Next::Command
            }
            Seen::NotDone(code) => {
                history.not_done(id);
                *self.not_done.entry(code).or_default() += 1;
                Next::Pause
            }
            Seen::Unknown { broken } => {
                // What changes nothing need not be explained.
                if writes {
                    self.unknown += 1;
                    self.uncertain += u64::from(!broken);
                } else {
                    history.not_done(id);
                }
                self.broken += u64::from(broken);
                Next::Replica
            }
        }
    }

    fn extend(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.pairs.extend(other.pairs);
        self.acknowledged.extend(other.acknowledged);
        for (code, count) in other.not_done {
            *self.not_done.entry(code).or_default() += count;
        }
        self.unknown += other.unknown;
        self.uncertain += other.uncertain;
        self.broken += other.broken;
    }

    /// Reads every key at one replica.
    fn read_all(&mut self, shared: &Shared, index: usize) {
        for op in shared.keys.read_all() {
            wait_for("a replica answers a read", || {
                let mut connection = connect(shared.addresses[index])?;
                let invoked = shared.now();
                let seen = command::carry_out(&mut connection, &op);
                let next = self.note(1000 + index, op.clone(), invoked, seen, shared.now());
                matches!(next, Next::Command).then_some(())
            });
        }
    }

    /// How many writes were acknowledged.
    pub(crate) fn writes(&self) -> usize {
        self.acknowledged.iter().map(Vec::len).sum()
    }

    /// Checks that there is one order of all commands that explains every reply.
    fn judge(&self) {
        for (what, history) in [("single keys", &self.keys), ("pairs", &self.pairs)] {
            match check(&KvModel, history, 10 * STEPS_MAX) {
                Verdict::Linearizable => {}
                Verdict::Violation(explanation) => {
                    panic!("the history of {what} is not linearizable: {explanation}")
                }
                Verdict::TooHard { steps } => {
                    panic!(
                        "the history of {what} ({} commands, {} unknown) was not judged in {steps} \
                         steps",
                        history.len(),
                        self.unknown
                    )
                }
            }
        }
    }

    /// What was seen, in a line.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} commands of single keys, {} of pairs; {} writes acknowledged, {} unknown, not done \
             {:?}, {} connections lost",
            self.keys.len(),
            self.pairs.len(),
            self.writes(),
            self.unknown,
            self.not_done,
            self.broken
        )
    }

    /// The longest time, from `from` to `upto`, in which one writer got no acknowledgement.
    pub(crate) fn longest_gap(&self, from: Time, upto: Time) -> Duration {
        self.acknowledged
            .iter()
            .map(|times| longest_gap(times, from, upto))
            .max()
            .unwrap_or_default()
    }

    /// The longest time, from `from` to `upto`, in which no writer got an acknowledgement.
    pub(crate) fn longest_silence(&self, from: Time, upto: Time) -> Duration {
        let mut all = self.acknowledged.concat();
        all.sort_unstable();
        longest_gap(&all, from, upto)
    }
}

/// The longest time between two of the moments, of those that begin between `from` and `upto`.
pub(crate) fn longest_gap(times: &[Time], from: Time, upto: Time) -> Duration {
    let gaps = times.windows(2).filter(|pair| pair[1] >= from && pair[0] <= upto);
    Duration::from_nanos(gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn see(told: &'static str) -> Seeing {
        let mut seeing = Seeing::default();
        let key = || Bytes::from_static(b"k");
        let value = Bytes::from_static(b"new");
        let set = Seen::Replied(KvRet::Ok);
        seeing.note(0, KvOp::Set(key(), value), 0, set, 10);
        let get = Seen::Replied(KvRet::Value(Some(Bytes::from_static(told.as_bytes()))));
        seeing.note(1, KvOp::Get(key()), 20, get, 30);
        seeing
    }

    #[test]
    fn a_true_reply_passes() {
        see("new").judge();
    }

    #[test]
    #[should_panic(expected = "not linearizable")]
    fn a_stale_read_would_be_noticed() {
        see("old").judge();
    }
}
