//! Every command shown in the documents is run here, and prints what the documents say.
//!
//! A block of ```` ```console ```` holds commands after `$ `, each followed by what it prints.
//! Addresses, ids and the like may differ; words may not.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A command of a document, with what it prints.
#[derive(Debug)]
struct Shown {
    place: String,
    command: String,
    prints: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            documents(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            found.push(path);
        }
    }
}

/// The commands of a document, in order.
fn shown(path: &Path) -> Vec<Shown> {
    let text = fs::read_to_string(path).unwrap();
    let mut found: Vec<Shown> = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside {
            if let Some(command) = line.strip_prefix("$ ") {
                let place = format!("{}:{number}", path.display());
                let command = command.to_owned();
                found.push(Shown { place, command, prints: Vec::new() });
            } else {
                let last = found.last_mut().expect("a command before what it prints");
                last.prints.push(line.to_owned());
            }
        }
    }
    found
}

/// What runs the commands of one document: a folder, and the cluster that `up` started there.
struct Session {
    folder: tempfile::TempDir,
    up: Option<(Child, Vec<u16>)>,
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some((up, _)) = &mut self.up {
            let _ = up.kill();
            let _ = up.wait();
        }
    }
}

impl Session {
    fn run(&mut self, shown: &Shown) -> Vec<String> {
        let words: Vec<&str> = shown.command.split_whitespace().collect();
        match words.as_slice() {
            // It runs this test.
            ["cargo", "test", "--workspace"] => Vec::new(),
            ["cargo", "xtask", "ci"] => Vec::new(),
            ["cargo", "run", "--release", "--", rest @ ..] | ["mainstay", rest @ ..] => {
                if rest.first() == Some(&"up") { self.up(rest) } else { self.mainstay(rest, shown) }
            }
            ["redis-cli", "-p", port, command @ ..] => self.redis(port, command),
            _ => panic!("{}: nothing here runs `{}`", shown.place, shown.command),
        }
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mainstay"));
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    fn mainstay(&self, arguments: &[&str], shown: &Shown) -> Vec<String> {
        let output = self.program(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: `{}`: {told}", shown.place, shown.command);
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// Starts a cluster, on free ports, until it is ready.
    fn up(&mut self, arguments: &[&str]) -> Vec<String> {
        assert!(self.up.is_none(), "one cluster a document");
        let mut process =
            self.program(arguments).args(["--port", "0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut printed = Vec::new();
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            printed.push(line.unwrap());
            if printed.last().unwrap().starts_with("ready ") {
                break;
            }
        }
        let ready = printed.last().expect("it prints").strip_prefix("ready ").expect("is ready");
        let port = |address: &str| address.rsplit(':').next().unwrap().parse().unwrap();
        let ports = ready.split(' ').map(port).collect();
        self.up = Some((process, ports));
        printed
    }

    /// What `redis-cli` would print.
    fn redis(&self, port: &str, arguments: &[&str]) -> Vec<String> {
        let (_, ports) = self.up.as_ref().expect("a cluster");
        let index = port.parse::<usize>().unwrap() - 7400;
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", ports[index])).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut command = redis::cmd(arguments[0]);
        for argument in &arguments[1..] {
            command.arg(argument);
        }
        vec![match command.query::<redis::Value>(&mut connection).unwrap() {
            redis::Value::Okay => "OK".to_owned(),
            redis::Value::Nil => "(nil)".to_owned(),
            redis::Value::Int(number) => format!("(integer) {number}"),
            redis::Value::BulkString(bytes) => format!("{:?}", String::from_utf8(bytes).unwrap()),
            other => panic!("the documents show no {other:?}"),
        }]
    }
}

/// A printed line with everything that differs from run to run replaced.
fn masked(line: &str) -> String {
    let mask = |word: &str| {
        let varies = word.contains(|c: char| c.is_ascii_digit()) && word != "(integer)";
        if varies { "…".to_owned() } else { word.to_owned() }
    };
    line.split_whitespace().map(mask).collect::<Vec<_>>().join(" ")
}

#[test]
fn every_command_of_the_documents_runs_and_prints_what_they_say() {
    let root = root();
    let mut paths = vec![root.join("README.md"), root.join("ARCHITECTURE.md")];
    documents(&root.join("docs"), &mut paths);
    let mut count = 0;
    for path in paths {
        let mut session = Session { folder: tempfile::tempdir().unwrap(), up: None };
        for shown in shown(&path) {
            let printed = session.run(&shown);
            count += 1;
            if !shown.prints.is_empty() {
                let [wanted, got] =
                    [&shown.prints, &printed].map(|lines| lines.iter().map(|l| masked(l)));
                assert!(wanted.eq(got), "{}: {shown:#?} printed {printed:#?}", shown.place);
            }
        }
    }
    assert!(count >= 6, "only {count} commands were found");
}

#[test]
fn the_help_of_every_command_teaches_by_example() {
    for command in ["up", "init", "replica", "status", "leader", "clock", "sim"] {
        let output = Command::new(env!("CARGO_BIN_EXE_mainstay"))
            .args([command, "--help"])
            .output()
            .unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains(&format!("mainstay {command}")), "{help}");
        assert!(help.contains("Example"), "{help}");
    }
}
