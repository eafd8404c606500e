//! Starting a node: its sockets, its machines, its threads; and seeing it end.

use std::io;
use std::sync::Arc;

use mainstay_consensus::{PartialCheckpoint, Replica, Start};
use mainstay_detect::Detector;
use mainstay_model::{NoPlants, Nonce, Prng};
use mainstay_service::{Command, Secret, Service};
use mainstay_storage::Disk;
use mio::net::TcpListener;
use mio::{Interest, Poll, Waker};

use crate::account::Account;
use crate::config::NodeConfig;
use crate::disk::DiskThread;
use crate::error::system_failed as failed;
use crate::front::Front;
use crate::greet::Greeter;
use crate::machines::Machines;
use crate::node::{CLIENT_PORT, Node, PEER_PORT, Parts, WAKER};
use crate::queue::Inbox;
use crate::sockets::Sockets;
use crate::stop::StopHandle;
use crate::store::Store;
use crate::threads::Threads;
use crate::{ExitReport, NodeError, clock, system};

/// Files that a node opens besides its clients' connections.
const FILES_BESIDES: usize = 512;
/// The most bytes that other threads tell the protocol thread at once, one thing of any size aside: so much
/// is copied for clients in a turn.
const INBOX_BYTES_MAX: usize = 16 << 20;
/// Fewer clients than this are worth a warning for as long as the node runs.
const CLIENTS_FEW: usize = 1000;

/// Runs one replica until it is stopped or cannot go on, on the calling thread and four more. `service`
/// is the state of an empty log; it is not used where `store` holds a checkpoint.
///
/// # Errors
/// [`NodeError`]; its `exit_code` is what the process should end with.
///
/// # Panics
/// If the ordering machine finds one of its invariants broken: then nothing it would say could be
/// trusted.
pub fn run<S: Service, F: Front, D: Disk + Clone>(
    config: &NodeConfig,
    sockets: Sockets,
    store: Store<D>,
    service: S,
    front: F,
    stop: &StopHandle,
) -> Result<ExitReport, NodeError> {
    let mut config = config.clone();
    if let Some(fault) = config.fault() {
        return Err(NodeError::Config(fault));
    }
    system::survive_file_size_limit().map_err(failed("handling the file-size signal"))?;
    let few_files = fit_clients(&mut config);

    let mut poll = Poll::new().map_err(failed("waiting for events"))?;
    let waker = Waker::new(poll.registry(), WAKER).map_err(failed("making a waker"))?;
    let waker = Arc::new(waker);
    stop.attach(Arc::clone(&waker));
    let mut signals = match config.stop_on_signals {
        true => Some(system::stop_signals(poll.registry()).map_err(failed("handling signals"))?),
        false => None,
    };
    let port = sockets.client_address().port();
    let peer_address = sockets.peer_address();
    let (peer_port, client_port) = listen(&poll, sockets)?;
    let Random { nonce, secret, mut prng } = Random::draw()?;

    let log_state = DiskThread::state_of(&store.log);
    let machines = machines(&config, &store, secret, prng.split());
    let inbox = Inbox::new(waker, config.limits.backlog_bytes_max.min(INBOX_BYTES_MAX));
    let limits = &config.limits;
    let account = Arc::new(Account::new(limits.held_bytes_all_max, limits.held_bytes_max));
    let mut threads = Threads::start(inbox, store, service, &config, Arc::clone(&account))?;
    let parts = Parts {
        front,
        registry: poll.registry().try_clone().map_err(failed("waiting for events"))?,
        peer_port,
        client_port,
        machines,
        greeter: Greeter::of::<S>(&config, peer_address.port(), prng.next_u64()),
        nonce,
        prng,
        disk: Arc::clone(&threads.disk_queue),
        executor: Arc::clone(&threads.executor_queue),
        transfers: Arc::clone(&threads.transfer_queue),
        wanted: Arc::clone(&threads.wanted),
        inbox: Arc::clone(&threads.inbox),
        account,
        few_files,
        log: log_state,
        port,
    };
    let mut node = Node::new(config, parts);
    let result = node.run(&mut poll, stop, &mut signals);
    // Sockets close before the log is done with: nobody is told anything after this.
    drop(node);
    let ended = threads.end();
    match (result, ended) {
        (Ok(report), Ok(())) => Ok(report),
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
    }
}

