//! The faults that a plan may ask for, and how each is carried out.

use std::collections::BTreeSet;

use mainstay_storage::Disk;

use crate::division::Division;
use crate::process::Ending;
use crate::world::{Event, Harm, Instruction, NodeId, STEP_COST, World};

/// How long a process has to hand over when it is asked to stop, in nanoseconds.
const HAND_OVER: u64 = 30_000_000;

/// How long until another program runs, in nanoseconds.
const CHANGE_OF_PROGRAM: u64 = 10_000_000;

/// Which replica a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// This one.
    Node(NodeId),
    /// Who leads when the fault comes; any if nobody does.
    Leader,
    /// One that does not lead.
    Follower,
    /// Any.
    Any,
}

/// A fault. Durations are in nanoseconds of virtual time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed; the machine goes on.
    Kill {
        /// Whose.
        target: Target,
        /// Until it is started again.
        down: u64,
    },
    /// The process is asked to stop: it may hand over, and is ended a little later.
    Stop {
        /// Whose.
        target: Target,
        /// Until it is started again.
        down: u64,
    },
    /// The machine loses power.
    PowerLoss {
        /// Which.
        target: Target,
        /// Until the process is started again.
        down: u64,
    },
    /// All replicas lose power at once.
    PowerLossOfAll {
        /// Until the processes are started again.
        down: u64,
    },
    /// All replicas' processes are killed at once.
    KillAll {
        /// Until they are started again.
        down: u64,
    },
    /// The replica's folder is emptied: it comes back as one that lost what it promised.
    Wipe {
        /// Whose.
        target: Target,
        /// Until the process is started again.
        down: u64,
    },
    /// The process is suspended; what is sent to it waits.
    Pause {
        /// Which.
        target: Target,
        /// How long.
        length: u64,
    },
    /// The process takes that many nanoseconds for every event.
    Slow {
        /// Which.
        target: Target,
        /// How long.
        length: u64,
        /// Nanoseconds an event.
        step_cost: u64,
    },
    /// The disk takes that many times longer.
    SlowDisk {
        /// Whose.
        target: Target,
        /// How long.
        length: u64,
        /// How many times.
        factor: u64,
    },
    /// Applying takes that many times longer.
    SlowExecutor {
        /// Whose.
        target: Target,
        /// How long.
        length: u64,
        /// How many times.
        factor: u64,
    },
    /// The disk has no more room.
    FullDisk {
        /// Whose.
        target: Target,
        /// How long.
        length: u64,
    },
    /// The disk has no room for new checkpoints; the log goes on.
    NoCheckpoints {
        /// Whose.
        target: Target,
        /// How long.
        length: u64,
    },
    /// The process ends, and is started with a program that can restore no checkpoint.
    OtherProgram {
        /// Whose.
        target: Target,
        /// Until it ends, and the right program is started.
        length: u64,
    },
    /// The machine loses power in the middle of whatever is done to its disk: after so many more
    /// changes of it.
    PowerLossInside {
        /// Which.
        target: Target,
        /// After how many changes.
        changes: u64,
    },
    /// The machine loses power right after its next checkpoint was given its name, and before anything makes
    /// the name durable: it may be there afterwards, or not.
    PowerLossAtCheckpoint {
        /// Which.
        target: Target,
    },
    /// The service hangs: it has been given a request and does not come back.
    Hang {
        /// Whose.
        target: Target,
        /// How long.
        length: u64,
    },
    /// The service panics over the next request; the process stays, and is started again afterwards.
    Panic {
        /// Whose.
        target: Target,
        /// Until it is ended.
        length: u64,
    },
    /// An operator tells a replica something.
    Instruct {
        /// Which.
        target: Target,
        /// What.
        instruction: Instruction,
    },
    /// Something goes wrong inside the process.
    Harm {
        /// Whose.
        target: Target,
        /// What.
        harm: Harm,
    },
    /// The next sync fails.
    FailSync {
        /// Whose.
        target: Target,
    },
    /// A bit of the log flips, in a place where that can be told from a torn tail; the replica is
    /// then restarted.
    Rot {
        /// Whose.
        target: Target,
        /// As near to the end of the log as can be, or anywhere.
        last: bool,
    },
    /// A bit of the newest checkpoint flips; the replica is then restarted.
    RotCheckpoint {
        /// Whose.
        target: Target,
    },
    /// The calendar clock jumps.
    JumpWall {
        /// Whose.
        target: Target,
        /// By how much, in nanoseconds.
        by: i64,
    },
    /// The network is divided.
    Divide {
        /// How.
        division: Division,
        /// How long; 0 for good.
        length: u64,
    },
    /// What is sent in some directions arrives later: a detour, or a queue on the way.
    Late {
        /// In which, as a division would cut them.
        division: Division,
        /// By how much.
        by: u64,
        /// How long.
        length: u64,
    },
    /// Nothing that is sent from now on arrives later than usual, except behind what was sent before.
    OnTime,
    /// All disks have no more room.
    FullDisks {
        /// How long.
        length: u64,
    },
    /// The service can restore no checkpoint for a while; its process stays.
    NoRestore {
        /// Whose.
        target: Target,
        /// How long.
        length: u64,
    },
    /// These directions are cut.
    Cut(Vec<(NodeId, NodeId)>),
    /// All cuts are mended.
    Mend,
    /// What a fault did to a node ends.
    End(NodeId, Ended),
    /// Everything is made well, except that replicas outside of this set are switched off for good.
    Heal {
        /// The replicas that stay.
        core: Vec<NodeId>,
    },
}

