//! Commands about the connection, which the front answers.

use super::{After, Call, Refusal, client};
use crate::integer;
use crate::resp::{Arguments, Version};

type Answered = Result<After, Refusal>;

/// The version of Redis whose protocol and commands this server follows.
pub(super) const REDIS_VERSION: &str = "7.0.15";

const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default \
     user. Are you sure your configuration is correct?";
const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";

pub(super) fn ping(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    match arguments.len() {
        1 => call.reply().status("PONG"),
        2 => call.reply().bulk(arguments.at(1)),
        _ => return Err(Refusal::new("ERR wrong number of arguments for 'ping' command")),
    }
    Ok(After::GoOn)
}

pub(super) fn echo(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    call.reply().bulk(arguments.at(1));
    Ok(After::GoOn)
}

pub(super) fn quit(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    call.reply().status("OK");
    Ok(After::Close)
}

pub(super) fn reset(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    call.client.reset();
    call.reply().status("RESET");
    Ok(After::GoOn)
}

/// `READONLY` and `READWRITE`, which clients of a Redis cluster send to say whether a replica may
/// answer them with what it has.
pub(super) fn readonly(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    call.client.stale_reads = true;
    call.ok()
}

pub(super) fn readwrite(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    call.client.stale_reads = false;
    call.ok()
}

/// There is no authentication: as in a Redis without a password, the default user is let in with any.
pub(super) fn auth(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    match arguments.len() {
        2 => Err(Refusal::new(NO_PASSWORD)),
        3 => authenticate(arguments.at(1)).and_then(|()| call.ok()),
        _ => Err(Refusal::syntax()),
    }
}

fn authenticate(user: &[u8]) -> Result<(), Refusal> {
    if user == b"default" { Ok(()) } else { Err(Refusal::new(WRONG_PASSWORD)) }
}

pub(super) fn select(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    match integer::parse(arguments.at(1)) {
        Some(0) => call.ok(),
        Some(other) => Err(Refusal::database(other)),
        None => Err(Refusal::not_an_integer()),
    }
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`. Nothing changes unless all of it is right.
pub(super) fn hello(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    let mut version = call.client.version;
    if arguments.len() > 1 {
        version = match integer::parse(arguments.at(1)) {
            Some(2) => Version::Resp2,
            Some(3) => Version::Resp3,
            Some(_) => return Err(Refusal::new("NOPROTO unsupported protocol version")),
            None => {
                return Err(Refusal::new("ERR Protocol version is not an integer or out of range"));
            }
        };
    }
    let (mut name, mut logs_in) = (None, Ok(()));
    let mut options = arguments.from(2);
    while let Some(option) = options.next() {
        if option.eq_ignore_ascii_case(b"AUTH") && options.len() >= 2 {
            let user = options.next().unwrap_or_default();
            options.next();
            logs_in = logs_in.and_then(|()| authenticate(user));
        } else if option.eq_ignore_ascii_case(b"SETNAME") && options.len() >= 1 {
            name = options.next();
        } else {
            let mut text = b"ERR Syntax error in HELLO option '".to_vec();
            text.extend_from_slice(super::first_bytes(option, 128));
            text.push(b'\'');
            return Err(Refusal(text));
        }
    }
    logs_in?;
    if let Some(name) = name {
        client::set_name(call.client, name)?;
    }
    call.client.version = version;
    let id = call.client.id;
    let mut reply = call.reply();
    reply.map(7);
    for (key, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.integer(i64::from(version.number()));
    reply.bulk(b"id");
    reply.integer(id as i64);
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(After::GoOn)
}
