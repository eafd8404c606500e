//! The threads of a node besides the calling one: started together, ended together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use mainstay_service::{Checkpoint, Service};
use mainstay_storage::{Checkpoints, Disk, Log};

use crate::NodeError;
use crate::account::Account;
use crate::checkpointer::{CheckpointThread, States, Wanted, channel};
use crate::config::NodeConfig;
use crate::disk::{DiskTask, DiskThread, Event};
use crate::executor::{ExecutorLinks, ExecutorTask, ExecutorThread};
use crate::overdue::Overdue;
use crate::queue::{Inbox, Queue};
use crate::restart::Origin;
use crate::restoring::Restoring;
use crate::store::Store;
use crate::system;
use crate::transfers::{Handover, TransferTask, TransferThread};

/// The threads and the ways to them. Dropped early, it ends them.
pub(crate) struct Threads {
    disk: Option<JoinHandle<Option<String>>>,
    others: Vec<(&'static str, JoinHandle<()>)>,
    pub(crate) disk_queue: Arc<Queue<DiskTask>>,
    pub(crate) executor_queue: Arc<Queue<ExecutorTask>>,
    pub(crate) transfer_queue: Arc<Queue<TransferTask>>,
    pub(crate) inbox: Arc<Inbox<Event>>,
    pub(crate) wanted: Arc<Wanted>,
}

impl Threads {
    /// Starts all of them.
    pub(crate) fn start<S: Service, D: Disk + Clone>(
        inbox: Arc<Inbox<Event>>,
        store: Store<D>,
        service: S,
        config: &NodeConfig,
        account: Arc<Account>,
    ) -> Result<Self, NodeError> {
        let Store { log, recovered, checkpoints, from, unreadable, incoming, .. } = store;
        let mut threads = Self {
            disk: None,
            others: Vec::new(),
            disk_queue: Queue::new(),
            executor_queue: Queue::new(),
            transfer_queue: Queue::new(),
            inbox,
            wanted: Arc::default(),
        };
        let restoring = Restoring { wanted: Arc::clone(&threads.wanted) };
        let (states, to_write) = channel();
        let handover: Handover<S> = Arc::default();
        let origin = Origin {
            service,
            sessions: config.sessions,
            checkpoints: checkpoints.clone(),
            from,
            damaged: unreadable,
            truncated_upto: recovered.truncated_upto,
            has_peers: config.configuration.replicas.len() > 1,
            restoring: restoring.clone(),
        };
        let links = ExecutorLinks {
            tasks: Arc::clone(&threads.executor_queue),
            inbox: Arc::clone(&threads.inbox),
            states,
            handover: Arc::clone(&handover),
            wanted: Arc::clone(&threads.wanted),
            account,
        };
        let disk = log.disk().clone();
        threads.start_disk(log, config)?;
        threads.start_executor(origin, links, config)?;
        threads.start_checkpointer(to_write, checkpoints.clone())?;
        let transfers = TransferThread {
            tasks: Arc::clone(&threads.transfer_queue),
            inbox: Arc::clone(&threads.inbox),
            log: Arc::clone(&threads.disk_queue),
            checkpoints,
            disk,
            chunk_bytes: config.ordering.chunk_bytes,
            incoming,
            restoring,
            handover,
            holds: BTreeMap::new(),
            overdue: Overdue::default(),
            pausing: None,
        };
        threads.start_other("transfer", move || {
            system::give_way();
            transfers.run();
        })?;
        Ok(threads)
    }

    fn start_disk<D: Disk>(&mut self, log: Log<D>, config: &NodeConfig) -> Result<(), NodeError> {
        let queue = Arc::clone(&self.disk_queue);
        let (inbox, transfers) = (Arc::clone(&self.inbox), Arc::clone(&self.transfer_queue));
        let disk = DiskThread::new(log, queue, inbox, transfers, config.keep);
        self.disk = Some(spawn("disk", &self.inbox, move || disk.run())?);
        Ok(())
    }

    fn start_executor<S: Service, D: Disk>(
        &mut self,
        origin: Origin<S, D>,
        links: ExecutorLinks<S>,
        config: &NodeConfig,
    ) -> Result<(), NodeError> {
        let patience = config.limits.outcome_timeout * 2;
        self.start_other("executor", move || {
            // Without a state the node ends.
            if let Some((applier, lives)) = origin.restore(&links.inbox) {
                ExecutorThread::new(applier, lives, links, patience).run();
            }
        })
    }

    fn start_checkpointer<C: Checkpoint, D: Disk>(
        &mut self,
        states: States<C>,
        checkpoints: Checkpoints<D>,
    ) -> Result<(), NodeError> {
        let (inbox, wanted) = (Arc::clone(&self.inbox), Arc::clone(&self.wanted));
        let thread = CheckpointThread { states, checkpoints, inbox, wanted };
        self.start_other("checkpoint", move || {
            system::give_way();
            thread.run();
        })
    }

    fn start_other(
        &mut self,
        name: &'static str,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), NodeError> {
        self.others.push((name, spawn(name, &self.inbox, body)?));
        Ok(())
    }

    /// Lets the threads finish what is queued, except what only costs time, and waits for them.
    pub(crate) fn end(&mut self) -> Result<(), NodeError> {
        self.wanted.end();
        self.inbox.close();
        self.disk_queue.close();
        self.executor_queue.close();
        self.transfer_queue.close();
        let disk = self.disk.take().map(JoinHandle::join);
        let mut panicked = None;
        for (name, thread) in self.others.drain(..) {
            if thread.join().is_err() {
                panicked = panicked.or(Some(name));
            }
        }
        match (disk, panicked) {
            (Some(Ok(Some(what))), _) => Err(NodeError::Disk { what }),
            (Some(Err(_)), _) => Err(NodeError::Panic("disk")),
            (_, Some(name)) => Err(NodeError::Panic(name)),
            _ => Ok(()),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // What they failed with was either reported by the protocol thread, or it is panicking.
        let _ = self.end();
    }
}

/// Tells the protocol thread when a thread ends, whyever it does.
struct Farewell(&'static str, Arc<Inbox<Event>>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.1.push(Event::Ended(self.0), 0);
    }
}

fn spawn<T: Send + 'static>(
    name: &'static str,
    inbox: &Arc<Inbox<Event>>,
    body: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, NodeError> {
    let farewell = Farewell(name, Arc::clone(inbox));
    let thread = thread::Builder::new().name(name.into());
    let spawned = thread.spawn(move || {
        let farewell = farewell;
        let result = body();
        drop(farewell);
        result
    });
    spawned.map_err(|error| NodeError::System { what: "starting a thread", error })
}