/// Which lasting fault of a node ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was paused.
    Pause,
    /// It was slow.
    Slow,
    /// Its disk was slow.
    SlowDisk,
    /// Its executor was slow.
    SlowExecutor,
    /// Its disk was full.
    FullDisk,
    /// Its disk had no room for checkpoints.
    NoCheckpoints,
    /// Its program could restore no checkpoint.
    OtherProgram,
    /// Its service hung.
    Hang,
    /// Its service panicked.
    Panic,
    /// Its service could restore no checkpoint.
    NoRestore,
}

impl Ended {
    const ALL: [Self; 10] = [
        Self::Pause,
        Self::Slow,
        Self::SlowDisk,
        Self::SlowExecutor,
        Self::FullDisk,
        Self::NoCheckpoints,
        Self::OtherProgram,
        Self::Hang,
        Self::Panic,
        Self::NoRestore,
    ];
}

/// Who lost or may lose what it had promised. As long as these are a minority nothing that was
/// decided may be lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// How many replicas may be damaged in the whole run.
    pub damaged_max: usize,
    /// Which are.
    pub damaged: BTreeSet<NodeId>,
}

impl Budget {
    /// Whether `node` may be damaged; if so, it counts as damaged from now on.
    pub fn take(&mut self, node: NodeId) -> bool {
        let allowed = self.damaged.contains(&node) || self.damaged.len() < self.damaged_max;
        if allowed {
            self.damaged.insert(node);
        }
        allowed
    }
}

impl World {
    fn aim(&mut self, target: Target) -> NodeId {
        let any =
            |world: &mut Self| NodeId(world.core.prng.below(u64::from(world.core.replicas)) as u16);
        match target {
            Target::Node(node) => node,
            Target::Any => any(self),
            Target::Leader => self.leader().unwrap_or_else(|| any(self)),
            Target::Follower => {
                let leader = self.leader();
                let others: Vec<NodeId> =
                    (0..self.core.replicas).map(NodeId).filter(|&n| Some(n) != leader).collect();
                self.core.prng.pick(&others).copied().unwrap_or(NodeId(0))
            }
        }
    }

