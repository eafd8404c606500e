//! A disk that fails or is full.

use crate::twin::options;
use mainstay_model::plant::Planted;
use mainstay_model::{
    Ballot, Batch, ConfigurationId, Entry, GroupId, NoPlants, Plant, Plants, Prng, Record,
    RecordKind, Recovered, ReplicaId, Slot, Timestamp,
};
use mainstay_storage::{AppendError, Log, MemoryDisk, OpenError, SyncError};

const SEGMENT: u64 = mainstay_storage::LogOptions::SEGMENT_BYTES_MIN;

fn accept(slot: u64, len: usize) -> Record {
    let ballot = Ballot { round: 1, leader: ReplicaId::default() };
    let value = Batch { time: Timestamp(slot), requests: vec![vec![7; len].into()] }.encode();
    Record {
        group: GroupId::FIRST,
        configuration: ConfigurationId(1),
        promised: ballot,
        decided_upto: Slot::NONE,
        kind: RecordKind::Accept { slot: Slot(slot), entry: Entry { ballot, value } },
    }
}

fn open<P: Plants>(disk: &MemoryDisk, plants: P) -> (Log<MemoryDisk, P>, Recovered) {
    Log::open(disk.clone(), options(), plants).expect("the log opens")
}

/// A first record synced, a second one whose sync fails once; the log, as it is then.
fn after_failed_sync<P: Plants>(disk: &MemoryDisk, plants: P) -> Log<MemoryDisk, P> {
    let (mut log, _) = open(disk, plants);
    log.append(&[accept(1, 10)]).expect("append");
    log.sync().expect("sync");
    log.append(&[accept(2, 10)]).expect("append");
    disk.fail_syncs(1);
    log
}

#[test]
fn a_failed_sync_is_final() {
    let disk = MemoryDisk::default();
    let mut log = after_failed_sync(&disk, NoPlants);
    let error = log.sync().expect_err("the sync fails");
    assert!(matches!(error, SyncError::Failed { .. }), "{error}");
    assert!(!log.has_room());
    // The disk is well again; the log stays shut.
    assert!(matches!(log.sync(), Err(SyncError::Poisoned)));
    assert!(matches!(log.append(&[accept(3, 10)]), Err(AppendError::Poisoned)));
    assert!(matches!(log.prepare(), Err(AppendError::Poisoned)));
    drop(log);
    disk.lose_power(&mut Prng::new(1));
    assert_eq!(open(&disk, NoPlants).1.accepted.len(), 1);
}

#[test]
fn what_a_failed_sync_left_in_memory_is_made_durable_by_a_restart() {
    let disk = MemoryDisk::default();
    let mut log = after_failed_sync(&disk, NoPlants);
    log.sync().expect_err("the sync fails");
    drop(log);
    // The process ends, the machine goes on: the record can still be read, and looks clean.
    assert_eq!(open(&disk, NoPlants).1.accepted.len(), 2);
    disk.lose_power(&mut Prng::new(1));
    assert_eq!(open(&disk, NoPlants).1.accepted.len(), 2);
}

#[test]
fn a_sync_tried_again_lies() {
    let disk = MemoryDisk::default();
    let mut log = after_failed_sync(&disk, Planted(Some(Plant::SyncRetried)));
    log.sync().expect("the planted bug believes the second sync");
    drop(log);
    disk.lose_power(&mut Prng::new(1));
    assert_eq!(open(&disk, NoPlants).1.accepted.len(), 1, "the record is lost");
}

#[test]
fn a_failed_write_is_final() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(&disk, NoPlants);
    disk.fail_writes(1);
    let error = log.append(&[accept(1, 10)]).expect_err("the write fails");
    assert!(matches!(error, AppendError::Failed { .. }), "{error}");
    assert!(matches!(log.append(&[accept(1, 10)]), Err(AppendError::Poisoned)));
    assert!(matches!(log.sync(), Err(SyncError::Poisoned)));
}

#[test]
fn a_failed_sync_between_segments_is_final() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(&disk, NoPlants);
    let records: Vec<_> = (1..=20).map(|slot| accept(slot, 1000)).collect();
    disk.fail_syncs(1);
    // The segment that comes next is allocated already: the first sync is the one that closes.
    let error = log.append(&records).expect_err("the sync fails");
    assert!(matches!(error, AppendError::Failed { .. }), "{error}");
    assert!(matches!(log.append(&[accept(1, 10)]), Err(AppendError::Poisoned)));
}

