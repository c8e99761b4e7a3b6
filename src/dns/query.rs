//! One question to one name server, and the octets of its reply: over UDP, over TCP where UDP cut the reply short
//! (RFC 7766 §5), or over TLS (RFC 7858).
//!
//! The library's own pool of servers is made for answers and loses the rest of a reply: above all the AD bit of a
//! denial. This module keeps all octets, and reads only those that tell whether this is a reply to this question: the
//! ID, the direction and the question itself (RFC 5452 §9.1). A message that does not fit is ignored over UDP, where
//! any host can send one, and is an error on a connection.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, Error as TlsError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::FailureReason;
use super::links::Question;
use super::server::{NameServer, Transport};
use crate::name::Name;
use crate::scarce::Scarcity;

/// How many questions may be on their way to one server at once.
const IN_FLIGHT: usize = 200;
/// How many TLS connections are kept for the next question.
const IDLE_CONNECTIONS: usize = 8;
/// For how long. Servers close connections that are idle (RFC 7858 §3.4), some without notice.
const IDLE_FOR: Duration = Duration::from_secs(5);
/// The largest UDP reply that is asked for (RFC 9715 §3.1).
const PAYLOAD: u16 = 1232;
/// The buffer for one UDP reply. A longer one is cut off, and cannot be read then.
const DATAGRAM: usize = 4096;
/// The EDNS option that makes all questions the same size, so that an observer cannot tell them apart by it (RFC 7830
/// §3).
pub(super) const PADDING: u16 = 12;
/// Questions over TLS are multiples of this (RFC 8467 §4.1).
const BLOCK: usize = 128;
/// Octets of an option before its data (RFC 6891 §6.1.2).
const OPTION: u16 = 4;
/// Octets of a message before its question (RFC 1035 §4.1.1).
const HEADER: usize = 12;
/// Flags: recursion desired and AD, by which we say that we understand the bit (RFC 6840 §5.7). CD stays clear: with it
/// the server would not validate (RFC 6840 §5.9).
const FLAGS: [u8; 2] = [0x01, 0x20];

/// The way to one name server.
pub(super) struct QueryClient {
    server: NameServer,
    timeout: Duration,
    tls: Arc<ClientConfig>,
    idle: Mutex<Vec<(Instant, TlsStream<TcpStream>)>>,
    permits: Semaphore,
}

impl QueryClient {
    /// A line to `server`; a reply has to come within `timeout`.
    pub(super) fn new(server: NameServer, timeout: Duration, tls: Arc<ClientConfig>) -> Self {
        Self { server, timeout, tls, idle: Mutex::default(), permits: Semaphore::new(IN_FLIGHT) }
    }

    /// Puts one question. The reply is whole and is one to this question; no more is known of it.
    ///
    /// # Errors
    /// There is no such reply in time. A reply that is truncated over UDP and does not come over TCP is among them.
    pub(super) async fn ask(&self, question: &Question) -> Result<Vec<u8>, FailureReason> {
        // The semaphore is never closed; should that change, the lookup fails.
        let _permit = self.permits.acquire().await.map_err(|error| FailureReason::Network(error.to_string()))?;
        let request = QueryMessage::new(question, &self.server.transport)?;
        match &self.server.transport {
            Transport::Plain => {
                let reply = self.in_time(self.over_udp(&request)).await?;
                // RFC 2181 §9: a truncated reply is of no use.
                if is_truncated(&reply) { self.in_time(self.over_tcp(&request)).await } else { Ok(reply) }
            }
            Transport::Tls(name) => self.in_time(self.over_tls(&request, name)).await,
        }
    }

