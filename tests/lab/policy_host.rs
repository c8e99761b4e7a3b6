//! A scripted policy host of MTA-STS (RFC 8461 §3.3): HTTPS on loopback.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::HandshakeKind;

use super::certs::Identity;

/// The action of a policy host after the request.
#[derive(Clone)]
pub(crate) enum Answer {
    /// Sends this, and closes TLS and the connection.
    Say(Vec<u8>),
    /// The same, one octet at a time with this pause.
    Drip(Vec<u8>, Duration),
    /// Sends this, and cuts the connection without a word of TLS.
    Cut(Vec<u8>),
    /// Sends this again and again.
    Endless(Vec<u8>, Vec<u8>),
    /// Speaks no TLS.
    NoTls,
}

/// A policy host that listens.
pub(crate) struct PolicyHost {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    connections: Arc<AtomicUsize>,
    resumed: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

/// The notes of a policy host on its connections.
struct ConnectionNotes {
    resumed: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl PolicyHost {
    /// Listens on a port of loopback.
    pub(crate) async fn start(identity: &Identity, answer: Answer) -> Self {
        Self::start_at("127.0.0.1:0", identity, answer).await
    }

    /// Listens there.
    pub(crate) async fn start_at(address: &str, identity: &Identity, answer: Answer) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let host = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new(answer)),
            connections: Arc::default(),
            resumed: Arc::default(),
            requests: Arc::default(),
        };
        let (answer, connections) = (Arc::clone(&host.answer), Arc::clone(&host.connections));
        let (resumed, requests) = (Arc::clone(&host.resumed), Arc::clone(&host.requests));
        let tls = identity.acceptor();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                connections.fetch_add(1, SeqCst);
                let (tls, answer) = (tls.clone(), answer.lock().unwrap().clone());
                let notes = ConnectionNotes { resumed: Arc::clone(&resumed), requests: Arc::clone(&requests) };
                tokio::spawn(async move { serve(tcp, tls, answer, notes).await });
            }
        });
        host
    }

    /// Changes the answer from now on.
    pub(crate) fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    /// How many of the connections have taken up an earlier TLS session.
    pub(crate) fn resumed(&self) -> usize {
        self.resumed.load(SeqCst)
    }

    /// The head of each request.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(mut tcp: TcpStream, tls: TlsAcceptor, answer: Answer, notes: ConnectionNotes) -> std::io::Result<()> {
    if let Answer::NoTls = answer {
        return tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
    }
    let mut stream = tls.accept(tcp).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let sni = stream.get_ref().1.server_name().unwrap_or("-").to_owned();
    if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
        notes.resumed.fetch_add(1, SeqCst);
    }
    notes.requests.lock().unwrap().push(format!("{sni} {}", String::from_utf8(head).unwrap()));
    match answer {
        Answer::Say(octets) => {
            stream.write_all(&octets).await?;
            stream.shutdown().await?;
            // Until the client has closed.
            stream.read_to_end(&mut Vec::new()).await?;
        }
        Answer::Drip(octets, pause) => {
            for octet in octets {
                stream.write_all(&[octet]).await?;
                stream.flush().await?;
                tokio::time::sleep(pause).await;
            }
            stream.shutdown().await?;
        }
        Answer::Cut(octets) => {
            stream.write_all(&octets).await?;
            stream.flush().await?;
            let (mut tcp, _) = stream.into_inner();
            tcp.shutdown().await?;
        }
        Answer::Endless(octets, more) => {
            stream.write_all(&octets).await?;
            loop {
                stream.write_all(&more).await?;
            }
        }
        Answer::NoTls => {}
    }
    Ok(())
}

/// A good answer with this body.
pub(crate) fn served(body: &str) -> Vec<u8> {
    answered("200 OK", &format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", body.len()), body.as_bytes())
}

/// Any answer.
pub(crate) fn answered(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status}\r\n{fields}\r\n").as_bytes(), body].concat()
}

/// A policy in this mode, for a week, that lists `mx1.example.test`.
pub(crate) fn policy(mode: &str) -> String {
    format!("version: STSv1\r\nmode: {mode}\r\nmx: mx1.example.test\r\nmax_age: 604800\r\n")
}
