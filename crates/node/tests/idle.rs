//! A node that has nothing to do does nothing. One test: it measures the whole process.

mod harness;

use std::thread;
use std::time::Duration;

use harness::{Cluster, PATIENCE};
use mainstay_node::StateName;

/// Processor time that this process has used.
fn used() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a Linux system");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let ticks: u64 = fields[12..14].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// A loop that never sleeps uses all of the time or, beside other processes, much of it; idle nodes
/// use a few hundredths. Looks after everything that has a timer of seconds has met it.
fn assert_idle(when: &str) {
    thread::sleep(Duration::from_secs(2));
    let span = Duration::from_millis(500);
    let is_idle = || {
        let before = used();
        thread::sleep(span);
        used().saturating_sub(before) < span / 5
    };
    assert!((0..10).any(|_| is_idle()), "the processor is busy {when}");
}

#[test]
fn nodes_sleep_whatever_is_left_open() {
    let mut cluster = Cluster::prepare(3);
    for config in &mut cluster.configs {
        config.limits.unsent_bytes_max = 1 << 20;
        config.limits.stalled_timeout = PATIENCE * 10;
    }
    (0..3).for_each(|index| cluster.run(index));
    let mut client = cluster.client(0);
    assert_eq!(client.call(&format!("set big {}", "x".repeat(1 << 20))), "+ok");
    // A client that does not read, in the middle of its next command.
    let mut slow = cluster.client(0);
    slow.send(&"get big\n".repeat(50));
    slow.send("get b");
    assert_idle("while a client takes nothing");
    drop(slow);

    // Executors that have stopped, with a command open.
    client.send("panic\n");
    assert_eq!(client.line(), "-Uncertain");
    cluster.until(0, |s| s.replica.state == StateName::Failed);
    assert_idle("when the executor has stopped");
}
