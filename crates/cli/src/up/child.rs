//! The process of one replica.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{DATA, Failure, SAFETY, USAGE};
use crate::log_file::{LogFile, lines};
use crate::supervisor::SOCKET;
use crate::up::watch::Event;

/// A process that lived this long is started again at once.
const SETTLED: Duration = Duration::from_secs(2);
/// How long to wait before the next start of one that did not: at first, and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// One replica's process, started as often as it takes.
pub(super) struct Replica {
    index: usize,
    config: PathBuf,
    log: Arc<Mutex<LogFile>>,
    events: Sender<Event>,
    process: Process,
    pause: Duration,
}

enum Process {
    Runs {
        child: Child,
        since: Instant,
        /// The last line with which it explained itself.
        complaint: Arc<Mutex<String>>,
    },
    Waits {
        until: Instant,
    },
    Over {
        reason: String,
        code: u8,
    },
}

impl Replica {
    /// Starts the process for the first time. `folder` is the replica's; its configuration and its
    /// log lie beside it.
    pub(super) fn start(
        index: usize,
        folder: &Path,
        events: Sender<Event>,
    ) -> Result<Self, Failure> {
        let path = folder.with_extension("log");
        let log = LogFile::open(&path).map_err(|error| Failure::file(&path, "open", &error))?;
        let mut replica = Self {
            index,
            config: folder.with_extension("toml"),
            log: Arc::new(Mutex::new(log)),
            events,
            process: Process::Waits { until: Instant::now() },
            pause: PAUSE_MIN,
        };
        replica.spawn().map_err(|error| {
            Failure::failed(format!("the process of replica {index} cannot be started: {error}"))
        })?;
        Ok(replica)
    }

    fn spawn(&mut self) -> io::Result<()> {
        // The very program that runs now, even if its file has been replaced since.
        let program = Path::new("/proc/self/exe");
        let name = std::env::current_exe()?;
        let mut command = Command::new(if program.exists() { program } else { name.as_path() });
        command.arg0(&name).args(["replica", "--child", "--config"]).arg(&self.config);
        // Its own group: Ctrl-C reaches `up` alone, which then stops the replicas in good order.
        command.process_group(0);
        // Standard input never says anything; it ends when `up` does, however that ends.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Whoever supervises `up` hears of the cluster, not of each replica.
        command.env_remove(SOCKET);
        let mut child = command.spawn()?;
        let complaint = Arc::new(Mutex::new(String::new()));
        if let Some(stderr) = child.stderr.take() {
            self.read(stderr, Arc::clone(&complaint));
        }
        self.note(&format!("mainstay up: process {} started", child.id()));
        self.process = Process::Runs { child, since: Instant::now(), complaint };
        Ok(())
    }

    /// Copies what the process says into the log, and tells when it has ended.
    fn read(&self, stderr: ChildStderr, complaint: Arc<Mutex<String>>) {
        let (log, events, index) = (Arc::clone(&self.log), self.events.clone(), self.index);
        thread::spawn(move || {
            lines(stderr, |line| {
                if let Some(sentence) = line.strip_prefix(b"error: ") {
                    *complaint.lock().unwrap_or_else(PoisonError::into_inner) =
                        String::from_utf8_lossy(sentence).into_owned();
                }
                // A full disk must not end the cluster for want of a log line.
                let _ = log.lock().unwrap_or_else(PoisonError::into_inner).line(line);
            });
            let _ = events.send(Event::Ended(index));
        });
    }

    /// A line of `up`'s own in the replica's log.
    fn note(&self, line: &str) {
        let _ = self.log.lock().unwrap_or_else(PoisonError::into_inner).line(line.as_bytes());
    }

    /// The process has ended: decides what follows, and says so. `None` if it runs.
    pub(super) fn ended(&mut self) -> Option<String> {
        let Process::Runs { child, since, complaint } = &mut self.process else { return None };
        let (id, lived) = (child.id(), since.elapsed());
        let status = child.wait().ok()?;
        let sentence = complaint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let told = if sentence.is_empty() { String::new() } else { format!(": {sentence}") };
        let how = format!("process {id} ended {}{told}", describe(status));
        self.note(&format!("mainstay up: {how}"));
        if let Some(code @ (USAGE | DATA | SAFETY)) =
            status.code().and_then(|code| u8::try_from(code).ok())
        {
            let reason = format!("{how}; it is not started again");
            self.process = Process::Over { reason: reason.clone(), code };
            return Some(reason);
        }
        let pause = if lived >= SETTLED { Duration::ZERO } else { self.pause };
        self.pause = if lived >= SETTLED { PAUSE_MIN } else { (self.pause * 2).min(PAUSE_MAX) };
        self.process = Process::Waits { until: Instant::now() + pause };
        Some(format!("{how}; it is started again"))
    }

    /// Starts the process again if its time has come. A failure to do so is told and tried again.
    pub(super) fn tick(&mut self) -> Option<String> {
        let Process::Waits { until } = self.process else { return None };
        if Instant::now() < until {
            return None;
        }
        let error = self.spawn().err()?;
        self.process = Process::Waits { until: Instant::now() + PAUSE_MAX };
        Some(format!("its process cannot be started: {error}"))
    }

    /// Why the replica is left alone, if it is, and the exit code it ended with.
    pub(super) fn over(&self) -> Option<(&str, u8)> {
        match &self.process {
            Process::Over { reason, code } => Some((reason, *code)),
            _ => None,
        }
    }

    /// Asks the process to end by closing its standard input.
    pub(super) fn ask_to_end(&mut self) {
        match &mut self.process {
            Process::Runs { child, .. } => drop(child.stdin.take()),
            Process::Waits { .. } => {
                self.process = Process::Over { reason: "was stopped".to_owned(), code: 0 };
            }
            Process::Over { .. } => {}
        }
    }

    /// Whether the process has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        match &mut self.process {
            Process::Runs { child, .. } => !matches!(child.try_wait(), Ok(None)),
            _ => true,
        }
    }

    /// Ends the process by force.
    pub(super) fn kill(&mut self) {
        if let Process::Runs { child, .. } = &mut self.process {
            // It may have ended by itself just now.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("with exit code {code}"),
        (None, Some(signal)) => format!("by signal {signal}"),
        (None, None) => "in an unknown way".to_owned(),
    }
}
