//! The configuration file of a replica.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use mainstay_model::ClusterId;
use mainstay_model::quorum::REPLICAS_MAX;
use mainstay_node::PeerAddress;
use mainstay_service::CheckpointInterval;
use mainstay_storage::LogOptions;
use serde::{Deserialize, Serialize};

use crate::cluster::{durability_named, parse_id};
use crate::failure::Failure;

mod limits;
mod ordering;

pub(crate) use limits::LimitSettings;
pub(crate) use ordering::{
    ADAPTIVE, BATCH_REQUESTS_MAX, BATCH_WAIT_MS_MAX, BatchingSettings, CatchUpSettings, FIXED,
    LeaderSettings, MULTICAST, QUERY, ROTATION, TRUSTED_RANK,
};

/// A key, and what is wrong with its value.
type Wrong = (&'static str, String);

/// The file, as it stands on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The id of the cluster, 32 hexadecimal digits; the folder must agree.
    pub(crate) cluster: String,
    /// Which replica this is.
    pub(crate) index: u16,
    /// Its folder: identity and log. Relative to the file.
    pub(crate) data: PathBuf,
    /// When an answer may leave: `sync`.
    pub(crate) durability: String,
    /// Where the peers of every replica reach it, by index.
    pub(crate) peers: Vec<String>,
    /// Where this replica listens.
    pub(crate) listen: Listen,
    /// The bounds of its log.
    #[serde(default, skip_serializing_if = "LogSettings::is_default")]
    pub(crate) log: LogSettings,
    /// When checkpoints are due, and how fast they are written.
    #[serde(default, skip_serializing_if = "CheckpointSettings::is_default")]
    pub(crate) checkpoint: CheckpointSettings,
    /// Who leads, and when that is doubted. The same at all replicas.
    #[serde(default, skip_serializing_if = "LeaderSettings::is_default")]
    pub(crate) leader: LeaderSettings,
    /// How a replica learns what was decided without it.
    #[serde(default, skip_serializing_if = "CatchUpSettings::is_default")]
    pub(crate) catch_up: CatchUpSettings,
    /// When requests become a proposal, and how many proposals may be open. The same at all replicas.
    #[serde(default, skip_serializing_if = "BatchingSettings::is_default")]
    pub(crate) batching: BatchingSettings,
    /// What clients may take, and how long things may last.
    #[serde(default, skip_serializing_if = "LimitSettings::is_default")]
    pub(crate) limits: LimitSettings,
}

/// Where a replica listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listen {
    /// Clients: the service's protocol and the native one.
    pub(crate) clients: String,
    /// Peers and `status`.
    pub(crate) peers: String,
}

/// The bounds of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// Bytes of a segment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) segment_bytes: Option<u64>,
    /// The most bytes of all segments; beyond that no entries are accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_max: Option<u64>,
    /// The bytes that are kept for replicas that lag, although a checkpoint covers them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keep_bytes: Option<u64>,
    /// The same while a replica fetches a checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keep_bytes_in_transfer: Option<u64>,
}

/// When checkpoints are due, and how fast they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointSettings {
    /// After so many requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<u64>,
    /// Or after so many bytes of log, if that comes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// The most bytes a second that are written of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) write_rate: Option<NonZeroU64>,
    /// The most bytes a second that are fetched of one from other replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fetch_rate: Option<NonZeroU64>,
}

impl Listen {
    /// What is to be told of a group on several machines that listens where others cannot connect.
    fn remarks(&self, all: &[PeerAddress], clients: SocketAddr, peers: SocketAddr) -> Vec<String> {
        let elsewhere = all.iter().any(|peer| !is_here(peer));
        let listens =
            [("listen.clients", &self.clients, clients), ("listen.peers", &self.peers, peers)];
        let hidden = listens.into_iter().filter(|(_, text, address)| {
            let named = PeerAddress::parse(text).is_some_and(|named| !is_here(&named));
            elsewhere && named && address.ip().is_loopback()
        });
        let remark = |(key, text, address): (&str, &String, SocketAddr)| {
            format!(
                "`{key}` names the host {text}, which is {address} on this machine: no other machine \
                 can connect there; list the host with its address in the network in the hosts file, \
                 or give `{key}` that address"
            )
        };
        hidden.map(remark).collect()
    }
}

impl CheckpointSettings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The interval, with defaults for what is not set.
    pub(crate) fn interval(&self) -> CheckpointInterval {
        let default = CheckpointInterval::default();
        CheckpointInterval {
            requests: self.requests.unwrap_or(default.requests),
            bytes: self.bytes.unwrap_or(default.bytes),
        }
    }
}

