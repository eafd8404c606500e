//! Who may connect: what a hello is checked for, and how often a refusal is worth a line.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use mainstay_model::frame::WIRE_VERSION;
use mainstay_model::hello::{Hello, Reject, RejectCode, Role};
use mainstay_model::{ClusterId, Configuration, Instant, ReplicaId};
use mainstay_service::Service;

use crate::config::NodeConfig;
use crate::wire::FRAME_SLACK;

/// What this node says of itself, and what it demands of others.
#[derive(Clone, Debug)]
pub(crate) struct Greeter {
    pub(crate) cluster: ClusterId,
    pub(crate) me: ReplicaId,
    pub(crate) configuration: Configuration,
    pub(crate) service_version: u32,
    pub(crate) body_len_max: u32,
    /// See [`Hello::process`].
    pub(crate) process: u64,
    pub(crate) peer_port: u16,
}

impl Greeter {
    /// For the node of this configuration, which runs this service and listens to its peers on this
    /// port; `process` differs with every start.
    pub(crate) fn of<S: Service>(config: &NodeConfig, peer_port: u16, process: u64) -> Self {
        Self {
            cluster: config.cluster,
            me: config.me,
            configuration: config.configuration.clone(),
            service_version: S::version(),
            body_len_max: u32::try_from(config.limits.request_bytes_max + FRAME_SLACK)
                .unwrap_or(u32::MAX),
            process,
            peer_port,
        }
    }

    /// The hello of this node.
    pub(crate) const fn hello(&self) -> Hello {
        Hello {
            version_min: WIRE_VERSION,
            version_max: WIRE_VERSION,
            role: Role::Peer,
            cluster: self.cluster,
            replica: self.me,
            configuration: self.configuration.id,
            service_version: self.service_version,
            body_len_max: self.body_len_max,
            process: self.process,
            peer_port: self.peer_port,
        }
    }

    /// Checks the hello of whoever connected to this node.
    pub(crate) fn admit(&self, hello: &Hello) -> Result<(), Reject> {
        if !hello.speaks_ours() {
            return refuse(
                RejectCode::Version,
                format!(
                    "replica {} speaks wire version {WIRE_VERSION}, and you speak {} to {}: run \
                     versions of the program that share one",
                    self.me, hello.version_min, hello.version_max
                ),
            );
        }
        let any = hello.role != Role::Peer && hello.cluster == ClusterId(0);
        if hello.cluster != self.cluster && !any {
            return refuse(
                RejectCode::Cluster,
                format!(
                    "replica {} belongs to cluster {}, and you come from cluster {}: check the \
                     addresses of the peers and the data folders",
                    self.me, self.cluster, hello.cluster
                ),
            );
        }
        if hello.role == Role::Peer { self.admit_peer(hello) } else { Ok(()) }
    }

    fn admit_peer(&self, hello: &Hello) -> Result<(), Reject> {
        let them = hello.replica;
        if them.index == self.me.index {
            return refuse(
                RejectCode::WrongReplica,
                format!(
                    "you say that you are replica {them}, and this is replica {}: two processes \
                     use one identity, or a peer address leads back to its owner",
                    self.me
                ),
            );
        }
        let Some(listed) = self.configuration.replicas.get(usize::from(them.index)) else {
            return refuse(
                RejectCode::NotListed,
                format!(
                    "replica {them} is not in configuration {}, which has {} replicas",
                    self.configuration.id,
                    self.configuration.replicas.len()
                ),
            );
        };
        if *listed != them {
            return refuse(
                RejectCode::Epoch,
                format!(
                    "replica {them} (instance {:08x}) is not the incarnation in configuration {}, \
                     which lists {listed} (instance {:08x}): stop the old one",
                    them.epoch.instance, self.configuration.id, listed.epoch.instance
                ),
            );
        }
        if hello.service_version != self.service_version {
            return refuse(
                RejectCode::Service,
                format!(
                    "replica {} runs version {} of the service, and you run version {}: run the \
                     same version on all replicas",
                    self.me, self.service_version, hello.service_version
                ),
            );
        }
        Ok(())
    }

