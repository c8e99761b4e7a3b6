//! Results that deliveries side by side hand to their session.

use std::future::poll_fn;
use std::task::Poll;

use parking_lot::Mutex;

/// Results of deliveries that the session has not looked at yet. There is a lock because a session goes from thread to
/// thread. No other task takes it.
///
/// Deliveries work side by side in a `join_all`, and this is how one is heard before the others are done. A
/// `FuturesUnordered` would wake the session without need each time all that are left in it wait.
#[derive(Debug)]
pub(crate) struct Incoming<T>(Mutex<Vec<T>>);

impl<T> Incoming<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(crate) fn put(&self, result: T) {
        let mut told = self.0.lock();
        if told.is_empty() {
            // Most have one result, and some results are large.
            told.reserve_exact(1);
        }
        told.push(result);
    }

    /// All results, if there are any.
    pub(crate) fn drain(&self) -> Vec<T> {
        std::mem::take(&mut self.0.lock())
    }

    /// All results, as soon as there is one. No task is woken for it: deliveries work in the task that listens to them, and
    /// it listens behind the work.
    pub(crate) async fn any(&self) -> Vec<T> {
        poll_fn(|_| match self.drain() {
            none if none.is_empty() => Poll::Pending,
            some => Poll::Ready(some),
        })
        .await
    }
}
