//! Patterns over keys and names, as `KEYS`, `SCAN`, `CONFIG GET` and their like take them.

/// The longest pattern, in bytes: it bounds what each byte of a text costs.
pub(crate) const PATTERN_LEN_MAX: usize = 1024;

/// Whether ASCII letters match in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Matters,
    Ignored,
}

/// A pattern in which `*` stands for any bytes, `?` for one, `[a-z]` and `[^a-z]` for one of a set, and a
/// backslash takes the meaning from what follows; in detail as in Redis (`stringmatchlen`), whose
/// ranges compare bytes as signed numbers and whose sets may end with the pattern.
///
/// Taken apart into items that match one byte each. Where a match can stand after a part of the text is
/// a set of them, one bit each, so a text costs time proportional to its own length and, in steps of
/// 64 items, to that of the pattern, whatever both are.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// Whether nothing at all matches, which in Redis no pattern of more than a star does.
    empty: bool,
    items: usize,
    /// How many words hold a bit for each place: before the first item to behind the last one.
    words: usize,
    /// For each of the 256 bytes, the items that match it.
    accepts: Vec<u64>,
    /// The places at which a star stands.
    stars: Vec<u64>,
}

impl Pattern {
    /// `None` if it is too long.
    pub(crate) fn new(pattern: &[u8], case: Case) -> Option<Self> {
        if pattern.len() > PATTERN_LEN_MAX {
            return None;
        }
        let words = pattern.len() / 64 + 1;
        let empty = matches!(pattern, b"" | b"*");
        let (accepts, stars) = (vec![0; 256 * words], vec![0; words]);
        let mut this = Self { empty, items: 0, words, accepts, stars };
        let mut rest = pattern;
        while let [first, behind @ ..] = rest {
            rest = behind;
            match (first, behind) {
                (b'*', _) => this.stars[this.items / 64] |= 1 << (this.items % 64),
                (b'?', _) => this.push(|_| true),
                (b'[', _) => {
                    let members = Members::read(&mut rest, case);
                    this.push(|byte| members.holds(byte));
                }
                (b'\\', [escaped, behind @ ..]) => {
                    rest = behind;
                    this.push(|byte| alike(byte, *escaped, case));
                }
                (other, _) => this.push(|byte| alike(byte, *other, case)),
            }
        }
        Some(this)
    }

    fn push(&mut self, accepts: impl Fn(u8) -> bool) {
        for byte in (0..=u8::MAX).filter(|byte| accepts(*byte)) {
            self.accepts[usize::from(byte) * self.words + self.items / 64] |=
                1 << (self.items % 64);
        }
        self.items += 1;
    }

    /// Whether all of `text` matches.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        if text.is_empty() {
            return self.empty;
        }
        let mut places = vec![0; self.words];
        places[0] = 1u64;
        for byte in text {
            let accepted = &self.accepts[usize::from(*byte) * self.words..][..self.words];
            let (mut carry, mut any) = (0, 0);
            for ((place, accepted), stars) in places.iter_mut().zip(accepted).zip(&self.stars) {
                let moved = *place & accepted;
                *place = moved << 1 | carry | *place & stars;
                carry = moved >> 63;
                any |= *place;
            }
            if any == 0 {
                return false;
            }
        }
        places[self.items / 64] >> (self.items % 64) & 1 == 1
    }
}

fn alike(byte: u8, other: u8, case: Case) -> bool {
    match case {
        Case::Matters => byte == other,
        Case::Ignored => byte.eq_ignore_ascii_case(&other),
    }
}

/// The bytes that a set names.
struct Members {
    negated: bool,
    named: [bool; 256],
}

impl Members {
    /// Reads the set behind its bracket, and takes it from `rest`.
    fn read(rest: &mut &[u8], case: Case) -> Self {
        let negated = rest.first() == Some(&b'^');
        let mut members = Self { negated, named: [false; 256] };
        *rest = &rest[usize::from(negated)..];
        loop {
            *rest = match *rest {
                [] => return members,
                [b'\\', member, behind @ ..] => {
                    // In either case only as it stands, as in Redis.
                    members.named[usize::from(*member)] = true;
                    behind
                }
                [b']', behind @ ..] => {
                    *rest = behind;
                    return members;
                }
                [one, b'-', other, behind @ ..] => {
                    members.name_range(*one, *other, case);
                    behind
                }
                [member, behind @ ..] => {
                    for byte in (0..=u8::MAX).filter(|byte| alike(*byte, *member, case)) {
                        members.named[usize::from(byte)] = true;
                    }
                    behind
                }
            };
        }
    }

