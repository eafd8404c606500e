//! The keys and their values, in an order that is a function of the keys alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use mainstay_model::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use crate::expiry::Expiry;
use crate::shard::{Entry, Place, Shard};
use crate::text::Text;

/// How many parts there are. While a copy of the keyspace is held, the first change of a part copies
/// what says where its leaves are, and the first change of a leaf its few entries: of ten million
/// keys, one reference count for each of some 200 leaves, and some 12 entries.
const SHARDS: usize = 4096;

/// Keys and values. A clone is one reference count a shard, whatever the number of keys, and one item
/// for a shard with keys that expire; a change afterwards copies the leaf it falls into, without the
/// bytes of long values.
#[derive(Clone, Debug)]
pub(crate) struct Keyspace {
    shards: Box<[Arc<Shard>]>,
    len: u64,
    /// Invariant: (earliest expiry, index) of every shard that has one.
    next: BTreeSet<(Expiry, usize)>,
}

impl Default for Keyspace {
    fn default() -> Self {
        let empty = Arc::new(Shard::default());
        Self { shards: vec![empty; SHARDS].into(), len: 0, next: BTreeSet::new() }
    }
}

impl PartialEq for Keyspace {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

fn shard_index(hash: u64) -> usize {
    (hash >> (64 - SHARDS.trailing_zeros())) as usize
}

impl Keyspace {
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn entry(&self, key: &[u8]) -> Option<&Entry> {
        let hash = xxh3_64(key);
        self.shards[shard_index(hash)].get(hash, key)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Text> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The value of a key, to be changed under the expiry it has.
    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Text> {
        self.get(key)?;
        let hash = xxh3_64(key);
        Arc::make_mut(&mut self.shards[shard_index(hash)]).value_mut(hash, key)
    }

    pub(crate) fn set(&mut self, key: &[u8], value: Text, expiry: Option<Expiry>) {
        let hash = xxh3_64(key);
        self.change(shard_index(hash), |shard| shard.set(hash, key, value, expiry));
    }

    /// Nothing for an absent key.
    pub(crate) fn set_expiry(&mut self, key: &[u8], expiry: Option<Expiry>) {
        if self.entry(key).is_some_and(|entry| entry.expiry != expiry) {
            let hash = xxh3_64(key);
            self.change(shard_index(hash), |shard| shard.set_expiry(hash, key, expiry));
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        let hash = xxh3_64(key);
        self.change(shard_index(hash), |shard| shard.remove(hash, key));
        true
    }

    /// Removes every key whose expiry is past in the millisecond `now`: all of them at once, so that
    /// whatever asks afterwards sees none. Each costs O(log n), and was set by a command of its own
    /// that cost as much, so over time this is a constant share of the work; a shard that nothing in
    /// is due costs nothing.
    pub(crate) fn remove_past(&mut self, now: i64) {
        while let Some(&(_, index)) = self.next.first().filter(|next| next.0.is_past(now)) {
            self.change(index, |shard| shard.remove_past(now));
        }
    }

    /// The first moment at which [`Keyspace::remove_past`] has something to do.
    pub(crate) fn wake(&self) -> Option<Timestamp> {
        self.next.first()?.0.gone_at()
    }

    /// Changes one shard and keeps what is known about all of them.
    fn change(&mut self, index: usize, change: impl FnOnce(&mut Shard)) {
        let shard = Arc::make_mut(&mut self.shards[index]);
        let (len, earliest) = (shard.len(), shard.earliest());
        change(shard);
        self.len = self.len + shard.len() as u64 - len as u64;
        if earliest != shard.earliest() {
            if let Some(earliest) = earliest {
                self.next.remove(&(earliest, index));
            }
            self.next.extend(shard.earliest().map(|earliest| (earliest, index)));
        }
    }

    /// Its parts in their order, one by one: what was taken and let go of is no longer shared.
    pub(crate) fn into_parts(self) -> impl Iterator<Item = Arc<Shard>> {
        self.shards.into_vec().into_iter()
    }

    /// Every key with what it holds, ordered by the hash of the key, then by the key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        let entries = self.shards.iter().flat_map(|shard| shard.iter());
        entries.map(|(place, entry)| (place.key.as_bytes(), entry))
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
    pub(crate) fn push(&mut self, key: &[u8], value: Text, expiry: Option<Expiry>) -> bool {
        let place = Place { hash: xxh3_64(key), key: Text::new(key) };
        if self.last.as_ref().is_some_and(|last| *last >= place) {
            return false;
        }
        self.last = Some(place);
        self.keyspace.set(key, value, expiry);
        true
    }

    pub(crate) fn finish(self) -> Keyspace {
        self.keyspace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every third key has one.
    fn expiry(key: u32) -> Option<Expiry> {
        key.is_multiple_of(3).then(|| Expiry::from_ms(u64::from(key / 2) + 1)).flatten()
    }

    fn filled(keys: impl Iterator<Item = u32>) -> Keyspace {
        let mut keyspace = Keyspace::default();
        for key in keys {
            keyspace.set(&key.to_le_bytes(), Text::new(&key.to_be_bytes()), expiry(key));
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
        up.set(&7u32.to_le_bytes(), Text::new(&7u32.to_be_bytes()), expiry(7));
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
        for (key, entry) in keyspace.iter() {
            assert!(builder.push(key, entry.value.clone(), entry.expiry));
            assert!(!builder.push(key, entry.value.clone(), entry.expiry), "the same key again");
        }
        assert_eq!(builder.finish(), keyspace);
    }

    #[test]
    fn what_is_past_goes_and_the_earliest_is_known() {
        let (mut keyspace, whole) = (filled(0..10_000), filled(0..10_000));
        let copy = keyspace.clone();
        assert_eq!(keyspace.wake(), Some(Timestamp(2_000_000)));
        keyspace.remove_past(1);
        assert_eq!(keyspace, whole, "the first is there through its millisecond");
        for now in [2, 3, 1_000, 4_000] {
            keyspace.remove_past(now);
            let left = (0..10_000).filter(|key| expiry(*key).is_none_or(|e| !e.is_past(now)));
            assert_eq!(keyspace, filled(left));
            assert!(keyspace.wake().is_some_and(|wake| wake > Timestamp(now as u64 * 1_000_000)));
        }
        keyspace.remove_past(5_001);
        assert_eq!((keyspace.len(), keyspace.wake()), (6_666, None));
        assert_eq!(copy, whole, "a copy stays as it was");
    }

    #[test]
    fn expiries_follow_their_keys() {
        let mut keyspace = Keyspace::default();
        let at = |ms| Some(Expiry::from_ms(ms).expect("is a time"));
        let wake = |ms: u64| Some(Timestamp((ms + 1) * 1_000_000));
        keyspace.set_expiry(b"absent", at(1));
        assert_eq!((keyspace.len(), keyspace.wake()), (0, None));
        keyspace.set(b"a", Text::new(b"v"), at(5));
        keyspace.set(b"b", Text::new(b"v"), at(7));
        assert_eq!(keyspace.wake(), wake(5));
        keyspace.set_expiry(b"a", at(9));
        assert_eq!(keyspace.wake(), wake(7));
        keyspace.get_mut(b"b").expect("is there").append(b"w");
        assert_eq!(keyspace.entry(b"b").and_then(|entry| entry.expiry), at(7));
        keyspace.set(b"b", Text::new(b"v"), None);
        assert_eq!(keyspace.wake(), wake(9));
        assert!(keyspace.remove(b"a"));
        assert_eq!((keyspace.len(), keyspace.wake()), (1, None));
    }
}
