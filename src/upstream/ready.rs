//! A remote that has met its policy, and the mail commands that may be sent on it.
//!
//! Commands go in groups ([`Ready::group`]): to a remote that offers PIPELINING all at once, so that a whole transaction
//! costs one round trip up to the message and one for it, to others one by one. Replies are counted and never matched by
//! what they say (RFC 2920 §3.1).
//!
//! The message itself is a type of its own: a [`Body`] that is dropped, because the client went away, a task was
//! cancelled or something panicked, resets the connection. Only [`Body::finish`] sends the end of data, so that a
//! remote never takes half a message for a whole one (RFC 5321 §4.1.1.4).

mod body;
mod chunks;
mod terms;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::caps::DomainPermit;
use super::open::{Dial, exchange, farewell, lost, unsolicited};
use super::pool::Lease;
use super::tcp::Tcp;
use super::without_bdat::WithoutBdat;
use crate::config::Timeouts;
use crate::refusal::{Peer, Reason, Stage};
use crate::smtp::address::{ForwardPath, Mailbox};
use crate::smtp::command::{Command, Mail};
use crate::smtp::reply::{Code, Reply, is_blank};
use crate::wire::Wire;
use body::Form;

pub use body::{Body, Stop};
pub use terms::{Channel, Terms};

/// How long a remote that is being left has for each answer.
const PARTING: Duration = Duration::from_secs(5);

/// A remote to which mail may be sent. It goes from hand to hand, so that what is large is on the heap.
#[derive(Debug)]
pub struct Ready {
    wire: Box<Wire<Stream>>,
    peer: Peer,
    terms: Box<Terms>,
    timeouts: Box<Timeouts>,
    /// What was sent and not answered yet, in order.
    awaited: VecDeque<Stage>,
    /// Recipients that the remote did not refuse.
    accepted: usize,
    /// The answer to DATA, from when it was read to when the message starts.
    answer_to_data: Option<Reply>,
    /// How often MAIL was said.
    mails: u64,
    /// Whether a transaction may be open.
    transaction: OpenTransaction,
    /// Where to wait for the next mail.
    lease: Option<Box<Lease>>,
    /// Where to note that it offers CHUNKING and does not take BDAT.
    without_bdat: Option<WithoutBdat>,
    /// As the kernel was told last.
    on_drop: OnDrop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenTransaction {
    /// RSET is needed before the next one.
    Maybe,
    /// The remote has taken the message. After a no, Postfix still has the transaction (`smtpd_end_of_data_restrictions`),
    /// and would answer the next MAIL with 503.
    No,
}

/// Commands that go together, as far as the remote allows.
#[derive(Debug)]
pub struct Group<'a> {
    ready: &'a mut Ready,
    unsent: VecDeque<MailCommand>,
}

/// The commands of a transaction.
#[derive(Debug, Clone)]
pub enum MailCommand {
    /// Starts it.
    Mail(Mail),
    /// Names a recipient.
    Rcpt(Mailbox),
    /// Asks to send the message.
    Data,
}

/// A connection to a remote, under TLS or not.
pub(super) type Stream = Either<TlsStream<Tcp>, Tcp>;

/// The answer to DATA.
#[derive(Debug)]
pub enum Started {
    /// 354: send the message.
    Body(Box<Body>),
    /// No, and the session can go on.
    Refused(Box<Ready>, Reply),
}

impl Ready {
    pub(super) fn new(wire: Wire<Stream>, peer: Peer, terms: Terms, dial: &Dial<'_>) -> Self {
        Self {
            wire: Box::new(wire),
            peer,
            terms: Box::new(terms),
            timeouts: Box::new(dial.timeouts.clone()),
            awaited: VecDeque::new(),
            accepted: 0,
            answer_to_data: None,
            mails: 0,
            transaction: OpenTransaction::Maybe,
            lease: None,
            without_bdat: None,
            on_drop: OnDrop::Close,
        }
    }

    /// The same session, which may serve again under this.
    pub(super) fn leased(self, lease: Option<Lease>) -> Self {
        Self { lease: lease.map(Box::new), ..self }
    }

    /// The same session, which sends no chunks where its host has refused BDAT before, and notes it where it does so now.
    pub(super) fn heeding(mut self, without_bdat: &WithoutBdat) -> Self {
        if without_bdat.knows(self.peer.address) {
            self.terms.extensions.chunking = false;
        }
        self.without_bdat = Some(without_bdat.clone());
        self
    }

    /// The remote offers CHUNKING and has refused BDAT.
    fn note_without_bdat(&self) {
        self.without_bdat.iter().for_each(|without_bdat| without_bdat.note(self.peer.address));
    }

    /// Under what it may serve again.
    pub(super) fn lease(&self) -> Option<&Lease> {
        self.lease.as_deref()
    }

