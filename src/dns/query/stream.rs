//! Connections to one name server, over TCP or TLS, that are kept and carry several questions at once (RFC 7766 §6.2.1).
//!
//! Each connection has a task, which writes the questions as they come and hands out the replies as they come, in any order
//! (RFC 7766 §7). A reply to another question ends the connection. If its connection ends, a question goes out once more, on a
//! connection of its own: a server may close one that is idle at any time, and some answer one question on each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error as TlsError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::super::FailureReason;
use super::super::server::{NameServer, Transport};
use super::network;
use super::question::QueryMessage;

/// How many connections to one server are kept.
const MAX_CONNECTIONS: usize = 8;
/// How many questions one connection carries at once.
const MAX_QUESTIONS: usize = 64;
/// How long a connection is kept without a question. Servers close connections that are idle, some without notice (RFC 7766
/// §6.2.3).
const IDLE: Duration = Duration::from_secs(5);
/// A connection on which questions have waited for so long without any octet gets no more of them.
const STALLED: Duration = Duration::from_secs(1);

type ExchangeResult = Result<Vec<u8>, FailureReason>;

/// The connections to one server.
pub(super) struct Streams {
    server: NameServer,
    timeout: Duration,
    tls: Arc<ClientConfig>,
    lines: Mutex<Vec<ConnectionHandle>>,
}

/// One connection, as those with questions see it.
#[derive(Clone)]
struct ConnectionHandle {
    questions: mpsc::Sender<PendingQuery>,
    vitals: Arc<Mutex<Vitals>>,
}

/// Whether a connection was there before the question.
#[derive(Clone, Copy)]
enum Age {
    Kept,
    Fresh,
}

/// The state of a connection.
struct Vitals {
    /// Questions without a reply.
    waiting: usize,
    /// When an octet came last, or the first of the waiting questions.
    heard: Instant,
}

/// A question on its way to the connection.
struct PendingQuery {
    message: QueryMessage,
    reply: oneshot::Sender<ExchangeResult>,
}

impl Streams {
    /// None is opened yet.
    pub(super) fn new(server: NameServer, timeout: Duration, tls: Arc<ClientConfig>) -> Self {
        Self { server, timeout, tls, lines: Mutex::default() }
    }

    /// Puts one question. `request` makes a message with an ID of its own.
    ///
    /// # Errors
    /// There is no reply, neither on a connection that was there nor on a fresh one.
    pub(super) async fn exchange(&self, request: impl Fn() -> Result<QueryMessage, FailureReason>) -> ExchangeResult {
        let (line, age) = self.shared();
        match (line.put(request()?).await, age) {
            (Err(FailureReason::Network(_) | FailureReason::Malformed(_)), Age::Kept) => {}
            (reply, Age::Kept | Age::Fresh) => return reply,
        }
        let alone = self.open();
        let reply = alone.put(request()?).await?;
        let mut lines = self.lines.lock();
        if lines.len() < MAX_CONNECTIONS {
            lines.push(alone);
        }
        Ok(reply)
    }

    /// The connection with the fewest questions; a fresh one where each of them has all that it carries.
    fn shared(&self) -> (ConnectionHandle, Age) {
        let mut lines = self.lines.lock();
        lines.retain(ConnectionHandle::is_of_use);
        let full = lines.len() >= MAX_CONNECTIONS;
        let kept = lines.iter().filter(|line| full || line.load() < MAX_QUESTIONS).min_by_key(|line| line.load());
        if let Some(kept) = kept {
            return (kept.clone(), Age::Kept);
        }
        let line = self.open();
        lines.push(line.clone());
        (line, Age::Fresh)
    }

    fn open(&self) -> ConnectionHandle {
        let (questions, asked) = mpsc::channel(MAX_QUESTIONS);
        let vitals = Arc::new(Mutex::new(Vitals { waiting: 0, heard: Instant::now() }));
        let line = ConnectionHandle { questions, vitals: Arc::clone(&vitals) };
        let connection =
            DnsConnection { asked, vitals, waiting: HashMap::new(), unread: BytesMut::new(), patience: self.timeout };
        tokio::spawn(connection.live(self.server.clone(), Arc::clone(&self.tls)));
        line
    }
}

