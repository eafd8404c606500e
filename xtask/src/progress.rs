//! What `cargo xtask ci` prints: a line as each step begins and ends, and a closing summary.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::Findings;

/// The run of several steps.
pub(crate) struct Progress {
    steps: usize,
    began: Instant,
    done: Vec<Done>,
    present: Option<(&'static str, Instant)>,
}

struct Done {
    step: &'static str,
    took: Duration,
    findings: Findings,
}

impl Progress {
    /// A run of so many steps, none of them begun.
    pub(crate) fn new(steps: usize) -> Self {
        Self { steps, began: Instant::now(), done: Vec::new(), present: None }
    }

    /// A step begins.
    pub(crate) fn begin(&mut self, step: &'static str) {
        println!("==> [{}/{}] {step}", self.done.len() + 1, self.steps);
        self.present = Some((step, Instant::now()));
    }

    /// It ended with these findings.
    pub(crate) fn end(&mut self, findings: Findings) {
        let Some((step, began)) = self.present.take() else { return };
        for finding in &findings {
            println!("    {step}: {finding}");
        }
        self.done.push(Done { step, took: began.elapsed(), findings });
    }

    /// The closing summary, and whether all is well.
    pub(crate) fn close(&self) -> ExitCode {
        println!("{}", self.summary());
        if self.done.iter().all(|done| done.findings.is_empty()) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    fn summary(&self) -> String {
        let mut text = format!("==> summary, after {:.0} s\n", self.began.elapsed().as_secs_f64());
        for done in &self.done {
            let verdict = match done.findings.len() {
                0 => "ok".to_owned(),
                1 => "FAILED".to_owned(),
                count => format!("FAILED ({count} findings)"),
            };
            text += &format!("    {:8} {:7.1} s  {verdict}\n", done.step, done.took.as_secs_f64());
        }
        let failed = self.done.iter().filter(|done| !done.findings.is_empty()).count();
        text += &format!("    {} of {} steps passed", self.done.len() - failed, self.steps);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_what_failed() {
        let mut progress = Progress::new(2);
        progress.begin("fmt");
        progress.end(Vec::new());
        progress.begin("tidy");
        progress.end(vec!["one".into(), "two".into()]);
        let summary = progress.summary();
        assert!(summary.contains("FAILED (2 findings)"), "{summary}");
        assert!(summary.ends_with("1 of 2 steps passed"), "{summary}");
        assert_eq!(progress.close(), ExitCode::FAILURE);
    }
}
