//! Where the replicas listen.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::failure::Failure;
use crate::init::{PEER_PORT_DISTANCE, loopback_addresses};
use crate::settings::{Listen, resolve};

/// Where free ports are looked for: below those that systems give to outgoing connections, one of
/// which could otherwise take a replica's port while it restarts.
const FREE_PORTS: std::ops::Range<u16> = 10_240..32_000;
const ATTEMPTS: usize = 64;

/// The addresses of all replicas, each free at this moment: from `port` on, or anywhere if it is 0.
pub(super) fn choose(port: u16, replicas: u16) -> Result<Vec<Listen>, Failure> {
    if port != 0 {
        let listen = loopback_addresses(replicas, port)?;
        return match taken(&listen)? {
            None => Ok(listen),
            Some((address, error)) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(Failure::failed(format!(
                    "{address} is taken by another process: stop that one, or choose other ports \
                     by --port (replicas take PORT + i and PORT + {PEER_PORT_DISTANCE} + i)"
                )))
            }
            Some((address, error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(Failure::usage(format!(
                    "{address} needs rights that this user lacks ({error}): choose other ports by \
                     --port"
                )))
            }
            Some((address, error)) => {
                Err(Failure::failed(format!("{address} cannot be listened to: {error}")))
            }
        };
    }
    for _ in 0..ATTEMPTS {
        let mut random = [0; 2];
        getrandom::fill(&mut random)
            .map_err(|error| Failure::failed(format!("no random numbers: {error}")))?;
        let offset = u16::from_le_bytes(random) % (FREE_PORTS.end - FREE_PORTS.start);
        let listen = loopback_addresses(replicas, FREE_PORTS.start + offset)?;
        if taken(&listen)?.is_none() {
            return Ok(listen);
        }
    }
    Err(Failure::failed("no free ports were found: choose some by --port"))
}

/// The first address that cannot be listened to, and why.
fn taken(listen: &[Listen]) -> Result<Option<(SocketAddr, io::Error)>, Failure> {
    let mut held = Vec::new();
    for text in listen.iter().flat_map(|listen| [&listen.clients, &listen.peers]) {
        let address = resolve(text).map_err(Failure::usage)?;
        match TcpListener::bind(address) {
            Ok(listener) => held.push(listener),
            Err(error) => return Ok(Some((address, error))),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named() {
        let listen = choose(0, 3).unwrap();
        let address: SocketAddr = listen[1].clients.parse().unwrap();
        let held = TcpListener::bind(address).unwrap();
        let failure = choose(address.port() - 1, 3).unwrap_err();
        assert_eq!(failure.code, crate::failure::FAILED);
        assert!(failure.sentence.contains(&address.to_string()), "{failure}");
        drop(held);
    }
}
