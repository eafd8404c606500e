//! The checks that every change runs: `cargo xtask ci` here and `.ci/run` elsewhere do the same.
//!
//! Each check is a command of its own as well, and each has a test in which it fails.

#![forbid(unsafe_code)]

mod coverage;
mod licences;
mod manifest;
mod progress;
mod purity;
mod scan;
mod tidy;
mod tree;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use progress::Progress;

const USAGE: &str = "\
The checks that every change runs.

Usage: cargo xtask <COMMAND>

Commands:
  ci [--without STEP]...  every check below, in this order, and a closing summary
  fmt [--fix]             the code is formatted as rustfmt.toml says
  tidy [--shrink]         arrows, lengths, words, links; --shrink lowers the marks in ratchet.toml
  deny                    licences and sources of all dependencies
  purity                  the protocol crates build without std and depend on nothing else
  clippy                  no lint on any target
  docs                    the documentation builds; every link in it leads somewhere
  test                    cargo test --workspace
  coverage [FIRST COUNT]  which places of the protocol crates seeds of the simulator reach

Example, before a push:
  cargo xtask ci
";

/// The steps of `ci`, in order: quick ones first, tests last, so that their summary closes.
const STEPS: [(&str, Step); 7] = [
    ("fmt", fmt),
    ("tidy", tidy::check),
    ("deny", licences::check),
    ("purity", purity::check),
    ("clippy", clippy),
    ("docs", docs),
    ("test", test),
];

/// A check: the problems it found, none if all is well.
type Step = fn(&Path) -> Findings;

/// What a check found wrong, one sentence each.
pub(crate) type Findings = Vec<String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = root();
    match words.as_slice() {
        ["ci", rest @ ..] => ci(&root, rest),
        ["fmt", "--fix"] => report("fmt", cargo(&root, &["fmt", "--all"], &[])),
        ["tidy", "--shrink"] => report("tidy", tidy::shrink(&root)),
        ["coverage"] => report("coverage", coverage::measure(&root, 1, coverage::SEEDS)),
        ["coverage", first, count] => match (first.parse(), count.parse()) {
            (Ok(first), Ok(count)) => report("coverage", coverage::measure(&root, first, count)),
            _ => usage("`coverage` wants the first seed and how many"),
        },
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        [name] => match STEPS.iter().find(|(step, _)| step == name) {
            Some((step, run)) => report(step, run(&root)),
            None => usage(&format!("there is no command `{name}`")),
        },
        [first, ..] => usage(&format!("`{first}` does not take what follows it")),
    }
}

fn usage(problem: &str) -> ExitCode {
    eprintln!("error: {problem}\n\n{USAGE}");
    ExitCode::from(2)
}

fn report(step: &str, findings: Findings) -> ExitCode {
    for finding in &findings {
        eprintln!("{step}: {finding}");
    }
    if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn ci(root: &Path, arguments: &[&str]) -> ExitCode {
    let mut without = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match (*argument, rest.next()) {
            ("--without", Some(step)) if STEPS.iter().any(|(name, _)| name == step) => {
                without.push(*step);
            }
            ("--without", Some(step)) => return usage(&format!("there is no step `{step}`")),
            ("--without", None) => return usage("--without wants the name of a step"),
            (other, _) => return usage(&format!("`ci` does not know `{other}`")),
        }
    }
    let steps: Vec<_> = STEPS.iter().filter(|(name, _)| !without.contains(name)).collect();
    let mut progress = Progress::new(steps.len());
    for (name, run) in steps {
        progress.begin(name);
        progress.end(run(root));
    }
    progress.close()
}

/// The root of the workspace: the folder above this crate's.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Runs cargo with its output passed through; in tests it stands with the test's own output.
pub(crate) fn cargo(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Findings {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder).args(arguments).envs(environment.iter().copied());
    let shown = format!("cargo {}", arguments.join(" "));
    let status = if cfg!(test) {
        command.output().map(|output| {
            print!("{}", String::from_utf8_lossy(&output.stdout));
            print!("{}", String::from_utf8_lossy(&output.stderr));
            output.status
        })
    } else {
        command.status()
    };
    match status {
        Ok(status) if status.success() => Vec::new(),
        Ok(status) => vec![format!("`{shown}` failed ({status})")],
        Err(error) => vec![format!("`{shown}` could not be started: {error}")],
    }
}

fn fmt(root: &Path) -> Findings {
    cargo(root, &["fmt", "--all", "--check"], &[])
}

fn clippy(root: &Path) -> Findings {
    cargo(root, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])
}

fn docs(root: &Path) -> Findings {
    let flags = "-D warnings -D rustdoc::broken_intra_doc_links";
    cargo(root, &["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", flags)])
}

fn test(root: &Path) -> Findings {
    cargo(root, &["test", "--workspace"], &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_a_finding() {
        let empty = tempfile::tempdir().unwrap();
        let findings = fmt(empty.path());
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains("cargo fmt --all --check"), "{findings:?}");
    }

    #[test]
    fn each_of_cargos_own_checks_fails_where_it_should() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| tree::write(tree.path(), path, text);
        write(
            "Cargo.toml",
            "[package]\nname = \"planted\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n",
        );
        write("src/lib.rs", "//! Planted.\n\n/// Fine.\npub fn fine() {}\n");
        assert_eq!(fmt(tree.path()), Findings::new());
        assert_eq!(clippy(tree.path()), Findings::new());
        assert_eq!(docs(tree.path()), Findings::new());
        write("src/lib.rs", "//! Planted.\n   pub fn badly()   {}\n");
        assert_eq!(fmt(tree.path()).len(), 1);
        write("src/lib.rs", "//! Planted.\n\nfn unused() {}\n");
        assert_eq!(clippy(tree.path()).len(), 1);
        write("src/lib.rs", "//! Planted: [`Nowhere`].\n");
        assert_eq!(docs(tree.path()).len(), 1);
        write("src/lib.rs", "//! Planted.\n\n#[test]\nfn fails() {\n    panic!()\n}\n");
        assert_eq!(test(tree.path()).len(), 1);
    }
}
