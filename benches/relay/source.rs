//! The load source: a mail server with much to send. Its clients pipeline MAIL, RCPT and DATA (RFC 2920), send their
//! next message when the last one is answered, and record the reply to each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::conn::{Conn, text};
use crate::message::{Pool, Stamp, now};
use crate::tls::Credulous;
use crate::world::{Domain, Manner};

/// The options of a load.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The address to send it to.
    #[arg(long)]
    pub(crate) to: SocketAddr,
    /// STARTTLS first, with any certificate accepted: for connections to the sink itself.
    #[arg(long)]
    pub(crate) tls: bool,
    /// Connections at a time.
    #[arg(long)]
    pub(crate) sessions: usize,
    /// Octets of a message.
    #[arg(long)]
    pub(crate) size: usize,
    /// The number of domains to which the messages go, in turn.
    #[arg(long)]
    pub(crate) domains: u64,
    /// Recipients of each message.
    #[arg(long, default_value_t = 1)]
    pub(crate) recipients: usize,
    /// The behaviour of their hosts, as the letter of their names.
    #[arg(long)]
    pub(crate) manner: char,
    /// Messages in all.
    #[arg(long)]
    pub(crate) messages: Option<u64>,
    /// Seconds after which no message is begun.
    #[arg(long)]
    pub(crate) seconds: Option<f64>,
    /// Messages a second; as many as possible without it.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
    /// The number of this load.
    #[arg(long)]
    pub(crate) run: u32,
    /// A new connection for each message.
    #[arg(long)]
    pub(crate) once: bool,
    /// Seconds to wait for an answer.
    #[arg(long, default_value_t = 120.0)]
    pub(crate) patience: f64,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
}

/// The results of a load.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Messages begun; they are numbered from 0.
    pub(crate) begun: u64,
    /// Numbers of the refused messages.
    pub(crate) refused: Vec<u64>,
    /// Numbers of the messages without an answer.
    pub(crate) unanswered: Vec<u64>,
    /// The replies in place of 250, and how often they came.
    pub(crate) said: BTreeMap<String, u64>,
    /// When the first message was begun.
    pub(crate) started: u64,
    /// From MAIL to the answer to the message.
    pub(crate) latency: Percentiles,
    /// From the first packet to the greeting.
    pub(crate) greeting: Percentiles,
    /// Connections that were greeted with 220.
    pub(crate) greeted: u64,
    /// Connections that got another greeting.
    pub(crate) turned_away: u64,
    /// Connections that got no greeting.
    pub(crate) lost: u64,
}

/// In microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl Percentiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            max: if histogram.is_empty() { 0 } else { histogram.max() },
        }
    }
}

/// Microseconds, up to an hour, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("sound bounds")
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

struct Source {
    options: Options,
    pool: Pool,
    tls: Credulous,
    next: AtomicU64,
    begin: Instant,
    account: Mutex<Account>,
}

struct Account {
    report: Report,
    latency: Histogram<u64>,
    greeting: Histogram<u64>,
}

/// How a transaction ended, if the connection outlived it.
enum Answer {
    Taken,
    Refused(String),
}

/// Sends the load, and returns the report when all messages are answered.
pub(crate) async fn run(options: Options) -> Report {
    let account = Account { report: Report::default(), latency: histogram(), greeting: histogram() };
    let source = Arc::new(Source {
        pool: Pool::new(),
        tls: Credulous::new(),
        next: AtomicU64::new(0),
        begin: Instant::now(),
        account: Mutex::new(account),
        options,
    });
    let started = now();
    let sessions: Vec<_> = (0..source.options.sessions).map(|_| tokio::spawn(session(Arc::clone(&source)))).collect();
    for session in sessions {
        session.await.expect("a session does not panic");
    }
    let Account { mut report, latency, greeting } =
        Arc::into_inner(source).expect("all sessions have ended").account.into_inner().expect("no thread panicked");
    report.started = started;
    report.begun = report.begun.max(report.refused.len() as u64);
    report.latency = Percentiles::of(&latency);
    report.greeting = Percentiles::of(&greeting);
    report
}

async fn session(source: Arc<Source>) {
    let mut latency = histogram();
    while source.is_open() {
        let ended = source.connection(&mut latency).await;
        if source.options.once && source.options.sessions as u64 >= source.options.messages.unwrap_or(u64::MAX) {
            // This session makes one connection only, even if that one fails.
            break;
        }
        if ended.is_err() {
            // The account has the error. The session connects again soon, to a relay that turns clients away too.
            sleep(Duration::from_millis(10)).await;
        }
    }
    source.note(|account| account.latency.add(&latency).expect("equal bounds"));
}

impl Source {
    fn note(&self, note: impl FnOnce(&mut Account)) {
        note(&mut self.account.lock().expect("no thread panicked"));
    }

    /// Whether the load has more messages to begin.
    fn is_open(&self) -> bool {
        let over = |seconds| self.begin.elapsed().as_secs_f64() >= seconds;
        let all = |messages| self.next.load(Ordering::Relaxed) >= messages;
        !self.options.seconds.is_some_and(over) && !self.options.messages.is_some_and(all)
    }

    /// The number of the next message, when its time has come.
    async fn next(&self) -> Option<u64> {
        if !self.is_open() {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if self.options.messages.is_some_and(|messages| number >= messages) {
            return None;
        }
        if let Some(rate) = self.options.rate {
            sleep_until(self.begin + Duration::from_secs_f64(number as f64 / rate)).await;
        }
        Some(number)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.options.patience)
    }

