//! `mainstay init`: a new cluster's identities, once; or a lost replica's.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mainstay_node::PeerAddress;
use mainstay_storage::RealDisk;

use crate::arguments::InitOptions;
use crate::cluster::{Cluster, durability_name};
use crate::failure::Failure;
use crate::output::say;
use crate::settings::{
    BatchingSettings, CatchUpSettings, CheckpointSettings, LeaderSettings, LimitSettings, Listen,
    LogSettings, Settings, resolve,
};

/// How far above its client port a replica of one machine listens to its peers.
pub(crate) const PEER_PORT_DISTANCE: u16 = 100;

/// How long the replica that is well has for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Carries the command out.
pub(crate) fn run(options: &InitOptions, service_version: u32) -> Result<(), Failure> {
    match (options.lost, &options.cluster_from) {
        (Some(index), Some(from)) => lost(&options.data, index, from, service_version),
        _ => new_cluster(options, service_version),
    }
}

/// The name of a replica's folder, and of its configuration file without the ending.
pub(crate) fn replica_name(index: u16) -> String {
    format!("replica-{index}")
}

fn new_cluster(options: &InitOptions, service_version: u32) -> Result<(), Failure> {
    let addresses = addresses(options)?;
    let replicas = u16::try_from(addresses.len()).unwrap_or(u16::MAX);
    refuse_occupied(&options.data)?;
    let cluster = Cluster::draw(replicas, options.durability, service_version)?;
    let peers: Vec<String> = addresses.iter().map(|listen| listen.peers.clone()).collect();
    for (me, listen) in cluster.configuration.replicas.iter().zip(addresses) {
        let name = replica_name(me.index);
        cluster.write_identity(&options.data.join(&name), *me, false)?;
        let settings = Settings {
            cluster: cluster.id.to_string(),
            index: me.index,
            data: PathBuf::from(&name),
            durability: durability_name(cluster.durability).to_owned(),
            peers: peers.clone(),
            listen,
            log: LogSettings::default(),
            checkpoint: CheckpointSettings::default(),
            leader: LeaderSettings::default(),
            catch_up: CatchUpSettings::default(),
            limits: LimitSettings::default(),
            batching: BatchingSettings::default(),
        };
        write_settings(&options.data.join(format!("{name}.toml")), &settings)?;
    }
    let reachable = if options.peers.is_empty() { "" } else { "--insecure-bind " };
    say(&format!(
        "cluster {} in {}: {replicas} replicas\non each machine, with its folder and file: mainstay \
         replica {reachable}--config replica-I.toml",
        cluster.id,
        options.data.display()
    ))
}

/// Where each replica of a new cluster listens, by index.
fn addresses(options: &InitOptions) -> Result<Vec<Listen>, Failure> {
    if options.peers.is_empty() {
        return loopback_addresses(options.replicas, options.port);
    }
    let host = |peers: &str| peers.rsplit_once(':').map_or(peers, |(host, _)| host).to_owned();
    let mut listen: Vec<Listen> = Vec::new();
    for peers in &options.peers {
        // Names are looked up by those who dial them, on other machines than this.
        PeerAddress::parse(peers).ok_or_else(|| {
            Failure::usage(format!("--peers has \"{peers}\", which is no host:port"))
        })?;
        // Replicas of one host serve clients at ports that follow one another, as on loopback.
        let beside = listen.iter().filter(|other| host(&other.peers) == host(peers)).count();
        let port = usize::from(options.port) + beside;
        listen.push(Listen { clients: format!("{}:{port}", host(peers)), peers: peers.clone() });
    }
    let mut taken = BTreeSet::new();
    for address in listen.iter().flat_map(|listen| [&listen.peers, &listen.clients]) {
        PeerAddress::parse(address).ok_or_else(|| {
            Failure::usage(format!("--port leads to \"{address}\", which is no host:port"))
        })?;
        if !taken.insert(address) {
            return Err(Failure::usage(format!(
                "two replicas would listen at {address}: name each replica once by --peers, and \
                 keep the ports from --port on free of peer ports"
            )));
        }
    }
    Ok(listen)
}

