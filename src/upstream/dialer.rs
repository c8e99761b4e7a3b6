//! From the addresses of an exchange to one TCP connection: the first that answers (RFC 8305 §5).
//!
//! Only connecting is a race. What comes after it, greeting and TLS, is said to one address at a time: a remote that is
//! slow to greet is no reason to open sessions with all its neighbours.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::time::Instant;

use super::caps::{Caps, DomainPermit, Permits};
use super::order::within;
use super::pool::{Identity, Pool};
use super::ready::Ready;
use super::tcp::{Source, Tcp};
use super::wishes::Wish;
use crate::refusal::Reason;
use crate::trace::{Trace, What};

/// How to connect, wherever to.
#[derive(Debug)]
pub struct Dialer {
    /// The port.
    pub port: u16,
    /// How long an address has before the next one is dialled beside it.
    pub head_start: Duration,
    /// How long one address has in all.
    pub limit: Duration,
    /// Where to connect from.
    pub source: Source,
    /// How many connections there may be.
    pub caps: Caps,
    /// Those that wait for the next mail.
    pub pool: Arc<Pool>,
}

/// For whom to connect, and until when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Errand<'a> {
    pub(super) domain: Option<&'a DomainPermit>,
    /// What a session has to be that will do as well, but for its address.
    pub(super) identity: Option<&'a Identity>,
    pub(super) until: Instant,
    pub(super) trace: &'a Trace,
}

/// How a race ended. Addresses that were neither first nor failed may be dialled again.
#[derive(Debug, Default)]
pub(super) struct Race {
    /// These failed, in that order.
    pub(super) failed: Vec<(IpAddr, Reason)>,
    /// This one answered.
    pub(super) first: Option<(IpAddr, Won)>,
}

/// What a race was won by.
#[derive(Debug)]
pub(super) enum Won {
    /// A new connection.
    Connection(Tcp),
    /// A session that came free while others had all the connections there may be.
    Session(Box<Ready>),
}

impl Dialer {
    /// Dials the addresses one after the other, each with its head start, and takes out of the list those that are
    /// settled. The other connections are closed.
    pub(super) async fn race(&self, addresses: &mut VecDeque<IpAddr>, errand: Errand<'_>) -> Race {
        let mut race = Race::default();
        let mut waiting = addresses.iter().copied();
        let mut under_way = Vec::new();
        while race.first.is_none() {
            let next = waiting.next();
            under_way
                .extend(next.map(|address| Box::pin(async move { (address, self.compete(address, errand).await) })));
            if under_way.is_empty() {
                break;
            }
            // Without a next one there is nobody to give a head start to.
            let head_start = if waiting.len() > 0 { self.head_start } else { Duration::MAX };
            let ended = tokio::time::timeout(head_start, select_all(under_way.iter_mut())).await;
            let Ok((ended, place)) = ended.map(|(ended, place, _)| (ended, place)) else { continue };
            drop(under_way.swap_remove(place));
            match ended {
                (address, Ok(won)) => race.first = Some((address, won)),
                // RFC 8305 §5: at once, if this one has failed.
                (address, Err(reason)) => race.failed.push((address, reason)),
            }
        }
        addresses.retain(|address| !race.settled(*address));
        race
    }

    /// Dials one address. A failure is noted here; how a connection goes on is for whoever greets.
    pub(super) async fn dial(&self, address: IpAddr, errand: Errand<'_>) -> Result<Tcp, Reason> {
        noted(address, errand, async {
            let wish = self.caps.full(address).map(|cap| Wish::new(&self.pool, cap, address, None));
            wish.iter().for_each(Wish::make_room);
            let permits = self.permits(address, errand).await?;
            drop(wish);
            self.connect(address, permits, errand).await
        })
        .await
    }

    /// Dials one address as soon as there is room, unless a session comes free before.
    async fn compete(&self, address: IpAddr, errand: Errand<'_>) -> Result<Won, Reason> {
        noted(address, errand, async {
            let Some(cap) = self.caps.full(address) else {
                let permits = self.permits(address, errand).await?;
                return self.connect(address, permits, errand).await.map(Won::Connection);
            };
            let identity = errand.identity.map(|identity| identity.at(address, self.source));
            let mut wish = Wish::new(&self.pool, cap, address, identity.clone());
            // One may have come to wait in between.
            if let Some(ready) = identity.and_then(|identity| self.pool.take(&identity)) {
                return Ok(Won::Session(Box::new(ready)));
            }
            wish.make_room();
            tokio::select! {
                biased;
                ready = wish.inherited() => Ok(Won::Session(Box::new(ready))),
                permits = self.permits(address, errand) => {
                    drop(wish);
                    self.connect(address, permits?, errand).await.map(Won::Connection)
                }
            }
        })
        .await
    }

