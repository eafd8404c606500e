//! Which places of the protocol crates a swarm of the simulator reaches, and which it never does.
//!
//! A seed that fails says what is wrong; no seed says what was never tried. So the swarm is built anew
//! with counters (`-C instrument-coverage`), run, and read back with the tools of the same compiler. The
//! unit is a *region*: a stretch of code that runs as a whole, such as an arm of a `match`. A place that
//! no seed reaches wants a scenario, or a reason in the table of docs/simulator.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Findings;

/// What is looked at: everything below this folder.
const CRATES: &str = "crates/protocol";
/// Where the reasons stand.
const REASONS: &str = "docs/simulator.md";
/// The heading of the table of reasons.
const HEADING: &str = "## What no seed reaches";
/// How many seeds are run if nothing else is asked for.
pub(crate) const SEEDS: u64 = 2_000;
/// What stands in a line that is there for what cannot come: a guard that the caller has looked at before,
/// a message that no honest replica sends, and what only a planted bug reaches. Neither these
/// nor the end of a block are told.
const GUARDS: [&str; 5] =
    ["else { return", "else { continue", "else { break", "self.ignore(", "plants.has("];
/// The kind of a region that is code, in what llvm-cov exports.
const CODE: u64 = 0;

/// Where a region begins and ends: line and column of each.
type Span = (u64, u64, u64, u64);
/// How often each region of each file was reached.
type Reached = BTreeMap<String, BTreeMap<Span, u64>>;

/// Builds, runs and reports. A place without a reason is a finding.
pub(crate) fn measure(root: &Path, first: u64, count: u64) -> Findings {
    match reached(root, first, count) {
        Ok(reached) => report(root, &reached),
        Err(problem) => vec![problem],
    }
}

fn reached(root: &Path, first: u64, count: u64) -> Result<Reached, String> {
    let host = line_of("rustc", &["-vV"], "host: ")?;
    let tools = PathBuf::from(output("rustc", &["--print", "sysroot"])?.trim())
        .join("lib/rustlib")
        .join(&host)
        .join("bin");
    let tool = |name: &str| tools.join(name).to_string_lossy().into_owned();
    if !tools.join("llvm-cov").exists() {
        return Err("there is no llvm-cov: `rustup component add llvm-tools`".to_owned());
    }
    let folder = root.join("target/coverage");
    let counters = folder.join("counters");
    // Counters of an earlier run would be added.
    let _ = fs::remove_dir_all(&counters);
    let build = ["build", "--release", "-p", "mainstay-sim", "--example", "swarm"];
    // With a target named, nothing that only helps to build counts along.
    let place = ["--target", &host, "--target-dir", &folder.to_string_lossy()];
    let arguments: Vec<&str> = build.into_iter().chain(place).collect();
    let problems = crate::cargo(root, &arguments, &[("RUSTFLAGS", "-C instrument-coverage")]);
    if let Some(problem) = problems.into_iter().next() {
        return Err(problem);
    }
    let swarm = folder.join(&host).join("release/examples/swarm");
    println!("running {count} seeds from {first} on, and every scenario");
    let status = Command::new(&swarm)
        .args([first.to_string(), count.to_string()])
        .env("LLVM_PROFILE_FILE", counters.join("swarm.profraw"))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(format!("the swarm failed ({status})")),
        Err(error) => return Err(format!("{} could not be started: {error}", swarm.display())),
    }
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    let (raw, merged) = (shown(&counters.join("swarm.profraw")), shown(&counters.join("merged")));
    output(&tool("llvm-profdata"), &["merge", "-sparse", &raw, "-o", &merged])?;
    let profile = format!("-instr-profile={merged}");
    let sources = shown(&root.join(CRATES));
    let exported = output(&tool("llvm-cov"), &["export", &profile, &shown(&swarm), &sources])?;
    let exported = serde_json::from_str(&exported).map_err(|error| error.to_string())?;
    regions(&exported, root).ok_or_else(|| "llvm-cov exports something else than before".to_owned())
}

/// What a program prints.
fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program} could not be started: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr)))
}

