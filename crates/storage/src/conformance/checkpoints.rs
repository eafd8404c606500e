//! The part of the suite about checkpoints.

use std::io::{self, Read, Write};

use mainstay_model::{CheckpointId, ClusterId, GroupId, NoPlants, Slot};

use super::{CLUSTER, Place, accept, append_each, flip, options, promise};
use crate::checkpoints::{
    CheckpointError, CheckpointOptions, Checkpoints, Incoming, Life, Partial,
};
use crate::disk::Disk;
use crate::log::Log;

const OPTIONS: CheckpointOptions = CheckpointOptions::new(CLUSTER, GroupId::FIRST, 7);
const KIB: usize = 1 << 10;

/// Content that differs at every place.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(seed | 1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn id(slot: u64) -> CheckpointId {
    CheckpointId { slot: Slot(slot), digest: slot * 0x1111 }
}

fn name(id: CheckpointId) -> String {
    format!("checkpoint-{:020}-{:016x}.ms", id.slot.0, id.digest)
}

fn reopen<T: Place>(place: &mut T) -> (Checkpoints<T::Disk>, Vec<CheckpointError>) {
    Checkpoints::open(place.open(), OPTIONS).expect("the checkpoints open")
}

fn open<T: Place>(place: &mut T) -> Checkpoints<T::Disk> {
    let (checkpoints, reports) = reopen(place);
    assert!(reports.is_empty(), "{reports:?}");
    checkpoints
}

fn write<D: Disk>(checkpoints: &Checkpoints<D>, slot: u64, content: &[u8]) {
    let mut writer = checkpoints.writer(Slot(slot), checkpoints.life()).expect("a writer");
    // In pieces that fit no block.
    for piece in content.chunks(100_003) {
        writer.write_all(piece).expect("it is written");
    }
    assert_eq!(writer.finish(id(slot).digest).expect("it is finished"), id(slot));
}

fn whole(mut from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).map(|_| bytes)
}

fn read<D: Disk>(checkpoints: &Checkpoints<D>, id: CheckpointId) -> Vec<u8> {
    whole(checkpoints.open_content(id).expect("it opens")).expect("it is read")
}

fn names<T: Place>(place: &mut T) -> Vec<String> {
    let mut names = place.open().list().expect("list");
    names.retain(|name| name.starts_with("checkpoint-") || name.starts_with("incoming-"));
    names
}

pub(super) fn stable_one_stays<T: Place>(place: &mut T) {
    let checkpoints = open(place);
    assert_eq!(checkpoints.stable(), None);
    for slot in [3, 8] {
        write(&checkpoints, slot, b"state");
    }
    checkpoints.note_stable(id(3)).expect("noted");
    for slot in [13, 18] {
        write(&checkpoints, slot, b"state");
    }
    assert_eq!(checkpoints.held(), [3, 13, 18].map(id), "the stable one, and the two newest");
    drop(checkpoints);
    let checkpoints = open(place);
    assert_eq!(checkpoints.stable(), Some(id(3)), "also after a restart");
    checkpoints.note_stable(id(13)).expect("noted");
    checkpoints.note_stable(id(8)).expect("an older one changes nothing");
    assert_eq!(checkpoints.stable(), Some(id(13)));
    checkpoints.tidy().expect("tidied");
    assert_eq!(checkpoints.held(), [13, 18].map(id));
    drop(checkpoints);
    let checkpoints = open(place);
    assert_eq!(checkpoints.stable(), Some(id(13)));
    assert_eq!(checkpoints.held(), [13, 18].map(id));
    drop(checkpoints);
    let left = place.open().list().expect("list");
    assert_eq!(left.iter().filter(|name| name.starts_with("stable-")).count(), 1, "{left:?}");
}

/// Of the files in the folder, how many are of checkpoints that are of no use.
fn unusable<T: Place>(place: &mut T) -> usize {
    let names = place.open().list().expect("list");
    names.iter().filter(|name| name.starts_with("unusable-")).count()
}

