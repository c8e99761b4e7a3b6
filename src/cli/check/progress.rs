//! A line on standard error that shows how far the check is, if standard error is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::check::sessions::SessionGauge;

/// How often the line is drawn.
const EVERY: Duration = Duration::from_millis(200);
/// The line: the rate and the time left are averages of the last domains.
const LINE: &str = "checking: {pos} of {len} domains, {per_sec}, {eta} left{msg}";

/// How far the work is.
#[derive(Debug)]
pub(super) struct Progress {
    line: ProgressBar,
}

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        let line = ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX));
        // The library's own line is of use too.
        let style = ProgressStyle::with_template(LINE).unwrap_or_else(|_| ProgressStyle::default_bar());
        line.set_style(style);
        line.enable_steady_tick(EVERY);
        Self { line }
    }

    /// A domain is done.
    pub(super) fn done(&self) {
        self.line.inc(1);
    }

    /// Runs `write` while the line is not shown.
    pub(super) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.line.suspend(write)
    }

    /// Removes the line.
    pub(super) fn end(&self) {
        self.line.finish_and_clear();
    }
}

impl SessionGauge for Progress {
    fn show(&self, open: usize) {
        self.line.set_message(format!(", {open} sessions open"));
    }
}