impl LogSettings {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The file with its values checked. Names of peers are looked up when they are dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// See [`Settings`].
    pub(crate) cluster: ClusterId,
    /// See [`Settings`].
    pub(crate) index: u16,
    /// See [`Settings`]; relative to the working folder.
    pub(crate) data: PathBuf,
    /// See [`Settings`].
    pub(crate) peers: Vec<PeerAddress>,
    /// See [`Listen`].
    pub(crate) listen_clients: SocketAddr,
    /// See [`Listen`].
    pub(crate) listen_peers: SocketAddr,
    /// What is to be told about where it listens, one sentence each.
    pub(crate) remarks: Vec<String>,
    /// See [`Settings`].
    pub(crate) log: LogSettings,
    /// See [`Settings`].
    pub(crate) checkpoint: CheckpointSettings,
    /// What [`LeaderSettings`], [`CatchUpSettings`] and [`BatchingSettings`] tell ordering.
    pub(crate) ordering: mainstay_consensus::Settings,
    /// What [`LimitSettings`] bounds.
    pub(crate) limits: mainstay_node::Limits,
}

impl Settings {
    /// The peers that a file lists, by index. Nothing else of it is looked at closely.
    pub(crate) fn peers_of(path: &Path) -> Result<Vec<String>, Failure> {
        Ok(Self::parse(path, &read_text(path)?)?.peers)
    }

    /// Reads and checks a file.
    pub(crate) fn read(path: &Path) -> Result<Checked, Failure> {
        let text = read_text(path)?;
        let settings = Self::parse(path, &text)?;
        settings
            .check()
            .map_err(|(key, what)| {
                let place =
                    line_of(&text, key).map_or_else(String::new, |line| format!(", line {line}"));
                Failure::usage(format!("'{}'{place}: `{key}` {what}", path.display()))
            })
            .map(|checked| Checked { data: beside(path, &checked.data), ..checked })
    }

    /// What a file says, unchecked.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| {
            let place = error.span().map_or_else(String::new, |span| {
                format!(", line {}", 1 + text[..span.start].matches('\n').count())
            });
            let what = error.message().trim().replace('\n', ", ");
            Failure::usage(format!("'{}'{place}: {what}", path.display()))
        })
    }

    /// Checks the values; an error names the key and what is wrong with it.
    fn check(&self) -> Result<Checked, Wrong> {
        let cluster = parse_id(&self.cluster).ok_or_else(|| {
            let what = "wants the 32 hexadecimal digits that `mainstay init` printed";
            ("cluster", what.to_owned())
        })?;
        if durability_named(&self.durability).is_none() {
            return Err(("durability", "knows only \"sync\"".to_owned()));
        }
        if self.peers.is_empty() || self.peers.len() > REPLICAS_MAX {
            return Err(("peers", format!("wants 1 to {REPLICAS_MAX} addresses, one a replica")));
        }
        if usize::from(self.index) >= self.peers.len() {
            let last = self.peers.len() - 1;
            return Err(("index", format!("is beyond the last of `peers`, which is {last}")));
        }
        let interval = self.checkpoint.interval();
        if !interval.is_within_bounds() {
            let (min, max) = (CheckpointInterval::MIN, CheckpointInterval::MAX);
            let ((key, min), max) = if (min.requests..=max.requests).contains(&interval.requests) {
                (("checkpoint.bytes", min.bytes), max.bytes)
            } else {
                (("checkpoint.requests", min.requests), max.requests)
            };
            return Err((key, format!("wants {min} to {max}")));
        }
        let mut peers = Vec::new();
        for peer in &self.peers {
            let address = PeerAddress::parse(peer).ok_or_else(|| ("peers", no_address(peer)))?;
            peers.push(address);
        }
        let listen_clients = listen_at(&self.listen.clients).map_err(|what| ("clients", what))?;
        let listen_peers = listen_at(&self.listen.peers).map_err(|what| ("listen.peers", what))?;
        let remarks = self.listen.remarks(&peers, listen_clients, listen_peers);
        let mut ordering = mainstay_consensus::Settings::default();
        self.leader.tell(&mut ordering)?;
        self.catch_up.tell(&mut ordering)?;
        self.batching.tell(&mut ordering)?;
        let segment_bytes = self.log.segment_bytes.unwrap_or(LogOptions::SEGMENT_BYTES);
        let least = LogOptions::segment_bytes_held(segment_bytes)
            .saturating_add(ordering.inflight_bytes_max as u64)
            .saturating_mul(2);
        if self.log.bytes_max.is_some_and(|bytes| bytes < least) {
            // What is under way has to have room, or a full log refuses what would empty it.
            return Err(("log.bytes_max", format!("wants at least {least}")));
        }
        Ok(Checked {
            cluster,
            index: self.index,
            data: self.data.clone(),
            peers,
            listen_clients,
            listen_peers,
            remarks,
            log: self.log,
            checkpoint: self.checkpoint,
            ordering,
            limits: self.limits.limits()?,
        })
    }
}

