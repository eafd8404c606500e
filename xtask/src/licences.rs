//! Licences and sources of everything that the workspace depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::Findings;
use crate::manifest::{Package, Workspace};

/// The licences under which code may be linked into the program, by their SPDX names. All of them
/// allow use in a work under `MIT OR Apache-2.0`.
const ALLOWED: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// The only place that dependencies come from.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks every package that cargo resolves; reports duplicate major versions as a note.
pub(crate) fn check(root: &Path) -> Findings {
    match Workspace::load(root) {
        Ok(workspace) => {
            for note in duplicates(&workspace) {
                println!("    note: {note}");
            }
            judge(&workspace)
        }
        Err(problem) => vec![problem],
    }
}

fn judge(workspace: &Workspace) -> Findings {
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let shown = format!("{} {}", package.name, package.version);
        match &package.source {
            None if package.ours => {}
            None => findings.push(format!("{shown} comes from a folder outside of the workspace")),
            Some(source) if source == REGISTRY => {}
            Some(source) => {
                findings.push(format!("{shown} comes from {source}, not from crates.io"))
            }
        }
        match package.licence.as_deref().map(allows) {
            Some(Ok(true)) => {}
            Some(Ok(false)) => findings.push(format!(
                "{shown} is under `{}`, which the list in xtask/src/licences.rs does not allow",
                package.licence.as_deref().unwrap_or_default()
            )),
            Some(Err(problem)) => findings.push(format!("{shown}: {problem}")),
            None => findings.push(format!("{shown} states no licence")),
        }
    }
    findings
}

/// Packages of which several incompatible versions are built.
fn duplicates(workspace: &Workspace) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in &workspace.packages {
        versions.entry(&package.name).or_default().insert(major(package));
    }
    versions
        .into_iter()
        .filter(|(_, majors)| majors.len() > 1)
        .map(|(name, majors)| {
            let list: Vec<_> = majors.into_iter().collect();
            format!("{name} is there in versions {}", list.join(", "))
        })
        .collect()
}

/// The part of a version that tells incompatible ones apart.
fn major(package: &Package) -> String {
    let mut parts = package.version.split('.');
    match (parts.next(), parts.next()) {
        (Some("0"), Some(minor)) => format!("0.{minor}"),
        (Some(major), _) => major.to_owned(),
        _ => package.version.clone(),
    }
}

/// Whether a licence expression can be met by allowed licences alone.
///
/// # Errors
/// A sentence, if it is no SPDX expression.
fn allows(expression: &str) -> Result<bool, String> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let verdict = either(&mut words);
    match (verdict, words.next()) {
        (Some(verdict), None) => Ok(verdict),
        _ => Err(format!("`{expression}` is no licence expression")),
    }
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

/// `both (OR both)*`
fn either(words: &mut Words<'_>) -> Option<bool> {
    let mut verdict = both(words)?;
    while words.next_if_eq(&"OR").is_some() {
        verdict |= both(words)?;
    }
    Some(verdict)
}

/// `one (AND one)*`: binds closer than OR.
fn both(words: &mut Words<'_>) -> Option<bool> {
    let mut verdict = one(words)?;
    while words.next_if_eq(&"AND").is_some() {
        verdict &= one(words)?;
    }
    Some(verdict)
}

/// A licence, perhaps with an exception, or an expression in parentheses.
fn one(words: &mut Words<'_>) -> Option<bool> {
    let word = words.next()?;
    match word {
        "(" => {
            let verdict = either(words)?;
            words.next_if_eq(&")").map(|_| verdict)
        }
        ")" | "OR" | "AND" | "WITH" => None,
        licence => {
            let mut name = licence.to_owned();
            if words.next_if_eq(&"WITH").is_some() {
                name = format!("{licence} WITH {}", words.next()?);
            }
            Some(ALLOWED.contains(&name.as_str()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, licence: &str, source: Option<&str>) -> Package {
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "1.2.3".to_owned(),
            licence: (!licence.is_empty()).then(|| licence.to_owned()),
            source: source.map(str::to_owned),
            ..Package::default()
        }
    }

    #[test]
    fn expressions_mean_what_spdx_says() {
        assert_eq!(allows("MIT OR GPL-3.0"), Ok(true));
        assert_eq!(allows("MIT AND GPL-3.0"), Ok(false));
        assert_eq!(allows("GPL-3.0 OR MIT AND Apache-2.0"), Ok(true));
        assert_eq!(allows("(GPL-3.0 OR MIT) AND LGPL-2.1"), Ok(false));
        assert_eq!(allows("Apache-2.0 WITH LLVM-exception OR MIT"), Ok(true));
        assert_eq!(allows("Apache-2.0 WITH Strange-exception"), Ok(false));
        assert_eq!(allows("MIT/Apache-2.0"), Ok(true));
        assert!(allows("MIT OR").is_err());
        assert!(allows("(MIT").is_err());
        assert!(allows("MIT Apache-2.0").is_err());
    }

    #[test]
    fn strange_licences_and_sources_are_found() {
        let packages = vec![
            package("fine", "MIT", Some(REGISTRY)),
            package("copyleft", "GPL-3.0", Some(REGISTRY)),
            package("silent", "", Some(REGISTRY)),
            package("forked", "MIT", Some("git+https://example.org/forked")),
            package("beside", "MIT", None),
        ];
        let findings = judge(&Workspace { packages, ..Workspace::default() });
        assert_eq!(findings.len(), 4, "{findings:#?}");
        for (finding, name) in findings.iter().zip(["copyleft", "silent", "forked", "beside"]) {
            assert!(finding.starts_with(name), "{finding}");
        }
    }

    #[test]
    fn duplicates_are_told() {
        let mut older = package("twice", "MIT", Some(REGISTRY));
        older.version = "0.9.1".to_owned();
        let packages = vec![package("twice", "MIT", Some(REGISTRY)), older];
        let told = duplicates(&Workspace { packages, ..Workspace::default() });
        assert_eq!(told, ["twice is there in versions 0.9, 1"]);
    }
}
