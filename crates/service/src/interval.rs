//! When a checkpoint is due: a function of the log alone, so that every replica makes its own of
//! the same slots and their digests can be compared.

use std::io::{self, Read, Write};

use mainstay_model::Value;

use crate::contract::RestoreError;
use crate::fields;

/// What a slot counts for besides the bytes of its value: about what its record takes in a log. So
/// a log of nothing but ticks has checkpoints, too.
pub const SLOT_BYTES: u64 = 128;

/// A checkpoint is due after so many requests or so many bytes of log, whichever comes first, and after a
/// value that asks for one ([`Value::checkpoint`]): a leader has one decided where the log is full.
///
/// Part of the replicated state: a group begins with the default, and only a decided
/// [`crate::Command::SetCheckpointInterval`] changes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CheckpointInterval {
    /// Commands in batches, whatever came of them.
    pub requests: u64,
    /// Bytes of decided values, and [`SLOT_BYTES`] for each.
    pub bytes: u64,
}

impl CheckpointInterval {
    /// The shortest that is taken: one request or 4 KiB.
    pub const MIN: Self = Self { requests: 1, bytes: 4 << 10 };
    /// The longest that is taken: 2⁴⁰ requests or 1 TiB, far more than a restart could carry out
    /// again.
    pub const MAX: Self = Self { requests: 1 << 40, bytes: 1 << 40 };

    /// Whether a group takes it: both parts lie between [`Self::MIN`] and [`Self::MAX`].
    #[must_use]
    pub const fn is_within_bounds(self) -> bool {
        Self::MIN.requests <= self.requests
            && self.requests <= Self::MAX.requests
            && Self::MIN.bytes <= self.bytes
            && self.bytes <= Self::MAX.bytes
    }
}

impl Default for CheckpointInterval {
    /// 1,000,000 requests or 256 MiB: a log that a restart carries out again in seconds, and a state
    /// of a gigabyte costs four bytes written for each byte of requests.
    fn default() -> Self {
        Self { requests: 1_000_000, bytes: 256 << 20 }
    }
}

/// Counts towards the next checkpoint. Its state is a function of the log, and part of the
/// replicated state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counting {
    interval: CheckpointInterval,
    /// Since the last slot that made one due; both below the interval.
    requests: u64,
    bytes: u64,
}

impl Counting {
    pub(crate) const fn interval(&self) -> CheckpointInterval {
        self.interval
    }

    /// Takes another interval; one out of bounds changes nothing, at every replica alike. What was
    /// counted stays.
    pub(crate) const fn set_interval(&mut self, interval: CheckpointInterval) {
        if interval.is_within_bounds() {
            self.interval = interval;
        }
    }

    /// Counts a slot. True if it makes a checkpoint due, as it does where its value asks for one; counting
    /// begins anew then.
    pub(crate) fn count(&mut self, requests: u64, value: &Value) -> bool {
        self.requests = self.requests.saturating_add(requests);
        self.bytes = self.bytes.saturating_add(value.len() as u64).saturating_add(SLOT_BYTES);
        let due = self.requests >= self.interval.requests
            || self.bytes >= self.interval.bytes
            || value.makes_checkpoint_due();
        if due {
            (self.requests, self.bytes) = (0, 0);
        }
        due
    }

    /// Bytes: requests and bytes of the interval, then those counted (8 each).
    pub(crate) fn write(&self, to: &mut dyn Write) -> io::Result<()> {
        let Self { interval, requests, bytes } = *self;
        for field in [interval.requests, interval.bytes, requests, bytes] {
            fields::put_u64(to, field)?;
        }
        Ok(())
    }

    pub(crate) fn read(from: &mut dyn Read) -> Result<Self, RestoreError> {
        let interval =
            CheckpointInterval { requests: fields::u64(from)?, bytes: fields::u64(from)? };
        let (requests, bytes) = (fields::u64(from)?, fields::u64(from)?);
        let right =
            interval.is_within_bounds() && requests < interval.requests && bytes < interval.bytes;
        if right {
            Ok(Self { interval, requests, bytes })
        } else {
            let how = "what it counted towards the next checkpoint cannot be".to_owned();
            Err(RestoreError::Invalid(how))
        }
    }
}
