//! Which process is a peer. A copy of a replica's folder that is started beside the original says that it
//! is that replica, too, and neither can know of the other. Each process draws a number when it starts
//! and tells it in its hello: so a peer that reconnects or was started again is told from a second one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use mainstay_model::{Instant, ReplicaId};

/// How long after its last word a process counts as running, while its connection stands.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// How long a second process stays worth a warning.
const WARNED_FOR: Duration = Duration::from_secs(10);

/// A process that says that it is a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claimant {
    /// The number that it drew.
    pub(crate) process: u64,
    /// Its host, and where it listens to its peers.
    pub(crate) address: SocketAddr,
}

#[derive(Debug)]
struct Claim {
    holder: Claimant,
    came_at: Instant,
    heard_at: Instant,
    connected: bool,
    /// The last one that was turned away, and when.
    rival: Option<(Claimant, Instant)>,
}

/// What is known of each peer's process.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    claims: BTreeMap<ReplicaId, Claim>,
}

impl Claims {
    /// Lets a process in as `peer`, unless another one is connected as that and was heard just now:
    /// returns that one then. Otherwise returns whether that is worth a line: not where the peer comes
    /// again and again.
    pub(crate) fn admit(
        &mut self,
        now: Instant,
        peer: ReplicaId,
        claimant: Claimant,
    ) -> Result<bool, Claimant> {
        let known = self.claims.get_mut(&peer);
        if let Some(claim) = known
            && claim.holder.process != claimant.process
            && claim.connected
            && now.since(claim.heard_at) < SILENT_AFTER
        {
            claim.rival = Some((claimant, now));
            return Err(claim.holder);
        }
        let known = self.claims.remove(&peer);
        let is_news = known.as_ref().is_none_or(|claim| now.since(claim.came_at) >= SILENT_AFTER);
        let rival = known.and_then(|claim| claim.rival);
        let (came_at, heard_at) = (now, now);
        let claim = Claim { holder: claimant, came_at, heard_at, connected: true, rival };
        self.claims.insert(peer, claim);
        Ok(is_news)
    }

    /// The peer was heard.
    pub(crate) fn heard(&mut self, now: Instant, peer: ReplicaId) {
        if let Some(claim) = self.claims.get_mut(&peer) {
            claim.heard_at = now;
        }
    }

    /// The peer's connection is gone.
    pub(crate) fn left(&mut self, peer: ReplicaId) {
        if let Some(claim) = self.claims.get_mut(&peer) {
            claim.connected = false;
        }
    }

    /// What an operator should know, one sentence each.
    pub(crate) fn warnings(&self, now: Instant) -> impl Iterator<Item = String> + '_ {
        self.claims.iter().filter_map(move |(peer, claim)| {
            let (rival, at) = claim.rival?;
            let fresh = now.since(at) < WARNED_FOR && rival.process != claim.holder.process;
            fresh.then(|| two_claim(*peer, claim.holder.address, rival.address))
        })
    }
}

/// The sentence about two processes.
pub(crate) fn two_claim(peer: ReplicaId, one: SocketAddr, other: SocketAddr) -> String {
    format!(
        "two processes claim to be replica {}: {one} and {other}: stop one of them, and never start a \
         copy of a replica's folder",
        peer.index
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_model::Epoch;

    const PEER: ReplicaId = ReplicaId { index: 1, epoch: Epoch { counter: 1, instance: 7 } };

    fn claimant(process: u64) -> Claimant {
        let address = SocketAddr::from(([127, 0, 0, 1], 7500 + process as u16));
        Claimant { process, address }
    }

    fn ms(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn a_second_process_is_turned_away_while_the_first_one_is_heard() {
        let mut claims = Claims::default();
        assert_eq!(claims.admit(ms(0), PEER, claimant(1)), Ok(true));
        claims.heard(ms(900), PEER);
        assert_eq!(claims.admit(ms(1_800), PEER, claimant(2)), Err(claimant(1)));
        let warned: Vec<String> = claims.warnings(ms(2_000)).collect();
        assert_eq!(warned.len(), 1);
        assert!(warned[0].contains("replica 1: 127.0.0.1:7501 and 127.0.0.1:7502"), "{warned:?}");
        assert_eq!(claims.warnings(ms(12_000)).count(), 0, "it has not come again");
    }

    #[test]
    fn a_process_that_reconnects_or_was_started_again_is_let_in() {
        let mut claims = Claims::default();
        assert_eq!(claims.admit(ms(0), PEER, claimant(1)), Ok(true));
        assert_eq!(claims.admit(ms(1), PEER, claimant(1)), Ok(false), "over another connection");
        claims.left(PEER);
        assert_eq!(claims.admit(ms(2), PEER, claimant(2)), Ok(false), "the first one is gone");
        assert_eq!(claims.admit(ms(1_100), PEER, claimant(3)), Ok(true), "without a word");
        assert_eq!(claims.warnings(ms(1_100)).count(), 0);
    }
}
