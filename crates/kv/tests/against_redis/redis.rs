//! A real `redis-server` of our own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The version whose answers are compared with.
const VERSION: &str = "7.0.";
const DEADLINE: Duration = Duration::from_secs(60);

/// A process and one connection to it over a socket in a folder; both end with this value.
pub(crate) struct Redis {
    child: Child,
    folder: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Redis {
    /// Starts one, with the limits of our server.
    ///
    /// # Panics
    /// If there is no such program, or it is of another version.
    pub(crate) fn start() -> Self {
        let version = Command::new("redis-server").arg("--version").output();
        let version = version.expect("redis-server is installed (apt-get install redis-server)");
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        assert!(version.contains(&format!("v={VERSION}")), "of version {VERSION}x: {version}");
        let folder = tempfile::Builder::new().prefix("against-redis-").tempdir();
        let folder = folder.expect("a folder can be made").keep();
        let socket = folder.join("socket");
        let options = ["--port", "0", "--save", "", "--appendonly", "no", "--databases", "1"];
        let mut child = Command::new("redis-server")
            .args(options)
            .args(["--proto-max-bulk-len", "16777216", "--unixsocket"])
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()
            .expect("redis-server can be started");
        let said = BufReader::new(child.stdout.take().expect("is piped"));
        let ready = said.lines().map_while(Result::ok).any(|line| line.contains("eady to accept"));
        assert!(ready, "redis-server ended before it was ready");
        let stream = UnixStream::connect(&socket).expect("it is ready");
        stream.set_read_timeout(Some(DEADLINE)).expect("is a time");
        Self { child, folder, stream: BufReader::new(stream) }
    }

    /// The reply to a command, as it is on the wire.
    pub(crate) fn ask(&mut self, command: &[u8]) -> Vec<u8> {
        self.stream.get_mut().write_all(command).expect("redis-server takes commands");
        let mut reply = Vec::new();
        self.read_reply(&mut reply).expect("redis-server answers");
        reply
    }

    fn read_reply(&mut self, reply: &mut Vec<u8>) -> io::Result<()> {
        let begin = reply.len();
        self.stream.read_until(b'\n', reply)?;
        let line = String::from_utf8_lossy(&reply[begin..]).trim_end().to_owned();
        let count = line.get(1..).and_then(|text| text.parse::<i64>().ok()).unwrap_or(-1);
        match line.as_bytes().first() {
            Some(b'$' | b'=') if count >= 0 => {
                let begin = reply.len();
                reply.resize(begin + count as usize + 2, 0);
                self.stream.read_exact(&mut reply[begin..])
            }
            Some(b'*' | b'~') => (0..count).try_for_each(|_| self.read_reply(reply)),
            Some(b'%') => (0..2 * count).try_for_each(|_| self.read_reply(reply)),
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It holds nothing that anybody wants.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
