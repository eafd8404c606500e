//! The folder of a cluster: made once, resumed ever after.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_model::ReplicaId;
use mainstay_storage::{Identity, RealDisk};

use crate::arguments::{DurabilityOption, UpOptions};
use crate::cluster::{Cluster, durability_name};
use crate::failure::Failure;
use crate::init::replica_name;
use crate::manifest::Manifest;
use crate::output::warn;
use crate::waiting::while_locked;

/// How many replicas a new cluster has.
const REPLICAS: u16 = 3;
/// Locked as long as an `up` runs on the folder.
const LOCK: &str = "up.lock";
/// How long another `up` may take to let go of the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// A cluster's folder, locked, with an identity for every replica.
pub(super) struct Folder {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What was made there.
    pub(super) manifest: Manifest,
    /// The cluster that the manifest describes.
    pub(super) cluster: Cluster,
    /// Which replicas have lost what they promised.
    pub(super) amnesiac: Vec<bool>,
    /// Held as long as this value lives.
    _lock: File,
}

/// Opens the folder, or makes a cluster in it.
pub(super) fn open(options: &UpOptions, service_version: u32) -> Result<Folder, Failure> {
    let path = options.data.clone();
    mainstay_storage::make_folder(&path).map_err(|error| Failure::file(&path, "make", &error))?;
    let found = Manifest::read(&path)?;
    if found.is_none() {
        refuse_foreign(&path)?;
    }
    let lock = lock(&path)?;
    // Read again: an `up` that held the lock until now may have written it.
    let manifest = match Manifest::read(&path)? {
        Some(manifest) => manifest,
        None => {
            let durability = options.durability.unwrap_or(DurabilityOption::Sync);
            let replicas = options.replicas.unwrap_or(REPLICAS);
            let manifest = Manifest::new(&Cluster::draw(replicas, durability, service_version)?);
            manifest.write(&path)?;
            manifest
        }
    };
    let cluster = manifest.cluster(&path)?;
    refuse_other(options, &cluster, service_version)?;
    let mut folder = Folder { path, manifest, cluster, amnesiac: Vec::new(), _lock: lock };
    folder.make_identities()?;
    Ok(folder)
}

impl Folder {
    /// Gives an identity to every replica that has none: a fresh one before the cluster was ever
    /// started, an amnesiac one ever after.
    fn make_identities(&mut self) -> Result<(), Failure> {
        let members = self.cluster.configuration.replicas.clone();
        for me in &members {
            let folder = self.path.join(replica_name(me.index));
            if is_empty(&folder)? {
                let lost = self.manifest.complete;
                self.cluster.write_identity(&folder, *me, lost)?;
                if lost {
                    warn(&format!(
                        "replica {}: its folder was made before and is empty now, so it comes \
                         back as amnesiac: it follows and does not vote",
                        me.index
                    ));
                }
            }
            self.amnesiac.push(is_amnesiac(&folder, *me));
        }
        if !self.manifest.complete {
            self.manifest.complete = true;
            self.manifest.write(&self.path)?;
        }
        let voters = self.amnesiac.iter().filter(|amnesiac| !**amnesiac).count();
        if voters < self.cluster.configuration.majority() {
            warn(&format!(
                "{} of {} replicas have lost what they promised, so the group stays down: put \
                 back the folders of enough others",
                members.len() - voters,
                members.len()
            ));
        }
        Ok(())
    }
}

/// Whether a replica's folder says that it is amnesiac. What cannot be read is reported by the
/// replica itself.
fn is_amnesiac(folder: &Path, me: ReplicaId) -> bool {
    let identity = RealDisk::open(folder).and_then(|disk| Identity::load(&disk));
    identity.is_ok_and(|identity| identity.me == me && identity.amnesiac)
}

/// Whether a replica's folder is missing or holds nothing but a lock.
fn is_empty(folder: &Path) -> Result<bool, Failure> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(Failure::file(folder, "read", &error)),
    };
    Ok(entries.flatten().all(|entry| RealDisk::is_of_an_empty_folder(&entry.file_name())))
}

/// Refuses a folder that holds something else than a cluster of `up`.
fn refuse_foreign(path: &Path) -> Result<(), Failure> {
    let entries = fs::read_dir(path).map_err(|error| Failure::file(path, "read", &error))?;
    let is_foreign = |name: &OsStr| name != LOCK && !RealDisk::is_of_an_empty_folder(name);
    match entries.flatten().find(|entry| is_foreign(&entry.file_name())) {
        None => Ok(()),
        Some(entry) => Err(Failure::data(format!(
            "'{}' holds '{}' but no manifest, so `mainstay up` did not make it: choose an empty \
             or new folder by --data",
            path.display(),
            entry.file_name().to_string_lossy()
        ))),
    }
}

