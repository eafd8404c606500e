//! What a node asks of the system: signals, the number of files it may open, and to notice when the
//! other end of a connection is gone without a word.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mio::net::UnixStream;
use mio::{Interest, Registry};
use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use crate::node::SIGNALS;

/// A socket that becomes readable when the process is asked to end.
pub(crate) fn stop_signals(registry: &Registry) -> io::Result<UnixStream> {
    let (read, write) = std::os::unix::net::UnixStream::pair()?;
    read.set_nonblocking(true)?;
    let mut read = UnixStream::from_std(read);
    registry.register(&mut read, SIGNALS, Interest::READABLE)?;
    // A terminal that is closed asks its processes to end like anybody else.
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// A write beyond the file-size limit is an error, as on a full disk, and not the end of the
/// process: a signal that has any handler at all does not end it.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false))).map(|_| ())
}

/// Raises the number of files that may be open to what the system allows. Returns it.
pub(crate) fn raise_file_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map_or(usize::MAX, |current| usize::try_from(current).unwrap_or(usize::MAX))
}

/// How much the thread that calls this gives way to others where the processor is busy.
#[cfg(target_os = "linux")]
const GIVEN_WAY: i32 = 10;

/// Makes the calling thread give way to those that clients wait for. What it does takes longer then on
/// a busy machine, and that is all.
pub(crate) fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(GIVEN_WAY) {
        tracing::debug!("a thread in the background has the priority of all others: {error}");
    }
}

/// How long a client may be silent until the system asks whether it is still there; how often it asks
/// again; and after how many questions without an answer the client is gone: 90 seconds in all.
const CLIENT_IDLE: Duration = Duration::from_secs(60);
const CLIENT_ASKED_EVERY: Duration = Duration::from_secs(10);
const CLIENT_ASKED_TIMES: u32 = 3;
/// How long what was sent to a peer may go unacknowledged until the connection is given up. Without
/// it a connection to a machine that lost its power is retried for a quarter of an hour, in ever
/// longer intervals, and blocks the way when the machine is back.
#[cfg(target_os = "linux")]
const PEER_UNACKNOWLEDGED: Duration = Duration::from_secs(2);

/// How much the system takes for a peer that it has not sent: short messages wait behind this much of
/// a long one.
#[cfg(target_os = "linux")]
const PEER_UNSENT: u32 = 128 << 10;

/// Prepares a connection to a client. One that a system cannot prepare is served all the same.
pub(crate) fn tend_client(socket: impl AsFd) {
    let asked = sockopt::set_socket_keepalive(&socket, true)
        .and_then(|()| sockopt::set_tcp_keepidle(&socket, CLIENT_IDLE))
        .and_then(|()| sockopt::set_tcp_keepintvl(&socket, CLIENT_ASKED_EVERY))
        .and_then(|()| sockopt::set_tcp_keepcnt(&socket, CLIENT_ASKED_TIMES));
    if let Err(error) = asked {
        tracing::debug!("a client that is gone will not be noticed: {error}");
    }
}

/// Prepares a connection to a peer, likewise.
pub(crate) fn tend_peer(socket: impl AsFd) {
    #[cfg(target_os = "linux")]
    let asked = sockopt::set_tcp_user_timeout(&socket, PEER_UNACKNOWLEDGED.as_millis() as u32)
        .map_err(io::Error::from)
        .and_then(|()| socket2::SockRef::from(&socket).set_tcp_notsent_lowat(PEER_UNSENT));
    #[cfg(not(target_os = "linux"))]
    let asked = sockopt::set_socket_keepalive(&socket, true);
    if let Err(error) = asked {
        tracing::debug!("a peer that is gone will be noticed late: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_gone_is_noticed_within_two_minutes() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        tend_client(&socket);
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        let idle = sockopt::tcp_keepidle(&socket).unwrap();
        let every = sockopt::tcp_keepintvl(&socket).unwrap();
        let times = sockopt::tcp_keepcnt(&socket).unwrap();
        assert!(idle + every * times <= Duration::from_secs(120), "{idle:?} {every:?} {times}");
    }
}
