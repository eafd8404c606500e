//! A disk that is full, and one that fails.

use std::io::Write;

use mainstay_model::{
    Ballot, ConfigurationId, GroupId, NoPlants, Prng, Record, RecordKind, ReplicaId, Slot,
};
use mainstay_storage::{CheckpointError, Checkpoints, Disk, Log, LogOptions, MemoryDisk};

use crate::{OPTIONS, content, id, open, read, write};

fn log(disk: &MemoryDisk) -> Log<MemoryDisk> {
    let options = LogOptions {
        segment_bytes: LogOptions::SEGMENT_BYTES_MIN,
        ..LogOptions::new(OPTIONS.cluster, ReplicaId::default())
    };
    Log::open(disk.clone(), options, NoPlants).expect("the log opens").0
}

fn promise(round: u64) -> Record {
    Record {
        group: GroupId::FIRST,
        configuration: ConfigurationId(1),
        promised: Ballot { round, leader: ReplicaId::default() },
        decided_upto: Slot::NONE,
        kind: RecordKind::Promise,
    }
}

#[test]
fn the_older_checkpoint_makes_way_for_the_next() {
    let disk = MemoryDisk::default();
    let checkpoints = open(&disk).expect("open");
    for slot in [3, 8] {
        write(&checkpoints, slot).expect("there is room");
    }
    disk.limit_room(Some(0));
    write(&checkpoints, 13).expect("the older one made way");
    assert_eq!(checkpoints.held(), [id(8), id(13)]);
    // For one that is fetched, too.
    let whole = content(18);
    let incoming = checkpoints.incoming(id(18), whole.len() as u64, 64 << 10);
    drop(incoming.expect("the older one made way"));
    assert_eq!(checkpoints.held(), [id(13)]);
}

#[test]
fn the_stable_one_never_makes_way() {
    let disk = MemoryDisk::default();
    let checkpoints = open(&disk).expect("open");
    for slot in [3, 8] {
        write(&checkpoints, slot).expect("there is room");
    }
    checkpoints.note_stable(id(3)).expect("noted");
    disk.limit_room(Some(0));
    write(&checkpoints, 13).expect("the other one made way");
    assert_eq!(checkpoints.held(), [id(3), id(13)]);
}

/// One makes way before a quorum is known to have held it, and the next one finds no room all the same:
/// the log must not go up to what is not there any more.
#[test]
fn what_made_way_is_not_noted_as_stable() {
    let disk = MemoryDisk::default();
    let checkpoints = open(&disk).expect("open");
    for slot in [3, 8] {
        write(&checkpoints, slot).expect("there is room");
    }
    checkpoints.note_stable(id(3)).expect("noted");
    disk.limit_room(Some(0));
    let mut writer = checkpoints.writer(Slot(13), checkpoints.life()).expect("a writer");
    writer.write_all(&vec![1; 2 << 20]).expect_err("no room");
    drop(writer);
    assert_eq!(checkpoints.held(), [id(3)]);
    let error = checkpoints.note_stable(id(8)).expect_err("it is gone");
    assert!(matches!(error, CheckpointError::Gone(gone) if gone == id(8)), "{error}");
    assert_eq!(checkpoints.stable(), Some(id(3)));
    drop(checkpoints);
    let checkpoints = open(&disk).expect("open");
    assert_eq!((checkpoints.stable(), checkpoints.latest()), (Some(id(3)), Some(id(3))));
}

#[test]
fn without_room_nothing_is_left_and_the_log_goes_on() {
    let disk = MemoryDisk::default();
    let mut log = log(&disk);
    let checkpoints = open(&disk).expect("open");
    for slot in [3, 8] {
        write(&checkpoints, slot).expect("there is room");
    }
    let names = disk.list().expect("list");
    let hold = checkpoints.hold(id(3)).expect("it is held");
    disk.limit_room(Some(10_000));
    let error = write(&checkpoints, 13).expect_err("no room");
    assert!(error.to_string().contains("free space on the disk"), "{error}");
    assert_eq!(disk.list().expect("list"), names, "the unfinished file is gone");
    let error = checkpoints.incoming(id(13), 70_000, 512).map(drop).expect_err("no room");
    assert!(matches!(error, CheckpointError::NoRoom { .. }), "{error}");
    assert_eq!(disk.list().expect("list"), names, "likewise");
    assert_eq!(checkpoints.held(), [id(3), id(8)]);
    log.append(&[promise(1)]).expect("the log takes a promise");
    log.sync().expect("sync");
    drop(hold);
    disk.limit_room(None);
    write(&checkpoints, 13).expect("there is room again");
    assert_eq!(checkpoints.held(), [id(8), id(13)]);
}

