//! Plugs the Redis protocol into a node.

use std::net::SocketAddr;

use bytes::{Buf as _, Bytes, BytesMut};
use mainstay_node::front::{Failure, Front, Outcome, Parsed, RejectCode, View};

use crate::clients::{Client, Clients, Replies, Seat};
use crate::command::{self, After, Call, Found, Number, Refusal, Run, transaction};
use crate::operation::Operation;
use crate::reply::Reply;
use crate::resp::{Arguments, Parser, Request, Version, Writer};
use crate::statistics::Statistics;

/// The most arguments of a command that the front answers by itself.
const LOCAL_ARGUMENTS_MAX: usize = 256;

/// The Redis protocol as a client protocol of a node.
#[derive(Debug, Default)]
pub struct RedisFront {
    server: Server,
}

/// What the connections of one front share.
#[derive(Debug)]
pub(crate) struct Server {
    /// Another one at every start.
    pub(crate) run_id: String,
    pub(crate) clients: Clients,
    pub(crate) statistics: Statistics,
}

impl Default for Server {
    fn default() -> Self {
        let mut bytes = [0; 20];
        // It names the process in lists for people: without random numbers it does so less well.
        let _ = getrandom::fill(&mut bytes);
        let run_id = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { run_id, clients: Clients::default(), statistics: Statistics::default() }
    }
}

/// What is kept for one connection.
#[derive(Debug)]
pub struct Connection {
    parser: Parser,
    seat: Seat,
    /// Nothing is read any more.
    closed: bool,
}

impl Front for RedisFront {
    type Connection = Connection;

    fn connect(&mut self, id: u64, from: SocketAddr) -> Connection {
        self.server.statistics.connections += 1;
        let seat = self.server.clients.seat(id, from);
        Connection { parser: Parser::default(), seat, closed: false }
    }

    /// In the words that client libraries look for; why exactly, the replica's log tells.
    fn refuse(&mut self, code: RejectCode, sentence: &str, out: &mut Vec<u8>) {
        self.server.statistics.turned_away += 1;
        let told = match code {
            RejectCode::TooMany => "ERR max number of clients reached".to_owned(),
            RejectCode::Starting => format!("LOADING {sentence}"),
            _ => format!("ERR {sentence}"),
        };
        Writer::new(out, Version::Resp2).error(told.as_bytes());
    }

    fn held(&self, connection: &Connection) -> usize {
        let client = connection.seat.client();
        let told = client.name.len() + client.library.len() + client.library_version.len();
        connection.parser.held() + told
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
        let mut client = connection.seat.client();
        while commands < commands_max && !connection.closed {
            let (what, len) = match connection.parser.next(input) {
                Ok(None) => return,
                Ok(Some(Request { arguments, len })) if arguments.is_empty() => (None, len),
                Ok(Some(Request { arguments, len })) => {
                    (Some(self.server.take(&mut client, view, arguments)), len)
                }
                Err(error) => {
                    let silent = client.replies == Replies::Off;
                    let refusal = error_line(silent, format!("ERR {error}").as_bytes());
                    (Some(Parsed::Close(refusal)), input.len())
                }
            };
            input.advance(len);
            self.server.statistics.input += len as u64;
            if let Some(what) = what {
                if let Parsed::Answer(bytes) | Parsed::Close(bytes) = &what {
                    self.server.statistics.output += bytes.len() as u64;
                }
                connection.closed = matches!(what, Parsed::Close(_));
                parsed.push(what);
                commands += 1;
            }
        }
        if connection.closed {
            input.clear();
        }
    }

    fn needs(&self, connection: &Connection) -> usize {
        connection.parser.needs()
    }

    fn write(&mut self, shape: u64, outcome: Outcome<'_>, out: &mut Vec<u8>) {
        let shape = Shape::from_bits(shape);
        let before = out.len();
        let mut writer = Writer::new(out, shape.version);
        let went_well = match outcome {
            Outcome::Reply(bytes) => match Reply::decode(bytes) {
                Ok(Reply::Bulk(text)) if shape.verbatim => {
                    writer.verbatim(&String::from_utf8_lossy(text));
                    true
                }
                Ok(reply) => {
                    writer.reply(&reply);
                    !matches!(reply, Reply::Error(_))
                }
                Err(error) => {
                    writer.error(
                        format!("ERR the reply of the service cannot be read: {error}").as_bytes(),
                    );
                    false
                }
            },
            Outcome::Failed(failure) => {
                writer.error(failure_text(failure).as_bytes());
                false
            }
        };
        let statistics = &mut self.server.statistics;
        statistics.of(shape.command).failed += u64::from(!went_well);
        if shape.silent {
            out.truncate(before);
        }
        statistics.output += (out.len() - before) as u64;
    }
}

