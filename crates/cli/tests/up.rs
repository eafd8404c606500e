//! A whole cluster of processes: it starts, loses processes, stops, resumes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Generous: the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running `mainstay up`.
struct Up {
    data: PathBuf,
    process: Child,
    lines: Receiver<String>,
}

impl Up {
    fn start(data: &Path, more: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .args(["up", "--port", "0", "--segment-bytes", "65536", "--data"])
            .arg(data)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (sender, lines) = mpsc::channel();
        for source in [
            Box::new(process.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>,
            Box::new(process.stderr.take().unwrap()),
        ] {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(source).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { data: data.to_owned(), process, lines }
    }

    /// Waits for a line that begins so; returns it and all before it.
    fn wait_for(&self, beginning: &str) -> Vec<String> {
        let until = Instant::now() + DEADLINE;
        let mut seen = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|error| {
                panic!("no line begins with `{beginning}` ({error}); there were {seen:#?}")
            });
            let found = line.starts_with(beginning);
            seen.push(line);
            if found {
                return seen;
            }
        }
    }

    fn status(&self) -> Value {
        let output = mainstay(&["status", "--json", "--data", &self.data.to_string_lossy()]);
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn replica(&self, index: usize) -> Value {
        self.status()["groups"][0]["replicas"][index].clone()
    }

    fn pid(&self, index: usize) -> Option<Pid> {
        self.replica(index)["pid"].as_i64().and_then(|pid| Pid::from_raw(pid as i32))
    }

    fn pids(&self) -> Vec<Pid> {
        (0..3).map(|index| self.pid(index).expect("it runs")).collect()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    fn ended(mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // The replicas end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn mainstay(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mainstay")).args(arguments).output().unwrap()
}

/// Waits until a condition holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a process runs. One that has ended and that nobody has asked about does not.
fn runs(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

#[test]
fn one_line_begins_with_ready_and_names_the_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &["--replicas", "1"]);
    let seen = up.wait_for("ready ");
    let address = up.replica(0)["client"].as_str().unwrap().to_owned();
    assert_eq!(seen.last().unwrap(), &format!("ready {address}"));
    assert!(seen[0].starts_with("cluster "), "{seen:?}");
    up.signal(Signal::TERM);
    let mut rest = up.lines.iter();
    assert!(rest.all(|line| !line.starts_with("ready ")));
    assert_eq!(up.ended().code(), Some(0));
}

#[test]
fn a_replica_that_dies_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[]);
    up.wait_for("ready ");
    for index in 0..3 {
        let before = up.pid(index).unwrap();
        kill_process(before, Signal::KILL).unwrap();
        until("the replica is active again", || {
            let replica = up.replica(index);
            replica["state"] == "active" && replica["pid"] != before.as_raw_nonzero().get()
        });
        let log = fs::read_to_string(folder.path().join(format!("replica-{index}.log"))).unwrap();
        assert!(log.contains("ended by signal 9"), "{log}");
    }
    until("nothing is wrong any more", || up.status()["warnings"].as_array().unwrap().is_empty());
}

#[test]
fn a_port_that_another_process_took_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[]);
    up.wait_for("ready ");
    let (address, pid) = (up.replica(1)["client"].clone(), up.pid(1).unwrap());
    // While `up` stands still, the replica ends and something else takes its port.
    up.signal(Signal::STOP);
    kill_process(pid, Signal::KILL).unwrap();
    let address = address.as_str().unwrap();
    let mut taken = None;
    until("the port can be taken", || {
        taken = TcpListener::bind(address).ok();
        taken.is_some()
    });
    up.signal(Signal::CONT);
    let seen = up.wait_for("replica 1: process");
    assert!(seen.last().unwrap().contains("signal 9"), "{seen:?}");
    let told = up.wait_for("replica 1: process").pop().unwrap();
    assert!(told.contains("exit code 1") && told.contains("is taken"), "{told}");
    assert!(told.contains("started again"), "{told}");
    drop(taken);
    until("the replica is back", || up.replica(1)["state"] == "active");
}

#[test]
fn a_replica_that_is_told_to_hang_up_ends_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[]);
    up.wait_for("ready ");
    kill_process(up.pid(1).unwrap(), Signal::HUP).unwrap();
    let told = up.wait_for("replica 1: process").pop().unwrap();
    assert!(told.contains("ended with exit code 0"), "{told}");
}

