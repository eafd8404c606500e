//! Commands about the connection, which the front answers.

use super::{After, Call, Client, Refusal, help, table};
use crate::integer;
use crate::resp::{Arguments, Version};

type Answered = Result<After, Refusal>;

/// The version of Redis whose protocol and commands this server follows.
pub(super) const REDIS_VERSION: &str = "7.4.0";

const NO_AUTHENTICATION: &str =
    "ERR this server has no authentication yet: connect without user name and password";

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
    *call.client = Client { id: call.client.id, ..Client::default() };
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

pub(super) fn auth(_: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    Err(Refusal::new(NO_AUTHENTICATION))
}

pub(super) fn select(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    match integer::parse(arguments.at(1)) {
        Some(0) => call.ok(),
        Some(_) => Err(Refusal::new("ERR DB index is out of range: there is one database, 0")),
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
    let mut name = None;
    let mut options = arguments.from(2);
    while let Some(option) = options.next() {
        if option.eq_ignore_ascii_case(b"AUTH") && options.len() >= 2 {
            return Err(Refusal::new(NO_AUTHENTICATION));
        } else if option.eq_ignore_ascii_case(b"SETNAME") && options.len() >= 1 {
            name = options.next();
        } else {
            let mut text = b"ERR Syntax error in HELLO option '".to_vec();
            text.extend_from_slice(super::first_bytes(option, 128));
            text.push(b'\'');
            return Err(Refusal(text));
        }
    }
    if let Some(name) = name {
        set_name(call.client, name)?;
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

/// Names are printed in lists, so they must be one visible word. An empty one takes the name away.
fn is_word(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

fn set_name(client: &mut Client, name: &[u8]) -> Result<(), Refusal> {
    if !is_word(name) || name.len() > CLIENT_TEXT_LEN_MAX {
        return Err(Refusal::new(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    client.name = name.to_vec();
    Ok(())
}

/// The longest name of a client or its library that is kept.
const CLIENT_TEXT_LEN_MAX: usize = 1024;

pub(super) fn client_setname(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    set_name(call.client, arguments.at(2))?;
    call.ok()
}

pub(super) fn client_getname(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    let name = call.client.name.clone();
    match name.is_empty() {
        true => call.reply().nil(),
        false => call.reply().bulk(&name),
    }
    Ok(After::GoOn)
}

pub(super) fn client_setinfo(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    let (option, value) = (arguments.at(2), arguments.at(3));
    let (name, field) = match option.to_ascii_uppercase().as_slice() {
        b"LIB-NAME" => ("lib-name", &mut call.client.library),
        b"LIB-VER" => ("lib-ver", &mut call.client.library_version),
        _ => {
            let mut text = b"ERR Unrecognized option '".to_vec();
            text.extend_from_slice(super::first_bytes(option, 128));
            text.push(b'\'');
            return Err(Refusal(text));
        }
    };
    if !is_word(value) || value.len() > CLIENT_TEXT_LEN_MAX {
        return Err(Refusal::new(format_args!(
            "ERR {name} cannot contain spaces, newlines or special characters."
        )));
    }
    *field = value.to_vec();
    call.ok()
}

pub(super) fn client_id(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    let id = call.client.id;
    call.reply().integer(id as i64);
    Ok(After::GoOn)
}

pub(super) fn client_info(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    let client = &call.client;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let line = format!(
        "id={} name={} db=0 resp={} lib-name={} lib-ver={} reads={}\n",
        client.id,
        text(&client.name),
        client.version.number(),
        text(&client.library),
        text(&client.library_version),
        if client.stale_reads { "stale" } else { "linearizable" },
    );
    call.reply().verbatim(&line);
    Ok(After::GoOn)
}

pub(super) fn client_list(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    if arguments.len() > 2 {
        return Err(Refusal::syntax());
    }
    client_info(call, arguments)
}

/// `CLIENT NO-EVICT` and `CLIENT NO-TOUCH`: on or off, which makes no difference here.
pub(super) fn client_switch(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    let state = arguments.at(2);
    if state.eq_ignore_ascii_case(b"on") || state.eq_ignore_ascii_case(b"off") {
        call.ok()
    } else {
        Err(Refusal::syntax())
    }
}

pub(super) fn client_help(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    help(call, table::parent("client"))
}
