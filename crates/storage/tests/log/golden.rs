//! The very bytes of format 1. Whoever changes one of these files changes the format: logs that
//! exist could no longer be read. `UPDATE=1 cargo test -p mainstay-storage golden` writes them anew.

use std::fmt::Write;
use std::io::Write as _;
use std::path::PathBuf;

use mainstay_model::{
    Ballot, Batch, CheckpointId, ClusterId, Configuration, ConfigurationId, Entry, Epoch, GroupId,
    NoPlants, Record, RecordKind, ReplicaId, Slot, Timestamp,
};
use mainstay_storage::{
    CheckpointOptions, Checkpoints, Disk, DiskFile, Durability, Identity, Log, LogOptions,
    MemoryDisk, Style,
};

const CLUSTER: ClusterId = ClusterId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);

const fn replica(index: u16) -> ReplicaId {
    ReplicaId { index, epoch: Epoch { counter: 1, instance: 0xe0e1_e2e3 + index as u32 } }
}

/// Sixteen bytes a line, in hexadecimal; lines of zeros are left out, and of lines that repeat the
/// one before only the first is given.
fn dump(disk: &MemoryDisk, name: &str) -> String {
    let file = disk.open(name).expect("the file is there");
    let mut bytes = vec![0; file.len().expect("length") as usize];
    file.read_at(0, &mut bytes).expect("read");
    let mut text = format!("{name}: {} bytes\n", bytes.len());
    let mut last: &[u8] = &[];
    for (number, row) in bytes.chunks(16).enumerate() {
        if row != last && row.iter().any(|&byte| byte != 0) {
            let hex: Vec<_> = row.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "{:06x}: {}", number * 16, hex.join(" ")).expect("text grows");
        }
        last = row;
    }
    text
}

fn compare(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, found).expect("the golden file is written");
    }
    let expected = std::fs::read_to_string(&path).expect("the golden file is there");
    assert!(expected == found, "the format changed; {name} would be:\n{found}");
}

fn record(round: u64, decided_upto: u64, kind: RecordKind) -> Record {
    Record {
        group: GroupId::FIRST,
        configuration: ConfigurationId(1),
        promised: Ballot { round, leader: replica(2) },
        decided_upto: Slot(decided_upto),
        kind,
    }
}

fn entry(round: u64, requests: &[&[u8]]) -> Entry {
    let requests = requests.iter().map(|&request| request.to_vec().into()).collect();
    let value = Batch { time: Timestamp(0x0102_0304_0506_0708), requests }.encode();
    Entry { ballot: Ballot { round, leader: replica(2) }, value }
}

#[test]
fn the_bytes_of_two_segments() {
    let disk = MemoryDisk::default();
    let options = LogOptions {
        segment_bytes: LogOptions::SEGMENT_BYTES_MIN,
        ..LogOptions::new(CLUSTER, replica(1))
    };
    let (mut log, _) = Log::open(disk.clone(), options, NoPlants).expect("open");
    let own = Ballot { round: 4, leader: replica(1) };
    let promise = Record { promised: own, ..record(4, 0, RecordKind::Promise) };
    log.append(&[promise]).expect("append");
    log.sync().expect("sync");
    let accepted = RecordKind::Accept { slot: Slot(1), entry: entry(5, &[b"SET a 1", b"GET"]) };
    let learned = RecordKind::Learn { slot: Slot(2), entry: entry(3, &[]) };
    log.append(&[record(5, 0, accepted), record(5, 1, learned)]).expect("append");
    log.sync().expect("sync");
    let large = RecordKind::Accept { slot: Slot(3), entry: entry(5, &[&[0x55; 8000]]) };
    log.append(&[record(6, 2, large)]).expect("append");
    log.sync().expect("sync");
    assert_eq!(log.segments(), 2);
    compare("segment-1.txt", &dump(&disk, "log-0000000001"));
    compare("segment-2.txt", &dump(&disk, "log-0000000002"));
    // What is given up: a state record that says so, and with which segment the log begins.
    let upto = log.discard(GroupId::FIRST, Slot(2), 0).expect("discard");
    assert_eq!(upto, Slot(2));
    log.begin_after(GroupId::FIRST, Slot(7)).expect("it begins after a checkpoint");
    compare("segment-3.txt", &dump(&disk, "log-0000000003"));
}

#[test]
fn the_bytes_of_checkpoints() {
    let disk = MemoryDisk::default();
    let options = CheckpointOptions::new(CLUSTER, GroupId::FIRST, 9);
    let (checkpoints, _) = Checkpoints::open(disk.clone(), options).expect("open");
    let mut writer = checkpoints.writer(Slot(0x0102), checkpoints.life()).expect("a writer");
    writer.write_all(&vec![0x55; (64 << 10) + 3]).expect("it is written");
    let id = writer.finish(0x0a0b_0c0d_0e0f_0001).expect("it is finished");
    compare("checkpoint.txt", &dump(&disk, "checkpoint-00000000000000000258-0a0b0c0d0e0f0001.ms"));
    let id = CheckpointId { slot: id.slot.next(), ..id };
    let mut incoming = checkpoints.incoming(id, 2500, 1536).expect("a transfer begins");
    incoming.append_chunk(1, &[0x66; 964]).expect("a chunk");
    compare("incoming.txt", &dump(&disk, "incoming-00000000000000000259-0a0b0c0d0e0f0001.part"));
}

#[test]
fn the_bytes_of_an_identity() {
    let identity = Identity {
        cluster: CLUSTER,
        me: replica(1),
        amnesiac: true,
        log_begun: true,
        group: GroupId::FIRST,
        style: Style::Consensus,
        durability: Durability::Sync,
        configuration: Configuration {
            id: ConfigurationId(1),
            replicas: (0..3).map(replica).collect(),
            alpha: 1024,
        },
        service_version: 9,
        boot: 0xb007,
        stopped_clean: true,
    };
    let disk = MemoryDisk::default();
    identity.create(&disk).expect("create");
    compare("identity.txt", &dump(&disk, Identity::FILE));
    assert_eq!(Identity::load(&disk).expect("load"), identity);
}
