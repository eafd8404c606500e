//! `mainstay replica`: one replica in the foreground.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::panic;
use std::path::Path;
use std::time::Duration;

use mainstay_model::GroupId;
use mainstay_node::{Front, Lobby, NodeConfig, Sockets, StopHandle, Store, WallClock};
use mainstay_service::Service;
use mainstay_storage::{CheckpointOptions, Disk, Identity, LogOptions, OpenError, RealDisk};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::arguments::ReplicaOptions;
use crate::failure::Failure;
use crate::log_queue::LogQueue;
use crate::settings::{Checked, Settings};
use crate::supervisor;
use crate::waiting::while_locked;

/// How long a replica that `up` started waits for the process that held its folder before.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a checkpoint that are written in a second: the log has the rest of the disk.
pub(crate) const WRITE_RATE: NonZeroU64 = NonZeroU64::new(64 << 20).unwrap();
/// The most bytes of a checkpoint that are fetched in a second: those who give it have clients.
pub(crate) const FETCH_RATE: NonZeroU64 = NonZeroU64::new(64 << 20).unwrap();

/// Carries the command out; returns when the replica has ended.
pub(crate) fn run<S, F, D>(
    options: &ReplicaOptions,
    over: impl FnOnce(RealDisk) -> D,
    clock: WallClock,
) -> Result<(), Failure>
where
    S: Service + Default,
    F: Front + Default,
    D: Disk + Clone,
{
    let settings = Settings::read(&options.config)?;
    for address in [settings.listen_clients, settings.listen_peers] {
        refuse_reachable(address, options.insecure_bind)?;
    }
    let _logging = start_logging()?;
    for remark in &settings.remarks {
        tracing::warn!("{remark}");
    }
    let stop = StopHandle::new();
    if options.child {
        supervisor::name_process(&crate::program_name());
        stop_with_parent(&stop);
    }
    let wait = if options.child { LOCK_TIMEOUT } else { Duration::ZERO };
    let disk = open_folder(&settings.data, wait, || stop.is_stopped())?;
    let mut identity =
        Identity::load(&disk).map_err(|error| Failure::open(&settings.data, &error))?;
    check_identity::<S>(&identity, &settings, &options.config)?;

    let mut log_options = LogOptions::new(identity.cluster, identity.me);
    log_options.begun = identity.log_begun;
    log_options.segment_bytes = settings.log.segment_bytes.unwrap_or(log_options.segment_bytes);
    log_options.bytes_max = settings.log.bytes_max;
    let mut checkpoint_options =
        CheckpointOptions::new(identity.cluster, GroupId::FIRST, identity.service_version);
    checkpoint_options.write_rate = settings.checkpoint.write_rate.or(Some(WRITE_RATE));
    let node_failure = |error: mainstay_node::NodeError| Failure {
        code: error.exit_code(),
        sentence: error.to_string(),
    };
    let sockets =
        Sockets::bind(settings.listen_peers, settings.listen_clients).map_err(node_failure)?;
    let config = configure(identity.clone(), &settings, clock);
    let lobby = Lobby::open::<S, F>(&config, &sockets, F::default()).map_err(node_failure)?;
    let store = Store::open(over(disk), log_options, checkpoint_options)
        .map_err(|error| Failure::store(&settings.data, &error))?;
    let open = |error: OpenError| Failure::open(&settings.data, &error);
    identity.mark_log_begun(store.log.disk()).map_err(open)?;

    drop(lobby);
    tracing::info!(
        replica = %config.me,
        cluster = %config.cluster,
        votes = config.votes,
        clients = %sockets.client_address(),
        peers = %sockets.peer_address(),
        "starts"
    );
    supervisor::tell_ready(&format!(
        "replica {} of cluster {}, clients at {}",
        config.me.index,
        config.cluster,
        sockets.client_address()
    ));
    let ended = mainstay_node::run(&config, sockets, store, S::default(), F::default(), &stop)
        .map_err(node_failure)?;
    tracing::info!(applied = %ended.applied, flushed = ended.flushed, "ended");
    Ok(())
}

fn configure(identity: Identity, settings: &Checked, clock: WallClock) -> NodeConfig {
    let Identity { cluster, me, configuration, .. } = identity;
    let mut config = NodeConfig::new(cluster, me, configuration, settings.peers.clone());
    config.votes = !identity.amnesiac;
    config.remarks.clone_from(&settings.remarks);
    config.wall_clock = clock;
    config.ordering = settings.ordering;
    config.limits = settings.limits;
    config.interval = settings.checkpoint.interval();
    let fetch_rate = settings.checkpoint.fetch_rate.unwrap_or(FETCH_RATE);
    config.ordering.transfer_bytes_per_second = Some(fetch_rate.get());
    let keep = &mut config.keep;
    keep.lagging_bytes = settings.log.keep_bytes.unwrap_or(keep.lagging_bytes);
    keep.transfer_bytes = settings.log.keep_bytes_in_transfer.unwrap_or(keep.transfer_bytes);
    config
}

