//! A cluster on three hosts that know one another by name, while names come, go and move. The hosts are
//! network namespaces, so this takes superuser rights; whoever has none is told so, and the tests of the
//! other parts remain. With the rights, hosts that cannot be made fail the test.

mod namespaces;
#[path = "../world/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the end-to-end tests use the rest")]
mod world;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use namespaces::{HOSTS, Hosts};
use serde_json::Value;
use tempfile::TempDir;
use world::{wait_for, wait_until};

const NAMES: [&str; HOSTS] = ["alpha", "beta", "gamma"];
const ALPHA: usize = 0;
const BETA: usize = 1;
const GAMMA: usize = 2;
/// Where they listen; the third host at an address of the newer kind.
const ADDRESSES: [&str; HOSTS] = ["10.77.0.1", "10.77.0.2", "fd77::3"];
/// Where the second host moves to.
const MOVED_TO: &str = "10.77.0.12";
/// An address that nobody has.
const NOBODY: &str = "10.77.0.66";

struct Cluster {
    hosts: Hosts,
    folder: TempDir,
    replicas: [Option<Child>; HOSTS],
}

impl Cluster {
    /// Makes hosts and identities; starts nothing.
    fn make() -> Self {
        let hosts = Hosts::make();
        for host in 0..HOSTS {
            // An address of each kind: whoever connects needs one, too.
            for address in [format!("10.77.0.{}", host + 1), format!("fd77::{}", host + 1)] {
                hosts.give_address(host, &address);
            }
            hosts.route_nowhere(host, NOBODY);
        }
        let folder = tempfile::Builder::new().prefix("hosts-").tempdir_in(world::place::root());
        let cluster =
            Self { hosts, folder: folder.expect("a folder"), replicas: [None, None, None] };
        let peers = NAMES.map(|name| format!("{name}:7500")).join(",");
        let data = cluster.data().to_string_lossy().into_owned();
        // On a host that knows none of the names.
        let made = cluster
            .hosts
            .command(ALPHA, env!("CARGO_BIN_EXE_mainstay"))
            .args(["init", "--data", &data, "--port", "7400", "--peers", &peers])
            .output()
            .expect("the program starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_file(&self, host: usize) -> PathBuf {
        self.data().join(format!("replica-{host}.log"))
    }

    fn said(&self, host: usize) -> String {
        fs::read_to_string(self.log_file(host)).unwrap_or_default()
    }

    fn start(&mut self, host: usize) {
        let log = File::options().create(true).append(true).open(self.log_file(host));
        let mut command = self.hosts.command(host, env!("CARGO_BIN_EXE_mainstay"));
        command.args(["replica", "--insecure-bind", "--config"]);
        command.arg(self.data().join(format!("replica-{host}.toml")));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("a file"));
        // `ip` becomes the program, so this is its process.
        self.replicas[host] = Some(command.spawn().expect("`ip` is installed"));
    }

    fn kill(&mut self, host: usize) {
        let mut replica = self.replicas[host].take().expect("it runs");
        replica.kill().expect("a signal");
        replica.wait().expect("it ends");
    }

    /// What a replica tells of itself and of all that it reaches, asked on its own host.
    fn status(&self, host: usize, at: &str) -> Value {
        let asked = self
            .hosts
            .command(host, env!("CARGO_BIN_EXE_mainstay"))
            .args(["status", "--json", "--target", at])
            .output()
            .expect("the program starts");
        serde_json::from_slice(&asked.stdout).unwrap_or(Value::Null)
    }

    fn is_active(&self, host: usize, at: &str) -> bool {
        let status = self.status(host, at);
        status["groups"][0]["replicas"][host]["state"] == "active"
    }

    fn warnings(&self, host: usize, at: &str) -> String {
        self.status(host, at)["warnings"].to_string()
    }

