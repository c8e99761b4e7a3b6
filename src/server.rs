//! The listeners: which clients may connect, how many at a time, and the end of all sessions.

mod intercepted;
mod listener;
mod owner;
mod proxy;
pub(crate) mod unix;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio_util::either::Either;
use tokio_util::task::TaskTracker;

use crate::dns::Resolver;
use crate::report::turned_away::TurnedAway;
use crate::scarce::Scarcity;
use crate::session::{self, Admission, Caller, Origin, Shared, Stop};
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::tls::server::ListenerSecurity;

use listener::{Connection, ListenerAccess};
pub use listener::{OpenListener, Socket};
use proxy::ProxyHeader;

/// How long a client that is turned away has to take the reply.
const TURN_AWAY: Duration = Duration::from_secs(5);
/// How many clients that are not on the allow-list may try to show a certificate at a time, on each listener that knows any.
const MOST_UNCERTIFIED: usize = 50;
/// How long to wait when the system has no descriptor for one more connection.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// How the last sessions ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// All of their own accord.
    Clean,
    /// This number was cut when the grace period was over. Their clients still have the mail.
    Cut(usize),
}

/// The parts of a running server that sessions do not share.
#[derive(Debug)]
pub struct RunningServer {
    /// The open ports and sockets.
    pub listeners: Vec<OpenListener>,
    /// The sessions that are open.
    pub open_sessions: Arc<OpenSessions>,
}

/// The number of client sessions that are open.
#[derive(Debug, Default)]
pub struct OpenSessions(AtomicUsize);

/// One session, counted until this is dropped.
struct SessionSlot(Arc<OpenSessions>);

impl OpenSessions {
    /// Their number.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more, unless `most` are open.
    fn admit(self: &Arc<Self>, most: usize) -> Option<SessionSlot> {
        let slot = SessionSlot(Arc::clone(self));
        // If it is one too many, the slot is dropped here.
        (self.0.fetch_add(1, Ordering::Relaxed) < most).then_some(slot)
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Puts new shared values into force for the next transaction of each session. The idle verified connections of the old
/// values are closed: none of them may carry mail under the new ones.
pub fn replace<R: Resolver>(news: &watch::Sender<Arc<Shared<R>>>, shared: Arc<Shared<R>>) {
    let before = news.send_replace(shared);
    tokio::spawn(async move { before.connector.dialer.pool.close().await });
}

impl RunningServer {
    /// Serves until `stop`, then lets open transactions finish within the grace period, which `stop.now` ends at once. The
    /// values that sessions share may change from one transaction to the next.
    pub async fn run<R: Resolver>(self, shared: watch::Receiver<Arc<Shared<R>>>, stop: Stop) -> Drained {
        let sessions = TaskTracker::new();
        let acceptors = TaskTracker::new();
        for (place, listener) in self.listeners.into_iter().enumerate() {
            let acceptor = Acceptor {
                place,
                access: listener.access(),
                uncertified: Arc::new(Semaphore::new(MOST_UNCERTIFIED)),
                shared: shared.clone(),
                open_sessions: Arc::clone(&self.open_sessions),
                sessions: sessions.clone(),
                stop: stop.clone(),
            };
            acceptors.spawn(Arc::new(acceptor).run(listener));
        }
        acceptors.close();
        acceptors.wait().await;
        sessions.close();
        // Idle connections get QUIT while the last transactions go on.
        let last = Arc::clone(&shared.borrow());
        let goodbye = last.connector.dialer.pool.close();
        let drain = async {
            tokio::select! {
                biased;
                () = sessions.wait() => return Drained::Clean,
                () = tokio::time::sleep(last.grace) => {}
                () = stop.now.cancelled() => {}
            }
            let left = sessions.len();
            // Their remotes see a reset, so that no remote takes half a message for a whole one.
            stop.now.cancel();
            sessions.wait().await;
            Drained::Cut(left)
        };
        tokio::join!(drain, goodbye).0
    }
}

/// Accepts the connections of one listener.
struct Acceptor<R> {
    /// The place of the listener in the configuration.
    place: usize,
    access: Arc<ListenerAccess>,
    /// Places for clients that are not on the allow-list and may show a certificate.
    uncertified: Arc<Semaphore>,
    shared: watch::Receiver<Arc<Shared<R>>>,
    open_sessions: Arc<OpenSessions>,
    sessions: TaskTracker,
    stop: Stop,
}

impl<R: Resolver> Acceptor<R> {
    async fn run(self: Arc<Self>, listener: OpenListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.when_idle.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(connection) => self.receive(connection),
                Err(error) => {
                    match Scarcity::of(&error) {
                        Some(of) => self.shared.borrow().reporter.ran_out(of.into(), "accept"),
                        None => tracing::warn!(%error, "cannot accept a connection"),
                    }
                    tokio::time::sleep(OUT_OF_FILES).await;
                }
            }
        }
    }

