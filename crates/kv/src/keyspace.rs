//! The keys and their values, in an order that is a function of the keys alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::text::Text;

/// How many parts there are. A part is what is copied at once when something in it changes while a
/// copy of the keyspace is held: of ten million keys, some 2,500.
const SHARDS: usize = 4096;

type Shard = BTreeMap<Place, Text>;

/// Where a key stands: by hash, then by key. The hash spreads keys over the shards and makes most
/// comparisons one of numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    hash: u64,
    key: Box<[u8]>,
}

/// Keys and values. A clone is one reference count a shard, whatever the number of keys; a change
/// afterwards copies the shard it falls into, without the bytes of long values.
#[derive(Clone, Debug)]
pub(crate) struct Keyspace {
    shards: Box<[Arc<Shard>]>,
    len: u64,
}

impl Default for Keyspace {
    fn default() -> Self {
        let empty = Arc::new(Shard::new());
        Self { shards: vec![empty; SHARDS].into(), len: 0 }
    }
}

impl PartialEq for Keyspace {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

/// The place in front of every key with the hash of `key`, made without an allocation.
fn front_of(key: &[u8]) -> Place {
    Place { hash: xxh3_64(key), key: Box::default() }
}

fn shard_index(hash: u64) -> usize {
    (hash >> (64 - SHARDS.trailing_zeros())) as usize
}

impl Keyspace {
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Text> {
        let front = front_of(key);
        let hash = front.hash;
        self.shards[shard_index(hash)]
            .range(front..)
            .take_while(|(place, _)| place.hash == hash)
            .find_map(|(place, value)| (*place.key == *key).then_some(value))
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Text> {
        self.get(key)?;
        let front = front_of(key);
        let hash = front.hash;
        Arc::make_mut(&mut self.shards[shard_index(hash)])
            .range_mut(front..)
            .take_while(|(place, _)| place.hash == hash)
            .find_map(|(place, value)| (*place.key == *key).then_some(value))
    }

    pub(crate) fn set(&mut self, key: &[u8], value: Text) {
        if let Some(old) = self.get_mut(key) {
            *old = value;
            return;
        }
        let place = Place { hash: xxh3_64(key), key: key.into() };
        Arc::make_mut(&mut self.shards[shard_index(place.hash)]).insert(place, value);
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        let place = Place { hash: xxh3_64(key), key: key.into() };
        Arc::make_mut(&mut self.shards[shard_index(place.hash)]).remove(&place);
        self.len -= 1;
        true
    }

    /// Every key and value, ordered by the hash of the key, then by the key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Text)> {
        let entries = self.shards.iter().flat_map(|shard| shard.iter());
        entries.map(|(place, value)| (&*place.key, value))
    }
}

/// Fills a keyspace with keys that come in its own order.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    keyspace: Keyspace,
    last: Option<Place>,
}

impl Builder {
    /// Adds a key; false, and nothing is added, if it does not stand behind the one before.
    pub(crate) fn push(&mut self, key: &[u8], value: Text) -> bool {
        let place = Place { hash: xxh3_64(key), key: key.into() };
        if self.last.as_ref().is_some_and(|last| *last >= place) {
            return false;
        }
        self.last = Some(place);
        self.keyspace.set(key, value);
        true
    }

    pub(crate) fn finish(self) -> Keyspace {
        self.keyspace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(keys: impl Iterator<Item = u32>) -> Keyspace {
        let mut keyspace = Keyspace::default();
        for key in keys {
            keyspace.set(&key.to_le_bytes(), Text::new(&key.to_be_bytes()));
        }
        keyspace
    }

    #[test]
    fn the_order_is_a_function_of_the_keys() {
        let mut up = filled(0..10_000);
        let down = filled((0..10_000).rev());
        assert_eq!(up.len(), 10_000);
        assert!(up.iter().eq(down.iter()));
        assert!(up.remove(&7u32.to_le_bytes()) && !up.remove(&7u32.to_le_bytes()));
        assert_ne!(up, down);
        up.set(&7u32.to_le_bytes(), Text::new(&7u32.to_be_bytes()));
        assert_eq!(up, down);
    }

    #[test]
    fn a_copy_stays_as_it_was() {
        let mut keyspace = filled(0..1_000);
        let copy = keyspace.clone();
        for key in 0..1_000u32 {
            keyspace.get_mut(&key.to_le_bytes()).expect("is there").append(b"x");
        }
        assert_eq!(copy, filled(0..1_000));
        assert_eq!(
            keyspace.get(&1u32.to_le_bytes()).map(Text::as_bytes),
            Some(&b"\0\0\0\x01x"[..])
        );
        assert!(keyspace.get(b"absent").is_none() && keyspace.get_mut(b"absent").is_none());
    }

    #[test]
    fn a_builder_takes_keys_in_order_only() {
        let keyspace = filled(0..100);
        let mut builder = Builder::default();
        for (key, value) in keyspace.iter() {
            assert!(builder.push(key, value.clone()));
            assert!(!builder.push(key, value.clone()), "the same key again");
        }
        assert_eq!(builder.finish(), keyspace);
    }
}
