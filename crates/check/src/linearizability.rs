//! Whether a history is linearizable: whether every operation can be given a point in time between
//! its invocation and its return such that, one after the other at those points, a single copy
//! would have given the same replies (Herlihy and Wing, "Linearizability: a correctness condition
//! for concurrent objects", 1990, section 2).
//!
//! How such an order is searched for stands in `search.rs`.

use std::fmt::{self, Debug};
use std::hash::Hash;

use crate::history::{History, Operation, Time};
use crate::observation::Violation;
use crate::search::{End, Search};

/// Enough for histories of tens of thousands of operations; some hundred megabytes at worst.
pub const STEPS_MAX: u64 = 5_000_000;

/// What a single copy of the service would do.
pub trait Model {
    /// Its state.
    type State: Clone + Eq + Hash + Debug;
    /// What clients ask.
    type Op: Debug + PartialEq;
    /// What clients are told.
    type Ret: Debug;

    /// The state before the history.
    fn initial(&self) -> Self::State;

    /// The state after `op`, if carried out in `state` it would have been answered with `ret`.
    fn step(&self, state: &Self::State, op: &Self::Op, ret: &Self::Ret) -> Option<Self::State>;

    /// The state after `op`, whatever it was answered.
    fn apply_unknown(&self, state: &Self::State, op: &Self::Op) -> Self::State;

    /// Parts of the history that can be judged on their own, as indices: sound only if no operation
    /// of one part sees or changes anything of another. `None` for one part.
    fn partitions(
        &self,
        _operations: &[&Operation<Self::Op, Self::Ret>],
    ) -> Option<Vec<Vec<usize>>> {
        None
    }
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is such an order.
    Linearizable,
    /// There is none.
    Violation(Explanation),
    /// The budget was used up before either was known.
    TooHard {
        /// How many steps were tried.
        steps: u64,
    },
}

impl Verdict {
    /// The verdict as the violation of a property; one that could not be reached is none.
    ///
    /// # Errors
    /// Where there is no order.
    pub fn into_result(self) -> Result<(), Violation> {
        match self {
            Self::Linearizable | Self::TooHard { .. } => Ok(()),
            Self::Violation(explanation) => Err(Violation {
                property: "linearizable",
                at: explanation.at,
                detail: explanation.to_string(),
            }),
        }
    }
}

/// Why there is no order: how far the search came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// When the operation returned that no order gets past.
    pub at: Time,
    /// That operation.
    pub unexplained: String,
    /// The others that were in progress when it returned and had no place yet.
    pub concurrent: Vec<String>,
    /// The last operations of the first order found that leads there, oldest first.
    pub before: Vec<String>,
    /// The state after them, then those after other orders that lead there; a few of them.
    pub states: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no order of the operations explains [{}]; they lead to {}",
            self.unexplained,
            self.states.join(" or ")
        )?;
        if !self.before.is_empty() {
            write!(f, ", the first by way of [{}]", self.before.join("; "))?;
        }
        if !self.concurrent.is_empty() {
            write!(f, ", with [{}] in progress", self.concurrent.join("; "))?;
        }
        Ok(())
    }
}

/// Judges a history; gives up after `steps_max` steps of the model in all ([`STEPS_MAX`] where
/// nothing speaks for another number).
pub fn check<M: Model>(model: &M, history: &History<M::Op, M::Ret>, steps_max: u64) -> Verdict {
    judge(model, history, Order::Time, steps_max)
}

/// As [`check`], for clients that send the next request before the last one is answered and may
/// trust that theirs are carried out in turn: the operations of one process take effect in the
/// order in which they were invoked, or, at equal times, recorded. Such a history has no partitions.
pub fn check_pipelines<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    steps_max: u64,
) -> Verdict {
    judge(model, history, Order::Process, steps_max)
}

/// As [`check_pipelines`], with the partitions that the model names judged one by one: what a process asks
/// in one of them is carried out in turn, and nothing is said of what it asks in two. It finds less, and
/// takes far fewer steps.
pub fn check_partitioned_pipelines<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    steps_max: u64,
) -> Verdict {
    judge(model, history, Order::ProcessInPartition, steps_max)
}

/// What orders operations besides time, and which are judged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Time,
    Process,
    ProcessInPartition,
}

fn judge<M: Model>(
    model: &M,
    history: &History<M::Op, M::Ret>,
    order: Order,
    steps_max: u64,
) -> Verdict {
    let pipelined = order != Order::Time;
    let operations: Vec<_> = history.operations().collect();
    let whole = order == Order::Process;
    let partitions = if whole { None } else { model.partitions(&operations) };
    let partitions = partitions.unwrap_or_else(|| vec![(0..operations.len()).collect()]);
    let mut steps = 0;
    let mut too_hard = false;
    for partition in partitions {
        let part: Vec<_> = partition.iter().map(|&at| operations[at]).collect();
        let mut search = Search::new(model, &part, pipelined, steps_max.saturating_sub(steps));
        let end = search.run();
        steps += search.steps();
        match end {
            End::Found => {}
            End::Exhausted => return Verdict::Violation(search.explain()),
            End::TooHard => too_hard = true,
        }
    }
    if too_hard { Verdict::TooHard { steps } } else { Verdict::Linearizable }
}
