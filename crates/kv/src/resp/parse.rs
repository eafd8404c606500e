//! Takes requests apart: arrays of bulk strings and inline commands, as they arrive.

use std::fmt;

use super::inline;

/// What a request may not exceed. Going over one ends the connection, since the bytes behind it
/// could not be told from commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request, its framing included.
    pub request_len_max: usize,
    /// Arguments of one request, the name of the command included.
    pub arguments_max: usize,
    /// Bytes of an inline command, and of any line that holds a length.
    pub line_len_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_len_max: 64 << 20,
            arguments_max: crate::ARGUMENTS_MAX,
            line_len_max: 64 << 10,
        }
    }
}

/// Why bytes are no request. The connection is of no further use; the texts that Redis has are
/// its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The count of an array is no number, or above the limit.
    ArrayLength,
    /// The length of a bulk string is no number, or negative.
    BulkLength,
    /// Something else stands where a bulk string must begin.
    ExpectedBulk(u8),
    /// A bulk string is longer than it said.
    BulkEnd,
    /// The line with the count of an array does not end.
    ArrayLine,
    /// The line with the length of a bulk string does not end.
    BulkLine,
    /// An inline command is longer than the limit.
    InlineLine,
    /// A quote of an inline command is not closed, or something follows right after it.
    Quotes,
    /// The request is longer than the limit.
    RequestLength(usize),
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            Self::ArrayLength => f.write_str("invalid multibulk length"),
            Self::BulkLength => f.write_str("invalid bulk length"),
            Self::ExpectedBulk(byte) => {
                write!(f, "expected '$', got '{}'", char::from(*byte).escape_default())
            }
            Self::BulkEnd => f.write_str("expected CRLF after a bulk string"),
            Self::ArrayLine => f.write_str("too big mbulk count string"),
            Self::BulkLine => f.write_str("too big bulk count string"),
            Self::InlineLine => f.write_str("too big inline request"),
            Self::Quotes => f.write_str("unbalanced quotes in request"),
            Self::RequestLength(len_max) => {
                write!(f, "the request is longer than {len_max} bytes; send it in parts")
            }
        }
    }
}

impl std::error::Error for ProtocolError {}

/// The arguments of one request, the name of the command first: slices of the bytes received.
#[derive(Clone, Copy)]
pub struct Arguments<'a> {
    bytes: &'a [u8],
    ranges: &'a [(u32, u32)],
}

impl<'a> Arguments<'a> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there are none: an empty line or an empty array, which ask for nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The argument at `index`; empty where there is none.
    #[must_use]
    pub fn at(&self, index: usize) -> &'a [u8] {
        self.ranges.get(index).map_or(&[], |&range| self.slice(range))
    }

    /// The arguments from `first` on.
    pub fn from(&self, first: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let this = *self;
        self.ranges[first.min(self.ranges.len())..].iter().map(move |&range| this.slice(range))
    }

    fn slice(&self, (start, end): (u32, u32)) -> &'a [u8] {
        &self.bytes[start as usize..end as usize]
    }
}

impl fmt::Debug for Arguments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.from(0).map(|argument| argument.escape_ascii())).finish()
    }
}

/// A whole request at the front of the input.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its arguments.
    pub arguments: Arguments<'a>,
    /// How many bytes of the input it takes; the caller removes them.
    pub len: usize,
}

/// Reads requests from the front of a growing input. It remembers how far it has looked, so that a
/// large request that arrives in small pieces is looked at once, and reserves nothing for what a
/// count only claims.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    limits: Limits,
    /// Where the next line or bulk string begins in the input.
    at: usize,
    /// Up to where the line at `at` was searched for its end.
    searched: usize,
    /// Arguments of the array still to come; `None` between requests.
    missing: Option<usize>,
    /// Length of the bulk string that begins at `at`, once its line was read.
    bulk: Option<usize>,
    /// Where the arguments lie.
    ranges: Vec<(u32, u32)>,
    /// The arguments of an inline command, unquoted, one after the other.
    unquoted: Vec<u8>,
}

/// What is kept of the list of ranges between requests.
const RANGES_KEPT_MAX: usize = 1024;

