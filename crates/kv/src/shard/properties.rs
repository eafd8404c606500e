//! A shard against an ordered map, whatever its history was and whoever holds copies of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Entry, LEAF_MAX, Place, Shard};
use crate::expiry::Expiry;
use crate::text::Text;

type Plain = BTreeMap<Place, Entry>;

#[derive(Clone, Debug)]
enum Change {
    Set(u64, u8, u8, Option<u64>),
    Append(u64, u8),
    Expire(u64, u8, Option<u64>),
    Remove(u64, u8),
    /// Removes what is past in this millisecond.
    Past(i64),
    /// Neighbours one after the other, so that leaves fill.
    Fill(u64, u64),
    /// And are emptied.
    Empty(u64, u64),
    /// A copy is taken, and held to the end.
    Copy,
    /// The copy taken first is let go of.
    Drop,
}

/// A few hashes, so that keys collide; those next to one another that [`Change::Fill`] uses, too.
fn hashes() -> impl Strategy<Value = u64> {
    prop_oneof![2 => 0..4u64, 5 => 0..300u64, 1 => Just(u64::MAX), 1 => any::<u64>()]
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let expiry = || prop_oneof![3 => Just(None), 2 => (1..200u64).prop_map(Some)];
    let key = || 0..6u8;
    let change = prop_oneof![
        8 => (hashes(), key(), any::<u8>(), expiry()).prop_map(|(h, k, v, e)| Change::Set(h, k, v, e)),
        2 => (hashes(), key()).prop_map(|(hash, key)| Change::Append(hash, key)),
        4 => (hashes(), key(), expiry()).prop_map(|(h, k, e)| Change::Expire(h, k, e)),
        4 => (hashes(), key()).prop_map(|(hash, key)| Change::Remove(hash, key)),
        1 => (0..250i64).prop_map(Change::Past),
        2 => (0..300u64, 1..120u64).prop_map(|(from, len)| Change::Fill(from, len)),
        2 => (0..300u64, 1..120u64).prop_map(|(from, len)| Change::Empty(from, len)),
        2 => Just(Change::Copy),
        1 => Just(Change::Drop),
    ];
    vec(change, 0..80)
}

fn expiry(ms: Option<u64>) -> Option<Expiry> {
    ms.map(|ms| Expiry::from_ms(ms).expect("is a time"))
}

fn place(hash: u64, key: u8) -> Place {
    Place { hash, key: Text::new(&[key]) }
}

fn change(shard: &mut Shard, plain: &mut Plain, change: &Change) {
    let mut set = |hash, key: u8, value: Text, at| {
        shard.set(hash, &[key], value.clone(), at);
        plain.insert(place(hash, key), Entry { value, expiry: at });
    };
    match *change {
        Change::Set(hash, key, value, at) => {
            // Some of them long enough to be shared.
            set(hash, key, Text::new(&vec![value; usize::from(value)]), expiry(at));
        }
        Change::Fill(from, len) => {
            (from..from + len).for_each(|hash| set(hash, 0, Text::new(b"filled"), None));
        }
        Change::Append(hash, key) => {
            if let Some(value) = shard.value_mut(hash, &[key]) {
                value.append(b"+");
            }
            if let Some(entry) = plain.get_mut(&place(hash, key)) {
                entry.value.append(b"+");
            }
        }
        Change::Expire(hash, key, at) => {
            shard.set_expiry(hash, &[key], expiry(at));
            if let Some(entry) = plain.get_mut(&place(hash, key)) {
                entry.expiry = expiry(at);
            }
        }
        Change::Remove(hash, key) => {
            shard.remove(hash, &[key]);
            plain.remove(&place(hash, key));
        }
        Change::Empty(from, len) => {
            for hash in from..from + len {
                shard.remove(hash, &[0]);
                plain.remove(&place(hash, 0));
            }
        }
        Change::Past(now) => {
            shard.remove_past(now);
            plain.retain(|_, entry| entry.expiry.is_none_or(|expiry| !expiry.is_past(now)));
        }
        Change::Copy | Change::Drop => {}
    }
}

/// What the shard says of itself is so, and it holds what the map holds.
fn is(shard: &Shard, plain: &Plain) -> Result<(), TestCaseError> {
    super::tests::check(shard);
    prop_assert_eq!(shard.len(), plain.len());
    prop_assert!(shard.iter().eq(plain.iter()));
    let earliest = plain.values().filter_map(|entry| entry.expiry).min();
    prop_assert_eq!(shard.earliest(), earliest);
    for (place, entry) in plain {
        prop_assert_eq!(shard.get(place.hash, place.key.as_bytes()), Some(entry));
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_shard_is_a_map_and_copies_stay_as_they_were(changes in changes()) {
        let (mut shard, mut plain) = (Shard::default(), Plain::new());
        let mut copies = Vec::new();
        for this in &changes {
            change(&mut shard, &mut plain, this);
            match this {
                Change::Copy => copies.push((shard.clone(), plain.clone())),
                Change::Drop if !copies.is_empty() => drop(copies.remove(0)),
                _ => {}
            }
            is(&shard, &plain)?;
        }
        for (copy, plain) in &copies {
            is(copy, plain)?;
        }
    }

    /// What is written of a shard is what its iterator gives, so equal contents have equal digests.
    #[test]
    fn what_a_shard_gives_does_not_depend_on_how_it_came_about(
        changes in changes(),
        shuffled in any::<u64>(),
    ) {
        let (mut shard, mut plain) = (Shard::default(), Plain::new());
        let mut held = Vec::new();
        for this in &changes {
            change(&mut shard, &mut plain, this);
            if matches!(this, Change::Copy) {
                held.push(shard.clone());
            }
        }
        let mut entries: Vec<(&Place, &Entry)> = plain.iter().collect();
        let (mut prng, mut other) = (mainstay_model::Prng::new(shuffled), Shard::default());
        while !entries.is_empty() {
            let (place, entry) = entries.swap_remove(prng.below(entries.len() as u64) as usize);
            other.set(place.hash, place.key.as_bytes(), entry.value.clone(), entry.expiry);
        }
        prop_assert!(other.iter().eq(shard.iter()));
        prop_assert_eq!(other.earliest(), shard.earliest());
    }

    /// The bound on the pause: whatever is held, a change of one key copies one leaf; where that leaf
    /// splits or goes, the one beside it, too. (aeron-io/aeron#1263: a snapshot blocked everything.)
    #[test]
    fn a_change_leaves_all_but_two_leaves_shared(
        keys in 0..2_000u64,
        hash in 0..2_000u64,
        removes in any::<bool>(),
        at in prop_oneof![Just(None), (1..9u64).prop_map(Some)],
    ) {
        let mut shard = Shard::default();
        for key in 0..keys {
            // From the middle outwards, so that leaves split.
            let hash = if key % 2 == 0 { 1_000 + key / 2 } else { 1_000 - key.div_ceil(2) };
            shard.set(hash, b"k", Text::new(b"v"), None);
        }
        let copy = shard.clone();
        if removes {
            shard.remove(hash, b"k");
        } else {
            shard.set(hash, b"k", Text::new(b"w"), expiry(at));
        }
        let is_shared = |entries| copy.leaves.iter().any(|leaf| Arc::ptr_eq(&leaf.entries, entries));
        let own: Vec<_> = shard.leaves.iter().filter(|leaf| !is_shared(&leaf.entries)).collect();
        prop_assert!(own.len() <= 2, "{} of {}", own.len(), shard.leaves.len());
        prop_assert!(own.iter().map(|leaf| leaf.entries.len()).sum::<usize>() <= LEAF_MAX + 1);
    }
}