impl ConnectionHandle {
    async fn put(&self, message: QueryMessage) -> ExchangeResult {
        let gone = || FailureReason::Network("the server closed the connection".to_owned());
        let (reply, replied) = oneshot::channel();
        self.questions.send(PendingQuery { message, reply }).await.map_err(|_| gone())?;
        replied.await.unwrap_or_else(|_| Err(gone()))
    }

    fn is_of_use(&self) -> bool {
        !self.questions.is_closed() && (self.load() == 0 || self.vitals.lock().heard.elapsed() < STALLED)
    }

    /// The questions that wait for a reply, or to be written.
    fn load(&self) -> usize {
        self.vitals.lock().waiting + MAX_QUESTIONS - self.questions.capacity()
    }
}

/// The task of a connection.
struct DnsConnection {
    asked: mpsc::Receiver<PendingQuery>,
    vitals: Arc<Mutex<Vitals>>,
    waiting: HashMap<[u8; 2], PendingQuery>,
    unread: BytesMut,
    /// The longest time for connecting, and for writing one question.
    patience: Duration,
}

impl DnsConnection {
    /// From connecting to the end, which those with questions hear.
    async fn live(mut self, server: NameServer, tls: Arc<ClientConfig>) {
        let opened = async {
            let tcp = TcpStream::connect(server.address).await.map_err(network)?;
            // Each question is one write; the next must not wait for the acknowledgement of the last.
            tcp.set_nodelay(true).map_err(network)?;
            let Transport::Tls(name) = &server.transport else { return Ok(Box::new(tcp) as Box<dyn DnsStream>) };
            let server_name = ServerName::try_from(name.as_str().to_owned()).map_err(|error| {
                let why = TlsError::General(format!("{name} cannot be in a certificate: {error}"));
                FailureReason::Network(why.to_string())
            })?;
            let stream = TlsConnector::from(tls).connect(server_name, tcp).await.map_err(network)?;
            Ok(Box::new(stream) as Box<dyn DnsStream>)
        };
        let ended = match timeout(self.patience, opened).await.unwrap_or(Err(FailureReason::Timeout)) {
            Ok(stream) => self.carry(stream).await,
            Err(reason) => reason,
        };
        self.asked.close();
        while let Ok(asked) = self.asked.try_recv() {
            let _ = asked.reply.send(Err(ended.clone()));
        }
        for (_, asked) in self.waiting.drain() {
            let _ = asked.reply.send(Err(ended.clone()));
        }
    }

    /// Carries questions and replies until the connection ends. Returns why.
    async fn carry(&mut self, stream: Box<dyn DnsStream>) -> FailureReason {
        let (mut reading, mut writing): (ReadHalf<_>, WriteHalf<_>) = tokio::io::split(stream);
        let ended = |why: &str| FailureReason::Network(why.to_owned());
        loop {
            let idle = if self.waiting.is_empty() { IDLE } else { IDLE.max(self.patience) };
            let done = tokio::select! {
                asked = self.asked.recv(), if self.waiting.len() < MAX_QUESTIONS => match asked {
                    Some(asked) => self.write(&mut writing, asked).await,
                    None => return ended("the connection is not needed any more"),
                },
                read = reading.read_buf(&mut self.unread) => match read {
                    Ok(0) => return ended("the server closed the connection"),
                    Ok(_) => self.hand_out(),
                    Err(error) => return network(error),
                },
                // Nothing came for that long: there is no question, or no reply.
                () = tokio::time::sleep(idle) => return ended("the connection was idle"),
            };
            if let Err(reason) = done {
                return reason;
            }
            self.note();
        }
    }

