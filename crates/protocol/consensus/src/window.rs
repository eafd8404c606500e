//! How many proposals a leader keeps open at once.
//!
//! The adaptive window follows TCP Vegas (Brakmo and Peterson, 1995): the shortest latency seen says
//! how long ordering takes when nothing waits, so `size × (1 − shortest ÷ observed)` proposals are
//! waiting somewhere instead of being under way. While fewer than [`WAITING_MIN`] wait the window
//! grows, while more than [`WAITING_MAX`] wait it shrinks; it doubles until it has met a queue for the
//! first time. One look a round: when what was proposed at the last look is decided. From time to time
//! it rests for two rounds, so that the shortest latency is seen even by who always has a queue (as BBR
//! does: Cardwell and others, 2016).

use core::time::Duration;

use mainstay_model::time::nanos;
use mainstay_model::{Instant, Slot};

use crate::settings::Window;

/// Where an adaptive window begins, and what it never falls below: in a local network it is enough.
const SIZE_MIN: usize = 4;
const WAITING_MIN: u64 = 1;
const WAITING_MAX: u64 = 3;
/// How many rounds it rests: one to let the queue drain, one to look.
const REST: u32 = 2;
/// It rests this often, and the shortest latency is that of the last one to two of these.
const MEMORY: Duration = Duration::from_secs(10);

/// The window of one leader.
///
/// Invariant: its size is at least 1 and at most what it was told on the last look.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SendWindow {
    size: usize,
    adaptive: bool,
    /// It has met no queue yet.
    starting: bool,
    /// The shortest latency of this span of `MEMORY` and of the one before.
    shortest: [Option<Duration>; 2],
    span_from: Instant,
    /// How many rounds it still rests.
    rest: u32,
    /// The round ends when this slot is decided.
    round_upto: Slot,
    round: Round,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Round {
    decided: u32,
    latency: Duration,
    /// Something waited for nothing but the window.
    limited: bool,
}

impl SendWindow {
    pub(crate) fn new(window: Window, now: Instant) -> Self {
        let (size, adaptive) = match window {
            Window::Adaptive => (SIZE_MIN, true),
            Window::Fixed(size) => (size.max(1), false),
        };
        Self {
            size,
            adaptive,
            starting: true,
            shortest: [None; 2],
            span_from: now,
            rest: 0,
            round_upto: Slot::NONE,
            round: Round::default(),
        }
    }

    pub(crate) fn size(&self) -> usize {
        if self.rest > 0 { self.size.min(SIZE_MIN) } else { self.size }
    }

    /// Something waits that the window alone holds back.
    pub(crate) fn holds_back(&mut self) {
        self.round.limited = true;
    }

    /// What was proposed in `slot` is decided after `latency`; the highest slot proposed is
    /// `proposed_upto`, and no window may be larger than `size_max`.
    pub(crate) fn decided(
        &mut self,
        slot: Slot,
        latency: Duration,
        now: Instant,
        proposed_upto: Slot,
        size_max: usize,
    ) {
        if !self.adaptive {
            return;
        }
        if now >= self.span_from.after(MEMORY) {
            self.span_from = now;
            self.shortest = [None, self.shortest[0]];
            self.rest = REST;
        }
        self.shortest[0] = Some(self.shortest[0].map_or(latency, |known| known.min(latency)));
        self.round.decided += 1;
        self.round.latency += latency;
        if slot >= self.round_upto {
            self.look(size_max);
            self.round_upto = proposed_upto;
            self.round = Round::default();
        }
    }

    /// The end of a round.
    fn look(&mut self, size_max: usize) {
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        let observed = nanos(self.round.latency / self.round.decided.max(1));
        let shortest = self.shortest.into_iter().flatten().min().map_or(observed, nanos);
        let size = self.size as u64;
        // Rounded down: a window is not made smaller for less than a whole proposal.
        let waiting = size.saturating_mul(observed.saturating_sub(shortest)) / observed.max(1);
        if waiting >= WAITING_MIN {
            self.starting = false;
        }
        if waiting > WAITING_MAX {
            self.size -= 1;
        } else if waiting < WAITING_MIN && self.round.limited {
            self.size += if self.starting { self.size } else { 1 };
        }
        self.size = self.size.max(SIZE_MIN).min(size_max.max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Runs rounds over a path that takes `path` and then orders one proposal every `service`, with
    /// the window always full; returns its size after each.
    fn run(window: &mut SendWindow, path: u64, service: u64, rounds: usize) -> usize {
        let (mut slot, mut now) = (window.round_upto.0, window.span_from.0);
        for _ in 0..rounds {
            let size = window.size() as u64;
            window.holds_back();
            let latency = path.max(size * service);
            now += latency;
            for _ in 0..size {
                slot += 1;
                let latency = Duration::from_nanos(latency);
                window.decided(Slot(slot), latency, Instant(now), Slot(slot + size), 4096);
            }
        }
        window.size()
    }

    #[test]
    fn it_grows_until_the_path_is_full_and_no_further() {
        // 100 ms there and back, and one proposal a millisecond: 100 fill the path.
        let mut window = SendWindow::new(Window::Adaptive, Instant(0));
        let size = run(&mut window, 100 * MS, MS, 400);
        assert!((90..=128).contains(&size), "{size}");
    }

    #[test]
    fn where_more_would_only_wait_it_stays_small() {
        let mut window = SendWindow::new(Window::Adaptive, Instant(0));
        let alone = Duration::from_nanos(MS);
        window.decided(Slot(1), alone, Instant(MS), Slot(1), 4096);
        assert_eq!(run(&mut window, MS, MS, 100), SIZE_MIN);
    }

    #[test]
    fn it_shrinks_again_when_the_path_gets_shorter() {
        let mut window = SendWindow::new(Window::Adaptive, Instant(0));
        run(&mut window, 100 * MS, MS, 400);
        let size = run(&mut window, 10 * MS, MS, 400);
        assert!((9..=16).contains(&size), "{size}");
    }

    #[test]
    fn without_load_it_does_not_grow() {
        let mut window = SendWindow::new(Window::Adaptive, Instant(0));
        for slot in 1..1_000 {
            let now = Instant(slot * MS);
            window.decided(Slot(slot), Duration::from_nanos(MS), now, Slot(slot), 4096);
        }
        assert_eq!(window.size(), SIZE_MIN);
    }

    #[test]
    fn it_is_never_larger_than_allowed_and_a_fixed_one_never_changes() {
        let mut window = SendWindow::new(Window::Adaptive, Instant(0));
        for slot in 1..1_000 {
            window.holds_back();
            let now = Instant(slot * MS);
            window.decided(Slot(slot), Duration::from_nanos(MS), now, Slot(slot), 9);
            assert!(window.size() <= 9);
        }
        assert_eq!(window.size(), 9);
        let mut window = SendWindow::new(Window::Fixed(7), Instant(0));
        assert_eq!(run(&mut window, 100 * MS, MS, 100), 7);
    }
}
