//! The counter of the guide: short, and a whole cluster.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

/// The example as built beside this test.
fn program() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let built = here.parent().and_then(Path::parent).unwrap();
    built.join("examples/counter")
}

struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        // The replicas end with it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ask(address: &str, line: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

#[test]
fn a_service_of_ones_own_is_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(program())
        .args(["up", "--port", "0", "--data"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let up = Up(child);
    let ready = lines.map_while(Result::ok).find(|line| line.starts_with("ready ")).unwrap();
    let addresses: Vec<&str> = ready.split(' ').skip(1).collect();
    assert_eq!(addresses.len(), 3);
    assert_eq!(ask(addresses[0], "add 5\n"), "5\n");
    assert_eq!(ask(addresses[1], "add -2\r\n"), "3\n");
    assert_eq!(ask(addresses[2], "?\n"), "3\n");
    drop(up);
}

#[test]
fn it_is_25_lines_long() {
    let source = include_str!("../examples/counter.rs");
    let code = source.lines().filter(|line| !line.is_empty() && !line.starts_with("//"));
    let count = code.count();
    assert!(count <= 25, "{count} lines");
}
