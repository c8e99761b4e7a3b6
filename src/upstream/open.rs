//! From an address to a secured session: greeting, EHLO, STARTTLS, handshake, EHLO again (RFC 3207).
//!
//! [`Greeted`] can do one thing: become [`Ready`], by meeting a policy or, by name, without TLS and on a permit. Mail can
//! be sent on the one,
//!
//! ```
//! # use {danelaw::upstream::ready::{MailCommand, Ready}, std::time::Duration};
//! async fn verified(session: &mut Ready, mail: MailCommand) {
//!     let _ = session.group([mail]).answer(Duration::from_secs(60)).await;
//! }
//! ```
//!
//! and not on the other:
//!
//! ```compile_fail,E0599
//! # use {danelaw::upstream::open::Greeted, danelaw::upstream::ready::MailCommand, std::time::Duration};
//! async fn cleartext(session: &mut Greeted, mail: MailCommand) {
//!     let _ = session.group([mail]).answer(Duration::from_secs(60)).await;
//! }
//! ```

use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::either::Either;

use super::caps::DomainPermit;
use super::dialer::Errand;
use super::order::within;
use super::ready::{Channel, Ready, Terms};
use super::tcp::Tcp;
use crate::config::Timeouts;
use crate::policy::{Permit, TlsPolicy};
use crate::refusal::{Peer, Reason, Stage};
use crate::smtp::extensions::Extensions;
use crate::smtp::reply::{Code, Reply, is_blank};
use crate::tls::{self, Tls};
use crate::trace::Trace;
use crate::wire::{Wire, WireError};

/// How to open a session: what does not depend on the peer.
#[derive(Debug, Clone, Copy)]
pub struct Dial<'a> {
    /// The name to give in EHLO.
    pub ehlo: &'a str,
    /// How long each step may take.
    pub timeouts: &'a Timeouts,
    /// When all of them must be over.
    pub until: Instant,
    /// The transaction that it is for, where they are counted.
    pub domain: Option<&'a DomainPermit>,
    /// Where to note what was seen.
    pub trace: &'a Trace,
}

impl Dial<'_> {
    /// As for connecting.
    pub(super) fn errand(&self) -> Errand<'_> {
        Errand { domain: self.domain, identity: None, until: self.until, trace: self.trace }
    }

    /// How long the next step may take, at most `limit`.
    fn within(&self, limit: Duration) -> Duration {
        within(limit, self.until.saturating_duration_since(Instant::now()))
    }
}

