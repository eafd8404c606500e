//! The files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing written by hand.
const SKIPPED: [&str; 4] = ["target", ".git", "mainstay-data", "node_modules"];

/// A text file of the tree.
pub(crate) struct File {
    /// Relative to the root, with `/` between its parts.
    pub(crate) path: String,
    /// What it holds.
    pub(crate) text: String,
}

/// All text files below `root` whose name ends in one of `endings`, in the order of their paths.
pub(crate) fn files(root: &Path, endings: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    walk(root, root, endings, &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn walk(root: &Path, folder: &Path, endings: &[&str], found: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = name_of(&path);
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                walk(root, &path, endings, found);
            }
        } else if endings.iter().any(|ending| name.ends_with(ending))
            && let Ok(text) = fs::read_to_string(&path)
        {
            found.push(File { path: relative(root, &path), text });
        }
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn relative(root: &Path, path: &Path) -> String {
    let rest: PathBuf = path.strip_prefix(root).unwrap_or(path).to_path_buf();
    rest.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Writes a file of a tree that a test makes.
#[cfg(test)]
pub(crate) fn write(root: &Path, path: &str, text: &str) {
    let whole = root.join(path);
    fs::create_dir_all(whole.parent().unwrap()).unwrap();
    fs::write(whole, text).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_files_are_not_looked_at() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "src/a.rs", "a");
        write(root.path(), "src/a.txt", "a");
        write(root.path(), "target/debug/b.rs", "b");
        let paths: Vec<_> = files(root.path(), &[".rs"]).into_iter().map(|f| f.path).collect();
        assert_eq!(paths, ["src/a.rs"]);
    }
}
