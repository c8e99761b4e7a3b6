//! Where signatures are checked: not on the threads that move bytes, unless it is known that they will hardly notice.
//!
//! A reply takes from some ten microseconds to, if it was made for it, some milliseconds, and to hand one over costs about
//! as much as one check. So an answer of a [`Light`](Load::Light) load is judged where it came in; denials by NSEC3, the keys
//! of zones and replies that may cost more come here. There are as many workers as processors, and the replies wait in the
//! order in which they came.
//!
//! Two rules keep an innocent lookup from waiting behind those that burn. Each reply costs only so much
//! ([`Budget`](super::super::budget::Budget)), and a lookup has one reply in hand at a time. And replies of a
//! [`Heavy`](Load::Heavy) load have half of the workers, for which they queue apart from the others: however many of them
//! wait, an ordinary reply has at most that half before it.

use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::super::FailureReason;
use super::load::Load;

/// Runs work that keeps a processor busy. Clones share their places.
#[derive(Clone)]
pub(super) struct Workers {
    places: Arc<Semaphore>,
    /// How many of the places heavy work may have.
    heavy: Arc<Semaphore>,
}

impl Workers {
    /// As many as there are processors.
    pub(super) fn new() -> Self {
        Self::of(available_parallelism().map_or(1, usize::from))
    }

    fn of(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places)), heavy: Arc::new(Semaphore::new((places / 2).max(1))) }
    }

    /// Does `work` when its turn comes. Work that has begun is finished even if the caller is gone.
    ///
    /// # Errors
    /// It broke down, or the program ends.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        load: Load,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, FailureReason> {
        let heavy = match load {
            Load::Light | Load::Ordinary => None,
            Load::Heavy => Some(permit(&self.heavy).await?),
        };
        let place = permit(&self.places).await?;
        let worker = spawn_blocking(move || {
            let done = work();
            drop((place, heavy));
            done
        });
        worker.await.map_err(|error| given_up(&error.to_string()))
    }
}

async fn permit(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, FailureReason> {
    Arc::clone(of).acquire_owned().await.map_err(|error| given_up(&error.to_string()))
}

fn given_up(why: &str) -> FailureReason {
    FailureReason::Network(format!("the validation was given up: {why}"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn places_are_few_and_come_back() {
        let workers = Workers::of(2);
        let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = (0..50).map(|i| {
            let (busy, most) = (Arc::clone(&busy), Arc::clone(&most));
            workers.run(Load::Ordinary, move || {
                most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                busy.fetch_sub(1, Ordering::SeqCst);
                assert!(i != 7, "as a bug would");
            })
        });
        let done = futures_util::future::join_all(work).await;
        assert_eq!(done.iter().filter(|done| done.is_err()).count(), 1);
        assert!(most.load(Ordering::SeqCst) <= 2 && workers.places.available_permits() == 2);
    }

    #[tokio::test]
    async fn a_fire_delays_another_by_one_reply_for_each_that_burns() {
        const FIRES: usize = 20;
        let (workers, done) = (Workers::of(1), Arc::new(AtomicUsize::new(0)));
        let work = |done: &Arc<AtomicUsize>| {
            let done = Arc::clone(done);
            move || done.fetch_add(1, Ordering::SeqCst)
        };
        let fires: Vec<_> = (0..FIRES)
            .map(|_| {
                let (workers, done) = (workers.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    for _ in 0..100 {
                        workers.run(Load::Ordinary, work(&done)).await.unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..10 {
            let before = done.load(Ordering::SeqCst);
            let waited = workers.run(Load::Ordinary, work(&done)).await.unwrap() - before;
            assert!(waited <= FIRES + 1, "{waited}");
            tokio::task::yield_now().await;
        }
        futures_util::future::join_all(fires).await;
        assert_eq!(done.load(Ordering::SeqCst), 100 * FIRES + 10);
    }

    #[tokio::test]
    async fn ordinary_work_waits_for_one_heavy_piece_at_most() {
        let (workers, done) = (Workers::of(1), Arc::new(AtomicUsize::new(0)));
        let work = |done: &Arc<AtomicUsize>| {
            let done = Arc::clone(done);
            move || done.fetch_add(1, Ordering::SeqCst)
        };
        let fires: Vec<_> = (0..200)
            .map(|_| {
                let (workers, work) = (workers.clone(), work(&done));
                tokio::spawn(async move { workers.run(Load::Heavy, work).await.unwrap() })
            })
            .collect();
        tokio::task::yield_now().await;
        for _ in 0..10 {
            let before = done.load(Ordering::SeqCst);
            // The piece that is at work, and the one that is next in the same queue.
            let waited = workers.run(Load::Ordinary, work(&done)).await.unwrap() - before;
            assert!(waited <= 2, "{waited}");
        }
        futures_util::future::join_all(fires).await;
        assert_eq!(done.load(Ordering::SeqCst), 210);
        assert_eq!((workers.places.available_permits(), workers.heavy.available_permits()), (1, 1));
        // With more places heavy work has half of them.
        assert_eq!(Workers::of(8).heavy.available_permits(), 4);
    }
}
