//! The tasks that one danelaw of all does, by a lease in the store. A file has one danelaw, which does all of them.

use std::time::Duration;

/// A task of one danelaw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SoleTask {
    /// Records that have expired are deleted.
    Tidy,
    /// The TLS reports of a day are made.
    Reports,
    /// The entries of the watch are written.
    Watch,
}

impl SoleTask {
    /// The word for it, in the store and in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Tidy => "tidy",
            Self::Reports => "tlsrpt",
            Self::Watch => "watch",
        }
    }

    /// How long a lease lasts that is not renewed: longer than three rounds of the task.
    pub(crate) const fn term(self) -> Duration {
        match self {
            Self::Tidy | Self::Reports | Self::Watch => Duration::from_secs(5 * 60),
        }
    }
}

/// The right to do a task until the lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskLease {
    /// The number of the term. A write of an earlier term fails.
    pub(crate) token: i64,
}

impl TaskLease {
    /// That of a danelaw without others.
    pub(crate) const fn of_one() -> Self {
        Self { token: 0 }
    }
}
