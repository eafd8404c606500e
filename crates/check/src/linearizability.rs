//! Whether a history is linearizable: whether every operation can be given a point in time between
//! its invocation and its return such that, one after the other at those points, a single copy
//! would have given the same replies (Herlihy and Wing, "Linearizability: a correctness condition
//! for concurrent objects", 1990, section 2).
//!
//! The search is the one of Wing and Gong ("Testing and verifying concurrent objects", 1993) with
//! the memory of Lowe ("Testing for linearizability", 2017): depth first over which operation comes
//! next, never twice into the same set of operations and state. Two things are our own, for
//! histories of crashes, in which many operations have unknown outcomes. Such operations stand
//! outside the list that is searched, are tried only when nothing else goes on, those first whose
//! effect lets a known reply be explained. And three exchange arguments leave most of them out: one
//! that changes nothing is not needed; of two equal ones the earlier is as good; one whose effect
//! is overwritten by what comes right after it is not needed.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Debug};
use std::hash::{BuildHasherDefault, Hash};

use crate::history::{History, Operation, Time};
use crate::observation::Violation;

/// Enough for histories of tens of thousands of operations; some hundred megabytes at worst.
pub const STEPS_MAX: u64 = 2_000_000;

/// How many operations of a kind, and states, an explanation names.
const EXPLAINED_MAX: usize = 8;

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

    /// Whether `later` right after `earlier` leads to the state and the reply to which it would lead
    /// without `earlier`. Only makes the search shorter; `false` is always right.
    fn overwrites(&self, _later: &Self::Op, _earlier: &Self::Op) -> bool {
        false
    }

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
    let operations: Vec<_> = history.operations().collect();
    let partitions =
        model.partitions(&operations).unwrap_or_else(|| vec![(0..operations.len()).collect()]);
    let mut steps = 0;
    let mut too_hard = false;
    for partition in partitions {
        let part: Vec<_> = partition.iter().map(|&at| operations[at]).collect();
        let mut search = Search::new(model, &part, steps_max.saturating_sub(steps));
        let end = search.run();
        steps += search.steps;
        match end {
            End::Found => {}
            End::Exhausted => return Verdict::Violation(search.explain()),
            End::TooHard => too_hard = true,
        }
    }
    if too_hard { Verdict::TooHard { steps } } else { Verdict::Linearizable }
}

enum End {
    Found,
    Exhausted,
    TooHard,
}

/// An operation with a reply.
struct Known<'a, O, R> {
    operation: &'a Operation<O, R>,
    op: &'a O,
    ret: &'a R,
    returned: Time,
}

/// Position in the list of invocations and returns; 0 is its head.
type Position = usize;

/// Where an entry of the list belongs to.
#[derive(Clone, Copy)]
enum Entry {
    Head,
    Invoked(usize),
    Returned(usize),
}

struct Search<'a, M: Model> {
    model: &'a M,
    /// By time of invocation.
    known: Vec<Known<'a, M::Op, M::Ret>>,
    /// Those of unknown outcome, by time of invocation.
    unknown: Vec<&'a Operation<M::Op, M::Ret>>,
    /// For each unknown one, the equal one invoked right before it.
    twin: Vec<Option<usize>>,
    /// Invocations and returns of the known ones, by time, as a doubly linked list from which those
    /// that have their place in the order are lifted.
    entries: Vec<Entry>,
    next: Vec<Position>,
    previous: Vec<Position>,
    invocation_of: Vec<Position>,
    return_of: Vec<Position>,
    done: Done,
    seen: HashSet<Seen<M::State>, BuildHasherDefault<DefaultHasher>>,
    steps: u64,
    steps_max: u64,
    furthest: Option<Furthest<M::State>>,
}

/// A point of the search: nothing else decides what can come after it.
#[derive(PartialEq, Eq, Hash)]
struct Seen<S> {
    done: DoneKey,
    after_unknown: Option<usize>,
    state: S,
}

/// The operation that has come to be the last one in the order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    Known(usize),
    Unknown(usize),
}

impl Choice {
    const fn unknown(self) -> Option<usize> {
        if let Self::Unknown(at) = self { Some(at) } else { None }
    }
}

/// One decision of the search.
struct Frame<S> {
    before: S,
    choice: Choice,
    rest: Candidates,
}

/// What is left to be tried at a point of the search.
enum Candidates {
    /// The known ones from here on in the list.
    Known(Position),
    /// These unknown ones, the last one first.
    Unknown(Vec<usize>),
}

