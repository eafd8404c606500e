//! Random use, random crashes: whatever is held is whole, and the newest that was durable is there.

use std::io;

use mainstay_model::{CheckpointId, Prng};
use mainstay_storage::{Checkpoints, Incoming, MemoryDisk};
use proptest::prelude::*;

use crate::{content, id, open, read, write};

#[derive(Clone, Debug)]
enum Action {
    /// Write the next checkpoint.
    Write,
    /// Begin to fetch the next one, or go on with the last one, and append up to so many chunks.
    Fetch(bool, u8),
    Install,
    Abandon,
    /// What was written since the last install turns out wrong.
    Distrust,
    FailSync,
    Die,
    LosePower(u64),
    /// The machine dies after so many more changes on its disk, wherever that is.
    LosePowerAfter(u8, u64),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        3 => Just(Action::Write),
        6 => (any::<bool>(), 0u8..8).prop_map(|(next, chunks)| Action::Fetch(next, chunks)),
        4 => Just(Action::Install),
        1 => Just(Action::Abandon),
        1 => Just(Action::Distrust),
        1 => Just(Action::FailSync),
        1 => Just(Action::Die),
        1 => any::<u64>().prop_map(Action::LosePower),
        2 => (0u8..30, any::<u64>()).prop_map(|(after, seed)| Action::LosePowerAfter(after, seed)),
    ];
    proptest::collection::vec(action, 1..40)
}

const CHUNK: u32 = 512;

struct Run {
    disk: MemoryDisk,
    checkpoints: Checkpoints<MemoryDisk>,
    incoming: Option<Incoming<MemoryDisk>>,
    /// The highest slot that anything was tried for.
    slot: u64,
    /// The slot that is fetched.
    fetched: u64,
    /// The newest one that was told to be durable.
    durable: Option<CheckpointId>,
    /// The last one that was installed.
    installed: Option<CheckpointId>,
    /// Nothing of the replica's own up to this slot is ever to be held again.
    wrong_upto: u64,
    dying: Option<u64>,
}

impl Run {
    fn carry_out(&mut self, action: &Action) -> io::Result<()> {
        let other = io::Error::other;
        match *action {
            Action::Write => {
                self.slot += 1;
                self.durable = self.durable.max(Some(write(&self.checkpoints, self.slot)?));
            }
            Action::Fetch(next, chunks) => {
                if next || self.fetched == 0 {
                    self.incoming = None;
                    self.slot += 1;
                    self.fetched = self.slot;
                }
                let whole = content(self.fetched);
                if self.incoming.is_none() {
                    let total = whole.len() as u64;
                    let begun = self.checkpoints.incoming(id(self.fetched), total, CHUNK);
                    self.incoming = Some(begun.map_err(other)?);
                }
                let Some(incoming) = &mut self.incoming else { return Ok(()) };
                for step in 0..u64::from(chunks) * 20 {
                    // From the back: the order does not matter.
                    let from = incoming.chunks().saturating_sub(step + 1);
                    let Some(index) = incoming.next_missing(from) else { continue };
                    let start = index as usize * CHUNK as usize;
                    let chunk = &whole[start..whole.len().min(start + CHUNK as usize)];
                    incoming.append_chunk(index, chunk).map_err(other)?;
                }
            }
            Action::Install => match self.incoming.take() {
                Some(mut incoming) if incoming.next_missing(0).is_none() => {
                    incoming.install().map_err(other)?;
                    let installed = Some(incoming.partial().id);
                    self.durable = self.durable.max(installed);
                    self.installed = self.installed.max(installed);
                    self.fetched = 0;
                }
                incoming => self.incoming = incoming,
            },
            Action::Abandon => {
                self.fetched = 0;
                if let Some(incoming) = self.incoming.take() {
                    incoming.abandon().map_err(other)?;
                }
            }
            Action::Distrust => {
                self.durable = self.durable.min(self.installed);
                self.checkpoints.distrust_after(self.installed).map_err(other)?;
                self.wrong_upto = self.slot;
            }
            Action::FailSync => self.disk.fail_syncs(1),
            Action::LosePowerAfter(after, seed) => {
                self.disk.fail_after(Some(u64::from(after)));
                self.dying = Some(seed);
            }
            Action::Die | Action::LosePower(_) => {}
        }
        Ok(())
    }

