//! STARTTLS: from a connection to a verified session, by greeting, EHLO, STARTTLS, handshake and EHLO again (RFC 3207).
//!
//! [`Greeted`] becomes [`Ready`] by [`Greeted::secure`], which meets the policy, or by [`Greeted::in_cleartext`], which
//! needs a permit. Mail can be sent on [`Ready`],
//!
//! ```
//! # use {danelaw::upstream::verified::{MailCommand, Ready}, std::time::Duration};
//! async fn verified(session: &mut Ready, mail: MailCommand) {
//!     let _ = session.group([mail]).answer(Duration::from_secs(60)).await;
//! }
//! ```
//!
//! and not on [`Greeted`]:
//!
//! ```compile_fail,E0599
//! # use {danelaw::upstream::starttls::Greeted, danelaw::upstream::verified::MailCommand, std::time::Duration};
//! async fn cleartext(session: &mut Greeted, mail: MailCommand) {
//!     let _ = session.group([mail]).answer(Duration::from_secs(60)).await;
//! }
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::either::Either;

use super::command::{broken, exchange, quit};
use super::connect::ConnectOptions;
use super::ehlo_name::is_blamed;
use super::host_session::HostLearning;
use super::limits::DomainPermit;
use super::order::within;
use super::tcp::Tcp;
use super::timeouts::Timeouts;
use super::verified::{Channel, Ready, Stream, Terms};
use crate::dns::Nat64Prefix;
use crate::policy::{Permit, TlsPolicy};
use crate::refusal::{Peer, Reason, Stage};
use crate::smtp::extensions::Extensions;
use crate::smtp::reply::{Code, Reply, ReplyDecoder};
use crate::tls::{self, Secured, Tls};
use crate::trace::Trace;
use crate::wire::Wire;

/// How to open a session, with any peer.
#[derive(Debug, Clone, Copy)]
pub struct SessionOptions<'a> {
    /// The name to give in EHLO.
    pub ehlo: &'a str,
    /// The limit of each step.
    pub timeouts: &'a Arc<Timeouts>,
    /// The end of all steps together.
    pub until: Instant,
    /// The permit of the transaction, where transactions are counted.
    pub domain: Option<&'a DomainPermit>,
    /// The prefix by which IPv4 addresses are reached, if they are reached by NAT64.
    pub nat64: Option<Nat64Prefix>,
    /// Whether the session is noted for the memory of hosts.
    pub learning: HostLearning,
    /// The account of the transaction.
    pub trace: &'a Trace,
}

impl SessionOptions<'_> {
    /// The same for the connection alone, to a port that a rule may name.
    pub(super) fn connect(&self, port: Option<u16>) -> ConnectOptions<'_> {
        let Self { domain, until, nat64, trace, .. } = *self;
        ConnectOptions { domain, identity: None, port, until, nat64, trace }
    }

    /// The time for the next step, at most `limit`.
    fn within(&self, limit: Duration) -> Duration {
        within(limit, self.until.saturating_duration_since(Instant::now()))
    }

    /// The time for the next reply.
    fn reply_limit(&self) -> Duration {
        self.within(self.timeouts.greeting)
    }
}

/// A remote that has greeted us. Of its words so far only the offer of STARTTLS is used.
#[derive(Debug)]
pub struct Greeted {
    wire: Wire<Tcp>,
    peer: Peer,
    extensions: Extensions,
}

/// For people.
impl fmt::Display for Greeted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.extensions.starttls { "it offers STARTTLS" } else { "it does not offer STARTTLS" })
    }
}

impl Greeted {
    /// Reads the greeting and says EHLO; if the policy allows cleartext, HELO after that.
    ///
    /// # Errors
    /// The remote cannot be used for a session of this policy.
    pub async fn greet(
        tcp: Tcp,
        peer: &Peer,
        policy: &TlsPolicy,
        options: &SessionOptions<'_>,
    ) -> Result<Self, Reason> {
        let mut wire = Wire::new(tcp);
        let limit = options.reply_limit();
        let greeting = wire.reply_by(ReplyDecoder::before_mail(), limit).await;
        let greeting = greeting.map_err(|error| broken(Stage::Greeting, error))?;
        if greeting.code() != Code::READY {
            // RFC 5321 §3.1: 554 or 421 here says nothing about this mail; the next host may take it.
            quit(wire, limit);
            return Err(Reason::Greeting(greeting));
        }
        let limit = options.reply_limit();
        let reply = exchange(&mut wire, Stage::Ehlo, &format!("EHLO {}", options.ehlo), limit).await?;
        if reply.code() == Code::OK {
            return Ok(Self { wire, peer: peer.clone(), extensions: Extensions::parse(&reply) });
        }
        // RFC 5321 §3.2: a server that does not know EHLO may know HELO. RFC 3207 with RFC 7672 §2.2: that would be a
        // session without TLS, so it needs a permit (K5).
        if reply.code().is_permanent() && matches!(policy, TlsPolicy::May(..)) {
            let limit = options.reply_limit();
            let helo = exchange(&mut wire, Stage::Ehlo, &format!("HELO {}", options.ehlo), limit).await?;
            if helo.code() == Code::OK {
                return Ok(Self { wire, peer: peer.clone(), extensions: Extensions::default() });
            }
        }
        quit(wire, limit);
        Err(ehlo_refused(reply, options.ehlo))
    }

