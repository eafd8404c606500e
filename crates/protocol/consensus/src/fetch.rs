//! A checkpoint that is being fetched: which pieces are where, and who is asked for the next one.
//!
//! Every donor has a window of its own, one piece at first, and one more with every piece that it
//! gives, so that a fast one gives more than a slow one. A donor that makes no progress within its
//! time is asked for less, its pieces are asked of others, and its next time is twice as long: what
//! counts is the progress of each donor, never the time a transfer takes as a whole. A piece that
//! comes late is as good as any other.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use mainstay_model::{CheckpointId, Instant};

use crate::message::Chunk;
use crate::replica::PartialCheckpoint;

/// How many pieces may be asked for, early, or on their way to the disk.
const PIECES_MAX: u32 = 8;
/// How often the time of a donor doubles at most.
const DOUBLINGS_MAX: u32 = 7;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Donor {
    /// How many pieces may be asked of it at once.
    window: u32,
    /// When it was last asked after a rest, or gave a piece.
    since: Instant,
    /// How often its time has doubled.
    doublings: u32,
    /// Others are asked first until then.
    paused_until: Instant,
    /// How many pieces it said that it gives.
    load: u32,
}

/// What came of a piece.
pub(crate) enum Taken {
    /// These pieces are to be stored, in this order.
    Store(Vec<(u32, Bytes)>),
    /// It is of no use; why.
    Useless(&'static str),
    /// Whoever gave it cuts checkpoints into other pieces than the others do.
    Misfit,
}

/// See the module.
///
/// Invariant: `kept ≤ handed`; pieces in `early` and `asked` lie in `handed..kept + PIECES_MAX`, those that
/// were asked for while the disk had `left` of an earlier fetch to answer in fewer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fetch {
    pub(crate) checkpoint: CheckpointId,
    /// The length of a piece; the last one has what is left.
    chunk_bytes: u64,
    total: Option<u64>,
    /// Pieces below this one were handed to the disk.
    handed: u32,
    /// Pieces below this one are on disk.
    kept: u32,
    /// How many pieces of earlier fetches the disk has not answered; it answers in order.
    left: u32,
    /// Pieces that came before their turn.
    early: BTreeMap<u32, Bytes>,
    /// Which piece was asked of whom.
    asked: BTreeMap<u32, u16>,
    donors: BTreeMap<u16, Donor>,
    /// What was fetched before was of no use: one donor alone is asked, the first one from here on, so
    /// that pieces of one that is wrong spoil nothing that the others give.
    alone_from: Option<u16>,
    pub(crate) installing: bool,
}

impl Fetch {
    pub(crate) fn new(
        checkpoint: CheckpointId,
        chunk_bytes: u64,
        partial: Option<PartialCheckpoint>,
        alone_from: Option<u16>,
        left: u32,
    ) -> Self {
        let there = partial.map_or(0, |partial| partial.chunks);
        Self {
            checkpoint,
            chunk_bytes,
            total: partial.map(|partial| partial.total),
            handed: there,
            kept: there,
            left,
            early: BTreeMap::new(),
            asked: BTreeMap::new(),
            donors: BTreeMap::new(),
            alone_from,
            installing: false,
        }
    }

    fn chunks(&self) -> Option<u32> {
        self.total.map(|total| u32::try_from(total.div_ceil(self.chunk_bytes)).unwrap_or(u32::MAX))
    }

    /// Whether every piece is on disk.
    pub(crate) fn complete(&self) -> bool {
        self.chunks() == Some(self.kept)
    }

    /// Bytes on disk, bytes in all (0 while unknown).
    pub(crate) fn progress(&self) -> (u64, u64) {
        let total = self.total.unwrap_or(0);
        ((u64::from(self.kept) * self.chunk_bytes).min(total), total)
    }

    /// Notes that `who` holds the checkpoint, and how much it has to do.
    pub(crate) fn meet(&mut self, who: u16, load: u32) {
        let new =
            Donor { window: 1, since: Instant(0), doublings: 0, paused_until: Instant(0), load: 0 };
        self.donors.entry(who).or_insert(new).load = load;
    }

    /// `who` does not hold the checkpoint (any more).
    pub(crate) fn part(&mut self, who: u16) {
        self.donors.remove(&who);
        self.take_back(who);
    }

    /// Who holds the checkpoint, as far as is known.
    pub(crate) fn donors(&self) -> impl Iterator<Item = u16> {
        self.donors.keys().copied()
    }

    /// `who` has too much to do: others are asked until `until`.
    pub(crate) fn pause(&mut self, who: u16, until: Instant) {
        if let Some(donor) = self.donors.get_mut(&who) {
            donor.paused_until = donor.paused_until.max(until);
            donor.window = 1;
        }
        self.take_back(who);
    }

