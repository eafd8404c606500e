//! `mainstay status`: who leads, how far each replica is, what is wrong.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::Duration;

use mainstay_model::quorum::REPLICAS_MAX;
use mainstay_node::status::MemberStatus;
use mainstay_node::{NodeStatus, ReplicaStatus, RoleName, StateName};
use serde::Serialize;

use crate::arguments::{StatusOptions, Where};
use crate::failure::Failure;
use crate::init::replica_name;
use crate::manifest::Manifest;
use crate::output::say;
use crate::settings::{Settings, resolve};

/// How long each replica has for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct ClusterStatus {
    cluster: String,
    groups: Vec<GroupStatus>,
    warnings: Vec<String>,
}

/// A group of the cluster.
#[derive(Debug, Serialize)]
struct GroupStatus {
    name: String,
    style: String,
    durability: String,
    ballot: u64,
    leader: Option<u16>,
    replicas: Vec<Row>,
}

/// A replica of the group: what it told, or what is known of one that told nothing.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Row {
    Told(Box<ReplicaStatus>),
    Silent(Silent),
}

/// A replica that does not answer. It has the same fields, `null` where nothing is known.
#[derive(Debug, Serialize)]
struct Silent {
    index: u16,
    epoch: Option<u32>,
    pid: Option<u32>,
    client: Option<String>,
    peer: String,
    role: Option<RoleName>,
    state: StateName,
    accepted: Option<u64>,
    decided: Option<u64>,
    applied: Option<u64>,
    checkpoint: Option<u64>,
}

/// A replica to ask: where, and what is known of it before it answers.
pub(crate) struct Asked {
    pub(crate) peer: String,
    client: Option<String>,
    epoch: Option<u32>,
}

/// What came of asking.
pub(crate) type Answer = Result<NodeStatus, io::Error>;

/// Carries the command out.
pub(crate) fn run(options: &StatusOptions) -> Result<(), Failure> {
    let (asked, answers) = everybody(&options.at)?;
    let nobody = answers.iter().all(Result::is_err);
    let status = gather(&asked, &answers);
    let text = if options.at.json {
        serde_json::to_string(&status).map_err(|error| Failure::failed(error.to_string()))?
    } else {
        table(&status)
    };
    say(text.trim_end())?;
    if nobody {
        return Err(Failure::failed("no replica answers: is the cluster running?"));
    }
    Ok(())
}

/// All replicas of a cluster, and what each of them answered.
pub(crate) fn everybody(at: &Where) -> Result<(Vec<Asked>, Vec<Answer>), Failure> {
    let (asked, first) = match &at.config {
        Some(file) => (configured(Settings::peers_of(file)?), None),
        None if !at.target.is_empty() => by_targets(&at.target)?,
        None => (by_folder(&at.data)?, None),
    };
    let answers = ask_all(&asked, first);
    Ok((asked, answers))
}

/// The replicas that `up` or `init` made in a folder.
fn by_folder(folder: &Path) -> Result<Vec<Asked>, Failure> {
    if let Some(manifest) = Manifest::read(folder)? {
        let asked = manifest.replicas.iter().map(|member| Asked {
            peer: member.peers.clone(),
            client: Some(member.clients.clone()),
            epoch: Some(member.epoch),
        });
        return Ok(asked.collect());
    }
    // `init` wrote one file a replica, and any of them may have been moved to its machine.
    let files = (0..REPLICAS_MAX as u16)
        .map(|index| folder.join(replica_name(index)).with_extension("toml"));
    match files.into_iter().find(|file| file.is_file()) {
        Some(file) => Ok(configured(Settings::peers_of(&file)?)),
        None => Err(Failure::usage(format!(
            "'{}' holds no cluster that `mainstay up` or `mainstay init` made: name its folder by \
             --data, the configuration file of a replica by --config, or its peer port by --target \
             HOST:PORT",
            folder.display()
        ))),
    }
}

/// The replicas that a configuration file lists.
fn configured(peers: Vec<String>) -> Vec<Asked> {
    peers.into_iter().map(|peer| Asked { peer, client: None, epoch: None }).collect()
}

