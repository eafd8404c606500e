//! The iteration over all keys in parts, as `SCAN` asks for it.

use crate::glob::Pattern;
use crate::keyspace::Keyspace;

/// How many bits of a hash a cursor holds: few enough to be exact in clients that take every number for
/// one of floating point.
const CURSOR_BITS: u32 = 48;
/// The most keys that one part looks at, and the most bytes of them: what comes later waits.
const LOOKED_AT_MAX: u64 = 100_000;
const BYTES_MAX: usize = 1 << 20;

/// What a part of the iteration found.
pub(crate) struct Part<'a> {
    /// Where to go on; 0 at the end.
    pub(crate) cursor: u64,
    pub(crate) keys: Vec<&'a [u8]>,
}

/// The part of the iteration that begins at `cursor` (0 for the first), looks at about `count` keys and
/// gives those that match.
///
/// A key that is there from the first part to the last is given exactly once, whatever comes and goes
/// meanwhile, and at whichever replica each part is asked for: the cursor says up to which hash all keys
/// were looked at, and the hash of a key is the same everywhere.
pub(crate) fn part<'a>(
    keyspace: &'a Keyspace,
    cursor: u64,
    count: u64,
    pattern: Option<&Pattern>,
) -> Part<'a> {
    let mut part = Part { cursor: 0, keys: Vec::new() };
    if cursor >> CURSOR_BITS != 0 {
        return part;
    }
    let cursor_of = |hash: u64| hash >> (u64::BITS - CURSOR_BITS);
    let (mut looked_at, mut bytes) = (0, 0);
    let mut last = None;
    for (hash, key) in keyspace.iter_from(cursor << (u64::BITS - CURSOR_BITS)) {
        let here = cursor_of(hash);
        let enough = looked_at >= count.clamp(1, LOOKED_AT_MAX) || bytes >= BYTES_MAX;
        // What one cursor stands for is given whole.
        if enough && last != Some(here) {
            part.cursor = here;
            return part;
        }
        (last, looked_at, bytes) = (Some(here), looked_at + 1, bytes + key.len());
        if pattern.is_none_or(|pattern| pattern.matches(key)) {
            part.keys.push(key);
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mainstay_model::Prng;
    use mainstay_service::Secret;

    use super::*;
    use crate::glob::Case;
    use crate::text::Text;

    fn add(keyspace: &mut Keyspace, key: u32) {
        keyspace.set(format!("key:{key}").as_bytes(), Text::new(b"v"), None);
    }

    #[test]
    fn what_stays_is_given_exactly_once_while_others_come_and_go() {
        let mut prng = Prng::new(1);
        for count in [1, 3, 10, 1_000, u64::MAX] {
            let mut keyspace = Keyspace::new(Secret(9));
            (0..1_000).for_each(|key| add(&mut keyspace, key));
            let (mut cursor, mut given, mut parts) = (0, BTreeMap::new(), 0);
            loop {
                let part = part(&keyspace, cursor, count, None);
                assert!(part.keys.len() as u64 <= count);
                parts += 1;
                for key in &part.keys {
                    *given.entry(key.to_vec()).or_insert(0) += 1;
                }
                cursor = part.cursor;
                if cursor == 0 {
                    break;
                }
                for _ in 0..20 {
                    let other = 1_000 + prng.below(1_000) as u32;
                    match prng.chance(1, 2) {
                        true => add(&mut keyspace, other),
                        false => _ = keyspace.remove(format!("key:{other}").as_bytes()),
                    }
                }
                keyspace.remove(format!("key:{}", 500 + prng.below(500)).as_bytes());
            }
            assert!((0..500).all(|key| given.get(format!("key:{key}").as_bytes()) == Some(&1)));
            assert!(parts as u64 >= 500 / count);
        }
    }

    #[test]
    fn a_part_is_bounded_whatever_is_asked_for() {
        let mut keyspace = Keyspace::new(Secret(9));
        let long = |n: u8| vec![n; 300 << 10];
        (0..10).for_each(|n| keyspace.set(&long(n), Text::new(b"v"), None));
        let first = part(&keyspace, 0, u64::MAX, None);
        assert_eq!(first.keys.len(), 4, "the one that brings it above a mebibyte is the last");
        let rest = part(&keyspace, first.cursor, u64::MAX, None);
        assert_eq!(rest.keys.len(), 4);
    }

    #[test]
    fn only_what_matches_is_given_and_no_cursor_is_wrong() {
        let mut keyspace = Keyspace::new(Secret(9));
        (0..100).for_each(|key| add(&mut keyspace, key));
        let pattern = Pattern::new(b"key:?", Case::Matters).expect("is short");
        let all = part(&keyspace, 0, 1_000, Some(&pattern));
        assert_eq!((all.keys.len(), all.cursor), (10, 0));
        for cursor in [1 << CURSOR_BITS, u64::MAX, (1 << CURSOR_BITS) - 1] {
            assert_eq!(part(&keyspace, cursor, 10, None).cursor, 0, "{cursor}");
        }
        assert!(part(&Keyspace::default(), 0, 10, None).keys.is_empty());
    }
}
