//! A scripted client.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use danelaw::config::Address;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream, ReadBuf,
};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::SOON;
use super::tls_client::ClientSide;

type Plain = Either<TcpStream, UnixStream>;

/// A connection to danelaw whose greeting was read.
pub(crate) struct Client {
    stream: BufReader<Either<Plain, Box<TlsStream<Plain>>>>,
    /// The longest wait for an answer.
    pub(crate) patience: Duration,
}

/// The replies of danelaw to one message.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// The reply to each RCPT.
    pub(crate) rcpt: Vec<String>,
    /// The reply to DATA, if any recipient was accepted.
    pub(crate) data: Option<String>,
    /// The reply to the end of data, if the client sent it.
    pub(crate) end: Option<String>,
}

impl Answers {
    /// The last reply.
    pub(crate) fn last(&self) -> &str {
        self.end.as_ref().or(self.data.as_ref()).or(self.rcpt.last()).unwrap()
    }
}

impl Client {
    /// Connects and reads the greeting.
    pub(crate) async fn connect(address: &Address) -> Self {
        let mut client = Self::silent(address).await;
        client.greeted().await;
        client
    }

    /// Connects, and reads no greeting.
    pub(crate) async fn silent(address: &Address) -> Self {
        let stream = match address {
            Address::Tcp(address) => Either::Left(TcpStream::connect(address).await.unwrap()),
            Address::Unix(path) => Either::Right(UnixStream::connect(path).await.unwrap()),
        };
        Self { stream: BufReader::new(Either::Left(stream)), patience: SOON }
    }

    /// Reads the greeting.
    pub(crate) async fn greeted(&mut self) {
        let greeting = self.reply().await;
        assert!(greeting.starts_with("220 danelaw.test "), "{greeting}");
    }

    /// Shakes hands over the connection.
    pub(crate) async fn under_tls(self, side: &ClientSide<'_>) -> io::Result<Self> {
        assert!(self.stream.buffer().is_empty());
        let Either::Left(stream) = self.stream.into_inner() else { panic!("TLS is active already") };
        let stream = tokio::time::timeout(SOON, side.connect(stream)).await.expect("a handshake in time")?;
        Ok(Self { stream: BufReader::new(Either::Right(Box::new(stream))), patience: self.patience })
    }

    /// Says EHLO and STARTTLS, and shakes hands.
    pub(crate) async fn start_tls(mut self, side: &ClientSide<'_>) -> Self {
        self.command("EHLO client.test").await;
        let ready = self.command("STARTTLS").await;
        assert!(ready.starts_with("220 2.0.0 "), "{ready}");
        self.under_tls(side).await.unwrap()
    }

    /// Sends a line and reads the reply, all its lines, joined by `\n`.
    pub(crate) async fn command(&mut self, line: &str) -> String {
        self.write(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Sends bytes as they are.
    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).await.unwrap();
    }

    /// Sends bytes to a server that may close meanwhile.
    pub(crate) async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    /// Reads one reply.
    pub(crate) async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            let read =
                tokio::time::timeout(self.patience, self.stream.read_line(&mut line)).await.expect("an answer in time");
            assert_ne!(read.unwrap(), 0, "the connection was closed after {reply:?}");
            let line = line.strip_suffix("\r\n").expect("CRLF");
            reply.push_str(line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
            reply.push('\n');
        }
    }

    /// Reads so many replies and returns the start of each: the code, and the enhanced one if there is one.
    pub(crate) async fn codes(&mut self, replies: usize) -> Vec<String> {
        let mut codes = Vec::new();
        for _ in 0..replies {
            let reply = self.reply().await;
            let enhanced = reply.get(4..9).filter(|code| code.as_bytes()[1] == b'.');
            codes.push(enhanced.map_or(reply[..3].to_owned(), |enhanced| format!("{} {enhanced}", &reply[..3])));
        }
        codes
    }

    /// Closes the sending half of the connection, and goes on reading.
    pub(crate) async fn half_close(&mut self) {
        self.stream.get_mut().shutdown().await.unwrap();
    }

    /// Whether no octet arrives for this time.
    pub(crate) async fn is_silent(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.stream.fill_buf()).await.is_err()
    }

    /// Waits for the end of the connection and returns the octets that came before it.
    pub(crate) async fn rest(mut self) -> String {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(SOON, self.stream.read_to_end(&mut rest)).await.expect("an end in time");
        let _ = read;
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Closes the connection: octets that were not read yet make it a reset.
    pub(crate) fn vanish(self) {
        drop(self);
    }

    /// Closes the connection with a reset.
    pub(crate) fn reset(self) {
        match self.stream.into_inner() {
            Either::Left(Either::Left(stream)) => stream.set_zero_linger().unwrap(),
            Either::Left(Either::Right(_)) | Either::Right(_) => panic!("no TCP socket in the clear"),
        }
    }

    /// Sends MAIL and RCPTs; then, if any recipient was accepted, the message, dot-stuffed here.
    pub(crate) async fn send(&mut self, to: &[&str], message: &[u8]) -> Answers {
        let mut answers = Answers::default();
        let reply = self.command("MAIL FROM:<a@client.test>").await;
        assert!(reply.starts_with("250 2.1.0"), "{reply}");
        for recipient in to {
            answers.rcpt.push(self.command(&format!("RCPT TO:<{recipient}>")).await);
        }
        if !answers.rcpt.iter().any(|reply| reply.starts_with('2')) {
            return answers;
        }
        let go = self.command("DATA").await;
        let started = go.starts_with("354");
        answers.data = Some(go);
        if started {
            let mut stuffed = Vec::new();
            for line in message.split_inclusive(|&octet| octet == b'\n') {
                if line.starts_with(b".") {
                    stuffed.push(b'.');
                }
                stuffed.extend_from_slice(line);
            }
            stuffed.extend_from_slice(b".\r\n");
            self.write(&stuffed).await;
            answers.end = Some(self.reply().await);
        }
        answers
    }
}

/// A stream that remembers the most octets that were handed to it at once.
pub(crate) struct Measured {
    stream: DuplexStream,
    most: Arc<AtomicUsize>,
}

impl Measured {
    /// The stream, and the number.
    pub(crate) fn new(stream: DuplexStream) -> (Self, Arc<AtomicUsize>) {
        let most = Arc::default();
        (Self { stream, most: Arc::clone(&most) }, most)
    }
}

impl AsyncRead for Measured {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Measured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.most.fetch_max(octets.len(), Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
