//! Splits inline commands, as typed into a terminal, into arguments.

/// Splits `line` at blanks, appends the arguments to `unquoted` and where each lies to `ranges`.
/// Within double quotes `\n \r \t \b \a`, `\xHH` and a backslash before anything else are escapes;
/// within single quotes only `\'` is. `None`: a quote is not closed, or something follows right
/// after one that is.
pub(super) fn split(
    line: &[u8],
    unquoted: &mut Vec<u8>,
    ranges: &mut Vec<(u32, u32)>,
) -> Option<()> {
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|&byte| is_blank(byte)) {
            at += 1;
        }
        if at == line.len() {
            return Some(());
        }
        let start = unquoted.len();
        at = argument(line, at, unquoted)?;
        ranges.push((start as u32, unquoted.len() as u32));
    }
}

/// Reads the argument that begins at `at`; where it ends.
fn argument(line: &[u8], mut at: usize, out: &mut Vec<u8>) -> Option<usize> {
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' | b'\'' => {
                at = quoted(line, at + 1, byte, out)?;
                return line.get(at).is_none_or(|&next| is_blank(next)).then_some(at);
            }
            _ if is_blank(byte) => break,
            _ => out.push(byte),
        }
        at += 1;
    }
    Some(at)
}

/// Reads up to the closing `quote`; the position behind it.
fn quoted(line: &[u8], mut at: usize, quote: u8, out: &mut Vec<u8>) -> Option<usize> {
    loop {
        let byte = *line.get(at)?;
        at += 1;
        match byte {
            _ if byte == quote => return Some(at),
            b'\\' if quote == b'\'' => {
                if line.get(at) == Some(&b'\'') {
                    at += 1;
                    out.push(b'\'');
                } else {
                    out.push(b'\\');
                }
            }
            b'\\' => at = escape(line, at, out)?,
            _ => out.push(byte),
        }
    }
}

/// Reads what follows a backslash within double quotes; the position behind it.
fn escape(line: &[u8], at: usize, out: &mut Vec<u8>) -> Option<usize> {
    let byte = *line.get(at)?;
    if byte == b'x'
        && let (Some(high), Some(low)) = (hex(line, at + 1), hex(line, at + 2))
    {
        out.push(high * 16 + low);
        return Some(at + 3);
    }
    out.push(match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    });
    Some(at + 1)
}

fn hex(line: &[u8], at: usize) -> Option<u8> {
    char::from(*line.get(at)?).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// What C's `isspace` takes for a blank.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

#[cfg(test)]
mod tests {
    use super::split;

    fn arguments(line: &str) -> Option<Vec<Vec<u8>>> {
        let (mut bytes, mut ranges) = (Vec::new(), Vec::new());
        split(line.as_bytes(), &mut bytes, &mut ranges)?;
        Some(ranges.iter().map(|&(from, to)| bytes[from as usize..to as usize].to_vec()).collect())
    }

    #[test]
    fn quotes_and_escapes() {
        for (line, expected) in [
            ("", vec![]),
            ("  \t ", vec![]),
            ("a  b", vec![&b"a"[..], b"b"]),
            (r#""a b" c"#, vec![b"a b", b"c"]),
            (r#""\x41\x0a\n\"\\\z\xg" ''"#, vec![b"A\n\n\"\\zxg", b""]),
            (r"'it\'s \n'", vec![br"it's \n"]),
            (r#"pre"fix""#, vec![b"prefix"]),
        ] {
            assert_eq!(arguments(line).unwrap(), expected, "{line}");
        }
        for line in ["\"a", "'a", "\"a\"b", "'a'b", "\"a\\", "\"a\\\""] {
            assert_eq!(arguments(line), None, "{line}");
        }
    }
}