/// Client ports from `port` on, peer ports [`PEER_PORT_DISTANCE`] above them.
pub(crate) fn loopback_addresses(replicas: u16, port: u16) -> Result<Vec<Listen>, Failure> {
    if port.checked_add(PEER_PORT_DISTANCE + replicas).is_none() || port == 0 {
        return Err(Failure::usage(format!(
            "--port {port} leaves no room for {replicas} client ports and as many peer ports {} \
             above them; choose one between 1 and {}",
            PEER_PORT_DISTANCE,
            u16::MAX - PEER_PORT_DISTANCE - replicas
        )));
    }
    let listen = |index| Listen {
        clients: format!("127.0.0.1:{}", port + index),
        peers: format!("127.0.0.1:{}", port + PEER_PORT_DISTANCE + index),
    };
    Ok((0..replicas).map(listen).collect())
}

/// Refuses a folder that holds anything of anybody's.
fn refuse_occupied(folder: &Path) -> Result<(), Failure> {
    let occupied = match fs::read_dir(folder) {
        Ok(mut entries) => entries.any(|entry| {
            entry.map_or(true, |entry| !RealDisk::is_of_an_empty_folder(&entry.file_name()))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(Failure::file(folder, "read", &error)),
    };
    if occupied {
        return Err(Failure::usage(format!(
            "'{}' is not empty; a cluster is made once, so choose a new folder",
            folder.display()
        )));
    }
    Ok(())
}

/// Writes the configuration file of a replica.
pub(crate) fn write_settings(path: &Path, settings: &Settings) -> Result<(), Failure> {
    let text = toml::to_string(settings)
        .map_err(|error| Failure::failed(format!("a configuration cannot be written: {error}")))?;
    fs::write(path, text).map_err(|error| Failure::file(path, "write", &error))
}

/// Makes the folder of a replica that lost its own, by what a replica that is well tells.
fn lost(folder: &Path, index: u16, from: &str, service_version: u32) -> Result<(), Failure> {
    let address = resolve(from).map_err(|what| Failure::usage(format!("--cluster-from {what}")))?;
    let told = mainstay_node::status::ask(address, ANSWER_TIMEOUT).map_err(|error| {
        Failure::failed(format!(
            "{from} does not tell which cluster it belongs to: {error}; name the peer port of a \
             replica that runs"
        ))
    })?;
    let cluster = Cluster::told_by(&told).ok_or_else(|| {
        Failure::failed(format!("{from} told of its cluster what this program cannot read"))
    })?;
    if cluster.service_version != service_version {
        return Err(Failure::usage(format!(
            "the cluster replicates version {} of the service, but this program has version \
             {service_version}: use the program that the other replicas run",
            cluster.service_version
        )));
    }
    let me = cluster.member(index).ok_or_else(|| {
        let last = cluster.configuration.replicas.len() - 1;
        Failure::usage(format!("--lost {index}: the cluster's replicas are 0 to {last}"))
    })?;
    refuse_occupied(folder)?;
    cluster.write_identity(folder, me, true)?;
    say(&format!(
        "replica {index} of cluster {} in {}, amnesiac\nit follows the others and does not vote: it \
         no longer knows what it promised",
        cluster.id,
        folder.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_must_fit() {
        let listen = loopback_addresses(3, 7400).unwrap();
        assert_eq!(listen[2].clients, "127.0.0.1:7402");
        assert_eq!(listen[2].peers, "127.0.0.1:7502");
        assert!(loopback_addresses(3, 0).is_err());
        assert!(loopback_addresses(3, 65_433).is_err());
        assert!(loopback_addresses(3, 65_432).is_ok());
    }
}
