//! The commands: one table, from which they are found, checked, described to clients and listed in
//! `docs/commands.md`.
//!
//! | file | holds |
//! |---|---|
//! | [`table`] | the table itself |
//! | `data` | commands for the service: from arguments to an [`Operation`] |
//! | `expiry` | those of them that are about when keys go |
//! | `connection` | PING, HELLO, CLIENT and what else is about a connection |
//! | `server` | INFO, CONFIG |
//! | `describe` | COMMAND: the table as replies |

mod connection;
mod data;
mod describe;
mod expiry;
mod server;
pub mod table;

use std::fmt;

use mainstay_node::front::View;

use crate::operation::Operation;
use crate::resp::{Arguments, Version, Writer};

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
    /// It is closed.
    Close,
}

/// What is remembered of a connection.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Its number, unique within the life of the process.
    pub id: u64,
    /// The version of the protocol it chose.
    pub version: Version,
    /// The name it gave itself.
    pub name: Vec<u8>,
    /// The library it said it uses.
    pub library: Vec<u8>,
    /// The version of that library.
    pub library_version: Vec<u8>,
    /// Whether its reads may be answered from this replica's state, however old.
    pub stale_reads: bool,
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

    /// The expiry that a command was given is not positive where it must be, or beyond all range.
    fn invalid_expiry(command: &str) -> Self {
        Self::new(format_args!("ERR invalid expire time in '{command}' command"))
    }

    fn unsupported_option(option: &[u8]) -> Self {
        Self([b"ERR Unsupported option ", first_bytes(option, 128)].concat())
    }

    fn arity(parent: Option<&Spec>, spec: &Spec) -> Self {
        let (before, bar) = parent.map_or(("", ""), |parent| (parent.name, "|"));
        Self::new(format_args!(
            "ERR wrong number of arguments for '{before}{bar}{}' command",
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

fn first_bytes(bytes: &[u8], len_max: usize) -> &[u8] {
    &bytes[..bytes.len().min(len_max)]
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

/// The entry of `specs`, which are sorted, with this name in any case.
fn find(specs: &'static [Spec], name: &[u8]) -> Option<&'static Spec> {
    let mut lower = [0; 32];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let at = specs.binary_search_by(|spec| spec.name.as_bytes().cmp(lower)).ok()?;
    specs.get(at)
}

/// The command that `arguments` name, after its number of arguments was checked.
///
/// # Errors
/// [`Refusal`]: there is no such command, or it takes another number of arguments.
pub fn resolve(arguments: Arguments<'_>) -> Result<&'static Spec, Refusal> {
    let spec =
        find(COMMANDS, arguments.at(0)).ok_or_else(|| Refusal::unknown_command(arguments))?;
    if arguments.len() > 1 && !spec.subcommands.is_empty() {
        let name = arguments.at(1);
        let subcommand =
            find(spec.subcommands, name).ok_or_else(|| Refusal::unknown_subcommand(spec, name))?;
        return if subcommand.takes(arguments.len()) {
            Ok(subcommand)
        } else {
            Err(Refusal::arity(Some(spec), subcommand))
        };
    }
    if spec.takes(arguments.len()) { Ok(spec) } else { Err(Refusal::arity(None, spec)) }
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
            assert!(table.windows(2).all(|pair| pair[0].name < pair[1].name));
            for spec in table {
                assert_eq!(spec.name, spec.name.to_ascii_lowercase());
                assert!(spec.summary.ends_with('.') && !spec.since.is_empty(), "{}", spec.name);
            }
        }
    }
}
