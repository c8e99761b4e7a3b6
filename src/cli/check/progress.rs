//! A line on standard error that shows how far the check is, if standard error is a terminal.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the line is drawn.
const EVERY: Duration = Duration::from_millis(200);
/// The line: the rate and the time left are averages of the last domains.
const LINE: &str = "checking: {pos} of {len} domains, {per_sec}, {eta} left{msg}";

/// How far the work is.
#[derive(Debug)]
pub(super) struct Progress {
    line: ProgressBar,
    sessions: AtomicUsize,
}

/// Counts one session while it lives.
pub(super) struct OpenSession<'a>(&'a Progress);

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        let line = ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX));
        // The library's own line is of use too.
        let style = ProgressStyle::with_template(LINE).unwrap_or_else(|_| ProgressStyle::default_bar());
        line.set_style(style);
        line.enable_steady_tick(EVERY);
        Self { line, sessions: AtomicUsize::new(0) }
    }

    /// A session has begun.
    pub(super) fn session(&self) -> OpenSession<'_> {
        self.show(self.sessions.fetch_add(1, Ordering::Relaxed) + 1);
        OpenSession(self)
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

    fn show(&self, sessions: usize) {
        self.line.set_message(format!(", {sessions} sessions open"));
    }
}

impl Drop for OpenSession<'_> {
    fn drop(&mut self) {
        self.0.show(self.0.sessions.fetch_sub(1, Ordering::Relaxed).saturating_sub(1));
    }
}
