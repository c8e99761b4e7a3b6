//! Where signatures are checked: not on the threads that move bytes, unless it is known that they will hardly notice.
//!
//! A reply takes from some ten microseconds to, if it was made for it, some milliseconds, and to hand one over costs about
//! as much as one check. So an answer that is known to be cheap ([`is_cheap`](super::sets::is_cheap)) is judged where it
//! came in; denials by NSEC3, the keys of zones and whatever may cost more come here. There are as many at a time as there
//! are processors; the others wait in the order in which they came. One lookup has one reply in hand at a time and each
//! reply costs only so much ([`Budget`](super::super::budget::Budget)), so a lookup that burns delays another by one
//! reply, however many it still has to burn.

use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::super::FailureReason;

/// Runs what keeps a processor busy. Clones share their places.
#[derive(Clone)]
pub(super) struct Workers(Arc<Semaphore>);

impl Workers {
    /// As many as there are processors.
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))))
    }

    /// Does `work`, when its turn comes. Whoever asked may go away; what has begun comes to its end.
    ///
    /// # Errors
    /// It broke down, or the program ends.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, FailureReason> {
        let given_up = |error: String| FailureReason::Network(format!("the validation was given up: {error}"));
        let place = Arc::clone(&self.0).acquire_owned().await.map_err(|error| given_up(error.to_string()))?;
        let worker = spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        worker.await.map_err(|error| given_up(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn places_are_few_and_come_back() {
        let workers = Workers(Arc::new(Semaphore::new(2)));
        let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = (0..50).map(|i| {
            let (busy, most) = (Arc::clone(&busy), Arc::clone(&most));
            workers.run(move || {
                most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                busy.fetch_sub(1, Ordering::SeqCst);
                assert!(i != 7, "as a bug would");
            })
        });
        let done = futures_util::future::join_all(work).await;
        assert_eq!(done.iter().filter(|done| done.is_err()).count(), 1);
        assert!(most.load(Ordering::SeqCst) <= 2 && workers.0.available_permits() == 2);
    }

    #[tokio::test]
    async fn a_fire_delays_another_by_one_reply_for_each_that_burns() {
        const FIRES: usize = 20;
        let (workers, done) = (Workers(Arc::new(Semaphore::new(1))), Arc::new(AtomicUsize::new(0)));
        let work = |done: &Arc<AtomicUsize>| {
            let done = Arc::clone(done);
            move || done.fetch_add(1, Ordering::SeqCst)
        };
        let fires: Vec<_> = (0..FIRES)
            .map(|_| {
                let (workers, done) = (workers.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    for _ in 0..100 {
                        workers.run(work(&done)).await.unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..10 {
            let before = done.load(Ordering::SeqCst);
            let waited = workers.run(work(&done)).await.unwrap() - before;
            assert!(waited <= FIRES + 1, "{waited}");
            tokio::task::yield_now().await;
        }
        futures_util::future::join_all(fires).await;
        assert_eq!(done.load(Ordering::SeqCst), 100 * FIRES + 10);
    }
}
