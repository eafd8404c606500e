//! What a process may do: the only way from it into the world.

use std::fmt;

use bytes::Bytes;
use mainstay_check::Observation;
use mainstay_model::{Instant, Now, Prng, Slot};

use crate::disk::SimDisk;
use crate::record::{Asking, Recorder};
use crate::registers::Answer;
use crate::world::{Core, Event, NodeId};

/// What a process may do.
#[derive(Debug)]
pub struct Cx<'a> {
    node: NodeId,
    core: &'a mut Core,
}

impl<'a> Cx<'a> {
    pub(crate) const fn new(node: NodeId, core: &'a mut Core) -> Self {
        Self { node, core }
    }

    /// The node it runs on.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// How many processes ran on this node, this one included.
    pub fn boot(&mut self) -> u32 {
        self.core.node(self.node).boot
    }

    /// How many nodes are replicas; the first ones.
    #[must_use]
    pub const fn replicas(&self) -> u16 {
        self.core.replicas
    }

    /// The node's clocks.
    pub fn now(&mut self) -> Now {
        let time = self.core.time;
        self.core.node(self.node).clock.now(time)
    }

    /// Virtual time, which no process may act on: for histories and traces.
    #[must_use]
    pub const fn time(&self) -> u64 {
        self.core.time
    }

    /// The node's own generator.
    pub fn prng(&mut self) -> &mut Prng {
        &mut self.core.node(self.node).prng
    }

    /// The folder on the node's disk.
    pub fn disk(&mut self) -> SimDisk {
        self.core.node(self.node).disk.clone()
    }

    /// How many times longer the disk takes than usual.
    pub fn disk_slowness(&mut self) -> u64 {
        self.core.node(self.node).disk_slowness
    }

    /// Whether the program that runs here can restore no checkpoint.
    pub fn refuses(&mut self) -> bool {
        let node = self.core.node(self.node);
        node.refuses || node.restores_none
    }

    /// How many times longer the executor takes than usual.
    pub fn executor_slowness(&mut self) -> u64 {
        self.core.node(self.node).executor_slowness
    }

    /// Once everything was healed: up to where the log was decided then.
    #[must_use]
    pub const fn closing(&self) -> Option<Slot> {
        self.core.closing
    }

    /// Sends one frame; it may be lost.
    pub fn send(&mut self, to: NodeId, bytes: Bytes) {
        self.core.send(self.node, to, bytes);
    }

    /// Sends one frame that arrives, if it does, once, and behind every one sent so before.
    pub fn send_in_order(&mut self, to: NodeId, bytes: Bytes) {
        self.core.send_in_order(self.node, to, bytes);
    }

    /// Asks for [`crate::world::Process::on_timer`] once the monotonic clock shows `instant`.
    pub fn timer_at(&mut self, instant: Instant, timer: u64) {
        let time = self.core.node(self.node).clock.virtual_time(instant);
        self.timer_virtual(time, timer);
    }

    /// Asks for [`crate::world::Process::on_timer`] after that many nanoseconds: what a disk or an executor takes.
    pub fn timer_in(&mut self, nanos: u64, timer: u64) {
        self.timer_virtual(self.core.time + nanos, timer);
    }

    fn timer_virtual(&mut self, time: u64, timer: u64) {
        let boot = self.boot();
        self.core.schedule(time, Event::Timer { node: self.node, boot, timer });
    }

    /// Adds a line to the trace.
    pub fn line(&mut self, what: fmt::Arguments<'_>) {
        self.core.line(self.node, what);
    }

    /// Counts a step of a machine.
    ///
    /// # Panics
    /// If there are too many of them at this instant: nothing else could end what calls itself.
    pub fn count_step(&mut self) {
        let time = self.core.time;
        if let Err(violation) = self.core.meter.count(time) {
            self.core.found(Some(violation.clone()));
            panic!("{}", violation.detail);
        }
    }

    /// What checkers look at.
    pub const fn recorder(&mut self) -> &mut Recorder {
        &mut self.core.recorder
    }

    /// A client was answered.
    pub fn done(&mut self, asking: Asking, answer: Answer) {
        let time = self.core.time;
        if let Some(violation) = self.core.recorder.done(asking, time, answer) {
            self.violated(violation.property, violation.detail);
        }
    }

    /// Notes that a property does not hold.
    pub fn violated(&mut self, property: &'static str, detail: String) {
        self.core.violated(property, detail);
    }

    /// Ends this process once the current event has been handled.
    pub fn stop(&mut self, why: String) {
        self.core.node(self.node).stop = Some(why);
    }
}

/// What only replicas do.
impl Cx<'_> {
    /// Something happened that properties watch.
    pub fn observe(&mut self, observation: &Observation) {
        let time = self.core.time;
        if let Some(violation) = self.core.recorder.observe(time, observation) {
            self.violated(violation.property, violation.detail);
        }
    }

    /// The log of this replica reports damage. If nobody damaged it, that is a violation.
    pub fn damage_found(&mut self, what: &str) {
        // What cannot be read without power is not damaged.
        if self.core.node(self.node).disk.has_lost_power() {
            return;
        }
        if !self.core.budget.damaged.contains(&self.node) {
            let detail = format!("replica {} reports damage that nobody did: {what}", self.node.0);
            self.violated("invariant", detail);
        }
    }

    /// Empties the folder on the node's disk.
    pub fn wipe(&mut self) {
        let node = self.core.node(self.node);
        node.disk = node.disk.wipe();
    }
}
