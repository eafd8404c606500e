//! The state log: append, sync, read back.

use mainstay_model::{
    ClusterId, Entry, GroupId, NoPlants, Plants, Record, Recovered, ReplicaId, Slot,
};

use crate::disk::Disk;
use crate::error::{AppendError, OpenError, ReadError, SyncError};

/// What to do about damage to the value of a single slot. Damage to promises is always refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnDamage {
    /// Refuse to open: [`OpenError::Damaged`].
    #[default]
    Refuse,
    /// Open, and name the slots in [`Recovered::uncertain`].
    Report,
}

/// How a log is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The cluster the log belongs to.
    pub cluster: ClusterId,
    /// The replica it belongs to.
    pub replica: ReplicaId,
    /// Whether the folder must hold a log already ([`crate::Identity::log_begun`]): without one,
    /// what was promised is lost.
    pub begun: bool,
    /// Bytes of a segment, at least [`LogOptions::SEGMENT_BYTES_MIN`].
    pub segment_bytes: u64,
    /// The most bytes of all segments together; beyond that there is no room.
    pub bytes_max: Option<u64>,
    /// What to do about damage to single slots.
    pub on_damage: OnDamage,
}

impl LogOptions {
    /// The default size of a segment: 64 MiB.
    pub const SEGMENT_BYTES: u64 = 64 << 20;
    /// The smallest size of a segment: 16 KiB.
    pub const SEGMENT_BYTES_MIN: u64 = 16 << 10;

    /// The options of a replica's log, all others at their defaults.
    #[must_use]
    pub const fn new(cluster: ClusterId, replica: ReplicaId) -> Self {
        Self {
            cluster,
            replica,
            begun: false,
            segment_bytes: Self::SEGMENT_BYTES,
            bytes_max: None,
            on_damage: OnDamage::Refuse,
        }
    }
}

/// The state log of one replica, all its groups in one sequence of records. Owned by the one thread
/// that writes to the disk.
#[derive(Debug)]
pub struct Log<D: Disk, P: Plants = NoPlants> {
    disk: D,
    plants: P,
}

impl<D: Disk, P: Plants> Log<D, P> {
    /// Opens the log of `disk`, or begins it in an empty folder: classifies what is there, rewrites
    /// what is not known to be durable, and returns what it holds for [`GroupId::FIRST`]. All of
    /// that is durable when this returns.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        _disk: D,
        _options: LogOptions,
        _plants: P,
    ) -> Result<(Self, Recovered), OpenError> {
        unimplemented!()
    }

    /// Appends records with one write (one more where a segment ends between them). Durable after
    /// the next successful [`Log::sync`].
    ///
    /// # Errors
    /// See [`AppendError`]; all but [`AppendError::NoRoom`] are final.
    pub fn append(&mut self, _records: &[Record]) -> Result<(), AppendError> {
        unimplemented!()
    }

    /// Makes everything appended durable.
    ///
    /// # Errors
    /// See [`SyncError`]; always final.
    pub fn sync(&mut self) -> Result<(), SyncError> {
        unimplemented!()
    }

    /// Allocates segments ahead where they are missing. To be called when nothing waits, after what
    /// depends on the last [`Log::sync`] has been told; cheap when there is nothing to do. Whether
    /// it succeeded shows in [`Log::has_room`].
    ///
    /// # Errors
    /// See [`AppendError`]; lack of room is no error here.
    pub fn prepare(&mut self) -> Result<(), AppendError> {
        unimplemented!()
    }

    /// The latest entries of the slots `from..=upto`, contiguous from `from`, up to and including
    /// the one that reaches `bytes_max` bytes of values; at least one if there is any.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(
        &self,
        _group: GroupId,
        _from: Slot,
        _upto: Slot,
        _bytes_max: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        unimplemented!()
    }

    /// Whether requests may be accepted: the reserve of one segment is whole, and there is space
    /// before it. Promises and no-ops may be appended in any case, and so may what was accepted
    /// before this turned false.
    #[must_use]
    pub fn has_room(&self) -> bool {
        unimplemented!()
    }

    /// Bytes of records and heads in all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        unimplemented!()
    }

    /// How many segments hold records.
    #[must_use]
    pub fn segments(&self) -> u64 {
        unimplemented!()
    }

    /// The folder the log lives in, which holds the identity as well.
    #[must_use]
    pub fn disk(&self) -> &D {
        let _ = self.plants;
        &self.disk
    }
}
