//! A program that cannot restore what stands on disk is started at all replicas: it says so and ends,
//! and the right one goes on from there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(120);
const REPLICAS: usize = 3;
/// How many notes are sent before their answers are read.
const ROUND: usize = 200;

/// The example as built beside this test.
fn program() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let built = here.parent().and_then(Path::parent).unwrap();
    built.join("examples/notes")
}

/// All replicas, on the ports of this folder.
fn up(folder: &Path) -> Command {
    let mut command = Command::new(program());
    command.args(["up", "--port", "0", "--checkpoint-requests", "100"]);
    command.args(["--segment-bytes", "65536", "--log-keep-bytes", "0", "--data"]).arg(folder);
    command
}

struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        // The replicas end with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &Path) -> (Up, TcpStream) {
    let mut child = up(folder).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let up = Up(child);
    let ready = lines.map_while(Result::ok).find(|line| line.starts_with("ready ")).unwrap();
    let stream = TcpStream::connect(ready.split(' ').nth(1).unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    (up, stream)
}

/// The files in the folder of a replica whose names begin so, with what stands in them.
fn files(folder: &Path, index: usize, beginning: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder.join(format!("replica-{index}"))).unwrap().flatten();
    let wanted = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(beginning));
    wanted.filter_map(|entry| Some((entry.path(), fs::read(entry.path()).ok()?))).collect()
}

fn has_given_up(folder: &Path, index: usize) -> bool {
    let first = files(folder, index, "log-0000000001");
    first.is_empty() && !files(folder, index, "checkpoint-").is_empty()
}

#[test]
fn a_program_that_cannot_restore_the_state_ends_and_touches_nothing() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let (running, stream) = start(folder);
    let (mut to, mut from) = (stream.try_clone().unwrap(), BufReader::new(stream).lines());
    let began = Instant::now();
    let mut count = String::new();
    while !(0..REPLICAS).all(|index| has_given_up(folder, index)) {
        assert!(began.elapsed() < DEADLINE, "the log is never given up");
        to.write_all(format!("note {}\n", "n".repeat(300)).repeat(ROUND).as_bytes()).unwrap();
        for _ in 0..ROUND {
            count = from.next().unwrap().unwrap();
        }
    }
    drop(running);
    let mut there = Vec::new();
    for _ in 0..2 {
        let output = up(folder).env("NOTES_MAX", "10").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        let told = [
            "cannot restore it",
            "no state of this service",
            "nothing was changed",
            "start the program",
        ];
        assert!(told.iter().all(|words| said.contains(words)), "{said}");
        there.push((0..REPLICAS).map(|i| files(folder, i, "checkpoint-")).collect::<Vec<_>>());
    }
    assert!(there[0] == there[1] && there[0].iter().all(|files| !files.is_empty()));
    let (_running, stream) = start(folder);
    (&stream).write_all(b"how many\n").unwrap();
    let again = BufReader::new(stream).lines().next().unwrap().unwrap();
    assert_eq!(again, count);
}