    /// Commands at a replica, from its own host.
    fn client(&self, host: usize, at: &str) -> Client {
        // A replica that still reads its log takes no commands.
        let peers = at.replace(":7400", ":7500");
        wait_until("it serves", || self.is_active(host, &peers));
        let at: SocketAddr = at.parse().expect("an address");
        let stream = wait_for("a connection", || self.hosts.connect(host, at).ok());
        stream.set_read_timeout(Some(world::DEADLINE)).expect("a time-out");
        Client(BufReader::new(stream))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for mut replica in self.replicas.iter_mut().filter_map(Option::take) {
            // It may have ended by itself.
            let _ = replica.kill();
            let _ = replica.wait();
        }
        if std::thread::panicking() {
            for (host, name) in NAMES.iter().enumerate() {
                let said = self.said(host);
                let lines: Vec<&str> = said.lines().collect();
                eprintln!("{name}:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
            }
        }
    }
}

struct Client(BufReader<std::net::TcpStream>);

impl Client {
    fn count(&mut self) -> i64 {
        self.0.get_mut().write_all(b"INCR n\r\n").expect("it is sent");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a reply");
        let count = line.strip_prefix(':').map(str::trim_end).and_then(|count| count.parse().ok());
        count.unwrap_or_else(|| panic!("INCR was answered by {line}"))
    }
}

fn is_superuser() -> bool {
    let is = rustix::process::geteuid().is_root();
    if !is {
        eprintln!("hosts are namespaces of the network, and making them takes superuser rights");
    }
    is
}

/// Nobody knows the third host, and a name server that does not answer is asked about it.
fn two_of_three_serve(cluster: &mut Cluster) {
    let [alpha, beta, _] = ADDRESSES;
    for host in [ALPHA, BETA] {
        cluster.hosts.know(host, &[(alpha, "alpha"), (beta, "beta")]);
        cluster.hosts.ask(host, NOBODY);
        cluster.start(host);
    }
    let mut client = cluster.client(ALPHA, "10.77.0.1:7400");
    wait_until("two of three serve", || cluster.is_active(ALPHA, "10.77.0.1:7500"));
    let (began, mut longest) = (Instant::now(), Duration::ZERO);
    while began.elapsed() < Duration::from_secs(3) {
        let asked = Instant::now();
        client.count();
        longest = longest.max(asked.elapsed());
    }
    assert!(longest < Duration::from_secs(2), "a command took {longest:?}");
    assert!(cluster.warnings(ALPHA, "10.77.0.1:7500").contains("replica 2"), "it is missed");
}

#[test]
fn names_come_move_and_go_while_the_cluster_runs() {
    if !is_superuser() {
        return;
    }
    let mut cluster = Cluster::make();
    let [alpha, beta, gamma] = ADDRESSES;
    let names = |beta: &'static str| [(alpha, "alpha"), (beta, "beta")];
    let all = |beta: &'static str| [(alpha, "alpha"), (beta, "beta"), (gamma, "gamma")];

    two_of_three_serve(&mut cluster);

    // It gets a name, for an old address that nobody has and for its own.
    let known = [(alpha, "alpha"), (beta, "beta"), (NOBODY, "gamma"), (gamma, "gamma")];
    for host in [ALPHA, BETA] {
        cluster.hosts.know(host, &known);
    }
    cluster.hosts.know(GAMMA, &all(beta));
    cluster.start(GAMMA);
    wait_until("the third one is found by its name", || {
        cluster.is_active(GAMMA, "[fd77::3]:7500")
            && !cluster.warnings(ALPHA, "10.77.0.1:7500").contains("not reached")
    });
    assert!(cluster.client(GAMMA, "[fd77::3]:7400").count() > 0);

    // The second host moves.
    cluster.kill(BETA);
    // In this order: with the last address of a line its routes go, too.
    cluster.hosts.give_address(BETA, MOVED_TO);
    cluster.hosts.take_address(BETA, beta);
    for host in [ALPHA, BETA, GAMMA] {
        cluster.hosts.know(host, &all(MOVED_TO));
    }
    cluster.start(BETA);
    let moved = format!("{MOVED_TO}:7500");
    wait_until("all find it where it is now", || {
        cluster.is_active(BETA, &moved)
            && !cluster.warnings(ALPHA, "10.77.0.1:7500").contains("not reached")
            && !cluster.warnings(GAMMA, "[fd77::3]:7500").contains("not reached")
    });
    assert!(cluster.said(ALPHA).contains(&format!("beta:7500 ({MOVED_TO}:7500)")));

    // It is needed now, and can be reached.
    cluster.kill(GAMMA);
    assert!(cluster.client(ALPHA, "10.77.0.1:7400").count() > 0);

    // A name that is gone is said once, however often it is looked up.
    cluster.hosts.know(ALPHA, &names(MOVED_TO));
    let about_gamma = |cluster: &Cluster| {
        cluster.said(ALPHA).lines().filter(|line| line.contains("gamma")).count()
    };
    wait_until("it is said", || {
        cluster.warnings(ALPHA, "10.77.0.1:7500").contains("gamma, is not known")
            || cluster.warnings(ALPHA, "10.77.0.1:7500").contains("takes long")
    });
    let lines = about_gamma(&cluster);
    assert!(lines <= 16, "{lines} lines about one peer");
}

#[test]
fn a_name_that_leads_to_loopback_is_told() {
    if !is_superuser() {
        return;
    }
    let mut cluster = Cluster::make();
    let [alpha, beta, gamma] = ADDRESSES;
    let all = [(alpha, "alpha"), (beta, "beta"), (gamma, "gamma")];
    cluster.hosts.know(BETA, &all);
    cluster.hosts.know(GAMMA, &all);
    // As an installer writes it.
    cluster.hosts.know(ALPHA, &[("127.0.1.1", "alpha"), (beta, "beta"), (gamma, "gamma")]);
    for host in 0..HOSTS {
        cluster.start(host);
    }
    wait_until("the others serve", || cluster.is_active(BETA, "10.77.0.2:7500"));
    let warned = |key: &str| {
        let sentence = format!("`{key}` names the host alpha");
        wait_until("status says so", || {
            cluster.warnings(ALPHA, "127.0.1.1:7500").contains(&sentence)
        });
        assert_eq!(cluster.said(ALPHA).matches(&sentence).count(), 1);
    };
    warned("listen.peers");
    warned("listen.clients");
}
