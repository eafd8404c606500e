//! The replies that a session keeps, in the order of their numbers, so that handing out a copy for a
//! checkpoint stays cheap however many there are: they stand in blocks that both copies share until
//! one of them changes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

/// Replies in a block. A change after a copy was handed out copies one block.
const BLOCK: usize = 256;

/// A queue of replies. Freed ones take no memory but that of an empty one until their block goes.
///
/// Invariants: every block but the last has [`BLOCK`] entries; `freed` of the first block's are gone,
/// fewer than it has; `bytes` is the sum of the lengths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeptReplies {
    blocks: VecDeque<Arc<Vec<Bytes>>>,
    freed: usize,
    len: usize,
    bytes: u64,
}

impl KeptReplies {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The sum of the lengths.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn get(&self, position: usize) -> Option<&Bytes> {
        let at = self.freed.checked_add(position)?;
        self.blocks.get(at / BLOCK)?.get(at % BLOCK)
    }

    pub(crate) fn push(&mut self, reply: Bytes) {
        self.bytes += reply.len() as u64;
        self.len += 1;
        match self.blocks.back_mut() {
            Some(block) if block.len() < BLOCK => Arc::make_mut(block).push(reply),
            _ => self.blocks.push_back(Arc::new(vec![reply])),
        }
    }

    /// Puts another reply where one stands; nothing where none does.
    pub(crate) fn replace(&mut self, position: usize, reply: Bytes) {
        let at = self.freed + position;
        let Some(block) = self.blocks.get_mut(at / BLOCK) else { return };
        let Some(place) = Arc::make_mut(block).get_mut(at % BLOCK) else { return };
        self.bytes += reply.len() as u64;
        self.bytes -= std::mem::replace(place, reply).len() as u64;
    }

    /// Lets go of the first `count`, or of all there are.
    pub(crate) fn free(&mut self, count: usize) {
        for _ in 0..count.min(self.len) {
            let block = self.blocks.front_mut().expect("it holds the first");
            if self.freed + 1 == block.len() {
                self.bytes -= block[self.freed].len() as u64;
                self.blocks.pop_front();
                self.freed = 0;
            } else {
                let gone = std::mem::take(&mut Arc::make_mut(block)[self.freed]);
                self.bytes -= gone.len() as u64;
                self.freed += 1;
            }
            self.len -= 1;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.blocks.iter().flat_map(|block| block.iter()).skip(self.freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_model::Prng;

    fn reply(n: u64) -> Bytes {
        Bytes::from(n.to_string())
    }

    #[test]
    fn does_what_a_plain_queue_does_and_copies_stay_as_they_were() {
        let mut prng = Prng::new(1);
        let (mut kept, mut plain) = (KeptReplies::default(), VecDeque::new());
        let mut copies = Vec::new();
        for n in 0..20_000 {
            match prng.between(0, 100) {
                0..60 => {
                    kept.push(reply(n));
                    plain.push_back(reply(n));
                }
                60..75 => {
                    let position = prng.between(0, 40) as usize;
                    kept.replace(position, reply(n));
                    if let Some(place) = plain.get_mut(position) {
                        *place = reply(n);
                    }
                }
                75..99 => {
                    let count = prng.between(0, 3) as usize;
                    kept.free(count);
                    plain.drain(..count.min(plain.len()));
                }
                _ => copies.push((kept.clone(), plain.clone())),
            }
            if n % 5_000 == 0 {
                kept.free(usize::MAX);
                plain.clear();
            }
            assert_eq!(kept.len(), plain.len());
            assert_eq!(kept.bytes(), plain.iter().map(|r| r.len() as u64).sum::<u64>());
            assert_eq!(kept.get(7), plain.get(7));
        }
        assert!(copies.len() > 100 && plain.len() > 3 * BLOCK);
        copies.push((kept, plain));
        for (kept, plain) in copies {
            assert!(kept.iter().eq(plain.iter()));
        }
    }
}
