//! The record of a run: one line an event, a column a node, and a rolling hash over all of it.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};

use xxhash_rust::xxh3::Xxh3Default;

use crate::world::NodeId;

/// The trace of one run. Only the hash is kept unless lines are asked for.
pub struct Trace {
    hasher: Xxh3Default,
    line: String,
    lines: Option<Lines>,
    columns: u16,
    events: u64,
}

/// The most bytes of lines that are kept: those of some hundred usual runs.
const KEPT_BYTES_MAX: usize = 256 << 20;
/// The most bytes of one line that are kept.
const LINE_BYTES_MAX: usize = 64 << 10;

/// The last lines, as many as there is room for.
struct Lines {
    kept: VecDeque<String>,
    bytes: usize,
    bytes_max: usize,
    /// How many went to make room.
    gone: u64,
}

impl Lines {
    const fn new(bytes_max: usize) -> Self {
        Self { kept: VecDeque::new(), bytes: 0, bytes_max, gone: 0 }
    }

    fn push(&mut self, mut line: String) {
        if line.len() > LINE_BYTES_MAX {
            line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
            line.push_str(" …");
        }
        self.bytes += line.len();
        self.kept.push_back(line);
        while self.bytes > self.bytes_max
            && let Some(first) = self.kept.pop_front()
        {
            self.bytes -= first.len();
            self.gone += 1;
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("events", &self.events).finish_non_exhaustive()
    }
}

impl Trace {
    /// A trace of a world whose first `columns` nodes have a column of their own; the others share
    /// one. `keep` keeps the lines.
    #[must_use]
    pub fn new(columns: u16, keep: bool) -> Self {
        Self {
            hasher: Xxh3Default::new(),
            line: String::new(),
            lines: keep.then(|| Lines::new(KEPT_BYTES_MAX)),
            columns,
            events: 0,
        }
    }

    /// Adds an event at a virtual time; `node` is `None` for what concerns the whole world.
    pub fn event(&mut self, time: u64, node: Option<NodeId>, what: fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.line, "{time} ");
        let _ = match node {
            Some(node) => write!(self.line, "{} ", node.0),
            None => write!(self.line, "* "),
        };
        let head = self.line.len();
        let _ = self.line.write_fmt(what);
        self.hasher.update(self.line.as_bytes());
        self.hasher.update(b"\n");
        self.events += 1;
        if let Some(lines) = &mut self.lines {
            lines.push(shown(time, node, self.columns, &self.line[head..]));
        }
    }

    /// The hash over all events so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.digest()
    }

    /// How many events there were.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The lines, if they were kept: all of them, or of a very long run the last ones, behind one that says
    /// how many went before.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        let Some(Lines { mut kept, gone, .. }) = self.lines else { return Vec::new() };
        if gone > 0 {
            kept.push_front(format!("({gone} events before these are left out)"));
        }
        kept.into()
    }
}

/// Width of a column in characters; a long line runs on into the next ones.
const COLUMN: usize = 8;

fn shown(time: u64, node: Option<NodeId>, columns: u16, what: &str) -> String {
    let stamp = format!("{:>5}.{:06}s ", time / 1_000_000_000, time % 1_000_000_000 / 1_000);
    let Some(node) = node else { return format!("{stamp}==== {what}") };
    let column = usize::from(node.0.min(columns));
    let mut text = stamp;
    for _ in 0..column {
        let _ = write!(text, "{:<COLUMN$}", "|");
    }
    if node.0 >= columns {
        let _ = write!(text, "c{} {what}", node.0 - columns);
    } else {
        let _ = write!(text, "r{} {what}", node.0);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_within_bounds_and_the_last_ones_stay() {
        let mut trace = Trace::new(1, true);
        trace.lines = Some(Lines::new(200_000));
        let long = "é".repeat(LINE_BYTES_MAX);
        for count in 0..8 {
            trace.event(count, None, format_args!("{count} {long}"));
        }
        trace.event(8, None, format_args!("the last"));
        let lines = trace.into_lines();
        assert!(lines.iter().map(String::len).sum::<usize>() < 201_000, "{}", lines.len());
        assert_eq!(lines[0], "(5 events before these are left out)");
        assert!(lines[1].ends_with(" …") && lines[1].contains("==== 5 é"), "cut, not dropped");
        assert!(lines.last().is_some_and(|line| line.ends_with("the last")));
    }

    #[test]
    fn the_hash_tells_traces_apart_and_lines_stand_in_their_columns() {
        let mut a = Trace::new(3, true);
        let mut b = Trace::new(3, false);
        a.event(1_500_000, Some(NodeId(1)), format_args!("up"));
        b.event(1_500_000, Some(NodeId(1)), format_args!("up"));
        assert_eq!(a.hash(), b.hash(), "keeping lines changes nothing");
        b.event(1_500_001, None, format_args!("heal"));
        assert_ne!(a.hash(), b.hash(), "one event more");
        assert_eq!(a.into_lines(), ["    0.001500s |       r1 up"], "second column");
    }
}
