//! How a log is opened.

use mainstay_model::{ClusterId, ReplicaId};

use crate::layout::Owner;

/// What to do about damage to the value of a single slot. Damage to promises is always refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnDamage {
    /// Refuse to open: [`crate::OpenError::Damaged`].
    #[default]
    Refuse,
    /// Open, and name the slots in [`mainstay_model::Recovered::uncertain`].
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
    /// Bytes of a segment, held between [`LogOptions::SEGMENT_BYTES_MIN`] and
    /// [`LogOptions::SEGMENT_BYTES_MAX`].
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
    /// The largest size of a segment: 4 GiB.
    pub const SEGMENT_BYTES_MAX: u64 = 4 << 30;

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

    /// How many bytes a segment has in fact if so many are asked for.
    #[must_use]
    pub fn segment_bytes_held(bytes: u64) -> u64 {
        bytes.clamp(Self::SEGMENT_BYTES_MIN, Self::SEGMENT_BYTES_MAX)
    }

    /// Bytes of the last segment that records with requests leave to all others.
    pub(crate) const fn reserve(&self) -> u64 {
        self.segment_bytes / 4
    }

    pub(crate) const fn owner(&self) -> Owner {
        Owner { cluster: self.cluster, replica: self.replica }
    }
}
