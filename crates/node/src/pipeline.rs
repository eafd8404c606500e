//! The commands of one front connection, from arrival to answer: handed over in order, answered in
//! order. Pure: no socket, no session.
//!
//! A read is carried out after every earlier write of its connection; a write is handed over only
//! when every earlier read has been carried out. So a read never sees a later command.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use mainstay_model::{Instant, RequestNumber, SessionId};

use crate::front::{Failure, Parsed};

/// The largest replies that open reads of one connection may add up to, by the sizes seen lately.
const READ_AHEAD_BYTES: usize = 32 << 20;
/// How large a reply is taken to be before the first was seen.
const REPLY_LEN_GUESS: usize = 512 << 10;
/// The most reads of one connection that are open at once.
const READS_MAX: usize = 1024;

/// Commands in the order in which they came.
#[derive(Debug)]
pub(crate) struct Pipeline {
    commands: VecDeque<Command>,
    /// The position of the first of `commands` since the connection was opened.
    first: u64,
    /// The position of the next one to be handed over.
    next: u64,
    reads_open: usize,
    /// The last write that was handed over and not answered: reads wait for it.
    last_write: Option<(u64, SessionId, RequestNumber)>,
    reply_len: usize,
    /// Bytes of replies that wait for an earlier command's.
    held_bytes: usize,
    /// Bytes of all of `commands`, as they came.
    asked_bytes: usize,
    /// Whether anything was answered since `moved_at` was last set.
    moved: bool,
    /// When that was last looked at and something had been answered.
    moved_at: Instant,
}

#[derive(Debug)]
struct Command {
    shape: u64,
    came: Instant,
    len: usize,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Write(Bytes),
    WriteOpen,
    Read(Bytes),
    ReadOpen,
    ReadStale(Bytes),
    Replied(Bytes),
    Failed(Failure),
    Answer(Bytes),
    Close(Bytes),
}