    /// Whether it may have one more transaction, of so many or of as many as the remote takes (RFC 9422 §4.1).
    pub(super) fn has_more(&self, most: u64) -> bool {
        self.mails < self.terms.extensions.most_mails.unwrap_or(most).min(most)
    }

    /// How often MAIL was said.
    pub(crate) fn mails(&self) -> u64 {
        self.mails
    }

    /// Whether the remote has neither said anything nor hung up since its last answer.
    pub(super) fn is_quiet(&mut self) -> bool {
        let heard = self.wire.fill_ready().now_or_never();
        heard.is_some_and(|heard| heard.is_ok()) && self.wire.input.is_empty() && self.tcp().is_quiet()
    }

    /// Itself, if it is quiet. If not, it has said 421, or hung up: there is nobody to say goodbye to.
    pub(super) fn if_quiet(mut self) -> Option<Self> {
        self.is_quiet().then_some(self)
    }

    /// It serves this transaction, or none.
    pub(super) fn serve(&mut self, domain: Option<DomainPermit>) {
        match self.wire.stream_mut() {
            Either::Left(tls) => tls.get_mut().0.serve(domain),
            Either::Right(tcp) => tcp.serve(domain),
        }
    }

    /// Who this is.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// On which terms the session stands.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Sends commands of one transaction, with DATA the last of them if at all (RFC 2920 §3.1).
    pub fn group(&mut self, commands: impl IntoIterator<Item = MailCommand>) -> Group<'_> {
        Group { unsent: commands.into_iter().collect(), ready: self }
    }

    /// Asks to send the message, unless DATA went with the last group: then its answer is there already.
    ///
    /// # Errors
    /// If the session is lost; a 2xx is an error too (RFC 5321 §4.1.1.4 knows 354 and refusals only).
    pub async fn data(mut self) -> Result<Started, Reason> {
        if self.answer_to_data.is_none() {
            let limit = self.timeouts.data;
            self.group([MailCommand::Data]).answer(limit).await?;
        }
        let Some(reply) = self.answer_to_data.take() else { return Err(Reason::Unsolicited(Stage::Data)) };
        if reply.code() == Code::START_MAIL_INPUT {
            return Ok(Started::Body(Box::new(Body::new(self, Form::Lines)?)));
        }
        if reply.code().is_refusal() {
            return Ok(Started::Refused(Box::new(self), reply));
        }
        Err(Reason::WrongAnswer { stage: Stage::Data, reply })
    }

    /// Done with it for this transaction: it waits for the next one, if both ends are in step and there is room, and else
    /// it ends. Nobody has to wait for that.
    pub fn release(mut self) {
        if self.transaction == OpenTransaction::No {
            self.wait();
            return;
        }
        let limit = self.timeouts.command.min(PARTING);
        tokio::spawn(async move {
            if !self.settle(limit).await {
                return;
            }
            if self.lease.is_some() && self.reset(limit).await {
                self.wait();
            } else {
                self.leave(limit).await;
            }
        });
    }

    /// Waits for the next transaction, without any memory that this one needed.
    pub(super) fn wait(mut self) {
        if !self.wire.input.is_empty() {
            // RFC 5321 §3.8: 421, mostly. What was not asked for is no beginning for the next mail.
            return;
        }
        self.serve(None);
        self.wire.input = BytesMut::new();
        self.wire.output = BytesMut::new();
        let refused = match self.lease().and_then(Lease::pool) {
            Some(pool) => pool.put(self),
            None => Some(self),
        };
        refused.into_iter().for_each(|ready| drop(ready.quit()));
    }

    /// Ends the session politely, without anybody having to wait for it. Answers that are outstanding are waited for
    /// first, a moment each.
    pub fn quit(mut self) -> JoinHandle<()> {
        let limit = self.timeouts.command.min(PARTING);
        tokio::spawn(async move {
            if self.settle(limit).await {
                self.leave(limit).await;
            }
        })
    }

    /// QUIT, with nothing outstanding.
    async fn leave(mut self, limit: Duration) {
        // What is said now is to arrive.
        let _ = self.on_drop(OnDrop::Close);
        let _ = farewell(*self.wire, limit).await;
    }

    /// Reads the answers that are outstanding, and ends a message that is for nobody; whether both ends are in step then.
    async fn settle(&mut self, limit: Duration) -> bool {
        // Each has its time, and all of them together have no more than a few: a thousand may be owed.
        let until = Instant::now() + 2 * limit;
        while !self.awaited.is_empty() {
            if Instant::now() >= until || self.next_answer(limit).await.is_err() {
                return false;
            }
        }
        if self.answer_to_data.take().is_some_and(|reply| reply.code() == Code::START_MAIL_INPUT) {
            if self.accepted > 0 {
                // An end of data would deliver an empty message.
                let _ = self.on_drop(OnDrop::Reset);
                return false;
            }
            // RFC 2920 §3.1: a message for nobody ends at once. Whatever is said to it, nobody has got anything.
            self.wire.output.extend_from_slice(b".\r\n");
            return self.wire.flush(limit).await.is_ok() && self.wire.reply(limit).await.is_ok();
        }
        true
    }

    /// RFC 5321 §4.1.1.5: whatever transaction there was, there is none.
    async fn reset(&mut self, limit: Duration) -> bool {
        let reply = exchange(&mut self.wire, Stage::Mail, "RSET", limit).await;
        self.accepted = 0;
        reply.is_ok_and(|reply| reply.code() == Code::OK)
    }

    fn tcp(&self) -> &Tcp {
        match self.wire.stream() {
            Either::Left(tls) => tls.get_ref().0,
            Either::Right(tcp) => tcp,
        }
    }

    /// The answer to the oldest command that has none.
    async fn next_answer(&mut self, limit: Duration) -> Result<Reply, Reason> {
        // With nothing outstanding an answer is one to nothing.
        let stage = self.awaited.front().copied().unwrap_or(Stage::Data);
        let reply = match (stage, self.mails) {
            (Stage::Mail, 1) => self.wire.reply_to_first_mail(limit).await,
            _ => self.wire.reply(limit).await,
        };
        let reply = reply.map_err(|error| lost(stage, error))?;
        self.awaited.pop_front();
        if reply.code() == Code::SERVICE_NOT_AVAILABLE {
            return Err(Reason::Closing(reply));
        }
        if matches!(stage, Stage::Mail | Stage::Rcpt) && !reply.code().answers_an_envelope() {
            return Err(Reason::WrongAnswer { stage, reply });
        }
        match stage {
            Stage::Rcpt if !reply.code().is_refusal() => self.accepted += 1,
            Stage::Data => self.answer_to_data = Some(reply.clone()),
            _ => {}
        }
        Ok(reply)
    }

    /// What the kernel does with the connection when it is dropped.
    fn on_drop(&mut self, on_drop: OnDrop) -> Result<(), Reason> {
        if self.on_drop == on_drop {
            return Ok(());
        }
        let linger = match on_drop {
            OnDrop::Reset => Some(Duration::ZERO),
            OnDrop::Close => None,
        };
        socket2::SockRef::from(self.tcp())
            .set_linger(linger)
            .map_err(|error| Reason::Lost { stage: Stage::Data, error })?;
        self.on_drop = on_drop;
        Ok(())
    }
}

