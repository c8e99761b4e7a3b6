//! Each event as a datagram to `tlsrpt-collectd`, which makes the reports of a day and sends them.
//!
//! This is a task of its own: no mail waits for the lookup of a record or for the collector. The kernel keeps ten datagrams for
//! a socket that is not read, so the others wait here, up to a bound.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::datagram::datagram;
use super::event::TlsEvent;
use super::held::SiftedEvents;
use super::record::TlsrptRecord;
use crate::scarce::Scarcity;
use crate::words::words;

/// How many events wait for the lookup of their record.
pub const MAX_EVENTS: usize = 10_000;
/// How many datagrams wait for the collector.
const MAX_DATAGRAMS: usize = 1000;
/// How many records are looked up at a time.
const LOOKUPS: usize = 100;
/// The pause before a full socket is tried again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the last datagrams may take at the end of the program.
const LAST: Duration = Duration::from_secs(2);
/// How often the log says that the collector is not there.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Why a datagram was dropped. The words are labels of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum DatagramDropped {
    /// There is no room for it, because the collector does not read.
    Full,
    /// There is no collector at the socket.
    NoCollector,
    /// It is a failure of the DNS that may be one of our own resolver.
    OwnResolver,
    /// The lookup failed that tells whether its domain asks for reports.
    #[strum(serialize = "dns")]
    Lookup,
}

words!(DatagramDropped);

/// The socket of the collector, and the datagrams that wait for it.
pub struct CollectdQueue {
    path: watch::Receiver<PathBuf>,
    socket: UnixDatagram,
    waiting: VecDeque<Vec<u8>>,
    dropped: Box<dyn Fn(DatagramDropped) + Send + Sync>,
    warned: Option<Instant>,
}

/// The task that tells the collector.
#[derive(Debug)]
pub struct CollectdTask {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl CollectdQueue {
    /// A queue for the collector at this path, which may change while datagrams wait. `dropped` counts.
    ///
    /// # Errors
    /// There is no socket to be had.
    pub fn new(
        path: watch::Receiver<PathBuf>,
        dropped: impl Fn(DatagramDropped) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A collector that does not read must not stop the task.
        socket.set_nonblocking(true)?;
        Ok(Self { path, socket, waiting: VecDeque::new(), dropped: Box::new(dropped), warned: None })
    }

    fn push(&mut self, datagram: Vec<u8>) {
        if self.waiting.len() < MAX_DATAGRAMS {
            self.waiting.push_back(datagram);
        } else {
            (self.dropped)(DatagramDropped::Full);
        }
    }

    /// Sends as many as the socket takes.
    fn flush(&mut self) {
        while let Some(datagram) = self.waiting.front() {
            let sent = self.socket.send_to(datagram, &*self.path.borrow());
            match sent {
                Ok(_) => {}
                Err(error) if is_full(&error) => return,
                Err(error) => {
                    (self.dropped)(DatagramDropped::NoCollector);
                    self.warn(&error);
                }
            }
            self.waiting.pop_front();
        }
    }

    fn warn(&mut self, error: &io::Error) {
        if self.warned.is_some_and(|last| last.elapsed() < WARN_EVERY) {
            return;
        }
        self.warned = Some(Instant::now());
        let path = self.path.borrow();
        let path = path.display();
        tracing::warn!(%path, %error, "tlsrpt-collectd is not at tlsrpt.collectd: TLS sessions are missing in its reports");
    }
}

/// The queue of the socket, or the memory of the kernel, is full.
fn is_full(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || Scarcity::of(error).is_some()
}

impl CollectdTask {
    /// Starts to tell events. `record` finds the record of the recipient's domain; without one nobody asks for reports.
    pub fn start<F, L>(events: impl Into<SiftedEvents>, queue: CollectdQueue, record: F) -> Self
    where
        F: Fn(&TlsEvent) -> L + Send + 'static,
        L: Future<Output = Option<TlsrptRecord>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let task = tokio::spawn(tell(Telling { events: events.into(), stop: stop.clone() }, queue, record));
        Self { stop, task }
    }

    /// Tells the events that came before, within two seconds.
    pub async fn finish(self) {
        self.stop.cancel();
        // Mail comes first; a report misses a few sessions then.
        let _ = tokio::time::timeout(LAST, self.task).await;
    }
}

struct Telling {
    events: SiftedEvents,
    stop: CancellationToken,
}

impl Telling {
    /// The next event; none if the program ends and all are told.
    async fn next(mut self) -> Option<(TlsEvent, Self)> {
        let event = tokio::select! {
            biased;
            event = self.events.recv() => event,
            () = self.stop.cancelled() => None,
        };
        event.map(|dated| (dated.event, self))
    }
}

