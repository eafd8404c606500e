//! What the log knows about each group while it is open.

use std::collections::BTreeMap;

use mainstay_model::{Ballot, ConfigurationId, GroupId, ReplicaId, Slot, SlotRange, Timestamp};

use crate::error::Damage;
use crate::index::{Location, SlotIndex};
use crate::layout::{Kind, RecordHead};

/// One group: its watermarks as of the last record, and where its entries stand.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) promised: Ballot,
    /// The highest ballot in which this replica itself wanted to lead.
    pub(crate) own: Ballot,
    pub(crate) decided_upto: Slot,
    /// Every slot up to here was given up: whatever the log still holds of it counts for nothing.
    pub(crate) truncated_upto: Slot,
    /// What [`crate::Log::discard`] last allowed for this group; not kept on the disk.
    pub(crate) covered_upto: Slot,
    pub(crate) configuration: ConfigurationId,
    /// The latest time of any value that was found at the start.
    pub(crate) time: Timestamp,
    pub(crate) index: SlotIndex,
    /// Slots whose latest record is damaged, and where.
    pub(crate) damaged: BTreeMap<Slot, Damage>,
}

impl Group {
    /// Takes note of a record at `location`; `damage` says that its value is lost.
    pub(crate) fn note(
        &mut self,
        me: ReplicaId,
        head: &RecordHead,
        location: Location,
        damage: Option<Damage>,
    ) {
        self.promised = self.promised.max(head.promised);
        if head.promised.leader == me {
            self.own = self.own.max(head.promised);
        }
        self.decided_upto = self.decided_upto.max(head.decided_upto);
        self.configuration = head.configuration;
        match head.kind {
            Kind::Promise => {}
            Kind::State => {
                self.own = self.own.max(head.ballot);
                self.truncate(head.slot);
            }
            Kind::Accept | Kind::Learn if head.slot <= self.truncated_upto => {}
            Kind::Accept | Kind::Learn => match damage {
                Some(damage) => {
                    // An older record of the slot is no substitute: this one superseded it.
                    self.index.remove(head.slot);
                    self.damaged.insert(head.slot, damage);
                }
                None => {
                    self.index.insert(head.slot, location);
                    self.damaged.remove(&head.slot);
                }
            },
        }
    }

    /// Gives up every slot up to `upto`.
    pub(crate) fn truncate(&mut self, upto: Slot) {
        if upto > self.truncated_upto {
            self.truncated_upto = upto;
            self.index.forget(upto);
            self.damaged = self.damaged.split_off(&upto.next());
        }
    }

    /// The highest slot known as decided: by a record, or by the checkpoint that replaced records.
    pub(crate) fn known_upto(&self) -> Slot {
        self.decided_upto.max(self.truncated_upto)
    }

    /// The record that stands for this group at the beginning of a segment; its place in the log is
    /// for the log to fill in.
    pub(crate) fn state(&self) -> RecordHead {
        RecordHead {
            kind: Kind::State,
            previous: 0,
            value_len: 0,
            value_checksum: 0,
            group: GroupId::NODE,
            sequence: 0,
            synced_upto: 0,
            slot: self.truncated_upto,
            decided_upto: self.decided_upto,
            configuration: self.configuration,
            ballot: self.own,
            promised: self.promised,
        }
    }

    /// The slots the replica cannot speak for, as ranges in ascending order: decided ones that have
    /// no intact record, and others whose latest record is damaged.
    pub(crate) fn uncertain(&self) -> Vec<SlotRange> {
        let mut ranges: Vec<SlotRange> = Vec::new();
        let mut next = self.truncated_upto.next();
        let decided = self.index.from(next).map(|(slot, _)| slot);
        for slot in decided.take_while(|&slot| slot <= self.decided_upto) {
            if slot > next {
                ranges.push(SlotRange { first: next, last: slot.previous() });
            }
            next = slot.next();
        }
        if next <= self.decided_upto {
            ranges.push(SlotRange { first: next, last: self.decided_upto });
        }
        for (&slot, _) in self.damaged.range(self.known_upto().next()..) {
            match ranges.last_mut() {
                Some(range) if range.last.next() == slot => range.last = slot,
                _ => ranges.push(SlotRange { first: slot, last: slot }),
            }
        }
        ranges
    }
}
