//! The identity of a replica: who it is, which cluster it belongs to, whether it may vote.

use mainstay_model::{ClusterId, Configuration, GroupId, ReplicaId};

use crate::disk::Disk;
use crate::error::OpenError;

/// How a group protects its service (DESIGN section 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Style {
    /// Every replica executes every request in the order that Multi-Paxos decides.
    #[default]
    Consensus,
}

/// When a promise may leave (rule 14).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// After it is on stable storage.
    #[default]
    Sync,
}

/// What stands in the file `identity` of a replica's folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The replica.
    pub me: ReplicaId,
    /// The replica lost what it promised: it learns and never votes.
    pub amnesiac: bool,
    /// A log was begun in this folder: without one, what was promised is lost.
    pub log_begun: bool,
    /// The group.
    pub group: GroupId,
    /// How the group protects its service.
    pub style: Style,
    /// When a promise may leave.
    pub durability: Durability,
    /// The first configuration of the group.
    pub configuration: Configuration,
    /// The version of the service's state format (`Service::version`).
    pub service_version: u32,
    /// The boot of the machine in which the folder was last opened; 0 where it is not recorded, as
    /// in `sync` durability.
    pub boot: u128,
    /// The last process ended after a successful sync; recorded together with `boot`.
    pub stopped_clean: bool,
}

impl Identity {
    /// The name of the file.
    pub const FILE: &'static str = "identity";

    /// Writes the identity into a folder that has none.
    ///
    /// # Errors
    /// [`OpenError::IdentityExists`]; those of the operating system.
    pub fn create<D: Disk>(&self, _disk: &D) -> Result<(), OpenError> {
        unimplemented!()
    }

    /// Reads the identity of a folder.
    ///
    /// # Errors
    /// [`OpenError::NoIdentity`], [`OpenError::NewerFormat`], [`OpenError::Damaged`]; those of the
    /// operating system.
    pub fn load<D: Disk>(_disk: &D) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// Replaces the identity of the folder by this one, durably and in one piece.
    ///
    /// # Errors
    /// Those of the operating system: what the folder holds is then the old or the new one.
    pub fn store<D: Disk>(&self, _disk: &D) -> Result<(), OpenError> {
        unimplemented!()
    }

    /// Marks the replica as one that lost what it promised; durable when this returns. Only a
    /// higher epoch ends it.
    ///
    /// # Errors
    /// Those of [`Identity::store`].
    pub fn mark_amnesiac<D: Disk>(&mut self, disk: &D) -> Result<(), OpenError> {
        self.amnesiac = true;
        self.store(disk)
    }

    /// Marks that a log was begun; durable when this returns. To be called after the first
    /// [`crate::Log::open`], before anything is promised.
    ///
    /// # Errors
    /// Those of [`Identity::store`].
    pub fn mark_log_begun<D: Disk>(&mut self, disk: &D) -> Result<(), OpenError> {
        if self.log_begun {
            return Ok(());
        }
        self.log_begun = true;
        self.store(disk)
    }
}
