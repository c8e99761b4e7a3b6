//! danelaw ends between the outcomes and the reply: its task is dropped, or its process is killed.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use danelaw::admin::client::ask;
use danelaw::config::Address;
use danelaw::session::{self, Origin, Stop};
use danelaw::transaction::dialogue::Service;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::queue::{Kind, Queue};
use super::{MESSAGE, copies, fan_out};
use crate::lab::certs::Identity;
use crate::lab::client::Client;
use crate::lab::dns::{DnsLab, Tree};
use crate::lab::mx::{Act, Mx, Seen};
use crate::lab::{SOON, Scenario, free_port, listens, wait_for};

const TO: [&str; 2] = ["b@example.test", "c@last.example.test"];

/// Long enough for the recorded answers to be on the disk.
const RECORDED: Duration = Duration::from_millis(500);

fn queue(kind: Kind) -> Queue {
    Queue::new(kind, &TO.map(str::to_owned))
}

/// Sends the message up to its end; the client waits for no reply after that.
async fn half(address: &Address) -> Client {
    let mut client = Client::connect(address).await;
    client.command("EHLO client.test").await;
    client.command("MAIL FROM:<a@client.test>").await;
    for to in TO {
        assert!(client.command(&format!("RCPT TO:<{to}>")).await.starts_with("250 "));
    }
    assert!(client.command("DATA").await.starts_with("354 "));
    let stuffed = String::from_utf8_lossy(MESSAGE).replace("\r\n.", "\r\n..");
    client.write(format!("{stuffed}.\r\n").as_bytes()).await;
    client
}

#[tokio::test]
async fn the_task_is_dropped() {
    for kind in [Kind::Chunks, Kind::Nullmailer] {
        let folder = tempfile::tempdir().unwrap();
        let lab = Scenario::new()
            .and_domain("last.example.test", |mx| mx.first_ends.lock().unwrap().push_back(Act::Hang))
            .set(&fan_out(&folder.path().join("store")))
            .start()
            .await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let shared = lab.shared.clone();
        let served = tokio::spawn(async move {
            let (stream, client) = listener.accept().await.unwrap();
            let caller = crate::lab::caller(Origin::Address(client.ip()), Service::FanOut);
            session::serve(shared, stream, caller, Stop::default()).await;
        });
        let client = half(&address).await;
        wait_for(|| copies(&lab) == [1, 1]).await;
        tokio::time::sleep(RECORDED).await;
        served.abort();
        let _ = served.await;
        drop(client);
        let mut queue = queue(kind);
        for _ in 0..4 {
            queue.attempt(&lab.address).await;
        }
        assert!(queue.is_empty() && queue.bounced.is_empty(), "{queue:?}");
        // It cannot be known whether the second one had taken it.
        assert_eq!(copies(&lab), [1, 2], "{queue:?}");
    }
}

/// The session is dropped at every point where it waits: every recipient gets the message, and a recipient whose answer
/// had come gets one copy.
#[tokio::test]
async fn the_task_is_dropped_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Scenario::new()
        .and_domain("last.example.test", |_| {})
        .set(&fan_out(&folder.path().join("store")))
        .start()
        .await;
    for micros in (0..60_000).step_by(1500) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let shared = lab.shared.clone();
        let served = tokio::spawn(async move {
            let (stream, client) = listener.accept().await.unwrap();
            let caller = crate::lab::caller(Origin::Address(client.ip()), Service::FanOut);
            let serve = session::serve(shared, stream, caller, Stop::default());
            let _ = tokio::time::timeout(Duration::from_micros(micros), serve).await;
        });
        let client = tokio::spawn(async move { half(&address).await });
        served.await.unwrap();
        client.abort();
        let _ = client.await;
        let mut queue = queue(Kind::Msmtp);
        for _ in 0..50 {
            queue.attempt(&lab.address).await;
            if queue.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(queue.is_empty() && queue.bounced.is_empty(), "after {micros}us: {queue:?}");
        for (seen, to) in lab.seen.iter().zip(TO) {
            let copies = seen.take_messages().len();
            assert!((1..=2).contains(&copies), "after {micros}us: {copies} copies for {to}");
        }
    }
}

