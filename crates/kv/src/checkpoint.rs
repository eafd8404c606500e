//! The keyspace as bytes: what a checkpoint holds.
//!
//! A head of 40 bytes: `mainstkv` (8), version (4), how many keys (8), the secret that the order of the
//! keys comes from (16), CRC-32 of the 36 bytes before it (4). Then blocks, each with a head of 16 bytes: how many entries (4), length of the entries
//! (4), CRC-32 of the entries (4), CRC-32 of the 12 bytes before it (4). An entry is a key and a
//! value, each a length (4) and the bytes, and the expiry (8): milliseconds since 1970, 0 for none.
//! Entries come in the order of the keyspace. A block ends
//! with the entry that brings it to 64 KiB or above; one without entries is the last. All little
//! endian. No length is believed before the checksum over it was found right.

use std::io::{self, Read, Write};

use mainstay_model::codec::Put;
use mainstay_service::{Checkpoint, RestoreError, Secret};

use crate::VALUE_LEN_MAX;
use crate::expiry::Expiry;
use crate::fields::Fields;
use crate::keyspace::{Builder, Keyspace};
use crate::text::Text;

const MAGIC: &[u8; 8] = b"mainstkv";
const VERSION: u32 = 3;
const HEAD_LEN: usize = 40;
const BLOCK_HEAD_LEN: usize = 16;
/// A block is closed once it is at least this long.
const BLOCK_LEN: usize = 64 << 10;
/// The longest block: one more entry of the longest key and value.
const BLOCK_LEN_MAX: usize = BLOCK_LEN + 2 * (4 + VALUE_LEN_MAX) + 8;

/// A copy of the store as it was when it was taken; it shares what has not changed since.
#[derive(Debug)]
pub struct StoreCheckpoint {
    keys: Keyspace,
}

impl StoreCheckpoint {
    pub(crate) const fn new(keys: Keyspace) -> Self {
        Self { keys }
    }
}

impl Checkpoint for StoreCheckpoint {
    fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let mut head = Vec::with_capacity(HEAD_LEN);
        head.put(MAGIC);
        head.put_u32(VERSION);
        head.put_u64(self.keys.len());
        head.put_u128(self.keys.secret().0);
        head.put_u32(crc32fast::hash(&head));
        to.write_all(&head)?;
        let (mut block, mut entries) = (Vec::new(), 0);
        for (key, entry) in self.keys.iter() {
            block.put_bytes(key);
            block.put_bytes(entry.value.as_bytes());
            block.put_u64(entry.expiry.map_or(0, Expiry::ms));
            entries += 1;
            if block.len() >= BLOCK_LEN {
                write_block(entries, &block, to)?;
                block.clear();
                entries = 0;
            }
        }
        if entries > 0 {
            write_block(entries, &block, to)?;
        }
        write_block(0, &[], to)
    }
}

fn write_block(entries: u32, block: &[u8], to: &mut dyn Write) -> io::Result<()> {
    let mut head = Vec::with_capacity(BLOCK_HEAD_LEN);
    head.put_u32(entries);
    head.put_u32(u32::try_from(block.len()).expect("a block is bounded"));
    head.put_u32(crc32fast::hash(block));
    head.put_u32(crc32fast::hash(&head));
    to.write_all(&head)?;
    to.write_all(block)
}

/// Reads a keyspace back; what follows its last block is left in `source`.
pub(crate) fn read(source: &mut dyn Read) -> Result<Keyspace, RestoreError> {
    let head = read_checked::<HEAD_LEN>(source, "head")?;
    if !head.starts_with(MAGIC) {
        return invalid("it does not begin with 'mainstkv'");
    }
    let mut fields = Fields::new(&head[MAGIC.len()..]);
    let version = fields.u32().unwrap_or_default();
    if version != VERSION {
        return invalid(&format!("it is of version {version}, this program reads {VERSION}"));
    }
    let keys = fields.u64().unwrap_or_default();
    let secret = Secret(fields.u128().unwrap_or_default());
    let mut builder = Builder::new(secret);
    while read_block(source, &mut builder)? {}
    let keyspace = builder.finish();
    if keyspace.len() != keys {
        return invalid(&format!("it says {keys} keys and holds {}", keyspace.len()));
    }
    Ok(keyspace)
}

