//! The commands: one table, from which they are found, checked, described to clients and listed in
//! `docs/commands.md`.
//!
//! | file | holds |
//! |---|---|
//! | [`table`] | the table itself |
//! | `string`, `keys` | commands for the service: from arguments to an [`Operation`] |
//! | `expiry` | those of them that are about when keys go |
//! | `connection`, `client` | PING, HELLO, CLIENT and what else is about a connection |
//! | `transaction` | MULTI and its relatives, all refused |
//! | `info`, `config` | INFO, CONFIG |
//! | `describe` | COMMAND: the table as replies |

mod client;
mod config;
mod connection;
mod describe;
mod expiry;
mod info;
mod keys;
mod string;
pub mod table;
pub(crate) mod transaction;

use std::fmt;

use mainstay_node::front::View;

use crate::clients::Client;
use crate::front::Server;
use crate::glob::PATTERN_LEN_MAX;
use crate::operation::Operation;
use crate::resp::{Arguments, Writer};

pub use table::COMMANDS;

/// One command, or one subcommand.
#[derive(Debug)]
pub struct Spec {
    /// Its name, in lower case.
    pub name: &'static str,
    /// How many arguments it takes, its name (and that of its parent) included; negative: at least
    /// so many.
    pub arity: i32,
    /// Which arguments are keys.
    pub keys: Keys,
    /// Whether it answers in time independent of the size of the data, as Redis judges it.
    pub fast: bool,
    /// The family it belongs to.
    pub group: Group,
    /// The first version of Redis that has it.
    pub since: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// Where it differs from Redis, for `docs/commands.md`; empty if nowhere.
    pub differs: &'static str,
    /// How it is carried out.
    pub run: Run,
    /// Commands that its first argument names.
    pub subcommands: &'static [Self],
}

/// Which arguments of a command are keys, counted from its name at 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The first; 0 for none at all.
    pub first: i32,
    /// The last; negative: counted from the end.
    pub last: i32,
    /// From one key to the next.
    pub step: i32,
}

/// The families of commands, as Redis names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// About the connection.
    Connection,
    /// About keys, whatever they hold.
    Generic,
    /// About the server.
    Server,
    /// About values that are strings.
    String,
    /// About commands that are carried out together.
    Transactions,
}

impl Group {
    /// Its name in `COMMAND DOCS`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Generic => "generic",
            Self::Server => "server",
            Self::String => "string",
            Self::Transactions => "transactions",
        }
    }
}

/// Makes an operation out of arguments.
pub type Build = for<'a> fn(Arguments<'a>) -> Result<Operation<'a>, Refusal>;
/// Answers without the service.
pub type Local = fn(&mut Call<'_>, Arguments<'_>) -> Result<After, Refusal>;

/// How a command is carried out.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// It may change the state: it is ordered, and every replica carries it out.
    Write(Build),
    /// It asks the state: linearizably, unless the connection wants stale reads.
    Read(Build),
    /// The front answers it.
    Local(Local),
    /// It needs a subcommand.
    Parent,
}

/// What a front knows when it answers by itself.
#[derive(Debug)]
pub struct Call<'a> {
    /// The connection.
    pub client: &'a mut Client,
    /// What all connections share.
    pub(crate) server: &'a mut Server,
    /// The replica.
    pub view: &'a View,
    /// Where the answer goes.
    pub out: &'a mut Vec<u8>,
}

impl Call<'_> {
    /// Writes in the version of the connection.
    pub const fn reply(&mut self) -> Writer<'_> {
        Writer::new(self.out, self.client.version)
    }

    /// Says that all went well.
    fn ok(&mut self) -> Result<After, Refusal> {
        self.reply().status("OK");
        Ok(After::GoOn)
    }
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It goes on.
    GoOn,
    /// It goes on; what was written is text, and the service's description of its state is to follow it.
    Describe,
    /// It is closed.
    Close,
}

/// Why a command is refused before anything is done: the text of the error, its kind first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(Vec<u8>);

