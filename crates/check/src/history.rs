//! What clients saw: operations with the times at which they began and ended.

use std::fmt::{self, Debug};

/// A time in nanoseconds, on one clock for the whole history.
pub type Time = u64;

/// Names an operation of a [`History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(usize);

/// One thing that a client asked, and what it was told.
#[derive(Clone, PartialEq, Eq)]
pub struct Operation<O, R> {
    /// Who asked.
    pub process: u64,
    /// What was asked.
    pub op: O,
    /// When it was asked.
    pub invoked: Time,
    /// The reply, and when it was there. `None`: the outcome is unknown; it may have been carried
    /// out at any time after it was asked, and may still be, or never.
    pub returned: Option<(R, Time)>,
}

/// Operations, in the order in which they were recorded. Only their times say what came before
/// what: an operation came before another if it returned at an earlier time than the other was
/// invoked at. Times that are equal order nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History<O, R> {
    operations: Vec<Option<Operation<O, R>>>,
}

impl<O, R> Default for History<O, R> {
    fn default() -> Self {
        Self { operations: Vec::new() }
    }
}

impl<O, R> History<O, R> {
    /// No operations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `process` asked for `op`. Until something else is said, the outcome is unknown.
    pub fn invoke(&mut self, process: u64, op: O, at: Time) -> OperationId {
        self.operations.push(Some(Operation { process, op, invoked: at, returned: None }));
        OperationId(self.operations.len() - 1)
    }

    /// The reply came.
    ///
    /// # Panics
    /// If the operation was never invoked, has returned already, or was invoked later.
    pub fn returned(&mut self, id: OperationId, reply: R, at: Time) {
        let operation = self.operations[id.0].as_mut().expect("it was said not to be done");
        assert!(operation.returned.is_none(), "an operation returns once");
        assert!(operation.invoked <= at, "an operation returns after it was invoked");
        operation.returned = Some((reply, at));
    }

    /// The operation was certainly not carried out and never will be: it leaves the history.
    pub fn not_done(&mut self, id: OperationId) {
        self.operations[id.0] = None;
    }

    /// An operation with both its times.
    pub fn complete(&mut self, process: u64, op: O, invoked: Time, reply: R, returned: Time) {
        let id = self.invoke(process, op, invoked);
        self.returned(id, reply, returned);
    }

    /// Adds what was recorded elsewhere, on the same clock.
    pub fn extend(&mut self, other: Self) {
        self.operations.extend(other.operations);
    }

    /// The operations that may have been carried out.
    pub fn operations(&self) -> impl Iterator<Item = &Operation<O, R>> {
        self.operations.iter().flatten()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations().count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations().next().is_none()
    }
}

impl<O: Debug, R: Debug> Debug for Operation<O, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}: {:?} from {} ns ", self.process, self.op, self.invoked)?;
        match &self.returned {
            Some((reply, at)) => write!(f, "to {at} ns -> {reply:?}"),
            None => f.write_str("-> outcome unknown"),
        }
    }
}
