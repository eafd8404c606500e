//! The exceptions that may only shrink.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What `xtask/ratchet.toml` holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ratchet {
    /// Files that are longer than they should be, by path.
    pub(crate) files: BTreeMap<String, usize>,
    /// Functions that are, by `path::name`.
    pub(crate) functions: BTreeMap<String, usize>,
    /// Files that may sleep, by path, each with its reason.
    pub(crate) sleeps: BTreeMap<String, String>,
}

const HEAD: &str = "\
# What is longer than it should be, and may only shrink: `cargo xtask tidy --shrink` lowers the marks.
# Files: lines; functions: lines, as \"path::name\". Sleeps: files that may sleep, with the reason.
";

impl Ratchet {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        Self::parse(&text).map_err(|problem| format!("{}: {problem}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| error.to_string())?;
        let mut ratchet = Self::default();
        for (section, entries) in &table {
            let entries = entries.as_table().ok_or_else(|| format!("`{section}` is no section"))?;
            for (key, value) in entries {
                let known = match section.as_str() {
                    "files" => {
                        mark(value).map(|mark| ratchet.files.insert(key.clone(), mark)).is_some()
                    }
                    "functions" => mark(value)
                        .map(|mark| ratchet.functions.insert(key.clone(), mark))
                        .is_some(),
                    "sleeps" => value
                        .as_str()
                        .map(|reason| ratchet.sleeps.insert(key.clone(), reason.to_owned()))
                        .is_some(),
                    _ => false,
                };
                if !known {
                    return Err(format!("`{key}` in [{section}] is not understood"));
                }
            }
        }
        Ok(ratchet)
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) -> Result<(), String> {
        fs::write(path, self.text())
            .map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        for (section, marks) in [("files", &self.files), ("functions", &self.functions)] {
            let _ = write!(text, "\n[{section}]\n");
            for (key, mark) in marks {
                let _ = writeln!(text, "{key:?} = {mark}");
            }
        }
        text += "\n[sleeps]\n";
        for (key, reason) in &self.sleeps {
            let _ = writeln!(text, "{key:?} = {reason:?}");
        }
        text
    }
}

fn mark(value: &toml::Value) -> Option<usize> {
    value.as_integer().and_then(|mark| usize::try_from(mark).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut ratchet = Ratchet::default();
        ratchet.files.insert("a.rs".into(), 700);
        ratchet.functions.insert("a.rs::long".into(), 90);
        ratchet.sleeps.insert("b.rs".into(), "waits for \"it\"".into());
        assert_eq!(Ratchet::parse(&ratchet.text()), Ok(ratchet));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(Ratchet::parse("[files]\n\"a.rs\" = \"long\"\n").is_err());
        assert!(Ratchet::parse("[stranger]\na = 1\n").is_err());
        assert!(Ratchet::parse("nonsense").is_err());
    }
}
