//! What every log must do on whatever disk it stands: one suite for the real folder and for the
//! simulated one.
//!
//! Every test takes a [`Place`] that holds no files yet, and panics where the log does not keep to
//! docs/protocols/log.md. Damage is done through the [`Disk`] itself.

mod checkpoints;
mod discard;
mod identity;

use mainstay_model::{
    Ballot, Batch, ClusterId, ConfigurationId, Entry, Epoch, GroupId, NoPlants, Record, RecordKind,
    Recovered, ReplicaId, Slot, SlotRange, Timestamp,
};

use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, Meaning, OpenError};
use crate::layout::{
    RECORD_HEAD_LEN, RECORDS_START, SEGMENT_HEAD_LEN, SEGMENT_HEADS, record_len, segment_name,
};
use crate::log::Log;
use crate::options::{LogOptions, OnDamage};

/// A folder that can be opened again and again, as by one process after the other.
pub trait Place {
    /// How the folder is reached.
    type Disk: Disk;
    /// Opens the folder as a process that was just started; the one before has ended.
    fn open(&mut self) -> Self::Disk;
}

/// A test of the suite.
pub type Test<T> = fn(&mut T);

/// All tests, by name.
#[must_use]
pub fn tests<T: Place>() -> Vec<(&'static str, Test<T>)> {
    vec![
        ("an empty folder becomes a log", empty_folder::<T>),
        ("what was appended comes back", comes_back::<T>),
        ("a later record supersedes", later_supersedes::<T>),
        ("many segments are one log", many_segments::<T>),
        ("a record larger than a segment fits", oversized_record::<T>),
        ("reads stop at the bound and at a hole", bounded_reads::<T>),
        ("a torn tail is dropped at every byte", torn_tail::<T>),
        ("records behind the tail stay dead", stale_behind_tail::<T>),
        ("a flipped bit in a synced head is amnesia", flipped_head::<T>),
        ("a flipped bit in a synced value is uncertainty", flipped_value::<T>),
        ("a superseded value may be damaged", flipped_superseded_value::<T>),
        ("a flipped bit in the last group is a tail", flipped_tail::<T>),
        ("a flipped bit in a closed segment is damage", flipped_closed::<T>),
        ("a flipped bit in the head of a segment is amnesia", flipped_segment_head::<T>),
        ("a segment that was begun and never synced is a tail", unsynced_segment::<T>),
        ("a missing file is amnesia", missing_file::<T>),
        ("a log that was begun and is gone is amnesia", missing_log::<T>),
        ("a record of another history does not fit", other_history::<T>),
        ("what was read back is known to be synced", rewritten_is_synced::<T>),
        ("another replica's log is foreign", foreign_log::<T>),
        ("temporary files are removed", temporary_files::<T>),
        ("groups are kept apart", several_groups::<T>),
        ("the limit leaves room for promises", limited::<T>),
        ("what is decided is noted", discard::decided_is_noted::<T>),
        ("what a checkpoint covers goes, segment by segment", discard::whole_segments::<T>),
        ("the first segment that is left is missed", discard::missing_first::<T>),
        ("segments removed in part are removed", discard::removed_in_part::<T>),
        ("a log begins after a checkpoint", discard::begins_after::<T>),
        ("an empty log begins after a checkpoint", discard::begins_empty::<T>),
        ("a segment goes when no group needs it", discard::of_groups::<T>),
        ("damage that a checkpoint covers is none", discard::damage_given_up::<T>),
        ("a checkpoint comes back", checkpoints::comes_back::<T>),
        ("the stable checkpoint stays", checkpoints::stable_one_stays::<T>),
        ("two checkpoints are kept, and those on hold", checkpoints::two_are_kept::<T>),
        ("what comes after the last right checkpoint is unusable", checkpoints::wrong_ones::<T>),
        ("an unfinished checkpoint leaves nothing", checkpoints::unfinished::<T>),
        ("a checkpoint is handed out in chunks", checkpoints::chunks::<T>),
        ("damage to a checkpoint is told", checkpoints::damaged::<T>),
        ("another's checkpoint is not used", checkpoints::foreign::<T>),
        ("a checkpoint is fetched in any order", checkpoints::fetched::<T>),
        ("a transfer is gone on with", checkpoints::resumed::<T>),
        ("a transfer that cannot be is refused", checkpoints::refused::<T>),
        ("checkpoints and log share a folder", checkpoints::beside_the_log::<T>),
        ("an identity comes back", identity::comes_back::<T>),
        ("a damaged identity is amnesia", identity::damaged::<T>),
    ]
}