    /// Checks the answer of the node that this one connected to as `expected`.
    pub(crate) fn accept_answer(&self, hello: &Hello, expected: ReplicaId) -> Result<(), Reject> {
        if hello.role != Role::Peer {
            return refuse(RejectCode::Role, "the answer comes from no replica".into());
        }
        self.admit(hello)?;
        if hello.replica != expected {
            return refuse(
                RejectCode::WrongReplica,
                format!(
                    "replica {} answers where replica {expected} was expected: check the addresses \
                     of the peers",
                    hello.replica
                ),
            );
        }
        Ok(())
    }
}

fn refuse(code: RejectCode, sentence: String) -> Result<(), Reject> {
    Err(Reject { code, sentence })
}

/// Decides which complaints are worth a line: the first of a kind from a host, then one a minute.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    last: BTreeMap<(IpAddr, RejectCode), Instant>,
}

/// How long a complaint stays said.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// The most complaints remembered.
const COMPLAINTS_MAX: usize = 1024;

impl Complaints {
    /// Whether this one should be said now.
    pub(crate) fn is_news(&mut self, now: Instant, host: IpAddr, code: RejectCode) -> bool {
        if let Some(last) = self.last.get(&(host, code))
            && now.since(*last) < COMPLAINT_INTERVAL
        {
            return false;
        }
        if self.last.len() >= COMPLAINTS_MAX {
            self.last.retain(|_, last| now.since(*last) < COMPLAINT_INTERVAL);
        }
        // Where a thousand hosts complain within a minute, the rest is silence.
        if self.last.len() < COMPLAINTS_MAX {
            self.last.insert((host, code), now);
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_model::{ConfigurationId, Epoch};

    fn replica(index: u16, instance: u32) -> ReplicaId {
        ReplicaId { index, epoch: Epoch { counter: 1, instance } }
    }

    fn greeter(index: u16) -> Greeter {
        let replicas = (0..3).map(|i| replica(i, 7)).collect();
        Greeter {
            cluster: ClusterId(5),
            me: replica(index, 7),
            configuration: Configuration { id: ConfigurationId(1), replicas, alpha: 64 },
            service_version: 3,
            body_len_max: 1000,
            process: 17,
            peer_port: 7500 + index,
        }
    }

    fn code(result: Result<(), Reject>) -> Option<RejectCode> {
        result.err().map(|reject| reject.code)
    }

    #[test]
    fn a_listed_peer_is_let_in_and_answered() {
        assert_eq!(greeter(0).admit(&greeter(1).hello()), Ok(()));
        assert_eq!(greeter(1).accept_answer(&greeter(0).hello(), replica(0, 7)), Ok(()));
    }

    #[test]
    fn every_other_one_is_refused_by_name() {
        let good = greeter(1).hello();
        let refused = |hello: Hello| code(greeter(0).admit(&hello));
        assert_eq!(refused(Hello { cluster: ClusterId(6), ..good }), Some(RejectCode::Cluster));
        assert_eq!(
            refused(Hello { version_min: 2, version_max: 9, ..good }),
            Some(RejectCode::Version)
        );
        assert_eq!(
            refused(Hello { replica: replica(0, 7), ..good }),
            Some(RejectCode::WrongReplica)
        );
        assert_eq!(refused(Hello { replica: replica(3, 7), ..good }), Some(RejectCode::NotListed));
        assert_eq!(refused(Hello { replica: replica(1, 8), ..good }), Some(RejectCode::Epoch));
        assert_eq!(refused(Hello { service_version: 4, ..good }), Some(RejectCode::Service));
        assert_eq!(
            code(greeter(2).accept_answer(&good, replica(0, 7))),
            Some(RejectCode::WrongReplica)
        );
    }

    #[test]
    fn clients_may_leave_the_cluster_open_but_not_name_another() {
        let open = Hello::of_client(Role::Client, 1000);
        assert_eq!(greeter(0).admit(&open), Ok(()));
        let foreign = Hello { cluster: ClusterId(6), ..open };
        assert_eq!(code(greeter(0).admit(&foreign)), Some(RejectCode::Cluster));
    }

    #[test]
    fn a_complaint_is_said_once_a_minute() {
        let mut complaints = Complaints::default();
        let host = IpAddr::from([127, 0, 0, 1]);
        let at = |seconds: u64| Instant(seconds * 1_000_000_000);
        assert!(complaints.is_news(at(1), host, RejectCode::Cluster));
        assert!(!complaints.is_news(at(2), host, RejectCode::Cluster));
        assert!(complaints.is_news(at(2), host, RejectCode::Epoch));
        assert!(complaints.is_news(at(62), host, RejectCode::Cluster));
    }
}
