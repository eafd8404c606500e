//! The command line and its help.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use mainstay_model::quorum::REPLICAS_MAX;

use crate::settings::{
    ADAPTIVE, BATCH_REQUESTS_MAX, BATCH_WAIT_MS_MAX, FIXED, LimitSettings, MULTICAST, QUERY,
    ROTATION, TRUSTED_RANK,
};

/// Keeps a stateful service running through crashes.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    long_about = "Keeps a stateful service running through crashes: its requests are ordered and \
                  replicated over several processes, and no answered one is lost while a majority \
                  of them keeps its disks.",
    after_help = "Five minutes:\n  \
                  mainstay up                          three replicas on this machine\n  \
                  redis-cli -p 7400 SET lighthouse on  any Redis client, any replica\n  \
                  redis-cli -p 7402 GET lighthouse\n  \
                  mainstay status                      who leads, how far each one is\n\n\
                  Exit codes: 0 as asked, 1 failed, 2 usage or configuration, 3 damaged or \
                  foreign data,\n4 stopped for safety."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do. Each is described where its options are: a description here would hide the longer one.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(Box<UpOptions>),
    Init(InitOptions),
    Replica(ReplicaOptions),
    Status(StatusOptions),
    Leader(LeaderOptions),
    Clock(ClockOptions),
    Sim(SimOptions),
}

/// When an answer may leave a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityOption {
    /// After it is on disk at a majority.
    Sync,
}

/// Who tries first when nobody leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LeaderPolicyOption {
    /// The lowest epoch, then the highest index.
    TrustedRank,
    /// Each in turn.
    Rotation,
}

impl LeaderPolicyOption {
    /// Its name in a configuration file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::TrustedRank => TRUSTED_RANK,
            Self::Rotation => ROTATION,
        }
    }
}

/// How a replica learns what was decided without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CatchUpOption {
    /// Asks another replica when something is missing.
    Query,
    /// Asks all others every 100 ms.
    Multicast,
}

impl CatchUpOption {
    /// Its name in a configuration file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Query => QUERY,
            Self::Multicast => MULTICAST,
        }
    }
}

/// When requests are ordered together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BatchingOption {
    /// What came while other batches were on their way.
    Adaptive,
    /// So many requests, no two of one client, or what came within so long.
    Fixed,
}

impl BatchingOption {
    /// Its name in a configuration file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Adaptive => ADAPTIVE,
            Self::Fixed => FIXED,
        }
    }
}

#[derive(Debug, Args)]
#[command(
    about = "Run a whole cluster on this machine",
    long_about = "Runs a whole cluster on this machine, every replica a process of its own.\n\n\
                  Replica i serves clients on PORT + i and its peers on PORT + 100 + i. One line \
                  that begins with `ready ` tells the addresses once the cluster takes requests. \
                  A replica that dies is started again. Ctrl-C stops all of it; the same folder \
                  resumes it. Replicas and durability are kept there; give all other options \
                  again.",
    after_help = "Examples:\n  \
                  mainstay up\n  \
                  mainstay up --replicas 5 --port 9000 --data big\n  \
                  mainstay up --port 0              on free ports, for tests"
)]
pub(crate) struct UpOptions {
    /// How many replicas a new cluster has, 3 if not told; 2f + 1 survive f crashes.
    #[arg(long, value_name = "N", value_parser = replica_count())]
    pub(crate) replicas: Option<u16>,
    /// The folder that holds the cluster.
    #[arg(long, value_name = "DIR", default_value = "mainstay-data")]
    pub(crate) data: PathBuf,
    /// The client port of replica 0; 0 takes free ports.
    #[arg(long, value_name = "PORT", default_value = "7400")]
    pub(crate) port: u16,
    /// When an answer may leave a replica of a new cluster, `sync` if not told.
    #[arg(long, value_enum)]
    pub(crate) durability: Option<DurabilityOption>,
    /// Who tries first when nobody leads, `trusted-rank` if not told.
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) leader_policy: Option<LeaderPolicyOption>,
    /// How many milliseconds a leader may be silent before anything was ordered, 300 if not told; later
    /// this follows what ordering takes.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(300..=3000))]
    pub(crate) leader_timeout_ms: Option<u64>,
    /// How a replica learns what was decided without it, `query` if not told.
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) catch_up: Option<CatchUpOption>,
    /// When requests are ordered together, `adaptive` if not told.
    #[arg(long, value_enum, value_name = "FORM")]
    pub(crate) batching: Option<BatchingOption>,
    /// How many requests fill a batch of the form `fixed`, 100 if not told.
    #[arg(long, value_name = "N", requires = "batching",
          value_parser = clap::value_parser!(u64).range(1..=BATCH_REQUESTS_MAX))]
    pub(crate) batch_requests: Option<u64>,
    /// How many milliseconds a batch of the form `fixed` fills at most, 1 if not told.
    #[arg(long, value_name = "MS", requires = "batching",
          value_parser = clap::value_parser!(u64).range(1..=BATCH_WAIT_MS_MAX))]
    pub(crate) batch_wait_ms: Option<u64>,
    /// A checkpoint is due after so many requests, 1000000 if not told.
    #[arg(long, value_name = "N")]
    pub(crate) checkpoint_requests: Option<u64>,
    /// A checkpoint is due after so many bytes of log, 268435456 if not told.
    #[arg(long, value_name = "N")]
    pub(crate) checkpoint_bytes: Option<u64>,
    /// The most bytes a second that are written of a checkpoint, 67108864 if not told.
    #[arg(long, value_name = "N")]
    pub(crate) checkpoint_write_rate: Option<NonZeroU64>,
    /// The most bytes a second that a replica fetches of a checkpoint, 67108864 if not told.
    #[arg(long, value_name = "N")]
    pub(crate) checkpoint_fetch_rate: Option<NonZeroU64>,
    /// Bytes of log that are kept for replicas that lag a little, although a checkpoint covers them,
    /// 134217728 if not told.
    #[arg(long, value_name = "N")]
    pub(crate) log_keep_bytes: Option<u64>,
    /// Bytes of a file of the log, 67108864 if not told.
    #[arg(long, value_name = "N")]
    pub(crate) segment_bytes: Option<u64>,
    /// The most bytes that the files of a replica's log take, not bounded if not told.
    #[arg(long, value_name = "N")]
    pub(crate) log_bytes_max: Option<u64>,
    #[command(flatten)]
    pub(crate) limits: LimitSettings,
}

