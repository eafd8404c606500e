//! One word a concept: the synonyms that docs/glossary.md lists are not used as names in the
//! consensus crate. Warned of, not failed: a synonym may be another concept's word.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::scan::{code_only, is_word};
use crate::tree::File;

const GLOSSARY: &str = "docs/glossary.md";
const WHERE: &str = "crates/protocol/consensus/src/";

/// Each file that uses a synonym, with the word to use instead.
pub(crate) fn warnings(root: &Path, sources: &[File]) -> Vec<String> {
    let glossary = fs::read_to_string(root.join(GLOSSARY)).unwrap_or_default();
    let synonyms = synonyms(&glossary);
    let mut warnings = Vec::new();
    for file in sources.iter().filter(|file| file.path.starts_with(WHERE)) {
        let words = words(&code_only(&file.text));
        for (synonym, term) in &synonyms {
            if words.contains(synonym) {
                warnings.push(format!("{} says `{synonym}`; the glossary says {term}", file.path));
            }
        }
    }
    warnings
}

/// Of each row `| term | meaning | source | synonyms |`: the synonyms in backticks, and the term.
fn synonyms(glossary: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in glossary.lines() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if let [term, _, _, synonyms] = cells.as_slice() {
            let quoted = synonyms.split('`').skip(1).step_by(2);
            found.extend(quoted.map(|word| (word.to_lowercase(), (*term).to_owned())));
        }
    }
    found
}

/// The single words that names are made of, in lower case.
fn words(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for name in code.split(|c| !is_word(c)) {
        let mut word = String::new();
        for character in name.chars() {
            if character == '_' || character.is_uppercase() {
                found.insert(std::mem::take(&mut word));
            }
            if character != '_' {
                word.extend(character.to_lowercase());
            }
        }
        found.insert(word);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree;

    #[test]
    fn synonyms_in_names_are_found() {
        let root = tempfile::tempdir().unwrap();
        tree::write(
            root.path(),
            GLOSSARY,
            "| word | meaning | source | not said |\n|---|---|---|---|\n\
             | `Ballot` | who may propose | Lamport | `term` (Raft), `vote` |\n",
        );
        let warned = |text: &str| {
            let path = format!("{WHERE}a.rs");
            warnings(root.path(), &[File { path, text: text.to_owned() }])
        };
        assert_eq!(warned("let current_term = 1;").len(), 1);
        assert_eq!(warned("struct CurrentTerm(u64);").len(), 1);
        assert_eq!(warned("let determine = 1; // term"), Vec::<String>::new());
    }
}
