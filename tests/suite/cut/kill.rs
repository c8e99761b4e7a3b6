//! danelaw as a process, killed by SIGKILL while several clients are in the middle of their sessions.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::attempt::{Attempt, By, assert_whole, attempt};
use crate::lab::certs::Identity;
use crate::lab::dns::{DnsLab, Tree};
use crate::lab::mx::Mx;
use crate::lab::{SOON, free_port, listens, long};

const CLIENTS: usize = 8;

async fn danelaw(dns: &DnsLab, listen: SocketAddr, port: u16) -> Child {
    let listener = format!("listener=[{{address=\"{listen}\"}}]");
    let child = Command::new(env!("CARGO_BIN_EXE_danelaw"))
        .args(dns.program_settings(port).iter().chain([&listener]).flat_map(|setting| ["--set", setting]))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    listens(listen).await;
    child
}

/// L1, A-102: every reply to a client before the kill is true, and a client without a reply may send again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn danelaw_is_killed() {
    let identity = Identity::for_name("mx1.example.test");
    let (port, listen) = (free_port(), SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    let dns = Tree::new()
        .secure("example.test")
        .mx("example.test", 10, "mx1.example.test")
        .a("mx1.example.test", "127.0.0.79")
        .tlsa("mx1.example.test", port, &identity.record("3 1 1"))
        .start()
        .await;
    let remote = Mx::new(identity).start(SocketAddr::from((Ipv4Addr::new(127, 0, 0, 79), port)), "mx1").await;
    let mut untold = 0;
    for round in 0..if long() { 400 } else { 40 } {
        let mut child = danelaw(&dns, listen, port).await;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                tokio::spawn(async move { attempt(listen, (By::Data, &format!("{round}.{client}.")), None).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(fastrand::u64(..60_000))).await;
        child.kill().await.unwrap();
        let mut heard: Vec<Attempt> = Vec::new();
        for client in clients {
            heard.push(client.await.unwrap());
        }
        let settled = async {
            while remote.open() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(SOON, settled).await.expect("the end of every connection");
        let mut copies: HashMap<String, usize> = HashMap::new();
        for message in remote.take_messages() {
            let text = String::from_utf8_lossy(&message);
            let id = text.split("Subject: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap().to_owned();
            assert_whole(&message, (By::Data, &id), "killed");
            *copies.entry(id).or_default() += 1;
        }
        for (client, heard) in heard.iter().enumerate() {
            let copies = copies.get(&format!("{round}.{client}.")).copied().unwrap_or(0);
            assert!(copies <= 1, "{copies} copies of one try");
            assert!(!heard.delivered() || copies == 1, "{heard:?}, and the remote has no copy");
            untold += usize::from(!heard.delivered());
        }
    }
    assert!(untold > 0, "no kill came in time");
}