/// Waits a little for another `up`: one that was killed holds its lock until the system has taken
/// it down, which can be after its successor has started.
fn lock(path: &Path) -> Result<File, Failure> {
    let lock = path.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&lock)
        .map_err(|error| Failure::file(&lock, "open", &error))?;
    let is_locked = |error: &TryLockError| matches!(error, TryLockError::WouldBlock);
    match while_locked(LOCK_PATIENCE, || false, || file.try_lock(), is_locked) {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Failure::failed(format!(
            "another `mainstay up` runs on '{}': stop that one, or choose another folder by --data",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(Failure::file(&lock, "lock", &error)),
    }
}

/// Refuses options that contradict what was made.
fn refuse_other(
    options: &UpOptions,
    cluster: &Cluster,
    service_version: u32,
) -> Result<(), Failure> {
    let folder = options.data.display();
    let made = cluster.configuration.replicas.len();
    if options.replicas.is_some_and(|replicas| usize::from(replicas) != made) {
        return Err(Failure::usage(format!(
            "'{folder}' holds a cluster of {made} replicas, which cannot be changed here: resume \
             it by `mainstay up --data {folder} --replicas {made}`, or make another in a new folder"
        )));
    }
    let durability = durability_name(cluster.durability);
    if options.durability.is_some_and(|option| durability_name(option.into()) != durability) {
        return Err(Failure::usage(format!(
            "'{folder}' holds a cluster with durability {durability}: resume it by `mainstay up \
             --data {folder} --durability {durability}`, or make another in a new folder"
        )));
    }
    if cluster.service_version != service_version {
        return Err(Failure::data(format!(
            "'{folder}' holds version {} of the service's state, but this program has version \
             {service_version}: start it with the program that wrote it",
            cluster.service_version
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::{DATA, FAILED};
    use crate::settings::LimitSettings;

    fn options(folder: &Path, replicas: Option<u16>) -> UpOptions {
        UpOptions {
            replicas,
            data: folder.join("cluster"),
            port: 0,
            durability: None,
            leader_policy: None,
            leader_timeout_ms: None,
            catch_up: None,
            batching: None,
            batch_requests: None,
            batch_wait_ms: None,
            checkpoint_requests: None,
            checkpoint_bytes: None,
            checkpoint_write_rate: None,
            checkpoint_fetch_rate: None,
            log_keep_bytes: None,
            limits: LimitSettings::default(),
            segment_bytes: None,
            log_bytes_max: None,
        }
    }

    #[test]
    fn a_cluster_is_made_once_and_resumed() {
        let root = tempfile::tempdir().unwrap();
        let first = open(&options(root.path(), Some(5)), 1).unwrap();
        assert_eq!(first.amnesiac, [false; 5]);
        let locked = open(&options(root.path(), None), 1).err().unwrap();
        assert!(locked.code == FAILED && locked.sentence.contains("another"), "{locked}");
        let id = first.cluster.id;
        // One that lets go in time is waited for.
        let leaving = std::thread::spawn(move || drop(first));
        assert_eq!(open(&options(root.path(), None), 1).unwrap().cluster.id, id);
        leaving.join().unwrap();
        let other = open(&options(root.path(), Some(3)), 1).err().unwrap();
        assert!(other.sentence.contains("--replicas 5"), "{other}");
        assert_eq!(open(&options(root.path(), None), 2).err().unwrap().code, DATA);
    }

    #[test]
    fn a_wiped_folder_comes_back_amnesiac_and_stays_so() {
        let root = tempfile::tempdir().unwrap();
        let options = options(root.path(), None);
        drop(open(&options, 1).unwrap());
        fs::remove_dir_all(options.data.join("replica-1")).unwrap();
        assert_eq!(open(&options, 1).unwrap().amnesiac, [false, true, false]);
        assert_eq!(open(&options, 1).unwrap().amnesiac, [false, true, false]);
    }

    #[test]
    fn a_crash_while_the_cluster_was_made_is_no_loss() {
        let root = tempfile::tempdir().unwrap();
        let options = options(root.path(), None);
        let mut made = open(&options, 1).unwrap();
        made.manifest.complete = false;
        made.manifest.write(&made.path).unwrap();
        drop(made);
        fs::remove_dir_all(options.data.join("replica-2")).unwrap();
        assert_eq!(open(&options, 1).unwrap().amnesiac, [false; 3]);
    }

    #[test]
    fn a_folder_that_a_file_system_begins_with_is_empty() {
        let root = tempfile::tempdir().unwrap();
        let options = options(root.path(), None);
        fs::create_dir_all(options.data.join("lost+found")).unwrap();
        let replica = options.data.join("replica-1");
        fs::create_dir(&replica).unwrap();
        assert!(open(&options, 1).is_err(), "a folder of a replica that `up` did not make");
        fs::remove_dir(&replica).unwrap();
        drop(open(&options, 1).unwrap());
        // Each replica's folder may be a disk of its own, too, and that one was lost.
        fs::remove_dir_all(&replica).unwrap();
        fs::create_dir_all(replica.join("lost+found")).unwrap();
        assert_eq!(open(&options, 1).unwrap().amnesiac, [false, true, false]);
    }

    #[test]
    fn a_foreign_folder_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let options = options(root.path(), None);
        fs::create_dir(&options.data).unwrap();
        fs::write(options.data.join("letter.txt"), "dear").unwrap();
        let failure = open(&options, 1).err().unwrap();
        assert!(failure.code == DATA && failure.sentence.contains("letter.txt"), "{failure}");
        assert_eq!(fs::read_dir(&options.data).unwrap().count(), 1);
    }
}