/// Runs every test in a place of its own.
///
/// # Panics
/// Where a test fails; its name is printed first.
pub fn run<T: Place>(mut fresh: impl FnMut() -> T) {
    for (name, test) in tests::<T>() {
        println!("storage conformance: {name}");
        test(&mut fresh());
    }
}

const CLUSTER: ClusterId = ClusterId(0x5eed);
const ME: ReplicaId = ReplicaId { index: 1, epoch: Epoch { counter: 1, instance: 0xa1 } };
const LEADER: ReplicaId = ReplicaId { index: 2, epoch: Epoch { counter: 1, instance: 0xa2 } };

fn options() -> LogOptions {
    LogOptions { segment_bytes: LogOptions::SEGMENT_BYTES_MIN, ..LogOptions::new(CLUSTER, ME) }
}

fn ballot(round: u64) -> Ballot {
    Ballot { round, leader: LEADER }
}

fn entry(round: u64, slot: u64, len: usize) -> Entry {
    let byte = (slot * 31 + round) as u8;
    let requests = vec![vec![byte; len].into()];
    let value = Batch { time: Timestamp(slot * 1000 + round), requests }.encode();
    Entry { ballot: ballot(round), value }
}

fn record(round: u64, decided: u64, kind: RecordKind) -> Record {
    Record {
        group: GroupId::FIRST,
        configuration: ConfigurationId(1),
        promised: ballot(round),
        decided_upto: Slot(decided),
        kind,
    }
}

fn accept(round: u64, slot: u64, len: usize, decided: u64) -> Record {
    let kind = RecordKind::Accept { slot: Slot(slot), entry: entry(round, slot, len) };
    record(round, decided, kind)
}

fn promise(round: u64, decided: u64) -> Record {
    record(round, decided, RecordKind::Promise)
}

fn open<T: Place>(place: &mut T) -> (Log<T::Disk>, Recovered) {
    Log::open(place.open(), options(), NoPlants).expect("the log opens")
}

fn refusal<T: Place>(place: &mut T, options: LogOptions) -> OpenError {
    let opened = Log::open(place.open(), options, NoPlants);
    opened.map(|(_, recovered)| recovered).expect_err("the log is refused")
}

fn damage<T: Place>(place: &mut T) -> Damage {
    match refusal(place, options()) {
        OpenError::Damaged(damage) => damage,
        error => panic!("damage is told, not: {error}"),
    }
}

/// Appends each record on its own and syncs after each: so all but the last are known to be synced.
fn append_each<D: Disk>(log: &mut Log<D>, records: &[Record]) {
    for record in records {
        log.append(std::slice::from_ref(record)).expect("the log takes a record");
        log.sync().expect("the log syncs");
        log.prepare().expect("the log prepares");
    }
}

fn read<D: Disk>(disk: &D, file: &str) -> Vec<u8> {
    let opened = disk.open(file).expect("the file is there");
    let mut bytes = vec![0; opened.len().expect("it has a length") as usize];
    opened.read_at(0, &mut bytes).expect("it can be read");
    bytes
}

/// Makes a file, for good.
fn create<D: Disk>(disk: &D, file: &str, bytes: &[u8]) {
    let mut created = disk.create(file).expect("it is new");
    created.write_at(0, bytes).expect("it can be written");
    created.sync().expect("it can be synced");
    disk.sync_folder().expect("the folder can be synced");
}