/// The log has the remote's reply, even if the session is dropped before the client has heard it.
#[tokio::test]
async fn the_account_of_a_cut_session_is_true() {
    let lab = Scenario::new().start().await;
    // No reply fits into this buffer.
    let (client, ours) = tokio::io::duplex(16);
    let caller = crate::lab::caller(Origin::UnixSocket, Service::Smtp);
    let served = tokio::spawn(session::serve(lab.shared.clone(), ours, caller, Stop::default()));
    let (answers, mut commands) = tokio::io::split(client);
    let mut answers = BufReader::new(answers).lines();
    for line in ["HELO c", "MAIL FROM:<a@client.test>", "RCPT TO:<b@example.test>", "DATA"] {
        answers.next_line().await.unwrap();
        commands.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    }
    assert!(answers.next_line().await.unwrap().unwrap().starts_with("354 "));
    commands.write_all(b"Subject: x\r\n\r\nbody\r\n.\r\n").await.unwrap();
    wait_for(|| copies(&lab) == [1]).await;
    tokio::time::sleep(RECORDED).await;
    served.abort();
    let _ = served.await;
    let metrics = ask(&lab.admin().await, "/metrics").await.unwrap().1;
    assert!(metrics.contains("danelaw_deliveries_total{verdict=\"delivered\""), "{metrics}");
}

async fn danelaw(dns: &DnsLab, (listen, port): (SocketAddr, u16), store: &Path) -> Child {
    let settings = [
        format!("listener=[{{address=\"{listen}\",recipients=\"fan-out\"}}]"),
        format!("store.path=\"{}\"", store.display()),
        "timeouts.grace=\"1s\"".to_owned(),
        "hostname=\"danelaw.test\"".to_owned(),
    ];
    // A file that would grow too large causes an error, and does not end the process.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_danelaw")])
        .args(dns.program_settings(port).iter().chain(&settings).flat_map(|setting| ["--set", setting]))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    listens(listen).await;
    child
}

/// A danelaw, and the two domains that it sends to.
struct TwoDomains {
    dns: DnsLab,
    port: u16,
    listen: SocketAddr,
    first: Arc<Seen>,
    last: Arc<Seen>,
    store: tempfile::TempDir,
}

