//! The table of the configuration file that bounds what clients may take, and how long things may last.
//! `up` takes the same by its options.

use std::time::Duration;

use clap::Args;
use mainstay_node::Limits;
use serde::{Deserialize, Serialize};

use super::Wrong;

/// Bounds of one replica; each is what [`Limits`] says where it is not set.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitSettings {
    /// The most clients of a replica at once, 20000 if not told.
    #[arg(long = "clients-max", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) clients: Option<usize>,
    /// The largest request in bytes, 67108864 if not told.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_bytes: Option<usize>,
    /// The most bytes that are held for one client with something open, 268435456 if not told.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client_bytes: Option<usize>,
    /// The most bytes that are held for all clients of a replica together, 671088640 if not told.
    #[arg(long = "all-clients-bytes", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) all_clients_bytes: Option<usize>,
    /// How many milliseconds a client waits until it is told that an outcome is unknown, 10000 if not told.
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) outcome_timeout_ms: Option<u64>,
    /// How many milliseconds a client may take no replies while it sends more, 30000 if not told.
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stalled_timeout_ms: Option<u64>,
    /// How many milliseconds connecting and saying hello may take, 2000 if not told.
    #[arg(long, value_name = "MS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) handshake_timeout_ms: Option<u64>,
}

/// The smallest that a bound may be, below which nothing is served, and the largest that makes sense.
const REQUEST_BYTES: (usize, usize) = (1 << 10, 64 << 20);
const CLIENT_BYTES: (usize, usize) = (64 << 10, 1 << 40);
const ALL_CLIENTS_BYTES: (usize, usize) = (1 << 20, 1 << 40);
const CLIENTS: (usize, usize) = (1, 1_000_000);
/// How many of the largest requests have room together.
const REQUESTS_MIN: usize = 4;
const TIMEOUT_MS: (u64, u64) = (100, 3_600_000);

impl LimitSettings {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The bounds; an error names the key and what is wrong with it.
    pub(crate) fn limits(&self) -> Result<Limits, Wrong> {
        let mut limits = Limits::default();
        let counts = [
            ("limits.clients", self.clients, CLIENTS, &mut limits.clients_max),
            (
                "limits.request_bytes",
                self.request_bytes,
                REQUEST_BYTES,
                &mut limits.request_bytes_max,
            ),
            ("limits.client_bytes", self.client_bytes, CLIENT_BYTES, &mut limits.held_bytes_max),
            (
                "limits.all_clients_bytes",
                self.all_clients_bytes,
                ALL_CLIENTS_BYTES,
                &mut limits.held_bytes_all_max,
            ),
        ];
        for (key, set, range, limit) in counts {
            *limit = within(key, set, range)?.unwrap_or(*limit);
        }
        let times = [
            ("limits.outcome_timeout_ms", self.outcome_timeout_ms, &mut limits.outcome_timeout),
            ("limits.stalled_timeout_ms", self.stalled_timeout_ms, &mut limits.stalled_timeout),
            (
                "limits.handshake_timeout_ms",
                self.handshake_timeout_ms,
                &mut limits.handshake_timeout,
            ),
        ];
        for (key, set, limit) in times {
            *limit = within(key, set, TIMEOUT_MS)?.map_or(*limit, Duration::from_millis);
        }
        let least = limits.request_bytes_max.saturating_mul(REQUESTS_MIN);
        if limits.held_bytes_all_max < least {
            // A request is held twice while it is understood, and others want to go on.
            return Err(("limits.all_clients_bytes", format!("wants at least {least}")));
        }
        Ok(limits)
    }
}

fn within<T: Copy + PartialOrd + std::fmt::Display>(
    key: &'static str,
    set: Option<T>,
    (least, most): (T, T),
) -> Result<Option<T>, Wrong> {
    match set {
        Some(value) if value < least || value > most => {
            Err((key, format!("wants {least} to {most}")))
        }
        set => Ok(set),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{GOOD, read};
    use super::*;

    #[test]
    fn limits_are_as_the_file_says() {
        let limits =
            |lines: &str| read(&format!("{GOOD}\n[limits]\n{lines}")).map(|file| file.limits);
        assert_eq!(limits("").unwrap(), Limits::default());
        let set = limits(
            "clients = 7\nrequest_bytes = 2048\nclient_bytes = 100000\nall_clients_bytes = 2000000\n\
             outcome_timeout_ms = 200\nstalled_timeout_ms = 300\nhandshake_timeout_ms = 400\n",
        );
        let wanted = Limits {
            clients_max: 7,
            request_bytes_max: 2048,
            held_bytes_max: 100_000,
            held_bytes_all_max: 2_000_000,
            outcome_timeout: Duration::from_millis(200),
            stalled_timeout: Duration::from_millis(300),
            handshake_timeout: Duration::from_millis(400),
            ..Limits::default()
        };
        assert_eq!(set.unwrap(), wanted);
        let wrong = [
            ("clients = 0\n", "line 12: `limits.clients` wants 1 to 1000000"),
            ("\nrequest_bytes = 1\n", "line 13: `limits.request_bytes` wants 1024 to 67108864"),
            (
                "stalled_timeout_ms = 99\n",
                "line 12: `limits.stalled_timeout_ms` wants 100 to 3600000",
            ),
        ];
        for (lines, wanted) in wrong {
            let failure = limits(lines).unwrap_err();
            assert!(failure.sentence.contains(wanted), "{lines}: {failure}");
        }
    }
}
