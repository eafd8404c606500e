//! The order that the operations of one process have among themselves, where it sends the next
//! before the last one is answered and may trust that they are carried out in turn.

use std::collections::BTreeMap;

use crate::search::Done;

/// For every operation of a search, those of its process that it must come after and before.
pub(crate) struct Pipelines {
    ordered: bool,
    known: Vec<Known>,
    unknown: Vec<Unknown>,
    /// The last operations of each process so far.
    last: BTreeMap<u64, Last>,
}

struct Known {
    /// The known one before it.
    after: Option<usize>,
}

struct Unknown {
    /// The known one before it.
    after: Option<usize>,
    /// The first known one, and the first unknown one, invoked after it: once one of them or of
    /// their successors has come, it is too late.
    before_known: Option<usize>,
    before_unknown: Option<usize>,
}

#[derive(Clone, Copy, Default)]
struct Last {
    known: Option<usize>,
    unknown: Option<usize>,
    /// The first unknown one after the last known one.
    unknown_since: Option<usize>,
}

impl Pipelines {
    /// Processes whose operations are ordered as they were invoked.
    pub(crate) const fn new() -> Self {
        Self { ordered: true, known: Vec::new(), unknown: Vec::new(), last: BTreeMap::new() }
    }

    /// Operations that only time orders.
    pub(crate) fn none() -> Self {
        Self { ordered: false, ..Self::new() }
    }

    /// Whether processes order anything.
    pub(crate) const fn are_ordered(&self) -> bool {
        self.ordered
    }

    /// The next known operation, in the order of invocations.
    pub(crate) fn push_known(&mut self, process: u64) {
        if !self.ordered {
            return;
        }
        let at = self.known.len();
        let last = self.last.entry(process).or_default();
        self.known.push(Known { after: last.known });
        let mut since = last.unknown_since.take();
        while let Some(unknown) = since {
            self.unknown[unknown].before_known = Some(at);
            since = self.unknown[unknown].before_unknown;
        }
        last.known = Some(at);
    }

    /// The next unknown operation, in the order of invocations.
    pub(crate) fn push_unknown(&mut self, process: u64) {
        if !self.ordered {
            return;
        }
        let at = self.unknown.len();
        let last = self.last.entry(process).or_default();
        self.unknown.push(Unknown { after: last.known, before_known: None, before_unknown: None });
        if let Some(before) = last.unknown.replace(at) {
            self.unknown[before].before_unknown = Some(at);
        }
        last.unknown_since.get_or_insert(at);
    }

    /// Whether all that must come before a known operation has come.
    pub(crate) fn known_may_come(&self, at: usize, done: &Done) -> bool {
        !self.ordered || self.known[at].after.is_none_or(|before| done.has_known(before))
    }

    /// Whether all that must come before an unknown operation has come, and nothing that must come
    /// after it.
    pub(crate) fn unknown_may_come(&self, at: usize, done: &Done) -> bool {
        if !self.ordered {
            return true;
        }
        let Unknown { after, before_known, mut before_unknown } = self.unknown[at];
        while let Some(next) = before_unknown {
            if done.has_unknown(next) {
                return false;
            }
            before_unknown = self.unknown[next].before_unknown;
        }
        after.is_none_or(|before| done.has_known(before))
            && before_known.is_none_or(|next| !done.has_known(next))
    }
}