/// Changes bytes of a file for good.
fn edit<T: Place>(place: &mut T, file: &str, offset: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let disk = place.open();
    let mut bytes = read(&disk, file).split_off(offset as usize);
    change(&mut bytes);
    let mut opened = disk.open(file).expect("the file is there");
    opened.write_at(offset, &bytes).expect("it can be written");
    opened.sync().expect("it can be synced");
}

fn flip<T: Place>(place: &mut T, file: &str, offset: u64) {
    edit(place, file, offset, |bytes| bytes[0] ^= 0x10);
}

fn length(record: &Record) -> u64 {
    match &record.kind {
        RecordKind::Promise => record_len(0),
        RecordKind::Accept { entry, .. } | RecordKind::Learn { entry, .. } => {
            record_len(entry.value.len() as u64)
        }
    }
}

/// Where record `index` of `records` stands, if the first one stands first in its segment.
fn place_of(records: &[Record], index: usize) -> u64 {
    RECORDS_START + records[..index].iter().map(length).sum::<u64>()
}

fn empty_folder<T: Place>(place: &mut T) {
    for _ in 0..3 {
        let (log, recovered) = open(place);
        assert_eq!(recovered, Recovered::default());
        assert_eq!(log.segments(), 1);
        assert!(log.has_room());
    }
}

fn comes_back<T: Place>(place: &mut T) {
    let (mut log, _) = open(place);
    log.append(&[promise(3, 0), accept(3, 1, 10, 0), accept(3, 2, 0, 1)]).expect("append");
    log.append(&[]).expect("append of nothing");
    log.append(&[accept(4, 3, 1000, 1)]).expect("append");
    log.sync().expect("sync");
    drop(log);
    let (log, recovered) = open(place);
    assert_eq!(recovered.promised, ballot(4));
    assert_eq!(recovered.decided_upto, Slot(1));
    assert_eq!(recovered.truncated_upto, Slot::NONE);
    assert_eq!(recovered.uncertain, []);
    assert_eq!(recovered.time, Timestamp(3_004), "of the value of slot 3");
    let accepted: Vec<_> = recovered.accepted.into_iter().collect();
    assert_eq!(accepted, [(Slot(2), entry(3, 2, 0)), (Slot(3), entry(4, 3, 1000))]);
    let read = log.read(GroupId::FIRST, Slot(1), Slot(9), usize::MAX).expect("read");
    assert_eq!(read, [entry(3, 1, 10), entry(3, 2, 0), entry(4, 3, 1000)]);
}

fn later_supersedes<T: Place>(place: &mut T) {
    let (mut log, _) = open(place);
    let learned = RecordKind::Learn { slot: Slot(1), entry: entry(5, 1, 20) };
    log.append(&[accept(2, 1, 30, 0), accept(4, 1, 10, 0)]).expect("append");
    assert_eq!(log.read(GroupId::FIRST, Slot(1), Slot(1), 1).expect("read"), [entry(4, 1, 10)]);
    log.append(&[record(6, 0, learned), promise(6, 1)]).expect("append");
    log.sync().expect("sync");
    drop(log);
    let (log, recovered) = open(place);
    assert!(recovered.accepted.is_empty());
    assert_eq!(recovered.decided_upto, Slot(1));
    assert_eq!(recovered.time, Timestamp(1_005), "of what is known as decided");
    assert_eq!(log.read(GroupId::FIRST, Slot(1), Slot(1), 1).expect("read"), [entry(5, 1, 20)]);
}

