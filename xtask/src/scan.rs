//! Reading Rust source just well enough: what is code and what is comment or text in quotes, and
//! where functions begin and end.

/// `source` with every character of comments and of quoted text replaced by a space, so that only
/// code is left; lines stay where they are.
pub(crate) fn code_only(source: &str) -> String {
    let characters: Vec<char> = source.chars().collect();
    let mut out: Vec<char> = Vec::with_capacity(characters.len());
    let mut at = 0;
    while at < characters.len() {
        let end = end_of_quiet(&characters, at);
        if end == at {
            out.push(characters[at]);
            at += 1;
        } else {
            out.extend(characters[at..end].iter().map(|&c| if c == '\n' { c } else { ' ' }));
            at = end;
        }
    }
    out.into_iter().collect()
}

/// Where the comment, string or character that begins at `at` ends; `at` itself if none does.
fn end_of_quiet(text: &[char], at: usize) -> usize {
    let next = text.get(at + 1).copied();
    match text[at] {
        '/' if next == Some('/') => find(text, at, |c| c == '\n'),
        '/' if next == Some('*') => end_of_block(text, at),
        '"' => end_of_string(text, at),
        'r' | 'b' | 'c' if !follows_word(text, at) => end_of_prefixed(text, at),
        '\'' => end_of_character(text, at),
        _ => at,
    }
}

fn find(text: &[char], from: usize, wanted: impl Fn(char) -> bool) -> usize {
    text[from..].iter().position(|&c| wanted(c)).map_or(text.len(), |offset| from + offset)
}

fn follows_word(text: &[char], at: usize) -> bool {
    at > 0 && is_word(text[at - 1])
}

/// Whether a character may stand in a name.
pub(crate) fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn end_of_block(text: &[char], at: usize) -> usize {
    let mut depth = 0usize;
    let mut position = at;
    while position < text.len() {
        match (text[position], text.get(position + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                position += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                position += 2;
                if depth == 0 {
                    return position;
                }
            }
            _ => position += 1,
        }
    }
    text.len()
}

fn end_of_string(text: &[char], quote: usize) -> usize {
    let mut position = quote + 1;
    while position < text.len() {
        match text[position] {
            '\\' => position += 2,
            '"' => return position + 1,
            _ => position += 1,
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`, `b"…"`, `br"…"`, `c"…"`, `b'…'`.
fn end_of_prefixed(text: &[char], at: usize) -> usize {
    let mut position = at + 1;
    let raw_after = text.get(position) == Some(&'r') && text[at] != 'r';
    let raw = text[at] == 'r' || raw_after;
    position += usize::from(raw_after);
    let hashes = text[position.min(text.len())..].iter().take_while(|&&c| c == '#').count();
    match text.get(position + hashes) {
        Some('"') if raw => end_of_raw(text, position + hashes, hashes),
        Some('"') if hashes == 0 => end_of_string(text, position),
        Some('\'') if hashes == 0 && text[at] == 'b' => end_of_character(text, position),
        _ => at,
    }
}

fn end_of_raw(text: &[char], quote: usize, hashes: usize) -> usize {
    let mut position = quote + 1;
    while position < text.len() {
        let closing = text[position] == '"'
            && text[position + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
        if closing {
            return position + 1 + hashes;
        }
        position += 1;
    }
    text.len()
}

/// A character in quotes; a lifetime is left alone.
fn end_of_character(text: &[char], at: usize) -> usize {
    match text.get(at + 1) {
        Some('\\') => find(text, at + 3, |c| c == '\'').saturating_add(1).min(text.len()),
        Some(_) if text.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
}

/// A function found in a source.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// The line of its `fn`, from 1.
    pub(crate) line: usize,
    /// Lines from its `fn` to its closing brace.
    pub(crate) lines: usize,
}

/// The functions with a body, in the order of their beginnings. `code` is what [`code_only`] gave.
pub(crate) fn functions(code: &str) -> Vec<Function> {
    let text: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    let mut line = 1;
    for at in 0..text.len() {
        if text[at] == '\n' {
            line += 1;
        }
        let is_fn = text[at..].starts_with(&['f', 'n', ' ']) && !follows_word(&text, at);
        if !is_fn {
            continue;
        }
        let name: String = text[at + 3..].iter().take_while(|&&c| is_word(c)).collect();
        if let Some(end) = end_of_body(&text, at).filter(|_| !name.is_empty()) {
            let lines = 1 + text[at..end].iter().filter(|&&c| c == '\n').count();
            found.push(Function { name, line, lines });
        }
    }
    found
}

/// Where the body of the function at `at` ends; `None` if it has none.
fn end_of_body(text: &[char], at: usize) -> Option<usize> {
    let mut nested = 0i32;
    let mut depth = 0i32;
    for (offset, character) in text[at..].iter().enumerate() {
        match character {
            '(' | '[' => nested += 1,
            ')' | ']' => nested -= 1,
            ';' if depth == 0 && nested == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + offset);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_texts_are_blank() {
        let source =
            "let a = \"fn x {\"; // fn y {\n/* fn /* z */ { */ let b = 'q'; let c: &'a u8;";
        let code = code_only(source);
        assert_eq!(code.lines().count(), 2);
        assert!(!code.contains("fn"), "{code}");
        assert!(code.contains("let b") && code.contains("&'a u8"), "{code}");
    }

    #[test]
    fn raw_and_byte_texts_are_blank() {
        let source =
            "f(r#\"a \" fn {\"#, b\"fn {\", br\"\\\", '\\'', b'{', '\\u{7f}', r#type, rest)";
        let code = code_only(source);
        assert!(!code.contains("fn") && !code.contains('{'), "{code}");
        assert!(code.contains("r#type") && code.contains("rest"), "{code}");
    }

    #[test]
    fn functions_are_measured() {
        let source =
            "fn a() {\n  if x {\n  }\n}\ntrait T {\n  fn b(&self, n: [u8; 2]);\n  fn c() {}\n}\n";
        let found = functions(&code_only(source));
        let wanted = [("a", 1, 4), ("c", 7, 1)];
        let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(found, wanted);
    }
}
