//! How processes end and begin again.

use crate::world::{Event, NodeId, World};

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is killed, or ends itself: what it wrote stays readable.
    Killed,
    /// Its machine loses power: what it did not sync may be gone.
    PowerLost,
    /// Its machine loses power, and its folder is empty afterwards.
    Wiped,
}

impl World {
    /// Ends the process of `node`, if one runs, and starts another after `down` nanoseconds.
    pub(crate) fn end(&mut self, node: NodeId, ending: Ending, down: Option<u64>) {
        self.core.line(node, format_args!("{ending:?}"));
        let was_running = std::mem::take(&mut self.core.node(node).running);
        self.processes[usize::from(node.0)] = None;
        let state = self.core.node(node);
        state.inbox.clear();
        state.stop = None;
        state.disk = match ending {
            Ending::Killed => state.disk.end_process(),
            Ending::PowerLost => state.disk.lose_power(),
            Ending::Wiped => state.disk.wipe(),
        };
        if was_running {
            // The other ends of a killed process's connections are closed by its machine; those of
            // a machine without power stay until somebody notices.
            let notice_max =
                if ending == Ending::Killed { 1_000_000 } else { self.core.link_notice_max };
            self.core.check_links_of(node, notice_max);
        }
        if let Some(down) = down {
            self.start_in(node, down);
        }
    }

    /// Starts a process on `node` after `down` nanoseconds, unless one runs then.
    pub(crate) fn start_in(&mut self, node: NodeId, down: u64) {
        let boot = self.core.node(node).boot;
        self.core.schedule(self.core.time + down, Event::Start { node, boot });
    }

    /// Ends the process of `node` if it asked for it, or if its machine lost power meanwhile.
    pub(crate) fn stop_if_asked(&mut self, node: NodeId) {
        if self.core.node(node).disk.has_lost_power() {
            let down = self.core.prng.between(20_000_000, 200_000_000);
            return self.end(node, Ending::PowerLost, Some(down));
        }
        if let Some(why) = self.core.node(node).stop.take() {
            self.core.line(node, format_args!("stops: {why}"));
            let down = self.core.prng.between(20_000_000, 200_000_000);
            self.end(node, Ending::Killed, Some(down));
        }
    }
}
