//! Names and bytes of checkpoint files, format 1. The tables stand in docs/protocols/checkpoints.md.

use std::io;

use mainstay_model::codec::Put;
use mainstay_model::{CheckpointId, ClusterId, GroupId, Slot};

use super::CheckpointError;
use crate::disk::DiskFile;

pub(super) const VERSION: u16 = 1;
/// Length of the head.
pub(super) const HEAD_LEN: usize = 512;
/// Where the first block begins.
pub(super) const BLOCKS_START: u64 = 4096;
/// Bytes of content in a block, where nothing else asks for smaller ones.
pub(super) const BLOCK_BYTES: u32 = 64 << 10;
const BLOCK_BYTES_MIN: u32 = 512;
/// Behind the content of each block: its length and its checksum.
const TRAILER_LEN: u64 = 8;

const MAGIC: [u8; 8] = *b"MNSTYCHK";
const PREFIX: &str = "checkpoint-";
const SUFFIX: &str = ".ms";
const STABLE_PREFIX: &str = "stable-";
const DISTRUST_PREFIX: &str = "distrust-";
const UNUSABLE_PREFIX: &str = "unusable-";
const INCOMING_PREFIX: &str = "incoming-";
const INCOMING_SUFFIX: &str = ".part";

/// The name of the file of a checkpoint.
pub(super) fn file_name(id: CheckpointId) -> String {
    format!("{PREFIX}{:020}-{:016x}{SUFFIX}", id.slot.0, id.digest)
}

/// The name of the file of a checkpoint that is being fetched.
pub(super) fn incoming_name(id: CheckpointId) -> String {
    format!("{INCOMING_PREFIX}{:020}-{:016x}{INCOMING_SUFFIX}", id.slot.0, id.digest)
}

/// The name of the file of the checkpoint after `slot` while it is written. Opening the folder or its
/// log deletes such files.
pub(super) fn temporary_name(slot: Slot) -> String {
    format!("{PREFIX}{:020}{}", slot.0, crate::layout::TEMPORARY)
}

/// The name of the file of a checkpoint that must never be restored again.
pub(super) fn unusable_name(id: CheckpointId) -> String {
    format!("{UNUSABLE_PREFIX}{:020}-{:016x}{SUFFIX}", id.slot.0, id.digest)
}

/// Which checkpoint a file of this name is, one that must never be restored again.
pub(super) fn unusable_id_of(name: &str) -> Option<CheckpointId> {
    let id = parse(name.strip_prefix(UNUSABLE_PREFIX)?.strip_suffix(SUFFIX)?)?;
    (unusable_name(id) == name).then_some(id)
}

/// What an empty file says of a checkpoint by its name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Note {
    /// A quorum held it.
    Stable,
    /// Every later one is to become unusable. In place of none it names slot 0.
    DistrustAfter,
}

impl Note {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Stable => STABLE_PREFIX,
            Self::DistrustAfter => DISTRUST_PREFIX,
        }
    }

    /// The name of the file which says that about a checkpoint of `group`.
    pub(super) fn name(self, group: GroupId, id: CheckpointId) -> String {
        let prefix = self.prefix();
        format!("{prefix}{:010}-{:020}-{:016x}{SUFFIX}", group.0, id.slot.0, id.digest)
    }

    /// Which checkpoint of `group` a file of this name says that about.
    pub(super) fn id_of(self, group: GroupId, name: &str) -> Option<CheckpointId> {
        let (_, id) = name.strip_prefix(self.prefix())?.strip_suffix(SUFFIX)?.split_once('-')?;
        let id = parse(id)?;
        (self.name(group, id) == name).then_some(id)
    }
}

/// Which checkpoint a file of this name is.
pub(super) fn id_of(name: &str) -> Option<CheckpointId> {
    let id = parse(name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?)?;
    (file_name(id) == name).then_some(id)
}

/// Which checkpoint a file of this name is a part of.
pub(super) fn incoming_id_of(name: &str) -> Option<CheckpointId> {
    let id = parse(name.strip_prefix(INCOMING_PREFIX)?.strip_suffix(INCOMING_SUFFIX)?)?;
    (incoming_name(id) == name).then_some(id)
}

/// Whether a file of this name is a checkpoint that was being written.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(crate::layout::TEMPORARY)
}

fn parse(name: &str) -> Option<CheckpointId> {
    let (slot, digest) = name.split_once('-')?;
    let digest = u64::from_str_radix(digest, 16).ok()?;
    Some(CheckpointId { slot: Slot(slot.parse().ok()?), digest })
}

/// What a file of a checkpoint begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) cluster: ClusterId,
    pub(super) group: GroupId,
    pub(super) service_version: u32,
    pub(super) id: CheckpointId,
    /// Bytes of the content.
    pub(super) total: u64,
    /// Bytes of content in each block but the last; a power of two.
    pub(super) block_bytes: u32,
    /// Bytes of a chunk, for one that is or was fetched; else 0.
    pub(super) chunk_bytes: u32,
}

/// Why bytes are no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Bad,
    Newer(u32),
}

