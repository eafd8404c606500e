//! The search for an order of operations that explains all replies.
//!
//! It is the one of Wing and Gong ("Testing and verifying concurrent objects", 1993) with the memory
//! of Lowe ("Testing for linearizability", 2017): depth first over which operation comes next, never
//! twice into the same set of operations and state. The rest is our own, for histories of crashes,
//! in which many operations have unknown outcomes. These stand outside the list that is searched and
//! are tried only when no known one goes on, those first that let a known reply be explained. If
//! there is an order, there is one in which
//!
//! - none of them changes nothing: it can be left out;
//! - of two equal ones the one invoked first comes first: they can change places;
//! - none of them could be left out or put off behind what comes right after it, with the same state
//!   and reply;
//!
//! (take one with the fewest of them, each as late as can be), so only such orders are tried. Those
//! with few of them in a row are tried first. And what failed with some of them left fails with
//! fewer left, too.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasherDefault, Hash};

use crate::history::{Operation, Time};
use crate::linearizability::{Explanation, Model};
use crate::pipelines::Pipelines;

/// How many operations of a kind, and states, an explanation names.
const EXPLAINED_MAX: usize = 8;

/// How many operations of unknown outcome may come in a row: tried one limit after the other.
const ROW_MAX: [usize; 4] = [1, 2, 4, usize::MAX];

/// How a search ended.
pub(crate) enum End {
    /// With an order.
    Found,
    /// With none left to be tried.
    Exhausted,
    /// With its budget used up.
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

pub(crate) struct Search<'a, M: Model> {
    model: &'a M,
    /// By time of invocation.
    known: Vec<Known<'a, M::Op, M::Ret>>,
    /// Those of unknown outcome, by time of invocation.
    unknown: Vec<&'a Operation<M::Op, M::Ret>>,
    /// For each unknown one, the equal one invoked right before it.
    twin: Vec<Option<usize>>,
    /// What comes before what in a pipeline; nothing where that is not asked for.
    pipelines: Pipelines,
    /// Invocations and returns of the known ones, by time, as a doubly linked list from which those
    /// that have their place in the order are lifted.
    entries: Vec<Entry>,
    next: Vec<Position>,
    previous: Vec<Position>,
    invocation_of: Vec<Position>,
    return_of: Vec<Position>,
    done: Done,
    /// Where the search has been, with the unknown ones that had been used up by then.
    seen: HashMap<Seen<M::State>, Vec<Words>, BuildHasherDefault<DefaultHasher>>,
    steps: u64,
    steps_max: u64,
    row_max: usize,
    /// Whether something was not tried because of `row_max`.
    row_cut: bool,
    furthest: Option<Furthest<M::State>>,
}

/// A bit for each operation.
type Words = Box<[u64]>;

/// A point of the search. Together with the unknown operations that are left it decides what can
/// come next; and from where more of them are left, all can be reached that can be with fewer.
#[derive(PartialEq, Eq, Hash)]
struct Seen<S> {
    known: KnownDone,
    state: S,
    /// The unknown ones that came last, in a row, and the state before the last of them.
    row: Option<(Vec<usize>, S)>,
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

/// The unknown ones that came last, in a row, the last one first.
fn row<S>(stack: &[Frame<S>]) -> impl Iterator<Item = usize> + '_ {
    stack.iter().rev().map_while(|frame| frame.choice.unknown())
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
    pub(crate) fn new(
        model: &'a M,
        part: &[&'a Operation<M::Op, M::Ret>],
        pipelined: bool,
        steps_max: u64,
    ) -> Self {
        let mut by_invocation: Vec<_> = part.to_vec();
        by_invocation.sort_by_key(|operation| operation.invoked);
        let mut pipelines = if pipelined { Pipelines::new() } else { Pipelines::none() };
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for operation in by_invocation {
            match &operation.returned {
                Some((ret, returned)) => {
                    pipelines.push_known(operation.process);
                    known.push(Known { operation, op: &operation.op, ret, returned: *returned });
                }
                None => {
                    pipelines.push_unknown(operation.process);
                    unknown.push(operation);
                }
            }
        }
        let may_replace = |a: &Operation<M::Op, M::Ret>, b: &Operation<M::Op, M::Ret>| {
            a.op == b.op && (!pipelined || a.process == b.process)
        };
        let twin = (0..unknown.len())
            .map(|at| (0..at).rev().find(|&before| may_replace(unknown[before], unknown[at])))
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
            pipelines,
            next: (0..len).map(|at| (at + 1) % len).collect(),
            previous: (0..len).map(|at| (at + len - 1) % len).collect(),
            entries,
            invocation_of,
            return_of,
            seen: HashMap::default(),
            steps: 0,
            steps_max,
            row_max: usize::MAX,
            row_cut: false,
            furthest: None,
        }
    }

