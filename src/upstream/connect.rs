//! From the addresses of an exchange to one TCP connection: the first that answers (RFC 8305 §5).
//!
//! Only connection attempts run side by side. Greeting and TLS happen with one address at a time: a remote that is slow to
//! greet is no reason to open sessions with all its neighbours.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::Instant;

use super::limits::{ConnectionLimits, DomainPermit, Permits};
use super::order::within;
use super::pool::waiters::Waiter;
use super::pool::{Pool, Pooled};
use super::reuse::Identity;
use super::tcp::{Source, Tcp};
use super::verified::Ready;
use crate::dns::Nat64Prefix;
use crate::dns::by_nat64;
use crate::refusal::Reason;
use crate::trace::{StepKind, Trace};

/// How to connect to any remote.
#[derive(Debug)]
pub struct Dialer {
    /// The port, where no rule names another one.
    pub port: u16,
    /// The time before the attempt for the next address starts beside this one (RFC 8305 §5).
    pub head_start: Duration,
    /// The limit of one attempt.
    pub limit: Duration,
    /// The addresses to connect from.
    pub source: Source,
    /// The limits on connections.
    pub limits: ConnectionLimits,
    /// The sessions that wait for the next mail.
    pub pool: Arc<Pool<Ready>>,
}

/// How to connect for one transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectOptions<'a> {
    pub(super) domain: Option<&'a DomainPermit>,
    /// The identity of a session that can take the place of a connection, at one of the addresses.
    pub(super) identity: Option<&'a Identity>,
    /// The port, if a rule names one.
    pub(super) port: Option<u16>,
    pub(super) until: Instant,
    pub(super) nat64: Option<Nat64Prefix>,
    pub(super) trace: &'a Trace,
}

/// The end of a race. Addresses that are not in it may be tried again.
#[derive(Debug, Default)]
pub(super) struct Race {
    /// The addresses that failed, in the order of their failures.
    pub(super) failed: Vec<(IpAddr, Reason)>,
    /// The address that answered.
    pub(super) first: Option<(IpAddr, Won)>,
}

/// The result of an attempt.
#[derive(Debug)]
pub(super) enum Won {
    /// A new connection.
    Connection(Tcp),
    /// A session that came free while there was no room for a connection.
    Session(Box<Pooled<Ready>>),
}

impl Dialer {
    /// Starts an attempt for one address after the other, each with its head start, and removes from the list the addresses
    /// that won or failed. The other connections are closed.
    pub(super) async fn race(&self, addresses: &mut VecDeque<IpAddr>, options: ConnectOptions<'_>) -> Race {
        let mut race = Race::default();
        let mut waiting = addresses.iter().copied();
        let mut attempts = Vec::new();
        while race.first.is_none() {
            let next = waiting.next();
            attempts
                .extend(next.map(|address| Box::pin(async move { (address, self.attempt(address, options).await) })));
            if attempts.is_empty() {
                break;
            }
            // The last address needs no head start.
            let head_start = if waiting.len() > 0 { self.head_start } else { Duration::MAX };
            let ended = tokio::time::timeout(head_start, select_all(attempts.iter_mut())).await;
            let Ok((ended, place)) = ended.map(|(ended, place, _)| (ended, place)) else { continue };
            drop(attempts.swap_remove(place));
            match ended {
                (address, Ok(won)) => race.first = Some((address, won)),
                // RFC 8305 §5: the next attempt starts at once if this one has failed.
                (address, Err(reason)) => race.failed.push((address, reason)),
            }
        }
        addresses.retain(|address| !race.ended_at(*address));
        race
    }

    /// Connects to one address. A failure is noted here; the caller notes the rest of a session.
    pub(super) async fn connect(&self, address: IpAddr, options: ConnectOptions<'_>) -> Result<Tcp, Reason> {
        noted(address, options, async {
            let waiter = self.limits.full(address).map(|cap| Waiter::new(&self.pool, cap, address, None));
            waiter.iter().for_each(Waiter::make_room);
            let permits = self.permits(address, options).await?;
            drop(waiter);
            self.open(address, permits, options).await
        })
        .await
    }

