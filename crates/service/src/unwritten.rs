//! States on their way to the disk: which is written next, and what becomes of one that could not be.
//!
//! A checkpoint that is due is never skipped while it can be written: two states at most are out of
//! the executor's hands, and at a third one execution waits. One that could not be written is tried
//! again. While it fails, execution does not wait for it: it makes way once two later ones are due,
//! so that what is left is what the other replicas can still have, too.

use std::collections::VecDeque;

use mainstay_model::{NoPlants, Plant, Plants};

/// How many states are out of the executor's hands.
const STATES_MAX: usize = 2;

/// What the one at work stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// None is.
    Idle,
    /// It is being written.
    Writing,
    /// It could not be written, and is tried again.
    Failing,
    /// The same, and later ones have taken its place.
    GivenUp,
}

/// See the module. Whoever writes takes one state, and says what came of it before the next.
#[derive(Debug)]
pub struct Unwritten<T, P = NoPlants> {
    plants: P,
    waiting: VecDeque<T>,
    work: Work,
}

impl<T, P: Plants> Unwritten<T, P> {
    /// No state yet.
    pub const fn new(plants: P) -> Self {
        Self { plants, waiting: VecDeque::new(), work: Work::Idle }
    }

    /// Whether execution has to wait before it hands out another one.
    pub fn is_full(&self) -> bool {
        self.work != Work::Failing && self.out() >= STATES_MAX
    }

    fn out(&self) -> usize {
        self.waiting.len() + usize::from(matches!(self.work, Work::Writing | Work::Failing))
    }

    /// Takes a state that is due; gives it back where execution has to wait.
    ///
    /// # Errors
    /// The state: two others are out, and none of them fails.
    pub fn offer(&mut self, state: T) -> Result<(), T> {
        if self.is_full() {
            return Err(state);
        }
        if self.out() >= STATES_MAX {
            self.work = Work::GivenUp;
        }
        self.waiting.push_back(state);
        Ok(())
    }

    /// The state to write next, unless one is at work.
    pub fn take(&mut self) -> Option<T> {
        if self.work != Work::Idle {
            return None;
        }
        let next = self.waiting.pop_front()?;
        self.work = Work::Writing;
        Some(next)
    }

    /// The one at work could not be written. Whether it is tried again, after a pause.
    #[must_use]
    pub fn failed(&mut self) -> bool {
        if self.work == Work::Writing {
            self.work = Work::Failing;
        }
        self.work == Work::Failing && !self.plants.has(Plant::CheckpointGivenUp)
    }

    /// The one at work is tried again; false if it has been given up meanwhile.
    #[must_use]
    pub fn try_again(&mut self) -> bool {
        let tries = self.work == Work::Failing;
        if tries {
            self.work = Work::Writing;
        }
        tries
    }

    /// Whether later ones have taken the place of the one at work.
    pub fn is_given_up(&self) -> bool {
        self.work == Work::GivenUp
    }

    /// The one at work is durable, or nobody wants it any more.
    pub fn end(&mut self) {
        self.work = Work::Idle;
    }

    /// Forgets those that wait: they are of a state that is no longer the replica's.
    pub fn forget(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn execution_waits_for_what_is_written_and_not_for_what_fails() {
        let mut states = Unwritten::new(NoPlants);
        assert_eq!(states.take(), None);
        assert_eq!((states.offer(1), states.take()), (Ok(()), Some(1)));
        assert_eq!((states.offer(2), states.offer(3)), (Ok(()), Err(3)), "two are out");
        assert_eq!(states.take(), None, "one at a time");
        assert!(states.failed(), "it is tried again");
        assert!(states.try_again());
        assert_eq!(states.offer(3), Err(3), "it may be written now");
        assert!(states.failed());
        assert_eq!(states.offer(3), Ok(()), "it makes way");
        assert!(states.is_given_up() && !states.try_again() && !states.failed());
        assert_eq!(states.offer(4), Err(4), "two are out");
        states.end();
        assert_eq!((states.take(), states.offer(4)), (Some(2), Err(4)));
        states.end();
        assert_eq!((states.take(), states.offer(4)), (Some(3), Ok(())));
        states.forget();
        states.end();
        assert_eq!(states.take(), None);
    }
}