/// The next command to hand over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due<'a> {
    Write(&'a Bytes),
    Read(&'a Bytes),
    ReadStale(&'a Bytes),
}

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
            reads_open: 0,
            last_write: None,
            reply_len: REPLY_LEN_GUESS,
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

    /// Bytes of replies that wait for an earlier command's.
    pub(crate) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Bytes of the commands that are not answered.
    pub(crate) const fn asked_bytes(&self) -> usize {
        self.asked_bytes
    }

    /// A command came.
    pub(crate) fn push(&mut self, parsed: Parsed, now: Instant) {
        let (shape, stage) = match parsed {
            Parsed::Write { body, shape } => (shape, Stage::Write(body)),
            Parsed::Read { body, shape } => (shape, Stage::Read(body)),
            Parsed::ReadStale { body, shape } => (shape, Stage::ReadStale(body)),
            Parsed::Answer(bytes) => (0, Stage::Answer(bytes)),
            Parsed::Close(bytes) => (0, Stage::Close(bytes)),
        };
        let len = match &stage {
            Stage::Write(bytes) | Stage::Read(bytes) | Stage::ReadStale(bytes) => bytes.len(),
            _ => 0,
        };
        self.asked_bytes += len;
        self.commands.push_back(Command { shape, came: now, len, stage });
    }

    /// The next command that may be handed over now, and its position.
    pub(crate) fn due(&mut self) -> Option<(u64, Due<'_>)> {
        while let Some(command) = self.commands.get(self.at(self.next)?) {
            match command.stage {
                Stage::Write(_) | Stage::Read(_) | Stage::ReadStale(_) => break,
                _ => self.next += 1,
            }
        }
        let position = self.next;
        match &self.commands.get(self.at(position)?)?.stage {
            Stage::Write(body) if self.reads_open == 0 => Some((position, Due::Write(body))),
            Stage::Read(body) if self.may_read() => Some((position, Due::Read(body))),
            Stage::ReadStale(body) if self.may_read() => Some((position, Due::ReadStale(body))),
            _ => None,
        }
    }

    fn may_read(&self) -> bool {
        let ahead = self.reply_len.saturating_mul(self.reads_open + 1);
        self.reads_open == 0 || (self.reads_open < READS_MAX && ahead <= READ_AHEAD_BYTES)
    }

    /// The due write got this number.
    pub(crate) fn write_handed_over(&mut self, session: SessionId, number: RequestNumber) {
        self.last_write = Some((self.next, session, number));
        self.set_next(Stage::WriteOpen);
    }

    /// The due read was handed over. Returns the number that it has to wait for.
    pub(crate) fn read_handed_over(&mut self) -> Option<(SessionId, RequestNumber)> {
        self.reads_open += 1;
        self.set_next(Stage::ReadOpen);
        self.last_write.map(|(_, session, number)| (session, number))
    }

    /// The due stale read was handed over: it waits for nothing.
    pub(crate) fn stale_read_handed_over(&mut self) {
        self.reads_open += 1;
        self.set_next(Stage::ReadOpen);
    }

    /// The due command will not be handed over.
    pub(crate) fn refuse(&mut self, failure: Failure) {
        self.set_next(Stage::Failed(failure));
    }

    fn set_next(&mut self, stage: Stage) {
        if let Some(command) = self.at(self.next).and_then(|at| self.commands.get_mut(at)) {
            command.stage = stage;
            self.next += 1;
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
            }
            Stage::ReadOpen => {
                self.reads_open -= 1;
                if let Ok(reply) = &outcome {
                    self.reply_len = reply.len().max(self.reply_len - self.reply_len / 8).max(64);
                }
            }
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
                Stage::ReadOpen => overdue.push((position, Failure::Unavailable)),
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
        let command = self.at(self.next).and_then(|at| self.commands.get(at));
        command.is_some_and(|command| now.since(command.came.max(self.moved_at)) >= patience)
    }

    /// Takes the answer of the first command, once it is there.
    pub(crate) fn turn(&mut self) -> Option<Turn> {
        let open = Stage::WriteOpen;
        let command = self.commands.front_mut()?;
        if matches!(
            command.stage,
            Stage::Write(_)
                | Stage::WriteOpen
                | Stage::Read(_)
                | Stage::ReadStale(_)
                | Stage::ReadOpen
        ) {
            return None;
        }
        let shape = command.shape;
        self.asked_bytes -= command.len;
        let turn = match std::mem::replace(&mut command.stage, open) {
            Stage::Replied(reply) => {
                self.held_bytes -= reply.len();
                Turn::Reply { shape, reply }
            }
            Stage::Failed(failure) => Turn::Failed { shape, failure },
            Stage::Answer(bytes) => Turn::Answer(bytes),
            Stage::Close(bytes) => Turn::Close(bytes),
            _ => return None,
        };
        self.commands.pop_front();
        self.first += 1;
        self.next = self.next.max(self.first);
        Some(turn)
    }

    fn at(&self, position: u64) -> Option<usize> {
        usize::try_from(position.checked_sub(self.first)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_model::Slot;

    const SESSION: SessionId = SessionId { slot: Slot(1), position: 0 };

    fn write(body: &'static str) -> Parsed {
        Parsed::Write { body: body.into(), shape: 1 }
    }

    fn read(body: &'static str) -> Parsed {
        Parsed::Read { body: body.into(), shape: 2 }
    }

    fn pipeline(commands: impl IntoIterator<Item = Parsed>) -> Pipeline {
        let mut pipeline = Pipeline::new();
        commands.into_iter().for_each(|command| pipeline.push(command, Instant(0)));
        pipeline
    }

    #[test]
    fn a_read_waits_for_the_write_before_it_and_the_write_after_it_waits_for_the_read() {
        let mut p = pipeline([write("a"), read("b"), write("c")]);
        assert_eq!(p.due(), Some((0, Due::Write(&"a".into()))));
        p.write_handed_over(SESSION, RequestNumber(1));
        assert_eq!(p.due(), Some((1, Due::Read(&"b".into()))));
        assert_eq!(p.read_handed_over(), Some((SESSION, RequestNumber(1))));
        assert_eq!(p.due(), None);
        p.answer(0, Ok("A".into()));
        assert_eq!(p.due(), None);
        p.answer(1, Ok("B".into()));
        assert_eq!(p.due(), Some((2, Due::Write(&"c".into()))));
    }

    #[test]
    fn a_stale_read_waits_for_no_write_and_holds_back_the_one_behind_it() {
        let stale = Parsed::ReadStale { body: "b".into(), shape: 2 };
        let mut p = pipeline([write("a"), stale, write("c")]);
        assert_eq!(p.due(), Some((0, Due::Write(&"a".into()))));
        p.write_handed_over(SESSION, RequestNumber(1));
        assert_eq!(p.due(), Some((1, Due::ReadStale(&"b".into()))));
        p.stale_read_handed_over();
        assert_eq!(p.due(), None);
        p.answer(1, Ok("B".into()));
        assert_eq!(p.due(), Some((2, Due::Write(&"c".into()))));
        assert_eq!(p.turn(), None, "answers leave in order");
        p.answer(0, Ok("A".into()));
        assert_eq!(p.turn(), Some(Turn::Reply { shape: 1, reply: "A".into() }));
        assert_eq!(p.turn(), Some(Turn::Reply { shape: 2, reply: "B".into() }));
    }

    #[test]
    fn answers_leave_in_the_order_of_the_commands() {
        let mut p = pipeline([read("a"), Parsed::Answer("x".into()), read("b")]);
        p.due();
        p.read_handed_over();
        assert_eq!(p.due(), Some((2, Due::Read(&"b".into()))));
        p.read_handed_over();
        p.answer(2, Ok("B".into()));
        assert_eq!(p.turn(), None);
        assert_eq!(p.held_bytes(), 1);
        p.answer(0, Err(Failure::Unavailable));
        assert_eq!(p.turn(), Some(Turn::Failed { shape: 2, failure: Failure::Unavailable }));
        assert_eq!(p.turn(), Some(Turn::Answer("x".into())));
        assert_eq!(p.turn(), Some(Turn::Reply { shape: 2, reply: "B".into() }));
        assert_eq!((p.turn(), p.len(), p.held_bytes()), (None, 0, 0));
    }

    #[test]
    fn an_open_write_given_up_is_uncertain_and_its_late_reply_is_dropped() {
        let mut p = pipeline([write("a"), read("b")]);
        p.due();
        p.write_handed_over(SESSION, RequestNumber(1));
        let patience = Duration::from_secs(10);
        p.give_up_overdue(Instant(9_999_999_999), patience);
        assert_eq!(p.turn(), None);
        p.give_up_overdue(Instant(10_000_000_000), patience);
        assert_eq!(p.turn(), Some(Turn::Failed { shape: 1, failure: Failure::Uncertain }));
        p.answer(0, Ok("late".into()));
        assert_eq!(p.turn(), None);
        p.due();
        assert_eq!(p.read_handed_over(), None);
    }

    #[test]
    fn nothing_is_given_up_while_something_is_answered() {
        let patience = Duration::from_secs(10);
        let at = |seconds: u64| Instant(seconds * 1_000_000_000);
        let mut p = pipeline([write("aa"), write("b"), write("c")]);
        assert_eq!(p.asked_bytes(), 4);
        for number in 1..=2 {
            p.due();
            p.write_handed_over(SESSION, RequestNumber(number));
        }
        p.answer(0, Ok("A".into()));
        assert!(!p.give_up_overdue(at(11), patience));
        assert!(p.due().is_some() && !p.is_due_overdue(at(12), patience));
        p.turn();
        assert_eq!(p.asked_bytes(), 2);
        assert!(!p.give_up_overdue(at(20), patience));
        assert!(p.give_up_overdue(at(21), patience));
        assert!(p.is_due_overdue(at(21), patience));
    }

    #[test]
    fn a_refused_command_is_answered_in_its_turn() {
        let mut p = pipeline([read("a"), write("b")]);
        p.due();
        p.refuse(Failure::Loading);
        assert_eq!(p.due(), Some((1, Due::Write(&"b".into()))));
        p.refuse(Failure::Unavailable);
        assert_eq!(p.turn(), Some(Turn::Failed { shape: 2, failure: Failure::Loading }));
        assert_eq!(p.turn(), Some(Turn::Failed { shape: 1, failure: Failure::Unavailable }));
        assert!(!p.is_due_overdue(Instant(u64::MAX), Duration::ZERO));
    }

    #[test]
    fn large_replies_narrow_the_reads_that_are_open_at_once() {
        let mut p = pipeline((0..100).map(|_| read("a")));
        let mut open = 0;
        while p.due().is_some() {
            p.read_handed_over();
            open += 1;
        }
        assert_eq!(open, READ_AHEAD_BYTES / REPLY_LEN_GUESS);
        p.answer(0, Ok(vec![0; 16 << 20].into()));
        (1..open as u64).for_each(|n| p.answer(n, Ok("small".into())));
        assert!(p.due().is_some());
        let mut more = 0;
        while p.due().is_some() {
            p.read_handed_over();
            more += 1;
        }
        assert!(more > 1 && more <= 100, "{more}");
    }
}