    /// Puts one question over TCP, whatever UDP would say.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(super) async fn ask_over_tcp(&self, question: &Question) -> Result<Vec<u8>, FailureReason> {
        let request = QueryMessage::new(question, &self.server.transport)?;
        self.in_time(self.over_tcp(&request)).await
    }

    async fn in_time<T>(&self, asking: impl Future<Output = Result<T, FailureReason>>) -> Result<T, FailureReason> {
        tokio::time::timeout(self.timeout, asking).await.unwrap_or(Err(FailureReason::Timeout))
    }

    async fn over_udp(&self, request: &QueryMessage) -> Result<Vec<u8>, FailureReason> {
        let any: SocketAddr = match self.server.address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        // A socket of its own, and so a port of its own, for each question (RFC 5452 §9.2).
        let socket = UdpSocket::bind(any).await.map_err(network)?;
        socket.connect(self.server.address).await.map_err(network)?;
        socket.send(&request.octets).await.map_err(network)?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let length = socket.recv(&mut buffer).await.map_err(network)?;
            let Some(reply) = buffer.get(..length).filter(|reply| request.is_answered_by(reply)) else { continue };
            return Ok(reply.to_vec());
        }
    }

    async fn over_tcp(&self, request: &QueryMessage) -> Result<Vec<u8>, FailureReason> {
        let mut stream = TcpStream::connect(self.server.address).await.map_err(network)?;
        request.put(&mut stream).await
    }

    /// Uses an idle connection if there is one. The server may have closed it meanwhile, so a failure on it is not
    /// reported: the question goes out again on a fresh connection.
    async fn over_tls(&self, request: &QueryMessage, name: &Name) -> Result<Vec<u8>, FailureReason> {
        if let Some(mut stream) = self.take_idle()
            && let Ok(reply) = request.put(&mut stream).await
        {
            self.keep(stream);
            return Ok(reply);
        }
        let server_name = ServerName::try_from(name.as_str().to_owned()).map_err(|error| {
            FailureReason::Network(TlsError::General(format!("{name} cannot be in a certificate: {error}")).to_string())
        })?;
        let tcp = TcpStream::connect(self.server.address).await.map_err(network)?;
        let mut stream = TlsConnector::from(Arc::clone(&self.tls)).connect(server_name, tcp).await.map_err(network)?;
        let reply = request.put(&mut stream).await?;
        self.keep(stream);
        Ok(reply)
    }

    fn take_idle(&self) -> Option<TlsStream<TcpStream>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(since, _)| since.elapsed() < IDLE_FOR);
        idle.pop().map(|(_, stream)| stream)
    }

    fn keep(&self, stream: TlsStream<TcpStream>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS {
            idle.push((Instant::now(), stream));
        }
    }
}

/// A query message, and the part of it that a reply must repeat.
struct QueryMessage {
    octets: Vec<u8>,
    /// Where the question ends.
    end: usize,
}

impl QueryMessage {
    fn new(question: &Question, transport: &Transport) -> Result<Self, FailureReason> {
        let mut octets = random_id()?.to_vec();
        octets.extend(FLAGS);
        octets.extend([0, 1, 0, 0, 0, 0, 0, 1]);
        for label in question.name.labels() {
            octets.push(u8::try_from(label.len()).map_err(|_| FailureReason::NameTooLong)?);
            octets.extend(label);
        }
        octets.push(0);
        octets.extend(question.rtype.0.to_be_bytes());
        octets.extend([0, 1]);
        let end = octets.len();
        // RFC 6891 §6.1.2: the OPT record; DO is the first bit of its flags (RFC 3225 §3).
        octets.extend([0, 0, 41]);
        octets.extend(PAYLOAD.to_be_bytes());
        octets.extend([0, 0, 0x80, 0]);
        match transport {
            Transport::Plain => octets.extend([0, 0]),
            Transport::Tls(_) => {
                let padding = padding(octets.len() + 2);
                let length = u16::try_from(padding).map_err(|_| FailureReason::NameTooLong)?;
                octets.extend((length + OPTION).to_be_bytes());
                octets.extend(PADDING.to_be_bytes());
                octets.extend(length.to_be_bytes());
                octets.resize(octets.len() + padding, 0);
            }
        }
        Ok(Self { octets, end })
    }

    /// RFC 5452 §9.1: the ID and the question are ours; and it is a response to a standard query.
    fn is_answered_by(&self, reply: &[u8]) -> bool {
        let repeats = |from: usize, to: usize, same: fn(&[u8], &[u8]) -> bool| {
            reply.get(from..to).zip(self.octets.get(from..to)).is_some_and(|(theirs, ours)| same(theirs, ours))
        };
        // RFC 4343 §3: the case of the name alone does not matter. Lengths of labels are no letters.
        repeats(0, 2, PartialEq::eq)
            && reply.get(2).is_some_and(|flags| flags & 0xf8 == 0x80)
            && reply.get(4..6) == Some(&[0, 1])
            && repeats(HEADER, self.end - 4, <[u8]>::eq_ignore_ascii_case)
            && repeats(self.end - 4, self.end, PartialEq::eq)
    }

