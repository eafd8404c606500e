//! Whole numbers as text, read the way Redis reads them.

/// The number that `text` is the shortest decimal form of; `None` for everything else: no blanks,
/// no plus sign, no leading zeros, nothing beyond 64 bits. So a number that was read is written
/// back as the same text.
#[must_use]
pub(crate) fn parse(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_the_shortest_form_is_a_number() {
        for value in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(parse(value.to_string().as_bytes()), Some(value));
        }
        for text in
            ["", "-", "+1", "01", "-0", "00", " 1", "1 ", "1.0", "0x1", "9223372036854775808", "a"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
