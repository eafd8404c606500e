//! Links between the documents lead somewhere.

use std::fs;
use std::path::Path;

use crate::{Findings, tree::File};

/// Every link to a file or heading of the repository that is not there.
pub(crate) fn check(root: &Path, documents: &[File]) -> Findings {
    let mut findings = Vec::new();
    for document in documents {
        for (line, _, link) in links(&document.text) {
            if let Some(problem) = broken(root, document, &link) {
                findings.push(format!("{}:{line}: the link `{link}` {problem}", document.path));
            }
        }
    }
    findings
}

fn broken(root: &Path, document: &File, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = link.split_once('#').unwrap_or((link, ""));
    let folder = Path::new(&document.path).parent().unwrap_or(Path::new(""));
    let target = root.join(folder).join(path);
    let text = if path.is_empty() {
        document.text.clone()
    } else if !target.exists() {
        return Some("leads nowhere".to_owned());
    } else {
        fs::read_to_string(&target).unwrap_or_default()
    };
    let there = heading.is_empty() || headings(&text).iter().any(|known| known == heading);
    (!there).then(|| format!("names a heading that {} does not have", target.display()))
}

/// The links of a document with their lines and what is shown of them, those in blocks of code left
/// out.
pub(crate) fn links(text: &str) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for (at, _) in line.match_indices("](") {
            let shown = line[..at].rsplit('[').next().unwrap_or_default();
            if let Some((link, _)) = line[at + 2..].split_once(')') {
                found.push((number, shown.to_owned(), link.to_owned()));
            }
        }
    }
    found
}

/// The anchors of a document's headings, as they are formed on the web.
fn headings(text: &str) -> Vec<String> {
    prose(text)
        .filter_map(|(_, line)| line.strip_prefix('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|title| {
            let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// The lines outside of blocks of code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    (1..).zip(text.lines()).filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn dead_links_are_found() {
        let root = tempfile::tempdir().unwrap();
        tree::write(root.path(), "docs/b.md", "# The second: one\n");
        let text = "[a](b.md) [b](b.md#the-second-one) [c](https://example.org/x)\n\
                    [d](c.md) [e](b.md#third)\n# Own\n[f](#own) [g](#other)\n\
                    ```\n[h](nowhere.md)\n```\n";
        tree::write(root.path(), "docs/a.md", text);
        let findings = check(root.path(), &tree::files(root.path(), &[".md"]));
        assert_eq!(findings.len(), 3, "{findings:#?}");
        for (finding, link) in findings.iter().zip(["c.md", "b.md#third", "#other"]) {
            assert!(finding.contains(&format!("`{link}`")), "{finding}");
        }
    }
}
