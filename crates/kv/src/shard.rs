//! A part of the keyspace: leaves of a few entries, which are what is copied at once.

use std::sync::Arc;

use crate::expiry::Expiry;
use crate::text::Text;

/// Where a key stands: by hash, then by key. The hash spreads keys over the shards and makes most
/// comparisons those of numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) hash: u64,
    pub(crate) key: Text,
}

/// What stands there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) value: Text,
    pub(crate) expiry: Option<Expiry>,
}

/// How many entries stand in a leaf. A change copies one leaf at most if a copy of the keyspace is
/// held: few enough that the copy costs about as much as the change, and enough that few leaves have
/// to be counted as shared.
const LEAF_MAX: usize = 16;
/// By how many entries the room of a leaf grows.
const LEAF_STEP: usize = 4;

/// Neighbours in the order of places, shared with copies of the keyspace until one side changes
/// them.
///
/// Invariant: not empty, and in order; `earliest` is the earliest expiry of them.
#[derive(Clone, Debug)]
struct Leaf {
    /// The lowest hash that belongs here.
    from: u64,
    earliest: Option<Expiry>,
    entries: Arc<Vec<(Place, Entry)>>,
}

/// Keys and values, and when the first of them expires. A clone is one reference count a leaf.
///
/// Invariants: the first leaf is from 0, and each from more than the one before; keys of one hash
/// stand in one leaf, even beyond [`LEAF_MAX`] (there are hardly ever two); `len`, `expiring` (how many
/// have an expiry) and `earliest` are those of all leaves. Which leaves there are depends on what came and went; what they hold, and in
/// which order, does not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shard {
    leaves: Vec<Leaf>,
    len: usize,
    expiring: usize,
    earliest: Option<Expiry>,
}

/// Where an entry stands, or would: which leaf, and which of its entries.
type At = (usize, usize);

impl Leaf {
    fn new(from: u64, entries: Vec<(Place, Entry)>) -> Self {
        let mut leaf = Self { from, earliest: None, entries: Arc::new(entries) };
        leaf.find_earliest();
        leaf
    }

    fn find_earliest(&mut self) {
        self.earliest = self.entries.iter().filter_map(|(_, entry)| entry.expiry).min();
    }
}

impl Shard {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    #[cfg(test)]
    pub(crate) fn longest_leaf(&self) -> usize {
        self.leaves.iter().map(|leaf| leaf.entries.len()).max().unwrap_or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Place, &Entry)> {
        let entries = self.leaves.iter().flat_map(|leaf| leaf.entries.iter());
        entries.map(|(place, entry)| (place, entry))
    }

    /// How many keys have an expiry.
    pub(crate) const fn expiring(&self) -> usize {
        self.expiring
    }

    /// Where the entry stands that is `nth` in order.
    pub(crate) fn nth(&self, mut nth: usize) -> Option<&Place> {
        for leaf in &self.leaves {
            match nth.checked_sub(leaf.entries.len()) {
                Some(left) => nth = left,
                None => return Some(&leaf.entries[nth].0),
            }
        }
        None
    }

    /// The entries from `hash` on.
    pub(crate) fn iter_from(&self, hash: u64) -> impl Iterator<Item = (&Place, &Entry)> {
        let leaf = self.leaves.partition_point(|leaf| leaf.from <= hash).saturating_sub(1);
        let entries = self.leaves[leaf.min(self.leaves.len())..].iter();
        let entries = entries.flat_map(|leaf| leaf.entries.iter());
        entries.skip_while(move |(place, _)| place.hash < hash).map(|(place, entry)| (place, entry))
    }

    /// The earliest expiry of all.
    pub(crate) const fn earliest(&self) -> Option<Expiry> {
        self.earliest
    }

    /// Where the key stands; the error says where it would.
    fn find(&self, hash: u64, key: &[u8]) -> Result<At, At> {
        let leaf = self.leaves.partition_point(|leaf| leaf.from <= hash);
        let Some(leaf) = leaf.checked_sub(1) else { return Err((0, 0)) };
        let compare = |(place, _): &(Place, Entry)| {
            place.hash.cmp(&hash).then_with(|| place.key.as_bytes().cmp(key))
        };
        let at = self.leaves[leaf].entries.binary_search_by(compare);
        at.map(|at| (leaf, at)).map_err(|at| (leaf, at))
    }

    pub(crate) fn get(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        let (leaf, at) = self.find(hash, key).ok()?;
        Some(&self.leaves[leaf].entries[at].1)
    }

    /// To leave with the expiry it has.
    fn entry_mut(&mut self, (leaf, at): At) -> &mut Entry {
        &mut Arc::make_mut(&mut self.leaves[leaf].entries)[at].1
    }

    pub(crate) fn value_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut Text> {
        let at = self.find(hash, key).ok()?;
        Some(&mut self.entry_mut(at).value)
    }