    pub(crate) fn on_fault(&mut self, fault: Fault) {
        match fault {
            Fault::Kill { target, down } => {
                let node = self.aim(target);
                self.end(node, Ending::Killed, Some(down));
            }
            Fault::Stop { target, down } => {
                let target = Target::Node(self.instruct(target, Instruction::Retire));
                self.core.plan(self.core.time + HAND_OVER, Fault::Kill { target, down });
            }
            Fault::Instruct { target, instruction } => {
                self.instruct(target, instruction);
            }
            Fault::PowerLoss { target, down } => {
                let node = self.aim(target);
                self.end(node, Ending::PowerLost, Some(down));
            }
            Fault::PowerLossOfAll { down } => self.end_all(Ending::PowerLost, down),
            Fault::KillAll { down } => self.end_all(Ending::Killed, down),
            Fault::Wipe { target, down } => {
                let node = self.aim(target);
                if self.core.budget.take(node) {
                    self.end(node, Ending::Wiped, Some(down));
                }
            }
            Fault::PowerLossInside { .. }
            | Fault::PowerLossAtCheckpoint { .. }
            | Fault::FailSync { .. } => self.lie_in_wait(&fault),
            Fault::Harm { target, harm } => self.harm(target, harm),
            Fault::Rot { target, last } => self.rot(target, last),
            Fault::RotCheckpoint { target } => self.rot_checkpoint(target),
            Fault::JumpWall { target, by } => {
                let node = self.aim(target);
                self.core.line(node, format_args!("calendar jumps by {} ms", by / 1_000_000));
                self.core.node(node).clock.jump_wall(by);
            }
            Fault::Divide { division, length } => self.divide(division, length),
            Fault::Late { division, by, length } => self.delay(division, by, length),
            Fault::OnTime => self.end_delays(),
            Fault::FullDisks { length } => {
                let all = (0..self.core.replicas).map(NodeId).map(Target::Node);
                all.for_each(|target| self.begin(&Fault::FullDisk { target, length }));
            }
            Fault::Cut(cuts) => self.cut(&cuts),
            Fault::Mend => self.mend(),
            Fault::Pause { .. }
            | Fault::Slow { .. }
            | Fault::SlowDisk { .. }
            | Fault::SlowExecutor { .. }
            | Fault::FullDisk { .. }
            | Fault::NoCheckpoints { .. }
            | Fault::Hang { .. }
            | Fault::Panic { .. }
            | Fault::NoRestore { .. }
            | Fault::OtherProgram { .. } => self.begin(&fault),
            Fault::End(node, ended) => self.finish(node, ended),
            Fault::Heal { core } => self.heal(&core),
        }
    }

    /// Tells a process something; returns whose.
    fn instruct(&mut self, target: Target, instruction: Instruction) -> NodeId {
        let node = self.aim(target);
        let boot = self.core.node(node).boot;
        self.core.line(node, format_args!("is told: {instruction:?}"));
        self.core.schedule(self.core.time, Event::Instruct { node, boot, instruction });
        node
    }

    /// Prepares what happens when the disk does something next.
    fn lie_in_wait(&mut self, fault: &Fault) {
        match *fault {
            Fault::PowerLossInside { target, changes } => {
                let node = self.aim(target);
                self.core.line(node, format_args!("loses power after {changes} more changes"));
                self.core.node(node).disk.lose_power_after(changes);
            }
            Fault::PowerLossAtCheckpoint { target } => {
                let node = self.aim(target);
                self.core.line(node, format_args!("loses power at its next checkpoint"));
                self.core.node(node).disk.lose_power_after_naming("checkpoint-");
            }
            Fault::FailSync { target } => {
                let node = self.aim(target);
                self.core.line(node, format_args!("its next sync will fail"));
                self.core.node(node).disk.fail_next_sync();
            }
            _ => {}
        }
    }

    fn end_all(&mut self, ending: Ending, down: u64) {
        for node in (0..self.core.replicas).map(NodeId) {
            let later = self.core.prng.below(down / 2 + 1);
            self.end(node, ending, Some(down + later));
        }
    }

    /// Begins a fault that lasts.
    fn begin(&mut self, fault: &Fault) {
        let (target, length, ended) = match *fault {
            Fault::Pause { target, length } => (target, length, Ended::Pause),
            Fault::Slow { target, length, .. } => (target, length, Ended::Slow),
            Fault::SlowDisk { target, length, .. } => (target, length, Ended::SlowDisk),
            Fault::SlowExecutor { target, length, .. } => (target, length, Ended::SlowExecutor),
            Fault::FullDisk { target, length } => (target, length, Ended::FullDisk),
            Fault::NoCheckpoints { target, length } => (target, length, Ended::NoCheckpoints),
            Fault::OtherProgram { target, length } => (target, length, Ended::OtherProgram),
            Fault::Hang { target, length } => (target, length, Ended::Hang),
            Fault::Panic { target, length } => (target, length, Ended::Panic),
            Fault::NoRestore { target, length } => (target, length, Ended::NoRestore),
            _ => return,
        };
        let node = self.aim(target);
        let millis = length / 1_000_000;
        self.core.line(node, format_args!("{ended:?} for {millis} ms"));
        let state = self.core.node(node);
        match *fault {
            Fault::Pause { .. } => state.paused = true,
            Fault::Slow { step_cost, .. } => state.step_cost = step_cost,
            Fault::SlowDisk { factor, .. } => state.disk_slowness = factor,
            Fault::SlowExecutor { factor, .. } => state.executor_slowness = factor,
            Fault::NoCheckpoints { .. } => state.disk.refuse_new(Some("checkpoint-")),
            Fault::Hang { .. } => self.harm_inside(node, Harm::Hang(true)),
            Fault::Panic { .. } => {
                state.panics = true;
                self.harm_inside(node, Harm::Panic);
            }
            Fault::NoRestore { .. } => state.restores_none = true,
            Fault::OtherProgram { .. } => {
                state.refuses = true;
                self.end(node, Ending::Killed, Some(CHANGE_OF_PROGRAM));
            }
            _ => state.disk.set_full(true),
        }
        self.core.plan(self.core.time + length, Fault::End(node, ended));
    }