/// The text of a configuration file, which is UTF-8 with or without a mark that says so.
fn read_text(path: &Path) -> Result<String, Failure> {
    let bytes = fs::read(path)
        .map_err(|error| Failure::file(path, "read the configuration file", &error))?;
    text(path, bytes)
}

/// The same of the bytes of a file.
pub(crate) fn text(path: &Path, bytes: Vec<u8>) -> Result<String, Failure> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        let valid = error.utf8_error().valid_up_to();
        let line = 1 + bytes[..valid].iter().filter(|byte| **byte == b'\n').count();
        let how = match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "is UTF-16".to_owned(),
            _ => format!("has the byte 0x{:02x}, which is no UTF-8", bytes[valid]),
        };
        Failure::usage(format!("'{}', line {line}: {how}: save the file as UTF-8", path.display()))
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

/// The address of `host:port` to listen at. Of several, one that others can reach.
fn listen_at(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().map_or_else(|_| Vec::new(), Iterator::collect::<Vec<_>>);
    let reachable = found.iter().find(|address| !address.ip().is_loopback());
    reachable.or(found.first()).copied().ok_or_else(|| no_address(text))
}

/// The address of `host:port`.
pub(crate) fn resolve(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| no_address(text))
}

fn no_address(text: &str) -> String {
    format!("has the address \"{text}\", which is no known host:port")
}

/// Whether an address or name is by its own words of this machine alone.
fn is_here(address: &PeerAddress) -> bool {
    match address {
        PeerAddress::Socket(address) => address.ip().is_loopback(),
        PeerAddress::Name { host, .. } => host.eq_ignore_ascii_case("localhost"),
    }
}

/// The line that sets a key; of a dotted one, its last part after its table's head.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let (table, key) = key.rsplit_once('.').unwrap_or(("", key));
    let begin = if table.is_empty() { 0 } else { text.find(&format!("[{table}]"))? };
    let before = text[..begin].matches('\n').count();
    let sets = |line: &str| {
        line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    text[begin..].lines().position(sets).map(|line| before + line + 1)
}

fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

#[cfg(test)]
pub(crate) mod tests {
    use mainstay_node::KeepSettings;

    use super::*;
    use crate::replica::{FETCH_RATE, WRITE_RATE};

    pub(super) const GOOD: &str = "\
cluster = \"0b5cf8e1a7d24d0f9a3e6c1b7f42d95e\"
index = 1
data = \"replica-1\"
durability = \"sync\"
peers = [\"127.0.0.1:7500\", \"127.0.0.1:7501\"]

[listen]
clients = \"127.0.0.1:7401\"
peers = \"127.0.0.1:7501\"
";

    pub(super) fn read(text: &str) -> Result<Checked, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.toml");
        fs::write(&path, text).unwrap();
        Settings::read(&path).map(|checked| Checked {
            data: checked.data.strip_prefix(folder.path()).unwrap().to_owned(),
            ..checked
        })
    }

    /// What docs/operating.md shows of the file, in its order.
    fn of_the_guide() -> String {
        let guide = include_str!("../../../docs/operating.md");
        let blocks = guide.split("```toml\n").skip(1);
        blocks.map(|block| block.split("```").next().unwrap()).collect()
    }

    #[test]
    fn the_guide_shows_files_that_are_read_and_the_defaults() {
        let shown = of_the_guide();
        let settings: Settings = toml::from_str(&shown).unwrap();
        let checked = read(&shown).unwrap();
        assert_eq!(checked.checkpoint.interval(), CheckpointInterval::default());
        let same = [
            (checked.checkpoint.write_rate, WRITE_RATE),
            (checked.checkpoint.fetch_rate, FETCH_RATE),
        ];
        assert!(same.iter().all(|(shown, rate)| *shown == Some(*rate)));
        assert_eq!(checked.log.segment_bytes, Some(LogOptions::SEGMENT_BYTES));
        let keep = KeepSettings::default();
        assert_eq!(checked.log.keep_bytes, Some(keep.lagging_bytes));
        assert_eq!(checked.log.keep_bytes_in_transfer, Some(keep.transfer_bytes));
        assert_eq!(checked.ordering, mainstay_consensus::Settings::default());
        assert_eq!(checked.limits, mainstay_node::Limits::default());
        assert!(settings.limits.clients.is_some() && settings.limits.all_clients_bytes.is_some());
        assert_eq!(settings.leader.policy.as_deref(), Some(TRUSTED_RANK));
        assert_eq!(settings.catch_up.policy.as_deref(), Some(QUERY));
        assert_eq!(settings.batching.form.as_deref(), Some(ADAPTIVE));
    }

