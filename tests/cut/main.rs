//! No queue, no lie: the client, danelaw and the remote are cut at every step and at every octet of a small message,
//! danelaw is killed, and each time the same has to hold (rows L1, L2, L6, L12, L13, J9, A-100 to A-103):
//!
//! * the client hears 2xx only if the remote has said 2xx, so that the message is there;
//! * what is at the remote is whole;
//! * there is one copy, unless the remote's answer was lost on its way to the client, and the client sends again.
//!
//! `DANELAW_TESTS=long` tries every octet both ways, and kills more often: over 10,000 runs in all.

// A test that cannot go on may panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../lab/mod.rs"]
mod lab;
mod attempt;
mod kill;
mod relay;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use attempt::{Attempt, How, attempt};
use danelaw::session::{self, Caller, Origin};
use danelaw::smtp::dialogue::Service;
use lab::certs::Identity;
use lab::mx::{Mx, Seen};
use lab::{Lab, SOON, Scenario};
use relay::{Relay, Way};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Where danelaw finds the exchange: the relay that cuts.
const EXCHANGE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));

/// Whether every octet is tried, or one in so many.
fn stride(short: usize) -> usize {
    if long() { 1 } else { short }
}

pub(crate) fn long() -> bool {
    std::env::var("DANELAW_TESTS").is_ok_and(|which| which == "long")
}

/// The road with a relay before the exchange, and what may be cut.
struct Road {
    lab: Lab,
    relay: Relay,
    remote: Arc<Seen>,
    runs: AtomicUsize,
}

/// What happens to danelaw's own task.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Lives,
    /// It is dropped once it has been polled so often.
    Dropped(usize),
}

impl Road {
    async fn open() -> Self {
        let identity = Identity::for_name("mx1.example.test");
        let record = identity.record("3 1 1");
        let mut port = 0;
        let scenario = Scenario::with_domain(|tree, at| {
            port = at;
            let tree = tree.mx("example.test", 10, "mx1.example.test").a("mx1.example.test", &EXCHANGE.to_string());
            tree.tlsa("mx1.example.test", at, &record)
        });
        // What the cuts do to one mail says nothing about the next.
        let lab = scenario.set("remote.failed_hosts_for = '0s'").start().await;
        let behind = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 78), port));
        let remote = Mx::new(identity).start(behind, "mx1.example.test").await;
        let relay = Relay::start(SocketAddr::from((EXCHANGE, port)), behind).await;
        Self { lab, relay, remote, runs: AtomicUsize::new(0) }
    }

    /// One try of the client's, cut as asked; and whether danelaw was done before its own cut.
    async fn attempt(&self, id: &str, cut: Option<(usize, How)>, fate: Fate) -> (Attempt, bool) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = self.lab.shared.clone();
        let served = tokio::spawn(async move {
            let (stream, client) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let caller = Caller { origin: Origin::Address(client.ip()), service: Service::Smtp, dialled: None };
            let serve = session::serve(shared, stream, caller, CancellationToken::new());
            let polls = match fate {
                Fate::Lives => usize::MAX,
                Fate::Dropped(polls) => polls,
            };
            Polled { future: Box::pin(serve), polls }.await
        });
        let heard = attempt(address, id, cut).await;
        let done = tokio::time::timeout(SOON, served).await.expect("an end of the session").unwrap();
        (heard, done)
    }

    /// A message whose first try is cut somewhere. Returns whether it really was.
    async fn run(&self, what: &str, cut: Option<(usize, How)>, fate: Fate) -> bool {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let id = format!("{run}");
        let (first, done) = self.attempt(&id, cut, fate).await;
        let was_cut = self.relay.heal() || !done || cut.is_some();
        self.settle().await;
        let stored = self.stored(what, &id);
        assert!(stored <= 1, "{what}: {stored} copies after one try");
        assert!(!first.delivered() || stored == 1, "{what}: the client heard {first:?}, and the remote has nothing");
        if !was_cut {
            assert!(first.delivered(), "{what}: nothing was cut, and the client heard {first:?}");
        }
        if !first.delivered() {
            let (second, _) = self.attempt(&id, None, Fate::Lives).await;
            self.settle().await;
            assert!(second.delivered(), "{what}: the second try ended with {second:?}");
            assert_eq!(self.stored(what, &id), 1, "{what}: the second try");
        }
        was_cut
    }

    /// The copies of a message that have come to the remote, each of them whole.
    fn stored(&self, what: &str, id: &str) -> usize {
        let messages = self.remote.take_messages();
        for message in &messages {
            attempt::assert_whole(message, id, what);
        }
        messages.len()
    }

    /// Waits until the remote has seen the end of every connection.
    async fn settle(&self) {
        let settled = async {
            while self.relay.open() > 0 || self.remote.open() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(SOON, settled).await.expect("the end of every connection");
    }
}

