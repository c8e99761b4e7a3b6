//! One question to one name server, and the octets of its reply: over UDP, over TCP where UDP cut the reply short
//! (RFC 7766 §5), or over TLS (RFC 7858).
//!
//! All octets are kept. Only those are read here that tell whether this is a reply to this question: the ID, the direction
//! and the question itself (RFC 5452 §9.1). A message that does not fit is ignored over UDP, where any host can send one,
//! and ends a connection. Of a truncated reply no more than these octets are read: it may end anywhere.

mod ports;
mod question;
mod stream;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use self::ports::Ports;
use self::question::QueryMessage;
use self::stream::Streams;
use super::FailureReason;
use super::links::Question;
use super::server::{NameServer, Transport};
use crate::scarce::Scarcity;

/// The use of a reply, which decides the flags of its question. DO is always set (RFC 4035 §3.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The AD bit of a validating resolver counts. RD, and AD, by which we say that we understand the bit (RFC 6840 §5.7).
    /// CD stays clear: with it the server would not validate (RFC 6840 §5.9).
    TrustAd,
    /// The signatures are checked here. RD, AD, and CD, as a validator sets it (RFC 6840 §5.9): without it a validating
    /// resolver such as systemd-resolved or dnsmasq keeps some records back.
    Validate,
    /// The server is authoritative, and is asked for its own records alone: RD, AD and CD are clear. Nothing protects the
    /// exchange, so the case of the letters adds to ID and port (draft-vixie-dnsext-dns0x20).
    Iterate,
    /// As [`Iterate`](Self::Iterate), to a server that does not know EDNS: without an OPT record, and so without DO.
    IterateBare,
}

/// The way to one name server.
pub(super) struct QueryClient {
    server: NameServer,
    timeout: Duration,
    ports: Ports,
    streams: Streams,
}

impl QueryClient {
    /// A line to `server`; a reply has to come within `timeout`.
    pub(super) fn new(server: NameServer, timeout: Duration, tls: Arc<ClientConfig>) -> Self {
        let (ports, streams) = (Ports::new(server.address), Streams::new(server.clone(), timeout, tls));
        Self { server, timeout, ports, streams }
    }

    /// Puts one question once. The reply is whole and is one to this question; no more is known of it.
    ///
    /// # Errors
    /// There is no such reply in time. A reply that is truncated over UDP and does not come over TCP is among them.
    pub(super) async fn ask(&self, question: &Question, purpose: Purpose) -> Result<Vec<u8>, FailureReason> {
        tokio::time::timeout(self.timeout, self.exchange(question, purpose))
            .await
            .unwrap_or(Err(FailureReason::Timeout))
    }

    /// Puts one question over TCP, without a try over UDP.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub(super) async fn ask_over_tcp(&self, question: &Question) -> Result<Vec<u8>, FailureReason> {
        let request = || QueryMessage::new(question, &self.server.transport, Purpose::TrustAd);
        let asking = self.streams.exchange(request);
        tokio::time::timeout(self.timeout, asking).await.unwrap_or(Err(FailureReason::Timeout))
    }

    /// The same as [`ask`](Self::ask) without an end in time: the caller has one.
    pub(super) async fn exchange(&self, question: &Question, purpose: Purpose) -> Result<Vec<u8>, FailureReason> {
        let request = || QueryMessage::new(question, &self.server.transport, purpose);
        match &self.server.transport {
            Transport::Plain => {
                let sent = request()?;
                let reply = self.ports.exchange(&sent).await?;
                // RFC 2181 §9: a truncated reply is of no use, and its records are not looked at. One in another case is a
                // forgery, or that of a server that does not keep the case; nobody forges a connection from outside.
                let reply = match is_truncated(&reply) || !sent.is_repeated_by(&reply) {
                    true => self.streams.exchange(request).await?,
                    false => reply,
                };
                Ok(sent.in_lower_case(reply))
            }
            Transport::Tls(_) => self.streams.exchange(request).await,
            Transport::Recursion => Err(FailureReason::Network("there is no server to ask".to_owned())),
        }
    }
}

/// Any address and port of this host, in the family of another address.
pub(super) fn any_of_family(address: IpAddr) -> SocketAddr {
    match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn is_truncated(reply: &[u8]) -> bool {
    reply.get(2).is_none_or(|flags| flags & 0x02 != 0)
}

fn network(error: std::io::Error) -> FailureReason {
    match Scarcity::of(&error) {
        Some(scarcity) => FailureReason::Scarce(scarcity),
        None => FailureReason::Network(error.to_string()),
    }
}