/// Refuses an address that others can reach: nothing asks yet who they are.
fn refuse_reachable(address: SocketAddr, insecure: bool) -> Result<(), Failure> {
    if insecure || address.ip().is_loopback() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{address} can be reached by others, and nothing asks who they are yet: listen on a \
         loopback address, or say --insecure-bind if the network is trusted"
    )))
}

/// The log of the process goes to standard error, and so do panics; nobody waits for it to be taken there.
fn start_logging() -> Result<Logging, Failure> {
    let wanted = std::env::var("MAINSTAY_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter: Targets = wanted.parse().map_err(|error| {
        Failure::usage(format!("MAINSTAY_LOG is '{wanted}', which is no filter: {error}"))
    })?;
    let queue = LogQueue::start(io::stderr())
        .map_err(|error| Failure::failed(format!("cannot start a thread: {error}")))?;
    let to = queue.clone();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(move || to.clone())
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    // A second logger in one process is a user's own; theirs stays.
    if tracing_subscriber::registry().with(filter).with(lines).try_init().is_ok() {
        let to = queue.clone();
        panic::set_hook(Box::new(move |what| to.line(format!("{what}\n").as_bytes())));
    }
    Ok(Logging(queue))
}

/// Writes what is left of the log when the command ends.
struct Logging(LogQueue);

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// Locks the folder; waits for whoever still holds it, unless `stopped`.
pub(crate) fn open_folder(
    folder: &Path,
    wait: Duration,
    stopped: impl Fn() -> bool,
) -> Result<RealDisk, Failure> {
    if !folder.is_dir() {
        let error = fs::read_dir(folder).err().unwrap_or(io::ErrorKind::NotADirectory.into());
        return Err(if error.kind() == io::ErrorKind::NotFound {
            Failure::open(folder, &OpenError::NoIdentity)
        } else {
            Failure::file(folder, "open the data folder", &error)
        });
    }
    let is_locked = |error: &OpenError| matches!(error, OpenError::Locked { .. });
    while_locked(wait, stopped, || RealDisk::open(folder), is_locked)
        .map_err(|error| Failure::open(folder, &error))
}

/// The folder must be that of the replica which the file describes, and of this service.
fn check_identity<S: Service>(
    identity: &Identity,
    settings: &Checked,
    file: &Path,
) -> Result<(), Failure> {
    let folder = settings.data.display();
    if (identity.cluster, identity.me.index) != (settings.cluster, settings.index) {
        return Err(Failure::data(format!(
            "'{folder}' belongs to replica {} of cluster {}, but '{}' describes replica {} of \
             cluster {}: give each replica its own folder",
            identity.me.index,
            identity.cluster,
            file.display(),
            settings.index,
            settings.cluster
        )));
    }
    let replicas = identity.configuration.replicas.len();
    if settings.peers.len() != replicas {
        return Err(Failure::usage(format!(
            "'{}' lists {} peers, but the cluster has {replicas} replicas: list all of them, by \
             index",
            file.display(),
            settings.peers.len()
        )));
    }
    if identity.service_version != S::version() {
        return Err(Failure::data(format!(
            "'{folder}' holds version {} of the service's state, but this program has version {}: \
             start it with the program that wrote it",
            identity.service_version,
            S::version()
        )));
    }
    Ok(())
}

/// Stops the node when standard input ends: the parent holds its other end, and the system closes
/// that however the parent ends.
fn stop_with_parent(stop: &StopHandle) {
    let stop = stop.clone();
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut bytes = [0; 64];
        loop {
            match input.read(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        stop.stop();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reachable_addresses_need_a_word() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(refuse_reachable(address("127.0.0.1:1"), false).is_ok());
        assert!(refuse_reachable(address("[::1]:1"), false).is_ok());
        assert!(refuse_reachable(address("0.0.0.0:1"), true).is_ok());
        for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1"] {
            let failure = refuse_reachable(address(open), false).unwrap_err();
            assert!(failure.sentence.contains("--insecure-bind"), "{failure}");
        }
    }

    #[test]
    fn a_folder_is_waited_for_no_longer_than_asked() {
        let folder = tempfile::tempdir().unwrap();
        let held = RealDisk::open(folder.path()).unwrap();
        let failure = open_folder(folder.path(), Duration::from_millis(1), || false).unwrap_err();
        assert!(failure.sentence.contains("in use"), "{failure}");
        assert!(open_folder(folder.path(), LOCK_TIMEOUT, || true).is_err());
        let path = folder.path().to_owned();
        let waiting =
            std::thread::spawn(move || open_folder(&path, LOCK_TIMEOUT, || false).is_ok());
        drop(held);
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn a_folder_that_is_not_there_is_new_or_lost() {
        let folder = tempfile::tempdir().unwrap();
        let failure =
            open_folder(&folder.path().join("none"), Duration::ZERO, || false).unwrap_err();
        assert_eq!(failure.code, crate::failure::USAGE);
        assert!(failure.sentence.contains("mainstay init"), "{failure}");
    }
}
