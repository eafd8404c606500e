//! What a front counts, as `INFO` tells it. Nothing here is about the state: replicas differ in it.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::command::Number;

/// How often a command came, and what became of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// How often it was carried out, or handed over to be.
    pub(crate) calls: u64,
    /// How often it was refused before that.
    pub(crate) rejected: u64,
    /// How often its answer was an error.
    pub(crate) failed: u64,
}

/// Since the process started, or since they were set back.
#[derive(Debug)]
pub(crate) struct Statistics {
    pub(crate) commands: BTreeMap<Number, Counts>,
    /// Connections that became clients, and those turned away.
    pub(crate) connections: u64,
    pub(crate) turned_away: u64,
    /// Bytes of commands, and of answers.
    pub(crate) input: u64,
    pub(crate) output: u64,
    /// The second that is being counted, its commands, and those of the second before it.
    second: (u64, u64, u64),
    started: Instant,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            commands: BTreeMap::new(),
            connections: 0,
            turned_away: 0,
            input: 0,
            output: 0,
            second: (0, 0, 0),
            started: Instant::now(),
        }
    }
}

impl Statistics {
    pub(crate) fn of(&mut self, command: Number) -> &mut Counts {
        self.commands.entry(command).or_default()
    }

    /// A command was taken up.
    pub(crate) fn called(&mut self, command: Number) {
        self.of(command).calls += 1;
        self.count_second(1);
    }

    fn count_second(&mut self, more: u64) {
        let now = self.started.elapsed().as_secs();
        let (second, commands, _) = self.second;
        if now != second {
            self.second = (now, 0, if now == second + 1 { commands } else { 0 });
        }
        self.second.1 += more;
    }

    /// Commands in the last whole second.
    pub(crate) fn commands_a_second(&mut self) -> u64 {
        self.count_second(0);
        self.second.2
    }

    /// All commands taken up.
    pub(crate) fn calls(&self) -> u64 {
        self.commands.values().map(|counts| counts.calls).sum()
    }

    /// All answers that were errors, and commands refused.
    pub(crate) fn errors(&self) -> u64 {
        self.commands.values().map(|counts| counts.rejected + counts.failed).sum()
    }
}