/// What has to be known of a command when its reply is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// What the connection spoke when the command came.
    version: Version,
    /// Whether the reply is text for people.
    verbatim: bool,
    /// Whether the client wants no reply.
    silent: bool,
    command: Number,
}

impl Shape {
    const fn bits(self) -> u64 {
        self.version.number() as u64
            | (self.verbatim as u64) << 8
            | (self.silent as u64) << 9
            | (self.command.bits() as u64) << 16
    }

    const fn from_bits(bits: u64) -> Self {
        let three = bits as u8 == Version::Resp3.number();
        Self {
            version: if three { Version::Resp3 } else { Version::Resp2 },
            verbatim: bits >> 8 & 1 == 1,
            silent: bits >> 9 & 1 == 1,
            command: Number::from_bits((bits >> 16) as u16),
        }
    }
}

/// Nothing, for a client that wants no replies.
fn error_line(silent: bool, text: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(text.len() + 3);
    if !silent {
        Writer::new(&mut out, Version::Resp2).error(text);
    }
    Bytes::from(out)
}

impl Server {
    /// What is to be done about one command.
    fn take(&mut self, client: &mut Client, view: &View, arguments: Arguments<'_>) -> Parsed {
        client.begin();
        if is_web_request(arguments) {
            return Parsed::Close(error_line(
                client.silent,
                b"ERR this port speaks the Redis protocol; what came looks like HTTP",
            ));
        }
        match self.run(client, view, arguments) {
            Ok(parsed) => parsed,
            Err(refusal) => Parsed::Answer(error_line(client.silent, refusal.text())),
        }
    }

    fn run(
        &mut self,
        client: &mut Client,
        view: &View,
        arguments: Arguments<'_>,
    ) -> Result<Parsed, Refusal> {
        transaction::gate(client, arguments.at(0))?;
        if arguments.from(0).any(|argument| argument.len() > crate::VALUE_LEN_MAX) {
            return Err(Refusal::too_long());
        }
        let found = command::resolve(arguments)?;
        client.command = (found.parent.map_or("", |parent| parent.name), found.spec.name);
        let number = found.number;
        self.carry_out(client, view, found, arguments)
            .inspect_err(|_| self.statistics.of(number).rejected += 1)
    }

    fn carry_out(
        &mut self,
        client: &mut Client,
        view: &View,
        found: Found,
        arguments: Arguments<'_>,
    ) -> Result<Parsed, Refusal> {
        let Found { number: command, spec, taken, .. } = found;
        taken?;
        let (version, silent) = (client.version, client.silent);
        let mut shape = Shape { version, verbatim: false, silent, command };
        match spec.run {
            Run::Write(build) => {
                let operation = build(arguments)?;
                let (body, large) = (operation.encode(), operation.is_answered_with_value());
                self.statistics.called(command);
                Ok(Parsed::Write { body, shape: shape.bits(), large })
            }
            Run::Read(build) => {
                let body = build(arguments)?.encode();
                self.statistics.called(command);
                let shape = shape.bits();
                Ok(match client.stale_reads {
                    true => Parsed::ReadStale { body, shape },
                    false => Parsed::Read { body, shape },
                })
            }
            // Each of them may be answered with some kilobytes of its own.
            Run::Local(_) if arguments.len() > LOCAL_ARGUMENTS_MAX => {
                Err(Refusal::too_many_arguments(LOCAL_ARGUMENTS_MAX))
            }
            Run::Local(local) => {
                let mut out = Vec::new();
                let mut call = Call { client, server: self, view, out: &mut out };
                let after = local(&mut call, arguments)?;
                self.statistics.called(command);
                if client.silent && after != After::Describe {
                    out.clear();
                }
                Ok(match after {
                    After::GoOn => Parsed::Answer(Bytes::from(out)),
                    After::Close => Parsed::Close(Bytes::from(out)),
                    After::Describe => {
                        shape.verbatim = true;
                        let body = Operation::Describe { before: &out }.encode();
                        Parsed::ReadStale { body, shape: shape.bits() }
                    }
                })
            }
            // A parent takes two arguments at least, and the second was then looked up.
            Run::Parent => Err(Refusal::missing_subcommand(spec)),
        }
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
            "CLUSTERDOWN This replica hears no leader; another one may: the command was not carried \
             out, try again"
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
        Failure::Crowded => {
            "TRYAGAIN The replica holds as much for its clients as it may; the command was not carried \
             out, try again"
        }
        Failure::Uncertain => "UNCERTAIN the command may or may not have been carried out",
        Failure::Stopped => {
            "CLUSTERDOWN The replica has stopped carrying out commands; try another one"
        }
    }
}
