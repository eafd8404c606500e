//! What a cluster is made of: ids drawn once, and the identities of its replicas on disk.

use std::path::Path;

use mainstay_model::{ClusterId, Configuration, ConfigurationId, Epoch, GroupId, ReplicaId};
use mainstay_node::NodeStatus;
use mainstay_storage::{Durability, Identity, OpenError, RealDisk, Style};

use crate::arguments::DurabilityOption;
use crate::failure::Failure;

/// How many slots past the decided ones may be proposed.
const ALPHA: u64 = 4096;

/// Who belongs to a cluster, and how it protects its service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// Its id.
    pub(crate) id: ClusterId,
    /// Its first configuration.
    pub(crate) configuration: Configuration,
    /// When an answer may leave.
    pub(crate) durability: Durability,
    /// `Service::version` of what it replicates.
    pub(crate) service_version: u32,
}

impl Cluster {
    /// Draws a new one.
    pub(crate) fn draw(
        replicas: u16,
        durability: DurabilityOption,
        service_version: u32,
    ) -> Result<Self, Failure> {
        let mut members = Vec::new();
        for index in 0..replicas {
            let mut instance = [0; 4];
            random(&mut instance)?;
            let instance = u32::from_le_bytes(instance);
            members.push(ReplicaId { index, epoch: Epoch { counter: 1, instance } });
        }
        let mut id = [0; 16];
        random(&mut id)?;
        let configuration =
            Configuration { id: ConfigurationId(1), replicas: members, alpha: ALPHA };
        let id = ClusterId(u128::from_le_bytes(id));
        Ok(Self { id, configuration, durability: durability.into(), service_version })
    }

    /// What a running replica tells of it.
    pub(crate) fn told_by(status: &NodeStatus) -> Option<Self> {
        let told = status.configuration.as_ref()?;
        let replicas = (0..)
            .zip(&told.members)
            .map(|(index, member)| {
                let epoch = Epoch { counter: member.epoch, instance: member.instance };
                ReplicaId { index, epoch }
            })
            .collect();
        Some(Self {
            id: parse_id(&status.cluster)?,
            configuration: Configuration {
                id: ConfigurationId(told.id),
                replicas,
                alpha: told.alpha,
            },
            durability: durability_named(&status.durability)?,
            service_version: told.service_version,
        })
    }

    /// The replica with this index, if there is one.
    pub(crate) fn member(&self, index: u16) -> Option<ReplicaId> {
        self.configuration.replicas.get(usize::from(index)).copied()
    }

    /// Writes the identity of a replica into its folder, which must have none; durable when this
    /// returns. An amnesiac one never votes.
    pub(crate) fn write_identity(
        &self,
        folder: &Path,
        me: ReplicaId,
        amnesiac: bool,
    ) -> Result<(), Failure> {
        let write = || {
            let disk = RealDisk::create(folder)?;
            self.identity(me, amnesiac).create(&disk)
        };
        write().map_err(|error: OpenError| Failure::open(folder, &error))
    }

    fn identity(&self, me: ReplicaId, amnesiac: bool) -> Identity {
        Identity {
            cluster: self.id,
            me,
            amnesiac,
            log_begun: false,
            group: GroupId::FIRST,
            style: Style::Consensus,
            durability: self.durability,
            configuration: self.configuration.clone(),
            service_version: self.service_version,
            boot: 0,
            stopped_clean: false,
        }
    }
}

impl From<DurabilityOption> for Durability {
    fn from(option: DurabilityOption) -> Self {
        match option {
            DurabilityOption::Sync => Self::Sync,
        }
    }
}

/// The name of a durability in files and on the command line.
pub(crate) const fn durability_name(durability: Durability) -> &'static str {
    match durability {
        Durability::Sync => "sync",
    }
}

/// The durability of that name.
pub(crate) fn durability_named(name: &str) -> Option<Durability> {
    (name == durability_name(Durability::Sync)).then_some(Durability::Sync)
}

/// Reads a cluster's id: 32 hexadecimal digits.
pub(crate) fn parse_id(text: &str) -> Option<ClusterId> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(text, 16).ok().map(ClusterId)).flatten()
}

fn random(bytes: &mut [u8]) -> Result<(), Failure> {
    getrandom::fill(bytes)
        .map_err(|error| Failure::failed(format!("the system gives no random numbers: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let cluster = Cluster::draw(3, DurabilityOption::Sync, 1).unwrap();
        assert_eq!(parse_id(&cluster.id.to_string()), Some(cluster.id));
        assert_eq!(parse_id("123"), None);
        assert_eq!(parse_id("+123456789012345678901234567890a"), None);
    }

    #[test]
    fn two_clusters_differ() {
        let [one, other] = [0, 1].map(|_| Cluster::draw(3, DurabilityOption::Sync, 1).unwrap());
        assert_ne!(one.id, other.id);
        assert_ne!(one.configuration.replicas, other.configuration.replicas);
    }

    #[test]
    fn an_identity_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::draw(1, DurabilityOption::Sync, 1).unwrap();
        let me = cluster.member(0).unwrap();
        cluster.write_identity(folder.path(), me, false).unwrap();
        let failure = cluster.write_identity(folder.path(), me, false).unwrap_err();
        assert_eq!(failure.code, crate::failure::USAGE);
    }
}