    pub(crate) fn set(&mut self, hash: u64, key: &[u8], value: Text, expiry: Option<Expiry>) {
        match self.find(hash, key) {
            Ok(at) => {
                self.entry_mut(at).value = value;
                self.set_expiry_at(at, expiry);
            }
            Err(at) => {
                self.insert(at, Place { hash, key: Text::new(key) }, Entry { value, expiry });
            }
        }
    }

    /// Nothing for an absent key.
    pub(crate) fn set_expiry(&mut self, hash: u64, key: &[u8], expiry: Option<Expiry>) {
        if let Ok(at) = self.find(hash, key) {
            self.set_expiry_at(at, expiry);
        }
    }

    fn set_expiry_at(&mut self, at: At, expiry: Option<Expiry>) {
        let before = self.leaves[at.0].entries[at.1].1.expiry;
        if before != expiry {
            self.expiring += usize::from(expiry.is_some());
            self.expiring -= usize::from(before.is_some());
            self.entry_mut(at).expiry = expiry;
            self.leaves[at.0].find_earliest();
            self.find_earliest();
        }
    }

    fn insert(&mut self, (leaf, at): At, place: Place, entry: Entry) {
        self.len += 1;
        if self.leaves.is_empty() {
            self.leaves.push(Leaf::new(0, Vec::new()));
        }
        let expires = entry.expiry.is_some();
        self.expiring += usize::from(expires);
        let entries = Arc::make_mut(&mut self.leaves[leaf].entries);
        if entries.len() == entries.capacity() {
            entries.reserve_exact(LEAF_STEP);
        }
        entries.insert(at, (place, entry));
        if entries.len() > LEAF_MAX {
            // Keys that come in order, as from a checkpoint, leave full leaves behind them.
            let last = leaf + 1 == self.leaves.len() && at == LEAF_MAX;
            self.split(leaf, if last { LEAF_MAX } else { LEAF_MAX / 2 });
        }
        if expires {
            self.leaves[leaf].find_earliest();
            self.find_earliest();
        }
    }

    /// Makes two leaves of one, at the first place from `middle` on that separates no hash; leaves it
    /// as it is where there is none.
    fn split(&mut self, leaf: usize, middle: usize) {
        let entries = Arc::make_mut(&mut self.leaves[leaf].entries);
        let differs = |at: &usize| entries[at - 1].0.hash != entries[*at].0.hash;
        let Some(middle) = (middle..entries.len()).chain(1..middle).find(differs) else { return };
        let behind = entries.split_off(middle);
        entries.shrink_to_fit();
        self.leaves[leaf].find_earliest();
        self.leaves.insert(leaf + 1, Leaf::new(behind[0].0.hash, behind));
    }

    pub(crate) fn remove(&mut self, hash: u64, key: &[u8]) {
        let Ok((leaf, at)) = self.find(hash, key) else { return };
        let (_, gone) = Arc::make_mut(&mut self.leaves[leaf].entries).remove(at);
        self.len -= 1;
        self.expiring -= usize::from(gone.expiry.is_some());
        if gone.expiry.is_some() {
            self.leaves[leaf].find_earliest();
        }
        self.merge(leaf);
        if gone.expiry.is_some() {
            self.find_earliest();
        }
    }

    /// Puts a leaf that lost entries together with the one behind it, if both are small.
    fn merge(&mut self, leaf: usize) {
        let here = self.leaves[leaf].entries.len();
        match self.leaves.get(leaf + 1) {
            Some(next) if here + next.entries.len() <= LEAF_MAX / 2 => {
                let next = self.leaves.remove(leaf + 1);
                Arc::make_mut(&mut self.leaves[leaf].entries).extend_from_slice(&next.entries);
                self.leaves[leaf].find_earliest();
            }
            None if here == 0 => {
                self.leaves.remove(leaf);
            }
            _ if here == 0 => {
                // The next one takes its place, from where it was.
                self.leaves[leaf + 1].from = self.leaves[leaf].from;
                self.leaves.remove(leaf);
            }
            _ => {}
        }
    }

    fn find_earliest(&mut self) {
        self.earliest = self.leaves.iter().filter_map(|leaf| leaf.earliest).min();
    }

    /// Removes every key whose expiry is past in the millisecond `now`.
    pub(crate) fn remove_past(&mut self, now: i64) {
        let is_past = |expiry: &Expiry| expiry.is_past(now);
        // From behind, since leaves may go.
        for leaf in (0..self.leaves.len()).rev() {
            if !self.leaves[leaf].earliest.as_ref().is_some_and(is_past) {
                continue;
            }
            let entries = Arc::make_mut(&mut self.leaves[leaf].entries);
            let before = entries.len();
            entries.retain(|(_, entry)| !entry.expiry.as_ref().is_some_and(is_past));
            self.len -= before - entries.len();
            // Only what has an expiry goes.
            self.expiring -= before - entries.len();
            self.leaves[leaf].find_earliest();
            self.merge(leaf);
        }
        self.find_earliest();
    }
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mainstay_model::Prng;

