//! A part of the keyspace: what is copied at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::expiry::Expiry;
use crate::text::Text;

/// Where a key stands: by hash, then by key. The hash spreads keys over the shards and makes most
/// comparisons one of numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) hash: u64,
    pub(crate) key: Box<[u8]>,
}

/// What stands there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) value: Text,
    pub(crate) expiry: Option<Expiry>,
}

/// Keys and values, and which of them expire next.
///
/// Invariant: `due` holds (expiry, hash) of every entry with an expiry, and nothing else. So it is a
/// function of the entries, and keys need not be held twice. Keys of one hash (there are hardly ever
/// two) with one expiry share an item.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shard {
    entries: BTreeMap<Place, Entry>,
    due: BTreeSet<(Expiry, u64)>,
}

impl Shard {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Place, &Entry)> {
        self.entries.iter()
    }

    /// The earliest expiry of all.
    pub(crate) fn earliest(&self) -> Option<Expiry> {
        self.due.first().map(|(expiry, _)| *expiry)
    }

    /// Everything with this hash; the place in front of it is made without an allocation.
    fn with_hash(&self, hash: u64) -> impl Iterator<Item = (&Place, &Entry)> {
        let front = Place { hash, key: Box::default() };
        self.entries.range(front..).take_while(move |(place, _)| place.hash == hash)
    }

    pub(crate) fn get(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.with_hash(hash).find_map(|(place, entry)| (*place.key == *key).then_some(entry))
    }

    /// To leave with the expiry it has.
    fn get_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Entry> {
        let front = Place { hash, key: Box::default() };
        self.entries
            .range_mut(front..)
            .take_while(|(place, _)| place.hash == hash)
            .find_map(|(place, entry)| (*place.key == *key).then_some(entry))
    }

    pub(crate) fn value_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Text> {
        self.get_mut(hash, key).map(|entry| &mut entry.value)
    }

    pub(crate) fn set(&mut self, hash: u64, key: &[u8], value: Text, expiry: Option<Expiry>) {
        if let Some(entry) = self.get_mut(hash, key) {
            entry.value = value;
            let old = std::mem::replace(&mut entry.expiry, expiry);
            return self.replace_due(hash, old, expiry);
        }
        self.entries.insert(Place { hash, key: key.into() }, Entry { value, expiry });
        self.due.extend(expiry.map(|expiry| (expiry, hash)));
    }

    /// Nothing for an absent key.
    pub(crate) fn set_expiry(&mut self, hash: u64, key: &[u8], expiry: Option<Expiry>) {
        let Some(entry) = self.get_mut(hash, key) else { return };
        let old = std::mem::replace(&mut entry.expiry, expiry);
        self.replace_due(hash, old, expiry);
    }

    fn replace_due(&mut self, hash: u64, old: Option<Expiry>, new: Option<Expiry>) {
        if old != new {
            self.forget(hash, old);
            self.due.extend(new.map(|new| (new, hash)));
        }
    }

    pub(crate) fn remove(&mut self, hash: u64, key: &[u8]) {
        if let Some(entry) = self.entries.remove(&Place { hash, key: key.into() }) {
            self.forget(hash, entry.expiry);
        }
    }

    /// An entry of this hash no longer has this expiry.
    fn forget(&mut self, hash: u64, expiry: Option<Expiry>) {
        let Some(gone) = expiry else { return };
        if !self.with_hash(hash).any(|(_, entry)| entry.expiry == expiry) {
            self.due.remove(&(gone, hash));
        }
    }

    /// Removes every key whose expiry is past in the millisecond `now`.
    pub(crate) fn remove_past(&mut self, now: i64) {
        while let Some((expiry, hash)) = self.due.first().copied().filter(|due| due.0.is_past(now))
        {
            let found = self.with_hash(hash).find(|(_, entry)| entry.expiry == Some(expiry));
            let place = found.expect("what is due is there").0.clone();
            self.entries.remove(&place);
            self.forget(hash, Some(expiry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(ms: u64) -> Option<Expiry> {
        Some(Expiry::from_ms(ms).expect("is a time"))
    }

    fn keys(shard: &Shard) -> Vec<u8> {
        shard.iter().map(|(place, _)| place.key[0]).collect()
    }

    /// Hashes collide only by design of an attacker, but then everything has to hold.
    #[test]
    fn keys_of_one_hash_are_told_apart() {
        let mut shard = Shard::default();
        for (key, at) in [(b"a", 5), (b"b", 5), (b"c", 7), (b"d", 5)] {
            shard.set(1, key, Text::new(b"v"), expiry(at));
        }
        shard.set(1, b"e", Text::new(b"v"), None);
        shard.remove(1, b"a");
        shard.set_expiry(1, b"b", expiry(6));
        assert_eq!(shard.earliest(), expiry(5), "d still has it");
        shard.remove_past(6);
        assert_eq!(keys(&shard), b"bce");
        assert_eq!(shard.earliest(), expiry(6));
        shard.set(1, b"b", Text::new(b"w"), None);
        assert_eq!(shard.earliest(), expiry(7));
        shard.remove_past(8);
        assert_eq!((keys(&shard), shard.earliest()), (b"be".to_vec(), None));
    }

    #[test]
    fn all_keys_of_one_hash_and_expiry_go_together() {
        let mut shard = Shard::default();
        for key in [b"a", b"b", b"c"] {
            shard.set(9, key, Text::new(b"v"), expiry(5));
        }
        shard.remove_past(5);
        assert_eq!(shard.len(), 3);
        shard.remove_past(6);
        assert_eq!((shard.len(), shard.earliest()), (0, None));
    }
}
