//! The last attempts that did not end well, for whoever asks about one of them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use time::OffsetDateTime;

use super::Outcome;

/// So many attempts at most; the oldest goes first.
#[derive(Debug)]
pub(super) struct Ring {
    most: usize,
    attempts: Mutex<VecDeque<Ended>>,
}

/// An attempt that is over, and when it was.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) at: OffsetDateTime,
    pub(super) outcome: Outcome,
}

impl Ring {
    pub(super) fn new(most: usize) -> Self {
        Self { most, attempts: Mutex::default() }
    }

    /// Remembers an attempt. Its client has been answered already; nobody waits for this.
    pub(super) fn push(&self, ended: Ended) {
        if self.most == 0 {
            return;
        }
        let forgotten = {
            let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
            let forgotten = if attempts.len() >= self.most { attempts.pop_front() } else { None };
            attempts.push_back(ended);
            forgotten
        };
        // Freed after the lock is.
        drop(forgotten);
    }

    /// What `tell` makes of the attempt with this id, if it is remembered.
    pub(super) fn find<T>(&self, id: &str, tell: impl FnOnce(&Ended) -> T) -> Option<T> {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.iter().rev().find(|ended| ended.outcome.id.eq_ignore_ascii_case(id)).map(tell)
    }
}
