//! INFO and CONFIG.

use std::fmt::Write as _;

use mainstay_node::front::View;

use super::{After, Call, Refusal, help, table};
use crate::glob;
use crate::resp::Arguments;

type Answered = Result<After, Refusal>;

/// The settings that `CONFIG GET` knows, with their values. All of them are constants so far.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("appendonly", "yes"),
    ("databases", "1"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("proto-max-bulk-len", "16777216"),
    ("save", ""),
    ("timeout", "0"),
];

pub(super) fn config_get(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    let wanted: Vec<_> = SETTINGS
        .iter()
        .filter(|(name, _)| {
            arguments.from(2).any(|pattern| glob::matches(pattern, name.as_bytes()))
        })
        .collect();
    let mut reply = call.reply();
    reply.map(wanted.len());
    for (name, value) in wanted {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Ok(After::GoOn)
}

pub(super) fn config_resetstat(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    call.ok()
}

pub(super) fn config_set(_: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    Err(Refusal::new("ERR CONFIG SET is not supported: give settings when the replica starts"))
}

pub(super) fn config_help(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    help(call, table::parent("config"))
}

type Section = fn(&View, &mut String) -> std::fmt::Result;

/// The sections of INFO, in the order in which they are written.
pub(super) const SECTIONS: &[(&str, Section)] = &[
    ("server", server_section),
    ("clients", clients_section),
    ("persistence", persistence_section),
    ("replication", replication_section),
    ("cluster", cluster_section),
    ("mainstay", mainstay_section),
];

pub(super) fn info(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    let everything = arguments.len() == 1
        || arguments.from(1).any(|name| {
            [&b"default"[..], b"all", b"everything"]
                .iter()
                .any(|whole| name.eq_ignore_ascii_case(whole))
        });
    let mut text = String::new();
    for (name, section) in SECTIONS {
        let named = arguments.from(1).any(|wanted| wanted.eq_ignore_ascii_case(name.as_bytes()));
        if everything || named {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            section(call.view, &mut text).expect("a string takes every character");
        }
    }
    call.reply().verbatim(&text);
    Ok(After::GoOn)
}

fn server_section(view: &View, out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "# Server\r\nredis_version:{}\r\nredis_mode:standalone\r\nos:{} {}\r\narch_bits:{}\r\n\
         process_id:{}\r\ntcp_port:{}\r\nuptime_in_seconds:{}\r\nuptime_in_days:{}\r\n",
        super::connection::REDIS_VERSION,
        std::env::consts::OS,
        std::env::consts::ARCH,
        usize::BITS,
        std::process::id(),
        view.port,
        view.uptime_s,
        view.uptime_s / 86_400,
    )
}

fn clients_section(view: &View, out: &mut String) -> std::fmt::Result {
    write!(out, "# Clients\r\nconnected_clients:{}\r\n", view.clients)
}

fn persistence_section(view: &View, out: &mut String) -> std::fmt::Result {
    write!(out, "# Persistence\r\nloading:{}\r\n", u8::from(view.loading))
}

/// Every replica takes every command, so to a client each of them is a master without replicas.
fn replication_section(_: &View, out: &mut String) -> std::fmt::Result {
    write!(out, "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n")
}

fn cluster_section(_: &View, out: &mut String) -> std::fmt::Result {
    write!(out, "# Cluster\r\ncluster_enabled:0\r\n")
}

fn mainstay_section(view: &View, out: &mut String) -> std::fmt::Result {
    let leader = view.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
    write!(
        out,
        "# Mainstay\r\nmainstay_version:{}\r\nmainstay_replica:{}\r\nmainstay_leader:{leader}\r\n\
         mainstay_decided:{}\r\nmainstay_applied:{}\r\nmainstay_decided_time_ms:{}\r\n\
         mainstay_log_bytes:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        view.index,
        view.decided,
        view.applied,
        view.decided_time_ms,
        view.log_bytes,
    )
}
