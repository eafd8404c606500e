//! The commands of one front connection, from arrival to answer: handed over in order, answered in
//! order. Pure: no socket, no session.
//!
//! A read is carried out after every earlier write of its connection and before every later one. A read
//! with a write behind it costs nothing of its own: it is *tied* to that write, and answered from the
//! state right before the write is carried out (decision 0017). Only a read with no write behind it asks
//! the leader.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use mainstay_model::{Instant, RequestNumber, SessionId};

use crate::front::{Failure, Parsed};

/// What the account of memory counts for a command, besides the bytes of it and of its reply.
const COMMAND_BYTES: usize = 128;
/// The list of commands is given back beyond this length, once it is empty.
const KEEP_COMMANDS_MAX: usize = 16;

/// Commands in the order in which they came.
#[derive(Debug)]
pub(crate) struct Pipeline {
    commands: VecDeque<Command>,
    /// The position of the first of `commands` since the connection was opened.
    first: u64,
    /// The position of the next one to be handed over.
    next: u64,
    /// Which one [`Pipeline::due`] named last.
    due: u64,
    /// Writes that are not handed over, with what stands between each and the one before it.
    writes: VecDeque<Stretch>,
    /// What stands behind the last of `writes`.
    behind: Stretch,
    /// Reads that were handed over by themselves since the last write was: the next one ties them.
    loose: VecDeque<u64>,
    /// Reads below this position were asked of the state, if they were to be asked at all.
    asked_below: u64,
    reads: Ahead,
    open_writes: Ahead,
    /// The last write that was handed over and not answered: reads wait for it.
    last_write: Option<(u64, SessionId, RequestNumber)>,
    /// Bytes of answers and replies that wait for an earlier command's.
    held_bytes: usize,
    /// Bytes of all of `commands`, as they came.
    asked_bytes: usize,
    /// Whether anything was answered since `moved_at` was last set.
    moved: bool,
    /// When that was last looked at and something had been answered.
    moved_at: Instant,
}

/// A write that is not handed over, and the reads before it that are not either.
#[derive(Clone, Copy, Debug, Default)]
struct Stretch {
    write: u64,
    reads: usize,
    /// Some of them are stale ones, which wait for no write.
    stale: bool,
}

/// How many commands of a kind may be open, so that their replies stay within bounds: by the sizes seen
/// lately.
#[derive(Debug)]
pub(crate) struct Ahead {
    open: usize,
    reply_len: usize,
    bytes_max: usize,
}

impl Ahead {
    /// Reads: a first one may be answered with megabytes.
    pub(crate) const fn of_reads() -> Self {
        Self { open: 0, reply_len: 2 << 20, bytes_max: 32 << 20 }
    }

    /// Writes that are answered with a value, of all connections together: nobody can hold back the reply to
    /// what is carried out, so the first few wait for one another.
    pub(crate) const fn of_large_writes() -> Self {
        Self { open: 0, reply_len: 16 << 20, bytes_max: 64 << 20 }
    }

    /// Writes: most are answered with a word.
    const fn of_writes() -> Self {
        Self { open: 0, reply_len: 16 << 10, bytes_max: 64 << 20 }
    }

    /// Whether so many more may be opened: one always.
    pub(crate) const fn takes(&self, more: usize) -> bool {
        let ahead = self.reply_len.saturating_mul(self.open + more);
        self.open + more <= 1 || ahead <= self.bytes_max
    }

    pub(crate) const fn open(&mut self) {
        self.open += 1;
    }

    /// One of them was answered, or will not be.
    pub(crate) fn close(&mut self, reply: Option<&Bytes>) {
        debug_assert!(self.open > 0);
        self.open = self.open.saturating_sub(1);
        if let Some(reply) = reply {
            self.reply_len = reply.len().max(self.reply_len - self.reply_len / 8).max(1024);
        }
    }
}

