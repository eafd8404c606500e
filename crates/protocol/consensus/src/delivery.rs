//! Handing what is decided to the executor, in order, as far as that keeps up.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use mainstay_model::{Entry, Plant, Plants, ReplicaSet, Slot, Timestamp, Value};

use crate::door::{Effect, ReadPurpose};
use crate::replica::{Cx, Replica};

/// What was handed to the executor and is not applied yet, and which reads of the log are under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Delivery {
    outstanding: VecDeque<(Slot, usize)>,
    bytes: usize,
    pub(crate) reading: bool,
    pub(crate) reading_for: ReplicaSet,
}

impl<P: Plants> Replica<P> {
    /// Whether the executor is not too far behind to be handed more.
    pub(crate) fn delivers_more(&self) -> bool {
        self.delivery.bytes < self.settings.deliver_bytes_max
    }

    /// Hands decided values to the executor, in order, as far as it keeps up.
    pub(crate) fn deliver(&mut self, cx: &mut Cx<'_>) {
        self.look_whether_passed_is_kept();
        while !self.delivery.reading
            && !self.checkpoints.diverged()
            && !self.log.begins_too_late()
            && self.log.delivered_upto < self.log.decided_upto
            && self.delivers_more()
        {
            let slot = self.log.delivered_upto.next();
            let uncertain = self.acceptor.first_uncertain(slot);
            if uncertain == Some(slot) {
                break;
            }
            if let Some(kept) = self.log.get(slot) {
                let value = kept.entry.value.clone();
                self.deliver_one(cx, slot, value);
                continue;
            }
            let mut upto = self.log.decided_upto;
            if let Some(kept) = self.log.first_kept_from(slot) {
                upto = upto.min(kept.previous());
            }
            if let Some(damaged) = uncertain {
                upto = upto.min(damaged.previous());
            }
            self.delivery.reading = true;
            cx.out.push(Effect::ReadLog {
                from: slot,
                upto,
                bytes_max: self.settings.page_bytes_max,
                purpose: ReadPurpose::Deliver,
            });
        }
    }

    /// What was passed on stands in the log once all of it has been fetched again.
    fn look_whether_passed_is_kept(&mut self) {
        let Some(from) = self.log.passed_from else { return };
        let upto = self.log.delivered_upto;
        let uncertain = self.acceptor.first_uncertain(from).is_some_and(|slot| slot <= upto);
        if upto <= self.log.decided_upto && !uncertain {
            self.log.passed_from = None;
        }
    }

    fn deliver_one(&mut self, cx: &mut Cx<'_>, slot: Slot, value: Value) {
        self.log.delivered_upto = slot;
        self.hand_out(cx, slot, value);
    }

    pub(crate) fn hand_out(&mut self, cx: &mut Cx<'_>, slot: Slot, value: Value) {
        self.log.note_time(value.time());
        self.delivery.bytes += value.len();
        self.delivery.outstanding.push_back((slot, value.len()));
        cx.out.push(Effect::Deliver { slot, value });
    }

    pub(crate) fn on_log_read(
        &mut self,
        cx: &mut Cx<'_>,
        from: Slot,
        purpose: ReadPurpose,
        entries: Vec<Entry>,
    ) {
        match purpose {
            ReadPurpose::CatchUp(peer) => {
                self.delivery.reading_for.remove(peer.index);
                self.give(cx, peer, from, entries);
            }
            ReadPurpose::Deliver => {
                self.delivery.reading = false;
                if from != self.log.delivered_upto.next() {
                    // Asked for before a checkpoint was installed.
                    return self.deliver(cx);
                }
                assert!(!entries.is_empty(), "the log lost a decided entry");
                let mut slot = from;
                for entry in entries {
                    if slot > self.log.decided_upto {
                        break;
                    }
                    self.deliver_one(cx, slot, entry.value);
                    slot = slot.next();
                }
                self.deliver(cx);
            }
        }
    }

    /// A checkpoint was put in the place of everything delivered.
    pub(crate) fn restart_delivery(&mut self, slot: Slot) {
        self.delivery.outstanding.clear();
        self.delivery.bytes = 0;
        self.log.restart_after(slot);
    }

    pub(crate) fn on_applied(
        &mut self,
        cx: &mut Cx<'_>,
        upto: Slot,
        time: Timestamp,
        wake: Option<Timestamp>,
    ) {
        self.flush_due |= wake != self.wake;
        self.wake = wake;
        if !self.plants.has(Plant::TimeForgottenAtRestart) {
            self.log.note_time(time);
        }
        assert!(upto <= self.log.delivered_upto, "the world applied what was never delivered");
        self.log.applied_upto = self.log.applied_upto.max(upto);
        while let Some((slot, len)) = self.delivery.outstanding.front().copied() {
            if slot > upto {
                break;
            }
            self.delivery.bytes -= len;
            self.delivery.outstanding.pop_front();
        }
        self.deliver(cx);
        // Values that were more than the executor could take are asked for again.
        self.flush_due |= !self.acceptor.room && self.catch_up.target > self.log.delivered_upto;
        self.look_at_pace();
    }
}