/// The point at which the search had to turn back furthest in time.
struct Furthest<S> {
    /// The return that could not be passed.
    position: Position,
    /// The last operations of the order that led there, the latest first.
    before: Vec<Choice>,
    /// Those that had not come and might have.
    concurrent: Vec<usize>,
    /// The state there, and those in which it was reached later.
    states: Vec<S>,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, part: &[&'a Operation<M::Op, M::Ret>], steps_max: u64) -> Self {
        let mut known = Vec::new();
        let mut unknown = Vec::new();
        for &operation in part {
            match &operation.returned {
                Some((ret, returned)) => {
                    known.push(Known { operation, op: &operation.op, ret, returned: *returned });
                }
                None => unknown.push(operation),
            }
        }
        known.sort_by_key(|known| known.operation.invoked);
        unknown.sort_by_key(|operation| operation.invoked);
        let twin = (0..unknown.len())
            .map(|at| (0..at).rev().find(|&before| unknown[before].op == unknown[at].op))
            .collect();

        // At equal times invocations come first, so that such operations count as concurrent.
        let mut events: Vec<(Time, bool, usize)> = Vec::with_capacity(2 * known.len());
        for (at, known) in known.iter().enumerate() {
            events.push((known.operation.invoked, false, at));
            events.push((known.returned, true, at));
        }
        events.sort_unstable();
        let mut entries = vec![Entry::Head];
        let (mut invocation_of, mut return_of) = (vec![0; known.len()], vec![0; known.len()]);
        for (_, returns, at) in events {
            if returns {
                return_of[at] = entries.len();
                entries.push(Entry::Returned(at));
            } else {
                invocation_of[at] = entries.len();
                entries.push(Entry::Invoked(at));
            }
        }
        let len = entries.len();
        Self {
            model,
            done: Done::new(known.len(), unknown.len()),
            known,
            unknown,
            twin,
            next: (0..len).map(|at| (at + 1) % len).collect(),
            previous: (0..len).map(|at| (at + len - 1) % len).collect(),
            entries,
            invocation_of,
            return_of,
            seen: HashSet::default(),
            steps: 0,
            steps_max,
            furthest: None,
        }
    }

    fn run(&mut self) -> End {
        let mut state = self.model.initial();
        let mut stack: Vec<Frame<M::State>> = Vec::new();
        let mut rest = Candidates::Known(self.next[0]);
        loop {
            if self.next[0] == 0 {
                return End::Found;
            }
            let after_unknown = stack.last().and_then(|frame| frame.choice.unknown());
            match self.choose(&state, &mut rest, after_unknown, &stack) {
                _ if self.steps > self.steps_max => return End::TooHard,
                Some((choice, after)) => {
                    self.place(choice);
                    let seen = Seen {
                        done: self.done.key(),
                        after_unknown: choice.unknown(),
                        state: after.clone(),
                    };
                    if self.seen.insert(seen) {
                        let before = std::mem::replace(&mut state, after);
                        let fresh = Candidates::Known(self.next[0]);
                        let rest = std::mem::replace(&mut rest, fresh);
                        stack.push(Frame { before, choice, rest });
                    } else {
                        self.take_back(choice);
                    }
                }
                None => {
                    let Some(frame) = stack.pop() else { return End::Exhausted };
                    self.take_back(frame.choice);
                    state = frame.before;
                    rest = frame.rest;
                }
            }
        }
    }

    /// The next candidate that can come next, with the state after it; moves past it.
    fn choose(
        &mut self,
        state: &M::State,
        rest: &mut Candidates,
        after_unknown: Option<usize>,
        stack: &[Frame<M::State>],
    ) -> Option<(Choice, M::State)> {
        if let Candidates::Known(position) = rest {
            while let Entry::Invoked(at) = self.entries[*position] {
                *position = self.next[*position];
                let known = &self.known[at];
                if self.makes_void(known.op, after_unknown) {
                    continue;
                }
                self.steps += 1;
                if let Some(after) = self.model.step(state, known.op, known.ret) {
                    return Some((Choice::Known(at), after));
                }
            }
            // The list is not empty, so this is a return: its operation should have come by now.
            self.note_furthest(*position, state, stack);
            *rest = Candidates::Unknown(self.unknown_candidates(*position, state, after_unknown));
        }
        let Candidates::Unknown(candidates) = rest else { return None };
        let at = candidates.pop()?;
        self.steps += 1;
        Some((Choice::Unknown(at), self.model.apply_unknown(state, &self.unknown[at].op)))
    }

    /// Whether with `op` next it would have been for nothing that the unknown operation right before
    /// was carried out.
    fn makes_void(&self, op: &M::Op, after_unknown: Option<usize>) -> bool {
        after_unknown.is_some_and(|at| self.model.overwrites(op, &self.unknown[at].op))
    }

    /// The unknown operations that may come next and may be of use, the most promising last.
    fn unknown_candidates(
        &mut self,
        blocked: Position,
        state: &M::State,
        after_unknown: Option<usize>,
    ) -> Vec<usize> {
        let Entry::Returned(at) = self.entries[blocked] else { return Vec::new() };
        let returned = self.known[at].returned;
        let (mut promising, mut others) = (Vec::new(), Vec::new());
        for at in 0..self.unknown.len() {
            let operation = self.unknown[at];
            if operation.invoked > returned {
                break;
            }
            let twin_is_free = self.twin[at].is_some_and(|twin| !self.done.has_unknown(twin));
            let void = self.makes_void(&operation.op, after_unknown);
            if self.done.has_unknown(at) || twin_is_free || void {
                continue;
            }
            self.steps += 1;
            let after = self.model.apply_unknown(state, &operation.op);
            if after == *state {
                continue;
            }
            let group = if self.helps(state, &after) { &mut promising } else { &mut others };
            group.push(at);
        }
        // The one invoked first comes first, within each group.
        promising.reverse();
        others.reverse();
        others.append(&mut promising);
        others
    }

