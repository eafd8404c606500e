//! Virtual time, one queue of events in the order of (time, sequence number), and the nodes.
//!
//! A node runs one [`Process`] at a time, which hears of frames, links and its own timers, and acts
//! through its [`Cx`]. Between nodes pass encoded frames and nothing else; a process that ends
//! leaves nothing behind but its disk.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use mainstay_model::{Prng, Slot};

use crate::clock::NodeClock;
use crate::connections::Link;
use crate::context::Cx;
use crate::disk::SimDisk;
use crate::fault::{Budget, Fault};
use crate::meter::Meter;
use crate::network::Network;
use crate::record::Recorder;
use crate::trace::Trace;

/// A node of the world: replicas first, clients after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

/// What runs on a node.
pub trait Process {
    /// The process was started.
    fn start(&mut self, cx: &mut Cx<'_>);
    /// Bytes came from another node: one frame.
    fn on_frame(&mut self, cx: &mut Cx<'_>, from: NodeId, bytes: Bytes);
    /// The connection to another node came up or went down.
    fn on_link(&mut self, cx: &mut Cx<'_>, peer: NodeId, up: bool);
    /// A timer of this process has come.
    fn on_timer(&mut self, cx: &mut Cx<'_>, timer: u64);
    /// An operator tells it something.
    fn instruct(&mut self, _cx: &mut Cx<'_>, _instruction: Instruction) {}
    /// Something goes wrong inside it.
    fn harm(&mut self, _harm: Harm) {}
    /// How it stands, for faults that aim and for the end of the run.
    fn picture(&mut self) -> Picture;
}

/// How a process stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Whether it leads a group.
    pub leads: bool,
    /// Whether it wants to, and waits for promises.
    pub campaigns: bool,
    /// The round of the highest ballot that it has promised.
    pub ballot: u64,
    /// The last slot it has applied.
    pub applied: u64,
    /// The digest of its state at that slot.
    pub digest: u64,
    /// Requests not yet answered or not yet asked.
    pub open: usize,
    /// The last slot of which it holds a checkpoint and knows a stable one.
    pub stable: u64,
    /// Whether it fetches a checkpoint.
    pub fetches: bool,
    /// Its log begins after this slot.
    pub truncated: u64,
    /// Bytes of its log.
    pub log_bytes: u64,
    /// Whether its log has room for entries.
    pub has_room: bool,
    /// How many checkpoints it holds.
    pub checkpoints: usize,
    /// What time it is for its group, as far as it knows, in nanoseconds.
    pub time: u64,
}

/// What an operator may tell a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// It will be stopped shortly and may hand over what it leads.
    Retire,
    /// This replica is to lead.
    LeaderMove(u16),
    /// Clocks that lie far ahead of decided time are right.
    ConfirmClockJump,
}

/// What may go wrong inside a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// Its state becomes another than the log says, in a way that no answer tells.
    Spoil,
    /// Whether its service hangs: it has been given a request and does not come back.
    Hang(bool),
    /// Its service panics over the next request.
    Panic,
    /// So many times it gives a piece of another checkpoint than the one asked for.
    WrongPieces(u32),
}

/// Starts processes.
pub trait Boot {
    /// Starts the process of the node of `cx`.
    ///
    /// # Errors
    /// A sentence: the process ended at once; it is tried again later.
    fn boot(&mut self, cx: &mut Cx<'_>) -> Result<Box<dyn Process>, String>;
}

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub property: &'static str,
    /// When, in nanoseconds of virtual time.
    pub time: u64,
    /// What happened.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.time / 1_000_000_000, self.time % 1_000_000_000 / 1_000_000);
        write!(f, "{} violated at {seconds}.{millis:03}s: {}", self.property, self.detail)
    }
}

#[derive(Debug)]
pub(crate) enum Event {
    Frame {
        from: NodeId,
        to: NodeId,
        boot: u32,
        connection: u32,
        bytes: Bytes,
    },
    Timer {
        node: NodeId,
        boot: u32,
        timer: u64,
    },
    Link {
        node: NodeId,
        boot: u32,
        peer: NodeId,
        up: bool,
    },
    Instruct {
        node: NodeId,
        boot: u32,
        instruction: Instruction,
    },
    /// Looks whether a connection should be up.
    Check {
        a: NodeId,
        b: NodeId,
    },
    /// A node that was busy takes up what waits.
    Wake {
        node: NodeId,
    },
    Start {
        node: NodeId,
        boot: u32,
    },
    Fault(Fault),
}

#[derive(Debug)]
struct Scheduled {
    time: u64,
    sequence: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.sequence).cmp(&(other.time, other.sequence))
    }
}

