//! The part of the suite about giving slots up.

use mainstay_model::{GroupId, Record, Slot};

use super::{
    Place, accept, append_each, ballot, damage, entry, open, options, place_of, promise, record,
};
use crate::disk::Disk;
use crate::error::Meaning;
use crate::layout::segment_name;

const GROUP: GroupId = GroupId::FIRST;

fn accepts(slots: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    slots.map(|slot| accept(1, slot, 1000, slot - 1)).collect()
}

fn segments<T: Place>(place: &mut T) -> Vec<String> {
    let mut names = place.open().list().expect("list");
    names.retain(|name| name.starts_with("log-"));
    names
}

pub(super) fn decided_is_noted<T: Place>(place: &mut T) {
    let (mut log, _) = open(place);
    append_each(&mut log, &accepts(1..=5).into_iter().collect::<Vec<_>>());
    log.note_decided(GROUP, Slot(5)).expect("it is noted");
    log.note_decided(GROUP, Slot(3)).expect("that is said already");
    drop(log);
    let (mut log, recovered) = open(place);
    assert_eq!((recovered.decided_upto, recovered.truncated_upto), (Slot(5), Slot::NONE));
    assert_eq!((recovered.accepted.len(), recovered.uncertain), (0, vec![]));
    let held: Vec<_> = (1..=5).map(|slot| entry(1, slot, 1000)).collect();
    assert_eq!(log.read(GROUP, Slot(1), Slot(5), usize::MAX).expect("read"), held);
    append_each(&mut log, &[accept(1, 6, 1000, 5)]);
}

pub(super) fn whole_segments<T: Place>(place: &mut T) {
    let (mut log, _) = open(place);
    append_each(&mut log, &[promise(9, 0)]);
    let records: Vec<_> = accepts(1..=40)
        .into_iter()
        .map(|record| Record { promised: ballot(9), ..record })
        .collect();
    append_each(&mut log, &records);
    let (bytes, count) = (log.bytes(), log.segments());
    assert!(count > 4);
    assert_eq!(log.discard(GROUP, Slot(3), 0).expect("discard"), Slot::NONE, "less than a segment");
    assert_eq!(log.discard(GROUP, Slot(40), bytes).expect("discard"), Slot::NONE, "all is kept");
    assert_eq!(log.segments(), count);
    let first = log.discard(GROUP, Slot(20), 0).expect("discard");
    assert!(first > Slot(10) && first <= Slot(20), "{first}");
    assert_eq!(log.truncated_upto(GROUP), first);
    assert!(log.bytes() < bytes && log.segments() < count);
    let keep = 2 * options().segment_bytes;
    let second = log.discard(GROUP, Slot(40), keep).expect("discard");
    assert!(second > first && log.bytes() > keep);
    let third = log.discard(GROUP, Slot(40), 0).expect("discard");
    assert!(third > second && third < Slot(40), "the current one stays");
    assert_eq!(log.segments(), 1);
    assert_eq!(log.discard(GROUP, Slot(40), 0).expect("discard"), third);
    assert!(log.read(GROUP, third, Slot(40), 1).expect("read").is_empty());
    let held: Vec<_> = (third.0 + 1..=40).map(|slot| entry(1, slot, 1000)).collect();
    assert_eq!(log.read(GROUP, third.next(), Slot(40), usize::MAX).expect("read"), held);
    drop(log);
    let (mut log, recovered) = open(place);
    assert_eq!((recovered.truncated_upto, recovered.decided_upto), (third, Slot(39)));
    assert_eq!((recovered.promised, recovered.uncertain), (ballot(9), vec![]));
    assert_eq!(log.read(GROUP, third.next(), Slot(40), usize::MAX).expect("read"), held);
    // It goes on as ever, and the numbers of its files, too.
    let more: Vec<_> = accepts(41..=80)
        .into_iter()
        .map(|record| Record { promised: ballot(9), ..record })
        .collect();
    append_each(&mut log, &more);
    let fourth = log.discard(GROUP, Slot(70), 0).expect("discard");
    assert!(fourth > Slot(60));
    drop(log);
    assert_eq!(open(place).1.truncated_upto, fourth);
    assert!(!segments(place).contains(&segment_name(1)));
}

pub(super) fn missing_first<T: Place>(place: &mut T) {
    let (mut log, _) = open(place);
    append_each(&mut log, &accepts(1..=50));
    log.discard(GROUP, Slot(20), 0).expect("discard");
    append_each(&mut log, &accepts(51..=52));
    drop(log);
    let names = segments(place);
    assert!(names.len() > 3);
    // What stands first after that is still missed: it may hold promises.
    for name in &names[..2] {
        place.open().remove(name).expect("remove");
        let damage = damage(place);
        assert_eq!((damage.meaning, &damage.file), (Meaning::Amnesia, name));
    }
}

