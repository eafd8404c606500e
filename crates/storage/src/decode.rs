//! One harness over every decoder of this crate, for property tests and fuzzers.

use mainstay_model::{ClusterId, GroupId, NoPlants, ReplicaId, Slot};

use crate::checkpoints;
use crate::identity::Identity;
use crate::layout::{
    ALIGNMENT, Owner, RECORD_HEAD_LEN, RECORDS_START, RecordHead, Salt, SegmentHead, segment_name,
};
use crate::log::Log;
use crate::memory::MemoryDisk;
use crate::options::{LogOptions, OnDamage};

/// Lets every decoder of the crate loose on `bytes`: none may panic, hang or reserve memory that the
/// bytes do not hold. They are read as an identity, as a checkpoint whole and in part, as a whole
/// segment, as the records of a segment, and as a head and records whose checksums were made right, so
/// that what lies behind the checksums is reached as well. What still opens is read back, appended to
/// and opened again.
pub fn decode_any(bytes: &[u8]) {
    let _ = Identity::decode(bytes);
    checkpoints::decode_any(bytes);
    let owner = Owner { cluster: ClusterId(0), replica: ReplicaId::default() };
    let head = SegmentHead {
        owner,
        number: 1,
        predecessor_closed: true,
        first_sequence: 1,
        synced_upto: 0,
        previous: 0,
    };
    let records = [&head.encode(), bytes].concat();
    let sealed = [&head.encode()[..], &sealed(bytes, owner)[..]].concat();
    for segment in [bytes.to_vec(), records, sealed] {
        open(owner, segment);
    }
}

/// Opens a log whose only segment is `segment`.
fn open(owner: Owner, segment: Vec<u8>) {
    let disk = MemoryDisk::with_files([(segment_name(1), segment)]);
    let options = LogOptions {
        segment_bytes: LogOptions::SEGMENT_BYTES_MIN,
        on_damage: OnDamage::Report,
        ..LogOptions::new(owner.cluster, owner.replica)
    };
    let Ok((mut log, recovered)) = Log::open(disk.clone(), options, NoPlants) else {
        return;
    };
    let _ = log.read(GroupId::FIRST, Slot::FIRST, recovered.decided_upto, 1 << 20);
    let _ = log.prepare();
    drop(log);
    let again = Log::open(disk, options, NoPlants);
    assert!(again.is_ok_and(|(_, again)| again == recovered), "a log opens twice alike");
}

/// `bytes` as records: each head where the one before it ends, with magic, length, sequence, chain and
/// checksum made right; the checksum of the value, too, where it is even.
fn sealed(bytes: &[u8], owner: Owner) -> Vec<u8> {
    let salt = Salt::new(owner, 1);
    let mut bytes = bytes.to_vec();
    let (mut at, mut sequence, mut previous) = (0, 1, 0);
    while at + RECORD_HEAD_LEN <= bytes.len() {
        let (head, rest) = bytes[at..].split_at_mut(RECORD_HEAD_LEN);
        let value_len = usize::from(u16::from_le_bytes([head[20], head[21]]));
        if let (0, Some(value)) = (head[24] % 2, rest.get(..value_len)) {
            head[24..28].copy_from_slice(&crc32fast::hash(value).to_le_bytes());
        }
        let offset = RECORDS_START + at as u64;
        let (len, checksum) = RecordHead::seal(head, &salt, offset, sequence, previous);
        at += (len as usize).next_multiple_of(ALIGNMENT as usize);
        (sequence, previous) = (sequence + 1, checksum);
    }
    bytes
}
