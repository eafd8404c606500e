//! How often what a run is about happened in it: a simulator that never gets there proves nothing.

use std::fmt;
use std::ops::AddAssign;

use mainstay_check::Observation;

/// How often something happened, in one run or in many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Checkpoints that a replica made and that became durable.
    pub checkpoints: u64,
    /// How often a replica came to know of a higher stable checkpoint.
    pub stable: u64,
    /// How often a log let go of what checkpoints cover.
    pub discards: u64,
    /// How often a replica began to fetch a checkpoint.
    pub transfers: u64,
    /// How often one took over what it had fetched.
    pub installs: u64,
    /// How often one went on with what an earlier process had fetched.
    pub resumed: u64,
    /// How often one took over nothing, since the content was not what its name said.
    pub refused: u64,
    /// How often a replica was found to have another state than the others.
    pub diverged: u64,
    /// How often a process started from a checkpoint.
    pub restored: u64,
    /// How often writing a checkpoint failed and was tried again.
    pub retried: u64,
    /// How often the log had no room for what it was to keep.
    pub unwritten: u64,
    /// How many values were executed that the log had no room for.
    pub passed: u64,
}

impl Counts {
    /// What there is to count, each with its name.
    #[must_use]
    pub const fn all(&self) -> [(&'static str, u64); 12] {
        let Self { checkpoints, stable, discards, transfers, installs, .. } = *self;
        let Self { resumed, refused, diverged, restored, retried, .. } = *self;
        let Self { unwritten, passed, .. } = *self;
        [
            ("checkpoints", checkpoints),
            ("stable", stable),
            ("discards", discards),
            ("transfers", transfers),
            ("installs", installs),
            ("resumed", resumed),
            ("refused", refused),
            ("diverged", diverged),
            ("restored", restored),
            ("retried", retried),
            ("unwritten", unwritten),
            ("passed", passed),
        ]
    }

    pub(crate) const fn observe(&mut self, observation: &Observation) {
        match observation {
            Observation::Checkpointed { .. } => self.checkpoints += 1,
            Observation::Installed { .. } => self.installs += 1,
            Observation::Discarded { .. } => self.discards += 1,
            _ => {}
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.checkpoints += other.checkpoints;
        self.stable += other.stable;
        self.discards += other.discards;
        self.transfers += other.transfers;
        self.installs += other.installs;
        self.resumed += other.resumed;
        self.refused += other.refused;
        self.diverged += other.diverged;
        self.restored += other.restored;
        self.retried += other.retried;
        self.unwritten += other.unwritten;
        self.passed += other.passed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.all().map(|(name, count)| format!("{name} {count}"));
        f.write_str(&all.join(", "))
    }
}