    /// Starts TLS as the policy asks. This and [`Greeted::in_cleartext`] are the only ways to a [`Ready`].
    ///
    /// # Errors
    /// The session cannot meet the policy. No command of the mail has been sent.
    pub async fn secure(self, policy: TlsPolicy, tls: &Tls, options: &SessionOptions<'_>) -> Result<Ready, Reason> {
        let peer = self.peer.clone();
        let stream = self.start_tls(options).await?;
        let limit = options.within(options.timeouts.handshake);
        let (mut wire, protection) = match tokio::time::timeout(limit, tls.handshake(stream, &policy)).await {
            Ok(secured) => {
                let Secured { stream, protection } = secured?;
                (Box::new(Wire::new(Either::Left(stream))), protection)
            }
            Err(_) => return Err(Reason::Timeout { stage: Stage::Handshake, limit }),
        };
        // RFC 3207 §4.2: all that EHLO said before is forgotten; only the new answer counts.
        let extensions = ehlo_under_tls(&mut wire, options).await?;
        let terms = Terms { policy, channel: Channel::Secured(Arc::new(protection)), extensions };
        Ok(Ready::new(wire, peer, terms, options))
    }

    /// Asks for TLS; the stream, if the remote says 220 and not an octet more.
    async fn start_tls(mut self, options: &SessionOptions<'_>) -> Result<Tcp, Reason> {
        if !self.extensions.starttls {
            quit(self.wire, options.timeouts.greeting);
            return Err(Reason::StartTlsMissing);
        }
        let reply = exchange(&mut self.wire, Stage::StartTls, "STARTTLS", options.reply_limit()).await?;
        if reply.code() != Code::READY {
            // RFC 3207 §4: 220 is the only go-ahead.
            quit(self.wire, options.timeouts.greeting);
            return Err(Reason::StartTlsRefused(reply));
        }
        // RFC 3207 §4.2: octets that came in the clear must never be read as if they came under TLS.
        self.wire.fill_ready().await.map_err(|error| Reason::Lost { stage: Stage::StartTls, error })?;
        self.wire.into_stream().map_err(|_| Reason::StartTlsInjected)
    }

    /// Goes on without TLS, by this permit.
    pub fn in_cleartext(self, policy: TlsPolicy, permit: Permit, options: &SessionOptions<'_>) -> Ready {
        let terms = Terms { policy, channel: Channel::Cleartext(permit), extensions: self.extensions };
        Ready::new(Box::new(self.wire.wrapped(Either::Right)), self.peer, terms, options)
    }
}

/// The reason for a reply to EHLO in the clear that is not 250.
fn ehlo_refused(reply: Reply, name: &str) -> Reason {
    match reply.code().is_refusal() {
        true if is_blamed(&reply, name) => Reason::EhloInDoubt { name: name.to_owned(), reply },
        true => Reason::Ehlo(reply),
        false => Reason::WrongAnswer { stage: Stage::Ehlo, reply },
    }
}

/// Says EHLO again, under TLS.
async fn ehlo_under_tls(wire: &mut Wire<Stream>, options: &SessionOptions<'_>) -> Result<Extensions, Reason> {
    let (stage, name) = (Stage::EhloUnderTls, options.ehlo);
    let reply = exchange(wire, stage, &format!("EHLO {name}"), options.reply_limit()).await.map_err(ended_by_tls)?;
    if reply.code().is_refusal() {
        return Err(match is_blamed(&reply, name) {
            true => Reason::EhloName { name: name.to_owned(), reply },
            false => Reason::EhloUnderTls(reply),
        });
    }
    // RFC 5321 §4.3.2: 250 alone answers EHLO. A second greeting under TLS would shift all replies behind it by one.
    if reply.code() != Code::OK {
        return Err(Reason::WrongAnswer { stage, reply });
    }
    Ok(Extensions::parse(&reply))
}

/// RFC 8446 §4.4.2.4, §6: in TLS 1.3 the client is done first. So a server that refuses the handshake, because it wants a
/// client certificate for example, is heard when the first answer is due.
fn ended_by_tls(reason: Reason) -> Reason {
    let failure = if let Reason::Lost { error, .. } = &reason { tls::failure_of(error) } else { None };
    failure.map_or(reason, Reason::Tls)
}
