//! The epoch of the servers in use: a number that changes with each verdict about their fitness.
//!
//! A resolver that stops validating calls every zone insecure, and its words are remembered for as long as their TTL
//! says. So each result is remembered with the epoch in which its question was asked, and a result of another epoch
//! counts as absent (RFC 7672 §2.1.1).

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// The number of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Epoch(u64);

/// The current epoch, and the wish for a self-test before its time.
#[derive(Debug, Default)]
pub(super) struct Fitness {
    epoch: AtomicU64,
    doubt: Notify,
}

impl Fitness {
    /// The current epoch. Read it before the question is asked.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Begins a new epoch. The servers in use have been changed before.
    pub(super) fn advance(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Begins a new epoch because a server in use has shown that it does not validate, and makes the self-test due.
    pub(super) fn doubt(&self) {
        self.advance();
        self.doubt.notify_one();
    }

    /// Waits until a server is doubted. A doubt that came before counts, once.
    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }
}