pub(super) fn wrong_ones<T: Place>(place: &mut T) {
    let checkpoints = open(place);
    for slot in [3, 8, 13] {
        write(&checkpoints, slot, b"state");
        // Else the oldest one would go.
        if slot == 3 {
            checkpoints.note_stable(id(3)).expect("noted");
        }
    }
    let before = checkpoints.writer(Slot(18), checkpoints.life()).expect("a writer");
    checkpoints.distrust_after(Some(id(3))).expect("distrusted");
    assert_eq!((checkpoints.held(), checkpoints.unusable()), (vec![id(3)], vec![id(8), id(13)]));
    let error = before.finish(7).expect_err("it is of the state that is wrong");
    assert!(matches!(error, CheckpointError::Overtaken(_)), "{error}");
    drop(checkpoints);
    // After a restart the state is another: what it makes is right, in the same slots, too.
    let checkpoints = open(place);
    assert_eq!((checkpoints.held(), checkpoints.unusable()), (vec![id(3)], vec![id(8), id(13)]));
    let old = checkpoints.life();
    write(&checkpoints, 8, b"state");
    assert_eq!(
        (checkpoints.held(), checkpoints.unusable().len()),
        (vec![id(3), id(8)], 2),
        "nothing is sure yet"
    );
    let mut incoming = checkpoints.incoming(id(18), 5, 512).expect("a transfer begins");
    incoming.append_chunk(0, b"state").expect("a chunk");
    let late = checkpoints.writer(Slot(18), old).expect("a writer");
    assert!(incoming.install().expect("installed") != old);
    drop(incoming);
    assert_eq!(checkpoints.unusable(), [], "there is a right one");
    let error = late.finish(7).expect_err("another state has taken the place");
    assert!(matches!(error, CheckpointError::Overtaken(_)), "{error}");
    assert_eq!(read(&checkpoints, id(18)), b"state", "it is still there");
    // Of nothing that is known to be right.
    checkpoints.distrust_after(None).expect("distrusted");
    assert_eq!(checkpoints.held(), [id(18)], "but what a quorum held is");
    assert_eq!(checkpoints.unusable(), [id(8)]);
    write(&checkpoints, 23, b"state");
    checkpoints.note_stable(id(23)).expect("noted");
    drop(checkpoints);
    assert_eq!(unusable(place), 0, "likewise");
}

pub(super) fn comes_back<T: Place>(place: &mut T) {
    let block = 64 * KIB;
    let lens = [0, 1, block - 1, block, block + 1, 16 * block, 16 * block + 1, 37 * block + 11];
    for (slot, len) in (1..).zip(lens) {
        let content = content(slot, len);
        let checkpoints = open(place);
        write(&checkpoints, slot, &content);
        assert_eq!(read(&checkpoints, id(slot)), content);
        drop(checkpoints);
        let checkpoints = open(place);
        assert_eq!(checkpoints.latest(), Some(id(slot)));
        assert_eq!(checkpoints.content_len(id(slot)), Some(len as u64));
        assert_eq!(read(&checkpoints, id(slot)), content);
    }
}

pub(super) fn two_are_kept<T: Place>(place: &mut T) {
    let checkpoints = open(place);
    assert_eq!(checkpoints.latest(), None);
    for slot in 1..=3 {
        write(&checkpoints, slot, &content(slot, 1000));
    }
    assert_eq!(checkpoints.held(), [id(2), id(3)]);
    let (hold, again) = (checkpoints.hold(id(2)), checkpoints.hold(id(2)));
    assert_eq!(hold.as_ref().map(super::super::checkpoints::Hold::id), Some(id(2)));
    assert!(checkpoints.hold(id(1)).is_none());
    for slot in 4..=6 {
        write(&checkpoints, slot, &content(slot, 1000));
    }
    assert_eq!(checkpoints.held(), [id(2), id(5), id(6)]);
    assert_eq!(read(&checkpoints, id(2)), content(2, 1000));
    drop(hold);
    checkpoints.tidy().expect("tidy");
    assert_eq!(checkpoints.held(), [id(2), id(5), id(6)], "there was a second hold");
    drop(again);
    assert_eq!(checkpoints.take_gone(), [id(1), id(3), id(4)]);
    checkpoints.tidy().expect("tidy");
    assert_eq!(checkpoints.held(), [id(5), id(6)]);
    assert_eq!(checkpoints.take_gone(), [id(2)]);
    assert!(matches!(checkpoints.open_content(id(2)), Err(CheckpointError::Gone(_))));
    checkpoints.note_damaged(id(6));
    assert_eq!(checkpoints.held(), [id(5)]);
    assert_eq!(checkpoints.take_gone(), [id(6)]);
    write(&checkpoints, 7, &content(7, 1000));
    drop(checkpoints);
    assert_eq!(names(place), [name(id(5)), name(id(7))]);
}

