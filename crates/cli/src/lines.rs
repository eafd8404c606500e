//! A front for services of one's own: a line is a request, a line is its reply.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use mainstay_node::front::{Failure, Front, Outcome, Parsed, RejectCode, View};

/// The longest line.
const LINE_LEN_MAX: usize = 1 << 20;
/// How the first line of a web page's request begins, and what its last word begins with.
const WEB_METHODS: [&[u8]; 9] =
    [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT"];
const WEB_VERSION: &[u8] = b"HTTP/";

/// Every line that a client sends is a request to the service, without its end; the service's reply
/// and a line end are what it is answered. A line that begins with `?` is a query: the rest of it
/// is answered from the state and is not ordered. Instead of a reply there may be a line that
/// begins with `error: `. So any service can be talked to with `nc`.
///
/// A reply that holds a line end is still one line: in all replies `\n` stands for a line feed, `\r` for
/// a carriage return, and `\\` for a backslash.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

/// What is kept for one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinesConnection {
    /// How much of the line that is coming was searched for its end.
    searched: usize,
    /// A line has come.
    begun: bool,
    /// Nothing is read any more.
    closed: bool,
}

impl Front for Lines {
    type Connection = LinesConnection;

    fn connect(&mut self, _id: u64, _from: SocketAddr) -> Self::Connection {
        LinesConnection::default()
    }

    fn refuse(&mut self, _code: RejectCode, sentence: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("error: {sentence}\n").as_bytes());
    }

    fn read(
        &mut self,
        connection: &mut Self::Connection,
        _view: &View,
        input: &mut BytesMut,
        commands_max: usize,
        parsed: &mut Vec<Parsed>,
    ) {
        for _ in 0..commands_max {
            if connection.closed {
                input.clear();
                return;
            }
            let found = input[connection.searched..].iter().position(|&byte| byte == b'\n');
            let Some(end) = found.map(|at| connection.searched + at) else {
                connection.searched = input.len();
                if input.len() > LINE_LEN_MAX {
                    let told = format!("error: a line may have {LINE_LEN_MAX} bytes\n");
                    close(connection, told, input, parsed);
                }
                return;
            };
            connection.searched = 0;
            if !std::mem::replace(&mut connection.begun, true) && is_web_request(&input[..end]) {
                let told = "error: what came looks like HTTP, and this port takes lines\n".into();
                return close(connection, told, input, parsed);
            }
            let mut line = input.split_to(end + 1).freeze();
            line.truncate(end);
            if line.ends_with(b"\r") {
                line.truncate(end - 1);
            }
            parsed.push(if line.first() == Some(&b'?') {
                Parsed::Read { body: line.slice(1..), shape: 0 }
            } else {
                Parsed::Write { body: line, shape: 0, large: false }
            });
        }
    }

    fn write(&mut self, _shape: u64, outcome: Outcome<'_>, out: &mut Vec<u8>) {
        match outcome {
            Outcome::Reply(reply) => {
                for &byte in reply {
                    match byte {
                        b'\n' => out.extend_from_slice(b"\\n"),
                        b'\r' => out.extend_from_slice(b"\\r"),
                        b'\\' => out.extend_from_slice(b"\\\\"),
                        _ => out.push(byte),
                    }
                }
            }
            Outcome::Failed(failure) => {
                out.extend_from_slice(b"error: ");
                out.extend_from_slice(sentence(failure).as_bytes());
            }
        }
        out.push(b'\n');
    }
}

fn close(
    connection: &mut LinesConnection,
    told: String,
    input: &mut BytesMut,
    parsed: &mut Vec<Parsed>,
) {
    connection.closed = true;
    input.clear();
    parsed.push(Parsed::Close(Bytes::from(told)));
}

/// A browser can be made to send anything to any port, but its first line is this: such a connection is
/// closed before a later line of it is taken for a request.
fn is_web_request(line: &[u8]) -> bool {
    let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let (first, last) = (words.next(), words.next_back());
    first.is_some_and(|word| WEB_METHODS.contains(&word))
        && last.is_some_and(|word| word.starts_with(WEB_VERSION))
}

