//! A key or its value: bytes, small ones without an allocation of their own.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// How many bytes lie in the value itself.
const INLINE_LEN_MAX: usize = 22;

/// Bytes whose copy is cheap: short ones are copied, long ones are shared until one side changes
/// them.
#[derive(Clone)]
pub(crate) enum Text {
    Inline { len: u8, bytes: [u8; INLINE_LEN_MAX] },
    Shared(Arc<Vec<u8>>),
}

impl Text {
    pub(crate) fn new(value: &[u8]) -> Self {
        Self::inline(&[value]).unwrap_or_else(|| Self::Shared(Arc::new(value.to_vec())))
    }

    fn inline(parts: &[&[u8]]) -> Option<Self> {
        let (mut bytes, mut len) = ([0; INLINE_LEN_MAX], 0);
        for part in parts {
            bytes.get_mut(len..len + part.len())?.copy_from_slice(part);
            len += part.len();
        }
        Some(Self::Inline { len: len as u8, bytes })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Shared(bytes) => bytes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Grows in place where nobody shares the bytes, so that many small appends cost no more than
    /// one large one.
    pub(crate) fn append(&mut self, value: &[u8]) {
        if let Self::Shared(bytes) = self {
            return Arc::make_mut(bytes).extend_from_slice(value);
        }
        let parts = [self.as_bytes(), value];
        *self = Self::inline(&parts).unwrap_or_else(|| Self::Shared(Arc::new(parts.concat())));
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_ones_behave_alike() {
        assert!(size_of::<Text>() <= 24);
        for len in [0, 1, 21, 22, 23, 100] {
            let mut text = Text::new(&vec![b'a'; len]);
            assert_eq!(text.len(), len);
            let copy = text.clone();
            text.append(b"bc");
            assert_eq!(text.as_bytes(), [&vec![b'a'; len][..], b"bc"].concat());
            assert_eq!(copy.as_bytes(), vec![b'a'; len]);
        }
    }
}