fn many_segments<T: Place>(place: &mut T) {
    let mut slot = 0;
    for _ in 0..4 {
        let (mut log, recovered) = open(place);
        assert_eq!(recovered.decided_upto, Slot(slot / 10 * 9));
        for _ in 0..10 {
            let records: Vec<_> =
                (1..=5).map(|more| accept(7, slot + more, 900, slot / 10 * 9)).collect();
            append_each(&mut log, &records[..2]);
            log.append(&records[2..]).expect("append");
            slot += 5;
        }
        append_each(&mut log, &[promise(7, slot / 10 * 9)]);
        let read = log.read(GroupId::FIRST, Slot(1), Slot(slot), usize::MAX).expect("read");
        assert_eq!(read, (1..=slot).map(|slot| entry(7, slot, 900)).collect::<Vec<_>>());
        assert!(log.segments() > slot * 900 / options().segment_bytes);
        assert!(log.bytes() > slot * 900 && log.bytes() < log.allocated());
        assert!(log.has_room());
    }
}

fn oversized_record<T: Place>(place: &mut T) {
    let large = 5 * options().segment_bytes as usize;
    let records =
        [accept(1, 1, 100, 0), accept(1, 2, large, 0), accept(1, 3, large, 0), accept(1, 4, 1, 0)];
    let (mut log, _) = open(place);
    log.append(&records).expect("append");
    log.sync().expect("sync");
    drop(log);
    let (log, recovered) = open(place);
    assert_eq!(recovered.accepted.len(), 4);
    assert_eq!(recovered.accepted[&Slot(3)], entry(1, 3, large));
    assert_eq!(log.segments(), 4);
}

fn bounded_reads<T: Place>(place: &mut T) {
    let (mut log, _) = open(place);
    log.append(&[accept(1, 1, 50, 0), accept(1, 2, 50, 0), accept(1, 4, 50, 0)]).expect("append");
    let read = |from, upto, bytes_max| {
        log.read(GroupId::FIRST, Slot(from), Slot(upto), bytes_max).expect("read").len()
    };
    assert_eq!(read(1, 9, usize::MAX), 2);
    assert_eq!(read(1, 9, 0), 1);
    assert_eq!(read(1, 9, entry(1, 1, 50).value.len() + 1), 2);
    assert_eq!(read(2, 2, usize::MAX), 1);
    assert_eq!(read(3, 9, usize::MAX), 0);
    assert_eq!(read(4, 3, usize::MAX), 0);
    assert_eq!(read(4, 4, usize::MAX), 1);
    let other = log.read(GroupId(9), Slot(1), Slot(9), 1).expect("read");
    assert!(other.is_empty());
}

fn torn_tail<T: Place>(place: &mut T) {
    let records = [accept(1, 1, 40, 0), accept(1, 2, 40, 0), accept(2, 3, 33, 0)];
    let (mut log, _) = open(place);
    append_each(&mut log, &records[..2]);
    drop(log);
    let unpadded = RECORD_HEAD_LEN as u64 + entry(2, 3, 33).value.len() as u64;
    for torn_at in 0..unpadded {
        let (mut log, recovered) = open(place);
        assert_eq!(recovered.accepted.len(), 2, "torn at byte {torn_at}");
        assert_eq!(recovered.promised, ballot(1));
        log.append(&records[2..]).expect("append");
        drop(log);
        let offset = place_of(&records, 2) + torn_at;
        edit(place, &segment_name(1), offset, |bytes| bytes.fill(0));
    }
    let (mut log, recovered) = open(place);
    assert_eq!(recovered.accepted.len(), 2);
    append_each(&mut log, &records[2..]);
    drop(log);
    assert_eq!(open(place).1.accepted.len(), 3);
}

