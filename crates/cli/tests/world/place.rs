//! Where a cluster may be: a folder, ports, its share of the machine.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::world::wait_for;

/// How many clusters run at once: more would starve one another on a machine of two cores.
const CLUSTERS_MAX: usize = 2;
/// `up` takes PORT + i for clients and PORT + 100 + i for peers.
const PEER_PORT_DISTANCE: u16 = 100;
const REPLICAS_MAX: u16 = 10;
/// Blocks of ports, below those that systems give to outgoing connections.
const PORTS_FROM: u16 = 10_240;
const BLOCK_LEN: u16 = 2 * PEER_PORT_DISTANCE;
const BLOCKS: u16 = 100;

/// A folder, ports and a share of the machine, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    /// `up --port`.
    pub(crate) port: u16,
    _ports: File,
    _share: Option<File>,
}

impl Place {
    /// Waits until there is one.
    pub(crate) fn find() -> Self {
        let share = wait_for("a share of the machine", || {
            (0..CLUSTERS_MAX).find_map(|number| lock(&format!("share-{number}")))
        });
        Self::with_share(Some(share))
    }

    /// Another one, for a test that has a share of the machine already.
    pub(crate) fn beside() -> Self {
        Self::with_share(None)
    }

    fn with_share(share: Option<File>) -> Self {
        let (port, ports) = free_ports();
        let folder = tempfile::Builder::new().prefix("cluster-").tempdir_in(root());
        Self { folder: folder.expect("a folder"), port, _ports: ports, _share: share }
    }
}

/// On the disk that the program was built on: not in memory, as the system's own may be.
pub(crate) fn root() -> PathBuf {
    option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Locks are files, since every test may be a process of its own.
fn lock(name: &str) -> Option<File> {
    let folder = root().join("end-to-end");
    fs::create_dir_all(&folder).expect("a folder for locks");
    let file = File::create(folder.join(name)).expect("a file for a lock");
    file.try_lock().ok().map(|()| file)
}

/// A block of ports that no other test takes, even while nobody listens there.
fn free_ports() -> (u16, File) {
    let first = std::process::id() as u16 % BLOCKS;
    let found = (0..BLOCKS).find_map(|number| {
        let number = (first + number) % BLOCKS;
        let port = PORTS_FROM + number * BLOCK_LEN;
        let held = lock(&format!("ports-{port}"))?;
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let free =
            (0..REPLICAS_MAX).all(|i| is_free(port + i) && is_free(port + PEER_PORT_DISTANCE + i));
        free.then_some((port, held))
    });
    found.expect("free ports")
}
