//! Listeners: who may connect, how many at a time, and how to leave quietly.

mod door;
mod intercepted;
mod owner;
pub(crate) mod unix;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, Address, Config, Unsound};
use crate::dns::Resolver;
use crate::ledger::{self, Ledger};
use crate::mx::OwnAddresses;
use crate::name::Name;
use crate::report::Reporter;
use crate::reserved::Dialable;
use crate::scarce::Scarcity;
use crate::session::{self, Caller, Received, Shared, Stop};
use crate::smtp::reply::{Code, EnhancedCode, Reply};
use crate::tls::{PostQuantum, SetupError, Tls};
use crate::transaction::dialogue::Us;
use crate::upstream::Connector;
use crate::upstream::caps::{Caps, Most};
use crate::upstream::dialer::Dialer;
use crate::upstream::failed::FailedHosts;
use crate::upstream::pool::{Bounds, Pool};
use crate::upstream::tcp::Source;

use door::Visitor;
pub use door::{Door, Socket};

/// How long a client that is turned away has to take our answer.
const TURN_AWAY: Duration = Duration::from_secs(5);
/// How long to wait when the system has no descriptor for one more connection.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

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
/// If a rule can never hold, or TLS cannot be set up.
pub fn share<R: Resolver>(
    config: &Config,
    hostname: Name,
    dns: R,
    ledger: Ledger,
    reporter: Arc<Reporter>,
) -> Result<Arc<Shared<R>>, ShareError> {
    let rules = config.rules()?;
    let connector = connector(config, hostname.clone(), dns, tls(config)?);
    let size = config.limits.message_size.as_u64();
    Ok(Arc::new(Shared {
        connector,
        rules,
        us: Us { hostname: hostname.to_string(), size, max_recipients: config.limits.recipients },
        received: if config.received { Received::Add } else { Received::Omit },
        bare_newlines: config.limits.bare_newlines,
        timeouts: config.timeouts.clone(),
        max_sessions: config.limits.sessions,
        reporter,
        ledger,
    }))
}

/// Puts into force what sessions share from now on. Verified sessions that wait for mail under what they shared before end:
/// whatever has changed, none of them serves it.
pub fn replace<R: Resolver>(news: &watch::Sender<Arc<Shared<R>>>, shared: Arc<Shared<R>>) {
    let before = news.send_replace(shared);
    tokio::spawn(async move { before.connector.dialer.pool.close().await });
}

/// The ledger, from the configuration; there is one for as long as danelaw runs.
///
/// # Errors
/// If its file cannot be used.
pub async fn ledger(config: &Config) -> Result<Ledger, ledger::OpenError> {
    let config::Ledger { path, entries, expiry } = config.ledger.clone();
    let (ledger, outcomes) = Ledger::open(ledger::Settings { path, entries, expiry }).await?;
    tracing::debug!(outcomes, "the ledger is open");
    Ok(ledger)
}

/// TLS towards remotes, from the configuration.
///
/// # Errors
/// If the TLS library does not do what is needed.
pub fn tls(config: &Config) -> Result<Tls, SetupError> {
    Tls::new(if config.tls.post_quantum { PostQuantum::Offer } else { PostQuantum::Omit })
}

