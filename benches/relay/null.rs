//! The bare pass-through, the ceiling for any relay: SMTP in, SMTP under TLS out. It reuses upstream connections,
//! passes pipelined commands on together, and passes replies back unchanged. It makes no check: the address follows
//! from the domain's name, any certificate is accepted, only the necessary parts are parsed, and it looks for the end
//! of a message only at the end of a block (its clients wait there). It needs clients that pipeline.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use memchr::{memchr, memmem};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

use crate::conn::{BLOCK, Conn};
use crate::tls::Credulous;
use crate::world::Domain;

/// Threads, unless the command line sets another number.
pub(crate) const DEFAULT_THREADS: usize = 2;
/// Connections wait for so many domains. Those for 100,000 would be more than a process may have.
const MOST_DOMAINS: usize = 10_000;

/// The options of the pass-through.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The address to listen at.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    /// A new upstream connection for each message.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Threads.
    #[arg(long, default_value_t = DEFAULT_THREADS)]
    pub(crate) threads: usize,
}

type Upstream = Conn<TlsStream<TcpStream>>;

struct Null {
    fresh: bool,
    tls: Credulous,
    idle: Mutex<HashMap<String, Vec<Upstream>>>,
}

/// Serves until it is killed.
pub(crate) async fn run(options: Options) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a socket option");
    socket.bind(options.listen).expect("a free port");
    let listener = socket.listen(16 * 1024).expect("a listener");
    let null = Arc::new(Null { fresh: options.fresh, tls: Credulous::new(), idle: Mutex::default() });
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let null = Arc::clone(&null);
        tokio::spawn(async move { null.serve(stream).await.ok() });
    }
}

impl Null {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut client = Conn::new(stream);
        client.stream.write_all(b"220 null ESMTP\r\n").await?;
        // The commands that the client has pipelined so far, without DATA.
        let mut group = Group::default();
        loop {
            let Some(end) = memchr(b'\n', &client.input) else {
                client.fill(4096).await?;
                continue;
            };
            let line = client.input.split_to(end + 1);
            match line.get(..4).unwrap_or_default() {
                b"EHLO" => client.stream.write_all(b"250-null\r\n250-PIPELINING\r\n250 8BITMIME\r\n").await?,
                b"QUIT" => return client.stream.write_all(b"221 bye\r\n").await,
                b"DATA" => {
                    group.add(&line);
                    client.input = BytesMut::new();
                    self.transaction(&mut client, std::mem::take(&mut group)).await?;
                }
                _ => group.add(&line),
            }
        }
    }

    async fn transaction(&self, client: &mut Conn<TcpStream>, group: Group) -> io::Result<()> {
        let domain = group.domain();
        let mut upstream = self.upstream(&domain).await?;
        upstream.stream.write_all(&group.octets).await?;
        upstream.stream.flush().await?;
        let count = group.count;
        drop(group);
        let replies = upstream.replies(count).await?;
        client.stream.write_all(&replies).await?;
        let last = replies.trim_ascii_end().rsplit(|octet| *octet == b'\n').next().unwrap_or_default();
        if last.starts_with(b"354") {
            pass_on(client, &mut upstream).await?;
            let answer = upstream.reply().await?;
            client.stream.write_all(&answer).await?;
        }
        let left = if self.fresh { Some(upstream) } else { self.keep(domain, upstream) };
        if let Some(upstream) = left {
            tokio::spawn(quit(upstream));
        }
        Ok(())
    }

    /// Lets a connection wait for the next message; returns it where no more domains have room.
    fn keep(&self, domain: String, upstream: Upstream) -> Option<Upstream> {
        let mut idle = self.idle.lock().expect("no thread panicked");
        if idle.len() >= MOST_DOMAINS && !idle.contains_key(&domain) {
            return Some(upstream);
        }
        idle.entry(domain).or_default().push(upstream);
        None
    }

    async fn upstream(&self, domain: &str) -> io::Result<Upstream> {
        if let Some(upstream) = self.idle.lock().expect("no thread panicked").get_mut(domain).and_then(Vec::pop) {
            return Ok(upstream);
        }
        let host = Domain::parse(domain).ok_or(io::ErrorKind::HostUnreachable)?;
        let stream = TcpStream::connect(SocketAddr::from((host.address(), 25))).await?;
        stream.set_nodelay(true)?;
        let mut conn = Conn::new(stream);
        conn.reply().await?;
        for command in ["EHLO null.test\r\n", "STARTTLS\r\n"] {
            conn.stream.write_all(command.as_bytes()).await?;
            conn.reply().await?;
        }
        let mut conn = Conn::new(self.tls.connect(conn.stream).await?);
        conn.stream.write_all(b"EHLO null.test\r\n").await?;
        conn.stream.flush().await?;
        conn.reply().await?;
        Ok(conn)
    }
}

/// Commands that are sent together.
#[derive(Default)]
struct Group {
    octets: BytesMut,
    count: usize,
}

impl Group {
    fn add(&mut self, line: &[u8]) {
        self.octets.extend_from_slice(line);
        self.count += 1;
    }

    /// The domain of the first recipient.
    fn domain(&self) -> String {
        let from = memmem::find(&self.octets, b"RCPT TO:").unwrap_or_default();
        let path = &self.octets[from..];
        let at = memchr(b'@', path).map_or(0, |at| at + 1);
        let end = memchr(b'>', path).unwrap_or(path.len());
        String::from_utf8_lossy(path.get(at..end).unwrap_or_default()).into_owned()
    }
}

/// Passes the message on, to its end.
async fn pass_on(client: &mut Conn<TcpStream>, upstream: &mut Upstream) -> io::Result<()> {
    let mut tail = *b"\0\0\0\r\n";
    let mut block = BytesMut::new();
    loop {
        block.clear();
        block.reserve(BLOCK);
        if client.stream.read_buf(&mut block).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        upstream.stream.write_all(&block).await?;
        let kept = block.len().min(5);
        tail.rotate_left(kept);
        tail[5 - kept..].copy_from_slice(&block[block.len() - kept..]);
        if tail == *b"\r\n.\r\n" {
            return upstream.stream.flush().await;
        }
    }
}

async fn quit(mut upstream: Upstream) -> io::Result<()> {
    upstream.stream.write_all(b"QUIT\r\n").await?;
    upstream.stream.flush().await?;
    let answer = tokio::time::timeout(Duration::from_secs(5), upstream.reply()).await;
    answer.map_or(Ok(()), |answer| answer.map(drop))?;
    upstream.stream.shutdown().await
}
