//! The `mainstay` program, for any service.
//!
//! [`run`] is all of it: the binary of this crate calls it with the key-value store; a user's own
//! binary calls it with a service of theirs and has the same commands.
//!
//! | file | holds |
//! |---|---|
//! | `arguments` | the command line and its help |
//! | `failure` | what ends a command early: a sentence and an exit code |
//! | `cluster` | ids drawn once: what a cluster is made of, identities on disk |
//! | `manifest` | what `up` made, so that it never makes it twice |
//! | `supervisor` | what systemd and process lists are told |
//! | `settings` | the configuration file of a replica |
//! | `init`, `replica`, `up`, `status`, `operate`, `simulate` | the commands |
//! | `log_file` | one bounded log file a replica |
//! | `log_queue` | the log of a process, which holds up nobody |
//! | `output` | lines on standard output and standard error |
//! | `waiting` | waits for a lock that another process is about to let go |
//! | `parallel` | work spread over all processors, taken in order |
//! | `lines` | [`Lines`]: a front for services of one's own, a line a request |

#![forbid(unsafe_code)]

mod arguments;
mod cluster;
mod failure;
mod init;
mod lines;
mod log_file;
mod log_queue;
mod manifest;
mod operate;
mod output;
mod parallel;
mod replica;
mod settings;
mod simulate;
mod status;
mod supervisor;
mod up;
mod waiting;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use mainstay_node::{Front, WallClock};
use mainstay_service::Service;
use mainstay_storage::{Disk, RealDisk};

use arguments::{Arguments, Command};
pub use lines::{Lines, LinesConnection};

/// The whole program for the service `S` behind the front `F`: reads the command line, carries it
/// out, and returns what the process should end with. `S::default()` is the state of an empty log.
#[must_use]
pub fn run<S: Service + Default, F: Front + Default>() -> ExitCode {
    run_in::<S, F, _>(|disk| disk, WallClock::default())
}

/// The same by a calendar clock of one's own, for experiments and tests with clocks that are wrong.
#[must_use]
pub fn run_by<S: Service + Default, F: Front + Default>(clock: WallClock) -> ExitCode {
    run_in::<S, F, _>(|disk| disk, clock)
}

/// The same over a disk of one's own: what a replica does to its folder goes through what `disk` makes
/// of it. For experiments and tests with disks that are slow or fail.
#[must_use]
pub fn run_over<S, F, D>(disk: impl FnOnce(RealDisk) -> D) -> ExitCode
where
    S: Service + Default,
    F: Front + Default,
    D: Disk + Clone,
{
    run_in::<S, F, D>(disk, WallClock::default())
}

/// Reads bytes as a configuration file and as the manifest of a folder, for property tests and fuzzers.
/// Neither may panic, whatever the bytes are.
pub fn decode_configuration(bytes: &[u8]) {
    let file = Path::new("replica-0.toml");
    if let Ok(text) = settings::text(file, bytes.to_vec()) {
        let _ = settings::Settings::parse(file, &text);
        let _ = manifest::Manifest::parse(file, &text);
    }
}

/// The command line, under the name that this program was started by.
fn read_arguments() -> Result<Arguments, clap::Error> {
    let program = program_name();
    let version = match program.as_str() {
        "mainstay" => env!("CARGO_PKG_VERSION").to_owned(),
        _ => format!("(mainstay {})", env!("CARGO_PKG_VERSION")),
    };
    let command = Arguments::command().name(program).version(version);
    Arguments::from_arg_matches(&command.try_get_matches()?)
}

/// The name of this program, as its caller wrote it.
fn program_name() -> String {
    let name = std::env::args_os().next().map(PathBuf::from);
    let name = name.as_deref().and_then(Path::file_name).map(OsStr::to_string_lossy);
    name.map_or_else(|| "mainstay".to_owned(), std::borrow::Cow::into_owned)
}

fn run_in<S, F, D>(disk: impl FnOnce(RealDisk) -> D, clock: WallClock) -> ExitCode
where
    S: Service + Default,
    F: Front + Default,
    D: Disk + Clone,
{
    let arguments = match read_arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to tell if even this cannot be printed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { failure::USAGE } else { 0 });
        }
    };
    let ended = match arguments.command {
        Command::Up(options) => up::run(&options, S::version()),
        Command::Init(options) => init::run(&options, S::version()),
        Command::Replica(options) => replica::run::<S, F, D>(&options, disk, clock),
        Command::Status(options) => status::run(&options),
        Command::Leader(options) => operate::leader(&options),
        Command::Clock(options) => operate::clock(&options),
        Command::Sim(options) => simulate::run(&options),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.sentence.is_empty() {
                log_queue::say_last(&format!("error: {}", failure.sentence));
            }
            ExitCode::from(failure.code)
        }
    }
}