fn line_of(program: &str, arguments: &[&str], beginning: &str) -> Result<String, String> {
    let printed = output(program, arguments)?;
    let line = printed.lines().find_map(|line| line.strip_prefix(beginning));
    line.map(str::to_owned).ok_or_else(|| format!("{program} does not tell its `{beginning}`"))
}

/// How often each region was reached: a generic function's, by all that was made of it.
fn regions(exported: &Value, root: &Path) -> Option<Reached> {
    let mut reached = Reached::new();
    let inside = format!("{}/", root.join(CRATES).to_string_lossy());
    for function in exported["data"][0]["functions"].as_array()? {
        let file = function["filenames"][0].as_str()?;
        let Some(file) = file.strip_prefix(&inside) else { continue };
        let regions = reached.entry(format!("{CRATES}/{file}")).or_default();
        for region in function["regions"].as_array()? {
            let at = |index: usize| region[index].as_u64();
            // Those of a macro stand where it was defined.
            if (at(5)?, at(7)?) == (0, CODE) {
                *regions.entry((at(0)?, at(1)?, at(2)?, at(3)?)).or_default() += at(4)?;
            }
        }
    }
    Some(reached)
}

/// A function of which something was not reached, and the lines of that.
#[derive(Debug, PartialEq, Eq)]
struct Unreached {
    /// The file, then the function.
    place: String,
    lines: Vec<u64>,
}

/// The functions of a file with regions that were never reached, in order.
fn unreached(path: &str, text: &str, regions: &BTreeMap<Span, u64>) -> Vec<Unreached> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found: Vec<Unreached> = Vec::new();
    for ((line, ..), _) in regions.iter().filter(|(_, count)| **count == 0) {
        let index = usize::try_from(*line).unwrap_or(usize::MAX).saturating_sub(1);
        let source = lines.get(index).map_or("", |line| line.trim());
        if source == "}" || GUARDS.iter().any(|guard| source.contains(guard)) {
            continue;
        }
        let place = format!("{path}: {}", function_of(&lines, *line));
        match found.iter_mut().find(|one| one.place == place) {
            Some(one) if one.lines.last() == Some(line) => {}
            Some(one) => one.lines.push(*line),
            None => found.push(Unreached { place, lines: vec![*line] }),
        }
    }
    found
}

/// The name of the function that a line stands in.
fn function_of(lines: &[&str], line: u64) -> String {
    let before = lines.iter().take(usize::try_from(line).unwrap_or(usize::MAX)).rev();
    let name = before.filter_map(|line| {
        let (_, after) = line.trim_start().split_once("fn ")?;
        let declares = line.trim_start().starts_with("fn ") || line.contains("pub");
        let name = after.split(['(', '<']).next()?;
        (declares || line.contains("const fn ")).then(|| name.to_owned())
    });
    name.into_iter().next().unwrap_or_else(|| "?".to_owned())
}