fn listen(poll: &Poll, sockets: Sockets) -> Result<(TcpListener, TcpListener), NodeError> {
    let mut peer = TcpListener::from_std(sockets.peer);
    let mut client = TcpListener::from_std(sockets.client);
    for (listener, token) in [(&mut peer, PEER_PORT), (&mut client, CLIENT_PORT)] {
        let registered = poll.registry().register(listener, token, Interest::READABLE);
        registered.map_err(failed("listening"))?;
    }
    Ok((peer, client))
}

/// What differs with every start.
struct Random {
    /// Of the front's first session.
    nonce: Nonce,
    /// That of the group, if this replica is the one to begin its log. Not from the generator, whose
    /// seed is shorter.
    secret: Secret,
    prng: Prng,
}

impl Random {
    fn draw() -> Result<Self, NodeError> {
        let (mut nonce, mut secret, mut seed) = ([0; 16], [0; 16], [0; 8]);
        for bytes in [&mut nonce[..], &mut secret, &mut seed] {
            getrandom::fill(bytes).map_err(|error| NodeError::System {
                what: "drawing random numbers",
                error: io::Error::other(error.to_string()),
            })?;
        }
        Ok(Self {
            nonce: Nonce(u128::from_le_bytes(nonce)),
            secret: Secret(u128::from_le_bytes(secret)),
            prng: Prng::new(u64::from_le_bytes(seed)),
        })
    }
}

/// Sees to it that the limit on clients is one that the system lets this process keep. Returns what an
/// operator should know if it lets it keep far too few.
fn fit_clients(config: &mut NodeConfig) -> Option<String> {
    let files = system::raise_file_limit();
    let fitting = clients_that_fit(files);
    if fitting >= config.limits.clients_max {
        return None;
    }
    let sentence = format!(
        "the system lets this process open {files} files, so {fitting} clients are served at most \
         instead of {}: raise the limit (ulimit -n, or LimitNOFILE of a unit)",
        config.limits.clients_max
    );
    tracing::warn!("{sentence}");
    config.limits.clients_max = fitting;
    (fitting < CLIENTS_FEW).then_some(sentence)
}

/// How many clients there may be where so many files may be open. Half of them are left to clients in any
/// case: a limit so low that the rest does not do is told, and met by accepting nobody for a while.
fn clients_that_fit(files: usize) -> usize {
    files.saturating_sub(FILES_BESIDES.min(files / 2)).max(1)
}

fn machines<D: Disk>(
    config: &NodeConfig,
    store: &Store<D>,
    secret: Secret,
    prng: Prng,
) -> Machines {
    let now = clock::now(&config.wall_clock);
    let partial = store.incoming.as_ref().and_then(|incoming| {
        let found = incoming.partial();
        // Pieces are stored in order, but one of them may have been found damaged.
        let chunks = incoming.next_missing(0).unwrap_or(found.complete);
        let chunks = u32::try_from(chunks).ok()?;
        let partial = PartialCheckpoint { checkpoint: found.id, total: found.total, chunks };
        (found.chunk_bytes == config.ordering.chunk_bytes).then_some(partial)
    });
    let mut held = store.checkpoints.held();
    held.retain(|held| Some(*held) <= store.from);
    let start = Start {
        me: config.me,
        configuration: config.configuration.clone(),
        votes: config.votes,
        recovered: store.recovered.clone(),
        held,
        stable: store.checkpoints.stable(),
        time: store.time,
        partial,
        prng,
        opening: Some(Command::Begin { secret }.encode()),
    };
    let replica = Replica::new(start, config.ordering, now, NoPlants);
    let peers = config.configuration.replicas.iter().copied().filter(|peer| *peer != config.me);
    let detector = Detector::new(peers, config.detection, now.monotonic);
    Machines::new(replica, detector, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_limit_of_files_leaves_half_of_them_to_clients() {
        for (files, clients) in [(0, 1), (64, 32), (256, 128), (1024, 512), (20_000, 19_488)] {
            assert_eq!(clients_that_fit(files), clients, "{files}");
        }
    }
}
