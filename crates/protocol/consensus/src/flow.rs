//! How much is on its way to each follower, in bytes, and what a follower that falls behind is sent.
//!
//! A leader never has more unacknowledged bytes on the way to one follower than a bound. What does not
//! fit waits until something is acknowledged. If the others decide it meanwhile, the follower has
//! fallen *behind*: it is sent no values any more, only signs of life and watermarks, and fetches what
//! it lacks, so that it slows nobody and costs no memory. It is *taken up* again when the rest of what
//! it lacks is little. When nothing at all is acknowledged for a time-out, what is known of its
//! connection is thrown away and built anew: the follower is behind until it is heard of, and is then
//! sent one page, twice as much with each page acknowledged (slow start: Jacobson, 1988).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use mainstay_model::{Instant, Plants, ReplicaId, Slot, SlotRange};

use crate::door::Observation;
use crate::message::{Accept, Body, Learned};
use crate::passing::Long;
use crate::replica::{Cx, Office, Replica};

/// Each message counts for at least so many bytes, so that the number of small ones is bounded, too.
const COUNTED_MIN: usize = 512;
/// The time-out doubles at most so often in a row.
const DOUBLED_MAX: u32 = 5;
/// How many times slower than usual a path may be on which something long is leaving.
const LONG_PATIENCE: u32 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sent {
    bytes: usize,
    long: Long,
    at: Instant,
    /// When it was really sent: `at` is later where pieces of long messages have left since.
    left_at: Instant,
    /// One no shorter that left later was acknowledged, so this one or its answer is lost.
    overtaken: bool,
    /// Whether its answer says anything about latency: not where it was sent more than once (Karn and
    /// Partridge, 1987), is long, or waited for something long.
    timed: bool,
}

/// What a leader has on the way to one follower.
///
/// Invariant: `bytes` is the sum over `sent`, and at most `bound`, or one message's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    /// Proposals that were sent and are not acknowledged.
    sent: BTreeMap<Slot, Sent>,
    bytes: usize,
    bound: usize,
    /// How many bytes may be on their way at present; at most `bound`.
    credit: usize,
    /// No open proposal below this one waits to be sent for the first time.
    next: Slot,
    behind: bool,
    /// What the follower is known to know as decided.
    known: Slot,
    /// The first proposal that it refused because it kept too much that is undecided: that one, and what is behind
    /// it, is sent again once it knows more.
    refused: Option<Slot>,
    /// When something was acknowledged last, or was sent while nothing was on its way.
    moved_at: Instant,
    /// How long an acknowledgement takes, smoothed.
    latency: Option<Duration>,
    /// How many time-outs there were in a row.
    timeouts: u32,
}

impl Flow {
    pub(crate) fn new(bound: usize, next: Slot, now: Instant) -> Self {
        Self {
            sent: BTreeMap::new(),
            bytes: 0,
            bound,
            credit: bound,
            next,
            behind: false,
            known: Slot::NONE,
            refused: None,
            moved_at: now,
            latency: None,
            timeouts: 0,
        }
    }

    /// There is a proposal in `slot` to be sent.
    pub(crate) fn wants(&mut self, slot: Slot) {
        self.next = self.next.min(slot);
    }

    fn fits(&self, len: usize) -> bool {
        self.sent.is_empty() || self.bytes + len.max(COUNTED_MIN) <= self.credit
    }

    fn note_sent(&mut self, slot: Slot, len: usize, long: Long, now: Instant) {
        if self.sent.is_empty() {
            self.moved_at = now;
        }
        let bytes = len.max(COUNTED_MIN);
        self.bytes += bytes;
        self.sent.insert(
            slot,
            Sent { bytes, long, at: now, left_at: now, overtaken: false, timed: !long.is_long() },
        );
        self.next = self.next.max(slot.next());
    }

    /// The follower accepted what was proposed in `slots`.
    pub(crate) fn acknowledged(&mut self, slots: SlotRange, now: Instant) {
        self.moved_at = now;
        self.timeouts = 0;
        let answered = self.sent.range(slots.first..=slots.last);
        let answered: Vec<(Slot, Sent)> = answered.map(|(slot, sent)| (*slot, *sent)).collect();
        for (slot, sent) in &answered {
            self.free(*slot);
            if sent.timed {
                let sample = now.since(sent.at);
                self.latency = Some(self.latency.map_or(sample, |known| (known * 7 + sample) / 8));
            }
        }
        if let Some((_, last)) = answered.iter().max_by_key(|(_, sent)| (sent.left_at, sent.bytes))
        {
            self.overtakes(*last);
        }
    }

    /// What left earlier than `answered` and is no longer would have been answered before it: short messages
    /// pass long ones, and none passes one of its kind. Whether there is any such, the first one tells.
    fn overtakes(&mut self, answered: Sent) {
        let earlier = |sent: &Sent| sent.left_at < answered.left_at && sent.bytes <= answered.bytes;
        let first = self.sent.first_key_value();
        if first.is_some_and(|(_, first)| earlier(first) && !first.overtaken) {
            for sent in self.sent.values_mut().filter(|sent| earlier(sent)) {
                (sent.at, sent.overtaken) = (sent.left_at, true);
            }
        }
    }

