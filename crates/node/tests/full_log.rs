//! A bounded log that is full because no checkpoint could be written.

mod harness;

use std::sync::atomic::Ordering;
use std::time::Instant;

use harness::{Cluster, PATIENCE, WRITES_FAIL};
use mainstay_node::StateName;

/// No entry is accepted, so no other checkpoint is ever due: the one that failed has to be tried again.
#[test]
fn a_full_log_takes_writes_again_once_its_checkpoint_can_be_written() {
    let mut cluster = Cluster::prepare(3);
    cluster.segment_bytes = 64 << 10;
    cluster.log_bytes_max = Some(1 << 20);
    (0..3).for_each(|index| cluster.run(index));
    cluster.until(0, |s| s.replica.state == StateName::Active);
    WRITES_FAIL.store(true, Ordering::Relaxed);
    let (mut client, value) = (cluster.client(0), "v".repeat(8000));
    let set = |client: &mut harness::Client, n| client.call(&format!("set key-{} {value}", n % 10));
    let began = Instant::now();
    let refused = (0..).find(|&n| {
        assert!(began.elapsed() < PATIENCE, "its log is never full");
        set(&mut client, n) != "+ok"
    });
    let told = |index: usize| {
        let warnings = cluster.status(index).expect("a status").warnings;
        warnings.iter().any(|warning| warning.contains("it is tried again"))
    };
    assert!((0..3).any(told), "after {refused:?} writes");
    WRITES_FAIL.store(false, Ordering::Relaxed);
    let (began, mut written) = (Instant::now(), 0);
    while written < 200 {
        assert!(began.elapsed() < PATIENCE, "it stopped for good after {written} more writes");
        written += u64::from(set(&mut client, written) == "+ok");
    }
    (0..3).for_each(|index| {
        cluster.until(index, |s| s.warnings.is_empty() && s.replica.log_bytes <= 1 << 20);
    });
}