    /// What was asked of `who` is to be asked of others.
    pub(crate) fn take_back(&mut self, who: u16) {
        self.asked.retain(|_, donor| *donor != who);
    }

    fn asked_of(&self, who: u16) -> u32 {
        self.asked.values().filter(|donor| **donor == who).count() as u32
    }

    /// The first piece that is neither there nor asked for, if memory allows another one. Until the
    /// length is known, that is only the first one.
    pub(crate) fn next_piece(&self) -> Option<u32> {
        if self.installing {
            return None;
        }
        let room = PIECES_MAX.saturating_sub(self.left);
        let end = self.chunks().unwrap_or(1).min(self.kept.saturating_add(room));
        let free = |chunk: &u32| !self.early.contains_key(chunk) && !self.asked.contains_key(chunk);
        (self.handed..end).find(free)
    }

    /// Who is asked for the next piece: the least loaded of those that are `usable`, keep their time
    /// and have room in their window; `leader` only if no other one is usable at all, or if it is its turn
    /// to be asked alone.
    pub(crate) fn choose(
        &self,
        now: Instant,
        leader: Option<u16>,
        usable: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let usable = |who: &u16| usable(*who);
        let candidates = || self.donors.iter().filter(|(who, _)| usable(who));
        let prompt = |(_, donor): &(&u16, &Donor)| donor.paused_until <= now;
        let others = |(who, _): &(&u16, &Donor)| Some(**who) != leader;
        let mut from: Vec<_> = candidates().filter(others).filter(prompt).collect();
        if let Some(first) = self.alone_from {
            from = candidates().filter(prompt).collect();
            from.sort_by_key(|(who, _)| (**who < first, **who));
            from.truncate(1);
        } else if from.is_empty() {
            from = candidates().filter(prompt).collect();
        }
        let free = from.into_iter().map(|(who, donor)| (*who, donor, self.asked_of(*who)));
        let free = free.filter(|(_, donor, asked)| *asked < donor.window);
        free.min_by_key(|(who, donor, asked)| (asked + donor.load, *who)).map(|(who, ..)| who)
    }

    pub(crate) fn ask(&mut self, chunk: u32, who: u16, now: Instant) {
        let rested = self.asked_of(who) == 0;
        if let Some(donor) = self.donors.get_mut(&who).filter(|_| rested) {
            donor.since = now;
        }
        self.asked.insert(chunk, who);
    }

    /// Takes the pieces back that donors did not give in time.
    pub(crate) fn expire(&mut self, now: Instant, patience: Duration) {
        for who in self.late(now, patience) {
            self.take_back(who);
            let Some(donor) = self.donors.get_mut(&who) else { continue };
            donor.doublings = (donor.doublings + 1).min(DOUBLINGS_MAX);
            donor.window = 1;
            donor.paused_until = now.after(patience * (1 << donor.doublings) / 2);
        }
    }

    fn late(&self, now: Instant, patience: Duration) -> Vec<u16> {
        let until = |donor: &Donor| donor.since.after(patience * (1 << donor.doublings));
        let asked = self.donors.iter().filter(|(who, _)| self.asked_of(**who) > 0);
        asked.filter(|(_, donor)| until(donor) <= now).map(|(who, _)| *who).collect()
    }

    /// When a donor's time is over, or its pause.
    pub(crate) fn deadline(&self, now: Instant, patience: Duration) -> Option<Instant> {
        if self.installing {
            return None;
        }
        let until = |donor: &Donor| donor.since.after(patience * (1 << donor.doublings));
        let asked = self.donors.iter().filter(|(who, _)| self.asked_of(**who) > 0);
        let late = asked.map(|(_, donor)| until(donor)).min();
        let paused = self.donors.values().map(|donor| donor.paused_until).filter(|at| *at > now);
        let rested = paused.min().filter(|_| self.next_piece().is_some());
        late.into_iter().chain(rested).min()
    }

