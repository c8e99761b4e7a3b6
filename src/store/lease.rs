//! The tasks that one danelaw of all does, by a lease in the store. A file has one danelaw, which does all of them.

use std::time::Duration;

use crate::words::words;

/// A task of one danelaw. The words are in the store and in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum SoleTask {
    /// Records that have expired are deleted.
    Tidy,
    /// The TLS reports of a day are made.
    #[strum(serialize = "tlsrpt")]
    Reports,
    /// The entries of the watch are written.
    Watch,
}

words!(SoleTask);

impl SoleTask {
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