/// The replicas that the first of the targets which answers names, and its own answer.
fn by_targets(targets: &[String]) -> Result<(Vec<Asked>, Option<NodeStatus>), Failure> {
    let mut silent = Vec::new();
    for target in targets {
        match ask(target) {
            Ok(told) => return Ok((named_by(&told), Some(told))),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                return Err(Failure::usage(format!("--target {error}")));
            }
            Err(error) => silent.push(format!("{target} does not tell how it is: {error}")),
        }
    }
    let silent = silent.join("; ");
    Err(Failure::failed(format!("{silent}; name the peer port of a replica that runs")))
}

/// The replicas that one of them names.
fn named_by(told: &NodeStatus) -> Vec<Asked> {
    let members = told.configuration.as_ref().map_or(&[][..], |told| &told.members);
    if members.is_empty() {
        let replica = &told.replica;
        return vec![Asked {
            peer: replica.peer.clone(),
            client: Some(replica.client.clone()),
            epoch: Some(replica.epoch),
        }];
    }
    let member = |member: &MemberStatus| Asked {
        peer: member.peer.clone(),
        client: None,
        epoch: Some(member.epoch),
    };
    members.iter().map(member).collect()
}

/// Asks all at once; an answer that is there already is not asked for again.
fn ask_all(asked: &[Asked], first: Option<NodeStatus>) -> Vec<Answer> {
    let mut first = first;
    thread::scope(|scope| {
        let asking: Vec<_> = asked
            .iter()
            .map(|replica| {
                let known = first.take_if(|told| told.replica.peer == replica.peer);
                scope.spawn(move || match known {
                    Some(told) => Ok(told),
                    None => ask(&replica.peer),
                })
            })
            .collect();
        asking
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())))
            .collect()
    })
}

fn ask(peer: &str) -> Answer {
    let address =
        resolve(peer).map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
    mainstay_node::status::ask(address, ANSWER_TIMEOUT)
}

/// One picture out of all answers.
fn gather(asked: &[Asked], answers: &[Answer]) -> ClusterStatus {
    let told: Vec<&NodeStatus> = answers.iter().flatten().collect();
    // Of several opinions about the leader, the one of the highest ballot is the newest. A replica that
    // knows of no leader may have moved to a ballot that nobody else will ever hear of.
    let newest = told.iter().max_by_key(|told| (told.leader.is_some(), told.ballot));
    let leader = newest.and_then(|told| told.leader);
    let ballot = newest.map_or(0, |told| told.ballot);
    let text =
        |get: fn(&NodeStatus) -> &String| told.first().map_or(String::new(), |t| get(t).clone());
    let mut warnings: Vec<String> = Vec::new();
    let mut replicas = Vec::new();
    for (index, (asked, answer)) in (0..).zip(asked.iter().zip(answers)) {
        match answer {
            Ok(told) => {
                let own = |warning: &String| format!("replica {index}: {warning}");
                warnings.extend(told.warnings.iter().map(own));
                if told.replica.role == RoleName::Leader && leader != Some(index) {
                    warnings.push(format!(
                        "replica {index} still takes itself for the leader of ballot {}: the others \
                         follow a newer one, and it will step down",
                        told.ballot
                    ));
                }
                let mut replica = told.replica.clone();
                replica.client = reachable(&replica.client, &asked.peer);
                replica.peer = reachable(&replica.peer, &asked.peer);
                replicas.push(Row::Told(Box::new(replica)));
            }
            Err(error) => {
                warnings.push(format!("replica {index} does not answer: {error}"));
                replicas.push(Row::Silent(silent(index, asked, error)));
            }
        }
    }
    warnings.extend(differences(&told));
    ClusterStatus {
        cluster: text(|told| &told.cluster),
        groups: vec![GroupStatus {
            name: text(|told| &told.name),
            style: text(|told| &told.style),
            durability: text(|told| &told.durability),
            ballot,
            leader,
            replicas,
        }],
        warnings,
    }
}

