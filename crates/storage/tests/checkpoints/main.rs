//! Checkpoints from outside: on a disk that fails in every way, and with full ones.

mod crash;
mod pace;
mod room;

use std::io::{self, Read, Write};

use mainstay_model::{CheckpointId, ClusterId, GroupId, Slot};
use mainstay_storage::{CheckpointError, CheckpointOptions, Checkpoints, MemoryDisk};

const OPTIONS: CheckpointOptions = CheckpointOptions::new(ClusterId(5), GroupId::FIRST, 3);

fn id(slot: u64) -> CheckpointId {
    CheckpointId { slot: Slot(slot), digest: slot * 0x0101 }
}

/// What the checkpoint after `slot` holds: another number of bytes for each, all of them its own.
fn content(slot: u64) -> Vec<u8> {
    let len = [3000, 0, 700, 70_000, 5 << 10][slot as usize % 5];
    (0..len).map(|at| (slot * 7 + at * 13 + at / 256) as u8).collect()
}

fn open(disk: &MemoryDisk) -> Result<Checkpoints<MemoryDisk>, CheckpointError> {
    let (checkpoints, reports) = Checkpoints::open(disk.clone(), OPTIONS)?;
    assert!(reports.is_empty(), "{reports:?}");
    Ok(checkpoints)
}

/// Writes the checkpoint after `slot`.
fn write(checkpoints: &Checkpoints<MemoryDisk>, slot: u64) -> io::Result<CheckpointId> {
    let mut writer =
        checkpoints.writer(Slot(slot), checkpoints.life()).map_err(io::Error::other)?;
    writer.write_all(&content(slot))?;
    writer.finish(id(slot).digest).map_err(io::Error::other)
}

fn read(checkpoints: &Checkpoints<MemoryDisk>, id: CheckpointId) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut content = checkpoints.open_content(id).map_err(io::Error::other)?;
    content.read_to_end(&mut bytes).map(|_| bytes)
}
