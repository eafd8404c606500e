//! The search itself, breadth first.

use std::collections::HashSet;

use xxhash_rust::xxh3::xxh3_128;

use super::space::{Space, State, Step};
use super::{Bounds, Report, System, Violation};

fn fingerprint(state: &State) -> u128 {
    let bytes: Vec<u8> = state.iter().flat_map(|number| number.to_le_bytes()).collect();
    xxh3_128(&bytes)
}

struct Search<'a, S: System> {
    space: Space<'a, S>,
    bounds: &'a Bounds,
    /// A hash of each state seen: of a billion, two share one with a probability below 10^-20.
    seen: HashSet<u128>,
    /// From where and by what each state was reached first.
    parents: Vec<(u32, Step)>,
    steps: u64,
    recovered: usize,
}

/// Explores everything within the bounds, or until something does not hold.
pub fn explore<S: System>(system: &S, bounds: &Bounds) -> Report {
    let (space, start) = Space::new(system, bounds);
    let search =
        Search { space, bounds, seen: HashSet::new(), parents: Vec::new(), steps: 0, recovered: 0 };
    search.run(start)
}

impl<S: System> Search<'_, S> {
    fn run(mut self, start: State) -> Report {
        let mut violation = self.space.judge(&start).err().map(|what| (what, Vec::new()));
        self.seen.insert(fingerprint(&start));
        self.parents.push((0, Step::Arrives(0)));
        let (mut level, mut first, mut depth) = (vec![start], 0_usize, 0);
        let mut complete = true;
        'levels: while violation.is_none() && !level.is_empty() {
            let mut next = Vec::new();
            for (at, state) in level.iter().enumerate() {
                let from = u32::try_from(first + at).expect("fewer than 2^32 states");
                if let Err((what, steps)) = self.expand(from, state, &mut next) {
                    violation = Some((what, steps));
                    break 'levels;
                }
                if self.seen.len() > self.bounds.states_max {
                    complete = false;
                    break 'levels;
                }
            }
            first += level.len();
            depth += usize::from(!next.is_empty());
            level = next;
        }
        self.report(depth, complete && violation.is_none(), violation)
    }

    /// Takes every step from a state.
    fn expand(
        &mut self,
        from: u32,
        state: &State,
        next: &mut Vec<State>,
    ) -> Result<(), (String, Vec<Step>)> {
        let mut after = Vec::new();
        for step in self.space.offered(state) {
            self.steps += 1;
            let mut visited = self.space.follow(state, step, &mut after);
            for state in after.drain(..) {
                visited = visited.and_then(|()| self.visit(from, step, state, next));
            }
            if let Err(what) = visited {
                let mut steps = self.steps_to(from);
                steps.push(step);
                return Err((what, steps));
            }
        }
        Ok(())
    }

    fn visit(
        &mut self,
        from: u32,
        step: Step,
        state: State,
        next: &mut Vec<State>,
    ) -> Result<(), String> {
        let fingerprint = fingerprint(&state);
        if self.seen.insert(fingerprint) {
            self.space.judge(&state)?;
            let every = u128::from(self.bounds.recover_every);
            if every > 0 && fingerprint.is_multiple_of(every) {
                self.recovered += 1;
                self.space.recovers(&state)?;
            }
            self.parents.push((from, step));
            next.push(state);
        }
        Ok(())
    }

    fn steps_to(&self, state: u32) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut at = state;
        while at != 0 {
            let (from, step) = self.parents[at as usize];
            steps.push(step);
            at = from;
        }
        steps.reverse();
        steps
    }

    fn report(self, depth: usize, complete: bool, found: Option<(String, Vec<Step>)>) -> Report {
        let violation = found.map(|(what, steps)| {
            let script = steps.into_iter().map(|step| self.space.line(step)).collect();
            Violation { what, script }
        });
        Report {
            states: self.seen.len(),
            steps: self.steps,
            depth,
            nodes: self.space.nodes.len(),
            messages: self.space.messages.len(),
            worked_out: self.space.worked_out(),
            recovered: self.recovered,
            complete,
            missed: self.space.missed(),
            violation,
        }
    }
}
