//! A remote that has met its policy, and the mail commands that may be sent on it.
//!
//! The message itself is a type of its own: a [`Body`] that is dropped, because the client went away, a task was
//! cancelled or something panicked, resets the connection. Only [`Body::finish`] sends the end of data, so that a
//! remote never takes half a message for a whole one (RFC 5321 §4.1.1.4).

use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::open::{Dial, exchange, farewell, lost};
use crate::config::Timeouts;
use crate::policy::{Permit, TlsPolicy};
use crate::refusal::{Peer, Reason, Stage};
use crate::smtp::address::{ForwardPath, Mailbox};
use crate::smtp::command::{Command, Mail};
use crate::smtp::extensions::Extensions;
use crate::smtp::reply::{Code, Reply, ReplyDecoder};
use crate::tls::Protection;
use crate::wire::{Flushed, Wire};

/// A remote to which mail may be sent.
#[derive(Debug)]
pub struct Ready {
    wire: Wire<Stream>,
    peer: Peer,
    terms: Terms,
    timeouts: Timeouts,
}

/// What was asked of the session, what it proved, and what the remote can do.
#[derive(Debug)]
pub struct Terms {
    /// What was asked.
    pub policy: TlsPolicy,
    /// What came of it.
    pub channel: Channel,
    /// The extensions the remote offers under TLS.
    pub extensions: Extensions,
}

/// How the mail travels.
#[derive(Debug, Clone)]
pub enum Channel {
    /// Under TLS that has met the policy.
    Secured(Protection),
    /// In the open, on the word of a rule.
    Cleartext(Permit),
}

/// A connection to a remote, under TLS or not.
pub(super) type Stream = Either<TlsStream<TcpStream>, TcpStream>;

/// The answer to DATA.
#[derive(Debug)]
pub enum Started {
    /// 354: send the message.
    Body(Box<Body>),
    /// No, and the session can go on.
    Refused(Box<Ready>, Reply),
}

/// A message on its way.
#[derive(Debug)]
pub struct Body {
    ready: Ready,
}

/// Why a message cannot be sent to its end.
#[derive(Debug)]
pub enum Stop {
    /// The remote has refused it in the middle.
    Answered(Reply),
    /// The session broke.
    Failed(Reason),
}

/// For people: what the session proved.
impl fmt::Display for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.terms.channel {
            Channel::Secured(protection) => protection.fmt(f),
            Channel::Cleartext(_) => f.write_str("cleartext"),
        }
    }
}

impl Ready {
    pub(super) fn new(wire: Wire<Stream>, peer: Peer, terms: Terms, dial: &Dial<'_>) -> Self {
        Self { wire, peer, terms, timeouts: dial.timeouts.clone() }
    }

    /// Who this is.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// On which terms the session stands.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Starts a transaction.
    ///
    /// # Errors
    /// If the session is lost; the answer itself may be a refusal.
    pub async fn mail(&mut self, mail: Mail, limit: Duration) -> Result<Reply, Reason> {
        self.command(Stage::Mail, Command::Mail(mail), limit).await
    }

    /// Names a recipient.
    ///
    /// # Errors
    /// As [`Ready::mail`].
    pub async fn rcpt(&mut self, mailbox: Mailbox, limit: Duration) -> Result<Reply, Reason> {
        self.command(Stage::Rcpt, Command::Rcpt(ForwardPath::Mailbox(mailbox)), limit).await
    }

    /// Asks to send the message.
    ///
    /// # Errors
    /// As [`Ready::mail`]; a 2xx is an error too (RFC 5321 §4.1.1.4 knows 354 and refusals only).
    pub async fn data(mut self) -> Result<Started, Reason> {
        let limit = self.timeouts.data;
        let reply = self.command(Stage::Data, Command::Data, limit).await?;
        if reply.code() == Code::START_MAIL_INPUT {
            return Ok(Started::Body(Box::new(Body::new(self)?)));
        }
        if reply.code().is_refusal() {
            return Ok(Started::Refused(Box::new(self), reply));
        }
        Err(Reason::WrongAnswer { stage: Stage::Data, reply })
    }

    /// Ends the session politely, without anybody having to wait for it.
    pub fn quit(self) -> JoinHandle<()> {
        farewell(self.wire, self.timeouts.command)
    }

