//! danelaw ends between the outcomes and the reply: its task is dropped, or its process is killed.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as BlockingListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use danelaw::config::Address;
use danelaw::session::{self, Caller, Origin};
use danelaw::smtp::dialogue::Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::lab::certs::Identity;
use crate::lab::client::Client;
use crate::lab::dns::{DnsLab, Tree};
use crate::lab::mx::{Act, Mx, Seen};
use crate::lab::{MESSAGE, SOON, Scenario, wait_for};
use crate::queue::{Kind, Queue};
use crate::{copies, fan_out};

const TO: [&str; 2] = ["b@example.test", "c@last.example.test"];

/// Long enough for what was answered to be on the disk.
const RECORDED: Duration = Duration::from_millis(500);

fn queue(kind: Kind) -> Queue {
    Queue::new(kind, &TO.map(str::to_owned))
}

/// The message up to its end; nothing is waited for after that.
async fn half(address: &Address) -> Client {
    let mut client = Client::connect(address).await;
    if client.command("EHLO client.test").await.starts_with('5') {
        client.command("LHLO client.test").await;
    }
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
    for kind in [Kind::Postfix, Kind::Nullmailer] {
        let folder = tempfile::tempdir().unwrap();
        let lab = Scenario::new()
            .and_domain("last.example.test", |mx| mx.first_ends.lock().unwrap().push_back(Act::Hang))
            .set(&fan_out(&folder.path().join("ledger")))
            .start()
            .await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let shared = lab.shared.clone();
        let served = tokio::spawn(async move {
            let (stream, client) = listener.accept().await.unwrap();
            let caller = Caller { origin: Origin::Address(client.ip()), service: Service::FanOut, dialled: None };
            session::serve(shared, stream, caller, CancellationToken::new()).await;
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
        // Nobody will ever know whether the second one had taken it.
        assert_eq!(copies(&lab), [1, 2], "{queue:?}");
    }
}

/// The session is dropped at every point where it waits: nobody goes without, and whose answer was there has one copy.
#[tokio::test]
async fn the_task_is_dropped_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Scenario::new()
        .and_domain("last.example.test", |_| {})
        .set(&fan_out(&folder.path().join("ledger")))
        .start()
        .await;
    for micros in (0..60_000).step_by(1500) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let shared = lab.shared.clone();
        let served = tokio::spawn(async move {
            let (stream, client) = listener.accept().await.unwrap();
            let caller = Caller { origin: Origin::Address(client.ip()), service: Service::FanOut, dialled: None };
            let serve = session::serve(shared, stream, caller, CancellationToken::new());
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

async fn danelaw(dns: &DnsLab, (listen, port): (SocketAddr, u16), kind: &str, ledger: &Path) -> Child {
    let settings = [
        format!("listener=[{{address=\"{listen}\",{kind}}}]"),
        "timeouts.grace=\"1s\"".to_owned(),
        format!("ledger.path=\"{}\"", ledger.display()),
        format!("dns.servers=[\"{}\"]", dns.addr),
        format!("dns.trust_anchor=\"{}\"", Path::new(&dns.anchor_file).display()),
        format!("remote.port={port}"),
        "remote.allow_reserved=[\"127.0.0.0/8\"]".to_owned(),
        "log.filter=\"error\"".to_owned(),
        "hostname=\"danelaw.test\"".to_owned(),
    ];
    let child = Command::new(env!("CARGO_BIN_EXE_danelaw"))
        .args(settings.iter().flat_map(|setting| ["--set", setting]))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let up = async {
        while TcpStream::connect(listen).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, up).await.expect("danelaw to listen");
    child
}

fn free_port() -> u16 {
    BlockingListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Two remotes, of which the last one keeps its first answer to itself, and danelaw's address.
struct Stage {
    dns: DnsLab,
    seen: [Arc<Seen>; 2],
    ports: (SocketAddr, u16),
}

impl Stage {
    async fn new() -> Self {
        let ids = [Identity::for_name("mx.example.test"), Identity::for_name("mx.last.example.test")];
        let (port, listen) = (free_port(), SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        let dns = Tree::new()
            .secure("example.test")
            .mx("example.test", 10, "mx.example.test")
            .a("mx.example.test", "127.0.0.81")
            .tlsa("mx.example.test", port, &ids[0].record("3 1 1"))
            .mx("last.example.test", 10, "mx.last.example.test")
            .a("mx.last.example.test", "127.0.0.82")
            .tlsa("mx.last.example.test", port, &ids[1].record("3 1 1"))
            .start()
            .await;
        let [first, last] = ids.map(Mx::new);
        last.first_ends.lock().unwrap().push_back(Act::Hang);
        let first = first.start(SocketAddr::from((Ipv4Addr::new(127, 0, 0, 81), port)), "mx").await;
        let last = last.start(SocketAddr::from((Ipv4Addr::new(127, 0, 0, 82), port)), "mx.last").await;
        Self { dns, seen: [first, last], ports: (listen, port) }
    }

    fn copies(&self) -> [usize; 2] {
        [0, 1].map(|place| self.seen[place].messages().len())
    }
}

/// L1: killed by SIGKILL when one remote has answered and the other has not; the file is opened again.
#[tokio::test]
async fn the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, fan_out) = (folder.path().join("ledger"), "recipients=\"fan-out\"");
    let stage = Stage::new().await;
    let mut killed = danelaw(&stage.dns, stage.ports, fan_out, &ledger).await;
    let address = Address::Tcp(stage.ports.0);
    let client = half(&address).await;
    wait_for(|| stage.copies() == [1, 1]).await;
    tokio::time::sleep(RECORDED).await;
    killed.kill().await.unwrap();
    drop(client);
    let _danelaw = danelaw(&stage.dns, stage.ports, fan_out, &ledger).await;
    let mut queue = queue(Kind::Postfix);
    for _ in 0..4 {
        queue.attempt(&address).await;
    }
    assert!(queue.is_empty() && queue.bounced.is_empty(), "{queue:?}");
    assert_eq!(stage.copies(), [1, 2], "{queue:?}");
}

/// L1: the grace period ends before the second answer comes, and the client has not said that it heard the first one: that
/// is on the disk when the process has ended, without fan-out too.
#[tokio::test]
async fn the_process_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, lmtp) = (folder.path().join("ledger"), "kind=\"lmtp\"");
    let stage = Stage::new().await;
    let mut stopped = danelaw(&stage.dns, stage.ports, lmtp, &ledger).await;
    let address = Address::Tcp(stage.ports.0);
    let mut client = half(&address).await;
    assert!(client.reply().await.starts_with("250 "));
    let pid = stopped.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    stopped.wait().await.unwrap();
    drop(client);
    let _danelaw = danelaw(&stage.dns, stage.ports, lmtp, &ledger).await;
    let mut client = half(&address).await;
    for to in TO {
        let reply = client.reply().await;
        assert!(reply.starts_with("250 "), "{to}: {reply}");
    }
    assert_eq!(stage.copies(), [1, 2]);
}