/// What the world knows of a node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) clock: NodeClock,
    pub(crate) disk: SimDisk,
    pub(crate) prng: Prng,
    pub(crate) running: bool,
    /// Counts the processes that ran on the node.
    pub(crate) boot: u32,
    /// Stays down until it is healed.
    pub(crate) held_down: bool,
    pub(crate) paused: bool,
    /// How long one event takes it, in nanoseconds.
    pub(crate) step_cost: u64,
    /// How many times longer its disk takes than usual.
    pub(crate) disk_slowness: u64,
    /// How many times longer its executor takes than usual.
    pub(crate) executor_slowness: u64,
    /// Its program can restore no checkpoint.
    pub(crate) refuses: bool,
    /// Its service can restore no checkpoint for a while.
    pub(crate) restores_none: bool,
    /// Its service has panicked, or is about to.
    pub(crate) panics: bool,
    busy_until: u64,
    pub(crate) inbox: VecDeque<Event>,
    wake_at: Option<u64>,
    pub(crate) stop: Option<String>,
}

/// Everything but the processes.
#[derive(Debug)]
pub struct Core {
    pub(crate) time: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) replicas: u16,
    pub(crate) network: Network,
    pub(crate) budget: Budget,
    pub(crate) links: BTreeMap<(NodeId, NodeId), Link>,
    /// Whether what a broken connection carried may still arrive.
    pub(crate) late_frames: bool,
    /// The longest until a changed connection is noticed, in nanoseconds.
    pub(crate) link_notice_max: u64,
    pub(crate) prng: Prng,
    pub(crate) trace: Trace,
    pub(crate) meter: Meter,
    pub(crate) recorder: Recorder,
    pub(crate) violation: Option<Violation>,
    /// What was decided when everything was healed.
    pub(crate) closing: Option<Slot>,
}

/// Usual cost of one event, in nanoseconds.
pub(crate) const STEP_COST: u64 = 3_000;

/// What a world is made of.
#[derive(Debug)]
pub struct Parts {
    /// How many nodes are replicas; the first ones.
    pub replicas: u16,
    /// How many are clients; the others.
    pub clients: u16,
    /// The network.
    pub network: Network,
    /// The most that a clock runs too fast or too slow, in millionths.
    pub drift_ppm_max: u64,
    /// The longest until a changed connection is noticed, in nanoseconds.
    pub link_notice_max: u64,
    /// Whether what a broken connection carried may still arrive.
    pub late_frames: bool,
    /// How many replicas may lose what they promised.
    pub damaged_max: usize,
    /// Whether the lines of the trace are kept.
    pub keep_trace: bool,
    /// Draws everything else.
    pub prng: Prng,
}

/// The simulated world.
pub struct World {
    /// Everything but the processes.
    pub core: Core,
    pub(crate) processes: Vec<Option<Box<dyn Process>>>,
    boot: Box<dyn Boot>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("time", &self.core.time).finish_non_exhaustive()
    }
}

impl World {
    /// A world whose processes all start at once.
    #[must_use]
    pub fn new(mut parts: Parts, boot: Box<dyn Boot>) -> Self {
        let count = parts.replicas + parts.clients;
        let nodes = (0..count).map(|_| Node::new(&mut parts)).collect();
        let mut core = Core {
            time: 0,
            sequence: 0,
            queue: BinaryHeap::new(),
            nodes,
            replicas: parts.replicas,
            network: parts.network,
            budget: Budget { damaged_max: parts.damaged_max, damaged: Default::default() },
            links: BTreeMap::new(),
            late_frames: parts.late_frames,
            link_notice_max: parts.link_notice_max,
            trace: Trace::new(parts.replicas, parts.keep_trace),
            meter: Meter::new(count),
            recorder: Recorder::default(),
            violation: None,
            closing: None,
            prng: parts.prng,
        };
        for b in 0..count {
            for a in 0..b.min(parts.replicas) {
                core.links.insert((NodeId(a), NodeId(b)), Link::default());
            }
            core.schedule(0, Event::Start { node: NodeId(b), boot: 0 });
        }
        Self { core, processes: (0..count).map(|_| None).collect(), boot }
    }