/// A remote that has greeted us. Nothing it said so far is believed, but for its word that it has STARTTLS.
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
    /// Waits for the greeting and says EHLO; only where the policy can do without TLS, HELO after that.
    ///
    /// # Errors
    /// Whatever sends us to the next address.
    pub async fn greet(tcp: Tcp, peer: &Peer, policy: &TlsPolicy, dial: &Dial<'_>) -> Result<Self, Reason> {
        let mut wire = Wire::new(tcp);
        let limit = dial.within(dial.timeouts.greeting);
        let greeting = wire.reply_before_mail(limit).await.map_err(|error| lost(Stage::Greeting, error))?;
        if greeting.code() != Code::READY {
            // RFC 5321 §3.1: 554 or 421 here says nothing about this mail; the next host may take it.
            farewell(wire, limit);
            return Err(Reason::Greeting(greeting));
        }
        let limit = dial.within(dial.timeouts.greeting);
        let reply = exchange(&mut wire, Stage::Ehlo, &format!("EHLO {}", dial.ehlo), limit).await?;
        if reply.code() == Code::OK {
            return Ok(Self { wire, peer: peer.clone(), extensions: Extensions::parse(&reply) });
        }
        // RFC 5321 §3.2: a server that does not know EHLO may know HELO. RFC 3207 with RFC 7672 §2.2: that would be a
        // session without TLS, so that only a permit leads there (K5).
        if reply.code().is_permanent() && matches!(policy, TlsPolicy::May(..)) {
            let limit = dial.within(dial.timeouts.greeting);
            let helo = exchange(&mut wire, Stage::Ehlo, &format!("HELO {}", dial.ehlo), limit).await?;
            if helo.code() == Code::OK {
                return Ok(Self { wire, peer: peer.clone(), extensions: Extensions::default() });
            }
        }
        farewell(wire, limit);
        Err(match reply.code().is_refusal() {
            true if blames_name(&reply, dial.ehlo) => Reason::EhloInDoubt { name: dial.ehlo.to_owned(), reply },
            true => Reason::Ehlo(reply),
            false => Reason::WrongAnswer { stage: Stage::Ehlo, reply },
        })
    }

    /// Starts TLS as the policy asks. This is the door to [`Ready`]; the other one,
    /// [`Greeted::in_cleartext`], needs a permit.
    ///
    /// # Errors
    /// Whatever keeps the session from meeting the policy. Nothing of the mail has been said.
    pub async fn secure(mut self, policy: TlsPolicy, tls: &Tls, dial: &Dial<'_>) -> Result<Ready, Reason> {
        if !self.extensions.starttls {
            farewell(self.wire, dial.timeouts.greeting);
            return Err(Reason::StartTlsMissing);
        }
        let limit = dial.within(dial.timeouts.greeting);
        let reply = exchange(&mut self.wire, Stage::StartTls, "STARTTLS", limit).await?;
        if reply.code() != Code::READY {
            // RFC 3207 §4: 220 is the only go-ahead.
            farewell(self.wire, dial.timeouts.greeting);
            return Err(Reason::StartTlsRefused(reply));
        }
        // RFC 3207 §4.2: what came in the clear must never be read as if it came under TLS.
        self.wire.fill_ready().await.map_err(|error| Reason::Lost { stage: Stage::StartTls, error })?;
        let stream = self.wire.into_stream().map_err(|_| Reason::StartTlsInjected)?;
        let limit = dial.within(dial.timeouts.handshake);
        let secured = match tokio::time::timeout(limit, tls.handshake(stream, &policy)).await {
            Ok(secured) => secured?,
            Err(_) => return Err(Reason::Timeout { stage: Stage::Handshake, limit }),
        };
        // RFC 3207 §4.2: all that EHLO said before is forgotten; only the new answer counts.
        let mut wire = Wire::new(secured.stream);
        let greeting = dial.within(dial.timeouts.greeting);
        let stage = Stage::EhloUnderTls;
        let reply = exchange(&mut wire, stage, &format!("EHLO {}", dial.ehlo), greeting).await.map_err(ended_by_tls)?;
        if reply.code().is_refusal() {
            return Err(match blames_name(&reply, dial.ehlo) {
                true => Reason::EhloName { name: dial.ehlo.to_owned(), reply },
                false => Reason::EhloUnderTls(reply),
            });
        }
        // RFC 5321 §4.3.2: 250 alone answers EHLO. A second greeting under TLS would shift all replies behind it by one.
        if reply.code() != Code::OK {
            return Err(Reason::WrongAnswer { stage, reply });
        }
        let extensions = Extensions::parse(&reply);
        let terms = Terms { policy, channel: Channel::Secured(secured.protection), extensions };
        Ok(Ready::new(wire.wrapped(Either::Left), self.peer, terms, dial))
    }

    /// Goes on without TLS, on the word of whoever wrote the rule for this domain.
    pub fn in_cleartext(self, policy: TlsPolicy, permit: Permit, dial: &Dial<'_>) -> Ready {
        let terms = Terms { policy, channel: Channel::Cleartext(permit), extensions: self.extensions };
        Ready::new(self.wire.wrapped(Either::Right), self.peer, terms, dial)
    }
}

/// Whether the answer to EHLO speaks of the name that was given, and not of the command. That it quotes the name says nothing: a
/// block list does so too.
fn blames_name(reply: &Reply, name: &str) -> bool {
    // RFC 5321 §4.2.2: these are for commands that are not known; a proxy on the way may say so.
    let knows_ehlo = !matches!(reply.code(), Code::SYNTAX_ERROR | Code::NOT_IMPLEMENTED);
    let text = reply.to_string().to_ascii_lowercase().replace(&name.to_ascii_lowercase(), " ");
    // A name is one word, whatever its labels are.
    let words: Vec<_> = text
        .split(|character: char| !character.is_ascii_alphanumeric() && !matches!(character, '.' | '-' | '_' | '@'))
        .map(|word| word.trim_matches(['.', '-']))
        .filter(|word| !word.is_empty())
        .collect();
    let of_names = ["helo", "ehlo", "hostname", "fqdn", "fully-qualified"];
    let in_two = [["host", "name"], ["fully", "qualified"]];
    knows_ehlo
        && (words.iter().any(|word| of_names.contains(word))
            || words.windows(2).any(|pair| in_two.iter().any(|of| of == pair)))
}