#[test]
fn systemd_is_told_when_a_replica_answers_and_when_a_cluster_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let made = folder.path().join("made");
    let init = ["init", "--replicas", "1", "--port", "7400", "--data", made.to_str().unwrap()];
    assert!(mainstay(&init).status.success());
    let file = made.join("replica-0.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("clients = \"127.0.0.1:7400", "clients = \"127.0.0.1:0"))
        .unwrap();
    let up = folder.path().join("up");
    let up = up.to_str().unwrap();
    let commands = [
        (&["replica", "--config", file.to_str().unwrap()][..], "STATUS=replica 0 of cluster "),
        (&["up", "--port", "0", "--replicas", "1", "--data", up], "STATUS=ready 127.0.0.1:"),
    ];
    for (arguments, wanted) in commands {
        let mut process = Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .args(arguments)
            .env("NOTIFY_SOCKET", folder.path().join("notify"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut bytes = [0; 1024];
        let len = socket.recv(&mut bytes).expect("systemd is told");
        let told = String::from_utf8_lossy(&bytes[..len]);
        assert!(told.contains("READY=1") && told.contains(wanted), "{told}");
        // It is asked to end only once it runs: what listens for signals is made right after.
        let target = if arguments[0] == "up" { up } else { made.to_str().unwrap() };
        until("it answers", || mainstay(&["status", "--data", target]).status.success());
        kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn replicas_have_the_name_of_their_program() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &["--replicas", "1"]);
    up.wait_for("ready ");
    let pid = up.pid(0).unwrap().as_raw_nonzero();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(name.trim_end(), "mainstay");
}

#[test]
fn signals_stop_all_of_it_in_time_and_the_folder_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let mut clusters = Vec::new();
    for signal in [Signal::INT, Signal::TERM] {
        let up = Up::start(folder.path(), &[]);
        up.wait_for("ready ");
        clusters.push(up.status()["cluster"].as_str().unwrap().to_owned());
        let pids = up.pids();
        let asked = Instant::now();
        up.signal(signal);
        assert_eq!(up.ended().code(), Some(0));
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        assert!(pids.into_iter().all(|pid| !runs(pid)));
    }
    assert_eq!(clusters[0], clusters[1]);
}

#[test]
fn replicas_end_with_up_however_it_ends_and_another_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let first = Up::start(folder.path(), &[]);
    first.wait_for("ready ");
    let pids = first.pids();
    first.signal(Signal::KILL);
    // At once: it waits for those that still hold their folders.
    let second = Up::start(folder.path(), &[]);
    second.wait_for("ready ");
    assert!(pids.into_iter().all(|pid| !runs(pid)));
}

#[test]
fn a_wiped_replica_comes_back_amnesiac() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[]);
    up.wait_for("ready ");
    up.signal(Signal::TERM);
    assert_eq!(up.ended().code(), Some(0));
    fs::remove_dir_all(folder.path().join("replica-1")).unwrap();
    let up = Up::start(folder.path(), &[]);
    let seen = up.wait_for("ready ");
    assert!(seen.iter().any(|line| line.starts_with("replica 1") && line.contains("amnesiac")));
    let replica = up.replica(1);
    assert_eq!(
        (replica["role"].as_str(), replica["state"].as_str()),
        (Some("learner"), Some("amnesiac"))
    );
}

#[test]
fn a_lost_replica_is_made_from_what_another_tells() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(&folder.path().join("cluster"), &[]);
    up.wait_for("ready ");
    let status = up.status();
    let peer = status["groups"][0]["replicas"][0]["peer"].as_str().unwrap();
    let lost = folder.path().join("lost");
    let init = |index: &str, peer: &str| {
        mainstay(&[
            "init",
            "--lost",
            index,
            "--cluster-from",
            peer,
            "--data",
            &lost.to_string_lossy(),
        ])
    };
    assert_eq!(init("3", peer).status.code(), Some(2));
    assert_eq!(init("1", "127.0.0.1:1").status.code(), Some(1));
    assert!(!lost.exists());
    let made = init("1", peer);
    let told = String::from_utf8_lossy(&made.stdout);
    assert!(told.contains(status["cluster"].as_str().unwrap()), "{told}");
    assert!(told.contains("amnesiac") && lost.join("identity").exists(), "{told}");
    assert_eq!(init("1", peer).status.code(), Some(2));

    // By its target, status knows the others as well.
    let asked = mainstay(&["status", "--json", "--target", peer]);
    let asked: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let replicas = asked["groups"][0]["replicas"].as_array().unwrap();
    assert_eq!(replicas.len(), 3);
    assert!(replicas.iter().all(|replica| replica["pid"].is_number()), "{asked}");
}

#[test]
fn a_damaged_replica_is_reported_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path(), &[]);
    up.wait_for("ready ");
    up.signal(Signal::TERM);
    assert_eq!(up.ended().code(), Some(0));
    fs::write(folder.path().join("replica-2/identity"), "scrawl").unwrap();
    let up = Up::start(folder.path(), &[]);
    let seen = up.wait_for("ready ");
    let told = seen.iter().find(|line| line.starts_with("replica 2: process")).expect("a reason");
    assert!(told.contains("exit code 3") && told.contains("identity"), "{told}");
    assert_eq!(up.replica(2)["state"], "stopped");
}