    /// Connects to one address as soon as there is room, unless a session comes free before.
    async fn attempt(&self, address: IpAddr, options: ConnectOptions<'_>) -> Result<Won, Reason> {
        noted(address, options, async {
            let Some(cap) = self.limits.full(address) else {
                let permits = self.permits(address, options).await?;
                return self.open(address, permits, options).await.map(Won::Connection);
            };
            let identity = options.identity.map(|identity| identity.at(address, self.source));
            let mut waiter = Waiter::new(&self.pool, cap, address, identity.clone());
            // A session may have come to the pool in between.
            if let Some(session) = identity.and_then(|identity| self.pool.take(&identity)) {
                return Ok(Won::Session(Box::new(session)));
            }
            waiter.make_room();
            tokio::select! {
                biased;
                session = waiter.handed_off() => Ok(Won::Session(Box::new(session))),
                permits = self.permits(address, options) => {
                    drop(waiter);
                    self.open(address, permits?, options).await.map(Won::Connection)
                }
            }
        })
        .await
    }

    async fn permits(&self, address: IpAddr, options: ConnectOptions<'_>) -> Result<Permits, Reason> {
        self.limits.connection(address, options.domain, options.until).await.map_err(Reason::Busy)
    }

    async fn open(&self, address: IpAddr, permits: Permits, options: ConnectOptions<'_>) -> Result<Tcp, Reason> {
        let limit = within(self.limit, options.until.saturating_duration_since(Instant::now()));
        let by = options.nat64.and_then(|prefix| by_nat64::translated(address, prefix));
        if let Some(by) = by {
            options.trace.fact(format_args!("{address} is reached by NAT64, at {by}"));
        }
        let dialled = SocketAddr::new(by.map_or(address, IpAddr::V6), options.port.unwrap_or(self.port));
        let tcp = Tcp::connect(dialled, self.source, limit).await?;
        Ok(tcp.holding(permits))
    }
}

/// Notes a failure to connect.
async fn noted<T>(
    address: IpAddr,
    options: ConnectOptions<'_>,
    connecting: impl Future<Output = Result<T, Reason>>,
) -> Result<T, Reason> {
    let began = Instant::now();
    let connected = connecting.await;
    if let Err(reason) = &connected {
        let kind = StepKind::Connect(reason.view().label.as_str());
        options.trace.since(began, kind, format_args!("[{address}]: {reason}"));
    }
    connected
}