    async fn permits(&self, address: IpAddr, errand: Errand<'_>) -> Result<Permits, Reason> {
        self.caps.connection(address, errand.domain, errand.until).await.map_err(Reason::Busy)
    }

    async fn connect(&self, address: IpAddr, permits: Permits, errand: Errand<'_>) -> Result<Tcp, Reason> {
        let limit = within(self.limit, errand.until.saturating_duration_since(Instant::now()));
        let tcp = Tcp::connect(SocketAddr::new(address, self.port), self.source, limit).await?;
        Ok(tcp.holding(permits))
    }
}

/// Connects, and notes a failure.
async fn noted<T>(
    address: IpAddr,
    errand: Errand<'_>,
    connecting: impl Future<Output = Result<T, Reason>>,
) -> Result<T, Reason> {
    let began = Instant::now();
    let connected = connecting.await;
    if let Err(reason) = &connected {
        errand.trace.since(began, (What::Connect(reason.view().label.as_str()), format_args!("[{address}]: {reason}")));
    }
    connected
}

impl Race {
    fn settled(&self, address: IpAddr) -> bool {
        self.failed
            .iter()
            .map(|(failed, _)| failed)
            .chain(self.first.iter().map(|(first, _)| first))
            .any(|settled| *settled == address)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use socket2::{Domain, SockAddr, Socket, Type};
    use tokio::net::TcpListener;

    use super::*;
    use crate::name::Name;
    use crate::refusal::Stage;
    use crate::upstream::caps::Most;
    use crate::upstream::pool::Bounds;

    const HEAD_START: Duration = Duration::from_millis(250);

    /// Loopback addresses of one port.
    struct Port(u16);

    impl Port {
        /// Opens it on the first address, where something listens then.
        async fn open() -> (Self, TcpListener) {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            (Self(listener.local_addr().unwrap().port()), listener)
        }

        /// An address that does not answer: nobody accepts, and no connection more fits into its queue.
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
                caps: Caps::new(Most { per_host: 9, per_domain: 9, in_all: 9 }),
                pool: Pool::new(Bounds { in_all: 0, per_host: 0, idle: HEAD_START, age: HEAD_START, mails: 1 }),
            }
        }
    }

    async fn race(dialer: &Dialer, addresses: &[IpAddr], time: Duration) -> (Race, Vec<IpAddr>, Duration) {
        let domain = dialer.caps.domain(&Name::parse("example").unwrap()).await.unwrap();
        let mut list: VecDeque<_> = addresses.iter().copied().collect();
        let began = Instant::now();
        let trace = Trace::default();
        let errand = Errand { domain: Some(&domain), identity: None, until: began + time, trace: &trace };
        let race = dialer.race(&mut list, errand).await;
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
        // At once, and nobody else is bothered.
        let (race1, left, took) = race(&dialer, &[open, refusing], LONG).await;
        assert_eq!((race1.first.unwrap().0, race1.failed.len(), left, took), (open, 0, vec![refusing], Duration::ZERO));
        // A silent one has its head start, and is left to be dialled again.
        let (race2, left, took) = race(&dialer, &[silent, open], LONG).await;
        assert_eq!((race2.first.unwrap().0, race2.failed.len(), left), (open, 0, vec![silent]));
        assert!(took >= HEAD_START && took < HEAD_START * 2, "{took:?}");
        // One that refuses has none.
        let (race3, left, took) = race(&dialer, &[refusing, open], LONG).await;
        assert_eq!((race3.first.unwrap().0, race3.failed.len(), left), (open, 1, vec![]));
        assert!(matches!(race3.failed[0], (address, Reason::Connect(_)) if address == refusing));
        assert!(took < HEAD_START, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_answers() {
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
        // And not longer than there is time.
        let (_, _, took) = race(&dialer, &[one, two], Duration::from_secs(3)).await;
        assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(4), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_others_are_closed_and_their_permits_given_back() {
        let (port, _listener) = Port::open().await;
        let open = IpAddr::from([127, 0, 0, 1]);
        let (silent, _queue) = port.silent(2);
        let caps = Caps::new(Most { per_host: 1, per_domain: 9, in_all: 2 });
        let dialer = Dialer { caps, ..port.dialer() };
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