pub(super) fn unfinished<T: Place>(place: &mut T) {
    let checkpoints = open(place);
    write(&checkpoints, 1, &content(1, 1000));
    let mut writer = checkpoints.writer(Slot(2), checkpoints.life()).expect("a writer");
    assert!(matches!(checkpoints.writer(Slot(2), Life::default()), Err(CheckpointError::Busy(_))));
    writer.write_all(&content(2, 3 << 20)).expect("it is written");
    drop(writer);
    drop(checkpoints);
    assert_eq!(names(place), [name(id(1))]);
    // As a crash leaves it.
    drop(place.open().create("checkpoint-00000000000000000002.tmp").expect("create"));
    assert_eq!(open(place).held(), [id(1)]);
    assert_eq!(names(place), [name(id(1))]);
}

pub(super) fn chunks<T: Place>(place: &mut T) {
    let checkpoints = open(place);
    let written = content(1, 300 * KIB + 77);
    write(&checkpoints, 1, &written);
    for chunk_bytes in [512, 1000, 64 << 10, 100_000, 1 << 20] {
        let mut read = Vec::new();
        let count = written.len().div_ceil(chunk_bytes as usize) as u64;
        for index in 0..count {
            let chunk = checkpoints.read_chunk(id(1), index, chunk_bytes).expect("a chunk");
            assert_eq!(chunk.0, written.len() as u64);
            read.extend_from_slice(&chunk.1);
        }
        assert_eq!(read, written);
        for index in [count, u64::MAX] {
            let error = checkpoints.read_chunk(id(1), index, chunk_bytes).expect_err("no chunk");
            assert!(matches!(error, CheckpointError::BadChunk { .. }), "{error}");
        }
    }
    for chunk_bytes in [0, 511, u32::MAX] {
        let error = checkpoints.read_chunk(id(1), 0, chunk_bytes).expect_err("no such size");
        assert!(matches!(error, CheckpointError::BadChunk { .. }), "{error}");
    }
    let error = checkpoints.read_chunk(id(2), 0, 1 << 20).expect_err("it is not held");
    assert!(matches!(error, CheckpointError::Gone(_)), "{error}");
    write(&checkpoints, 3, &[]);
    let (total, chunk) = checkpoints.read_chunk(id(3), 0, 1 << 20).expect("an empty chunk");
    assert_eq!((total, chunk.len()), (0, 0));
}

pub(super) fn damaged<T: Place>(place: &mut T) {
    let block = 64 * KIB as u64;
    let (older, newer) = (content(1, 1000), content(2, 3 * block as usize + 5));
    let checkpoints = open(place);
    write(&checkpoints, 1, &older);
    write(&checkpoints, 2, &newer);
    drop(checkpoints);
    // In the head: the older one serves.
    for byte in [0, 9, 13, 20, 33, 44, 50, 60, 66, 511] {
        flip(place, &name(id(2)), byte);
        let (checkpoints, reports) = reopen(place);
        assert_eq!(checkpoints.held(), [id(1)], "byte {byte}");
        assert!(matches!(&reports[..], [CheckpointError::Damaged { .. }]), "{reports:?}");
        drop(checkpoints);
        flip(place, &name(id(2)), byte);
    }
    // In each block: told when it is read, and only then.
    for hit in 0..4 {
        let offset = 4096 + hit * (block + 8);
        for byte in [offset, offset + 4, 4096 + (hit * (block + 8) + block).min(3 * block + 30)] {
            flip(place, &name(id(2)), byte);
            let checkpoints = open(place);
            let error = whole(checkpoints.open_content(id(2)).expect("it opens"));
            let error = error.expect_err("it is damaged");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(&name(id(2))), "{error}");
            for index in 0..4 {
                let chunk = checkpoints.read_chunk(id(2), index, block as u32);
                let is_hit = matches!(chunk, Err(CheckpointError::Damaged { offset: at, .. })
                    if at == offset);
                assert_eq!(is_hit, index == hit, "chunk {index}, byte {byte}");
            }
            drop(checkpoints);
            flip(place, &name(id(2)), byte);
        }
    }
    assert_eq!(read(&open(place), id(2)), newer);
    // A damaged one goes with the next.
    flip(place, &name(id(2)), 0);
    let (checkpoints, _) = reopen(place);
    write(&checkpoints, 3, &older);
    drop(checkpoints);
    assert_eq!(open(place).held(), [id(1), id(3)]);
    assert_eq!(names(place), [name(id(1)), name(id(3))]);
}

