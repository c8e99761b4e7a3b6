//! The verified session: a remote that has met its policy, and the mail commands that may be sent on it.
//!
//! Commands go in groups ([`Ready::group`]): to a remote that offers PIPELINING all at once, so that a whole transaction
//! costs one round trip up to the message and one for it, to others one by one. Replies belong to commands by their order
//! alone, and never by their text (RFC 2920 §3.1).
//!
//! The message has a type of its own: a [`Body`] that is dropped, because the client went away, a task was cancelled or
//! panicked, resets the connection. Only [`Body::finish`] sends the end of the message, so that a remote never takes half a
//! message for a whole one (RFC 5321 §4.1.1.4).
//!
//! A session that has no transaction goes back to its owner, if it has one. It does not know the owner's use for it.

mod body;
mod chunks;
mod terms;

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::bounded_memory::WithoutBdat;
use super::command::{broken, exchange, quit, unsolicited};
use super::failover::may_be_of_the_session;
use super::starttls::SessionOptions;
use super::tcp::Tcp;
use super::timeouts::Timeouts;
use crate::refusal::{Peer, Reason, Stage};
use crate::smtp::address::{ForwardPath, Mailbox};
use crate::smtp::command::{Command, Mail};
use crate::smtp::reply::{Code, Reply, ReplyDecoder, is_blank};
use crate::smtp::stuffing::DotStuffer;
use crate::wire::Wire;
use body::Form;

pub use body::{Body, TransferError};
pub use terms::{Channel, Terms};

/// The time for each answer of a remote at the end of its use.
const PARTING: Duration = Duration::from_secs(5);

/// The owner of sessions: it takes back a session that is in step with the remote and has no transaction.
pub(super) trait SessionOwner: fmt::Debug + Send + Sync {
    fn take_back(self: Box<Self>, session: Ready);
}

/// A session with a remote to which mail may be sent. It is moved often, so its large parts are on the heap.
#[derive(Debug)]
pub struct Ready {
    wire: Box<Wire<Stream>>,
    peer: Peer,
    terms: Box<Terms>,
    /// The protection as it was proven, for people: the trace of each mail has it.
    proven: Box<str>,
    timeouts: Arc<Timeouts>,
    /// The commands without an answer yet, in order.
    awaited: VecDeque<Stage>,
    /// Recipients that the remote did not refuse.
    accepted: usize,
    /// The answer to DATA, until the message starts.
    answer_to_data: Option<Reply>,
    /// The number of MAIL commands so far.
    mails: u64,
    limit: MailLimit,
    /// Whether a transaction may be open.
    transaction: OpenTransaction,
    /// The owner that takes it back after the transaction.
    owner: Option<Box<dyn SessionOwner>>,
    /// The memory of remotes that offer CHUNKING and do not get messages in chunks.
    without_bdat: Option<Arc<WithoutBdat>>,
    /// The last setting of the socket.
    on_drop: OnDrop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OpenTransaction {
    /// RSET is needed before the next one.
    Maybe,
    /// The remote has taken the message. After a refusal, Postfix still has the transaction
    /// (`smtpd_end_of_data_restrictions`), and would answer the next MAIL with 503.
    No,
}

/// The remote's own limit of mails over one session, which it need not announce (RFC 9422).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MailLimit {
    NotSeen,
    /// It has taken mails, and now refuses as if there were too many. Further mail would be refused too.
    MaybeReached,
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
    /// A refusal, after which the session can go on.
    Refused(Box<Ready>, Reply),
}

impl Ready {
    pub(super) fn new(wire: Box<Wire<Stream>>, peer: Peer, terms: Terms, options: &SessionOptions<'_>) -> Self {
        Self {
            wire,
            peer,
            proven: terms.channel.to_string().into(),
            terms: Box::new(terms),
            timeouts: Arc::clone(options.timeouts),
            awaited: VecDeque::new(),
            accepted: 0,
            answer_to_data: None,
            mails: 0,
            limit: MailLimit::NotSeen,
            transaction: OpenTransaction::Maybe,
            owner: None,
            without_bdat: None,
            on_drop: OnDrop::Close,
        }
    }