impl Head {
    /// Everything up to where the blocks begin.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_LEN);
        out.put(&MAGIC);
        out.put_u16(VERSION);
        out.put_u16(0);
        out.put_u32(0); // the checksum, below
        out.put_u128(self.cluster.0);
        out.put_u32(self.group.0);
        out.put_u32(self.service_version);
        out.put_slot(self.id.slot);
        out.put_u64(self.id.digest);
        out.put_u64(self.total);
        out.put_u32(self.block_bytes);
        out.put_u32(self.chunk_bytes);
        out.resize(HEAD_LEN, 0);
        let checksum = Self::checksum(&out);
        out[12..16].copy_from_slice(&checksum.to_le_bytes());
        out.resize(BLOCKS_START as usize, 0);
        out
    }

    fn checksum(bytes: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[..12]);
        hasher.update(&bytes[16..HEAD_LEN]);
        hasher.finalize()
    }

    pub(super) fn decode(bytes: &[u8; HEAD_LEN]) -> Result<Self, Fault> {
        if bytes[..8] != MAGIC || u32_at(bytes, 12) != Self::checksum(bytes) {
            return Err(Fault::Bad);
        }
        let version = u32_at(bytes, 8);
        if version != u32::from(VERSION) {
            return Err(Fault::Newer(version & 0xffff));
        }
        let cluster = u128::from(u64_at(bytes, 24)) << 64 | u128::from(u64_at(bytes, 16));
        let head = Self {
            cluster: ClusterId(cluster),
            group: GroupId(u32_at(bytes, 32)),
            service_version: u32_at(bytes, 36),
            id: CheckpointId { slot: Slot(u64_at(bytes, 40)), digest: u64_at(bytes, 48) },
            total: u64_at(bytes, 56),
            block_bytes: u32_at(bytes, 64),
            chunk_bytes: u32_at(bytes, 68),
        };
        let blocks_fit = (BLOCK_BYTES_MIN..=BLOCK_BYTES).contains(&head.block_bytes)
            && head.block_bytes.is_power_of_two()
            && head.chunk_bytes.is_multiple_of(head.block_bytes);
        let reserved_is_zero = bytes[72..].iter().all(|&byte| byte == 0);
        if blocks_fit && reserved_is_zero && head.total < 1 << 62 {
            Ok(head)
        } else {
            Err(Fault::Newer(u32::from(VERSION) + 1))
        }
    }

    /// Reads the head of a file.
    pub(super) fn read<F: DiskFile>(file: &F) -> io::Result<Result<Self, Fault>> {
        let mut bytes = [0; HEAD_LEN];
        file.read_at(0, &mut bytes)?;
        Ok(Self::decode(&bytes))
    }

    /// Makes whatever stands in `bytes` look like a head. For harnesses that look behind the checksum.
    pub(super) fn seal(bytes: &mut [u8]) {
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&u32::from(VERSION).to_le_bytes());
        let checksum = Self::checksum(bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    }

    pub(super) fn blocks(&self) -> u64 {
        self.total.div_ceil(u64::from(self.block_bytes))
    }

    /// Where block `block` begins in the file; the one after the last is where the file ends.
    pub(super) fn place(&self, block: u64) -> u64 {
        BLOCKS_START
            + (block * u64::from(self.block_bytes)).min(self.total)
            + block.min(self.blocks()) * TRAILER_LEN
    }

    /// Bytes of the whole file.
    pub(super) fn file_len(&self) -> u64 {
        self.place(self.blocks())
    }

    fn block_len(&self, block: u64) -> usize {
        let before = block * u64::from(self.block_bytes);
        (self.total - before).min(u64::from(self.block_bytes)) as usize
    }

    fn trailer(&self, block: u64, content: &[u8]) -> [u8; TRAILER_LEN as usize] {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.cluster.0.to_le_bytes());
        hasher.update(&self.group.0.to_le_bytes());
        hasher.update(&self.id.slot.0.to_le_bytes());
        hasher.update(&block.to_le_bytes());
        hasher.update(content);
        let (len, checksum) = (content.len() as u64, u64::from(hasher.finalize()));
        (len | checksum << 32).to_le_bytes()
    }

    /// Appends the blocks from `first` on that hold `content`, as they stand in the file.
    pub(super) fn put_blocks(&self, first: u64, content: &[u8], out: &mut Vec<u8>) {
        for (block, content) in (first..).zip(content.chunks(self.block_bytes as usize)) {
            out.extend_from_slice(content);
            out.extend_from_slice(&self.trailer(block, content));
        }
    }

    /// Reads and checks blocks; appends their content to `out`.
    pub(super) fn read_blocks<F: DiskFile>(
        &self,
        file: &F,
        name: &str,
        blocks: std::ops::Range<u64>,
        out: &mut Vec<u8>,
    ) -> Result<(), CheckpointError> {
        let start = self.place(blocks.start);
        let mut bytes = vec![0; (self.place(blocks.end) - start) as usize];
        let read = file.read_at(start, &mut bytes);
        let file = || name.to_owned();
        read.map_err(|source| CheckpointError::Io { file: file(), tried: "read", source })?;
        for block in blocks {
            let place = self.place(block);
            let framed = &bytes[(place - start) as usize..];
            let (content, rest) = framed.split_at(self.block_len(block));
            if rest[..TRAILER_LEN as usize] != self.trailer(block, content) {
                let found = "the checksum of a block does not fit its bytes";
                return Err(CheckpointError::Damaged { file: file(), offset: place, found });
            }
            out.extend_from_slice(content);
        }
        Ok(())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut array = [0; 4];
    array.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(array)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

/// The largest size of a block that divides chunks of `chunk_bytes`, which is a multiple of the
/// smallest.
pub(super) fn block_bytes_for(chunk_bytes: u32) -> u32 {
    (1 << chunk_bytes.trailing_zeros()).min(BLOCK_BYTES)
}