    fn receive(self: &Arc<Self>, connection: Connection) {
        if !self.access.is_balancers(connection.origin) {
            match self.admission(connection.origin).and_then(|admission| Ok((admission, self.slot()?))) {
                Ok((admission, slot)) => self.serve(connection, admission, slot),
                Err(reason) => self.turn_away(connection, reason),
            }
            return;
        }
        // Counted before its header is read.
        match self.slot() {
            Ok(slot) => drop(self.sessions.spawn(Arc::clone(self).receive_of_balancer(connection, slot))),
            Err(reason) => self.turn_away(connection, reason),
        }
    }

    /// Reads the header of a balancer's connection, and goes on with the client that it names.
    async fn receive_of_balancer(self: Arc<Self>, mut connection: Connection, slot: SessionSlot) {
        let balancer = connection.origin;
        let header = tokio::select! {
            biased;
            () = self.stop.when_idle.cancelled() => return,
            header = ProxyHeader::read(&mut connection.stream) => header,
        };
        let admission = match header {
            Ok(ProxyHeader::Local) => Ok(Admission::Probe),
            Ok(ProxyHeader::Client(client)) => {
                connection.origin = Origin::Address(client);
                self.admission(connection.origin)
            }
            Err(error) => {
                self.shared.borrow().reporter.metrics().turned_away(TurnedAway::ProxyHeader);
                tracing::warn!(%balancer, "closed a connection of a balancer: {error}");
                return;
            }
        };
        match admission {
            Ok(admission) => self.serve(connection, admission, slot),
            Err(reason) => self.turn_away(connection, reason),
        }
    }

    fn serve(&self, connection: Connection, admission: Admission, slot: SessionSlot) {
        let Connection { stream, origin, original_destination } = connection;
        let now = Arc::clone(&self.shared.borrow());
        let Some(listener) = now.listeners.get(self.place).cloned() else {
            tracing::error!(client = %origin, place = self.place, "turned away: the listener has no settings");
            return;
        };
        now.reporter.metrics().admitted();
        let (shared, stop, service) = (self.shared.clone(), self.stop.clone(), self.access.service);
        let caller = Caller { origin, service, original_destination, place: self.place, listener, admission };
        self.sessions.spawn(async move {
            let _slot = slot;
            if let Either::Left(tcp) = &stream
                && tcp.set_nodelay(true).is_err()
            {
                return;
            }
            session::serve(shared, stream, caller, stop).await;
        });
    }

    fn turn_away(&self, connection: Connection, reason: TurnedAway) {
        let Connection { stream, origin, .. } = connection;
        let now = self.shared.borrow();
        now.reporter.metrics().turned_away(reason);
        tracing::warn!(client = %origin, "turned away: {}", why(reason));
        // Words in the clear would be no TLS.
        let security = now.listeners.get(self.place).map(|listener| &listener.security);
        let is_clear = !matches!(security, Some(ListenerSecurity::Implicit(_)));
        if let Some(reply) = reply(reason).filter(|_| is_clear) {
            self.sessions.spawn(turn_away(stream, reply));
        }
    }

    /// Whether a client may send mail, or show a certificate for it.
    fn admission(&self, origin: Origin) -> Result<Admission, TurnedAway> {
        let now = self.shared.borrow();
        let knows_clients = now.listeners.get(self.place).is_some_and(|listener| listener.security.knows_clients());
        match (self.access.allows(origin), knows_clients) {
            (true, _) => Ok(Admission::Allowed),
            (false, false) => Err(TurnedAway::NotAllowed),
            (false, true) => {
                let place = Arc::clone(&self.uncertified).try_acquire_owned();
                place.map(Admission::Uncertified).map_err(|_| TurnedAway::Uncertified)
            }
        }
    }

    fn slot(&self) -> Result<SessionSlot, TurnedAway> {
        let most = self.shared.borrow().max_sessions;
        self.open_sessions.admit(most).ok_or(TurnedAway::Sessions)
    }
}

/// The words for it in the log.
fn why(reason: TurnedAway) -> &'static str {
    match reason {
        TurnedAway::NotAllowed => "not on the allow-list of this listener",
        TurnedAway::Uncertified => {
            "not on the allow-list of this listener, and too many that may show a certificate are here already"
        }
        TurnedAway::Sessions => "limits.sessions is reached",
        TurnedAway::ProxyHeader => "the balancer sent no PROXY header of version 2",
    }
}

/// The reply to the client. A balancer that breaks its protocol gets none: its client would read it.
fn reply(reason: TurnedAway) -> Option<Reply> {
    match reason {
        TurnedAway::NotAllowed => {
            let text = "you may not send mail through this host";
            Some(Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(7, 1), text))
        }
        TurnedAway::Uncertified | TurnedAway::Sessions => {
            let text = "too many sessions, try again later";
            Some(Reply::new(Code::SERVICE_NOT_AVAILABLE, EnhancedCode::transient(3, 2), text))
        }
        TurnedAway::ProxyHeader => None,
    }
}

async fn turn_away(mut stream: impl AsyncWrite + Unpin, no: Reply) {
    let mut line = BytesMut::new();
    no.write(&mut line);
    // danelaw does not wait longer for a client that does not take the reply.
    let _ = tokio::time::timeout(TURN_AWAY, async {
        stream.write_all(&line).await?;
        stream.shutdown().await
    })
    .await;
}
