//! A front for services of one's own: a line is a request, a line is its reply.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use mainstay_node::front::{Failure, Front, Outcome, Parsed, View};

/// The longest line.
const LINE_LEN_MAX: usize = 1 << 20;

/// Every line that a client sends is a request to the service, without its end; the service's reply
/// and a line end are what it is answered. A line that begins with `?` is a query: the rest of it
/// is answered from the state and is not ordered. Instead of a reply there may be a line that
/// begins with `error: `. So any service can be talked to with `nc`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

impl Front for Lines {
    type Connection = ();

    fn connect(&mut self, _id: u64, _from: SocketAddr) -> Self::Connection {}

    fn read(
        &mut self,
        _connection: &mut Self::Connection,
        _view: &View,
        input: &mut BytesMut,
        commands_max: usize,
        parsed: &mut Vec<Parsed>,
    ) {
        for _ in 0..commands_max {
            let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
                if input.len() > LINE_LEN_MAX {
                    input.clear();
                    let told = format!("error: a line may have {LINE_LEN_MAX} bytes\n");
                    parsed.push(Parsed::Close(Bytes::from(told)));
                }
                return;
            };
            let mut line = input.split_to(end + 1).freeze();
            line.truncate(end);
            if line.ends_with(b"\r") {
                line.truncate(end - 1);
            }
            parsed.push(if line.first() == Some(&b'?') {
                Parsed::Read { body: line.slice(1..), shape: 0 }
            } else {
                Parsed::Write { body: line, shape: 0 }
            });
        }
    }

    fn write(&mut self, _shape: u64, outcome: Outcome<'_>, out: &mut Vec<u8>) {
        match outcome {
            Outcome::Reply(reply) => out.extend_from_slice(reply),
            Outcome::Failed(failure) => {
                out.extend_from_slice(b"error: ");
                out.extend_from_slice(sentence(failure).as_bytes());
            }
        }
        out.push(b'\n');
    }
}

const fn sentence(failure: Failure) -> &'static str {
    match failure {
        Failure::Unavailable => "not carried out, this replica hears no leader; another one may",
        Failure::Loading => "not carried out, the replica is still loading; try again",
        Failure::NoRoom => "not carried out, the disk is full",
        Failure::TooLarge => "not carried out, the request is larger than allowed",
        Failure::Uncertain => "the request may or may not have been carried out",
        Failure::Stopped => "this replica has stopped executing; ask another",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &mut BytesMut) -> Vec<Parsed> {
        let mut parsed = Vec::new();
        Lines.read(&mut (), &View::default(), input, 10, &mut parsed);
        parsed
    }

    #[test]
    fn lines_become_requests() {
        let mut input = BytesMut::from(&b"add 5\r\n?\nget"[..]);
        let write = Parsed::Write { body: Bytes::from_static(b"add 5"), shape: 0 };
        let read = Parsed::Read { body: Bytes::new(), shape: 0 };
        assert_eq!(parse(&mut input), [write, read]);
        assert_eq!(&input[..], b"get");
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut input = BytesMut::zeroed(LINE_LEN_MAX + 1);
        assert!(matches!(parse(&mut input)[..], [Parsed::Close(_)]));
        assert!(input.is_empty());
    }

    #[test]
    fn outcomes_are_lines() {
        let mut out = Vec::new();
        Lines.write(0, Outcome::Reply(b"5"), &mut out);
        Lines.write(0, Outcome::Failed(Failure::Uncertain), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "5\nerror: the request may or may not have been carried out\n");
    }
}
