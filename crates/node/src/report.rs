//! What this node tells an administrator.

use std::collections::BTreeMap;

use mainstay_consensus::{ClockOff, Role as OrderingRole, Status};
use mainstay_service::Service;

use crate::config::NodeConfig;
use crate::front::Front;
use crate::node::Node;
use crate::restoring::Unfit;
use crate::sockets::Sockets;
use crate::status::{
    ConfigurationStatus, MemberStatus, NodeStatus, ReplicaStatus, RoleName, StateName,
    TransferStatus,
};

/// The group's name, how it is protected, and when a promise counts.
const NAME: &str = "main";
const STYLE: &str = "consensus";
const DURABILITY: &str = "sync";
/// From this size on the log is worth a warning.
const LOG_BYTES_LARGE: u64 = 1 << 30;

impl<F: Front> Node<F> {
    /// The status as JSON.
    pub(crate) fn report(&self) -> Vec<u8> {
        // A status holds no map and no number that JSON could not.
        serde_json::to_vec(&self.status()).unwrap_or_default()
    }

    fn status(&self) -> NodeStatus {
        let status = self.machines.replica.status();
        let me = self.config.me;
        NodeStatus {
            cluster: self.config.cluster.to_string(),
            name: NAME.into(),
            style: STYLE.into(),
            durability: DURABILITY.into(),
            ballot: status.ballot.round,
            leader: status.leader.map(|leader| leader.index),
            replica: ReplicaStatus {
                index: me.index,
                epoch: me.epoch.counter,
                pid: Some(std::process::id()),
                client: self.client_port.local_addr().map_or_else(|_| String::new(), text),
                peer: self.peer_port.local_addr().map_or_else(|_| String::new(), text),
                role: match status.role {
                    OrderingRole::Leader => RoleName::Leader,
                    OrderingRole::Learner => RoleName::Learner,
                    OrderingRole::Follower | OrderingRole::Candidate => RoleName::Follower,
                },
                state: self.state(&status),
                accepted: status.accepted.0,
                // What found no room in the log is executed all the same.
                decided: status.decided.0.max(self.applied.0),
                applied: self.applied.0,
                checkpoint: status.checkpoint.0,
                stable: status.stable.0,
                checkpoint_bytes: self.checkpointing.bytes,
                checkpoint_pause_max_us: self.checkpointing.pause_max.as_micros() as u64,
                transfer: status.transfer.map(|(slot, bytes, total)| TransferStatus {
                    slot: slot.0,
                    bytes,
                    total,
                }),
                log_bytes: self.log.bytes,
                segments: self.log.segments,
                clients: self.clients as u64,
                uptime_s: self.view.uptime_s,
                turns: self.turns,
            },
            warnings: self.warnings(&status),
            settings: self.common_settings(),
            configuration: Some(configuration(&self.config, self.greeter.service_version)),
        }
    }

    fn common_settings(&self) -> BTreeMap<String, String> {
        let (config, ordering) = (&self.config, &self.config.ordering);
        let settings = [
            ("checkpoint.requests", config.interval.requests.to_string()),
            ("checkpoint.bytes", config.interval.bytes.to_string()),
            ("leader.policy", format!("{:?}", ordering.leader_policy)),
            ("leader.timeout_ms", ordering.election_timeout.as_millis().to_string()),
            ("batching", format!("{:?}", ordering.batching)),
            ("batching.window", format!("{:?}", ordering.window)),
            ("limits.request_bytes", config.limits.request_bytes_max.to_string()),
        ];
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn state(&self, status: &Status) -> StateName {
        if self.stopped.is_some() {
            StateName::Failed
        } else if status.diverged.is_some() {
            StateName::Diverged
        } else if !self.config.votes {
            StateName::Amnesiac
        } else if status.transfer.is_some() || self.checkpointing.restoring {
            StateName::CatchingUp
        } else if self.session.was_opened() {
            StateName::Active
        } else if status.leader.is_some() {
            StateName::CatchingUp
        } else {
            StateName::Starting
        }
    }

    fn warnings(&self, status: &Status) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(why) = &self.stopped {
            warnings.push(format!("this replica no longer executes requests: {why}"));
        }
        if !self.config.votes {
            warnings.push(
                "this replica lost what it had promised: it follows, and does not vote".into(),
            );
        }
        warnings.extend(self.few_files.clone());
        if !self.log.has_room {
            let why = self.log.no_room.as_ref().map_or(String::new(), |why| format!(" ({why})"));
            warnings.push(format!(
                "the log has no room: no new writes are accepted until there is space on the disk{why}"
            ));
        }
        if let Some(slot) = self.blocked {
            warnings.push(format!(
                "slot {slot} waits for a replica that is certain about it: start the replicas that \
                 are down"
            ));
        }
        if let Some(jump) = status.clock_jump_refused {
            warnings.push(format!(
                "decided time is {} s behind the replicas' clocks, more than it jumps by itself: if \
                 those clocks are right, confirm by `mainstay clock confirm`",
                jump.as_secs()
            ));
        }
        for ClockOff { replica, ahead, by } in self.machines.replica.clocks_off(self.machines.now) {
            warnings.push(format!(
                "the clock of replica {replica} is {} s {} the middle one of the replicas' clocks: have \
                 all of them set from one source",
                by.as_secs(),
                if ahead { "ahead of" } else { "behind" }
            ));
        }
        match (status.leader, status.relay) {
            (None, _) => warnings.push("this replica hears no leader; another one may".into()),
            (Some(leader), Some(relay)) => warnings.push(format!(
                "this replica does not hear the leader, replica {leader}, and reaches it through replica \
                 {relay}: look at the network between the first two"
            )),
            (Some(_), None) => {}
        }
        warnings.extend(self.config.remarks.iter().cloned());
        warnings.extend(self.claims.warnings(self.machines.now.monotonic));
        for (peer, why) in self.links.complaints() {
            warnings.push(format!("replica {} is not reached: {why}", peer.index));
        }
        self.warn_of_checkpoints(status, &mut warnings);
        warnings
    }

