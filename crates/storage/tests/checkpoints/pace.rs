//! Writing no faster than the limit set.

use std::io::Write;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use mainstay_model::Slot;
use mainstay_storage::{CheckpointOptions, Checkpoints, MemoryDisk};

use crate::OPTIONS;

#[test]
fn a_limited_writer_takes_its_time() {
    let options = CheckpointOptions { write_rate: NonZeroU64::new(10 << 20), ..OPTIONS };
    let (checkpoints, _) = Checkpoints::open(MemoryDisk::default(), options).expect("open");
    let begun = Instant::now();
    let mut writer = checkpoints.writer(Slot(1), checkpoints.life()).expect("a writer");
    writer.write_all(&vec![7; 3 << 20]).expect("it is written");
    writer.finish(1).expect("it is finished");
    assert!(begun.elapsed() >= Duration::from_millis(300), "3 MiB at 10 MiB a second");
}
