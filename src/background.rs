//! Tasks that go on for as long as danelaw runs.

use std::pin::Pin;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// The pause before a task that has panicked starts again.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest pause, before one that panics again and again. A task that has gone on for so long has a short pause again.
const LONGEST: Duration = Duration::from_secs(600);

/// Starts a task, and starts it again after a panic: without it danelaw would go on with facts that no task renews, and look
/// well. The panic itself is in the log already. The task ends when it returns, or when it is aborted.
pub fn keep_up<F>(task: &'static str, start: impl Fn() -> F + Send + 'static) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    // On the heap: so the compiler makes this code and that of the runtime once, and not for each task.
    tokio::spawn(kept_up(task, Box::new(move || Box::pin(start()))))
}

/// Makes the future of a task that begins.
type StartTask = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

async fn kept_up(task: &'static str, start: StartTask) {
    let (mut pause, mut started) = (AGAIN, Instant::now());
    while AbortOnDropHandle::new(tokio::spawn(start())).await.is_err_and(|error| error.is_panic()) {
        tracing::error!(task, "a task of danelaw has panicked and starts again; please report it");
        if started.elapsed() >= LONGEST {
            pause = AGAIN;
        }
        tokio::time::sleep(pause).await;
        (pause, started) = (LONGEST.min(pause * 2), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_starts_again_until_it_ends_by_itself() {
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&starts);
        let task = keep_up("test", move || {
            let start = counted.fetch_add(1, Ordering::SeqCst);
            async move { assert!(start >= 3, "as a bug would") }
        });
        let began = Instant::now();
        task.await.unwrap();
        assert_eq!(starts.load(Ordering::SeqCst), 4);
        // Each pause is twice as long as the last.
        assert_eq!(began.elapsed().as_secs(), 1 + 2 + 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_aborted_goes_on_no_longer() {
        let held = Arc::new(());
        let inside = Arc::clone(&held);
        let task = keep_up("test", move || {
            let held = Arc::clone(&inside);
            async move {
                let _held = held;
                std::future::pending().await
            }
        });
        tokio::time::sleep(AGAIN).await;
        assert_eq!(Arc::strong_count(&held), 3);
        task.abort();
        tokio::time::sleep(AGAIN).await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