/// The road to remotes, from the configuration, under our host name, on the word of a resolver.
pub fn connector<R: Resolver>(config: &Config, hostname: Name, dns: R, tls: Tls) -> Connector<R> {
    let remote = &config.remote;
    let listeners = config.listener.iter().filter_map(|listener| match listener.address {
        Address::Tcp(address) => Some(address),
        Address::Unix(_) => None,
    });
    let own_addresses = remote.own_addresses.iter().map(|network| network.0);
    Connector {
        dns,
        dialer: Dialer {
            port: remote.port,
            head_start: remote.head_start,
            limit: config.timeouts.connect,
            source: Source { v4: remote.source_ipv4, v6: remote.source_ipv6 },
            caps: Caps::new(Most {
                per_host: remote.connections_per_host,
                per_domain: remote.connections_per_domain,
                in_all: remote.connections,
            }),
            pool: Pool::new(Bounds {
                in_all: remote.idle_connections,
                per_host: remote.idle_connections_per_host,
                idle: remote.idle_for,
                age: remote.connection_age,
                mails: remote.mails_per_connection,
            }),
        },
        tls,
        mode: config.mode,
        digests: config.tls.digests.clone(),
        dialable: Dialable::new(remote.allow_reserved.iter().map(|network| network.0)),
        failed: FailedHosts::new(remote.failed_hosts_for),
        eight_bit: Arc::default(),
        max_exchanges: remote.exchanges,
        max_addresses: remote.addresses,
        own_names: remote.own_names.iter().map(|name| name.0.clone()).collect(),
        own_addresses: OwnAddresses::new(own_addresses, listeners, remote.port),
        hostname,
        ehlo_name: config.ehlo_name.clone(),
        timeouts: config.timeouts.clone(),
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
        // The remotes that wait for mail hear goodbye while the last transactions go on.
        let last = Arc::clone(&shared.borrow());
        let goodbye = last.connector.dialer.pool.close();
        let drain = async {
            if tokio::time::timeout(last.timeouts.grace, sessions.wait()).await.is_ok() {
                return Drained::Clean;
            }
            let left = sessions.len();
            // Their remotes see a reset: half a message is never taken for a whole one.
            cut.cancel();
            sessions.wait().await;
            Drained::Cut(left)
        };
        tokio::join!(drain, goodbye).0
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
                accepted = door.accept() => accepted,
            };
            match accepted {
                Ok(visitor) => self.receive(&door, visitor),
                Err(error) => {
                    match Scarcity::of(&error) {
                        Some(of) => self.shared.borrow().reporter.ran_out(of.label(), "accept"),
                        None => tracing::warn!(%error, "cannot accept a connection"),
                    }
                    tokio::time::sleep(OUT_OF_FILES).await;
                }
            }
        }
    }

    fn receive(&self, door: &Door, Visitor { stream, origin, dialled }: Visitor) {
        let now = Arc::clone(&self.shared.borrow());
        let metrics = now.reporter.metrics();
        if !door.allows(origin) {
            metrics.turned_away("not-allowed");
            tracing::warn!(client = %origin, "turned away: not on the allow-list of this listener");
            let text = "you may not send mail through this host";
            let no = Reply::new(Code::TRANSACTION_FAILED, EnhancedCode::permanent(7, 1), text);
            self.sessions.spawn(turn_away(stream, no));
            return;
        }
        let Some(place) = self.present.admit(now.max_sessions) else {
            metrics.turned_away("sessions");
            tracing::warn!(client = %origin, "turned away: limits.sessions is reached");
            let no = Reply::new(
                Code::SERVICE_NOT_AVAILABLE,
                EnhancedCode::transient(3, 2),
                "too many sessions, try again later",
            );
            self.sessions.spawn(turn_away(stream, no));
            return;
        };
        metrics.admitted();
        let (shared, stop) = (self.shared.clone(), Stop { when_idle: self.stop.clone(), now: self.cut.clone() });
        let caller = Caller { origin, service: door.service(), dialled };
        self.sessions.spawn(async move {
            let _place = place;
            if let Either::Left(tcp) = &stream
                && tcp.set_nodelay(true).is_err()
            {
                return;
            }
            session::serve(shared, stream, caller, stop).await;
        });
    }
}

async fn turn_away(mut stream: impl AsyncWrite + Unpin, no: Reply) {
    let mut line = BytesMut::new();
    no.write(&mut line);
    // A client that does not take the answer is not waited for.
    let _ = tokio::time::timeout(TURN_AWAY, async {
        stream.write_all(&line).await?;
        stream.shutdown().await
    })
    .await;
}
