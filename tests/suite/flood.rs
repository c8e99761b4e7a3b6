//! Endless data of a server after the handshake: bounded, and never a session that spins (A-31, G12).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::certificates::{Spec, key, pem};
use danelaw::dane::tlsa::NoDane;
use danelaw::name::Name;
use danelaw::policy::TlsPolicy;
use danelaw::tls::{PostQuantum, Tls};
use danelaw::wire::Wire;
use rustls::crypto::aws_lc_rs;
use rustls::crypto::cipher::{OutboundChunks, OutboundPlainMessage};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;
use tokio_rustls::server;

fn policy() -> TlsPolicy {
    TlsPolicy::Encrypt(Name::parse("mx.example.com").unwrap(), NoDane::NoTlsa)
}

/// The longest time for a reply, and for a test that waits for data that is due.
const LIMIT: Duration = Duration::from_millis(500);
const BOUND: Duration = Duration::from_secs(20);

/// A session with a rustls server of this configuration.
async fn session(
    change: impl FnOnce(&mut ServerConfig),
) -> (Wire<TlsStream<DuplexStream>>, server::TlsStream<DuplexStream>) {
    let own = key();
    let chain = vec![Spec::default().issue(&own, &own)];
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(own.serialize_der()).into())
        .unwrap();
    change(&mut config);
    // Room for all that a test sends before the other side reads.
    let (ours, theirs) = duplex(4 << 20);
    let (tls, policy, acceptor) =
        (Tls::new(PostQuantum::Offer).unwrap(), policy(), TlsAcceptor::from(Arc::new(config)));
    let (ours, theirs) = tokio::join!(tls.handshake(ours, &policy), acceptor.accept(theirs));
    (Wire::new(ours.unwrap().stream), theirs.unwrap())
}

#[tokio::test]
async fn tickets() {
    // A-31, G12.
    // A hundred are read and dropped; with thousands the session ends.
    for (tickets, expected) in [(100, Ok("250 still here".to_owned())), (5000, Err(()))] {
        let (mut wire, mut theirs) = session(|config| {
            config.send_tls13_tickets = tickets;
            config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
        })
        .await;
        theirs.write_all(b"250 still here\r\n").await.unwrap();
        theirs.flush().await.unwrap();
        let began = Instant::now();
        assert_eq!(wire.reply(BOUND).await.map(|reply| reply.to_string()).map_err(drop), expected, "{tickets}");
        assert!(began.elapsed() < BOUND);
    }
}

#[tokio::test]
async fn key_updates_that_want_an_answer() {
    // A-31, G12.
    let (mut wire, mut theirs) = session(|_| {}).await;
    // A few key updates are allowed.
    for _ in 0..3 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        theirs.write_all(b"250 still here\r\n").await.unwrap();
        theirs.flush().await.unwrap();
        assert_eq!(wire.reply(BOUND).await.unwrap().to_string(), "250 still here");
        wire.output.extend_from_slice(b"NOOP\r\n");
        wire.flush(BOUND).await.unwrap();
        theirs.read_exact(&mut [0; 6]).await.unwrap();
    }
    // A thousand are too many.
    for _ in 0..1000 {
        theirs.get_mut().1.refresh_traffic_keys().unwrap();
        theirs.flush().await.unwrap();
    }
    let began = Instant::now();
    let error = wire.reply(BOUND).await.unwrap_err();
    assert!(error.to_string().contains("TooManyKeyUpdateRequests"), "{error}");
    assert!(began.elapsed() < BOUND);
}

/// Empty records, one after the other: they hold no reply, and the session ends.
#[tokio::test]
async fn empty_records() {
    //
    let (mut wire, theirs) = session(|config| {
        config.enable_secret_extraction = true;
        // The numbers of the records start at 0.
        config.send_tls13_tickets = 0;
    })
    .await;
    let (mut stream, connection) = theirs.into_inner();
    let suite = connection.negotiated_cipher_suite().unwrap().tls13().unwrap();
    let (mut sequence, secrets) = connection.dangerous_extract_secrets().unwrap().tx;
    let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
    | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
    else {
        panic!("a cipher of another kind");
    };
    let mut seal = suite.aead_alg.encrypter(key, iv);
    let mut record = move |content: &[u8]| {
        let plain = OutboundPlainMessage {
            typ: ContentType::ApplicationData,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(content),
        };
        sequence += 1;
        seal.encrypt(plain, sequence - 1).unwrap().encode()
    };
    stream.write_all(&record(b"250 here\r\n")).await.unwrap();
    assert_eq!(wire.reply(BOUND).await.unwrap().to_string(), "250 here");
    let flood = tokio::spawn(async move { while stream.write_all(&record(b"")).await.is_ok() {} });
    let began = Instant::now();
    let error = wire.reply(LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("TooManyEmptyFragments"), "{error}");
    assert!(began.elapsed() < LIMIT * 4, "{:?}", began.elapsed());
    drop(wire);
    flood.await.unwrap();
}

/// `openssl s_server`, which takes commands on its standard input.
struct OpenSsl {
    process: Child,
    orders: ChildStdin,
    address: String,
    _files: tempfile::TempDir,
}

impl OpenSsl {
    fn start(version: &str) -> Self {
        let own = key();
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("server.pem");
        let certificate = Spec::default().issue(&own, &own);
        std::fs::write(&path, pem("CERTIFICATE", &certificate) + &own.serialize_pem()).unwrap();
        let mut process = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", version, "-cert"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ACCEPT ") {
            line.clear();
            assert_ne!(said.read_line(&mut line).unwrap(), 0);
        }
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let orders = process.stdin.take().unwrap();
        Self { process, orders, address: line["ACCEPT ".len()..].trim().to_owned(), _files: files }
    }

    /// Sends one command at a time, because openssl takes all octets of one read for one command.
    fn order(&mut self, order: &str) {
        let _ = self.orders.write_all(order.as_bytes()).and_then(|()| self.orders.flush());
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn connect(server: &OpenSsl) -> Wire<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(&server.address).await.unwrap();
    Wire::new(Tls::new(PostQuantum::Offer).unwrap().handshake(stream, &policy()).await.unwrap().stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_updates_that_want_none() {
    // A-31, G12.
    let mut server = OpenSsl::start("-tls1_3");
    let mut wire = connect(&server).await;
    let server = tokio::task::spawn_blocking(move || {
        (0..20).for_each(|_| server.order("k\n"));
        // Text that it reads together with a command is lost.
        std::thread::sleep(Duration::from_millis(200));
        server.order("250 still here\n");
        server
    });
    // openssl ends its lines with LF alone, so the whole reply does not come; the octets do.
    while !wire.input.ends_with(b"here\n") {
        wire.fill(BOUND).await.unwrap();
    }
    let mut server = server.await.unwrap();
    let flood = std::thread::spawn(move || (0..200).for_each(|_| server.order("k\n")));
    let error = wire.fill(BOUND).await.unwrap_err();
    assert!(error.to_string().contains("TooManyKeyUpdateRequests"), "{error}");
    flood.join().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renegotiation() {
    //
    // G6: TLS 1.2 servers may ask for another handshake. danelaw refuses, and ends the session if they go on asking.
    let mut server = OpenSsl::start("-tls1_2");
    let mut wire = connect(&server).await;
    let flood = std::thread::spawn(move || (0..100).for_each(|_| server.order("r\n")));
    let began = Instant::now();
    wire.reply(LIMIT).await.unwrap_err();
    assert!(began.elapsed() < LIMIT * 4, "{:?}", began.elapsed());
    flood.join().unwrap();
}