    /// Whether some known operation can come next after `after` that could not after `before`.
    fn helps(&mut self, before: &M::State, after: &M::State) -> bool {
        let mut position = self.next[0];
        while let Entry::Invoked(at) = self.entries[position] {
            let known = &self.known[at];
            self.steps += 1;
            if self.model.step(after, known.op, known.ret).is_some()
                && self.model.step(before, known.op, known.ret).is_none()
            {
                return true;
            }
            position = self.next[position];
        }
        false
    }

    fn place(&mut self, choice: Choice) {
        match choice {
            Choice::Known(at) => {
                self.done.set_known(at);
                self.lift(self.invocation_of[at]);
                self.lift(self.return_of[at]);
            }
            Choice::Unknown(at) => self.done.flip_unknown(at),
        }
    }

    fn take_back(&mut self, choice: Choice) {
        match choice {
            Choice::Known(at) => {
                self.done.clear_known(at);
                self.put_back(self.return_of[at]);
                self.put_back(self.invocation_of[at]);
            }
            Choice::Unknown(at) => self.done.flip_unknown(at),
        }
    }

    fn lift(&mut self, position: Position) {
        let (previous, next) = (self.previous[position], self.next[position]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    /// Undoes the last lift that has not been undone.
    fn put_back(&mut self, position: Position) {
        let (previous, next) = (self.previous[position], self.next[position]);
        self.next[previous] = position;
        self.previous[next] = position;
    }

    fn note_furthest(&mut self, position: Position, state: &M::State, stack: &[Frame<M::State>]) {
        match &mut self.furthest {
            Some(furthest) if furthest.position > position => return,
            Some(furthest) if furthest.position == position => {
                if furthest.states.len() < EXPLAINED_MAX && !furthest.states.contains(state) {
                    furthest.states.push(state.clone());
                }
                return;
            }
            _ => {}
        }
        let mut concurrent = Vec::new();
        let mut entry = self.next[0];
        while let Entry::Invoked(at) = self.entries[entry] {
            if self.return_of[at] != position && concurrent.len() < EXPLAINED_MAX {
                concurrent.push(at);
            }
            entry = self.next[entry];
        }
        let before = stack.iter().rev().take(EXPLAINED_MAX).map(|frame| frame.choice).collect();
        let states = vec![state.clone()];
        self.furthest = Some(Furthest { position, before, concurrent, states });
    }

    fn explain(&self) -> Explanation {
        let furthest = self.furthest.as_ref().expect("a search that failed turned back somewhere");
        let Entry::Returned(at) = self.entries[furthest.position] else {
            unreachable!("the search turns back at returns only");
        };
        let tell = |choice: &Choice| match *choice {
            Choice::Known(at) => format!("{:?}", self.known[at].operation),
            Choice::Unknown(at) => format!("{:?}", self.unknown[at]),
        };
        Explanation {
            at: self.known[at].returned,
            unexplained: tell(&Choice::Known(at)),
            concurrent: furthest.concurrent.iter().map(|&at| tell(&Choice::Known(at))).collect(),
            before: furthest.before.iter().rev().map(tell).collect(),
            states: furthest.states.iter().map(|state| format!("{state:?}")).collect(),
        }
    }
}

/// Which operations have their place in the order.
struct Done {
    known: Vec<u64>,
    /// All words of `known` before this one are full.
    first: usize,
    /// All words of `known` from this one on are empty.
    end: usize,
    unknown: Vec<u64>,
}

/// The same, as small as it can be told: nearly all that is placed was invoked before all that is
/// not.
#[derive(PartialEq, Eq, Hash)]
struct DoneKey {
    first: usize,
    known: Box<[u64]>,
    unknown: Box<[u64]>,
}

impl Done {
    fn new(known: usize, unknown: usize) -> Self {
        let words = |count: usize| vec![0; count.div_ceil(64)];
        Self { known: words(known), first: 0, end: 0, unknown: words(unknown) }
    }

    fn set_known(&mut self, at: usize) {
        self.known[at / 64] |= 1 << (at % 64);
        self.end = self.end.max(at / 64 + 1);
        while self.first < self.end && self.known[self.first] == u64::MAX {
            self.first += 1;
        }
    }

    fn clear_known(&mut self, at: usize) {
        self.known[at / 64] &= !(1 << (at % 64));
        self.first = self.first.min(at / 64);
        while self.end > self.first && self.known[self.end - 1] == 0 {
            self.end -= 1;
        }
    }

    fn has_unknown(&self, at: usize) -> bool {
        self.unknown[at / 64] & (1 << (at % 64)) != 0
    }

    fn flip_unknown(&mut self, at: usize) {
        self.unknown[at / 64] ^= 1 << (at % 64);
    }

    fn key(&self) -> DoneKey {
        DoneKey {
            first: self.first,
            known: self.known[self.first..self.end].into(),
            unknown: self.unknown.as_slice().into(),
        }
    }
}
