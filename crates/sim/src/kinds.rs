//! The kinds of faults from which plans draw.

use mainstay_model::Prng;

use crate::division::Division;
use crate::fault::{Fault, Target};
use crate::world::{Harm, Instruction};

const MILLI: u64 = 1_000_000;

/// The kinds of faults that a run may have switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Processes are killed.
    Kill,
    /// Processes are asked to stop.
    Stop,
    /// Machines lose power.
    PowerLoss,
    /// All do.
    AllDown,
    /// Processes are suspended.
    Pause,
    /// Processes are slow.
    Slow,
    /// Disks are slow.
    SlowDisk,
    /// Disks are full.
    FullDisk,
    /// Syncs fail.
    FailSync,
    /// Bits flip.
    Rot,
    /// Folders are lost.
    Wipe,
    /// Calendar clocks jump.
    JumpWall,
    /// Networks are divided.
    Divide,
    /// Processes are away for long.
    Away,
    /// Machines lose power in the middle of a change of the disk.
    PowerLossInside,
    /// Executors are slow.
    SlowExecutor,
    /// States are spoiled.
    Spoil,
    /// Pieces of other checkpoints are given than those asked for.
    WrongPieces,
    /// Disks have no room for checkpoints.
    NoCheckpoints,
    /// Machines lose power between a checkpoint's name and the sync of its folder.
    PowerLossAtCheckpoint,
    /// Services hang.
    Hang,
    /// Services panic, and their processes stay.
    Panic,
    /// Operators say who is to lead, and that clocks are right.
    Operator,
    /// What is sent in some directions arrives late.
    Late,
    /// All disks are full at once.
    FullDisks,
    /// Services can restore no checkpoint for a while.
    NoRestore,
}

impl Kind {
    /// Kinds that came later. They have generators and schedules of their own, so that they change nothing in
    /// a seed in which none of them is switched on.
    pub const LATER: [Self; 2] = [Self::NoCheckpoints, Self::PowerLossAtCheckpoint];

    /// Likewise, later still.
    pub const LATEST: [Self; 3] = [Self::Hang, Self::Panic, Self::Operator];

    /// Likewise, after those.
    pub const NEWEST: [Self; 3] = [Self::Late, Self::FullDisks, Self::NoRestore];

    /// The kinds that there were at first.
    pub const FIRST: [Self; 18] = [
        Self::Kill,
        Self::Stop,
        Self::PowerLoss,
        Self::AllDown,
        Self::Pause,
        Self::Slow,
        Self::SlowDisk,
        Self::FullDisk,
        Self::FailSync,
        Self::Rot,
        Self::Wipe,
        Self::JumpWall,
        Self::Divide,
        Self::Away,
        Self::PowerLossInside,
        Self::SlowExecutor,
        Self::Spoil,
        Self::WrongPieces,
    ];

    /// One of that kind.
    pub(crate) fn draw(self, prng: &mut Prng) -> Fault {
        let target = match prng.below(4) {
            0 | 1 => Target::Leader,
            2 => Target::Follower,
            _ => Target::Any,
        };
        let short = prng.between(5 * MILLI, 400 * MILLI);
        let long = prng.between(50 * MILLI, 2_000 * MILLI);
        match self {
            Self::Kill => Fault::Kill { target, down: short },
            Self::Stop => Fault::Stop { target, down: short },
            Self::PowerLoss => Fault::PowerLoss { target, down: long },
            Self::AllDown if prng.chance(1, 2) => Fault::PowerLossOfAll { down: short },
            Self::AllDown => Fault::KillAll { down: short },
            Self::Pause => Fault::Pause { target, length: long },
            Self::Slow => {
                Fault::Slow { target, length: long, step_cost: prng.between(50_000, 5 * MILLI) }
            }
            Self::SlowDisk => {
                Fault::SlowDisk { target, length: long, factor: prng.between(5, 200) }
            }
            Self::FullDisk => Fault::FullDisk { target, length: long },
            Self::FailSync => Fault::FailSync { target },
            Self::Rot => Fault::Rot { target, last: prng.chance(1, 2) },
            Self::Wipe => Fault::Wipe { target, down: short },
            Self::JumpWall => {
                // Up to three hours, either way.
                let by = prng.below(21_600_000 * MILLI) as i64 - (10_800_000 * MILLI) as i64;
                let small = prng.chance(1, 2);
                Fault::JumpWall { target, by: if small { by / 10_000 } else { by } }
            }
            Self::Away => {
                let down = prng.between(800 * MILLI, 4_000 * MILLI);
                Fault::Kill { target, down }
            }
            Self::PowerLossInside => Fault::PowerLossInside { target, changes: prng.below(40) },
            Self::SlowExecutor => {
                Fault::SlowExecutor { target, length: long, factor: prng.between(5, 2_000) }
            }
            Self::NoCheckpoints => Fault::NoCheckpoints { target, length: long },
            Self::PowerLossAtCheckpoint => Fault::PowerLossAtCheckpoint { target },
            Self::Hang => Fault::Hang { target, length: long },
            Self::Panic => Fault::Panic { target, length: long },
            Self::Operator => {
                let confirms = prng.chance(1, 4);
                let to = Instruction::LeaderMove(prng.below(5) as u16);
                let instruction = if confirms { Instruction::ConfirmClockJump } else { to };
                Fault::Instruct { target: Target::Any, instruction }
            }
            Self::Divide => draw_division(prng, long),
            Self::Late => draw_delay(prng, long),
            Self::FullDisks => Fault::FullDisks { length: long },
            Self::NoRestore => Fault::NoRestore { target, length: long },
            Self::Spoil => Fault::Harm { target, harm: Harm::Spoil },
            Self::WrongPieces => {
                let count = prng.between(1, 8) as u32;
                Fault::Harm { target: Target::Any, harm: Harm::WrongPieces(count) }
            }
        }
    }
}

fn draw_division(prng: &mut Prng, length: u64) -> Fault {
    let divisions = [
        Division::Alone,
        Division::Alone,
        Division::Mute,
        Division::Deaf,
        Division::Halves,
        Division::OneWay,
        Division::Pair,
        Division::Hub,
    ];
    let division = prng.pick(&divisions).copied().unwrap_or(Division::Alone);
    Fault::Divide { division, length }
}

fn draw_delay(prng: &mut Prng, length: u64) -> Fault {
    let divisions = [Division::OneWay, Division::Pair, Division::Mute, Division::Deaf];
    let division = prng.pick(&divisions).copied().unwrap_or(Division::OneWay);
    let by = prng.between(20 * MILLI, 3_000 * MILLI);
    Fault::Late { division, by, length }
}