pub(super) fn foreign<T: Place>(place: &mut T) {
    let checkpoints = open(place);
    write(&checkpoints, 1, &content(1, 1000));
    drop(checkpoints);
    let others = [
        CheckpointOptions { cluster: ClusterId(1), ..OPTIONS },
        CheckpointOptions { service_version: 8, ..OPTIONS },
        CheckpointOptions { group: GroupId(2), ..OPTIONS },
    ];
    for options in others {
        let (checkpoints, reports) = Checkpoints::open(place.open(), options).expect("open");
        assert_eq!(checkpoints.latest(), None);
        match &reports[..] {
            [CheckpointError::Foreign { .. }] => assert_ne!(options.cluster, OPTIONS.cluster),
            [CheckpointError::OtherService { found: 7, expected: 8, .. }] => {}
            [] => assert_ne!(options.group, OPTIONS.group),
            other => panic!("{other:?}"),
        }
    }
    // Under another name, and cut off.
    let disk = place.open();
    disk.rename(&name(id(1)), &name(id(2))).expect("rename");
    drop(disk);
    let (checkpoints, reports) = reopen(place);
    assert_eq!(checkpoints.latest(), None);
    assert!(matches!(&reports[..], [CheckpointError::Damaged { .. }]), "{reports:?}");
    drop(checkpoints);
    let disk = place.open();
    let cut = super::read(&disk, &name(id(2)))[..4500].to_vec();
    disk.remove(&name(id(2))).expect("remove");
    super::create(&disk, &name(id(1)), &cut);
    drop(disk);
    let (checkpoints, reports) = reopen(place);
    assert_eq!(checkpoints.latest(), None);
    assert!(matches!(&reports[..], [CheckpointError::Damaged { offset: 4500, .. }]), "{reports:?}");
}

const CHUNK: u32 = 1536;

fn piece(whole: &[u8], index: u64) -> &[u8] {
    let from = index as usize * CHUNK as usize;
    &whole[from..whole.len().min(from + CHUNK as usize)]
}

fn fetch<D: Disk>(checkpoints: &Checkpoints<D>, slot: u64, total: usize) -> Incoming<D> {
    checkpoints.incoming(id(slot), total as u64, CHUNK).expect("a transfer begins")
}

pub(super) fn fetched<T: Place>(place: &mut T) {
    let whole_content = content(9, 100 * CHUNK as usize + 700);
    let checkpoints = open(place);
    write(&checkpoints, 3, &content(3, 1000));
    let mut incoming = fetch(&checkpoints, 9, whole_content.len());
    let busy = checkpoints.incoming(id(9), 1, CHUNK).map(drop).expect_err("one at a time");
    assert!(matches!(busy, CheckpointError::Busy(_)), "{busy}");
    assert_eq!(incoming.chunks(), 101);
    // Any order, some twice, some that cannot be.
    for step in 0..101 {
        let index = step * 37 % 101;
        incoming.append_chunk(index, piece(&whole_content, index)).expect("a chunk");
        incoming.append_chunk(index, piece(&whole_content, index)).expect("once more");
        for (index, len) in [(101, 1536), (u64::MAX, 1536), (7, 1535), (7, 0), (100, 1536)] {
            let error = incoming.append_chunk(index, &vec![0; len]).expect_err("it cannot be");
            assert!(matches!(error, CheckpointError::BadChunk { .. }), "{error}");
        }
        if step == 50 {
            assert_eq!(
                incoming.next_missing(0),
                Some((0..).find(|index| !has(*index)).unwrap_or(0))
            );
            let error = incoming.open_content().map(drop).expect_err("it is not complete");
            assert!(matches!(error, CheckpointError::Incomplete { missing: 50, .. }), "{error}");
        }
    }
    assert_eq!(incoming.next_missing(0), None);
    let fetched = whole(incoming.open_content().expect("it opens")).expect("it is read");
    assert!(fetched == whole_content);
    assert_eq!(checkpoints.latest(), Some(id(3)), "it is not installed yet");
    let life = checkpoints.life();
    assert!(incoming.install().expect("install") > life, "another state is the replica's now");
    drop(incoming);
    assert_eq!(checkpoints.held(), [id(3), id(9)]);
    assert!(checkpoints.partial().is_none());
    drop(checkpoints);
    let checkpoints = open(place);
    assert!(read(&checkpoints, id(9)) == whole_content);
    drop(checkpoints);
    assert_eq!(names(place), [name(id(3)), name(id(9))]);
}

/// The chunks that the first 51 steps of 37 reach.
fn has(index: u64) -> bool {
    (0..=50).any(|step| step * 37 % 101 == index)
}