    /// One connection, for as long as it lasts.
    async fn connection(&self, latency: &mut Histogram<u64>) -> io::Result<()> {
        let begin = Instant::now();
        let greeted = timeout(self.patience(), async {
            let stream = TcpStream::connect(self.options.to).await?;
            stream.set_nodelay(true)?;
            let mut conn = Conn::new(stream);
            let greeting = conn.reply().await?;
            Ok::<_, io::Error>((conn, greeting))
        });
        let (conn, greeting) = match greeted.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(greeted) => greeted,
            Err(error) => {
                self.note(|account| {
                    account.report.lost += 1;
                    *account.report.said.entry(format!("(connecting) {error}")).or_default() += 1;
                });
                return Err(error);
            }
        };
        if !greeting.starts_with(b"220") {
            self.note(|account| {
                account.report.turned_away += 1;
                *account.report.said.entry(text(&greeting)).or_default() += 1;
            });
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        self.note(|account| {
            account.report.greeted += 1;
            account.greeting.saturating_record(micros(begin.elapsed()));
        });
        if self.options.tls {
            let mut conn = conn;
            exchange(&mut conn, "EHLO source.test").await?;
            exchange(&mut conn, "STARTTLS").await?;
            self.talk(Conn::new(self.tls.connect(conn.stream).await?), latency).await
        } else {
            self.talk(conn, latency).await
        }
    }

    async fn talk<S>(&self, mut conn: Conn<S>, latency: &mut Histogram<u64>) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        exchange(&mut conn, "EHLO source.test").await?;
        while let Some(number) = self.next().await {
            let begin = Instant::now();
            let answer = timeout(self.patience(), self.transaction(&mut conn, number)).await;
            latency.saturating_record(micros(begin.elapsed()));
            let lost = match answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(Answer::Taken) => {
                    self.note(|account| account.report.begun += 1);
                    None
                }
                Ok(Answer::Refused(text)) => {
                    self.note(|account| {
                        account.report.begun += 1;
                        account.report.refused.push(number);
                        *account.report.said.entry(text).or_default() += 1;
                    });
                    // Not at once: a refusal costs less than a delivery, and no client tries twice in a millisecond.
                    sleep(Duration::from_millis(10)).await;
                    None
                }
                Err(error) => {
                    self.note(|account| {
                        account.report.begun += 1;
                        account.report.unanswered.push(number);
                        *account.report.said.entry(format!("(in a message) {error}")).or_default() += 1;
                    });
                    Some(error)
                }
            };
            if let Some(error) = lost {
                return Err(error);
            }
            if self.options.once {
                break;
            }
        }
        match (self.options.once, exchange(&mut conn, "QUIT").await) {
            // The sink that takes one message on a connection has closed it.
            (true, _) => Ok(()),
            (false, ended) => ended,
        }
    }

    async fn transaction<S>(&self, conn: &mut Conn<S>, number: u64) -> io::Result<Answer>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let manner = Manner::from_letter(self.options.manner).unwrap_or(Manner::Healthy);
        let domain = Domain { manner, number: number % self.options.domains };
        let stamp = Stamp::new(self.options.run, number, self.options.size);
        let recipient = format!("u@{}", domain.name());
        let mut commands = format!("MAIL FROM:<source@source.test>\r\nRCPT TO:<{recipient}>\r\n");
        for number in 1..self.options.recipients {
            let _ = write!(commands, "RCPT TO:<u{number}@{}>\r\n", domain.name());
        }
        commands.push_str("DATA\r\n");
        conn.stream.write_all(commands.as_bytes()).await?;
        conn.stream.flush().await?;
        let paths = 1 + self.options.recipients;
        let replies = conn.replies(paths + 1).await?;
        let mut lines = replies.split_inclusive(|octet| *octet == b'\n').filter(|line| line.get(3) != Some(&b'-'));
        let no = lines.clone().take(paths).find(|line| !line.starts_with(b"250"));
        let go = lines.nth(paths).unwrap_or_default();
        if let (Some(no), false) = (no, go.starts_with(b"354")) {
            return Ok(Answer::Refused(text(no)));
        }
        if let Some(no) = no {
            // RFC 2920 §3.1: the relay has accepted DATA although it has accepted no recipient.
            conn.stream.write_all(b".\r\n").await?;
            conn.stream.flush().await?;
            conn.reply().await?;
            return Ok(Answer::Refused(text(no)));
        }
        if !go.starts_with(b"354") {
            return Ok(Answer::Refused(text(go)));
        }
        let mut message = stamp.header(&recipient).into_bytes();
        for piece in stamp.body(&self.pool) {
            if message.len() + piece.len() <= crate::conn::BLOCK {
                message.extend_from_slice(piece);
            } else {
                conn.stream.write_all(&message).await?;
                message.clear();
                conn.stream.write_all(piece).await?;
            }
        }
        message.extend_from_slice(b".\r\n");
        conn.stream.write_all(&message).await?;
        conn.stream.flush().await?;
        let answer = conn.reply().await?;
        Ok(if answer.starts_with(b"250") { Answer::Taken } else { Answer::Refused(text(&answer)) })
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(conn: &mut Conn<S>, command: &str) -> io::Result<()> {
    conn.stream.write_all(format!("{command}\r\n").as_bytes()).await?;
    conn.stream.flush().await?;
    conn.reply().await.map(drop)
}
