//! Listeners: who may connect, how many at a time, and how to leave quietly.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use ipnet::IpNet;
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Unsound};
use crate::dns::Resolver;
use crate::name::Name;
use crate::report::Reporter;
use crate::reserved::Dialable;
use crate::session::{self, Received, Shared};
use crate::smtp::dialogue::Us;
use crate::smtp::extensions::{DomainsPerTransaction, Offer};
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::tls::{PostQuantum, SetupError, Tls};
use crate::upstream::Connector;

/// Connections the kernel may hold for us: a burst must not be lost before it is counted.
const BACKLOG: u32 = 4096;
/// How long a client that is turned away has to take our answer.
const TURN_AWAY: Duration = Duration::from_secs(5);
/// How long to wait when the system has no descriptor for one more connection.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// One open port and who may connect to it.
#[derive(Debug)]
pub struct Door {
    listener: TcpListener,
    allowed: Vec<IpNet>,
}

/// How the last sessions ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// All by themselves.
    Clean,
    /// So many were cut when the grace period was over; their clients still have the mail.
    Cut(usize),
}

/// What a running server needs besides what sessions share.
#[derive(Debug)]
pub struct Server {
    /// The open ports.
    pub doors: Vec<Door>,
    /// The sessions that are open.
    pub present: Arc<Present>,
}

/// How many client sessions are open.
#[derive(Debug, Default)]
pub struct Present(AtomicUsize);

/// One session's place among those that may be open.
struct Place(Arc<Present>);

impl Present {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, if there may be.
    fn admit(self: &Arc<Self>, most: usize) -> Option<Place> {
        let place = Place(Arc::clone(self));
        // The place is given back where it was one too many.
        (self.0.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why there is nothing to share.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// A rule that cannot hold.
    #[error("{0}")]
    Rules(#[from] Unsound),
    /// The TLS library does not do what is needed.
    #[error("{0}")]
    Tls(#[from] SetupError),
}

/// What all sessions share, from the configuration, under our host name, on the word of a resolver.
///
/// # Errors
/// If a rule has ended since the configuration was read, or TLS cannot be set up.
pub fn share<R: Resolver>(
    config: &Config,
    hostname: Name,
    dns: R,
    reporter: Arc<Reporter>,
) -> Result<Arc<Shared<R>>, ShareError> {
    let rules = config.rules(OffsetDateTime::now_utc().date())?;
    let post_quantum = if config.tls.post_quantum { PostQuantum::Offer } else { PostQuantum::Omit };
    let own_names = config.remote.own_names.iter().map(|name| name.0.clone()).collect();
    let connector = Connector {
        dns,
        tls: Tls::new(post_quantum)?,
        mode: config.mode,
        digests: config.tls.digests.clone(),
        dialable: Dialable::new(config.remote.allow_reserved.iter().map(|network| network.0)),
        port: config.remote.port,
        max_addresses: config.remote.addresses,
        own_names,
        hostname: hostname.clone(),
        ehlo_name: config.ehlo_name.clone(),
        timeouts: config.timeouts.clone(),
    };
    let offer = Offer { size: config.limits.message_size.as_u64(), domains: DomainsPerTransaction::One };
    Ok(Arc::new(Shared {
        connector,
        rules,
        us: Us { hostname: hostname.to_string(), offer, max_recipients: config.limits.recipients },
        received: if config.received { Received::Add } else { Received::Omit },
        bare_newlines: config.limits.bare_newlines,
        timeouts: config.timeouts.clone(),
        max_sessions: config.limits.sessions,
        reporter,
    }))
}

impl Door {
    /// Opens a port.
    ///
    /// # Errors
    /// What the system says, mostly that the port is taken or needs a privilege.
    pub fn open(address: SocketAddr, allowed: Vec<IpNet>) -> io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { listener: socket.listen(BACKLOG)?, allowed })
    }

    /// The address that is really open; its port is the system's choice where the configuration says 0.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn allows(&self, client: IpAddr) -> bool {
        self.allowed.iter().any(|network| network.contains(&client))
    }
}

impl Server {
    /// Serves until `stop`, then lets open transactions finish within the grace period. What sessions share may be another
    /// thing from one transaction to the next.
    pub async fn run<R: Resolver>(self, shared: watch::Receiver<Arc<Shared<R>>>, stop: CancellationToken) -> Drained {
        let sessions = TaskTracker::new();
        let cut = CancellationToken::new();
        let doors = TaskTracker::new();
        for door in self.doors {
            let reception = Reception {
                shared: shared.clone(),
                present: Arc::clone(&self.present),
                sessions: sessions.clone(),
                stop: stop.clone(),
                cut: cut.clone(),
            };
            doors.spawn(reception.keep(door));
        }
        doors.close();
        doors.wait().await;
        sessions.close();
        let grace = shared.borrow().timeouts.grace;
        if tokio::time::timeout(grace, sessions.wait()).await.is_ok() {
            return Drained::Clean;
        }
        let left = sessions.len();
        // Dropping a session resets its remote: half a message is never taken for a whole one.
        cut.cancel();
        sessions.wait().await;
        Drained::Cut(left)
    }
}

/// What stands behind each door.
struct Reception<R> {
    shared: watch::Receiver<Arc<Shared<R>>>,
    present: Arc<Present>,
    sessions: TaskTracker,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl<R: Resolver> Reception<R> {
    async fn keep(self, door: Door) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = door.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, client)) => self.receive(&door, stream, client.ip().to_canonical()),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(OUT_OF_FILES).await;
                }
            }
        }
    }

    fn receive(&self, door: &Door, stream: TcpStream, client: IpAddr) {
        let now = Arc::clone(&self.shared.borrow());
        let metrics = now.reporter.metrics();
        if !door.allows(client) {
            metrics.turned_away("not-allowed");
            tracing::warn!(%client, "turned away: not on the allow-list of this listener");
            let text = "you may not send mail through this host";
            let no = Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(7, 1), text);
            self.sessions.spawn(turn_away(stream, no));
            return;
        }
        let Some(place) = self.present.admit(now.max_sessions) else {
            metrics.turned_away("sessions");
            tracing::warn!(%client, "turned away: limits.sessions is reached");
            let no = Reply::new(
                Code::SERVICE_NOT_AVAILABLE,
                EnhancedCode::transient(3, 2),
                "too many sessions, try again later",
            );
            self.sessions.spawn(turn_away(stream, no));
            return;
        };
        metrics.admitted();
        let (shared, stop, cut) = (self.shared.clone(), self.stop.clone(), self.cut.clone());
        self.sessions.spawn(async move {
            let _place = place;
            if stream.set_nodelay(true).is_err() {
                return;
            }
            tokio::select! {
                biased;
                () = session::serve(shared, stream, client, stop) => {}
                () = cut.cancelled() => {}
            }
        });
    }
}

async fn turn_away(mut stream: TcpStream, no: Reply) {
    let mut line = BytesMut::new();
    no.write(&mut line);
    // A client that does not take the answer is not waited for.
    let _ = tokio::time::timeout(TURN_AWAY, async {
        stream.write_all(&line).await?;
        stream.shutdown().await
    })
    .await;
}