    /// A piece of a long message to the follower has left: what was sent before it has arrived at best,
    /// and what is behind it has not. For as long as `patience`, and longer for what is long: it may be
    /// lost, and other messages go on leaving.
    pub(crate) fn passes(&mut self, now: Instant, patience: Duration) {
        self.moved_at = now;
        for sent in self.sent.values_mut() {
            sent.timed = false;
            let until = sent.left_at.after(patience + sent.long.time() * LONG_PATIENCE);
            if now < until && !sent.overtaken {
                sent.at = now;
            }
        }
    }

    /// The follower knows every slot up to `upto` as decided, wherever it learned it.
    pub(crate) fn knows(&mut self, upto: Slot, now: Instant) {
        while let Some((slot, _)) = self.sent.first_key_value().filter(|(slot, _)| **slot <= upto) {
            let slot = *slot;
            self.free(slot);
            self.moved_at = now;
            self.timeouts = 0;
        }
        if upto > self.known {
            self.known = upto;
            if let Some(slot) = self.refused.take() {
                self.wants(slot.max(upto.next()));
            }
        }
    }

    /// The follower took what was proposed in `slot` for too much, when it knew every slot up to `decided_upto` as
    /// decided.
    pub(crate) fn refused(&mut self, slot: Slot, decided_upto: Slot) {
        self.free(slot);
        if decided_upto < self.known {
            // It said meanwhile that it knows more.
            self.wants(slot.max(self.known.next()));
        } else {
            self.refused = Some(self.refused.map_or(slot, |first| first.min(slot)));
        }
    }

    fn free(&mut self, slot: Slot) {
        if let Some(sent) = self.sent.remove(&slot) {
            self.bytes -= sent.bytes;
            self.credit = (self.credit + sent.bytes).min(self.bound);
        }
    }

    fn timeout(&self, at_least: Duration) -> Duration {
        let expected = self.latency.map_or(at_least, |latency| at_least.max(latency * 4));
        expected * (1 << self.timeouts.min(DOUBLED_MAX))
    }

    /// Nothing has been acknowledged for a time-out, though something should have been.
    fn stands_still(&self, now: Instant, at_least: Duration) -> bool {
        let Some((_, first)) = self.sent.first_key_value() else { return false };
        now >= self.moved_at.after(self.timeout(at_least) + first.long.time())
    }

    /// Nothing is known any more of what is on its way; nothing more is sent until the follower is
    /// heard of, and a page then.
    pub(crate) fn begin_anew(&mut self, page_bytes: usize) {
        self.sent.clear();
        // Whoever was started again knows less than it said before.
        (self.refused, self.known) = (None, Slot::NONE);
        self.bytes = 0;
        self.credit = page_bytes.min(self.bound);
        self.behind = true;
    }

    /// The follower had no room, so that it could acknowledge nothing, and has some now.
    pub(crate) fn room_again(&mut self, page_bytes: usize) {
        self.timeouts = 0;
        self.begin_anew(page_bytes);
    }

    fn take_up(&mut self, next: Slot) {
        (self.behind, self.refused) = (false, None);
        self.next = next;
    }

    /// Whether something at or below `decided_upto` was never sent, or was refused: the others decided it without
    /// this follower.
    fn lacks(&self, decided_upto: Slot) -> bool {
        self.next.min(self.refused.unwrap_or(self.next)) <= decided_upto
    }

    pub(crate) fn invariants(&self) {
        let within = self.bytes <= self.bound || self.sent.len() == 1;
        assert!(within, "more is on its way to a follower than may be");
        assert!(self.sent.is_empty() == (self.bytes == 0), "bytes on their way are miscounted");
        assert!(self.credit <= self.bound, "a follower has more credit than there is");
    }
}

impl<P: Plants> Replica<P> {
    /// Sends a follower what is open and was not sent to it yet, as far as its credit goes.
    pub(crate) fn send_open(&mut self, cx: &mut Cx<'_>, to: ReplicaId) {
        let (now, decided_upto) = (cx.now.monotonic, self.log.decided_upto);
        let Office::Leader(leader) = &mut self.office else { return };
        let ballot = leader.ballot;
        let Some(peer) = leader.peers.get_mut(&to.index) else { return };
        let flow = &mut peer.flow;
        if flow.behind {
            return;
        }
        if flow.lacks(decided_upto) {
            // It fetches that like everything else.
            flow.behind = true;
            return cx.observe(Observation::Behind { peer: to, behind: true });
        }
        let mut accepts = Vec::new();
        for (slot, open) in leader.open.range(flow.next..) {
            if open.votes.contains(to.index) || flow.sent.contains_key(slot) {
                continue;
            }
            if !flow.fits(open.value.len()) {
                flow.next = *slot;
                break;
            }
            let len = open.value.len();
            flow.note_sent(*slot, len, self.settings.long(len), now);
            accepts.push(Accept { ballot, slot: *slot, value: open.value.clone(), decided_upto });
        }
        for accept in accepts {
            self.send(cx, to, Body::Accept(accept));
        }
    }