impl Refusal {
    /// With the bytes of its text.
    #[must_use]
    pub const fn text(&self) -> &[u8] {
        self.0.as_slice()
    }

    fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string().into_bytes())
    }

    fn syntax() -> Self {
        Self::new("ERR syntax error")
    }

    fn not_an_integer() -> Self {
        Self::new("ERR value is not an integer or out of range")
    }

    /// A database other than the one that there is.
    fn database(number: i64) -> Self {
        match i32::try_from(number) {
            Ok(_) => Self::new("ERR DB index is out of range"),
            Err(_) => Self::new(format_args!(
                "ERR value is out of range, value must between {} and {}",
                i32::MIN,
                i32::MAX
            )),
        }
    }

    fn long_pattern() -> Self {
        Self::new(format_args!(
            "ERR the pattern is above {PATTERN_LEN_MAX} bytes, the most that this server takes"
        ))
    }

    /// The expiry that a command was given is not positive where it must be, or beyond all range.
    fn invalid_expiry(command: &str) -> Self {
        Self::new(format_args!("ERR invalid expire time in '{command}' command"))
    }

    fn unsupported_option(option: &[u8]) -> Self {
        Self([b"ERR Unsupported option ", first_bytes(option, 128)].concat())
    }

    fn arity(parent: Option<&Spec>, spec: &Spec) -> Self {
        let (before, bar) = parent.map_or(("", ""), |parent| (parent.name, "|"));
        let kind = match spec.name {
            "exec" => "EXECABORT Transaction discarded because of:",
            _ => "ERR",
        };
        Self::new(format_args!(
            "{kind} wrong number of arguments for '{before}{bar}{}' command",
            spec.name
        ))
    }

    /// Names the command and how its arguments begin, 128 bytes of each at most.
    fn unknown_command(arguments: Arguments<'_>) -> Self {
        let mut text = b"ERR unknown command '".to_vec();
        text.extend_from_slice(first_bytes(arguments.at(0), 128));
        text.extend_from_slice(b"', with args beginning with: ");
        let start = text.len();
        for argument in arguments.from(1) {
            let used = text.len() - start;
            if used >= 128 {
                break;
            }
            text.push(b'\'');
            text.extend_from_slice(first_bytes(argument, 128 - used));
            text.extend_from_slice(b"' ");
        }
        Self(text)
    }

    /// A command about connection or server has more arguments than anybody needs.
    pub(crate) fn too_many_arguments(most: usize) -> Self {
        Self::new(format_args!("ERR a command of this kind takes at most {most} arguments"))
    }

    /// A key or value is above the limit.
    pub(crate) fn too_long() -> Self {
        Self::new("ERR a key or value is above 16 MiB, the most that this server takes")
    }

    /// A parent without a subcommand.
    pub(crate) fn missing_subcommand(spec: &Spec) -> Self {
        Self::arity(None, spec)
    }

    fn unknown_subcommand(parent: &Spec, name: &[u8]) -> Self {
        let mut text = b"ERR unknown subcommand '".to_vec();
        text.extend_from_slice(first_bytes(name, 128));
        text.extend_from_slice(b"'. Try ");
        text.extend_from_slice(parent.name.to_ascii_uppercase().as_bytes());
        text.extend_from_slice(b" HELP.");
        Self(text)
    }
}

/// What an error quotes: it ends at a zero byte, as in Redis, whose texts do.
fn first_bytes(bytes: &[u8], len_max: usize) -> &[u8] {
    let end = bytes.iter().take(len_max).position(|byte| *byte == 0);
    &bytes[..end.unwrap_or(bytes.len().min(len_max))]
}

impl Spec {
    /// Whether `count` arguments are a right number of them.
    fn takes(&self, count: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { count >= wanted } else { count == wanted }
    }

    /// Whether it may change the state.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(self.run, Run::Write(_))
    }
}

/// The place of a command in the table, or of a subcommand in that of its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Number {
    command: u8,
    /// From 1; 0 for the command itself.
    subcommand: u8,
}

