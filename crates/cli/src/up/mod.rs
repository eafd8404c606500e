//! `mainstay up`: a whole cluster on this machine, every replica a process of its own.
//!
//! | file | holds |
//! |---|---|
//! | `folder` | the cluster's folder: made once, resumed ever after |
//! | `ports` | where the replicas listen |
//! | `child` | the process of one replica |
//! | `watch` | keeps the processes running, tells when the cluster is ready, stops it |

mod child;
mod folder;
mod ports;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::arguments::UpOptions;
use crate::cluster::{Cluster, durability_name};
use crate::failure::Failure;
use crate::init::{replica_name, write_settings};
use crate::output::{self, warn};
use crate::replica::open_folder;
use crate::settings::{
    BatchingSettings, CatchUpSettings, CheckpointSettings, LeaderSettings, Listen, LogSettings,
    Settings, resolve,
};
use watch::Watch;

/// How long the replicas of an `up` that was killed may take to end.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries the command out; returns when the cluster has been stopped.
pub(crate) fn run(options: &UpOptions, service_version: u32) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(|error| {
            Failure::failed(format!("signal {signal} could not be caught: {error}"))
        })?;
    }
    // Before anything is made: the replicas would refuse their files.
    let limits = options.limits.limits();
    limits.map_err(|(key, what)| Failure::usage(format!("the option for `{key}` {what}")))?;
    let folder = folder::open(options, service_version)?;
    let replicas = folder.cluster.configuration.replicas.len();
    for me in &folder.cluster.configuration.replicas {
        // Whoever still holds the folder also holds the ports.
        let path = folder.path.join(replica_name(me.index));
        let free = open_folder(&path, PREDECESSOR_TIMEOUT, || stop.load(Ordering::Relaxed));
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        drop(free?);
    }
    let listen = ports::choose(options.port, replicas as u16)?;
    let mut manifest = folder.manifest.clone();
    for (member, listen) in manifest.replicas.iter_mut().zip(&listen) {
        member.clients.clone_from(&listen.clients);
        member.peers.clone_from(&listen.peers);
    }
    manifest.write(&folder.path)?;

    let peers: Vec<String> = listen.iter().map(|listen| listen.peers.clone()).collect();
    say(&format!(
        "cluster {} in {}: {replicas} replicas, durability {}",
        folder.cluster.id,
        folder.path.display(),
        durability_name(folder.cluster.durability)
    ));
    let mut watch = Watch::new(folder.amnesiac.clone());
    for (me, listen) in folder.cluster.configuration.replicas.iter().zip(&listen) {
        let name = replica_name(me.index);
        let settings = settings_of(options, &folder.cluster, me.index, &peers, listen);
        write_settings(&folder.path.join(format!("{name}.toml")), &settings)?;
        let address = resolve(&listen.peers).map_err(Failure::failed)?;
        watch.start(&folder.path.join(name), address)?;
        let (clients, peers) = (&listen.clients, &listen.peers);
        say(&format!("replica {}: clients {clients}, peers {peers}", me.index));
    }
    let ready: Vec<&str> = listen.iter().map(|listen| listen.clients.as_str()).collect();
    watch.run(&stop, &format!("ready {}", ready.join(" ")))
}

/// The configuration of a replica.
fn settings_of(
    options: &UpOptions,
    cluster: &Cluster,
    index: u16,
    peers: &[String],
    listen: &Listen,
) -> Settings {
    Settings {
        cluster: cluster.id.to_string(),
        index,
        data: replica_name(index).into(),
        durability: durability_name(cluster.durability).to_owned(),
        peers: peers.to_vec(),
        listen: listen.clone(),
        log: LogSettings {
            segment_bytes: options.segment_bytes,
            bytes_max: options.log_bytes_max,
            keep_bytes: options.log_keep_bytes,
            keep_bytes_in_transfer: None,
        },
        checkpoint: CheckpointSettings {
            requests: options.checkpoint_requests,
            bytes: options.checkpoint_bytes,
            write_rate: options.checkpoint_write_rate,
            fetch_rate: options.checkpoint_fetch_rate,
        },
        leader: LeaderSettings {
            policy: options.leader_policy.map(|policy| policy.name().to_owned()),
            timeout_ms: options.leader_timeout_ms,
        },
        catch_up: CatchUpSettings {
            policy: options.catch_up.map(|policy| policy.name().to_owned()),
            interval_ms: None,
        },
        batching: BatchingSettings {
            form: options.batching.map(|form| form.name().to_owned()),
            requests: options.batch_requests.and_then(|requests| requests.try_into().ok()),
            wait_ms: options.batch_wait_ms,
            window: None,
        },
        limits: options.limits,
    }
}

/// A line on standard output. The cluster runs on where it cannot be written.
fn say(line: &str) {
    if let Err(failure) = output::say(line) {
        warn(&failure.sentence);
    }
}
