//! The sink: it acts as every remote, on port 25 of all of 127.0.0.0/8, under TLS. It compares each message with the
//! sent one and counts. The address to which the relay connects decides how it behaves.
//!
//! It reads `stats` on standard input and answers with a line of JSON; it ends with its input.

use std::collections::HashMap;
use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use hdrhistogram::Histogram;
use memchr::memchr;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use crate::conn::{BLOCK, Conn};
use crate::message::{Pool, Reader, Received, Stamp, now};
use crate::source::{Percentiles, histogram};
use crate::tls;
use crate::world::Manner;

/// Threads, unless the command line sets another number.
pub(crate) const DEFAULT_THREADS: usize = 2;
/// The delay of a tarpit before each reply.
const TAR: Duration = Duration::from_secs(5);
/// How long the sink reads from a connection after it has closed its own side.
const LINGER: Duration = Duration::from_secs(5);

/// The properties of the remotes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Key and certificate.
    #[arg(long)]
    pub(crate) pem: PathBuf,
    /// Messages on one connection, after which it is closed; any number without it.
    #[arg(long)]
    pub(crate) mail_max: Option<u32>,
    /// Milliseconds from a command to its reply.
    #[arg(long, default_value_t = 0)]
    pub(crate) delay: u64,
    /// Threads.
    #[arg(long, default_value_t = DEFAULT_THREADS)]
    pub(crate) threads: usize,
}

/// The messages of one load that the sink has seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// Different messages that arrived undamaged.
    pub(crate) whole: u64,
    /// Numbers of messages that arrived more than once.
    pub(crate) twice: Vec<u64>,
    /// Messages that differed from the sent one.
    pub(crate) damaged: u64,
    /// Octets of undamaged messages.
    pub(crate) octets: u64,
    /// When the last message was complete.
    pub(crate) last: u64,
    /// The time from the submission of a message until it was complete.
    pub(crate) arrival: Percentiles,
}

/// All counts of the sink.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// By load.
    pub(crate) runs: HashMap<u32, Stats>,
    /// Messages without a readable stamp.
    pub(crate) strangers: u64,
    /// Connections so far.
    pub(crate) connections: u64,
    /// Connections on which a message is stuck.
    pub(crate) stuck: u64,
    /// Numbers of the messages that have arrived, of the load that the question names, if it names one.
    pub(crate) missing: Vec<u64>,
}

#[derive(Default)]
struct Tally {
    loads: HashMap<u32, Load>,
    strangers: u64,
    connections: u64,
    stuck: u64,
}

struct Load {
    seen: Vec<u8>,
    stats: Stats,
    arrival: Histogram<u64>,
}

impl Tally {
    fn load(&mut self, run: u32) -> &mut Load {
        self.loads.entry(run).or_insert_with(|| Load {
            seen: Vec::new(),
            stats: Stats::default(),
            arrival: histogram(),
        })
    }

    fn count(&mut self, received: &Received) {
        match received {
            Received::Whole(stamp) => self.load(stamp.run).count(stamp),
            Received::Damaged(Some(stamp)) => self.load(stamp.run).stats.damaged += 1,
            Received::Damaged(None) => self.strangers += 1,
            Received::Nothing => {}
        }
    }

    /// `stats`, or `missing RUN BEGUN`: the numbers below BEGUN that have not arrived.
    fn answer(&self, question: &str) -> Seen {
        let mut words = question.split(' ').skip(1).filter_map(|word| word.parse::<u64>().ok());
        let missing = match (words.next(), words.next()) {
            (Some(run), Some(begun)) => {
                let load = u32::try_from(run).ok().and_then(|run| self.loads.get(&run));
                let came =
                    |number: u64| load.is_some_and(|load| load.seen.get(number as usize).is_some_and(|n| *n > 0));
                (0..begun).filter(|number| !came(*number)).collect()
            }
            _ => Vec::new(),
        };
        let stats = |load: &Load| Stats { arrival: Percentiles::of(&load.arrival), ..load.stats.clone() };
        Seen {
            runs: self.loads.iter().map(|(run, load)| (*run, stats(load))).collect(),
            strangers: self.strangers,
            connections: self.connections,
            stuck: self.stuck,
            missing,
        }
    }
}

