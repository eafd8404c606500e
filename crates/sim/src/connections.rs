//! The connections between nodes: between which processes each stands, when a change of that is noticed,
//! and what a broken one loses.

use bytes::Bytes;

use crate::network::Routed;
use crate::world::{Core, Event, NodeId};

/// The connection between two nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    /// For which processes it is up.
    boots: Option<(u32, u32)>,
    /// Counts the connections there were.
    connection: u32,
}

impl Core {
    /// Whether a connection between two nodes could stand, and between which processes.
    fn link_wanted(&self, a: NodeId, b: NodeId) -> Option<(u32, u32)> {
        let (left, right) = (&self.nodes[usize::from(a.0)], &self.nodes[usize::from(b.0)]);
        let cut = self.network.is_cut(a, b) && self.network.is_cut(b, a);
        (left.running && right.running && !cut).then_some((left.boot, right.boot))
    }

    pub(crate) fn check_link(&mut self, a: NodeId, b: NodeId) {
        let wanted = self.link_wanted(a, b);
        let Some(link) = self.links.get_mut(&(a, b)) else { return };
        let was = std::mem::replace(&mut link.boots, wanted);
        if was == wanted {
            return;
        }
        link.connection += 1;
        for (boots, up) in [(was, false), (wanted, true)] {
            if let Some((left, right)) = boots {
                self.schedule(self.time, Event::Link { node: a, boot: left, peer: b, up });
                self.schedule(self.time, Event::Link { node: b, boot: right, peer: a, up });
            }
        }
    }

    /// Has every connection of a node looked at within `delay_max` nanoseconds.
    pub(crate) fn check_links_of(&mut self, node: NodeId, delay_max: u64) {
        let pairs: Vec<_> =
            self.links.keys().filter(|(a, b)| *a == node || *b == node).copied().collect();
        for (a, b) in pairs {
            let at = self.time + self.prng.below(delay_max + 1);
            self.schedule(at, Event::Check { a, b });
        }
    }

    /// Has every connection looked at, as after a change of the network.
    pub(crate) fn check_all_links(&mut self) {
        let pairs: Vec<_> = self.links.keys().copied().collect();
        for (a, b) in pairs {
            let at = self.time + self.prng.below(self.link_notice_max + 1);
            self.schedule(at, Event::Check { a, b });
        }
    }

    /// Whether a frame is lost because the connection that carried it broke.
    pub(crate) fn broke(&self, from: NodeId, to: NodeId, connection: u32) -> bool {
        let pair = if from < to { (from, to) } else { (to, from) };
        !self.late_frames && self.links.get(&pair).is_none_or(|link| link.connection != connection)
    }

    /// The connection between two nodes, if it stands.
    fn connection(&self, from: NodeId, to: NodeId) -> Option<u32> {
        let pair = if from < to { (from, to) } else { (to, from) };
        let wanted = self.link_wanted(pair.0, pair.1);
        let link = self.links.get(&pair).copied().unwrap_or_default();
        (wanted.is_some() && link.boots == wanted).then_some(link.connection)
    }

    pub(crate) fn send(&mut self, from: NodeId, to: NodeId, bytes: Bytes) {
        let connection = self.connection(from, to);
        let routed = match connection {
            Some(_) => self.network.route(self.time, from, to),
            None => Routed::Lost,
        };
        self.deliver(from, to, connection.unwrap_or_default(), bytes, routed);
    }

    /// Sends a frame behind every one that was sent so before.
    pub(crate) fn send_in_order(&mut self, from: NodeId, to: NodeId, bytes: Bytes) {
        let connection = self.connection(from, to);
        let routed = match connection {
            Some(_) => self.network.route_in_order(self.time, from, to),
            None => Routed::Lost,
        };
        self.deliver(from, to, connection.unwrap_or_default(), bytes, routed);
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, connection: u32, bytes: Bytes, routed: Routed) {
        let boot = self.nodes[usize::from(to.0)].boot;
        match routed {
            Routed::Lost => self.line(from, format_args!("-x {} lost, {} B", to.0, bytes.len())),
            Routed::Once(at) => {
                self.schedule(at, Event::Frame { from, to, boot, connection, bytes })
            }
            Routed::Twice(at, again) => {
                let bytes_again = bytes.clone();
                self.schedule(at, Event::Frame { from, to, boot, connection, bytes });
                let bytes = bytes_again;
                self.schedule(again, Event::Frame { from, to, boot, connection, bytes });
            }
        }
    }
}
