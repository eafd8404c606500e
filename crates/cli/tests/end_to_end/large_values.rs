//! The largest values that are permitted cost time, and do not stop service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::world::cluster::REPLICAS;
use crate::world::raw::Raw;
use crate::world::{Cluster, pause};

/// Bytes of a value: as many as are permitted.
const LEN: usize = 16 << 20;
/// How many are set, at one replica after the other.
const SETS: usize = 6;
/// Between two commands of a client that counts.
const THINKING_TIME: Duration = Duration::from_millis(5);
/// The longest that a count may take meanwhile: other tests run beside this one, and a machine that is
/// starved enough takes a leader for gone whatever it is doing.
const GAP_MAX: Duration = Duration::from_secs(8);

/// Threads that do something until they are stopped.
struct Busy<T> {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<T>>,
}

impl<T: Send + 'static> Busy<T> {
    fn start(count: usize, work: impl Fn(usize, &AtomicBool) -> T + Copy + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spawn = |number| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || work(number, &stop))
        };
        let threads = (0..count).map(spawn).collect();
        Self { stop, threads }
    }

    fn finish(self) -> Vec<T> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    }
}

/// Counts at a replica; returns the longest time from one count to the next.
fn count(address: std::net::SocketAddr, stop: &AtomicBool) -> Duration {
    let mut client = Raw::connect(address);
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        client.command(&["INCR", "n"]);
        let reply = client.reply();
        assert!(reply.starts_with(':'), "INCR was answered by {reply}");
        longest = longest.max(last.elapsed());
        last = Instant::now();
        pause(THINKING_TIME);
    }
    longest
}

#[test]
fn large_values_on_a_busy_machine_do_not_stop_service() {
    let cluster = Cluster::start(&[]);
    let ballot = || cluster.status().ballot();
    let before = ballot();
    // Nobody else's work leaves the replicas a processor to themselves.
    let burning = Busy::start(2, |_, stop: &AtomicBool| {
        while !stop.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    });
    let addresses: [_; REPLICAS] = std::array::from_fn(|index| cluster.clients_at(index));
    let counting = Busy::start(REPLICAS, move |index, stop| count(addresses[index], stop));
    let value = "x".repeat(LEN);
    for number in 0..SETS {
        let mut client = Raw::connect(addresses[number % REPLICAS]);
        client.command(&["SET", "large", &value]);
        assert_eq!(client.reply(), "+OK\r\n", "value {number}");
    }
    let longest = counting.finish().into_iter().max().unwrap_or_default();
    burning.finish();
    let changes = ballot() - before;
    println!(
        "{SETS} values of {LEN} bytes: {changes} changes of leader, the longest gap {longest:?}"
    );
    assert!(changes < SETS as u64, "a leader was deposed {changes} times");
    assert!(longest < GAP_MAX, "nothing was counted for {longest:?}");
}