    async fn write(
        &mut self,
        to: &mut (impl AsyncWrite + Unpin),
        mut asked: PendingQuery,
    ) -> Result<(), FailureReason> {
        while asked.message.id().is_some_and(|id| self.waiting.contains_key(&id)) {
            asked.message.renumber()?;
        }
        let framed = asked.message.framed()?;
        if self.waiting.is_empty() {
            self.vitals.lock().heard = Instant::now();
        }
        if let Some(id) = asked.message.id() {
            self.waiting.insert(id, asked);
        }
        let written = async {
            to.write_all(&framed).await?;
            to.flush().await
        };
        timeout(self.patience, written).await.map_err(|_| FailureReason::Timeout)?.map_err(network)
    }

    /// Hands out the replies that are whole.
    fn hand_out(&mut self) -> Result<(), FailureReason> {
        self.vitals.lock().heard = Instant::now();
        while let Some((length, behind)) = self.unread.split_first_chunk()
            && let Some(reply) = behind.get(..usize::from(u16::from_be_bytes(*length)))
        {
            let reply = reply.to_vec();
            self.unread.advance(size_of::<u16>() + reply.len());
            let asked = reply.first_chunk().and_then(|id| self.waiting.remove(id));
            let asked = asked.filter(|asked| asked.message.is_answered_by(&reply));
            let asked = asked.ok_or_else(|| FailureReason::Malformed("it is a reply to something else".to_owned()))?;
            // The one who asked may have given up.
            let _ = asked.reply.send(Ok(reply));
        }
        Ok(())
    }

    fn note(&self) {
        self.vitals.lock().waiting = self.waiting.len();
    }
}

