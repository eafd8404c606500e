//! Starting a replica: its identity, what an operator does about a lost or damaged folder, its log.

use mainstay_model::plant::Planted;
use mainstay_model::{ClusterId, Configuration, Epoch, GroupId, Recovered, ReplicaId, Slot};
use mainstay_service::SessionLimits;
use mainstay_storage::{AppendError, Identity, Log, LogOptions, OnDamage, OpenError, Style};

use crate::context::Cx;
use crate::disk::SimDisk;
use crate::drive::consensus::{Kept, ReplicaProcess};
use crate::world::Process;

/// What all replicas of a run have in common.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// The cluster.
    pub cluster: ClusterId,
    /// Timing and bounds of the machine.
    pub ordering: mainstay_consensus::Settings,
    /// Timing of the detector.
    pub detection: mainstay_detect::Settings,
    /// Bounds of the session table.
    pub sessions: SessionLimits,
    /// The configuration.
    pub configuration: Configuration,
    /// The planted bug, if any.
    pub plants: Planted,
    /// The longest body of a frame that is not sent in pieces.
    pub piece_len: usize,
    /// How long a write and sync usually takes, in nanoseconds.
    pub disk_latency: u64,
    /// How long applying a batch usually takes, in nanoseconds.
    pub apply_latency: u64,
    /// How often checkpoints are made, and how much of the log is kept.
    pub checkpoints: CheckpointPlan,
    /// The most bytes that the log may have.
    pub log_bytes_max: Option<u64>,
}

/// How often checkpoints are made, and how much of the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointPlan {
    /// Leaders set the interval to between so many requests,
    pub requests_min: u64,
    /// and so many.
    pub requests_max: u64,
    /// Whether they set another one now and then, which is an entry in an idle group, too.
    pub is_changed: bool,
    /// How many bytes of the log are kept for who lags a little.
    pub keep_bytes: u64,
    /// How many bytes it may have until nothing more is kept for those who fetch a checkpoint.
    pub wanted_bytes_max: u64,
}

/// The configuration of the first `count` replicas.
#[must_use]
pub fn configuration(count: u16) -> Configuration {
    let replica = |index| ReplicaId { index, epoch: Epoch { counter: 1, instance: 7 } };
    Configuration {
        id: mainstay_model::ConfigurationId(1),
        replicas: (0..count).map(replica).collect(),
        alpha: 4096,
    }
}

/// Starts the replicas of one group.
pub(crate) struct GroupBoot {
    /// What all have in common.
    pub(crate) group: GroupOptions,
    /// Which folders were made before: an empty one among these was lost.
    pub(crate) made: Vec<bool>,
}

impl GroupBoot {
    /// Starts the replica of the node of `cx`.
    pub(crate) fn boot(&mut self, cx: &mut Cx<'_>) -> Result<Box<dyn Process>, String> {
        let index = usize::from(cx.node().0);
        let me = self.group.configuration.replicas[index];
        let disk = cx.disk();
        let mut identity = self.identity(cx, &disk, me)?;
        let (mut log, mut recovered) = match open_log(&disk, &self.group, &identity) {
            Ok(opened) => opened,
            Err(OpenError::Damaged(damage)) => {
                let what = damage.to_string();
                cx.line(format_args!("{what}"));
                cx.damage_found(&what);
                // What an operator does about it: the folder goes, and the replica comes back as
                // one that lost what it promised.
                cx.wipe();
                let disk = cx.disk();
                identity = self.identity(cx, &disk, me)?;
                open_log(&disk, &self.group, &identity).map_err(|error| error.to_string())?
            }
            Err(error) => return Err(error.to_string()),
        };
        let disk = cx.disk();
        identity.mark_log_begun(&disk).map_err(|error| error.to_string())?;
        if !recovered.uncertain.is_empty() {
            cx.line(format_args!("uncertain: {:?}", recovered.uncertain));
            cx.damage_found("uncertain slots");
        }
        cx.line(format_args!(
            "recovered: promised {}, decided {}, accepted {:?}{}",
            recovered.promised,
            recovered.decided_upto,
            recovered.accepted.keys().collect::<Vec<_>>(),
            if identity.amnesiac { ", amnesiac" } else { "" }
        ));
        let kept = Kept::open(cx, &self.group, me, disk, recovered.truncated_upto)?;
        let slot = kept.checkpoint.map_or(Slot::NONE, |checkpoint| checkpoint.slot);
        if slot > recovered.decided_upto {
            go_on_after(&mut log, &mut recovered, slot).map_err(|error| error.to_string())?;
        }
        let group = self.group.clone();
        let process =
            ReplicaProcess::new(cx, group, (me, !identity.amnesiac), log, recovered, kept);
        Ok(Box::new(process))
    }

    fn identity(
        &mut self,
        cx: &mut Cx<'_>,
        disk: &SimDisk,
        me: ReplicaId,
    ) -> Result<Identity, String> {
        match Identity::load(disk) {
            Ok(identity) => Ok(identity),
            Err(OpenError::NoIdentity) => {
                let made = &mut self.made[usize::from(me.index)];
                let amnesiac = std::mem::replace(made, true);
                cx.line(format_args!("an identity is made, amnesiac: {amnesiac}"));
                let identity = Identity {
                    cluster: self.group.cluster,
                    me,
                    amnesiac,
                    log_begun: false,
                    group: GroupId::FIRST,
                    style: Style::Consensus,
                    durability: mainstay_storage::Durability::Sync,
                    configuration: self.group.configuration.clone(),
                    service_version: 1,
                    boot: 0,
                    stopped_clean: false,
                };
                identity.create(disk).map_err(|error| error.to_string())?;
                Ok(identity)
            }
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A checkpoint was taken over that the log was not told of.
fn go_on_after(
    log: &mut Log<SimDisk, Planted>,
    recovered: &mut Recovered,
    slot: Slot,
) -> Result<(), AppendError> {
    log.begin_after(GroupId::FIRST, slot)?;
    recovered.truncated_upto = slot;
    recovered.uncertain.retain(|range| range.last > slot);
    for range in &mut recovered.uncertain {
        range.first = range.first.max(slot.next());
    }
    Ok(())
}

fn open_log(
    disk: &SimDisk,
    group: &GroupOptions,
    identity: &Identity,
) -> Result<(Log<SimDisk, Planted>, Recovered), OpenError> {
    let options = LogOptions {
        begun: identity.log_begun,
        bytes_max: group.log_bytes_max,
        segment_bytes: LogOptions::SEGMENT_BYTES_MIN,
        on_damage: OnDamage::Report,
        ..LogOptions::new(group.cluster, identity.me)
    };
    Log::open(disk.clone(), options, group.plants)
}
