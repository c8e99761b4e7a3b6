//! A scripted mail exchanger: the happy path by default, and a test can change each turn.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::certs::Identity;

/// The action of an exchange at one turn.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Sends this, byte for byte.
    Say(String),
    /// Sends no further octet, and keeps the connection open.
    Hang,
    /// Closes the connection.
    Close,
    /// Sends this, then closes the connection.
    SayAndClose(String),
    /// Sends this, then cuts the connection without a close_notify, as an attacker in the path would.
    SayAndCut(String),
    /// Sends this, then resets the connection.
    SayAndReset(String),
    /// Closes TLS, then sends this in the clear on the same connection.
    CloseAndSayInClear(String),
    /// Sends this over and over, as long as the peer takes it.
    SayForEver(String),
    /// Sends this octet by octet, and waits for this time before each.
    Drip(String, Duration),
    /// Sends this, and does that after this time.
    SayAndAdd(String, Duration, Box<Act>),
    /// Does this after a while, and does not read meanwhile.
    Late(Duration, Box<Act>),
    /// Closes its own half and reads no more, but keeps the connection.
    HalfClose,
}

/// The reply of this one line.
pub(crate) fn say(line: &str) -> Act {
    Act::Say(format!("{line}\r\n"))
}

/// The script. Every field is one turn.
#[derive(Clone)]
pub(crate) struct Mx {
    pub(crate) greeting: Act,
    /// The answer to EHLO in the clear.
    pub(crate) ehlo: Act,
    /// The answer to HELO in the clear.
    pub(crate) helo: Act,
    pub(crate) starttls: Act,
    /// The octets in the clear at the place of the TLS handshake; the handshake itself if `None`.
    pub(crate) instead_of_tls: Option<Act>,
    pub(crate) identity: Identity,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    /// The answers to EHLO under TLS of the first connections, one each.
    pub(crate) first_ehlos_under_tls: Arc<Mutex<VecDeque<Act>>>,
    /// The answer to EHLO under TLS.
    pub(crate) ehlo_under_tls: Act,
    pub(crate) mail: Act,
    /// The answer to MAIL on a connection that has taken a message, if that is a different one.
    pub(crate) mail_again: Option<Act>,
    /// The answers to each RCPT in turn; the last one answers all that follow.
    pub(crate) rcpt: Vec<Act>,
    /// The answer to RCPT on a connection that has taken a message, if that is a different one.
    pub(crate) rcpt_again: Option<Act>,
    pub(crate) data: Act,
    /// The answer to DATA on a connection that has taken a message, if that is a different one.
    pub(crate) data_again: Option<Act>,
    /// The answers to each chunk but the last, in turn; the last of these answers all that follow.
    pub(crate) chunk: Vec<Act>,
    /// The action in the middle of the message, after its first bytes.
    pub(crate) amid_message: Option<Act>,
    /// The answers to the ends of data of the first messages, one each.
    pub(crate) first_ends: Arc<Mutex<VecDeque<Act>>>,
    /// The answer to the end of data.
    pub(crate) end: Act,
    /// The unasked action after that answer.
    pub(crate) after: Option<Act>,
    pub(crate) rset: Act,
    pub(crate) quit: Act,
    /// The script of all connections but the first, if that is a different one.
    pub(crate) later: Option<Arc<Mx>>,
}

/// The connections, commands and messages that an exchange saw.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Record>);

#[derive(Debug, Default)]
struct Record {
    peers: Vec<IpAddr>,
    open: usize,
    clear: Vec<String>,
    tls: Vec<String>,
    turns: Vec<Vec<String>>,
    messages: Vec<Vec<u8>>,
    octets: Vec<u8>,
    server_names: Vec<Option<String>>,
    cut: usize,
    closed: usize,
}

impl Seen {
    /// The number of connections.
    pub(crate) fn connections(&self) -> usize {
        self.peers().len()
    }

    /// The addresses from which the connections came.
    pub(crate) fn peers(&self) -> Vec<IpAddr> {
        self.0.lock().unwrap().peers.clone()
    }

    /// The number of connections that it still serves.
    pub(crate) fn open(&self) -> usize {
        self.0.lock().unwrap().open
    }

    /// The commands that came in the clear.
    pub(crate) fn clear(&self) -> Vec<String> {
        self.0.lock().unwrap().clear.clone()
    }

    /// The commands that came under TLS.
    pub(crate) fn tls(&self) -> Vec<String> {
        self.0.lock().unwrap().tls.clone()
    }

    /// The commands that came under TLS, by round trips: a turn begins with a command that had to be waited for.
    pub(crate) fn turns(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().turns.clone()
    }