/// Reads one block; false if it was the last.
fn read_block(source: &mut dyn Read, builder: &mut Builder) -> Result<bool, RestoreError> {
    let head = read_checked::<BLOCK_HEAD_LEN>(source, "head of a block")?;
    let mut fields = Fields::new(&head);
    let mut field = || fields.u32().unwrap_or_default();
    let (entries, len, checksum) = (field(), field() as usize, field());
    if len > BLOCK_LEN_MAX {
        return invalid("a block is longer than any block can be");
    }
    // Grows with what is there, not with what the length says.
    let mut block = Vec::new();
    source.take(len as u64).read_to_end(&mut block)?;
    if block.len() < len {
        return invalid("it ends within a block");
    }
    if crc32fast::hash(&block) != checksum {
        return invalid("the checksum of a block does not fit its bytes");
    }
    let mut fields = Fields::new(&block);
    for _ in 0..entries {
        let (Ok(key), Ok(value), Ok(ms)) =
            (fields.bytes(VALUE_LEN_MAX), fields.bytes(VALUE_LEN_MAX), fields.u64())
        else {
            return invalid("an entry goes beyond its block");
        };
        let expiry = Expiry::from_ms(ms);
        if expiry.is_none() && ms != 0 {
            return invalid("a key expires later than any key can");
        }
        if !builder.push(key, Text::new(value), expiry) {
            return invalid("its keys are not in order");
        }
    }
    if !fields.is_empty() {
        return invalid("a block is longer than its entries");
    }
    Ok(entries > 0)
}

/// Reads `N` bytes, the last four of which are the checksum of the others.
fn read_checked<const N: usize>(
    source: &mut dyn Read,
    what: &str,
) -> Result<[u8; N], RestoreError> {
    let mut bytes = [0; N];
    source.read_exact(&mut bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => RestoreError::Invalid(format!("it ends within the {what}")),
        _ => RestoreError::Io(error),
    })?;
    let (rest, checksum) = bytes.split_at(N - 4);
    if crc32fast::hash(rest).to_le_bytes() != checksum {
        return invalid(&format!("the checksum of the {what} does not fit its bytes"));
    }
    Ok(bytes)
}

fn invalid<T>(how: &str) -> Result<T, RestoreError> {
    Err(RestoreError::Invalid(how.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(keys: &Keyspace) -> Vec<u8> {
        let mut bytes = Vec::new();
        StoreCheckpoint::new(keys.clone()).write(&mut bytes).expect("a vector takes every byte");
        bytes
    }

    fn filled(keys: u32, value_len: usize) -> Keyspace {
        let mut keyspace = Keyspace::default();
        for key in 0..keys {
            keyspace.set(
                &key.to_le_bytes(),
                Text::new(&vec![key as u8; value_len]),
                Expiry::from_ms(key.into()),
            );
        }
        keyspace
    }

    #[test]
    fn what_was_written_is_read_back_and_nothing_more() {
        for keyspace in [filled(0, 0), filled(1, 0), filled(5_000, 100), filled(3, 1 << 20)] {
            let mut bytes = written(&keyspace);
            bytes.extend_from_slice(b"behind");
            let mut source = &bytes[..];
            assert_eq!(read(&mut source).expect("is whole"), keyspace);
            assert_eq!(source, b"behind");
        }
    }

    /// With so many keys that every part has several leaves.
    #[test]
    fn equal_contents_write_equal_bytes_whatever_came_before() {
        const KEYS: u32 = 200_000;
        let straight = filled(KEYS, 10);
        let mut other = Keyspace::default();
        let mut held = Vec::new();
        for key in (0..KEYS + 50_000).rev() {
            other.set(&key.to_le_bytes(), Text::new(b"another value"), Expiry::from_ms(7));
            if key % 40_000 == 0 {
                held.push((other.clone(), other.len()));
            }
        }
        for key in KEYS..KEYS + 50_000 {
            other.remove(&key.to_le_bytes());
        }
        for key in (0..KEYS).filter(|key| key % 3 != 0).chain((0..KEYS).step_by(3)) {
            let value = Text::new(&[key as u8; 10]);
            other.set(&key.to_le_bytes(), value, Expiry::from_ms(key.into()));
        }
        assert!(written(&other) == written(&straight), "the order or the contents differ");
        assert_eq!(other.wake(), straight.wake());
        for (copy, len) in held {
            assert_eq!(copy.len(), len);
            let untouched =
                copy.iter().all(|(_, entry)| entry.value.as_bytes() == b"another value");
            assert!(untouched, "a copy was changed");
        }
    }

    #[test]
    fn no_byte_can_be_lost_or_changed_unnoticed() {
        let bytes = written(&filled(20, 10));
        for len in 0..bytes.len() {
            assert!(matches!(read(&mut &bytes[..len]), Err(RestoreError::Invalid(_))), "{len}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(matches!(read(&mut &changed[..]), Err(RestoreError::Invalid(_))), "{at}");
        }
    }

    #[test]
    fn a_foreign_version_is_named() {
        let mut bytes = written(&filled(0, 0));
        bytes[8] = 9;
        let checksum = crc32fast::hash(&bytes[..HEAD_LEN - 4]).to_le_bytes();
        bytes[HEAD_LEN - 4..HEAD_LEN].copy_from_slice(&checksum);
        let error = read(&mut &bytes[..]).expect_err("another version").to_string();
        assert!(error.ends_with("it is of version 9, this program reads 3"), "{error}");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            crate::decode_any::checkpoint(&bytes);
        }
    }
}
