//! How much may happen: at one instant of virtual time, on one node in a short while, and in a whole run.
//! What goes round in circles is then a failure with a trace, where it would have been a simulator that
//! hangs and takes all memory.
//!
//! Each bound lies far above what runs need (`tests/swarm.rs` measures that): what reaches one would not
//! have ended by itself.

use crate::world::Violation;

/// How many events and steps there may be at one instant.
pub const INSTANT_MAX: u64 = 20_000;
/// How many events one node may take up within [`WHILE_NANOS`]: nearly as many as it can.
pub const WHILE_MAX: u64 = 24_000;
/// A short while, in nanoseconds.
pub const WHILE_NANOS: u64 = 100_000_000;
/// How many events and steps a run may have.
pub const RUN_MAX: u64 = 5_000_000;

/// Counts events and steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    run: u64,
    time: u64,
    at_instant: u64,
    most_at_instant: u64,
    /// For each node, when its present while began, and how many events it has taken up since.
    nodes: Vec<(u64, u64)>,
    most_of_node: u64,
}

/// The most that there was of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Most {
    /// Events and steps of a run.
    pub run: u64,
    /// Those of one instant.
    pub instant: u64,
    /// Events that one node took up in a short while.
    pub node: u64,
}

impl Meter {
    /// A meter of that many nodes.
    #[must_use]
    pub fn new(nodes: u16) -> Self {
        Self { nodes: vec![(0, 0); usize::from(nodes)], ..Self::default() }
    }

    /// The most that there was.
    #[must_use]
    pub const fn most(&self) -> Most {
        Most { run: self.run, instant: self.most_at_instant, node: self.most_of_node }
    }

    /// Counts an event of the world, or a step that a process took on account of one.
    ///
    /// # Errors
    /// The bound that it breaks.
    pub fn count(&mut self, time: u64) -> Result<(), Violation> {
        if time != self.time {
            (self.time, self.at_instant) = (time, 0);
        }
        self.run += 1;
        self.at_instant += 1;
        self.most_at_instant = self.most_at_instant.max(self.at_instant);
        if self.at_instant > INSTANT_MAX {
            let detail = format!("more than {INSTANT_MAX} steps at one instant: they do not end");
            return Err(Violation { property: "invariant", time, detail });
        }
        if self.run > RUN_MAX {
            let detail = format!("more than {RUN_MAX} steps in one run: it does not come to rest");
            return Err(Violation { property: "liveness", time, detail });
        }
        Ok(())
    }

    /// Counts an event that a node takes up.
    ///
    /// # Errors
    /// The bound that it breaks.
    pub fn count_of(&mut self, node: u16, time: u64) -> Result<(), Violation> {
        let Some((since, count)) = self.nodes.get_mut(usize::from(node)) else { return Ok(()) };
        if time - *since >= WHILE_NANOS {
            (*since, *count) = (time, 0);
        }
        *count += 1;
        self.most_of_node = self.most_of_node.max(*count);
        if *count <= WHILE_MAX {
            return Ok(());
        }
        let millis = WHILE_NANOS / 1_000_000;
        let detail = format!(
            "node {node} took up more than {WHILE_MAX} events within {millis} ms: it never rests"
        );
        Err(Violation { property: "liveness", time, detail })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mainstay_model::Prng;

    use super::*;
    use crate::context::Cx;
    use crate::network::{Network, NetworkOptions};
    use crate::world::{Boot, NodeId, Parts, Picture, Process, World};

    /// How a process goes round in circles.
    #[derive(Clone, Copy)]
    enum Circle {
        /// Within one event.
        Steps,
        /// One timer sets off the next one, at once.
        Timers,
        /// It answers every frame with two.
        Frames,
    }

    impl Process for Circle {
        fn start(&mut self, cx: &mut Cx<'_>) {
            match self {
                Self::Steps => loop {
                    cx.count_step();
                },
                Self::Timers => cx.timer_in(0, 0),
                Self::Frames => cx.timer_in(10_000_000, 0),
            }
        }

        fn on_frame(&mut self, cx: &mut Cx<'_>, from: NodeId, bytes: Bytes) {
            cx.send(from, bytes.clone());
            cx.send(from, bytes);
        }

        fn on_link(&mut self, _cx: &mut Cx<'_>, _peer: NodeId, _up: bool) {}

        fn on_timer(&mut self, cx: &mut Cx<'_>, _timer: u64) {
            match self {
                Self::Frames => cx.send(NodeId(1 - cx.node().0), Bytes::from_static(b"again")),
                Self::Steps | Self::Timers => cx.timer_in(0, 0),
            }
        }

        fn picture(&mut self) -> Picture {
            Picture::default()
        }
    }

    impl Boot for Circle {
        fn boot(&mut self, _cx: &mut Cx<'_>) -> Result<Box<dyn Process>, String> {
            Ok(Box::new(*self))
        }
    }

    /// Two nodes that never rest, and what is said of them.
    fn violation_of(circle: Circle) -> Violation {
        let mut prng = Prng::new(1);
        let parts = Parts {
            replicas: 2,
            clients: 0,
            network: Network::new(NetworkOptions::CALM, prng.split()),
            drift_ppm_max: 0,
            link_notice_max: 0,
            late_frames: false,
            damaged_max: 0,
            keep_trace: false,
            prng,
        };
        let mut world = World::new(parts, Box::new(circle));
        world.run_until(60_000_000_000);
        world.core.violation.expect("it ends only by a bound")
    }

    #[test]
    fn a_world_that_goes_round_in_circles_is_told_and_ends() {
        let steps = violation_of(Circle::Steps);
        assert!(steps.property == "invariant" && steps.time == 0, "{steps}");
        let timers = violation_of(Circle::Timers);
        assert!(timers.property == "liveness" && timers.time < 2 * WHILE_NANOS, "{timers}");
        let frames = violation_of(Circle::Frames);
        assert!(frames.property == "liveness", "{frames}");
    }

    /// Counts until a bound is reached; how many were counted before, and what was violated.
    fn until_bound(mut count: impl FnMut(u64) -> Result<(), Violation>) -> (u64, &'static str) {
        (0..).find_map(|at| Some((at, count(at).err()?.property))).unwrap()
    }

    #[test]
    fn an_instant_a_while_and_a_run_have_bounds() {
        let mut meter = Meter::new(2);
        assert_eq!(until_bound(|_| meter.count(7)), (INSTANT_MAX, "invariant"));
        let mut meter = Meter::new(2);
        assert_eq!(until_bound(|at| meter.count(at)), (RUN_MAX, "liveness"), "each at its own");
        assert_eq!(meter.most(), Most { run: RUN_MAX + 1, instant: 1, node: 0 });
        let mut meter = Meter::new(2);
        let spins = |at| meter.count_of(1, at * 3_000);
        assert_eq!(until_bound(spins), (WHILE_MAX, "liveness"), "no pause between its events");
        let mut meter = Meter::new(2);
        let works = (0..4 * WHILE_MAX).all(|at| meter.count_of(0, at * 10_000).is_ok());
        assert!(works, "ten thousand in a while are fine, for as long as one likes");
    }
}
