//! The tasks that count, write and send for as long as danelaw runs.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Dispatch;
use crate::dns::Resolver;
use crate::tlsrpt::TlsEvent;
use crate::tlsrpt::held::{DatedEvent, SiftedEvents};

/// How often counts are written to the store.
const FLUSH_EVERY: Duration = Duration::from_secs(10);
/// How often reports that are due are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long the last write may take at the end of the program.
const LAST: Duration = Duration::from_secs(2);

/// The tasks of [`Dispatch`].
#[derive(Debug)]
pub struct DispatchTask {
    counting: StoppableTask,
    sending: StoppableTask,
}

#[derive(Debug)]
struct StoppableTask {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl StoppableTask {
    async fn finish(self) {
        self.stop.cancel();
        let _ = tokio::time::timeout(LAST, self.task).await;
    }
}

impl DispatchTask {
    /// Starts to count events and to send reports. Those that `leaves_out` names are not counted.
    pub fn start<R: Resolver + Clone>(
        dispatch: Arc<Dispatch<R>>,
        events: impl Into<SiftedEvents>,
        leaves_out: impl Fn(&TlsEvent) -> bool + Send + 'static,
    ) -> Self {
        let counting = Self::count(Arc::clone(&dispatch), events.into(), leaves_out);
        Self { counting, sending: Self::send(dispatch) }
    }

    fn count<R: Resolver + Clone>(
        dispatch: Arc<Dispatch<R>>,
        mut events: SiftedEvents,
        leaves_out: impl Fn(&TlsEvent) -> bool + Send + 'static,
    ) -> StoppableTask {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut flushes = tokio::time::interval(FLUSH_EVERY);
            flushes.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // A task of its own, one at a time: events are counted while the store is slow.
            let mut write = JoinSet::new();
            loop {
                tokio::select! {
                    biased;
                    _ = flushes.tick() => {
                        while write.try_join_next().is_some() {}
                        if write.is_empty() {
                            let dispatch = Arc::clone(&dispatch);
                            write.spawn(async move { dispatch.flush().await });
                        }
                    }
                    dated = events.recv() => match dated {
                        Some(DatedEvent { event, .. }) if leaves_out(&event) => {}
                        // On the day on which it came, also if it was held over midnight.
                        Some(DatedEvent { event, at }) => dispatch.count(&event, at),
                        None => break,
                    },
                    () = stopped.cancelled() => break,
                }
            }
            // It waits for the one that is under way.
            dispatch.flush().await;
        });
        StoppableTask { stop, task }
    }

    fn send<R: Resolver + Clone>(dispatch: Arc<Dispatch<R>>) -> StoppableTask {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let _ = stopped.run_until_cancelled(dispatch.check_keys(OffsetDateTime::now_utc())).await;
            let (mut looks, mut tasks) = (tokio::time::interval(LOOK_EVERY), JoinSet::new());
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first tick comes at once; mail at the start goes first.
            looks.tick().await;
            let mut look = async || {
                looks.tick().await;
                dispatch.round(OffsetDateTime::now_utc(), &mut tasks).await;
            };
            while stopped.run_until_cancelled(look()).await.is_some() {}
            // A write that one of them was in is put back before the last one begins.
            tasks.shutdown().await;
        });
        StoppableTask { stop, task }
    }

    /// Counts the events that came before, and writes them, within four seconds. A report on its way is sent again later.
    pub async fn finish(self) {
        self.sending.finish().await;
        self.counting.finish().await;
    }
}
