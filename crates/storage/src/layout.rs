//! The bytes of segments and records, format 1. The tables stand in docs/protocols/log.md; the
//! golden files in tests/golden hold the very bytes.

use mainstay_model::codec::Put;
use mainstay_model::quorum::REPLICAS_MAX;
use mainstay_model::{
    Ballot, ClusterId, ConfigurationId, Epoch, GroupId, Record, RecordKind, ReplicaId, Slot,
};

/// The version of the log's format that this code writes, and the highest it reads.
pub(crate) const LOG_VERSION: u16 = 1;
/// Length of a segment's head: one sector.
pub(crate) const SEGMENT_HEAD_LEN: usize = 512;
/// Where the two copies of the head stand: a sector that goes bad leaves one of them.
pub(crate) const SEGMENT_HEADS: [u64; 2] = [0, 4096];
/// Where the records of a segment begin. Of the two blocks before, all that is not head is the place
/// of the second identifiers of records (Alagappan et al., "Protocol-Aware Recovery", FAST 2018,
/// section 3.3); format 1 leaves it zero and does not read it.
pub(crate) const RECORDS_START: u64 = 8192;
/// Length of a record's head.
pub(crate) const RECORD_HEAD_LEN: usize = 128;
/// Records begin at multiples of this.
pub(crate) const ALIGNMENT: u64 = 8;
/// Length of the value of a state record, where it has one: the number of the first segment that is
/// still part of the log. Without one that is the first of all.
pub(crate) const STATE_VALUE_LEN: usize = 8;
/// The most bytes of a value, so that a record's length fits its field.
pub(crate) const VALUE_LEN_MAX: usize = (1 << 31) - 1;

/// No slot is higher: the one after it can always be named.
const SLOT_MAX: Slot = Slot(u64::MAX >> 1);

const SEGMENT_MAGIC: [u8; 8] = *b"MNSTYLOG";
/// The first four bytes of every record.
pub(crate) const RECORD_MAGIC: [u8; 4] = *b"MREC";

const FLAG_PREDECESSOR_CLOSED: u32 = 1;

const PREFIX: &str = "log-";
/// Names that end so are left over from something that did not finish.
pub(crate) const TEMPORARY: &str = ".tmp";

/// The name of a segment's file.
pub(crate) fn segment_name(number: u32) -> String {
    format!("{PREFIX}{number:010}")
}

/// The number of the segment that a file of this name is.
pub(crate) fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix(PREFIX)?;
    let number = digits.parse().ok()?;
    (segment_name(number) == name && number > 0).then_some(number)
}

/// Bytes that a record with such a value takes.
pub(crate) const fn record_len(value_len: u64) -> u64 {
    (RECORD_HEAD_LEN as u64 + value_len).next_multiple_of(ALIGNMENT)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

fn replica_at(bytes: &[u8], at: usize) -> Option<ReplicaId> {
    let index = u32_at(bytes, at);
    let epoch = Epoch { counter: u32_at(bytes, at + 4), instance: u32_at(bytes, at + 8) };
    ((index as usize) < REPLICAS_MAX).then_some(ReplicaId { index: index as u16, epoch })
}

fn ballot_at(bytes: &[u8], at: usize) -> Option<Ballot> {
    Some(Ballot { round: u64_at(bytes, at), leader: replica_at(bytes, at + 8)? })
}

/// Why bytes are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadFault {
    /// Zeros: never written.
    Blank,
    /// Something else than a head, or a damaged one.
    Bad,
    /// Intact, but of a version, kind or flag not known here.
    Newer(u32),
}

/// Whom a log belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) cluster: ClusterId,
    pub(crate) replica: ReplicaId,
}

/// What every segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) owner: Owner,
    /// The segment's number, from 1.
    pub(crate) number: u32,
    /// The predecessor was synced with success after its last record: it is closed.
    pub(crate) predecessor_closed: bool,
    /// The log sequence of the segment's first record.
    pub(crate) first_sequence: u64,
    /// Records up to this sequence were durable when this head was written.
    pub(crate) synced_upto: u64,
    /// The checksum of the last record before this segment.
    pub(crate) previous: u32,
}

