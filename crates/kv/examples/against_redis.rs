//! The store beside a real `redis-server`: the same random commands about expiry, the same answers.
//!
//! ```text
//! cargo run -p mainstay-kv --example against_redis -- [COMMANDS] [SEED]
//! ```
//!
//! Needs `redis-server` on the path; starts one of its own on a socket in a temporary folder, without
//! a port. Moments are long past, beyond all range, or far enough ahead that nothing expires while it
//! runs; numbers about time may differ by as much as the run takes. Tells every
//! answer that differs, and ends with exit code 1 if one did.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mainstay_model::Prng;

#[path = "../tests/kv/server.rs"]
mod server;

/// Answers about time may differ by this much, in milliseconds: both look at it at moments of their
/// own.
const SLACK_MS: i64 = 5_000;
/// The longest relative time that the store takes whatever decided time is; Redis takes more as long as
/// its clock allows.
const LATEST_MS: i64 = i64::MAX - (u64::MAX / 1_000_000) as i64;
const DEADLINE: Duration = Duration::from_secs(20);

/// A process with its socket, ended with this value.
struct Redis {
    child: Child,
    folder: PathBuf,
}

impl Redis {
    fn start() -> io::Result<(Self, UnixStream)> {
        let folder = std::env::temp_dir().join(format!("against-redis-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let socket = folder.join("socket");
        let mut child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()?;
        let said = BufReader::new(child.stdout.take().expect("is piped"));
        let redis = Self { child, folder };
        let ready = said.lines().map_while(Result::ok).any(|line| line.contains("eady to accept"));
        if !ready {
            return Err(io::Error::other("redis-server ended before it was ready"));
        }
        let stream = connect(&socket)?;
        Ok((redis, stream))
    }
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It holds nothing that anybody wants.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// One whole reply of version 2 of the protocol.
fn read_reply(from: &mut BufReader<UnixStream>, reply: &mut Vec<u8>) -> io::Result<()> {
    let begin = reply.len();
    from.read_until(b'\n', reply)?;
    let line = String::from_utf8_lossy(&reply[begin..]).trim_end().to_owned();
    let count = line.get(1..).and_then(|text| text.parse::<i64>().ok()).unwrap_or(-1);
    match line.as_bytes().first() {
        Some(b'$') if count >= 0 => {
            let begin = reply.len();
            reply.resize(begin + count as usize + 2, 0);
            from.read_exact(&mut reply[begin..])
        }
        Some(b'*') => (0..count).try_for_each(|_| read_reply(from, reply)),
        Some(_) => Ok(()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    since.as_millis() as u64
}

fn number(prng: &mut Prng, factor: i64) -> String {
    let near = 100_000 + prng.below(900_000) as i64;
    let edge = i64::MAX / factor;
    let pick = [
        near * 1_000 / factor,
        near * 1_000 / factor,
        near * 1_000 / factor,
        0,
        -1,
        -near,
        edge,
        edge.saturating_add(1),
        -edge,
        (-edge).saturating_sub(2),
        i64::MAX,
        i64::MIN,
        LATEST_MS / factor,
    ];
    match prng.below(40) {
        0 => "x".to_owned(),
        1 => "9223372036854775808".to_owned(),
        2 => "1.5".to_owned(),
        3 => "+1".to_owned(),
        _ => prng.pick(&pick).expect("is not empty").to_string(),
    }
}

/// A moment since 1970: mostly ahead.
fn moment(prng: &mut Prng, factor: i64) -> String {
    let now = now_ms() as i64;
    if prng.chance(1, 2) {
        return ((now + 100_000_000 + prng.below(900_000_000) as i64) / factor).to_string();
    }
    if prng.chance(1, 3) { ((now - 1_000_000) / factor).to_string() } else { number(prng, factor) }
}

fn option(prng: &mut Prng, persists: bool) -> String {
    let name = *prng.pick(&["EX", "PX", "EXAT", "PXAT", "ex"]).expect("is not empty");
    let other = if persists { "PERSIST" } else { "KEEPTTL" };
    match (prng.below(10), name) {
        (0 | 1, _) => other.to_owned(),
        (2, _) => name.to_owned(),
        (3, _) if persists => "KEEPTTL".to_owned(),
        (3, _) => "PERSIST".to_owned(),
        (_, "EXAT") => format!("EXAT {}", moment(prng, 1_000)),
        (_, "PXAT") => format!("PXAT {}", moment(prng, 1)),
        (_, "PX") => format!("PX {}", number(prng, 1)),
        (_, name) => format!("{name} {}", number(prng, 1_000)),
    }
}

fn set(prng: &mut Prng, key: &str) -> String {
    let mut line = format!("SET {key} v{}", prng.below(10));
    for _ in 0..prng.below(4) {
        let more = match prng.below(6) {
            0 => "NX".to_owned(),
            1 => "XX".to_owned(),
            2 => "get".to_owned(),
            _ => option(prng, false),
        };
        line = format!("{line} {more}");
    }
    line
}

fn expire(prng: &mut Prng, key: &str) -> String {
    let (name, amount) = match prng.below(4) {
        0 => ("EXPIRE", number(prng, 1_000)),
        1 => ("PEXPIRE", number(prng, 1)),
        2 => ("EXPIREAT", moment(prng, 1_000)),
        _ => ("PEXPIREAT", moment(prng, 1)),
    };
    let mut line = format!("{name} {key} {amount}");
    for _ in 0..prng.below(3) {
        let option = prng.pick(&["NX", "XX", "GT", "LT", "gt", "FOO"]).expect("is not empty");
        line = format!("{line} {option}");
    }
    line
}

fn line(prng: &mut Prng) -> String {
    let key = (*prng.pick(&["a", "b", "c"]).expect("is not empty")).to_owned();
    let plain = |name: &&str| format!("{name} {key}");
    match prng.below(12) {
        0..4 => set(prng, &key),
        4..7 => expire(prng, &key),
        7 => format!("GETEX {key} {}", option(prng, true)),
        8 if prng.chance(1, 2) => format!("SETEX {key} {} v", number(prng, 1_000)),
        8 => format!("PSETEX {key} {} v", number(prng, 1)),
        9 => prng
            .pick(&["PERSIST", "GETDEL", "INCR", "GETEX", "DEL"])
            .map(plain)
            .expect("is not empty"),
        10 => prng
            .pick(&["GETSET a w", "APPEND a x", "MSET a 1 b 2", "EXPIRE a", "SETEX a 1", "TTL"])
            .map(|line| (*line).to_owned())
            .expect("is not empty"),
        _ => prng.pick(&["GET", "EXISTS", "STRLEN"]).map(plain).expect("is not empty"),
    }
}

/// Equal, or both numbers about time that lie close to one another.
fn alike(line: &str, ours: &str, theirs: &str) -> bool {
    let number = |text: &str| text.strip_prefix(':').and_then(|text| text.parse::<i64>().ok());
    let close = match (number(ours), number(theirs)) {
        (Some(one), Some(other)) if one > 0 && other > 0 => one.abs_diff(other) <= SLACK_MS as u64,
        _ => false,
    };
    // The one difference that docs/commands.md tells of: an absent key does not spare a wrong amount.
    let getex = line.starts_with("GETEX") && ours.starts_with("-ERR") && theirs == "$-1";
    ours == theirs || getex || (close && (line.contains("TTL") || line.contains("TIME")))
}

fn main() -> io::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: u64| {
        arguments.next().map_or(default, |text| text.parse().expect("the arguments are numbers"))
    };
    let (commands, mut prng) = (argument(20_000), Prng::new(argument(1)));
    let (redis, mut stream) = Redis::start()?;
    let mut replies = BufReader::new(stream.try_clone()?);
    let mut ours = server::Server::new();
    let began = Instant::now();
    let mut differences = 0;
    for _ in 0..commands {
        let line = line(&mut prng);
        let looks = ["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME", "GET"].map(|name| {
            let key = line.split(' ').nth(1).unwrap_or("a");
            format!("{name} {key}")
        });
        for line in [line].iter().chain(&looks) {
            ours.advance(now_ms());
            let one = ours.line(line).replace('\u{b7}', " ").trim_end().to_owned();
            stream.write_all(format!("{line}\r\n").as_bytes())?;
            let mut reply = Vec::new();
            read_reply(&mut replies, &mut reply)?;
            let other = String::from_utf8_lossy(&reply).replace("\r\n", " ").trim_end().to_owned();
            if !alike(line, &one, &other) {
                differences += 1;
                println!("{line}\n  the store: {one}\n  Redis:     {other}");
                // From here on the two hold different things.
                ours.line("FLUSHALL");
                stream.write_all(b"FLUSHALL\r\n")?;
                read_reply(&mut replies, &mut Vec::new())?;
            }
        }
    }
    drop(redis);
    println!("{commands} commands in {:?}: {differences} answers differ", began.elapsed());
    Ok(if differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
