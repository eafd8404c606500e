//! A cluster that `mainstay up` runs.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;

use crate::world::place::Place;
use crate::world::{DEADLINE, wait_for, wait_until};

/// How many replicas every cluster of these tests has.
pub(crate) const REPLICAS: usize = 3;
/// How many lines of each log a failure shows.
const TAIL: usize = 40;

/// A cluster. When this is dropped its processes end and its folder goes; when that happens because
/// a test failed, what they had to say is shown.
pub(crate) struct Cluster {
    program: PathBuf,
    place: Place,
    options: Vec<String>,
    /// The size of a file system of its own, as `mount` takes it.
    disk: Option<&'static str>,
    up: Option<Child>,
    said: Arc<Said>,
}

/// What `up` printed, on both outputs, since the cluster was made.
#[derive(Default)]
struct Said {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Cluster {
    /// Starts one and waits until it is ready.
    pub(crate) fn start(options: &[&str]) -> Self {
        let program = option_env!("CARGO_BIN_EXE_mainstay").unwrap_or("mainstay");
        let mut cluster = Self::prepare(Path::new(program), options);
        cluster.up();
        cluster
    }

    /// A place for one, with nothing in it yet.
    pub(crate) fn prepare(program: &Path, options: &[&str]) -> Self {
        Self {
            program: program.to_owned(),
            place: Place::find(),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            disk: None,
            up: None,
            said: Arc::default(),
        }
    }

    /// A place for one whose disk has `size` bytes. Nobody but its processes sees that disk.
    pub(crate) fn prepare_small(size: &'static str, options: &[&str]) -> Self {
        let program = option_env!("CARGO_BIN_EXE_mainstay").unwrap_or("mainstay");
        let mut cluster = Self::prepare(Path::new(program), options);
        cluster.disk = Some(size);
        cluster
    }

    /// A place for another one, made by hand with `init` and run replica by replica.
    pub(crate) fn prepare_beside(cluster: &Self) -> Self {
        Self {
            program: cluster.program.clone(),
            place: Place::beside(),
            options: Vec::new(),
            disk: None,
            up: None,
            said: Arc::default(),
        }
    }

