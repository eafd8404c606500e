//! COMMAND: what the table says, as replies.

use super::{After, COMMANDS, Call, Refusal, Run, Spec, find, help, table};
use crate::glob;
use crate::resp::{Arguments, Writer};

type Answered = Result<After, Refusal>;

pub(super) fn all(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    let mut reply = call.reply();
    reply.array(COMMANDS.len());
    COMMANDS.iter().for_each(|spec| describe(&mut reply, None, spec));
    Ok(After::GoOn)
}

pub(super) fn count(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    call.reply().integer(COMMANDS.len() as i64);
    Ok(After::GoOn)
}

pub(super) fn info(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    if arguments.len() == 2 {
        return all(call, arguments);
    }
    let mut reply = call.reply();
    reply.array(arguments.len() - 2);
    for name in arguments.from(2) {
        match named(name) {
            Some((parent, spec)) => describe(&mut reply, parent, spec),
            None => reply.nil_array(),
        }
    }
    Ok(After::GoOn)
}

pub(super) fn docs(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    let found: Vec<_> = if arguments.len() == 2 {
        COMMANDS.iter().map(|spec| (None, spec)).collect()
    } else {
        arguments.from(2).filter_map(named).collect()
    };
    let mut reply = call.reply();
    reply.map(found.len());
    for (parent, spec) in found {
        document(&mut reply, parent, spec);
    }
    Ok(After::GoOn)
}

pub(super) fn list(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    let pattern = match arguments.len() {
        2 => &b"*"[..],
        5 if arguments.at(2).eq_ignore_ascii_case(b"FILTERBY")
            && arguments.at(3).eq_ignore_ascii_case(b"PATTERN") =>
        {
            arguments.at(4)
        }
        _ => return Err(Refusal::syntax()),
    };
    let names: Vec<_> = COMMANDS
        .iter()
        .map(|spec| spec.name)
        .filter(|name| glob::matches(pattern, name.as_bytes()))
        .collect();
    let mut reply = call.reply();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
    Ok(After::GoOn)
}

pub(super) fn getkeys(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    let spec = find(COMMANDS, arguments.at(2))
        .ok_or_else(|| Refusal::new("ERR Invalid command specified"))?;
    let count = arguments.len() - 2;
    if spec.keys.first == 0 {
        return Err(Refusal::new("ERR The command has no key arguments"));
    }
    if !spec.takes(count) {
        return Err(Refusal::new("ERR Invalid number of arguments specified for command"));
    }
    let (first, step) = (spec.keys.first as usize, spec.keys.step as usize);
    let end = if spec.keys.last < 0 {
        count - (spec.keys.last.unsigned_abs() as usize - 1)
    } else {
        spec.keys.last as usize + 1
    };
    let keys: Vec<_> = arguments.from(2 + first).take(end - first).step_by(step).collect();
    let mut reply = call.reply();
    reply.array(keys.len());
    keys.iter().for_each(|key| reply.bulk(key));
    Ok(After::GoOn)
}

pub(super) fn command_help(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    help(call, table::parent("command"))
}

/// The command of this name, or the subcommand of a name like `client|id`, with its parent.
fn named(name: &[u8]) -> Option<(Option<&'static Spec>, &'static Spec)> {
    match name.iter().position(|&byte| byte == b'|') {
        None => find(COMMANDS, name).map(|spec| (None, spec)),
        Some(bar) => {
            let parent = find(COMMANDS, &name[..bar])?;
            find(parent.subcommands, &name[bar + 1..]).map(|spec| (Some(parent), spec))
        }
    }
}

fn full_name(parent: Option<&Spec>, spec: &Spec) -> String {
    parent.map_or_else(|| spec.name.to_owned(), |parent| format!("{}|{}", parent.name, spec.name))
}

/// Flags, as Redis names them.
fn flags(spec: &Spec) -> Vec<&'static str> {
    let mut flags = match spec.run {
        Run::Write(_) => vec!["write", "denyoom"],
        Run::Read(_) => vec!["readonly"],
        Run::Local(_) => vec!["loading", "stale"],
        Run::Parent => vec![],
    };
    // What frees memory, or takes none, goes on when there is none.
    let takes_none = spec.group == super::Group::Generic
        || matches!(spec.name, "flushall" | "flushdb" | "getdel" | "getex");
    if takes_none {
        flags.retain(|&flag| flag != "denyoom");
    }
    flags.extend(spec.fast.then_some("fast"));
    flags
}

/// The categories of access control, as Redis derives them from flags and group.
fn categories(spec: &Spec) -> Vec<&'static str> {
    let mut categories = match spec.run {
        Run::Write(_) => vec!["@write"],
        Run::Read(_) => vec!["@read"],
        Run::Local(_) | Run::Parent => vec![],
    };
    categories.extend(match spec.group {
        super::Group::Connection => Some("@connection"),
        super::Group::Generic => Some("@keyspace"),
        super::Group::String => Some("@string"),
        super::Group::Server => None,
    });
    categories.push(if spec.fast { "@fast" } else { "@slow" });
    categories
}

/// Ten fields: name, arity, flags, first key, last key, step, categories, tips, key specifications,
/// subcommands.
fn describe(reply: &mut Writer<'_>, parent: Option<&Spec>, spec: &Spec) {
    reply.array(10);
    reply.bulk(full_name(parent, spec).as_bytes());
    reply.integer(i64::from(spec.arity));
    words(reply, &flags(spec));
    for position in [spec.keys.first, spec.keys.last, spec.keys.step] {
        reply.integer(i64::from(position));
    }
    words(reply, &categories(spec));
    reply.array(0);
    key_specifications(reply, spec);
    reply.array(spec.subcommands.len());
    spec.subcommands.iter().for_each(|subcommand| describe(reply, Some(spec), subcommand));
}

fn words(reply: &mut Writer<'_>, words: &[&str]) {
    reply.set(words.len());
    words.iter().for_each(|word| reply.status(word));
}

/// Where the keys begin and how to go on from there: one specification, or none without keys.
fn key_specifications(reply: &mut Writer<'_>, spec: &Spec) {
    if spec.keys.first == 0 {
        return reply.array(0);
    }
    let numbers = |reply: &mut Writer<'_>, fields: &[(&str, i32)]| {
        reply.map(fields.len());
        for (name, value) in fields {
            reply.bulk(name.as_bytes());
            reply.integer(i64::from(*value));
        }
    };
    // The last key is told relative to the first.
    let last = if spec.keys.last < 0 { spec.keys.last } else { spec.keys.last - spec.keys.first };
    reply.array(1);
    reply.map(3);
    reply.bulk(b"flags");
    words(reply, if spec.is_write() { &["RW", "UPDATE"] } else { &["RO", "ACCESS"] });
    reply.bulk(b"begin_search");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"index");
    reply.bulk(b"spec");
    numbers(reply, &[("index", spec.keys.first)]);
    reply.bulk(b"find_keys");
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(b"range");
    reply.bulk(b"spec");
    numbers(reply, &[("lastkey", last), ("keystep", spec.keys.step), ("limit", 0)]);
}

/// A name and a map of what there is to say about it.
fn document(reply: &mut Writer<'_>, parent: Option<&Spec>, spec: &Spec) {
    reply.bulk(full_name(parent, spec).as_bytes());
    reply.map(if spec.subcommands.is_empty() { 3 } else { 4 });
    for (key, value) in
        [("summary", spec.summary), ("since", spec.since), ("group", spec.group.name())]
    {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if !spec.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(spec.subcommands.len());
        spec.subcommands.iter().for_each(|subcommand| document(reply, Some(spec), subcommand));
    }
}