    #[test]
    fn a_good_file_is_read() {
        let checked = read(GOOD).unwrap();
        assert_eq!(checked.index, 1);
        assert_eq!(checked.data, Path::new("replica-1"));
        assert_eq!(checked.listen_clients.port(), 7401);
        assert_eq!(checked.peers.len(), 2);
        assert_eq!(checked.remarks, [""; 0]);
    }

    #[test]
    fn names_of_peers_need_not_be_known_and_are_not_looked_up() {
        let named = GOOD.replacen("127.0.0.1:7500", "no-such-host.invalid:7500", 1);
        let checked = read(&named).unwrap();
        assert_eq!(checked.peers[0].to_string(), "no-such-host.invalid:7500");
        for wrong in ["no such host:7500", "host", "host:0", "10.0.0:7500"] {
            let failure = read(&GOOD.replacen("127.0.0.1:7500", wrong, 1)).unwrap_err();
            assert!(failure.sentence.contains("line 5: `peers` has"), "{failure}");
        }
    }

    #[test]
    fn a_group_of_one_machine_may_listen_on_loopback_by_name() {
        let named = GOOD.replace("127.0.0.1:7501", "localhost:7501");
        let checked = read(&named.replacen("127.0.0.1:7500", "10.0.0.1:7500", 1)).unwrap();
        assert!(checked.listen_peers.ip().is_loopback());
        assert_eq!(checked.remarks, [""; 0], "localhost says what it is");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let cases = [
            ("index = 1", "index = 2", "line 2: `index` is beyond the last"),
            ("index = 1", "index = -1", "line 2: "),
            ("index = 1", "indx = 1", "line 2: unknown field `indx`"),
            ("index = 1\n", "", "missing field `index`"),
            ("\"sync\"", "\"async\"", "line 4: `durability` knows only"),
            ("0b5c", "0b5", "line 1: `cluster` wants the 32 hexadecimal digits"),
            ("127.0.0.1:7401", "127.0.0.1", "line 8: `clients` has the address \"127.0.0.1\""),
            ("peers = \"127.0.0.1:7501", "peers = \"127.0.0.1:99999", "line 9: `listen.peers` has"),
            ("7500\"", "7500", "line 5: "),
        ];
        let append = "peers = \"127.0.0.1:7501\"\n";
        let leader = |line: &str| format!("{append}\n[leader]\n{line}\n");
        let (policy, short) = (leader("policy = \"lowest\""), leader("timeout_ms = 299"));
        let catch_up = |lines: &str| format!("{append}\n[catch_up]\n{lines}\n");
        let log = format!("{append}\n[log]\nbytes_max = 268435455\n");
        let (segment, most) = (i64::MAX, 2 * (LogOptions::SEGMENT_BYTES_MAX + (64 << 20)));
        let large = format!("{append}\n[log]\nbytes_max = 1\nsegment_bytes = {segment}\n");
        let wanted = format!("line 12: `log.bytes_max` wants at least {most}");
        let ways = catch_up("policy = \"gossip\"");
        let (alone, never) =
            (catch_up("interval_ms = 5"), catch_up("policy = \"multicast\"\ninterval_ms = 0"));
        let cases = cases.into_iter().chain([
            (
                append,
                &policy[..],
                "line 12: `leader.policy` knows \"trusted-rank\" and \"rotation\"",
            ),
            (append, &short[..], "line 12: `leader.timeout_ms` wants 300 to 3000"),
            (append, &log[..], "line 12: `log.bytes_max` wants at least 268435456"),
            (append, &large[..], &wanted[..]),
            (append, &ways[..], "line 12: `catch_up.policy` knows \"query\" and \"multicast\""),
            (append, &alone[..], "line 12: `catch_up.interval_ms` belongs to the policy"),
            (append, &never[..], "line 13: `catch_up.interval_ms` wants 1 to 60000"),
        ]);
        for (from, to, wanted) in cases {
            let failure = read(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert_eq!(failure.code, crate::failure::USAGE);
            assert!(failure.sentence.contains(wanted), "{from} -> {to}: {failure}");
            assert!(!failure.sentence.contains('\n'), "{failure}");
        }
    }
}