    pub(crate) fn take(&mut self, from: u16, m: Chunk, now: Instant) -> Taken {
        let known = self.donors.contains_key(&from) && m.checkpoint == self.checkpoint;
        if !known || self.installing {
            return Taken::Useless("piece of a checkpoint that was not asked for");
        }
        let end = self.kept.saturating_add(PIECES_MAX);
        if m.chunk < self.handed || self.early.contains_key(&m.chunk) {
            return Taken::Useless("piece of a checkpoint that is there already");
        }
        if m.chunk >= end {
            return Taken::Useless("piece of a checkpoint that was not asked for");
        }
        let offset = u64::from(m.chunk) * self.chunk_bytes;
        let len = self.chunk_bytes.min(m.total.saturating_sub(offset));
        let other_total = self.total.is_some_and(|total| total != m.total);
        if other_total || m.bytes.is_empty() || m.bytes.len() as u64 != len {
            return Taken::Misfit;
        }
        let asked_of = self.asked.remove(&m.chunk);
        if let Some(donor) = self.donors.get_mut(&from) {
            donor.since = now;
            donor.paused_until = Instant(0);
            if asked_of == Some(from) {
                donor.window = (donor.window + 1).min(PIECES_MAX);
                donor.doublings = donor.doublings.saturating_sub(1);
            }
        }
        self.total = Some(m.total);
        self.early.insert(m.chunk, m.bytes);
        let mut store = Vec::new();
        while let Some(bytes) = self.early.remove(&self.handed) {
            store.push((self.handed, bytes));
            self.handed += 1;
        }
        Taken::Store(store)
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.unwrap_or(0)
    }

    /// How many pieces the disk has not answered, of this fetch and of earlier ones.
    pub(crate) fn unanswered(&self) -> u32 {
        self.left + (self.handed - self.kept)
    }

    /// The disk answers: whether that is about a piece of an earlier fetch.
    pub(crate) fn answers_earlier(&mut self) -> bool {
        let earlier = self.left > 0;
        self.left = self.left.saturating_sub(1);
        earlier
    }

    /// The first piece that the disk had not answered is not kept: this fetch has failed.
    pub(crate) fn not_stored(&mut self) {
        self.handed = self.handed.saturating_sub(1).max(self.kept);
    }

    /// `chunk` is on disk; false if that cannot be.
    pub(crate) fn stored(&mut self, chunk: u32) -> bool {
        let next = chunk == self.kept && chunk < self.handed;
        if next {
            self.kept += 1;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_model::Slot;

    const LEADER: Option<u16> = Some(4);

    /// A checkpoint that these donors hold, who have so much to do.
    fn fetch(donors: &[(u16, u32)]) -> Fetch {
        let checkpoint = CheckpointId { slot: Slot(30), digest: 1 };
        let mut fetch = Fetch::new(checkpoint, 1 << 10, None, None, 0);
        for (who, load) in donors {
            fetch.meet(*who, *load);
        }
        fetch
    }

    #[test]
    fn the_least_loaded_donor_is_asked_and_the_leader_only_if_nobody_else_can() {
        let mut fetch = fetch(&[(1, 7), (2, 1), (3, 4), (4, 0)]);
        let choose = |fetch: &Fetch| fetch.choose(Instant(1), LEADER, |_| true);
        assert_eq!(choose(&fetch), Some(2));
        fetch.pause(2, Instant(5));
        assert_eq!(choose(&fetch), Some(3), "the first one is busy");
        fetch.meet(3, 9);
        assert_eq!(choose(&fetch), Some(1), "it has more to do now");
        fetch.part(1);
        fetch.pause(3, Instant(5));
        assert_eq!(choose(&fetch), LEADER, "nobody else can");
        assert_eq!(fetch.choose(Instant(6), LEADER, |_| true), Some(2), "it has rested");
        assert_eq!(fetch.choose(Instant(6), LEADER, |who| who == 4), LEADER, "the others are down");
    }

    #[test]
    fn a_donor_is_replaced_when_it_makes_no_progress_and_not_when_it_takes_long() {
        let patience = Duration::from_nanos(10);
        let mut fetch = fetch(&[(1, 0), (2, 0)]);
        fetch.ask(0, 1, Instant(0));
        fetch.expire(Instant(9), patience);
        assert_eq!(fetch.next_piece(), None, "it has its time");
        fetch.expire(Instant(10), patience);
        assert_eq!(fetch.next_piece(), Some(0), "it is asked of another one");
        assert_eq!(fetch.choose(Instant(10), None, |_| true), Some(2));
        // What comes late is as good; and every piece gives a donor its time anew.
        let piece = |chunk| Chunk {
            checkpoint: fetch.checkpoint,
            chunk,
            total: 3 << 10,
            bytes: Bytes::from_static(&[0; 1 << 10]),
        };
        let pieces = [piece(0), piece(1), piece(2)];
        for (at, piece) in (11..).step_by(9).zip(pieces) {
            fetch.ask(piece.chunk, 1, Instant(at));
            assert!(matches!(fetch.take(1, piece, Instant(at + 8)), Taken::Store(_)));
            fetch.expire(Instant(at + 8), patience);
        }
        assert_eq!(fetch.choose(Instant(40), None, |_| true), Some(1), "it keeps its time again");
    }
}