    /// Makes its identities by `init`; returns its id.
    pub(crate) fn init(&self) -> String {
        let (data, port) = (self.data(), self.place.port.to_string());
        let output = self.run(&["init", "--data", &data.to_string_lossy(), "--port", &port]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{told}");
        told.split_whitespace().nth(1).expect("an id").to_owned()
    }

    /// Runs one replica in place of `up`. Returns the number of its first line.
    pub(crate) fn spawn_replica(&mut self, index: usize) -> usize {
        let config = self.data().join(format!("replica-{index}.toml"));
        let mut command = Command::new(&self.program);
        command.args(["replica", "--config"]).arg(config);
        self.spawn_command(command)
    }

    /// Runs `up` on the folder and waits until it is ready. Returns how long that took.
    pub(crate) fn up(&mut self) -> Duration {
        let began = Instant::now();
        let from = self.spawn();
        self.wait_for_line(from, "ready ");
        began.elapsed()
    }

    /// Runs `up` on the folder. Returns the number of its first line.
    pub(crate) fn spawn(&mut self) -> usize {
        let mut command = self.program_on_its_disk();
        command.arg("up").args(["--port", &self.place.port.to_string(), "--data"]);
        command.arg(self.data()).args(&self.options);
        self.spawn_command(command)
    }

    /// The program, where its disk is a small one in a mount namespace of its own.
    fn program_on_its_disk(&self) -> Command {
        let Some(size) = self.disk else { return Command::new(&self.program) };
        fs::create_dir_all(self.data()).expect("a folder to mount at");
        let mount = r#"mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@""#;
        let mut command = Command::new("unshare");
        // Without the superuser's rights, with those that a namespace of users gives.
        command.arg(if rustix::process::geteuid().is_root() { "-m" } else { "-rm" });
        command.args(["sh", "-c", mount, "sh", size]).arg(self.data()).arg(&self.program);
        command
    }

    fn spawn_command(&mut self, mut command: Command) -> usize {
        assert!(self.up.is_none(), "it runs already");
        let from = self.said().len();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        self.listen(child.stdout.take().expect("its output"));
        self.listen(child.stderr.take().expect("its output"));
        self.up = Some(child);
        from
    }

    fn listen(&self, source: impl Read + Send + 'static) {
        let said = Arc::clone(&self.said);
        thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                said.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                said.more.notify_all();
            }
        });
    }

    /// Every line that `up` printed.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until a line from number `from` on begins so; returns it.
    pub(crate) fn wait_for_line(&self, from: usize, beginning: &str) -> String {
        self.wait_for_said(from, beginning, |line| line.starts_with(beginning))
    }

    /// Waits for a line from number `from` on; returns it.
    pub(crate) fn wait_for_said(
        &self,
        from: usize,
        what: &str,
        is_it: impl Fn(&str) -> bool,
    ) -> String {
        let until = Instant::now() + DEADLINE;
        let mut lines = self.said.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(line) = lines[from..].iter().find(|line| is_it(line)) {
                return line.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "not said within {DEADLINE:?}: {what}");
            (lines, _) =
                self.said.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The folder of the cluster.
    pub(crate) fn data(&self) -> PathBuf {
        self.place.folder.path().join("data")
    }

    /// The folder of a replica.
    pub(crate) fn replica_folder(&self, index: usize) -> PathBuf {
        self.data().join(format!("replica-{index}"))
    }

    /// What the process of a replica had to say.
    pub(crate) fn log_of(&self, index: usize) -> String {
        fs::read_to_string(self.data().join(format!("replica-{index}.log"))).unwrap_or_default()
    }

    /// The segments of a replica's log, oldest first.
    pub(crate) fn segments(&self, index: usize) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.replica_folder(index)).expect("the replica's folder");
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-"))
        });
        paths.sort();
        paths
    }

    /// Where a replica serves its clients.
    pub(crate) fn clients_at(&self, index: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.place.port + index as u16))
    }

    /// Where all replicas serve their clients, by index.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        (0..REPLICAS).map(|index| self.clients_at(index)).collect()
    }

    /// Where a replica serves its peers.
    pub(crate) fn peers_at(&self, index: usize) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.place.port + 100 + index as u16))
    }

    /// Runs another command of the program.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.current_dir(self.place.folder.path()).args(arguments);
        command.output().expect("the program starts")
    }

    /// What `status --json` tells.
    pub(crate) fn status(&self) -> Status {
        let output = self.run(&["status", "--json", "--data", &self.data().to_string_lossy()]);
        Status::new(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
    }

    /// Waits until the status is as it should be; returns it.
    pub(crate) fn wait_for_status(&self, what: &str, is_it: impl Fn(&Status) -> bool) -> Status {
        wait_for(what, || Some(self.status()).filter(&is_it))
    }

    /// Waits until every replica is active and one of them leads; returns its index.
    pub(crate) fn wait_until_whole(&self) -> usize {
        let whole = |status: &Status| {
            status.leader().is_some() && (0..REPLICAS).all(|index| status.state(index) == "active")
        };
        self.wait_for_status("all replicas are active", whole).leader().expect("a leader")
    }

    /// The process of a replica, which must answer.
    pub(crate) fn pid(&self, index: usize) -> Pid {
        let pid = wait_for("the replica tells its process", || self.status().pid(index));
        Pid::from_raw(pid).expect("the number of a process")
    }

    /// Who leads, its process, and the indices of the others.
    pub(crate) fn leader(&self) -> (usize, Pid, Vec<usize>) {
        let leader = self.wait_until_whole();
        (leader, self.pid(leader), (0..REPLICAS).filter(|&index| index != leader).collect())
    }

    /// Ends the process of a replica without warning; returns its number.
    pub(crate) fn kill(&self, index: usize) -> Pid {
        let pid = self.pid(index);
        signal(pid, Signal::KILL);
        pid
    }

    /// Waits until a replica that ran as process `before` is active as another one.
    pub(crate) fn wait_until_back(&self, index: usize, before: Pid) {
        let back = |status: &Status| {
            status.state(index) == "active"
                && status.pid(index).is_some_and(|pid| Some(pid) != raw(before))
        };
        self.wait_for_status(&format!("replica {index} is back"), back);
    }

    /// Ends `up` without warning, and waits until it and all its replicas are gone.
    pub(crate) fn kill_up(&mut self) {
        let mut up = self.up.take().expect("it runs");
        up.kill().expect("a signal");
        up.wait().expect("it ends");
        wait_until("the replicas end with up", || self.processes().is_empty());
    }

    /// Sends a signal to `up` itself.
    pub(crate) fn signal_up(&self, what: Signal) {
        signal(Pid::from_child(self.up.as_ref().expect("it runs")), what);
    }

    /// Asks `up` to end; returns how it did.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal_up(Signal::TERM);
        self.ended()
    }

    /// Waits until `up` ends; returns how it did.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut up = self.up.take().expect("it runs");
        wait_for("up ends", || up.try_wait().expect("its state"))
    }

    /// The processes that run for this folder, `up` itself aside.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let data = self.data().to_string_lossy().into_owned() + "/replica-";
        let entries = fs::read_dir("/proc").expect("the processes");
        let runs_here = |pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&data))
        };
        let numbers =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.filter(runs_here).filter_map(Pid::from_raw).collect()
    }

    fn show(&self) {
        println!("up said:");
        self.said().iter().for_each(|line| println!("  {line}"));
        for index in 0..REPLICAS {
            println!("the log of replica {index} ends:");
            let log = self.log_of(index);
            let lines: Vec<_> = log.lines().collect();
            lines[lines.len().saturating_sub(TAIL)..].iter().for_each(|line| println!("  {line}"));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            self.show();
        }
        if let Some(mut up) = self.up.take() {
            // It may have ended by itself.
            let _ = up.kill();
            let _ = up.wait();
        }
        // They end with `up`, but not those that are halted.
        for pid in self.processes() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Sends a signal to a process that runs.
pub(crate) fn signal(pid: Pid, signal: Signal) {
    kill_process(pid, signal).expect("the process runs");
}

fn raw(pid: Pid) -> Option<i32> {
    Some(pid.as_raw_nonzero().get())
}

/// Sets how large a process may make a file.
pub(crate) fn limit_files(pid: Pid, bytes: Option<u64>) {
    let limit = Rlimit { current: bytes, maximum: None };
    prlimit(Some(pid), Resource::Fsize, limit).expect("the limit is set");
}

/// How much memory a process holds, in bytes; nothing if it is gone.
pub(crate) fn memory_of(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// What `status --json` told; empty if it told nothing.
#[derive(Clone, Debug)]
pub(crate) struct Status(Value);

impl Status {
    pub(crate) const fn new(told: Value) -> Self {
        Self(told)
    }

    fn group(&self) -> &Value {
        &self.0["groups"][0]
    }

    /// Who leads.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.group()["leader"].as_u64().map(|index| index as usize)
    }

    /// The round of the highest ballot that was promised.
    pub(crate) fn ballot(&self) -> u64 {
        self.group()["ballot"].as_u64().unwrap_or(0)
    }

    /// What is told of a replica.
    pub(crate) fn replica(&self, index: usize) -> &Value {
        &self.group()["replicas"][index]
    }

    /// The state of a replica, or nothing.
    pub(crate) fn state(&self, index: usize) -> &str {
        self.replica(index)["state"].as_str().unwrap_or_default()
    }

    /// The process of a replica.
    pub(crate) fn pid(&self, index: usize) -> Option<i32> {
        self.replica(index)["pid"].as_i64().and_then(|pid| pid.try_into().ok())
    }

    /// A slot that a replica told: `accepted`, `decided` or `applied`.
    pub(crate) fn slot(&self, index: usize, which: &str) -> u64 {
        self.replica(index)[which].as_u64().unwrap_or(0)
    }

    /// The warnings, one a line.
    pub(crate) fn warnings(&self) -> String {
        let lines = self.0["warnings"].as_array().into_iter().flatten();
        lines.filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
    }
}