    pub(crate) const fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn run(&mut self) -> End {
        for row_max in ROW_MAX {
            self.row_max = row_max;
            self.row_cut = false;
            self.seen.clear();
            match self.run_limited() {
                End::Exhausted if self.row_cut => {}
                end => return end,
            }
        }
        End::Exhausted
    }

    fn run_limited(&mut self) -> End {
        let mut state = self.model.initial();
        let mut stack: Vec<Frame<M::State>> = Vec::new();
        let mut rest = Candidates::Known(self.next[0]);
        loop {
            if self.next[0] == 0 {
                return End::Found;
            }
            match self.choose(&state, &mut rest, &stack) {
                _ if self.steps > self.steps_max => return End::TooHard,
                Some((choice, after)) => {
                    self.place(choice);
                    if self.is_new(&stack, choice, &state, &after) {
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

    /// Notes where the search has come to; false if it has been there with as many unknown ones
    /// left.
    fn is_new(
        &mut self,
        stack: &[Frame<M::State>],
        choice: Choice,
        before: &M::State,
        after: &M::State,
    ) -> bool {
        let row = choice.unknown().map(|at| {
            let mut row: Vec<usize> = row(stack).collect();
            row.push(at);
            (row, before.clone())
        });
        let seen = Seen { known: self.done.known_done(), state: after.clone(), row };
        let used = &self.done.unknown;
        let before = self.seen.entry(seen).or_default();
        self.steps += before.len() as u64 / 4;
        if before.iter().any(|before| is_subset(before, used)) {
            return false;
        }
        before.retain(|before| !is_subset(used, before));
        before.push(used.as_slice().into());
        true
    }

    /// The next candidate that can come next, with the state after it; moves past it.
    fn choose(
        &mut self,
        state: &M::State,
        rest: &mut Candidates,
        stack: &[Frame<M::State>],
    ) -> Option<(Choice, M::State)> {
        if let Candidates::Known(position) = rest {
            while let Entry::Invoked(at) = self.entries[*position] {
                *position = self.next[*position];
                let known = &self.known[at];
                if !self.pipelines.known_may_come(at, &self.done) {
                    continue;
                }
                self.steps += 1;
                let Some(after) = self.model.step(state, known.op, known.ret) else { continue };
                let choice = Choice::Known(at);
                if !self.made_pointless(stack, choice, &after) {
                    return Some((choice, after));
                }
            }
            // The list is not empty, so this is a return: its operation should have come by now.
            self.note_furthest(*position, state, stack);
            *rest = Candidates::Unknown(self.unknown_candidates(*position, state, stack));
        }
        let Candidates::Unknown(candidates) = rest else { return None };
        while let Some(at) = candidates.pop() {
            self.steps += 1;
            let after = self.model.apply_unknown(state, &self.unknown[at].op);
            let choice = Choice::Unknown(at);
            if !self.made_pointless(stack, choice, &after) {
                return Some((choice, after));
            }
        }
        None
    }

    /// Whether the unknown operation that came last could as well have been left out or put off,
    /// given that `choice` comes next and leads to `after`.
    fn made_pointless(
        &mut self,
        stack: &[Frame<M::State>],
        choice: Choice,
        after: &M::State,
    ) -> bool {
        let Some(Frame { before, choice: Choice::Unknown(last), .. }) = stack.last() else {
            return false;
        };
        let last_op = &self.unknown[*last].op;
        let free =
            |process| !self.pipelines.are_ordered() || self.unknown[*last].process != process;
        self.steps += 2;
        let (without, may_swap) = match choice {
            Choice::Known(at) => {
                let known = &self.known[at];
                let without = self.model.step(before, known.op, known.ret);
                (without, free(known.operation.process))
            }
            // Of two that may come in either order the one invoked first comes first.
            Choice::Unknown(at) => {
                let unknown = self.unknown[at];
                let without = self.model.apply_unknown(before, &unknown.op);
                (Some(without), at < *last && free(unknown.process))
            }
        };
        without.is_some_and(|without| {
            without == *after || (may_swap && self.model.apply_unknown(&without, last_op) == *after)
        })
    }

    /// The unknown operations that may come next and may be of use, the most promising last.
    fn unknown_candidates(
        &mut self,
        blocked: Position,
        state: &M::State,
        stack: &[Frame<M::State>],
    ) -> Vec<usize> {
        let Entry::Returned(at) = self.entries[blocked] else { return Vec::new() };
        let returned = self.known[at].returned;
        let (mut promising, mut others) = (Vec::new(), Vec::new());
        for at in 0..self.unknown.len() {
            let operation = self.unknown[at];
            if operation.invoked > returned {
                break;
            }
            // The equal one before it would do as well, unless something that must come after that has come.
            let twin_is_free = self.twin[at].is_some_and(|twin| {
                !self.done.has_unknown(twin) && self.pipelines.unknown_may_come(twin, &self.done)
            });
            let may_come = self.pipelines.unknown_may_come(at, &self.done);
            if self.done.has_unknown(at) || twin_is_free || !may_come {
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
        let row = row(stack).count();
        if row + 1 >= self.row_max {
            // Nothing but a known one may follow: only those that let one follow are of use.
            self.row_cut |= !others.is_empty();
            others.clear();
        }
        if row >= self.row_max {
            self.row_cut |= !promising.is_empty();
            promising.clear();
        }
        // The one invoked first comes first, within each group.
        promising.reverse();
        others.reverse();
        others.append(&mut promising);
        others
    }

    /// Whether some known operation that comes right after goes another way than it would have
    /// gone before.
    fn helps(&mut self, before: &M::State, after: &M::State) -> bool {
        let mut position = self.next[0];
        while let Entry::Invoked(at) = self.entries[position] {
            let known = &self.known[at];
            self.steps += 2;
            let then = self.model.step(after, known.op, known.ret);
            if then.is_some() && then != self.model.step(before, known.op, known.ret) {
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

    pub(crate) fn explain(&self) -> Explanation {
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
pub(crate) struct Done {
    known: Vec<u64>,
    /// All words of `known` before this one are full.
    first: usize,
    /// All words of `known` from this one on are empty.
    end: usize,
    unknown: Vec<u64>,
}

/// Which known operations have their place, as small as it can be told: nearly all that are placed
/// were invoked before all that are not.
#[derive(PartialEq, Eq, Hash)]
struct KnownDone {
    first: usize,
    words: Words,
}

fn is_subset(a: &[u64], b: &[u64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a & !b == 0)
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

    pub(crate) fn has_known(&self, at: usize) -> bool {
        self.known[at / 64] & (1 << (at % 64)) != 0
    }

    pub(crate) fn has_unknown(&self, at: usize) -> bool {
        self.unknown[at / 64] & (1 << (at % 64)) != 0
    }

    fn flip_unknown(&mut self, at: usize) {
        self.unknown[at / 64] ^= 1 << (at % 64);
    }

    fn known_done(&self) -> KnownDone {
        KnownDone { first: self.first, words: self.known[self.first..self.end].into() }
    }
}
