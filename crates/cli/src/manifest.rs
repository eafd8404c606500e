//! What `up` made in a folder, so that it makes nothing twice: a replica's folder that is empty
//! although the manifest says it was made is a lost one, and a lost replica must not vote.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use mainstay_model::{Configuration, ConfigurationId, Epoch, ReplicaId};
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, durability_name, durability_named, parse_id};
use crate::failure::Failure;

/// The version of the file.
const FORMAT: u32 = 1;

/// The file, as it stands on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: u32,
    /// Every identity is durable. Before that, no replica has been started.
    pub(crate) complete: bool,
    cluster: String,
    durability: String,
    service_version: u32,
    configuration: u64,
    alpha: u64,
    /// The replicas, by index.
    #[serde(rename = "replica")]
    pub(crate) replicas: Vec<Member>,
}

/// A replica of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    pub(crate) epoch: u32,
    instance: u32,
    /// Where clients reached it at the last start.
    pub(crate) clients: String,
    /// Where peers did.
    pub(crate) peers: String,
}

impl Manifest {
    /// A manifest of a new cluster; its addresses are not known yet.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let member = |replica: &ReplicaId| Member {
            epoch: replica.epoch.counter,
            instance: replica.epoch.instance,
            clients: String::new(),
            peers: String::new(),
        };
        Self {
            format: FORMAT,
            complete: false,
            cluster: cluster.id.to_string(),
            durability: durability_name(cluster.durability).to_owned(),
            service_version: cluster.service_version,
            configuration: cluster.configuration.id.0,
            alpha: cluster.configuration.alpha,
            replicas: cluster.configuration.replicas.iter().map(member).collect(),
        }
    }

    /// Where the manifest of a folder lies.
    pub(crate) fn path(folder: &Path) -> PathBuf {
        folder.join("manifest.toml")
    }

    /// Reads the manifest of a folder; `None` if it has none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Failure> {
        let path = Self::path(folder);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Self::damaged(&path, "it is no text"));
            }
            Err(error) => return Err(Failure::file(&path, "read", &error)),
        };
        Self::parse(&path, &text).map(Some)
    }

    /// What a file says.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        let manifest: Self =
            toml::from_str(text).map_err(|error| Self::damaged(path, error.message().trim()))?;
        if manifest.format != FORMAT {
            return Err(Failure::data(format!(
                "'{}' is in format {}, but this program knows format {FORMAT}: use a newer \
                 version of mainstay",
                path.display(),
                manifest.format
            )));
        }
        Ok(manifest)
    }

    fn damaged(path: &Path, how: &str) -> Failure {
        Failure::data(format!(
            "'{}' is damaged ({how}), so it is unknown which replicas were made here: put back a \
             copy of it, or run each replica by `mainstay replica --config`",
            path.display()
        ))
    }

    /// Writes the manifest in one piece; durable when this returns.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Failure> {
        let path = Self::path(folder);
        let temporary = path.with_extension("toml.tmp");
        let write = || {
            let text = toml::to_string(self).map_err(io::Error::other)?;
            let mut file = File::create(&temporary)?;
            file.write_all(b"# Written by `mainstay up`: what it made here. Do not edit.\n")?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(|error| Failure::file(&path, "write", &error))
    }

    /// The cluster it describes.
    pub(crate) fn cluster(&self, folder: &Path) -> Result<Cluster, Failure> {
        let damaged = |how| Self::damaged(&Self::path(folder), how);
        let replicas = (0..)
            .zip(&self.replicas)
            .map(|(index, member)| {
                let epoch = Epoch { counter: member.epoch, instance: member.instance };
                ReplicaId { index, epoch }
            })
            .collect();
        Ok(Cluster {
            id: parse_id(&self.cluster).ok_or_else(|| damaged("`cluster` is no cluster's id"))?,
            configuration: Configuration {
                id: ConfigurationId(self.configuration),
                replicas,
                alpha: self.alpha,
            },
            durability: durability_named(&self.durability)
                .ok_or_else(|| damaged("`durability` is unknown"))?,
            service_version: self.service_version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::DurabilityOption;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(folder.path()), Ok(None));
        let cluster = Cluster::draw(3, DurabilityOption::Sync, 7).unwrap();
        let manifest = Manifest::new(&cluster);
        manifest.write(folder.path()).unwrap();
        let read = Manifest::read(folder.path()).unwrap().unwrap();
        assert_eq!(read, manifest);
        assert_eq!(read.cluster(folder.path()), Ok(cluster));
    }

    #[test]
    fn damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        for bytes in [&b"format = 1\n"[..], b"\xff\xfe", b"nonsense"] {
            fs::write(Manifest::path(folder.path()), bytes).unwrap();
            let failure = Manifest::read(folder.path()).unwrap_err();
            assert_eq!(failure.code, crate::failure::DATA, "{failure}");
            assert!(failure.sentence.contains("manifest.toml"), "{failure}");
        }
    }
}
