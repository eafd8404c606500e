//! Where a peer is: an address of the network, or the name of a host, which is looked up each time the
//! peer is dialled. A host's name is how containers and machines that move are addressed.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};

/// The longest name of a host in bytes (RFC 1035, section 2.3.4).
const HOST_LEN_MAX: usize = 255;

/// Where a peer listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// An address of the network.
    Socket(SocketAddr),
    /// The name of a host, and a port there.
    Name {
        /// The name; what it stands for may change.
        host: String,
        /// The port.
        port: u16,
    },
}

impl PeerAddress {
    /// Reads `host:port`, with IPv6 addresses in brackets. Looks nothing up; `None` for what no peer
    /// can have.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() > 0).then_some(Self::Socket(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        // What is made of digits and dots was meant to be an address.
        let named = host.bytes().any(|byte| byte.is_ascii_alphabetic())
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
        (named && host.len() <= HOST_LEN_MAX).then(|| Self::Name { host: host.to_owned(), port })
    }

    /// The address, where it is one.
    #[must_use]
    pub const fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Name { .. } => None,
        }
    }

    /// Every address that it stands for at present, in the order of the system. May take long: a name
    /// server that does not answer is asked several times.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    pub fn look_up(&self) -> Result<Vec<SocketAddr>, String> {
        let (host, port) = match self {
            Self::Socket(address) => return Ok(vec![*address]),
            Self::Name { host, port } => (host, *port),
        };
        let mut found: Vec<SocketAddr> = Vec::new();
        let addresses = (host.as_str(), port)
            .to_socket_addrs()
            .map_err(|error| format!("the name of its host, {host}, is not known: {error}"))?;
        for address in addresses {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        if found.is_empty() {
            return Err(format!("the name of its host, {host}, stands for no address"));
        }
        Ok(found)
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_read_and_nothing_is_looked_up() {
        for text in ["127.0.0.1:7500", "[::1]:7500", "[fe80::1]:1"] {
            let address = PeerAddress::parse(text).unwrap();
            assert_eq!((address.to_string(), address.socket().is_some()), (text.to_owned(), true));
        }
        for text in ["replica-1:7500", "no.such.host.invalid:7500", "a_b.c-d.:65535"] {
            let address = PeerAddress::parse(text).unwrap();
            assert_eq!((address.to_string(), address.socket()), (text.to_owned(), None));
        }
        let long = format!("{}:1", "a".repeat(256));
        for text in
            ["", "7500", "host", "host:", "host:0", "host:70000", ":7500", "10.0.0:7500", "a b:1"]
                .into_iter()
                .chain(["::1:7500", "127.0.0.1", "127.0.0.1:0", "host:+1x", "h/x:1", &long])
        {
            assert_eq!(PeerAddress::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_stands_for_each_address_once() {
        let found = PeerAddress::parse("localhost:7500").unwrap().look_up().unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 7500));
        let mut once = found.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), found.len());
        let unknown = PeerAddress::parse("no-such-host.invalid:1").unwrap().look_up().unwrap_err();
        assert!(unknown.contains("no-such-host.invalid"), "{unknown}");
    }
}