impl Load {
    fn count(&mut self, stamp: &Stamp) {
        let at = stamp.number as usize;
        if self.seen.len() <= at {
            self.seen.resize(at + 1, 0);
        }
        self.seen[at] = self.seen[at].saturating_add(1);
        if self.seen[at] > 1 {
            self.stats.twice.push(stamp.number);
            return;
        }
        self.stats.last = now();
        self.stats.whole += 1;
        self.stats.octets += (stamp.lines * 78) as u64;
        self.arrival.saturating_record(self.stats.last.saturating_sub(stamp.sent) / 1000);
    }
}

struct Sink {
    options: Options,
    tls: TlsAcceptor,
    pool: Pool,
    tally: Mutex<Tally>,
}

/// Serves until standard input ends.
pub(crate) async fn run(options: Options) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("a socket option");
    socket.bind(SocketAddr::from(([0, 0, 0, 0], 25))).expect("port 25: this runs in a network namespace, as root");
    let listener = socket.listen(16 * 1024).expect("a listener");
    let tls = tls::acceptor(&options.pem);
    let sink = Arc::new(Sink { options, tls, pool: Pool::new(), tally: Mutex::default() });
    let asked = Arc::clone(&sink);
    println!("ready");
    let control = tokio::task::spawn_blocking(move || {
        for question in io::stdin().lock().lines().map_while(Result::ok) {
            let answer = asked.tally.lock().expect("no thread panicked").answer(&question);
            let mut stdout = io::stdout().lock();
            serde_json::to_writer(&mut stdout, &answer).expect("our reader reads");
            stdout.write_all(b"\n").and_then(|()| stdout.flush()).expect("our reader reads");
        }
    });
    let serve = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            let sink = Arc::clone(&sink);
            // A relay may close a connection at any moment.
            tokio::spawn(async move { sink.serve(stream).await.ok() });
        }
    };
    tokio::select! {
        _ = control => {}
        () = serve => {}
    }
}

impl Sink {
    fn note(&self, note: impl FnOnce(&mut Tally)) {
        note(&mut self.tally.lock().expect("no thread panicked"));
    }

    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        self.note(|tally| tally.connections += 1);
        stream.set_nodelay(true)?;
        let manner = Manner::of(stream.local_addr()?.ip());
        if manner == Manner::Silent {
            self.note(|tally| tally.stuck += 1);
            return std::future::pending().await;
        }
        let mut session = Session::new(self, stream, manner);
        session.output.extend_from_slice(b"220 sink.bench.test ESMTP\r\n");
        if session.talk().await? == End::StartTls {
            let stream = self.tls.accept(session.conn.stream).await?;
            let mut session = Session::new(self, stream, manner);
            session.secure = true;
            session.talk().await?;
            session.leave().await?;
        }
        Ok(())
    }
}

#[derive(PartialEq)]
enum End {
    StartTls,
    Quit,
}

