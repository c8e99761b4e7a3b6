//! A line on standard error that shows how far the check is, if standard error is a terminal.

use std::convert::Infallible;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often the line is drawn.
const EVERY: Duration = Duration::from_millis(200);
/// To the start of the line, and clear it.
const CLEAR: &str = "\r\x1b[K";

/// How far the work is.
#[derive(Debug)]
pub(super) struct Progress {
    total: usize,
    done: AtomicUsize,
    sessions: AtomicUsize,
    shown: bool,
}

/// Counts one session while it lives.
pub(super) struct OpenSession<'a>(&'a Progress);

impl Progress {
    pub(super) fn new(total: usize) -> Self {
        Self { total, done: AtomicUsize::new(0), sessions: AtomicUsize::new(0), shown: io::stderr().is_terminal() }
    }

    /// A session has begun.
    pub(super) fn session(&self) -> OpenSession<'_> {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        OpenSession(self)
    }

    /// A domain is done.
    pub(super) fn done(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Clears the line before other output.
    pub(super) fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "{CLEAR}");
        }
    }

    /// Draws the line until dropped.
    pub(super) async fn show(&self) -> Infallible {
        if !self.shown {
            return std::future::pending().await;
        }
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            let (done, sessions) = (self.done.load(Ordering::Relaxed), self.sessions.load(Ordering::Relaxed));
            let line = format!("{CLEAR}checking: {done} of {} domains done, {sessions} sessions open", self.total);
            // A progress line that cannot be written is not needed.
            let _ = io::stderr().write_all(line.as_bytes());
        }
    }
}

impl Drop for OpenSession<'_> {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}