    /// The same session, which goes back to this owner after its transaction.
    pub(super) fn owned_by(self, owner: Option<Box<dyn SessionOwner>>) -> Self {
        Self { owner, ..self }
    }

    /// The same session, which sends no chunks if a message in chunks has failed at its host, and notes such a failure.
    pub(super) fn heeding(mut self, without_bdat: &Arc<WithoutBdat>) -> Self {
        if without_bdat.knows(&self.peer.endpoint()) {
            self.terms.extensions.chunking = false;
        }
        self.without_bdat = Some(Arc::clone(without_bdat));
        self
    }

    /// A message in chunks did not get through to the remote, or cannot be known to.
    fn note_without_bdat(&self) {
        self.without_bdat.iter().for_each(|without_bdat| without_bdat.note(&self.peer.endpoint()));
    }

    /// Whether it may have one more transaction: `most` in all, or as many as the remote allows (RFC 9422 §4.1).
    pub(super) fn has_more(&self, most: u64) -> bool {
        self.mails < self.terms.extensions.most_mails.unwrap_or(most).min(most)
    }

    /// The number of MAIL commands so far.
    pub(crate) fn mails(&self) -> u64 {
        self.mails
    }

    /// Whether the remote has sent no octet and has not closed the connection since its last answer.
    pub(super) fn is_quiet(&mut self) -> bool {
        let heard = self.wire.fill_ready().now_or_never();
        heard.is_some_and(|heard| heard.is_ok()) && self.wire.input.is_empty() && self.tcp().is_quiet()
    }

    /// The connection below.
    pub(super) fn tcp_mut(&mut self) -> &mut Tcp {
        match self.wire.stream_mut() {
            Either::Left(tls) => tls.get_mut().0,
            Either::Right(tcp) => tcp,
        }
    }

    /// The remote.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The protection as it was proven when the session was opened, for people.
    pub(super) fn proven(&self) -> &str {
        &self.proven
    }

