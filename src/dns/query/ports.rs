//! The UDP ports from which questions to one name server go out. No two questions have a port at the same time.
//!
//! A question to a server elsewhere has a socket of its own, and so a port that no host off the path can guess (RFC 5452
//! §9.2). No other host can send a datagram from a loopback address, so a socket to a server there serves some more questions: to
//! make and to close one takes more time than the question. It serves few and not for long, as a system can be told to let
//! such datagrams in. A question that is given up takes its socket with it, so that its late reply meets no other question.

use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::question::QueryMessage;
use super::{any_of_family, network};
use crate::dns::FailureReason;

/// The buffer for one UDP reply. A longer one is cut off, and cannot be read then.
const DATAGRAM: usize = 4096;
/// How many sockets are kept.
const MAX_KEPT: usize = 16;
/// How many questions go out from one port.
const MAX_QUESTIONS: u32 = 32;
/// How long a port is in use.
const LASTS: Duration = Duration::from_secs(2);

/// The ports.
pub(super) struct Ports {
    server: SocketAddr,
    /// Sockets without a question; none are kept for a server on another host.
    kept: Option<Mutex<Vec<Port>>>,
}

struct Port {
    socket: UdpSocket,
    questions: u32,
    since: Instant,
}

impl Ports {
    /// None is open yet.
    pub(super) fn new(server: SocketAddr) -> Self {
        Self { server, kept: server.ip().to_canonical().is_loopback().then(Mutex::default) }
    }

    /// Puts one question. The reply may be cut short.
    ///
    /// # Errors
    /// There is no socket, or no server.
    pub(super) async fn exchange(&self, request: &QueryMessage) -> Result<Vec<u8>, FailureReason> {
        // An error on a socket that was there may be older than the question.
        if let Some(port) = self.take()
            && let Ok(reply) = self.ask(port, request).await
        {
            return Ok(reply);
        }
        self.ask(Port::open(self.server).await?, request).await
    }

    async fn ask(&self, mut port: Port, request: &QueryMessage) -> Result<Vec<u8>, FailureReason> {
        port.questions += 1;
        port.socket.send(&request.octets).await.map_err(network)?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let length = port.socket.recv(&mut buffer).await.map_err(network)?;
            if buffer.get(..length).is_some_and(|reply| request.is_answered_by(reply)) {
                self.keep(port);
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }

    fn take(&self) -> Option<Port> {
        let mut kept = self.kept()?;
        kept.retain(Port::is_of_use);
        kept.pop()
    }

    fn keep(&self, port: Port) {
        if let Some(mut kept) = self.kept().filter(|kept| kept.len() < MAX_KEPT && port.is_of_use()) {
            kept.push(port);
        }
    }

    fn kept(&self) -> Option<MutexGuard<'_, Vec<Port>>> {
        Some(self.kept.as_ref()?.lock())
    }
}

impl Port {
    /// One that the system chooses at random. It is connected, so that the system reports at once that there is no server
    /// (RFC 1122 §4.1.3.3).
    async fn open(server: SocketAddr) -> Result<Self, FailureReason> {
        let socket = UdpSocket::bind(any_of_family(server.ip())).await.map_err(network)?;
        socket.connect(server).await.map_err(network)?;
        Ok(Self { socket, questions: 0, since: Instant::now() })
    }

    fn is_of_use(&self) -> bool {
        self.questions < MAX_QUESTIONS && self.since.elapsed() < LASTS
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::super::canonical::CanonicalName;
    use super::super::super::links::Question;
    use super::super::super::reply::Rtype;
    use super::super::super::server::Transport;
    use super::super::Purpose;
    use super::*;

    async fn server() -> (UdpSocket, Ports) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let ports = Ports::new(socket.local_addr().unwrap());
        (socket, ports)
    }

    fn query() -> QueryMessage {
        let name = CanonicalName::from_labels([&b"n"[..], b"test"].into_iter());
        QueryMessage::new(&Question { name, rtype: Rtype::A }, &Transport::Plain, Purpose::Validate).unwrap()
    }

