//! One account of the memory that is held for clients: what came from them and is not understood yet,
//! commands that are not answered, replies that are not taken, and what is kept about each connection.
//!
//! Every connection's part of it is bounded by back-pressure: who has something open may hold no more
//! than is left ([`Account::grants`]), so that one client alone gets much, many get little each, and
//! there is always something left for the next. All together are bounded by not reading on
//! ([`Account::is_full`]) and by closing those that hold most ([`Account::is_crowded`]).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What is held for all clients, in bytes. Written by the protocol thread, which owns the connections;
/// the executor looks before it makes more.
#[derive(Debug)]
pub(crate) struct Account {
    held: AtomicUsize,
    all_max: usize,
    one_max: usize,
    /// The executor left questions unanswered because there was no room for the answers.
    wanted: AtomicBool,
}

impl Account {
    /// With bounds for all clients and for one.
    pub(crate) const fn new(all_max: usize, one_max: usize) -> Self {
        Self { held: AtomicUsize::new(0), all_max, one_max, wanted: AtomicBool::new(false) }
    }

    /// Bytes held for all.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// A connection that held `before` bytes now holds `after`.
    pub(crate) fn change(&self, before: usize, after: usize) {
        let held = self.held();
        debug_assert!(held >= before, "{held} bytes are held, and {before} of them go");
        self.held.store(held.saturating_sub(before).saturating_add(after), Ordering::Relaxed);
    }

    /// Whether nothing more may be taken in for anybody.
    pub(crate) fn is_full(&self) -> bool {
        self.held() >= self.all_max
    }

    /// Whether so much is held that some have to go, or would be with `besides` more bytes.
    pub(crate) fn is_crowded(&self, besides: usize) -> bool {
        self.held().saturating_add(besides) > self.all_max - self.all_max / 8
    }

    /// How far those that hold most are closed once it is crowded.
    pub(crate) const fn eased(&self) -> usize {
        self.all_max - self.all_max / 4
    }

    /// Whether a connection that holds so much, and has commands or replies open, may go on: its part
    /// may be as large as what is left. (The rule is known from switches that share a memory: Choudhury and
    /// Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998.) The last
    /// quarter is for those who have nothing open.
    pub(crate) fn grants(&self, connection: usize) -> bool {
        connection <= self.eased().saturating_sub(self.held()).min(self.one_max)
    }

    /// The executor waits for room.
    pub(crate) fn want_room(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Whether the executor waits for room and there is some now; told once.
    pub(crate) fn has_room_that_is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
            && !self.is_crowded(0)
            && self.wanted.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gets_much_and_many_get_little_each() {
        let account = Account::new(800, 500);
        let mut alone = 0;
        while account.grants(alone) {
            account.change(alone, alone + 1);
            alone += 1;
        }
        assert_eq!(alone, 301, "half of what those with something open may hold");
        account.change(alone, 0);
        let mut parts = [0; 10];
        for _ in 0..1000 {
            for part in &mut parts {
                if account.grants(*part) {
                    account.change(*part, *part + 1);
                    *part += 1;
                }
            }
        }
        assert!(parts.iter().all(|part| (50..60).contains(part)), "{parts:?}");
        assert!(account.grants(0), "there is something left for the next");
        assert!(!account.is_crowded(0) && !account.is_full());
    }

    #[test]
    fn one_is_bounded_even_where_much_is_left() {
        let account = Account::new(8000, 500);
        assert!(account.grants(500) && !account.grants(501));
    }

    #[test]
    fn room_is_told_once_to_who_wants_it() {
        let account = Account::new(800, 800);
        assert!(!account.has_room_that_is_wanted());
        account.change(0, 750);
        account.want_room();
        assert!(account.is_crowded(0) && !account.has_room_that_is_wanted());
        account.change(750, 600);
        assert!(account.has_room_that_is_wanted() && !account.has_room_that_is_wanted());
        assert!(account.is_crowded(101) && !account.is_full());
        account.change(0, 200);
        assert!(account.is_full());
    }
}
