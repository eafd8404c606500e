//! Plugs the Redis protocol into a node.

use bytes::{Buf as _, Bytes, BytesMut};
use mainstay_node::front::{Failure, Front, Outcome, Parsed, View};

use crate::command::{self, After, Call, Client, Refusal, Run};
use crate::reply::Reply;
use crate::resp::{Arguments, Parser, Request, Version, Writer};

/// The Redis protocol as a client protocol of a node.
#[derive(Clone, Copy, Debug, Default)]
pub struct RedisFront;

/// What is kept for one connection.
#[derive(Debug, Default)]
pub struct Connection {
    parser: Parser,
    client: Client,
    /// Nothing is read any more.
    closed: bool,
}

impl Front for RedisFront {
    type Connection = Connection;

    fn connect(&mut self, id: u64) -> Connection {
        Connection { client: Client { id, ..Client::default() }, ..Connection::default() }
    }

    fn refuse(&mut self, sentence: &str, out: &mut Vec<u8>) {
        Writer::new(out, Version::Resp2).error(format!("ERR {sentence}").as_bytes());
    }

    fn read(
        &mut self,
        connection: &mut Connection,
        view: &View,
        input: &mut BytesMut,
        commands_max: usize,
        parsed: &mut Vec<Parsed>,
    ) {
        let mut commands = 0;
        while commands < commands_max && !connection.closed {
            let (what, len) = match connection.parser.next(input) {
                Ok(None) => return,
                Ok(Some(Request { arguments, len })) if arguments.is_empty() => (None, len),
                Ok(Some(Request { arguments, len })) => {
                    (Some(take(&mut connection.client, view, arguments)), len)
                }
                Err(error) => {
                    let refusal = error_line(format!("ERR {error}").as_bytes());
                    (Some(Parsed::Close(refusal)), input.len())
                }
            };
            input.advance(len);
            if let Some(what) = what {
                connection.closed = matches!(what, Parsed::Close(_));
                parsed.push(what);
                commands += 1;
            }
        }
        if connection.closed {
            input.clear();
        }
    }

    fn write(&mut self, shape: u64, outcome: Outcome<'_>, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out, version_of(shape));
        match outcome {
            Outcome::Reply(bytes) => match Reply::decode(bytes) {
                Ok(reply) => writer.reply(&reply),
                Err(error) => writer.error(
                    format!("ERR the reply of the service cannot be read: {error}").as_bytes(),
                ),
            },
            Outcome::Failed(failure) => writer.error(failure_text(failure).as_bytes()),
        }
    }
}

/// The shape of a reply is the version of the protocol that the connection spoke when the command
/// came.
const fn shape_of(version: Version) -> u64 {
    version.number() as u64
}

const fn version_of(shape: u64) -> Version {
    if shape == shape_of(Version::Resp3) { Version::Resp3 } else { Version::Resp2 }
}

fn error_line(text: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + 3);
    Writer::new(&mut out, Version::Resp2).error(text);
    Bytes::from(out)
}

/// What is to be done about one command.
fn take(client: &mut Client, view: &View, arguments: Arguments<'_>) -> Parsed {
    if is_web_request(arguments) {
        return Parsed::Close(error_line(
            b"ERR this port speaks the Redis protocol; what came looks like HTTP",
        ));
    }
    run(client, view, arguments)
        .unwrap_or_else(|refusal| Parsed::Answer(error_line(refusal.text())))
}

fn run(client: &mut Client, view: &View, arguments: Arguments<'_>) -> Result<Parsed, Refusal> {
    if arguments.from(0).any(|argument| argument.len() > crate::VALUE_LEN_MAX) {
        return Err(Refusal::too_long());
    }
    let spec = command::resolve(arguments)?;
    let shape = shape_of(client.version);
    match spec.run {
        Run::Write(build) => Ok(Parsed::Write { body: build(arguments)?.encode(), shape }),
        Run::Read(build) => {
            let body = build(arguments)?.encode();
            Ok(match client.stale_reads {
                true => Parsed::ReadStale { body, shape },
                false => Parsed::Read { body, shape },
            })
        }
        Run::Local(local) => {
            let mut out = Vec::new();
            let after = local(&mut Call { client, view, out: &mut out }, arguments)?;
            let answer = Bytes::from(out);
            Ok(match after {
                After::GoOn => Parsed::Answer(answer),
                After::Close => Parsed::Close(answer),
            })
        }
        // A parent takes two arguments at least, and the second was then looked up.
        Run::Parent => Err(Refusal::missing_subcommand(spec)),
    }
}

/// A browser can be made to send anything to any port, but it begins with these: such a connection
/// is closed before a later line of it is taken for a command.
fn is_web_request(arguments: Arguments<'_>) -> bool {
    let name = arguments.at(0);
    name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:")
}

/// What a client is told when no reply will come. The first word is one that clients of Redis know,
/// or that can be told from all of those: `UNCERTAIN` must not be mistaken for "not carried out".
const fn failure_text(failure: Failure) -> &'static str {
    match failure {
        Failure::Unavailable => {
            "CLUSTERDOWN The cluster has no leader at present; the command was not carried out, \
             try again"
        }
        Failure::Loading => {
            "LOADING The replica is loading its state; the command was not carried out, try again"
        }
        Failure::NoRoom => {
            "MISCONF The disk of the replica has no room; the command was not carried out, make \
             room and try again"
        }
        Failure::TooLarge => {
            "ERR the command is larger than the replica allows; it was not carried out"
        }
        Failure::Uncertain => "UNCERTAIN the command may or may not have been carried out",
        Failure::Stopped => {
            "CLUSTERDOWN The replica has stopped carrying out commands; try another one"
        }
    }
}
