//! Why a checkpoint cannot be written, read or fetched, each told in one sentence with what to do.

use std::fmt;
use std::io;

use mainstay_model::{CheckpointId, ClusterId, GroupId};

/// Why a checkpoint cannot be written, read or fetched.
#[derive(Debug)]
pub enum CheckpointError {
    /// It is not held, or no longer.
    Gone(CheckpointId),
    /// There is no room for it. What was written of it is removed; the log is not affected.
    NoRoom {
        /// The file.
        file: String,
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
    /// What was once durable can no longer be read.
    Damaged {
        /// The file.
        file: String,
        /// Where in the file, in bytes.
        offset: u64,
        /// What was found there.
        found: &'static str,
    },
    /// It belongs to another cluster.
    Foreign {
        /// The file.
        file: String,
        /// Whose it is.
        found: (ClusterId, GroupId),
        /// Whose it should be.
        expected: (ClusterId, GroupId),
    },
    /// It holds the state of another version of the service.
    OtherService {
        /// The file.
        file: String,
        /// The version in the file.
        found: u32,
        /// The version of this program.
        expected: u32,
    },
    /// It was written by a newer version of the program.
    NewerFormat {
        /// The file.
        file: String,
        /// The version it names.
        found: u32,
        /// The highest one known here.
        known: u32,
    },
    /// A chunk that cannot be one of this checkpoint.
    BadChunk {
        /// The checkpoint.
        id: CheckpointId,
        /// The number of the chunk.
        index: u64,
        /// What is wrong with it.
        found: &'static str,
    },
    /// Chunks are missing.
    Incomplete {
        /// The checkpoint.
        id: CheckpointId,
        /// How many.
        missing: u64,
    },
    /// It is larger than the limit.
    TooLarge {
        /// The checkpoint.
        id: CheckpointId,
        /// Its bytes, as its donor says.
        total: u64,
        /// The limit.
        max: u64,
    },
    /// It holds the state of an earlier life.
    Overtaken(CheckpointId),
    /// Another one is being written or fetched.
    Busy(&'static str),
}

impl CheckpointError {
    /// As an error of reading or writing, with this one inside.
    pub(super) fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::NoRoom { source, .. } | Self::Io { source, .. } => source.kind(),
            Self::Gone(_) => io::ErrorKind::NotFound,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, self)
    }
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(id) => write!(
                f,
                "the checkpoint at slot {} ({:016x}) is not held here: ask for the newest one",
                id.slot, id.digest
            ),
            Self::NoRoom { file, source } => write!(
                f,
                "there is no room for the checkpoint '{file}' ({source}): free space on the disk, or \
                 the log will grow for want of a checkpoint"
            ),
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
            Self::Damaged { file, offset, found } => write!(
                f,
                "the checkpoint '{file}' is damaged at byte {offset} ({found}): check the disk; the \
                 replica needs an older checkpoint or one from another replica"
            ),
            Self::Foreign { file, found, expected } => write!(
                f,
                "the checkpoint '{file}' belongs to group {} of cluster {}, but this is group {} of \
                 cluster {}: move it to the folder it came from",
                found.1, found.0, expected.1, expected.0
            ),
            Self::OtherService { file, found, expected } => write!(
                f,
                "the checkpoint '{file}' was written by version {found} of the service, but this is \
                 version {expected}: start the program with that version of the service"
            ),
            Self::NewerFormat { file, found, known } => write!(
                f,
                "the checkpoint '{file}' was written in format {found}, but this program knows \
                 formats up to {known}: start it with a newer version of mainstay"
            ),
            Self::BadChunk { id, index, found } => write!(
                f,
                "chunk {index} of the checkpoint at slot {} ({:016x}) is refused ({found}): ask its \
                 donor again, or another one",
                id.slot, id.digest
            ),
            Self::Incomplete { id, missing } => write!(
                f,
                "{missing} chunks of the checkpoint at slot {} ({:016x}) are missing: fetch them \
                 first",
                id.slot, id.digest
            ),
            Self::TooLarge { id, total, max } => write!(
                f,
                "the checkpoint at slot {} ({:016x}) is said to have {total} bytes, more than the \
                 {max} allowed: raise the limit or ask another donor",
                id.slot, id.digest
            ),
            Self::Overtaken(id) => write!(
                f,
                "the checkpoint at slot {} ({:016x}) is of a state that another one has taken the place \
                 of: it is not wanted any more",
                id.slot, id.digest
            ),
            Self::Busy(what) => {
                write!(f, "a checkpoint is being {what}: wait until that has ended")
            }
        }
    }
}

impl std::error::Error for CheckpointError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoRoom { source, .. } | Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