#[test]
fn nothing_is_believed_after_a_failed_sync() {
    let disk = MemoryDisk::default();
    let checkpoints = open(&disk).expect("open");
    disk.fail_syncs(1);
    write(&checkpoints, 3).expect_err("the sync fails");
    assert_eq!(checkpoints.held(), []);
    write(&checkpoints, 3).expect("it is written anew");
    let whole = content(4);
    let mut incoming = checkpoints.incoming(id(4), whole.len() as u64, 8192).expect("it begins");
    for (index, chunk) in (0..).zip(whole.chunks(8192)) {
        incoming.append_chunk(index, chunk).expect("a chunk");
    }
    disk.fail_syncs(1);
    incoming.install().expect_err("the sync fails");
    drop(incoming);
    assert_eq!(checkpoints.held(), [id(3)]);
    assert_eq!(checkpoints.partial(), None, "what cannot be believed is gone");
    assert!(disk.list().expect("list").iter().all(|name| !name.starts_with("incoming-")));
}

#[test]
fn what_is_told_at_start_is_durable() {
    let mut told = 0;
    for after in 0..12 {
        for seed in 0..8 {
            let disk = MemoryDisk::default();
            let checkpoints = open(&disk).expect("open");
            write(&checkpoints, 3).expect("it is written");
            // The process dies in the middle, the machine later.
            disk.fail_after(Some(after));
            let _ = write(&checkpoints, 4);
            disk.fail_after(None);
            let latest = open(&disk).expect("open").latest();
            disk.lose_power(&mut Prng::new(seed));
            assert_eq!(open(&disk).expect("open").latest(), latest, "after {after} changes");
            told += u64::from(latest == Some(id(4)));
        }
    }
    assert!(told > 0);
}

#[test]
fn what_was_fetched_and_not_synced_is_written_anew() {
    for seed in 0..8 {
        let disk = MemoryDisk::default();
        let checkpoints = open(&disk).expect("open");
        let whole = content(4);
        let begin = |checkpoints: &Checkpoints<MemoryDisk>| {
            checkpoints.incoming(id(4), whole.len() as u64, 512).expect("it begins")
        };
        let mut incoming = begin(&checkpoints);
        for (index, chunk) in (0..).zip(whole.chunks(512)) {
            incoming.append_chunk(index, chunk).expect("a chunk");
        }
        // The sync fails, and the file cannot be removed either; then the process dies.
        disk.fail_syncs(1);
        disk.fail_after(Some(1));
        incoming.install().expect_err("the sync fails");
        disk.fail_after(None);
        drop(checkpoints);
        let checkpoints = open(&disk).expect("open");
        let mut incoming = begin(&checkpoints);
        assert_eq!(incoming.next_missing(0), None, "all of it can be read");
        incoming.install().expect("install");
        drop(incoming);
        drop(checkpoints);
        disk.lose_power(&mut Prng::new(seed));
        let checkpoints = open(&disk).expect("open");
        assert_eq!(read(&checkpoints, id(4)).expect("it is whole"), whole);
    }
}

#[test]
fn a_failed_write_ends_the_writer() {
    let disk = MemoryDisk::default();
    let checkpoints = open(&disk).expect("open");
    let mut writer = checkpoints.writer(Slot(9), checkpoints.life()).expect("a writer");
    disk.fail_writes(1);
    let error = writer.write_all(&vec![1; 2 << 20]).expect_err("the write fails");
    assert!(error.to_string().contains("checkpoint-"), "{error}");
    writer.write_all(b"more").expect_err("nothing more is taken");
    writer.finish(1).expect_err("nor is it finished");
    assert_eq!(disk.list().expect("list"), Vec::<String>::new());
    write(&checkpoints, 8).expect("another one is written");
    assert_eq!(read(&checkpoints, id(8)).expect("read"), content(8));
}