fn stale_behind_tail<T: Place>(place: &mut T) {
    let records: Vec<_> = (1..=4).map(|slot| accept(slot, slot, 40, 0)).collect();
    let (mut log, _) = open(place);
    append_each(&mut log, &records[..1]);
    log.append(&records[1..]).expect("append");
    drop(log);
    let torn = place_of(&records, 1);
    edit(place, &segment_name(1), torn, |bytes| bytes[..64].fill(0));
    let (mut log, recovered) = open(place);
    assert_eq!(recovered.accepted.keys().copied().collect::<Vec<_>>(), [Slot(1)]);
    assert_eq!(recovered.promised, ballot(1));
    // A record as long as the one that was torn: behind it the old ones would fit.
    append_each(&mut log, &[accept(9, 2, 40, 0)]);
    drop(log);
    let (_, recovered) = open(place);
    assert_eq!(recovered.accepted.keys().copied().collect::<Vec<_>>(), [Slot(1), Slot(2)]);
    assert_eq!(recovered.accepted[&Slot(2)], entry(9, 2, 40));
}

fn synced_records() -> Vec<Record> {
    vec![promise(1, 0), accept(1, 1, 40, 0), accept(1, 2, 40, 0), promise(2, 0)]
}

fn flipped_head<T: Place>(place: &mut T) {
    let records = synced_records();
    append_each(&mut open(place).0, &records);
    for index in 0..records.len() - 1 {
        for byte in 0..RECORD_HEAD_LEN as u64 {
            let offset = place_of(&records, index) + byte;
            flip(place, &segment_name(1), offset);
            let damage = damage(place);
            assert_eq!(damage.meaning, Meaning::Amnesia, "byte {byte} of record {index}");
            assert_eq!(damage.offset, place_of(&records, index));
            let reporting = LogOptions { on_damage: OnDamage::Report, ..options() };
            assert!(matches!(refusal(place, reporting), OpenError::Damaged(_)));
            flip(place, &segment_name(1), offset);
        }
    }
    assert_eq!(open(place).1.promised, ballot(2));
}

fn flipped_value<T: Place>(place: &mut T) {
    let records = synced_records();
    append_each(&mut open(place).0, &records);
    let offset = place_of(&records, 1) + RECORD_HEAD_LEN as u64;
    for byte in 0..entry(1, 1, 40).value.len() as u64 {
        flip(place, &segment_name(1), offset + byte);
        assert_eq!(damage(place).meaning, Meaning::Uncertain(Slot(1)));
        let reporting = LogOptions { on_damage: OnDamage::Report, ..options() };
        let opened = Log::open(place.open(), reporting, NoPlants);
        let (log, recovered) = opened.expect("uncertainty is reported");
        assert_eq!(recovered.uncertain, [SlotRange { first: Slot(1), last: Slot(1) }]);
        assert_eq!(recovered.accepted.keys().copied().collect::<Vec<_>>(), [Slot(2)]);
        assert_eq!(recovered.promised, ballot(2));
        assert!(log.read(GroupId::FIRST, Slot(1), Slot(2), 1).expect("read").is_empty());
        drop(log);
        flip(place, &segment_name(1), offset + byte);
    }
    assert_eq!(open(place).1.accepted.len(), 2);
}

fn flipped_superseded_value<T: Place>(place: &mut T) {
    let records = [accept(1, 1, 40, 0), accept(2, 1, 40, 0), promise(2, 0)];
    append_each(&mut open(place).0, &records);
    flip(place, &segment_name(1), place_of(&records, 0) + RECORD_HEAD_LEN as u64);
    assert_eq!(open(place).1.accepted[&Slot(1)], entry(2, 1, 40));
    // The later record is no better than none if it is the damaged one.
    flip(place, &segment_name(1), place_of(&records, 1) + RECORD_HEAD_LEN as u64);
    assert_eq!(damage(place).meaning, Meaning::Uncertain(Slot(1)));
}

fn flipped_tail<T: Place>(place: &mut T) {
    // The limit of format 1: what was synced last, with nothing written since, looks like a tail.
    let records = synced_records();
    append_each(&mut open(place).0, &records[..2]);
    let last = place_of(&records, 2);
    for byte in 0..record_len(0) {
        let (mut log, recovered) = open(place);
        assert_eq!(recovered.accepted.len(), 1, "byte {byte}");
        append_each(&mut log, &records[2..3]);
        drop(log);
        flip(place, &segment_name(1), last + byte);
    }
    assert_eq!(open(place).1.accepted.len(), 1);
}