struct Session<'a, S> {
    sink: &'a Sink,
    conn: Conn<S>,
    output: BytesMut,
    manner: Manner,
    secure: bool,
    messages: u32,
    /// The reader of the message that is being received.
    reader: Option<Reader>,
    recipients: u32,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Session<'a, S> {
    fn new(sink: &'a Sink, stream: S, manner: Manner) -> Self {
        Self {
            sink,
            conn: Conn::new(stream),
            output: BytesMut::new(),
            manner,
            secure: false,
            messages: 0,
            reader: None,
            recipients: 0,
        }
    }

    async fn talk(&mut self) -> io::Result<End> {
        loop {
            let end = self.consume().await;
            self.say().await?;
            if let Some(end) = end {
                return Ok(end);
            }
            self.conn.fill(if self.reader.is_some() { BLOCK } else { 8192 }).await?;
        }
    }

    /// Sends the pending replies, in one write, after the remote's delay.
    async fn say(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let delay = match self.manner {
            Manner::Tarpit => TAR,
            _ => Duration::from_millis(self.sink.options.delay),
        };
        if !delay.is_zero() {
            sleep(delay).await;
        }
        self.conn.stream.write_all(&self.output).await?;
        self.conn.stream.flush().await?;
        self.output.clear();
        Ok(())
    }

    /// Handles all the received input.
    async fn consume(&mut self) -> Option<End> {
        loop {
            if let Some(reader) = &mut self.reader {
                let received = reader.read(&self.sink.pool, &mut self.conn.input)?;
                self.reader = None;
                self.recipients = 0;
                if self.manner == Manner::Unanswering {
                    return self.stick().await;
                }
                self.sink.note(|tally| tally.count(&received));
                self.output.extend_from_slice(b"250 2.0.0 taken\r\n");
                self.messages += 1;
                if self.sink.options.mail_max.is_some_and(|most| self.messages >= most) {
                    return Some(End::Quit);
                }
                continue;
            }
            let Some(end) = memchr(b'\n', &self.conn.input) else {
                if self.conn.input.is_empty() {
                    self.conn.input = BytesMut::new();
                }
                return None;
            };
            let line = self.conn.input.split_to(end + 1);
            let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
            match verb.as_slice() {
                b"EHLO" => self.output.extend_from_slice(self.offer().as_bytes()),
                b"STAR" if !self.secure => {
                    self.output.extend_from_slice(b"220 2.0.0 go ahead\r\n");
                    return Some(End::StartTls);
                }
                // Commands without TLS are refused, so such mail counts as a refusal and as a loss.
                _ if !self.secure && verb != *b"QUIT" => self.output.extend_from_slice(b"530 5.7.0 STARTTLS first\r\n"),
                b"MAIL" => self.output.extend_from_slice(b"250 2.1.0 sender\r\n"),
                b"RCPT" => {
                    self.recipients += 1;
                    self.output.extend_from_slice(b"250 2.1.5 recipient\r\n");
                }
                b"DATA" if self.recipients == 0 => self.output.extend_from_slice(b"554 5.5.1 to whom?\r\n"),
                b"DATA" => {
                    self.output.extend_from_slice(b"354 go ahead\r\n");
                    self.reader = Some(Reader::default());
                    if self.manner == Manner::Deaf {
                        let _ = self.say().await;
                        return self.stick().await;
                    }
                }
                b"RSET" => {
                    self.recipients = 0;
                    self.output.extend_from_slice(b"250 2.0.0 forgotten\r\n");
                }
                b"NOOP" => self.output.extend_from_slice(b"250 2.0.0 yes\r\n"),
                b"QUIT" => {
                    self.output.extend_from_slice(b"221 2.0.0 bye\r\n");
                    return Some(End::Quit);
                }
                _ => self.output.extend_from_slice(b"500 5.5.2 what?\r\n"),
            }
        }
    }

    fn offer(&self) -> String {
        let starttls = if self.secure { "" } else { "250-STARTTLS\r\n" };
        // RFC 9422: a client that knows LIMITS does not try a second message.
        let limits =
            self.sink.options.mail_max.map(|most| format!("250-LIMITS MAILMAX={most}\r\n")).unwrap_or_default();
        format!(
            "250-sink.bench.test\r\n250-PIPELINING\r\n250-SIZE 0\r\n{starttls}{limits}250-ENHANCEDSTATUSCODES\r\n250 8BITMIME\r\n"
        )
    }

    /// Waits for ever; the connection stays open.
    async fn stick(&mut self) -> Option<End> {
        self.conn.input = BytesMut::new();
        self.sink.note(|tally| tally.stuck += 1);
        std::future::pending().await
    }

    /// Closes its own side and reads the relay's remaining octets, so that no reset makes the relay lose a reply.
    async fn leave(&mut self) -> io::Result<()> {
        self.conn.stream.shutdown().await?;
        let mut rest = [0; 512];
        let drain = async {
            while self.conn.stream.read(&mut rest).await? > 0 {}
            Ok(())
        };
        tokio::time::timeout(LINGER, drain).await.unwrap_or(Ok(()))
    }
}
