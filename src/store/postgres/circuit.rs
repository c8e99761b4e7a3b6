//! Whether the database is asked at all, and the log lines about it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// After this number of failures in a row no call is made before a probe has passed.
const FAILURES: u32 = 3;
/// How often the log tells the same.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Open after some failures in a row, closed again by a probe.
#[derive(Debug, Default)]
pub(super) struct Circuit {
    is_up: AtomicBool,
    failures: AtomicU32,
    told: Mutex<[Option<Instant>; 3]>,
}

/// A line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StoreLine {
    Down,
    Up,
    Slow,
}

impl Circuit {
    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(SeqCst)
    }

    /// The server has answered.
    pub(super) fn answered(&self) {
        self.failures.store(0, SeqCst);
    }

    /// A probe has passed.
    pub(super) fn came_up(&self) {
        self.failures.store(0, SeqCst);
        if !self.is_up.swap(true, SeqCst) && self.may_tell(StoreLine::Up) {
            tracing::info!("store up: the database answers");
        }
    }

    /// A call took too long.
    pub(super) fn slow(&self, operation: &'static str) {
        if self.may_tell(StoreLine::Slow) {
            tracing::warn!(operation, "store slow: the database did not answer within store.patience");
        }
        self.failed("it did not answer within store.patience");
    }

    /// A call did not begin, because others have all connections.
    pub(super) fn crowded(&self, operation: &'static str) {
        if self.may_tell(StoreLine::Slow) {
            tracing::warn!(operation, "store slow: all of store.connections were busy for store.patience");
        }
    }

    /// A call failed for a reason that others may share.
    pub(super) fn failed(&self, why: &str) {
        if self.failures.fetch_add(1, SeqCst) + 1 >= FAILURES {
            self.went_down(why);
        }
    }

    /// The server does not answer.
    pub(super) fn went_down(&self, why: &str) {
        self.is_up.store(false, SeqCst);
        if self.may_tell(StoreLine::Down) {
            tracing::error!(
                why,
                "store down: fan-out mail is deferred until the database answers; it is asked each second"
            );
        }
    }

    /// Each line comes once a minute at most.
    fn may_tell(&self, line: StoreLine) -> bool {
        let now = Instant::now();
        let mut told = self.told.lock();
        let last = match line {
            StoreLine::Down => &mut told[0],
            StoreLine::Up => &mut told[1],
            StoreLine::Slow => &mut told[2],
        };
        let is_due = last.is_none_or(|last| now.duration_since(last) >= TELL_EVERY);
        if is_due {
            *last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn three_failures_in_a_row_open_it_and_each_line_comes_once_a_minute() {
        let circuit = Circuit::default();
        assert!(!circuit.is_up());
        circuit.came_up();
        circuit.failed("x");
        circuit.failed("x");
        circuit.answered();
        circuit.failed("x");
        circuit.failed("x");
        assert!(circuit.is_up());
        circuit.failed("x");
        assert!(!circuit.is_up());
        circuit.came_up();
        assert!(circuit.is_up());
        assert!(
            !circuit.may_tell(StoreLine::Up) && circuit.may_tell(StoreLine::Slow) && !circuit.may_tell(StoreLine::Slow)
        );
        tokio::time::advance(TELL_EVERY).await;
        assert!(circuit.may_tell(StoreLine::Up) && circuit.may_tell(StoreLine::Down));
    }
}
