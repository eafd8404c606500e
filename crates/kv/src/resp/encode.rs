//! Writes replies in version 2 or 3 of the protocol.

use std::io::Write as _;

use crate::reply::Reply;

/// Which version of the protocol a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// Every connection begins with it.
    #[default]
    Resp2,
    /// Chosen with `HELLO 3`: has maps, sets and one null.
    Resp3,
}

impl Version {
    /// The number that clients name it by.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Resp2 => 2,
            Self::Resp3 => 3,
        }
    }
}

/// Appends replies to a buffer.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    version: Version,
}

impl<'a> Writer<'a> {
    /// Writes to the end of `out`.
    pub const fn new(out: &'a mut Vec<u8>, version: Version) -> Self {
        Self { out, version }
    }

    /// One word or line that says how it went.
    pub fn status(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// An error; its first word is its kind.
    pub fn error(&mut self, text: &[u8]) {
        self.line(b'-', text);
    }

    /// A whole number.
    pub fn integer(&mut self, value: i64) {
        self.head(b':', value);
    }

    /// Bytes.
    pub fn bulk(&mut self, bytes: &[u8]) {
        // Cannot fail: lengths in memory are below 2^63.
        self.head(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Text meant to be read by people: a plain bulk string in version 2.
    pub fn verbatim(&mut self, text: &str) {
        if self.version == Version::Resp2 {
            return self.bulk(text.as_bytes());
        }
        self.head(b'=', text.len() as i64 + 4);
        self.out.extend_from_slice(b"txt:");
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// No value.
    pub fn nil(&mut self) {
        self.out.extend_from_slice(match self.version {
            Version::Resp2 => b"$-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// No array, where one would stand.
    pub fn nil_array(&mut self) {
        self.out.extend_from_slice(match self.version {
            Version::Resp2 => b"*-1\r\n",
            Version::Resp3 => b"_\r\n",
        });
    }

    /// Begins an array of `len` replies.
    pub fn array(&mut self, len: usize) {
        self.head(b'*', len as i64);
    }

    /// Begins a map of `len` pairs: key, value, key, value. An array of both in version 2.
    pub fn map(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.array(2 * len),
            Version::Resp3 => self.head(b'%', len as i64),
        }
    }

    /// Begins a set of `len` replies. An array in version 2.
    pub fn set(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.array(len),
            Version::Resp3 => self.head(b'~', len as i64),
        }
    }

    /// A reply of the service.
    pub fn reply(&mut self, reply: &Reply<'_>) {
        match reply {
            Reply::Status(text) => self.line(b'+', text),
            Reply::Error(text) => self.error(text),
            Reply::Integer(value) => self.integer(*value),
            Reply::Bulk(bytes) => self.bulk(bytes),
            Reply::Nil => self.nil(),
            Reply::Array(items) => {
                self.array(items.len());
                items.iter().for_each(|item| self.reply(item));
            }
            Reply::Map(pairs) => {
                self.map(pairs.len());
                for (key, value) in pairs {
                    self.reply(key);
                    self.reply(value);
                }
            }
        }
    }

    /// A line must not hold an end of line: what comes after it would be taken for a reply.
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        let clean = |&byte| if byte == b'\r' || byte == b'\n' { b' ' } else { byte };
        self.out.extend(text.iter().map(clean));
        self.out.extend_from_slice(b"\r\n");
    }

    fn head(&mut self, kind: u8, value: i64) {
        self.out.push(kind);
        write!(self.out, "{value}\r\n").expect("a vector takes every byte");
    }
}
