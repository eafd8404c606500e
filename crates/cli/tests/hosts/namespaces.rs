//! Three hosts on one machine: a network namespace each, with a line between each two of them, and a
//! hosts file of its own. Making them takes superuser rights.

use std::fs;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How many hosts there are.
pub(crate) const HOSTS: usize = 3;

/// The hosts; gone when this is dropped.
pub(crate) struct Hosts {
    /// Begins the names of the namespaces.
    prefix: String,
}

impl Hosts {
    /// Makes them, with an address each (see [`Hosts::give_address`] for more).
    pub(crate) fn make() -> Self {
        // Tests may run side by side in one process, or in many.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let hosts = Self { prefix: format!("ms{}-{number}-", std::process::id()) };
        for host in 0..HOSTS {
            let name = hosts.namespace(host);
            ip(&["netns", "add", &name]);
            ip(&["-n", &name, "link", "set", "lo", "up"]);
            fs::create_dir_all(hosts.folder(host)).expect("a folder in /etc/netns");
            hosts.know(host, &[]);
        }
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            let (here, there) = (hosts.namespace(one), hosts.namespace(other));
            let (to_other, to_one) = (line_to(other), line_to(one));
            ip(&[
                "link", "add", &to_other, "netns", &here, "type", "veth", "peer", "name", &to_one,
                "netns", &there,
            ]);
            ip(&["-n", &here, "link", "set", &to_other, "up"]);
            ip(&["-n", &there, "link", "set", &to_one, "up"]);
        }
        hosts
    }

    /// Gives a host an address; the others find the way to it.
    pub(crate) fn give_address(&self, host: usize, address: &str) {
        let here = self.namespace(host);
        for other in (0..HOSTS).filter(|other| *other != host) {
            let (there, line) = (self.namespace(other), line_to(other));
            let mut add = vec!["-n", &here, "addr", "add", address, "dev", &line];
            // Nobody else can have it, and nobody waits until that is known.
            add.extend(address.contains(':').then_some("nodad"));
            ip(&add);
            ip(&["-n", &there, "route", "add", address, "dev", &line_to(host)]);
        }
    }

    /// Lets a host send to an address that nobody has.
    pub(crate) fn route_nowhere(&self, host: usize, address: &str) {
        let name = self.namespace(host);
        ip(&["-n", &name, "route", "add", address, "dev", &line_to((host + 1) % HOSTS)]);
    }

    /// Takes it away again; what is sent there is lost without a word.
    pub(crate) fn take_address(&self, host: usize, address: &str) {
        for other in (0..HOSTS).filter(|other| *other != host) {
            ip(&["-n", &self.namespace(host), "addr", "del", address, "dev", &line_to(other)]);
        }
    }

    /// Has a host know these names, and no others: pairs of an address and a name.
    pub(crate) fn know(&self, host: usize, names: &[(&str, &str)]) {
        let lines = names.iter().map(|(address, name)| format!("{address} {name}\n"));
        let text = lines.fold("127.0.0.1 localhost\n".to_owned(), |text, line| text + &line);
        // In place: processes in the namespace see this very file.
        fs::write(self.folder(host).join("hosts"), text).expect("a hosts file");
    }

    /// Has a host ask this name server, which need not be there.
    pub(crate) fn ask(&self, host: usize, name_server: &str) {
        let text = format!("nameserver {name_server}\noptions timeout:5 attempts:2\n");
        fs::write(self.folder(host).join("resolv.conf"), text).expect("a file for the resolver");
    }

    /// A command that runs on a host.
    pub(crate) fn command(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), program]);
        command
    }

    /// Connects on a host.
    pub(crate) fn connect(&self, host: usize, to: SocketAddr) -> std::io::Result<TcpStream> {
        let namespace = File::open(PathBuf::from("/run/netns").join(self.namespace(host)))?;
        // The thread is gone before anything else could run in the wrong place.
        let connecting = thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpStream::connect(to)
        });
        connecting.join().expect("no panic")
    }

    fn namespace(&self, host: usize) -> String {
        format!("{}{host}", self.prefix)
    }

    fn folder(&self, host: usize) -> PathBuf {
        PathBuf::from("/etc/netns").join(self.namespace(host))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in 0..HOSTS {
            // One that was never made is not there.
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(host)]).status();
            let _ = fs::remove_dir_all(self.folder(host));
        }
    }
}

/// The end of the line to a host, on another one.
fn line_to(host: usize) -> String {
    format!("to{host}")
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().expect("`ip` is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", words.join(" "));
}
