//! Nodes and the messages between them, moved by hand.

use mainstay_check::explore::Envelope;
use mainstay_model::Slot;

use super::{Letter, Node, Sent, World};

/// A group whose messages wait until somebody hands them over.
#[derive(Clone)]
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) nodes: Vec<Node>,
    /// In the order in which they were sent.
    pub(crate) on_the_way: Vec<Envelope<Letter>>,
}

impl Stage {
    pub(crate) fn new(world: World) -> Self {
        let mut stage = Self { nodes: Vec::new(), on_the_way: Vec::new(), world };
        for at in 0..usize::from(stage.world.count) {
            let mut sent = Sent::new();
            let node = stage.world.node(at as u16, &mut sent);
            stage.nodes.push(node);
            stage.post(at, sent);
        }
        stage
    }

    /// A group whose replica 0 leads and has decided its first slot everywhere, and whose disks know.
    pub(crate) fn led(world: World) -> Self {
        let mut stage = Self::new(world);
        stage.settle(|_| true);
        stage.at(0, |world, node, sent| world.stand(0, node, sent));
        for _ in 0..8 {
            stage.settle(|_| false);
            for at in 0..stage.nodes.len() {
                stage.at(at, |world, node, sent| world.sync(node, sent));
            }
        }
        for node in &mut stage.nodes {
            assert_eq!(node.replica.status().decided, Slot(1));
            node.disk.knows_decided(Slot(1));
        }
        stage
    }

    fn post(&mut self, from: usize, sent: Sent) {
        let envelopes = sent.into_iter().map(|(to, message)| Envelope { from, to, message });
        self.on_the_way.extend(envelopes);
    }

    /// Something happens at one node; what it sends is on its way then.
    pub(crate) fn at<R>(
        &mut self,
        at: usize,
        happens: impl FnOnce(&World, &mut Node, &mut Sent) -> R,
    ) -> R {
        let mut sent = Sent::new();
        let result = happens(&self.world, &mut self.nodes[at], &mut sent);
        self.post(at, sent);
        result
    }

    /// Hands over the message at that place.
    pub(crate) fn hand_over(&mut self, place: usize) {
        let Envelope { from, to, message } = self.on_the_way.remove(place);
        self.at(to, |world, node, sent| world.arrive(node, from, &message, sent));
    }

    /// Hands over everything, the oldest first, but what `lost` keeps from arriving.
    pub(crate) fn settle(&mut self, lost: impl Fn(&Envelope<Letter>) -> bool) {
        for _ in 0..10_000 {
            self.on_the_way.retain(|envelope| !lost(envelope));
            if self.on_the_way.is_empty() {
                return;
            }
            self.hand_over(0);
        }
        panic!("the group never comes to rest");
    }
}