async fn tell<F, L>(telling: Telling, mut queue: CollectdQueue, record: F)
where
    F: Fn(&TlsEvent) -> L,
    L: Future<Output = Option<TlsrptRecord>>,
{
    let looked_up = stream::unfold(telling, Telling::next).map(move |event| {
        let record = record(&event);
        async move { record.await.and_then(|record| datagram(&event, &record).ok()) }
    });
    let mut datagrams = pin!(looked_up.buffer_unordered(LOOKUPS));
    loop {
        tokio::select! {
            next = datagrams.next() => match next {
                Some(datagram) => datagram.into_iter().for_each(|datagram| queue.push(datagram)),
                None => break,
            },
            () = tokio::time::sleep(PAUSE), if !queue.waiting.is_empty() => {}
        }
        queue.flush();
    }
    while !queue.waiting.is_empty() {
        tokio::time::sleep(PAUSE).await;
        queue.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use tokio::sync::mpsc;

    use super::super::datagram::tests::{event, record};
    use super::super::event::TlsResult;
    use super::*;

    struct Collector {
        folder: tempfile::TempDir,
        dropped: Arc<AtomicUsize>,
    }

    impl Collector {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap(), dropped: Arc::default() }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("collectd")
        }

        fn listen(&self) -> tokio::net::UnixDatagram {
            let _ = std::fs::remove_file(self.path());
            tokio::net::UnixDatagram::bind(self.path()).unwrap()
        }

        fn start(&self) -> (mpsc::Sender<TlsEvent>, CollectdTask) {
            self.start_at(watch::channel(self.path()).1)
        }

        fn start_at(&self, path: watch::Receiver<PathBuf>) -> (mpsc::Sender<TlsEvent>, CollectdTask) {
            let dropped = Arc::clone(&self.dropped);
            let queue = CollectdQueue::new(path, move |_| {
                dropped.fetch_add(1, Relaxed);
            })
            .unwrap();
            let (sender, events) = mpsc::channel(MAX_EVENTS);
            let asks = |event: &TlsEvent| event.recipient.as_str() == "example.org";
            let task = CollectdTask::start(events, queue, move |event| std::future::ready(asks(event).then(record)));
            (sender, task)
        }
    }

    #[tokio::test]
    async fn a_burst_is_kept_while_the_collector_is_busy() {
        // T52.
        let collector = Collector::new();
        let socket = collector.listen();
        let (sender, task) = collector.start();
        for _ in 0..500 {
            sender.send(event(TlsResult::Success)).await.unwrap();
        }
        // The kernel takes about ten; the others wait.
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..500 {
            let octets = socket.recv(&mut buffer).await.unwrap();
            assert_eq!(buffer[..octets], datagram(&event(TlsResult::Success), &record()).unwrap());
        }
        task.finish().await;
        assert_eq!(collector.dropped.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn a_collector_that_comes_back_is_told_again() {
        let collector = Collector::new();
        let (sender, task) = collector.start();
        sender.send(event(TlsResult::Success)).await.unwrap();
        while collector.dropped.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        let socket = collector.listen();
        sender.send(event(TlsResult::Success)).await.unwrap();
        let mut buffer = vec![0; 1 << 16];
        assert!(socket.recv(&mut buffer).await.unwrap() > 100);
        drop(socket);
        // ECONNREFUSED: the socket is there, and nothing listens.
        sender.send(event(TlsResult::Success)).await.unwrap();
        while collector.dropped.load(Relaxed) == 1 {
            tokio::task::yield_now().await;
        }
        task.finish().await;
    }

    #[tokio::test]
    async fn a_collector_that_has_moved_is_told_at_its_new_socket() {
        let collector = Collector::new();
        let (news, path) = watch::channel(collector.folder.path().join("before"));
        let (sender, task) = collector.start_at(path);
        let before = tokio::net::UnixDatagram::bind(collector.folder.path().join("before")).unwrap();
        let mut buffer = vec![0; 1 << 16];
        sender.send(event(TlsResult::Success)).await.unwrap();
        assert!(before.recv(&mut buffer).await.unwrap() > 100);
        let socket = collector.listen();
        news.send_replace(collector.path());
        sender.send(event(TlsResult::Success)).await.unwrap();
        assert!(socket.recv(&mut buffer).await.unwrap() > 100);
        task.finish().await;
        assert!(before.try_recv(&mut buffer).is_err());
        assert_eq!(collector.dropped.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn a_domain_without_a_record_is_not_told() {
        // T50.
        let collector = Collector::new();
        let socket = collector.listen();
        let (sender, task) = collector.start();
        let mut other = event(TlsResult::Success);
        other.recipient = crate::name::Name::parse("other.example").unwrap();
        sender.send(other).await.unwrap();
        sender.send(event(TlsResult::Success)).await.unwrap();
        // Those that came before the end are told.
        task.finish().await;
        let mut buffer = vec![0; 1 << 16];
        let octets = socket.recv(&mut buffer).await.unwrap();
        assert!(buffer[..octets].starts_with(br#"{"dpv":"1","d":"example.org","#));
        assert!(socket.try_recv(&mut buffer).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_never_reads_fills_no_memory() {
        // O18.
        let collector = Collector::new();
        let _socket = collector.listen();
        let (sender, task) = collector.start();
        for _ in 0..3000 {
            sender.send(event(TlsResult::Success)).await.unwrap();
        }
        task.finish().await;
        let dropped = collector.dropped.load(Relaxed);
        // The kernel has taken a few.
        assert!((1000..2000).contains(&dropped), "{dropped}");
    }
}