    async fn command(&mut self, stage: Stage, command: Command, limit: Duration) -> Result<Reply, Reason> {
        let reply = exchange(&mut self.wire, stage, &command.to_string(), limit).await?;
        if reply.code() == Code::SERVICE_NOT_AVAILABLE {
            return Err(Reason::Closing(reply));
        }
        Ok(reply)
    }
}

impl Body {
    fn new(ready: Ready) -> Result<Self, Reason> {
        let body = Self { ready };
        body.on_drop(OnDrop::Reset)?;
        Ok(body)
    }

    /// On which terms the session stands.
    pub fn terms(&self) -> &Terms {
        &self.ready.terms
    }

    /// Where to put the next bytes of the message: dot-stuffed, whole or not.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.ready.wire.output
    }

    /// Sends what is in the buffer.
    ///
    /// # Errors
    /// [`Stop`]: the message cannot be sent to its end.
    pub async fn send(&mut self) -> Result<(), Stop> {
        let limit = self.ready.timeouts.block;
        match self.ready.wire.flush_watching(limit).await {
            Ok(Flushed::Sent) => Ok(()),
            Ok(Flushed::Interrupted) => Err(self.early().await),
            Err(error) => {
                // RFC 5321 §3.8: a remote that closes in mid-message may have said why.
                let _ = self.ready.wire.fill_ready().await;
                if self.ready.wire.input.is_empty() {
                    return Err(Stop::Failed(lost(Stage::Message, error)));
                }
                Err(self.early().await)
            }
        }
    }

    /// Sends the end of data and waits for the remote's answer, the one that decides who has the message.
    ///
    /// # Errors
    /// [`Stop`]: nobody knows whether the remote has the message, unless it answered before the end.
    pub async fn finish(mut self) -> Result<(Reply, Ready), Stop> {
        self.send().await?;
        let spoke = self.ready.wire.fill_ready().await;
        if !self.ready.wire.input.is_empty() {
            // an answer that is there before the end of data is no answer to the message.
            return Err(self.early().await);
        }
        spoke.map_err(|error| Stop::Failed(Reason::Lost { stage: Stage::Message, error }))?;
        let failed = |error| Stop::Failed(lost(Stage::EndOfMessage, error));
        self.buffer().extend_from_slice(b".\r\n");
        self.ready.wire.flush(self.ready.timeouts.block).await.map_err(failed)?;
        let reply = self.ready.wire.reply(self.ready.timeouts.r#final).await.map_err(failed)?;
        // The answer stands, whatever becomes of the connection: a yes that is not passed on is a mail that comes twice.
        let _ = self.on_drop(OnDrop::Close);
        if reply.code().is_success() || reply.code().is_refusal() {
            return Ok((reply, self.ready));
        }
        Err(Stop::Failed(Reason::WrongAnswer { stage: Stage::EndOfMessage, reply }))
    }

    /// What the remote said before the end of data.
    async fn early(&mut self) -> Stop {
        let limit = self.ready.timeouts.greeting;
        let mut decoder = ReplyDecoder::new();
        let reply = match decoder.decode(&mut self.ready.wire.input) {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => self.ready.wire.reply(limit).await.map_err(|error| lost(Stage::Message, error)),
            Err(error) => Err(Reason::Protocol { stage: Stage::Message, error }),
        };
        match reply {
            Ok(reply) if reply.code().is_refusal() => Stop::Answered(reply),
            Ok(_) => Stop::Failed(Reason::Unsolicited(Stage::EndOfMessage)),
            Err(reason) => Stop::Failed(reason),
        }
    }

    /// What the kernel does with the connection when it is dropped.
    fn on_drop(&self, on_drop: OnDrop) -> Result<(), Reason> {
        let linger = match on_drop {
            OnDrop::Reset => Some(Duration::ZERO),
            OnDrop::Close => None,
        };
        let tcp = match self.ready.wire.stream() {
            Either::Left(tls) => tls.get_ref().0,
            Either::Right(tcp) => tcp,
        };
        socket2::SockRef::from(tcp).set_linger(linger).map_err(|error| Reason::Lost { stage: Stage::Data, error })
    }
}

#[derive(Debug, Clone, Copy)]
enum OnDrop {
    /// RST, and what was not sent yet is never sent.
    Reset,
    /// FIN behind all that was written.
    Close,
}
