//! CONFIG.

use super::{After, Call, Refusal, help, table};
use crate::glob::{Case, PATTERN_LEN_MAX, Pattern};
use crate::resp::Arguments;
use crate::statistics::Statistics;

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
    // What they cost together is bounded as a single one is.
    if arguments.from(2).map(<[u8]>::len).sum::<usize>() > PATTERN_LEN_MAX {
        return Err(Refusal::long_pattern());
    }
    let patterns: Vec<_> =
        arguments.from(2).filter_map(|pattern| Pattern::new(pattern, Case::Ignored)).collect();
    let matches = |name: &str| patterns.iter().any(|pattern| pattern.matches(name.as_bytes()));
    let wanted: Vec<_> = SETTINGS.iter().filter(|(name, _)| matches(name)).collect();
    let mut reply = call.reply();
    reply.map(wanted.len());
    for (name, value) in wanted {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Ok(After::GoOn)
}

pub(super) fn config_resetstat(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    call.server.statistics = Statistics::default();
    call.ok()
}

pub(super) fn config_set(_: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    Err(Refusal::new("ERR CONFIG SET is not supported: give settings when the replica starts"))
}

pub(super) fn config_help(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    help(call, table::parent("config"))
}
