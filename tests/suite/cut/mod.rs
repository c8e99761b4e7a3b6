//! No queue and no false reply: the client, danelaw and the remote are cut at every step and at every octet of a small
//! message, danelaw is killed, and each time these rules hold (rows L1, L2, L6, L12, L13, J9, A-100 to A-103):
//!
//! * the client hears 2xx only if the remote has said 2xx, so that the message is there;
//! * each message at the remote is whole;
//! * there is one copy for each try that came to its end, and no try makes two.
//!
//! `LONG_TESTS=yes` tries every octet both ways, and kills more often: over 10,000 runs in all.

mod attempt;
mod kill;
mod relay;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use crate::lab::certs::Identity;
use crate::lab::mx::{Mx, Seen, say};
use crate::lab::{Lab, SOON, Scenario, long};
use attempt::{Attempt, By, How, attempt};
use danelaw::session::{self, Origin};
use danelaw::transaction::dialogue::Service;
use relay::{Relay, Way};
use tokio::net::TcpListener;

/// The address at which danelaw finds the exchange: the relay that cuts.
const EXCHANGE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));

/// A step of one tries every octet; the short form of the tests takes this larger step.
fn stride(short: usize) -> usize {
    if long() { 1 } else { short }
}

/// The form of a message: from the client, and to a remote.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Data,
    /// In chunks to one that takes lines.
    BdatToData,
    /// In chunks to a remote that takes chunks.
    Bdat,
    /// The same, and so large that danelaw has to send more than one chunk.
    BigBdat,
}

/// The delivery path with a relay before the exchange, and the points where it may be cut.
struct DeliveryPath {
    by: By,
    lab: Lab,
    relay: Relay,
    remote: Arc<Seen>,
    runs: AtomicUsize,
}

/// The end of danelaw's own task.
#[derive(Clone, Copy, Debug)]
enum TaskEnd {
    Lives,
    /// It is dropped after this number of polls.
    Dropped(usize),
}

impl DeliveryPath {
    async fn open(framing: Framing) -> Self {
        let by = match framing {
            Framing::Data => By::Data,
            Framing::BdatToData | Framing::Bdat => By::Bdat(10),
            Framing::BigBdat => By::Bdat(3 * danelaw::wire::BLOCK),
        };
        let identity = Identity::for_name("mx1.example.test");
        let record = identity.record("3 1 1");
        let mut port = 0;
        let scenario = Scenario::with_domain(|tree, at| {
            port = at;
            let tree = tree.mx("example.test", 10, "mx1.example.test").a("mx1.example.test", &EXCHANGE.to_string());
            tree.tlsa("mx1.example.test", at, &record)
        });
        // The failures of one mail must not affect the next.
        let lab = scenario.set("remote.failed_hosts_for = '0s'").start().await;
        let behind = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 78), port));
        let mut mx = Mx::new(identity);
        match framing {
            Framing::Data | Framing::BdatToData => {}
            Framing::Bdat | Framing::BigBdat => {
                mx.ehlo_under_tls = say("250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING");
            }
        }
        let remote = mx.start(behind, "mx1.example.test").await;
        let relay = Relay::start(SocketAddr::from((EXCHANGE, port)), behind).await;
        Self { by, lab, relay, remote, runs: AtomicUsize::new(0) }
    }

    /// One try of the client, cut as asked; and whether danelaw was done before its own cut.
    async fn attempt(&self, id: &str, cut: Option<(usize, How)>, task_end: TaskEnd) -> (Attempt, bool) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = self.lab.shared.clone();
        let served = tokio::spawn(async move {
            let (stream, client) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let caller = crate::lab::caller(Origin::Address(client.ip()), Service::Smtp);
            let serve = session::serve(shared, stream, caller, session::Stop::default());
            let polls = match task_end {
                TaskEnd::Lives => usize::MAX,
                TaskEnd::Dropped(polls) => polls,
            };
            Polled { future: Box::pin(serve), polls }.await
        });
        let heard = attempt(address, (self.by, id), cut).await;
        let done = tokio::time::timeout(SOON, served).await.expect("an end of the session").unwrap();
        (heard, done)
    }

    /// A message whose first try is cut at this place. Returns whether the cut came before the end.
    async fn run(&self, what: &str, cut: Option<(usize, How)>, task_end: TaskEnd) -> bool {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let id = format!("{run}");
        let (first, done) = self.attempt(&id, cut, task_end).await;
        let was_cut = self.relay.heal() || !done || cut.is_some();
        self.wait_until_closed().await;
        let stored = self.stored(what, &id);
        assert!(stored <= 1, "{what}: {stored} copies after one try");
        assert!(!first.delivered() || stored == 1, "{what}: the client heard {first:?}, and the remote has no copy");
        if !was_cut {
            assert!(first.delivered(), "{what}: there was no cut, and the client heard {first:?}");
        }
        if !first.delivered() {
            let (second, _) = self.attempt(&id, None, TaskEnd::Lives).await;
            self.wait_until_closed().await;
            assert!(second.delivered(), "{what}: the second try ended with {second:?}");
            // RFC 1047: a client that has lost the answer sends the message again, and it is delivered like the first one.
            assert_eq!(self.stored(what, &id), 1, "{what}: copies by the second try, {stored} by the first one");
        }
        was_cut
    }

    /// The copies of a message that have come to the remote, each of them whole.
    fn stored(&self, what: &str, id: &str) -> usize {
        let messages = self.remote.take_messages();
        for message in &messages {
            attempt::assert_whole(message, (self.by, id), what);
        }
        messages.len()
    }

    /// Waits until the remote has seen the end of every connection.
    async fn wait_until_closed(&self) {
        let closed = async {
            while self.relay.open() > 0 || self.remote.open() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(SOON, closed).await.expect("the end of every connection");
    }
}

