//! A replica that was paused: its process stopped, its machine suspended, its thread starved. It finds
//! its own deadline long past, and everybody silent, and neither says anything about the others (Dadgar
//! et al., "Lifeguard: local health awareness for more accurate failure detection", 2018).
//!
//! A follower listens for one more time-out before it accuses; a leader leads on only once a quorum has
//! answered a round that it began after the pause.

use mainstay_model::{Instant, Plants};

use crate::replica::{Cx, Office, Replica};

/// How often in a row a replica may excuse its leader's silence by a pause of its own.
const EXCUSES_MAX: u32 = 3;

/// What a replica knows of its own pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pauses {
    stepped_at: Instant,
    /// Pauses since the leader was heard.
    excuses: u32,
}

impl Pauses {
    pub(crate) fn new(now: Instant) -> Self {
        Self { stepped_at: now, excuses: 0 }
    }

    /// The leader was heard.
    pub(crate) fn heard(&mut self) {
        self.excuses = 0;
    }
}

impl<P: Plants> Replica<P> {
    /// The beginning of a step: looks whether a deadline passed long ago without one.
    pub(crate) fn notice_pause(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.monotonic;
        let stepped_at = core::mem::replace(&mut self.pauses.stepped_at, now);
        let bound = self.election_timeout() / 2;
        if now.since(stepped_at) <= bound {
            return;
        }
        let due = self.deadline().map(|due| due.max(stepped_at));
        if due.is_none_or(|due| now.since(due) <= bound) {
            return;
        }
        self.forget_timed(now);
        match &mut self.office {
            Office::Leader(leader) => leader.doubt_itself(now),
            Office::Candidate(_) => {}
            Office::Follower if self.pauses.excuses < EXCUSES_MAX => {
                self.pauses.excuses += 1;
                self.listen_again(now);
            }
            Office::Follower => {}
        }
    }
}