/// A future that is dropped after so many polls; whether it came to its end before.
struct Polled<F> {
    future: Pin<Box<F>>,
    polls: usize,
}

impl<F: Future> Future for Polled<F> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        if self.polls == 0 {
            return Poll::Ready(false);
        }
        self.polls -= 1;
        self.future.as_mut().poll(cx).map(|_| true)
    }
}

/// L2, L13, A-86, A-103: the client goes away, politely or not, at every octet of what it has to say.
#[tokio::test]
async fn the_client_goes_away() {
    let road = Road::open().await;
    for how in [How::Fin, How::Reset] {
        for octet in (0..=attempt::octets("0000")).step_by(stride(3)) {
            road.run(&format!("client {how:?} at {octet}"), Some((octet, how)), Fate::Lives).await;
        }
    }
}

/// L6, L12, A-66, A-100: the way to the remote is cut at every octet, TLS handshake and all.
async fn the_remote_is_cut(way: Way) {
    let road = Road::open().await;
    for how in [How::Fin, How::Reset] {
        let mut octet = 0;
        loop {
            road.relay.cut(way, octet, how);
            if !road.run(&format!("remote, {way:?} {how:?} at {octet}"), None, Fate::Lives).await {
                break;
            }
            octet += stride(13);
        }
        assert!(octet > 600, "the way was cut up to octet {octet} only");
    }
}

#[tokio::test]
async fn the_way_there_is_cut() {
    the_remote_is_cut(Way::There).await;
}

#[tokio::test]
async fn the_way_back_is_cut() {
    the_remote_is_cut(Way::Back).await;
}

/// L1, A-102, A-103: danelaw's task ends at every point where it waits.
#[tokio::test]
async fn danelaw_is_cut() {
    let road = Road::open().await;
    let mut most = 0;
    for _ in 0..if long() { 20 } else { 3 } {
        let mut polls = 0;
        while road.run(&format!("danelaw at poll {polls}"), None, Fate::Dropped(polls)).await {
            polls += 1;
        }
        most = most.max(polls);
    }
    assert!(most > 10, "danelaw was done after {most} polls");
}

/// All of it at once, at random; what was tried is in the message of a failure.
#[tokio::test]
async fn anybody_is_cut() {
    let road = Road::open().await;
    for _ in 0..if long() { 4000 } else { 150 } {
        let how = || if fastrand::bool() { How::Fin } else { How::Reset };
        let client = fastrand::bool().then(|| (fastrand::usize(..attempt::octets("0000")), how()));
        let remote = fastrand::bool().then(|| {
            let way = if fastrand::bool() { Way::There } else { Way::Back };
            (way, fastrand::usize(..4000), how())
        });
        if let Some((way, octet, how)) = remote {
            road.relay.cut(way, octet, how);
        }
        let fate = if fastrand::bool() { Fate::Lives } else { Fate::Dropped(fastrand::usize(..40)) };
        road.run(&format!("client {client:?}, remote {remote:?}, danelaw {fate:?}"), client, fate).await;
    }
}
