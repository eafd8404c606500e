//! Long messages on their way: a value of many megabytes takes longer from one replica to another than
//! any time-out of ordering. The world cuts it into pieces between which short messages pass, and tells
//! of each that passes ([`crate::Input::Passing`]). A replica that is receiving is alive and gets on, and so is
//! one that is sending: what waits for the message goes on waiting, and nothing is asked for or sent
//! again meanwhile. Without this, repeats of the message fill the path until nothing passes any more.
//!
//! How long a long value takes is no measure of anything else: it is not timed, and neither is what
//! waits behind it. A disk has time for it in proportion to its length.

use core::time::Duration;

use mainstay_model::{Instant, Plants, ReplicaId};

use crate::replica::{Cx, Office, Replica};
use crate::settings::Settings;
use crate::wire::PROMISE;

/// What is left to a path or disk for a long value, in bytes a second, before it counts as standing
/// still.
const LONG_RATE: u64 = 16 << 20;
/// For how many time-outs pieces that pass put off that something is asked for, or sent, again: they may
/// be of something else, and what is waited for may be lost. What is asked for may be long.
const ASKED_PATIENCE: u32 = 8;
const SENT_PATIENCE: u32 = 4;

/// The bytes of what is long; 0 for what is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Long(usize);

impl Long {
    /// How much longer than usual it may take.
    pub(crate) fn time(self) -> Duration {
        Duration::from_millis((self.0 as u64).saturating_mul(1_000) / LONG_RATE)
    }

    pub(crate) const fn is_long(self) -> bool {
        self.0 > 0
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Settings {
    /// What is long of a value with so many bytes.
    pub(crate) const fn long(&self, len: usize) -> Long {
        Long(if len >= self.long_value_bytes { len } else { 0 })
    }
}

impl<P: Plants> Replica<P> {
    /// A piece of a long message from a peer came, or one to it has left.
    pub(crate) fn on_passing(&mut self, cx: &mut Cx<'_>, peer: ReplicaId, coming: bool, kind: u16) {
        if peer == self.me || !self.configuration.lists(peer) {
            return self.ignore(cx, "piece of a replica that is not in the configuration");
        }
        let now = cx.now.monotonic;
        if coming {
            self.passes_from(now, peer, kind);
        } else {
            self.passes_to(now, peer, kind);
        }
    }

    /// How long pieces that pass put off that something is asked for again.
    pub(crate) fn asked_patience(&self) -> Duration {
        self.election_timeout() * ASKED_PATIENCE
    }

    fn passes_from(&mut self, now: Instant, peer: ReplicaId, kind: u16) {
        self.catch_up.passes(peer, now, kind);
        match &mut self.office {
            Office::Candidate(candidate) => candidate.passes(peer, now),
            Office::Follower if self.election.follows(peer) => {
                self.election.sees_progress(now);
                // What waits behind the long message says nothing about the leader.
                self.latencies.forget_slot();
            }
            Office::Follower | Office::Leader(_) => {}
        }
    }

    fn passes_to(&mut self, now: Instant, peer: ReplicaId, kind: u16) {
        let (time, patience) = (self.candidacy_time(), self.election_timeout() * SENT_PATIENCE);
        match &mut self.office {
            Office::Leader(leader) => {
                if let Some(known) = leader.peers.get_mut(&peer.index) {
                    known.flow.passes(now, patience);
                }
            }
            // A candidate waits for its promise. Whatever else it is sent says nothing of it: it may be none any more.
            Office::Follower if kind == PROMISE => {
                self.election.gives_grace(peer, now.after(time));
            }
            Office::Follower | Office::Candidate(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_long_is_given_time_in_proportion() {
        let settings = Settings::default();
        assert!(!settings.long(settings.batch_bytes_max * 3 / 2).is_long());
        assert_eq!(settings.long(settings.batch_bytes_max).time(), Duration::ZERO);
        assert_eq!(settings.long(16 << 20).time(), Duration::from_secs(1));
        let all = settings.long(usize::MAX).and(settings.long(usize::MAX));
        assert!(all.time() > Duration::from_secs(1));
    }
}
