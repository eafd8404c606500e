//! What a replica tells about itself, and how to ask it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mainstay_model::GroupId;
use mainstay_model::frame::{self, Frame};
use mainstay_model::hello::{HELLO, Hello, REJECT, Reject, Role};
use serde::{Deserialize, Serialize};

use crate::wire::{STATUS, STATUS_ASK, STATUS_LEN_MAX};

/// What one replica knows about its group and itself. Sent as JSON; fields may be added, not
/// renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The cluster, in 32 hexadecimal digits.
    pub cluster: String,
    /// The group's name.
    pub name: String,
    /// How the group is protected: `consensus`.
    pub style: String,
    /// When a promise counts: `sync`.
    pub durability: String,
    /// The round of the highest ballot promised here.
    pub ballot: u64,
    /// Who leads, by index, as far as this replica knows.
    pub leader: Option<u16>,
    /// The replica that answers.
    pub replica: ReplicaStatus,
    /// What an operator should know, one sentence each.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What is to be the same at all replicas, by the names of the configuration file.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Who votes: enough to make the folder of a replica that lost its own, and to ask the others.
    #[serde(default)]
    pub configuration: Option<ConfigurationStatus>,
}

/// The configuration a replica stands in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationStatus {
    /// Which one.
    pub id: u64,
    /// How many slots past the decided ones may be proposed.
    pub alpha: u64,
    /// `Service::version` of the group's service.
    pub service_version: u32,
    /// Its replicas, by index.
    pub members: Vec<MemberStatus>,
}

/// One replica of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The counter of its epoch.
    pub epoch: u32,
    /// The instance of its epoch.
    pub instance: u32,
    /// Where peers and administrators connect, `host:port`.
    pub peer: String,
}

/// One replica's part of a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// Its place in the configuration.
    pub index: u16,
    /// The counter of its epoch.
    pub epoch: u32,
    /// Its process; none where it does not run.
    pub pid: Option<u32>,
    /// Where clients connect, `host:port`.
    pub client: String,
    /// Where peers and administrators connect, `host:port`.
    pub peer: String,
    /// What it is in its group.
    pub role: RoleName,
    /// How it is.
    pub state: StateName,
    /// The highest slot accepted.
    pub accepted: u64,
    /// The highest slot up to which all are decided.
    pub decided: u64,
    /// The highest slot applied.
    pub applied: u64,
    /// The slot of the newest checkpoint; 0 for none.
    pub checkpoint: u64,
    /// The slot of the newest checkpoint that a quorum is known to hold with one digest; 0 for none.
    #[serde(default)]
    pub stable: u64,
    /// Bytes of the newest checkpoint.
    #[serde(default)]
    pub checkpoint_bytes: u64,
    /// The longest that execution stood still to hand out a checkpoint, in microseconds.
    #[serde(default)]
    pub checkpoint_pause_max_us: u64,
    /// The checkpoint that is being fetched from others, if one is.
    #[serde(default)]
    pub transfer: Option<TransferStatus>,
    /// Bytes of the log, without what is allocated ahead.
    #[serde(default)]
    pub log_bytes: u64,
    /// Files of the log on disk.
    #[serde(default)]
    pub segments: u64,
    /// Clients connected.
    #[serde(default)]
    pub clients: u64,
    /// Seconds since the node started.
    #[serde(default)]
    pub uptime_s: u64,
    /// Turns that the loop of the node has taken since.
    #[serde(default)]
    pub turns: u64,
}

/// How far a checkpoint has been fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferStatus {
    /// The slot of the checkpoint.
    pub slot: u64,
    /// How many bytes are there.
    pub bytes: u64,
    /// How many it has in all; 0 while that is not known.
    pub total: u64,
}

/// What a replica is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleName {
    /// Orders the requests.
    Leader,
    /// Votes and follows.
    Follower,
    /// Follows and never votes.
    Learner,
    /// Stands by, outside the configuration.
    Standby,
}

/// How a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateName {
    /// No leader has been heard of since the start.
    Starting,
    /// It loads its state: from its log, or from other replicas.
    CatchingUp,
    /// A write of its own was applied here, and nothing is wrong.
    Active,
    /// It lost what it had promised and only follows.
    Amnesiac,
    /// Its state differs from the others'.
    Diverged,
    /// It does not run: its port refuses connections.
    Stopped,
    /// It votes and executes nothing: its executor has stopped.
    Failed,
    /// It does not answer, and nothing refuses: it stands still, or its machine is down or cut off.
    Unreachable,
}

/// Asks the replica whose peer port is `address` how it is. Blocks for `timeout` at most, in all.
///
/// # Errors
/// Nobody listens there, whoever listens is no Mainstay replica or refuses, or the answer did not
/// come in time; the error's text says which.
pub fn ask(address: SocketAddr, timeout: Duration) -> io::Result<NodeStatus> {
    let answer = exchange(address, timeout, (STATUS_ASK, STATUS), |_| {})?;
    serde_json::from_slice(&answer).map_err(io::Error::from)
}

/// Says hello as an administrator, sends one frame, and waits for the one that answers it.
pub(crate) fn exchange(
    address: SocketAddr,
    timeout: Duration,
    (ask, answer): (u16, u16),
    body: impl FnOnce(&mut Vec<u8>),
) -> io::Result<Bytes> {
    let until = Instant::now() + timeout;
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(timeout))?;
    let mut question = Vec::new();
    let hello = Hello::of_client(Role::Admin, STATUS_LEN_MAX as u32);
    frame::encode(&mut question, HELLO, GroupId::NODE, 0, |body| hello.encode(body));
    frame::encode(&mut question, ask, GroupId::NODE, 0, body);
    stream.write_all(&question)?;
    let mut input = BytesMut::new();
    loop {
        let frame = next_frame(&mut stream, &mut input, until)?;
        match frame.kind {
            HELLO => {
                Hello::decode(frame.body).map_err(io::Error::other)?;
            }
            kind if kind == answer => return Ok(frame.body),
            REJECT => {
                let reject = Reject::decode(frame.body).map_err(io::Error::other)?;
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, reject.sentence));
            }
            kind => {
                let what = format!("the answer is a frame of kind {kind}, which answers nothing");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        }
    }
}

pub(crate) fn next_frame(
    stream: &mut TcpStream,
    input: &mut BytesMut,
    until: Instant,
) -> io::Result<Frame> {
    let mut bytes = [0; 16 << 10];
    loop {
        let decoded = frame::decode(input, STATUS_LEN_MAX);
        let no_replica =
            |error| io::Error::new(io::ErrorKind::InvalidData, format!("no replica: {error}"));
        if let Some(frame) = decoded.map_err(no_replica)? {
            return Ok(frame);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => input.extend_from_slice(&bytes[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
}