/// Settings that are to be the same at all replicas, and are not.
fn differences(told: &[&NodeStatus]) -> Vec<String> {
    let names: BTreeSet<&String> = told.iter().flat_map(|told| told.settings.keys()).collect();
    let differs = |name: &&String| {
        let mut values = told.iter().filter_map(|told| told.settings.get(*name));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let tell = |name: &String| {
        let each: Vec<String> = told
            .iter()
            .filter_map(|told| {
                Some(format!("{} at {}", told.settings.get(name)?, told.replica.index))
            })
            .collect();
        format!("`{name}` is to be the same at all replicas, and is {}", each.join(", "))
    };
    names.into_iter().filter(differs).map(tell).collect()
}

/// Where a replica that listens at `listens` is reached: one that listens everywhere, at the host by
/// which its peers know it.
fn reachable(listens: &str, peer: &str) -> String {
    let host = peer.rsplit_once(':').map(|(host, _)| host);
    match (listens.parse::<SocketAddr>(), host) {
        (Ok(address), Some(host)) if address.ip().is_unspecified() => {
            format!("{host}:{}", address.port())
        }
        _ => listens.to_owned(),
    }
}

/// What is shown of a replica that does not answer: it does not run if its port refuses.
fn silent(index: u16, asked: &Asked, error: &io::Error) -> Silent {
    let refused = error.kind() == io::ErrorKind::ConnectionRefused;
    Silent {
        index,
        epoch: asked.epoch,
        pid: None,
        client: asked.client.clone(),
        peer: asked.peer.clone(),
        role: None,
        state: if refused { StateName::Stopped } else { StateName::Unreachable },
        accepted: None,
        decided: None,
        applied: None,
        checkpoint: None,
    }
}

const COLUMNS: [&str; 11] = [
    "index",
    "role",
    "state",
    "clients at",
    "peers at",
    "pid",
    "accepted",
    "decided",
    "applied",
    "checkpoint",
    "log",
];

fn table(status: &ClusterStatus) -> String {
    let mut text = format!("cluster {}\n", status.cluster);
    for group in &status.groups {
        let leader = group.leader.map_or("none".to_owned(), |index| format!("replica {index}"));
        let _ = writeln!(
            text,
            "group {}: style {}, durability {}, ballot {}, leader {leader}\n",
            group.name, group.style, group.durability, group.ballot
        );
        let mut rows = vec![COLUMNS.map(str::to_owned)];
        rows.extend(group.replicas.iter().map(row));
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
        for row in &rows {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
    }
    for warning in &status.warnings {
        let _ = write!(text, "\nwarning: {warning}");
    }
    if !status.warnings.is_empty() {
        text.push('\n');
    }
    text
}

fn row(row: &Row) -> [String; COLUMNS.len()] {
    let unknown = || "-".to_owned();
    match row {
        Row::Told(replica) => [
            replica.index.to_string(),
            name(&replica.role),
            state(replica),
            replica.client.clone(),
            replica.peer.clone(),
            replica.pid.map_or_else(unknown, |pid| pid.to_string()),
            replica.accepted.to_string(),
            replica.decided.to_string(),
            replica.applied.to_string(),
            replica.checkpoint.to_string(),
            size(replica.log_bytes),
        ],
        Row::Silent(replica) => [
            replica.index.to_string(),
            unknown(),
            name(&replica.state),
            replica.client.clone().unwrap_or_else(unknown),
            replica.peer.clone(),
            unknown(),
            unknown(),
            unknown(),
            unknown(),
            unknown(),
            unknown(),
        ],
    }
}

/// The state, and how much of a checkpoint has been fetched.
fn state(replica: &ReplicaStatus) -> String {
    let name = name(&replica.state);
    match replica.transfer {
        Some(transfer) if transfer.total > 0 => {
            let percent = u128::from(transfer.bytes) * 100 / u128::from(transfer.total);
            format!("{name} ({percent} % of {})", size(transfer.total))
        }
        _ => name,
    }
}

/// The name that a role or state has in JSON.
fn name(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default().replace('"', "")
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn told(index: u16, ballot: u64, leader: Option<u16>) -> NodeStatus {
        NodeStatus {
            cluster: "c".to_owned(),
            name: "main".to_owned(),
            style: "consensus".to_owned(),
            durability: "sync".to_owned(),
            ballot,
            leader,
            replica: ReplicaStatus {
                index,
                epoch: 1,
                pid: Some(1000 + u32::from(index)),
                client: format!("127.0.0.1:{}", 7400 + index),
                peer: format!("127.0.0.1:{}", 7500 + index),
                role: RoleName::Follower,
                state: StateName::Active,
                accepted: 1,
                decided: 1,
                applied: 1,
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
            warnings: vec![],
            settings: Default::default(),
            configuration: None,
        }
    }

    fn asked(index: u16) -> Asked {
        let at = |port: u16| format!("127.0.0.1:{}", port + index);
        Asked { peer: at(7500), client: Some(at(7400)), epoch: Some(1) }
    }

    #[test]
    fn settings_that_differ_are_told() {
        let with = |index, timeout: &str| {
            let settings = [("leader.policy", "Rotation"), ("leader.timeout_ms", timeout)];
            let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
            Ok(NodeStatus { settings: settings.into(), ..told(index, 4, Some(0)) })
        };
        let warnings = |timeout| {
            let answers = vec![with(0, "300"), Ok(told(1, 4, Some(0))), with(2, timeout)];
            gather(&[0, 1, 2].map(asked), &answers).warnings
        };
        assert_eq!(warnings("300"), [""; 0]);
        let wanted =
            "`leader.timeout_ms` is to be the same at all replicas, and is 300 at 0, 800 at 2";
        assert_eq!(warnings("800"), [wanted]);
    }

    fn picture() -> ClusterStatus {
        let answers = vec![
            Ok(told(0, 4, Some(0))),
            Err(io::ErrorKind::ConnectionRefused.into()),
            Ok(told(2, 7, Some(2))),
        ];
        gather(&[0, 1, 2].map(asked), &answers)
    }

    #[test]
    fn the_newest_ballot_names_the_leader_and_the_silent_are_listed() {
        let json: Value = serde_json::to_value(picture()).unwrap();
        let group = &json["groups"][0];
        assert_eq!((&group["ballot"], &group["leader"]), (&7.into(), &2.into()));
        let silent = &group["replicas"][1];
        assert_eq!(silent["state"], "stopped");
        assert_eq!((&silent["pid"], &silent["client"]), (&Value::Null, &"127.0.0.1:7401".into()));
        assert_eq!((&silent["role"], &silent["decided"]), (&Value::Null, &Value::Null));
        for field in [
            "index",
            "epoch",
            "pid",
            "client",
            "peer",
            "role",
            "state",
            "accepted",
            "decided",
            "applied",
            "checkpoint",
        ] {
            assert!(silent.get(field).is_some(), "{field}");
        }
        for field in ["name", "style", "durability", "ballot", "leader", "replicas"] {
            assert!(group.get(field).is_some(), "{field}");
        }
        assert_eq!(json["cluster"], "c");
    }

    #[test]
    fn a_ballot_that_nobody_leads_hides_no_leader_and_a_deposed_one_is_told() {
        let mut deposed = told(0, 4, Some(0));
        deposed.replica.role = RoleName::Leader;
        let mut leads = told(2, 7, Some(2));
        leads.replica.role = RoleName::Leader;
        let answers = vec![Ok(deposed), Ok(told(1, 13, None)), Ok(leads)];
        let status = gather(&[0, 1, 2].map(asked), &answers);
        assert_eq!((status.groups[0].ballot, status.groups[0].leader), (7, Some(2)));
        assert_eq!(status.warnings.len(), 1, "{:?}", status.warnings);
        assert!(status.warnings[0].starts_with("replica 0 still takes itself"), "{status:?}");
    }

    #[test]
    fn who_listens_everywhere_is_shown_where_peers_reach_it() {
        assert_eq!(reachable("0.0.0.0:7400", "db1:7500"), "db1:7400");
        assert_eq!(reachable("[::]:7400", "[fd00::1]:7500"), "[fd00::1]:7400");
        assert_eq!(reachable("10.0.0.1:7400", "db1:7500"), "10.0.0.1:7400");
    }

    #[test]
    fn the_table_has_a_row_a_replica() {
        let text = table(&picture());
        assert!(text.contains("leader replica 2"), "{text}");
        assert_eq!(text.lines().filter(|line| line.contains("127.0.0.1:74")).count(), 3, "{text}");
        assert!(text.contains("warning: replica 1 does not answer"), "{text}");
    }

    #[test]
    fn sizes_are_rounded_down() {
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(64 << 20), "64 MiB");
        assert_eq!(size(3 << 29), "1.5 GiB");
    }
}
