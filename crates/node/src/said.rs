//! Which lines about a peer were written to the log: each once a minute. A peer that comes and goes many
//! times a second says the same few things each time, in turn.

use std::collections::BTreeMap;
use std::time::Duration;

use mainstay_model::Instant;

/// How long a line stays said.
const SAID_FOR: Duration = Duration::from_secs(60);
/// The most lines remembered; more kinds within a minute are silence.
const LINES_MAX: usize = 16;

/// What was said.
#[derive(Debug, Default)]
pub(crate) struct Said {
    lines: BTreeMap<String, Instant>,
}

impl Said {
    /// Whether this line is to be written now.
    pub(crate) fn is_news(&mut self, now: Instant, line: &str) -> bool {
        self.lines.retain(|_, at| now.since(*at) < SAID_FOR);
        if self.lines.contains_key(line) || self.lines.len() >= LINES_MAX {
            return false;
        }
        self.lines.insert(line.to_owned(), now);
        true
    }

    /// Things are well again: what goes wrong next is news.
    pub(crate) fn forget(&mut self) {
        self.lines.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_once_a_minute_whatever_comes_between() {
        let mut said = Said::default();
        let at = |seconds: u64| Instant(seconds * 1_000_000_000);
        let mut written = 0;
        for second in 0..120 {
            for line in ["it closed the connection", "connection refused"] {
                written += usize::from(said.is_news(at(second), line));
            }
        }
        assert_eq!(written, 4);
        let many = (0..100).filter(|n| said.is_news(at(300), &n.to_string())).count();
        assert_eq!(many, LINES_MAX);
        said.forget();
        assert!(said.is_news(at(300), "it closed the connection"));
    }
}
