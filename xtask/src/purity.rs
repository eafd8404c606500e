//! The protocol crates do no input or output, because they cannot: they build without std and
//! depend on nothing that could.

use std::fs;
use std::path::{Path, PathBuf};

use crate::manifest::{Package, Workspace};
use crate::scan::code_only;
use crate::{Findings, cargo};

/// What may be linked into a protocol crate beside the workspace's own pure crates. All of it is
/// `no_std` and free of global state.
const ALLOWED: [&str; 3] = ["bytes", "cfg-if", "crc32fast"];

/// What the first file of a pure crate says.
const ATTRIBUTES: [&str; 2] = ["#![no_std]", "#![forbid(unsafe_code)]"];

/// A further target that has no std at all; built for where its core library is installed.
const BARE_TARGET: &str = "thumbv7em-none-eabi";

/// Checks the dependencies and attributes of the pure crates, then links them without std.
pub(crate) fn check(root: &Path) -> Findings {
    let workspace = match Workspace::load(root) {
        Ok(workspace) => workspace,
        Err(problem) => return vec![problem],
    };
    let mut findings = dependencies(&workspace);
    for package in workspace.ours().filter(|package| is_pure(package)) {
        findings.extend(attributes(package));
    }
    findings.extend(probe(root, &root.join("xtask/no_std_probe")));
    findings.extend(bare_target(root, &workspace));
    findings
}

/// Whether a crate of the workspace is one of the pure ones.
fn is_pure(package: &Package) -> bool {
    let manifest = package.manifest.replace('\\', "/");
    manifest.contains("/crates/protocol/") || manifest.ends_with("/crates/model/Cargo.toml")
}

fn dependencies(workspace: &Workspace) -> Findings {
    let mut findings = Vec::new();
    for package in workspace.ours().filter(|package| is_pure(package)) {
        for linked in workspace.linked_into(package) {
            let fine =
                if linked.ours { is_pure(linked) } else { ALLOWED.contains(&linked.name.as_str()) };
            if !fine {
                let (pure, other) = (&package.name, &linked.name);
                findings.push(format!("{pure} must stay pure, but {other} is linked into it"));
            }
        }
    }
    findings
}

fn attributes(package: &Package) -> Findings {
    let first = first_file(package);
    let text = match fs::read_to_string(&first) {
        Ok(text) => code_only(&text),
        Err(error) => return vec![format!("{} cannot be read: {error}", first.display())],
    };
    ATTRIBUTES
        .iter()
        .filter(|attribute| !text.lines().any(|line| line.trim() == **attribute))
        .map(|attribute| format!("{}: `{attribute}` is missing", first.display()))
        .collect()
}

fn first_file(package: &Package) -> PathBuf {
    Path::new(&package.manifest).with_file_name("src").join("lib.rs")
}

/// Builds and links a program without std out of the pure crates.
fn probe(root: &Path, folder: &Path) -> Findings {
    let target = root.join("target/probe");
    let target = target.to_string_lossy();
    let arguments = ["build", "--quiet", "--locked", "--target-dir", &target];
    // The flags of the outer build are meant for programs with std.
    let mut findings = cargo(folder, &arguments, &[("RUSTFLAGS", "")]);
    if !findings.is_empty() {
        findings.push(
            "the pure crates do not link without std; a duplicate `panic_impl` above means that \
             the crate it names brings std in"
                .to_owned(),
        );
    }
    findings
}

fn bare_target(root: &Path, workspace: &Workspace) -> Findings {
    if !installed(BARE_TARGET) {
        println!(
            "    note: {BARE_TARGET} is not installed (rustup target add), so only the probe was linked"
        );
        return Vec::new();
    }
    let mut arguments = vec!["check", "--quiet", "--locked", "--target", BARE_TARGET];
    for package in workspace.ours().filter(|package| is_pure(package)) {
        arguments.extend(["--package", &package.name]);
    }
    cargo(root, &arguments, &[])
}

fn installed(target: &str) -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    std::process::Command::new(rustc)
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tree;

    fn package(name: &str, manifest: &str) -> Package {
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            manifest: manifest.to_owned(),
            ours: !manifest.is_empty(),
            ..Package::default()
        }
    }

    #[test]
    fn a_runtime_below_a_protocol_is_found() {
        let packages = vec![
            package("paxos", "/r/crates/protocol/paxos/Cargo.toml"),
            package("model", "/r/crates/model/Cargo.toml"),
            package("storage", "/r/crates/storage/Cargo.toml"),
            package("bytes", ""),
            package("runtime", ""),
        ];
        let link = |from: &str, to: &[&str]| {
            (from.to_owned(), to.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
        };
        let mut workspace = Workspace {
            packages,
            linked: BTreeMap::from([link("paxos", &["model"]), link("model", &["bytes"])]),
        };
        assert_eq!(dependencies(&workspace), Findings::new());
        workspace
            .linked
            .extend([link("bytes", &["runtime"]), link("model", &["bytes", "storage"])]);
        let findings = dependencies(&workspace);
        assert_eq!(findings.len(), 4, "{findings:#?}");
        assert!(findings.iter().any(|f| f.contains("paxos") && f.contains("runtime")));
        assert!(findings.iter().any(|f| f.contains("model") && f.contains("storage")));
    }

    #[test]
    fn a_missing_attribute_is_found() {
        let root = tempfile::tempdir().unwrap();
        let manifest = root.path().join("Cargo.toml");
        let package = package("paxos", &manifest.to_string_lossy());
        tree::write(root.path(), "src/lib.rs", "#![no_std]\n#![forbid(unsafe_code)]\n");
        assert_eq!(attributes(&package), Findings::new());
        tree::write(root.path(), "src/lib.rs", "#![cfg_attr(x, no_std)]\n// #![no_std]\n");
        assert_eq!(attributes(&package).len(), 2);
    }

    /// A copy of the probe that holds one planted crate instead of ours.
    fn planted_probe(root: &Path, planted: &str) -> Findings {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("no_std_probe");
        let read = |path: &str| fs::read_to_string(here.join(path)).unwrap();
        let main: Vec<String> = read("src/main.rs")
            .lines()
            .filter(|line| !line.starts_with("use mainstay"))
            .map(|line| line.replace("use core::alloc", "use planted as _;\nuse core::alloc"))
            .collect();
        let manifest: Vec<String> = read("Cargo.toml")
            .lines()
            .filter(|line| !line.starts_with("mainstay"))
            .map(|line| {
                line.replace("[dependencies]", "[dependencies]\nplanted.path = \"planted\"")
            })
            .collect();
        tree::write(root, "src/main.rs", &main.join("\n"));
        tree::write(root, "Cargo.toml", &manifest.join("\n"));
        tree::write(root, "build.rs", &read("build.rs"));
        let package = "[package]\nname = \"planted\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
        tree::write(root, "planted/Cargo.toml", package);
        tree::write(root, "planted/src/lib.rs", planted);
        assert_eq!(cargo(root, &["generate-lockfile", "--offline"], &[]), Findings::new());
        probe(root, root)
    }

    #[test]
    fn the_probe_links_what_is_pure_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let pure = "#![no_std]\nextern crate alloc;\npub use alloc::vec::Vec;\n";
        assert_eq!(planted_probe(root.path(), pure), Findings::new());
        let sly = "#![no_std]\nextern crate std;\npub use std::time::Instant;\n";
        assert_eq!(planted_probe(root.path(), sly).len(), 2);
        assert_eq!(planted_probe(root.path(), "pub use std::net::TcpStream;\n").len(), 2);
    }
}