impl Parser {
    /// A parser with limits of its own.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Bytes of memory that it holds on to.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.ranges.capacity() * size_of::<(u32, u32)>() + self.unquoted.capacity()
    }

    /// How many bytes the input must hold until more of it can be read; 0 where that is not known.
    #[must_use]
    pub fn needs(&self) -> usize {
        self.bulk.map_or(0, |len| self.at + len + 2)
    }

    /// The next request of `input`; `None` while it is not complete. The input must begin with
    /// what it began with the last time, until a request was returned: from then on, behind it.
    ///
    /// # Errors
    /// [`ProtocolError`]; nothing more may be read then.
    pub fn next<'a>(&'a mut self, input: &'a [u8]) -> Result<Option<Request<'a>>, ProtocolError> {
        if self.missing.is_none() {
            self.ranges.clear();
            self.ranges.shrink_to(RANGES_KEPT_MAX);
            match input.first() {
                None => return Ok(None),
                Some(b'*') => {
                    if !self.array_line(input)? {
                        return Ok(None);
                    }
                }
                Some(_) => return self.inline(input),
            }
        }
        while self.missing.is_some_and(|missing| missing > 0) {
            if !self.argument(input)? {
                return Ok(None);
            }
        }
        let len = self.restart();
        Ok(Some(Request { arguments: Arguments { bytes: input, ranges: &self.ranges }, len }))
    }

    /// Forgets the request just read; its length.
    fn restart(&mut self) -> usize {
        self.missing = None;
        self.searched = 0;
        std::mem::take(&mut self.at)
    }

    /// Reads the line `*count`; false while it is incomplete.
    fn array_line(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        let Some(line) = self.line(input, ProtocolError::ArrayLine)? else { return Ok(false) };
        let count = length_field(line).ok_or(ProtocolError::ArrayLength)?;
        if count > self.limits.arguments_max as i64 {
            return Err(ProtocolError::ArrayLength);
        }
        self.missing = Some(usize::try_from(count).unwrap_or(0));
        Ok(true)
    }

    /// Reads one bulk string, or goes on with it; false while it is incomplete.
    fn argument(&mut self, input: &[u8]) -> Result<bool, ProtocolError> {
        let len = match self.bulk {
            Some(len) => len,
            None => {
                match input.get(self.at) {
                    None => return Ok(false),
                    Some(b'$') => {}
                    Some(&other) => return Err(ProtocolError::ExpectedBulk(other)),
                }
                let Some(line) = self.line(input, ProtocolError::BulkLine)? else {
                    return Ok(false);
                };
                let len = length_field(line)
                    .and_then(|len| usize::try_from(len).ok())
                    .ok_or(ProtocolError::BulkLength)?;
                if (self.at + 2).saturating_add(len) > self.limits.request_len_max {
                    return Err(ProtocolError::RequestLength(self.limits.request_len_max));
                }
                self.bulk = Some(len);
                len
            }
        };
        let end = self.at + len;
        if input.len() < end + 2 {
            return Ok(false);
        }
        if &input[end..end + 2] != b"\r\n" {
            return Err(ProtocolError::BulkEnd);
        }
        // Both fit: a request is bounded far below 4 GiB.
        self.ranges.push((self.at as u32, end as u32));
        self.bulk = None;
        self.at = end + 2;
        self.searched = self.at;
        self.missing = self.missing.map(|missing| missing - 1);
        Ok(true)
    }

    /// The line that begins at `at`, without its end; moves behind it. `too_long` says what is
    /// wrong when no end comes within the limit.
    fn line<'a>(
        &mut self,
        input: &'a [u8],
        too_long: ProtocolError,
    ) -> Result<Option<&'a [u8]>, ProtocolError> {
        let from = self.searched.max(self.at);
        let until = input.len().min(self.at + self.limits.line_len_max);
        let Some(found) = input[from..until].iter().position(|&byte| byte == b'\n') else {
            self.searched = until;
            let full = until - self.at >= self.limits.line_len_max;
            return if full { Err(too_long) } else { Ok(None) };
        };
        let line = &input[self.at..from + found];
        self.at = from + found + 1;
        self.searched = self.at;
        Ok(Some(line))
    }

    /// Reads a line that is the command itself.
    fn inline<'a>(&'a mut self, input: &'a [u8]) -> Result<Option<Request<'a>>, ProtocolError> {
        let Some(line) = self.line(input, ProtocolError::InlineLine)? else { return Ok(None) };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.unquoted.clear();
        inline::split(line, &mut self.unquoted, &mut self.ranges).ok_or(ProtocolError::Quotes)?;
        let len = self.restart();
        let arguments = Arguments { bytes: &self.unquoted, ranges: &self.ranges };
        Ok(Some(Request { arguments, len }))
    }
}