    /// Takes one question, and tells from which port it came.
    async fn asked(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut question = vec![0; 512];
        let (length, from) = server.recv_from(&mut question).await.unwrap();
        question.truncate(length);
        (question, from)
    }

    async fn answer(server: &UdpSocket, question: &(Vec<u8>, SocketAddr)) {
        let mut reply = question.0.clone();
        reply[2] |= 0x80;
        server.send_to(&reply, question.1).await.unwrap();
    }

    /// Puts a question that is answered, and tells its port.
    async fn port_of_one(server: &UdpSocket, ports: &Ports) -> u16 {
        let request = query();
        let (reply, from) = tokio::join!(ports.exchange(&request), async {
            let question = asked(server).await;
            answer(server, &question).await;
            question.1
        });
        reply.unwrap();
        from.port()
    }

    #[tokio::test]
    async fn a_port_to_this_host_serves_a_few_questions_one_after_the_other() {
        let (server, ports) = server().await;
        let mut used = Vec::new();
        for _ in 0..2 * MAX_QUESTIONS {
            used.push(port_of_one(&server, &ports).await);
        }
        let few = usize::try_from(MAX_QUESTIONS).unwrap();
        assert!(used[..few].iter().all(|port| *port == used[0]) && !used[few..].contains(&used[0]), "{used:?}");
        assert!(ports.kept().unwrap().is_empty());
        port_of_one(&server, &ports).await;
        tokio::time::pause();
        tokio::time::advance(LASTS).await;
        assert!(ports.take().is_none(), "it is not kept for long");
    }

    #[tokio::test]
    async fn questions_at_the_same_time_have_ports_of_their_own() {
        let (server, ports) = server().await;
        port_of_one(&server, &ports).await;
        let requests: Vec<_> = (0..2 * MAX_KEPT).map(|_| query()).collect();
        let all = futures_util::future::join_all(requests.iter().map(|request| ports.exchange(request)));
        let (replies, from) = tokio::join!(all, async {
            let mut questions = Vec::new();
            while questions.len() < requests.len() {
                questions.push(asked(&server).await);
            }
            for question in &questions {
                answer(&server, question).await;
            }
            questions.iter().map(|(_, from)| *from).collect::<HashSet<_>>()
        });
        assert!(replies.iter().all(Result::is_ok));
        assert_eq!((from.len(), ports.kept().unwrap().len()), (2 * MAX_KEPT, MAX_KEPT));
    }

    #[tokio::test]
    async fn the_late_reply_to_a_question_that_was_given_up_meets_no_other() {
        let (server, ports) = server().await;
        let port = port_of_one(&server, &ports).await;
        let request = query();
        let late = tokio::select! {
            _ = ports.exchange(&request) => panic!("no reply was sent"),
            late = asked(&server) => late,
        };
        assert_eq!(late.1.port(), port);
        answer(&server, &late).await;
        assert_ne!(port_of_one(&server, &ports).await, port);
    }

    #[tokio::test]
    async fn a_server_that_comes_back_is_asked_from_a_fresh_port() {
        let (server, ports) = server().await;
        port_of_one(&server, &ports).await;
        let address = server.local_addr().unwrap();
        drop(server);
        assert!(matches!(ports.exchange(&query()).await, Err(FailureReason::Network(_))));
        let server = UdpSocket::bind(address).await.unwrap();
        port_of_one(&server, &ports).await;
    }

    #[test]
    fn a_port_to_another_host_serves_one_question() {
        for (server, kept) in [
            ("192.0.2.1:53", false),
            ("[2001:db8::1]:53", false),
            ("10.0.0.1:53", false),
            ("127.0.0.53:53", true),
            ("[::1]:53", true),
        ] {
            assert_eq!(Ports::new(server.parse().unwrap()).kept.is_some(), kept, "{server}");
        }
    }
}