/// One command and its reply.
pub(super) async fn exchange<S>(
    wire: &mut Wire<S>,
    stage: Stage,
    command: &str,
    limit: Duration,
) -> Result<Reply, Reason>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // RFC 2920 §3.1 in reverse: a reply that is there before its command would shift all that follow (A-62).
    wire.fill_ready().await.map_err(|error| Reason::Lost { stage, error })?;
    // An empty line behind the last reply is none, and is skipped in front of the next one.
    let tolerates = stage.precedes_mail() && is_blank(&wire.input);
    if !wire.input.is_empty() && !tolerates {
        return Err(unsolicited(&mut wire.input, stage));
    }
    wire.output.extend_from_slice(command.as_bytes());
    wire.output.extend_from_slice(b"\r\n");
    if let Err(error) = wire.flush(limit).await {
        // A remote that is gone may have said why: in an alert of TLS.
        return Err(match wire.fill_ready().await {
            Err(said) if tls::failure_of(&said).is_some() => Reason::Lost { stage, error: said },
            Ok(()) | Err(_) => lost(stage, error),
        });
    }
    let reply = match stage {
        Stage::Ehlo | Stage::EhloUnderTls => wire.reply_to_ehlo(limit).await,
        stage if stage.precedes_mail() => wire.reply_before_mail(limit).await,
        _ => wire.reply(limit).await,
    };
    reply.map_err(|error| lost(stage, error))
}

/// RFC 8446 §4.4.2.4, §6: in TLS 1.3 the client is done first, so that a server that refuses the handshake, for want of a
/// client certificate say, is heard when the first answer is due.
fn ended_by_tls(reason: Reason) -> Reason {
    match &reason {
        Reason::Lost { error, .. } => tls::failure_of(error).map_or(reason, Reason::Tls),
        _ => reason,
    }
}

/// What it means that the remote spoke out of turn: 421 may come at any time (RFC 5321 §3.8), nothing else may.
pub(super) fn unsolicited(input: &mut BytesMut, stage: Stage) -> Reason {
    match crate::smtp::reply::ReplyDecoder::new().decode(input) {
        Ok(Some(reply)) if reply.code() == Code::SERVICE_NOT_AVAILABLE => Reason::Closing(reply),
        _ => Reason::Unsolicited(stage),
    }
}

/// A broken exchange, with where it broke.
pub(super) fn lost(stage: Stage, error: WireError) -> Reason {
    match error {
        WireError::Timeout(limit) => Reason::Timeout { stage, limit },
        WireError::Lost(error) => Reason::Lost { stage, error },
        WireError::Protocol(error) => Reason::Protocol { stage, error },
    }
}

/// Says QUIT and waits a moment for the answer, while everybody else goes on (RFC 5321 §4.1.1.10).
pub(super) fn farewell<S>(mut wire: Wire<S>, limit: Duration) -> JoinHandle<()>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let limit = limit.min(Duration::from_secs(5));
    tokio::spawn(async move {
        wire.output.extend_from_slice(b"QUIT\r\n");
        let _ = wire.flush(limit).await;
        let _ = wire.reply(limit).await;
        let _ = wire.close(limit).await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_it_is_the_name() {
        for (code, text, is_the_name) in [
            (504, "5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", true),
            (501, "Syntactically invalid HELO argument(s)", true),
            (550, "invalid name", false),
            (550, "EHLO: localhost is not welcome", true),
            (550, "use a host name, please", true),
            (550, "your FQDN.", true),
            (550, "you must be fully\r\n550 qualified", true),
            // Block lists quote names, and a name is no word.
            (550, "LOCALHOST is not welcome", false),
            (554, "5.7.1 localhost[192.0.2.1] blocked using helo.bl.example", false),
            (554, "see https://bl.example/hostname.ehlo or ask fqdn@bl.example", false),
            (550, "ghostnames and helots are not welcome", false),
            (554, "you are on a block list", false),
            (450, "4.7.1 <a.example>: Helo command rejected: Host not found", true),
            (421, "busy", false),
            (500, "EHLO: command not recognised", false),
            (502, "5.5.1 EHLO not implemented", false),
        ] {
            let reply = Reply::multiline(Code::new(code).unwrap(), None, text.split("\r\n550 "));
            assert_eq!(blames_name(&reply, "localhost"), is_the_name, "{code} {text}");
        }
        // The words of the name itself are not the remote's.
        let listed = Reply::plain(Code::TRANSACTION_FAILED, "helo.ehlo-fqdn.example is listed");
        assert!(!blames_name(&listed, "helo.ehlo-fqdn.example"));
        assert!(!blames_name(&Reply::plain(Code::TRANSACTION_FAILED, "<helo> is listed"), "helo"));
    }
}