impl Group<'_> {
    /// The answer to the first command that has none yet, sent now if it was not sent before. After the last command
    /// there is nothing to ask for.
    ///
    /// # Errors
    /// If the session is lost, the remote's 421 among it; the answer itself may be a refusal.
    pub async fn answer(&mut self, limit: Duration) -> Result<Reply, Reason> {
        if self.ready.awaited.is_empty() {
            self.send().await?;
        }
        self.ready.next_answer(limit).await
    }

    /// All that is left, or to a remote that does not pipeline the next one.
    async fn send(&mut self) -> Result<(), Reason> {
        let Ready { wire, terms, awaited, mails, transaction, .. } = &mut *self.ready;
        let stage = self.unsent.front().map_or(Stage::Data, MailCommand::stage);
        // RFC 2920 §3.1 in reverse: a reply that is there before its command would shift all that follow.
        wire.fill_ready().await.map_err(|error| Reason::Lost { stage, error })?;
        // An empty line behind the answer to EHLO is no answer to anything, and is skipped in front of the one to MAIL.
        let tolerates = *mails == 0 && is_blank(&wire.input);
        if !wire.input.is_empty() && !tolerates {
            return Err(unsolicited(&mut wire.input, stage));
        }
        let together = if terms.extensions.pipelining { self.unsent.len() } else { 1 };
        for command in self.unsent.drain(..together.min(self.unsent.len())) {
            if let MailCommand::Mail(_) = command {
                *mails += 1;
                *transaction = OpenTransaction::Maybe;
            }
            awaited.push_back(command.stage());
            wire.output.extend_from_slice(format!("{}\r\n", Command::from(command)).as_bytes());
        }
        Ok(())
    }
}

impl MailCommand {
    fn stage(&self) -> Stage {
        match self {
            Self::Mail(_) => Stage::Mail,
            Self::Rcpt(_) => Stage::Rcpt,
            Self::Data => Stage::Data,
        }
    }
}

impl From<MailCommand> for Command {
    fn from(command: MailCommand) -> Self {
        match command {
            MailCommand::Mail(mail) => Self::Mail(mail),
            MailCommand::Rcpt(mailbox) => Self::Rcpt(ForwardPath::Mailbox(mailbox)),
            MailCommand::Data => Self::Data,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnDrop {
    /// RST, and what was not sent yet is never sent.
    Reset,
    /// FIN behind all that was written.
    Close,
}
