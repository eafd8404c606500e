//! Names that documents link to are there, and public threads that sources name are answered for in
//! docs/threads.md.

use std::collections::BTreeSet;

use super::links::links;
use crate::scan::is_word;
use crate::{Findings, tree::File};

/// Whose users suffered what, and which test answers it.
const THREADS: &str = "docs/threads.md";

/// Every test, item or scenario that a document links to by its name and that is not in that file, and
/// every row of docs/threads.md without a test.
pub(crate) fn check(documents: &[File], sources: &[File]) -> Findings {
    let mut findings = Vec::new();
    for document in documents {
        for (line, text, link) in links(&document.text) {
            let Some(name) = quoted(&text) else { continue };
            let Some(source) = source_of(&document.path, &link, sources) else { continue };
            if !holds(&source.text, name) {
                findings.push(format!(
                    "{}:{line}: {} has no test, item or scenario `{name}`",
                    document.path, source.path
                ));
            }
        }
        if document.path == THREADS {
            findings.extend(rows_without_a_test(document));
        }
    }
    findings.extend(threads_not_listed(documents, sources));
    findings
}

/// Of "`name`": the name.
fn quoted(text: &str) -> Option<&str> {
    let name = text.strip_prefix('`')?.strip_suffix('`')?;
    name.chars().all(|c| is_word(c) || c == '-').then_some(name)
}

/// The source that a link of a document leads to.
fn source_of<'a>(document: &str, link: &str, sources: &'a [File]) -> Option<&'a File> {
    let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut path: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        if part == ".." {
            path.pop();
        } else {
            path.push(part);
        }
    }
    let path = path.join("/");
    sources.iter().find(|source| source.path == path)
}

/// Whether a source has an item of that name, or says it as a whole string: scenarios, and tests of a
/// program that runs them by itself.
fn holds(source: &str, name: &str) -> bool {
    let item = ["fn", "struct", "enum", "trait", "mod"].iter().any(|kind| {
        let wanted = format!("{kind} {name}");
        source
            .match_indices(&wanted)
            .any(|(at, _)| !source[at + wanted.len()..].chars().next().is_some_and(is_word))
    });
    item || source.contains(&format!("\"{name}\""))
}

/// The rows of tables with a thread in them that link to no name in a source. A row of two cells is
/// about something that is not there yet.
fn rows_without_a_test(document: &File) -> Findings {
    let mut findings = Vec::new();
    for (line, row) in (1..).zip(document.text.lines()) {
        let cells = row.trim().trim_matches('|').split('|').count();
        if row.starts_with('|') && cells > 2 && !threads(row).is_empty() && !row.contains(".rs)") {
            findings.push(format!("{}:{line}: no test is named", document.path));
        }
    }
    findings
}

/// Threads that a comment of a source names and docs/threads.md does not.
fn threads_not_listed(documents: &[File], sources: &[File]) -> Findings {
    let listed = documents.iter().find(|document| document.path == THREADS);
    let listed: BTreeSet<String> =
        listed.iter().flat_map(|document| threads(&document.text)).map(short).collect();
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| !source.path.starts_with("xtask/")) {
        for (number, line) in (1..).zip(source.text.lines()) {
            let comment = line.find("//").map_or("", |at| &line[at..]);
            for thread in
                threads(comment).into_iter().filter(|t| !listed.contains(&short(t.clone())))
            {
                findings
                    .push(format!("{}:{number}: {THREADS} does not list {thread}", source.path));
            }
        }
    }
    findings
}

/// The words of a text that name a thread: `owner/project#12`, or `project#12`. A number alone after a
/// comma belongs to the project before it.
fn threads(text: &str) -> Vec<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
    let mut found = Vec::new();
    let mut project = String::new();
    let mut last_end = 0;
    for (at, _) in text.match_indices('#') {
        let begin = text[..at].char_indices().rev().take_while(|(_, c)| is_name(*c)).last();
        let begin = begin.map_or(at, |(begin, _)| begin);
        if begin < at {
            text[begin..at].clone_into(&mut project);
        } else if text.get(last_end..at) != Some(", ") {
            project.clear();
        }
        let number: String = text[at + 1..].chars().take_while(char::is_ascii_digit).collect();
        last_end = at + 1 + number.len();
        if project.chars().any(char::is_alphabetic) && !number.is_empty() {
            found.push(format!("{project}#{number}"));
        }
    }
    found
}

/// Without the owner.
fn short(thread: String) -> String {
    thread.rsplit_once('/').map_or(thread.clone(), |(_, rest)| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_test_that_was_renamed_is_found() {
        let sources = [file("crates/a/tests/b.rs", "#[test]\nfn it_goes_on_after() {}\n")];
        let checked = |name: &str| {
            let row =
                format!("| x/y#1 | they waited | [`{name}`](../crates/a/tests/b.rs) | so |\n");
            check(&[file(THREADS, &row)], &sources)
        };
        assert_eq!(checked("it_goes_on_after"), Findings::new());
        assert_eq!(checked("it_goes_on").len(), 1);
        assert_eq!(checked("on_after").len(), 1);
    }

    #[test]
    fn scenarios_are_named_by_strings() {
        let sources = [file("sim/scenario.rs", "name: \"slow-disk\",\n")];
        let document = |name: &str| [file("a.md", &format!("[`{name}`](sim/scenario.rs)\n"))];
        assert_eq!(check(&document("slow-disk"), &sources), Findings::new());
        assert_eq!(check(&document("slow"), &sources).len(), 1);
    }

    #[test]
    fn a_row_needs_a_test_unless_it_is_about_what_is_not_there_yet() {
        let rows =
            "| x/y#1 | they waited | nothing | so |\n| x/y#2 | later |\n| thread | a | b | c |\n";
        assert_eq!(check(&[file(THREADS, rows)], &[]).len(), 1);
    }

    #[test]
    fn a_thread_that_a_source_names_is_listed() {
        let listed = [file(THREADS, "| x/z#1, x/y#3, #12 | later |\n")];
        let named = |text: &str| check(&listed, &[file("a.rs", text)]);
        assert_eq!(named("// y#12, x/y#12: they waited. Item #3.\n"), Findings::new());
        assert_eq!(named("// y#1: they waited.\n").len(), 1);
        assert_eq!(named("// y#12, #13: they waited.\n").len(), 1);
        assert_eq!(named("let text = \"y#1\";\n"), Findings::new());
    }
}
