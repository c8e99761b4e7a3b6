//! The PROXY header, by which a balancer names the client. src/server/proxy.rs has the table of headers.

use std::net::{IpAddr, Ipv4Addr};

use danelaw::config::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::lab::client::Client;
use crate::lab::{Lab, MESSAGE, SOON, Scenario, wait_for};
use crate::log::captured;

/// A listener behind the balancers of loopback, for clients of a network.
const LISTENER: &str =
    "listener = [{ address = '127.0.0.1:0', proxy_from = ['127.0.0.1'], allow = ['192.0.2.0/24', '127.0.0.2'] }]";

/// The header for a connection of this client.
fn header(client: Ipv4Addr) -> Vec<u8> {
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &client.octets()[..], &[127, 0, 0, 1, 0x80, 0, 0, 25]].concat()
}

/// The header of a balancer's own connection.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

async fn behind(lab: &Lab, header: &[u8]) -> Client {
    let mut client = Client::silent(&lab.address).await;
    client.write(header).await;
    client
}

#[tokio::test]
async fn the_client_of_the_header_counts() {
    // I31.
    let (log, _guard) = captured();
    let lab = Scenario::new().set(LISTENER).start().await;
    let mut client = behind(&lab, &header(Ipv4Addr::new(192, 0, 2, 7))).await;
    client.greeted().await;
    client.command("EHLO client.test").await;
    assert!(client.send(&["b@example.test"], MESSAGE).await.last().starts_with("250 2.0.0 "));
    let message = String::from_utf8_lossy(&lab.mx().messages()[0]).into_owned();
    assert!(message.contains("from client.test ([192.0.2.7])"), "{message}");
    let mut other = behind(&lab, &header(Ipv4Addr::new(203, 0, 113, 9))).await;
    assert!(other.reply().await.starts_with("554 5.7.1 you may not send mail through this host"));
    assert!(log.text().contains("client=[203.0.113.9]"), "{}", log.text());
    // With the greeting of a client that speaks at once.
    let at_once = [&header(Ipv4Addr::new(192, 0, 2, 8))[..], b"EHLO client.test\r\n"].concat();
    let mut client = behind(&lab, &at_once).await;
    client.greeted().await;
    assert!(client.reply().await.starts_with("250-danelaw.test"));
}

#[tokio::test]
async fn a_balancer_without_a_header_is_closed() {
    // I31.
    let (log, _guard) = captured();
    let lab = Scenario::new().set(LISTENER).start().await;
    for (sent, why) in [
        (&b"EHLO client.test\r\n"[..], "it begins without a PROXY header"),
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 1 25\r\n", "its PROXY header has version 1"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "has 65535 octets"),
    ] {
        assert_eq!(behind(&lab, sent).await.rest().await, "", "{why}");
        wait_for(|| log.text().contains("balancer=[127.0.0.1]")).await;
        wait_for(|| log.text().contains(why)).await;
    }
    wait_for(|| lab.sessions() == 0).await;
    let metrics = danelaw::admin::client::ask(&lab.admin().await, "/metrics").await.unwrap().1;
    assert!(metrics.contains("danelaw_turned_away_total{reason=\"proxy-header\"} 3\n"), "{metrics}");
}

#[tokio::test]
async fn the_health_check_of_a_balancer_is_greeted_and_sends_no_mail() {
    // I31.
    let lab = Scenario::new().set(LISTENER).start().await;
    let mut balancer = behind(&lab, LOCAL).await;
    balancer.greeted().await;
    assert!(balancer.command("EHLO balancer.test").await.starts_with("250-"));
    assert!(balancer.command("MAIL FROM:<a@client.test>").await.starts_with("554 5.7.1 "));
    assert!(balancer.command("RCPT TO:<b@example.test>").await.starts_with("503 "));
    assert!(balancer.command("QUIT").await.starts_with("221 "));
    wait_for(|| lab.sessions() == 0).await;
}

#[tokio::test]
async fn a_header_of_anybody_else_is_none() {
    // I31, A-97.
    let lab = Scenario::new().set(LISTENER).start().await;
    let direct = async || -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((IpAddr::from([127, 0, 0, 2]), 0).into()).unwrap();
        let Address::Tcp(address) = &lab.address else { panic!() };
        socket.connect(*address).await.unwrap()
    };
    let mut stream = direct().await;
    stream.write_all(&header(Ipv4Addr::new(192, 0, 2, 7))).await.unwrap();
    stream.write_all(b"\r\nEHLO c\r\nQUIT\r\n").await.unwrap();
    let mut said = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut said)).await.unwrap().unwrap();
    assert!(said.starts_with("220 danelaw.test ") && said.contains("\r\n500 "), "{said}");
    // Its own address counts.
    let mut stream = direct().await;
    stream
        .write_all(b"EHLO c\r\nMAIL FROM:<a@client.test>\r\nRCPT TO:<b@example.test>\r\nDATA\r\nQUIT\r\n")
        .await
        .unwrap();
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ");
}