/// A connection in either form.
trait DnsStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> DnsStream for T {}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use rustls::RootCertStore;
    use tokio::net::TcpListener;

    use super::super::super::canonical::CanonicalName;
    use super::super::super::links::Question;
    use super::super::super::reply::Rtype;
    use super::super::Purpose;
    use super::*;

    /// A server's side of one connection.
    struct Served(TcpStream);

    impl Served {
        async fn accept(listener: &TcpListener) -> Self {
            Self(listener.accept().await.unwrap().0)
        }

        /// The next question; none at the end.
        async fn question(&mut self) -> Option<Vec<u8>> {
            let length = self.0.read_u16().await.ok()?;
            let mut question = vec![0; usize::from(length)];
            self.0.read_exact(&mut question).await.ok()?;
            Some(question)
        }

        async fn questions(&mut self, number: usize) -> Vec<Vec<u8>> {
            let mut questions = Vec::new();
            while questions.len() < number {
                questions.push(self.question().await.unwrap());
            }
            questions
        }

        async fn reply(&mut self, question: &[u8]) {
            let mut reply = [&u16::try_from(question.len()).unwrap().to_be_bytes()[..], question].concat();
            reply[4] |= 0x80;
            self.0.write_all(&reply).await.unwrap();
        }
    }

    fn tls() -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    }

    async fn listening() -> (TcpListener, Streams) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = NameServer::from(listener.local_addr().unwrap());
        (listener, Streams::new(server, Duration::from_secs(3), tls()))
    }

    fn query(number: usize) -> Result<QueryMessage, FailureReason> {
        let name = CanonicalName::from_labels([format!("n{number}").as_bytes(), b"test"].into_iter());
        QueryMessage::new(&Question { name, rtype: Rtype::A }, &Transport::Plain, Purpose::Validate)
    }

    /// Puts the question with this number, and tells whether the reply is one to it.
    async fn asked(streams: &Streams, number: usize) -> Result<bool, FailureReason> {
        let reply = streams.exchange(|| query(number)).await?;
        let own = query(number)?;
        Ok(reply.get(12..).map(<[u8]>::to_ascii_lowercase) == own.octets.get(12..).map(<[u8]>::to_ascii_lowercase))
    }

    #[tokio::test]
    async fn questions_share_a_connection_and_replies_come_in_any_order() {
        // RFC 7766 §6.2.1, §7: the server answers once it has all questions, the last one first.
        const NUMBER: usize = MAX_QUESTIONS / 2;
        let (listener, streams) = listening().await;
        let server = async {
            let mut served = Served::accept(&listener).await;
            for question in served.questions(NUMBER).await.iter().rev() {
                served.reply(question).await;
            }
            served
        };
        let questions = join_all((0..NUMBER).map(|number| asked(&streams, number)));
        let (answers, _served) = tokio::join!(questions, server);
        assert_eq!(answers, vec![Ok(true); NUMBER]);
        let loads: Vec<usize> = streams.lines.lock().iter().map(ConnectionHandle::load).collect();
        assert_eq!(loads, [0]);
    }

    #[tokio::test]
    async fn questions_of_a_connection_that_breaks_go_out_once_more() {
        // RFC 7766 §6.2.4: the server answers one question and closes; each other one comes again on a connection of its own.
        let (listener, streams) = listening().await;
        let server = async {
            let mut served = Served::accept(&listener).await;
            let questions = served.questions(4).await;
            served.reply(&questions[0]).await;
            drop(served);
            let mut served = Vec::new();
            for _ in 1..4 {
                let mut again = Served::accept(&listener).await;
                let question = again.question().await.unwrap();
                again.reply(&question).await;
                served.push(again);
            }
            served
        };
        let questions = join_all((0..4).map(|number| asked(&streams, number)));
        let (answers, served) = tokio::join!(questions, server);
        assert_eq!((answers, served.len()), (vec![Ok(true); 4], 3));
        // They are kept for the next questions.
        assert_eq!(streams.lines.lock().iter().filter(|line| line.is_of_use()).count(), 3);
    }

    #[tokio::test]
    async fn a_connection_that_breaks_at_once_is_a_failure() {
        // The only question of a fresh connection: it is for the caller to ask another server.
        let (listener, streams) = listening().await;
        let server = async {
            let mut served = Served::accept(&listener).await;
            served.question().await.unwrap();
        };
        let (answer, ()) = tokio::join!(asked(&streams, 0), server);
        assert!(matches!(answer, Err(FailureReason::Network(_))), "{answer:?}");
    }

    #[tokio::test]
    async fn a_reply_to_something_else_ends_the_connection() {
        let (listener, streams) = listening().await;
        let server = async {
            let mut served = Served::accept(&listener).await;
            let mut questions = served.questions(2).await;
            // The ID of the one and the name of the other.
            let id = questions[0][..2].to_vec();
            questions[1][..2].copy_from_slice(&id);
            served.reply(&questions[1].clone()).await;
            let ended = served.question().await.is_none();
            let mut again = Served::accept(&listener).await;
            let question = again.question().await.unwrap();
            again.reply(&question).await;
            (ended, again)
        };
        let questions = async { tokio::join!(asked(&streams, 0), asked(&streams, 1)) };
        let ((first, second), (ended, _again)) = tokio::join!(questions, server);
        // The first one opened the connection, and the second one found it there.
        assert!(first.is_err(), "{first:?}");
        assert!(second == Ok(true) && ended, "{second:?}");
    }

    #[tokio::test]
    async fn a_connection_without_questions_is_closed_after_a_while() {
        let (listener, streams) = listening().await;
        let mut served = {
            let server = async {
                let mut served = Served::accept(&listener).await;
                let question = served.question().await.unwrap();
                served.reply(&question).await;
                served
            };
            let (answer, served) = tokio::join!(asked(&streams, 0), server);
            assert_eq!(answer, Ok(true));
            served
        };
        tokio::time::pause();
        let began = Instant::now();
        assert!(served.question().await.is_none());
        // The connection counts from the reply, which came a little earlier.
        assert!((IDLE / 2..IDLE * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
        tokio::time::resume();
        let server = async {
            let mut served = Served::accept(&listener).await;
            let question = served.question().await.unwrap();
            served.reply(&question).await;
        };
        let (answer, ()) = tokio::join!(asked(&streams, 1), server);
        assert_eq!(answer, Ok(true));
    }
}