    use super::*;

    fn expiry(ms: u64) -> Option<Expiry> {
        Some(Expiry::from_ms(ms).expect("is a time"))
    }

    fn keys(shard: &Shard) -> Vec<u8> {
        shard.iter().map(|(place, _)| place.key.as_bytes()[0]).collect()
    }

    pub(super) fn check(shard: &Shard) {
        assert_eq!(shard.iter().count(), shard.len());
        assert!(shard.iter().map(|(place, _)| place).is_sorted_by(|a, b| a < b));
        assert_eq!(shard.iter().filter_map(|(_, entry)| entry.expiry).min(), shard.earliest());
        assert_eq!(shard.iter().filter_map(|(_, entry)| entry.expiry).count(), shard.expiring());
        assert!(shard.leaves.first().is_none_or(|leaf| leaf.from == 0));
        for (index, leaf) in shard.leaves.iter().enumerate() {
            let hashes = || leaf.entries.iter().map(|(place, _)| place.hash);
            let end = shard.leaves.get(index + 1).map_or(u64::MAX, |next| next.from - 1);
            assert!(hashes().all(|hash| (leaf.from..=end).contains(&hash)));
            let one = hashes().min() == hashes().max();
            assert!(!leaf.entries.is_empty() && (one || leaf.entries.len() <= LEAF_MAX));
            assert_eq!(leaf.entries.iter().filter_map(|(_, e)| e.expiry).min(), leaf.earliest);
        }
    }

    /// Against a plain map, with hashes that collide often, and with copies that must not change.
    #[test]
    fn holds_what_a_plain_map_holds_and_copies_stay_as_they_were() {
        for seed in 0..30 {
            let mut prng = Prng::new(seed);
            let (mut shard, mut plain) = (Shard::default(), BTreeMap::new());
            let hashes = *prng.pick(&[3, 40, 2_000]).expect("three");
            let mut copies = Vec::new();
            for step in 0..4_000u64 {
                let (hash, key) = (prng.below(hashes) * 7, [prng.below(3) as u8]);
                let place = Place { hash, key: Text::new(&key) };
                let at = if prng.chance(1, 2) { expiry(1 + prng.below(500)) } else { None };
                // More come than go, then more go than come.
                let grows = step % 2_000 < 1_000;
                match prng.below(100) {
                    0..60 if grows => {
                        let value = Text::new(&step.to_le_bytes());
                        shard.set(hash, &key, value.clone(), at);
                        plain.insert(place, Entry { value, expiry: at });
                    }
                    0..80 => {
                        shard.remove(hash, &key);
                        plain.remove(&place);
                    }
                    80..95 => {
                        shard.set_expiry(hash, &key, at);
                        if let Some(entry) = plain.get_mut(&place) {
                            entry.expiry = at;
                        }
                    }
                    95..98 => {
                        if let Some(value) = shard.value_mut(hash, &key) {
                            value.append(b"+");
                        }
                        if let Some(entry) = plain.get_mut(&place) {
                            entry.value.append(b"+");
                        }
                    }
                    98 => copies.push((shard.clone(), plain.clone())),
                    _ => {
                        let now = prng.below(60) as i64;
                        shard.remove_past(now);
                        plain.retain(|_, entry| entry.expiry.is_none_or(|e| !e.is_past(now)));
                    }
                }
                assert_eq!(shard.get(hash, &key), plain.get(&place_of(hash, key)));
                if step % 50 == 0 {
                    check(&shard);
                }
            }
            copies.push((shard, plain));
            for (shard, plain) in copies {
                check(&shard);
                assert!(shard.iter().eq(plain.iter()), "seed {seed}");
            }
        }
    }

    fn place_of(hash: u64, key: [u8; 1]) -> Place {
        Place { hash, key: Text::new(&key) }
    }

    #[test]
    fn a_change_copies_one_leaf_and_keys_in_order_fill_theirs() {
        let mut shard = Shard::default();
        for hash in 0..3_200 {
            shard.set(hash, b"k", Text::new(b"v"), None);
        }
        check(&shard);
        assert_eq!(shard.leaves.len(), 200);
        let copy = shard.clone();
        shard.set(1_600, b"k", Text::new(b"w"), None);
        let leaves = shard.leaves.iter().zip(&copy.leaves);
        let copied = leaves.filter(|(one, other)| !Arc::ptr_eq(&one.entries, &other.entries));
        assert_eq!(copied.count(), 1);
        for hash in 0..3_200 {
            shard.remove(hash, b"k");
        }
        check(&shard);
        assert!(shard.leaves.is_empty());
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