/// A future that is dropped after this number of polls; it records whether it came to its end before.
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

/// L2, L13, A-86, A-103: the client disconnects, by FIN or by RST, at every octet that it has to send.
async fn the_client_is_cut(framing: Framing, short: usize) {
    let delivery_path = DeliveryPath::open(framing).await;
    for how in [How::Fin, How::Reset] {
        for octet in (0..=attempt::octets(delivery_path.by, "0000")).step_by(stride(short)) {
            delivery_path
                .run(&format!("client {framing:?} {how:?} at {octet}"), Some((octet, how)), TaskEnd::Lives)
                .await;
        }
    }
}

#[tokio::test]
async fn the_client_goes_away() {
    the_client_is_cut(Framing::Data, 3).await;
}

/// M12, M13: amid a chunk, and between two.
#[tokio::test]
async fn the_client_goes_away_amid_chunks() {
    the_client_is_cut(Framing::BdatToData, 5).await;
    the_client_is_cut(Framing::Bdat, 5).await;
}

/// L6, L12, A-66, A-100: the connection to the remote is cut at every octet, the TLS handshake included.
async fn the_remote_is_cut(framing: Framing, way: Way, short: usize) {
    let delivery_path = DeliveryPath::open(framing).await;
    for how in [How::Fin, How::Reset] {
        let mut octet = 0;
        loop {
            delivery_path.relay.cut(way, octet, how);
            if !delivery_path
                .run(&format!("remote, {framing:?} {way:?} {how:?} at {octet}"), None, TaskEnd::Lives)
                .await
            {
                break;
            }
            octet += stride(short);
        }
        assert!(octet > 600, "the way was cut up to octet {octet} only");
    }
}

#[tokio::test]
async fn the_commands_to_the_remote_are_cut() {
    the_remote_is_cut(Framing::Data, Way::There, 13).await;
}

#[tokio::test]
async fn the_replies_of_the_remote_are_cut() {
    the_remote_is_cut(Framing::Data, Way::Back, 13).await;
}

#[tokio::test]
async fn the_commands_to_the_remote_are_cut_amid_chunks() {
    the_remote_is_cut(Framing::Bdat, Way::There, 17).await;
}

#[tokio::test]
async fn the_replies_of_the_remote_are_cut_amid_chunks() {
    the_remote_is_cut(Framing::Bdat, Way::Back, 17).await;
}

/// L2: the remote may have seen all but the last chunk of a message in several chunks.
#[tokio::test]
async fn a_big_message_in_chunks_is_cut() {
    let delivery_path = DeliveryPath::open(Framing::BigBdat).await;
    let all = attempt::octets(delivery_path.by, "0000");
    // The last turn is short, and so are all turns before the message.
    let places = (0..all).step_by(if long() { 101 } else { 1009 }).chain((all - 60..=all).step_by(stride(6)));
    for (number, octet) in places.enumerate() {
        let how = if number % 2 == 0 { How::Fin } else { How::Reset };
        delivery_path.run(&format!("client {how:?} at {octet}"), Some((octet, how)), TaskEnd::Lives).await;
        delivery_path.relay.cut(Way::There, octet, how);
        delivery_path.run(&format!("remote {how:?} at {octet}"), None, TaskEnd::Lives).await;
    }
}

/// L1, A-102, A-103: danelaw's task ends at every point where it waits.
async fn danelaw_is_dropped(framing: Framing, rounds: usize) {
    let delivery_path = DeliveryPath::open(framing).await;
    let mut most = 0;
    for _ in 0..if long() { 20 } else { rounds } {
        let mut polls = 0;
        while delivery_path.run(&format!("danelaw, {framing:?} at poll {polls}"), None, TaskEnd::Dropped(polls)).await {
            polls += 1;
        }
        most = most.max(polls);
    }
    assert!(most > 10, "danelaw was done after {most} polls");
}

#[tokio::test]
async fn danelaw_is_cut() {
    danelaw_is_dropped(Framing::Data, 3).await;
}

#[tokio::test]
async fn danelaw_is_cut_amid_chunks() {
    danelaw_is_dropped(Framing::Bdat, 1).await;
    danelaw_is_dropped(Framing::BigBdat, 1).await;
}

/// All cuts together, at random; the message of a failure names the cuts.
#[tokio::test]
async fn any_party_is_cut_at_random() {
    for framing in [Framing::Data, Framing::BdatToData, Framing::Bdat] {
        anybody_at_random(framing, if long() { 4000 } else { 60 }).await;
    }
}

async fn anybody_at_random(framing: Framing, runs: usize) {
    let delivery_path = DeliveryPath::open(framing).await;
    for _ in 0..runs {
        let how = || if fastrand::bool() { How::Fin } else { How::Reset };
        let client = fastrand::bool().then(|| (fastrand::usize(..attempt::octets(delivery_path.by, "0000")), how()));
        let remote = fastrand::bool().then(|| {
            let way = if fastrand::bool() { Way::There } else { Way::Back };
            (way, fastrand::usize(..4000), how())
        });
        if let Some((way, octet, how)) = remote {
            delivery_path.relay.cut(way, octet, how);
        }
        let task_end = if fastrand::bool() { TaskEnd::Lives } else { TaskEnd::Dropped(fastrand::usize(..40)) };
        delivery_path
            .run(&format!("{framing:?}: client {client:?}, remote {remote:?}, danelaw {task_end:?}"), client, task_end)
            .await;
    }
}
