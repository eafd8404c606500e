//! Clients of our own, which count: what is lost or carried out twice shows in the sum.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mainstay_check::history::Time;
use mainstay_client::{Client, Outcome, Settings};
use mainstay_kv::{Operation, Reply};

use crate::world::cluster::Cluster;
use crate::world::wait_until;
use crate::world::writers::longest_gap;

/// How long one request may take, with everything that is tried for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Clients that count until they are stopped.
pub(crate) struct Counters {
    shared: Arc<Shared>,
    thread: JoinHandle<Counted>,
}

struct Shared {
    addresses: Vec<SocketAddr>,
    /// The key they count in, which nobody else uses.
    key: String,
    start: Instant,
    stop: AtomicBool,
    done: Vec<AtomicU64>,
}

/// What they were told.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    /// The replies: each the counter's value right after it was raised by one.
    values: Vec<i64>,
    /// When, by each client.
    pub(crate) acknowledged: Vec<Vec<Time>>,
    /// Why requests were not done, or may not have been.
    troubles: Vec<String>,
    /// The counter at the end, read at every replica.
    last: Vec<i64>,
}

impl Counters {
    /// Starts so many clients, none of which ever pauses: whenever a process dies, some requests
    /// have been carried out and not been answered.
    pub(crate) fn start(cluster: &Cluster, count: usize) -> Self {
        Self::start_at(cluster.addresses(), count)
    }

    /// Starts so many clients of the replicas at these addresses.
    pub(crate) fn start_at(addresses: Vec<SocketAddr>, count: usize) -> Self {
        static STARTED: AtomicU64 = AtomicU64::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::new(Shared {
            addresses,
            key: format!("counter-{number}"),
            start: Instant::now(),
            stop: AtomicBool::new(false),
            done: (0..count).map(|_| AtomicU64::new(0)).collect(),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.expect("a runtime").block_on(count_all(shared))
            })
        };
        Self { shared, thread }
    }

    /// Waits until every client has counted so many times more.
    pub(crate) fn wait_for_replies(&self, more: u64) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let goals: Vec<u64> = self.shared.done.iter().map(|count| read(count) + more).collect();
        wait_until("every client counts", || {
            assert!(!self.thread.is_finished(), "the clients have ended");
            self.shared.done.iter().zip(&goals).all(|(count, goal)| read(count) >= *goal)
        });
    }

    /// The clock of what they write down.
    pub(crate) fn now(&self) -> Time {
        self.shared.now()
    }

    /// Ends them and checks what they were told: nothing lost, nothing twice.
    pub(crate) fn finish(self) -> Counted {
        let counted = self.end();
        counted.judge();
        counted
    }

    /// Ends them and returns what they were told.
    pub(crate) fn end(self) -> Counted {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the clients do not panic")
    }
}

impl Shared {
    fn now(&self) -> Time {
        self.start.elapsed().as_nanos() as Time
    }
}

/// Runs all clients; reads the counter at every replica at the end.
async fn count_all(shared: Arc<Shared>) -> Counted {
    let clients: Vec<_> = (0..shared.done.len())
        .map(|number| tokio::spawn(count(Arc::clone(&shared), number)))
        .collect();
    let mut counted = Counted::default();
    for client in clients {
        let (replies, troubles) = client.await.expect("a client does not panic");
        counted.values.extend(replies.iter().map(|(_, value)| value));
        counted.acknowledged.push(replies.into_iter().map(|(at, _)| at).collect());
        counted.troubles.extend(troubles);
    }
    for address in &shared.addresses {
        if tokio::net::TcpStream::connect(address).await.is_err() {
            // It does not run.
            continue;
        }
        let client = new_client(std::slice::from_ref(address));
        let answer = client.query(Operation::Get { key: shared.key.as_bytes() }.encode()).await;
        if let Ok(answer) = answer {
            counted.last.push(number(&answer));
        }
    }
    counted
}

async fn count(shared: Arc<Shared>, number: usize) -> (Vec<(Time, i64)>, Vec<String>) {
    let client = new_client(&shared.addresses);
    let (mut replies, mut troubles) = (Vec::new(), Vec::new());
    while !shared.stop.load(Ordering::Relaxed) {
        let add = Operation::Add { key: shared.key.as_bytes(), summand: 1 };
        match client.request(add.encode()).await {
            Outcome::Done(reply) => {
                replies.push((shared.now(), self::number(&reply)));
                shared.done[number].fetch_add(1, Ordering::Relaxed);
            }
            Outcome::NotDone(trouble) => troubles.push(format!("not done: {trouble}")),
            Outcome::Unknown(trouble) => troubles.push(format!("unknown: {trouble}")),
        }
    }
    (replies, troubles)
}

fn new_client(addresses: &[SocketAddr]) -> Client {
    let mut settings = Settings::new(addresses.iter().map(ToString::to_string));
    settings.timeout = PATIENCE;
    Client::new(settings).expect("good settings")
}

fn number(reply: &[u8]) -> i64 {
    match Reply::decode(reply).expect("a reply") {
        Reply::Integer(number) => number,
        Reply::Bulk(text) => {
            std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a number")
        }
        other => panic!("the counter was answered with {other:?}"),
    }
}

impl Counted {
    /// How many requests were done.
    pub(crate) fn done(&self) -> usize {
        self.values.len()
    }

    /// How many acknowledged requests left no trace, and how many left one too many.
    pub(crate) fn lost_and_twice(&self) -> (i64, i64) {
        let done = self.done() as i64;
        let last = self.last.iter().max().copied().unwrap_or(0);
        ((done - last).max(0), (last - done).max(0))
    }

    /// The longest time, from `from` to `upto`, in which one client got no acknowledgement.
    pub(crate) fn longest_gap(&self, from: Time, upto: Time) -> Duration {
        let gaps = self.acknowledged.iter().map(|times| longest_gap(times, from, upto));
        gaps.max().unwrap_or_default()
    }

    fn judge(&self) {
        assert!(self.troubles.is_empty(), "requests without an outcome: {:?}", self.troubles);
        assert!(!self.last.is_empty(), "no replica told the counter");
        let mut values = self.values.clone();
        values.sort_unstable();
        let expected: Vec<i64> = (1..=self.values.len() as i64).collect();
        assert!(values == expected, "a value was told twice or never, of {}", values.len());
        let done = self.done() as i64;
        assert!(self.last.iter().all(|&last| last == done), "{done} done, but {:?}", self.last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(values: &[i64], last: i64) -> Counted {
        Counted { values: values.to_vec(), last: vec![last], ..Counted::default() }
    }

    #[test]
    fn each_once_passes() {
        told(&[2, 1, 3], 3).judge();
    }

    #[test]
    #[should_panic(expected = "3 done, but [4]")]
    fn one_too_many_would_be_noticed() {
        told(&[1, 2, 3], 4).judge();
    }

    #[test]
    #[should_panic(expected = "told twice or never")]
    fn a_lost_one_would_be_noticed() {
        told(&[1, 2, 2], 2).judge();
    }
}
