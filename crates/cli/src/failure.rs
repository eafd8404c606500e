//! What ends a command early.

use std::fmt;
use std::io;
use std::path::Path;

use mainstay_node::StoreError;
use mainstay_storage::{AppendError, CheckpointError, OpenError};

/// Failed for a reason that lies outside and may pass: `up` and supervisors try again.
pub(crate) const FAILED: u8 = 1;
/// Usage or configuration: trying again changes nothing.
pub(crate) const USAGE: u8 = 2;
/// Damaged or foreign data.
pub(crate) const DATA: u8 = 3;
/// Stopped for safety: a write or sync failed.
pub(crate) const SAFETY: u8 = 4;

/// Why a command ended early: one sentence that says what is wrong and what to do, and the exit
/// code of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// The sentence; empty where everything has been said already.
    pub(crate) sentence: String,
}

impl Failure {
    /// Failed for a reason that lies outside.
    pub(crate) fn failed(sentence: impl Into<String>) -> Self {
        Self { code: FAILED, sentence: sentence.into() }
    }

    /// Usage or configuration.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self { code: USAGE, sentence: sentence.into() }
    }

    /// Damaged or foreign data.
    pub(crate) fn data(sentence: impl Into<String>) -> Self {
        Self { code: DATA, sentence: sentence.into() }
    }

    /// What the operating system said about a file or folder. What the user can put right
    /// (permissions, a wrong path) counts as configuration.
    pub(crate) fn file(path: &Path, tried: &str, error: &io::Error) -> Self {
        use io::ErrorKind::{
            AlreadyExists, IsADirectory, NotADirectory, NotFound, PermissionDenied,
            ReadOnlyFilesystem,
        };
        let sentence = format!("could not {tried} '{}': {error}", path.display());
        match error.kind() {
            AlreadyExists | IsADirectory | NotADirectory | NotFound | PermissionDenied
            | ReadOnlyFilesystem => Self::usage(sentence + "; check the path and its permissions"),
            _ => Self::failed(sentence + "; check the disk"),
        }
    }

    /// Why a folder or log could not be opened.
    pub(crate) fn open(folder: &Path, error: &OpenError) -> Self {
        let code = match error {
            OpenError::NoIdentity | OpenError::IdentityExists => USAGE,
            OpenError::Foreign { .. } | OpenError::NewerFormat { .. } | OpenError::Damaged(_) => {
                DATA
            }
            OpenError::Io { tried, source, .. } => Self::file(folder, tried, source).code,
            OpenError::Locked { .. } | OpenError::NoRoom { .. } => FAILED,
        };
        Self { code, sentence: format!("{}: {error}", folder.display()) }
    }

    /// Why a replica cannot start from what its folder holds.
    pub(crate) fn store(folder: &Path, error: &StoreError) -> Self {
        let code = match error {
            StoreError::Log(error) => return Self::open(folder, error),
            StoreError::Checkpoint(CheckpointError::NoRoom { .. })
            | StoreError::Append(AppendError::NoRoom { .. }) => FAILED,
            StoreError::Checkpoint(CheckpointError::Io { tried, source, .. }) => {
                Self::file(folder, tried, source).code
            }
            StoreError::Checkpoint(_) => DATA,
            StoreError::Append(_) => SAFETY,
        };
        Self { code, sentence: format!("{}: {error}", folder.display()) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_follow_what_the_user_can_do() {
        let folder = Path::new("r0");
        let code = |error: &OpenError| Failure::open(folder, error).code;
        let io = |kind: io::ErrorKind| OpenError::Io {
            file: "identity".into(),
            tried: "open",
            source: kind.into(),
        };
        assert_eq!(code(&OpenError::NoIdentity), USAGE);
        assert_eq!(code(&OpenError::Locked { folder: "r0".into() }), FAILED);
        assert_eq!(code(&OpenError::NewerFormat { file: "log".into(), found: 2, known: 1 }), DATA);
        assert_eq!(code(&io(io::ErrorKind::PermissionDenied)), USAGE);
        assert_eq!(code(&io(io::ErrorKind::Other)), FAILED);
    }
}