impl Number {
    /// As a part of a larger number.
    pub(crate) const fn bits(self) -> u16 {
        u16::from_le_bytes([self.command, self.subcommand])
    }

    pub(crate) const fn from_bits(bits: u16) -> Self {
        let [command, subcommand] = bits.to_le_bytes();
        Self { command, subcommand }
    }
}

/// The command, with its parent if it has one; a number that is none stands for the first.
pub(crate) fn named_by(number: Number) -> (Option<&'static Spec>, &'static Spec) {
    let spec = COMMANDS.get(usize::from(number.command)).unwrap_or(&COMMANDS[0]);
    let subcommand = usize::from(number.subcommand).checked_sub(1);
    match subcommand.and_then(|at| spec.subcommands.get(at)) {
        Some(subcommand) => (Some(spec), subcommand),
        None => (None, spec),
    }
}

/// The place in `specs`, which are sorted, of the one with this name in any case.
fn place(specs: &'static [Spec], name: &[u8]) -> Option<usize> {
    let mut lower = [0; 32];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    specs.binary_search_by(|spec| spec.name.as_bytes().cmp(lower)).ok()
}

fn find(specs: &'static [Spec], name: &[u8]) -> Option<&'static Spec> {
    specs.get(place(specs, name)?)
}

/// A command that was found, and whether its number of arguments is right.
pub(crate) struct Found {
    pub(crate) number: Number,
    pub(crate) spec: &'static Spec,
    pub(crate) parent: Option<&'static Spec>,
    pub(crate) taken: Result<(), Refusal>,
}

/// The command that `arguments` name.
///
/// # Errors
/// [`Refusal`]: there is no such command.
pub(crate) fn resolve(arguments: Arguments<'_>) -> Result<Found, Refusal> {
    let unknown = || Refusal::unknown_command(arguments);
    let command = place(COMMANDS, arguments.at(0)).ok_or_else(unknown)?;
    let (mut spec, mut parent, mut subcommand) = (&COMMANDS[command], None, 0);
    if arguments.len() > 1 && !spec.subcommands.is_empty() {
        let name = arguments.at(1);
        let at =
            place(spec.subcommands, name).ok_or_else(|| Refusal::unknown_subcommand(spec, name))?;
        (parent, subcommand, spec) = (Some(spec), at + 1, &spec.subcommands[at]);
    }
    let taken = match spec.takes(arguments.len()) {
        true => Ok(()),
        false => Err(Refusal::arity(parent, spec)),
    };
    let number = Number { command: command as u8, subcommand: subcommand as u8 };
    Ok(Found { number, spec, parent, taken })
}

/// A pattern, unless it is too long.
fn pattern(pattern: &[u8]) -> Result<&[u8], Refusal> {
    if pattern.len() > PATTERN_LEN_MAX { Err(Refusal::long_pattern()) } else { Ok(pattern) }
}

/// Answers with the subcommands of `parent`, one line each.
fn help(call: &mut Call<'_>, parent: &Spec) -> Result<After, Refusal> {
    let mut reply = call.reply();
    reply.array(parent.subcommands.len() + 1);
    reply.status(&format!(
        "{} <subcommand> [<arg> ...]. Subcommands are:",
        parent.name.to_ascii_uppercase()
    ));
    for spec in parent.subcommands {
        reply.status(&format!("{} -- {}", spec.name.to_ascii_uppercase(), spec.summary));
    }
    Ok(After::GoOn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_sorted_and_in_lower_case() {
        let tables =
            COMMANDS.iter().map(|spec| spec.subcommands).chain([COMMANDS]).collect::<Vec<_>>();
        for table in tables {
            assert!(table.len() < 255, "a number of a command has a byte");
            assert!(table.windows(2).all(|pair| pair[0].name < pair[1].name));
            for spec in table {
                assert_eq!(spec.name, spec.name.to_ascii_lowercase());
                assert!(spec.summary.ends_with('.') && !spec.since.is_empty(), "{}", spec.name);
            }
        }
    }
}
