//! What goes wrong between nodes: directions in which nothing passes, or in which everything is late.

use std::collections::BTreeSet;

use mainstay_model::Prng;

use crate::fault::Fault;
use crate::world::{NodeId, World};

/// How a network is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Division {
    /// One replica cannot reach the others, nor they it.
    Alone,
    /// The same, and it is the leader if there is one.
    LeaderAlone,
    /// Nothing that one replica sends arrives.
    Mute,
    /// Nothing that is sent to one replica arrives.
    Deaf,
    /// Two halves.
    Halves,
    /// One direction between two replicas.
    OneWay,
    /// Both directions between two replicas.
    Pair,
    /// Every replica reaches one hub, and nobody else.
    Hub,
}

impl World {
    pub(crate) fn cut(&mut self, cuts: &[(NodeId, NodeId)]) {
        for &(from, to) in cuts {
            self.core.trace.event(self.core.time, None, format_args!("cut {} -> {}", from.0, to.0));
            self.core.network.cut(from, to);
        }
        self.core.check_all_links();
    }

    pub(crate) fn divide(&mut self, division: Division, length: u64) {
        let leader = self.leader();
        let cuts = cuts(division, self.core.replicas, leader, &mut self.core.prng);
        self.cut(&cuts);
        if length > 0 {
            self.core.plan(self.core.time + length, Fault::Mend);
        }
    }

    pub(crate) fn mend(&mut self) {
        self.core.trace.event(self.core.time, None, format_args!("mended"));
        self.core.network.mend();
        self.core.check_all_links();
    }

    /// What is sent where a division would cut arrives later.
    pub(crate) fn delay(&mut self, division: Division, by: u64, length: u64) {
        let leader = self.leader();
        let late = cuts(division, self.core.replicas, leader, &mut self.core.prng);
        let what = format_args!("late by {} ms: {late:?}", by / 1_000_000);
        self.core.trace.event(self.core.time, None, what);
        late.iter().for_each(|&(from, to)| self.core.network.delay(from, to, by));
        self.core.plan(self.core.time + length, Fault::OnTime);
    }

    pub(crate) fn end_delays(&mut self) {
        self.core.trace.event(self.core.time, None, format_args!("nothing is late"));
        self.core.network.end_delays();
    }
}

/// The directions that a division cuts.
fn cuts(
    division: Division,
    replicas: u16,
    leader: Option<NodeId>,
    prng: &mut Prng,
) -> Vec<(NodeId, NodeId)> {
    let any = NodeId(prng.below(u64::from(replicas)) as u16);
    // Half of the time it is the leader that suffers: there lie the interesting cases.
    let leads = division == Division::LeaderAlone || prng.chance(1, 2);
    let one = leader.filter(|_| leads).unwrap_or(any);
    let other = NodeId((one.0 + 1 + prng.below(u64::from(replicas).max(2) - 1) as u16) % replicas);
    let side: BTreeSet<NodeId> = (0..replicas).map(NodeId).filter(|_| prng.chance(1, 2)).collect();
    let mut cuts = Vec::new();
    for from in (0..replicas).map(NodeId) {
        for to in (0..replicas).map(NodeId).filter(|&to| to != from) {
            let cut = match division {
                Division::Alone | Division::LeaderAlone => from == one || to == one,
                Division::Mute => from == one,
                Division::Deaf => to == one,
                Division::Halves => side.contains(&from) != side.contains(&to),
                Division::OneWay => (from, to) == (one, other),
                Division::Pair => (from, to) == (one, other) || (from, to) == (other, one),
                Division::Hub => from != other && to != other,
            };
            if cut {
                cuts.push((from, to));
            }
        }
    }
    cuts
}