fn flipped_closed<T: Place>(place: &mut T) {
    let records: Vec<_> = (1..=14).map(|slot| accept(1, slot, 1000, 0)).collect();
    let (mut log, _) = open(place);
    append_each(&mut log, &records);
    assert_eq!(log.segments(), 2);
    drop(log);
    // The last record of the closed segment: nothing behind it in its file says that it was synced.
    let mut last = 0;
    while place_of(&records, last + 2) <= options().segment_bytes {
        last += 1;
    }
    let offset = place_of(&records, last);
    flip(place, &segment_name(1), offset);
    assert_eq!(damage(place).meaning, Meaning::Amnesia);
    flip(place, &segment_name(1), offset);
    flip(place, &segment_name(1), offset + RECORD_HEAD_LEN as u64);
    assert_eq!(damage(place).meaning, Meaning::Uncertain(Slot(last as u64 + 1)));
    flip(place, &segment_name(1), offset + RECORD_HEAD_LEN as u64);
    edit(place, &segment_name(1), offset, |bytes| bytes.fill(0));
    assert_eq!(damage(place).meaning, Meaning::Amnesia);
}

fn flipped_segment_head<T: Place>(place: &mut T) {
    let records: Vec<_> = (1..=14).map(|slot| accept(1, slot, 1000, 0)).collect();
    append_each(&mut open(place).0, &records);
    for segment in [1, 2] {
        let file = segment_name(segment);
        for byte in (0..80).chain([SEGMENT_HEAD_LEN as u64 - 1]) {
            // One copy is enough.
            flip(place, &file, SEGMENT_HEADS[1] + byte);
            flip(place, &file, byte);
            let damage = damage(place);
            assert_eq!(damage.meaning, Meaning::Amnesia, "byte {byte} of segment {segment}");
            flip(place, &file, SEGMENT_HEADS[1] + byte);
            assert_eq!(open(place).1.accepted.len(), 14);
            if segment == 1 {
                flip(place, &file, byte);
            }
        }
        // The place reserved for second identifiers is not read.
        flip(place, &file, SEGMENT_HEADS[1] - 1);
        flip(place, &file, RECORDS_START - 1);
    }
    assert_eq!(open(place).1.accepted.len(), 14);
}

fn unsynced_segment<T: Place>(place: &mut T) {
    let records: Vec<_> = (1..=12).map(|slot| accept(1, slot, 1000, 0)).collect();
    let (mut log, _) = open(place);
    let mut appended = 0;
    while log.segments() == 1 {
        log.append(&records[appended..=appended]).expect("append");
        appended += 1;
    }
    drop(log);
    // Of the second segment, the head did not reach the disk, but its first records did.
    edit(place, &segment_name(2), 0, |bytes| bytes[..RECORDS_START as usize].fill(0));
    let (mut log, recovered) = open(place);
    assert_eq!(recovered.accepted.len(), appended - 1);
    append_each(&mut log, &records[appended - 1..]);
    drop(log);
    assert_eq!(open(place).1.accepted.len(), records.len());
}

fn missing_file<T: Place>(place: &mut T) {
    let records: Vec<_> = (1..=30).map(|slot| accept(1, slot, 1000, 0)).collect();
    let (mut log, _) = open(place);
    append_each(&mut log, &records);
    assert!(log.segments() >= 3);
    drop(log);
    for segment in [2, 1] {
        place.open().remove(&segment_name(segment)).expect("remove");
        assert_eq!(damage(place).meaning, Meaning::Amnesia);
    }
}

fn missing_log<T: Place>(place: &mut T) {
    let error = refusal(place, LogOptions { begun: true, ..options() });
    assert!(matches!(error, OpenError::Damaged(Damage { meaning: Meaning::Amnesia, .. })));
}