    /// The whole messages, as stored: dots unstuffed.
    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().messages.clone()
    }

    /// The same, and forgets them.
    pub(crate) fn take_messages(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.lock().unwrap().messages)
    }

    /// Every octet that came under TLS since the last call.
    pub(crate) fn take_octets(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap().octets)
    }

    /// The SNI of each handshake.
    pub(crate) fn server_names(&self) -> Vec<Option<String>> {
        self.0.lock().unwrap().server_names.clone()
    }

    /// Messages that began and never ended.
    pub(crate) fn cut(&self) -> usize {
        self.0.lock().unwrap().cut
    }

    /// Sessions that ended with QUIT and a close_notify.
    pub(crate) fn closed(&self) -> usize {
        self.0.lock().unwrap().closed
    }

    /// Whether any mail command was seen at all, in the clear or not.
    pub(crate) fn saw_mail(&self) -> bool {
        let record = self.0.lock().unwrap();
        record.clear.iter().chain(&record.tls).any(|line| line.to_ascii_uppercase().starts_with("MAIL"))
    }
}

impl Record {
    fn command(&mut self, line: &str, awaited: bool) {
        self.tls.push(line.to_owned());
        match self.turns.last_mut() {
            Some(turn) if !awaited => turn.push(line.to_owned()),
            _ => self.turns.push(vec![line.to_owned()]),
        }
    }
}

impl Mx {
    /// The happy path.
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            greeting: say("220 mx ESMTP"),
            ehlo: say("250-mx\r\n250-SIZE 99\r\n250 STARTTLS"),
            helo: say("250 mx"),
            starttls: say("220 2.0.0 go ahead"),
            instead_of_tls: None,
            identity,
            versions: vec![&rustls::version::TLS13, &rustls::version::TLS12],
            first_ehlos_under_tls: Arc::default(),
            ehlo_under_tls: say(
                "250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE 100000000",
            ),
            mail: say("250 2.1.0 sender ok"),
            mail_again: None,
            rcpt: vec![say("250 2.1.5 recipient ok")],
            rcpt_again: None,
            data: say("354 go"),
            data_again: None,
            chunk: vec![say("250 2.0.0 taken")],
            amid_message: None,
            first_ends: Arc::default(),
            end: say("250 2.0.0 queued as 42"),
            after: None,
            rset: say("250 2.0.0 forgotten"),
            quit: say("221 2.0.0 bye"),
            later: None,
        }
    }

    /// Listens until the test ends.
    pub(crate) async fn start(self, address: SocketAddr, name: &str) -> Arc<Seen> {
        let seen = Arc::new(Seen::default());
        let listener = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("{name} at {address}: {error}"));
        let record = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                // With Nagle's algorithm a packet waits until the one before it is acknowledged, which would delay
                // every test.
                stream.set_nodelay(true).unwrap();
                let is_first = {
                    let mut record = record.0.lock().unwrap();
                    record.peers.push(peer.ip());
                    record.open += 1;
                    record.peers.len() == 1
                };
                let session = Session {
                    mx: self.later.as_deref().filter(|_| !is_first).unwrap_or(&self).clone(),
                    seen: Arc::clone(&record),
                    taken: AtomicBool::new(false),
                    chunks: Mutex::default(),
                };
                tokio::spawn(session.run(stream));
            }
        });
        seen
    }

    fn tls(&self, seen: &Arc<Seen>) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = provider.key_provider.load_private_key(self.identity.private_key()).unwrap();
        // Built by hand: a key and a certificate that do not belong together must be possible.
        let certified = Arc::new(CertifiedKey::new(self.identity.chain.clone(), key));
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Presents { certified, seen: Arc::clone(seen) }));
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Presents one certificate for every requested name, and remembers the name.
#[derive(Debug)]
struct Presents {
    certified: Arc<CertifiedKey>,
    seen: Arc<Seen>,
}

impl ResolvesServerCert for Presents {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.seen.0.lock().unwrap().server_names.push(hello.server_name().map(str::to_owned));
        Some(Arc::clone(&self.certified))
    }
}

