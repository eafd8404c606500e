//! CLIENT: what a connection says and asks about itself and the others.

use std::collections::BTreeSet;

use super::{After, Call, Refusal, help, table};
use crate::clients::{Client, Replies};
use crate::integer;
use crate::resp::Arguments;

type Answered = Result<After, Refusal>;

/// The longest name of a client or its library that is kept.
const TEXT_LEN_MAX: usize = 1024;

/// Names are printed in lists, so they must be one visible word. An empty one takes the name away.
fn is_word(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

pub(super) fn set_name(client: &mut Client, name: &[u8]) -> Result<(), Refusal> {
    if !is_word(name) || name.len() > TEXT_LEN_MAX {
        return Err(Refusal::new(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    client.name = name.to_vec();
    Ok(())
}

pub(super) fn setname(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    set_name(call.client, arguments.at(2))?;
    call.ok()
}

pub(super) fn getname(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    let name = call.client.name.clone();
    match name.is_empty() {
        true => call.reply().nil(),
        false => call.reply().bulk(&name),
    }
    Ok(After::GoOn)
}

pub(super) fn setinfo(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
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
    if !is_word(value) || value.len() > TEXT_LEN_MAX {
        return Err(Refusal::new(format_args!(
            "ERR {name} cannot contain spaces, newlines or special characters."
        )));
    }
    *field = value.to_vec();
    call.ok()
}

pub(super) fn id(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    let id = call.client.id;
    call.reply().integer(id as i64);
    Ok(After::GoOn)
}

pub(super) fn info(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    let mut line = String::new();
    call.client.describe(call.view.port, &mut line);
    call.reply().verbatim(&line);
    Ok(After::GoOn)
}

/// `CLIENT LIST [TYPE type] [ID id ...]`: one of both. All clients are of one type.
pub(super) fn list(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    let option = arguments.at(2);
    let mut text = String::new();
    let (clients, port) = (&call.server.clients, call.view.port);
    if arguments.len() == 2 {
        clients.describe(call.client, port, |_| true, &mut text);
    } else if arguments.len() == 4 && option.eq_ignore_ascii_case(b"TYPE") {
        let kind = arguments.at(3);
        let known: [&[u8]; 5] = [b"normal", b"slave", b"replica", b"pubsub", b"master"];
        if !known.iter().any(|known| kind.eq_ignore_ascii_case(known)) {
            let text = [b"ERR Unknown client type '", super::first_bytes(kind, 128), b"'"];
            return Err(Refusal(text.concat()));
        }
        if kind.eq_ignore_ascii_case(b"normal") {
            clients.describe(call.client, port, |_| true, &mut text);
        }
    } else if arguments.len() > 3 && option.eq_ignore_ascii_case(b"ID") {
        let invalid = || Refusal::new("ERR Invalid client ID");
        let ids = arguments.from(3).map(|id| integer::parse(id).ok_or_else(invalid));
        let ids = ids.collect::<Result<BTreeSet<i64>, _>>()?;
        let wanted = |id| i64::try_from(id).is_ok_and(|id| ids.contains(&id));
        clients.describe(call.client, port, wanted, &mut text);
    } else {
        return Err(Refusal::syntax());
    }
    call.reply().verbatim(&text);
    Ok(After::GoOn)
}

/// `CLIENT REPLY ON|OFF|SKIP`: `OFF` and `SKIP` are not answered themselves.
pub(super) fn reply(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    match arguments.at(2).to_ascii_uppercase().as_slice() {
        b"ON" => {
            (call.client.replies, call.client.silent) = (Replies::On, false);
            call.reply().status("OK");
        }
        b"OFF" => (call.client.replies, call.client.silent) = (Replies::Off, true),
        b"SKIP" => {
            if call.client.replies == Replies::On {
                call.client.replies = Replies::SkipNext;
            }
            call.client.silent = true;
        }
        _ => return Err(Refusal::syntax()),
    }
    Ok(After::GoOn)
}

/// `CLIENT NO-EVICT` and `CLIENT NO-TOUCH`: on or off, which makes no difference here.
pub(super) fn switch(call: &mut Call<'_>, arguments: Arguments<'_>) -> Answered {
    let state = arguments.at(2);
    if state.eq_ignore_ascii_case(b"on") || state.eq_ignore_ascii_case(b"off") {
        call.ok()
    } else {
        Err(Refusal::syntax())
    }
}

pub(super) fn subcommands(call: &mut Call<'_>, _: Arguments<'_>) -> Answered {
    help(call, table::parent("client"))
}