    /// The terms of the session.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Commands of one transaction; DATA can only be the last of them (RFC 2920 §3.1).
    pub fn group(&mut self, commands: impl IntoIterator<Item = MailCommand>) -> Group<'_> {
        Group { unsent: commands.into_iter().collect(), ready: self }
    }

    /// Sends DATA, unless it went with the last group: then its answer is there already.
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
            return Ok(Started::Body(Box::new(Body::new(self, Form::Lines(DotStuffer::default()))?)));
        }
        if reply.code().is_refusal() {
            return Ok(Started::Refused(Box::new(self), reply));
        }
        Err(Reason::WrongAnswer { stage: Stage::Data, reply })
    }

    /// Ends the use by this transaction, without a wait. The session goes back to its owner if both ends are in step and the
    /// remote is not seen to refuse further mail over it, and ends if not.
    pub fn release(mut self) {
        if self.limit == MailLimit::MaybeReached {
            drop(self.quit());
            return;
        }
        if self.transaction == OpenTransaction::No {
            self.go_back();
            return;
        }
        let limit = self.timeouts.command.min(PARTING);
        tokio::spawn(async move {
            if !self.read_awaited(limit).await {
                return;
            }
            if self.owner.is_some() && self.reset(limit).await {
                self.go_back();
            } else {
                self.leave(limit).await;
            }
        });
    }

    /// Goes back to the owner, without the memory that this transaction needed; ends, if there is none.
    fn go_back(mut self) {
        if !self.wire.input.is_empty() {
            // RFC 5321 §3.8: a 421 mostly. A reply without a command must not come before the next mail.
            return;
        }
        self.tcp_mut().serve(None);
        self.wire.input = BytesMut::new();
        self.wire.output = BytesMut::new();
        match self.owner.take() {
            Some(owner) => owner.take_back(self),
            None => drop(self.quit()),
        }
    }

    /// Ends the session with QUIT, in a task of its own. It first waits a moment for each answer that is outstanding.
    pub fn quit(mut self) -> JoinHandle<()> {
        let limit = self.timeouts.command.min(PARTING);
        tokio::spawn(async move {
            if self.read_awaited(limit).await {
                self.leave(limit).await;
            }
        })
    }

    /// Sends QUIT. No answer may be outstanding.
    async fn leave(mut self, limit: Duration) {
        // QUIT has to arrive.
        let _ = self.on_drop(OnDrop::Close);
        let _ = quit(*self.wire, limit).await;
    }

    /// Reads the outstanding answers, and ends a message without a recipient; whether both ends are in step then.
    async fn read_awaited(&mut self, limit: Duration) -> bool {
        // Each answer has its limit, and all of them together have twice that: a thousand may be outstanding.
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
            // RFC 2920 §3.1: a message without a recipient ends at once. With any answer, it went to no recipient.
            self.wire.output.extend_from_slice(b".\r\n");
            return self.wire.flush(limit).await.is_ok() && self.wire.reply(limit).await.is_ok();
        }
        true
    }

    /// Sends RSET, which ends any transaction (RFC 5321 §4.1.1.5).
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

    /// Reads the answer to the oldest command without one.
    async fn next_answer(&mut self, limit: Duration) -> Result<Reply, Reason> {
        // Without an outstanding command the answer belongs to none.
        let stage = self.awaited.front().copied().unwrap_or(Stage::Data);
        let is_first_mail = stage == Stage::Mail && self.mails == 1;
        let decoder = if is_first_mail { ReplyDecoder::to_first_mail() } else { ReplyDecoder::new() };
        let reply = self.wire.reply_by(decoder, limit).await.map_err(|error| broken(stage, error))?;
        self.awaited.pop_front();
        self.note_limit(stage, &reply);
        if reply.code() == Code::SERVICE_NOT_AVAILABLE {
            return Err(Reason::Closing(reply));
        }
        if matches!(stage, Stage::Mail | Stage::Rcpt) && !reply.code().answers_an_envelope() {
            return Err(Reason::WrongAnswer { stage, reply });
        }
        if stage == Stage::Rcpt && !reply.code().is_refusal() {
            self.accepted += 1;
        }
        if stage == Stage::Data {
            self.answer_to_data = Some(reply.clone());
        }
        Ok(reply)
    }

    /// Notes a refusal that may be for the number of mails; mail that is taken disproves it.
    fn note_limit(&mut self, stage: Stage, reply: &Reply) {
        if self.mails > 1 && may_be_of_the_session(stage, reply) {
            self.limit = MailLimit::MaybeReached;
        } else if stage == Stage::EndOfMessage && reply.code().is_success() {
            self.limit = MailLimit::NotSeen;
        }
    }

    /// Sets what the kernel does with the connection when it is dropped.
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
    /// The answer to the first command without one; the command is sent now if it was not sent before. There is one call
    /// for each command.
    ///
    /// # Errors
    /// If the session is lost, by the remote's 421 too; the answer itself may be a refusal.
    pub async fn answer(&mut self, limit: Duration) -> Result<Reply, Reason> {
        if self.ready.awaited.is_empty() {
            self.send().await?;
        }
        self.ready.next_answer(limit).await
    }

    /// Sends all commands that are left; to a remote that does not pipeline, only the next one.
    async fn send(&mut self) -> Result<(), Reason> {
        let Ready { wire, terms, awaited, mails, transaction, .. } = &mut *self.ready;
        let stage = self.unsent.front().map_or(Stage::Data, MailCommand::stage);
        // RFC 2920 §3.1 in reverse: a reply that is there before its command would shift all that follow.
        wire.fill_ready().await.map_err(|error| Reason::Lost { stage, error })?;
        // An empty line behind the answer to EHLO answers no command, and is skipped in front of the answer to MAIL.
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
            // A buffer of this kind has room for any command.
            let _ = write!(wire.output, "{}\r\n", Command::from(command));
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

/// What the kernel sends when the connection is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnDrop {
    /// RST. Octets that were not sent yet are never sent.
    Reset,
    /// FIN, behind all octets that were written.
    Close,
}