/// A stream whose octets are noted as they are read.
struct Overheard<'a, S> {
    stream: &'a mut S,
    seen: &'a Seen,
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut *self.stream).poll_read(cx, buf);
        self.seen.0.lock().unwrap().octets.extend_from_slice(&buf.filled()[before..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

struct Session {
    mx: Mx,
    seen: Arc<Seen>,
    /// Whether a message came on this connection.
    taken: AtomicBool,
    /// The chunks of a message so far, if it has begun.
    chunks: Mutex<Vec<Vec<u8>>>,
}

/// The end of the connection, by the last octets below TLS.
enum Over {
    /// close_notify.
    Closed,
    /// No close_notify.
    Cut,
    /// RST in place of FIN.
    Reset,
    /// close_notify, and these words in the clear.
    SaysInClear(String),
}

impl Session {
    async fn run(self, mut stream: TcpStream) {
        let _ = self.clear(&mut stream).await;
        let mut seen = self.seen.0.lock().unwrap();
        seen.open -= 1;
        if !self.chunks.lock().unwrap().is_empty() {
            seen.cut += 1;
        }
    }

    async fn clear(&self, stream: &mut TcpStream) -> Result<(), Over> {
        act(stream, &self.mx.greeting).await?;
        let mut recipients = 0;
        loop {
            let line = line(stream).await?;
            self.seen.0.lock().unwrap().clear.push(line.clone());
            match line.split(' ').next().unwrap_or_default() {
                "EHLO" => act(stream, &self.mx.ehlo).await?,
                "HELO" => act(stream, &self.mx.helo).await?,
                "STARTTLS" => {
                    act(stream, &self.mx.starttls).await?;
                    if let Some(instead) = &self.mx.instead_of_tls {
                        act(stream, instead).await?;
                        // The octets of the client are read in every case, so that unread ones do not make the close a
                        // reset.
                        let mut sink = [0; 1024];
                        while stream.read(&mut sink).await.map_err(|_| Over::Closed)? > 0 {}
                        return Err(Over::Closed);
                    }
                    let mut tls = self.mx.tls(&self.seen).accept(stream).await.map_err(|_| Over::Closed)?;
                    let ended = self.secured(&mut Overheard { stream: &mut tls, seen: &self.seen }).await;
                    match &ended {
                        Ok(()) | Err(Over::Closed) => drop(tls.shutdown().await),
                        Err(Over::Cut) => {}
                        Err(Over::Reset) => tls.get_ref().0.set_zero_linger().unwrap(),
                        Err(Over::SaysInClear(text)) => {
                            let _ = tls.shutdown().await;
                            let _ = tls.get_mut().0.write_all(text.as_bytes()).await;
                        }
                    }
                    return ended;
                }
                _ => self.mail_command(stream, &line, &mut recipients).await?,
            }
        }
    }

    async fn secured<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> Result<(), Over> {
        let mut recipients = 0;
        loop {
            let (line, awaited) = awaited_line(stream).await?;
            self.seen.0.lock().unwrap().command(&line, awaited);
            match line.split(' ').next().unwrap_or_default() {
                "EHLO" => {
                    let first = self.mx.first_ehlos_under_tls.lock().unwrap().pop_front();
                    act(stream, first.as_ref().unwrap_or(&self.mx.ehlo_under_tls)).await?;
                }
                _ => self.mail_command(stream, &line, &mut recipients).await?,
            }
        }
    }

    /// The answer on a connection that has taken a message.
    fn again<'a>(&self, answer: &'a Option<Act>) -> Option<&'a Act> {
        answer.as_ref().filter(|_| self.taken.load(Ordering::Relaxed))
    }

    async fn mail_command<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        line: &str,
        recipients: &mut usize,
    ) -> Result<(), Over> {
        match line.split(' ').next().unwrap_or_default() {
            "MAIL" => act(stream, self.again(&self.mx.mail_again).unwrap_or(&self.mx.mail)).await,
            "RSET" => {
                self.chunks.lock().unwrap().clear();
                act(stream, &self.mx.rset).await
            }
            "BDAT" => self.chunk(stream, line).await,
            "RCPT" => {
                let turn = self.mx.rcpt.get(*recipients).or(self.mx.rcpt.last()).unwrap();
                *recipients += 1;
                act(stream, self.again(&self.mx.rcpt_again).unwrap_or(turn)).await
            }
            "DATA" => {
                let data = self.again(&self.mx.data_again).unwrap_or(&self.mx.data);
                act(stream, data).await?;
                match data {
                    Act::Say(said) if said.starts_with("354") => self.message(stream).await,
                    _ => Ok(()),
                }
            }
            "QUIT" => {
                act(stream, &self.mx.quit).await?;
                // Without a close_notify this is an error.
                if let Ok(0) = stream.read(&mut [0]).await {
                    self.seen.0.lock().unwrap().closed += 1;
                }
                Err(Over::Closed)
            }
            _ => act(stream, &say("500 5.5.1 what?")).await,
        }
    }

    async fn chunk<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S, line: &str) -> Result<(), Over> {
        let argument = line.strip_prefix("BDAT ").unwrap();
        let octets = argument.strip_suffix(" LAST").unwrap_or(argument);
        let mut octets = vec![0; octets.parse().unwrap()];
        let read = stream.read_exact(&mut octets).await;
        let number = {
            let mut chunks = self.chunks.lock().unwrap();
            chunks.push(octets);
            chunks.len() - 1
        };
        read.map_err(|_| Over::Closed)?;
        if !argument.ends_with(" LAST") {
            return act(stream, self.mx.chunk.get(number).or(self.mx.chunk.last()).unwrap()).await;
        }
        let message = std::mem::take(&mut *self.chunks.lock().unwrap()).concat();
        self.whole(stream, message).await
    }

    async fn message<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: &mut S) -> Result<(), Over> {
        let mut stored = Vec::new();
        loop {
            match line_bytes(stream).await {
                Ok(line) if line == b"." => break,
                Ok(line) => {
                    stored.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                    stored.extend_from_slice(b"\r\n");
                }
                Err(over) => {
                    self.seen.0.lock().unwrap().cut += 1;
                    return Err(over);
                }
            }
            if let (Some(amid), false) = (&self.mx.amid_message, stored.is_empty()) {
                act(stream, amid).await?;
                // The reply is sent once; the rest of the message is read all the same.
                let mut sink = vec![0; 65536];
                while stream.read(&mut sink).await.map_err(|_| Over::Closed)? > 0 {}
                return Err(Over::Closed);
            }
        }
        self.whole(stream, stored).await
    }

    async fn whole<S: AsyncWrite + Unpin>(&self, stream: &mut S, message: Vec<u8>) -> Result<(), Over> {
        self.seen.0.lock().unwrap().messages.push(message);
        let first = self.mx.first_ends.lock().unwrap().pop_front();
        act(stream, first.as_ref().unwrap_or(&self.mx.end)).await?;
        self.taken.store(true, Ordering::Relaxed);
        match &self.mx.after {
            Some(after) => act(stream, after).await,
            None => Ok(()),
        }
    }
}

