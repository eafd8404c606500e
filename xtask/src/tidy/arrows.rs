//! The crates stand on floors, and arrows between them point down.

use crate::Findings;
use crate::manifest::{Kind, Workspace};

/// The floor of every crate of ours, the ground first. A crate depends on lower floors only; its
/// tests may use its own floor as well.
const FLOORS: [(&str, u8); 13] = [
    ("mainstay-model", 0),
    ("mainstay-consensus", 1),
    ("mainstay-detect", 1),
    ("mainstay-service", 1),
    ("mainstay-storage", 1),
    ("mainstay-check", 1),
    ("mainstay-sim", 2),
    ("mainstay-node", 2),
    ("mainstay-client", 2),
    ("mainstay-kv", 3),
    ("mainstay-cli", 4),
    ("mainstay", 5),
    ("mainstay-fuzz", 5),
];

/// Belongs to the workspace and stands outside of the house.
const OUTSIDE: &str = "xtask";

/// Every arrow that does not point down, and every crate without a floor.
pub(crate) fn check(workspace: &Workspace) -> Findings {
    let mut findings = Vec::new();
    for package in workspace.ours() {
        let name = package.name.as_str();
        let own = floor(name);
        if own.is_none() && name != OUTSIDE {
            findings.push(format!("{name} has no floor: give it one in xtask/src/tidy/arrows.rs"));
        }
        for (other, kind) in &package.dependencies {
            let Some(below) = floor(other) else { continue };
            let down = match (own, kind) {
                (Some(own), Kind::Dev) => below <= own,
                (Some(own), _) => below < own,
                (None, _) => false,
            };
            if !down {
                findings.push(format!("{name} depends on {other}, which does not stand below it"));
            }
        }
    }
    findings
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Package;

    fn findings(name: &str, dependency: &str, kind: Kind) -> Findings {
        let package = Package {
            name: name.to_owned(),
            ours: true,
            dependencies: vec![(dependency.to_owned(), kind)],
            ..Package::default()
        };
        check(&Workspace { packages: vec![package], ..Workspace::default() })
    }

    #[test]
    fn arrows_point_down() {
        assert_eq!(findings("mainstay-consensus", "mainstay-model", Kind::Normal), Findings::new());
        assert_eq!(findings("mainstay-consensus", "mainstay-service", Kind::Normal).len(), 1);
        assert_eq!(findings("mainstay-model", "mainstay-node", Kind::Normal).len(), 1);
        assert_eq!(findings("mainstay-client", "mainstay-node", Kind::Dev), Findings::new());
        assert_eq!(findings("mainstay-client", "mainstay-kv", Kind::Dev).len(), 1);
        assert_eq!(findings("mainstay-new", "bytes", Kind::Normal).len(), 1);
        assert_eq!(findings("xtask", "toml", Kind::Normal), Findings::new());
        assert_eq!(findings("xtask", "mainstay-model", Kind::Normal).len(), 1);
    }
}
