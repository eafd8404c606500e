//! Keeps the processes of a cluster running, tells when it is ready, stops it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use mainstay_node::{NodeStatus, StateName};

use crate::failure::Failure;
use crate::output::warn;
use crate::supervisor;
use crate::up::child::Replica;
use crate::up::say;

/// How often signals and pauses are looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long a replica has for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// How often each replica is asked until the cluster is ready.
const ASK_INTERVAL: Duration = Duration::from_millis(50);
/// How long a majority that is active waits for the others before it is said to be ready.
const STRAGGLER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is told what the cluster waits for.
const WAIT_NOTICE: Duration = Duration::from_secs(10);
/// How long replicas have to hand over, sync and end.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// What happened.
pub(super) enum Event {
    /// The process of a replica has ended.
    Ended(usize),
    /// A replica told how it is; nothing if it did not answer.
    Told(usize, Option<Box<NodeStatus>>),
}

/// All processes of a cluster.
pub(super) struct Watch {
    replicas: Vec<Replica>,
    amnesiac: Vec<bool>,
    states: Vec<Option<StateName>>,
    /// What each replica last told that is wrong with it.
    warnings: Vec<Vec<String>>,
    decided: bool,
    events: Receiver<Event>,
    sender: Sender<Event>,
    announced: Arc<AtomicBool>,
    /// Since when a majority is active.
    majority_since: Option<Instant>,
    noticed: Instant,
}

impl Watch {
    /// Of a cluster some of whose replicas may be amnesiac.
    pub(super) fn new(amnesiac: Vec<bool>) -> Self {
        let (sender, events) = mpsc::channel();
        Self {
            replicas: Vec::new(),
            states: vec![None; amnesiac.len()],
            warnings: vec![Vec::new(); amnesiac.len()],
            amnesiac,
            decided: false,
            events,
            sender,
            announced: Arc::default(),
            majority_since: None,
            noticed: Instant::now(),
        }
    }

    /// Starts the next replica and begins to ask it how it is.
    pub(super) fn start(&mut self, folder: &Path, peers: SocketAddr) -> Result<(), Failure> {
        let index = self.replicas.len();
        self.replicas.push(Replica::start(index, folder, self.sender.clone())?);
        let (sender, announced) = (self.sender.clone(), Arc::clone(&self.announced));
        thread::spawn(move || {
            while !announced.load(Ordering::Relaxed) {
                let told = mainstay_node::status::ask(peers, ANSWER_TIMEOUT).ok().map(Box::new);
                if sender.send(Event::Told(index, told)).is_err() {
                    return;
                }
                thread::sleep(ASK_INTERVAL);
            }
        });
        Ok(())
    }

    /// Keeps the cluster running until `stop`; prints `ready` once it takes requests.
    pub(super) fn run(mut self, stop: &AtomicBool, ready: &str) -> Result<(), Failure> {
        let ended = loop {
            if stop.load(Ordering::Relaxed) {
                break Ok(());
            }
            match self.events.recv_timeout(TICK) {
                Ok(event) => self.on(event),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            for (index, replica) in self.replicas.iter_mut().enumerate() {
                if let Some(problem) = replica.tick() {
                    warn(&format!("replica {index}: {problem}"));
                }
            }
            if !self.announced.load(Ordering::Relaxed) {
                if let Some(failure) = self.hopeless() {
                    break Err(failure);
                }
                if self.is_ready() {
                    self.announced.store(true, Ordering::Relaxed);
                    say(ready);
                    supervisor::tell_ready(ready);
                }
            }
        };
        self.stop();
        ended
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Ended(index) => {
                self.states[index] = None;
                if let Some(told) = self.replicas[index].ended() {
                    warn(&format!("replica {index}: {told}"));
                }
            }
            Event::Told(index, told) => {
                if let Some(told) = &told {
                    self.decided |= told.replica.decided > 0;
                }
                self.states[index] = told.as_ref().map(|told| told.replica.state);
                self.warnings[index] = told.map_or_else(Vec::new, |told| told.warnings);
            }
        }
    }

    /// Before the cluster was ready: so many replicas are left alone that it cannot become so.
    fn hopeless(&self) -> Option<Failure> {
        let over = |replica: &Replica| replica.over().map(|(_, code)| code);
        let codes: Vec<u8> = self.replicas.iter().filter_map(over).collect();
        let majority = self.replicas.len() / 2 + 1;
        let left = self.replicas.len() - codes.len();
        (left < majority).then(|| Failure {
            code: codes[0],
            sentence: format!(
                "{} of {} replicas cannot run, for the reasons above, so the cluster would take no \
                 requests; it is stopped",
                codes.len(),
                self.replicas.len()
            ),
        })
    }

    /// Whether a write was decided and every replica is active, or has been named with the reason
    /// why it is not.
    fn is_ready(&mut self) -> bool {
        let active = self.states.iter().filter(|state| **state == Some(StateName::Active)).count();
        if !self.decided || active <= self.replicas.len() / 2 {
            self.majority_since = None;
            if self.noticed.elapsed() >= WAIT_NOTICE {
                self.noticed = Instant::now();
                warn(&format!("waits for a majority to be active: {}", self.describe()));
            }
            return false;
        }
        let since = *self.majority_since.get_or_insert_with(Instant::now);
        let pending = (0..self.replicas.len()).any(|index| self.pending(index));
        if pending && since.elapsed() < STRAGGLER_TIMEOUT {
            return false;
        }
        for index in 0..self.replicas.len() {
            let told_before = self.replicas[index].over().is_some();
            if self.amnesiac[index] {
                warn(&format!("replica {index} is amnesiac: it follows and does not vote"));
            } else if self.states[index] != Some(StateName::Active) && !told_before {
                warn(&format!("replica {index} is not active: {}", self.state(index)));
            }
        }
        true
    }

    /// Whether a replica may still become active.
    fn pending(&self, index: usize) -> bool {
        let settled = matches!(
            self.states[index],
            Some(StateName::Active | StateName::Amnesiac | StateName::Diverged | StateName::Failed)
        );
        !settled && self.replicas[index].over().is_none()
    }

    fn state(&self, index: usize) -> String {
        let state = match self.states[index] {
            Some(state) => serde_json::to_string(&state).unwrap_or_default().replace('"', ""),
            None => "does not answer".to_owned(),
        };
        match &self.warnings[index][..] {
            [] => state,
            warnings => format!("{state} ({})", warnings.join("; ")),
        }
    }

    fn describe(&self) -> String {
        let of = |index| format!("replica {index} {}", self.state(index));
        (0..self.replicas.len()).map(of).collect::<Vec<_>>().join(", ")
    }

    /// Ends every process, by force if it takes too long.
    fn stop(&mut self) {
        self.announced.store(true, Ordering::Relaxed);
        for replica in &mut self.replicas {
            replica.ask_to_end();
        }
        let until = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < until && !self.replicas.iter_mut().all(Replica::has_ended) {
            thread::sleep(TICK);
        }
        for replica in &mut self.replicas {
            replica.kill();
        }
    }
}