    /// A new process, after the machine died if `power` says how.
    fn restart(&mut self, power: Option<u64>) -> Result<(), TestCaseError> {
        let power = power.or(self.dying);
        self.dying = None;
        self.disk.fail_after(None);
        self.disk.fail_syncs(0);
        self.incoming = None;
        if let Some(seed) = power {
            self.disk.lose_power(&mut Prng::new(seed));
        }
        let opened = open(&self.disk);
        self.checkpoints = opened.map_err(|error| TestCaseError::fail(error.to_string()))?;
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert!(self.checkpoints.latest() >= self.durable, "the newest durable one is gone");
        for id in self.checkpoints.held() {
            let is_wrong = Some(id) > self.installed && id.slot.0 <= self.wrong_upto;
            // An install that was cut short may stand.
            let is_fetched = id.slot.0 == self.fetched || Some(id) == self.checkpoints.stable();
            prop_assert!(!is_wrong || is_fetched, "{id:?} is held again");
            let read = read(&self.checkpoints, id);
            let read = read.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(read == content(id.slot.0), "{id:?} is another");
        }
        Ok(())
    }
}

fn run(actions: &[Action]) -> Result<u64, TestCaseError> {
    let disk = MemoryDisk::default();
    let checkpoints = open(&disk).expect("an empty folder opens");
    let mut run = Run {
        disk,
        checkpoints,
        incoming: None,
        slot: 0,
        fetched: 0,
        durable: None,
        installed: None,
        wrong_upto: 0,
        dying: None,
    };
    let mut is_failing = false;
    for action in actions {
        is_failing |= matches!(action, Action::FailSync);
        let result = run.carry_out(action);
        let may_fail = is_failing || run.dying.is_some();
        prop_assert!(result.is_ok() || may_fail, "nothing was made to fail: {result:?}");
        let power = match action {
            Action::LosePower(seed) => Some(*seed),
            _ => None,
        };
        // A transfer that fails is given up, and begun again at need.
        if result.is_err() {
            run.incoming = None;
            is_failing = false;
        }
        let is_dead = result.is_err() && run.dying.is_some();
        if power.is_some() || is_dead || matches!(action, Action::Die) {
            run.restart(power)?;
            is_failing = false;
        }
        run.check()?;
    }
    Ok(run.durable.map_or(0, |id| id.slot.0))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_held_is_whole(actions in actions()) {
        run(&actions)?;
    }
}

/// A crash in the middle of it leaves either all of them as they were or none of them in use; once
/// it was told to be done, none ever again.
#[test]
fn what_is_wrong_goes_as_one() {
    let mut done = [0; 2];
    for after in 0..12 {
        for seed in 0..8 {
            let disk = MemoryDisk::default();
            let checkpoints = open(&disk).expect("open");
            write(&checkpoints, 3).expect("it is written");
            checkpoints.note_stable(id(3)).expect("noted");
            for slot in [8, 13] {
                write(&checkpoints, slot).expect("it is written");
            }
            disk.fail_after(Some(after));
            let told = checkpoints.distrust_after(Some(id(3))).is_ok();
            disk.fail_after(None);
            disk.lose_power(&mut Prng::new(seed));
            let checkpoints = open(&disk).expect("open");
            let held = checkpoints.held();
            let all_or_none = [vec![id(3)], vec![id(3), id(8), id(13)]];
            assert!(all_or_none.contains(&held), "{held:?} after {after} changes, seed {seed}");
            assert!(!told || held == all_or_none[0], "after {after} changes, seed {seed}");
            done[usize::from(held == all_or_none[0])] += 1;
            // What is made afterwards stays, whatever the disk remembers.
            write(&checkpoints, 18).expect("it is written");
            disk.lose_power(&mut Prng::new(seed));
            assert_eq!(open(&disk).expect("open").latest(), Some(id(18)));
        }
    }
    assert!(done.iter().all(|&count| count > 0), "{done:?}");
}

#[test]
fn everything_can_be_cut_short_anywhere() {
    let mut finished = 0;
    for after in 0..60 {
        for seed in 0..6 {
            let mut actions = vec![Action::Write, Action::LosePowerAfter(after, seed)];
            actions.extend([Action::Write, Action::Write, Action::Fetch(true, 3)]);
            actions.extend([Action::LosePower(seed), Action::Fetch(false, 7), Action::Install]);
            actions.extend([Action::Write, Action::LosePower(seed)]);
            finished += run(&actions).unwrap_or_else(|error| {
                panic!("cut short after {after} changes, seed {seed}: {error}");
            });
        }
    }
    assert!(finished > 0);
}
