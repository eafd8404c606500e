//! The two listening sockets of a node.

use std::net::{SocketAddr, TcpListener};

use crate::NodeError;

/// How many connections the system may hold ready until they are taken in, if it allows so many. A crowd
/// that comes back all at once is not turned away, and no peer behind it either.
const BACKLOG: i32 = 4096;

/// The listening sockets, taken before anything else, so that a taken port is known at once and
/// port 0 can be resolved before peers are told.
#[derive(Debug)]
pub struct Sockets {
    pub(crate) peer: TcpListener,
    pub(crate) client: TcpListener,
}

impl Sockets {
    /// Takes the peer port (all roles) and the client port (the front's protocol and the native
    /// one).
    ///
    /// # Errors
    /// [`NodeError::Listen`] names the port that could not be taken.
    pub fn bind(peer: SocketAddr, client: SocketAddr) -> Result<Self, NodeError> {
        let bind = |port, address| {
            let listen = || {
                let listener = TcpListener::bind(address)?;
                // It listens already; this only makes room.
                rustix::net::listen(&listener, BACKLOG)?;
                listener.set_nonblocking(true)?;
                Ok(listener)
            };
            listen().map_err(|error| NodeError::Listen { port, address, error })
        };
        Ok(Self { peer: bind("peer", peer)?, client: bind("client", client)? })
    }

    /// Where peers, clients and administrators connect.
    ///
    /// # Panics
    /// Never, for a socket that is bound.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.peer.local_addr().expect("a bound socket has an address")
    }

    /// Where clients connect.
    ///
    /// # Panics
    /// Never, for a socket that is bound.
    #[must_use]
    pub fn client_address(&self) -> SocketAddr {
        self.client.local_addr().expect("a bound socket has an address")
    }
}