fn replica_count() -> impl clap::builder::TypedValueParser<Value = u16> {
    clap::value_parser!(u16).range(1..=REPLICAS_MAX as i64)
}

#[derive(Debug, Args)]
#[command(
    about = "Make a new cluster's identities, or a lost replica's",
    long_about = "Makes a new cluster, once: draws its id and writes one folder and one \
                  configuration file a replica. Run again elsewhere it makes another cluster, \
                  whose replicas the first refuses.\n\n\
                  With --lost it makes the folder of a replica that lost its own: the replica \
                  comes back as amnesiac, follows the others and does not vote, since it no \
                  longer knows what it promised.",
    after_help = "Examples:\n  \
                  mainstay init --data cluster --peers 10.0.0.1:7500,10.0.0.2:7500,10.0.0.3:7500\n  \
                  mainstay init --data cluster                      three replicas on loopback\n  \
                  mainstay init --lost 1 --cluster-from 10.0.0.1:7500 --data replica-1"
)]
pub(crate) struct InitOptions {
    /// Where to write: a folder for all replicas, or with --lost the folder of that replica.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// How many replicas, all on loopback.
    #[arg(long, value_name = "N", default_value = "3", value_parser = replica_count(),
          conflicts_with_all = ["peers", "lost"])]
    pub(crate) replicas: u16,
    /// The client port of replica 0 on loopback, or of every replica with --peers.
    #[arg(long, value_name = "PORT", default_value = "7400", conflicts_with = "lost")]
    pub(crate) port: u16,
    /// Where the peers of each replica reach it, by index.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', conflicts_with = "lost")]
    pub(crate) peers: Vec<String>,
    /// When an answer may leave a replica.
    #[arg(long, value_enum, default_value = "sync")]
    pub(crate) durability: DurabilityOption,
    /// The index of a replica that lost its folder.
    #[arg(long, value_name = "INDEX", requires = "cluster_from")]
    pub(crate) lost: Option<u16>,
    /// The peer port of a replica that is well.
    #[arg(long, value_name = "HOST:PORT", requires = "lost")]
    pub(crate) cluster_from: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    about = "Run one replica in the foreground",
    long_about = "Runs one replica in the foreground. Its folder must hold an identity already \
                  (mainstay init): an empty folder is either new or lost, and only one of the two \
                  may vote.\n\n\
                  SIGINT, SIGTERM and SIGHUP hand over, sync and end it. It logs to standard error; \
                  MAINSTAY_LOG=debug says more.",
    after_help = "Example:\n  \
                  mainstay replica --config replica-0.toml\n\n\
                  The file:\n  \
                  cluster = \"0b5cf8e1a7d24d0f9a3e6c1b7f42d95e\"\n  \
                  index = 0\n  \
                  data = \"replica-0\"\n  \
                  durability = \"sync\"\n  \
                  peers = [\"127.0.0.1:7500\", \"127.0.0.1:7501\", \"127.0.0.1:7502\"]\n\n  \
                  [listen]\n  \
                  clients = \"127.0.0.1:7400\"\n  \
                  peers = \"127.0.0.1:7500\"\n\n\
                  docs/operating.md tells what else may stand there."
)]
pub(crate) struct ReplicaOptions {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Listen on an address that others can reach, although nothing asks who they are.
    #[arg(long)]
    pub(crate) insecure_bind: bool,
    /// End when standard input ends, and wait for the folder's lock.
    #[arg(long, hide = true)]
    pub(crate) child: bool,
}