    /// Puts the question on a connection, where a message has its length in front (RFC 1035 §4.2.2).
    async fn put(&self, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<Vec<u8>, FailureReason> {
        let length = u16::try_from(self.octets.len()).map_err(|_| FailureReason::NameTooLong)?;
        let message = [&length.to_be_bytes()[..], &self.octets].concat();
        stream.write_all(&message).await.map_err(network)?;
        stream.flush().await.map_err(network)?;
        let length = stream.read_u16().await.map_err(network)?;
        let mut reply = vec![0; usize::from(length)];
        stream.read_exact(&mut reply).await.map_err(network)?;
        if self.is_answered_by(&reply) {
            Ok(reply)
        } else {
            Err(FailureReason::Malformed("it is a reply to something else".to_owned()))
        }
    }
}

/// How many octets a padding option has to hold to make a message of `octets` without it a multiple of the block.
pub(super) fn padding(octets: usize) -> usize {
    let with_option = octets + usize::from(OPTION);
    with_option.next_multiple_of(BLOCK) - with_option
}

fn is_truncated(reply: &[u8]) -> bool {
    reply.get(2).is_none_or(|flags| flags & 0x02 != 0)
}

/// An ID that an attacker cannot guess (RFC 5452 §9.2).
fn random_id() -> Result<[u8; 2], FailureReason> {
    let mut id = [0; 2];
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    random.fill(&mut id).map_err(|_| FailureReason::Network("there is no randomness".to_owned()))?;
    Ok(id)
}

fn network(error: std::io::Error) -> FailureReason {
    match Scarcity::of(&error) {
        Some(scarcity) => FailureReason::Scarce(scarcity),
        None => FailureReason::Network(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::canonical::CanonicalName;
    use super::super::reply::Rtype;
    use super::*;

    fn request() -> QueryMessage {
        to(&Transport::Plain)
    }

    fn to(transport: &Transport) -> QueryMessage {
        let name = CanonicalName::from_labels([&b"_25"[..], b"_tcp", b"mx", b"test"].into_iter());
        QueryMessage::new(&Question { name, rtype: Rtype::TLSA }, transport).unwrap()
    }

    #[test]
    fn questions_over_tls_are_of_one_size() {
        // RFC 7830 §3, RFC 8467 §4.1.
        let padded = to(&Transport::Tls(Name::parse("dns.test").unwrap())).octets;
        let bare = request().octets;
        assert_eq!((bare.len(), padded.len()), (45, 128));
        assert_eq!(padded[2..bare.len() - 2], bare[2..bare.len() - 2]);
        assert_eq!(padded[43..49], [0, 83, 0, 12, 0, 79]);
    }

    #[test]
    fn a17_do_and_ad_are_set_and_cd_is_clear() {
        // A17.
        let octets = request().octets;
        assert_eq!(octets[2..HEADER], [0x01, 0x20, 0, 1, 0, 0, 0, 0, 0, 1]);
        assert!(octets[HEADER..].starts_with(b"\x03_25\x04_tcp\x02mx\x04test\x00"));
        let (payload, extended) = (&octets[octets.len() - 8..][..2], &octets[octets.len() - 6..]);
        assert_eq!((payload, extended), (&[0x04, 0xd0][..], &[0, 0, 0x80, 0, 0, 0][..]));
    }

    #[test]
    fn a23_a_reply_repeats_id_and_question() {
        // A23.
        let request = request();
        let mut reply = request.octets.clone();
        assert!(!request.is_answered_by(&reply), "a query is no reply");
        reply[2] |= 0x80;
        assert!(request.is_answered_by(&reply));
        let changed = |at: usize, bits: u8| {
            let mut reply = reply.clone();
            reply[at] ^= bits;
            reply
        };
        // RFC 4343 §4: case does not matter. The same bit flipped in a digit or an underscore gives another name.
        assert!(request.is_answered_by(&changed(HEADER + 11, 0x20)));
        for (at, bits) in
            [(0, 1), (1, 1), (2, 0x08), (5, 1), (HEADER + 11, 1), (request.end - 3, 1), (request.end - 1, 2)]
        {
            assert!(!request.is_answered_by(&changed(at, bits)), "octet {at}");
        }
        assert!(!request.is_answered_by(&reply[..HEADER + 3]) && !request.is_answered_by(&[]));
    }
}