    fn finish(&mut self, node: NodeId, ended: Ended) {
        self.core.line(node, format_args!("{ended:?} over"));
        let state = self.core.node(node);
        match ended {
            Ended::Pause => state.paused = false,
            Ended::Slow => state.step_cost = STEP_COST,
            Ended::SlowDisk => state.disk_slowness = 1,
            Ended::SlowExecutor => state.executor_slowness = 1,
            Ended::FullDisk => state.disk.set_full(false),
            Ended::NoCheckpoints => state.disk.refuse_new(None),
            Ended::OtherProgram => {
                if std::mem::take(&mut state.refuses) {
                    self.end(node, Ending::Killed, Some(CHANGE_OF_PROGRAM));
                }
            }
            Ended::NoRestore => state.restores_none = false,
            Ended::Hang => self.harm_inside(node, Harm::Hang(false)),
            Ended::Panic => {
                if std::mem::take(&mut state.panics) {
                    self.end(node, Ending::Killed, Some(CHANGE_OF_PROGRAM));
                }
            }
        }
        self.pump(node);
    }

    fn harm(&mut self, target: Target, harm: Harm) {
        let node = self.aim(target);
        if harm == Harm::Spoil && !self.core.budget.take(node) {
            return;
        }
        self.core.line(node, format_args!("harm: {harm:?}"));
        self.harm_inside(node, harm);
    }

    fn harm_inside(&mut self, node: NodeId, harm: Harm) {
        if let Some(process) = &mut self.processes[usize::from(node.0)] {
            process.harm(harm);
        }
    }

    fn rot(&mut self, target: Target, last: bool) {
        let node = self.aim(target);
        if !self.core.budget.take(node) {
            return;
        }
        self.rot_file(node, last, |name| name != "identity");
    }

    fn rot_checkpoint(&mut self, target: Target) {
        let node = self.aim(target);
        let names = self.core.node(node).disk.list().unwrap_or_default();
        let newest = |name: &&String| name.starts_with("checkpoint-") && name.ends_with(".ms");
        if let Some(newest) = names.iter().rev().find(newest) {
            self.rot_file(node, false, |name| name == newest);
        }
    }

    fn rot_file(&mut self, node: NodeId, last: bool, wanted: impl Fn(&str) -> bool) {
        // All of a checkpoint has a checksum that is not part of it.
        let is_whole = |name: &str| name.ends_with(".ms") || name.ends_with(".part");
        let hit = self.core.node(node).disk.rot(last, wanted, is_whole);
        if let Some((file, offset)) = hit {
            self.core.line(node, format_args!("a bit of {file} flips at byte {offset}"));
            self.end(node, Ending::PowerLost, Some(20_000_000));
        }
    }

    fn heal(&mut self, stay: &[NodeId]) {
        self.core.trace.event(self.core.time, None, format_args!("healed: {stay:?} stay"));
        self.core.closing = Some(self.core.recorder.decided_upto());
        self.core.network.mend();
        self.core.network.end_delays();
        self.core.network.calm();
        self.core.link_notice_max = 5_000_000;
        for node in (0..self.core.replicas).map(NodeId) {
            for ended in Ended::ALL {
                self.finish(node, ended);
            }
            self.core.node(node).disk.keep_power();
            self.harm_inside(node, Harm::WrongPieces(0));
            if !stay.contains(&node) {
                self.core.node(node).held_down = true;
                self.end(node, Ending::Killed, None);
            } else if !self.core.node(node).running {
                self.start_in(node, 10_000_000);
            }
        }
        self.core.check_all_links();
    }
}