impl SegmentHead {
    /// Everything up to where the records begin: two copies of the head.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; RECORDS_START as usize];
        let copy = self.encode_copy();
        for start in SEGMENT_HEADS {
            out[start as usize..][..SEGMENT_HEAD_LEN].copy_from_slice(&copy);
        }
        out
    }

    fn encode_copy(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEAD_LEN);
        out.put(&SEGMENT_MAGIC);
        out.put_u16(LOG_VERSION);
        out.put_u16(0);
        out.put_u32(0); // the checksum, below
        out.put_u128(self.owner.cluster.0);
        out.put_replica(self.owner.replica);
        out.put_u32(if self.predecessor_closed { FLAG_PREDECESSOR_CLOSED } else { 0 });
        out.put_u64(u64::from(self.number));
        out.put_u64(self.first_sequence);
        out.put_u64(self.synced_upto);
        out.put_u32(self.previous);
        out.resize(SEGMENT_HEAD_LEN, 0);
        let checksum = Self::checksum(&out);
        out[12..16].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    fn checksum(bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..12]);
        hasher.update(&bytes[16..SEGMENT_HEAD_LEN]);
        hasher.finalize()
    }

    /// Reads one copy; bytes that the file does not have count as zeros.
    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEAD_LEN]) -> Result<Self, HeadFault> {
        if bytes.iter().all(|&byte| byte == 0) {
            return Err(HeadFault::Blank);
        }
        if bytes[..8] != SEGMENT_MAGIC || u32_at(bytes, 12) != Self::checksum(bytes) {
            return Err(HeadFault::Bad);
        }
        let version = u16_at(bytes, 8);
        if version != LOG_VERSION {
            return Err(HeadFault::Newer(u32::from(version)));
        }
        let flags = u32_at(bytes, 44);
        if flags & !FLAG_PREDECESSOR_CLOSED != 0 {
            return Err(HeadFault::Newer(flags));
        }
        let cluster = ClusterId(u128::from_le_bytes(array(bytes, 16)));
        let replica = replica_at(bytes, 32).ok_or(HeadFault::Bad)?;
        Ok(Self {
            owner: Owner { cluster, replica },
            number: u32::try_from(u64_at(bytes, 48)).map_err(|_| HeadFault::Bad)?,
            predecessor_closed: flags & FLAG_PREDECESSOR_CLOSED != 0,
            first_sequence: u64_at(bytes, 56),
            synced_upto: u64_at(bytes, 64),
            previous: u32_at(bytes, 72),
        })
    }
}

/// The kinds of record on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What a group had promised, and what it had given up: stands first in every segment, and
    /// wherever slots are given up.
    State,
    /// [`RecordKind::Promise`].
    Promise,
    /// [`RecordKind::Accept`].
    Accept,
    /// [`RecordKind::Learn`].
    Learn,
}

impl Kind {
    const fn code(self) -> u16 {
        match self {
            Self::State => 1,
            Self::Promise => 2,
            Self::Accept => 3,
            Self::Learn => 4,
        }
    }

    const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::State),
            2 => Some(Self::Promise),
            3 => Some(Self::Accept),
            4 => Some(Self::Learn),
            _ => None,
        }
    }
}

/// The checksum of a segment's records starts from this: whose log, which segment. Together with
/// the place in the file it ties every record to where it was written, so that neither a record
/// of another segment nor the bytes of a client that look like one are ever taken for one.
#[derive(Clone, Debug)]
pub(crate) struct Salt(crc32fast::Hasher);

impl Salt {
    pub(crate) fn new(owner: Owner, segment: u32) -> Self {
        let mut bytes = Vec::with_capacity(40);
        bytes.put_u128(owner.cluster.0);
        bytes.put_replica(owner.replica);
        bytes.put_u64(u64::from(segment));
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes);
        Self(hasher)
    }

    fn checksum(&self, offset: u64, head: &[u8]) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(&offset.to_le_bytes());
        hasher.update(&head[..8]);
        hasher.update(&head[12..RECORD_HEAD_LEN]);
        hasher.finalize()
    }
}

/// The fixed part of a record; its value follows, and zeros up to the next multiple of
/// [`ALIGNMENT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) kind: Kind,
    /// The checksum of the record before it.
    pub(crate) previous: u32,
    pub(crate) value_len: u32,
    pub(crate) value_checksum: u32,
    pub(crate) group: GroupId,
    /// Its position in the log, from 1.
    pub(crate) sequence: u64,
    /// Records up to this sequence were durable when this one was written.
    pub(crate) synced_upto: u64,
    /// The slot; for a state, the highest slot discarded; for a promise none.
    pub(crate) slot: Slot,
    pub(crate) decided_upto: Slot,
    pub(crate) configuration: ConfigurationId,
    /// The ballot of the entry; for a state, the highest ballot of the replica's own.
    pub(crate) ballot: Ballot,
    pub(crate) promised: Ballot,
}

impl RecordHead {
    /// The head of `record` at the given position.
    pub(crate) fn of(record: &Record, previous: u32, sequence: u64, synced_upto: u64) -> Self {
        let (kind, slot, entry) = match &record.kind {
            RecordKind::Promise => (Kind::Promise, Slot::NONE, None),
            RecordKind::Accept { slot, entry } => (Kind::Accept, *slot, Some(entry)),
            RecordKind::Learn { slot, entry } => (Kind::Learn, *slot, Some(entry)),
        };
        Self {
            kind,
            previous,
            value_len: entry.map_or(0, |entry| entry.value.len() as u32),
            value_checksum: entry.map_or(0, |entry| entry.value.checksum()),
            group: record.group,
            sequence,
            synced_upto,
            slot,
            decided_upto: record.decided_upto,
            configuration: record.configuration,
            ballot: entry.map_or(Ballot::ZERO, |entry| entry.ballot),
            promised: record.promised,
        }
    }