#[derive(Debug)]
struct Command {
    shape: u64,
    came: Instant,
    len: usize,
    /// A write whose reply may be large.
    is_large: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Write(Bytes),
    WriteOpen,
    Read(Bytes),
    /// Asked by itself, behind this number; not tied to a write yet.
    ReadOpen(Bytes, Option<(SessionId, RequestNumber)>),
    /// Tied to a write, or asked of the state as it is.
    ReadGone,
    ReadStale(Bytes),
    Replied(Bytes),
    Failed(Failure),
    Answer(Bytes),
    Close(Bytes),
}

/// The next command to hand over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due<'a> {
    /// A write, with all reads before it.
    Write(&'a Bytes),
    Read(&'a Bytes),
    ReadStale(&'a Bytes),
}

/// A read that must be answered before a write is carried out: its position and body.
pub(crate) type Tied = (u64, Bytes);

/// A read to be asked of the state: its position, its body, and after which number.
pub(crate) type Asked = (u64, Bytes, Option<(SessionId, RequestNumber)>);

/// An answer whose turn has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Reply { shape: u64, reply: Bytes },
    Failed { shape: u64, failure: Failure },
    Answer(Bytes),
    Close(Bytes),
}

impl Pipeline {
    pub(crate) const fn new() -> Self {
        Self {
            commands: VecDeque::new(),
            first: 0,
            next: 0,
            due: 0,
            writes: VecDeque::new(),
            behind: Stretch { write: 0, reads: 0, stale: false },
            loose: VecDeque::new(),
            asked_below: 0,
            reads: Ahead::of_reads(),
            open_writes: Ahead::of_writes(),
            last_write: None,
            held_bytes: 0,
            asked_bytes: 0,
            moved: false,
            moved_at: Instant(0),
        }
    }

    /// How many commands are not answered.
    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    /// Bytes of answers and replies that wait for an earlier command's.
    pub(crate) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Bytes of memory that all of it takes.
    pub(crate) fn held(&self) -> usize {
        self.asked_bytes + self.held_bytes + self.commands.len() * COMMAND_BYTES
    }

    /// A command came.
    pub(crate) fn push(&mut self, parsed: Parsed, now: Instant) {
        let position = self.first + self.commands.len() as u64;
        let mut is_large = false;
        let (shape, len, stage) = match parsed {
            Parsed::Write { body, shape, large } => {
                is_large = large;
                let behind = std::mem::take(&mut self.behind);
                self.writes.push_back(Stretch { write: position, ..behind });
                (shape, body.len(), Stage::Write(body))
            }
            Parsed::Read { body, shape } => {
                self.behind.reads += 1;
                (shape, body.len(), Stage::Read(body))
            }
            Parsed::ReadStale { body, shape } => {
                self.behind.stale = true;
                (shape, body.len(), Stage::ReadStale(body))
            }
            Parsed::Answer(bytes) => {
                self.held_bytes += bytes.len();
                (0, 0, Stage::Answer(bytes))
            }
            Parsed::Close(bytes) => {
                self.held_bytes += bytes.len();
                (0, 0, Stage::Close(bytes))
            }
        };
        self.asked_bytes += len;
        self.commands.push_back(Command { shape, came: now, len, is_large, stage });
    }

    /// The next command that may be handed over now, and its position.
    pub(crate) fn due(&mut self) -> Option<(u64, Due<'_>)> {
        while let Some(command) = self.commands.get(self.at(self.next)?) {
            match command.stage {
                Stage::Write(_) | Stage::Read(_) | Stage::ReadStale(_) => break,
                _ => self.next += 1,
            }
        }
        self.due = self.next;
        let ties = |write: &&Stretch| !write.stale && self.reads.takes(write.reads);
        if let Stage::Read(_) = self.commands.get(self.at(self.next)?)?.stage
            && let Some(write) = self.writes.front().filter(ties)
        {
            self.due = write.write;
        }
        let position = self.due;
        match &self.commands.get(self.at(position)?)?.stage {
            Stage::Write(body) if self.open_writes.takes(1) => Some((position, Due::Write(body))),
            Stage::Read(body) if self.reads.takes(1) => Some((position, Due::Read(body))),
            Stage::ReadStale(body) if self.reads.takes(1) => Some((position, Due::ReadStale(body))),
            _ => None,
        }
    }

    /// Whether the due command is a write whose reply may be large.
    pub(crate) fn is_due_large(&self) -> bool {
        let command = self.at(self.due).and_then(|at| self.commands.get(at));
        command.is_some_and(|command| command.is_large)
    }

    /// The due write got this number. Returns the reads that have to be answered right before it.
    pub(crate) fn write_handed_over(
        &mut self,
        session: SessionId,
        number: RequestNumber,
    ) -> Vec<Tied> {
        let mut tied = Vec::new();
        for position in std::mem::take(&mut self.loose) {
            let Some(command) = self.command(position) else { continue };
            if let Stage::ReadOpen(body, _) = &command.stage {
                let body = body.clone();
                command.stage = Stage::ReadGone;
                tied.push((position, body));
            }
        }
        for position in self.next..self.due {
            let Some(command) = self.command(position) else { continue };
            if let Stage::Read(body) = &command.stage {
                let body = body.clone();
                command.stage = Stage::ReadGone;
                self.reads.open();
                tied.push((position, body));
            }
        }
        self.writes.pop_front();
        self.open_writes.open();
        self.last_write = Some((self.due, session, number));
        self.hand_over(Stage::WriteOpen);
        tied
    }

    /// The due read was handed over by itself.
    pub(crate) fn read_handed_over(&mut self) {
        let after = self.last_write.map(|(_, session, number)| (session, number));
        let (due, stretch) = (self.due, self.writes.front_mut().unwrap_or(&mut self.behind));
        debug_assert!(stretch.reads > 0);
        stretch.reads = stretch.reads.saturating_sub(1);
        self.reads.open();
        if let Some(command) = self.command(due)
            && let Stage::Read(body) = &command.stage
        {
            let body = body.clone();
            while self.loose.front().is_some_and(|position| *position < self.first) {
                self.loose.pop_front();
            }
            self.loose.push_back(due);
            self.hand_over(Stage::ReadOpen(body, after));
        }
    }

    /// The leader told from which slot on a read may be answered. Adds to `asked` what is to be asked: this
    /// read and those before it of which the leader has told nothing yet, since they came before it, and an
    /// earlier read must not see a later state. None where they were tied to a write since, or given up.
    pub(crate) fn ask(&mut self, position: u64, asked: &mut Vec<Asked>) {
        let from = self.loose.partition_point(|read| *read < self.asked_below);
        let upto = self.loose.partition_point(|read| *read <= position);
        self.asked_below = self.asked_below.max(position + 1);
        for &read in self.loose.range(from..upto.max(from)) {
            let at = read.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
            let command = at.and_then(|at| self.commands.get(at));
            if let Some(Command { stage: Stage::ReadOpen(body, after), .. }) = command {
                asked.push((read, body.clone(), *after));
            }
        }
    }

    /// The due stale read was handed over: it waits for nothing.
    pub(crate) fn stale_read_handed_over(&mut self) {
        self.reads.open();
        self.hand_over(Stage::ReadGone);
    }

    /// The due command will not be handed over.
    pub(crate) fn refuse(&mut self, failure: Failure) {
        let due = self.due;
        let stage = self
            .command(due)
            .map(|command| std::mem::replace(&mut command.stage, Stage::Failed(failure)));
        match stage {
            Some(Stage::Write(_)) => {
                if let Some(refused) = self.writes.pop_front() {
                    let next = self.writes.front_mut().unwrap_or(&mut self.behind);
                    next.reads += refused.reads;
                    next.stale |= refused.stale;
                }
            }
            Some(Stage::Read(_)) => {
                let stretch = self.writes.front_mut().unwrap_or(&mut self.behind);
                stretch.reads = stretch.reads.saturating_sub(1);
            }
            _ => {}
        }
    }

    fn hand_over(&mut self, stage: Stage) {
        let due = self.due;
        if let Some(command) = self.command(due) {
            command.stage = stage;
            self.next = due + 1;
        }
    }

    /// What came of an open command. Ignored where it was given up.
    pub(crate) fn answer(&mut self, position: u64, outcome: Result<Bytes, Failure>) {
        let Some(at) = self.at(position) else { return };
        let Some(command) = self.commands.get_mut(at) else { return };
        match command.stage {
            Stage::WriteOpen => {
                if self.last_write.is_some_and(|(last, ..)| last == position) {
                    self.last_write = None;
                }
                self.open_writes.close(outcome.as_ref().ok());
            }
            Stage::ReadOpen(..) | Stage::ReadGone => self.reads.close(outcome.as_ref().ok()),
            _ => return,
        }
        self.moved = true;
        command.stage = match outcome {
            Ok(reply) => {
                self.held_bytes += reply.len();
                Stage::Replied(reply)
            }
            Err(failure) => Stage::Failed(failure),
        };
    }

    /// Gives up what was handed over once nothing was answered for `patience`. Returns whether there
    /// was anything.
    pub(crate) fn give_up_overdue(&mut self, now: Instant, patience: Duration) -> bool {
        if std::mem::take(&mut self.moved) {
            self.moved_at = now;
        }
        if now.since(self.moved_at) < patience {
            return false;
        }
        let mut overdue = Vec::new();
        for (position, command) in (self.first..).zip(&self.commands) {
            if now.since(command.came) < patience {
                break;
            }
            match command.stage {
                Stage::WriteOpen => overdue.push((position, Failure::Uncertain)),
                Stage::ReadOpen(..) | Stage::ReadGone => {
                    overdue.push((position, Failure::Unavailable));
                }
                _ => {}
            }
        }
        let any = !overdue.is_empty();
        for (position, failure) in overdue {
            self.answer(position, Err(failure));
        }
        any
    }

    /// Whether the due command has been waiting for `patience` without being handed over, and none
    /// before it was answered in that time.
    pub(crate) fn is_due_overdue(&self, now: Instant, patience: Duration) -> bool {
        let command = self.at(self.due).and_then(|at| self.commands.get(at));
        command.is_some_and(|command| now.since(command.came.max(self.moved_at)) >= patience)
    }

    /// Takes the answer of the first command, once it is there.
    pub(crate) fn turn(&mut self) -> Option<Turn> {
        let command = self.commands.front()?;
        if !matches!(
            command.stage,
            Stage::Replied(_) | Stage::Failed(_) | Stage::Answer(_) | Stage::Close(_)
        ) {
            return None;
        }
        let Command { shape, len, stage, .. } = self.commands.pop_front()?;
        self.first += 1;
        self.next = self.next.max(self.first);
        self.asked_bytes -= len;
        if self.commands.is_empty() && self.commands.capacity() > KEEP_COMMANDS_MAX {
            (self.commands, self.writes, self.loose) = Default::default();
        }
        let turn = match stage {
            Stage::Replied(reply) => Turn::Reply { shape, reply },
            Stage::Failed(failure) => Turn::Failed { shape, failure },
            Stage::Answer(bytes) => Turn::Answer(bytes),
            Stage::Close(bytes) => Turn::Close(bytes),
            _ => return None,
        };
        if let Turn::Reply { reply: bytes, .. } | Turn::Answer(bytes) | Turn::Close(bytes) = &turn {
            self.held_bytes -= bytes.len();
        }
        Some(turn)
    }

    fn command(&mut self, position: u64) -> Option<&mut Command> {
        let at = self.at(position)?;
        self.commands.get_mut(at)
    }

    fn at(&self, position: u64) -> Option<usize> {
        usize::try_from(position.checked_sub(self.first)?).ok()
    }
}

#[cfg(test)]
mod tests;