    /// Sends again, to those who answer, what they have not answered for too long; whoever answers
    /// nothing begins anew.
    pub(crate) fn send_open_again(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        let (interval, page_bytes) = (self.settings.resend_interval, self.settings.page_bytes_max);
        let decided_upto = self.log.decided_upto;
        for to in self.peers() {
            let Office::Leader(leader) = &mut self.office else { return };
            let ballot = leader.ballot;
            let Some(peer) = leader.peers.get_mut(&to.index) else { continue };
            let at_least = interval.max(peer.disk * 2);
            let flow = &mut peer.flow;
            if flow.stands_still(now, at_least) {
                flow.begin_anew(page_bytes);
                flow.timeouts = (flow.timeouts + 1).min(DOUBLED_MAX);
                cx.observe(Observation::Behind { peer: to, behind: true });
                continue;
            }
            let timeout = flow.timeout(at_least);
            let (mut bytes, mut accepts) = (0, Vec::new());
            for (slot, sent) in &mut flow.sent {
                let Some(open) = leader.open.get(slot) else { continue };
                if now < sent.at.after(timeout + sent.long.time()) {
                    continue;
                }
                if bytes >= page_bytes {
                    break;
                }
                bytes += sent.bytes;
                (sent.at, sent.left_at, sent.overtaken, sent.timed) = (now, now, false, false);
                let value = open.value.clone();
                accepts.push(Accept { ballot, slot: *slot, value, decided_upto });
            }
            for accept in accepts {
                self.send(cx, to, Body::Accept(accept));
            }
        }
    }

    pub(crate) fn on_learned(&mut self, cx: &mut Cx<'_>, from: ReplicaId, m: Learned) {
        match &self.office {
            Office::Leader(leader) if leader.ballot == m.ballot => {
                self.heard_how_far(cx, from, m.decided_upto);
            }
            _ => self.ignore(cx, "progress of a learner at a replica that does not lead it"),
        }
    }

    /// A follower says how far it knows what is decided: it may have fallen behind, or be close
    /// enough again.
    pub(crate) fn heard_how_far(&mut self, cx: &mut Cx<'_>, from: ReplicaId, upto: Slot) {
        let lacks_little = self.lacks_little(upto);
        let next = self.log.decided_upto.next();
        let Office::Leader(leader) = &mut self.office else { return };
        let Some(peer) = leader.peers.get_mut(&from.index) else { return };
        peer.flow.knows(upto, cx.now.monotonic);
        if peer.flow.behind && lacks_little {
            peer.flow.take_up(next);
            cx.observe(Observation::Behind { peer: from, behind: false });
        }
        self.send_open(cx, from);
    }

    /// Whether what is decided above `upto` is so little that a follower will have it soon.
    fn lacks_little(&self, upto: Slot) -> bool {
        let decided_upto = self.log.decided_upto;
        let slots = decided_upto.0.saturating_sub(upto.0);
        let bytes_max = self.settings.follower_bytes_max / 2;
        slots <= self.configuration.alpha
            && self.log.bytes_between(upto, decided_upto).is_some_and(|bytes| bytes <= bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    /// A flow with slots 1 to 4 on their way.
    fn flow() -> Flow {
        let mut flow = Flow::new(1 << 20, Slot::FIRST, Instant(1));
        let long = Settings::default().long(10);
        (1..=4).for_each(|slot| flow.note_sent(Slot(slot), 10, long, Instant(1)));
        flow
    }

    #[test]
    fn what_was_too_much_is_sent_again_once_the_follower_knows_more() {
        let mut flow = flow();
        flow.refused(Slot(4), Slot(0));
        flow.refused(Slot(3), Slot(0));
        assert_eq!((flow.sent.len(), flow.next), (2, Slot(5)), "not before");
        flow.knows(Slot(2), Instant(2));
        assert_eq!((flow.sent.len(), flow.next), (0, Slot(3)));
        flow.invariants();
    }

    #[test]
    fn whoever_refused_what_is_decided_without_it_lacks_that_until_it_is_taken_up() {
        let mut flow = flow();
        flow.refused(Slot(3), Slot(0));
        assert!(!flow.lacks(Slot(2)), "it may yet take it");
        assert!(flow.lacks(Slot(3)));
        flow.take_up(Slot(4));
        assert!(!flow.lacks(Slot(3)));
    }

    #[test]
    fn what_a_follower_said_before_it_was_silent_holds_no_longer() {
        let mut flow = flow();
        flow.knows(Slot(3), Instant(2));
        flow.begin_anew(1);
        flow.take_up(Slot(5));
        flow.refused(Slot(5), Slot(0));
        assert_eq!(flow.next, Slot(5));
        assert_eq!(
            flow.refused,
            Some(Slot(5)),
            "it is not sent again before the follower knows more"
        );
    }

    #[test]
    fn a_refusal_that_comes_after_the_progress_waits_for_no_more() {
        let mut flow = flow();
        flow.knows(Slot(3), Instant(2));
        flow.refused(Slot(4), Slot(0));
        assert_eq!((flow.sent.len(), flow.next), (0, Slot(4)), "nothing else would come");
    }
}
