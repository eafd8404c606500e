//! What the compiler does not see: arrows between crates, lengths, words, links, names in documents.

mod arrows;
mod glossary;
mod length;
mod links;
mod names;
mod ratchet;
mod words;

use std::path::Path;

use crate::{Findings, manifest::Workspace, tree};
use ratchet::Ratchet;

/// Where the exceptions stand that may only shrink.
const RATCHET: &str = "xtask/ratchet.toml";

/// All of it.
pub(crate) fn check(root: &Path) -> Findings {
    let mut findings = match Workspace::load(root) {
        Ok(workspace) => arrows::check(&workspace),
        Err(problem) => vec![problem],
    };
    let ratchet = match Ratchet::read(&root.join(RATCHET)) {
        Ok(ratchet) => ratchet,
        Err(problem) => {
            findings.push(problem);
            return findings;
        }
    };
    let sources = tree::files(root, &[".rs"]);
    findings.extend(length::check(&sources, &ratchet));
    findings.extend(words::check(&sources, &ratchet));
    let texts = tree::files(root, &[".rs", ".md", ".toml", ".sh", ".py", ".yml", "run"]);
    findings.extend(words::check_places(&texts));
    let documents = tree::files(root, &[".md"]);
    findings.extend(links::check(root, &documents));
    findings.extend(names::check(&documents, &sources));
    for warning in glossary::warnings(root, &sources) {
        println!("    warning: {warning}");
    }
    findings
}

/// Lowers the marks of the ratchet to what is there; never raises one.
pub(crate) fn shrink(root: &Path) -> Findings {
    let path = root.join(RATCHET);
    let shrunk = Ratchet::read(&path)
        .map(|ratchet| length::shrunk(&tree::files(root, &[".rs"]), ratchet))
        .and_then(|ratchet| ratchet.write(&path));
    shrunk.err().into_iter().collect()
}
