//! Replicas that are started one by one, as on machines of their own, in place of `up`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::world::cluster::{REPLICAS, Status};
use crate::world::place::Place;
use crate::world::wait_for;

/// A cluster made by `init`, and the processes of its replicas. They end when this is dropped.
pub(crate) struct ByHand {
    program: PathBuf,
    place: Place,
    processes: [Option<Child>; REPLICAS],
}

impl ByHand {
    /// Makes the cluster's identities; starts nothing. `program` has the commands of `mainstay`.
    pub(crate) fn init(program: &Path) -> Self {
        let processes = std::array::from_fn(|_| None);
        let made = Self { program: program.to_owned(), place: Place::find(), processes };
        let (data, port) = (made.data(), made.place.port.to_string());
        made.run(&["init", "--data", &data.to_string_lossy(), "--port", &port]);
        made
    }

    /// The folder of the cluster.
    pub(crate) fn data(&self) -> PathBuf {
        self.place.folder.path().join("data")
    }

    /// The folder of a replica.
    pub(crate) fn folder(&self, index: usize) -> PathBuf {
        self.data().join(format!("replica-{index}"))
    }

    /// Where a replica serves its clients.
    pub(crate) fn clients_at(&self, index: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.place.port + index as u16))
    }

    /// Where a replica serves its peers.
    pub(crate) fn peers_at(&self, index: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.place.port + 100 + index as u16))
    }

    /// Starts a replica; what it says goes to a file beside its folder.
    pub(crate) fn start(&mut self, index: usize) {
        let said = self.folder(index).with_extension("log");
        let said = File::options().create(true).append(true).open(said);
        self.start_saying(index, said.expect("a file").into());
    }

    /// Starts a replica; what it says goes there.
    pub(crate) fn start_saying(&mut self, index: usize, said: Stdio) {
        assert!(self.processes[index].is_none(), "replica {index} runs already");
        let folder = self.folder(index);
        let mut command = Command::new(&self.program);
        command.args(["replica", "--config"]).arg(folder.with_extension("toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        self.processes[index] = Some(command.spawn().expect("the program starts"));
    }

    /// Kills a replica without warning, and waits until it is gone.
    pub(crate) fn kill(&mut self, index: usize) {
        let mut process = self.processes[index].take().expect("it runs");
        process.kill().expect("a signal");
        process.wait().expect("it ends");
    }

    /// Throws the folder of a replica away and makes one in its place that knows nothing, by what
    /// replica `from` tells.
    pub(crate) fn lose(&self, index: usize, from: usize) {
        fs::remove_dir_all(self.folder(index)).expect("the folder goes");
        let (from, folder) = (self.peers_at(from).to_string(), self.folder(index));
        let lost = index.to_string();
        let folder = folder.to_string_lossy();
        self.run(&["init", "--lost", &lost, "--cluster-from", &from, "--data", &folder]);
    }

    /// What `status --json` tells; it is asked for at a replica that runs.
    pub(crate) fn status(&self) -> Status {
        let running = self.processes.iter().position(Option::is_some).expect("some replica runs");
        let target = self.peers_at(running).to_string();
        let output =
            Command::new(&self.program).args(["status", "--json", "--target", &target]).output();
        let told = output.expect("the program starts").stdout;
        Status::new(serde_json::from_slice(&told).unwrap_or(Value::Null))
    }

    /// Waits until the status is as it should be, for as long as `patience`; returns how long it took.
    pub(crate) fn wait_until(
        &self,
        what: &str,
        patience: Duration,
        holds: impl Fn(&Status) -> bool,
    ) -> Duration {
        let began = Instant::now();
        while !holds(&self.status()) {
            assert!(began.elapsed() < patience, "not within {patience:?}: {what}");
            crate::world::pause(Duration::from_millis(5));
        }
        began.elapsed()
    }

    /// Waits until somebody leads and every replica that runs is active; returns who leads.
    pub(crate) fn wait_until_whole(&self) -> usize {
        let active = |status: &Status| {
            let running = (0..REPLICAS).filter(|&index| self.processes[index].is_some());
            running.into_iter().all(|index| matches!(status.state(index), "active" | "amnesiac"))
        };
        wait_for("all replicas that run are active", || {
            let status = self.status();
            status.leader().filter(|_| active(&status))
        })
    }

    /// Has the program carry this out at a replica that runs.
    pub(crate) fn tell(&self, words: &[&str]) {
        let running = self.processes.iter().position(Option::is_some).expect("some replica runs");
        let target = self.peers_at(running).to_string();
        self.run(&[words, &["--target", &target]].concat());
    }

    fn run(&self, arguments: &[&str]) {
        let output =
            Command::new(&self.program).args(arguments).output().expect("the program starts");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        for mut process in self.processes.iter_mut().filter_map(Option::take) {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
