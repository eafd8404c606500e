//! `mainstay status`: who leads, how far each replica is, what is wrong.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::thread;
use std::time::Duration;

use mainstay_node::{NodeStatus, ReplicaStatus, RoleName, StateName};
use serde::Serialize;

use crate::arguments::{StatusOptions, Where};
use crate::failure::Failure;
use crate::manifest::Manifest;
use crate::settings::resolve;

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
    replicas: Vec<ReplicaStatus>,
}

/// A replica to ask: where, and what is known of it before it answers.
pub(crate) struct Asked {
    pub(crate) peer: String,
    client: String,
    epoch: u32,
}

/// What came of asking.
pub(crate) type Answer = Result<NodeStatus, io::Error>;

/// Carries the command out.
pub(crate) fn run(options: &StatusOptions) -> Result<(), Failure> {
    let (asked, answers) = everybody(&options.at)?;
    let nobody = answers.iter().all(Result::is_err);
    let status = gather(&asked, &answers);
    let text = if options.at.json {
        serde_json::to_string(&status).map_err(|error| Failure::failed(error.to_string()))? + "\n"
    } else {
        table(&status)
    };
    // Whoever closed standard output does not want the rest.
    let _ = io::stdout().write_all(text.as_bytes());
    if nobody {
        return Err(Failure::failed("no replica answers: is the cluster running?"));
    }
    Ok(())
}

/// All replicas of a cluster, and what each of them answered.
pub(crate) fn everybody(at: &Where) -> Result<(Vec<Asked>, Vec<Answer>), Failure> {
    let (asked, first) = match &at.target {
        Some(target) => by_target(target)?,
        None => (by_manifest(at)?, None),
    };
    let answers = ask_all(&asked, first);
    Ok((asked, answers))
}

/// The replicas that `up` made in a folder.
fn by_manifest(at: &Where) -> Result<Vec<Asked>, Failure> {
    let manifest = Manifest::read(&at.data)?.ok_or_else(|| {
        Failure::usage(format!(
            "'{}' holds no cluster that `mainstay up` made: name its folder by --data, or a \
             replica by --target HOST:PORT",
            at.data.display()
        ))
    })?;
    let asked = manifest.replicas.iter().map(|member| Asked {
        peer: member.peers.clone(),
        client: member.clients.clone(),
        epoch: member.epoch,
    });
    Ok(asked.collect())
}

/// The replicas that one of them names, and its own answer.
fn by_target(target: &str) -> Result<(Vec<Asked>, Option<NodeStatus>), Failure> {
    let address = resolve(target).map_err(|what| Failure::usage(format!("--target {what}")))?;
    let told = mainstay_node::status::ask(address, ANSWER_TIMEOUT).map_err(|error| {
        Failure::failed(format!(
            "{target} does not tell how it is: {error}; name the peer port of a replica that runs"
        ))
    })?;
    let members = told.configuration.as_ref().map_or(&[][..], |told| &told.members);
    let mut asked: Vec<Asked> = members
        .iter()
        .map(|member| Asked {
            peer: member.peer.clone(),
            client: String::new(),
            epoch: member.epoch,
        })
        .collect();
    if asked.is_empty() {
        let (peer, client) = (told.replica.peer.clone(), told.replica.client.clone());
        asked.push(Asked { peer, client, epoch: told.replica.epoch });
    }
    Ok((asked, Some(told)))
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
    // Of several opinions about the leader, the one of the highest ballot is the newest.
    let newest = told.iter().max_by_key(|told| (told.ballot, told.leader.is_some()));
    let text =
        |get: fn(&NodeStatus) -> &String| told.first().map_or(String::new(), |t| get(t).clone());
    let mut warnings: Vec<String> = Vec::new();
    let mut replicas = Vec::new();
    for (index, (asked, answer)) in (0..).zip(asked.iter().zip(answers)) {
        match answer {
            Ok(told) => {
                let own = |warning: &String| format!("replica {index}: {warning}");
                warnings.extend(told.warnings.iter().map(own));
                replicas.push(told.replica.clone());
            }
            Err(error) => {
                warnings.push(format!("replica {index} does not answer: {error}"));
                replicas.push(silent(index, asked, error));
            }
        }
    }
    ClusterStatus {
        cluster: text(|told| &told.cluster),
        groups: vec![GroupStatus {
            name: text(|told| &told.name),
            style: text(|told| &told.style),
            durability: text(|told| &told.durability),
            ballot: newest.map_or(0, |told| told.ballot),
            leader: newest.and_then(|told| told.leader),
            replicas,
        }],
        warnings,
    }
}

/// What is shown of a replica that does not answer: it does not run if nobody listens, and has
/// failed if somebody does.
fn silent(index: u16, asked: &Asked, error: &io::Error) -> ReplicaStatus {
    let refused = error.kind() == io::ErrorKind::ConnectionRefused;
    ReplicaStatus {
        index,
        epoch: asked.epoch,
        pid: None,
        client: asked.client.clone(),
        peer: asked.peer.clone(),
        role: RoleName::Follower,
        state: if refused { StateName::Stopped } else { StateName::Failed },
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

fn row(replica: &ReplicaStatus) -> [String; COLUMNS.len()] {
    [
        replica.index.to_string(),
        name(&replica.role),
        state(replica),
        replica.client.clone(),
        replica.peer.clone(),
        replica.pid.map_or("-".to_owned(), |pid| pid.to_string()),
        replica.accepted.to_string(),
        replica.decided.to_string(),
        replica.applied.to_string(),
        replica.checkpoint.to_string(),
        size(replica.log_bytes),
    ]
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
        let asked = asked(index);
        let mut replica = silent(index, &asked, &io::ErrorKind::ConnectionRefused.into());
        replica.pid = Some(1000 + u32::from(index));
        replica.state = StateName::Active;
        NodeStatus {
            cluster: "c".to_owned(),
            name: "main".to_owned(),
            style: "consensus".to_owned(),
            durability: "sync".to_owned(),
            ballot,
            leader,
            replica,
            warnings: vec![],
            configuration: None,
        }
    }

    fn asked(index: u16) -> Asked {
        let at = |port: u16| format!("127.0.0.1:{}", port + index);
        Asked { peer: at(7500), client: at(7400), epoch: 1 }
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
