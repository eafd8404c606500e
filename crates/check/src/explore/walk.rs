//! Walks drawn by lot, for bounds beyond what can be explored.

use mainstay_model::Prng;

use super::space::{Space, State, Step};
use super::{Bounds, System, Violation};

/// What walks have found.
#[derive(Clone, Debug)]
pub struct Walks {
    /// How many steps they took.
    pub steps: u64,
    /// The first thing that did not hold, with a script from which no line can be left out.
    pub violation: Option<Violation>,
}

/// Takes so many walks of at most so many steps each; what it draws follows from the seed. At the end of
/// each it is asked whether the group recovers. Of [`Bounds`] only links and events count.
pub fn walk<S: System>(
    system: &S,
    bounds: &Bounds,
    seed: u64,
    (walks, steps_max): (u32, u32),
) -> Walks {
    let mut steps = 0;
    for number in 0..u64::from(walks) {
        // What was worked out in one walk is of little use for the next one.
        let (mut space, start) = Space::new(system, bounds);
        let mut prng = Prng::new(seed.wrapping_add(number));
        let mut taken = Vec::new();
        let ends = go(&mut space, start.clone(), |_, offered| {
            let step = prng.pick(offered).copied().filter(|_| taken.len() < steps_max as usize);
            taken.extend(step);
            step
        });
        steps += taken.len() as u64;
        if let Err(what) = ends {
            let (what, taken) = shorten(&mut space, &start, what, taken);
            let script = taken.into_iter().map(|step| space.line(step)).collect();
            return Walks { steps, violation: Some(Violation { what, script }) };
        }
    }
    Walks { steps, violation: None }
}

/// Takes the steps that `next` names, until it names none; then the group must recover.
fn go<S: System>(
    space: &mut Space<'_, S>,
    mut state: State,
    mut next: impl FnMut(&State, &[Step]) -> Option<Step>,
) -> Result<(), String> {
    let mut after = Vec::new();
    loop {
        let offered = space.offered(&state);
        let Some(step) = next(&state, &offered) else { return space.recovers(&state) };
        space.follow(&state, step, &mut after)?;
        // The last one is that in which a message that arrived is gone.
        if let Some(follows) = after.pop() {
            state = follows;
            space.judge(&state)?;
        }
        after.clear();
    }
}

/// Leaves out one step after the other, as long as something does not hold all the same. Steps that
/// cannot be taken any more are left out, too.
fn shorten<S: System>(
    space: &mut Space<'_, S>,
    start: &State,
    mut what: String,
    mut taken: Vec<Step>,
) -> (String, Vec<Step>) {
    let mut at = taken.len();
    while at > 0 {
        at -= 1;
        let mut rest = taken.clone();
        rest.remove(at);
        let mut left = rest.into_iter();
        let mut possible = Vec::new();
        let ends = go(space, start.clone(), |_, offered| {
            let step = left.find(|step| offered.contains(step));
            possible.extend(step);
            step
        });
        if let Err(other) = ends {
            (what, taken) = (other, possible);
            at = at.min(taken.len());
        }
    }
    (what, taken)
}