pub(super) fn resumed<T: Place>(place: &mut T) {
    let whole_content = content(9, 10 * CHUNK as usize);
    let mut incoming = fetch(&open(place), 9, whole_content.len());
    for index in [0, 1, 2, 4, 5, 8] {
        incoming.append_chunk(index, piece(&whole_content, index)).expect("a chunk");
    }
    drop(incoming);
    // A bit rots in chunk 4.
    let file = names(place).pop().expect("it is there");
    flip(place, &file, 4096 + 3 * 4 * (512 + 8) + 600);
    let checkpoints = open(place);
    let partial = checkpoints.partial().expect("it is still there");
    let total = whole_content.len() as u64;
    assert_eq!(partial, Partial { id: id(9), total, chunk_bytes: CHUNK, complete: 5 });
    let mut incoming = fetch(&checkpoints, 9, whole_content.len());
    assert_eq!(incoming.partial(), partial);
    let mut missing = Vec::new();
    while let Some(index) = incoming.next_missing(0) {
        missing.push(index);
        incoming.append_chunk(index, piece(&whole_content, index)).expect("a chunk");
    }
    assert_eq!(missing, [3, 4, 6, 7, 9]);
    incoming.install().expect("install");
    drop(incoming);
    assert!(read(&checkpoints, id(9)) == whole_content);
    // Another one, and then another: only the last one stays.
    let mut incoming = fetch(&checkpoints, 10, whole_content.len());
    incoming.append_chunk(0, piece(&whole_content, 0)).expect("a chunk");
    drop(incoming);
    assert_eq!(checkpoints.partial().map(|partial| partial.complete), Some(1));
    drop(fetch(&checkpoints, 11, whole_content.len()));
    assert_eq!(checkpoints.partial().map(|partial| partial.id), Some(id(11)));
    fetch(&checkpoints, 11, whole_content.len()).abandon().expect("abandon");
    assert_eq!(checkpoints.partial(), None);
    drop(checkpoints);
    assert_eq!(names(place), [name(id(9))]);
}

pub(super) fn refused<T: Place>(place: &mut T) {
    let small = CheckpointOptions { content_max: 1000, ..OPTIONS };
    let (checkpoints, _) = Checkpoints::open(place.open(), small).expect("open");
    let error = checkpoints.incoming(id(1), 1001, 512).map(drop).expect_err("it is too large");
    assert!(matches!(error, CheckpointError::TooLarge { .. }), "{error}");
    for chunk_bytes in [0, 100, 513, 32 << 20, u32::MAX] {
        let error = checkpoints.incoming(id(1), 1000, chunk_bytes).map(drop);
        let error = error.expect_err("no chunks have such a size");
        assert!(matches!(error, CheckpointError::BadChunk { .. }), "{error}");
    }
    let mut empty = checkpoints.incoming(id(1), 0, 512).expect("an empty one");
    assert_eq!((empty.chunks(), empty.next_missing(0)), (0, None));
    empty.install().expect("install");
    drop(empty);
    // A replica that went another way: what a quorum has replaces it.
    let mut writer = checkpoints.writer(Slot(2), checkpoints.life()).expect("a writer");
    writer.write_all(b"wrong").expect("it is written");
    let diverged = writer.finish(0xbad).expect("it is finished");
    let mut incoming = checkpoints.incoming(id(2), 5, 512).expect("a transfer begins");
    incoming.append_chunk(0, b"right").expect("a chunk");
    assert_eq!(checkpoints.latest(), Some(diverged));
    incoming.install().expect("install");
    assert_eq!(checkpoints.held(), [id(1), id(2)]);
    assert_eq!(read(&checkpoints, id(2)), b"right");
}

pub(super) fn beside_the_log<T: Place>(place: &mut T) {
    let checkpoints = open(place);
    write(&checkpoints, 20, &content(20, 1000));
    drop(fetch(&checkpoints, 40, 5000));
    drop(checkpoints);
    let (mut log, _) = Log::open(place.open(), options(), NoPlants).expect("the log opens");
    let records: Vec<_> = (1..=30).map(|slot| accept(1, slot, 1000, slot - 1)).collect();
    append_each(&mut log, &records);
    append_each(&mut log, &[promise(3, 29)]);
    let upto = log.discard(GroupId::FIRST, Slot(20), 0).expect("discard");
    assert!(upto > Slot(10) && upto <= Slot(20), "{upto}");
    drop(log);
    let checkpoints = open(place);
    assert_eq!(checkpoints.held(), [id(20)]);
    assert_eq!(checkpoints.partial().map(|partial| partial.id), Some(id(40)));
    drop(checkpoints);
    let (_, recovered) = Log::open(place.open(), options(), NoPlants).expect("the log opens");
    assert_eq!(recovered.truncated_upto, upto);
}
