//! What `cargo metadata` tells of the workspace and of all it depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A package of the workspace or of a registry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Package {
    /// Cargo's own name for this package and version.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// Its licence expression, if it states one.
    pub(crate) licence: Option<String>,
    /// Where it comes from; `None` for a folder of this machine.
    pub(crate) source: Option<String>,
    /// Where its `Cargo.toml` lies.
    pub(crate) manifest: String,
    /// Whether it belongs to the workspace.
    pub(crate) ours: bool,
    /// The names of packages it depends on directly, by kind.
    pub(crate) dependencies: Vec<(String, Kind)>,
}

/// What a dependency is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The crate itself.
    Normal,
    /// Its build script.
    Build,
    /// Its tests and examples.
    Dev,
}

/// The packages and who depends on whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workspace {
    /// All packages.
    pub(crate) packages: Vec<Package>,
    /// For a package's id: the ids of what is linked into it.
    pub(crate) linked: BTreeMap<String, Vec<String>>,
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load(root: &Path) -> Result<Self, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .current_dir(root)
            .args(["metadata", "--format-version", "1", "--locked"])
            .output()
            .map_err(|error| format!("`cargo metadata` could not be started: {error}"))?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            return Err(format!("`cargo metadata --locked` failed: {}", told.trim()));
        }
        let told: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("`cargo metadata` printed no JSON: {error}"))?;
        Ok(Self::parse(&told))
    }

    /// Reads what cargo printed; what is missing counts as empty.
    pub(crate) fn parse(told: &Value) -> Self {
        let members: BTreeSet<&str> =
            list(told, "workspace_members").filter_map(Value::as_str).collect();
        let packages =
            list(told, "packages").map(|package| read_package(package, &members)).collect();
        let resolve = &told["resolve"];
        let linked = list(resolve, "nodes")
            .map(|node| {
                (
                    text(node, "id"),
                    list(node, "deps").filter(is_linked).map(|dep| text(dep, "pkg")).collect(),
                )
            })
            .collect();
        Self { packages, linked }
    }

    /// The packages of the workspace.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.ours)
    }

    /// Everything linked into a package, itself left out.
    pub(crate) fn linked_into(&self, package: &Package) -> Vec<&Package> {
        let mut seen = BTreeSet::new();
        let mut waiting = vec![package.id.as_str()];
        while let Some(id) = waiting.pop() {
            for next in self.linked.get(id).into_iter().flatten() {
                if seen.insert(next.as_str()) {
                    waiting.push(next);
                }
            }
        }
        self.packages.iter().filter(|other| seen.contains(other.id.as_str())).collect()
    }
}

fn read_package(package: &Value, members: &BTreeSet<&str>) -> Package {
    let id = text(package, "id");
    Package {
        name: text(package, "name"),
        version: text(package, "version"),
        licence: package["license"].as_str().map(str::to_owned),
        source: package["source"].as_str().map(str::to_owned),
        manifest: text(package, "manifest_path"),
        ours: members.contains(id.as_str()),
        dependencies: list(package, "dependencies")
            .map(|dep| (text(dep, "name"), kind(dep)))
            .collect(),
        id,
    }
}

fn kind(dependency: &Value) -> Kind {
    match dependency["kind"].as_str() {
        Some("dev") => Kind::Dev,
        Some("build") => Kind::Build,
        _ => Kind::Normal,
    }
}

fn is_linked(dependency: &&Value) -> bool {
    list(dependency, "dep_kinds").any(|kind| kind["kind"].is_null())
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