async fn act<S: AsyncWrite + Unpin>(stream: &mut S, mut act: &Act) -> Result<(), Over> {
    while let Act::Late(pause, late) | Act::SayAndAdd(_, pause, late) = act {
        if let Act::SayAndAdd(first, ..) = act {
            say_now(stream, first).await?;
        }
        tokio::time::sleep(*pause).await;
        act = late;
    }
    let (text, then) = match act {
        Act::Late(..) | Act::SayAndAdd(..) => return Ok(()),
        Act::Say(text) => (text.as_str(), Ok(())),
        Act::SayAndClose(text) => (text.as_str(), Err(Over::Closed)),
        Act::SayAndCut(text) => (text.as_str(), Err(Over::Cut)),
        Act::SayAndReset(text) => (text.as_str(), Err(Over::Reset)),
        Act::CloseAndSayInClear(text) => return Err(Over::SaysInClear(text.clone())),
        Act::Close => return Err(Over::Closed),
        Act::Hang => std::future::pending().await,
        Act::SayForEver(text) => loop {
            say_now(stream, text).await?;
        },
        Act::Drip(text, pause) => {
            for octet in text.chars() {
                tokio::time::sleep(*pause).await;
                say_now(stream, octet.encode_utf8(&mut [0; 4])).await?;
            }
            return Ok(());
        }
        Act::HalfClose => {
            let _ = stream.shutdown().await;
            std::future::pending().await
        }
    };
    say_now(stream, text).await?;
    then
}

async fn say_now<S: AsyncWrite + Unpin>(stream: &mut S, text: &str) -> Result<(), Over> {
    stream.write_all(text.as_bytes()).await.map_err(|_| Over::Closed)?;
    stream.flush().await.map_err(|_| Over::Closed)
}

/// A line, and whether it was not there at once.
async fn awaited_line<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(String, bool), Over> {
    let mut awaited = false;
    let mut reading = std::pin::pin!(line(stream));
    let line = std::future::poll_fn(|cx| {
        let polled = reading.as_mut().poll(cx);
        awaited |= polled.is_pending();
        polled
    });
    Ok((line.await?, awaited))
}

async fn line<S: AsyncRead + Unpin>(stream: &mut S) -> Result<String, Over> {
    Ok(String::from_utf8_lossy(&line_bytes(stream).await?).into_owned())
}

/// A line without its CRLF, read byte by byte: a TLS handshake may follow it.
async fn line_bytes<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Vec<u8>, Over> {
    let mut line = Vec::new();
    loop {
        line.push(stream.read_u8().await.map_err(|_| Over::Closed)?);
        if let Some(text) = line.strip_suffix(b"\r\n") {
            return Ok(text.to_vec());
        }
    }
}
