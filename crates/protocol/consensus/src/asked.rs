//! A question for what is missing, and for how long its answer is waited for.

use core::time::Duration;

use mainstay_model::{Instant, ReplicaId, Slot};

/// Which part of the patience with an answer is for pieces of something else.
const OTHERS_SHARE: u32 = 4;

/// One such question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(crate) from: Slot,
    /// Who; all if `None`.
    pub(crate) to: Option<ReplicaId>,
    at: Instant,
    /// Nobody was asked: a long message of the leader comes in, and what is missing most likely with
    /// it. Short messages overtake long ones, so that it is known as decided before.
    pub(crate) comes: bool,
    /// Until when pieces of long messages may put the end of waiting off, if they may: what passes need
    /// not be the answer.
    patient_until: Option<Instant>,
    /// The same for pieces of what is no answer: the answer may wait behind them, or be lost.
    patient_with_others_until: Instant,
}

impl Asked {
    /// What is missing is expected with the long messages of the leader.
    pub(crate) const fn expected(from: Slot, leader: ReplicaId, at: Instant) -> Self {
        let (to, patient_with_others_until) = (Some(leader), at);
        Self { from, to, at, comes: true, patient_until: None, patient_with_others_until }
    }

    /// Somebody is asked, and has that much time while pieces of its long messages pass.
    pub(crate) fn of(from: Slot, to: Option<ReplicaId>, at: Instant, patience: Duration) -> Self {
        let patient_with_others_until = at.after(patience / OTHERS_SHARE);
        let patient_until = Some(at.after(patience));
        Self { from, to, at, comes: false, patient_until, patient_with_others_until }
    }

    /// A piece of a long message of `peer` came, of a page or of something else.
    pub(crate) fn passes(&mut self, peer: ReplicaId, now: Instant, is_page: bool) {
        let is_asked = self.to.is_none_or(|to| to == peer);
        let is_patient = is_page || now < self.patient_with_others_until;
        if is_asked && is_patient && self.patient_until.is_some_and(|until| now < until) {
            self.at = now;
        }
    }

    /// An answer came that does not help: what else passes is none.
    pub(crate) fn came_to_nothing(&mut self) {
        self.patient_until = None;
    }

    /// When it is asked again.
    pub(crate) fn until(&self, resend_interval: Duration) -> Instant {
        self.at.after(resend_interval)
    }

    /// Whether pieces passed for as long as they may, and no answer came.
    pub(crate) fn outlasted_patience(&self, resend_interval: Duration) -> bool {
        self.patient_until.is_some() && self.until(resend_interval) > self.patient_with_others_until
    }
}
