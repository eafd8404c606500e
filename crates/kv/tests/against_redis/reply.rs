//! Replies as values, of both versions of the protocol.

use std::fmt;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reply {
    /// Everything of one line: its kind and text.
    Line(char, String),
    /// A number.
    Number(i64),
    /// Bytes, or text for people.
    Bytes(char, Vec<u8>),
    /// Several, of this kind.
    Many(char, Vec<Self>),
}

impl Reply {
    /// A whole reply.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let (reply, rest) = Self::read_one(bytes);
        assert!(rest.is_empty(), "bytes behind a reply: {}", rest.escape_ascii());
        reply
    }

    fn read_one(bytes: &[u8]) -> (Self, &[u8]) {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a line has an end");
        let (line, mut rest) = (&bytes[..end], &bytes[end + 2..]);
        let (kind, text) = (char::from(line[0]), String::from_utf8_lossy(&line[1..]).into_owned());
        let count = text.parse::<usize>();
        let reply = match (kind, count) {
            (':', _) => Self::Number(text.parse().expect("a number")),
            ('$' | '=', Ok(len)) => {
                let (content, behind) = rest.split_at(len);
                rest = behind.strip_prefix(b"\r\n").expect("bytes have an end");
                Self::Bytes(kind, content.to_vec())
            }
            ('*' | '~' | '%', Ok(count)) => {
                let count = if kind == '%' { 2 * count } else { count };
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    let (item, behind) = Self::read_one(rest);
                    items.push(item);
                    rest = behind;
                }
                Self::Many(kind, items)
            }
            _ => Self::Line(kind, text),
        };
        (reply, rest)
    }

    pub(crate) const fn is_error(&self) -> bool {
        matches!(self, Self::Line('-', _))
    }

    /// With the items of arrays in an order of their own.
    pub(crate) fn sorted(self) -> Self {
        match self {
            Self::Many(kind, items) => {
                let mut items: Vec<_> = items.into_iter().map(Self::sorted).collect();
                items.sort();
                Self::Many(kind, items)
            }
            other => other,
        }
    }

    /// Its kind alone.
    pub(crate) fn kind(self) -> Self {
        match self {
            Self::Bytes(kind, _) => Self::Bytes(kind, Vec::new()),
            Self::Many(kind, _) => Self::Many(kind, Vec::new()),
            other => other,
        }
    }

    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::Many(_, items) => items,
            _ => &[],
        }
    }

    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(_, bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(kind, text) => write!(f, "{kind}{text}"),
            Self::Number(number) => write!(f, ":{number}"),
            Self::Bytes(kind, bytes) if bytes.len() > 200 => {
                write!(f, "{kind}\"{}...\" of {} bytes", bytes[..200].escape_ascii(), bytes.len())
            }
            Self::Bytes(kind, bytes) => write!(f, "{kind}\"{}\"", bytes.escape_ascii()),
            Self::Many(kind, items) => {
                write!(f, "{kind}")?;
                f.debug_list().entries(items).finish()
            }
        }
    }
}
