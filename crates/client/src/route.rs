//! Which replica to talk to next.

use std::time::Duration;

use mainstay_model::{Instant, Prng};

/// The pause after the first failure in a row; doubled with each further round.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How long a replica that failed is not taken for a reachable leader.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// The addresses in turn, with a pause after each whole round of failures, and the leader first
/// where one is named that is not known to have failed.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    replicas: Vec<Seen>,
    next: usize,
    /// How many attempts failed in a row.
    failures: u32,
    prng: Prng,
}

/// What is known of the replica behind one address.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The index it said it has.
    index: Option<u16>,
    failed_at: Option<Instant>,
}

impl Route {
    pub(crate) fn new(addresses: usize, first: Option<usize>, seed: u64) -> Self {
        let mut prng = Prng::new(seed);
        let drawn = prng.below(addresses as u64) as usize;
        let next = first.map_or(drawn, |first| first % addresses);
        Self { replicas: vec![Seen::default(); addresses], next, failures: 0, prng }
    }

    /// The position of the address to try, and how long to wait before.
    pub(crate) fn next(&mut self) -> (usize, Duration) {
        let position = self.next;
        self.next = (position + 1) % self.replicas.len();
        (position, self.pause())
    }

    fn pause(&mut self) -> Duration {
        let rounds = self.failures / self.replicas.len() as u32;
        if rounds == 0 {
            return Duration::ZERO;
        }
        let longest = PAUSE_MIN.saturating_mul(1 << (rounds - 1).min(16)).min(PAUSE_MAX);
        // Clients that lost the same replica do not all come back at the same moment.
        let nanos = mainstay_model::time::nanos(longest);
        Duration::from_nanos(self.prng.between(nanos / 2, nanos))
    }

    /// The replica at `position` could not be reached, or was of no use.
    pub(crate) fn failed(&mut self, position: usize, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.replicas[position].failed_at = Some(now);
    }

    /// The replica at `position` answered something that was asked of it.
    pub(crate) fn succeeded(&mut self, position: usize) {
        self.failures = 0;
        self.replicas[position].failed_at = None;
    }

    /// The replica at `position` has this index. Whoever was thought to have it has it no more.
    pub(crate) fn learn(&mut self, position: usize, index: u16) {
        for seen in &mut self.replicas {
            seen.index = seen.index.filter(|&other| other != index);
        }
        self.replicas[position].index = Some(index);
    }

    /// Where the replica with this index is, if it is worth trying: as it said itself, or else by
    /// its place among the addresses.
    pub(crate) fn leader(&self, index: u16, now: Instant) -> Option<usize> {
        let said = self.replicas.iter().position(|seen| seen.index == Some(index));
        let by_place = usize::from(index);
        let guess = || self.replicas.get(by_place)?.index.is_none().then_some(by_place);
        let position = said.or_else(guess)?;
        let failed_at = self.replicas[position].failed_at;
        failed_at.is_none_or(|failed_at| now.since(failed_at) >= FAILED_FOR).then_some(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant(0);

    #[test]
    fn every_address_gets_its_turn_and_rounds_of_failures_slow_down() {
        let mut route = Route::new(3, None, 7);
        let (first, pause) = route.next();
        assert_eq!(pause, Duration::ZERO);
        route.failed(first, START);
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let (position, pause) = route.next();
            route.failed(position, START);
            pauses.push(pause);
        }
        assert_eq!(pauses[..2], [Duration::ZERO; 2], "the first round goes without a pause");
        assert!(pauses[2] >= PAUSE_MIN / 2 && pauses[2] <= PAUSE_MIN);
        assert!(pauses[39] >= PAUSE_MAX / 2 && pauses[39] <= PAUSE_MAX);
        route.succeeded(0);
        assert_eq!(route.next().1, Duration::ZERO);
        let positions: Vec<_> = (0..3).map(|_| route.next().0).collect();
        assert!((0..3).all(|position| positions.contains(&position)));
    }

    #[test]
    fn a_leader_is_where_it_said_or_where_its_place_is() {
        let mut route = Route::new(3, None, 0);
        assert_eq!(route.leader(1, START), Some(1));
        assert_eq!(route.leader(3, START), None);
        route.learn(1, 2);
        assert_eq!(route.leader(2, START), Some(1));
        assert_eq!(route.leader(1, START), None, "another one sits there");
        route.failed(1, START);
        assert_eq!(route.leader(2, START), None);
        assert_eq!(route.leader(2, START.after(FAILED_FOR)), Some(1));
        route.learn(0, 2);
        assert_eq!(route.leader(2, START), Some(0));
    }
}
