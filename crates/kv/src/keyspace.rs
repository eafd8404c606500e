//! The keys and their values, in an order that is a function of the keys and of the group's secret alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use mainstay_model::Timestamp;
use mainstay_service::Secret;
use siphasher::sip::SipHasher13;

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
    /// The key of the hash, which no client may know: whoever knows it makes keys that collide, and each
    /// of those costs as much as there are of them.
    secret: Secret,
    shards: Box<[Arc<Shard>]>,
    len: u64,
    /// How many keys have an expiry.
    expiring: u64,
    /// Invariant: (earliest expiry, index) of every shard that has one.
    next: BTreeSet<(Expiry, usize)>,
}

impl Default for Keyspace {
    fn default() -> Self {
        Self::new(Secret::default())
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
    pub(crate) fn new(secret: Secret) -> Self {
        let empty = Arc::new(Shard::default());
        Self {
            secret,
            shards: vec![empty; SHARDS].into(),
            len: 0,
            expiring: 0,
            next: BTreeSet::new(),
        }
    }

    pub(crate) const fn secret(&self) -> Secret {
        self.secret
    }

    fn hash(&self, key: &[u8]) -> u64 {
        SipHasher13::new_with_keys(self.secret.0 as u64, (self.secret.0 >> 64) as u64).hash(key)
    }

    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// How many keys have an expiry.
    pub(crate) const fn expiring(&self) -> u64 {
        self.expiring
    }

    pub(crate) fn entry(&self, key: &[u8]) -> Option<&Entry> {
        let hash = self.hash(key);
        self.shards[shard_index(hash)].get(hash, key)
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Text> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The value of a key, to be changed under the expiry it has.
    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Text> {
        self.get(key)?;
        let hash = self.hash(key);
        Arc::make_mut(&mut self.shards[shard_index(hash)]).value_mut(hash, key)
    }

    pub(crate) fn set(&mut self, key: &[u8], value: Text, expiry: Option<Expiry>) {
        let hash = self.hash(key);
        self.change(shard_index(hash), |shard| shard.set(hash, key, value, expiry));
    }

    /// Nothing for an absent key.
    pub(crate) fn set_expiry(&mut self, key: &[u8], expiry: Option<Expiry>) {
        if self.entry(key).is_some_and(|entry| entry.expiry != expiry) {
            let hash = self.hash(key);
            self.change(shard_index(hash), |shard| shard.set_expiry(hash, key, expiry));
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        let hash = self.hash(key);
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
        let (len, expiring, earliest) = (shard.len(), shard.expiring(), shard.earliest());
        change(shard);
        self.len = self.len + shard.len() as u64 - len as u64;
        self.expiring = self.expiring + shard.expiring() as u64 - expiring as u64;
        if earliest != shard.earliest() {
            if let Some(earliest) = earliest {
                self.next.remove(&(earliest, index));
            }
            self.next.extend(shard.earliest().map(|earliest| (earliest, index)));
        }
    }

    /// The key that stands `nth` in the order of all; costs a step for each part, and for each leaf of
    /// one.
    pub(crate) fn nth(&self, mut nth: u64) -> Option<&[u8]> {
        for shard in &self.shards {
            match nth.checked_sub(shard.len() as u64) {
                Some(left) => nth = left,
                None => return shard.nth(nth as usize).map(|place| place.key.as_bytes()),
            }
        }
        None
    }

    /// Keys from `hash` on, with their hashes, in order.
    pub(crate) fn iter_from(&self, hash: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let shards = self.shards[shard_index(hash)..].iter();
        let entries = shards.flat_map(move |shard| shard.iter_from(hash));
        entries.map(|(place, _)| (place.hash, place.key.as_bytes()))
    }

    /// Every key with what it holds, ordered by the hash of the key, then by the key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &Entry)> {
        let entries = self.shards.iter().flat_map(|shard| shard.iter());
        entries.map(|(place, entry)| (place.key.as_bytes(), entry))
    }
}

/// Fills a keyspace with keys that come in its own order.
#[derive(Debug)]
pub(crate) struct Builder {
    keyspace: Keyspace,
    last: Option<Place>,
}

impl Builder {
    pub(crate) fn new(secret: Secret) -> Self {
        Self { keyspace: Keyspace::new(secret), last: None }
    }

    /// Adds a key; false, and nothing is added, if it does not stand behind the one before.
    pub(crate) fn push(&mut self, key: &[u8], value: Text, expiry: Option<Expiry>) -> bool {
        let place = Place { hash: self.keyspace.hash(key), key: Text::new(key) };
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
    use std::time::{Duration, Instant};

    use xxhash_rust::xxh3::xxh3_64;

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

    /// Keys that have one XXH3 without a seed, whatever `number` is: their first half is what the hash
    /// multiplies the second half with, and the product is 0.
    fn colliding(number: u64) -> [u8; 32] {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&[0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe]);
        key[8..16].copy_from_slice(&number.to_le_bytes());
        key
    }

    #[test]
    fn keys_made_to_collide_cost_no_more_than_others() {
        const KEYS: u64 = 100_000;
        assert!(
            (0..1000).all(|n| xxh3_64(&colliding(n)) == xxh3_64(&colliding(0))),
            "what an attacker can compute"
        );
        let mut keyspace = Keyspace::new(Secret(0x0123_4567_89ab_cdef_0011_2233_4455_6677));
        let mut fill = |key: &dyn Fn(u64) -> [u8; 32]| {
            let began = Instant::now();
            for number in 0..KEYS {
                keyspace.set(&key(number), Text::new(b"v"), None);
            }
            began.elapsed()
        };
        let plain = fill(&|number| {
            let mut key = [b'k'; 32];
            key[8..16].copy_from_slice(&number.to_le_bytes());
            key
        });
        let made = fill(&colliding);
        assert_eq!(keyspace.len(), 2 * KEYS);
        let longest = keyspace.shards.iter().map(|shard| shard.longest_leaf()).max();
        assert!(longest <= Some(16), "the longest leaf has {longest:?} entries");
        assert!(made < plain * 10 + Duration::from_secs(1), "{made:?} instead of {plain:?}");
    }

    #[test]
    fn the_order_depends_on_the_secret() {
        let order = |secret| {
            let mut keyspace = Keyspace::new(Secret(secret));
            (0..100u32).for_each(|key| keyspace.set(&key.to_le_bytes(), Text::new(b"v"), None));
            keyspace.iter().map(|(key, _)| key.to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2), "the lower half");
        assert_ne!(order(1), order(1 + (1 << 64)), "the upper half");
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
        let mut builder = Builder::new(Secret::default());
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