    /// Runs until `time`, or until a property is violated.
    pub fn run_until(&mut self, time: u64) {
        while self.core.violation.is_none() {
            match self.core.queue.peek() {
                Some(Reverse(next)) if next.time <= time => {}
                _ => {
                    self.core.time = self.core.time.max(time);
                    return;
                }
            }
            if let Some(Reverse(next)) = self.core.queue.pop() {
                self.core.time = next.time;
                let counted = self.core.meter.count(next.time);
                if !self.core.is_broken(counted) {
                    self.handle(next.event);
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Fault(fault) => self.on_fault(fault),
            Event::Check { a, b } => self.core.check_link(a, b),
            Event::Start { node, boot } => self.start(node, boot),
            Event::Wake { node } => {
                self.core.node(node).wake_at = None;
                self.pump(node);
            }
            Event::Frame { from, to, connection, .. } if self.core.broke(from, to, connection) => {
                self.core.line(to, format_args!("<- {} lost with its connection", from.0));
            }
            Event::Frame { to: node, boot, .. }
            | Event::Timer { node, boot, .. }
            | Event::Instruct { node, boot, .. }
            | Event::Link { node, boot, .. } => {
                let state = self.core.node(node);
                if state.running && state.boot == boot {
                    state.inbox.push_back(event);
                    self.pump(node);
                }
            }
        }
    }

    /// Lets a node take up the next event that waits for it, if it can.
    pub(crate) fn pump(&mut self, node: NodeId) {
        let time = self.core.time;
        loop {
            let state = self.core.node(node);
            if state.paused || !state.running || state.inbox.is_empty() {
                return;
            }
            if state.busy_until > time {
                if state.wake_at.is_none() {
                    let at = state.busy_until;
                    state.wake_at = Some(at);
                    self.core.schedule(at, Event::Wake { node });
                }
                return;
            }
            state.busy_until = time + state.step_cost;
            let counted = self.core.meter.count_of(node.0, time);
            if self.core.is_broken(counted) {
                return;
            }
            if let Some(event) = self.core.node(node).inbox.pop_front() {
                self.carry_out(node, event);
            }
        }
    }

    fn carry_out(&mut self, node: NodeId, event: Event) {
        let Some(mut process) = self.processes[usize::from(node.0)].take() else { return };
        let result = self.guarded(node, |cx| match event {
            Event::Frame { from, bytes, .. } => process.on_frame(cx, from, bytes),
            Event::Timer { timer, .. } => process.on_timer(cx, timer),
            Event::Link { peer, up, .. } => process.on_link(cx, peer, up),
            Event::Instruct { instruction, .. } => process.instruct(cx, instruction),
            Event::Check { .. } | Event::Wake { .. } | Event::Start { .. } | Event::Fault(_) => {}
        });
        if result.is_some() {
            self.processes[usize::from(node.0)] = Some(process);
            self.stop_if_asked(node);
        }
    }

    /// Calls into a process; a panic in it ends the run.
    fn guarded<R>(&mut self, node: NodeId, call: impl FnOnce(&mut Cx<'_>) -> R) -> Option<R> {
        let mut cx = Cx::new(node, &mut self.core);
        match crate::panics::caught(|| catch_unwind(AssertUnwindSafe(|| call(&mut cx)))) {
            Ok(result) => Some(result),
            Err(_) if self.core.node(node).disk.has_lost_power() => {
                // Ignore anything a powered-off machine does.
                self.stop_if_asked(node);
                None
            }
            Err(panic) => {
                let detail = format!("replica {}: {}", node.0, panic_text(panic.as_ref()));
                self.core.violated("invariant", detail);
                None
            }
        }
    }

    fn start(&mut self, node: NodeId, boot: u32) {
        let state = self.core.node(node);
        if state.running || state.boot != boot || state.held_down {
            return;
        }
        state.running = true;
        state.boot += 1;
        state.inbox.clear();
        state.busy_until = 0;
        self.core.line(node, format_args!("starts, boot {}", boot + 1));
        let mut booter = std::mem::replace(&mut self.boot, Box::new(NoBoot));
        let booted = self.guarded(node, |cx| {
            let mut process = booter.boot(cx)?;
            process.start(cx);
            Ok::<_, String>(process)
        });
        self.boot = booter;
        match booted {
            Some(Ok(process)) => {
                self.processes[usize::from(node.0)] = Some(process);
                self.core.check_links_of(node, 2_000_000);
                self.stop_if_asked(node);
            }
            Some(Err(sentence)) => {
                self.core.node(node).stop = Some(sentence);
                self.stop_if_asked(node);
            }
            None => {}
        }
    }

    /// How the process of a node stands; `None` where none runs.
    pub fn picture(&mut self, node: NodeId) -> Option<Picture> {
        self.processes[usize::from(node.0)].as_mut().map(|process| process.picture())
    }

    /// The lowest replica that leads and runs.
    pub fn leader(&mut self) -> Option<NodeId> {
        (0..self.core.replicas).map(NodeId).find(|&node| {
            !self.core.node(node).paused && self.picture(node).is_some_and(|picture| picture.leads)
        })
    }
}

struct NoBoot;

impl Boot for NoBoot {
    fn boot(&mut self, _: &mut Cx<'_>) -> Result<Box<dyn Process>, String> {
        Err("a start within a start".to_owned())
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&'static str>().copied())
        .unwrap_or("a panic without words");
    format!("{said} ({})", crate::panics::last_place())
}

impl Node {
    fn new(parts: &mut Parts) -> Self {
        let mut prng = parts.prng.split();
        let drift = prng.between(0, 2 * parts.drift_ppm_max) as i64 - parts.drift_ppm_max as i64;
        let base = prng.below(1 << 40);
        let wall_offset = prng.between(0, 20_000_000) as i64 - 10_000_000;
        Self {
            clock: NodeClock::new(drift, base, wall_offset),
            disk: SimDisk::new(prng.split()),
            prng,
            running: false,
            boot: 0,
            held_down: false,
            paused: false,
            step_cost: STEP_COST,
            disk_slowness: 1,
            executor_slowness: 1,
            refuses: false,
            restores_none: false,
            panics: false,
            busy_until: 0,
            inbox: VecDeque::new(),
            wake_at: None,
            stop: None,
        }
    }
}

impl Core {
    pub(crate) fn schedule(&mut self, time: u64, event: Event) {
        let sequence = self.sequence;
        self.sequence += 1;
        self.queue.push(Reverse(Scheduled { time: time.max(self.time), sequence, event }));
    }

    /// Plans a fault at a virtual time.
    pub fn plan(&mut self, time: u64, fault: Fault) {
        self.schedule(time, Event::Fault(fault));
    }

    pub(crate) fn node(&mut self, node: NodeId) -> &mut Node {
        &mut self.nodes[usize::from(node.0)]
    }

    /// Virtual time, in nanoseconds since the run began.
    #[must_use]
    pub const fn time(&self) -> u64 {
        self.time
    }

    pub(crate) fn line(&mut self, node: NodeId, what: fmt::Arguments<'_>) {
        self.trace.event(self.time, Some(node), what);
    }

    /// Notes that a property does not hold; the first one counts.
    pub(crate) fn violated(&mut self, property: &'static str, detail: String) {
        self.trace.event(self.time, None, format_args!("{property} violated: {detail}"));
        let time = self.time;
        self.violation.get_or_insert(Violation { property, time, detail });
    }

    /// Notes that a bound was reached; whether one was.
    fn is_broken(&mut self, counted: Result<(), Violation>) -> bool {
        let broken = counted.is_err();
        self.found(counted.err());
        broken
    }

    /// Notes what a checker found, if it did.
    pub(crate) fn found(&mut self, violation: Option<Violation>) {
        if let Some(violation) = violation {
            self.violated(violation.property, violation.detail);
        }
    }
}
