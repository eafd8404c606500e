//! Why a folder, a log or an identity cannot be used, each told in one sentence with what to do.

use std::fmt;
use std::io;

use mainstay_model::{ClusterId, ReplicaId, Slot};

use crate::options::LogOptions;

/// Whether the operating system says that there is no room.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | FileTooLarge | QuotaExceeded)
}

/// Whether the process, or the system, has as many files open as it may.
pub(crate) fn is_no_handle(error: &io::Error) -> bool {
    let errors = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    errors.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Files of the log are allocated before they are written: what finds no room is often much more than
/// what there is to write.
fn no_room(f: &mut fmt::Formatter<'_>, file: &str, bytes: u64, source: &io::Error) -> fmt::Result {
    write!(f, "there is no room for the {bytes} bytes of the file '{file}' ({source}): ")?;
    if bytes >= LogOptions::SEGMENT_BYTES_MIN {
        write!(f, "files of the log are allocated ahead, each as a whole; ")?;
    }
    f.write_str("free space on the disk, raise the limit, or have smaller files (segment_bytes)")
}

/// A write or a sync failed. Where space was allocated, it should not be space that is missing.
fn final_failure(
    f: &mut fmt::Formatter<'_>,
    tried: &str,
    file: &str,
    source: &io::Error,
) -> fmt::Result {
    write!(
        f,
        "{tried} the file '{file}' failed ({source}): this process can no longer keep its promises \
         and must end; "
    )?;
    if is_no_room(source) {
        f.write_str(
            "the space was allocated before, so this is storage that does not keep what it promises \
             (copy-on-write, compressed or thinly provisioned): make room below it, or use another, \
             then start it again",
        )
    } else {
        f.write_str("check the disk, then start it again")
    }
}

/// What a damaged place means for the replica that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// The value of one slot is lost; promises are intact.
    Uncertain(Slot),
    /// A promise may be lost: this incarnation of the replica must never vote again.
    Amnesia,
}

/// One damaged place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Damage {
    /// The file, by name.
    pub file: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// What was found there.
    pub found: &'static str,
    /// What it means.
    pub meaning: Meaning,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, found, meaning } = self;
        write!(f, "the file '{file}' is damaged at byte {offset} ({found}), ")?;
        match meaning {
            Meaning::Uncertain(slot) => {
                write!(f, "so this replica no longer knows what it accepted in slot {slot}")?;
            }
            Meaning::Amnesia => {
                f.write_str("so this replica may no longer know what it promised")?;
            }
        }
        f.write_str(
            ": check the disk, move the data folder away, and bring the replica back as one that \
             lost its data with 'mainstay init --lost INDEX --cluster-from HOST:PORT --data DIR'",
        )
    }
}

/// Why a folder cannot be used.
#[derive(Debug)]
pub enum OpenError {
    /// Another process uses the folder.
    Locked {
        /// The folder.
        folder: String,
    },
    /// There is no identity in the folder: it is new, or its contents are lost.
    NoIdentity,
    /// There is an identity in the folder already.
    IdentityExists,
    /// The file belongs to another cluster or replica.
    Foreign {
        /// The file, by name.
        file: String,
        /// Whose it is.
        found: (ClusterId, ReplicaId),
        /// Whose it should be.
        expected: (ClusterId, ReplicaId),
    },
    /// The file was written by a newer version.
    NewerFormat {
        /// The file, by name.
        file: String,
        /// The version or kind it names.
        found: u32,
        /// The highest one known here.
        known: u32,
    },
    /// The file holds something that was once durable and can no longer be read.
    Damaged(Damage),
    /// There is no room to begin or to rewrite the log.
    NoRoom {
        /// The file that found none.
        file: String,
        /// How many bytes it wanted.
        bytes: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// The operating system failed.
    Io {
        /// The file, by name; empty for the folder.
        file: String,
        /// What was tried.
        tried: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked { folder } => write!(
                f,
                "the data folder '{folder}' is in use by another process: stop that one first"
            ),
            Self::NoIdentity => f.write_str(
                "the data folder holds no identity: if the cluster is new, make it with 'mainstay \
                 init'; if this replica lost its data, use 'mainstay init --lost INDEX \
                 --cluster-from HOST:PORT --data DIR'",
            ),
            Self::IdentityExists => f.write_str(
                "the data folder already holds the identity of a replica: choose another folder, \
                 or remove this one if its data is no longer wanted",
            ),
            Self::Foreign { file, found, expected } => write!(
                f,
                "the file '{file}' belongs to replica {} ({:08x}) of cluster {}, but this is \
                 replica {} ({:08x}) of cluster {}: give this replica its own data folder",
                found.1,
                found.1.epoch.instance,
                found.0,
                expected.1,
                expected.1.epoch.instance,
                expected.0
            ),
            Self::NewerFormat { file, found, known } => write!(
                f,
                "the file '{file}' was written in format {found}, but this program knows formats \
                 up to {known}: start it with a newer version of mainstay"
            ),
            Self::Damaged(damage) => damage.fmt(f),
            Self::NoRoom { file, bytes, source } => no_room(f, file, *bytes, source),
            Self::Io { file, tried, source } => {
                write!(f, "could not {tried} ")?;
                match file.as_str() {
                    "" => f.write_str("the data folder")?,
                    file => write!(f, "'{file}'")?,
                }
                write!(
                    f,
                    " ({source}): check that it exists, that this user may read and write it, and \
                     that the disk is healthy"
                )
            }
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoRoom { source, .. } | Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why records were not appended.
#[derive(Debug)]
pub enum AppendError {
    /// There is no room, not even in the reserve. Nothing was written; the log is as it was, and the
    /// same records may be appended again once there is room.
    NoRoom {
        /// The file that found none.
        file: String,
        /// How many bytes it wanted.
        bytes: u64,
        /// What the operating system said.
        source: io::Error,
    },
    /// Writing failed: final. How much was written is unknown, and the log refuses everything from
    /// now on.
    Failed {
        /// The file.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The log failed before.
    Poisoned,
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom { file, bytes, source } => no_room(f, file, *bytes, source),
            Self::Failed { file, source } => final_failure(f, "writing", file, source),
            Self::Poisoned => f.write_str("the log failed before and takes nothing more"),
        }
    }
}

impl std::error::Error for AppendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoRoom { source, .. } | Self::Failed { source, .. } => Some(source),
            Self::Poisoned => None,
        }
    }
}

/// Why the log could not be synced. Always final: nothing written since the last success may be
/// believed, and the log refuses everything from now on.
#[derive(Debug)]
pub enum SyncError {
    /// The sync failed.
    Failed {
        /// The file.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The log failed before.
    Poisoned,
}

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { file, source } => final_failure(f, "syncing", file, source),
            Self::Poisoned => f.write_str("the log failed before and takes nothing more"),
        }
    }
}

impl std::error::Error for SyncError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed { source, .. } => Some(source),
            Self::Poisoned => None,
        }
    }
}

/// Why an entry could not be read back.
#[derive(Debug)]
pub enum ReadError {
    /// The record is damaged; the slot's entry must come from another replica.
    Damaged(Damage),
    /// The operating system failed.
    Io {
        /// The file.
        file: String,
        /// What the operating system said.
        source: io::Error,
    },
}

impl ReadError {
    /// Whether it passes by itself: the process has as many files open as it may.
    #[must_use]
    pub fn passes(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_no_handle(source))
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(damage) => damage.fmt(f),
            Self::Io { file, source } => write!(
                f,
                "could not read the file '{file}' ({source}): check that the disk is healthy"
            ),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Damaged(_) => None,
        }
    }
}
