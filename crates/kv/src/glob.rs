//! Patterns over names, as `CONFIG GET` and its like take them.

/// Whether `text` matches `pattern`, in which `*` stands for any bytes, `?` for one, `[a-z]` and
/// `[^a-z]` for one of a set, and a backslash takes the meaning from what follows. ASCII letters
/// match in either case. Takes time proportional to the product of both lengths at worst.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when a mismatch follows: the last star takes one byte more.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if let Some(next) = one(pattern, p, text[t]) {
            p = next;
            t += 1;
        } else if let Some((after, taken)) = star {
            p = after;
            t = taken + 1;
            star = Some((after, t));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// Matches one byte against what stands at `at`; the position behind it.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => set(pattern, at + 1, byte),
        b'\\' if at + 1 < pattern.len() => {
            pattern[at + 1].eq_ignore_ascii_case(&byte).then_some(at + 2)
        }
        other => other.eq_ignore_ascii_case(&byte).then_some(at + 1),
    }
}

/// Matches one byte against the set whose first member stands at `at`. A set that is not closed
/// ends with the pattern.
fn set(pattern: &[u8], mut at: usize, byte: u8) -> Option<usize> {
    let byte = byte.to_ascii_lowercase();
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    while let Some(&member) = pattern.get(at) {
        if member == b']' {
            at += 1;
            break;
        }
        at += usize::from(member == b'\\' && at + 1 < pattern.len());
        let low = pattern[at].to_ascii_lowercase();
        let range = pattern.get(at + 1) == Some(&b'-') && at + 2 < pattern.len();
        let high = if range { pattern[at + 2].to_ascii_lowercase() } else { low };
        found |= low.min(high) <= byte && byte <= low.max(high);
        at += if range { 3 } else { 1 };
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "save"),
            ("s*e", "save"),
            ("SAVE", "save"),
            ("s?ve", "save"),
            ("s[a-c]ve", "save"),
            ("s[^b]ve", "save"),
            ("s[xa]*", "save"),
            ("*a*b*c", "xxaxxbxxc"),
            ("\\*", "*"),
            ("s[a", "sa"),
        ] {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("s[^a]ve", "save"),
            ("s[]ve", "save"),
            ("*a*b*c", "xxaxxcxxb"),
            ("\\*", "a"),
            ("save*x", "save"),
        ] {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        assert!(!matches(&b"*a".repeat(2_000), &b"a".repeat(1_999)));
    }
}