pub(super) fn removed_in_part<T: Place>(place: &mut T) {
    for gone in [vec![], vec![0], vec![1], vec![0, 1], vec![2], vec![0, 2]] {
        let disk = place.open();
        for name in disk.list().expect("list") {
            if name.starts_with("log-") {
                disk.remove(&name).expect("remove");
            }
        }
        drop(disk);
        let (mut log, _) = open(place);
        append_each(&mut log, &accepts(1..=60));
        drop(log);
        let disk = place.open();
        let before: Vec<_> =
            (1..=3).map(segment_name).map(|name| (super::read(&disk, &name), name)).collect();
        drop(disk);
        let (mut log, _) = open(place);
        log.discard(GROUP, Slot(50), 0).expect("discard");
        append_each(&mut log, &accepts(61..=61));
        let upto = log.truncated_upto(GROUP);
        drop(log);
        // As a crash may leave it: some of the files came back.
        let disk = place.open();
        for (index, (bytes, name)) in before.iter().enumerate() {
            if !gone.contains(&index) {
                super::create(&disk, name, bytes);
            }
        }
        drop(disk);
        let (_, recovered) = open(place);
        assert_eq!((recovered.truncated_upto, recovered.decided_upto), (upto, Slot(60)));
        let names = segments(place);
        assert!(before.iter().all(|(_, name)| !names.contains(name)), "{names:?}");
    }
}

pub(super) fn begins_after<T: Place>(place: &mut T) {
    let (mut log, _) = open(place);
    // Slot 5 was accepted and never decided; what is decided there is in the checkpoint.
    append_each(&mut log, &[accept(1, 1, 10, 0), accept(1, 5, 10, 1), accept(1, 12, 10, 1)]);
    log.begin_after(GROUP, Slot(10)).expect("it begins anew");
    log.begin_after(GROUP, Slot(7)).expect("that is said already");
    assert!(log.read(GROUP, Slot(5), Slot(5), 1).expect("read").is_empty());
    drop(log);
    for decided in [1, 10] {
        let (mut log, recovered) = open(place);
        assert_eq!((recovered.truncated_upto, recovered.decided_upto), (Slot(10), Slot(10)));
        assert_eq!(recovered.accepted.keys().copied().collect::<Vec<_>>(), [Slot(12)]);
        assert_eq!(recovered.uncertain, []);
        assert!(log.read(GROUP, Slot(1), Slot(10), 1).expect("read").is_empty());
        // What was under way still comes, and counts for nothing up to slot 10.
        append_each(&mut log, &[accept(1, 6, 10, decided), promise(1, decided)]);
        assert!(log.read(GROUP, Slot(6), Slot(6), 1).expect("read").is_empty());
    }
    let (mut log, _) = open(place);
    append_each(&mut log, &[accept(1, 11, 10, 10), promise(1, 12)]);
    drop(log);
    let (log, recovered) = open(place);
    assert_eq!((recovered.decided_upto, recovered.accepted.len()), (Slot(12), 0));
    assert_eq!(log.read(GROUP, Slot(11), Slot(12), usize::MAX).expect("read").len(), 2);
}

pub(super) fn begins_empty<T: Place>(place: &mut T) {
    let (mut log, _) = open(place);
    log.begin_after(GROUP, Slot(1_000_000)).expect("it begins");
    drop(log);
    let (mut log, recovered) = open(place);
    assert_eq!(recovered.truncated_upto, Slot(1_000_000));
    append_each(&mut log, &[accept(1, 1_000_001, 10, 1_000_000), promise(1, 1_000_001)]);
    drop(log);
    assert_eq!(open(place).1.decided_upto, Slot(1_000_001));
}

pub(super) fn of_groups<T: Place>(place: &mut T) {
    let of = |group, record: Record| Record { group: GroupId(group), ..record };
    let (mut log, _) = open(place);
    for slot in 1..=30 {
        append_each(
            &mut log,
            &[of(1, accept(1, slot, 900, slot - 1)), of(2, accept(2, slot * 10, 900, 0))],
        );
    }
    assert_eq!(log.discard(GroupId(1), Slot(25), 0).expect("discard"), Slot::NONE);
    let second = log.discard(GroupId(2), Slot(150), 0).expect("discard");
    let first = log.truncated_upto(GroupId(1));
    assert!(first >= Slot(10) && first <= Slot(15) && second.0 / 10 <= 15, "{first}, {second}");
    assert_eq!(log.discard(GroupId(3), Slot(9), 0).expect("discard"), Slot::NONE);
    drop(log);
    let (log, recovered) = open(place);
    assert_eq!((recovered.truncated_upto, recovered.promised), (first, ballot(1)));
    assert_eq!(log.truncated_upto(GroupId(2)), second);
    let read = log.read(GroupId(2), Slot(300), Slot(300), 1).expect("read");
    assert_eq!(read, [entry(2, 300, 900)]);
}

pub(super) fn damage_given_up<T: Place>(place: &mut T) {
    let records = [accept(1, 1, 40, 0), accept(1, 2, 40, 0), promise(1, 2)];
    append_each(&mut open(place).0, &records);
    super::flip(place, &segment_name(1), place_of(&records, 1) + 130);
    assert_eq!(damage(place).meaning, Meaning::Uncertain(Slot(2)));
    let reporting = crate::LogOptions { on_damage: crate::OnDamage::Report, ..options() };
    let opened = crate::Log::open(place.open(), reporting, mainstay_model::NoPlants);
    let (mut log, _) = opened.expect("it is reported");
    log.begin_after(GROUP, Slot(2)).expect("a checkpoint replaces it");
    append_each(&mut log, &[record(1, 2, mainstay_model::RecordKind::Promise)]);
    drop(log);
    assert_eq!(open(place).1.uncertain, []);
}
