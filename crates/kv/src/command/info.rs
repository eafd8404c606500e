//! INFO: what the replica tells of itself. What is about keys the service adds, from its state.

use std::fmt::Write as _;

use super::{After, Call, Refusal, named_by};
use crate::process;
use crate::resp::Arguments;

type Answered = Result<After, Refusal>;
type Written = std::fmt::Result;
type Section = fn(&mut Call<'_>, &mut String) -> Written;

/// The sections, in the order in which they are written, and whether each comes without being named.
pub(super) const SECTIONS: &[(&str, bool, Section)] = &[
    ("server", true, server),
    ("clients", true, clients),
    ("memory", true, memory),
    ("persistence", true, persistence),
    ("stats", true, stats),
    ("replication", true, replication),
    ("commandstats", false, commandstats),
    ("cluster", true, cluster),
    ("mainstay", true, mainstay),
];

pub(super) fn info(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    let names =
        |wanted: &str| arguments.from(1).any(|name| name.eq_ignore_ascii_case(wanted.as_bytes()));
    let all = names("all") || names("everything");
    let default = all || arguments.len() == 1 || names("default");
    let mut text = String::new();
    for (name, comes, section) in SECTIONS {
        if all || (*comes && default) || names(name) {
            begin(&mut text);
            section(call, &mut text).expect("a string takes every character");
        }
    }
    // Without a state to look at, nothing is said of it: that is not an error of the question.
    if call.view.readable && (default || names("keyspace")) {
        begin(&mut text);
        call.out.extend_from_slice(text.as_bytes());
        return Ok(After::Describe);
    }
    call.reply().verbatim(&text);
    Ok(After::GoOn)
}

fn begin(text: &mut String) {
    if !text.is_empty() {
        text.push_str("\r\n");
    }
}

fn server(call: &mut Call<'_>, out: &mut String) -> Written {
    write!(
        out,
        "# Server\r\nredis_version:{}\r\nredis_mode:standalone\r\nos:{} {}\r\narch_bits:{}\r\n\
         process_id:{}\r\nrun_id:{}\r\ntcp_port:{}\r\nuptime_in_seconds:{}\r\n\
         uptime_in_days:{}\r\n",
        super::connection::REDIS_VERSION,
        std::env::consts::OS,
        std::env::consts::ARCH,
        usize::BITS,
        std::process::id(),
        call.server.run_id,
        call.view.port,
        call.view.uptime_s,
        call.view.uptime_s / 86_400,
    )
}

fn clients(call: &mut Call<'_>, out: &mut String) -> Written {
    write!(
        out,
        "# Clients\r\nconnected_clients:{}\r\ncluster_connections:0\r\nmaxclients:{}\r\n\
         blocked_clients:0\r\ntracking_clients:0\r\n",
        call.view.clients, call.view.clients_max
    )
}

/// What the system says of the process: the replica does not count apart what its state takes.
fn memory(_: &mut Call<'_>, out: &mut String) -> Written {
    let process::Memory { resident, peak, system } = process::memory();
    let human = human_bytes;
    write!(
        out,
        "# Memory\r\nused_memory:{resident}\r\nused_memory_human:{}\r\nused_memory_rss:{resident}\r\n\
         used_memory_rss_human:{}\r\nused_memory_peak:{peak}\r\nused_memory_peak_human:{}\r\n\
         total_system_memory:{system}\r\ntotal_system_memory_human:{}\r\nmaxmemory:0\r\n\
         maxmemory_human:0B\r\nmaxmemory_policy:noeviction\r\nmem_fragmentation_ratio:1.00\r\n",
        human(resident),
        human(resident),
        human(peak),
        human(system),
    )
}

/// As Redis abbreviates them.
fn human_bytes(bytes: u64) -> String {
    let units = ["K", "M", "G", "T"];
    let mut size = bytes as f64;
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut unit = "B";
    for next in units {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, next);
    }
    format!("{size:.2}{unit}")
}

fn persistence(call: &mut Call<'_>, out: &mut String) -> Written {
    write!(
        out,
        "# Persistence\r\nloading:{}\r\nasync_loading:0\r\nrdb_bgsave_in_progress:0\r\n\
         rdb_last_bgsave_status:ok\r\naof_enabled:1\r\naof_rewrite_in_progress:0\r\n\
         aof_last_write_status:ok\r\n",
        u8::from(call.view.loading)
    )
}

fn stats(call: &mut Call<'_>, out: &mut String) -> Written {
    let statistics = &mut call.server.statistics;
    write!(
        out,
        "# Stats\r\ntotal_connections_received:{}\r\ntotal_commands_processed:{}\r\n\
         instantaneous_ops_per_sec:{}\r\ntotal_net_input_bytes:{}\r\ntotal_net_output_bytes:{}\r\n\
         rejected_connections:{}\r\nevicted_keys:0\r\npubsub_channels:0\r\npubsub_patterns:0\r\n\
         total_error_replies:{}\r\n",
        statistics.connections + statistics.turned_away,
        statistics.calls(),
        statistics.commands_a_second(),
        statistics.input,
        statistics.output,
        statistics.turned_away,
        statistics.errors(),
    )
}

/// Every replica takes every command, so to a client each of them is a master without replicas.
fn replication(_: &mut Call<'_>, out: &mut String) -> Written {
    write!(out, "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n")
}

/// Times are not measured by command: most of what a command takes is the agreement that it shares with
/// others.
fn commandstats(call: &mut Call<'_>, out: &mut String) -> Written {
    out.write_str("# Commandstats\r\n")?;
    for (number, counts) in &call.server.statistics.commands {
        let (parent, spec) = named_by(*number);
        let (before, bar) = parent.map_or(("", ""), |parent| (parent.name, "|"));
        write!(
            out,
            "cmdstat_{before}{bar}{}:calls={},usec=0,usec_per_call=0.00,rejected_calls={},\
             failed_calls={}\r\n",
            spec.name, counts.calls, counts.rejected, counts.failed
        )?;
    }
    Ok(())
}

fn cluster(_: &mut Call<'_>, out: &mut String) -> Written {
    write!(out, "# Cluster\r\ncluster_enabled:0\r\n")
}

fn mainstay(call: &mut Call<'_>, out: &mut String) -> Written {
    let view = call.view;
    let leader = view.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string());
    write!(
        out,
        "# Mainstay\r\nmainstay_version:{}\r\nmainstay_replica:{}\r\n\
         mainstay_leader:{leader}\r\nmainstay_decided:{}\r\nmainstay_applied:{}\r\n\
         mainstay_decided_time_ms:{}\r\nmainstay_log_bytes:{}\r\n",
        env!("CARGO_PKG_VERSION"),
        view.index,
        view.decided,
        view.applied,
        view.decided_time_ms,
        view.log_bytes,
    )
}

#[cfg(test)]
mod tests {
    use super::human_bytes;

    #[test]
    fn sizes_are_abbreviated_as_redis_does() {
        for (bytes, text) in
            [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (1 << 20, "1.00M"), (3 << 29, "1.50G")]
        {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