impl Race {
    fn ended_at(&self, address: IpAddr) -> bool {
        self.failed
            .iter()
            .map(|(failed, _)| failed)
            .chain(self.first.iter().map(|(first, _)| first))
            .any(|ended| *ended == address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use socket2::{Domain, SockAddr, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;
    use crate::dns::Nat64;
    use crate::name::Name;
    use crate::refusal::Stage;
    use crate::upstream::limits::MaxConnections;
    use crate::upstream::pool::IdleLimits;

    const HEAD_START: Duration = Duration::from_millis(250);

    /// Loopback addresses of one port.
    struct Port(u16);

    impl Port {
        /// Opens it on the first address, and listens there.
        async fn open() -> (Self, TcpListener) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            (Self(listener.local_addr().unwrap().port()), listener)
        }

        /// An address that does not answer: its queue of connections is full, and none is accepted.
        fn silent(&self, last: u8) -> (IpAddr, Vec<Socket>) {
            let address = SocketAddr::from(([127, 0, 0, last], self.0));
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            listener.bind(&SockAddr::from(address)).unwrap();
            listener.listen(0).unwrap();
            let mut held = vec![listener];
            for _ in 0..4 {
                let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                client.set_nonblocking(true).unwrap();
                let _ = client.connect(&SockAddr::from(address));
                held.push(client);
            }
            (address.ip(), held)
        }

        fn dialer(&self) -> Dialer {
            Dialer {
                port: self.0,
                head_start: HEAD_START,
                limit: Duration::from_secs(30),
                source: Source::default(),
                limits: ConnectionLimits::new(MaxConnections { per_host: 9, per_domain: 9, in_all: 9 }),
                pool: Pool::new(IdleLimits { in_all: 0, per_host: 0, idle: HEAD_START, age: HEAD_START, uses: 1 }),
            }
        }
    }

    async fn race(dialer: &Dialer, addresses: &[IpAddr], time: Duration) -> (Race, Vec<IpAddr>, Duration) {
        let domain = dialer.limits.domain(&Name::parse("example").unwrap()).await.unwrap();
        let mut list: VecDeque<_> = addresses.iter().copied().collect();
        let began = Instant::now();
        let trace = Trace::default();
        let options = ConnectOptions {
            domain: Some(&domain),
            identity: None,
            port: None,
            until: began + time,
            nat64: None,
            trace: &trace,
        };
        let race = dialer.race(&mut list, options).await;
        (race, list.into(), began.elapsed())
    }

    const LONG: Duration = Duration::from_secs(240);

    #[tokio::test(start_paused = true)]
    async fn the_first_that_answers() {
        let (port, _listener) = Port::open().await;
        let open = IpAddr::from([127, 0, 0, 1]);
        let refusing = IpAddr::from([127, 0, 0, 77]);
        let (silent, _queue) = port.silent(2);
        let dialer = port.dialer();
        // At once, and without an attempt for another address.
        let (race1, left, took) = race(&dialer, &[open, refusing], LONG).await;
        assert_eq!((race1.first.unwrap().0, race1.failed.len(), left, took), (open, 0, vec![refusing], Duration::ZERO));
        // A silent one has its head start, and may be tried again.
        let (race2, left, took) = race(&dialer, &[silent, open], LONG).await;
        assert_eq!((race2.first.unwrap().0, race2.failed.len(), left), (open, 0, vec![silent]));
        assert!(took >= HEAD_START && took < HEAD_START * 2, "{took:?}");
        // One that refuses has no head start.
        let (race3, left, took) = race(&dialer, &[refusing, open], LONG).await;
        assert_eq!((race3.first.unwrap().0, race3.failed.len(), left), (open, 1, vec![]));
        assert!(matches!(race3.failed[0], (address, Reason::Connect(_)) if address == refusing));
        assert!(took < HEAD_START, "{took:?}");
    }

    #[tokio::test]
    async fn an_ipv4_address_is_dialled_at_its_place_below_the_prefix() {
        let (port, _listener) = Port::open().await;
        let (dialer, trace) = (port.dialer(), Trace::default());
        let Ok(Nat64::By(prefix)) = "64:ff9b::/96".parse() else { panic!() };
        let until = Instant::now() + Duration::from_secs(1);
        let options =
            ConnectOptions { domain: None, identity: None, port: None, until, nat64: Some(prefix), trace: &trace };
        // No translator is there; an address of this host is dialled as it is.
        let failed = dialer.connect([8, 8, 8, 8].into(), options).await;
        assert!(matches!(failed, Err(Reason::Connect(_) | Reason::Timeout { .. })), "{failed:?}");
        dialer.connect([127, 0, 0, 1].into(), options).await.unwrap();
        let told: Vec<_> = trace.steps().into_iter().map(|step| step.text).collect();
        assert_eq!(told[0], "8.8.8.8 is reached by NAT64, at 64:ff9b::808:808");
        assert!(told[1].starts_with("[8.8.8.8]: ") && told.len() == 2, "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_address_answers() {
        let (port, _listener) = Port::open().await;
        let ((one, _queue1), (two, _queue2)) = (port.silent(2), port.silent(3));
        let dialer = port.dialer();
        // K7: side by side, so that two take hardly longer than one.
        let (race1, left, took) = race(&dialer, &[one, two], LONG).await;
        assert!(race1.first.is_none() && left.is_empty());
        assert_eq!(race1.failed.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [one, two]);
        let timeout = |reason: &Reason| matches!(reason, Reason::Timeout { stage: Stage::Connect, .. });
        assert!(race1.failed.iter().all(|(_, reason)| timeout(reason)));
        assert!(took >= dialer.limit + HEAD_START && took < dialer.limit + HEAD_START * 2, "{took:?}");
        // And not longer than the time left.
        let (_, _, took) = race(&dialer, &[one, two], Duration::from_secs(3)).await;
        assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(4), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_others_are_closed_and_their_permits_given_back() {
        let (port, _listener) = Port::open().await;
        let open = IpAddr::from([127, 0, 0, 1]);
        let (silent, _queue) = port.silent(2);
        let limits = ConnectionLimits::new(MaxConnections { per_host: 1, per_domain: 9, in_all: 2 });
        let dialer = Dialer { limits, ..port.dialer() };
        for _ in 0..3 {
            let (won, ..) = race(&dialer, &[silent, open], LONG).await;
            assert_eq!(won.first.unwrap().0, open);
        }
        // While one is open, another waits in vain.
        let (won, ..) = race(&dialer, &[open], LONG).await;
        let (lost, ..) = race(&dialer, &[open], LONG).await;
        assert!(matches!(lost.failed[0], (_, Reason::Busy(_))), "{lost:?}");
        drop(won);
        assert!(race(&dialer, &[open], LONG).await.0.first.is_some());
    }
}