const fn sentence(failure: Failure) -> &'static str {
    match failure {
        Failure::Unavailable => "not carried out, this replica hears no leader; another one may",
        Failure::Loading => "not carried out, the replica is still loading; try again",
        Failure::NoRoom => "not carried out, the disk is full",
        Failure::TooLarge => "not carried out, the request is larger than allowed",
        Failure::Crowded => "not carried out, no memory for the answer at present; try again",
        Failure::Uncertain => "the request may or may not have been carried out",
        Failure::Stopped => "this replica has stopped executing; ask another",
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn parse(connection: &mut LinesConnection, input: &mut BytesMut) -> Vec<Parsed> {
        let mut parsed = Vec::new();
        Lines.read(connection, &View::default(), input, 10, &mut parsed);
        parsed
    }

    #[test]
    fn lines_become_requests() {
        let mut input = BytesMut::from(&b"add 5\r\n?\nget"[..]);
        let write = Parsed::Write { body: Bytes::from_static(b"add 5"), shape: 0, large: false };
        let read = Parsed::Read { body: Bytes::new(), shape: 0 };
        let mut connection = LinesConnection::default();
        assert_eq!(parse(&mut connection, &mut input), [write, read]);
        assert_eq!(&input[..], b"get");
        input.extend_from_slice(b" it\n");
        let rest = Parsed::Write { body: Bytes::from_static(b"get it"), shape: 0, large: false };
        assert_eq!(parse(&mut connection, &mut input), [rest]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut input = BytesMut::zeroed(LINE_LEN_MAX + 1);
        let parsed = parse(&mut LinesConnection::default(), &mut input);
        assert!(matches!(parsed[..], [Parsed::Close(_)]));
        assert!(input.is_empty());
    }

    #[test]
    fn a_line_that_comes_byte_by_byte_is_searched_once() {
        let (mut connection, mut input) = (LinesConnection::default(), BytesMut::new());
        let began = Instant::now();
        for _ in 0..LINE_LEN_MAX {
            input.extend_from_slice(b"x");
            assert!(parse(&mut connection, &mut input).is_empty());
        }
        input.extend_from_slice(b"\n");
        assert_eq!(parse(&mut connection, &mut input).len(), 1);
        // Half a million million bytes looked at would take minutes.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }

    #[test]
    fn a_web_page_cannot_make_requests() {
        for first in ["POST / HTTP/1.1", "GET /add?n=5 HTTP/1.0", "OPTIONS * HTTP/1.1"] {
            let mut connection = LinesConnection::default();
            let mut input = BytesMut::from(&format!("{first}\r\nHost: x\r\n\r\nadd 5\n")[..]);
            let parsed = parse(&mut connection, &mut input);
            assert!(matches!(parsed[..], [Parsed::Close(_)]), "{first}: {parsed:?}");
            input.extend_from_slice(b"add 5\n");
            assert!(parse(&mut connection, &mut input).is_empty());
        }
        let mut input = BytesMut::from(&b"GET well\nPOST a HTTP/1.1\n"[..]);
        assert_eq!(parse(&mut LinesConnection::default(), &mut input).len(), 2, "no first lines");
    }

    #[test]
    fn outcomes_are_lines() {
        let mut out = Vec::new();
        Lines.write(0, Outcome::Reply(b"5"), &mut out);
        Lines.write(0, Outcome::Reply(b"two\r\nlines, c:\\n"), &mut out);
        Lines.write(0, Outcome::Failed(Failure::Uncertain), &mut out);
        Lines.refuse(RejectCode::TooMany, "too many", &mut out);
        let text = String::from_utf8(out).unwrap();
        let wanted = "5\n\
                      two\\r\\nlines, c:\\\\n\n\
                      error: the request may or may not have been carried out\n\
                      error: too many\n";
        assert_eq!(text, wanted);
    }
}