impl TwoDomains {
    /// With this action of the second one at the end of its first message.
    async fn new(network: u8, end: Act) -> Self {
        let ids = [Identity::for_name("mx.example.test"), Identity::for_name("mx.last.example.test")];
        let (port, listen) = (free_port(), SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        let at = |host| Ipv4Addr::new(127, 0, network, host);
        let dns = Tree::new()
            .secure("example.test")
            .mx("example.test", 10, "mx.example.test")
            .a("mx.example.test", &at(81).to_string())
            .tlsa("mx.example.test", port, &ids[0].record("3 1 1"))
            .mx("last.example.test", 10, "mx.last.example.test")
            .a("mx.last.example.test", &at(82).to_string())
            .tlsa("mx.last.example.test", port, &ids[1].record("3 1 1"))
            .start()
            .await;
        let [first, last] = ids.map(Mx::new);
        last.first_ends.lock().unwrap().push_back(end);
        let first = first.start(SocketAddr::from((at(81), port)), "mx").await;
        let last = last.start(SocketAddr::from((at(82), port)), "mx.last").await;
        Self { dns, port, listen, first, last, store: tempfile::tempdir().unwrap() }
    }

    /// With a danelaw and its client, when one remote has answered, the other has not, and the outcome is recorded.
    async fn half_answered(network: u8) -> (Self, Child, Client) {
        let two_domains = Self::new(network, Act::Hang).await;
        let danelaw = two_domains.danelaw().await;
        let client = half(&Address::Tcp(two_domains.listen)).await;
        wait_for(|| two_domains.copies() == (1, 1)).await;
        tokio::time::sleep(RECORDED).await;
        (two_domains, danelaw, client)
    }

    async fn danelaw(&self) -> Child {
        danelaw(&self.dns, (self.listen, self.port), &self.store.path().join("store")).await
    }

    fn copies(&self) -> (usize, usize) {
        (self.first.messages().len(), self.last.messages().len())
    }
}

/// L1: killed by SIGKILL when one remote has answered and the other has not; the file is opened again.
#[tokio::test]
async fn the_process_is_killed() {
    let (two_domains, mut killed, client) = TwoDomains::half_answered(0).await;
    let address = Address::Tcp(two_domains.listen);
    killed.kill().await.unwrap();
    drop(client);
    let _danelaw = two_domains.danelaw().await;
    let mut queue = queue(Kind::Nullmailer);
    for _ in 0..4 {
        queue.attempt(&address).await;
    }
    assert!(queue.is_empty() && queue.bounced.is_empty(), "{queue:?}");
    assert_eq!(two_domains.copies(), (1, 2), "{queue:?}");
}

/// Stopped, with a session left when the grace period is over: the record is on the disk before the process ends.
#[tokio::test]
async fn the_grace_period_ends() {
    let (two_domains, mut stopped, client) = TwoDomains::half_answered(1).await;
    let address = Address::Tcp(two_domains.listen);
    let pid = stopped.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    assert!(tokio::time::timeout(SOON, stopped.wait()).await.unwrap().unwrap().success());
    drop(client);
    let _danelaw = two_domains.danelaw().await;
    let mut queue = queue(Kind::Nullmailer);
    queue.attempt(&address).await;
    assert!(queue.is_empty() && queue.bounced.is_empty(), "{queue:?}");
    assert_eq!(two_domains.copies(), (1, 2));
}

/// Limits the files that the process writes to this number of octets.
async fn largest_file(danelaw: &Child, octets: &str) {
    let limit = ["--pid", &danelaw.id().unwrap().to_string(), &format!("--fsize={octets}:")].map(str::to_owned);
    assert!(Command::new("prlimit").args(limit).status().await.unwrap().success());
}

/// A record that cannot be deleted counts as deleted: the client hears the answer, and the same message, sent
/// once more, is delivered.
#[tokio::test]
async fn the_disk_fails_when_a_record_is_taken() {
    let two_domains = TwoDomains::new(3, Act::Say("451 4.3.0 not now\r\n".to_owned())).await;
    let danelaw = two_domains.danelaw().await;
    let address = Address::Tcp(two_domains.listen);
    let mut queue = queue(Kind::Nullmailer);
    queue.attempt(&address).await;
    assert!(!queue.is_empty());
    largest_file(&danelaw, "1").await;
    queue.attempt(&address).await;
    assert!(queue.is_empty() && queue.bounced.is_empty(), "{queue:?}");
    assert_eq!(two_domains.copies(), (1, 2));
    let mut queue = self::queue(Kind::Nullmailer);
    queue.attempt(&address).await;
    assert!(queue.is_empty() && queue.bounced.is_empty(), "{queue:?}");
    assert_eq!(two_domains.copies(), (2, 3));
}

/// The disk is full when the last outcome comes, and has room again before the client goes on: the earlier outcomes on
/// the disk are still known.
#[tokio::test]
async fn the_disk_is_full_for_a_moment() {
    let two_domains =
        TwoDomains::new(2, Act::Drip("451 4.3.0 not now\r\n".to_owned(), Duration::from_millis(60))).await;
    let danelaw = two_domains.danelaw().await;
    let address = Address::Tcp(two_domains.listen);
    let mut client = half(&address).await;
    wait_for(|| two_domains.copies() == (1, 1)).await;
    tokio::time::sleep(RECORDED).await;
    largest_file(&danelaw, "1").await;
    assert!(client.reply().await.starts_with("451"));
    largest_file(&danelaw, "unlimited").await;
    assert!(client.command("QUIT").await.starts_with("221 "));
    let mut queue = queue(Kind::Nullmailer);
    for _ in 0..4 {
        queue.attempt(&address).await;
    }
    assert!(queue.is_empty() && queue.bounced.is_empty(), "{queue:?}");
    assert_eq!(two_domains.copies(), (1, 2), "{queue:?}");
}
