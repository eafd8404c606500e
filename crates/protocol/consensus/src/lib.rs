//! Multi-Paxos as a pure machine.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod door;
pub mod message;
pub mod settings;

pub use door::{Effect, Input, Observation, ReadPurpose, Rejection, Role};
pub use message::{Body, Message};
pub use settings::Settings;

use alloc::vec::Vec;
use mainstay_model::{Configuration, Instant, NoPlants, Now, Plants, Prng, Recovered, ReplicaId};

/// One replica of one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica<P = NoPlants> {
    _plants: P,
}

/// What a replica is told about itself at start.
#[derive(Clone, Debug)]
pub struct Start {
    /// Who it is.
    pub me: ReplicaId,
    /// The configuration it belongs to.
    pub configuration: Configuration,
    /// Whether it may vote; an amnesiac replica may not.
    pub votes: bool,
    /// What its log held.
    pub recovered: Recovered,
    /// Its generator.
    pub prng: Prng,
}

impl<P: Plants> Replica<P> {
    /// Builds a replica from what its log held.
    pub fn new(_start: Start, _settings: Settings, _now: Now, _plants: P) -> Self {
        unimplemented!()
    }

    /// The one door.
    pub fn step(&mut self, _now: Now, _input: Input, _out: &mut Vec<Effect>) {
        unimplemented!()
    }

    /// When the machine wants an [`Input::Deadline`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// What status tells of it.
    pub fn status(&self) -> Status {
        unimplemented!()
    }
}

/// A picture of a replica, for `status` and for checkers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is.
    pub role: Role,
    /// The highest ballot it has promised.
    pub ballot: mainstay_model::Ballot,
    /// Who leads, as far as it knows.
    pub leader: Option<ReplicaId>,
    /// The highest slot it has accepted anything in.
    pub accepted: mainstay_model::Slot,
    /// Every slot up to here is decided.
    pub decided: mainstay_model::Slot,
    /// Every slot up to here has been applied.
    pub applied: mainstay_model::Slot,
    /// Inputs from outside that were wrong or too old.
    pub ignored: u64,
}