/// The table of reasons: what begins each row, between backquotes, and whether it is a whole file.
fn reasons(text: &str) -> BTreeSet<String> {
    let table = text.split(HEADING).nth(1).unwrap_or_default();
    let table = table.split("\n## ").next().unwrap_or_default();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

/// Whether a reason was given for a place, for its file, or for its folder.
fn is_explained(place: &str, reasons: &BTreeSet<String>) -> bool {
    let short = place.strip_prefix(&format!("{CRATES}/")).unwrap_or(place);
    let short = short.replacen("/src/", "/", 1);
    let file = short.split(':').next().unwrap_or_default();
    reasons.iter().any(|reason| {
        *reason == short || reason == file || (reason.ends_with('/') && file.starts_with(reason))
    })
}

fn report(root: &Path, reached: &Reached) -> Findings {
    let text = fs::read_to_string(root.join(REASONS)).unwrap_or_default();
    let reasons = reasons(&text);
    let mut findings = Findings::new();
    let mut told = String::new();
    let (mut all, mut hit) = (0, 0);
    for (path, regions) in reached {
        let source = fs::read_to_string(root.join(path)).unwrap_or_default();
        let count = regions.values().filter(|count| **count > 0).count();
        (all, hit) = (all + regions.len(), hit + count);
        println!("{:52} {:5} of {:5} regions reached", path, count, regions.len());
        for Unreached { place, lines } in unreached(path, &source, regions) {
            let explained = is_explained(&place, &reasons);
            // Writing to a string cannot fail.
            let _ = writeln!(told, "{place}{}", if explained { "" } else { " -- no reason" });
            for line in &lines {
                let index = usize::try_from(*line).unwrap_or(usize::MAX);
                let source = source.lines().nth(index.saturating_sub(1)).unwrap_or_default();
                let _ = writeln!(told, "  {line:4}  {}", source.trim());
            }
            if !explained {
                findings.push(format!(
                    "{place} is not reached at {lines:?}: it wants a scenario, or a reason in {REASONS}"
                ));
            }
        }
    }
    let file = root.join("target/coverage/unreached.txt");
    if let Err(error) = fs::write(&file, told) {
        findings.push(format!("{}: {error}", file.display()));
    }
    let tenths = hit * 1_000 / all.max(1);
    println!("{hit} of {all} regions reached: {}.{} %", tenths / 10, tenths % 10);
    println!("what was not stands in {}", file.display());
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
impl Door {
    pub(crate) fn open(&mut self, key: Key) {
        if key.fits() {
            self.turn();
        } else {
            self.stay();
        }
    }

    fn stay(&self) {
        let Some(key) = self.key else { return };
    }
}
";

    fn exported(name: &str, counts: [u64; 3]) -> Value {
        let [open, turns, stays] = counts;
        serde_json::json!({
            "name": name,
            "filenames": ["house/crates/protocol/door/src/lib.rs", "elsewhere.rs"],
            "regions": [
                [2, 5, 3, 22, open, 0, 0, 0],
                [3, 23, 5, 10, turns, 0, 0, 0],
                [5, 16, 7, 10, stays, 0, 0, 0],
                [1, 1, 9, 9, 0, 1, 0, 0],
                [4, 1, 4, 9, 0, 0, 0, 3],
            ],
        })
    }

    #[test]
    fn a_region_counts_as_reached_if_any_copy_of_its_function_reached_it() {
        let elsewhere = serde_json::json!({ "filenames": ["x.rs"], "regions": [] });
        let functions = [exported("a", [3, 3, 0]), exported("b", [2, 2, 0]), elsewhere];
        let exported = serde_json::json!({ "data": [{ "functions": functions }] });
        let reached = regions(&exported, Path::new("house")).unwrap();
        let file = &reached["crates/protocol/door/src/lib.rs"];
        assert_eq!(reached.len(), 1, "other files do not matter");
        assert_eq!(file.values().copied().collect::<Vec<_>>(), [5, 5, 0], "no gaps, no macros");
        let mut file = file.clone();
        file.extend([((11, 39, 11, 47), 0), ((12, 5, 12, 6), 0)]);
        let found = unreached("crates/protocol/door/src/lib.rs", SOURCE, &file);
        let place = "crates/protocol/door/src/lib.rs: open".to_owned();
        assert_eq!(found, [Unreached { place, lines: vec![5] }]);
    }

    #[test]
    fn what_was_not_reached_and_has_no_reason_is_a_finding() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| crate::tree::write(tree.path(), path, text);
        fs::create_dir_all(tree.path().join("target/coverage")).unwrap();
        write("crates/protocol/door/src/lib.rs", SOURCE);
        let regions = BTreeMap::from([((2, 5, 3, 22), 1), ((5, 16, 7, 10), 0)]);
        let reached = Reached::from([("crates/protocol/door/src/lib.rs".to_owned(), regions)]);
        let told = |reason: &str| {
            let table =
                format!("# Sim\n\n{HEADING}\n\n| where | why |\n|---|---|\n{reason}\n## Next\n");
            write(REASONS, &table);
            report(tree.path(), &reached)
        };
        assert_eq!(told("").len(), 1);
        assert!(told("")[0].contains("lib.rs: open is not reached at [5]"), "{:?}", told(""));
        assert_eq!(told("| `door/other.rs: open` | |").len(), 1, "another place");
        for reason in ["door/lib.rs: open", "door/lib.rs", "door/"] {
            assert_eq!(told(&format!("| `{reason}` | it cannot |")), Findings::new(), "{reason}");
        }
    }
}
