//! COMMAND: what the table says, as replies.

use super::{After, COMMANDS, Call, Group, Refusal, Run, Spec, find, help, table};
use crate::glob::{Case, Pattern};
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
            None => reply.nil(),
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
    let pattern = Pattern::new(pattern, Case::Ignored).ok_or_else(Refusal::long_pattern)?;
    let names: Vec<_> = COMMANDS
        .iter()
        .map(|spec| spec.name)
        .filter(|name| pattern.matches(name.as_bytes()))
        .collect();
    let mut reply = call.reply();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name.as_bytes()));
    Ok(After::GoOn)
}

pub(super) fn getkeys(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    let unknown = || Refusal::new("ERR Invalid command specified");
    let mut spec = find(COMMANDS, arguments.at(2)).ok_or_else(unknown)?;
    let count = arguments.len() - 2;
    if count > 1 && !spec.subcommands.is_empty() {
        spec = find(spec.subcommands, arguments.at(3)).ok_or_else(unknown)?;
    }
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
    let mut flags = match (spec.run, spec.name) {
        // What frees memory, or takes none, goes on when there is none.
        (Run::Write(_), "flushall" | "flushdb" | "getdel" | "getex") => vec!["write"],
        (Run::Write(_), name) if spec.group == Group::Generic && name != "copy" => vec!["write"],
        (Run::Write(_), _) => vec!["write", "denyoom"],
        (Run::Read(_), _) => vec!["readonly"],
        (Run::Parent, _) | (Run::Local(_), "ping") => vec![],
        (Run::Local(_), _) => vec!["loading", "stale"],
    };
    flags.extend_from_slice(match spec.name {
        "auth" | "hello" | "quit" | "reset" => &["noscript", "no_auth", "allow_busy"],
        "discard" | "multi" | "unwatch" | "watch" => &["noscript", "allow_busy"],
        "exec" => &["noscript", "skip_slowlog"],
        _ => &[][..],
    });
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
    categories.extend(match (spec.group, spec.run, spec.name) {
        (_, Run::Parent, _) => None,
        (_, _, "command") | (Group::Connection, ..) => Some("@connection"),
        (Group::Generic, ..)
        | (_, Run::Write(_) | Run::Read(_), "dbsize" | "flushall" | "flushdb") => Some("@keyspace"),
        (Group::String, ..) => Some("@string"),
        (Group::Transactions, ..) => Some("@transaction"),
        (Group::Server, ..) => None,
    });
    if matches!(spec.name, "flushall" | "flushdb" | "info" | "keys") {
        categories.push("@dangerous");
    }
    categories.push(if spec.fast { "@fast" } else { "@slow" });
    categories
}

/// What a command does with its keys, as Redis says it: once for all of them, or for each.
fn uses_of_keys(spec: &Spec) -> &'static [&'static [&'static str]] {
    match spec.name {
        "append" => &[&["RW", "insert"]],
        "copy" => &[&["RO", "access"], &["OW", "update"]],
        "del" | "unlink" => &[&["RM", "delete"]],
        "exists" | "strlen" | "touch" | "type" | "watch" => &[&["RO"]],
        "getdel" => &[&["RW", "access", "delete"]],
        "mset" | "psetex" | "setex" => &[&["OW", "update"]],
        "msetnx" | "setnx" => &[&["OW", "insert"]],
        "rename" => &[&["RW", "access", "delete"], &["OW", "update"]],
        "renamenx" => &[&["RW", "access", "delete"], &["OW", "insert"]],
        "set" => &[&["RW", "access", "update", "variable_flags"]],
        "setrange" => &[&["RW", "update"]],
        _ if spec.is_write() && spec.group == Group::Generic => &[&["RW", "update"]],
        _ if spec.is_write() => &[&["RW", "access", "update"]],
        _ => &[&["RO", "access"]],
    }
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
    reply.set(0);
    key_specifications(reply, spec);
    match spec.subcommands.len() {
        0 => reply.set(0),
        len => reply.array(len),
    }
    spec.subcommands.iter().for_each(|subcommand| describe(reply, Some(spec), subcommand));
}

fn words(reply: &mut Writer<'_>, words: &[&str]) {
    reply.set(words.len());
    words.iter().for_each(|word| reply.status(word));
}

/// Where the keys begin and how to go on from there: a specification for all of them, or one for each.
fn key_specifications(reply: &mut Writer<'_>, spec: &Spec) {
    if spec.keys.first == 0 {
        return reply.set(0);
    }
    let numbers = |reply: &mut Writer<'_>, fields: &[(&str, i32)]| {
        reply.map(fields.len());
        for (name, value) in fields {
            reply.bulk(name.as_bytes());
            reply.integer(i64::from(*value));
        }
    };
    let uses = uses_of_keys(spec);
    // The last key is told relative to the first.
    let last = match (spec.keys.last, uses.len()) {
        (last, 1) if last > 0 => last - spec.keys.first,
        (last, 1) => last,
        _ => 0,
    };
    reply.set(uses.len());
    for (flags, first) in uses.iter().zip(spec.keys.first..) {
        reply.map(3);
        reply.bulk(b"flags");
        words(reply, flags);
        reply.bulk(b"begin_search");
        reply.map(2);
        reply.bulk(b"type");
        reply.bulk(b"index");
        reply.bulk(b"spec");
        numbers(reply, &[("index", first)]);
        reply.bulk(b"find_keys");
        reply.map(2);
        reply.bulk(b"type");
        reply.bulk(b"range");
        reply.bulk(b"spec");
        numbers(reply, &[("lastkey", last), ("keystep", spec.keys.step), ("limit", 0)]);
    }
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