    fn warn_of_checkpoints(&self, status: &Status, warnings: &mut Vec<String>) {
        if let Some(slot) = status.diverged {
            warnings.push(format!(
                "the state of this replica is not that of the others as of slot {slot}: it executes \
                 nothing more, goes on voting, and fetches their state"
            ));
        }
        if let Some(slot) = status.disputed {
            warnings.push(format!(
                "no two replicas have the same state at slot {slot}, so the log is kept: the service \
                 does not do the same on all replicas; look for clocks, random numbers and hash tables \
                 in it, and compare the programs"
            ));
        }
        if let Some(why) = &self.checkpointing.trouble {
            warnings.push(format!(
                "the last checkpoint could not be written, so the log is kept; it is tried again: {why}"
            ));
        }
        if let Some(why) = &self.checkpointing.fetch_trouble {
            warnings.push(format!(
                "what is fetched of the others' checkpoint could not be kept; it is tried again: {why}"
            ));
        }
        match &self.checkpointing.unused {
            Some(Unfit::Refused(why)) => warnings.push(format!(
                "this replica executes nothing: what a majority holds was fetched and is whole, and this \
                 program cannot restore it; start the program that wrote it: {why}"
            )),
            Some(Unfit::Damaged(why)) => warnings.push(format!(
                "the checkpoint that was fetched of the others cannot be used, and is fetched anew; if \
                 this goes on, compare the programs of the replicas: {why}"
            )),
            Some(Unfit::Unwanted) | None => {}
        }
        if let Some(why) = &self.checkpointing.refused {
            warnings.push(format!("{why}; an older one and the log behind it serve"));
        }
        let interval = self.checkpointing.interval.map_or(0, |interval| interval.bytes);
        let usual = self.config.keep.lagging_bytes.saturating_add(interval.saturating_mul(3));
        if self.log.bytes >= LOG_BYTES_LARGE.max(usual) {
            warnings.push(format!(
                "the log holds {} MiB, and is given up only where a quorum holds a checkpoint of one \
                 state, which is known of slot {}: start the replicas that are down",
                self.log.bytes >> 20,
                status.stable
            ));
        }
    }
}

/// What stands in a status of the configuration.
fn configuration(config: &NodeConfig, service_version: u32) -> ConfigurationStatus {
    let NodeConfig { configuration, peers, .. } = config;
    let members = configuration.replicas.iter().zip(peers);
    ConfigurationStatus {
        id: configuration.id.0,
        alpha: configuration.alpha,
        service_version,
        members: members
            .map(|(replica, peer)| MemberStatus {
                epoch: replica.epoch.counter,
                instance: replica.epoch.instance,
                peer: peer.to_string(),
            })
            .collect(),
    }
}

/// What is told while the log is read: nothing is known of the group yet.
pub(crate) fn starting<S: Service>(config: &NodeConfig, sockets: &Sockets) -> NodeStatus {
    let me = config.me;
    NodeStatus {
        cluster: config.cluster.to_string(),
        name: NAME.into(),
        style: STYLE.into(),
        durability: DURABILITY.into(),
        ballot: 0,
        leader: None,
        replica: ReplicaStatus {
            index: me.index,
            epoch: me.epoch.counter,
            pid: Some(std::process::id()),
            client: text(sockets.client_address()),
            peer: text(sockets.peer_address()),
            role: if config.votes { RoleName::Follower } else { RoleName::Learner },
            state: StateName::Starting,
            accepted: 0,
            decided: 0,
            applied: 0,
            checkpoint: 0,
            stable: 0,
            checkpoint_bytes: 0,
            checkpoint_pause_max_us: 0,
            transfer: None,
            log_bytes: 0,
            segments: 0,
            clients: 0,
            uptime_s: 0,
            turns: 0,
        },
        warnings: vec!["this replica reads its log and its checkpoints".into()],
        configuration: Some(configuration(config, S::version())),
        settings: BTreeMap::new(),
    }
}

fn text(address: std::net::SocketAddr) -> String {
    address.to_string()
}
