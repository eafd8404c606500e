//! Ending a node from outside.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use mio::Waker;

/// Asks a node to hand over and end. Cheap to clone; may be used before the node runs, from any
/// thread, any number of times.
#[derive(Clone, Debug, Default)]
pub struct StopHandle {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    waker: OnceLock<Arc<Waker>>,
}

impl StopHandle {
    /// A handle for one node.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the node to end.
    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        if let Some(waker) = self.shared.waker.get() {
            // A node that cannot be woken has ended already.
            let _ = waker.wake();
        }
    }

    /// Whether [`StopHandle::stop`] was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::SeqCst)
    }

    /// Lets `stop` wake the thread that polls. A handle wakes the first node that attaches.
    pub(crate) fn attach(&self, waker: Arc<Waker>) {
        let _ = self.shared.waker.set(waker);
    }
}