#[derive(Debug, Args)]
#[command(
    about = "Show who leads, how far each replica is, what is wrong",
    long_about = "Asks every replica how it is, half a second each, and shows who leads, how far \
                  each one is and what is wrong. Replicas that do not answer are listed as well. \
                  A cluster that `up` does not run is named by --target or --config.",
    after_help = "Examples:\n  \
                  mainstay status\n  \
                  mainstay status --json | jq '.groups[0].leader'\n  \
                  mainstay status --target 10.0.0.1:7500,10.0.0.2:7500\n  \
                  mainstay status --config replica-1.toml"
)]
pub(crate) struct StatusOptions {
    #[command(flatten)]
    pub(crate) at: Where,
}

/// Which cluster, and how to print.
#[derive(Debug, Args)]
pub(crate) struct Where {
    /// The folder of a cluster that `up` runs or `init` made.
    #[arg(long, value_name = "DIR", default_value = "mainstay-data",
          conflicts_with_all = ["target", "config"])]
    pub(crate) data: PathBuf,
    /// The peer ports of one replica or more; the first that answers names all others.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', conflicts_with = "config")]
    pub(crate) target: Vec<String>,
    /// The configuration file of any replica, which names all others.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    about = "Say who is to lead",
    long_about = "Says who is to lead, for a planned restart of the present leader or for a machine \
                  that is better placed.",
    after_help = "Example:\n  mainstay leader move 2"
)]
pub(crate) struct LeaderOptions {
    #[command(subcommand)]
    pub(crate) command: LeaderCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum LeaderCommand {
    /// Hand over to the replica of this index.
    #[command(
        long_about = "Hands over to the replica of this index. The leader takes no more requests \
                      into the order, waits until that replica has everything, and lets it begin; \
                      what came in meanwhile waits and is not lost. If that replica does not get \
                      there in time the old leader leads on, or the group chooses as after any \
                      leader change.",
        after_help = "Examples:\n  \
                      mainstay leader move 2\n  \
                      mainstay leader move 0 --target 127.0.0.1:7500 --json"
    )]
    Move {
        /// Who is to lead.
        #[arg(value_name = "INDEX")]
        index: u16,
        #[command(flatten)]
        at: Where,
    },
}

#[derive(Debug, Args)]
#[command(
    about = "Confirm a jump of decided time",
    long_about = "Confirms a jump of decided time, the time by which keys and sessions expire.",
    after_help = "Example:\n  mainstay clock confirm"
)]
pub(crate) struct ClockOptions {
    #[command(subcommand)]
    pub(crate) command: ClockCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClockCommand {
    /// Let decided time make the jump that `status` warns of.
    #[command(
        long_about = "Lets decided time make the jump that `status` warns of. A new leader sets it \
                      to what most replicas' clocks show, but not by more than an hour at once: a \
                      wrong clock would let every key and session expire. Look at the clocks first; \
                      what expires by the jump is gone.",
        after_help = "Example:\n  mainstay clock confirm"
    )]
    Confirm {
        #[command(flatten)]
        at: Where,
    },
}

#[derive(Debug, Args)]
#[command(
    about = "Run the ordering protocol under simulated faults",
    long_about = "Runs the very machines of the program in a simulated world: a faulty network, \
                  faulty disks, clocks that drift, processes that die, all of it from one seed; \
                  then lets the world heal and demands progress. Every run is checked: agreement, \
                  no lost acknowledgement, exactly-once, linearizability and more.\n\n\
                  A failure prints its trace and the command that replays it.",
    after_help = "Examples:\n  \
                  mainstay sim --seed 1 --runs 1000\n  \
                  mainstay sim --seed 4242 --trace        one run, every event\n  \
                  mainstay sim --scenario list\n  \
                  mainstay sim --plants list              bugs put in on purpose\n  \
                  mainstay sim --plants run               each must be found\n\n\
                  Exit codes: 10 crash, 11 safety violated, 12 no progress."
)]
pub(crate) struct SimOptions {
    /// The first seed.
    #[arg(long, value_name = "S", default_value = "1")]
    pub(crate) seed: u64,
    /// How many seeds: S to S + N - 1; 1 if not told, with --plants at most 1000 a plant.
    #[arg(long, value_name = "N")]
    pub(crate) runs: Option<u64>,
    /// A scenario by name, or `list`.
    #[arg(long, value_name = "NAME")]
    pub(crate) scenario: Option<String>,
    /// Planted bugs: `list` them, `run` them all, or one by name.
    #[arg(long, value_name = "list|run|NAME", conflicts_with = "scenario")]
    pub(crate) plants: Option<String>,
    /// Print the trace of every run.
    #[arg(long)]
    pub(crate) trace: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        for mut command in Arguments::command().get_subcommands().cloned() {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example"), "{}", command.get_name());
            let about = command.get_long_about().expect("a description").to_string();
            assert!(help.contains(&about[..20]), "{help}");
        }
    }
}
