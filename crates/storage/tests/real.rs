//! The log on a real folder.

use mainstay_model::*;
use mainstay_storage::*;

fn record(slot: u64, len: usize) -> Record {
    let value = Batch { time: Timestamp(slot), requests: vec![vec![slot as u8; len].into()] };
    let ballot = Ballot { round: 3, leader: ReplicaId::default() };
    Record {
        group: GroupId::FIRST,
        configuration: ConfigurationId(1),
        promised: ballot,
        decided_upto: Slot(slot.saturating_sub(2)),
        kind: RecordKind::Accept {
            slot: Slot(slot),
            entry: Entry { ballot, value: value.encode() },
        },
    }
}

#[test]
fn what_was_synced_comes_back_over_many_segments() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = LogOptions::new(ClusterId(7), ReplicaId::default());
    options.segment_bytes = 16 << 10;
    for round in 0..5u64 {
        let disk = RealDisk::open(folder.path()).unwrap();
        let (mut log, recovered) = Log::open(disk, options, NoPlants).unwrap();
        assert_eq!(recovered.decided_upto.0, (round * 50).saturating_sub(2));
        assert_eq!(recovered.accepted.len(), if round == 0 { 0 } else { 2 });
        for slot in round * 50 + 1..=round * 50 + 50 {
            log.append(&[record(slot, 1000)]).unwrap();
            log.sync().unwrap();
            log.prepare().unwrap();
        }
        assert!(log.has_room());
        let upto = Slot(round * 50 + 50);
        let all = log.read(GroupId::FIRST, Slot(1), upto, usize::MAX).unwrap();
        assert_eq!(all.len() as u64, upto.0);
        options.begun = true;
    }
}