fn other_history<T: Place>(place: &mut T) {
    let history = |round| [accept(round, 1, 40, 0), accept(round, 2, 40, 0), promise(round, 0)];
    append_each(&mut open(place).0, &history(1));
    let disk = place.open();
    let old = read(&disk, &segment_name(1));
    for name in disk.list().expect("list") {
        if name.starts_with("log-") {
            disk.remove(&name).expect("remove");
        }
    }
    drop(disk);
    append_each(&mut open(place).0, &history(2));
    // Same log, same place, same sequence; but it followed another record.
    let offset = place_of(&history(2), 1);
    let len = length(&history(2)[1]) as usize;
    let stray = &old[offset as usize..][..len];
    edit(place, &segment_name(1), offset, |bytes| bytes[..len].copy_from_slice(stray));
    let damage = damage(place);
    assert_eq!((damage.meaning, damage.offset), (Meaning::Amnesia, offset));
}

fn rewritten_is_synced<T: Place>(place: &mut T) {
    let records = synced_records();
    append_each(&mut open(place).0, &records);
    drop(open(place));
    let last = records.len() - 1;
    flip(place, &segment_name(1), place_of(&records, last));
    assert_eq!(damage(place).offset, place_of(&records, last));
}

fn foreign_log<T: Place>(place: &mut T) {
    drop(open(place));
    let newer = ReplicaId { epoch: Epoch { counter: 2, ..ME.epoch }, ..ME };
    for (cluster, replica) in [(ClusterId(1), ME), (CLUSTER, LEADER), (CLUSTER, newer)] {
        let error = refusal(place, LogOptions { cluster, replica, ..options() });
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    }
    drop(open(place));
}

fn temporary_files<T: Place>(place: &mut T) {
    append_each(&mut open(place).0, &synced_records());
    let disk = place.open();
    for name in ["log-0000000001.tmp", "log-0000000002.tmp", "identity.tmp"] {
        let mut file = disk.create(name).expect("create");
        file.write_at(0, b"half of something").expect("write");
    }
    drop(disk);
    drop(open(place));
    let names = place.open().list().expect("list");
    assert!(names.iter().all(|name| !name.ends_with(".tmp")), "{names:?}");
}

fn several_groups<T: Place>(place: &mut T) {
    let of = |group, record: Record| Record { group: GroupId(group), ..record };
    let (mut log, _) = open(place);
    for slot in 1..=20 {
        let first = of(1, accept(5, slot, 500, 0));
        let second = of(2, accept(3, slot, 600, slot - 1));
        append_each(&mut log, &[first, second]);
    }
    assert!(log.segments() > 1);
    drop(log);
    let (log, recovered) = open(place);
    assert_eq!(recovered.promised, ballot(5));
    assert_eq!(recovered.accepted.len(), 20);
    let read = log.read(GroupId(2), Slot(20), Slot(20), 1).expect("read");
    assert_eq!(read, [entry(3, 20, 600)]);
}

fn limited<T: Place>(place: &mut T) {
    let bytes_max = 4 * options().segment_bytes;
    let limited = LogOptions { bytes_max: Some(bytes_max), ..options() };
    let (mut log, _) = Log::open(place.open(), limited, NoPlants).expect("open");
    let mut slot = 0;
    while log.has_room() {
        slot += 1;
        append_each(&mut log, &[accept(1, slot, 1000, 0)]);
        assert!(slot < 100, "the limit is met");
    }
    assert!(log.no_room().is_some());
    for round in 2..50 {
        append_each(&mut log, &[promise(round, 0)]);
    }
    assert!(log.allocated() <= bytes_max);
    drop(log);
    let (mut log, recovered) = Log::open(place.open(), limited, NoPlants).expect("open again");
    assert_eq!((recovered.promised, recovered.accepted.len() as u64), (ballot(49), slot));
    assert!(!log.has_room());
    log.append(&[promise(50, 0)]).expect("promises find room");
    drop(log);
    assert!(open(place).0.has_room());
}