/// The number of a line `*number\r` or `$number\r`.
fn length_field(line: &[u8]) -> Option<i64> {
    crate::integer::parse(line.strip_suffix(b"\r")?.get(1..)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parsed = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

    /// Feeds `pieces` one after the other, as a connection would.
    fn parse(pieces: &[&[u8]], limits: Limits) -> Parsed {
        let (mut parser, mut input, mut requests) = (Parser::new(limits), Vec::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            loop {
                match parser.next(&input) {
                    Ok(None) => break,
                    Err(error) => return (requests, Some(error)),
                    Ok(Some(Request { arguments, len })) => {
                        requests.push(arguments.from(0).map(<[u8]>::to_vec).collect());
                        input.drain(..len);
                    }
                }
            }
        }
        (requests, None)
    }

    fn texts(bytes: &[u8]) -> Vec<Vec<String>> {
        let (requests, error) = parse(&[bytes], Limits::default());
        assert_eq!(error, None);
        let text = |argument: &Vec<u8>| String::from_utf8_lossy(argument).into_owned();
        requests.iter().map(|request| request.iter().map(text).collect()).collect()
    }

    fn refusal(bytes: &[u8]) -> String {
        parse(&[bytes], Limits::default()).1.expect("is refused").to_string()
    }

    #[test]
    fn arrays_inline_commands_and_nothing_at_all() {
        assert_eq!(
            texts(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING\r\n\r\n*0\r\n*-1\r\nset \"a b\" 'c'\n"),
            [vec!["GET", "k"], vec!["PING"], vec![], vec![], vec![], vec!["set", "a b", "c"]]
        );
        assert_eq!(texts(b"*1\r\n$0\r\n\r\n"), [vec![""]]);
    }

    #[test]
    fn refusals_speak_as_redis_does() {
        for (bytes, text) in [
            (&b"*1048577\r\n"[..], "invalid multibulk length"),
            (b"*x\r\n", "invalid multibulk length"),
            (b"*1\n", "invalid multibulk length"),
            (b"*1\r\n$-1\r\n", "invalid bulk length"),
            (b"*1\r\n$9223372036854775808\r\n", "invalid bulk length"),
            (
                b"*1\r\n$9223372036854775807\r\n",
                "the request is longer than 67108864 bytes; send it in parts",
            ),
            (b"*1\r\n$01\r\n", "invalid bulk length"),
            (b"*1\r\n:1\r\n", "expected '$', got ':'"),
            (b"*1\r\n$1\r\nabc", "expected CRLF after a bulk string"),
            (b"set \"a\r\n", "unbalanced quotes in request"),
        ] {
            assert_eq!(refusal(bytes), format!("Protocol error: {text}"), "{bytes:?}");
        }
        let long = |head: &[u8]| [head, &vec![b'1'; 70_000]].concat();
        assert_eq!(refusal(&long(b"")), "Protocol error: too big inline request");
        assert_eq!(refusal(&long(b"*")), "Protocol error: too big mbulk count string");
        assert_eq!(refusal(&long(b"*1\r\n$")), "Protocol error: too big bulk count string");
    }

    #[test]
    fn a_request_is_bounded_as_a_whole() {
        let limits = Limits { request_len_max: 30, ..Limits::default() };
        let (requests, error) = parse(&[b"*3\r\n$10\r\n0123456789\r\n$10\r\n012"], limits);
        assert_eq!(requests.len(), 0);
        assert_eq!(error, Some(ProtocolError::RequestLength(30)));
    }

    #[test]
    fn a_claimed_count_reserves_nothing() {
        let mut parser = Parser::default();
        assert!(parser.next(b"*1048576\r\n$16777216\r\n").expect("allowed").is_none());
        assert_eq!(parser.ranges.capacity(), 0);
    }

    #[test]
    fn the_list_of_arguments_shrinks_again() {
        let many = [b"*5000\r\n".as_slice(), &b"$1\r\nx\r\n".repeat(5000)].concat();
        let mut parser = Parser::default();
        assert_eq!(parser.next(&many).unwrap().unwrap().arguments.len(), 5000);
        assert!(parser.next(b"").unwrap().is_none());
        assert!(parser.ranges.capacity() <= RANGES_KEPT_MAX);
    }

    #[test]
    fn a_large_value_in_small_pieces_is_looked_at_once() {
        let len = crate::VALUE_LEN_MAX;
        let mut input = format!("*2\r\n$3\r\nGET\r\n${len}\r\n").into_bytes();
        let head = input.len();
        input.resize(head + len, b'\n');
        input.extend_from_slice(b"\r\n");
        let mut parser = Parser::default();
        // One call a byte for the first 100,000, then pieces of 1,000: 16 million bytes looked at
        // again each time would take hours.
        let mut ends: Vec<usize> = (0..100_000).collect();
        ends.extend((100_000..input.len()).step_by(1_000));
        for end in ends {
            assert!(parser.next(&input[..end]).expect("is a request").is_none());
            let needs = parser.needs();
            assert!(if end < head { needs <= head } else { needs == input.len() }, "at {end}");
        }
        assert_eq!(parser.next(&input).unwrap().unwrap().len, input.len());
    }

    /// Bytes that are mostly requests, so that the deeper states are reached.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let argument = proptest::collection::vec(any::<u8>(), 0..20);
        let request = proptest::collection::vec(argument, 0..5).prop_map(|arguments| {
            let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
            for argument in arguments {
                bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
                bytes.extend_from_slice(&argument);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes
        });
        let inline = "[a-c \"'\\\\x01]{0,12}\r?\n".prop_map(String::into_bytes);
        let garbage = proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(b"*$\r\n0123-\"'\\".to_vec())],
            0..12,
        );
        proptest::collection::vec(prop_oneof![4 => request, 2 => inline, 1 => garbage], 0..6)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn any_split_reads_the_same(bytes in stream(), cuts in proptest::collection::vec(0usize..200, 0..8)) {
            let limits = Limits { line_len_max: 64, request_len_max: 256, ..Limits::default() };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let whole = parse(&[&bytes], limits);
            prop_assert_eq!(&parse(&pieces, limits), &whole);
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&parse(&single, limits), &whole);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            crate::decode_any::requests(&bytes);
        }
    }
}