#[test]
fn a_full_disk_takes_promises_and_then_nothing_and_recovers() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(&disk, NoPlants);
    disk.limit_room(Some(0));
    let mut slot = 0;
    while log.has_room() {
        slot += 1;
        log.append(&[accept(slot, 500)]).expect("append");
        log.sync().expect("sync");
        log.prepare().expect("prepare");
    }
    let reason = log.no_room().expect("the reason is told");
    assert!(reason.contains("log-0000000003"), "{reason}");
    // What was underway takes the rest of the segment and the reserve, and only then fails.
    let mut underway = 0;
    let error = loop {
        underway += 1;
        match log.append(&[accept(slot + underway, 500)]) {
            Ok(()) => log.sync().expect("sync"),
            Err(error) => break error,
        }
        assert!(underway < 100);
    };
    assert!(underway * 500 > SEGMENT / 4, "a quarter of the reserve is for others");
    assert!(matches!(error, AppendError::NoRoom { .. }), "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    // Nothing of it was written, and the very same works once there is room.
    disk.limit_room(None);
    log.append(&[accept(slot + underway, 500)]).expect("append");
    log.sync().expect("sync");
    log.prepare().expect("prepare");
    assert!(log.has_room());
    assert_eq!(log.no_room(), None);
    drop(log);
    assert_eq!(open(&disk, NoPlants).1.accepted.len() as u64, slot + underway);
}

#[test]
fn a_log_opens_on_a_full_disk() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(&disk, NoPlants);
    disk.limit_room(Some(0));
    for slot in 1..=10 {
        log.append(&[accept(slot, 1000)]).expect("append");
    }
    drop(log);
    // Room for a copy of what the open segment holds, and no more.
    disk.limit_room(Some(SEGMENT - 1));
    let (mut log, recovered) = open(&disk, NoPlants);
    assert_eq!(recovered.accepted.len(), 10);
    assert!(!log.has_room());
    disk.limit_room(None);
    log.prepare().expect("prepare");
    assert!(log.has_room());
}

#[test]
fn a_log_does_not_begin_on_a_full_disk() {
    let disk = MemoryDisk::default();
    disk.limit_room(Some(SEGMENT - 1));
    let opened = Log::open(disk.clone(), options(), NoPlants);
    let error = opened.map(|(_, recovered)| recovered).expect_err("there is no room");
    assert!(matches!(error, OpenError::NoRoom { .. }), "{error}");
    disk.limit_room(None);
    assert_eq!(open(&disk, NoPlants).1, Recovered::default());
}

/// A disk that is dying, or was made read-only, is not a full one: whoever waits for space waits for ever.
#[test]
fn a_segment_that_cannot_be_made_is_no_lack_of_room() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(&disk, NoPlants);
    let filler = accept(1, (SEGMENT as usize) * 2 / 3);
    log.append(&[filler]).expect("append");
    log.sync().expect("sync");
    disk.fail_after(Some(0));
    let error = log.prepare().expect_err("it cannot be made");
    assert!(matches!(error, AppendError::Failed { .. }), "{error}");
    assert!(matches!(log.append(&[accept(2, 10)]), Err(AppendError::Poisoned)));
}

#[test]
fn a_log_that_finds_no_room_to_begin_names_what_it_would_allocate() {
    let disk = MemoryDisk::default();
    disk.limit_room(Some(SEGMENT - 1));
    let error = Log::open(disk, options(), NoPlants).map(|opened| opened.1);
    let error = error.expect_err("there is no room");
    assert!(matches!(error, OpenError::NoRoom { bytes: SEGMENT, .. }), "{error:?}");
}

/// Contract G: requests leave room for promises, no-ops and the states of segments.
#[test]
fn what_requests_leave_of_the_reserve_takes_promises() {
    let disk = MemoryDisk::default();
    let (mut log, _) = open(&disk, NoPlants);
    disk.limit_room(Some(0));
    let mut slot = 0;
    let refused = loop {
        slot += 1;
        if let Err(error) = log.append(&[accept(slot, 500)]) {
            break error;
        }
        log.sync().expect("sync");
    };
    assert!(matches!(refused, AppendError::NoRoom { .. }), "{refused}");
    // A slot is decided, ballots are promised, a no-op is accepted: all of it is written.
    log.note_decided(GroupId::FIRST, Slot(slot - 1)).expect("room for a note");
    let no_op = |slot| {
        let mut record = accept(slot, 0);
        let value = Batch { time: Timestamp(slot), requests: Vec::new() }.encode();
        let ballot = record.promised;
        record.decided_upto = Slot(slot - 1);
        record.kind = RecordKind::Accept { slot: Slot(slot), entry: Entry { ballot, value } };
        record
    };
    for more in 0..10 {
        log.append(&[no_op(slot + more)]).expect("room for a no-op");
        log.sync().expect("sync");
    }
    let request = Record { decided_upto: Slot(slot + 9), ..accept(slot + 10, 500) };
    assert!(log.append(std::slice::from_ref(&request)).is_err(), "and requests are refused still");
    assert!(log.prepare_for(500).is_err(), "nor would there be room");
    disk.limit_room(None);
    log.prepare_for(500).expect("there is room again");
    assert!(log.has_room(), "behind a whole reserve");
    disk.limit_room(Some(0));
    log.append(&[request]).expect("it was allocated");
}
