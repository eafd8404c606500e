//! Words that have no place in the sources: notes to oneself, leftovers, names that say nothing,
//! sleeping, paths of one machine.

use super::ratchet::Ratchet;
use crate::scan::{code_only, is_word};
use crate::{Findings, tree::File};

/// Banned anywhere in a source, with what to do instead.
const NOTES: [(&str, &str); 5] = [
    (concat!("TO", "DO"), "do it now, or write it into docs/progress.md"),
    (concat!("FIX", "ME"), "fix it"),
    (concat!("XX", "X"), "say what it is"),
    (concat!("HA", "CK"), "say why it must be so"),
    (concat!("DES", "IGN"), "name a document that is in the repository"),
];

/// Banned in code, with what to do instead.
const LEFTOVERS: [(&str, &str); 6] = [
    ("dbg!", "trace it or drop it"),
    (concat!("to", "do!"), "write it"),
    (concat!("unimple", "mented!"), "write it"),
    ("#[ignore", "a test runs, or is not there"),
    ("#[allow(clippy::too_many_lines)]", "the ratchet counts lines"),
    ("unsafe { std::env::set_var", "pass it to the child process"),
];

/// Names of files and modules that say nothing about their subject.
const EMPTY_NAMES: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "misc", "stuff", "shared"];

/// Folders that exist on somebody's machine; a path into them means nothing elsewhere.
const SOMEBODYS: [&str; 7] = ["home", "root", "Users", "work", "workspace", "mnt", "tmp"];

/// Words and names in Rust sources.
pub(crate) fn check(sources: &[File], ratchet: &Ratchet) -> Findings {
    let mut findings = Vec::new();
    for file in sources {
        let code = code_only(&file.text);
        for (word, instead) in NOTES {
            findings.extend(lines_with(&file.path, &file.text, word, instead));
        }
        for (word, instead) in LEFTOVERS {
            findings.extend(lines_with(&file.path, &code, word, instead));
        }
        if let Some(name) = file.path.split(['/', '.']).find(|part| EMPTY_NAMES.contains(part)) {
            findings.push(format!("{}: `{name}` names no subject", file.path));
        }
        if !ratchet.sleeps.contains_key(&file.path) {
            let instead = "wait for an event; a pause between polls needs its reason in [sleeps] \
                           of xtask/ratchet.toml";
            findings.extend(lines_with(&file.path, &code, "sleep(", instead));
        }
    }
    for (path, reason) in &ratchet.sleeps {
        let used = sources.iter().any(|f| f.path == *path && code_only(&f.text).contains("sleep("));
        if !used || reason.trim().is_empty() {
            findings
                .push(format!("xtask/ratchet.toml: {path} in [sleeps] is unused or has no reason"));
        }
    }
    findings
}

/// Paths of one machine, in any text.
pub(crate) fn check_places(texts: &[File]) -> Findings {
    let mut findings = Vec::new();
    for file in texts {
        for (number, line) in (1..).zip(file.text.lines()) {
            if let Some(place) = place_in(line) {
                findings.push(format!(
                    "{}:{number}: {place} exists on one machine only; use a path inside of the \
                     repository or a temporary folder",
                    file.path
                ));
            }
        }
    }
    findings
}

fn lines_with(path: &str, text: &str, word: &str, instead: &str) -> Findings {
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| contains_word(line, word))
        .map(|(number, _)| format!("{path}:{number}: `{word}`: {instead}"))
        .collect()
}

/// Whether `word` stands in `line`, not as the end of a longer name.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let ends_in_word = word.chars().next_back().is_some_and(is_word);
        !(before.is_some_and(is_word) || ends_in_word && after.is_some_and(is_word))
    })
}

/// The first path in `line` that leads into somebody's folder.
fn place_in(line: &str) -> Option<&str> {
    line.match_indices('/').find_map(|(at, _)| {
        let begins =
            line[..at].chars().next_back().is_none_or(|c| !is_word(c) && !"/.-})>".contains(c));
        let rest = &line[at + 1..];
        let first = &rest[..rest.find(|c| !is_word(c)).unwrap_or(rest.len())];
        let leads_on = rest[first.len()..].starts_with('/');
        (begins && leads_on && SOMEBODYS.contains(&first)).then(|| &line[at..at + 1 + first.len()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Findings {
        check(&[File { path: path.to_owned(), text: text.to_owned() }], &Ratchet::default())
    }

    #[test]
    fn notes_and_leftovers_are_found() {
        for (word, _) in NOTES {
            assert_eq!(findings("a.rs", &format!("// {word}: later\n")).len(), 1, "{word}");
        }
        for (word, _) in LEFTOVERS {
            assert_eq!(findings("a.rs", &format!("  {word}(x);\n")).len(), 1, "{word}");
            assert_eq!(findings("a.rs", &format!("  // {word}(x);\n")).len(), 0, "{word}");
        }
        assert_eq!(findings("a.rs", "let mask = mytodo!();\n"), Findings::new());
    }

    #[test]
    fn names_without_a_subject_are_found() {
        assert_eq!(findings("crates/x/src/util.rs", "").len(), 1);
        assert_eq!(findings("crates/helpers/src/a.rs", "").len(), 1);
        assert_eq!(findings("crates/x/src/uncommon.rs", ""), Findings::new());
    }

    #[test]
    fn sleeping_needs_a_reason() {
        let text = "    thread::sleep(short);\n";
        assert_eq!(findings("a.rs", text).len(), 1);
        let sources = [File { path: "a.rs".to_owned(), text: text.to_owned() }];
        let mut ratchet = Ratchet::default();
        ratchet.sleeps.insert("a.rs".to_owned(), "polls a process".to_owned());
        assert_eq!(check(&sources, &ratchet), Findings::new());
        ratchet.sleeps.insert("b.rs".to_owned(), "is gone".to_owned());
        assert_eq!(check(&sources, &ratchet).len(), 1);
        ratchet.sleeps = [("a.rs".to_owned(), " ".to_owned())].into();
        assert_eq!(check(&sources, &ratchet).len(), 1);
    }

    #[test]
    fn places_of_one_machine_are_found() {
        for folder in SOMEBODYS {
            let text = format!("see `/{folder}/mine/x` there\n");
            let texts = [File { path: "a.md".to_owned(), text }];
            assert_eq!(check_places(&texts).len(), 1, "{folder}");
        }
        for fine in
            ["/proc/self", "target/tmp/x", "https://example.org/work/x", "at/home/x", "/root"]
        {
            assert_eq!(place_in(fine), None, "{fine}");
        }
    }
}