    /// Bytes of the whole record.
    pub(crate) const fn len(&self) -> u64 {
        record_len(self.value_len as u64)
    }

    /// Appends the head, for a record at `offset` of its segment; returns its checksum.
    pub(crate) fn encode(&self, salt: &Salt, offset: u64, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        out.put(&RECORD_MAGIC);
        out.put_u16(LOG_VERSION);
        out.put_u16(self.kind.code());
        out.put_u32(0); // the checksum, below
        out.put_u32(self.previous);
        out.put_u32(self.len() as u32);
        out.put_u32(self.value_len);
        out.put_u32(self.value_checksum);
        out.put_u32(self.group.0);
        out.put_u64(self.sequence);
        out.put_u64(self.synced_upto);
        out.put_slot(self.slot);
        out.put_slot(self.decided_upto);
        out.put_u64(self.configuration.0);
        out.put_ballot(self.ballot);
        out.put_ballot(self.promised);
        out.resize(start + RECORD_HEAD_LEN, 0);
        let checksum = salt.checksum(offset, &out[start..]);
        out[start + 8..start + 12].copy_from_slice(&checksum.to_le_bytes());
        checksum
    }

    /// Reads the head of a record at `offset` of its segment; with it, its checksum.
    pub(crate) fn decode(
        bytes: &[u8; RECORD_HEAD_LEN],
        salt: &Salt,
        offset: u64,
    ) -> Result<(Self, u32), HeadFault> {
        if bytes[..4] != RECORD_MAGIC {
            let blank = bytes.iter().all(|&byte| byte == 0);
            return Err(if blank { HeadFault::Blank } else { HeadFault::Bad });
        }
        let checksum = u32_at(bytes, 8);
        if checksum != salt.checksum(offset, bytes) {
            return Err(HeadFault::Bad);
        }
        let (version, code) = (u16_at(bytes, 4), u16_at(bytes, 6));
        if version != LOG_VERSION {
            return Err(HeadFault::Newer(u32::from(version)));
        }
        let head = Self {
            kind: Kind::from_code(code).ok_or(HeadFault::Newer(u32::from(code)))?,
            previous: u32_at(bytes, 12),
            value_len: u32_at(bytes, 20),
            value_checksum: u32_at(bytes, 24),
            group: GroupId(u32_at(bytes, 28)),
            sequence: u64_at(bytes, 32),
            synced_upto: u64_at(bytes, 40),
            slot: Slot(u64_at(bytes, 48)),
            decided_upto: Slot(u64_at(bytes, 56)),
            configuration: ConfigurationId(u64_at(bytes, 64)),
            ballot: ballot_at(bytes, 72).ok_or(HeadFault::Bad)?,
            promised: ballot_at(bytes, 92).ok_or(HeadFault::Bad)?,
        };
        let flags_and_reserved = &bytes[112..];
        if flags_and_reserved.iter().any(|&byte| byte != 0) {
            return Err(HeadFault::Newer(u32_at(bytes, 112)));
        }
        let value_len = head.value_len as usize;
        let fits = value_len <= VALUE_LEN_MAX
            && (head.kind != Kind::State || [0, STATE_VALUE_LEN].contains(&value_len))
            && u64::from(u32_at(bytes, 16)) == head.len()
            && head.slot <= SLOT_MAX
            && head.decided_upto <= SLOT_MAX
            && head.sequence > 0
            && head.synced_upto < head.sequence;
        if fits { Ok((head, checksum)) } else { Err(HeadFault::Bad) }
    }

    /// Makes whatever stands in `head` look like a head written at `offset`; returns the length of the
    /// record and its checksum. For harnesses that look behind the checksums.
    pub(crate) fn seal(
        head: &mut [u8],
        salt: &Salt,
        offset: u64,
        sequence: u64,
        previous: u32,
    ) -> (u64, u32) {
        let value_len = u32_at(head, 20) % (1 << 16);
        let len = record_len(u64::from(value_len));
        head[..4].copy_from_slice(&RECORD_MAGIC);
        head[4..6].copy_from_slice(&LOG_VERSION.to_le_bytes());
        head[12..16].copy_from_slice(&previous.to_le_bytes());
        head[16..20].copy_from_slice(&(len as u32).to_le_bytes());
        head[20..24].copy_from_slice(&value_len.to_le_bytes());
        head[32..40].copy_from_slice(&sequence.to_le_bytes());
        let checksum = salt.checksum(offset, head);
        head[8..12].copy_from_slice(&checksum.to_le_bytes());
        (len, checksum)
    }
}