    fn name_range(&mut self, one: u8, other: u8, case: Case) {
        let fold = |byte: u8| match case {
            Case::Matters => byte as i8,
            Case::Ignored => byte.to_ascii_lowercase() as i8,
        };
        let (low, high) = if one as i8 <= other as i8 { (one, other) } else { (other, one) };
        let range = fold(low)..=fold(high);
        for byte in (0..=u8::MAX).filter(|byte| range.contains(&fold(*byte))) {
            self.named[usize::from(byte)] = true;
        }
    }

    const fn holds(&self, byte: u8) -> bool {
        self.named[byte as usize] != self.negated
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
        Pattern::new(pattern, case).expect("is short").matches(text)
    }

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "save"),
            ("s*e", "save"),
            ("SAVE", "save"),
            ("s?ve", "save"),
            ("s[a-c]ve", "save"),
            ("s[C-A]ve", "save"),
            ("s[^b]ve", "save"),
            ("s[xa]*", "save"),
            ("*a*b*c", "xxaxxbxxc"),
            ("\\*", "*"),
            ("s[a", "sa"),
            ("s[^", "sa"),
            ("a\\", "a\\"),
            ("[\\]]", "]"),
            ("[\\a-]", "-"),
        ] {
            assert!(
                matches(pattern.as_bytes(), text.as_bytes(), Case::Ignored),
                "{pattern} {text}"
            );
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("**", ""),
            ("s[^a]ve", "save"),
            ("s[]ve", "save"),
            ("*a*b*c", "xxaxxcxxb"),
            ("\\*", "a"),
            ("save*x", "save"),
            ("[\\A]", "a"),
        ] {
            assert!(
                !matches(pattern.as_bytes(), text.as_bytes(), Case::Ignored),
                "{pattern} {text}"
            );
        }
        assert!(matches(b"[a-c]B", b"bB", Case::Matters));
        assert!(!matches(b"[a-c]B", b"BB", Case::Matters));
        assert!(!matches(b"[a-c]B", b"bb", Case::Matters));
    }

    #[test]
    fn a_long_pattern_is_refused() {
        assert!(Pattern::new(&[b'*'; PATTERN_LEN_MAX], Case::Matters).is_some());
        assert!(Pattern::new(&[b'*'; PATTERN_LEN_MAX + 1], Case::Matters).is_none());
    }

    /// One pattern of a mebibyte took seconds over a text of twenty bytes; and the product of both lengths
    /// would be two billion steps here.
    #[test]
    fn the_worst_pattern_over_a_long_text_takes_no_quadratic_time() {
        let worst = [
            b"*a".repeat(PATTERN_LEN_MAX / 2),
            [&b"*"[..], &b"a".repeat(PATTERN_LEN_MAX - 2), b"b"].concat(),
            [&b"*["[..], &b"!".repeat(PATTERN_LEN_MAX - 2)].concat(),
            b"*[!-z]".repeat(PATTERN_LEN_MAX / 6),
        ];
        let text = vec![b'a'; 2 << 20];
        let began = Instant::now();
        for pattern in worst {
            let pattern = Pattern::new(&pattern, Case::Matters).expect("is no longer than allowed");
            pattern.matches(&text);
        }
        let took = began.elapsed();
        // Some 0.2 s in a debug build on a slow processor; a scan for each place takes minutes.
        assert!(took < Duration::from_secs(10), "{took:?}");
    }

    /// The obvious way, for patterns without sets.
    fn plain(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], text) => text.is_empty(),
            ([b'*', behind @ ..], _) => {
                plain(behind, text) || !text.is_empty() && plain(pattern, &text[1..])
            }
            ([first, behind @ ..], [byte, text @ ..]) => {
                (*first == b'?' || first == byte) && plain(behind, text)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matches_what_the_obvious_way_matches(
            pattern in proptest::collection::vec(proptest::sample::select(&b"ab*?"[..]), 0..8),
            text in proptest::collection::vec(proptest::sample::select(&b"ab"[..]), 0..8),
            filler in 0usize..70,
        ) {
            // So that places stand in several words, too.
            let long = |bytes: &[u8]| [&b"c".repeat(filler + 1)[..], bytes].concat();
            prop_assert_eq!(
                matches(&long(&pattern), &long(&text), Case::Matters),
                plain(&pattern, &text)
            );
        }

        #[test]
        fn garbage_never_panics(
            pattern in proptest::collection::vec(any::<u8>(), 0..100),
            text in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            matches(&pattern, &text, Case::Ignored);
        }
    }
}
