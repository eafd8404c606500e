//! Lengths of files and functions.

use super::ratchet::Ratchet;
use crate::scan::{code_only, functions};
use crate::{Findings, tree::File};

/// The most lines of a file: past it, ask what its second subject is.
const FILE_LINES_MAX: usize = 600;

/// The most lines of a function.
const FUNCTION_LINES_MAX: usize = 70;

/// Something with a length: its key in the ratchet, its lines, whether it is a function.
struct Measured {
    key: String,
    lines: usize,
    function: bool,
}

impl Measured {
    fn limit(&self) -> usize {
        if self.function { FUNCTION_LINES_MAX } else { FILE_LINES_MAX }
    }

    fn mark(&self, ratchet: &Ratchet) -> Option<usize> {
        let marks = if self.function { &ratchet.functions } else { &ratchet.files };
        marks.get(&self.key).copied()
    }
}

/// Everything in the sources that is too long. Where several functions of a file share a name, the
/// longest of them counts.
fn too_long(sources: &[File]) -> Vec<Measured> {
    let mut found: Vec<Measured> = Vec::new();
    for file in sources {
        let lines = file.text.lines().count();
        found.push(Measured { key: file.path.clone(), lines, function: false });
        let mut inside = functions(&code_only(&file.text));
        inside.sort_by(|one, other| (&one.name, other.lines).cmp(&(&other.name, one.lines)));
        inside.dedup_by(|later, first| later.name == first.name);
        found.extend(inside.into_iter().map(|function| Measured {
            key: format!("{}::{}", file.path, function.name),
            lines: function.lines,
            function: true,
        }));
    }
    found.retain(|measured| measured.lines > measured.limit());
    found
}

/// What is too long and not excepted, or longer than its mark, and marks that are no longer true.
pub(crate) fn check(sources: &[File], ratchet: &Ratchet) -> Findings {
    let long = too_long(sources);
    let mut findings = Vec::new();
    for measured in &long {
        let (key, lines, limit) = (&measured.key, measured.lines, measured.limit());
        match measured.mark(ratchet) {
            None => findings.push(format!("{key} has {lines} lines, more than {limit}: split it")),
            Some(mark) if lines > mark => findings.push(format!(
                "{key} has grown to {lines} lines; its mark of {mark} may only shrink: split it"
            )),
            Some(mark) if lines < mark => findings.push(format!(
                "{key} has shrunk to {lines} lines: lower its mark by `cargo xtask tidy --shrink`"
            )),
            Some(_) => {}
        }
    }
    let there = |key: &String| long.iter().any(|measured| measured.key == *key);
    for key in ratchet.files.keys().chain(ratchet.functions.keys()).filter(|key| !there(key)) {
        findings.push(format!(
            "{key} is no longer too long: drop its mark by `cargo xtask tidy --shrink`"
        ));
    }
    findings
}

/// The ratchet with every mark lowered to what is there.
pub(crate) fn shrunk(sources: &[File], mut ratchet: Ratchet) -> Ratchet {
    let long = too_long(sources);
    for (marks, function) in [(&mut ratchet.files, false), (&mut ratchet.functions, true)] {
        marks.retain(|key, mark| {
            let there = long.iter().find(|one| one.function == function && one.key == *key);
            there.inspect(|measured| *mark = measured.lines.min(*mark)).is_some()
        });
    }
    ratchet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: String) -> File {
        File { path: path.to_owned(), text }
    }

    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
    }

    #[test]
    fn long_files_and_functions_are_found() {
        let sources = [
            file("a.rs", "// line\n".repeat(601)),
            file("b.rs", function(71)),
            file("c.rs", function(70)),
        ];
        let findings = check(&sources, &Ratchet::default());
        assert_eq!(findings.len(), 2, "{findings:#?}");
        assert!(findings[0].starts_with("a.rs has 601 lines"), "{findings:#?}");
        assert!(findings[1].starts_with("b.rs::long has 71 lines"), "{findings:#?}");
    }

    #[test]
    fn marks_may_only_shrink() {
        let mut ratchet = Ratchet::default();
        ratchet.functions.insert("a.rs::long".to_owned(), 80);
        assert_eq!(check(&[file("a.rs", function(80))], &ratchet), Findings::new());
        assert_eq!(check(&[file("a.rs", function(81))], &ratchet).len(), 1);
        assert_eq!(check(&[file("a.rs", function(79))], &ratchet).len(), 1);
        assert_eq!(check(&[file("a.rs", function(60))], &ratchet).len(), 1);
        let lowered = shrunk(&[file("a.rs", function(79))], ratchet.clone());
        assert_eq!(lowered.functions["a.rs::long"], 79);
        let kept = shrunk(&[file("a.rs", function(99))], ratchet.clone());
        assert_eq!(kept.functions["a.rs::long"], 80);
        assert!(shrunk(&[], ratchet).functions.is_empty());
    }
}
